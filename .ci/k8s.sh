#!/usr/bin/env bash
# A VRCluster on a real Kubernetes of three nodes on this machine: applied, Ready, written to through its Service, and
# whole again after one of its pods was deleted. Needs root and the box in K8S_BOX (a folder with all.sh, kc, image.sh,
# addbin.sh, down.sh and setup.sh), which only this test needs; and etcdctl in VR_ETCDCTL. Without them it says so and
# is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
box=${K8S_BOX:-$PWD/../shared/tools/k8s-in-a-box}
if [[ ! -x $box/all.sh || $(id -u) != 0 || ! -x ${VR_ETCDCTL:-} ]]; then
    echo "skipped: needs root, the box in K8S_BOX and etcdctl in VR_ETCDCTL"
    exit 0
fi
work=$(mktemp -d)
export K8SBOX=${K8SBOX:-/tmp/k8sbox}
bin=${CARGO_TARGET_DIR:-target}/debug
pids=()
finish() {
    local status=$?
    if ((status != 0)); then
        kc get vrc,pods -o wide || true
        kc get vrc -o yaml || true
        tail -n 40 "$work/operator.log" || true
    fi
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    "$box/down.sh" --wipe || true
    rm -rf "$work"
    exit $status
}
kc() { "$box/kc" "$@"; }
# until_true SECONDS WHAT COMMAND...
until_true() {
    local limit=$1 what=$2 began=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS - began < limit)) || { echo "after $limit s still not: $what"; return 1; }
        sleep 0.5
    done
    echo "$what: $((SECONDS - began)) s"
}
ready() { [[ $(kc get vrc shop -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}') == True ]]; }
other() { [[ -n $(kc get pod shop-1 -o jsonpath='{.metadata.uid}') && $(kc get pod shop-1 -o jsonpath='{.metadata.uid}') != "$1" ]]; }

cargo build -q -p vr-replica -p vr -p vr-operator --bin vr-replica --bin vr --bin vr-operator
"$box/setup.sh"
trap finish EXIT
root=$work/root
mkdir -p "$root/tmp" "$root/etc/ssl/certs"
chmod 755 "$root" && chmod 1777 "$root/tmp"
# S3 clients want authorities even where they are not asked for any.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$bin/vr-replica" "$work/vr-replica" && strip -g "$work/vr-replica"
"$box/addbin.sh" "$root" "$work/vr-replica" "$VR_ETCDCTL"
mkdir -p "$K8SBOX/images"
"$box/image.sh" vr.local/vr:ci "$K8SBOX/images/vr.tar" "$root"
"$box/all.sh" 3

# Not through a function: what is started here is what is ended.
nsenter --net=/run/netns/kbox "$bin/vr" s3-server --dir "$work/s3" --listen 10.89.0.1:9000 --bucket vr-ci >"$work/s3.log" 2>&1 &
pids+=($!)
kc apply -f crds/
until_true 30 "the CRDs are established" kc wait --for=condition=Established --timeout=1s crd/vrclusters.vr-operator.io
KUBECONFIG=$K8SBOX/run/pki/admin.kubeconfig \
    nsenter --net=/run/netns/kbox "$bin/vr-operator" run --lease-namespace default >"$work/operator.log" 2>&1 &
pids+=($!)
kc create secret generic s3-keys --from-literal=AWS_ACCESS_KEY_ID=vr --from-literal=AWS_SECRET_ACCESS_KEY=only-on-this-machine
kc apply -f - <<'Y'
apiVersion: vr-operator.io/v1alpha1
kind: VRCluster
metadata: { name: shop }
spec:
  replicas: 3
  image: vr.local/vr:ci
  memory: { limit: 512Mi, stateLimit: 256Mi }
  storage:
    nvme: { type: EmptyDir, sizeLimit: 1Gi }
    volume: { size: 1Gi }
    objectStore:
      bucket: vr-ci
      prefix: shop
      region: us-east-1
      endpoint: http://10.89.0.1:9000
      credentialsSecretRef: { name: s3-keys }
  podTemplate: { cpuRequest: 50m }
  unsafeFlags: { plaintext: true }
Y
until_true 90 "apply to Ready" ready
until_true 30 "a write through the Service" kc exec shop-0 -- etcdctl --endpoints http://shop.default.svc:2379 put k v
[[ $(kc exec shop-1 -- etcdctl get k --print-value-only) == v ]]
uid=$(kc get pod shop-1 -o jsonpath='{.metadata.uid}')
kc delete pod shop-1 --wait=false
until_true 60 "another pod in the slot of the deleted one" other "$uid"
until_true 60 "Ready again" ready
[[ $(kc exec shop-1 -- etcdctl get k --print-value-only) == v ]]
echo "k8s: passed"
