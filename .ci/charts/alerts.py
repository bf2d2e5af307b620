"""Writes what `promtool test rules` reads: the healthy run, and that run with one thing wrong for each alert.

    alerts.py RENDERED TESTS RUNBOOKS FOLDER

RENDERED is what helm makes of charts/vr-cluster; its rules go to FOLDER/rules.yaml, the tests to FOLDER/tests.yaml. An
alert without a case here or without its section in RUNBOOKS is an error, and so is a case or a section without an alert.
"""
import copy
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
    "VRDrillFailing": ([('vr_cluster_condition{namespace="shop",name="prod",condition="DrillPassing"', "0")], 1),
}
BEGINS, LASTS = 20, 120


def firing(*alerts):
    return [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]


def main():
    rendered, tests, runbooks, folder = sys.argv[1:]
    documents = yaml.safe_load_all(pathlib.Path(rendered).read_text())
    rules = next(document["spec"] for document in documents if document and document["kind"] == "PrometheusRule")
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
    print(f"{len(WRONG)} alerts, each with a case and a runbook")


main()
