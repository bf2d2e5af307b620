"""NetworkPolicies that are enforced: the product goes through those that it makes, and nobody else gets past them."""

import contextlib
import json
import os
import signal
import subprocess
import sys

from ..box import GATE, until
from .drills import drill, ended, left, live
from .installed import SYSTEM, by_charts, cluster, install, removed, tested

CLIENT, PEER, ADMIN, CONTROL = 2379, 2380, 2381, 2382
STORE, API = (GATE, 9000), (GATE, 6443)
# Prints to which of the places a packet comes. A refusal came back from there; silence is what a policy leaves.
REACHED = """
import json, socket, sys, threading
found = {}
def look(place):
    try:
        socket.create_connection(place, timeout=3).close()
        found[place] = True
    except ConnectionRefusedError:
        found[place] = True
    except TimeoutError:
        found[place] = False
places = [tuple(place) for place in json.loads(sys.argv[1])]
looks = [threading.Thread(target=look, args=(place,)) for place in places]
[one.start() for one in looks]
[one.join() for one in looks]
print(json.dumps([found[place] for place in places]))
"""


@contextlib.contextmanager
def enforced(box):
    """Policies hold on every node."""
    try:
        for number in (1, 2, 3):
            box.enforce(number)
        yield
    finally:
        for number in (1, 2, 3):
            box.let_everything_through(number)


def stands(scene, name, labels, space=None):
    """A pod that only is there, for whoever looks around from its network."""
    scene.box.apply({"apiVersion": "v1", "kind": "Pod",
                     "metadata": {"name": name, "namespace": space or scene.space, "labels": labels},
                     "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                         {"name": "pause", "image": "box.local/pause:1", "imagePullPolicy": "Never"}]}})
    scene.box.kubectl("-n", space or scene.space, "wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")


def reached(scene, pod, places, space=None):
    """Those of the places that are reached from a pod's network."""
    command = scene.into(pod, sys.executable, "-c", REACHED, json.dumps(places), space=space)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {place for place, found in zip(places, json.loads(done.stdout)) if found}


def replicas(scene, *ports, but=None):
    """These ports of all replicas but one."""
    return {(pod["status"]["podIP"], port) for name, pod in scene.pods().items() if name != but for port in ports}


def around(scene, pod, space=None):
    """The ports of replicas that are reached from a pod's network, which must be the same for each replica."""
    found = reached(scene, pod, sorted(replicas(scene, CLIENT, PEER, ADMIN, CONTROL)), space)
    ports = {port for _, port in found}
    assert found == replicas(scene, *ports), f"from {pod}, not alike at all replicas: {sorted(found)}"
    return ports


def copy_sees(scene, name):
    """What the copy of a drill reaches in the middle of its work, of replicas, the object store and the API server."""
    pod, store = f"{name}-drill", scene.box.pid("s3")
    drill(scene, name)
    until(60, "there is a copy", lambda: scene.box.objects("pods", "-n", scene.space, "-l", f"vr-operator.io/drill={name}"))
    # The copy begins by asking the object store, and waits there for as long as somebody looks around from its network.
    os.kill(store, signal.SIGSTOP)
    try:
        until(60, "the copy works", lambda: scene.process(pod))
        found = reached(scene, pod, [*sorted(replicas(scene, CLIENT, PEER, ADMIN, CONTROL)), STORE, API])
    finally:
        os.kill(store, signal.SIGCONT)
    status = ended(scene, name)
    assert status["result"] == "Passed", json.dumps(status, indent=1)
    return found


def policies(scene):
    """With policies enforced the cluster, its drills and `helm test` are well, and who has no business there is kept out."""
    box, elsewhere = scene.box, f"{scene.space}-elsewhere"
    with by_charts(scene):
        with enforced(box):
            install(scene)
            cluster(scene, more={"spec.networkPolicy.clientPodLabels.role": "client"})
            stands(scene, "client", {"role": "client"})
            stands(scene, "stranger", {"role": "stranger"})
            box.kubectl("create", "namespace", elsewhere)
            stands(scene, "client", {"role": "client", "vr-operator.io/cluster": scene.name}, elsewhere)
            scene.clients_in = "client"
            scene.load()

            operator = box.objects("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=vr-operator")[0]["metadata"]["name"]
            seen = {"client": around(scene, "client"), "stranger": around(scene, "stranger"),
                    "elsewhere": around(scene, "client", elsewhere), "operator": around(scene, operator, SYSTEM)}
            assert seen == {"client": {CLIENT, ADMIN}, "stranger": {ADMIN}, "elsewhere": {ADMIN},
                            "operator": {CLIENT, CONTROL}}, seen
            first = sorted(scene.pods())[0]
            others = sorted(replicas(scene, CLIENT, PEER, ADMIN, CONTROL, but=first))
            found = reached(scene, first, [*others, STORE, API])
            assert found == replicas(scene, PEER, but=first) | {STORE}, found

            until(60, "a checkpoint is in the object store", lambda: scene.condition("Recoverable").get("status") == "True")
            assert copy_sees(scene, "closed") == {STORE}
            assert left(scene) == [], left(scene)
            live(scene, "primary", "LosePrimary")
            tested(scene, "vr-operator", SYSTEM)
            tested(scene, scene.name, scene.space)
            scene.nothing_lost()

        # The same looks without anybody who enforces: it was the policies.
        everything = {CLIENT, PEER, ADMIN, CONTROL}
        for pod, space in (("stranger", None), ("client", elsewhere), (operator, SYSTEM)):
            assert around(scene, pod, space) == everything, (pod, around(scene, pod, space))
        assert copy_sees(scene, "open") == replicas(scene, *everything) | {STORE, API}
        box.kubectl("delete", "namespace", elsewhere, "--wait=false")
        removed(scene)


ALL = [policies]
