"""Stored events of writers, checked row by row: all there, each the one that was signed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from auditkit.event import GAP, GENESIS, hash_line
from auditkit.integrity.chains import Row, check_macs, find_unproved, group_ranges
from auditkit.integrity.inspection import Inspection
from auditkit.store.segments import read_dropped


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
    _report_disorder(check, file, writer, stored)
    unique = {row.seq: row for row in reversed(stored)}
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
    _report_holes(check, file, writer, stored, first, last, gaps)
    if not stored:
        return
    unsigned = [row for row in stored if row.mac is None]
    if unsigned:
        check.unsigned[writer] += len(unsigned)
    signed = [row for row in stored if row.mac is not None]
    if check.writer_keys is None or not signed:
        return
    if not check.writer_keys.knows(writer):
        check.keyless[writer] += len(signed)
        return
    leaves = [hash_line(row.line) for row in stored]
    before = (GENESIS if stored[0].seq == 0 else prev) if stored[0].seq == first else None
    valid = check_macs(check.writer_keys, writer, stored, leaves, before)
    if all(valid):
        return
    seqs = [row.seq for row in stored]
    unproved = [p for p in find_unproved(valid, seqs, last_proved=leaves[-1] == link) if stored[p].mac is not None]
    for begin, end in group_ranges(unproved):
        check.report(
            "tampered",
            "finding",
            file,
            "the events that were signed",
            "events that no MAC vouches for: their columns were changed, or they were added",
            writer=writer,
            seqs=(seqs[begin], seqs[end]),
            times=(stored[begin].time_us, stored[end].time_us),
            events=end - begin + 1,
        )


def _report_holes(
    check: Inspection,
    file: str,
    writer: str,
    stored: list[Row],
    first: int,
    last: int,
    gaps: dict[tuple[str, int], int],
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
            wanted, before_us = row.seq + gaps.get((writer, row.seq), 1), row.time_us


def _report_disorder(check: Inspection, file: str, writer: str, stored: list[Row]) -> None:
    places = [i for i in range(1, len(stored)) if stored[i].seq <= stored[i - 1].seq]
    for place in places:
        repeated = any(row.seq == stored[place].seq for row in stored[:place])
        check.report(
            "tampered",
            "finding",
            file,
            f"an event behind seq {stored[place - 1].seq}",
            f"seq {stored[place].seq} {'again' if repeated else 'out of its order'}",
            writer=writer,
            seqs=(stored[place].seq, stored[place].seq),
            times=(stored[place].time_us, stored[place].time_us),
            events=1,
        )
