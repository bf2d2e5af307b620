"""Keeps the tables of variables and outputs in the modules' READMEs equal to the code.

    tables.py check|write MODULE...
"""
import pathlib
import re
import sys

BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.M | re.S)
MARKS = "<!-- variables and outputs: python3 .ci/terraform/tables.py write {} -->\n", "<!-- end -->\n"


def value(body, name):
    """The one-line value of an argument, or the first line of a longer one."""
    found = re.search(rf"^  {name} *= (.*)$", body, re.M)
    return found[1] if found else None


def tables(module):
    """Both tables."""
    text = "".join((module / file).read_text() for file in ("variables.tf", "outputs.tf"))
    rows = {"variable": [], "output": []}
    for kind, name, body in BLOCK.findall(text):
        described = value(body, "description")
        if described is None:
            sys.exit(f"{module}: {kind} {name} has no description")
        described = described.strip('"').replace('\\"', '"').replace("|", "\\|")
        if kind == "output":
            rows[kind].append(f"| `{name}` | {described} |")
            continue
        type_ = re.sub(r"\(.*", "(…)", value(body, "type")) if value(body, "type").endswith("{") else value(body, "type")
        default = value(body, "default")
        rows[kind].append(f"| `{name}` | `{type_}` | {'required' if default is None else f'`{default}`'} | {described} |")
    out = ["\n| variable | type | default | |\n|---|---|---|---|", *rows["variable"]]
    return "\n".join(out + ["\n| output | |\n|---|---|", *rows["output"]]) + "\n\n"


for module in map(pathlib.Path, sys.argv[2:]):
    readme = module / "README.md"
    before = readme.read_text()
    begin, end = (mark.format(module) for mark in MARKS)
    if begin not in before or end not in before:
        sys.exit(f"{readme}: the lines {begin.strip()} and {end.strip()} are missing: the tables stand between them")
    head, rest = before.split(begin)
    after = head + begin + tables(module) + end + rest.split(end)[1]
    if sys.argv[1] == "write":
        readme.write_text(after)
    elif before != after:
        sys.exit(f"{readme}: the tables are not those of the code: python3 .ci/terraform/tables.py write {module}")
