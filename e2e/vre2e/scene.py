"""What a scenario has: the box, an operator, an object store, a namespace and a cluster of its own, and writers."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from . import parts
from .box import GATE, until

TREE = Path(__file__).resolve().parents[2]
IMAGE = "vr.local/vr:e2e"
NEXT = "vr.local/vr:next"
BUCKET = "vr-e2e"
KEYS = {"AWS_ACCESS_KEY_ID": "vr", "AWS_SECRET_ACCESS_KEY": "only-on-this-machine"}


def programs(*more):
    """Builds what is tested, and gives back where it is; `more` are other programs of the same packages. Where
    VR_E2E_PROGRAMS names a folder they are there already."""
    if os.environ.get("VR_E2E_PROGRAMS"):
        return Path(os.environ["VR_E2E_PROGRAMS"]).resolve()
    named = [word for name in ("vr-replica", "vr", "vr-operator") for word in ("-p", name, "--bin", name)]
    named += [word for name in more for word in ("--bin", name)]
    release = ["--release"] if os.environ.get("VR_E2E_PROFILE") == "release" else []
    subprocess.run(["cargo", "build", "--quiet", "--locked", *release, *named], check=True, cwd=TREE)
    target = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target"))
    return target / ("release" if release else "debug")


def seconds(text):
    """A time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Ground:
    """What all scenarios share: the box with images, CRDs, an object store and an operator."""

    def __init__(self, box, built):
        self.box, self.built = box, built

    def images(self):
        """To be called before the nodes are there."""
        self.box.images.mkdir(parents=True, exist_ok=True)
        inside = []
        # A drill runs the tool in a pod.
        for name in ("vr-replica", "vr"):
            stripped = self.box.home / name
            subprocess.run(["strip", "-g", "-o", stripped, self.built / name], check=True)
            inside.append((f"usr/local/bin/{name}", stripped))
        # An S3 client wants authorities, even where it is not asked for any.
        authorities = Path("/etc/ssl/certs/ca-certificates.crt")
        if authorities.exists():
            inside.append(("etc/ssl/certs/ca-certificates.crt", authorities))
        if os.environ.get("VR_ETCDCTL"):
            inside.append(("usr/local/bin/etcdctl", os.environ["VR_ETCDCTL"]))
        parts.image(self.box.images / "vr.tar", [IMAGE, NEXT], inside)

    def furnish(self):
        self.box.kubectl("apply", "-f", TREE / "crds")
        for kind in ("vrclusters", "vrcheckpoints", "vrrestores", "vrdrills", "vrdrillschedules"):
            self.box.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{kind}.vr-operator.io")
        self.store()
        self.operator()

    def store(self):
        self.box.start("s3", self.built / "vr", "s3-server", "--dir", self.box.run / "s3", "--listen", f"{GATE}:9000",
                       "--bucket", BUCKET)

    def operator(self, name="operator", config=None, environment=None, port=8080):
        """Starts an operator, as a process inside the box's network."""
        self.box.start(name, self.built / "vr-operator", "run", "--lease-namespace", "default", "--listen",
                       f"127.0.0.1:{port}", environment={"KUBECONFIG": str(config or self.box.config),
                                                         "VR_LOG": "info", **(environment or {})})

    def page(self, path, port=8080):
        """What the operator serves to probes and to whoever scrapes it."""
        command = self.box.inside(sys.executable, "-c", "import sys, urllib.request as u; "
                                  "print(u.urlopen(sys.argv[1], timeout=5).read().decode())",
                                  f"http://127.0.0.1:{port}/{path}")
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Scene:
    """One cluster in a namespace of its own."""

    def __init__(self, ground, name):
        self.ground, self.box, self.space = ground, ground.box, name
        self.name = "shop"
        self.figures = {}
        self.folder = Path(tempfile.mkdtemp(prefix=f"vr-e2e-{name}-"))
        self.writers, self.runs = None, 0
        # The pod that clients are in; without one they are in the box's own network.
        self.clients_in = None
        self.box.kubectl("create", "namespace", name)
        self.secret("s3-keys", KEYS)

    # The resource

    def secret(self, name, data):
        self.box.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": self.space},
                        "stringData": data})

    def cluster(self, prefix=None, **spec):
        """A VRCluster: TLS everywhere, all three tiers, and checkpoints often enough to wait for."""
        whole = {
            "replicas": 3, "image": IMAGE, "memory": {"limit": "512Mi", "stateLimit": "256Mi"},
            "storage": {
                "nvme": {"type": "EmptyDir", "sizeLimit": "1Gi"}, "volume": {"size": "1Gi"},
                "objectStore": {"bucket": BUCKET, "prefix": prefix or self.space, "region": "us-east-1",
                                "endpoint": f"http://{GATE}:9000", "credentialsSecretRef": {"name": "s3-keys"}}},
            "checkpoint": {"nvmeIntervalSeconds": 5, "volumeIntervalSeconds": 5, "objectStoreIntervalSeconds": 10},
            "podTemplate": {"cpuRequest": "20m"}, "deletionProtection": False,
            "recovery": {"onTotalLoss": "Manual", "confirmationSeconds": 5},
        }
        whole.update(spec)
        return {"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster", "spec": whole,
                "metadata": {"name": self.name, "namespace": self.space}}

    def begin(self, **spec):
        """Applies it and waits until it is Ready and has answered a write; how long that took is a figure."""
        began = time.monotonic()
        self.box.apply(self.cluster(**spec))
        self.until_ready(120)
        self.figures["apply to Ready"] = time.monotonic() - began
        until(30, "a write is acknowledged", self.put_one)
        self.figures["apply to first acknowledged write"] = time.monotonic() - began

    def patch(self, change):
        self.kubectl("patch", "vrc", self.name, "--type=merge", "-p", json.dumps(change))

    def kubectl(self, *arguments, **how):
        return self.box.kubectl("-n", self.space, *arguments, **how)

    def seen(self):
        return json.loads(self.kubectl("get", "vrc", self.name, "-o", "json"))

    def status(self):
        return self.seen().get("status", {})

    def condition(self, kind):
        return next((c for c in self.status().get("conditions", []) if c["type"] == kind), {})

    def is_ready(self, replicas=3):
        found = self.seen()
        status = found.get("status", {})
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and ready.get("status") == "True" and status.get("readyReplicas") == replicas

    def until_ready(self, limit=90, replicas=3):
        until(limit, f"{self.space}: Ready with {replicas} replicas", lambda: self.is_ready(replicas), every=0.3)

    def until_reason(self, limit, kind, reason):
        until(limit, f"{self.space}: {kind} says {reason}", lambda: self.condition(kind).get("reason") == reason, 0.3)
        return self.condition(kind)

    def events(self):
        found = self.box.objects("events", "-n", self.space)
        return [(e.get("reason"), e.get("message")) for e in found if e["involvedObject"]["kind"] == "VRCluster"]

    # Pods

    def pods(self):
        found = self.box.objects("pods", "-n", self.space, "-l", f"vr-operator.io/cluster={self.name}")
        return {pod["metadata"]["name"]: pod for pod in found}

    def uids(self):
        return {name: pod["metadata"]["uid"] for name, pod in self.pods().items()}

    def primary(self):
        found = self.status().get("primary")
        if not found:
            raise LookupError("no primary is known")
        return found["podName"]

    def node_of(self, pod):
        return int(self.pods()[pod]["spec"]["nodeName"].removeprefix("n"))

    def process(self, pod, space=None):
        """The process of a pod, as its node numbers it."""
        pod = json.loads(self.box.kubectl("-n", space or self.space, "get", "pod", pod, "-o", "json"))
        node = int(pod["spec"]["nodeName"].removeprefix("n"))
        found = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        told = self.box.on(node, "ctr", "-n", "k8s.io", "task", "ls")
        running = [line.split()[1] for line in told.splitlines() if line.startswith(found)]
        if not running:
            raise LookupError(f"no process of {pod['metadata']['name']} runs")
        return node, running[0]

    def into(self, pod, *command, space=None):
        """A command in the network of a pod, with the programs and the files of this machine."""
        node, pid = self.process(pod, space)
        return ["nsenter", "-t", str(self.box.init(node)), "-m", "--", "nsenter", "-t", pid, "-n", "--",
                "env", "-C", TREE / "e2e", *command]

    def kill(self, pod):
        node, pid = self.process(pod)
        self.box.on(node, "kill", "-KILL", pid)

    def restarts(self, pod):
        return self.pods()[pod]["status"]["containerStatuses"][0]["restartCount"]

    # Clients

    def reach(self):
        """Address, name and authority of the Service."""
        address = self.kubectl("get", "service", self.name, "-o", "jsonpath={.spec.clusterIP}")
        authority = self.folder / "ca.crt"
        if not authority.exists():
            secret = json.loads(self.kubectl("get", "secret", f"{self.name}-ca", "-o", "json"))
            authority.write_bytes(base64.b64decode(secret["data"]["ca.crt"]))
        return address, f"{self.name}.{self.space}.svc", str(authority)

    def among_clients(self, *command):
        return self.into(self.clients_in, *command) if self.clients_in else self.box.inside(*command)

    def client(self, *arguments):
        return self.among_clients(sys.executable, "-m", "vre2e.load", *arguments)

    def put_one(self):
        """One write of its own; it is acknowledged or this raises."""
        script = "import sys; from vre2e.load import Client; print(Client(*sys.argv[1:4]).put('one', 'x'))"
        done = subprocess.run(self.among_clients(sys.executable, "-c", script, *self.reach()), cwd=TREE / "e2e",
                              capture_output=True, text=True, timeout=15)
        if done.returncode != 0:
            raise OSError((done.stderr.strip().splitlines() or ["it failed"])[-1])
        return int(done.stdout)

    def load(self):
        """Starts the writers."""
        self.runs += 1
        address, name, authority = self.reach()
        command = self.client("--address", address, "--name", name, "--authority", authority, "--run", str(self.runs),
                              "--journal", str(self.folder / "journal"))
        with open(self.folder / "load.log", "ab") as log:
            self.writers = subprocess.Popen(command, cwd=TREE / "e2e", stdout=log, stderr=log)
        began = len(self.journal())
        until(20, "the writers write", lambda: len(self.journal()) > began + 50)

    def rest(self):
        """Ends the writers."""
        if self.writers is not None:
            self.writers.send_signal(signal.SIGTERM)
            self.writers.wait(timeout=30)
            self.writers = None

    def journal(self):
        """Every acknowledgement so far."""
        return [line for line in self.lines() if "key" in line]

    def lines(self):
        path = self.folder / "journal"
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def goes_on(self, limit=30):
        """Waits for writes that were sent after now; how long that took."""
        began, now = time.monotonic(), time.time()
        until(limit, f"{self.space}: writes are acknowledged again",
              lambda: any(line["sent"] > now for line in self.journal()[-50:]))
        return time.monotonic() - began

    def gap(self):
        """The longest time in which nothing was acknowledged to anybody."""
        times = sorted(line["at"] for line in self.journal())
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def stored(self):
        done = subprocess.run(self.client("read", *self.reach()), cwd=TREE / "e2e", capture_output=True, text=True,
                              timeout=60)
        if done.returncode != 0:
            raise OSError(done.stderr.strip()[-300:])
        return json.loads(done.stdout)

    def lost(self):
        """Acknowledged writes that are not there, or there with another revision."""
        stored = until(30, "everything can be read", self.stored)
        return [line for line in self.journal() if stored.get(line["key"]) != line["revision"]]

    def nothing_lost(self):
        """Ends the writers and holds the cluster to everything it has acknowledged."""
        self.rest()
        lost, told = self.lost(), self.journal()
        assert told, "nothing was ever acknowledged: this proves nothing"
        assert not lost, f"{len(lost)} of {len(told)} acknowledged writes are lost, the first {lost[0]}"
        self.revisions_once()
        self.figures["acknowledged writes"] = len(told)
        self.figures["longest time without an acknowledgement"] = self.gap()

    def revisions_once(self):
        seen = {}
        for line in self.journal():
            other = seen.setdefault(line["revision"], line["key"])
            assert other == line["key"], f"revision {line['revision']} was given to {other} and to {line['key']}"

    # The end

    def bundle(self, folder):
        """Everything a person wants after a failure."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, command in {
            "objects.yaml": ("get", "vrc,vrr,vrcp,vrd,vrds,pods,pvc,svc,pdb", "-o", "yaml"),
            "objects.txt": ("get", "vrc,vrr,vrd,vrds,pods,pvc,svc,pdb", "-o", "wide"),
            "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
            "describe.txt": ("describe", "vrc"),
        }.items():
            (folder / name).write_text(self.kubectl(*command, check=False))
        (folder / "nodes.txt").write_text(self.box.kubectl("get", "nodes", "-o", "wide", check=False))
        for pod in (found["metadata"]["name"] for found in self.box.objects("pods", "-n", self.space)):
            for more in ((), ("--previous",)):
                log = self.kubectl("logs", pod, *more, check=False)
                if log:
                    (folder / f"{pod}{'.previous' if more else ''}.log").write_text(log)
        for log in self.box.logs.glob("operator*.log"):
            (folder / log.name).write_bytes(log.read_bytes())
        journal = self.folder / "journal"
        if journal.exists():
            (folder / "journal").write_bytes(journal.read_bytes())

    def end(self):
        """Deletes what it made; the namespace need not be gone for the next one."""
        self.rest()
        self.patch({"spec": {"deletionProtection": False, "paused": False}})
        self.kubectl("delete", "vrc", self.name, "--wait=false", "--ignore-not-found")
        self.box.kubectl("delete", "namespace", self.space, "--wait=false")


def now():
    return datetime.now(timezone.utc).timestamp()
