"""Checking sealed segments: the files the ledger lists, and every event in them."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from pathlib import Path

from auditkit import tree
from auditkit.chains import group_ranges
from auditkit.errors import StoreDamaged
from auditkit.event import hash_line
from auditkit.integrity.findings import Finding
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.proving import Prover
from auditkit.integrity.rows import StoredRows, check_chain, order_rows
from auditkit.store import segments
from auditkit.store.layout import read_segment_name, read_writer_day
from auditkit.store.ledger import LedgerState, SegmentEntry
from auditkit.store.runs import Run
from auditkit.store.segments import MARGIN_ROWS


def check_segments(check: Inspection, state: LedgerState, chosen: list[SegmentEntry]) -> dict[date, list[Finding]]:
    """Check the chosen segments; gives what was found for each date."""
    with Prover(check, state, chosen) as prover:
        return _check_segments(check, state, chosen, prover)


def _check_segments(
    check: Inspection, state: LedgerState, chosen: list[SegmentEntry], prover: Prover
) -> dict[date, list[Finding]]:
    per_day: dict[date, list[Finding]] = {}
    gone: dict[date, list[SegmentEntry]] = defaultdict(list)
    for entry in chosen:
        day = read_segment_name(entry.path)
        assert day is not None  # the ledger's parser takes no other path
        before = len(check.findings)
        path = segments.locate_segment(check.layout, entry.path)
        if path is None:
            gone[day].append(entry)
        else:
            try:
                _check_segment(check, state, entry, path, prover)
            except OSError as error:
                check.report(
                    "missing",
                    "incomplete",
                    entry.path,
                    f"a readable segment with {entry.rows} events of {_name_writers(entry)}",
                    str(error),
                    advice="check its permissions",
                    times=(entry.time_min, entry.time_max),
                    events=entry.rows,
                )
        prover.finish(entry)
        per_day.setdefault(day, []).extend(check.findings[before:])
    for day, entries in gone.items():
        before = len(check.findings)
        whole = not check.layout.segment(entries[0].path).parent.is_dir()
        for entry in entries:
            _report_gone(check, entry, whole_partition=whole)
        per_day[day].extend(check.findings[before:])
    return per_day


def _report_gone(check: Inspection, entry: SegmentEntry, *, whole_partition: bool) -> None:
    one = entry.runs[0] if len(entry.runs) == 1 else None
    check.report(
        "missing",
        "incomplete" if whole_partition else "finding",
        entry.path,
        f"a segment with {entry.rows} events of {_name_writers(entry)}, as the ledger says",
        "no such partition" if whole_partition else "no file",
        advice="restore it from a backup: nothing removed it with authority",
        writer=one.writer if one else None,
        seqs=(one.first, one.last) if one else None,
        times=(entry.time_min, entry.time_max),
        events=entry.rows,
    )


def _name_writers(entry: SegmentEntry) -> str:
    writers = sorted({run.writer for run in entry.runs})
    more = f" and {len(writers) - 3} more" if len(writers) > 3 else ""
    return ", ".join(writers[:3]) + more


def _check_segment(check: Inspection, state: LedgerState, entry: SegmentEntry, path: Path, prover: Prover) -> None:
    try:
        digest, size = segments.digest_file(path), path.stat().st_size
    except FileNotFoundError:
        # A sealer has just moved it from staging to its place.
        path = check.layout.segment(entry.path)
        digest, size = segments.digest_file(path), path.stat().st_size
    check.checked_segments += 1
    check.see(entry.time_min, entry.time_max)
    sound = digest == entry.sha256
    if not sound:
        check.report(
            "tampered",
            "finding",
            entry.path,
            f"the SHA-256 {entry.sha256} that the ledger lists ({entry.rows} events of {_name_writers(entry)})",
            f"{digest}: the file was changed",
            times=(entry.time_min, entry.time_max),
            events=entry.rows,
        )
    if not check.deep:
        check.checked_events += entry.rows
        return
    if sound and prover.prove(entry, path):
        check.checked_events += entry.rows
        return
    try:
        rows = read_rows(check, path, None if sound else min(entry.rows * 2, size) + MARGIN_ROWS)
    except StoreDamaged as error:
        check.report(
            "tampered",
            "finding",
            entry.path,
            "readable Parquet pages",
            str(error),
            times=(entry.time_min, entry.time_max),
            events=entry.rows,
        )
        return
    check.checked_events += len(rows.leaves)
    for writer, details in rows.opened.items():
        check.learn_number(writer, details)
    day = read_segment_name(entry.path)
    for run in entry.runs:
        check.learn_writer(state, run.writer)
        stored = [row for row in rows.by_writer[run.writer] if run.first <= row.seq <= run.last]
        ordered = order_rows(check, entry.path, run.writer, stored)
        # In a file that is as it was sealed, the link only repeats what its sealer took from a journal.
        link = None if sound else run.link
        check_chain(check, entry.path, run.writer, ordered, run.first, run.last, run.prev, link, rows)
        if read_writer_day(run.writer) != day:
            check.report(
                "tampered",
                "finding",
                entry.path,
                f"events of writers of {day}",
                f"events of {run.writer}: readers of this date's partition would take them for its own",
                writer=run.writer,
                seqs=(run.first, run.last),
                times=(entry.time_min, entry.time_max),
                events=len(stored),
            )
    _check_strangers(check, entry, rows)
    _check_leaves(check, entry, rows)
    if sound:
        _check_run_ends(check, entry, rows)


def read_rows(check: Inspection, path: Path, limit: int | None) -> StoredRows:
    """Read all rows of a segment; a limit is for one that nothing vouches for."""
    rows = StoredRows()
    tables = segments.read_tables(path) if limit is None else segments.read_doubtful_tables(path, limit)
    for table in tables:
        rows.add(table, segments.rebuild_lines(table, check.description.store, check.connection))
    return rows


def _check_strangers(check: Inspection, entry: SegmentEntry, rows: StoredRows) -> None:
    """Report rows that the ledger doesn't list for this segment."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in entry.runs:
        runs[run.writer].append(run)
    for writer, stored in rows.by_writer.items():
        strange = {r.seq: r for r in stored if not any(run.first <= r.seq <= run.last for run in runs[writer])}
        for first, last in group_ranges(sorted(strange)):
            rows_there = [strange[seq] for seq in range(first, last + 1)]
            check.report(
                "tampered",
                "finding",
                entry.path,
                "only events that the ledger lists",
                f"{len(rows_there)} others",
                writer=writer,
                seqs=(first, last),
                times=(min(row.time_us for row in rows_there), max(row.time_us for row in rows_there)),
                events=len(rows_there),
            )


def _check_leaves(check: Inspection, entry: SegmentEntry, rows: StoredRows) -> None:
    """Compare the leaves with the tree's nodes: what was sealed is there, in its order, and nothing else."""
    if len(entry.leaves) != 1 or entry.leaves[0].count != len(rows.leaves):
        same = False
    else:
        same = tuple(tree.build_nodes(entry.leaves[0].first, rows.leaves)) == entry.leaves[0].nodes
    if not same and not any(f.file == entry.path for f in check.findings):
        check.report(
            "tampered",
            "finding",
            entry.path,
            "the events under the nodes of the Merkle tree that the ledger lists",
            "other events, or another order",
            times=(entry.time_min, entry.time_max),
            events=entry.rows,
        )


def _check_run_ends(check: Inspection, entry: SegmentEntry, rows: StoredRows) -> None:
    """Compare how the runs of a sound file end with the heads that the ledger gives for their writers."""
    listed = {(run.writer, run.last) for run in entry.runs}
    ends = {(w, row.seq): row for w, stored in rows.by_writer.items() for row in stored if (w, row.seq) in listed}
    for run in entry.runs:
        row = ends.get((run.writer, run.last))
        if row is None:
            continue  # told as missing
        following = run.last + rows.gaps.get((run.writer, run.last), 1)
        if hash_line(row.line) != run.link or following != run.next:
            check.report(
                "tampered",
                "finding",
                entry.path,
                f"the ledger's link {run.link.hex()} to seq {run.last}, and seq {run.next} behind it",
                f"{hash_line(row.line).hex()}, and seq {following}: its commit was made with the key, and not for this",
                writer=run.writer,
                seqs=(run.last, run.last),
                times=(row.time_us, row.time_us),
                events=1,
            )
