"""What people get wrong: a condition says so, and what to do; mended, it works."""

import subprocess
import time

from ..box import GATE, until
from ..scene import BUCKET, IMAGE, KEYS, TREE, Scene


def says(scene, limit, words):
    """Waits until Ready is False with these words in its message."""
    def told():
        ready = scene.condition("Ready")
        return ready if ready.get("status") == "False" and all(w in ready.get("message", "") for w in words) else None
    return until(limit, f"{scene.space}: Ready says {words}, not {scene.condition('Ready')}", told, 0.5)


def store(**other):
    whole = {"bucket": BUCKET, "prefix": "mistakes", "region": "us-east-1", "endpoint": f"http://{GATE}:9000",
             "credentialsSecretRef": {"name": "s3-keys"}}
    whole.update(other)
    return {"nvme": {"type": "EmptyDir", "sizeLimit": "1Gi"}, "volume": {"size": "1Gi"}, "objectStore": whole}


def wrong_keys(scene):
    """The Secret has wrong keys: it is said; with the right ones in the same Secret the cluster begins."""
    scene.secret("wrong", {**KEYS, "AWS_SECRET_ACCESS_KEY": "of-somebody-else"})
    scene.box.apply(scene.cluster(storage=store(prefix="wrong-keys", credentialsSecretRef={"name": "wrong"})))
    scene.figures["said"] = says(scene, 60, ["403", "check the credentials"])["message"]
    scene.secret("wrong", KEYS)
    scene.until_ready(150)


def no_bucket(scene):
    """There is no such bucket: nothing begins, and it is said."""
    scene.box.apply(scene.cluster(storage=store(bucket="nobody-has-this")))
    scene.figures["said"] = says(scene, 60, ["nobody-has-this"])["message"]
    assert not scene.pods()


def no_image(scene):
    """The image of an update does not pull: the others stay, it is said, and taking it back mends it."""
    scene.begin(updateStrategy={"type": "BackupsFirst", "minReadySeconds": 1})
    scene.load()
    scene.patch({"spec": {"image": "vr.local/vr:nobody-has-this"}})
    scene.figures["said"] = says(scene, 120, ["image"])["message"]
    assert sum(pod["spec"]["containers"][0]["image"] == IMAGE for pod in scene.pods().values()) == 2
    scene.patch({"spec": {"image": IMAGE}})
    scene.until_ready(120)
    scene.nothing_lost()


def signed(scene, name, days, hosts):
    """A certificate for these names by the authority of the scene, made once: the Secret that people would bring. A name is
    a host, or has a kind before it."""
    folder = scene.folder

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)
    curve = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if not (folder / "ca.crt").exists():
        openssl("req", "-x509", "-newkey", *curve, "-days", 30, "-subj", "/CN=somebody", "-keyout", "ca.key", "-out",
                "ca.crt", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-newkey", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    names = ",".join(host if host.startswith(("DNS:", "IP:", "URI:")) else f"DNS:{host}" for host in hosts)
    (folder / f"{name}.ext").write_text(f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={names}\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", days,
            "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    return {"ca.crt": (folder / "ca.crt").read_text(), "tls.crt": (folder / f"{name}.crt").read_text(),
            "tls.key": (folder / f"{name}.key").read_text()}


def given_certificates(scene):
    """People bring the certificates: what is wrong with them is said, with right ones the cluster begins."""
    of_all = [f"*.{scene.name}-peers.{scene.space}.svc", f"{scene.name}.{scene.space}.svc"]
    good = signed(scene, "good", 30, of_all)
    scene.secret("ours", {**good, "tls.key": signed(scene, "other", 30, of_all)["tls.key"]})
    scene.box.apply(scene.cluster(tls={"secretRef": {"name": "ours"}}))
    says(scene, 60, ["tls.key is not the key of tls.crt"])
    for name, days, hosts, reason, words in [
            ("few", 30, of_all[1:], "Failed", f"tls.crt does not name {scene.name}-0."),
            ("soon", 3, of_all, "Expiring", "renew it")]:
        scene.secret("ours", signed(scene, name, days, hosts))
        until(120, f"it is said: {words}", lambda: words in scene.condition("CertificatesValid").get("message", ""), 0.3)
        found = scene.condition("CertificatesValid")
        assert (found["status"], found["reason"]) == ("False", reason), found
    scene.until_ready(150)
    scene.load()
    time.sleep(2)
    scene.secret("ours", good)
    found = scene.until_reason(120, "CertificatesValid", "Given")
    assert found["status"] == "True", found
    scene.nothing_lost()


def two_with_one_prefix(scene):
    """A second VRCluster names the prefix of the first: it is refused, the first notices nothing; elsewhere it begins."""
    scene.begin()
    scene.load()
    uids = scene.uids()
    second = Scene(scene.ground, "two-with-one-prefix-second")
    try:
        for prefix in (scene.space, f"/{scene.space}/"):
            second.box.apply(second.cluster(prefix=prefix))
            found = says(second, 60, [f"belongs to VRCluster {scene.space}/{scene.name}", "choose another prefix"])
            assert found["reason"] == "ObjectStoreUnusable", found
            assert not second.pods() and not second.status().get("lineage"), second.status()
            second.kubectl("delete", "vrc", second.name, "--timeout=60s", timeout=90)
        second.begin()
        assert second.status()["lineage"]["id"] != scene.status()["lineage"]["id"]
    except BaseException:
        second.bundle(TREE / "e2e-bundle" / second.space)
        raise
    finally:
        second.end()
    assert scene.uids() == uids, "somebody else's mistake restarts nothing"
    scene.nothing_lost()


def foreign_volume(scene):
    """A cluster is made again with another prefix, and its volumes are left: they are not touched until a person says so."""
    scene.begin()
    first = scene.status()["lineage"]["id"]

    def volumes():
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in scene.box.objects("pvc", "-n", scene.space)}
    left = volumes()
    assert len(left) == 3, left
    scene.kubectl("delete", "vrc", scene.name, "--wait=false")
    until(200, "the resource is gone", lambda: not scene.box.objects("vrc", "-n", scene.space))
    (scene.folder / "ca.crt").unlink()
    scene.box.apply(scene.cluster(prefix=f"{scene.space}-again"))
    found = says(scene, 60, [f"is of lineage {first}", f"kubectl delete pvc {min(left)}"])
    assert found["reason"] == "ForeignVolume", found
    assert not scene.pods() and not scene.status().get("lineage"), scene.status()
    assert volumes() == left, "a volume was taken or deleted that nobody has given away"
    scene.kubectl("delete", "pvc", *left)
    scene.until_ready(150)
    until(30, "a write is acknowledged", scene.put_one, 0.5)
    assert scene.status()["lineage"]["id"] != first
    assert not set(volumes().values()) & set(left.values())


ALL = [wrong_keys, no_bucket, no_image, given_certificates, two_with_one_prefix, foreign_volume]
