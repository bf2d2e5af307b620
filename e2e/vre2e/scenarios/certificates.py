"""Where certificates come from, and how that changes while clients write."""

import base64
import json
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from ..box import until
from . import mistakes
from .installed import plugin

CERT_MANAGER = "github.com/cert-manager/cert-manager@v1.18.2"

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

    named = ("authority", "-n", scene.space, scene.name)
    told = plugin(scene, *named, "--rotate", "20s", "--yes")
    assert "both are trusted for 20s, then the new one signs" in told, told
    began = time.monotonic()
    until(60, "both are trusted", lambda: authority(scene)[1].count("BEGIN CERTIFICATE") == 2)
    assert authority(scene)[0] == first
    scene.until_reason(60, "CertificatesValid", "Rotating")
    told = plugin(scene, *named)
    assert "1 of 3: both are trusted" in told, told
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
    told = plugin(scene, *named)
    assert "no change goes on" in told and "nothing; kubectl vr authority" in told, told
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


def definition():
    """cert-manager's own definition of a Certificate, from its Go module, without what is helm's."""
    with tempfile.TemporaryDirectory() as empty:
        told = subprocess.run(["go", "mod", "download", "-json", CERT_MANAGER], cwd=empty, check=True, capture_output=True)
    text = (Path(json.loads(told.stdout)["Dir"]) / "deploy/crds/crd-certificates.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"'\{\{.*\}\}'", "e2e", "\n".join(kept))


class StandIn:
    """Signs what Certificates ask for, as cert-manager would with an issuer that has a CA; not as well."""

    def __init__(self, scene):
        self.scene, self.ended = scene, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        done = {}
        while not self.ended.wait(0.5):
            try:
                asked = self.scene.box.objects("certificates.cert-manager.io", "-n", self.scene.space)
            except (ValueError, subprocess.TimeoutExpired):
                continue
            for one in asked:
                spec, name = one["spec"], one["metadata"]["name"]
                if done.get(name) != spec:
                    self.scene.secret(spec["secretName"], self.signed(name, spec))
                    done[name] = spec

    def signed(self, name, spec):
        names = [f"DNS:{host}" for host in spec.get("dnsNames", [])]
        names += [f"IP:{address}" for address in spec.get("ipAddresses", [])]
        names += [f"URI:{uri}" for uri in spec.get("uris", [])]
        return mistakes.signed(self.scene, name, 30, names)

    def end(self):
        self.ended.set()
        self.thread.join()


def issued_certificates(scene):
    """cert-manager signs: without it that is said, and what it awaits; then the cluster begins, and grows."""
    scene.box.apply(scene.cluster(tls={"issuerRef": {"name": "company"}}))
    mistakes.says(scene, 60, ["needs cert-manager", "install it"])
    scene.box.kubectl("apply", "--server-side", "-f", "-", given=definition())
    scene.box.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/certificates.cert-manager.io")
    try:
        mistakes.says(scene, 90, [f"Certificate {scene.name}-operator-tls is to be signed by Issuer company"])
        assert not scene.pods()
        stand_in = StandIn(scene)
        try:
            scene.until_ready(180)
            found = scene.until_reason(60, "CertificatesValid", "Issued")
            assert found["status"] == "True", found
            made = scene.box.objects("certificates.cert-manager.io", "-n", scene.space)
            assert len(made) == 4, made
            # Each replica has a node of its own.
            for number in (4, 5):
                if scene.box.pid(f"n{number}") is None:
                    scene.box.node(number)
            until(60, "five nodes are Ready", lambda: scene.box.ready() >= 5)
            scene.load()
            scene.patch({"spec": {"replicas": 5}})
            scene.until_ready(240, replicas=5)
            scene.nothing_lost()
        finally:
            stand_in.end()
    finally:
        scene.kubectl("delete", "vrc", scene.name, "--timeout=120s", check=False, timeout=150)
        scene.box.kubectl("delete", "crd", "certificates.cert-manager.io", check=False)


ALL = [authority_rotates, issued_certificates]
