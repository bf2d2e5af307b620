"""What happens to machines: nodes that die or are emptied, the API server that is away."""

import time

from ..box import until


def another_node(scene, number=4):
    if scene.box.pid(f"n{number}") is None:
        scene.box.node(number)
    until(60, f"node {number} is Ready", lambda: scene.box.ready() >= number)


def node_lost(scene):
    """A node is gone for good: a new id takes the place of its replica, on another node."""
    another_node(scene)
    scene.begin(replacement={"failureDetectionSeconds": 5, "nodeGoneSeconds": 30})
    scene.load()
    lost = next(name for name in scene.pods() if name != scene.primary() and scene.node_of(name) != 1)
    number = scene.node_of(lost)
    scene.box.power_off(number)
    scene.box.lose_disks(number)
    scene.box.kubectl("delete", "node", f"n{number}", "--wait=false")
    began = time.monotonic()
    try:
        until(180, "there is a replica 4 and no other is missing", lambda: {
            r["id"] for r in scene.status()["replicaStatuses"] if r.get("voter")} >= {4}, 0.5)
        scene.until_ready(120)
        scene.figures["replaced in"] = time.monotonic() - began
        ids = {r["id"] for r in scene.status()["replicaStatuses"]}
        assert len(ids) == 3 and 4 in ids, ids
        scene.nothing_lost()
    finally:
        scene.box.node(number)


def drain(scene):
    """Every node in turn is emptied with `kubectl drain`, as before its update: nothing is lost."""
    another_node(scene)
    another_node(scene, 5)
    another_node(scene, 6)
    scene.begin(replacement={"failureDetectionSeconds": 5, "nodeGoneSeconds": 30})
    scene.load()
    for number in (1, 2, 3):
        began = time.monotonic()
        try:
            scene.box.kubectl("drain", f"n{number}", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s",
                              timeout=180)
            scene.figures[f"n{number} was empty in"] = time.monotonic() - began
        finally:
            scene.box.kubectl("uncordon", f"n{number}")
        scene.until_ready(120)
    scene.goes_on()
    scene.nothing_lost()


def api_server_away(scene):
    """The API server is away for a minute: clients notice nothing, and no pod is another one afterwards."""
    scene.begin()
    scene.load()
    uids = scene.uids()
    box = scene.box
    box.stop("kube-apiserver")
    time.sleep(60)
    longest = scene.gap()
    box.api()
    until(60, "the API server is ready", lambda: box.kubectl("get", "--raw=/readyz") == "ok")
    assert longest < 1, f"clients waited {longest:.1f} s"
    scene.until_ready(120)
    assert scene.uids() == uids
    scene.nothing_lost()


ALL = [node_lost, drain, api_server_away]
