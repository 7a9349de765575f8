"""How much happened: events and failures, by any columns and any time bucket.

`ActivitySummary.to_frame` has these columns:

===========  ====================  =====================================================================
column       dtype                 meaning
===========  ====================  =====================================================================
the group    as in the events      the columns of ``by``, in that order; missing where the event has none
time         datetime64[us, tz]    beginning of the bucket, only with ``freq``
n            int64                 events
failures     int64                 events with the outcome ``failure``
leads, …     int64                 different values of the columns of ``distinct``, missing ones not counted
first, last  datetime64[us, tz]    moments of the first and the last event, only without ``freq``
===========  ====================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from auditkit.analysis.buckets import bucket_times, list_buckets, parse_width
from auditkit.analysis.groups import (
    check_columns,
    check_same,
    group_rows,
    join_frames,
    mark_failures,
    sort_rows,
)
from auditkit.errors import UsageError
from auditkit.times import find_zone


@dataclass(frozen=True, eq=False)
class ActivitySummary:
    """Counts of events by group, which add up.

    Attributes:
        by: Grouping columns.
        freq: Width of the time buckets, or ``None``.
        tz: Time zone of buckets and moments.
        distinct: Columns whose different values are counted.
        counts: One row for each group seen: ``by``, ``time`` with a ``freq``, ``n``, ``failures``, ``first``,
            ``last``.
        members: For each of ``distinct`` the different pairs of group and value, from which they are counted.
    """

    by: tuple[str, ...]
    freq: str | None
    tz: str
    distinct: tuple[str, ...]
    counts: pd.DataFrame
    members: tuple[pd.DataFrame, ...]

    @property
    def keys(self) -> list[str]:
        """Columns that name a group: ``by``, and ``time`` with a ``freq``."""
        return [*self.by, *(["time"] if self.freq else [])]

    def __add__(self, other: object) -> ActivitySummary:
        if not isinstance(other, ActivitySummary):
            return NotImplemented
        check_same(self, other, ("by", "freq", "tz", "distinct"))
        members = tuple(
            join_frames([mine, theirs]).drop_duplicates(ignore_index=True)
            for mine, theirs in zip(self.members, other.members, strict=True)
        )
        joined = join_frames([self.counts, other.counts])
        groups = group_rows(joined, self.keys)
        counts = groups.keys.assign(
            n=groups.total(joined["n"].to_numpy()),
            failures=groups.total(joined["failures"].to_numpy()),
            first=groups.first(joined["first"]),
            last=groups.last(joined["last"]),
        )
        return ActivitySummary(self.by, self.freq, self.tz, self.distinct, counts, members)

    def to_frame(
        self, *, fill: bool = False, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Return the counts as a tidy frame, see the module for its columns.

        Args:
            fill: Also give the buckets in which a group had no event, with zeros.
            since: First moment to fill from; default is the first bucket that has events.
            until: Moment to fill up to, not included; default is the end of the last bucket that has events.

        Returns:
            Without ``freq`` the largest group first; with it by group, then by time.

        Raises:
            UsageError: If ``fill`` is asked for without ``freq``, or makes too many buckets.
        """
        if fill and self.freq is None:
            raise UsageError("only time buckets can be filled: summarise with a freq such as '5min' first")
        counts = self.counts
        for column, members in zip(self.distinct, self.members, strict=True):
            name = f"{column.removesuffix('_id')}s"
            counts = _count_members(counts, members, self.keys, column, name)
        if fill and (len(counts) or (since is not None and until is not None)):
            counts = fill_buckets(counts, self.by, str(self.freq), self.tz, since, until)
        names = [name for name in counts.columns if name not in {*self.keys, "first", "last"}]
        if self.freq:
            return sort_rows(counts[[*self.keys, *names]], self.keys)
        zone = find_zone(self.tz)
        counts = counts.assign(first=counts["first"].dt.tz_convert(zone), last=counts["last"].dt.tz_convert(zone))
        ranked = sort_rows(counts, ["n", *self.by], descending=["n"])
        return ranked[[*self.keys, *names, "first", "last"]]


def summarise(
    frame: pd.DataFrame,
    by: Sequence[str] = ("type",),
    freq: str | None = None,
    tz: str = "UTC",
    *,
    distinct: Sequence[str] = (),
) -> ActivitySummary:
    """Count the events of a frame.

    Args:
        frame: Events with the columns ``time``, ``outcome`` and whatever is named in ``by`` and ``distinct``.
        by: Columns to group by; ``()`` counts all events together.
        freq: Width of time buckets such as ``"5min"``, ``"1h"``, ``"1D"`` or ``"1W"``; ``None`` for none.
        tz: Time zone of the buckets and of the moments in the result.
        distinct: Columns whose different values are counted, for instance ``("lead_id", "actor")``.

    Returns:
        The summary, which can be added to others of the same kind.

    Raises:
        UsageError: If a column is missing, or a width or zone isn't one.

    Example:
        >>> events = pd.DataFrame({
        ...     "time": pd.to_datetime(["2026-11-23T09:00:01Z", "2026-11-23T09:07:00Z"]),
        ...     "type": ["email.sent", "error"], "outcome": ["success", "failure"]})
        >>> summarise(events, by=()).to_frame()[["n", "failures"]].to_dict("records")
        [{'n': 2, 'failures': 1}]
        >>> halves = summarise(events[:1], freq="5min") + summarise(events[1:], freq="5min")
        >>> halves.to_frame()["time"].dt.strftime("%H:%M").tolist()
        ['09:00', '09:05']
    """
    by, distinct = tuple(by), tuple(distinct)
    check_columns(frame, ["time", "outcome", *by, *distinct])
    find_zone(tz)
    keys = [*by]
    moments = frame["time"].dt.as_unit("us")
    rows = frame[[*dict.fromkeys([*by, *distinct])]].copy(deep=False)
    if freq is not None:
        parse_width(freq)
        rows["time"] = bucket_times(moments, freq, tz)
        keys.append("time")
    groups = group_rows(rows, keys)
    counts = groups.keys.assign(
        n=groups.count(),
        failures=groups.total(mark_failures(frame)),
        first=groups.first(moments),
        last=groups.last(moments),
    )
    members = tuple(_list_members(rows, keys, column) for column in distinct)
    return ActivitySummary(by, freq, tz, distinct, counts, members)


def fill_buckets(
    counts: pd.DataFrame,
    by: Sequence[str],
    freq: str,
    tz: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pd.DataFrame:
    """Give every group a row for every bucket; integer columns of new rows are 0, others missing.

    Args:
        counts: One row for each group and bucket seen, with the column ``time``.
        by: Grouping columns.
        freq: Width of the buckets.
        tz: Time zone of the buckets.
        since: First moment; default is the first bucket in ``counts``.
        until: End; default is the end of the last bucket in ``counts``.

    Returns:
        The completed rows, with the columns of ``counts``. Buckets outside the range stay.
    """
    begin = counts["time"].min() if since is None else since
    end = counts["time"].max() + pd.Timedelta(microseconds=1) if until is None else until
    buckets = pd.DataFrame({"time": list_buckets(begin, end, freq, tz)})
    # Without grouping columns there is one group, even where it has no event.
    groups = counts[[*by]].drop_duplicates() if by else pd.DataFrame(index=[0])
    wanted = groups.merge(buckets, how="cross")
    filled = wanted.merge(counts, how="outer", on=[*by, "time"], sort=False)
    for column in counts.columns:
        if column in {*by, "time"}:
            continue
        if pd.api.types.is_integer_dtype(counts[column].dtype):
            filled[column] = filled[column].fillna(0)
        filled[column] = filled[column].astype(counts[column].dtype)
    return filled[list(counts.columns)]


def _list_members(rows: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """Return the different pairs of group and value."""
    known = rows.loc[rows[column].notna(), list(dict.fromkeys([*keys, column]))]
    return known.drop_duplicates(ignore_index=True)


def _count_members(
    counts: pd.DataFrame, members: pd.DataFrame, keys: list[str], column: str, name: str
) -> pd.DataFrame:
    """Add the number of different values of a column to each group."""
    if not keys:
        return counts.assign(**{name: pd.Series([len(members)] * len(counts), dtype="int64")})
    groups = group_rows(members, keys)
    sizes = groups.keys.assign(**{name: groups.count()})
    joined = counts.merge(sizes, how="left", on=keys, sort=False)
    joined[name] = joined[name].fillna(0).astype("int64")
    return joined
