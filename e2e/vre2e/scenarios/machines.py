"""What happens to machines: nodes that die or are emptied, the API server that is away."""

import time

from ..box import MOST, until


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
    """Every node with a replica is emptied with `kubectl drain`, one after the other, as before its update."""
    scene.begin(replacement={"failureDetectionSeconds": 5, "nodeGoneSeconds": 60})
    scene.load()
    # The one with the primary is neither first nor last.
    order = sorted(scene.pods(), key=lambda pod: (pod != scene.primary(), pod))
    order = [order[1], order[0], order[2]]
    for pod in order:
        number, uid = scene.node_of(pod), scene.uids()[pod]
        began = time.monotonic()
        try:
            scene.box.kubectl("drain", f"n{number}", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s",
                              timeout=180)
            scene.figures[f"the node of {pod} was empty in"] = time.monotonic() - began
            assert scene.uids().get(pod) != uid, f"{pod} is still where it was"
        finally:
            scene.box.kubectl("uncordon", f"n{number}")
        scene.until_ready(120)
    scene.goes_on()
    scene.nothing_lost()
    assert scene.gap() < 3, f"nobody was answered for {scene.gap():.1f} s, though each node was left in order"


def zone_lost(scene):
    """All machines of the zone of the primary lose their power at once, and come back: writes go on meanwhile."""
    scene.begin(replacement={"failureDetectionSeconds": 5, "nodeGoneSeconds": 300})
    scene.load()
    leader = scene.primary()
    zone = scene.status()["primary"]["zone"]
    numbers = [number for number in range(1, MOST + 1)
               if scene.box.pid(f"n{number}") is not None and scene.box.zone(number) == zone]
    assert scene.node_of(leader) in numbers
    for number in numbers:
        scene.box.power_off(number)
    try:
        scene.figures["writes go on after"] = scene.goes_on()
        scene.until_reason(60, "Degraded", "ReplicasMissing")
        primary = until(30, "another one leads, elsewhere",
                        lambda: scene.status().get("primary") if scene.primary() != leader else None)
        assert primary["zone"] != zone, primary
        tolerance = until(30, "it is said how much more may be lost",
                          lambda: scene.status() if scene.status()["zoneFaultTolerance"] == 0 else None)
        assert tolerance["faultTolerance"] == 0, tolerance
        time.sleep(5)
    finally:
        for number in numbers:
            scene.box.node(number)
    began = time.monotonic()
    scene.until_ready(180)
    scene.figures["the zone is back, and Ready after"] = time.monotonic() - began
    assert sorted(r["id"] for r in scene.status()["replicaStatuses"]) == [1, 2, 3], "its disks were there"
    scene.nothing_lost()


def primary_moves(scene):
    """The primary goes to the zone that people prefer, elsewhere when its process is killed, and back."""
    scene.begin(placement={"preferredZones": ["zone-b"], "handbackDelaySeconds": 5})

    def leads(zone):
        status = scene.status()
        return status.get("primary", {}).get("zone") == zone and scene.condition("PrimaryPlacementSatisfied").get(
            "status") == "True"
    until(60, "the primary is in zone-b", lambda: leads("zone-b"))
    scene.load()
    began = time.monotonic()
    scene.patch({"spec": {"placement": {"preferredZones": ["zone-c", "zone-a"]}}})
    until(60, "the primary is in zone-c", lambda: leads("zone-c"))
    scene.figures["moved in"] = time.monotonic() - began
    moved = scene.gap()
    assert moved < 2, f"nobody was answered for {moved:.1f} s during a move in order"
    leader, before = scene.primary(), scene.restarts(scene.primary())
    scene.kill(leader)
    until(30, "another one leads", lambda: scene.status().get("primary") and scene.primary() != leader, 0.1)
    until(60, "its container was started again", lambda: scene.restarts(leader) > before)
    began = time.monotonic()
    until(90, "the primary is back in zone-c", lambda: leads("zone-c"))
    scene.figures["back in"] = time.monotonic() - began
    assert scene.primary() == leader
    scene.until_ready()
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


ALL = [node_lost, drain, zone_lost, primary_moves, api_server_away]
