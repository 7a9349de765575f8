"""An independent verifier of auditkit stores, written from docs/format.md alone. It imports nothing of auditkit.

Receipts and consistency proofs are checked as docs/receipts.md says. It is slow, keeps everything in memory, and stops
at the first thing that isn't as the pages say. Time stamps in `anchors/` are passed over: nothing here reads RFC 3161.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

INTEGERS = {"v", "seq", "epoch", "time", "duration_us"}
REQUIRED = {"v", "store", "writer", "seq", "epoch", "time", "type"}
BODY = [
    "v", "store", "writer", "seq", "epoch", "time", "type", "actor", "lead_id", "workflow", "outcome", "operation",
    "duration_us", "error_type", "message", "traceback", "details",
]  # fmt: skip
COLUMNS = [*(name for name in BODY if name != "store"), "mac", "leaf"]
COMMIT = [
    "v", "store", "n", "time", "key_n", "why", "detail", "prev_root", "first_leaf", "add", "remove", "retired",
    "erased", "keys", "state",
]  # fmt: skip
ENTRY = ["path", "sha256", "bytes", "rows", "time_min", "time_max", "leaves", "runs"]
KEY_FILES = {
    "ordinary": ["auditkit", "v", "mode", "store", "root", "renewed", "sign", "retiring", "n", "current"],
    "forward-secure": ["auditkit", "v", "mode", "store", "key_id", "sign", "retiring", "n", "current", "skipped"],
    "offline": ["auditkit", "v", "mode", "store", "roots"],
}
ABSENT_AT_TIMES = {"renewed", "retiring"}
PIN = ["auditkit", "v", "store", "seen", "checkpoint", "commits"]
PATH = re.compile(r"events/date=(\d{4}-\d{2}-\d{2})/([0-9a-f]{16})\.parquet")
PART = re.compile(r"(\d{8}-[a-z2-7]{16})\.\d{6}\.jsonl")
NOTE = re.compile(r"auditkit/[a-z2-7]{16}\n\d+\n[A-Za-z0-9+/]+=*\n\n(?:— \S+ \S+(?:\n|\Z))+")
MAX_NUMBER = 1 << 20


class Fault(Exception):
    """Something isn't as the page says."""


class Trace(Fault):
    """Something is left of what was cut off the ledger's end."""


class Unverifiable(Exception):
    """What is there can't be judged by who has only this page."""


def expect(condition: object, fault: str) -> None:
    if not condition:
        raise Fault(fault)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def join_line(body: bytes, code: bytes | None) -> bytes:
    return body[:-1] + (b',"mac":null}' if code is None else b',"mac":"' + code.hex().encode() + b'"}')


def load_object(data: bytes | str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise Fault(f"{what}: no JSON") from None
    expect(isinstance(value, dict), f"{what}: no object")
    return dict(value)


def parse_line(line: bytes, keys: list[str]) -> tuple[dict[str, Any], bytes, bytes | None]:
    """Give the fields, the body and the MAC of an event's or a commit's line."""
    fields = load_object(line, "a line")
    digits = fields.pop("mac", None)
    code = None if digits is None else bytes.fromhex(digits)
    body = canonical(fields)
    expect(list(fields) == keys and join_line(body, code) == line, "a line that isn't canonical")
    return fields, body, code


# -- the tree ----------------------------------------------------------------------------------------------------------


def compute_root(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha(b"")
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + compute_root(leaves[:k]) + compute_root(leaves[k:]))


def split_range(first: int, count: int) -> Iterator[int]:
    """Give the sizes of the complete subtrees that cover a range."""
    while count:
        size = 1 << count.bit_length() - 1
        while first % size:
            size //= 2
        yield size
        first, count = first + size, count - size


def compute_nodes(first: int, leaves: list[bytes]) -> list[str]:
    nodes, place = [], 0
    for size in split_range(first, len(leaves)):
        nodes.append(compute_root(leaves[place : place + size]).hex())
        place += size
    return nodes


@dataclass
class Tree:
    """The tree by its complete subtrees, from left to right."""

    size: int = 0
    subtrees: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, size: int, node: bytes) -> None:
        self.size += size
        while self.subtrees and self.subtrees[-1][0] == size:
            node, size = sha(b"\1" + self.subtrees.pop()[1] + node), 2 * size
        self.subtrees.append((size, node))

    def add_nodes(self, count: int, nodes: list[str]) -> None:
        for size, node in zip(split_range(self.size, count), nodes, strict=True):
            self.add(size, bytes.fromhex(node))

    @property
    def root(self) -> bytes:
        root = b""
        for _, node in reversed(self.subtrees):
            root = sha(b"\1" + node + root) if root else node
        return root or sha(b"")


# -- keys and notes ----------------------------------------------------------------------------------------------------


def name_key(seed: bytes, store: str) -> str:
    """Give the verifier key of a seed."""
    name = f"auditkit/{store}"
    public = b"\1" + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    key_hash = sha(name.encode() + b"\n" + public)[:4]
    return f"{name}+{key_hash.hex()}+{base64.b64encode(public).decode()}"


def decode_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Fault("no base64") from None
    expect(base64.b64encode(raw).decode() == text, "base64 that isn't canonical")
    return raw


def read_verifier_key(verifier_key: str, name: str) -> tuple[bytes, Ed25519PublicKey]:
    """Give the key hash and the public key of a verifier key of that name."""
    found, _, rest = verifier_key.partition("+")
    digits, _, encoded = rest.partition("+")
    raw = decode_base64(encoded)
    key_hash = sha(name.encode() + b"\n" + raw)[:4]
    expect(found == name and digits == key_hash.hex() and raw[:1] == b"\1" and len(raw) == 33, "no key of this store")
    return key_hash, Ed25519PublicKey.from_public_bytes(raw[1:])


def is_signed(public: Ed25519PublicKey, signature: bytes, text: str) -> bool:
    try:
        public.verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True


def parse_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Give the text of a note, and its signatures with their names."""
    text, found, rest = note.rpartition("\n\n")
    lines = rest.removesuffix("\n").split("\n")
    expect(found and len(note.encode()) <= 1_000_000 and len(lines) <= 100, "no note")
    words = [line.split(" ") for line in lines]
    expect(all(len(each) == 3 and each[0] == "—" for each in words), "a note with other lines than signatures")
    return f"{text}\n", [(name, decode_base64(encoded)) for _, name, encoded in words]


def has_signature(note: str, verifier_key: str, name: str) -> bool:
    """Check that a key signed a note. Others may have signed it too."""
    text, signatures = parse_note(note)
    key_hash, public = read_verifier_key(verifier_key, name)
    ours = [blob[4:] for signer, blob in signatures if signer == name and blob[:4] == key_hash]
    return bool(ours) and all(is_signed(public, signature, text) for signature in ours)


def check_endorsement(store: str, old: str, new: str, signature: str) -> None:
    """Check that the old key vouches for the new one; the ledger isn't needed for that."""
    _, public = read_verifier_key(old, f"auditkit/{store}")
    read_verifier_key(new, f"auditkit/{store}")
    text = f"auditkit/1 key change\nauditkit/{store}\n{old}\n{new}\n"
    expect(is_signed(public, decode_base64(signature), text), "the old key doesn't vouch for the new one")


def find_notes(text: str) -> list[str]:
    return NOTE.findall(text)


@dataclass(frozen=True)
class Key:
    """What is known of a store's keys: its roots by number, seeds of its signing key, a public key from elsewhere.

    `n` is what the file of the store `store` counted. An offline file holds roots and no seed, and counts nothing.
    """

    root: bytes | None
    seed: bytes | None
    renewed: tuple[tuple[int, bytes], ...] = ()
    retiring: bytes | None = None
    n: int | None = None
    skipped: tuple[int, ...] = ()
    key_id: str | None = None
    public: str | None = None
    store: str | None = None

    @classmethod
    def from_file(cls, path: Path) -> Key:
        state = load_object(path.read_bytes(), "the key file")
        expect((state.get("auditkit"), state.get("v")) == ("key", 1), "the key file: what it is")
        known = KEY_FILES.get(state.get("mode", ""), [])
        expect(set(known) - ABSENT_AT_TIMES <= set(state) <= set(known), "the key file: mode or keys")
        roots = state.get("roots") or [*([[0, state["root"]]] if "root" in state else []), *state.get("renewed", [])]
        numbers = [m for m, _ in roots]
        expect(all(a < b for a, b in pairwise(numbers)) and numbers[:1] in ([], [0]), "the key file: numbers of roots")
        seeds = {name: bytes.fromhex(state[name]) for name in ("sign", "retiring") if name in state}
        return cls(
            bytes.fromhex(roots[0][1]) if roots else None,
            seeds.get("sign"),
            tuple((m, bytes.fromhex(root)) for m, root in roots[1:]),
            seeds.get("retiring"),
            state.get("n"),
            tuple(state.get("skipped", numbers if state["mode"] == "offline" else ())),
            state.get("key_id"),
            store=state["store"],
        )

    @classmethod
    def from_secret(cls, secret: bytes) -> Key:
        root = mac(secret, b"auditkit/1 root")
        return cls(root, mac(root, b"auditkit/1 sign"))

    @classmethod
    def from_public(cls, verifier_key: str) -> Key:
        return cls(None, None, public=verifier_key)

    def derive(self, n: int, *label: str) -> bytes:
        assert self.root is not None
        roots = ((0, self.root), *self.renewed)
        expect(type(n) is int and 0 <= n < max(MAX_NUMBER + roots[-1][0], self.n or 0), "a number out of bounds")
        first, key = max(root for root in roots if root[0] <= n)
        for _ in range(n - first):
            key = mac(key, b"auditkit/1 next")
        return mac(key, "\0".join(label).encode())

    def name(self) -> str | None:
        return self.derive(0, "auditkit/1 id")[:8].hex() if self.root is not None else self.key_id

    def count_drawn(self, store: str, used: set[int]) -> int | None:
        """Say how many numbers were drawn, None where nobody counts them: with a given secret, or a public key."""
        if self.store != store:
            return None
        return max(used, default=-1) + 1 if self.n is None else self.n

    def list_trusted(self, store: str) -> list[str]:
        """List the verifier keys that the ledger may be signed with: none with an offline file alone."""
        seeds = [seed for seed in (self.seed, self.retiring) if seed is not None]
        return [*(name_key(seed, store) for seed in seeds), *([self.public] if self.public else [])]


# -- the ledger --------------------------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What the commits say."""

    store: str
    tree: Tree = field(default_factory=Tree)
    roots: dict[int, bytes] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    retired: dict[str, list[int]] = field(default_factory=dict)
    heads: dict[str, tuple[int, str, bool]] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    commits: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    newer: bool = False

    @property
    def name(self) -> str:
        return f"auditkit/{self.store}"

    def take(self, key: Key, path: Path) -> None:
        """Check that a file is the next commit, and move on."""
        n, where = len(self.commits) + 1, path.name
        line, _, rest = path.read_bytes().partition(b"\n")
        expect(int(path.stem) == n, f"{where}: expected commit {n}")
        if self.is_newer(key, line, where):
            self.newer = True
            return
        fields, body, code = parse_line(line, COMMIT)
        detail = fields["detail"] or ""
        expect("without a valid MAC" not in detail, "a journal held lines that its writer didn't sign")
        if key.root is not None:
            expect(code == mac(key.derive(fields["key_n"], "auditkit/1 commit", self.store), body), f"{where}: MAC")
        expect((fields["v"], fields["store"], fields["n"]) == (1, self.store, n), f"{where}: v, store or n")
        before = (self.tree.size, self.tree.root.hex())
        expect((fields["first_leaf"], fields["prev_root"]) == before, f"{where}: the tree before it")
        expect(fields["why"] in ("seal", "retain", "key"), f"{where}: why")
        expect((fields["erased"], fields["state"]) == ([], None), f"{where}: not of this version")
        events, times = 0, []
        for entry in fields["add"]:
            events += self.add_segment(entry, where)
            times += [entry["time_min"], entry["time_max"]]
        self.retire(fields, where)
        self.tree.add(1, sha(b"\0" + line))
        size, root = self.tree.size, self.tree.root
        self.roots[size] = root
        self.check_note(rest.decode(), self.change_keys(fields, where), where)
        self.numbers.add(fields["key_n"])
        span = [min(times), max(times)] if times else [None, None]
        self.commits.append([n, size, root.hex(), fields["time"], events, *span])

    def is_newer(self, key: Key, line: bytes, where: str) -> bool:
        """Check whether a commit is of a later version, which this page can't judge."""
        fields = load_object(line, where)
        if type(fields.get("v")) is not int or fields["v"] <= 1:
            return False
        head, found, digits = line.rpartition(b',"mac":"')
        expect(found and re.fullmatch(rb'[0-9a-f]{64}"}', digits), f"{where}: no MAC")
        code = bytes.fromhex(digits[:64].decode())
        if key.root is not None:
            commit_key = key.derive(fields.get("key_n", -1), "auditkit/1 commit", self.store)
            expect(code == mac(commit_key, head + b"}"), f"{where}: MAC")
        return True

    def add_segment(self, entry: dict[str, Any], where: str) -> int:
        path, first = entry["path"], self.tree.size
        expect(list(entry) == ENTRY and PATH.fullmatch(path), f"{where}: a segment's entry")
        expect(path not in self.entries, f"{where}: {path} again")
        rows = int(entry["rows"])
        ((place, count, nodes),) = entry["leaves"]
        fits = len(nodes) == len(list(split_range(first, rows)))
        expect((place, count) == (first, rows) and fits, f"{where}: the leaves of {path}")
        self.tree.add_nodes(count, nodes)
        for writer, begin, last, prev, link, closed in entry["runs"]:
            head, before, ended = self.heads.get(writer, (0, bytes(32).hex(), False))
            expect(not ended and begin >= head and last >= begin, f"{where}: a run of {writer}")
            expect(begin == head, f"{path}: {writer} goes on at {begin}: missing events")
            expect(prev == before, f"{path}: {writer} chains to another event")
            expect(type(closed) is bool or (type(closed) is int and closed >= 2), f"{where}: closed of {writer}")
            self.heads[writer] = (last + (1 if type(closed) is bool else closed), link, closed is True)
        self.entries[path] = entry
        self.live.add(path)
        return rows

    def retire(self, fields: dict[str, Any], where: str) -> None:
        removed, retired = fields["remove"], fields["retired"]
        expect(not removed or fields["why"] == "retain", f"{where}: removes without authority")
        expect([each["path"] for each in retired] == removed, f"{where}: remove and retired")
        for each in retired:
            expect(list(each) == ["path", "policy", "numbers"] and each["path"] in self.live, f"{where}: retired")
            self.live.remove(each["path"])
            self.retired[each["path"]] = each["numbers"]
            self.numbers |= set(each["numbers"])

    def change_keys(self, fields: dict[str, Any], where: str) -> list[str]:
        """Take what a commit says of keys, and give those that have to sign its checkpoint."""
        keys = fields["keys"]
        expect(keys is not None or self.keys, f"{where}: the first commit names no key")
        if keys is None:
            return self.keys[-1:]
        expect(list(keys) == ["old", "new", "old_signature"], f"{where}: keys")
        if self.keys:
            expect(fields["why"] == "key" and keys["old"] == self.keys[-1], f"{where}: the old key")
            check_endorsement(self.store, keys["old"], keys["new"], keys["old_signature"])
        else:
            expect(keys["old"] is None and keys["old_signature"] is None, f"{where}: a key before the first")
        self.keys.append(keys["new"])
        return self.keys[-2:]

    def check_note(self, note: str, keys: list[str], where: str) -> None:
        size = self.tree.size
        text = f"{self.name}\n{size}\n{base64.b64encode(self.roots[size]).decode()}\n"
        expect(parse_note(note)[0] == text, f"{where}: a note that doesn't say {text!r}")
        for each in keys:
            expect(has_signature(note, each, self.name), f"{where}: a note that the store's key didn't sign")
        self.notes.append(note)


# -- events ------------------------------------------------------------------------------------------------------------


def read_details(details: str | None) -> dict[str, Any]:
    try:
        value = json.loads(details or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass
class Chain:
    """One writer: its head, its keys by epoch, and what its events said so far."""

    next: int = 0
    link: bytes = bytes(32)
    closed: bool = False
    epoch: int = 0
    signed: bool | None = None
    numbers: list[int] = field(default_factory=list)
    keys: dict[int, list[bytes]] = field(default_factory=dict)

    def pass_over(self, run: list[Any], numbers: list[int]) -> None:
        """Take a run of a retired segment: its events are gone, and what its commits say of it stays."""
        _, first, last, _, link, closed = run
        self.next, self.link = last + (1 if type(closed) is bool else closed), bytes.fromhex(link)
        self.closed = closed is True
        if first == 0:
            self.numbers = list(numbers)

    def has_mac(self, key: Key, fields: dict[str, Any], body: bytes, code: bytes | None) -> bool:
        """Check an event's MAC under each number that its writer may have."""
        label = ("auditkit/1 writer", fields["store"], fields["writer"])
        held = []
        for number in self.numbers:
            keys = self.keys.setdefault(number, [key.derive(number, *label)])
            while len(keys) <= fields["epoch"]:
                keys.append(mac(keys[-1], b"auditkit/1 epoch"))
            if code == mac(keys[fields["epoch"]], self.link + body):
                held.append(number)
        self.numbers = held
        return bool(held)

    def take(self, key: Key, store: str, fields: dict[str, Any], body: bytes, code: bytes | None) -> bytes:
        """Check that an event is the next one, move on, and give its leaf."""
        where = f"{fields['writer']}:{fields['seq']}"
        day = date(1970, 1, 1) + timedelta(days=fields["time"] // 86_400_000_000)
        expect(fields["v"] == 1 and fields["store"] == store, f"{where}: v or store")
        expect(fields["writer"][:8] == day.isoformat().replace("-", ""), f"{where}: its date")
        expect(fields["seq"] == self.next and not self.closed, f"{where}: expected {self.next}")
        expect(fields["epoch"] >= self.epoch and self.signed in (None, code is not None), f"{where}: epoch or signing")
        details = read_details(fields["details"])
        if fields["seq"] == 0:
            expect(fields["type"] == "auditkit.opened" and fields["epoch"] == 0, f"{where}: the first event")
            expect(type(details.get("n")) is int, f"{where}: the number of its key")
            self.numbers = [details["n"]]
        expect(key.root is None or self.has_mac(key, fields, body, code), f"{where}: MAC")
        self.link = sha(b"\0" + join_line(body, code))
        dropped = details.get("dropped") if fields["type"] == "auditkit.gap" else 1
        self.next += dropped if type(dropped) is int and dropped >= 1 else 1
        self.closed = fields["type"] == "auditkit.closed"
        self.epoch, self.signed = fields["epoch"], code is not None
        return self.link


def read_rows(data: bytes, path: str) -> list[dict[str, Any]]:
    table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    expect(table.column_names == COLUMNS, f"{path}: columns")
    return list(table.set_column(4, "time", table.column("time").cast(pa.int64())).to_pylist())


def check_segment(root: Path, key: Key, store: str, entry: dict[str, Any], chains: dict[str, Chain]) -> list[bytes]:
    """Check one segment against its entry in a commit, and give its leaves."""
    path, match = entry["path"], PATH.fullmatch(entry["path"])
    places = [root / path, root / "staging" / path.rpartition("/")[2]]
    file = next((place for place in places if place.is_file()), None)
    expect(match and list(entry) == ENTRY and file, f"{path}: missing")
    assert match
    assert file
    data = file.read_bytes()
    expect(hashlib.sha256(data).hexdigest() == entry["sha256"] and entry["sha256"][:16] == match[2], f"{path}: SHA-256")
    rows = read_rows(data, path)
    expect(len(rows) == entry["rows"], f"{path}: rows")
    times = [row["time"] for row in rows]
    expect((min(times), max(times)) == (entry["time_min"], entry["time_max"]), f"{path}: times")
    leaves, waiting = [], iter(rows)
    for writer, first, last, prev, link, closed in entry["runs"]:
        kind = None
        chain = chains.setdefault(writer, Chain())
        expect(first == chain.next and prev == chain.link.hex(), f"{path}: {writer} goes on at {first}: missing events")
        while chain.next <= last:
            row = next(waiting, {"writer": None})
            day = match[1].replace("-", "")
            expect(row["writer"] == writer and writer[:8] == day, f"{path}: not a row of {writer}")
            fields = {name: store if name == "store" else row[name] for name in BODY}
            leaves.append(chain.take(key, store, fields, canonical(fields), row["mac"]))
            kind = row["type"]
        places_held = chain.next - last
        end = kind == "auditkit.closed" or (places_held if places_held > 1 else False)
        expect(chain.link.hex() == link and repr(closed) == repr(end), f"{path}: end of {writer}")
    expect(next(waiting, None) is None, f"{path}: rows of no run")
    return leaves


def check_journal_line(
    key: Key, store: str, part: str, line: bytes, chains: dict[str, Chain], heads: dict[str, int]
) -> bool:
    """Check a line of a journal, and say whether it is an event that isn't sealed."""
    fields, body, code = parse_line(line, BODY)
    writer = part[:25]
    for key_, value in fields.items():
        sound = type(value) is (int if key_ in INTEGERS else str) or (value is None and key_ not in REQUIRED)
        expect(sound, f"{part}: kind of {key_}")
    expect(fields["writer"] == writer, f"{part}: an event of {fields['writer']}")
    head = heads.get(writer, 0)
    if fields["seq"] < head:
        return False
    chain = chains.setdefault(writer, Chain())
    if fields["seq"] > chain.next == head:
        raise Trace(f"{part}: a hole before {fields['seq']}, where the ledger ends at {head}")
    chain.take(key, store, fields, body, code)
    return True


# -- the whole ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a store without a fault holds.

    Attributes:
        events: How many events, the toolkit's own included, retired ones not.
        unused: Numbers below the key file's `n` under which nothing was proved; empty where nobody counts.
        beyond: Numbers that were used and that the key file doesn't know of.
        keys: The verifier keys that the ledger names, the one in force last.
    """

    events: int
    unused: set[int]
    beyond: set[int]
    keys: list[str]


def is_cut_off(path: Path, key: Key, store: str, chains: dict[str, Chain]) -> bool:
    """Tell whether a segment that no commit lists goes on where the ledger ends; without the secret key it may."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:16] != path.stem:
        return False
    if key.root is None:
        return True
    chains = deepcopy(chains)
    try:
        for row in read_rows(data, path.name):
            fields = {name: store if name == "store" else row[name] for name in BODY}
            chains.setdefault(row["writer"], Chain()).take(key, store, fields, canonical(fields), row["mac"])
    except (Fault, pa.ArrowException):
        return False
    return True


def check_unlisted(root: Path, ledger: Ledger, key: Key, chains: dict[str, Chain]) -> None:
    """Check that nothing lies in `events/` but what the ledger lists, or listed and hasn't removed yet."""
    there = {path.relative_to(root).as_posix() for path in (root / "events").rglob("*") if not path.is_dir()}
    unlisted = sorted(there - ledger.live - set(ledger.retired))
    if any(PATH.fullmatch(path) and is_cut_off(root / path, key, ledger.store, chains) for path in unlisted):
        raise Trace(f"in no commit, and left of one: {unlisted}")
    expect(not unlisted, f"in no commit: {unlisted}")
    for path in there & set(ledger.retired):
        same = hashlib.sha256((root / path).read_bytes()).hexdigest() == ledger.entries[path]["sha256"]
        expect(same, f"in no commit: what lies at {path}, which was retired")


def list_anchors(root: Path, ledger: Ledger) -> list[str]:
    """List the notes in `anchors/` that say what the commit of that number says."""
    notes = []
    for path in sorted((root / "anchors").glob("*.note")):
        n = int(path.stem) if re.fullmatch(r"\d{8}", path.stem) else 0
        note = path.read_text()
        if 1 <= n <= len(ledger.notes) and note.partition("\n\n")[0] == ledger.notes[n - 1].partition("\n\n")[0]:
            notes.append(note)
    return notes


def check_anchor(ledger: Ledger, note: str, trusted: Iterable[str], trace: bool) -> None:
    """Compare the ledger with a checkpoint from elsewhere, if a key of the store signed it."""
    if not any(has_signature(note, each, ledger.name) for each in {*ledger.keys, *trusted}):
        return
    _, size, root = note.split("\n")[:3]
    if int(size) > ledger.tree.size:
        if ledger.newer:
            return
        how = "truncated" if trace else "rolled back"
        raise Fault(f"{how}: the ledger ends before the checkpoint of {size} leaves")
    same = ledger.roots.get(int(size)) == decode_base64(root)
    expect(same, "rolled back, and went on otherwise: the ledger isn't the one of the checkpoint")


def read_pin(ledger: Ledger, path: Path) -> str:
    """Compare the ledger with the commits of a pin, and give its checkpoint."""
    pin = load_object(path.read_bytes(), "the pin")
    expect(list(pin) == PIN and (pin["auditkit"], pin["v"], pin["store"]) == ("pin", 1, ledger.store), "the pin")
    for commit in pin["commits"]:
        if commit[0] <= len(ledger.commits):
            expect(commit == ledger.commits[commit[0] - 1], "rolled back: another commit than that of the pin")
    return str(pin["checkpoint"])


def examine_store(root: Path, key: Key, kept: str | None = None, pin: Path | None = None) -> Report:
    """Verify a store.

    Args:
        root: Its folder.
        key: Its key, from elsewhere: with secrets, or the public one alone, which proves what is sealed.
        kept: A text with checkpoints that somebody kept elsewhere.
        pin: The file in which auditkit keeps the newest checkpoint it saw.

    Returns:
        What it holds.

    Raises:
        Fault: At the first thing that isn't as the page says. Other exceptions come from files that can't be read.
        Unverifiable: If nothing is wrong before a commit of a newer version, which the page can't judge.
    """
    description = load_object((root / "store.json").read_bytes(), "store.json")
    store = description["store"]
    expect(description["format"] == 1 and key.name() in (None, description["key_id"]), "store.json: format or key")
    trusted = key.list_trusted(store)

    parts = [path for path in sorted((root / "journal").iterdir()) if PART.fullmatch(path.name)]
    expect(all(part.is_file() and not part.is_symlink() for part in parts), "no file under a journal's name")
    # Behind the last newline stands nothing, or a torn line, which is no event.
    journals = [(part.name, line) for part in parts for line in part.read_bytes().split(b"\n")[:-1]]

    ledger = Ledger(store)
    commits = sorted(path for path in (root / "ledger").iterdir() if re.fullmatch(r"\d{8}\.commit", path.name))
    expect(bool(commits) or description["public_key"] is None, "store.json: a public key, and no commit")
    expect(len(commits) < 2 or description["public_key"] is not None, "store.json: no public key")
    for path in commits:
        ledger.take(key, path)
        if ledger.newer:
            break
    if not ledger.newer:
        expect(description["public_key"] in (None, *ledger.keys), "store.json: public key")
        expect(not commits or not trusted or set(trusted) & set(ledger.keys), "the ledger doesn't name the trusted key")

    chains: dict[str, Chain] = {}
    events = 0
    for path_, entry in ledger.entries.items():
        if path_ in ledger.live:
            added = check_segment(root, key, store, entry, chains)
            first = entry["leaves"][0][0]
            expect(entry["leaves"] == [[first, len(added), compute_nodes(first, added)]], f"{path_}: nodes")
            events += len(added)
        else:
            for run in entry["runs"]:
                chains.setdefault(run[0], Chain()).pass_over(run, ledger.retired[path_])

    faults: list[Fault] = []
    if not ledger.newer:
        try:
            check_unlisted(root, ledger, key, chains)
        except Fault as fault:
            faults.append(fault)
        try:
            heads = {writer: chain.next for writer, chain in chains.items()}
            events += sum(check_journal_line(key, store, part, line, chains, heads) for part, line in journals)
        except Fault as fault:
            faults.append(fault)
    anchors = [*list_anchors(root, ledger), *find_notes(kept or "")]
    expect(kept is None or find_notes(kept), "no checkpoint in what was kept")
    if pin is not None:
        anchors.append(read_pin(ledger, pin))
    for note in anchors:
        check_anchor(ledger, note, trusted, any(isinstance(fault, Trace) for fault in faults))
    if faults:
        raise faults[0]
    if ledger.newer:
        raise Unverifiable(f"commit {len(ledger.commits) + 1} is of a newer version")

    used = ledger.numbers | {number for chain in chains.values() for number in chain.numbers}
    drawn = key.count_drawn(store, used)
    counted = used if drawn is None else set(range(drawn))
    return Report(events, counted - used - set(key.skipped), used - counted, ledger.keys)


def verify_store(root: Path, key: Key, kept: str | None = None) -> int:
    """Verify a store as `examine_store` does, and give how many events it holds, the toolkit's own included."""
    return examine_store(root, key, kept).events


# -- receipts and proofs of growth -------------------------------------------------------------------------------------


def read_checkpoint(note: str, verifier_keys: list[str]) -> tuple[str, int, bytes]:
    """Give origin, size and root of a checkpoint that one of the keys signed."""
    text, _ = parse_note(note)
    origin, size, root = text.split("\n")[:3]
    mine = [key for key in verifier_keys if key.partition("+")[0] == origin]
    expect(any(has_signature(note, key, origin) for key in mine), "a checkpoint that no given key signed")
    expect(re.fullmatch("0|[1-9][0-9]*", size), "a checkpoint without a size")
    return origin, int(size), decode_base64(root)


def check_receipt(receipt: str, verifier_keys: list[str]) -> dict[str, Any]:
    """Check a receipt with the public keys alone, and give the event that it proves."""
    head, _, checkpoint = receipt.partition("\n\n")
    kind, extra, index, *hashes = head.split("\n")
    expect(kind == "c2sp.org/tlog-proof@v1" and extra.startswith("extra ") and len(hashes) <= 63, "no receipt")
    expect(re.fullmatch("index (0|[1-9][0-9]*)", index), "a receipt without an index")
    line = decode_base64(extra.removeprefix("extra "))
    origin, size, root = read_checkpoint(checkpoint, verifier_keys)
    fields, _, _ = parse_line(line, BODY)
    expect(f"auditkit/{fields['store']}" == origin, "an event of another store")
    node, a, b = sha(b"\0" + line), int(index.removeprefix("index ")), size - 1
    expect(a <= b, "an index beyond the tree")
    for each in map(decode_base64, hashes):
        expect(b > 0, "too many hashes")
        if a % 2 or a == b:
            node = sha(b"\1" + each + node)
            while a % 2 == 0 and a > 0:
                a, b = a // 2, b // 2
        else:
            node = sha(b"\1" + node + each)
        a, b = a // 2, b // 2
    expect(b == 0 and node == root, "hashes that don't lead to the root")
    return fields


def check_growth(older: str, proof: str, verifier_keys: list[str]) -> tuple[int, int]:
    """Check that a tree only grew since an older checkpoint, and give both sizes."""
    head, _, newer = proof.partition("\n\n")
    first, *hashes = head.split("\n")
    origin, m, old_root = read_checkpoint(older, verifier_keys)
    same, n, new_root = read_checkpoint(newer, verifier_keys)
    expect(origin == same and first == f"old {m}" and 0 < m <= n and len(hashes) <= 63, "a proof between other trees")
    path = [decode_base64(each) for each in hashes]
    if m == n:
        expect(not path and old_root == new_root, "two trees of one size")
        return m, n
    if m & (m - 1) == 0:
        path.insert(0, old_root)
    expect(path, "no hashes")
    a, b = m - 1, n - 1
    while a % 2:
        a, b = a // 2, b // 2
    old, new = path[0], path[0]
    for each in path[1:]:
        expect(b > 0, "too many hashes")
        if a % 2 or a == b:
            old, new = sha(b"\1" + each + old), sha(b"\1" + each + new)
            while a % 2 == 0 and a > 0:
                a, b = a // 2, b // 2
        else:
            new = sha(b"\1" + new + each)
        a, b = a // 2, b // 2
    expect(b == 0 and (old, new) == (old_root, new_root), "hashes that don't lead to the roots")
    return m, n
