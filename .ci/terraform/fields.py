"""Holds what an example hands over to the fields of the resource that takes it.

    fields.py CRD.yaml PLAN.json

The output `vr_cluster` of a plan (`terraform show -json`) must be made of fields of a VRCluster's spec, values known or not.
"""
import json
import pathlib
import sys

import yaml


def strange(value, unknown, schema, path):
    """Every field that the schema does not have, or that is of another kind there."""
    if isinstance(value, dict) or isinstance(unknown, dict):
        if "properties" not in schema and "additionalProperties" not in schema:
            yield f"{path} has no fields there"
            return
        for name in {**(value or {}), **(unknown if isinstance(unknown, dict) else {})}:
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if not inner:
                yield f"{path}.{name} is no field there"
                continue
            below = unknown.get(name) if isinstance(unknown, dict) else None
            yield from strange((value or {}).get(name), below, inner, f"{path}.{name}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            below = unknown[i] if isinstance(unknown, list) and i < len(unknown) else None
            yield from strange(item, below, schema.get("items", {}), f"{path}[{i}]")
    elif value is not None and "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {value}, and one of {schema['enum']} there"


def main():
    crd = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    change = json.loads(pathlib.Path(sys.argv[2]).read_text())["output_changes"].get("vr_cluster")
    if change is None:
        sys.exit("fields.py: there is no output vr_cluster")
    found = list(strange(change["after"], change["after_unknown"], spec, "spec"))
    sys.exit("\n".join(found) or 0)


main()
