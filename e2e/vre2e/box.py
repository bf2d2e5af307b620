"""A Kubernetes of several nodes on this machine: a real control plane, and nodes that are namespaces of their own.

Everything is inside one network namespace without a way out; who wants to reach the cluster runs inside it (`inside`).
A node can be powered off and on, cut off, frozen, and lose its disks. Two boxes at a time need two names (VR_E2E_SPACE)
and two folders (VR_E2E_HOME).
Needs root. It leaves nothing: `wipe` takes processes, namespaces, control groups and state away.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import parts

SPACE = os.environ.get("VR_E2E_SPACE", "vrbox")
GATE = "10.89.0.1"
MOST = 6
ZONES = ["zone-a", "zone-b", "zone-c"]
GROUPS = "cpu cpuacct cpuset memory devices freezer blkio pids systemd unified".split()
# How soon a silent node counts as such; its lease is renewed every 2 s.
GRACE = os.environ.get("VR_E2E_GRACE", "8s")
# Every first packet of a connection from, to and between the pods of a node waits here for the word of its enforcer, and
# is dropped where nobody gives one. What the node itself sends to its pods (probes) is let through, as Kubernetes wants it.
QUEUE = "100"
HANDED = ["FORWARD", "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", QUEUE]


def until(seconds, what, look, every=0.2):
    """Waits for something to become true and gives it back; a failure names what was waited for."""
    began = time.monotonic()
    last = None
    while time.monotonic() - began < seconds:
        try:
            found = look()
            if found:
                return found
            last = found
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, LookupError, OSError, ValueError) as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"after {seconds} s still not: {what} (last: {last!r})")


def over(pid):
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] in "ZX"
    except (OSError, IndexError):
        return True


class Box:
    def __init__(self, home=None):
        self.home = Path(home or os.environ.get("VR_E2E_HOME", "/tmp/vr-e2e"))
        self.bin, self.images = self.home / "bin", self.home / "images"
        self.run, self.logs = self.home / "run", self.home / "log"
        self.keys = self.run / "keys"
        self.config = self.keys / "admin.kubeconfig"

    # Processes

    def inside(self, *command, space=SPACE):
        return ["nsenter", f"--net=/run/netns/{space}", *map(str, command)]

    def start(self, name, *command, space=SPACE, wrap=(), environment=None):
        """Starts something in the background; its id is on record, so that another process can end it."""
        (self.run / "pids").mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with open(self.logs / f"{name}.log", "ab") as log:
            started = subprocess.Popen(self.inside(*wrap, *command, space=space), stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL, start_new_session=True,
                                       env={**os.environ, **(environment or {})})
        (self.run / "pids" / name).write_text(str(started.pid))
        return started.pid

    def pid(self, name):
        try:
            return int((self.run / "pids" / name).read_text())
        except (OSError, ValueError):
            return None

    def alive(self, name):
        pid = self.pid(name)
        return pid is not None and not over(pid)

    def stop(self, name, by=signal.SIGKILL, patience=10):
        pid = self.pid(name)
        if pid is None:
            return
        try:
            os.kill(pid, by)
            began = time.monotonic()
            while not over(pid):
                if time.monotonic() - began > patience:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        (self.run / "pids" / name).unlink(missing_ok=True)

    def part(self, name, *arguments):
        return self.start(name, self.bin / name, *arguments)

    # The control plane

    def up(self, nodes=3):
        """From nothing to nodes that are Ready."""
        if os.geteuid() != 0:
            raise parts.CannotBe("it needs root")
        parts.packages()
        parts.links(self.bin)
        self.images.mkdir(parents=True, exist_ok=True)
        parts.pause(self.images)
        self.wipe()
        self.network()
        self.certificates()
        self.control_plane()
        for number in range(1, nodes + 1):
            self.node(number)
        until(60, f"{nodes} nodes are Ready", lambda: self.ready() == nodes)

    def network(self):
        ip = ["ip", "netns", "add", SPACE]
        added = subprocess.run(ip, capture_output=True, text=True)
        if added.returncode != 0:
            raise parts.CannotBe(f"network namespaces cannot be made here: {added.stderr.strip()}")
        for line in ("link set lo up", "link add br0 type bridge", f"addr add {GATE}/24 dev br0", "link set br0 up",
                     # Only so that there is a route: kube-proxy writes another destination.
                     "route add 10.96.0.0/16 dev br0"):
            subprocess.run(self.inside("ip", *line.split()), check=True)

    def certificates(self):
        self.keys.mkdir(parents=True)

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=self.keys, check=True, capture_output=True)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365",
                "-subj", "/CN=box", "-keyout", "ca.key", "-out", "ca.crt",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        names = [f"IP:{ip}" for ip in ("127.0.0.1", GATE, "10.96.0.1")]
        names += [f"DNS:{name}" for name in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")]
        wanted = {"apiserver": ("/CN=kube-apiserver", "serverAuth", "\nsubjectAltName=" + ",".join(names)),
                  "kubelet-client": ("/O=system:masters/CN=apiserver-to-kubelet", "clientAuth", "")}
        for name, (subject, usage, more) in wanted.items():
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                    "-keyout", f"{name}.key", "-out", f"{name}.csr")
            (self.keys / f"{name}.ext").write_text(f"keyUsage=digitalSignature\nextendedKeyUsage={usage}{more}\n")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                    "-days", "365", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        openssl("genrsa", "-out", "sa.key", "2048")
        openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
        who = {"admin": ("admin", "system:masters"), "controllers": ("system:kube-controller-manager", ""),
               "scheduler": ("system:kube-scheduler", ""), "proxy": ("system:kube-proxy", "")}
        who |= {f"n{i}": (f"system:node:n{i}", "system:nodes") for i in range(1, MOST + 1)}
        lines = [f'{key}-token,{user},{key},"{groups}"' for key, (user, groups) in who.items()]
        (self.keys / "tokens.csv").write_text("\n".join(lines) + "\n")
        for key in who:
            self.kubeconfig(self.keys / f"{key}.kubeconfig", f"https://{GATE}:6443", f"{key}-token")

    def kubeconfig(self, path, server, token):
        authority = base64.b64encode((self.keys / "ca.crt").read_bytes()).decode()
        cluster = {"server": server}
        if server.startswith("https"):
            cluster["certificate-authority-data"] = authority
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "box",
            "clusters": [{"name": "box", "cluster": cluster}], "users": [{"name": "box", "user": {"token": token}}],
            "contexts": [{"name": "box", "context": {"cluster": "box", "user": "box"}}]}))

    def api(self):
        k = self.keys
        return self.part(
            "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={GATE}",
            "--bind-address=0.0.0.0", "--secure-port=6443", f"--tls-cert-file={k}/apiserver.crt",
            f"--tls-private-key-file={k}/apiserver.key", f"--client-ca-file={k}/ca.crt",
            f"--token-auth-file={k}/tokens.csv", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={k}/sa.pub",
            f"--service-account-signing-key-file={k}/sa.key", "--service-cluster-ip-range=10.96.0.0/16",
            f"--kubelet-client-certificate={k}/kubelet-client.crt", f"--kubelet-client-key={k}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
            "--default-not-ready-toleration-seconds=3", "--default-unreachable-toleration-seconds=3",
            "--endpoint-reconciler-type=lease", "--profiling=false")

    def control_plane(self):
        k, local = self.keys, "http://127.0.0.1"
        self.part("etcd", "--name=box", f"--data-dir={self.run}/etcd", "--unsafe-no-fsync",
                  f"--listen-client-urls={local}:2379", f"--advertise-client-urls={local}:2379",
                  f"--listen-peer-urls={local}:2380", f"--initial-advertise-peer-urls={local}:2380",
                  f"--initial-cluster=box={local}:2380", "--log-level=warn")
        self.api()
        until(90, "the API server is ready", lambda: self.kubectl("get", "--raw=/readyz") == "ok")
        fast = ["--kube-api-qps=500", "--kube-api-burst=1000"]
        self.part("kube-controller-manager", f"--kubeconfig={k}/controllers.kubeconfig", *fast,
                  "--use-service-account-credentials", f"--service-account-private-key-file={k}/sa.key",
                  f"--root-ca-file={k}/ca.crt", "--leader-elect=false", "--allocate-node-cidrs=false",
                  "--bind-address=127.0.0.1", "--node-monitor-period=1s", f"--node-monitor-grace-period={GRACE}",
                  "--node-eviction-rate=10", "--pvclaimbinder-sync-period=1s", "--profiling=false")
        self.part("kube-scheduler", f"--kubeconfig={k}/scheduler.kubeconfig", *fast, "--leader-elect=false",
                  "--bind-address=127.0.0.1")
        self.part("disks", f"--kubeconfig={self.config}", f"--nodes={self.run}/nodes")
        (self.run / "Corefile").write_text(
            f".:53 {{\n bind {GATE}\n errors\n kubernetes cluster.local in-addr.arpa {{\n"
            f"  kubeconfig {self.config} box\n  ttl 2\n }}\n cache 2\n}}\n")
        # Services are for programs in the box's own namespace, too. For a node that does not exist it would wait.
        self.start("kube-proxy", self.bin / "kube-proxy", *self.proxying("n1"))
        self.part("coredns", "-conf", self.run / "Corefile")
        until(60, "the controllers work", lambda: self.kubectl("get", "serviceaccount", "default", "-o", "name"))
        self.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "box.local/disk",
                    "metadata": {"name": "disk", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                    "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"})

    def proxying(self, node):
        return [f"--kubeconfig={self.keys}/proxy.kubeconfig", f"--hostname-override={node}", "--proxy-mode=iptables",
                "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
                "--iptables-min-sync-period=200ms"]

    # Nodes

    def zone(self, number):
        return ZONES[(number - 1) % len(ZONES)]

    def node(self, number):
        """Powers a node on, with the disks that it had."""
        name, address = f"n{number}", f"10.89.0.1{number}"
        space, home = f"{SPACE}-{name}", self.run / "nodes" / name
        for folder in ("kubelet", "containerd", "cni", "podlogs", "containerlogs", "disks", "net.d", "sysctl"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        if not Path(f"/run/netns/{space}").exists():
            subprocess.run(["ip", "netns", "add", space], check=True)
            link = f"link add v{name} type veth peer name eth0 netns {space}"
            for line in (link, f"link set v{name} master br0 up", f"route replace 10.244.{number}.0/24 via {address}"):
                subprocess.run(self.inside("ip", *line.split()), check=True)
            lines = ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up",
                     f"route add default via {GATE}"]
            lines += [f"route add 10.244.{other}.0/24 via 10.89.0.1{other}"
                      for other in range(1, MOST + 1) if other != number]
            for line in lines:
                subprocess.run(self.inside("ip", *line.split(), space=space), check=True)
            subprocess.run(self.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", space=space), check=True)
        self.cable(number, True)
        self.groups(name)
        self.settings(number, home)
        environment = {"NODE": name, "NODE_HOME": str(home), "BOX_BIN": str(self.bin), "BOX_IMAGES": str(self.images),
                       "KUBELET": " ".join([f"--config={home}/kubelet.yaml", f"--kubeconfig={self.keys}/{name}.kubeconfig",
                                            f"--hostname-override={name}", f"--node-ip={address}",
                                            f"--cert-dir={home}/pki", "--root-dir=/var/lib/kubelet",
                                            f"--node-labels=topology.kubernetes.io/zone={self.zone(number)}"]),
                       "PROXY": " ".join(self.proxying(name)), "LOGS": str(self.logs)}
        wrap = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"]
        self.start(name, parts.SOURCES / "node", space=space, wrap=wrap, environment=environment)

    def groups(self, name):
        """Control groups of a node; what a killed one has left would cost the kubelet seconds."""
        self.ungroup(name)
        for group in GROUPS:
            root = Path("/sys/fs/cgroup") / group
            if root.is_dir():
                (root / f"{SPACE}-{name}").mkdir(exist_ok=True)
        for key in ("cpuset.cpus", "cpuset.mems"):
            root = Path("/sys/fs/cgroup/cpuset")
            if (root / key).exists():
                (root / f"{SPACE}-{name}" / key).write_text((root / key).read_text())

    def ungroup(self, name):
        for group in GROUPS:
            root = Path("/sys/fs/cgroup") / group / f"{SPACE}-{name}"
            for folder, _, _ in os.walk(root, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass

    def settings(self, number, home):
        name = f"n{number}"
        plugins = [{"type": "ptp", "ipMasq": False, "ipam": {
            "type": "host-local", "dataDir": "/var/lib/cni/networks",
            "ranges": [[{"subnet": f"10.244.{number}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]
        (home / "net.d" / "10-box.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "box", "plugins": plugins}))
        (home / "containerd.toml").write_text(f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "box.local/pause:1"
# Who may not raise a limit of the machine cannot lower a score below it either.
restrict_oom_score_adj = true
disable_apparmor = true
disable_tcp_service = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{home}/net.d"
""")
        (home / "resolv.conf").write_text("\n")
        (home / "kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": f"10.89.0.1{number}", "port": 10250, "readOnlyPort": 0, "healthzBindAddress": "127.0.0.1",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": f"{self.keys}/ca.crt"}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{SPACE}-{name}", "failSwapOn": False, "failCgroupV1": False,
            "makeIPTablesUtilChains": False, "clusterDNS": [GATE], "clusterDomain": "cluster.local",
            "resolvConf": f"{home}/resolv.conf", "nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 8,
            "syncFrequency": "10s", "maxPods": 50, "podPidsLimit": 1000, "serializeImagePulls": False,
            # Without a registry an image that was collected does not come back.
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "imageMinimumGCAge": "9999h",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}}))

    def power_off(self, number):
        """As if the plug was pulled: nothing of the node is told to end. Its disks stay."""
        freezer = Path(f"/sys/fs/cgroup/freezer/{SPACE}-n{number}/freezer.state")
        if freezer.exists():
            freezer.write_text("THAWED")
        self.stop(f"n{number}")

    def lose_disks(self, number):
        subprocess.run(["rm", "-rf", str(self.run / "nodes" / f"n{number}")], check=True)

    def cable(self, number, plugged):
        subprocess.run(self.inside("ip", "link", "set", f"vn{number}", "up" if plugged else "down"), check=True)

    def init(self, number):
        """The first process of a node."""
        pid = self.pid(f"n{number}")
        children = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
        return int(children.split()[0])

    def on(self, number, *command):
        """A command inside a node."""
        enter = ["nsenter", "-t", str(self.init(number)), "-p", "-m", "-n", "-u", "--", *map(str, command)]
        return subprocess.run(enter, check=True, capture_output=True, text=True, timeout=60).stdout

    # NetworkPolicies

    def enforce(self, number):
        """NetworkPolicies hold for the pods of this node from now on; connections that are there go on."""
        name, program = f"n{number}", parts.enforcer()
        try:
            self.on(number, "iptables", "-t", "mangle", "-A", *HANDED)
        except subprocess.CalledProcessError as error:
            raise parts.CannotBe(f"this kernel hands no packets to who would judge them: {error.stderr.strip()}") from error
        # In the node's namespaces, so that it goes with the node and meets nothing of this machine.
        command = f'"$@" >>{self.logs}/{name}-policies.log 2>&1 & echo $!'
        pid = self.on(number, "sh", "-c", command, "sh", program, f"--kubeconfig={self.config}",
                      f"--hostname-override={name}", f"--queue={QUEUE}")
        (self.run / "nodes" / name / "policies.pid").write_text(pid)
        # The first column is the number of a queue to which somebody listens.
        until(20, f"policies are enforced on {name}", lambda: any(
            line.split()[:1] == [QUEUE] for line in
            self.on(number, "cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()))

    def let_everything_through(self, number):
        """The end of `enforce`; nothing happens where it is not."""
        pid = self.run / "nodes" / f"n{number}" / "policies.pid"
        while self.on(number, "iptables", "-t", "mangle", "-S", "FORWARD").count("NFQUEUE"):
            self.on(number, "iptables", "-t", "mangle", "-D", *HANDED)
        if pid.exists():
            self.on(number, "sh", "-c", "kill -TERM $1 || true", "sh", pid.read_text().strip())
            pid.unlink()

    def ready(self):
        nodes = self.objects("nodes")
        return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
                   for node in nodes)

    # Asking and telling

    def kubectl(self, *arguments, given=None, timeout=60, check=True):
        command = self.inside(self.bin / "kubectl", "--kubeconfig", self.config, *arguments)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise ValueError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def objects(self, *what):
        return json.loads(self.kubectl("get", *what, "-o", "json"))["items"]

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", given="\n---\n".join(json.dumps(made) for made in objects))

    # The end

    def wipe(self):
        names = sorted(path.name for path in (self.run / "pids").glob("*")) if (self.run / "pids").exists() else []
        for name in [n for n in names if not n.startswith("n")] + [n for n in names if n.startswith("n")]:
            self.stop(name)
        for number in range(1, MOST + 1):
            space = f"{SPACE}-n{number}"
            if Path(f"/run/netns/{space}").exists():
                subprocess.run(["ip", "netns", "del", space], check=False)
            if (self.run / "nodes" / f"n{number}").exists():
                until(10, "the node's groups are empty", lambda: self.ungroup(f"n{number}") or all(
                    not (Path("/sys/fs/cgroup") / group / space).exists() for group in GROUPS))
        if Path(f"/run/netns/{SPACE}").exists():
            subprocess.run(["ip", "netns", "del", SPACE], check=False)
        subprocess.run(["rm", "-rf", str(self.run), str(self.logs)], check=True)


if __name__ == "__main__":
    sys.exit("this is a part of e2e/up, e2e/down and e2e/run")
