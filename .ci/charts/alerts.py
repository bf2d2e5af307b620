"""Writes what `promtool test rules` reads: the healthy run, and that run with one thing wrong for each alert.

    alerts.py RENDERED TESTS RUNBOOKS FOLDER

RENDERED is what helm makes of charts/vr-cluster; its rules go to FOLDER/rules.yaml, the tests to FOLDER/tests.yaml. An
alert without a case here or without its section in RUNBOOKS is an error, and so is a case or a section without an alert.
Every expression of the dashboard goes to FOLDER/panels.yaml as a rule, so that promtool reads it, too.
"""
import copy
import json
import pathlib
import re
import sys

import yaml

# What is wrong, by alert: the series (by its beginning) and what it is from the twentieth minute on, and how many minutes
# later the alert must fire. None: the series ends.
WRONG = {
    "VRClusterUnavailable": ([('vr_cluster_condition{namespace="shop",name="prod",condition="Available"', "0")], 1),
    "VRClusterStatusUnknown": ([('vr_cluster_condition{namespace="shop",name="prod",condition="Available"', "-1")], 5),
    "VRClusterAtMinimumQuorum": ([("vr_cluster_fault_tolerance", "0")], 15),
    "VRZoneSpreadLost": (
        [('vr_cluster_condition{namespace="shop",name="prod",condition="TopologySatisfied"', "0")], 15
    ),
    "VROperationStuck": ([("vr_cluster_operation_deadline_timestamp_seconds", "1200")], 6),
    "VRLineageSuperseded": (
        [('vr_cluster_condition{namespace="shop",name="prod",condition="ObjectStoreOwned"', "0")], 1
    ),
    "VRRecoveryPointAbsent": ([('vr_cluster_condition{namespace="shop",name="prod",condition="Recoverable"', "0")], 10),
    "VRRecoveryPointTooOld": ([('vr_checkpoint_lag_seconds{namespace="shop",pod="prod-0"', "9000")], 5),
    "VRCheckpointUploadFailing": ([('vr_checkpoint_failing{namespace="shop",pod="prod-0"', "1")], 5),
    "VRCheckpointDamaged": ([("vr_checkpoint_damaged_objects", "1")], 1),
    "VRPrimaryFlapping": (
        [('vr_primary{namespace="shop",pod="prod-0"', "1 0"), ('vr_primary{namespace="shop",pod="prod-1"', "0 1")], 14
    ),
    "VRCertificateExpiring": ([("vr_tls_certificate_expiry_timestamp_seconds", "10000")], 60),
    "VRCertificateNotLoaded": ([("vr_tls_reload_failing", "1")], 5),
    "VROperatorDown": ([('vr_operator_leader{pod="vr-operator-a"', None)], 10),
    "VRLiveDrillFailing": ([('vr_drill_passed{namespace="shop",name="prod",scenario="LosePrimary"', "0")], 1),
    "VRDrillFailing": ([('vr_cluster_condition{namespace="shop",name="prod",condition="DrillPassing"', "0")], 1),
}
BEGINS, LASTS = 20, 120


def firing(*alerts):
    return [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]


def main():
    rendered, tests, runbooks, folder = sys.argv[1:]
    documents = [document for document in yaml.safe_load_all(pathlib.Path(rendered).read_text()) if document]
    rules = next(document["spec"] for document in documents if document["kind"] == "PrometheusRule")
    named = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    if sorted(named) != sorted(WRONG):
        sys.exit(f"alerts.py: without a case, or without an alert: {sorted(set(named) ^ set(WRONG))}")
    sections = re.findall(r"^## (VR\w+)$", pathlib.Path(runbooks).read_text(), re.M)
    if sorted(named) != sorted(sections):
        sys.exit(f"alerts.py: without a section of {runbooks}, or without an alert: {sorted(set(named) ^ set(sections))}")
    for group in rules["groups"]:
        for rule in group["rules"]:
            link = rule["annotations"].get("runbook_url", "")
            if not link.endswith(f"#{rule['alert'].lower()}"):
                sys.exit(f"alerts.py: {rule['alert']} links to {link!r}")
    whole = yaml.safe_load(pathlib.Path(tests).read_text())
    healthy = whole["tests"][0]["input_series"]
    for alert, (wrong, minutes) in WRONG.items():
        series = copy.deepcopy(healthy)
        for begin, value in wrong:
            found = [one for one in series if one["series"].startswith(begin)]
            if len(found) != 1:
                sys.exit(f"alerts.py: {alert}: {begin} is {len(found)} series of the healthy run")
            first = found[0]["values"].split()[0].split("x")[0].split("+")[0]
            if value is None:
                found[0]["values"] = f"{first}x{BEGINS - 1}"
            else:
                later = " ".join(value.split() * (LASTS // len(value.split()))) if " " in value else f"{value}x{LASTS}"
                found[0]["values"] = f"{first}x{BEGINS - 1} {later}"
        expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
        whole["tests"].append({
            "name": alert, "interval": "1m", "input_series": series,
            "promql_expr_test": [
                {"expr": expression, "eval_time": f"{BEGINS - 1}m", "exp_samples": []},
                {"expr": expression, "eval_time": f"{BEGINS + minutes + 1}m", "exp_samples": firing(alert)},
            ],
        })
    folder = pathlib.Path(folder)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "tests.yaml").write_text(yaml.safe_dump(whole))
    boards = [text for document in documents if document["kind"] == "ConfigMap" for text in document["data"].values()]
    panels = [panel for board in boards for panel in json.loads(board)["panels"] if panel["type"] != "row"]
    if not panels:
        sys.exit("alerts.py: there is no dashboard")
    if len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) != len(panels):
        sys.exit("alerts.py: two panels of the dashboard have one place")
    shown = [{"record": f"panel:{number}", "expr": panel["targets"][0]["expr"]} for number, panel in enumerate(panels)]
    (folder / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": shown}]}))
    print(f"{len(WRONG)} alerts, each with a case and a runbook; {len(panels)} panels")


main()
