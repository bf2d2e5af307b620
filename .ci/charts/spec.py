"""Makes the schema of vr-cluster's values of the definition of a VRCluster, and holds the chart to the definition's rules.

    spec.py check|write CRD CHART METRICS

METRICS is the page of all metrics; alerts and the dashboard may name no others.
"""
import json
import pathlib
import re
import sys

import yaml


def values(schema):
    """As a JSON Schema without what only an API server reads; what is not named is refused."""
    if isinstance(schema, list):
        return [values(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: values(value) for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if "properties" in schema and schema.get("type") == "object":
        out["additionalProperties"] = False
    out.pop("default", None) if not isinstance(out.get("default"), dict) else None
    return out


def messages(schema):
    """The words of all rules that look at an object alone, not at what it was before."""
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", []):
            if "oldSelf" not in rule["rule"]:
                yield rule["message"]
        for value in schema.values():
            yield from messages(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from messages(value)


mode, crd, chart, metrics = sys.argv[1:]
chart = pathlib.Path(chart)
whole = yaml.safe_load(pathlib.Path(crd).read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
schema = json.loads((chart / "values.schema.head.json").read_text())
schema["properties"]["spec"] = values(whole["properties"]["spec"])
text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
path = chart / "values.schema.json"
if mode == "write":
    path.write_text(text)
elif path.read_text() != text:
    sys.exit(f"{path} is not that of {crd}: bash .ci/charts.sh write")

refusals = (chart / "templates/_refuse.tpl").read_text()
missing = [message for message in messages(whole) if f'"{message}"' not in refusals]
if missing:
    sys.exit("\n".join([f"{chart}/templates/_refuse.tpl lacks rules of {crd}:", *missing]))

known = set(re.findall(r"^\| `(vr_\w+)`", pathlib.Path(metrics).read_text(), re.M))
alerts = yaml.safe_load((chart / "files/alerts.yaml").read_text())
rows = yaml.safe_load((chart / "files/dashboard.yaml").read_text())
named = [("alerts", alert["alert"], alert["expr"]) for alert in alerts]
named += [("dashboard", panel["title"], panel["expr"]) for row in rows for panel in row["panels"]]
for file, what, expression in named:
    for metric in re.findall(r"\bvr_\w+", expression):
        if metric not in known:
            sys.exit(f"{chart}/files/{file}.yaml: {what}: nobody has a metric {metric}")
