"""What happens on any day: a start, processes and pods that die, changes that people make."""

import json
import os
import time

from ..box import until
from ..scene import NEXT


def start(scene):
    """Applied, Ready, and written to; by a stock client in a pod, too."""
    scene.begin()
    assert scene.figures["apply to first acknowledged write"] < 60, scene.figures
    scene.load()
    time.sleep(3)
    scene.nothing_lost()
    if os.environ.get("VR_ETCDCTL"):
        etcdctl = ["etcdctl", "--endpoints", f"https://shop.{scene.space}.svc:2379", "--cacert", "/etc/vr-tls/ca.crt"]
        assert "OK" in scene.kubectl("exec", "shop-0", "--", *etcdctl, "put", "by/etcdctl", "x")
        told = scene.kubectl("exec", "shop-0", "--", *etcdctl, "get", "load/", "--prefix", "--count-only", "-w", "fields")
        assert f'"Count" : {len(scene.journal())}' in told, told


def primary_killed(scene):
    """The primary's process gets SIGKILL while clients write."""
    scene.begin()
    scene.load()
    leader = scene.primary()
    before, uids = scene.restarts(leader), scene.uids()
    scene.kill(leader)
    scene.figures["writes go on after"] = scene.goes_on()
    until(60, "its container was started again", lambda: scene.restarts(leader) > before)
    scene.until_ready()
    assert scene.uids() == uids, "a process that ended in its pod needs no other pod"
    scene.nothing_lost()


def pod_deleted(scene):
    """A pod is deleted by hand while clients write: the same replica in the same slot comes back."""
    scene.begin()
    scene.load()
    uid = scene.uids()["shop-1"]
    scene.kubectl("delete", "pod", "shop-1", "--wait=false")
    until(90, "another pod in the slot", lambda: scene.uids().get("shop-1", uid) != uid)
    scene.until_ready()
    scene.nothing_lost()
    assert sorted(r["id"] for r in scene.status()["replicaStatuses"]) == [1, 2, 3]


def update(scene):
    """A rolling update under load: every pod is another one, and nothing is lost."""
    scene.begin(updateStrategy={"type": "BackupsFirst", "minReadySeconds": 1})
    scene.load()
    before = scene.uids()
    began = time.monotonic()
    scene.patch({"spec": {"image": NEXT}})
    until(240, "every pod runs the new image", lambda: all(
        pod["spec"]["containers"][0]["image"] == NEXT for pod in scene.pods().values()) and len(scene.pods()) == 3, 0.5)
    scene.until_ready()
    scene.figures["three pods replaced in"] = time.monotonic() - began
    assert not set(before.values()) & set(scene.uids().values())
    scene.nothing_lost()


def scale(scene):
    """3 to 5 to 3 replicas under load, by changes that the replicas agree on."""
    for number in (4, 5):
        if scene.box.pid(f"n{number}") is None:
            scene.box.node(number)
    until(60, "five nodes are Ready", lambda: scene.box.ready() >= 5)
    scene.begin()
    scene.load()
    for count in (5, 3):
        began = time.monotonic()
        scene.kubectl("scale", "vrc", scene.name, f"--replicas={count}")
        scene.until_ready(240, count)
        scene.figures[f"to {count} replicas in"] = time.monotonic() - began
    until(60, "three pods are left", lambda: len(scene.pods()) == 3)
    scene.nothing_lost()


def hibernate(scene):
    """Put to rest and woken: every write is there."""
    scene.begin()
    scene.load()
    time.sleep(3)
    scene.rest()
    scene.patch({"spec": {"hibernation": "Hibernated"}})
    scene.until_reason(180, "Available", "Hibernated")
    until(60, "no pod is left", lambda: not scene.pods())
    began = time.monotonic()
    scene.patch({"spec": {"hibernation": "Running"}})
    scene.until_ready(120)
    scene.figures["awake in"] = time.monotonic() - began
    scene.nothing_lost()
    assert scene.status()["lineage"]["generation"] == 1


def operator_restarted(scene):
    """The operator is killed and started again: no pod notices."""
    scene.begin()
    scene.load()
    uids, box = scene.uids(), scene.box
    box.stop("operator")
    scene.ground.operator()
    generation = json.loads(scene.kubectl("get", "vrc", scene.name, "-o", "json"))["metadata"]["generation"]
    scene.patch({"spec": {"placement": {"handbackDelaySeconds": 299}}})
    until(60, "the new one looks after it", lambda: scene.status()["observedGeneration"] > generation)
    scene.until_ready()
    assert scene.uids() == uids
    scene.nothing_lost()


ALL = [start, primary_killed, pod_deleted, update, scale, hibernate, operator_restarted]
