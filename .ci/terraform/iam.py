"""Holds the policies in terraform/ to the calls that are really made: each role can do all it needs and nothing more.

    iam.py BUCKET.jsonl IDENTITY.jsonl

The arguments are what `terraform test -json -verbose` says of the modules checkpoint-bucket and identity; calls.json has the
calls, recorded by record.py and, of the operator, by a test of vr-operator. Evaluated as IAM documents it: an explicit
denial wins, then one statement must allow. That S3 itself evaluates so is not shown here. What a policy uses and this does
not understand ends it.
"""
import json
import pathlib
import re
import sys

BUCKET, NAMESPACE = "arn:aws:s3:::vr-checkpoints", "shop"
WAIT_A_DAY = "collected when it is a day old, which no recording waits for (Writer::collect)"
# Calls that are made and were not recorded, with the reason.
UNRECORDED = [
    ("writer", "s3:DeleteObject", "shop/LINEAGE/g/N/data/hh/ULID-n.pk", [], WAIT_A_DAY),
    ("writer", "s3:PutObject", "shop/LINEAGE/g/N/gc/ULID.json", ["if-none-match"], WAIT_A_DAY),
    *(("writer", f"s3:{action}", "shop/LINEAGE/g/N/gc/ULID.json", [], WAIT_A_DAY) for action in ("ListBucket", "GetObject", "DeleteObject")),
    *(("collector", "s3:GetObject", f"shop/LINEAGE/{key}", [], WAIT_A_DAY) for key in ("HEAD", "g/N/ckpt/N-N.json", "g/N/idx/ULID.idx")),
    ("collector", "s3:ListBucket", "shop/LINEAGE/g/", [], WAIT_A_DAY),
    ("collector", "s3:DeleteObject", "shop/LINEAGE/g/N/log/N-N.seg", [], WAIT_A_DAY),
]
# The operator's pods are in a namespace of their own.
NAMESPACES = {"operator": "vr-system"}
# A restore is the work of two: bootstrap moves HEAD, and the replicas that then start write.
WORKERS = {"restore": ("bootstrap", "writer")}
OBJECTS = ["FORMAT", "HEAD", "g/N/ckpt/N-N.json", "g/N/idx/ULID.idx", "g/N/tree/hh/ULID-n.pk", "g/N/data/hh/ULID-n.pk",
           "g/N/log/N-N.seg", "g/N/gc/ULID.json", "probe/ULID"]
# Beside the lineages.
CLAIM, RECORD = "shop/CLAIM", "shop/evidence/N.json"
DESTROYS = ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold"]
EVERYTHING = "an administrator"
CONFIGURES = ["s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration",
              "s3:PutBucketObjectLockConfiguration", "s3:PutReplicationConfiguration", "s3:DeleteBucket"]


def listed(value):
    return value if isinstance(value, list) else [value]


def like(pattern, value, context=None):
    """Whether a pattern of IAM covers a value, the context's values put into its variables first."""
    variables = context or {}
    pattern = re.sub(r"\$\{([^}]+)\}", lambda found: variables.get(found[1], "\0"), pattern)
    return re.fullmatch("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern), value, re.S) is not None


def holds(operator, key, wanted, context):
    """Whether one condition holds of a request."""
    wanted = [str(value) for value in listed(wanted)]
    if operator == "Null":
        return wanted == [str(key not in context).lower()]
    base = operator.removesuffix("IfExists")
    if key not in context:
        return base != operator or base == "StringNotEquals"
    value = context[key]
    if base in ("StringEquals", "Bool"):
        return value in wanted
    if base == "StringNotEquals":
        return value not in wanted
    if base == "StringLike":
        return any(like(pattern, value, context) for pattern in wanted)
    if base == "NumericLessThan":
        return any(float(value) < float(bound) for bound in wanted)
    sys.exit(f"iam.py: the condition {operator} is not understood")


def applies(statement, action, resource, context):
    """Whether a statement speaks of a request."""
    strange = statement.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    if strange or statement.get("Principal", "*") != "*":
        sys.exit(f"iam.py: {statement} is not understood")
    return (
        any(like(pattern, action) for pattern in listed(statement["Action"]))
        and any(like(pattern, resource, context) for pattern in listed(statement["Resource"]))
        and all(holds(o, k, w, context) for o, keys in statement.get("Condition", {}).items() for k, w in keys.items())
    )


class Policies:
    """The bucket's policy and those of the roles, and what of the latter was used."""

    def __init__(self, bucket, roles):
        self.bucket, self.roles, self.used = bucket, roles, set()

    def verdict(self, role, action, key, conditions=(), **more):
        """`allowed`, or why not."""
        resource = BUCKET if action == "s3:ListBucket" or action in CONFIGURES else f"{BUCKET}/{key}"
        context = {
            "aws:SecureTransport": "true",
            "s3:TlsVersion": "1.3",
            "aws:PrincipalTag/kubernetes-namespace": NAMESPACES.get(role, NAMESPACE),
            **{f"s3:{condition}": "a-tag" for condition in conditions},
            **({"s3:prefix": key} if action == "s3:ListBucket" else {}),
            **more,
        }
        own = [{"Sid": "Everything", "Effect": "Allow", "Action": "*", "Resource": "*"}] if role == EVERYTHING else self.roles[role]
        statements = [*self.bucket, *own]
        speaking = [s for s in statements if applies(s, action, resource, context)]
        denying = [s["Sid"] for s in speaking if s["Effect"] == "Deny"]
        if denying:
            return f"denied by {', '.join(denying)}"
        for statement in speaking:
            for a in listed(statement["Action"]):
                for r in listed(statement["Resource"]):
                    if like(a, action) and like(r, resource, context):
                        self.used.add((role, statement["Sid"], a, r))
        return "allowed" if speaking else "allowed by nothing"


def state(file, run):
    """The outputs of a run of a test."""
    for line in pathlib.Path(file).read_text().splitlines():
        message = json.loads(line)
        if message["type"] == "test_state" and message["@testrun"] == run:
            return {name: output["value"] for name, output in message["test_state"]["outputs"].items()}
    sys.exit(f"iam.py: {file} has no state of {run}")


def needs(policies):
    """Every call that is made, by each of its makers, and every grant, for some call."""
    recorded = json.loads(pathlib.Path(__file__).with_name("calls.json").read_text())
    calls = [(c["role"], c["action"], c["key"], c["conditions"]) for c in recorded]
    for role, action, key, conditions in calls + [call[:4] for call in UNRECORDED]:
        verdicts = {worker: policies.verdict(worker, action, key, conditions) for worker in WORKERS.get(role, (role,))}
        yield "allowed" in verdicts.values(), f"{role} needs {action} {key} {conditions}: {verdicts}"
    for role, statements in policies.roles.items():
        for s in statements:
            for action in listed(s["Action"]):
                if action.startswith("kms:"):
                    encrypts = any(used[0] == role and used[2] == "s3:PutObject" for used in policies.used)
                    needed = action == "kms:Decrypt" or action == "kms:GenerateDataKey" and encrypts
                    yield needed, f"{role} has {action} and encrypts nothing"
                    continue
                for resource in listed(s["Resource"]):
                    yield (role, s["Sid"], action, resource) in policies.used, f"{role} has {action} {resource} for no call"


def refusals(policies):
    """What nobody may, or not this role."""

    def refused(role, action, key, conditions=(), **more):
        verdict = policies.verdict(role, action, key, conditions, **more)
        return verdict != "allowed", f"{role} can {action} {key} {list(conditions)} {more or ''}"

    create, swap = ["if-none-match"], ["if-match"]
    # What the bucket refuses, it refuses to those as well who may do everything in S3.
    for role in (*policies.roles, EVERYTHING):
        for name in OBJECTS:
            key = f"shop/LINEAGE/{name}"
            yield from (refused(role, action, key) for action in DESTROYS)
            yield refused(role, "s3:PutObject", key)
            yield refused(role, "s3:GetObject", key, **{"aws:SecureTransport": "false"})
            yield refused(role, "s3:GetObject", key, **{"s3:TlsVersion": "1.1"})
            yield refused(role, "s3:PutObject", key, create, **{"s3:x-amz-server-side-encryption": "AES256"})
            yield refused(role, "s3:PutObject", key, create, **{"s3:x-amz-server-side-encryption-aws-kms-key-id": "another"})
            if name not in ("HEAD", "probe/ULID"):
                yield refused(role, "s3:PutObject", key, swap)
        yield from (refused(role, "s3:DeleteObject", f"shop/LINEAGE/{name}") for name in ("HEAD", "FORMAT"))
        for key in (CLAIM, RECORD):
            yield from (refused(role, "s3:PutObject", key, conditions) for conditions in ((), swap))
    for role in policies.roles:
        # Nothing but what the format has.
        for key in ("shop/LINEAGE/other", "shop/HEAD", "shop/g/N", "other", "CLAIM"):
            yield from (refused(role, action, key, create) for action in ("s3:PutObject", "s3:DeleteObject"))
        yield from (refused(role, action, "") for action in CONFIGURES)
        # Whose a prefix is, and what drills found, is for nobody to take away.
        yield from (refused(role, "s3:DeleteObject", key) for key in (CLAIM, RECORD))
        if role == "operator":
            continue
        yield from (refused(role, "s3:PutObject", key, create) for key in (CLAIM, RECORD))
        for name in OBJECTS:
            for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
                yield refused(role, action, f"bank/LINEAGE/{name}", create)
        yield refused(role, "s3:ListBucket", "bank/LINEAGE/g/")
        # A namespace whose name begins with this one's is another one.
        yield refused(role, "s3:GetObject", "shop-2/LINEAGE/HEAD")
        yield refused(role, "s3:GetObject", "shop/LINEAGE/HEAD", **{"aws:PrincipalTag/kubernetes-namespace": "bank"})
    for name in OBJECTS:
        for role in ("drill", "collector"):
            yield from (refused(role, "s3:PutObject", f"shop/LINEAGE/{name}", c) for c in (create, swap))
        yield refused("drill", "s3:DeleteObject", f"shop/LINEAGE/{name}")
        if name != "probe/ULID":
            yield refused("operator", "s3:DeleteObject", f"shop/LINEAGE/{name}")
            if name != "HEAD":
                yield refused("operator", "s3:PutObject", f"shop/LINEAGE/{name}", create)
        # It cannot read what people have written.
        if name != "HEAD" and "ckpt" not in name:
            yield refused("operator", "s3:GetObject", f"shop/LINEAGE/{name}")
        if name.startswith("g/"):
            yield from (refused("bootstrap", action, f"shop/LINEAGE/{name}", create) for action in ("s3:PutObject", "s3:DeleteObject"))


def main():
    bucket = json.loads(state(sys.argv[1], "policy")["policy"])["Statement"]
    roles = {role: json.loads(text)["Statement"] for role, text in state(sys.argv[2], "roles")["policies"].items()}
    policies = Policies(bucket, roles)
    checked = list(needs(policies)) + list(refusals(policies))
    broken = [what for well, what in checked if not well]
    print("".join(f"{what}\n" for what in broken), end="")
    print(f"policies: {len(checked) - len(broken)} passed, {len(broken)} failed")
    sys.exit(bool(broken))


main()
