"""Verification: the ledger's own chain, every segment's hash, every event's MAC, the journals.

The order is that of a reader: the journals are listed first, then the ledger's head is taken, so that an event which
is sealed meanwhile is checked once. Nothing that a file says is trusted before something with a key vouches for it:
the commits by their MACs and notes, the segments by the commits, the events by their own MACs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date

from auditkit.chains import MAX_STEPS, KeyTable, WriterKeys
from auditkit.integrity.ends import check_ends, check_numbers, tell_quarantine, warn_of_nothing
from auditkit.integrity.findings import Finding, PartitionResult, Verification, to_moment
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.journals import check_journals, read_journals
from auditkit.integrity.ledgers import check_ledger, find_store
from auditkit.integrity.sealed import check_segments, check_unlisted
from auditkit.integrity.strangers import tell_strangers
from auditkit.keys import Keys
from auditkit.store.description import StoreDescription
from auditkit.store.layout import Layout, read_segment_name
from auditkit.store.ledger import LedgerState, SegmentEntry


def verify_store(
    layout: Layout,
    description: StoreDescription,
    keys: Keys | None,
    *,
    deep: bool = True,
    since_us: int | None = None,
    until_us: int | None = None,
    key_problem: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Verify a store.

    Args:
        layout: The store's paths.
        description: Its ``store.json``.
        keys: Its keys; without them MACs are reported as unverifiable.
        deep: Whether every event is checked, or of the sealed ones only the files' hashes and the ledger.
        since_us: Content from this time on is checked, microseconds since 1970.
        until_us: First time that is too late.
        key_problem: Why there are no keys, in words.
        progress: Called with the events done and the events to do.

    Returns:
        Everything that was found.
    """
    start = time.perf_counter()
    check = Inspection(layout, description, keys, deep, since_us, until_us, progress or (lambda _done, _total: None))
    try:
        return _verify(check, key_problem, start)
    finally:
        check.close()


def _verify(check: Inspection, key_problem: str | None, start: float) -> Verification:
    description, keys = check.description, check.keys
    if keys is None:
        check.report(
            "unverifiable",
            "incomplete",
            "store.json",
            f"the key {description.key_id} of the store",
            key_problem or "no key",
            advice="give the key: only hashes could be checked, and whoever changed an event could make new ones",
        )
    else:
        # Counted before anything is read: what is drawn meanwhile belongs to somebody who is only just starting.
        check.drawn = keys.count_drawn(description.store)
        check.table = KeyTable(keys, check.drawn)
        description = replace(description, store=find_store(check))
        check.description = description
        check.drawn = keys.count_drawn(description.store)
        check.writer_keys = WriterKeys(description.store, check.table, MAX_STEPS)
    contents = read_journals(check)
    state = check_ledger(check)
    chosen = [e for e in state.segments.values() if check.overlaps(e.time_min, e.time_max)]
    check.total = sum(entry.rows for entry in chosen)
    per_day = check_segments(check, state, chosen)
    check_unlisted(check, state)
    check_journals(check, state, contents)
    check_numbers(check, state, contents)
    warn_of_nothing(check, state, contents)
    check_ends(check, state, contents)
    tell_quarantine(check)
    tell_strangers(check)
    return Verification(
        description.store,
        check.deep,
        tuple(check.findings),
        tuple(sorted(check.notes, key=lambda item: item.severity != "warning")),
        check.checked_events,
        check.journal_events,
        check.checked_segments,
        check.checked_commits,
        _sum_partitions(state, per_day),
        to_moment(check.time_min),
        to_moment(check.time_max),
        None if keys is None else keys.key_id,
        state.checkpoint,
        time.perf_counter() - start,
    )


def _sum_partitions(state: LedgerState, per_day: dict[date, list[Finding]]) -> tuple[PartitionResult, ...]:
    listed: dict[date, list[SegmentEntry]] = defaultdict(list)
    for entry in state.segments.values():
        day = read_segment_name(entry.path)
        if day is not None:
            listed[day].append(entry)
    return tuple(_sum_partition(day, entries, per_day.get(day)) for day, entries in sorted(listed.items()))


def _sum_partition(day: date, entries: list[SegmentEntry], findings: list[Finding] | None) -> PartitionResult:
    if findings is None:
        status = "not checked"
    elif not findings:
        status = "ok"
    else:
        status = "findings" if any(f.severity == "finding" for f in findings) else "incomplete"
    return PartitionResult(
        day,
        len(entries),
        sum(e.rows for e in entries),
        sum(e.bytes for e in entries),
        status,
        len(findings or ()),
    )
