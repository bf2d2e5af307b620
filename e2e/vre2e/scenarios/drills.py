"""Rehearsals: a copy of what the object store holds, beside the cluster, by hand and by schedule."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ..box import GATE, until
from ..scene import BUCKET, KEYS, TREE, seconds


def drill(scene, name, **more):
    scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRDrill",
                     "metadata": {"name": name, "namespace": scene.space},
                     "spec": {"clusterRef": {"name": scene.name}, "memoryLimit": "512Mi", **more}})


def told(scene, name):
    return json.loads(scene.kubectl("get", "vrd", name, "-o", "json")).get("status", {})


def ended(scene, name, limit=150):
    until(limit, f"drill {name} has ended", lambda: told(scene, name).get("phase") == "Finished", every=0.5)
    return told(scene, name)


def left(scene):
    """What drills have left behind, beside themselves and their records."""
    kinds = "pods,networkpolicies,persistentvolumeclaims,configmaps,secrets,services"
    found = json.loads(scene.kubectl("get", kinds, "-l", "app.kubernetes.io/name=vr-drill", "-o", "json"))
    return [f"{one['kind']}/{one['metadata']['name']}" for one in found["items"]]


def vr(scene, *arguments):
    """The tool, on the cluster's place in the bucket, from inside the network of the box."""
    place = [f"s3://{BUCKET}/{scene.space}", "--s3-endpoint", f"http://{GATE}:9000"]
    environment = [f"{key}={value}" for key, value in KEYS.items()]
    command = scene.box.inside("env", *environment, scene.ground.built / "vr", *arguments, *place)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def named_checkpoints(scene):
    """A named checkpoint holds what was acknowledged before it, is kept while it exists, and no longer."""
    def point(name, **more):
        scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCheckpoint",
                         "metadata": {"name": name, "namespace": scene.space},
                         "spec": {"clusterRef": {"name": scene.name}, **more}})

    def status(name):
        return json.loads(scene.kubectl("get", "vrcp", name, "-o", "json")).get("status", {})

    def reason(name):
        return next((c["reason"] for c in status(name).get("conditions", []) if c["type"] == "Ready"), "")

    def pins():
        done = vr(scene, "checkpoint", "pins", "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # So rarely that only what is asked for is there.
    scene.begin(checkpoint={"objectStoreIntervalSeconds": 3600, "nvmeIntervalSeconds": 5, "volumeIntervalSeconds": 5})
    scene.load()
    time.sleep(3)
    began = time.monotonic()
    point("before-migration")
    until(60, "it is pinned", lambda: reason("before-migration") == "Pinned", every=0.3)
    scene.figures["named checkpoint under load"] = time.monotonic() - began
    found = status("before-migration")
    assert found["op"] >= found["askedOp"] > 0 and found["revision"] > 0 and found["root"], found
    assert [pin["op"] for pin in pins()] == [found["op"]], (pins(), found)
    point("older", opNumber=found["op"] + 5)
    until(30, "the newest at or below is pinned", lambda: reason("older") == "Pinned", every=0.3)
    assert status("older")["op"] == found["op"], (status("older"), found)
    point("too-old", opNumber=1)
    until(30, "what is not there is said", lambda: reason("too-old") == "Failed", every=0.3)
    scene.kubectl("delete", "vrcp", "before-migration", "older", "too-old", "--timeout=30s")
    assert pins() == [], pins()
    scene.nothing_lost()


def drills(scene):
    """A copy passes under load and leaves nothing; stale keys and a damaged bucket turn it red; a schedule makes one."""
    scene.begin(objectives={"rpoSeconds": 60, "rtoSeconds": 110, "drillMaxAgeHours": 24})
    assert scene.condition("DrillPassing")["reason"] == "Overdue", scene.condition("DrillPassing")
    scene.load()
    uids = scene.uids()
    drill(scene, "by-hand")
    status = ended(scene, "by-hand")
    assert status["result"] == "Passed", json.dumps(status, indent=1)
    checks = {check["name"]: check["passed"] for check in status["checks"]}
    wanted = {"restore", "canary", "rootIsManifests", "recoveryPoint", "recoveryTime", "newestIsWhole",
              "sourceIsTheCluster", "selfTestStaleCanary", "selfTestFlippedBit", "selfTestMissingPack"}
    assert wanted <= set(checks) and all(checks.values()), checks
    assert status["foundRoot"] == status["expectedRoot"] and status["candidates"], status
    scene.figures["drill: first served write of the copy"] = status["rtoMilliseconds"] / 1000
    scene.figures["drill: operations that would have been lost"] = status["rpoOperations"]
    assert left(scene) == [], left(scene)
    assert scene.uids() == uids, "the replicas were touched"
    until(30, "the cluster knows", lambda: scene.condition("DrillPassing").get("reason") == "Passed")
    until(60, "it counts as verified", lambda: scene.condition("Recoverable").get("reason") == "Verified")

    # Whoever may not read turns it red for that reason, and nothing is said of the data.
    scene.secret("no-keys", {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"})
    drill(scene, "no-keys", reader={"credentialsSecretRef": {"name": "no-keys"}})
    status = ended(scene, "no-keys")
    assert status["result"] == "Errored" and "check the credentials" in status["reason"], status

    # A missing Secret: the pod cannot begin, and the drill says why at its deadline.
    drill(scene, "no-secret", reader={"credentialsSecretRef": {"name": "not-there"}}, deadlineSeconds=60)
    status = ended(scene, "no-secret")
    assert status["result"] == "Errored" and "not-there" in status["reason"], status

    # By schedule, each minute.
    scene.box.apply({"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRDrillSchedule",
                     "metadata": {"name": "often", "namespace": scene.space},
                     "spec": {"schedule": "* * * * *", "timeZone": "Europe/Berlin", "passedHistory": 1,
                              "drill": {"clusterRef": {"name": scene.name}, "memoryLimit": "512Mi"}}})

    def made():
        found = json.loads(scene.kubectl("get", "vrd", "-l", "vr-operator.io/schedule=often", "-o", "json"))["items"]
        return [one for one in found if one.get("status", {}).get("result") == "Passed"]

    until(180, "a drill of the schedule has passed", made, every=1)
    scene.kubectl("patch", "vrds", "often", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    running = lambda: [one for one in json.loads(scene.kubectl("get", "vrd", "-o", "json"))["items"]  # noqa: E731
                       if one.get("status", {}).get("phase") != "Finished"]
    until(150, "no drill runs", lambda: not running(), every=1)
    scene.kubectl("patch", "vrds", "often", "--type=merge", "-p", '{"spec":{"timeZone":"Europe/Berlim"}}')
    until(20, "the schedule says what is wrong", lambda: "Berlim" in scene.kubectl(
        "get", "vrds", "often", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].message}"))

    # Every pack in the bucket damaged while the cluster goes on: the drill notices, the cluster says so.
    scene.rest()
    time.sleep(12)
    # The server keeps an object as its bytes, with what it is at the end.
    kept = [(path, bytearray(path.read_bytes())) for path in (scene.box.run / "s3" / BUCKET / "objects").iterdir()]
    about = lambda whole: whole[whole.rfind(b'{"key"'):]  # noqa: E731
    packs = [(path, whole) for path, whole in kept
             if f'"{scene.space}/'.encode() in about(whole) and b"/data/" in about(whole)]
    assert packs, "there is nothing to damage"
    for path, whole in packs:
        whole[len(whole) // 4] ^= 1
        path.write_bytes(whole)
    drill(scene, "damaged")
    status = ended(scene, "damaged")
    red = {check["name"] for check in status["checks"] if not check["passed"]}
    assert status["result"] == "Failed" and red == {"fetch", "restore"}, status
    until(30, "the cluster knows", lambda: scene.condition("DrillPassing").get("reason") == "Failed")
    assert left(scene) == [], left(scene)

    # What is kept of it all, for whoever has the bucket and the public key.
    public = scene.folder / "public.pem"
    secret = json.loads(scene.kubectl("get", "secret", f"{scene.name}-evidence", "-o", "json"))
    public.write_bytes(base64.b64decode(secret["data"]["public.pem"]))
    done = vr(scene, "drill", "evidence", "verify", "--public-key", public)
    assert done.returncode == 0 and "none missing" in done.stdout, done.stdout + done.stderr
    scene.figures["records of drills"] = done.stdout.strip()
    shown = vr(scene, "drill", "evidence", "show")
    assert "damaged" in shown.stdout and "Failed" in shown.stdout, shown.stdout + shown.stderr


def fill(scene, megabytes):
    """Writes so much that does not compress, in values that fit a frame of HTTP/2."""
    script = ("import base64, os, sys; from vre2e.load import Client\n"
              "client = Client(*sys.argv[1:4])\n"
              "for n in range(int(sys.argv[4]) * 100):\n"
              "    client.put(f'fill/{n:08}', base64.b64encode(os.urandom(7500)).decode())")
    command = scene.among_clients(sys.executable, "-c", script, *scene.reach(), str(megabytes))
    subprocess.run(command, check=True, cwd=TREE / "e2e", timeout=600)


def took(status):
    return seconds(status["finishedAt"]) - seconds(status["startedAt"])


def drill_of_200_mb(scene):
    """A drill of 200 MB is over within two minutes."""
    scene.begin(memory={"limit": "1Gi", "stateLimit": "700Mi"})
    fill(scene, 200)
    drill(scene, "large", memoryLimit="1Gi")
    status = ended(scene, "large", limit=300)
    assert status["result"] == "Passed", json.dumps(status, indent=1)
    scene.figures["drill of 200 MB"] = took(status)
    scene.figures["its phases, in ms"] = " ".join(f"{p['name']} {p['milliseconds']}" for p in status["phases"])
    assert took(status) <= 120, status


def twenty_drills(scene):
    """Twenty drills, one after the other, all pass and leave nothing but themselves and their records."""
    scene.begin()
    scene.load()
    for number in range(20):
        drill(scene, f"row-{number}")
    ends = [ended(scene, f"row-{number}", limit=600) for number in range(20)]
    results = [status["result"] for status in ends]
    assert results == ["Passed"] * 20, results
    assert left(scene) == [], left(scene)
    scene.nothing_lost()
    done = vr(scene, "drill", "evidence", "ls", "-o", "json")
    assert len(json.loads(done.stdout)) == 20, done.stdout + done.stderr
    scene.figures["twenty drills, the longest"] = max(took(status) for status in ends)


def cpu(scene):
    """CPU seconds that the replicas and the operator have used. The pod of a drill is neither."""
    stats = [Path(f"/proc/{scene.box.pid('operator')}/stat").read_text()]
    for pod in scene.pods():
        node, pid = scene.process(pod)
        stats.append(scene.box.on(node, "cat", f"/proc/{pid}/stat"))
    # The name of a program may have spaces; behind it are 11 fields before the two that count.
    ticks = sum(int(ticks) for stat in stats for ticks in stat.rpartition(")")[2].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def cost_of_drills(scene):
    """Ten drills a day cost the replicas of a cluster at rest, and the operator, less than a hundredth of a core."""
    scene.begin()
    time.sleep(30)
    before, began = cpu(scene), time.monotonic()
    time.sleep(60)
    rest = (cpu(scene) - before) / (time.monotonic() - began)
    before, began, count = cpu(scene), time.monotonic(), 4
    for number in range(count):
        drill(scene, f"cost-{number}")
        status = ended(scene, f"cost-{number}")
        assert status["result"] == "Passed", json.dumps(status, indent=1)
    # What a drill leaves to be done afterwards is its cost as well.
    time.sleep(20)
    lasted = time.monotonic() - began
    one = (cpu(scene) - before - rest * lasted) / count
    scene.figures["at rest, % of a core"] = f"{100 * rest:.2f}"
    scene.figures["a drill, CPU seconds of replicas and operator"] = f"{one:.2f}"
    scene.figures["ten drills a day, % of a core"] = f"{100 * 10 * one / 86400:.4f}"
    assert 10 * one / 86400 < 0.01, f"a drill costs {one:.2f} s"
    assert one > 0, "a drill that costs nothing was not measured"


def keys_left(scene):
    """Keys of probes that are still in the cluster."""
    script = "import sys; from vre2e.load import Client; print(len(Client(*sys.argv[1:4]).keys('vr-operator.io/drill/')))"
    done = subprocess.run(scene.among_clients(sys.executable, "-c", script, *scene.reach()), cwd=TREE / "e2e",
                          capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise OSError(done.stderr.strip()[-300:])
    return int(done.stdout)


def live(scene, name, scenario, **more):
    """One drill that harms the cluster, and passes; its status."""
    drill(scene, name, scenario=scenario, allowLiveImpact=True, deadlineSeconds=300, **more)
    status = ended(scene, name, limit=330)
    assert status["result"] == "Passed", json.dumps(status, indent=1)
    checks = {check["name"]: check["passed"] for check in status["checks"]}
    wanted = {"acknowledgedWritesPresent", "nothingInvented", "noRevisionTwice", "leavesNothing", "wholeAgain"}
    assert wanted <= set(checks) and all(checks.values()), checks
    assert status["acknowledgedWrites"] > 0 and status["evidence"]["digest"], status
    assert left(scene) == [] and until(20, "the cluster reads", lambda: keys_left(scene) == 0)
    scene.figures[f"{scenario}: longest time without a write, ms"] = status["rtoMilliseconds"]
    scene.figures[f"{scenario}: whole again after, s"] = seconds(status["impact"]["wholeAt"]) - seconds(
        status["impact"]["at"])
    return status


def lose_primary(scene):
    """A drill ends the primary like a crash; it is refused without the word, and without tolerance it harms nobody."""
    scene.begin()
    scene.load()
    try:
        drill(scene, "no-word", scenario="LosePrimary")
    except ValueError as error:
        assert "allowLiveImpact" in str(error), error
    else:
        raise AssertionError("a drill that harms was accepted without allowLiveImpact")
    before, leads = scene.uids(), scene.primary()
    restarts = scene.restarts(leads)
    status = live(scene, "primary", "LosePrimary")
    assert [target["podName"] for target in status["impact"]["replicas"]] == [leads], status["impact"]
    assert scene.uids() == before and scene.restarts(leads) == restarts + 1, "it was not the primary, or not once"
    assert status["rpoOperations"] == 0, status
    page = scene.ground.page("metrics")
    assert f'vr_drill_passed{{namespace="{scene.space}",name="{scene.name}",scenario="LosePrimary"}} 1' in page, page
    assert f'vr_primary_moves_total{{namespace="{scene.space}",name="{scene.name}",reason="Failover"}} 0' not in page

    # With a replica missing, the next loss would be an outage: nothing is harmed.
    node = scene.node_of(next(name for name in scene.pods() if name != scene.primary()))
    scene.box.cable(node, False)
    try:
        until(60, "the cluster tolerates nothing", lambda: scene.status().get("faultTolerance") == 0)
        drill(scene, "not-now", scenario="LosePrimary", allowLiveImpact=True, deadlineSeconds=60)
        status = ended(scene, "not-now", limit=120)
        assert status["result"] == "Errored" and "impact" not in status, status
        assert scene.name in status["reason"], status
    finally:
        scene.box.cable(node, True)
    scene.until_ready()
    scene.nothing_lost()
    shown = vr(scene, "drill", "evidence", "ls")
    assert "LosePrimary" in shown.stdout, shown.stdout + shown.stderr


def lose_replica_and_zone(scene):
    """Drills take a replica with its pod, and all of a zone: clients go on, and nothing is lost."""
    scene.begin()
    scene.load()
    leads, before = scene.primary(), scene.uids()
    status = live(scene, "replica", "LoseReplica")
    (target,) = status["impact"]["replicas"]
    assert target["podName"] != leads and scene.uids()[target["podName"]] != before[target["podName"]]
    leads, before = scene.primary(), scene.uids()
    status = live(scene, "zone", "LoseZone")
    zone = status["impact"]["zone"]
    assert [target["podName"] for target in status["impact"]["replicas"]] == [leads], (zone, status["impact"])
    assert scene.uids()[leads] != before[leads]
    scene.nothing_lost()


def lose_all_memory(scene):
    """A drill takes everybody's memory: the operator recovers by itself, and what is lost is counted and bounded."""
    scene.begin(recovery={"onTotalLoss": "Automatic", "maxDataLossSeconds": 600, "confirmationSeconds": 5},
                objectives={"rpoSeconds": 60})
    scene.load()
    until(60, "a checkpoint is in the object store", lambda: scene.condition("Recoverable").get("status") == "True")
    time.sleep(5)
    moment = time.time()
    status = live(scene, "everybody", "LoseAllMemory", allowDataLoss=True)
    scene.rest()
    assert scene.status()["lineage"]["generation"] == 2, scene.status()["lineage"]
    lost = [line for line in scene.lost() if line["at"] < moment + 60]
    scene.figures["lost of the probe's writes"] = f"{status['rpoOperations']} of {status['acknowledgedWrites']}"
    scene.figures["lost of the writers'"] = f"{len(lost)} of {len(scene.journal())}"
    scene.revisions_once()


ALL = (named_checkpoints, drills, drill_of_200_mb, twenty_drills, cost_of_drills, lose_primary, lose_replica_and_zone, lose_all_memory)
