"""Verification: the ledger's own chain, every segment's hash, every event's MAC, the journals.

The order is that of a reader: the journals are listed first, then the ledger's head is taken, so that an event which
is sealed meanwhile is checked once. Nothing that a file says is trusted before something with a key vouches for it:
the commits by their MACs and notes, the segments by the commits, the events by their own MACs.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

from auditkit.chains import MAX_STEPS, KeyTable, WriterKeys
from auditkit.errors import StoreDamaged
from auditkit.integrity.anchors import (
    Anchor,
    check_anchors,
    check_public_key,
    pin_checkpoint,
    read_anchors,
    read_inner,
    read_seen,
)
from auditkit.integrity.ends import check_ends, check_numbers, tell_quarantine, tell_retired, warn_of_nothing
from auditkit.integrity.findings import Finding, PartitionResult, Verification, to_moment
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.journals import check_journals, read_journals
from auditkit.integrity.ledgers import check_ledger, check_public_keys, find_store
from auditkit.integrity.sealed import check_segments
from auditkit.integrity.strangers import tell_strangers
from auditkit.integrity.unlisted import check_unlisted
from auditkit.keys import Keys
from auditkit.store import keychange, ledger
from auditkit.store.description import StoreDescription
from auditkit.store.keyring import OFFLINE, KeyFile
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
    public_key: str | None = None,
    against: Sequence[str | os.PathLike[str]] = (),
    pin: bool = True,
    repin: bool = False,
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
        public_key: The store's verifier key from a source outside the store, to verify what is sealed without a secret.
        against: Checkpoints that were kept outside the store: signed notes, or files that hold some.
        pin: Whether the store is compared with the newest checkpoint that this user saw of it, and the newest one is
            remembered now.
        repin: Whether it is remembered without comparing, in the place of whatever was: after a restore from a backup.
        progress: Called with the events done and the events to do.

    Returns:
        Everything that was found.

    Raises:
        UsageError: If the public key isn't one of this store, or something to compare with holds no checkpoint of it.
    """
    start = time.perf_counter()
    check = Inspection(layout, description, keys, deep, since_us, until_us, progress or (lambda _done, _total: None))
    if public_key is not None:
        check.public_key = check_public_key(public_key, description.store)
    anchors = [anchor for each in against for anchor in read_anchors(each, description.store)]
    try:
        return _verify(check, key_problem, anchors, start, pin=pin, repin=repin)
    finally:
        check.close()


def _take_keys(check: Inspection, key_problem: str | None) -> None:
    """Find out what the keys can prove, and say what they can't."""
    keys, description = check.keys, check.description
    if keys is None:
        if check.public_key is None:
            check.report(
                "unverifiable",
                "incomplete",
                "store.json",
                f"the key {description.key_id} of the store",
                key_problem or "no key",
                advice="give the key: only hashes could be checked, and whoever changed an event could make new ones",
            )
        return
    # Counted before anything is read: what is drawn meanwhile belongs to somebody who is only just starting.
    check.drawn = keys.count_drawn(description.store)
    check.skipped = len(keys.list_skipped())
    check.table = KeyTable(keys, check.drawn)
    check.description = description = replace(description, store=find_store(check))
    check.drawn = keys.count_drawn(description.store)
    if _is_offline(keys):
        check.table = _choose_table(check, keys)
    else:
        check.public_key = check.public_key or keychange.derive_verifier_key(description.store, keys.signing_seed)
        retiring = keys.retiring_seed
        check.retiring_key = None if retiring is None else keychange.derive_verifier_key(description.store, retiring)
    if not keys.list_roots():
        check.keys = check.table = None
        check.report(
            "unverifiable",
            "warning",
            "store.json",
            "the root key, which lies offline",
            "MACs not checked: the root key lies offline; the signed tree alone vouches for what is sealed",
            advice="verify with the offline key file (--key-file) on a machine that doesn't record",
        )
        return
    check.writer_keys = WriterKeys(check.description.store, check.table, MAX_STEPS)


def _choose_table(check: Inspection, keys: Keys) -> KeyTable:
    """Choose the roots of an offline key file: a rotation that was killed may have left one there that isn't in use."""
    roots = keys.list_roots()
    table, without = KeyTable(keys, None), KeyTable(keys, None, roots[:-1])
    for number in check.list_commits() if len(roots) > 1 else ():
        try:
            line, key_n = ledger.read_claim(check.layout, number)
        except (StoreDamaged, OSError):
            continue  # told where it is checked
        if key_n > roots[-1][0]:
            key = without.get(key_n)
            unused = key is not None and ledger.verify_mac(line, check.description.store, key)
            return without if unused else table
    return table


def _is_offline(keys: Keys) -> bool:
    return isinstance(keys, KeyFile) and keys.mode == OFFLINE


def _verify(
    check: Inspection, key_problem: str | None, anchors: list[Anchor], start: float, *, pin: bool, repin: bool
) -> Verification:
    keys = check.keys
    _take_keys(check, key_problem)
    description = check.description
    contents = read_journals(check)
    read_inner(check)
    if pin and not repin:
        read_seen(check)
    state = check_ledger(check)
    chosen = [e for e in state.segments.values() if check.overlaps(e.time_min, e.time_max)]
    check.total = sum(entry.rows for entry in chosen)
    per_day = check_segments(check, state, chosen)
    check_unlisted(check, state, contents)
    check_journals(check, state, contents)
    check_numbers(check, state, contents)
    warn_of_nothing(check, state, contents)
    results = check_anchors(check, state, anchors, pin=pin, repin=repin)
    check_public_keys(check, state)
    if pin:
        pin_checkpoint(check, state, results, repin=repin)
    check_ends(check, state, contents)
    tell_retired(check, state)
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
        check.public_key,
        state.number,
        check.nodes.size,
        tuple(results),
    )


def _sum_partitions(state: LedgerState, per_day: dict[date, list[Finding]]) -> tuple[PartitionResult, ...]:
    listed: dict[date, list[SegmentEntry]] = defaultdict(list)
    for entry in state.segments.values():
        day = read_segment_name(entry.path)
        if day is not None:
            listed[day].append(entry)
    sums = {day: _sum_partition(day, entries, per_day.get(day)) for day, entries in listed.items()}
    gone: dict[date, list[SegmentEntry]] = defaultdict(list)
    for path, retired in state.retired.items():
        day = read_segment_name(path)
        if day is not None and day not in sums:
            gone[day].append(retired.entry)
    for day, entries in gone.items():
        sums[day] = replace(_sum_partition(day, entries, None), status="retired")
    return tuple(sums[day] for day in sorted(sums))


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
