"""What happens on the worst day."""

import json
import shutil
import subprocess
import time
from datetime import datetime, timezone

from ..box import until
from ..scene import BUCKET, TREE, Scene, seconds
from . import drills


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


def total_loss_of_200_mb(scene):
    """All of 200 MB is gone: a write is served within a minute beyond confirmationSeconds, and status has the phases."""
    confirmation = 5
    scene.begin(memory={"limit": "1Gi", "stateLimit": "700Mi"},
                recovery={"onTotalLoss": "Automatic", "maxDataLossSeconds": 600, "confirmationSeconds": confirmation})
    drills.fill(scene, 200)
    # The whole of it is in a checkpoint, and not in the log above one.
    time.sleep(15)
    op = max(r.get("commit", 0) for r in scene.status()["replicaStatuses"])
    until(120, "the object store holds it", lambda: next(
        t["op"] for t in scene.status()["tiers"] if t["name"] == "objectStore") >= op, 0.5)
    scene.load()
    time.sleep(3)
    began, moment = time.monotonic(), time.time()
    everything_gone(scene)
    steps = {}
    while True:
        operation = scene.status().get("operation") or {}
        steps.setdefault(f"{operation.get('type')} {operation.get('step')}", time.monotonic() - began)
        if scene.status()["lineage"]["generation"] == 2:
            scene.rest()
            try:
                scene.put_one()
                break
            except OSError:
                pass
        assert time.monotonic() - began < 300, steps
        time.sleep(0.2)
    took = time.monotonic() - began
    scene.figures["total loss to first served write"] = took
    scene.figures["of these steps began after"] = ", ".join(f"{step} {after:.0f}" for step, after in steps.items())
    assert took <= 60 + confirmation, scene.figures
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


def restore(scene, name, **target):
    """Orders a roll-back."""
    scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRRestore",
                     "metadata": {"name": name, "namespace": scene.space},
                     "spec": {"clusterRef": {"name": scene.name}, "target": target, "acknowledgeDataLoss": scene.name}})


def told(scene, name):
    return json.loads(scene.kubectl("get", "vrr", name, "-o", "json")).get("status", {})


def ends(scene, name, phase, limit=150):
    """Waits until a VRRestore is over, as expected."""
    over = ("Succeeded", "Failed", "Refused")
    until(limit, f"VRRestore {name} is over", lambda: told(scene, name).get("phase") in over, 0.3)
    status = told(scene, name)
    assert status["phase"] == phase, json.dumps(status, indent=1)
    return status


def took(status):
    """When each phase began, in seconds from the first."""
    first = seconds(status["phases"][0]["beganAt"])
    return ", ".join(f"{p['name']} {seconds(p['beganAt']) - first:.0f}" for p in status["phases"])


def kept_until(scene, journal, revision):
    """Holds the cluster to a moment: of what was acknowledged, all up to a revision is there, and nothing later."""
    stored = until(30, "everything can be read", scene.stored)
    lost = [line for line in journal if line["revision"] <= revision and stored.get(line["key"]) != line["revision"]]
    more = [line for line in journal if line["revision"] > revision and line["key"] in stored]
    assert not lost and not more, f"{len(lost)} writes before the moment are lost, {len(more)} after it are there"


def roll_back(scene):
    """A running cluster goes back to a moment, a revision, a named checkpoint; wrong targets are refused."""
    scene.begin()
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(3)

    # What cannot be is said, and touches nothing.
    uids = scene.uids()
    for name, target, word in [
            ("too-early", {"beforeTime": "2020-01-01T00:00:00Z"}, "lies before the oldest checkpoint"),
            ("yet-to-come", {"beforeTime": "2999-01-01T00:00:00Z"}, "yet to come"),
            ("never-was", {"revision": 1_000_000_000}, "and not to 1000000000"),
            ("beyond", {"opNumber": 1_000_000_000}, "lies beyond what was shipped"),
            ("unknown", {"checkpointRef": {"name": "nobody"}}, "there is no VRCheckpoint nobody")]:
        restore(scene, name, **target)
        condition = ends(scene, name, "Refused")["conditions"][0]
        assert word in condition["message"] and "kubectl" in condition["message"], condition
    edit = scene.kubectl("patch", "vrr", "beyond", "--type=merge", "-p", '{"spec":{"target":{"opNumber":1}}}', check=False)
    assert json.loads(scene.kubectl("get", "vrr", "beyond", "-o", "json"))["spec"]["target"]["opNumber"] > 1, edit
    assert scene.uids() == uids and scene.status()["lineage"]["generation"] == 1
    scene.goes_on()

    # To a moment, under load.
    moment = time.time()
    time.sleep(6)
    restore(scene, "to-a-moment", beforeTime=datetime.fromtimestamp(moment, timezone.utc).isoformat())
    until(150, "generation 2 begins", lambda: scene.status()["lineage"]["generation"] == 2, 0.3)
    # Nobody writes while it is looked at.
    scene.rest()
    status = ends(scene, "to-a-moment", "Succeeded")
    scene.figures["to a moment, phases"] = took(status)
    scene.until_ready(120)
    journal = scene.journal()
    revision = status["located"]["revision"]
    kept_until(scene, journal, revision)
    late = [line for line in journal if line["revision"] <= revision and line["sent"] > moment]
    early = [line for line in journal if line["revision"] > revision and line["at"] < moment]
    assert not late and not early, (late[:1], early[:1])
    loss = scene.status()["dataLoss"]
    real = max(line["at"] for line in journal) - moment
    assert loss["keptOp"] == status["located"]["op"] and loss["seconds"] >= real, (loss, real)
    scene.figures["given up"] = f"{sum(line['revision'] > revision for line in journal)} writes of {real:.1f} s"

    # To a revision, and to a checkpoint with a name, of the generation that runs now.
    given = len(journal)
    scene.load()
    time.sleep(3)
    scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCheckpoint",
                     "metadata": {"name": "named", "namespace": scene.space}, "spec": {"clusterRef": {"name": scene.name}}})
    pinned = until(60, "it is pinned", lambda: json.loads(
        scene.kubectl("get", "vrcp", "named", "-o", "json"))["status"]["revision"], 0.3)
    time.sleep(3)
    scene.rest()
    journal = scene.journal()
    revision = journal[-20]["revision"]
    for generation, name, target, revision in [(3, "to-a-revision", {"revision": revision}, revision),
                                               (4, "to-a-checkpoint", {"checkpointRef": {"name": "named"}}, pinned)]:
        restore(scene, name, **target)
        scene.figures[f"{name.replace('-', ' ')}, phases"] = took(ends(scene, name, "Succeeded"))
        scene.until_ready(120)
        assert scene.status()["lineage"]["generation"] == generation
        kept_until(scene, journal[given:], revision)
    top = max(line["revision"] for line in journal)
    before = len(journal)
    scene.load()
    time.sleep(2)
    scene.rest()
    assert min(line["revision"] for line in scene.journal()[before:]) > top, "a revision was given again"
    scene.revisions_once()


def killed(scene, pods):
    """SIGKILL to the processes of some pods: nobody saves anything before."""
    for pod in pods:
        scene.kill(pod)


def without_store(scene):
    """Takes the object store away while clients write: what it holds is old then."""
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(3)
    scene.box.stop("s3")
    since = time.time()
    time.sleep(8)
    return since


def recovered(scene, source, since, limit):
    """Acknowledges the plan, which is to name such a source first; how little of what was written since then is lost."""
    plan = until(180, "there is a plan", lambda: scene.status().get("recoveryPlan"), 0.3)
    best = plan["candidates"][0]
    assert best["source"].startswith(source), json.dumps(plan, indent=1)
    old = next(c for c in plan["candidates"] if c["source"].startswith("object store"))
    assert old["op"] < best["op"], json.dumps(plan, indent=1)
    scene.rest()
    acknowledge(scene, plan)
    scene.figures["phases"] = took(ends(scene, "back", "Succeeded"))
    until(60, "a write is acknowledged", scene.put_one, 0.5)
    scene.until_ready(120)
    assert scene.status()["dataLoss"]["keptOp"] >= best["op"], (scene.status()["dataLoss"], best)
    late = [line for line in scene.journal() if line["sent"] > since]
    lost = scene.lost()
    scene.figures["written while the object store was away"] = len(late)
    scene.figures["of these lost"] = len(lost)
    assert len(late) > 100 and len(lost) <= limit * len(late), f"{len(lost)} of {len(late)} are lost"
    scene.revisions_once()


def survivors_memory(scene):
    """Two of three lose memory and disks; what the third has in memory is newer than what the object store holds."""
    scene.begin()
    scene.load()
    since = without_store(scene)
    leader = scene.primary()
    survivor = next(pod for pod in sorted(scene.pods()) if pod != leader)
    others = [pod for pod in scene.pods() if pod != survivor]
    for pod in others:
        scene.kubectl("delete", "pvc", pod, "--wait=false")
    killed(scene, others)
    for pod in others:
        scene.kubectl("delete", "pod", pod, "--wait=false", "--grace-period=1")
    scene.ground.store()
    recovered(scene, f"memory of replica {int(survivor.rsplit('-', 1)[1]) + 1}", since, 0.05)


def volumes_left(scene):
    """All pods with their memory and NVMe are gone, their volumes stay and lead further than the object store."""
    scene.begin()
    scene.load()
    since = without_store(scene)
    killed(scene, scene.pods())
    scene.kubectl("delete", "pod", "--all", "--wait=false", "--grace-period=1")
    scene.ground.store()
    recovered(scene, "volume of replica", since, 0.5)


def another_region(scene):
    """The bucket was copied to another region: a cluster in another namespace begins from the copy alone."""
    scene.begin()
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(3)
    scene.rest()
    told = scene.journal()
    # What was acknowledged is shipped within seconds; then the copy is made, of the bucket and of nothing else.
    op = max(r.get("commit", 0) for r in scene.status()["replicaStatuses"])
    until(60, "the object store holds it", lambda: next(
        t["op"] for t in scene.status()["tiers"] if t["name"] == "objectStore") >= op, 0.5)
    scene.box.stop("s3")
    kept = scene.box.run / "s3"
    shutil.copytree(kept / BUCKET, kept / "another-region")
    scene.ground.store()
    there = Scene(scene.ground, "another-region-there")
    try:
        spec = there.cluster(prefix=scene.space)["spec"]["storage"]
        spec["objectStore"]["bucket"] = "another-region"
        there.box.apply(there.cluster(storage=spec))
        plan = until(120, "there is a plan", lambda: there.status().get("recoveryPlan"), 0.3)
        began = time.monotonic()
        acknowledge(there, plan)
        until(120, "a write is acknowledged", there.put_one, 0.5)
        scene.figures["acknowledged to first served write"] = time.monotonic() - began
        there.until_ready(120)
        known = there.stored()
        lost = [line for line in told if known.get(line["key"]) != line["revision"]]
        assert not lost, f"{len(lost)} of {len(told)} acknowledged writes are not in the copy"
        here, copy = scene.status()["lineage"], there.status()["lineage"]
        assert (copy["id"], copy["generation"], here["generation"]) == (here["id"], 2, 1), (here, copy)
    finally:
        there.end()
    # Where it came from nobody has noticed anything.
    scene.load()
    time.sleep(2)
    scene.nothing_lost()


def begins_with_a_copy(scene):
    """A new cluster begins with what another one's prefix holds at a moment; what cannot be is said before anything begins."""
    # So many are kept that the moment is not left behind by what comes first.
    scene.begin(checkpoint={"nvmeIntervalSeconds": 5, "volumeIntervalSeconds": 5, "objectStoreIntervalSeconds": 10,
                            "keepLast": 100})
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: stored(scene))
    time.sleep(3)
    moment = time.time()
    time.sleep(6)
    scene.rest()
    op = max(r.get("commit", 0) for r in scene.status()["replicaStatuses"])
    until(60, "the object store holds it", lambda: next(
        t["op"] for t in scene.status()["tiers"] if t["name"] == "objectStore") >= op, 0.5)
    journal, uids = scene.journal(), scene.uids()
    there = Scene(scene.ground, "begins-with-a-copy-there")
    try:
        def asks(**lineage):
            there.box.apply(there.cluster(bootstrap={"restore": {"lineage": {"bucket": BUCKET, **lineage}}}))

        def begun_anew():
            there.kubectl("delete", "vrc", there.name, "--timeout=60s", timeout=90)
            until(60, "nothing of it is left", lambda: not there.box.objects("pods", "-n", there.space))

        # What cannot be meant, and what is not there.
        asks(prefix=scene.space, beforeTime="2999-01-01T00:00:00Z")
        found = there.until_reason(60, "Ready", "BootstrapRefused")
        assert "yet to come" in found["message"], found
        assert not there.status().get("lineage"), there.status()
        begun_anew()
        asks(prefix="nobody-has-this")
        found = there.until_reason(90, "Ready", "BootstrapRefused")
        assert "no lineage stands in" in found["message"] and "kubectl delete pod" in found["message"], found
        begun_anew()

        began = time.monotonic()
        asks(prefix=scene.space, beforeTime=datetime.fromtimestamp(moment, timezone.utc).isoformat())
        there.until_ready(180)
        scene.figures["apply to Ready, with a copy"] = time.monotonic() - began
        stored_there = until(30, "everything can be read", there.stored)
        early = [line for line in journal if line["at"] < moment and stored_there.get(line["key"]) != line["revision"]]
        late = [line for line in journal if line["sent"] > moment and line["key"] in stored_there]
        assert stored_there and not early and not late, (early[:1], late[:1])
        here, copy = scene.status()["lineage"], there.status()["lineage"]
        assert copy["id"] != here["id"] and copy["generation"] == here["generation"] + 1, (here, copy)
        assert not there.status().get("dataLoss"), there.status()
        # No revision of the first is given again, not even one that was given after the moment.
        assert there.put_one() > max(line["revision"] for line in journal)
    except BaseException:
        there.bundle(TREE / "e2e-bundle" / there.space)
        raise
    finally:
        there.end()
    assert scene.uids() == uids
    scene.load()
    time.sleep(2)
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


ALL = [total_loss, total_loss_automatic, total_loss_of_200_mb, all_pods_deleted, made_again, roll_back, survivors_memory,
       volumes_left, another_region, begins_with_a_copy]
