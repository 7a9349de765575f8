"""One verification under way: what it knows, and what it has found so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from auditkit.chains import MAX_EPOCH, KeyTable, Row, WriterKeys, read_number
from auditkit.event import LINE_TAIL_BYTES
from auditkit.integrity.findings import Finding, Kind, Severity, to_moment
from auditkit.keys import Keys
from auditkit.store import engine, segments
from auditkit.store.description import StoreDescription
from auditkit.store.layout import Layout
from auditkit.store.ledger import LedgerState

if TYPE_CHECKING:
    import duckdb

_WITNESSES: Final = 8

RESTORE: Final = "keep the store as evidence, and restore the file from a backup to compare"


@dataclass
class Inspection:
    """One verification under way: what it was asked, what it knows, what it has found."""

    layout: Layout
    description: StoreDescription
    keys: Keys | None
    deep: bool
    since_us: int | None
    until_us: int | None
    progress: Callable[[int, int], None]
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    drawn: int | None = None
    table: KeyTable | None = None
    writer_keys: WriterKeys | None = None
    ledger_whole: bool = True
    numbers: dict[str, int] = field(default_factory=dict)
    used: Counter[int] = field(default_factory=Counter)
    signers: set[str] = field(default_factory=set)
    unsigned: Counter[str] = field(default_factory=Counter)
    keyless: Counter[str] = field(default_factory=Counter)
    checked_events: int = 0
    checked_segments: int = 0
    checked_commits: int = 0
    journal_events: int = 0
    time_min: int | None = None
    time_max: int | None = None
    done: int = 0
    total: int = 0
    _connection: duckdb.DuckDBPyConnection | None = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The one DuckDB that prints rows: opening one takes longer than checking a small segment."""
        if self._connection is None:
            self._connection = engine.connect()
        return self._connection

    def close(self) -> None:
        """Let go of what a verification holds."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def overlaps(self, time_min: int, time_max: int) -> bool:
        """Tell whether content between two times, both included, is to be checked."""
        return (self.until_us is None or time_min < self.until_us) and (
            self.since_us is None or time_max >= self.since_us
        )

    def report(
        self,
        kind: Kind,
        severity: Severity,
        file: str,
        expected: str,
        found: str,
        *,
        advice: str = RESTORE,
        writer: str | None = None,
        seqs: tuple[int, int] | None = None,
        times: tuple[int, int] | None = None,
        events: int | None = None,
    ) -> None:
        """Add a finding or a note; times are microseconds since 1970."""
        finding = Finding(
            kind,
            severity,
            file,
            expected,
            found,
            advice,
            writer,
            None if seqs is None else seqs[0],
            None if seqs is None else seqs[1],
            None if times is None else to_moment(times[0]),
            None if times is None else to_moment(times[1]),
            events,
        )
        (self.notes if severity == "note" else self.findings).append(finding)

    def see(self, time_min: int, time_max: int) -> None:
        """Widen the range of what was checked."""
        self.time_min = time_min if self.time_min is None else min(self.time_min, time_min)
        self.time_max = time_max if self.time_max is None else max(self.time_max, time_max)

    def advance(self, events: int) -> None:
        """Count events as done and tell the progress."""
        self.done += events
        self.progress(self.done, max(self.total, self.done))

    def learn_number(self, writer: str, details: str | None) -> None:
        """Learn which key a writer signs with from the details of its first event, which fails under any other."""
        number = read_number(details)
        if number is not None and writer not in self.numbers:
            self._use_number(writer, number)

    def search_number(self, writer: str, rows: Sequence[Row], leaves: Sequence[bytes], prev: bytes | None) -> bool:
        """Find out which key a writer signs with when its first event is gone or was changed.

        Args:
            writer: Id of the writer.
            rows: Its rows in stored order.
            leaves: Their leaves, computed from what is stored.
            prev: Leaf that the first row chains to, None if unknown.

        Returns:
            Whether a key was found under which one of the rows proves true.
        """
        if self.writer_keys is None:
            return False
        known = [
            (row.epoch, before + row.line[:-LINE_TAIL_BYTES] + b"}", row.mac)
            for row, before in zip(rows, [prev, *leaves], strict=False)
            if before is not None and row.mac is not None and 0 <= row.epoch <= MAX_EPOCH
        ]
        # A changed row disproves itself and the next one, so the witnesses come from all over the chain; those of a
        # small epoch are heard first, as they cost the fewest steps.
        spread = known[:: max(1, len(known) // (3 * _WITNESSES))] + known[-1:]
        witnesses = sorted(spread)[:_WITNESSES]
        number = self.writer_keys.find_number(writer, range(1 if self.drawn is None else self.drawn), witnesses)
        if number is None:
            return False
        if writer in self.numbers:
            self.used[self.numbers[writer]] -= 1
        self._use_number(writer, number)
        return True

    def _use_number(self, writer: str, number: int) -> None:
        self.numbers[writer] = number
        self.used[number] += 1
        if self.writer_keys is not None:
            self.writer_keys.prepare(writer, number)

    def learn_writer(self, state: LedgerState, writer: str) -> None:
        """Learn which key a writer signs with from the segment that holds its first event."""
        if writer in self.numbers:
            return
        for entry in state.segments.values():
            if any(run.writer == writer and run.first == 0 for run in entry.runs):
                path = segments.locate_segment(self.layout, entry.path)
                if path is not None:
                    self.learn_number(writer, segments.read_opened(path, writer))
                return
