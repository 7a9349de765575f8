"""Stored events of writers, checked row by row: all there, each the one that was signed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from auditkit.chains import Row, check_macs, find_moved, find_unproved, group_ranges
from auditkit.event import GAP, GENESIS, hash_line
from auditkit.integrity.inspection import Inspection
from auditkit.store.runs import read_dropped


@dataclass
class StoredRows:
    """The rows of one segment or journal as they are stored."""

    by_writer: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    gaps: dict[tuple[str, int], int] = field(default_factory=dict)
    opened: dict[str, str | None] = field(default_factory=dict)
    leaves: list[bytes] = field(default_factory=list)

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


def order_rows(check: Inspection, file: str, writer: str, stored: list[Row]) -> list[Row]:
    """Report rows that stand out of their order, and give them in it, each once."""
    if all(earlier.seq < later.seq for earlier, later in pairwise(stored)):
        return stored
    moved = find_moved([row.seq for row in stored])
    _report_disorder(check, file, writer, stored, moved)
    away = set(moved)
    unique = {row.seq: row for place, row in enumerate(stored) if place in away}
    unique.update({row.seq: row for place, row in enumerate(stored) if place not in away})
    return [unique[seq] for seq in sorted(unique)]


def check_chain(
    check: Inspection,
    file: str,
    writer: str,
    stored: list[Row],
    first: int,
    last: int,
    prev: bytes | None,
    link: bytes | None,
    gaps: dict[tuple[str, int], int],
) -> None:
    """Check consecutive events of one writer: all there, each the one that was signed."""
    unproved = _find_unproved(check, writer, stored, first, prev, link, gaps)
    forged = {stored[place].seq: stored[place] for place in unproved}
    believed = {seq: dropped for (name, seq), dropped in gaps.items() if name == writer and seq not in forged}
    _report_holes(check, file, writer, stored, first, last, believed)
    for begin, end in group_ranges(forged):
        rows = [forged[seq] for seq in range(begin, end + 1)]
        check.report(
            "tampered",
            "finding",
            file,
            "the events that were signed",
            "events that no MAC vouches for: their columns were changed, or they were added",
            writer=writer,
            seqs=(rows[0].seq, rows[-1].seq),
            times=(min(row.time_us for row in rows), max(row.time_us for row in rows)),
            events=len(rows),
        )


def _find_unproved(
    check: Inspection,
    writer: str,
    stored: list[Row],
    first: int,
    prev: bytes | None,
    link: bytes | None,
    gaps: dict[tuple[str, int], int],
) -> list[int]:
    """List the places of the rows that nothing vouches for; count those that can't be judged."""
    if not stored:
        return []
    unsigned = sum(row.mac is None for row in stored)
    keys = check.writer_keys
    if keys is None or unsigned == len(stored):
        if unsigned:
            check.unsigned[writer] += unsigned
        return []
    leaves = [hash_line(row.line) for row in stored]
    before = (GENESIS if stored[0].seq == 0 else prev) if stored[0].seq == first else None
    valid = check_macs(keys, writer, stored, leaves, before) if keys.knows(writer) else [False] * len(stored)
    if not any(valid):
        if check.search_number(writer, stored, leaves, before):
            valid = check_macs(keys, writer, stored, leaves, before)
        elif not keys.knows(writer):
            check.keyless[writer] += len(stored) - unsigned
            return []
    if any(valid):
        check.signers.add(writer)
    if all(valid):
        return []
    follows = [before is not None]
    follows += [row.seq == last.seq + gaps.get((writer, last.seq), 1) for last, row in pairwise(stored)]
    return find_unproved(valid, follows, last_proved=leaves[-1] == link)


def _report_holes(
    check: Inspection,
    file: str,
    writer: str,
    stored: list[Row],
    first: int,
    last: int,
    gaps: dict[int, int],
) -> None:
    wanted, before_us = first, None
    for row in [*stored, None]:
        seq = last + 1 if row is None else row.seq
        if seq > wanted:
            known = [t for t in (before_us, row.time_us if row else None) if t is not None]
            check.report(
                "missing",
                "finding",
                file,
                f"{seq - wanted} events from seq {wanted} to {seq - 1}",
                "none of them",
                advice="restore the file from a backup: nothing removed them with authority",
                writer=writer,
                seqs=(wanted, seq - 1),
                times=(min(known), max(known)) if known else None,
                events=seq - wanted,
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
