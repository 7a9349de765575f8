"""Journal parts as columns, each line parsed once a process.

A live journal may hold 150,000 events, and parsing them takes more than a second. Journals only grow, so what was
parsed is kept, and a later look parses only the lines behind it. That the beginning is still the same is not believed
but compared, by its SHA-256: that costs a thirtieth of parsing it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from auditkit.errors import explain_missing
from auditkit.event import make_schema
from auditkit.store import journal, segments
from auditkit.store.journal import Part

try:
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

KEPT_BYTES: Final = 128 << 20
"""How much journal text a process keeps parsed, whichever was used last; a longer part is parsed at every look."""

_ENTRY_BYTES: Final = 16 << 10
"""What a part counts beside its text: thousands of tiny ones cost more than their text."""

_BATCH_BYTES: Final = 1 << 20
"""How much text of small parts is parsed together: a call costs milliseconds, and a part of it keeps all in memory."""

_MAX_CHUNKS: Final = 32
"""From how many pieces on columns are joined: a query pays for each."""


@dataclass(frozen=True)
class ParsedPart:
    """The complete lines of a part, as they were at one look.

    Attributes:
        table: The events, in the columns of a segment.
        unreadable: How many lines aren't events.
        size: Length of the lines in bytes.
        digest: Their SHA-256.
    """

    table: pa.Table
    unreadable: int
    size: int
    digest: bytes


_Key = tuple[Path, str]


class _Kept:
    """What was parsed, in the order of its use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: OrderedDict[_Key, ParsedPart] = OrderedDict()
        self._weight = 0

    def get(self, key: _Key) -> ParsedPart | None:
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
            return self._parts.get(key)

    def put(self, key: _Key, parsed: ParsedPart) -> None:
        with self._lock:
            if key in self._parts:
                self._weight -= _weigh(self._parts.pop(key))
            if _weigh(parsed) > KEPT_BYTES:
                return
            self._parts[key] = parsed
            self._weight += _weigh(parsed)
            while self._weight > KEPT_BYTES:
                self._weight -= _weigh(self._parts.popitem(last=False)[1])


def _weigh(parsed: ParsedPart) -> int:
    return parsed.size + _ENTRY_BYTES


@dataclass(frozen=True)
class _Look:
    """A part as it is now: what is known of it, and the lines that aren't."""

    key: _Key
    known: ParsedPart | None
    lines: list[bytes]
    size: int
    digest: bytes

    @property
    def new_bytes(self) -> int:
        return self.size - (self.known.size if self.known else 0)


def read_parsed(parts: Iterable[Part], store: str) -> list[ParsedPart]:
    """Read the complete lines of parts as columns.

    Args:
        parts: The parts; one that has vanished is empty.
        store: Id of the store whose events they must be.

    Returns:
        For each part the lines as they stand in its file now.
    """
    parsed: list[ParsedPart] = []
    batch: list[_Look] = []
    waiting = 0
    for part in parts:
        look = _look_at(part, store)
        batch.append(look)
        waiting += look.new_bytes
        if waiting >= _BATCH_BYTES:
            parsed += _parse(batch, store)
            batch, waiting = [], 0
    return parsed + _parse(batch, store)


def _look_at(part: Part, store: str) -> _Look:
    key = (part.path, store)
    data = journal.read_part(part).data
    known = _kept.get(key)
    start = known.size if known else 0
    digest = sha256(memoryview(data)[:start])
    if known is not None and digest.digest() != known.digest:
        known, start, digest = None, 0, sha256()
    digest.update(memoryview(data)[start:])
    return _Look(key, known, list(journal.split_lines(data[start:])), len(data), digest.digest())


def _parse(batch: list[_Look], store: str) -> list[ParsedPart]:
    lines = [line for look in batch for line in look.lines]
    table, good, _ = segments.parse_lines(lines, store) if lines else (make_schema().empty_table(), [], [])
    parsed: list[ParsedPart] = []
    line = row = 0
    for look in batch:
        if look.known is not None and not look.lines:
            parsed.append(look.known)
            continue
        flags = good[line : line + len(look.lines)]
        rows = flags.count(True)
        mine = table.slice(row, rows)
        line, row = line + len(flags), row + rows
        unreadable = len(flags) - rows
        if look.known is not None:
            mine, unreadable = join_tables([look.known.table, mine]), unreadable + look.known.unreadable
        parsed.append(ParsedPart(mine, unreadable, look.size, look.digest))
        _kept.put(look.key, parsed[-1])
    return parsed


def join_tables(tables: list[pa.Table]) -> pa.Table:
    """Join tables of the same columns one below the other, in few pieces.

    Args:
        tables: At least one.
    """
    joined: pa.Table = pa.concat_tables(tables)
    return joined.combine_chunks() if joined.column("seq").num_chunks > _MAX_CHUNKS else joined


def _begin_anew() -> None:
    """Let a forked child begin with nothing: another thread may have been at it when the process forked."""
    global _kept
    _kept = _Kept()


_kept = _Kept()

os.register_at_fork(after_in_child=_begin_anew)
