"""Holds rendered objects to the schemas of Kubernetes and to the definitions in crds/.

    validate.py KUBERNETES-VERSION CRDS FILE...
"""
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# Of others: their schemas are not here.
FOREIGN = {("monitoring.coreos.com/v1", "PrometheusRule"), ("monitoring.coreos.com/v1", "PodMonitor")}


def schemas(folder):
    """By API version and kind."""
    for path in pathlib.Path(folder).glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            strict(schema["properties"]["spec"])
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def strict(schema):
    """What the API server would drop in silence is wrong here."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema["additionalProperties"] = False
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)


version, crds, *files = sys.argv[1:]
ours = dict(schemas(crds))
count, wrong = 0, []
for file in files:
    seen = set()
    for thing in filter(None, yaml.safe_load_all(pathlib.Path(file).read_text())):
        name = f"{file}: {thing['kind']} {thing['metadata']['name']}"
        key = (thing["apiVersion"], thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"])
        if key in seen:
            wrong.append(f"{name}: twice")
        seen.add(key)
        count += 1
        try:
            if key[:2] in ours:
                jsonschema.validate(thing, ours[key[:2]])
            elif key[:2] not in FOREIGN:
                kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            wrong.append(f"{name}: Kubernetes {version} has no {key[0]} {key[1]}")
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            wrong.append(f"{name}: {'.'.join(map(str, error.path))}: {error.message}")
if wrong:
    sys.exit("\n".join(wrong))
print(f"{count} objects in {len(files)} files are what Kubernetes {version} takes")
