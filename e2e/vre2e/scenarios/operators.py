"""What happens to operators: killed between any two writes, two at once, at rest."""

import json
import os
import signal
import sys
import time

from ..box import until
from ..scene import TREE

PORT = 18001


def between(scene, dies_at=0):
    """Puts the proxy before the API server, and gives back how an operator reaches it."""
    box = scene.box
    box.start("proxy", sys.executable, "-m", "vre2e.proxy", "--server", "127.0.0.1:6443", "--authority",
              box.keys / "ca.crt", "--port", PORT, "--dies-at", dies_at, "--pid", box.run / "pids" / "operator",
              environment={"PYTHONPATH": str(TREE / "e2e")})
    config = box.keys / "proxied.kubeconfig"
    box.kubeconfig(config, f"http://127.0.0.1:{PORT}", "admin-token")
    return config


def counts(scene):
    log = scene.box.logs / "proxy.log"
    before = log.read_text().count("\n") if log.exists() else 0
    os.kill(scene.box.pid("proxy"), signal.SIGUSR1)
    until(10, "the proxy has counted", lambda: log.read_text().count("\n") > before)
    return json.loads(log.read_text().splitlines()[-1])


def two_at_once(scene):
    """Two operators run, and then the one that acts is killed: the other goes on, and nothing happens twice."""
    ground, box = scene.ground, scene.box
    ground.operator("operator2", port=8081)
    try:
        scene.begin()
        scene.load()
        uids = scene.uids()
        box.stop("operator")
        scene.patch({"spec": {"replicas": 3, "placement": {"handbackDelaySeconds": 299}}})
        wanted = scene.seen()["metadata"]["generation"]
        until(60, "the other one has taken over", lambda: scene.status()["observedGeneration"] == wanted)
        scene.until_ready()
        assert scene.uids() == uids
        scene.nothing_lost()
    finally:
        box.stop("operator2")
        if box.pid("operator") is None:
            ground.operator()


def killed_between_writes(scene):
    """The operator is killed at its n-th write while a cluster begins, for each n: it always comes to the same end."""
    ground, box = scene.ground, scene.box
    ends = set()
    deaths = 0
    try:
        for number in range(1, 31):
            box.stop("operator")
            box.stop("proxy")
            ground.operator(config=between(scene, number))
            scene.name = f"shop{number}"
            box.apply(scene.cluster(prefix=f"{scene.space}/{number}"))
            ended = until(90, "the operator was killed, or was not needed any more",
                          lambda: not box.alive("operator") or scene.is_ready())
            killed = not box.alive("operator")
            box.stop("operator")
            box.stop("proxy")
            if killed:
                deaths += 1
                ground.operator()
                scene.until_ready(120)
            assert ended
            status = scene.status()
            ends.add((status["lineage"]["generation"], tuple(sorted(r["id"] for r in status["replicaStatuses"]))))
            assert sorted(scene.pods()) == [f"{scene.name}-{slot}" for slot in range(3)]
            scene.kubectl("delete", "vrc", scene.name, "--wait=false")
            if not killed:
                break
        assert ends == {(1, (1, 2, 3))}, ends
        assert deaths >= 10, deaths
        scene.figures["deaths"] = deaths
    finally:
        box.stop("proxy")
        box.stop("operator")
        ground.operator()


def at_rest(scene):
    """Nothing happens for a minute: the operator asks nothing, and writes twice how far the replicas have come."""
    ground, box = scene.ground, scene.box
    try:
        box.stop("operator")
        ground.operator(config=between(scene))
        scene.begin()
        time.sleep(45)
        before = counts(scene)
        time.sleep(60)
        after = counts(scene)
        writes, reads = after["writes"] - before["writes"], after["reads"] - before["reads"]
        scene.figures["writes in a minute"], scene.figures["reads in a minute"] = writes, reads
        assert reads == 0, after["last"]
        assert writes <= 2, after["last"]
        made = [asked for asked in after["last"] if not asked.startswith("GET ")][-writes:] if writes else []
        assert all(asked.startswith("PUT ") and asked.endswith("/status?") for asked in made), after["last"]
    finally:
        box.stop("operator")
        box.stop("proxy")
        ground.operator()


ALL = [two_at_once, killed_between_writes, at_rest]
