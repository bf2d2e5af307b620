"""Where certificates come from, and how that changes while clients write."""

import base64
import json
import time

from ..box import until

ASK = "vr-operator.io/rotate-authority"


def authority(scene):
    """What signs, and what is trusted."""
    data = json.loads(scene.kubectl("get", "secret", f"{scene.name}-ca", "-o", "json"))["data"]
    return [base64.b64decode(data[key]).decode() for key in ("tls.crt", "ca.crt")]


def authority_rotates(scene):
    """Another authority takes the place of the cluster's own under load: no write fails, no pod is another one."""
    scene.begin()
    scene.load()
    uids = scene.uids()
    first, _ = authority(scene)
    scene.kubectl("annotate", "vrc", scene.name, f"{ASK}=soon")
    found = scene.until_reason(60, "CertificatesValid", "RotationRefused")
    assert found["status"] == "False" and "give for example 10m or 24h" in found["message"], found

    scene.kubectl("annotate", "--overwrite", "vrc", scene.name, f"{ASK}=20s")
    began = time.monotonic()
    until(60, "both are trusted", lambda: authority(scene)[1].count("BEGIN CERTIFICATE") == 2)
    assert authority(scene)[0] == first
    # Clients get what is trusted, and connect anew again and again.
    (scene.folder / "ca.crt").write_text(authority(scene)[1])
    stages = []
    while True:
        scene.put_one()
        signs, trusted = authority(scene)
        stage = (signs == first, trusted.count("BEGIN CERTIFICATE"))
        if stage not in stages:
            stages.append(stage)
            scene.figures[f"stage {len(stages)} after"] = time.monotonic() - began
        if stage == (False, 1):
            break
        assert time.monotonic() - began < 600, f"it takes too long: {scene.condition('CertificatesValid')}"
        time.sleep(0.5)
    assert stages[-2:] == [(False, 2), (False, 1)], stages
    (scene.folder / "ca.crt").write_text(authority(scene)[1])
    found = scene.until_reason(60, "CertificatesValid", "Managed")
    assert found["status"] == "True" and first not in authority(scene)[1], found
    assert ASK not in scene.seen()["metadata"].get("annotations", {})
    # The replicas go on among themselves and with the operator by the new one alone.
    scene.put_one()
    assert scene.uids() == uids, "a rotation restarts nothing"
    failed = [line for line in scene.lines() if "failed" in line]
    assert not failed, failed[:3]
    scene.kubectl("delete", "pod", scene.primary(), "--wait=false")
    until(120, "another pod is there", lambda: scene.uids() != uids)
    scene.until_ready(120)
    scene.goes_on()
    scene.nothing_lost()


ALL = [authority_rotates]
