#!/usr/bin/env bash
# Makes the image of the programs in a folder (target/release, else the one that is given) and tries it: twice the same,
# nothing of root's in it, every program starts with what is in the image and nothing else. `--out FILE` keeps it,
# `--name NAME:TAG` names it.
set -euo pipefail
cd "$(dirname "$0")/.."

name=vr:0.1.0 out='' folder=${CARGO_TARGET_DIR:-target}/release
while (($# > 0)); do
    case $1 in
    --name) name=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    *) folder=$1 && shift ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The image for everybody is built with the compiler that the workspace asks for.
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
grep -q "^FROM rust:$wanted-" Containerfile || {
    echo "Containerfile builds with another Rust than Cargo.toml's rust-version, $wanted"
    exit 1
}

first=$(python3 .ci/image/image.py "$name" "$work/first.tar" "$folder")
# Later, and under another umask: neither may be seen.
second=$(umask 077 && python3 .ci/image/image.py "$name" "$work/second.tar" "$folder")
cmp "$work/first.tar" "$work/second.tar" || {
    echo "two images of the same programs differ: $first $second"
    exit 1
}
mkdir "$work/layout" "$work/root"
tar -C "$work/layout" -xf "$work/first.tar"
python3 - "$work/layout" "$work/root" <<'EOF'
import hashlib, json, pathlib, sys, tarfile
layout, root = map(pathlib.Path, sys.argv[1:])
for file in (layout / "blobs/sha256").iterdir():
    assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name, f"{file} is not what its name says"
blob = lambda described: layout / "blobs/sha256" / described["digest"].removeprefix("sha256:")
index = json.loads((layout / "index.json").read_text())
manifest = json.loads(blob(index["manifests"][0]).read_text())
config = json.loads(blob(manifest["config"]).read_text())
assert config["config"]["User"] == "65532:65532", config
with tarfile.open(blob(manifest["layers"][0])) as layer:
    loose = [m.name for m in layer if m.mode & 0o022 and not m.mode & 0o1000 or m.mode & 0o6000]
    assert not loose, f"others may write, or run as somebody else: {loose}"
    layer.extractall(root, filter="data")
parts = json.loads((root / "usr/share/sbom/vr.cdx.json").read_text())
known = {part["bom-ref"] for part in parts["components"] if "bom-ref" in part}
assert {"vr-replica", "vr-operator", "rustls"} <= {name.split("@")[0] for name in known}
assert all(need in known for edge in parts["dependencies"] for need in edge["dependsOn"])
print(f"{len(known)} crates, {sum(file.stat().st_size for file in (layout / 'blobs/sha256').iterdir()) >> 20} MiB")
EOF
grep -q 'BEGIN CERTIFICATE' "$work/root/etc/ssl/certs/ca-certificates.crt"
if [[ $(id -u) == 0 ]]; then
    for program in vr vr-replica vr-operator kubectl-vr; do
        chroot --userspec=65532:65532 "$work/root" "/usr/local/bin/$program" --version
    done
fi
[[ -z $out ]] || cp "$work/first.tar" "$out"
echo "$name@$first"
