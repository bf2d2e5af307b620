"""The parts of an image as a CycloneDX document: the crates that the programs are made of, and every file that is put in.

The same parts give the same bytes: no time, no random number.
"""
import hashlib
import json
import pathlib
import subprocess
import tomllib
import uuid

# What is linked in of a package is what it needs to run, not to build or test.
LINKED = None


def crates(repository, packages):
    """The crates of the packages' programs: name, version, licence, checksum."""
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"],
        cwd=repository, check=True, capture_output=True, text=True).stdout)
    by_id = {package["id"]: package for package in metadata["packages"]}
    needs = {
        node["id"]: [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is LINKED for kind in dep["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    ours = {by_id[member]["name"]: member for member in metadata["workspace_members"]}
    found, left = set(), [ours[name] for name in packages]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += needs[one]
    lock = tomllib.loads((repository / "Cargo.lock").read_text())
    sums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    names = {one: f"{by_id[one]['name']}@{by_id[one]['version']}" for one in found}
    for one in sorted(found, key=names.get):
        package = by_id[one]
        component = {
            "type": "library",
            "bom-ref": names[one],
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{names[one]}",
        }
        if package["license"]:
            # Some still write a slash where SPDX has an OR.
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        yield component, {"ref": names[one], "dependsOn": sorted({names[need] for need in needs[one]})}


def document(repository, version, packages, files):
    """The document of an image with these files (path and bytes)."""
    parts = list(crates(pathlib.Path(repository), packages))
    contents = [
        {"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}]}
        for path, data in sorted(files)
    ]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "vr", "name": "vr", "version": version}},
        "components": [component for component, _ in parts] + contents,
        "dependencies": [edges for _, edges in parts],
    }
    name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"
