"""Makes an image of programs that are built already, with the libraries that they load: no daemon, no registry, no root.

    image.py NAME:TAG OUT.tar FOLDER-OF-PROGRAMS

The archive is an OCI layout and at the same time what `docker load` and `ctr images import` take. The same programs and
libraries give the same bytes. Prints the digest of the image.
"""
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib

import sbom

PROGRAMS = ["kubectl-vr", "vr", "vr-operator", "vr-replica"]
PACKAGES = ["vr", "vr-operator", "vr-replica"]
# As the operator runs replicas, and the chart the operator.
USER = 65532
AUTHORITIES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def stripped(program):
    """A program without what only a debugger reads."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "program"
        subprocess.run(["strip", "--strip-debug", "-o", out, program], check=True)
        return out.read_bytes()


def libraries(program):
    """Every library that a program loads, the loader included."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    if "not found" in said:
        sys.exit(f"image.py: {program} wants a library that is not here:\n{said}")
    return set(re.findall(r"(/\S+) \(0x", said))


def authorities():
    """The bundle of authorities: an S3 client does not even start without one."""
    given = os.environ.get("VR_CA_BUNDLE")
    for path in [given] if given else AUTHORITIES:
        if pathlib.Path(path).is_file():
            return pathlib.Path(path).read_bytes()
    sys.exit("image.py: there is no bundle of certificate authorities: install ca-certificates or set VR_CA_BUNDLE")


def contents(repository, folder, version):
    """Path, mode and bytes of every file."""
    files, wanted = [], set()
    for name in PROGRAMS:
        program = folder / name
        if not program.is_file():
            sys.exit(f"image.py: {program} is not there: cargo build --release --bins")
        wanted |= libraries(program)
        files.append((f"usr/local/bin/{name}", 0o755, stripped(program)))
    files += [(library.lstrip("/"), 0o755, pathlib.Path(library).read_bytes()) for library in wanted]
    files += [
        ("etc/ssl/certs/ca-certificates.crt", 0o644, authorities()),
        ("etc/passwd", 0o644, f"vr:x:{USER}:{USER}:vr:/:/sbin/nologin\n".encode()),
        ("etc/group", 0o644, f"vr:x:{USER}:\n".encode()),
        ("etc/nsswitch.conf", 0o644, b"hosts: files dns\n"),
    ]
    parts = sbom.document(repository, version, PACKAGES, [(path, data) for path, _, data in files])
    return sorted(files + [("usr/share/sbom/vr.cdx.json", 0o644, parts)])


def archive(files, folders=()):
    """A tar with nothing in it of when and by whom it was made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode in folders:
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        for path, mode, data in files:
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def parents(files):
    """Every folder above the files, and one for what is written for a while."""
    found = {str(above) for path, _, _ in files for above in pathlib.PurePath(path).parents if str(above) != "."}
    return sorted([(path, 0o755) for path in found] + [("tmp", 0o1777)])


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def blob(data, media):
    """A descriptor of the data, and the file in which it is kept."""
    sum_ = hashlib.sha256(data).hexdigest()
    described = {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{sum_}", "size": len(data)}
    return described, (f"blobs/sha256/{sum_}", 0o644, data)


def main():
    name, out, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    repository = pathlib.Path(__file__).resolve().parent.parent.parent
    version = tomllib.loads((repository / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    files = contents(repository, folder, version)
    layer, layer_file = blob(archive(files, parents(files)), "layer.v1.tar")
    config, config_file = blob(encoded({
        "architecture": MACHINES[os.uname().machine],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "Cmd": ["vr", "--help"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "vr",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created_by": "image.py"}],
    }), "config.v1+json")
    manifest, manifest_file = blob(encoded({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    }), "manifest.v1+json")
    manifest["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    docker = [{"Config": config_file[0], "RepoTags": [name], "Layers": [layer_file[0]]}]
    whole = archive([
        ("oci-layout", 0o644, encoded({"imageLayoutVersion": "1.0.0"})),
        ("index.json", 0o644, encoded({"schemaVersion": 2, "manifests": [manifest]})),
        ("manifest.json", 0o644, encoded(docker)),
        config_file,
        manifest_file,
        layer_file,
    ], [("blobs", 0o755), ("blobs/sha256", 0o755)])
    out.write_bytes(whole)
    print(manifest["digest"])


main()
