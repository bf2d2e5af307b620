#!/usr/bin/env python3
"""A second reader of `vrckpt/1` and `vrckpt/2`, written from docs/checkpoint-format.md alone.

Lists, verifies and dumps the checkpoints of one lineage in a directory. It shares nothing with the Rust crate but that
page: where the two disagree, one of them or the page is wrong. It reads all of a checkpoint into memory and is not fast.
"""

import argparse
import base64
import json
import os
import struct
import sys

import blake3
import zstandard

FORMAT = "vrckpt/1"
DELTA_FORMAT = "vrckpt/2"
VERSION = 2
DELTAS_MAX = 4
LEAF_MAX = 8192
LEAF_KEY = b"vr-tree page format 1: leaf page"
INNER_KEY = b"vr-tree page format 1: innerpage"
LEAF, INNER = 1, 2


class Damaged(Exception):
    """A record that is not what it should be."""


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


class Fields:
    """Fields taken off some bytes, one after the other."""

    def __init__(self, name, data):
        self.name, self.data, self.at = name, data, 0

    def take(self, form):
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise Damaged(f"{self.name} is cut short")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values if len(values) > 1 else values[0]

    def bytes(self, size):
        if self.at + size > len(self.data):
            raise Damaged(f"{self.name} is cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def begins(self, letters, newest):
        if self.bytes(4) != letters:
            raise Damaged(f"{self.name} does not begin with {letters.decode()}")
        version = self.take("I")
        if version > VERSION:
            newer(self.name, f"vrckpt/{version}")
        if not 1 <= version <= newest:
            raise Damaged(f"{self.name}: there is no version {version}")
        return version

    def place(self):
        """Where a frame stands; of a delta with the id of its base."""
        place = self.take("32sBBIIQ")
        return (*place, self.bytes(32) if place[2] == 2 else None)

    def ends(self):
        if self.at != len(self.data):
            raise Damaged(f"{self.name}: {len(self.data) - self.at} bytes follow its end")


def newer(name, found):
    raise Damaged(f"{name} is {found}, this reader reads {DELTA_FORMAT}: use one that reads {found}")


def fits(name, version, places):
    if version != (2 if any(place[6] for place in places) else 1):
        raise Damaged(f"{name}: records of version 2 are those with deltas, and no others")


def checked(name, data):
    if len(data) < 4 or crc32c(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise Damaged(f"{name}: its checksum is wrong")
    return data[:-4]


def record(name, data, fields, optional=(), formats=(FORMAT,)):
    """A JSON record with exactly these fields, of which it may lack the optional ones."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Damaged(f"{name} is not JSON: {error}") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found not in formats:
        if isinstance(found, str) and found.startswith("vrckpt/") and found != DELTA_FORMAT:
            newer(name, found)
        raise Damaged(f"{name} is not a record of {FORMAT}")
    other = set(value) ^ set(fields.split())
    if other - set(optional):
        raise Damaged(f"{name} has other fields than it should: {sorted(other)}")
    return value


HEAD = "format lineage version nonce generation token state parent owner retained reservedRevision"
MANIFEST = (
    "format lineage generation parent incremental op view epoch timeMicros writtenMicros configuration revision "
    "reservedRevision logDigest state indexes packs writer nonce hash"
)


class Tier:
    """A lineage's directory."""

    def __init__(self, path):
        self.path = path

    def read(self, key):
        try:
            with open(os.path.join(self.path, key), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Damaged(f"{key} is missing") from None

    def head(self):
        best, problem = None, "there is no HEAD"
        for name in ("HEAD.0", "HEAD.1"):
            try:
                data = checked(name, self.read(name))
                fields = Fields(name, data)
                version, length = fields.take("QI")
                body = fields.bytes(length)
                fields.ends()
            except Damaged as error:
                problem = str(error)
                continue
            if best is None or version > best[0]:
                best = (version, name, body)
        if best is None:
            raise Damaged(problem)
        return record(best[1], best[2], HEAD, {"scrubbedMicros"})

    def manifest(self, key):
        data = self.read(key)
        manifest = record(key, data, MANIFEST, formats=(FORMAT, DELTA_FORMAT))
        plain = dict(manifest, hash="")
        canonical = lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if blake3.blake3(canonical(plain)).hexdigest() != manifest["hash"] or canonical(manifest) != data:
            raise Damaged(f"{key} does not hash to what it says")
        return manifest

    def index(self, key):
        fields = Fields(key, checked(key, self.read(key)))
        version = fields.begins(b"VRIX", 2)
        packs = {}
        for _ in range(fields.take("I")):
            name = fields.bytes(fields.take("H")).decode()
            size, count = fields.take("QI")
            packs[name] = (size, [fields.place() for _ in range(count)])
        fields.ends()
        upload = key.rpartition("/")[2].removesuffix(".idx")
        if not all(name.rpartition("/")[2].startswith(f"{upload}-") for name in packs):
            raise Damaged(f"{key} names packs of another upload")
        fits(key, version, [place for _, places in packs.values() for place in places])
        return packs, version

    def pack(self, key, manifest):
        """Its places; each page by its id, and each delta, as its base and its runs, by the id of the page it makes."""
        data = self.read(key)
        fields = Fields(key, data)
        version = fields.begins(b"VRPK", 2)
        lineage, generation = fields.take("16sQ")
        if lineage.hex() != manifest["lineage"].replace("-", ""):
            raise Damaged(f"{key} is of another lineage")
        if generation != int(key.split("/")[1], 16):
            raise Damaged(f"{key} is of another generation")
        end = Fields(key, data[-20:])
        count, at, crc, letters = end.take("IQI4s")
        table = data[at:-20]
        if letters != b"VRPE" or crc32c(table) != crc:
            raise Damaged(f"{key}: the places of its frames are damaged")
        rest = Fields(key, table)
        places = [rest.place() for _ in range(count)]
        rest.ends()
        fits(key, version, places)
        frames = {place[0]: frame(key, data, place) for place in places}
        deltas = {place[0]: (place[6], frames.pop(place[0])) for place in places if place[6]}
        return len(data), places, frames, deltas

    def segments(self, manifest):
        """The log that leads on from a checkpoint: its entries by their ops."""
        folder = f"g/{manifest['generation']:016x}/log"
        found, path = {}, os.path.join(self.path, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            key = f"{folder}/{name}"
            first, last = (int(part, 16) for part in name.removesuffix(".seg").split("-"))
            fields = Fields(key, checked(key, self.read(key)))
            fields.begins(b"VRSG", 1)
            lineage, generation, says_first, says_last = fields.take("16sQQQ")
            right = (bytes.fromhex(manifest["lineage"].replace("-", "")), manifest["generation"], first, last)
            if (lineage, generation, says_first, says_last) != right:
                raise Damaged(f"{key} is of another lineage, generation or ops than its name says")
            for op in range(first, last + 1):
                time, digest, length = fields.take("Q32sI")
                found.setdefault(op, (time, digest, fields.bytes(length)))
            fields.ends()
        entries, op = [], manifest["op"] + 1
        while op in found:
            entries.append((op, *found[op]))
            op += 1
        return entries


def frame(key, data, place):
    identity, kind, codec, plain, stored, offset, base = place
    head, body = data[offset : offset + 46], data[offset + 46 : offset + 46 + stored]
    name = f"{key}: page {identity.hex()[:16]}"
    if len(head) != 46 or len(body) != stored or crc32c(head[:42] + body) != struct.unpack("<I", head[42:])[0]:
        raise Damaged(f"{name}: its checksum is wrong")
    if struct.unpack("<32sBBII", head[:42]) != (identity, kind, codec, plain, stored):
        raise Damaged(f"{name}: its frame is another than its place says")
    if codec == 2:
        if kind != LEAF or body[:32] != base:
            raise Damaged(f"{name}: a delta of another page, or on another base, than its place says")
        return body[32:]
    if codec == 1:
        body = zstandard.ZstdDecompressor().decompress(body, max_output_size=plain)
    elif codec != 0:
        raise Damaged(f"{name}: codec {codec} is not known")
    keyed = {LEAF: LEAF_KEY, INNER: INNER_KEY}.get(kind)
    if len(body) != plain or keyed is None or body[:1] != bytes([kind]):
        raise Damaged(f"{name}: its length or kind is wrong")
    if blake3.blake3(body, key=keyed).digest() != identity:
        raise Damaged(f"{name}: its bytes are another page")
    return body


def made(pages, deltas, identity):
    """A page that is stored as deltas on one that is whole, made and checked."""
    chain, at = [], identity
    while at not in pages:
        if at not in deltas:
            raise Damaged(f"page {at.hex()[:16]}, which a delta needs, is in none of the packs")
        if len(chain) == DELTAS_MAX:
            raise Damaged(f"page {identity.hex()[:16]} is more than {DELTAS_MAX} deltas away from a whole one")
        chain.append(deltas[at])
        at = chain[-1][0]
    name = f"page {identity.hex()[:16]}"
    entries = leaf_entries(Fields(name, pages[at]))
    for _, runs in reversed(chain):
        entries = changed(entries, Fields(name, runs))
    body = struct.pack("<BI", LEAF, len(entries))
    body += b"".join(struct.pack("<II", len(key), len(value)) + key + value for key, value in entries)
    if blake3.blake3(body, key=LEAF_KEY).digest() != identity:
        raise Damaged(f"{name}: its deltas make another page")
    return body


def leaf_entries(fields):
    if fields.take("B") != LEAF:
        raise Damaged(f"{fields.name}: a delta on an inner page")
    entries = [entry(fields) for _ in range(fields.take("I"))]
    fields.ends()
    return entries


def entry(fields):
    key, value = fields.take("II")
    return fields.bytes(key), fields.bytes(value)


def changed(base, runs):
    """What the runs of a delta make out of the entries of its base."""
    entries, at = [], 0
    while runs.at < len(runs.data):
        keep, drop, add = runs.take("HHH")
        if at + keep + drop > len(base) or not (drop or add):
            raise Damaged(f"{runs.name}: a delta that does not fit its base")
        entries += base[at : at + keep] + [entry(runs) for _ in range(add)]
        at += keep + drop
    return entries + base[at:]


def entries_of(pages, deltas, identity):
    """The entries below a page, in order."""
    stack = [identity]
    while stack:
        at = stack.pop()
        if at not in pages and at not in deltas:
            raise Damaged(f"page {at.hex()[:16]} is in none of the packs")
        fields = Fields(f"page {at.hex()[:16]}", pages[at] if at in pages else made(pages, deltas, at))
        if fields.take("B") == LEAF:
            for _ in range(fields.take("I")):
                yield entry(fields)
        else:
            _, slots = fields.take("IH")
            stack.extend(reversed([fields.take("HHQ32s")[3] for _ in range(slots)]))
        fields.ends()


def root_of(entries):
    """The root that these entries, sorted by their keys, make: by the rule alone, from nothing that was stored."""

    def size(part):
        return sum(8 + len(key) + len(value) for key, value in part)

    def fits(part):
        return len(part) == 1 or size(part) <= LEAF_MAX

    def page(part):
        if fits(part) or not part:
            body = struct.pack("<BI", LEAF, len(part))
            body += b"".join(struct.pack("<II", len(key), len(value)) + key + value for key, value in part)
            return blake3.blake3(body, key=LEAF_KEY).digest()
        depth = len(os.path.commonprefix([part[0][0], part[-1][0]]))
        slots, rest = [], part
        if len(part[0][0]) == depth:
            slots.append((0, 0, part[:1]))
            rest = part[1:]
        divide(rest, depth, 1, 256, slots)
        body = struct.pack("<BIH", INNER, depth, len(slots))
        for low, high, below in slots:
            body += struct.pack("<HHQ", low, high, len(below)) + page(below)
        return blake3.blake3(body, key=INNER_KEY).digest()

    def divide(part, depth, low, high, slots):
        if not part:
            return
        if fits(part) or low == high:
            slots.append((low, high, part))
            return
        middle = low + (high - low) // 2
        divide([e for e in part if e[0][depth] + 1 <= middle], depth, low, middle, slots)
        divide([e for e in part if e[0][depth] + 1 > middle], depth, middle + 1, high, slots)

    return page(entries)


def load(tier, retained):
    """A checkpoint, everything about it checked: manifest, entries, log."""
    key = retained["manifest"]
    manifest = tier.manifest(key)
    op, root = manifest["op"], bytes.fromhex(manifest["state"]["root"])
    named = f"g/{manifest['generation']:016x}/ckpt/{op:016x}-{root.hex()[:16]}.json"
    if key != named or retained["op"] != op:
        raise Damaged(f"{key} is of another op, root or generation than HEAD and its name say")
    indexed, versions = {}, {1}
    for index in manifest["indexes"]:
        packs, version = tier.index(index["key"])
        indexed.update(packs)
        versions.add(version)
    if manifest["format"] == FORMAT and max(versions) > 1:
        raise Damaged(f"{key}: a manifest of {FORMAT} needs no index with deltas")
    pages, deltas = {}, {}
    for pack in manifest["packs"]:
        size, places, found, differing = tier.pack(pack["key"], manifest)
        if (size, places) != indexed.get(pack["key"]) or size != pack["bytes"]:
            raise Damaged(f"{pack['key']} is another than its index or the manifest says")
        pages.update(found)
        deltas.update(differing)
    entries = [] if manifest["state"]["entries"] == 0 else list(entries_of(pages, deltas, root))
    if any(one[0] >= two[0] for one, two in zip(entries, entries[1:])):
        raise Damaged(f"{key}: its keys are not in order")
    stated = manifest["state"]
    total = sum(8 + len(name) + len(value) for name, value in entries)
    if (len(entries), total) != (stated["entries"], stated["bytes"]):
        raise Damaged(f"{key}: {len(entries)} entries of {total} bytes instead of what it says")
    recomputed = root_of(entries)
    if recomputed != root:
        raise Damaged(f"{key}: the root is {recomputed.hex()} instead of {root.hex()}")
    return manifest, entries, tier.segments(manifest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["list", "verify", "dump"])
    parser.add_argument("lineage", help="directory of one lineage: <tier>/<uuid>")
    parser.add_argument("--op", type=int, help="the checkpoint at this op [the newest; verify: all]")
    given = parser.parse_args()
    tier = Tier(given.lineage)
    try:
        if tier.read("FORMAT") != f"{FORMAT}\n".encode():
            raise Damaged("FORMAT is not one line with vrckpt/1")
        head = tier.head()
        chosen = [r for r in reversed(head["retained"]) if given.op in (None, r["op"])]
        if not chosen:
            raise Damaged("HEAD retains no such checkpoint")
        if given.what == "list":
            for retained in chosen:
                manifest = tier.manifest(retained["manifest"])
                print(json.dumps({"op": manifest["op"], "generation": manifest["generation"], **manifest["state"]}))
        elif given.what == "verify":
            for retained in chosen:
                manifest, entries, log = load(tier, retained)
                reaches = log[-1][0] if log else manifest["op"]
                found = {"op": manifest["op"], "root": manifest["state"]["root"], "entries": len(entries)}
                print(json.dumps({**found, "reachesOp": reaches, "whole": True}))
        else:
            text = lambda data: base64.b64encode(data).decode()
            _, entries, log = load(tier, chosen[0])
            for key, value in entries:
                print(json.dumps({"key": text(key), "value": text(value)}))
            for op, time, digest, body in log:
                print(json.dumps({"op": op, "timeMicros": time, "digest": digest.hex(), "entry": text(body)}))
    except Damaged as error:
        sys.exit(f"vrckpt.py: {error}")


if __name__ == "__main__":
    main()
