#!/usr/bin/env bash
# Holds the alerts and the dashboard of charts/vr-cluster to their word with promtool: each alert fires for what it is made
# for, alone, and none in a healthy run; every expression can be read. promtool comes from the Debian package `prometheus`, which is unpacked into the user's cache and not
# installed; VR_PROMTOOL names another one. Where there is neither, this says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

promtool=${VR_PROMTOOL:-$(command -v promtool || true)}
if [[ -z $promtool ]]; then
    place=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/promtool
    promtool=$place/usr/bin/promtool
    if [[ ! -x $promtool ]]; then
        if ! (cd "$work" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb prometheus) >"$work/said" 2>&1; then
            tail -3 "$work/said"
            echo "alerts.sh: skipped: promtool cannot be had from Debian's packages here; VR_PROMTOOL names one"
            exit 0
        fi
        mkdir -p "${place%/*}"
        rm -rf "$place"
        mv "$work/prometheus" "$place"
    fi
fi

helm=$(bash .ci/charts.sh helm)
# The Python that the charts' checks have made for themselves, or any that has PyYAML.
python=python3
"$python" -c 'import yaml' 2>/dev/null || python=$(compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/charts-validate-*/bin/python" | head -1)
export HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm KUBECONFIG=/dev/null
"$helm" template prod charts/vr-cluster --namespace shop --values charts/vr-cluster/ci/aws.yaml \
    --api-versions monitoring.coreos.com/v1 >"$work/rendered.yaml"
"$python" .ci/charts/alerts.py "$work/rendered.yaml" .ci/charts/alerts-test.yaml docs/runbooks.md "$work"
"$promtool" check rules "$work/rules.yaml" "$work/panels.yaml"
"$promtool" test rules "$work/tests.yaml"
