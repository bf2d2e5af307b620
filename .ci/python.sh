#!/usr/bin/env bash
# Prints a Python that has what the second reader of the checkpoint format needs; makes it if it is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."

sum=$(sha256sum .ci/reader-requirements.txt | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/reader-$sum
if ! "$cache/bin/python" -c 'import blake3, zstandard' 2>/dev/null; then
    rm -rf "$cache"
    python3 -m venv "$cache" >&2
    "$cache/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        --requirement .ci/reader-requirements.txt >&2
fi
printf '%s\n' "$cache/bin/python"
