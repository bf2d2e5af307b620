#!/usr/bin/env bash
# Builds the etcd and etcdctl that the tests compare with, at the versions in go.mod beside this, once for each go.sum,
# into the user's cache. Prints the directory that holds them.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
sum=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/etcd-$sum

if [[ ! -x $cache/etcd || ! -x $cache/etcdctl ]]; then
    if ! command -v go >/dev/null; then
        echo "install.sh: no Go to build etcd with: install Go $(awk '$1 == "go" { print $2 }' "$here/go.mod") or newer," \
            "or set VR_ETCD and VR_ETCDCTL to binaries that you have" >&2
        exit 1
    fi
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    # The Go that is here or none: a toolchain fetched on the way is one that nobody chose.
    export GOTOOLCHAIN=local GOFLAGS="-mod=readonly -trimpath -buildvcs=false" CGO_ENABLED=0
    cd "$here"
    go build -o "$new/etcd" go.etcd.io/etcd/server/v3 >&2
    go build -o "$new/etcdctl" go.etcd.io/etcd/etcdctl/v3 >&2
    # Each in one step: a run beside this one sees all of it or nothing.
    mv "$new/etcd" "$new/etcdctl" "$cache/"
fi
echo "$cache"
