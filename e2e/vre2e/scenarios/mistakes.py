"""What people get wrong: a condition says so, and what to do; mended, it works."""

from ..box import GATE, until
from ..scene import BUCKET, IMAGE, KEYS


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


ALL = [wrong_keys, no_bucket, no_image]
