"""Keeps the tables of values in the charts' READMEs equal to values.schema.json and values.yaml.

    tables.py check|write CHART...
"""
import json
import pathlib
import sys

import yaml

MARKS = "<!-- values: .ci/charts.sh write -->\n", "<!-- end -->\n"
NO_DEFAULT = object()


def kind(schema):
    """How a value is written, in a word."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    type_ = schema.get("type", "amount")
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([type_ if isinstance(type_, str) else " or ".join(type_), *bounds])


def rows(path, schema, default, root, required):
    """A row for each value, those of an object below it."""
    if "$ref" in schema:
        schema = {**root["definitions"][schema["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in schema.items() if k != "$ref"}}
    below = schema.get("properties")
    if path and (not below or "description" in schema):
        # The name of what a reference refers to needs none.
        if "description" not in schema and not path.endswith("Ref.name"):
            sys.exit(f"values.schema.json: {path} has no description")
        shown = json.dumps(default, ensure_ascii=False) if default is not NO_DEFAULT else None
        shown = "" if below else f"`{shown}`" if shown is not None else "**required**" if required else ""
        yield f"| `{path}` | {kind(schema)} | {shown} | {schema.get('description', '')} |".replace("\n", " ")
    for name, value in (below or {}).items():
        known = default.get(name, NO_DEFAULT) if isinstance(default, dict) else NO_DEFAULT
        needed = name in schema.get("required", [])
        yield from rows(f"{path}.{name}" if path else name, value, known, root, needed)


for chart in map(pathlib.Path, sys.argv[2:]):
    readme = chart / "README.md"
    schema = json.loads((chart / "values.schema.json").read_text())
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    before = readme.read_text()
    begin, end = MARKS
    if begin not in before or end not in before:
        sys.exit(f"{readme}: the lines {begin.strip()} and {end.strip()} are missing: the table stands between them")
    table = "\n".join(["\n| value | type | default | |\n|---|---|---|---|", *rows("", schema, defaults, schema, True)])
    head, rest = before.split(begin)
    after = head + begin + table + "\n\n" + end + rest.split(end)[1]
    if sys.argv[1] == "write":
        readme.write_text(after)
    elif before != after:
        sys.exit(f"{readme}: the table is not that of the schema and the values: bash .ci/charts.sh write")
