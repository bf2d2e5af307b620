#!/usr/bin/env python3
"""Records what a real etcd answers to random requests, for the test `answers_are_etcds`.

    record.py http://127.0.0.1:2379 SEED COUNT > etcd-3.7.3-seed-SEED.txt

The etcd must be fresh (an empty data directory) and serve its JSON gateway. Each request and each answer is one line,
written as lists in parentheses; bytes are percent-encoded, `-` is empty. Every few requests the hash of all history is
asked for, so that what is kept is compared as well as what is answered.
"""
import base64, json, random, sys, urllib.error, urllib.parse, urllib.request

ENDPOINT, SEED, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
KEYS = [b"a", b"ab", b"b", b"b\0", b"b\1", b"\0", b"c", b"d/x", b"d/y", b"d/z", b"zz"]
ENDS = [b"", b"", b"", b"\0", b"b", b"c", b"d0", b"zz\0", b"a"]
ORDERS, TARGETS = ["NONE", "ASCEND", "DESCEND"], ["KEY", "VERSION", "CREATE", "MOD", "VALUE"]
random.seed(SEED)
pick, chance = random.choice, lambda p: random.random() < p
revision, compacted, compactions = 1, -1, set()


def b64(b): return base64.b64encode(b).decode()
def atom(b): return urllib.parse.quote_from_bytes(b, safe="/") or "-"
def flags(names, of): return "".join(" " + n for n in names if of.get(n))


def call(path, body):
    request = urllib.request.Request(ENDPOINT + path, json.dumps(body).encode())
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as e:
        return {"error": json.load(e)}


def some_revision():
    return pick([0, 0, 0, -1, revision, revision + 1, random.randint(0, revision), random.randint(max(compacted, 0), revision)])


# Every generator gives (how it is written in the file, its JSON).
def put():
    r = {"key": pick(KEYS + [b""]) if chance(.1) else pick(KEYS), "value": pick([b"", b"x", b"y" * random.randint(1, 40)]),
         "lease": random.randint(1, 4) if chance(.2) else 0, "prev_kv": chance(.3), "ignore_value": chance(.07), "ignore_lease": chance(.07)}
    if r["ignore_value"] and chance(.8): r["value"] = b""
    if r["ignore_lease"] and chance(.8): r["lease"] = 0
    text = f'(put {atom(r["key"])} {atom(r["value"])} {r["lease"]}{flags(["prev_kv", "ignore_value", "ignore_lease"], r)})'
    return text, r | {"key": b64(r["key"]), "value": b64(r["value"])}


def delete():
    r = {"key": pick(KEYS), "end": pick(ENDS), "prev_kv": chance(.5)}
    return (f'(del {atom(r["key"])} {atom(r["end"])}{flags(["prev_kv"], r)})',
            {"key": b64(r["key"]), "range_end": b64(r["end"]), "prev_kv": r["prev_kv"]})


def ranged():
    r = {"limit": pick([0, 0, 1, 2, 3, -1]), "revision": some_revision(), "sort_order": pick(ORDERS) if chance(.4) else "NONE",
         "sort_target": pick(TARGETS) if chance(.4) else "KEY", "keys_only": chance(.2), "count_only": chance(.15)}
    for name in ["min_mod", "max_mod", "min_create", "max_create"]:
        r[name + "_revision"] = random.randint(1, revision) if chance(.06) else 0
    key, end = pick(KEYS), pick(ENDS)
    numbers = " ".join(str(r[n]) for n in ["limit", "revision", "min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"])
    text = f'(range {atom(key)} {atom(end)} {r["sort_order"]} {r["sort_target"]} {numbers}{flags(["keys_only", "count_only"], r)})'
    return text, r | {"key": b64(key), "range_end": b64(end)}


def compare():
    target = pick(["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])
    field = {"VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value", "LEASE": "lease"}[target]
    result = pick(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])
    number = {"VERSION": random.randint(0, 3), "LEASE": random.randint(0, 3)}.get(target, random.randint(0, revision))
    value = pick([b"", b"x", b"y"])
    key, end = pick(KEYS), pick(ENDS) if chance(.3) else b""
    text = f'({result} {target} {atom(key)} {atom(end)} {atom(value) if target == "VALUE" else number})'
    return text, {"key": b64(key), "range_end": b64(end), "target": target, "result": result, field: b64(value) if target == "VALUE" else number}


def txn(depth):
    def ops(n):
        made = []
        for _ in range(n):
            kind = random.random()
            if kind < .45: t, j = put(); made.append((t, {"request_put": j}))
            elif kind < .6: t, j = delete(); made.append((t, {"request_delete_range": j}))
            elif kind < .85 or not depth: t, j = ranged(); made.append((t, {"request_range": j}))
            else: t, j = txn(depth - 1); made.append((t, {"request_txn": j}))
        return made
    lists = [[compare() for _ in range(pick([0, 1, 1, 2]))], ops(pick([0, 1, 2, 3])), ops(pick([0, 0, 1, 2]))]
    text = "(txn " + " ".join("(" + " ".join(t for t, _ in l) + ")" for l in lists) + ")"
    return text, dict(zip(["compare", "success", "failure"], ([j for _, j in l] for l in lists)))


def kv(k):
    n = [k.get(f, "0") for f in ["mod_revision", "create_revision", "version", "lease"]]
    return f'({atom(base64.b64decode(k.get("key", "")))} {atom(base64.b64decode(k.get("value", "")))} {" ".join(n)})'


def answer(kind, r):
    if "error" in r:
        return f'(error {r["error"]["code"]} {atom(r["error"]["message"].encode())})'
    parts = [kind, r.get("header", {}).get("revision", "0")]
    if kind == "put": parts += [kv(r["prev_kv"])] if "prev_kv" in r else []
    if kind == "del": parts += [r.get("deleted", "0")] + [kv(k) for k in r.get("prev_kvs", [])]
    if kind == "range": parts += [r.get("count", "0"), "more" if r.get("more") else "all"] + [kv(k) for k in r.get("kvs", [])]
    if kind == "txn":
        parts.append("then" if r.get("succeeded") else "else")
        names = {"response_put": "put", "response_range": "range", "response_delete_range": "del", "response_txn": "txn"}
        parts += [answer(names[k], v) for each in r.get("responses", []) for k, v in each.items()]
    if kind == "grant": parts += [r["ID"], r["TTL"]]
    return "(" + " ".join(parts) + ")"


print(f"# etcd 3.7.3, started fresh; record.py with seed {SEED}, {COUNT} requests.")
for i in range(COUNT):
    kind, path = random.random(), "/v3/kv/"
    if kind < .33: name, path, (text, body) = "put", path + "put", put()
    elif kind < .45: name, path, (text, body) = "del", path + "deleterange", delete()
    elif kind < .65: name, path, (text, body) = "range", path + "range", ranged()
    elif kind < .89: name, path, (text, body) = "txn", path + "txn", txn(2)
    elif kind < .92:
        at = some_revision() if chance(.5) else random.randint(max(compacted, 0), revision)
        name, path, text, body = "compact", path + "compaction", f"(compact {at})", {"revision": at, "physical": True}
    elif kind < .97:
        id, ttl = random.randint(1, 4), pick([600, 700, 9000000001])
        name, path, text, body = "grant", "/v3/lease/grant", f"(grant {id} {ttl})", {"ID": id, "TTL": ttl}
    else:
        id = random.randint(1, 4)
        name, path, text, body = "revoke", "/v3/lease/revoke", f"(revoke {id})", {"ID": id}
    reply = call(path, body)
    print(text, answer(name, reply), sep="\n")
    if "error" not in reply:
        revision = max(revision, int(reply["header"]["revision"]))
        if name == "compact":
            compacted = max(at, 0)
            compactions.add(at)
    if i % 5 == 4:
        at = random.randint(max(compacted, 1), revision) if chance(.5) else 0
        # For a revision it has compacted at, etcd answers a hash from its cache.
        if at in compactions or (at == 0 and revision in compactions): continue
        reply = call("/v3/maintenance/hashkv", {"revision": at})
        print(f"(hash {at})", answer("hash", reply) if "error" in reply else
              f'(hash {reply["hash"]} {reply["compact_revision"]} {reply["hash_revision"]})', sep="\n")
