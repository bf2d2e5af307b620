"""NetworkPolicies that are enforced: the product goes through those that it makes, and nobody else gets past them."""

import contextlib
import json
import subprocess
import sys

from ..box import GATE, until
from ..scene import BUCKET
from .drills import drill, ended, left, live
from .installed import IMAGE, SYSTEM, by_charts, cluster, install, removed, tested

CLIENT, PEER, ADMIN, CONTROL = 2379, 2380, 2381, 2382
API = (GATE, 6443)
# Of the pod and of the Service before it: a policy sees the first, and an endpoint names the second.
STORE, FRONT = 9000, 80
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


def stands(scene, name, labels, space=None, image="box.local/pause:1", command=None):
    """A pod; without an image it only is there, for whoever looks around from its network."""
    scene.box.apply({"apiVersion": "v1", "kind": "Pod",
                     "metadata": {"name": name, "namespace": space or scene.space, "labels": labels},
                     "spec": {"terminationGracePeriodSeconds": 0, "volumes": [{"name": "data", "emptyDir": {}}],
                              "containers": [{"name": name, "image": image, "command": command, "imagePullPolicy": "Never",
                                              "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}})
    scene.box.kubectl("-n", space or scene.space, "wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")


def store(scene, space):
    """An object store in a pod behind a Service, as people have it who have no cloud; its endpoint, and where it really is."""
    stands(scene, "store", {"app": "store"}, space, IMAGE,
           ["vr", "s3-server", "--dir", "/data", "--listen", f"0.0.0.0:{STORE}", "--bucket", BUCKET])
    scene.box.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store", "namespace": space},
                     "spec": {"selector": {"app": "store"}, "ports": [{"port": FRONT, "targetPort": STORE}]}})
    address = scene.box.kubectl("-n", space, "get", "pod", "store", "-o", "jsonpath={.status.podIP}")
    return f"http://store.{space}.svc:{FRONT}", (address, STORE)


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


def copy_sees(scene, name, space, place):
    """What the copy of a drill reaches in the middle of its work, of replicas, the object store and the API server."""
    pod, (node, process) = f"{name}-drill", scene.process("store", space)
    drill(scene, name)
    until(60, "there is a copy", lambda: scene.box.objects("pods", "-n", scene.space, "-l", f"vr-operator.io/drill={name}"))
    # The copy begins by asking the object store, and waits there for as long as somebody looks around from its network.
    scene.box.on(node, "kill", "-STOP", process)
    try:
        until(60, "the copy works", lambda: scene.process(pod))
        found = reached(scene, pod, [*sorted(replicas(scene, CLIENT, PEER, ADMIN, CONTROL)), place, API])
    finally:
        scene.box.on(node, "kill", "-CONT", process)
    status = ended(scene, name)
    assert status["result"] == "Passed", json.dumps(status, indent=1)
    return found


def policies(scene):
    """With policies enforced the cluster, its drills and `helm test` are well, and who has no business there is kept out."""
    box, elsewhere, stores = scene.box, f"{scene.space}-elsewhere", f"{scene.space}-stores"
    with by_charts(scene):
        with enforced(box):
            for space in (elsewhere, stores):
                box.kubectl("create", "namespace", space)
            endpoint, place = store(scene, stores)
            install(scene)
            cluster(scene, more={"spec.networkPolicy.clientPodLabels.role": "client",
                                 "spec.storage.objectStore.endpoint": endpoint})
            stands(scene, "client", {"role": "client"})
            stands(scene, "stranger", {"role": "stranger"})
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
            found = reached(scene, first, [*others, place, API])
            assert found == replicas(scene, PEER, but=first) | {place}, found

            until(60, "a checkpoint is in the object store", lambda: scene.condition("Recoverable").get("status") == "True")
            found = copy_sees(scene, "closed", stores, place)
            assert found == {place}, found
            assert left(scene) == [], left(scene)
            live(scene, "primary", "LosePrimary")
            tested(scene, "vr-operator", SYSTEM)
            tested(scene, scene.name, scene.space)
            scene.nothing_lost()

        # The same looks without anybody who enforces: it was the policies.
        everything = {CLIENT, PEER, ADMIN, CONTROL}
        for pod, space in (("stranger", None), ("client", elsewhere), (operator, SYSTEM)):
            found = around(scene, pod, space)
            assert found == everything, (pod, found)
        found = copy_sees(scene, "open", stores, place)
        assert found == replicas(scene, *everything) | {place, API}, found
        removed(scene)
        box.kubectl("delete", "namespace", elsewhere, stores, "--wait=false")


ALL = [policies]
