#!/usr/bin/env bash
# go.sh NAME BINARY=PACKAGE...: prints the directory that holds these programs, built at the versions in .ci/NAME/go.mod,
# once for each go.sum, into the user's cache.
set -euo pipefail

name=$1
shift
here=$(cd "$(dirname "$0")/$name" && pwd)
sum=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/$name-$sum

missing=()
for program in "$@"; do
    [[ -x $cache/${program%%=*} ]] || missing+=("$program")
done
if ((${#missing[@]} > 0)); then
    if ! command -v go >/dev/null; then
        echo "go.sh: no Go to build $name with: install Go $(awk '$1 == "go" { print $2 }' "$here/go.mod") or newer," \
            "or name programs that you have (see CONTRIBUTING.md)" >&2
        exit 1
    fi
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    # The Go that is here or none: a toolchain fetched on the way is one that nobody chose.
    export GOTOOLCHAIN=local GOFLAGS="-mod=readonly -trimpath -buildvcs=false" CGO_ENABLED=0
    cd "$here"
    for program in "${missing[@]}"; do
        go build -o "$new/${program%%=*}" "${program#*=}" >&2
    done
    # Each in one step: a run beside this one sees all of it or nothing.
    mv "$new"/* "$cache/"
fi
echo "$cache"
