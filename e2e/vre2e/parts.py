"""What the box is made of: Debian's containerd, runc and network plugins, the program of `box/`, and images.

Each part is made once and found again: the program below the user's cache, by a hash of its sources. Images are archives
that `ctr images import` takes, written here without a daemon or a registry.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SOURCES = HERE / "box"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vr-e2e"
KUBERNETES = "v1.34.4"
NAMES = ("etcd coredns disks kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet").split()
PACKAGES = "containerd runc containernetworking-plugins iptables conntrack openssl iproute2 gcc libc6-dev".split()


class CannotBe(Exception):
    """The box cannot be made on this machine, and why."""


def packages():
    """Installs what Debian has and this machine lacks."""
    def lacks(name):
        return subprocess.run(["dpkg", "-s", name], capture_output=True).returncode != 0
    if not shutil.which("dpkg"):
        raise CannotBe("it needs Debian's packages " + " ".join(PACKAGES))
    lacking = [name for name in PACKAGES if lacks(name)]
    if lacking:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *lacking]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def built(name, sources, files, knows="", flags=(), told=""):
    """The path of a Go program, made from these files of a folder; `knows` is what else makes it another one."""
    if not shutil.which("go"):
        raise CannotBe("it needs Go")
    version = subprocess.run(["go", "version"], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256((knows + version).encode())
    for file in files:
        digest.update((sources / file).read_bytes())
    made = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if made.exists():
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"building {told}, once for this machine; it takes minutes", flush=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    unfinished = made.with_suffix(".unfinished")
    command = ["go", "build", "-trimpath", "-ldflags", " ".join(["-s", "-w", *flags]), "-o", str(unfinished), "."]
    subprocess.run(command, check=True, cwd=sources, env=environment)
    unfinished.rename(made)
    return made


def program():
    """The path of the one program that is every part of a Kubernetes."""
    minor = KUBERNETES.split(".")[1]
    told = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitCommit": "kbox", "gitTreeState": "clean",
            "buildDate": "2026-01-01T00:00:00Z"}
    flags = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in told.items()]
    return built("box", SOURCES, ("go.mod", "go.sum", "main.go", "disks.go"), KUBERNETES, flags, f"Kubernetes {KUBERNETES}")


def enforcer():
    """The path of the program that enforces NetworkPolicies on a node: of a module of its own, so that its versions are not
    those of the Kubernetes, and only who asks for it waits for it."""
    return built("policies", SOURCES / "policies", ("go.mod", "go.sum", "main.go"), told="what enforces NetworkPolicies")


def links(folder):
    """Every part's name in a folder, as a link to the program."""
    folder.mkdir(parents=True, exist_ok=True)
    made = program()
    for name in NAMES:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(made)


def libraries(binary):
    """What a program loads."""
    told = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+)", told))


def image(path, names, files, entrypoint=None):
    """Writes an image of one layer: `files` are pairs of a path inside and one here; libraries come along."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        def folder(name, mode=0o755):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        folder("tmp", 0o1777)
        inside = dict(files)
        for source in list(inside.values()):
            inside.update({library.lstrip("/"): library for library in libraries(source)})
        folders = {str(parent) for name in inside for parent in Path(name).parents if str(parent) != "."}
        for name in sorted(folders):
            folder(name)
        for name, source in sorted(inside.items()):
            data = Path(source).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    body = layer.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
              "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Entrypoint": entrypoint, "WorkingDir": "/"},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}, "history": [{"created_by": "e2e"}]}
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as archive:
        parts = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode(),
                 "layer.tar": body}
        for name, data in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))


def pause(folder):
    """The image of the container that holds a pod's namespaces."""
    made = folder / "pause.tar"
    if not made.exists():
        binary = folder.parent / "pause"
        subprocess.run(["gcc", "-Os", "-static", "-s", "-o", str(binary), str(SOURCES / "pause.c")], check=True)
        image(made, ["box.local/pause:1"], [("pause", binary)], ["/pause"])
    return made
