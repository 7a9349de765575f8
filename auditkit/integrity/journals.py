"""Checking journals: the events that aren't sealed yet."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from auditkit.chains import Row
from auditkit.errors import StoreDamaged
from auditkit.event import DAY_US, GENESIS, NEWER
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.rows import StoredRows, check_chain, order_rows
from auditkit.store import journal, segments
from auditkit.store.layout import read_part_name, read_writer_day, start_of_day
from auditkit.store.ledger import LedgerState
from auditkit.store.runs import Head


@dataclass
class JournalContent:
    """One writer's parts as they were read, before the ledger's head was taken."""

    lines: list[tuple[str, bytes]] = field(default_factory=list)
    torn: list[tuple[str, int]] = field(default_factory=list)
    owned: bool = False


def read_journals(check: Inspection) -> dict[str, JournalContent]:
    """Read every writer's parts; done before the ledger's head is taken."""
    _report_strange(check)
    contents: dict[str, JournalContent] = defaultdict(JournalContent)
    for part in check.list_parts():
        check.journal_writers.add(part.writer)
        day = read_writer_day(part.writer)
        if day is None or not check.overlaps(start_of_day(day), start_of_day(day) + DAY_US - 1):
            continue
        name = f"journal/{part.path.name}"
        try:
            owned = journal.is_owned(part)
            content = journal.read_part(part)
        except (OSError, StoreDamaged) as error:
            check.report(
                "missing",
                "incomplete",
                name,
                "a readable journal",
                str(error),
                advice="check its permissions" if isinstance(error, OSError) else "seal it, or move it away",
                writer=part.writer,
            )
            continue
        found = contents[part.writer]
        found.owned = found.owned or owned
        check.empty_journals += not content.size
        found.lines.extend((name, line) for line in journal.split_lines(content.data))
        if content.torn and not owned:
            found.torn.append((name, len(content.torn)))
    return contents


def _report_strange(check: Inspection) -> None:
    """Report what has a journal's name and isn't a file: nobody reads it, and a real journal may have stood there."""
    try:
        found = sorted(check.layout.journal.iterdir())
    except OSError:
        return  # told where the parts are listed
    for path in found:
        parsed = read_part_name(path.name)
        if parsed is not None and (path.is_symlink() or (path.exists() and not path.is_file())):
            kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a pipe or device"
            check.report("tampered", "finding", f"journal/{path.name}", "a file of lines", kind, writer=parsed.writer)


def check_journals(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Check the events that the ledger doesn't hold yet: their chains go on from the ledger's heads.

    In the fast mode too: no hash of a file stands for these.
    """
    for writer, content in contents.items():
        for name, size in content.torn:
            check.report(
                "torn",
                "note",
                name,
                "a complete last line",
                f"{size} bytes of one whose writing was interrupted: its call had not returned",
                advice="none needed: the next sealing sets it aside",
                writer=writer,
            )
        head = state.heads.get(writer) or Head(0, GENESIS, closed=False)
        stored, rows = _parse_journal(check, writer, content, head)
        if writer in rows.opened:
            check.learn_number(writer, rows.opened[writer])
        check.learn_writer(state, writer)
        if not stored:
            continue
        check.journal_events += len(stored)
        check.see(min(r.time_us for r in stored), max(r.time_us for r in stored))
        first, prev = head.next, head.link
        if not check.ledger_whole and stored[0].seq > first:
            # The events before it may be those that the damaged part of the ledger listed.
            first, prev = stored[0].seq, None
        ordered = order_rows(check, _name_files(content, writer), writer, stored)
        check_chain(check, _name_files(content, writer), writer, ordered, first, None, prev, None, rows)


def _parse_journal(check: Inspection, writer: str, content: JournalContent, head: Head) -> tuple[list[Row], StoredRows]:
    """Read a writer's lines that the ledger doesn't hold yet, and report those that aren't its events."""
    rows = StoredRows()
    if not content.lines:
        return [], rows
    lines = [line for _, line in content.lines]
    table, good, reasons = segments.parse_lines(lines, check.description.store, check.connection)
    rows.add(table, [line for line, holds in zip(lines, good, strict=True) if holds])
    if reasons:
        _report_damaged(check, writer, content, table, good, reasons, rows, head)
    file = _name_files(content, writer)
    for name, strange in rows.by_writer.items():
        if name != writer:
            check.report(
                "tampered",
                "finding",
                file,
                f"events of writer {writer}",
                f"{len(strange)} of writer {name}",
                writer=name,
                seqs=(min(row.seq for row in strange), max(row.seq for row in strange)),
                times=(min(row.time_us for row in strange), max(row.time_us for row in strange)),
                events=len(strange),
            )
    return [row for row in rows.by_writer[writer] if row.seq >= head.next], rows


def _report_damaged(
    check: Inspection,
    writer: str,
    content: JournalContent,
    table: Any,
    good: list[bool],
    reasons: list[str],
    rows: StoredRows,
    head: Head,
) -> None:
    """Report the lines that are no events, with the sequence numbers that only they can have had.

    How many stand in a place is remembered, so that the hole they leave isn't reported once more.
    """
    events = zip(table.column("writer").to_pylist(), table.column("seq").to_pylist(), strict=True)
    explained = iter(reasons)
    numbers: Counter[str] = Counter()
    wanted = head.next
    waiting: list[tuple[str, int, str]] = []
    for (name, _), holds in zip(content.lines, good, strict=True):
        numbers[name] += 1
        if not holds:
            waiting.append((name, numbers[name], next(explained)))
            continue
        owner, seq = next(events)
        if owner != writer:
            continue
        # A journal is of one version: a line of a newer one among others took the place of an event.
        rows.damaged[wanted] = sum(not reason.startswith(NEWER) for _, _, reason in waiting)
        _report_lines(check, writer, waiting, wanted if seq - wanted == len(waiting) else None)
        wanted, waiting = seq + rows.gaps.get((writer, seq), 1), []
    _report_lines(check, writer, waiting, None)


def _report_lines(check: Inspection, writer: str, lines: list[tuple[str, int, str]], first: int | None) -> None:
    for place, (file, number, reason) in enumerate(lines):
        newer = reason.startswith(NEWER)
        check.report(
            "unverifiable" if newer else "tampered",
            "incomplete" if newer else "finding",
            file,
            "an event on every line",
            f"line {number} isn't one: {reason}",
            writer=writer,
            seqs=None if first is None else (first + place, first + place),
            events=1,
        )


def _name_files(content: JournalContent, writer: str) -> str:
    files = {name for name, _ in content.lines}
    return next(iter(files)) if len(files) == 1 else f"journal/{writer}.*.jsonl"
