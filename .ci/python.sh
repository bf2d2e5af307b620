#!/usr/bin/env bash
# python.sh NAME MODULES: prints a Python that has what .ci/NAME-requirements.txt asks for, and makes it if it is not
# there yet. MODULES, separated by commas, are what it must be able to import then.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1 modules=$2
requirements=.ci/$name-requirements.txt
sum=$(sha256sum "$requirements" | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/$name-$sum
if ! "$cache/bin/python" -c "import $modules" 2>/dev/null; then
    rm -rf "$cache"
    python3 -m venv "$cache" >&2
    "$cache/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        --requirement "$requirements" >&2
fi
printf '%s\n' "$cache/bin/python"
