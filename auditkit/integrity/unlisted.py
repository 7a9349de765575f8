"""Files among the segments that no commit lists: other tools would read them as events.

Where the secret key proves that their events are genuine and newer than the ledger, nobody planted them: a commit that
listed them was removed.
"""

from __future__ import annotations

from pathlib import Path

from auditkit.chains import Row, check_macs
from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.event import GENESIS, hash_line
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.journals import JournalContent
from auditkit.integrity.rows import check_chain, order_rows
from auditkit.integrity.sealed import read_rows
from auditkit.store import ledger, segments
from auditkit.store.layout import read_segment_name, read_writer_day
from auditkit.store.ledger import LedgerState
from auditkit.store.segments import MARGIN_ROWS

_MOVE = "move it out of the store: readers of plain Parquet would take it for events"


def check_unlisted(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Report files among the segments that no commit lists.

    Args:
        check: The verification.
        state: What the ledger says.
        contents: What the journals hold: who made a segment of that has removed nothing.
    """
    found = {path.relative_to(check.layout.root).as_posix(): path for path in check.layout.events.rglob("*")}
    unlisted = [
        name
        for name, path in sorted(found.items())
        if name not in state.segments and (path.is_symlink() or not path.is_dir())
    ]
    sealed_meanwhile = _list_later(check, state) if unlisted else set()
    orphans = []
    for name in unlisted:
        path = found[name]
        if name in sealed_meanwhile or _is_retired(check, state, name, path):
            continue
        if read_segment_name(name) is not None and path.is_file() and not path.is_symlink():
            orphans.append((name, path))
        else:
            _report_planted(check, name)
    # A writer's first event, which says which key it signs with, may be in any of them.
    for _, path in orphans:
        _learn_openings(check, path)
    for name, path in orphans:
        _check_orphan(check, state, name, path, contents)


def _report_planted(check: Inspection, name: str) -> None:
    expected = "only segments that the ledger lists"
    check.report("tampered", "finding", name, expected, "a file that no commit added", advice=_MOVE)


def _is_retired(check: Inspection, state: LedgerState, name: str, path: Path) -> bool:
    """Note a segment that was removed with authority and whose file is still there, or is there again."""
    retired = state.retired.get(name)
    try:
        if retired is None or path.is_symlink() or segments.digest_file(path) != retired.entry.sha256:
            return False
    except (StoreDamaged, OSError):
        return False
    check.report(
        "retired",
        "note",
        name,
        f"no file any more, as commit {retired.commit} removed it with authority",
        "the file, unchanged: its removal was interrupted, or somebody put it back",
        advice="remove it, or seal or retire again, which does it",
        times=(retired.entry.time_min, retired.entry.time_max),
        events=retired.entry.rows,
    )
    return True


def _list_later(check: Inspection, state: LedgerState) -> set[str]:
    """List the segments of the commits that were made while this verification was under way."""
    later: set[str] = set()
    for number in check.list_commits():
        if number > state.number:
            try:
                later.update(entry.path for entry in ledger.read_commit(check.layout, number).add)
            except (StoreDamaged, FormatUnknown, OSError):
                break  # the next verification finds out what it is
    return later


def _learn_openings(check: Inspection, path: Path) -> None:
    try:
        openings = segments.read_openings(path, check.description.store)
    except (StoreDamaged, OSError):
        return  # told where it is read
    for writer, line in openings.items():
        check.learn_opening(writer, line)


def _check_orphan(
    check: Inspection, state: LedgerState, name: str, path: Path, contents: dict[str, JournalContent]
) -> None:
    """Check a segment that no commit lists: by its name, and its events by themselves."""
    try:
        digest, size = segments.digest_file(path), path.stat().st_size
        wanted = check.writer_keys is not None if check.ledger_whole else check.deep
        rows = read_rows(check, path, size + MARGIN_ROWS) if wanted else None
    except (StoreDamaged, OSError) as error:
        check.report("tampered", "finding", name, "a segment", str(error))
        return
    if digest[:16] != path.stem:
        check.report("tampered", "finding", name, "the content that the file is named by", f"SHA-256 {digest}")
    elif not check.ledger_whole:
        check.orphans += not check.checked_commits
        check.report(
            "unverifiable",
            "incomplete",
            name,
            "a commit that lists it",
            "none: it may be one of those that a missing or damaged commit added",
            advice="restore the ledger from a backup",
        )
    by_writer = {} if rows is None else rows.by_writer
    if rows is not None and not check.ledger_whole:
        for writer, found in by_writer.items():
            ordered = order_rows(check, name, writer, found)
            check_chain(check, name, writer, ordered, ordered.rows[0].seq, None, None, None, rows)
    elif check.ledger_whole and digest[:16] == path.stem:
        journalled = {line for writer in by_writer if writer in contents for _, line in contents[writer].lines}
        held = any(row.line in journalled for rows_there in by_writer.values() for row in rows_there)
        newer = by_writer and all(_is_newer(check, state, name, *found) for found in by_writer.items())
        if newer and not held:
            _report_cut_off(check, name, by_writer)
        else:
            # Without the secret key nobody can tell: it may be one of a commit that was removed.
            check.orphans += check.writer_keys is None and not held
            _report_planted(check, name)


def _is_newer(check: Inspection, state: LedgerState, name: str, writer: str, rows: list[Row]) -> bool:
    """Tell whether rows are a writer's own events, and none that the ledger has."""
    keys, head = check.writer_keys, state.heads.get(writer)
    following = head.next if head is not None else 0
    if keys is None or read_writer_day(writer) != read_segment_name(name) or rows[0].seq < following:
        return False
    check.learn_writer(state, writer)
    if not keys.knows(writer):
        return False
    before = GENESIS if rows[0].seq == 0 else head.link if head is not None and rows[0].seq == following else None
    valid = check_macs(keys, writer, rows, [hash_line(row.line) for row in rows], before)
    # The first one's own MAC can't be judged where the event before it isn't there.
    return all(valid[1:]) and (valid[0] or (before is None and len(valid) > 1))


def _report_cut_off(check: Inspection, name: str, by_writer: dict[str, list[Row]]) -> None:
    """Report genuine events that no commit lists: their commit was removed."""
    check.orphans += 1
    times = [row.time_us for rows in by_writer.values() for row in rows]
    writer, rows = next(iter(by_writer.items()))
    one = len(by_writer) == 1
    check.report(
        "truncated",
        "finding",
        name,
        f"a commit that lists its {len(times):,} events, which their writers signed",
        "none: a newest commit was removed from the ledger",
        advice="restore the ledger from a backup",
        writer=writer if one else None,
        seqs=(rows[0].seq, rows[-1].seq) if one else None,
        times=(min(times), max(times)),
        events=len(times),
    )
