"""One verification under way: what it knows, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from auditkit.anchoring.pins import Pin, PinnedCommit
from auditkit.chains import MAX_EPOCH, KeyTable, Row, WriterKeys, read_number
from auditkit.event import LINE_TAIL_BYTES
from auditkit.integrity.findings import Finding, Kind, Severity, to_moment
from auditkit.keys import GivenKey, Keys
from auditkit.note import Note
from auditkit.store import engine, journal, ledger
from auditkit.store.description import StoreDescription
from auditkit.store.layout import Layout, read_writer_day
from auditkit.store.ledger import LedgerState
from auditkit.store.nodes import TreeNodes
from auditkit.store.openings import Openings

if TYPE_CHECKING:
    import duckdb

    from auditkit.integrity.signers import SignerHistory

_WITNESSES: Final = 8

_TRIED_BEHIND: Final = 1 << 12
"""How many numbers behind that of the newest commit are tried for a writer whose first event is gone."""

RESTORE: Final = "keep the store as evidence, and restore the file from a backup to compare"


@dataclass
class Extent:
    """Events of one writer that are reported together: where they stand, which and how many they are."""

    file: str
    seqs: tuple[int, int]
    times: tuple[int, int]
    events: int


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
    public_key: str | None = None
    """The verifier key that is trusted: given, or the key file's own."""
    retiring_key: str | None = None
    """The key file's own before the newest one, while the ledger doesn't say yet that it was replaced."""
    drawn: int | None = None
    skipped: int = 0
    """How many of the numbers below it nobody signs with: those of roots that lie offline."""
    table: KeyTable | None = None
    writer_keys: WriterKeys | None = None
    ledger_whole: bool = True
    orphans: int = 0
    """How many segments that no commit lists may be those of commits that were removed."""
    nodes: TreeNodes = field(default_factory=TreeNodes)
    commits: list[PinnedCommit] = field(default_factory=list)
    """The commits that were sound, from the first on without a hole."""
    changes: list[dict[str, str | None]] = field(default_factory=list)
    """What the commits that were proved say of the store's public key, those behind a hole included."""
    inner: dict[str, Note] = field(default_factory=dict)
    """The checkpoints in the store's own ``anchors/``, by file."""
    pin: Pin | None = None
    seen: tuple[PinnedCommit, ...] = ()
    """What this user saw of the newest commits before."""
    signers_known: SignerHistory | None = None
    """The changes of the public key, read once the ledger has a hole."""
    absent: set[int] = field(default_factory=set)
    """Numbers of commits that aren't there, as far as they are reported one by one."""
    holes: set[int] = field(default_factory=set)
    """Numbers of the commits that are missing, or of which nothing can be believed."""
    unreadable: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    commit_numbers: list[int] = field(default_factory=list)
    signers: set[str] = field(default_factory=set)
    epochs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each writer the sequence number and the epoch of the last of its events that was proved."""
    journal_writers: set[str] = field(default_factory=set)
    empty_journals: int = 0
    unsigned: dict[str, Extent] = field(default_factory=dict)
    keyless: dict[str, Extent] = field(default_factory=dict)
    unreached: dict[str, Extent] = field(default_factory=dict)
    checked_events: int = 0
    checked_segments: int = 0
    checked_commits: int = 0
    journal_events: int = 0
    time_min: int | None = None
    time_max: int | None = None
    done: int = 0
    total: int = 0
    _openings: Openings | None = None
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

    def list_commits(self) -> list[int]:
        """List the numbers of the commits that are there; none, and a report, if their folder can't be read."""
        try:
            return ledger.list_commits(self.layout)
        except OSError as error:
            self.ledger_whole = False
            self._report_folder("ledger", error)
            return []

    def list_parts(self) -> list[journal.Part]:
        """List the parts of the journal; none, and a report, if their folder can't be read."""
        try:
            return journal.list_parts(self.layout)
        except OSError as error:
            self._report_folder("journal", error)
            return []

    def _report_folder(self, name: str, error: OSError) -> None:
        if name in self.unreadable:
            return
        self.unreadable.add(name)
        self.report(
            "missing",
            "incomplete",
            name,
            "a folder that can be read",
            str(error),
            advice="check its permissions",
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
        (self.notes if severity in ("warning", "note") else self.findings).append(finding)

    def see(self, time_min: int, time_max: int) -> None:
        """Widen the range of what was checked."""
        self.time_min = time_min if self.time_min is None else min(self.time_min, time_min)
        self.time_max = time_max if self.time_max is None else max(self.time_max, time_max)

    def advance(self, events: int) -> None:
        """Count events as done and tell the progress."""
        self.done += events
        self.progress(self.done, max(self.total, self.done))

    def learn_number(self, writer: str, details: str | None) -> None:
        """Learn from the details of a writer's first event which key it signs with, and which writer was before it.

        Under any other key its MACs fail.
        """
        number = read_number(details)
        parent = _read_parent(details)
        if parent is not None:
            self.parents.setdefault(writer, parent)
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
        number = self.writer_keys.find_number(writer, range(self._count_numbers()), witnesses)
        if number is None:
            return False
        self._use_number(writer, number)
        return True

    def _count_numbers(self) -> int:
        """Say how many numbers may have been drawn: an offline key file doesn't count them, but the commits do."""
        if self.drawn is not None:
            return self.drawn
        return 1 if isinstance(self.keys, GivenKey) else max(self.commit_numbers, default=0) + _TRIED_BEHIND

    def list_used(self, state: LedgerState) -> set[int]:
        """List the numbers that were used: a MAC on record proves it, or the commit that removed it says so."""
        used = {*self.commit_numbers, *(self.numbers[writer] for writer in self.signers if writer in self.numbers)}
        used.update(number for retired in state.retired.values() for number in retired.numbers)
        return used | set(self.keys.list_skipped() if self.keys is not None else ())

    def _use_number(self, writer: str, number: int) -> None:
        self.numbers[writer] = number
        if self.writer_keys is not None:
            self.writer_keys.prepare(writer, number)

    def learn_writer(self, state: LedgerState, writer: str) -> None:
        """Learn which key a writer signs with from the segment that holds its first event."""
        if writer in self.numbers:
            return
        if self._openings is None:
            self._openings = Openings(self.layout, state)
        line = self._openings.find(writer)
        if line is not None:
            self.learn_opening(writer, line)

    def learn_opening(self, writer: str, line: bytes) -> None:
        """Learn which key a writer signs with from the line of its first event."""
        self.learn_number(writer, orjson.loads(line)["details"])


def add_extent(extents: dict[str, Extent], file: str, writer: str, rows: Sequence[Row]) -> None:
    """Add rows to what is reported of their writer."""
    seqs, times = [row.seq for row in rows], [row.time_us for row in rows]
    known = extents.get(writer)
    if known is not None:
        seqs, times = [*seqs, *known.seqs], [*times, *known.times]
    extents[writer] = Extent(
        file if known is None else known.file,
        (min(seqs), max(seqs)),
        (min(times), max(times)),
        len(rows) + (known.events if known else 0),
    )


def _read_parent(details: str | None) -> str | None:
    try:
        parent = orjson.loads(details or "{}").get("parent")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return parent if isinstance(parent, str) and read_writer_day(parent) is not None else None
