"""Real stores for the tests of sealing, scanning and integrity.

`Chain` writes journals by the specification alone (`json`, `hashlib`, `hmac`), without the toolkit's recording: so that
a test decides epochs, gaps, torn ends and times freely, and the format has a second implementation that must agree.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import auditkit
from auditkit import AuditTrail
from auditkit.integrity import Finding, Verification
from auditkit.keys import Keys
from auditkit.sealing import SealResult
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout
from auditkit.store.ledger import list_commits

CHECKOUT = Path(auditkit.__file__).parents[1]
DAY_US = 86_400_000_000

COLUMNS = (
    "v", "writer", "seq", "epoch", "time", "type", "actor", "lead_id", "workflow", "outcome", "operation",
    "duration_us", "error_type", "message", "traceback", "details",
)  # fmt: skip


def at(day: date, seconds: float = 0) -> int:
    """Return a time of a UTC date in microseconds since 1970."""
    return (day - date(1970, 1, 1)).days * DAY_US + round(seconds * 1e6)


def print_body(fields: dict[str, Any]) -> bytes:
    """Print a body as the specification says; Python's own escapes are those of the format."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def hash_leaf(line: bytes) -> bytes:
    return sha256(b"\0" + line).digest()


@dataclass(frozen=True)
class Site:
    """A store and its key file, side by side in one folder, so that both are copied together."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "audit"

    @property
    def key_file(self) -> Path:
        return self.folder / "audit.key"

    @property
    def layout(self) -> Layout:
        return Layout(self.path)

    @property
    def store_id(self) -> str:
        return str(json.loads((self.path / "store.json").read_bytes())["store"])

    @property
    def keys(self) -> Keys:
        return KeyFile(self.key_file)

    def open(self) -> AuditTrail:
        return auditkit.open(self.path, key_file=self.key_file)

    def verify(self, *, deep: bool = True, pin: bool = False) -> Verification:
        """Verify the store by itself: copies of one store, changed in different ways, aren't each other's future."""
        return self.open().verify(deep=deep, pin=pin)

    def seal(self) -> SealResult:
        return self.open().seal()

    def copy(self, target: Path) -> Site:
        """Copy the site; a copy's journals have no owners."""
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(self.folder, target)
        return Site(target)

    def journals(self) -> list[Path]:
        return sorted((self.path / "journal").glob("*.jsonl"))

    def segments(self) -> list[Path]:
        return sorted((self.path / "events").rglob("*.parquet"))

    def commits(self) -> list[Path]:
        return [self.layout.commit(number) for number in list_commits(self.layout)]

    def name(self, path: Path) -> str:
        """Name a file as findings name it."""
        return path.relative_to(self.path).as_posix()


def make_site(folder: Path, name: str = "sitesitesitesite") -> Site:
    """Make an empty store with a key file of its own, the same at every run, so that examples can be repeated."""
    site = Site(folder)
    root = sha256(name.encode()).digest()
    key = {
        "auditkit": "key", "v": 1, "mode": "ordinary", "store": name, "root": root.hex(),
        "sign": sha256(root).hexdigest(), "n": 0, "current": root.hex(),
    }  # fmt: skip
    for part in ("journal", "ledger", "events"):
        (site.path / part).mkdir(parents=True)
    site.key_file.write_text(json.dumps(key))
    site.key_file.chmod(0o600)
    description = {
        "auditkit": "store", "format": 1, "store": name, "key_id": KeyFile(site.key_file).key_id,
        "created": at(date(2020, 3, 1)), "public_key": None,
    }  # fmt: skip
    (site.path / "store.json").write_text(json.dumps(description))
    return site


@dataclass
class Chain:
    """One writer, as the specification describes it.

    Args:
        site: Its store.
        day: The UTC date of its events.
        name: A letter that tells it from the day's others.
        owned: Whether the journal is locked, as a living process has it.
        opens: Whether it begins with its ``auditkit.opened``.
    """

    site: Site
    day: date
    name: str = "a"
    owned: bool = False
    opens: bool = True
    seq: int = 0
    epoch: int = 0
    prev: bytes = bytes(32)
    part: int = 0
    lines: list[bytes] = field(default_factory=list)
    _lock: int = -1

    def __post_init__(self) -> None:
        self.writer = f"{self.day.isoformat().replace('-', '')}-{self.name * 16}"
        self._store = self.site.store_id
        self.number, key = self.site.keys.draw()
        label = b"\0".join((b"auditkit/1 writer", self._store.encode(), self.writer.encode()))
        self._key = self._first_key = hmac.digest(key, label, "sha256")
        self._open_part()
        if self.opens:
            details = {"n": self.number, "parent": None, "host": "test", "pid": 1}
            self.add(type="auditkit.opened", details=json.dumps(details, separators=(",", ":")))

    @property
    def path(self) -> Path:
        return self.site.layout.part(self.writer, self.part)

    def _open_part(self) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600)
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
        if self.owned:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._lock = descriptor
        else:
            os.close(descriptor)

    def sign(self, **fields: Any) -> bytes:
        """Print the next line; without adding it."""
        body: dict[str, Any] = dict.fromkeys(("v", "store", *COLUMNS[1:]))
        body.update(
            v=1, store=self._store, writer=self.writer, seq=self.seq, epoch=self.epoch, time=at(self.day, self.seq),
            type="test",
        )  # fmt: skip
        body.update(fields)
        text = print_body(body)
        mac = hmac.digest(self._key, self.prev + text, "sha256")
        return text[:-1] + b',"mac":"' + mac.hex().encode() + b'"}'

    def add(self, **fields: Any) -> int:
        """Append an event; returns its sequence number."""
        line = self.sign(**fields)
        self.write(line + b"\n")
        self.lines.append(line)
        self.prev = hash_leaf(line)
        self.seq += 1
        return self.seq - 1

    def add_gap(self, dropped: int) -> int:
        seq = self.add(type="auditkit.gap", details=json.dumps({"dropped": dropped}))
        self.seq = seq + dropped
        return seq

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def rotate(self) -> None:
        """Go on in a new part, with the next key."""
        self.part += 1
        self._open_part()
        self.ratchet()

    def ratchet(self) -> None:
        self._key = hmac.digest(self._key, b"auditkit/1 epoch", "sha256")
        self.epoch += 1

    def go_back(self) -> None:
        """Sign with the first key again, as whoever has kept it can, and no writer does."""
        self._key, self.epoch = self._first_key, 0

    def close(self) -> None:
        self.add(type="auditkit.closed", details="{}")
        self.leave()

    def leave(self) -> None:
        """End without a signed end, as a killed process does."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_segment(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read()


def write_segment(path: Path, table: pa.Table) -> None:
    """Write a segment over another as an attacker would: same columns, same footer, no key needed."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def list_rows(site: Site, path: Path) -> list[tuple[str, int]]:
    """List the events of a segment or a journal in their order."""
    if path.suffix == ".parquet":
        table = read_segment(path)
        return list(zip(table.column("writer").to_pylist(), table.column("seq").to_pylist(), strict=True))
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [(row["writer"], row["seq"]) for row in rows]


def accused_events(verification: Verification) -> set[tuple[str, int]]:
    """List the events that findings name one by one, as changed, added, missing or out of their place."""
    return {
        (finding.writer, seq)
        for finding in verification.findings
        if finding.writer is not None and finding.first_seq is not None and finding.last_seq is not None
        for seq in range(finding.first_seq, finding.last_seq + 1)
    }


def findings_about(verification: Verification, file: str) -> list[Finding]:
    return [finding for finding in verification.findings if finding.file == file]


def say(verification: Verification) -> str:
    """Print everything, for the message of a failing test."""
    return "\n".join(map(str, (*verification.findings, "notes:", *verification.notes)))


MONDAY, TUESDAY, WEDNESDAY = date(2020, 3, 2), date(2020, 3, 3), date(2020, 3, 4)

TEXTS = (
    "",
    "plain",
    'quote " backslash \\ slash /',
    "tab\t newline\n return\r feed\f back\b",
    "nul \0 bell \x07 escape \x1b[31m",
    "unit \x1f delete \x7f c1 \x9b",
    "line \u2028 paragraph \u2029",
    "emoji 👩🏽 and 𝄞",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "\ufeffbom and \ufffd",
    "\u202eoverride",
)


def make_fields(number: int) -> dict[str, Any]:
    """Return the free columns of an event: now full, now sparse, now hostile."""
    text = TEXTS[number % len(TEXTS)]
    if number % 3 == 0:
        return {"type": f"kind.{number % 5}", "lead_id": f"L-{number % 7}"}
    return {
        "type": "error" if number % 4 == 0 else "operation",
        "actor": ["ana", "bo", None, ""][number % 4],
        "lead_id": f"L-{number % 7}",
        "workflow": ["intake", "renewal", None][number % 3],
        "outcome": "failure" if number % 4 == 0 else "success",
        "operation": ["score", "sync", None][number % 3],
        "duration_us": number * 1000 if number % 2 else None,
        "error_type": "ValueError" if number % 4 == 0 else None,
        "message": text,
        "traceback": text * 3 if number % 4 == 0 else None,
        "details": json.dumps({"n": number, "text": text}),
    }


def add_events(chain: Chain, count: int) -> None:
    for _ in range(count):
        chain.add(**make_fields(chain.seq))


@dataclass(repr=False)
class Sample:
    """A store with three sealed commits over three dates, and journals that aren't sealed yet."""

    site: Site
    chains: dict[str, Chain]

    def copy(self, target: Path) -> Site:
        return self.site.copy(target)


def make_sample(folder: Path) -> Sample:
    """Make the sample store.

    ``ana`` and ``bo`` record on Monday, ``ana`` is sealed in two commits, ``bo`` ratchets its key, drops four events
    and is never closed. ``cy`` records on Tuesday. On Wednesday ``di`` is sealed, ``ed`` is half sealed and its process
    lives on, ``fay`` has a closed journal of two parts, and ``gus`` was killed.
    """
    site = make_site(folder)
    ana, bo = Chain(site, MONDAY, "a"), Chain(site, MONDAY, "b")
    add_events(ana, 40)
    add_events(bo, 12)
    bo.ratchet()
    bo.add_gap(4)
    add_events(bo, 9)
    site.seal()
    cy = Chain(site, TUESDAY, "c")
    ana.rotate()
    add_events(ana, 20)
    ana.close()
    add_events(cy, 30)
    cy.close()
    site.seal()
    di, ed = Chain(site, WEDNESDAY, "d"), Chain(site, WEDNESDAY, "e", owned=True)
    add_events(di, 15)
    di.close()
    add_events(ed, 10)
    site.seal()
    add_events(ed, 8)
    ed.leave()
    fay, gus = Chain(site, WEDNESDAY, "f"), Chain(site, WEDNESDAY, "g")
    add_events(fay, 14)
    fay.rotate()
    add_events(fay, 9)
    fay.close()
    add_events(gus, 11)
    return Sample(site, {"ana": ana, "bo": bo, "cy": cy, "di": di, "ed": ed, "fay": fay, "gus": gus})
