"""What happens on the worst day."""

import subprocess
import time

from ..box import until


def everything_gone(scene):
    """Takes all pods and all their disks, at once, and lets nobody save anything before."""
    processes = [scene.process(pod) for pod in scene.pods()]
    scene.kubectl("delete", "pvc", "--all", "--wait=false")
    scene.kubectl("delete", "pod", "--all", "--wait=false", "--grace-period=1")
    for node, pid in processes:
        try:
            scene.box.on(node, "kill", "-KILL", pid)
        except subprocess.CalledProcessError:
            pass


def total_loss(scene):
    """All pods, NVMe and volumes are gone; a person acknowledges the plan; the cluster serves again."""
    scene.begin()
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(5)
    began, moment = time.monotonic(), time.time()
    everything_gone(scene)
    plan = until(180, "there is a plan", lambda: scene.status().get("recoveryPlan"), 0.3)
    scene.figures["total loss to plan"] = time.monotonic() - began
    scene.rest()
    assert plan["candidates"], plan
    acknowledged = time.monotonic()
    acknowledge(scene, plan)
    until(120, "a write is acknowledged", scene.put_one, 0.5)
    scene.figures["acknowledged to first served write"] = time.monotonic() - acknowledged
    scene.until_ready(120)
    covered(scene, moment)
    phase = until(30, "the VRRestore says so", lambda: scene.kubectl(
        "get", "vrr", "back", "-o", "jsonpath={.status.phase}") == "Succeeded")
    assert phase


def total_loss_automatic(scene):
    """The same, where somebody has said beforehand how much may be lost."""
    scene.begin(recovery={"onTotalLoss": "Automatic", "maxDataLossSeconds": 600, "confirmationSeconds": 5})
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(5)
    began, moment = time.monotonic(), time.time()
    everything_gone(scene)
    until(180, "generation 2 begins", lambda: scene.status()["lineage"]["generation"] == 2, 0.3)
    scene.rest()
    until(120, "a write is acknowledged", scene.put_one, 0.5)
    scene.figures["total loss to first served write"] = time.monotonic() - began
    scene.until_ready(120)
    covered(scene, moment)


def all_pods_deleted(scene):
    """All pods are deleted at once and their volumes stay: nothing is lost."""
    scene.begin()
    scene.load()
    time.sleep(3)
    before = set(scene.uids().values())
    scene.kubectl("delete", "pod", "--all", "--wait=false")
    until(180, "all pods are others", lambda: len(scene.pods()) == 3 and not before & set(scene.uids().values()))
    scene.until_ready(180)
    scene.goes_on()
    scene.nothing_lost()


def made_again(scene):
    """The resource and its volumes are deleted and it is made again: its lineage is found in the object store."""
    scene.begin()
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    scene.rest()
    lineage = scene.status()["lineage"]["id"]
    began = time.monotonic()
    scene.kubectl("delete", "vrc", scene.name, "--wait=false")
    until(200, "the resource is gone", lambda: not scene.box.objects("vrc", "-n", scene.space))
    scene.figures["deleted in"] = time.monotonic() - began
    scene.kubectl("delete", "pvc", "--all", "--wait=false")
    until(60, "its volumes are gone", lambda: not scene.box.objects("pvc", "-n", scene.space))
    (scene.folder / "ca.crt").unlink()
    scene.box.apply(scene.cluster())
    plan = until(120, "there is a plan", lambda: scene.status().get("recoveryPlan"), 0.3)
    acknowledge(scene, plan)
    until(120, "a write is acknowledged", scene.put_one, 0.5)
    scene.until_ready(120)
    assert scene.status()["lineage"]["id"] == lineage
    # It has ended in order: the last checkpoint has everything.
    scene.nothing_lost()


def acknowledge(scene, plan):
    scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRRestore",
                     "metadata": {"name": "back", "namespace": scene.space},
                     "spec": {"clusterRef": {"name": scene.name}, "planNonce": plan["nonce"]}})


def stored(scene):
    condition = scene.condition("Recoverable")
    return condition.get("status") == "True"


def covered(scene, moment):
    """The loss that is reported covers the real one, and no revision is given twice."""
    loss = until(30, "the loss is reported", lambda: scene.status().get("dataLoss"))
    lost = scene.lost()
    scene.figures["reported loss"] = f"{loss.get('seconds')} s"
    scene.figures["acknowledged and lost"] = len(lost)
    told = scene.journal()
    if lost:
        real = moment - min(line["at"] for line in lost)
        scene.figures["real loss"] = real
        assert real <= loss["seconds"] + 1, f"{real:.1f} s are lost, and {loss['seconds']} s are reported"
    assert len(lost) < len(told), "everything is lost"
    top = max(line["revision"] for line in told)
    scene.load()
    time.sleep(2)
    scene.rest()
    new = [line["revision"] for line in scene.journal()[len(told):]]
    assert min(new) > top, f"revision {min(new)} was given again, {top} was given before"
    scene.revisions_once()


ALL = [total_loss, total_loss_automatic, all_pods_deleted, made_again]
