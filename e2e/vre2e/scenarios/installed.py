"""The operator as people install it: by the chart, with a helm, in pods, with the role and the policies of the chart."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time

from ..box import GATE, until
from ..scene import BUCKET, KEYS, TREE, programs

SYSTEM = "vr-system"
IMAGE = "vr.local/vr:ci"
ANOTHER = "vr.local/vr:another"


def helm(scene, *arguments, space=SYSTEM, timeout=120):
    """Runs helm; what it says to a failure is raised."""
    found = os.environ.get("VR_HELM")
    if not found:
        told = subprocess.run(["bash", TREE / ".ci/charts.sh", "helm"], check=True, capture_output=True, text=True)
        found = told.stdout.strip()
    home = {name: str(scene.folder / "helm") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    command = scene.box.inside(found, "--kubeconfig", scene.box.config, "--namespace", space, *arguments)
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=timeout, env={**os.environ, **home})
    if done.returncode != 0:
        raise ValueError(f"helm {' '.join(map(str, arguments))}: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout


def image(scene):
    """The image that people get, on every node, under two names."""
    box = scene.box
    archive = box.home / "product.tar"
    subprocess.run([sys.executable, TREE / ".ci/image/image.py", IMAGE, archive, programs("kubectl-vr")],
                   check=True, cwd=TREE, stdout=subprocess.DEVNULL)
    for number in (1, 2, 3):
        box.on(number, "ctr", "-n", "k8s.io", "images", "import", archive)
        box.on(number, "ctr", "-n", "k8s.io", "images", "tag", "--force", IMAGE, ANOTHER)


def install(scene, chart="charts/vr-operator"):
    helm(scene, "install", "vr-operator", chart, "--create-namespace", "--values", "charts/vr-operator/ci/box.yaml",
         "--wait", "--timeout", "90s")


def cluster(scene, chart="charts/vr-cluster", more=None):
    """A cluster by its chart, with TLS and in the bucket of the box; `more` are other values of it."""
    values = {"spec.image": IMAGE, "spec.storage.objectStore.bucket": BUCKET, "spec.storage.objectStore.prefix": scene.space,
              "spec.storage.objectStore.endpoint": f"http://{GATE}:9000", "spec.unsafeFlags.plaintext": "false",
              "spec.deletionProtection": "false", "spec.podTemplate.cpuRequest": "20m", **(more or {})}
    helm(scene, "install", scene.name, chart, "--values", "charts/vr-cluster/ci/box.yaml",
         *(word for pair in values.items() for word in ("--set", "=".join(pair))), space=scene.space)
    scene.until_ready(120)


def tested(scene, release, space, well=True):
    """What `helm test` says of a release, which must be what is expected."""
    began = time.monotonic()
    try:
        said = helm(scene, "test", release, "--logs", "--timeout", "200s", space=space, timeout=260)
    except ValueError as error:
        assert not well, f"helm test of {release}: {error}"
        said = str(error)
    else:
        assert well, f"helm test of {release} is green, and it is not well: {said}"
    scene.figures[f"helm test {release}, {'green' if well else 'red'}"] = time.monotonic() - began
    return said


def running(scene):
    """The image that the operator's pods are to have, and how many of them are ready with it."""
    found = json.loads(scene.box.kubectl("-n", SYSTEM, "get", "deployment", "vr-operator", "-o", "json"))
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return image, found["status"].get("readyReplicas", 0)


def looked_after(scene):
    """Changes something that restarts nothing, and waits until the operator has seen it."""
    delay = scene.seen()["spec"].get("placement", {}).get("handbackDelaySeconds", 300)
    scene.patch({"spec": {"placement": {"handbackDelaySeconds": delay - 1}}})
    wanted = scene.seen()["metadata"]["generation"]
    until(90, "the operator has seen the change", lambda: scene.status()["observedGeneration"] == wanted)
    scene.until_ready()


@contextlib.contextmanager
def by_charts(scene):
    """Images, and neither an operator nor definitions: charts bring them. Afterwards all is as other scenarios want it."""
    box = scene.box
    image(scene)
    until(120, "no cluster of another scenario is left", lambda: not box.objects("vrc", "-A"))
    box.stop("operator")
    try:
        box.kubectl("delete", "-f", TREE / "crds")
        yield
    finally:
        by_hand(scene)


def removed(scene):
    """The cluster's chart is uninstalled, and the cluster with it."""
    helm(scene, "uninstall", scene.name, space=scene.space)
    until(200, "the resource is gone", lambda: not scene.box.objects("vrc", "-n", scene.space))


def by_helm(scene):
    """Installed, upgraded, rolled back, uninstalled and installed again: no replica notices, and the data stays."""
    box = scene.box
    with by_charts(scene):
        began = time.monotonic()
        install(scene)
        scene.figures["helm install to Ready"] = time.monotonic() - began
        scene.begin()
        scene.load()
        uids = scene.uids()
        policies(scene)

        helm(scene, "upgrade", "vr-operator", TREE / "charts/vr-operator", "--reuse-values", "--set", "image.tag=another",
             "--wait", "--timeout", "90s")
        assert running(scene) == (ANOTHER, 2), running(scene)
        looked_after(scene)
        try:
            helm(scene, "upgrade", "vr-operator", TREE / "charts/vr-operator", "--reuse-values", "--set",
                 "image.tag=nobody-has-this", "--wait", "--timeout", "15s")
        except ValueError as error:
            scene.figures["an image that is not there"] = str(error).splitlines()[-1][-120:]
        else:
            raise AssertionError("helm has waited for pods whose image nobody has, and found them ready")
        # The pods before go on until there are others.
        looked_after(scene)
        helm(scene, "rollback", "vr-operator", "2", "--wait", "--timeout", "90s")
        assert running(scene) == (ANOTHER, 2), running(scene)
        looked_after(scene)
        assert scene.uids() == uids, "an operator that is another one restarts nothing"

        helm(scene, "uninstall", "vr-operator", "--wait", "--timeout", "90s")
        until(60, "no operator is left", lambda: not box.objects("pods", "-n", SYSTEM))
        assert scene.uids() == uids and scene.is_ready()
        scene.goes_on()
        # Nobody is there to bring it back, and nobody to forbid it: a definition that helm had taken along would show.
        left = [crd["metadata"]["name"] for crd in box.objects("crd")]
        assert "vrclusters.vr-operator.io" in left, left
        assert not box.objects("validatingadmissionpolicies"), "the policies were the chart's"

        install(scene)
        looked_after(scene)
        assert scene.uids() == uids
        scene.nothing_lost()
        deleted(scene)


def helm_tests(scene):
    """`helm test` of both charts is green where all is well, and red where no operator acts or no write is served."""
    box = scene.box
    with by_charts(scene):
        install(scene)
        said = tested(scene, "vr-operator", SYSTEM)
        assert "acts: it holds the lease" in said, said
        cluster(scene)
        said = tested(scene, scene.name, scene.space)
        assert "acknowledgedWritesPresent" in said, said

        # Nobody is there to mend what follows.
        box.kubectl("-n", SYSTEM, "scale", "deployment", "vr-operator", "--replicas=0")
        operators = ("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=vr-operator")
        until(60, "no operator is left", lambda: not box.objects(*operators))
        said = tested(scene, "vr-operator", SYSTEM, well=False)
        assert "nobody holds the lease" in said or "has not renewed it" in said, said
        lost = sorted(scene.pods())[:2]
        scene.kubectl("delete", "pods", *lost, "--wait=false")
        until(60, "two processes have ended", lambda: not any(
            status.get("ready") for name, pod in scene.pods().items() if name in lost
            for status in pod["status"].get("containerStatuses", [])))
        said = tested(scene, scene.name, scene.space, well=False)
        assert "the cluster cannot be read" in said or "no write was served" in said, said

        box.kubectl("-n", SYSTEM, "scale", "deployment", "vr-operator", "--replicas=2")
        scene.until_ready(150)
        tested(scene, "vr-operator", SYSTEM)
        tested(scene, scene.name, scene.space)
        left = [pod["metadata"]["name"] for space in (SYSTEM, scene.space) for pod in box.objects("pods", "-n", space)
                if pod["metadata"]["name"].endswith("-test")]
        assert not left, f"what is green leaves nothing: {left}"
        removed(scene)


def definitions(scene):
    """Which kinds are not defined as crds/ has them."""
    def schemas(told):
        return {crd["metadata"]["name"]: [version["schema"] for version in crd["spec"]["versions"]] for crd in told}

    told = [scene.box.kubectl("create", "--dry-run=client", "-o", "json", "-f", file) for file in (TREE / "crds").iterdir()]
    wanted, found = schemas(map(json.loads, told)), schemas(scene.box.objects("crd"))
    return sorted(name for name, schema in wanted.items() if found.get(name) != schema)


def followed(scene, page, mark, values=None):
    """Does what a page says in the block with this mark, word by word; `values` are other words for some of its own, and
    the namespace of the cluster is another one."""
    text = (TREE / page).read_text()
    block = re.search(rf"<!-- run elsewhere: e2e {re.escape(mark)} -->\n```sh\n(.*?)```", text, re.S)[1]
    for line in block.splitlines():
        words = [(values or {}).get(word, word) for word in shlex.split(line, comments=True)]
        words = [scene.space if before in ("-n", "--namespace", "namespace") and word == "shop" else word
                 for before, word in zip([""] + words, words)]
        if words[0] == "helm":
            place = words.index("--namespace")
            helm(scene, *words[1:place], *words[place + 2:], space=words[place + 1], timeout=260)
        elif words[:2] == ["kubectl", "vr"]:
            plugin(scene, *words[2:])
        else:
            assert words[0] == "kubectl", words
            scene.box.kubectl(*(TREE / word if word == "crds/" else word for word in words[1:]), timeout=900)


def plugin(scene, *words):
    """`kubectl vr …`. Nobody is at a terminal who could type the name of the cluster."""
    unasked = ["--yes"] if "recover" in words else []
    command = scene.box.inside(programs("kubectl-vr") / "kubectl-vr", *words, *unasked)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "KUBECONFIG": str(scene.box.config)})
    assert done.returncode == 0, f"kubectl vr {' '.join(words)}: {done.stdout} {done.stderr}"
    return done.stdout


def upgraded(scene):
    """From the charts before to these, as docs/upgrades.md says: nothing restarts, nothing is lost, definitions are new."""
    box = scene.box
    before = TREE / "e2e/previous"
    with by_charts(scene):
        install(scene, before / "vr-operator.tgz")
        old = definitions(scene)
        assert old, "the charts before have today's definitions: this proves nothing"
        cluster(scene, before / "vr-cluster.tgz")
        scene.load()
        uids = scene.uids()

        followed(scene, "docs/upgrades.md", "upgraded, from the charts before")
        assert definitions(scene) == [], definitions(scene)
        scene.figures["definitions that were others before"] = len(old)
        looked_after(scene)
        assert scene.uids() == uids, "an upgrade of the charts restarts nothing"
        scene.goes_on()

        # Back to the charts before, for those who apply the definitions themselves.
        helm(scene, "rollback", "vr-operator", "1", "--wait", "--timeout", "90s")
        assert definitions(scene) == old, definitions(scene)
        followed(scene, "docs/upgrades.md", "upgraded, with definitions applied before")
        assert definitions(scene) == [], definitions(scene)
        looked_after(scene)
        assert scene.uids() == uids and scene.is_ready()
        scene.nothing_lost()
        removed(scene)


def only_the_bucket(scene):
    """Nothing is left but the bucket: what docs/disaster-recovery.md says brings the cluster back."""
    box = scene.box
    with by_charts(scene):
        install(scene)
        cluster(scene)
        scene.load()
        until(60, "there is something to lose", lambda: len(scene.journal()) > 1000)
        scene.rest()
        told = max(line["revision"] for line in scene.journal())
        op = max(r.get("commit", 0) for r in scene.status()["replicaStatuses"])
        until(60, "the object store holds it", lambda: next(
            t["op"] for t in scene.status()["tiers"] if t["name"] == "objectStore") >= op, 0.5)
        values = json.loads(helm(scene, "get", "values", scene.name, "-o", "json", space=scene.space))
        # Without anybody who would end it in order, and with all that is there of it.
        helm(scene, "uninstall", "vr-operator")
        box.kubectl("patch", "vrc", scene.name, "-n", scene.space, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        for pod in scene.pods():
            scene.kubectl("patch", "pod", pod, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        box.kubectl("delete", "namespace", scene.space, timeout=180)
        box.kubectl("delete", "-f", TREE / "crds", timeout=120)
        (scene.folder / "ca.crt").unlink()

        (scene.folder / "my-cluster.yaml").write_text(json.dumps(values))
        began = time.monotonic()
        followed(scene, "docs/disaster-recovery.md", "only-the-bucket", {
            "operator.yaml": "charts/vr-operator/ci/box.yaml", "my-cluster.yaml": scene.folder / "my-cluster.yaml",
            "AWS_ACCESS_KEY_ID=ID": f"AWS_ACCESS_KEY_ID={KEYS['AWS_ACCESS_KEY_ID']}",
            "AWS_SECRET_ACCESS_KEY=KEY": f"AWS_SECRET_ACCESS_KEY={KEYS['AWS_SECRET_ACCESS_KEY']}"})
        scene.figures["from a bucket to Ready"] = time.monotonic() - began
        assert until(30, "a write is acknowledged", scene.put_one) > told, "a revision that was given before"
        assert scene.status()["lineage"]["generation"] == 2, scene.status()["lineage"]
        scene.nothing_lost()
        removed(scene)


def by_hand(scene):
    """The operator as a process again, as other scenarios want it."""
    ground, box = scene.ground, scene.box
    try:
        helm(scene, "uninstall", "vr-operator", "--ignore-not-found", "--wait", "--timeout", "60s")
    finally:
        box.kubectl("apply", "--server-side", "--force-conflicts", "-f", TREE / "crds")
        if box.pid("operator") is None:
            ground.operator()


def refused(scene, says, *command):
    """The API server must refuse this, in these words; nothing is done."""
    try:
        scene.kubectl(*command, "--dry-run=server")
    except ValueError as error:
        assert says in str(error), f"not in these words (`{says}`): {error}"
    else:
        raise AssertionError(f"this was accepted: kubectl {' '.join(command)}")


def policies(scene):
    """What the admission policies of the chart refuse and what they let through, on the real objects of a cluster."""
    selected = ("-l", f"app.kubernetes.io/managed-by=vr-operator,vr-operator.io/cluster={scene.name}")
    count = 0
    for kind, deletes in {"pods": False, "persistentvolumeclaims": True, "services": True, "secrets": True,
                          "poddisruptionbudgets": True, "networkpolicies": True}.items():
        found = [o["metadata"]["name"] for o in scene.box.objects(kind, "-n", scene.space, *selected)]
        assert found, f"the operator has made no {kind}"
        name = found[0]
        says = f"{name} is managed by vr-operator: change VRCluster {scene.name} in its place"
        refused(scene, says, "label", kind, name, "somebody=was-here")
        if deletes:
            refused(scene, says, "delete", kind, name)
        else:
            scene.kubectl("delete", kind, name, "--dry-run=server")
        # The way that the message tells.
        scene.kubectl("annotate", kind, name, "vr-operator.io/unlocked=true", "--dry-run=server")
        count += 2
    # What the message tells is enough to do it all the same, and the operator does not mind.
    name = scene.box.objects("services", "-n", scene.space, *selected)[0]["metadata"]["name"]
    scene.kubectl("annotate", "services", name, "vr-operator.io/unlocked=true")
    scene.kubectl("label", "services", name, "somebody=was-here")
    scene.kubectl("delete", "services", name, "--dry-run=server")
    scene.kubectl("annotate", "services", name, "vr-operator.io/unlocked-")
    refused(scene, "is managed by vr-operator", "label", "services", name, "somebody=is-here", "--overwrite")
    # Of others nothing is said.
    scene.kubectl("label", "secret", "s3-keys", "somebody=was-here")

    scene.patch({"spec": {"deletionProtection": True}})
    refused(scene, f"VRCluster {scene.name} is protected", "delete", "vrc", scene.name)
    scene.patch({"spec": {"deletionProtection": False}})
    scene.kubectl("delete", "vrc", scene.name, "--dry-run=server")
    scene.figures["refused by policies"] = count


def deleted(scene):
    """Deleted under the policies: it goes, its volumes and what is in the object store stay."""
    volumes = {v["metadata"]["uid"] for v in scene.box.objects("pvc", "-n", scene.space)}
    assert volumes
    scene.kubectl("delete", "vrc", scene.name, "--wait=false")
    until(200, "the resource is gone", lambda: not scene.box.objects("vrc", "-n", scene.space))
    until(60, "its services are collected", lambda: not [
        s for s in scene.box.objects("services", "-n", scene.space) if s["metadata"]["name"].startswith(scene.name)])
    assert {v["metadata"]["uid"] for v in scene.box.objects("pvc", "-n", scene.space)} == volumes
    kept = scene.box.run / "s3"
    assert any(path.is_file() for path in kept.rglob("*")), "the object store is empty"


ALL = [by_helm, helm_tests, upgraded, only_the_bucket]
