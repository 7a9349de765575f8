"""The paths of a store: the one place that knows how its files are named. Pure: nothing here touches the disk.

::

    audit/
      store.json                       format, store id, key id, public key
      journal/<writer>.<part>.jsonl    the open events of one writer
      staging/                         segments on their way in
      quarantine/                      what could not be believed, kept for a person to look at
      events/date=2026-11-23/*.parquet sealed segments
      ledger/00000001.commit           signed commits
      anchors/00000001.note            a commit's checkpoint with what witnesses signed; .tsr: time stamps of it
      seal.lock                        held by the one process that seals
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from auditkit.event import DAY_US

_WRITER = r"(\d{8})-([a-z2-7]{16})"
_PART = re.compile(rf"({_WRITER})\.(\d{{6}})\.jsonl", re.ASCII)
_COMMIT = re.compile(r"(\d{8})\.commit", re.ASCII)
_SEGMENT = re.compile(r"events/date=(\d{4}-\d{2}-\d{2})/([0-9a-f]{16})\.parquet", re.ASCII)
_PARTITION = re.compile(r"date=\d{4}-\d{2}-\d{2}", re.ASCII)
_STAGED = re.compile(r"(writing-\d+-\d+|[0-9a-f]{16})\.parquet", re.ASCII)
_ANCHOR = re.compile(r"\d{8}\.(note|[0-9a-f]{16}\.tsr)", re.ASCII)
_STORE = re.compile(r"[a-z2-7]{16}")

FOLDERS: Final = ("journal", "staging", "quarantine", "events", "ledger", "anchors")
"""Folders of a store."""

_EPOCH_DAY: Final = date(1970, 1, 1)


class PartName(NamedTuple):
    """What a journal's file name says."""

    writer: str
    part: int


def _draw_name() -> str:
    return b32encode(secrets.token_bytes(10)).decode().lower()


def name_store() -> str:
    """Draw a store's id: 80 random bits in lower-case base32 (RFC 4648).

    Example:
        >>> is_store_name(name_store())
        True
    """
    return _draw_name()


def is_store_name(text: object) -> bool:
    """Tell whether a value can be a store's id."""
    return isinstance(text, str) and _STORE.fullmatch(text) is not None


def name_writer(day: date) -> str:
    """Draw the id of a new writer for one UTC date.

    Example:
        >>> name_writer(date(2026, 11, 23))[:9]
        '20261123-'
    """
    return f"{day.year:04}{day.month:02}{day.day:02}-{_draw_name()}"


def read_writer_day(writer: str) -> date | None:
    """Read the date out of a writer's id; None if it isn't one.

    Example:
        >>> read_writer_day("20261123-aaaaaaaaaaaaaaaa")
        datetime.date(2026, 11, 23)
    """
    match = re.fullmatch(_WRITER, writer, re.ASCII)
    if match is None:
        return None
    digits = match[1]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def find_day(time_us: int) -> date:
    """Find the UTC date of a time in microseconds since 1970.

    Example:
        >>> find_day(-1)
        datetime.date(1969, 12, 31)
    """
    return _EPOCH_DAY + timedelta(days=time_us // DAY_US)


def start_of_day(day: date) -> int:
    """Compute the first microsecond (since 1970) of a UTC date.

    Example:
        >>> start_of_day(date(1970, 1, 2))
        86400000000
    """
    return (day - _EPOCH_DAY).days * DAY_US


def name_part(writer: str, part: int) -> str:
    """Name the journal file of one part of a writer.

    Example:
        >>> read_part_name(name_part("20261123-aaaaaaaaaaaaaaaa", 3))
        PartName(writer='20261123-aaaaaaaaaaaaaaaa', part=3)
    """
    return f"{writer}.{part:06}.jsonl"


def read_part_name(name: str) -> PartName | None:
    """Read a journal's file name; None if it isn't one."""
    match = _PART.fullmatch(name)
    return PartName(match[1], int(match[4])) if match else None


def name_commit(number: int) -> str:
    """Name the file of a ledger commit.

    Example:
        >>> name_commit(7)
        '00000007.commit'
    """
    return f"{number:08}.commit"


def read_commit_name(name: str) -> int | None:
    """Read a commit's number from its file name; None if it isn't one."""
    match = _COMMIT.fullmatch(name)
    return int(match[1]) if match else None


def name_segment(day: date, digest: str) -> str:
    """Name a segment by its date and its content, relative to the store.

    Args:
        day: UTC date of its events.
        digest: SHA-256 of the file, hexadecimal.

    Example:
        >>> name_segment(date(2026, 11, 23), "0123456789abcdef" * 4)
        'events/date=2026-11-23/0123456789abcdef.parquet'
    """
    return f"events/date={day.isoformat()}/{digest[:16]}.parquet"


def read_segment_name(name: str) -> date | None:
    """Read the date from a segment's name relative to the store; None if it isn't one.

    Example:
        >>> read_segment_name("events/date=2026-11-23/../../x.parquet") is None
        True
    """
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    try:
        return date.fromisoformat(match[1])
    except ValueError:
        return None


def is_staged_name(name: str) -> bool:
    """Tell whether a name is one that a sealer gives in ``staging/``: to what it writes, or to a finished segment.

    Example:
        >>> is_staged_name("0123456789abcdef.parquet"), is_staged_name("notes.parquet")
        (True, False)
    """
    return _STAGED.fullmatch(name) is not None


def is_known_name(folder: str, name: str) -> bool:
    """Tell whether the format knows a name.

    Args:
        folder: Which of `FOLDERS` it lies in, empty for the store's own.
        name: The name of a file or folder in it.

    Example:
        >>> is_known_name("", "store.json"), is_known_name("ledger", "README")
        (True, False)
    """
    if folder == "journal":
        part = read_part_name(name)
        return part is not None and read_writer_day(part.writer) is not None
    if folder == "ledger":
        return read_commit_name(name) is not None
    if folder == "staging":
        return is_staged_name(name)
    if folder == "anchors":
        return _ANCHOR.fullmatch(name) is not None
    if folder == "events":
        return _PARTITION.fullmatch(name) is not None
    return folder == "quarantine" or name in ("store.json", "seal.lock", *FOLDERS)


def today(now: datetime | None = None) -> date:
    """Give the UTC date of now."""
    return (now or datetime.now(UTC)).astimezone(UTC).date()


class Layout:
    """The paths of one store.

    Args:
        root: The store's folder.

    Example:
        >>> Layout(Path("audit")).commit(1).as_posix()
        'audit/ledger/00000001.commit'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = root / "store.json"
        self.journal = root / "journal"
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self.events = root / "events"
        self.ledger = root / "ledger"
        self.anchors = root / "anchors"
        self.seal_lock = root / "seal.lock"

    def __repr__(self) -> str:
        return f"Layout({str(self.root)!r})"

    def part(self, writer: str, part: int) -> Path:
        """Say where a journal part lies."""
        return self.journal / name_part(writer, part)

    def commit(self, number: int) -> Path:
        """Say where a ledger commit lies."""
        return self.ledger / name_commit(number)

    def cosigned(self, number: int) -> Path:
        """Say where the checkpoint of a commit lies with what witnesses have added to it."""
        return self.anchors / f"{number:08}.note"

    def timestamp(self, number: int, digest: str) -> Path:
        """Say where a time stamp of a commit's checkpoint lies, by the SHA-256 of its own bytes."""
        return self.anchors / f"{number:08}.{digest[:16]}.tsr"

    def segment(self, name: str) -> Path:
        """Say where a segment lies, from its name in the ledger."""
        return self.root / name

    def staged(self, name: str) -> Path:
        """Say where a segment waits until the ledger has it."""
        return self.staging / name.rpartition("/")[2]
