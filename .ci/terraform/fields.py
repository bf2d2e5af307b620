"""Holds what an example hands over to the fields of what takes it.

    fields.py CRD.yaml VALUES.schema.json PLAN.json

Of a plan (`terraform show -json`), values known or not, the output `vr_cluster` must be made of fields of a VRCluster's spec
and `vr_operator` of values of the operator's chart.
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
    values = json.loads(pathlib.Path(sys.argv[2]).read_text())
    changes = json.loads(pathlib.Path(sys.argv[3]).read_text())["output_changes"]
    found = []
    for output, schema in (("vr_cluster", spec), ("vr_operator", values)):
        change = changes.get(output)
        if change is None:
            sys.exit(f"fields.py: there is no output {output}")
        found += strange(change["after"], change["after_unknown"], schema, output)
    sys.exit("\n".join(found) or 0)


main()
