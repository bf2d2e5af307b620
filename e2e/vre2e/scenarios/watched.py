"""What people see of a cluster that is well: alerts and the dashboard, with a real Prometheus that reads the real pods."""

import json
import os
import re
import subprocess
import sys
import textwrap
import time
import urllib.parse
from pathlib import Path

from ..box import until
from ..scene import TREE
from .drills import drill, ended
from .installed import helm

ADMIN = 2381
LISTENS = "127.0.0.1:19090"


def program():
    """Where .ci/alerts.sh has put Debian's Prometheus, or what VR_PROMETHEUS names."""
    named = os.environ.get("VR_PROMETHEUS")
    if named:
        return Path(named)
    subprocess.run(["bash", TREE / ".ci/alerts.sh"], check=True, capture_output=True, timeout=300)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    found = cache / "vr-ci/promtool/usr/bin/prometheus"
    assert found.exists(), f"there is no {found}: name a prometheus with VR_PROMETHEUS"
    return found


def rendered(scene):
    """The rules and the panels of the chart, for this cluster."""
    def shown(*names):
        return [word for name in names for word in ("--show-only", f"templates/{name}.yaml")]

    values = ["--set", f"name={scene.name}", "--set", "alerts.enabled=true", "--set", "dashboard.enabled=true"]
    told = helm(scene, "template", scene.name, TREE / "charts/vr-cluster", "--namespace", scene.space, "--values",
                TREE / "charts/vr-cluster/ci/box.yaml", *values, "--api-versions", "monitoring.coreos.com/v1",
                *shown("cluster", "dashboard"))
    parts = re.split(r"^---$", told, flags=re.M)
    rules = next(part for part in parts if "kind: PrometheusRule" in part)
    board = next(part for part in parts if "kind: ConfigMap" in part)
    panels = [panel for panel in json.loads(board.split(".json: |\n")[1])["panels"] if panel["type"] != "row"]
    return textwrap.dedent(rules.split("\nspec:\n")[1]), panels


def ask(scene, path, **query):
    """One answer of Prometheus."""
    url = f"http://{LISTENS}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    done = subprocess.run(scene.box.inside(sys.executable, "-c", script, url), capture_output=True, text=True, timeout=10)
    if done.returncode != 0:
        raise OSError(done.stderr.strip()[-300:])
    return json.loads(done.stdout)["data"]


def watched(scene):
    """In a healthy run every expression of alerts and dashboard has values, and no alert so much as considers to fire."""
    prometheus = program()
    scene.begin(objectives={"rpoSeconds": 60, "rtoSeconds": 110})
    scene.load()
    drill(scene, "seen")
    assert ended(scene, "seen")["result"] == "Passed", ended(scene, "seen")
    rules, panels = rendered(scene)
    (scene.folder / "rules.yaml").write_text(rules)
    pods = [{"targets": [f"{pod['status']['podIP']}:{ADMIN}"], "labels": {"namespace": scene.space, "pod": name}}
            for name, pod in scene.pods().items()]
    operators = [{"targets": ["127.0.0.1:8080"]}]
    # The operator's own labels say of which cluster a metric is.
    (scene.folder / "prometheus.yaml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": name, "honor_labels": True, "static_configs": targets}
                           for name, targets in (("replicas", pods), ("operators", operators))]}))
    scene.box.start("prometheus", prometheus, f"--config.file={scene.folder}/prometheus.yaml",
                    f"--storage.tsdb.path={scene.folder}/prometheus", f"--web.listen-address={LISTENS}")
    try:
        until(30, "all targets are read", lambda: all(
            target["health"] == "up" for target in ask(scene, "targets")["activeTargets"]))
        # Rates want two values of what they are the rates of.
        time.sleep(20)

        def values(expression):
            return ask(scene, "query", query=expression)["result"]

        empty = [panel["title"] for panel in panels if not values(panel["targets"][0]["expr"])]
        assert not empty, f"panels that show nothing in a healthy run: {empty}"
        names = set(ask(scene, "label/__name__/values"))
        read = ask(scene, "rules")["groups"][0]["rules"]
        assert len(read) > 10 and all(rule["health"] == "ok" for rule in read), read
        used = {name for rule in read for name in re.findall(r"\bvr_\w+", rule["query"])}
        # An operation is there only while one goes on.
        unknown = used - names - {"vr_cluster_operation_deadline_timestamp_seconds"}
        assert not unknown, f"alerts name what nobody shows: {unknown}"
        told = values("ALERTS")
        assert told == [], f"alerts in a healthy run: {told}"
        shown = set(re.findall(r"^\| `(vr_\w+)`", (TREE / "docs/reference/metrics.md").read_text(), re.M))
        assert names & shown == {name for name in names if name.startswith("vr_")}, "a metric that no page describes"
        scene.figures["panels, alerts, metrics shown"] = f"{len(panels)}, {len(read)}, {len(names & shown)} of {len(shown)}"
    finally:
        scene.box.stop("prometheus")
    scene.nothing_lost()


ALL = (watched,)
