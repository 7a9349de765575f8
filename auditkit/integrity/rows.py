"""Stored events of writers, checked row by row: all there, each the one that was signed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from auditkit.chains import Row, check_macs, find_moved, find_unproved, group_ranges
from auditkit.event import DAY_US, GAP, GENESIS, hash_line
from auditkit.integrity.findings import Kind, Severity
from auditkit.integrity.inspection import Inspection, add_extent
from auditkit.store.layout import read_writer_day, start_of_day
from auditkit.store.runs import read_dropped


@dataclass
class StoredRows:
    """The rows of one segment or journal as they are stored."""

    by_writer: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    gaps: dict[tuple[str, int], int] = field(default_factory=dict)
    opened: dict[str, str | None] = field(default_factory=dict)
    leaves: list[bytes] = field(default_factory=list)
    damaged: dict[int, int] = field(default_factory=dict)
    """How many lines of a journal are no events, by the sequence number that must come next there."""

    def add(self, table: Any, lines: Iterable[bytes]) -> None:
        """Add the rows of a table, each with its line."""
        times = table.column("time").combine_chunks().view("int64").to_pylist()
        kinds, details = table.column("type").to_pylist(), table.column("details")
        columns = (table.column(name).to_pylist() for name in ("writer", "seq", "epoch", "mac"))
        for index, (line, writer, seq, epoch, mac) in enumerate(zip(lines, *columns, strict=True)):
            self.by_writer[writer].append(Row(seq, epoch, mac, line, times[index]))
            self.leaves.append(hash_line(line))
            if kinds[index] == GAP:
                self.gaps[writer, seq] = read_dropped(details[index].as_py())
            if seq == 0:
                self.opened.setdefault(writer, details[index].as_py())


@dataclass(frozen=True)
class OrderedRows:
    """One writer's rows by their sequence numbers, each once, and which of them stood elsewhere."""

    rows: list[Row]
    moved: frozenset[int] = frozenset()


def order_rows(check: Inspection, file: str, writer: str, stored: list[Row]) -> OrderedRows:
    """Report rows that stand out of their order, and give them in it, each once."""
    if all(earlier.seq < later.seq for earlier, later in pairwise(stored)):
        return OrderedRows(stored)
    moved = find_moved([row.seq for row in stored])
    _report_disorder(check, file, writer, stored, moved)
    away = set(moved)
    unique = {row.seq: row for place, row in enumerate(stored) if place in away}
    kept = {row.seq: row for place, row in enumerate(stored) if place not in away}
    elsewhere = frozenset(unique) - frozenset(kept)
    unique.update(kept)
    return OrderedRows([unique[seq] for seq in sorted(unique)], elsewhere)


def check_chain(
    check: Inspection,
    file: str,
    writer: str,
    ordered: OrderedRows,
    first: int,
    last: int | None,
    prev: bytes | None,
    link: bytes | None,
    rows: StoredRows,
) -> None:
    """Check consecutive events of one writer: all there, each the one that was signed.

    Args:
        check: The verification.
        file: Where the rows stand.
        writer: Id of the writer.
        ordered: Its rows.
        first: Sequence number of the first event that must be there.
        last: That of the last one; None if nothing says so, as in a journal.
        prev: Leaf of the event before the first, None if it isn't known.
        link: Leaf of the last event, None if nothing says so.
        rows: What else stands in the file.
    """
    stored = ordered.rows
    judged = _judge_rows(check, file, writer, ordered, first, prev, link, rows.gaps)
    # A row that nobody signed and that stood elsewhere is no sign of events before it.
    placed = [row for row in stored if row.seq not in ordered.moved or row.seq not in judged]
    believed = {seq: dropped for (name, seq), dropped in rows.gaps.items() if name == writer and seq not in judged}
    doubtful = placed[-1].seq if placed and judged.get(placed[-1].seq) == "unverifiable" else None
    _report_holes(check, file, writer, placed, first, last, believed, rows.damaged, doubtful)
    chosen = {row.seq: row for row in stored if row.seq in judged}
    for kind, severity, expected, found in _VERDICTS:
        seqs = [seq for seq in chosen if judged[seq] == kind]
        for begin, end in group_ranges(seqs):
            group = [chosen[seq] for seq in range(begin, end + 1)]
            check.report(
                kind,
                severity,
                file,
                expected,
                found,
                writer=writer,
                seqs=(begin, end),
                times=(min(row.time_us for row in group), max(row.time_us for row in group)),
                events=len(group),
            )


_VERDICTS: Final[tuple[tuple[Kind, Severity, str, str], ...]] = (
    (
        "tampered",
        "finding",
        "the events that were signed",
        "events that no MAC vouches for: their columns were changed, or they were added",
    ),
    (
        "unverifiable",
        "incomplete",
        "the event before it as it was signed, or one behind it",
        "neither: its own MAC covers what is gone or changed, so it may be genuine or not",
    ),
)


def _judge_rows(
    check: Inspection,
    file: str,
    writer: str,
    ordered: OrderedRows,
    first: int,
    prev: bytes | None,
    link: bytes | None,
    gaps: dict[tuple[str, int], int],
) -> dict[int, Kind]:
    """Tell which rows nothing vouches for: changed or added ones, and one whose neighbours tell nothing."""
    stored = ordered.rows
    if not stored:
        return {}
    unsigned = [row for row in stored if row.mac is None]
    keys = check.writer_keys
    if keys is None or len(unsigned) == len(stored):
        if unsigned:
            add_extent(check.unsigned, file, writer, unsigned)
        return {}
    leaves = [hash_line(row.line) for row in stored]
    before = (GENESIS if stored[0].seq == 0 else prev) if stored[0].seq == first else None
    valid = check_macs(keys, writer, stored, leaves, before) if keys.knows(writer) else [False] * len(stored)
    if not any(valid) and writer not in keys.unreached:
        if check.search_number(writer, stored, leaves, before):
            valid = check_macs(keys, writer, stored, leaves, before)
        elif not keys.knows(writer):
            add_extent(check.keyless, file, writer, [row for row in stored if row.mac is not None])
            return {}
    if any(valid):
        check.signers.add(writer)
        _report_misplaced(check, file, writer, [row for row, holds in zip(stored, valid, strict=True) if holds])
    if all(valid):
        return {}
    follows = [before is not None]
    follows += [row.seq == last.seq + gaps.get((writer, last.seq), 1) for last, row in pairwise(stored)]
    unproved = find_unproved(valid, follows, last_proved=leaves[-1] == link)
    unproved = _pass_unreached(check, file, writer, stored, unproved)
    judged: dict[int, Kind] = {stored[place].seq: "tampered" for place in unproved}
    end = stored[-1].seq
    blind = not follows[-1] or (len(valid) > 1 and not valid[-2])
    if end in judged and link is None and blind and end not in ordered.moved:
        judged[end] = "unverifiable"
    return judged


def _report_misplaced(check: Inspection, file: str, writer: str, proved: list[Row]) -> None:
    """Report events that their writer's key signed and that no writer signs: of another date, or in a past epoch."""
    day = read_writer_day(writer)
    start_us = None if day is None else start_of_day(day)
    last_seq, highest = check.epochs.get(writer, (-1, 0))
    strange: list[Row] = []
    lower: list[Row] = []
    for row in proved:
        if start_us is None or not start_us <= row.time_us < start_us + DAY_US:
            strange.append(row)
        if row.seq > last_seq:
            if row.epoch < highest:
                lower.append(row)
            last_seq, highest = row.seq, max(row.epoch, highest)
    check.epochs[writer] = (last_seq, highest)
    for found, expected, told in (
        (strange, f"events of the date of writer {writer}", "events of another date"),
        (lower, "epochs that never go down", "events of an earlier epoch than one before them"),
    ):
        rows = {row.seq: row for row in found}
        for first, last in group_ranges(rows):
            group = [rows[seq] for seq in range(first, last + 1)]
            check.report(
                "tampered",
                "finding",
                file,
                expected,
                f"{told}, with valid MACs: somebody has the writer's key",
                writer=writer,
                seqs=(first, last),
                times=(min(row.time_us for row in group), max(row.time_us for row in group)),
                events=len(group),
            )


def _pass_unreached(check: Inspection, file: str, writer: str, stored: list[Row], unproved: list[int]) -> list[int]:
    """Leave out the rows that couldn't be judged because a key was too many steps away; they are counted."""
    limit = None if check.writer_keys is None else check.writer_keys.unreached.get(writer)
    if limit is None:
        return unproved
    # The MAC of the row behind vouches for a row too, if its key is at hand.
    far = {place for place in unproved if any(row.epoch >= limit for row in stored[place : place + 2])}
    if far:
        add_extent(check.unreached, file, writer, [stored[place] for place in sorted(far)])
    return [place for place in unproved if place not in far]


def _report_holes(
    check: Inspection,
    file: str,
    writer: str,
    stored: list[Row],
    first: int,
    last: int | None,
    gaps: dict[int, int],
    damaged: dict[int, int],
    doubtful: int | None,
) -> None:
    end = last if last is not None else stored[-1].seq if stored else first - 1
    wanted, before_us = first, None
    for row in [*stored, None]:
        seq = end + 1 if row is None else row.seq
        lines = damaged.get(wanted, 0)
        if seq - wanted > lines:
            known = [t for t in (before_us, row.time_us if row else None) if t is not None]
            check.report(
                "missing",
                "finding",
                file,
                f"{seq - wanted} events from seq {wanted} to {seq - 1}",
                (f"{lines} of the lines there {'is' if lines == 1 else 'are'} no event" if lines else "none of them")
                + (", if the event behind them isn't forged" if row is not None and seq == doubtful else ""),
                advice="restore the file from a backup: nothing removed them with authority",
                writer=writer,
                seqs=(wanted, seq - 1),
                times=(min(known), max(known)) if known else None,
                events=seq - wanted - lines,
            )
        if row is not None:
            wanted, before_us = row.seq + gaps.get(row.seq, 1), row.time_us


def _report_disorder(check: Inspection, file: str, writer: str, stored: list[Row], moved: list[int]) -> None:
    counts = Counter(row.seq for row in stored)
    for places in _join_steps(moved, [row.seq for row in stored]):
        rows = [stored[place] for place in places]
        seqs = (min(row.seq for row in rows), max(row.seq for row in rows))
        named = f"seq {seqs[0]}" if len(rows) == 1 else f"seq {seqs[0]} to {seqs[1]}"
        check.report(
            "tampered",
            "finding",
            file,
            f"{named} once, in its order",
            f"{named} {'more than once' if any(counts[row.seq] > 1 for row in rows) else 'out of its order'}",
            writer=writer,
            seqs=seqs,
            times=(min(row.time_us for row in rows), max(row.time_us for row in rows)),
            events=len(rows),
        )


def _join_steps(places: list[int], seqs: list[int]) -> list[list[int]]:
    """Join neighbouring places whose sequence numbers go up or down by one, so that a block is one finding."""
    blocks: list[list[int]] = []
    for place in places:
        if blocks and place == blocks[-1][-1] + 1 and seqs[place] - seqs[place - 1] in (-1, 1):
            block = blocks[-1]
            if len(block) == 1 or seqs[place] - seqs[place - 1] == seqs[block[-1]] - seqs[block[-2]]:
                block.append(place)
                continue
        blocks.append([place])
    return blocks
