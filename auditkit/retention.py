"""Retention: sealed events of past dates are removed with authority, and the ledger says so for ever.

A commit names the segments that go, why, and which keys their writers signed with. Their leaves stay in the tree: its
root, the checkpoints and every receipt are as valid as before. The same removal by hand is found by every verification.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Final

import orjson

from auditkit.chains import read_number
from auditkit.errors import UsageError
from auditkit.keys import Keys
from auditkit.store import continuation, durable, journal
from auditkit.store.description import read_description
from auditkit.store.layout import Layout, read_segment_name, read_writer_day
from auditkit.store.ledger import LedgerState, Retirement, SegmentEntry
from auditkit.store.openings import Openings

MAX_POLICY: Final = 1000
"""Longest policy, in characters: the ledger repeats it for each segment."""


@dataclass(frozen=True)
class RetirementResult:
    """What one removal did.

    Attributes:
        commit: Number of the commit that says so, None if there was nothing to remove.
        days: The UTC dates whose events were removed.
        events: How many events were removed.
        paths: Their segments.
    """

    commit: int | None
    days: tuple[date, ...]
    events: int
    paths: tuple[str, ...]


def retire_days(layout: Layout, keys: Keys, before: date, policy: str) -> RetirementResult:
    """Remove the sealed events of all UTC dates before one. A date with events in a journal stays as a whole.

    Args:
        layout: The store's paths.
        keys: The store's keys.
        before: First UTC date that stays.
        policy: Why they are removed, in words that the ledger keeps.

    Returns:
        What was removed.

    Raises:
        UsageError: If no reason is given, or one that is too long or can't be written.
        StoreDamaged: If the ledger can't be continued; nothing is removed then.
    """
    _check_policy(policy)
    description = read_description(layout)
    with durable.hold_lock(layout.seal_lock):
        state = continuation.load_own_state(layout, description.store, keys)
        state = continuation.finish_change(layout, state, keys)
        chosen = _choose_segments(layout, state, before)
        if not chosen:
            return RetirementResult(None, (), 0, ())
        draft = continuation.draft_commit("retain", retired=_explain(layout, state, chosen, policy))
        state, commit = continuation.append_commit(layout, state, keys, draft)
        continuation.remove_retired(layout, state)
    days = sorted({day for day in (read_segment_name(entry.path) for entry in chosen) if day is not None})
    paths = tuple(entry.path for entry in chosen)
    return RetirementResult(commit.number, tuple(days), sum(entry.rows for entry in chosen), paths)


def _check_policy(policy: str) -> None:
    if not policy.strip():
        raise UsageError("expected the policy under which events are removed, found none")
    if len(policy) > MAX_POLICY:
        raise UsageError(f"expected a policy of at most {MAX_POLICY:,} characters, found {len(policy):,}: cut it")
    if re.search("[\ud800-\udfff]", policy):
        raise UsageError("expected a policy in text that UTF-8 can hold, found a lone surrogate: leave it out")


def _choose_segments(layout: Layout, state: LedgerState, before: date) -> list[SegmentEntry]:
    open_days = {read_writer_day(part.writer) for part in journal.list_parts(layout)}
    days = ((read_segment_name(path), entry) for path, entry in sorted(state.segments.items()))
    return [entry for day, entry in days if day is not None and day < before and day not in open_days]


def _explain(layout: Layout, state: LedgerState, chosen: list[SegmentEntry], policy: str) -> list[Retirement]:
    openings = Openings(layout, state)
    numbers: dict[str, set[int]] = defaultdict(set)
    for entry in chosen:
        for run in entry.runs:
            line = openings.find(run.writer) if run.first == 0 else None
            number = None if line is None else read_number(orjson.loads(line)["details"])
            if number is not None:
                numbers[entry.path].add(number)
    return [Retirement(entry.path, policy, tuple(sorted(numbers[entry.path]))) for entry in chosen]
