"""What the definitions refuse, put to a real API server: every case of operator/api/tests/rules.rs."""

import json
import os
import subprocess

from ..scene import TREE


def rules(scene):
    """Each wrong object and each wrong change is refused, by the message of its rule; the examples are accepted."""
    ground, box = scene.ground, scene.box
    subprocess.run(["cargo", "test", "--quiet", "--locked", "-p", "vr-api", "--test", "rules"], check=True, cwd=TREE,
                   env={**os.environ, "VR_CASES": str(scene.folder)}, stdout=subprocess.DEVNULL)
    new, changes = (json.loads((scene.folder / f"{name}.json").read_text()) for name in ("new", "changes"))
    assert len(new) > 25 and len(changes) > 8, "these are not all"
    examples = []
    for case in new + changes:
        if case["before"] not in examples:
            examples.append(case["before"])
    # Nobody is to begin what is only tried.
    box.stop("operator")
    try:
        for number, example in enumerate(examples):
            scene.kubectl("create", "-f", "-", given=called(f"e{number}", example))
            scene.kubectl("replace", "--dry-run=server", "-f", "-", given=called(f"e{number}", example))
        for case in new:
            refused(scene, case, "create", called(case["object"]["metadata"]["name"], case["object"]))
        for case in changes:
            refused(scene, case, "replace", called(f"e{examples.index(case['before'])}", case["object"]))
        scene.figures["refused"], scene.figures["accepted"] = len(new) + len(changes), 2 * len(examples)
        for example in examples:
            scene.kubectl("delete", example["kind"].lower(), "--all")
    finally:
        ground.operator()


def called(name, example):
    """It under a name, without the namespace that examples are written for."""
    return json.dumps({**example, "metadata": {"name": name}})


def refused(scene, case, verb, given):
    try:
        scene.kubectl(verb, "--dry-run=server", "-f", "-", given=given)
    except ValueError as error:
        assert not case["rule"] or case["says"] in str(error), f"that is not `{case['says']}`: {error}"
        assert "invalid" in str(error).lower(), error
    else:
        raise AssertionError(f"this was accepted, and `{case['says']}` was expected: {given}")


ALL = [rules]
