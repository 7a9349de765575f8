"""Walking through the rows of sound segments: whole ones, and slices of them, each row the next one of its run.

A walk prints every row again from its columns, checks its MAC over the row before, and hashes it into the tree. It
never says what is wrong: it stops at the first row that isn't plainly right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from auditkit import tree
from auditkit.chains import WriterKeys, prove_lines
from auditkit.errors import StoreDamaged, explain_missing
from auditkit.event import DAY_US, GAP, GENESIS, hash_line
from auditkit.store import segments
from auditkit.store.layout import read_segment_name, read_writer_day, start_of_day
from auditkit.store.runs import Run, read_dropped
from auditkit.store.segments import ROW_GROUP_ROWS

try:
    import numpy as np
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from auditkit.integrity.inspection import Inspection
    from auditkit.store.ledger import LedgerState, SegmentEntry

MAX_STEPS: Final = 1 << 17
"""How many steps of ratchets a slice may cost; what costs more is proved, and charged, where the verdict is made."""


class Piece(NamedTuple):
    """Rows of one run that follow each other in a slice."""

    run: int
    """Which one of the segment's runs."""
    first: int
    """Sequence number of the first row."""
    last: int
    next: int
    """The sequence number that must come next."""
    epochs: list[int]
    """The epochs, each once, as they go up."""
    link: bytes
    """Leaf of the last row."""
    details: str | None
    """The details of the first row, where that is its writer's first event."""


@dataclass(frozen=True)
class Slice:
    """Some row groups of a sound segment, and what is needed to prove them.

    Attributes:
        path: The file.
        store: Id of the store.
        start_us: Begin of the UTC date of all its events, microseconds since 1970.
        groups: The first of its row groups and the one behind the last.
        rows: How many rows they have.
        first_leaf: Place of the first row's leaf in the tree.
        runs: The segment's runs.
        keys: W[n,0] of the runs' writers.
    """

    path: str
    store: str
    start_us: int
    groups: tuple[int, int]
    rows: int
    first_leaf: int
    runs: tuple[Run, ...]
    keys: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class Proof:
    """What was found in a slice: all of it follows and is signed, but for the first row where there is an opening.

    Attributes:
        rows: How many rows there were.
        nodes: The nodes of their leaves in the tree.
        pieces: Which rows of which runs, in the order they stand.
        opening: Line and epoch of the first row, if it goes on in a run that began in the slice before.
    """

    rows: int
    nodes: list[bytes]
    pieces: list[Piece]
    opening: tuple[bytes, int] | None


class _Unproved(Exception):
    """A row isn't plainly the next one of its run."""


class _Places:
    """What says for each row of a table where in which chain it stands."""

    def __init__(self, table: pa.Table) -> None:
        writer, kind, mac = (_take_chunk(table, name) for name in ("writer", "type", "mac"))
        self.seqs = np.asarray(_take_chunk(table, "seq"))
        self.epochs = np.asarray(_take_chunk(table, "epoch"))
        self.writers = np.asarray(writer.indices)
        self._names = writer.dictionary.to_pylist()
        self._codes = {name: code for code, name in enumerate(self._names)}
        self._macs = memoryview(mac.buffers()[1])[32 * mac.offset :]
        self._details = table.column("details")
        # Not by pyarrow, which turns an interruption while it converts the text into an error of the text's type.
        gaps = [code for code, name in enumerate(kind.dictionary.to_pylist()) if name == GAP]
        self._gaps = deque(np.flatnonzero(np.isin(np.asarray(kind.indices), gaps)).tolist() if len(gaps) else ())

    def read_writer(self, at: int) -> str:
        name: str = self._names[self.writers[at]]
        return name

    def read_details(self, at: int) -> str | None:
        details: str | None = self._details[at].as_py()
        return details

    def follow(self, run: Run, wanted: int, start: int, end: int) -> tuple[int, int]:
        """Find where rows end that follow each other in a run, and which sequence number must come there.

        Args:
            run: The run.
            wanted: The sequence number that must come at the start.
            start: The first row; later calls begin later.
            end: The row behind the last one.
        """
        code = self._codes.get(run.writer, -1)
        while start < end and wanted <= run.last:
            while self._gaps and self._gaps[0] < start:
                self._gaps.popleft()
            stop = min(end, start + run.last - wanted + 1)
            gap = bool(self._gaps) and self._gaps[0] < stop
            if gap:
                stop = self._gaps[0] + 1
            same = (self.writers[start:stop] == code) & (
                self.seqs[start:stop] == np.arange(wanted, wanted + stop - start)
            )
            count = stop - start if same.all() else int(same.argmin())
            start, wanted = start + count, wanted + count
            if start < stop:
                break
            if gap:
                wanted += read_dropped(self.read_details(start - 1)) - 1
        return start, wanted

    def read_macs(self, start: int, end: int) -> bytes:
        return bytes(self._macs[32 * start : 32 * end])

    def list_epochs(self, start: int, end: int) -> list[int]:
        """List the epochs of some rows, one after the other where they change."""
        epochs = self.epochs[start:end]
        changes = np.flatnonzero(epochs[1:] != epochs[:-1]) + 1
        return [int(epochs[0]), *epochs[changes].tolist()]


def _take_chunk(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    if column.num_chunks != 1 or column.null_count:
        raise _Unproved
    return column.chunk(0)


class _Walk:
    """Follows rows through the runs of a segment, table by table.

    Args:
        runs: The segment's runs.
        start_us: Begin of the UTC date of its events, microseconds since 1970.
        first_leaf: Place of the first row's leaf in the tree.
        keys: The writers' signing keys.
    """

    def __init__(self, runs: Sequence[Run], start_us: int, first_leaf: int, keys: WriterKeys) -> None:
        self._runs = runs
        self._start_us = start_us
        self._first_leaf = first_leaf
        self._keys = keys
        self._prev = b""
        self._wanted = 0
        self.at = -1
        self.rows = 0
        self.nodes: list[bytes] = []

    def add(self, table: pa.Table, chunks: Iterable[list[bytes]]) -> None:
        """Follow the rows of a table, whose lines come some thousand at a time.

        Raises:
            _Unproved: If a row isn't the next one, or its MAC doesn't hold.
        """
        if table.num_rows:
            first_us, last_us = segments.span_times(table)
            if first_us < self._start_us or last_us >= self._start_us + DAY_US:
                raise _Unproved
        places = _Places(table)
        before = 0
        for lines in chunks:
            leaves: list[bytes] = []
            while len(leaves) < len(lines):
                leaves += self._prove(places, before, lines, len(leaves))
            self._grow(leaves)
            before += len(lines)

    def _prove(self, places: _Places, before: int, lines: list[bytes], start: int) -> list[bytes]:
        at = before + start
        if self.at < 0 or self._wanted > self._runs[self.at].last:
            if self.at >= 0:
                self._leave()
            opening = self._enter(places, at, lines[start])
            if opening is not None:
                return [opening]
        run = self._runs[self.at]
        end, self._wanted = places.follow(run, self._wanted, at, before + len(lines))
        epochs, macs = places.epochs[at:end].tolist(), places.read_macs(at, end)
        proved = prove_lines(self._keys, run.writer, lines[start : end - before], epochs, self._prev, macs)
        if not proved:
            raise _Unproved
        self._prev = proved[-1]
        self._keep(places, at, end)
        return proved

    def _enter(self, places: _Places, at: int, line: bytes) -> bytes | None:
        """Begin the next run with a row; gives the row's leaf if its MAC is left to somebody else."""
        self.at += 1
        if self.at >= len(self._runs):
            raise _Unproved
        run = self._runs[self.at]
        if run.prev is None:
            raise _Unproved
        self._prev, self._wanted = (GENESIS if run.first == 0 else run.prev), run.first
        return None

    def _leave(self) -> None:
        """End a run: its last row must be the one that the ledger says."""
        run = self._runs[self.at]
        if self._prev != run.link or self._wanted != run.next:
            raise _Unproved

    def _keep(self, places: _Places, start: int, end: int) -> None:
        """Take note of rows that are proved."""

    def _grow(self, leaves: list[bytes]) -> None:
        nodes = tree.build_nodes(self._first_leaf + self.rows, leaves)
        if self.rows:
            nodes = tree.merge_nodes(self._first_leaf, self.rows, self.nodes, len(leaves), nodes)
        self.nodes = nodes
        self.rows += len(leaves)


class _WholeWalk(_Walk):
    """A walk through a whole segment, on which the verification learns what it meets."""

    def __init__(self, check: Inspection, state: LedgerState, entry: SegmentEntry, start_us: int) -> None:
        assert check.writer_keys is not None
        super().__init__(entry.runs, start_us, entry.leaves[0].first, check.writer_keys)
        self._check = check
        self._state = state
        self.reached: dict[str, tuple[int, int]] = {}

    def _enter(self, places: _Places, at: int, line: bytes) -> bytes | None:
        super()._enter(places, at, line)
        if places.seqs[at] == 0:
            self._check.learn_number(places.read_writer(at), places.read_details(at))
        self._check.learn_writer(self._state, self._runs[self.at].writer)
        return None

    def _keep(self, places: _Places, start: int, end: int) -> None:
        writer = self._runs[self.at].writer
        first, last = ((int(places.seqs[at]), int(places.epochs[at])) for at in (start, end - 1))
        before = self.reached.get(writer) or self._check.epochs.get(writer, (-1, 0))
        if before[0] < first[0] and first[1] < before[1]:
            raise _Unproved
        self.reached[writer] = max(before, last)

    def finish(self, entry: SegmentEntry) -> bool:
        """Tell whether the whole segment is proved; then it is taken note of."""
        if self.at != len(self._runs) - 1 or self.at < 0:
            return False
        self._leave()
        self._check.signers.update(run.writer for run in entry.runs)
        self._check.epochs.update(self.reached)
        return tuple(self.nodes) == entry.leaves[0].nodes


class _SliceWalk(_Walk):
    """A walk through a slice, which may begin within a run."""

    def __init__(self, task: Slice, keys: WriterKeys) -> None:
        super().__init__(task.runs, task.start_us, task.first_leaf, keys)
        self._whole = task.groups[0] == 0
        self.pieces: list[Piece] = []
        self.opening: tuple[bytes, int] | None = None

    def _enter(self, places: _Places, at: int, line: bytes) -> bytes | None:
        if self.at < 0 and not self._whole:
            writer, seq = places.read_writer(at), int(places.seqs[at])
            found = (
                number for number, run in enumerate(self._runs) if run.writer == writer and run.first <= seq <= run.last
            )
            self.at = next(found, len(self._runs))
            if self.at < len(self._runs) and seq > self._runs[self.at].first:
                end, self._wanted = places.follow(self._runs[self.at], seq, at, at + 1)
                self._prev, self.opening = hash_line(line), (line, int(places.epochs[at]))
                self._keep(places, at, end)
                return self._prev
            self.at -= 1
        return super()._enter(places, at, line)

    def _keep(self, places: _Places, start: int, end: int) -> None:
        first, last = int(places.seqs[start]), int(places.seqs[end - 1])
        epochs = places.list_epochs(start, end)
        if self.pieces and self.pieces[-1].run == self.at:
            piece = self.pieces.pop()
            if epochs[0] < piece.epochs[-1]:
                raise _Unproved
            epochs = [*piece.epochs, *(epochs[1:] if epochs[0] == piece.epochs[-1] else epochs)]
            first, details = piece.first, piece.details
        else:
            details = places.read_details(start) if first == 0 else None
        self.pieces.append(Piece(self.at, first, last, self._wanted, epochs, self._prev, details))


def prove_slice(
    task: Slice, connection: duckdb.DuckDBPyConnection, pause: Callable[[], None] = lambda: None
) -> Proof | None:
    """Prove the rows of a slice.

    Args:
        task: The slice; something vouches for its file.
        connection: Prints the rows.
        pause: Called some times a second.

    Returns:
        What was found; None as soon as something isn't plainly right, or can't be read.
    """
    keys = adopt_keys(task.store, task.keys)
    walk = _SliceWalk(task, keys)
    try:
        for table in _read(Path(task.path), range(*task.groups)):
            walk.add(table, _pausing(segments.print_lines(table, task.store, connection), pause))
    except (_Unproved, StoreDamaged, OSError):
        return None
    return Proof(walk.rows, walk.nodes, walk.pieces, walk.opening)


def adopt_keys(store: str, keys: dict[str, bytes]) -> WriterKeys:
    """Give signing keys that are derived from W[n,0] of some writers alone."""
    adopted = WriterKeys(store, None, MAX_STEPS)
    for writer, key in keys.items():
        adopted.adopt(writer, key)
    return adopted


def _pausing(chunks: Iterable[list[bytes]], pause: Callable[[], None]) -> Iterator[list[bytes]]:
    for lines in chunks:
        yield lines
        pause()


def _read(path: Path, groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
    return segments.read_tables(path, 2 * ROW_GROUP_ROWS, groups=groups, packed=True)


def prove_segment(check: Inspection, state: LedgerState, entry: SegmentEntry, path: Path) -> bool:
    """Prove a sound segment in one pass and bounded memory: every row, its MAC, its place in the chain and the tree.

    Returns:
        False as soon as a row isn't plainly the next one; the careful way then finds out what is wrong.
    """
    start_us = find_start(check, entry)
    if start_us is None:
        return False
    walk = _WholeWalk(check, state, entry, start_us)
    try:
        for table in _read(path):
            walk.add(table, segments.print_lines(table, check.description.store, check.connection))
        return walk.finish(entry)
    except (_Unproved, StoreDamaged):
        return False


def find_start(check: Inspection, entry: SegmentEntry) -> int | None:
    """Give the begin of the date of a segment that can be proved in one pass, None if it can't."""
    if check.writer_keys is None or len(entry.leaves) != 1 or entry.leaves[0].count != entry.rows:
        return None
    day = read_segment_name(entry.path)
    if day is None or any(read_writer_day(run.writer) != day for run in entry.runs):
        return None
    return start_of_day(day)
