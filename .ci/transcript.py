#!/usr/bin/env python3
"""Puts the transcript of a real drill, run just now by the release build, between the markers in README.md."""

import pathlib
import re
import subprocess

COMMAND = "vr drill --input /usr/include"
BEGIN, END = "<!-- transcript: python3 .ci/transcript.py -->", "<!-- end of transcript -->"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    subprocess.run(["cargo", "build", "--release", "-p", "vr"], cwd=root, check=True)
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    target = re.search(r'"target_directory":"([^"]+)"', subprocess.check_output(metadata, cwd=root, text=True))[1]
    # Progress and logs go to standard error: what is left is the report.
    command = [f"{target}/release/vr", *COMMAND.split()[1:]]
    drill = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [line.rstrip()[:130] for line in drill.stdout.strip("\n").splitlines()]
    text = "\n".join([BEGIN, "```console", f"$ {COMMAND}", *lines, "```", END])
    readme = root / "README.md"
    before = readme.read_text(encoding="utf-8")
    after, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: text, before, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"transcript.py: README.md has {count} places between {BEGIN} and {END}, and must have 1")
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
