"""What a daily report needs from a trail, read in bounded memory and reduced to summaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from auditkit.analysis import activity, failures, latency
from auditkit.errors import KeyProblem, StoreDamaged, UsageError
from auditkit.times import parse_range, resolve_day

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.analysis.activity import ActivitySummary
    from auditkit.analysis.failures import FailureSummary
    from auditkit.analysis.latency import LatencySummary
    from auditkit.integrity import Verification

RECENT_ROWS: Final = 200
"""Events that a report lists one by one."""

_ACTIVITY_COLUMNS: Final = [
    "time",
    "type",
    "actor",
    "lead_id",
    "workflow",
    "outcome",
    "operation",
    "duration_us",
]
_FAILURE_COLUMNS: Final = ["error_type", "operation", "workflow", *failures.COLUMNS]
_RECENT_COLUMNS: Final = [*_ACTIVITY_COLUMNS, "error_type", "message", "details"]


class Trail(Protocol):
    """The reading calls that a report makes; `auditkit.trail.AuditTrail` has them."""

    @property
    def path(self) -> Path:
        """Return the folder of the store."""

    @property
    def store_id(self) -> str:
        """Return the id of the store."""

    def events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: list[str] | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> pd.DataFrame:
        """Return events as a frame, ordered by time."""

    def stream(
        self,
        *,
        outcome: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: list[str] | None = None,
        ordered: bool = True,
    ) -> Iterator[pd.DataFrame]:
        """Return the same events piece by piece."""

    def days(self) -> list[date]:
        """List the UTC dates that have events."""

    def verify(self, *, since: datetime | None = None, until: datetime | None = None) -> Verification:
        """Verify what the range touches."""


@dataclass(frozen=True)
class Span:
    """A day, or as much of it as has passed.

    Attributes:
        day: The day in its zone.
        tz: Name of the zone.
        since: Its first moment, UTC.
        until: The first moment after it, UTC.
        end: Where its events end that can be there already: ``until``, or now.
    """

    day: date
    tz: str
    since: datetime
    until: datetime
    end: datetime

    @property
    def over(self) -> bool:
        """Whether the day is over."""
        return self.end == self.until


@dataclass(frozen=True)
class Totals:
    """Figures of a whole range.

    Attributes:
        events: Events.
        failures: Events that failed.
        leads: Different leads.
        actors: Different actors.
        durations: Events with a duration.
        percentiles: p50, p95 and p99 in seconds; missing without durations.
    """

    events: int
    failures: int
    leads: int
    actors: int
    durations: int
    percentiles: dict[str, float]


@dataclass(frozen=True, eq=False)
class Day:
    """Everything a daily report says, as summaries.

    Attributes:
        span: The day.
        totals: Its figures.
        before: Those of the same part of the day before; None if it can't be read.
        timeline: Events by type and five minutes.
        types: Events by type.
        workflows: Events by workflow, with their leads.
        kinds: Events by workflow and type.
        latency: Durations by operation.
        trend: Durations by operation and hour.
        failed: Failures by error type, operation and workflow.
        recent: The newest events, newest first.
        damage: Why the events can't be read; everything else is empty then.
        damage_before: Why those of the day before can't be read.
    """

    span: Span
    totals: Totals
    before: Totals | None
    timeline: ActivitySummary
    types: ActivitySummary
    workflows: ActivitySummary
    kinds: ActivitySummary
    latency: LatencySummary
    trend: LatencySummary
    failed: FailureSummary
    recent: pd.DataFrame
    damage: str = ""
    damage_before: str = ""


def choose_day(trail: Trail, day: str | date | None, tz: str, now: datetime) -> date:
    """Return the day to report on.

    Args:
        trail: The trail.
        day: A day in any form that `auditkit.times.resolve_day` takes, or ``None``.
        tz: Zone whose days count.
        now: The moment.

    Returns:
        The day asked for; else today if it has events, else the newest day before that has some, else the
        newest of all, else today. Where the newest events can't be read, their UTC date.

    Raises:
        UsageError: If the day or the zone isn't one.
    """
    today = resolve_day(day, now=now, tz=tz)
    if day is not None:
        return today
    end = parse_range(today, today, now=now, tz=tz).until
    for until in (end, None):
        try:
            newest = trail.events(until=until, columns=["time"], limit=1, newest=True)
        except StoreDamaged:
            days = trail.days()
            return _find_newest(trail, [day for day in days if day <= today] or days)
        if len(newest):
            return resolve_day(newest["time"].iloc[-1].to_pydatetime(), now=now, tz=tz)
    return today


def _find_newest(trail: Trail, days: list[date]) -> date:
    """Return the newest date that has events, or whose events can't be read."""
    for day in reversed(days):
        since = datetime.combine(day, time(), UTC)
        try:
            if len(trail.events(since=since, until=since + timedelta(days=1), columns=["time"], limit=1)):
                return day
        except StoreDamaged:
            return day
    return days[-1]


def find_span(day: date, tz: str, now: datetime) -> Span:
    """Return the moments between which a day lies.

    Args:
        day: The day.
        tz: Its zone.
        now: The moment, which cuts a day that isn't over.

    Returns:
        The span.

    Raises:
        UsageError: If the zone isn't one, or the day has no beginning or end in it.
    """
    limits = parse_range(day, day, now=now, tz=tz)
    if limits.since is None or limits.until is None:
        raise UsageError(f"expected a day with a beginning and an end, found {day} in {tz}")
    running = limits.since < now.astimezone(UTC) < limits.until
    return Span(day, tz, limits.since, limits.until, now.astimezone(UTC) if running else limits.until)


def read_day(trail: Trail, span: Span) -> Day:
    """Read a day and the day before.

    Args:
        trail: The trail.
        span: The day.

    Returns:
        Their summaries. Where a segment of the day is gone or damaged they are empty and say so: figures that leave
        out what can't be read would look like the whole day. Where it is one of the day before, only the comparison
        is left out.
    """
    before, damage_before = None, ""
    try:
        before = _read_totals(trail, find_span_before(span))
    except StoreDamaged as damage:
        damage_before = str(damage)
    try:
        return _summarise(trail, span, span.until, before, damage_before=damage_before)
    except StoreDamaged as damage:
        return _summarise(trail, span, span.since, before, damage=str(damage), damage_before=damage_before)


def _summarise(trail: Trail, span: Span, until: datetime, before: Totals | None, **damages: str) -> Day:
    empty = trail.events(since=span.since, until=span.since, columns=_RECENT_COLUMNS)
    frames = _chain(empty, trail.stream(since=span.since, until=until, columns=_ACTIVITY_COLUMNS, ordered=False))
    tz = span.tz
    summaries: list[Any] = []
    for frame in frames:
        piece = [
            activity.summarise(frame, (), distinct=("lead_id", "actor")),
            latency.summarise(frame, ()),
            activity.summarise(frame, ("type",), "5min", tz),
            activity.summarise(frame, ("type",), tz=tz),
            activity.summarise(frame, ("workflow",), tz=tz, distinct=("lead_id",)),
            activity.summarise(frame, ("workflow", "type"), tz=tz),
            latency.summarise(frame, ("operation",)),
            latency.summarise(frame, ("operation",), "1h", tz),
        ]
        summaries = [a + b for a, b in zip(summaries, piece, strict=True)] if summaries else piece
    overall, durations, timeline, types, workflows, kinds, by_operation, trend = summaries
    failed = failures.summarise(trail.events(since=span.since, until=span.since, columns=_FAILURE_COLUMNS), tz=tz)
    for frame in trail.stream(
        outcome="failure", since=span.since, until=until, columns=_FAILURE_COLUMNS, ordered=False
    ):
        failed += failures.summarise(frame, tz=tz)
    recent = trail.events(since=span.since, until=until, columns=_RECENT_COLUMNS, limit=RECENT_ROWS, newest=True)
    return Day(
        span=span,
        totals=_total(overall, durations),
        before=before,
        timeline=timeline,
        types=types,
        workflows=workflows,
        kinds=kinds,
        latency=by_operation,
        trend=trend,
        failed=failed,
        recent=recent.iloc[::-1].reset_index(drop=True),
        **damages,
    )


def find_span_before(span: Span) -> tuple[datetime, datetime]:
    """Return the day before, or its part that is as long as what has passed of a day that isn't over.

    Args:
        span: The day.

    Returns:
        First moment, and first moment after it.
    """
    before = span.day - timedelta(days=1)
    limits = parse_range(before, before, now=span.end, tz=span.tz)
    since, until = limits.since or span.since, limits.until or span.since
    return since, until if span.over else min(until, since + (span.end - span.since))


def verify_day(trail: Trail, span: Span) -> tuple[Verification | None, str]:
    """Verify what the day touches.

    Args:
        trail: The trail.
        span: The day.

    Returns:
        The verification, or none and the reason why it couldn't be made: a report without its key is still a
        report, and says so.
    """
    try:
        return trail.verify(since=span.since, until=span.until), ""
    except KeyProblem as problem:
        return None, str(problem)


def _chain(empty: pd.DataFrame, frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Return the frames after an empty one, so that a day without events has summaries too."""
    yield empty
    yield from frames


def _read_totals(trail: Trail, limits: tuple[datetime, datetime]) -> Totals:
    columns = ["time", "outcome", "lead_id", "actor", "duration_us"]
    empty = trail.events(since=limits[0], until=limits[0], columns=columns)
    overall = activity.summarise(empty, (), distinct=("lead_id", "actor"))
    durations = latency.summarise(empty, ())
    for frame in trail.stream(since=limits[0], until=limits[1], columns=columns, ordered=False):
        overall += activity.summarise(frame, (), distinct=("lead_id", "actor"))
        durations += latency.summarise(frame, ())
    return _total(overall, durations)


def _total(overall: ActivitySummary, durations: LatencySummary) -> Totals:
    counts = overall.to_frame()
    measured = durations.to_frame()
    row = counts.iloc[0] if len(counts) else dict.fromkeys(counts.columns, 0)
    times = {name: float(measured[f"{name}_s"].iloc[0]) for name in ("p50", "p95", "p99") if len(measured)}
    return Totals(
        int(row["n"]),
        int(row["failures"]),
        int(row["leads"]),
        int(row["actors"]),
        int(measured["n"].iloc[0]) if len(measured) else 0,
        times,
    )
