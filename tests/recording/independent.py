"""A second reading of the format, written from its description alone and sharing no code with the toolkit.

What the toolkit writes is checked against this: bodies printed character by character, MACs made with `hmac.new`, keys
ratcheted step by step.
"""

from __future__ import annotations

import hmac
import json
import re
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

KEYS = (
    "v", "store", "writer", "seq", "epoch", "time", "type", "actor", "lead_id", "workflow", "outcome", "operation",
    "duration_us", "error_type", "message", "traceback", "details",
)  # fmt: skip

SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}

PART = re.compile(r"((\d{8})-[a-z2-7]{16})\.(\d{6})\.jsonl")


class Line(NamedTuple):
    """One journal line, taken apart."""

    fields: dict[str, Any]
    body: bytes
    mac: str | None
    leaf: bytes
    file: str


def print_text(text: str) -> str:
    """Print a JSON string: seven short escapes, lower-case hexadecimal for other controls, the rest as it is."""
    pieces = []
    for character in text:
        if character in SHORT:
            pieces.append(SHORT[character])
        elif ord(character) < 0x20:
            pieces.append("\\u00" + format(ord(character), "02x"))
        else:
            pieces.append(character)
    return '"' + "".join(pieces) + '"'


def print_body(fields: dict[str, Any]) -> bytes:
    """Print a body's bytes."""
    pieces = []
    for key in KEYS:
        value = fields[key]
        text = "null" if value is None else print_text(value) if isinstance(value, str) else str(value)
        pieces.append(f'"{key}":{text}')
    return ("{" + ",".join(pieces) + "}").encode()


def take_apart(line: bytes, file: str = "") -> Line:
    """Split a line into body and MAC, and read the body with the standard library."""
    head, _, tail = line.rpartition(b',"mac":')
    body = head + b"}"
    mac = json.loads(tail[:-1])
    leaf = sha256(b"\x00" + line).digest()
    return Line(json.loads(body), body, mac, leaf, file)


def read_journal(store: Path) -> dict[str, list[Line]]:
    """Read every complete line of every journal, by writer, in the order of the parts."""
    writers: dict[str, list[Line]] = defaultdict(list)
    for path in sorted((store / "journal").iterdir()):
        match = PART.fullmatch(path.name)
        assert match, f"not a journal part's name: {path.name}"
        for line in path.read_bytes().split(b"\n")[:-1]:
            writers[match[1]].append(take_apart(line, path.name))
    return dict(writers)


def root_of_secret(secret: str) -> bytes:
    """Derive K[0] from a secret that the application gives."""
    return hmac.new(secret.encode(), b"auditkit/1 root", sha256).digest()


def root_of_file(path: Path) -> bytes:
    """Read K[0] from a key file."""
    return bytes.fromhex(json.loads(path.read_text())["root"])


def make_key(root: bytes, n: int, store: str, writer: str, epoch: int) -> bytes:
    """Compute W[n,e]."""
    key = root
    for _ in range(n):
        key = hmac.new(key, b"auditkit/1 next", sha256).digest()
    key = hmac.new(key, b"\x00".join([b"auditkit/1 writer", store.encode(), writer.encode()]), sha256).digest()
    for _ in range(epoch):
        key = hmac.new(key, b"auditkit/1 epoch", sha256).digest()
    return key


def check_chain(writer: str, lines: list[Line], root: bytes) -> None:
    """Check one writer from its first event on: bytes, order, dates, and every MAC over the leaf before."""
    opened = json.loads(lines[0].fields["details"])
    prev, seq, epoch = bytes(32), 0, 0
    day = f"{writer[:4]}-{writer[4:6]}-{writer[6:8]}"
    first_of_day = json_day(day)
    for line in lines:
        fields = line.fields
        assert tuple(fields) == KEYS
        assert print_body(fields) == line.body
        assert (fields["v"], fields["writer"], fields["seq"]) == (1, writer, seq)
        assert fields["epoch"] >= epoch
        assert first_of_day <= fields["time"] < first_of_day + 86_400_000_000
        epoch = fields["epoch"]
        key = make_key(root, opened["n"], fields["store"], writer, epoch)
        assert hmac.new(key, prev + line.body, sha256).hexdigest() == line.mac
        prev = line.leaf
        seq += json.loads(fields["details"])["dropped"] if fields["type"] == "auditkit.gap" else 1
    assert lines[0].fields["type"] == "auditkit.opened"
    kinds = [line.fields["type"] for line in lines[1:]]
    assert "auditkit.opened" not in kinds
    assert "auditkit.closed" not in kinds[:-1]


def check_journal(store: Path, root: bytes) -> dict[str, list[Line]]:
    """Check every writer's chain in the journals."""
    writers = read_journal(store)
    for writer, lines in writers.items():
        check_chain(writer, lines, root)
    return writers


def json_day(day: str) -> int:
    """Compute the first microsecond of a UTC date, counting days as calendars do."""
    year, month, number = map(int, day.split("-"))
    # Days from civil, after the proleptic Gregorian calendar: years begin in March, so that the leap day is the last.
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + number - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days * 86_400_000_000
