"""Writes the schema of those AWS resources that Terraform code uses, taken from the provider's bindings on npm.

    schema.py BINDINGS.tgz SCHEMA.json DIRECTORY...

The bindings (`@cdktn/provider-aws`) are generated from the provider's own schema: each attribute of a resource is a
comment with what may be set, followed by a getter that tells its type. Read here are only the resources and data sources
that the `*.tf` files below the directories name. What the reader does not understand ends it: a schema with holes would
let mistakes pass.

It does not know the checks that the provider itself makes (formats of ARNs, exclusive attributes): only names, types and
what is required.
"""
import json
import pathlib
import re
import sys
import tarfile

NAMED = re.compile(r'^(resource|data) "(aws_\w+)"', re.M)
CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+) \{$", re.M)
ATTRIBUTE = re.compile(r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)$", re.M)
NESTED = re.compile(r'= new (\w+)\(this, "\w+"(?:, (true|false))?\);')
GETTER = re.compile(r"(tolist\()?this\.get(\w*)Attribute\('(\w+)'\)")
MAP = re.compile(r'= new cdktn\.(\w+)Map\(this, "\w+"\);')
SCALARS = {"String": "string", "Number": "number", "Boolean": "bool"}


def used(directories):
    """The (kind, type) of everything of AWS in the code."""
    found = set()
    for directory in directories:
        for file in pathlib.Path(directory).rglob("*.tf"):
            found.update(NAMED.findall(file.read_text()))
    return found


def folder(kind, name):
    """Where the bindings have it."""
    return ("data-aws-" if kind == "data" else "") + name.removeprefix("aws_").replace("_", "-")


def sources(archive, folders):
    """The text of each of these folders' bindings."""
    wanted = {f"package/lib/{folder}/index.js": folder for folder in folders}
    texts = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.name in wanted:
                texts[wanted[member.name]] = tar.extractfile(member).read().decode()
    return texts


class Bindings:
    """One file of bindings: its classes, each with its base and its body."""

    def __init__(self, where, text):
        self.where = where
        heads = list(CLASS.finditer(text))
        ends = [head.start() for head in heads[1:]] + [len(text)]
        self.classes = {head[1]: (head[2], text[head.end() : end]) for head, end in zip(heads, ends)}

    def root(self):
        """The schema of the resource or data source that the file is for."""
        for name, (base, _) in self.classes.items():
            if base in ("TerraformResource", "TerraformDataSource"):
                return self.fields(name)
        sys.exit(f"schema.py: {self.where} has no resource")

    def fields(self, name):
        """All attributes and blocks of a class."""
        body = self.classes[name][1]
        heads = list(ATTRIBUTE.finditer(body))
        ends = [head.start() for head in heads[1:]] + [len(body)]
        fields = {}
        for head, end in zip(heads, ends):
            field = self.field(head[1], body[head.end() : end])
            field.update(zip(("computed", "optional", "required"), (flag == "true" for flag in head.group(2, 3, 4))))
            fields[head[1]] = field
        # What the bindings write out must all have been read.
        synthesized = body.partition("synthesizeAttributes() {")[2].partition("};")[0]
        missing = set(re.findall(r"^ {12}(\w+): ", synthesized, re.M)) - fields.keys()
        if missing:
            sys.exit(f"schema.py: {self.where}, {name}: {sorted(missing)} not understood")
        return fields

    def field(self, name, text):
        """What stands between one attribute's comment and the next."""
        nested = NESTED.search(text.partition("\n    get ")[0])
        if nested:
            element, (base, body) = nested[1], self.classes[nested[1]]
            many = base in ("ComplexList", "ComplexMap")
            if many:
                element = re.search(r"return new (\w+)\(", body)[1]
            nesting = "map" if base == "ComplexMap" else "set" if nested[2] == "true" else "list"
            if name == "timeouts":
                nesting = "single"
            return {"fields": self.fields(element), "nesting": nesting, "many": many}
        mapped = MAP.search(text)
        if mapped:
            return {"type": ["map", SCALARS[mapped[1]]]}
        getter = GETTER.search(text)
        if getter:
            return {"type": plain(getter)}
        sys.exit(f"schema.py: {self.where}: the type of {name} is not understood")


def plain(getter):
    """The type that a getter returns, as Terraform writes types in JSON."""
    for scalar, kind in SCALARS.items():
        if getter[2] == scalar:
            return kind
        if getter[2] == f"{scalar}Map":
            return ["map", kind]
        if getter[2] == f"{scalar}List" or (scalar, getter[2]) == ("String", "List"):
            return ["set" if getter[1] else "list", kind]
    sys.exit(f"schema.py: get{getter[2]}Attribute('{getter[3]}') is not understood")


def main():
    archive, out, *directories = sys.argv[1:]
    names = sorted(used(directories))
    texts = sources(archive, {folder(*name) for name in names})
    schema = {"resource": {}, "data": {}}
    for kind, name in names:
        where = folder(kind, name)
        if where not in texts:
            sys.exit(f"schema.py: the provider has no {kind} {name}: correct the name in the code")
        schema[kind][name] = Bindings(where, texts[where]).root()
    pathlib.Path(out).write_text(json.dumps(schema, sort_keys=True))


main()
