#!/usr/bin/env bash
# Does what README.md says under "Try it", word by word, and holds it to what it promises: whoever has just cloned this gets
# to a drill that passes.
set -euo pipefail
cd "$(dirname "$0")/.."

block=$(awk '
    $0 == "<!-- run elsewhere: .ci/readme.sh -->" { marked = 1 }
    inside && $0 == "```" { exit }
    inside
    marked && $0 == "```sh" { inside = 1 }' README.md)
[[ $block == *drill* ]] || {
    echo "readme.sh: README.md has no block with the mark of this script that runs a drill"
    exit 1
}
# Whoever tells cargo to build elsewhere finds it there.
block=${block//target\//${CARGO_TARGET_DIR:-target}/}
printf '%s\n' "$block"
bash -euo pipefail -c "$block" | tee /dev/stderr | grep '^ *result  *Passed' >/dev/null || {
    echo "readme.sh: the drill of README.md has not passed"
    exit 1
}
