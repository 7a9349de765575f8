"""Scanning: sealed segments and live journals as one table of events.

A reader lists the journals first, then takes the ledger's head, then passes over what the head already holds: an event
that is sealed meanwhile is seen once, in one place or the other. DuckDB scans the Parquet files: partitions and
segments outside the time range aren't opened, row groups are skipped by their statistics and Bloom filters, and only
the columns that are asked for are read.

Before a process first reads a segment it compares the file's SHA-256 with the ledger's, so that damage is an error and
not wrong data. That is all that reading proves: whether the ledger and the journals are genuine, only
`auditkit.integrity` tells.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from auditkit.conversion import make_text
from auditkit.errors import StoreDamaged, StoreIncomplete, UsageError, explain_missing
from auditkit.event import DAY_US, INTERNAL_PREFIX, READ_COLUMNS, make_schema
from auditkit.store import durable, engine, journal, ledger, segments
from auditkit.store.journal import Part
from auditkit.store.layout import Layout, read_segment_name, read_writer_day, start_of_day
from auditkit.store.ledger import LedgerState, SegmentEntry
from auditkit.store.parsed import join_tables, read_parsed

try:
    import duckdb
    import numpy as np
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

T = TypeVar("T")

COLUMNS: Final = READ_COLUMNS
"""Columns of the events that reading gives, in their order."""

FILTERS: Final = ("type", "actor", "lead_id", "workflow", "outcome", "operation")
"""Columns that a filter may name."""

_ADVICE: Final = "run `auditkit integrity` for the whole damage, and restore the file from a backup"

_SOURCES: Final = {"id": "writer || ':' || seq::VARCHAR"}


class UnreadableWarning(UserWarning):
    """A journal holds lines that aren't events; `AuditTrail.verify` names them."""


@dataclass(frozen=True)
class Query:
    """Which events are wanted.

    Attributes:
        equal: For each filtered column the values that match; a column that isn't named matches everything.
        since_us: Earliest time, microseconds since 1970, or None.
        until_us: First time that is too late, or None.
        internal: Whether the toolkit's own events are wanted.
    """

    equal: tuple[tuple[str, tuple[str, ...]], ...] = ()
    since_us: int | None = None
    until_us: int | None = None
    internal: bool = False

    def overlaps(self, time_min: int, time_max: int) -> bool:
        """Tell whether events between two times, both included, can match."""
        return (self.until_us is None or time_min < self.until_us) and (
            self.since_us is None or time_max >= self.since_us
        )

    def to_sql(self) -> tuple[str, list[str]]:
        """Give the condition and its parameters."""
        terms: list[str] = []
        parameters: list[str] = []
        for column, values in self.equal:
            terms.append(f'"{column}" IN ({", ".join("?" * len(values))})' if values else "FALSE")
            parameters.extend(values)
        if self.since_us is not None:
            terms.append(f"time >= make_timestamptz({self.since_us})")
        if self.until_us is not None:
            terms.append(f"time < make_timestamptz({self.until_us})")
        if not self.internal:
            terms.append(f"NOT starts_with(type, '{INTERNAL_PREFIX}')")
        return " AND ".join(terms) or "TRUE", parameters


def make_query(
    since_us: int | None = None,
    until_us: int | None = None,
    *,
    internal: bool = False,
    **filters: str | Sequence[str] | None,
) -> Query:
    """Make a query from filters that are one value or several.

    Values become text as they do when they are recorded (`auditkit.conversion.make_text`): ``42`` finds what was
    recorded with ``42``.

    Raises:
        UsageError: If a value is missing, or is itself several.

    Example:
        >>> make_query(type="error", actor=["ana", 42]).equal
        (('type', ('error',)), ('actor', ('ana', '42')))
    """
    equal = []
    for column, wanted in filters.items():
        if wanted is None:
            continue
        single = isinstance(wanted, str | bytes | bytearray) or not isinstance(wanted, Iterable)
        values = tuple(make_value(column, value) for value in ([wanted] if single else wanted))
        equal.append((column, values))
        if column == "type" and any(value.startswith(INTERNAL_PREFIX) for value in values):
            internal = True
    return Query(tuple(equal), since_us, until_us, internal)


def make_value(column: str, value: object) -> str:
    """Make the text that a column is compared with.

    Args:
        column: Name of the column, for the message.
        value: What stands for an actor, a lead, a type.

    Raises:
        UsageError: If the value is missing, which no event is meant by, or is itself several.

    Example:
        >>> make_value("lead_id", 42)
        '42'
    """
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    missing = missing or (isinstance(value, float) and math.isnan(value))
    if missing or isinstance(value, list | tuple | set | frozenset | dict):
        raise UsageError(f"expected a value or a list of values as {column}, found {value!a:.200}")
    return make_text(value)


@dataclass(frozen=True)
class Snapshot:
    """The store as it was at one moment.

    Attributes:
        layout: The store's paths.
        state: What the ledger said.
        journals: The journals' events that the ledger didn't hold, by UTC date.
        unreadable: How many journal lines aren't events.
    """

    layout: Layout
    state: LedgerState
    journals: dict[date, pa.Table]
    unreadable: int = 0

    def list_days(self) -> list[date]:
        """List the UTC dates that have events, the toolkit's own included."""
        sealed = {day for path in self.state.segments if (day := read_segment_name(path))}
        return sorted(sealed | set(self.journals))

    def restrict(self, days: Collection[date]) -> Snapshot:
        """Give the part of the snapshot that lies in some UTC dates."""
        kept = {path: entry for path, entry in self.state.segments.items() if read_segment_name(path) in days}
        journals = {day: table for day, table in self.journals.items() if day in days}
        return replace(self, state=replace(self.state, segments=kept), journals=journals)


def take_snapshot(layout: Layout, store: str, query: Query | None = None, state: LedgerState | None = None) -> Snapshot:
    """Read what a query can see: the journals, then the ledger.

    Args:
        layout: The store's paths.
        store: Id of the store.
        query: Journals outside its time range aren't read.
        state: An earlier state of the ledger to go on from.

    Raises:
        StoreDamaged: If the ledger can't be read.
    """
    query = query or Query(internal=True)
    by_day: dict[date, list[Part]] = {}
    for part in journal.list_parts(layout):
        day = read_writer_day(part.writer)
        if day is not None and query.overlaps(start_of_day(day), start_of_day(day) + DAY_US - 1):
            by_day.setdefault(day, []).append(part)
    found = {day: read_parsed(parts, store) for day, parts in by_day.items()}
    state = ledger.load_state(layout, store, state)
    unreadable = sum(part.unreadable for parts in found.values() for part in parts)
    if unreadable:
        warnings.warn(
            f"{unreadable} lines of the journals in {layout.journal} are not events and are left out: "
            "run `auditkit integrity` to see which",
            UnreadableWarning,
            stacklevel=4,
        )
    live = {day: _drop_sealed(join_tables([part.table for part in parts]), state) for day, parts in found.items()}
    return Snapshot(layout, state, {day: table for day, table in live.items() if table.num_rows}, unreadable)


def _drop_sealed(table: pa.Table, state: LedgerState) -> pa.Table:
    """Drop the rows that the ledger holds, and a second copy of a row."""
    writers = table.column("writer").combine_chunks().dictionary_encode()
    codes = writers.indices.to_numpy()
    seqs = table.column("seq").to_numpy()
    heads = [state.heads.get(writer) for writer in writers.dictionary.to_pylist()]
    keep = seqs >= np.array([head.next if head else 0 for head in heads], np.int64)[codes]
    order = np.lexsort((seqs, codes))
    # Rows of one number are in the order of the files, as the sort is stable.
    keep[order[1:]] &= (np.diff(codes[order]) != 0) | (np.diff(seqs[order]) != 0)
    return table if keep.all() else table.filter(pa.array(keep))


def scan_events(
    snapshot: Snapshot,
    query: Query,
    columns: Sequence[str] = COLUMNS,
    *,
    limit: int | None = None,
    newest: bool = False,
    ordered: bool = True,
) -> pa.Table:
    """Find the events of a snapshot that match.

    Args:
        snapshot: The store as it was.
        query: Which events.
        columns: Which of `COLUMNS`.
        limit: At most so many, the earliest, or the latest with ``newest``.
        newest: Whether a limit keeps the latest; the order of the result is by time all the same.
        ordered: Whether the result is ordered by time, writer and sequence number; with a limit it always is.

    Raises:
        StoreDamaged: If a segment is missing or can't be read.
    """
    if limit is not None:
        return _scan_limited(snapshot, query, columns, limit, newest=newest)
    with _select(snapshot, query, columns, ordered=ordered) as found:
        table: pa.Table = found.run(found.relation.to_arrow_table)
    return table


def _scan_limited(snapshot: Snapshot, query: Query, columns: Sequence[str], limit: int, *, newest: bool) -> pa.Table:
    """Look for so many events from one end on, in a day, then in two, then in four: the rest isn't even opened."""
    days = _list_days(snapshot, query)
    days = days[::-1] if newest else days
    found: list[pa.Table] = []
    step, left = 1, limit
    while not found or (left and days):
        part = snapshot.restrict(days[:step])
        with _select(part, query, columns, limit=left, newest=newest) as selected:
            found.append(selected.run(selected.relation.to_arrow_table))
        days, step, left = days[step:], 2 * step, left - found[-1].num_rows
    return pa.concat_tables(found[::-1] if newest else found)


def _list_days(snapshot: Snapshot, query: Query) -> list[date]:
    """List the UTC dates, in order, in which events may match."""
    starts = ((day, start_of_day(day)) for day in snapshot.list_days())
    return [day for day, start in starts if query.overlaps(start, start + DAY_US - 1)]


def _list_segments(snapshot: Snapshot, query: Query) -> list[SegmentEntry]:
    """List the segments in which events may match."""
    return [entry for entry in snapshot.state.segments.values() if query.overlaps(entry.time_min, entry.time_max)]


def stream_events(
    snapshot: Snapshot,
    query: Query,
    columns: Sequence[str] = COLUMNS,
    *,
    rows: int = 65_536,
    ordered: bool = True,
) -> Iterator[pa.Table]:
    """Give the events of a snapshot in pieces, one UTC date after the other, so that memory holds one date at most.

    Every segment is compared with the ledger before the first piece is given: whoever writes the pieces down has
    nothing then, and not a beginning that looks like the whole.

    Args:
        snapshot: The store as it was.
        query: Which events.
        columns: Which of `COLUMNS`.
        rows: How many rows a piece has at most.
        ordered: Whether the pieces are ordered by time.

    Raises:
        StoreDamaged: If a segment is missing or can't be read; at the call, unless it is damaged after it.
    """
    for entry in _list_segments(snapshot, query):
        with ExitStack() as resources:
            _find_file(snapshot.layout, entry, resources)
    return _stream_days(snapshot, query, columns, rows=rows, ordered=ordered)


def _stream_days(
    snapshot: Snapshot, query: Query, columns: Sequence[str], *, rows: int, ordered: bool
) -> Iterator[pa.Table]:
    for day in _list_days(snapshot, query):
        with _select(snapshot.restrict([day]), query, columns, ordered=ordered) as found:
            reader = found.run(partial(found.relation.to_arrow_reader, rows))
            while (batch := found.run(partial(next, reader, None))) is not None:
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])


def count_events(snapshot: Snapshot, query: Query) -> int:
    """Count the events of a snapshot that match."""
    with _select(snapshot, query, ("seq",), ordered=False) as found:
        ((count,),) = found.run(lambda: found.relation.aggregate("count(*)").fetchall())
    return int(count)


def count_groups(snapshot: Snapshot, query: Query, by: Sequence[str], distinct: Sequence[str] = ()) -> pa.Table:
    """Count the events of a snapshot that match, by groups; the engine counts, and keeps no events in memory.

    Args:
        snapshot: The store as it was.
        query: Which events.
        by: Columns that make a group; none makes one of all events.
        distinct: Columns whose different values are counted.

    Returns:
        The columns of ``by``, ``n``, ``failures``, one named by each of ``distinct``, and ``first`` and ``last`` time;
        the largest group first. Without ``by`` there is a row even if nothing matches.

    Raises:
        StoreDamaged: If a segment is missing or can't be read.
    """
    counts = ["count(*) AS n", "count(*) FILTER (outcome = 'failure') AS failures"]
    counts += [f'count(DISTINCT "{column}") AS "{column}"' for column in distinct]
    groups = ", ".join(f'"{column}"' for column in by)
    named = ", ".join([*([groups] if by else []), *counts, "min(time) AS first", "max(time) AS last"])
    with _select(snapshot, query, ["time", "outcome", *by, *distinct], ordered=False) as found:
        order = ", ".join(["n DESC", *([groups] if by else [])])
        table: pa.Table = found.run(lambda: found.relation.aggregate(named, groups).order(order).to_arrow_table())
    return table


class _select:  # noqa: N801 - reads as the verb it is, as contextlib's own managers do
    """An open selection; a context manager, since DuckDB reads its files while the result is consumed."""

    def __init__(
        self,
        snapshot: Snapshot,
        query: Query,
        columns: Sequence[str],
        *,
        limit: int | None = None,
        newest: bool = False,
        ordered: bool = True,
    ) -> None:
        self._events = snapshot.layout.events
        self._resources = ExitStack()
        self._connection = self._resources.enter_context(contextlib.closing(engine.connect()))
        try:
            self._prepare(snapshot, query, columns, limit=limit, newest=newest, ordered=ordered)
        except BaseException:
            self._resources.close()
            raise

    def _prepare(
        self,
        snapshot: Snapshot,
        query: Query,
        columns: Sequence[str],
        *,
        limit: int | None,
        newest: bool,
        ordered: bool,
    ) -> None:
        where, parameters = query.to_sql()
        chosen = _list_segments(snapshot, query)
        files = [_find_file(snapshot.layout, entry, self._resources) for entry in chosen]
        sources = []
        if files:
            quoted = ", ".join(_quote_path(file) for file in files)
            sources.append(f"SELECT * FROM read_parquet([{quoted}], hive_partitioning = false)")
        live = [
            table
            for day, table in snapshot.journals.items()
            if query.overlaps(start_of_day(day), start_of_day(day) + DAY_US - 1)
        ]
        table = pa.concat_tables(live) if live else make_schema().empty_table()
        engine.register(self._connection, "journals", table)
        if live or not files:
            sources.append("SELECT * FROM journals")
        printed = ", ".join(
            f'{_SOURCES.get(column, f"{chr(34)}{column}{chr(34)}")} AS "{column}"' for column in columns
        )
        order = "time, writer, seq"
        sql = f"SELECT * FROM ({' UNION ALL '.join(sources)}) WHERE {where}"
        if limit is not None:
            direction = "time DESC, writer DESC, seq DESC" if newest else order
            sql = f"SELECT * FROM ({sql} ORDER BY {direction} LIMIT {int(limit)})"
        sql = f"SELECT {printed} FROM ({sql})" + (f" ORDER BY {order}" if ordered else "")
        self._sql, self._parameters = sql, parameters

    def __enter__(self) -> _select:
        try:
            self.relation: duckdb.DuckDBPyRelation = self.run(
                lambda: self._connection.sql(self._sql, params=self._parameters)
            )
        except BaseException as error:
            self._resources.close()
            self._explain(error)
            raise
        return self

    def run(self, work: Callable[[], T]) -> T:
        """Let the engine work for this selection."""
        return engine.run(self._connection, work)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._resources.close()
        if error is not None:
            self._explain(error)

    def _explain(self, error: BaseException) -> None:
        # A query that is too large for the memory is no damage.
        if isinstance(error, duckdb.Error) and not isinstance(error, duckdb.OutOfMemoryException):
            raise StoreDamaged(
                f"expected readable segments in {self._events}, found damage ({str(error)[:300]}): {_ADVICE}"
            ) from error


def _find_file(layout: Layout, entry: SegmentEntry, resources: ExitStack) -> Path:
    """Find a segment's file, and make sure that it's the one the ledger lists.

    The engine checks no page checksums: of flipped bits it would give many as events.

    Returns:
        A name that stays good while the resources are held. A segment that still lies in staging may be moved at any
        moment, so it is opened here and read through its descriptor.
    """
    path = segments.locate_segment(layout, entry.path)
    if path == layout.staged(entry.path):
        try:
            file = resources.enter_context(durable.open_regular(path, "a segment"))
        except FileNotFoundError:
            path = layout.segment(entry.path)
        else:
            path = Path(f"/dev/fd/{file.fileno()}")
    if path is None:
        missing = f"expected the segment {entry.path} with {entry.rows} events in {layout.root}, as the ledger says"
        if not layout.segment(entry.path).parent.is_dir():
            raise StoreIncomplete(
                f"{missing}, found no such partition: mount it or restore it from a backup, or ask for other days; "
                "`auditkit integrity` lists all that is missing"
            )
        raise StoreDamaged(f"{missing}, found none: {_ADVICE}")
    found = path.stat()
    if found.st_size != entry.bytes:
        raise StoreDamaged(
            f"expected {entry.bytes} bytes in {path}, as the ledger says, found {found.st_size}: {_ADVICE}"
        )
    digest = _digest_file(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if digest != entry.sha256:
        raise StoreDamaged(
            f"expected the SHA-256 {entry.sha256} of {path}, as the ledger says, found {digest}: {_ADVICE}"
        )
    return path


@lru_cache(maxsize=65_536)
def _digest_file(path: Path, *_signature: int) -> str:
    """Compute a file's SHA-256 once a process, and again when its inode, size or times have changed."""
    return segments.digest_file(path)


def _quote_path(path: Path) -> str:
    """Quote a path for SQL; DuckDB takes ``*``, ``?`` and ``[`` in it for a pattern."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in str(path.absolute()))
    return "'" + escaped.replace("'", "''") + "'"
