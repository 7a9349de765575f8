"""An independent verifier of auditkit stores, written from docs/format.md alone. It imports nothing of auditkit.

It is slow, keeps everything in memory, and stops at the first thing that isn't as the page says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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
PATH = re.compile(r"events/date=(\d{4}-\d{2}-\d{2})/([0-9a-f]{16})\.parquet")
PART = re.compile(r"(\d{8}-[a-z2-7]{16})\.\d{6}\.jsonl")


class Fault(Exception):
    """Something isn't as the page says."""


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


def parse_line(line: bytes, keys: list[str]) -> tuple[dict[str, Any], bytes, bytes | None]:
    """Give the fields, the body and the MAC of an event's or a commit's line."""
    fields = json.loads(line)
    digits = fields.pop("mac")
    code = None if digits is None else bytes.fromhex(digits)
    body = canonical(fields)
    expect(list(fields) == keys and join_line(body, code) == line, "a line that isn't canonical")
    return fields, body, code


def compute_root(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha(b"")
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + compute_root(leaves[:k]) + compute_root(leaves[k:]))


def compute_nodes(first: int, leaves: list[bytes]) -> list[str]:
    nodes = []
    while leaves:
        size = 1 << len(leaves).bit_length() - 1
        while first % size:
            size //= 2
        nodes.append(compute_root(leaves[:size]).hex())
        first, leaves = first + size, leaves[size:]
    return nodes


@dataclass(frozen=True)
class Key:
    """Where K[n] and the seed of the signing key come from."""

    root: bytes
    seed: bytes

    @classmethod
    def from_file(cls, path: Path) -> Key:
        state = json.loads(path.read_bytes())
        return cls(bytes.fromhex(state["root"]), bytes.fromhex(state["sign"]))

    @classmethod
    def from_secret(cls, secret: bytes) -> Key:
        root = mac(secret, b"auditkit/1 root")
        return cls(root, mac(root, b"auditkit/1 sign"))

    def derive(self, n: int, *label: str) -> bytes:
        key = self.root
        for _ in range(n):
            key = mac(key, b"auditkit/1 next")
        return mac(key, "\0".join(label).encode())


@dataclass
class Chain:
    """One writer: its head, its keys by epoch, and what its events said so far."""

    next: int = 0
    link: bytes = bytes(32)
    closed: bool = False
    epoch: int = 0
    signed: bool | None = None
    keys: list[bytes] = field(default_factory=list)

    def take(self, key: Key, store: str, fields: dict[str, Any], body: bytes, code: bytes | None) -> bytes:
        """Check that an event is the next one, move on, and give its leaf."""
        where = f"{fields['writer']}:{fields['seq']}"
        day = date(1970, 1, 1) + timedelta(days=fields["time"] // 86_400_000_000)
        expect(fields["v"] == 1 and fields["store"] == store, f"{where}: v or store")
        expect(fields["writer"][:8] == day.isoformat().replace("-", ""), f"{where}: its date")
        expect(fields["seq"] == self.next and not self.closed, f"{where}: expected {self.next}")
        expect(fields["epoch"] >= self.epoch and self.signed in (None, code is not None), f"{where}: epoch or signing")
        details = fields["details"]
        if fields["seq"] == 0:
            expect(fields["type"] == "auditkit.opened" and fields["epoch"] == 0, f"{where}: the first event")
            self.keys = [key.derive(json.loads(details)["n"], "auditkit/1 writer", store, fields["writer"])]
        while len(self.keys) <= fields["epoch"]:
            self.keys.append(mac(self.keys[-1], b"auditkit/1 epoch"))
        expect(code == mac(self.keys[fields["epoch"]], self.link + body), f"{where}: MAC")
        self.link = sha(b"\0" + join_line(body, code))
        self.next += json.loads(details)["dropped"] if fields["type"] == "auditkit.gap" else 1
        self.closed = fields["type"] == "auditkit.closed"
        self.epoch, self.signed = fields["epoch"], code is not None
        return self.link


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
    table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    expect(table.column_names == COLUMNS and table.num_rows == entry["rows"], f"{path}: columns or rows")
    rows = table.set_column(4, "time", table.column("time").cast(pa.int64())).to_pylist()
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


def check_note(note: str, text: str, name: str, key_hash: bytes, public: Ed25519PublicKey) -> None:
    """Check that a note says a text and that the store's key signed it; others may have signed it too."""
    expect(note.startswith(f"{text}\n— "), f"a note that doesn't say {text!r}")
    lines = [line.split(" ") for line in note.removeprefix(f"{text}\n").splitlines()]
    signatures = [base64.b64decode(encoded, validate=True) for _, signer, encoded in lines if signer == name]
    ours = [signature[4:] for signature in signatures if signature[:4] == key_hash]
    expect(ours, "a note that the store's key didn't sign")
    for signature in ours:
        public.verify(signature, text.encode())


def verify_store(root: Path, key: Key, kept: str | None = None) -> int:
    """Verify a store.

    Args:
        root: Its folder.
        key: Its key, from elsewhere.
        kept: The text of a checkpoint that somebody kept elsewhere.

    Returns:
        How many events it holds, the toolkit's own included.

    Raises:
        Fault: At the first thing that isn't as the page says. Other exceptions come from files that can't be read.
    """
    description = json.loads((root / "store.json").read_bytes())
    store, name = description["store"], f"auditkit/{description['store']}"
    key_id = key.derive(0, "auditkit/1 id")[:8].hex()
    expect((description["format"], description["key_id"]) == (1, key_id), "store.json: format or key")
    public = Ed25519PrivateKey.from_private_bytes(key.seed).public_key()
    encoded = b"\1" + public.public_bytes_raw()
    key_hash = sha(name.encode() + b"\n" + encoded)[:4]
    verifier_key = f"{name}+{key_hash.hex()}+{base64.b64encode(encoded).decode()}"
    expect(description["public_key"] in (None, verifier_key), "store.json: public key")

    parts = [path for path in sorted((root / "journal").iterdir()) if PART.fullmatch(path.name)]
    # Behind the last newline stands nothing, or a torn line, which is no event.
    journals = [(part.name, line) for part in parts for line in part.read_bytes().split(b"\n")[:-1]]

    chains: dict[str, Chain] = {}
    leaves: list[bytes] = []
    roots: dict[int, bytes] = {}
    live: set[str] = set()
    commits = sorted(path for path in (root / "ledger").iterdir() if re.fullmatch(r"\d{8}\.commit", path.name))
    expect(bool(commits) or description["public_key"] is None, "store.json: a public key, and no commit")
    expect(len(commits) < 2 or description["public_key"] is not None, "store.json: no public key")
    for n, path in enumerate(commits, 1):
        line, _, note = path.read_bytes().partition(b"\n")
        fields, body, code = parse_line(line, COMMIT)
        expect(
            "without a valid MAC" not in (fields["detail"] or ""), "a journal held lines that its writer didn't sign"
        )
        expect(code == mac(key.derive(fields["key_n"], "auditkit/1 commit", store), body), f"{path.name}: MAC")
        expect((fields["v"], fields["store"], fields["n"]) == (1, store, n), f"{path.name}: expected commit {n}")
        before = (len(leaves), compute_root(leaves).hex())
        expect((fields["first_leaf"], fields["prev_root"]) == before, f"{path.name}: the tree before it")
        keys = {"old": None, "new": verifier_key, "old_signature": None} if n == 1 else None
        unused = [fields[name] for name in ("remove", "retired", "erased", "state", "keys")]
        expect(unused == [[], [], [], None, keys], f"{path.name}: not of this version")
        for entry in fields["add"]:
            expect(entry["path"] not in live, f"{path.name}: {entry['path']} again")
            live.add(entry["path"])
            added = check_segment(root, key, store, entry, chains)
            nodes = compute_nodes(len(leaves), added)
            expect(entry["leaves"] == [[len(leaves), len(added), nodes]], f"{entry['path']}: nodes")
            leaves += added
        leaves.append(sha(b"\0" + line))
        tree = roots[len(leaves)] = compute_root(leaves)
        check_note(note.decode(), f"{name}\n{len(leaves)}\n{base64.b64encode(tree).decode()}\n", name, key_hash, public)

    there = {path.relative_to(root).as_posix() for path in (root / "events").rglob("*") if not path.is_dir()}
    expect(there <= live, f"in no commit: {sorted(there - live)}")
    events = len(leaves) - len(commits)
    for part, line in journals:
        fields, body, code = parse_line(line, BODY)
        chain = chains.setdefault(part[:25], Chain())
        for key_, value in fields.items():
            sound = type(value) is (int if key_ in INTEGERS else str) or (value is None and key_ not in REQUIRED)
            expect(sound, f"{part}: kind of {key_}")
        expect(fields["writer"] == part[:25], f"{part}: an event of {fields['writer']}")
        if fields["seq"] >= chain.next:
            chain.take(key, store, fields, body, code)
            events += 1
    if kept is not None:
        _, size, root_text = kept.split("\n")[:3]
        expect(roots.get(int(size)) == base64.b64decode(root_text), "the ledger isn't the one of the checkpoint")
    return events
