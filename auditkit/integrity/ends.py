"""What the keys and the ends of the chains say: what was never signed, and what nobody can tell."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any, Final

from auditkit.chains import MAX_STEPS
from auditkit.event import DAY_US
from auditkit.integrity.findings import Kind, Severity
from auditkit.integrity.inspection import RESTORE, Extent, Inspection
from auditkit.integrity.journals import JournalContent
from auditkit.keys import GivenKey
from auditkit.store.layout import read_segment_name, read_writer_day, start_of_day
from auditkit.store.ledger import LedgerState, RetiredSegment

_NAMED: Final = 5

_LISTED: Final = 1 << 24
"""How many numbers are looked at one by one; a key file may claim more than fit into the memory."""


def check_numbers(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Report events that no key can prove, and what the keys and the chains say of writers that aren't there."""
    _report_unsigned(check)
    for writer, extent in check.keyless.items():
        _report_extent(
            check,
            writer,
            extent,
            ("missing", "finding"),
            "its first event, which says which key it signs with",
            f"none, so {extent.events} events can't be proved",
            RESTORE,
        )
    for writer, extent in check.unreached.items():
        _report_extent(
            check,
            writer,
            extent,
            ("unverifiable", "incomplete"),
            "epochs that can be reached",
            f"{extent.events} events so many epochs away that the {MAX_STEPS} steps of a verification aren't enough",
            "verify one date at a time (since=, until=); no writer gets there by rotating, so look who wrote this",
        )
    if check.keys is None:
        _warn_of_unchecked(check)
        if check.drawn is not None:
            _count_unused(check, check.drawn, state)
        return
    _warn_of_lost_parents(check, state)
    if check.drawn is None and not isinstance(check.keys, GivenKey):
        # An offline key file doesn't count: what lies below the highest number on record was drawn all the same.
        check.drawn = max(check.list_used(state), default=-1) + 1
    if check.drawn is None:
        check.report(
            "unanchored",
            "note",
            "journal",
            "a count of the writers, as the store's own key file keeps it",
            "none: a whole journal that was deleted unsealed, or an older copy of the store, couldn't be seen",
            advice="record with the store's own key file, or seal often and keep the checkpoints elsewhere",
        )
    elif check.deep and check.since_us is None and check.until_us is None and check.drawn <= _LISTED:
        _warn_of_unused(check, check.drawn, state, contents)
    else:
        _count_unused(check, check.drawn, state)


def _warn_of_unchecked(check: Inspection) -> None:
    """Warn of what a public key can't tell: no commit signs the events that aren't sealed yet."""
    if check.public_key is not None and check.journal_events:
        check.report(
            "unverifiable",
            "warning",
            "journal",
            "events that a signed checkpoint covers",
            f"{check.journal_events} events that aren't sealed yet, which only the secret key can prove",
            advice="seal them, or verify with the key",
            events=check.journal_events,
        )


def _report_unsigned(check: Inspection) -> None:
    told: tuple[Kind, Severity]
    for writer, extent in check.unsigned.items():
        if writer in check.signers:
            told = ("tampered", "finding")
            expected, found, advice = "signed events", f"{extent.events} without a MAC: it signs its others", RESTORE
        elif check.signers:
            told = ("unverifiable", "finding")
            expected = "events that are signed, as those of the store's other writers are"
            found = f"{extent.events} without a MAC: planted, stripped, or recorded with enable_integrity=False"
            advice = "an application that doesn't sign needs a store of its own: here anybody could have written these"
        else:
            told = ("unverifiable", "incomplete")
            expected = "signed events"
            found = f"{extent.events} without a MAC: recorded with enable_integrity=False, or their MACs were removed"
            advice = "only the tree vouches for them, from their sealing on"
        _report_extent(check, writer, extent, told, expected, found, advice)


def _report_extent(
    check: Inspection,
    writer: str,
    extent: Extent,
    told: tuple[Kind, Severity],
    expected: str,
    found: str,
    advice: str,
) -> None:
    check.report(
        *told,
        extent.file,
        expected,
        found,
        advice=advice,
        writer=writer,
        seqs=extent.seqs,
        times=extent.times,
        events=extent.events,
    )


def _warn_of_lost_parents(check: Inspection, state: LedgerState) -> None:
    """Warn of writers that a signed event names as the one before it, and that left nothing else."""
    if not check.ledger_whole:
        return
    for writer, parent in sorted(check.parents.items()):
        if writer in check.signers and parent not in state.heads and parent not in check.journal_writers:
            if any(part.writer == parent for part in check.list_parts()):
                continue  # it began while this verification was under way
            check.report(
                "missing",
                "warning",
                f"journal/{parent}.*.jsonl",
                f"the events of writer {parent}, which writer {writer} followed",
                f"the journal of writer {parent} is gone",
                advice="look for it in a backup; a process that couldn't write to the disk, and was killed, left none",
                writer=parent,
            )


def _warn_of_unused(check: Inspection, drawn: int, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Warn of keys that were drawn and that nothing on record was signed with."""
    used = check.list_used(state)
    newest = max(used, default=-1)
    unused = [n for n in range(drawn) if n not in used]
    early, late = [n for n in unused if n < newest], [n for n in unused if n > newest]
    if late:
        keys = f"{_count_keys(late)} drawn after the newest event on record"
        _warn_of_keys(check, "rolled_back", drawn, f"{keys}: an older copy of the store, a deleted journal or commit")
    # Writers of which nothing could be proved have used some of the others; the findings say what became of them.
    recorded = set(state.heads) | {writer for writer, content in contents.items() if content.lines}
    # Those of retired events have theirs on record: the commit that removed them says which.
    retired = {run.writer for gone in state.retired.values() for run in gone.entry.runs}
    unproved = recorded - check.signers - set(check.unsigned) - retired
    if len(early) > len(unproved):
        named = ", a writer that the findings name" if unproved else ""
        keys = f"{_count_keys(early)} drawn and used by nothing"
        _warn_of_keys(check, "missing", drawn, f"{keys}: a deleted journal or commit{named}")
    counted = None if check.keys is None else check.keys.count_drawn(check.description.store)
    if counted is not None and newest >= counted:
        check.report(
            "rolled_back",
            "warning",
            "journal",
            f"a key file that has counted number {newest}, which was used",
            "an older copy of the key file, which counts no journal that was deleted since",
            advice="find out who restored it, and when",
        )


def _count_unused(check: Inspection, drawn: int, state: LedgerState) -> None:
    """Warn of more drawn keys than there are writers and commits, where not every writer's key was looked at."""
    known = check.commit_numbers or check.commits
    spare = drawn - check.skipped - len(known) - len(check.journal_writers | set(state.heads))
    if spare > 0 and check.ledger_whole:
        keys = f"at least {spare} key{'s' if spare > 1 else ''} drawn and used by nothing"
        _warn_of_keys(check, "missing", drawn, f"{keys}: an older copy of the store, a deleted journal or commit")


def _count_keys(numbers: list[int]) -> str:
    return f"{len(numbers)} key{'s' if len(numbers) > 1 else ''} (number {_name_some(numbers)})"


def _warn_of_keys(check: Inspection, kind: Kind, drawn: int, found: str) -> None:
    empty = f"; {check.empty_journals} empty journals stand for as many" if check.empty_journals else ""
    check.report(
        kind,
        "warning",
        "journal",
        f"a writer or a commit for each of the {drawn} keys that were drawn",
        f"{found}, or a process that ended before its first event",
        advice="look for journals in a backup, and at what the findings name; innocent are only: a process or sealing "
        "that was killed, or found the disk full, just then; another store with the same key file" + empty,
    )


def warn_of_nothing(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Warn of a store without any event: nothing is proved by it."""
    whole = check.since_us is None and check.until_us is None
    if whole and not state.heads and not any(content.lines for content in contents.values()):
        check.report(
            "unanchored",
            "warning",
            "journal",
            "events",
            "no event is on record",
            advice="if events were recorded, the store was emptied: restore it from a backup",
        )


def check_ends(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Tell which writers' ends aren't signed: a crash and a cut tail look alike."""
    open_ends = []
    retired = {run.writer for gone in state.retired.values() for run in gone.entry.runs}
    for writer in sorted(set(state.heads) | set(contents)):
        day = read_writer_day(writer)
        if day is None or not check.overlaps(start_of_day(day), start_of_day(day) + DAY_US - 1):
            continue
        head = state.heads.get(writer)
        content = contents.get(writer)
        closed = bool(head and head.closed) or bool(content and _ends_closed(content))
        if not closed and not (content and content.owned) and writer not in retired:
            open_ends.append(writer)
    if open_ends:
        check.report(
            "unanchored",
            "note",
            "journal",
            "a signed end of every writer whose process is gone",
            f"none of {len(open_ends)}: {_name_some(open_ends)}; a killed process and a cut tail look alike",
            advice="compare with what the application knows of its last events",
            writer=open_ends[0] if len(open_ends) == 1 else None,
        )


def _ends_closed(content: JournalContent) -> bool:
    return bool(content.lines) and b'"type":"auditkit.closed"' in content.lines[-1][1]


def _name_some(items: list[Any]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(map(str, items[:_NAMED])) + more


def tell_retired(check: Inspection, state: LedgerState) -> None:
    """Note what was removed with authority: one note for each commit that did it, policy and UTC date."""
    groups: dict[tuple[int, str, date | None], list[RetiredSegment]] = defaultdict(list)
    for path, retired in state.retired.items():
        groups[retired.commit, retired.policy, read_segment_name(path)].append(retired)
    for (number, policy, day), gone in sorted(groups.items(), key=lambda item: (item[0][0], str(item[0][2]))):
        events = sum(retired.entry.rows for retired in gone)
        check.report(
            "retired",
            "note",
            f"ledger/{check.layout.commit(number).name}",
            "nothing more than what was removed with authority",
            f"{events:,} events of {day} removed under the policy {policy!r:.200}",
            advice="none needed: their leaves stay in the tree, and receipts of them stay valid",
            times=(min(r.entry.time_min for r in gone), max(r.entry.time_max for r in gone)),
            events=events,
        )


def tell_quarantine(check: Inspection) -> None:
    """Note what sealings set aside."""
    if not check.layout.quarantine.is_dir():
        return
    for path in sorted(check.layout.quarantine.glob("[!.]*")):
        check.report(
            "quarantined",
            "note",
            f"quarantine/{path.name}",
            "nothing set aside",
            "lines that a sealing could not believe",
            advice="look at the reasons in the file, then archive it elsewhere",
        )
