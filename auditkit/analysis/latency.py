"""How long operations took: percentiles with their n, by any columns and any time bucket.

Only events with a duration count. Percentiles are exact, by linear interpolation between the two nearest
durations (the default of numpy and type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages",
1996).

`LatencySummary.to_frame` has these columns:

==========================  ==================  ========================================================
column                      dtype               meaning
==========================  ==================  ========================================================
the group                   as in the events    the columns of ``by``; missing where the event has none
time                        datetime64[us, tz]  beginning of the bucket, only with ``freq``
n                           int64               events with a duration
failures                    int64               those of them with the outcome ``failure``
min_s, mean_s, max_s        float64             seconds
p50_s, p90_s, p95_s, p99_s  float64             seconds
==========================  ==================  ========================================================

A percentile says little about a small group: the p99 of fewer than 100 durations is hardly more than the
maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from auditkit.analysis.activity import fill_buckets
from auditkit.analysis.buckets import bucket_times, parse_width
from auditkit.analysis.groups import (
    Groups,
    check_columns,
    check_same,
    group_rows,
    join_frames,
    mark_failures,
    sort_rows,
)
from auditkit.errors import UsageError
from auditkit.times import find_zone

if TYPE_CHECKING:
    import pandas as pd

PERCENTILES: Final = (50, 90, 95, 99)
"""The percentiles that every result carries."""


@dataclass(frozen=True, eq=False)
class LatencySummary:
    """Durations by group, which add up.

    Attributes:
        by: Grouping columns.
        freq: Width of the time buckets, or ``None``.
        tz: Time zone of the buckets.
        parts: Durations in microseconds with their groups, one part for each frame that was added.
    """

    by: tuple[str, ...]
    freq: str | None
    tz: str
    parts: tuple[_Part, ...]

    @property
    def keys(self) -> list[str]:
        """Columns that name a group: ``by``, and ``time`` with a ``freq``."""
        return [*self.by, *(["time"] if self.freq else [])]

    def __add__(self, other: object) -> LatencySummary:
        if not isinstance(other, LatencySummary):
            return NotImplemented
        check_same(self, other, ("by", "freq", "tz"))
        return LatencySummary(self.by, self.freq, self.tz, self.parts + other.parts)

    def to_frame(
        self, *, fill: bool = False, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Return the percentiles as a tidy frame, see the module for its columns.

        Args:
            fill: Also give the buckets in which a group has no duration, with n = 0 and missing percentiles.
            since: First moment to fill from; default is the first bucket that has durations.
            until: Moment to fill up to, not included; default is the end of the last bucket that has
                durations.

        Returns:
            Without ``freq`` the group with most durations first; with it by group, then by time.

        Raises:
            UsageError: If ``fill`` is asked for without ``freq``, or makes too many buckets.
        """
        if fill and self.freq is None:
            raise UsageError("only time buckets can be filled: summarise with a freq such as '1h' first")
        whole = _join_parts(self.parts, self.keys)
        frame = _measure(whole)
        if fill and (len(frame) or (since is not None and until is not None)):
            frame = fill_buckets(frame, self.by, str(self.freq), self.tz, since, until)
        if self.freq:
            return sort_rows(frame, self.keys)
        return sort_rows(frame, ["n", *self.by], descending=["n"])


@dataclass(frozen=True, eq=False)
class _Part:
    """Durations of one frame, numbered by group."""

    groups: Groups
    microseconds: np.ndarray
    failed: np.ndarray


def summarise(
    frame: pd.DataFrame, by: Sequence[str] = ("operation",), freq: str | None = None, tz: str = "UTC"
) -> LatencySummary:
    """Gather the durations of a frame.

    Args:
        frame: Events with the columns ``duration_us``, ``outcome``, ``time`` with a ``freq``, and those of
            ``by``.
        by: Columns to group by; ``()`` takes all durations together.
        freq: Width of time buckets such as ``"5min"``, ``"1h"``, ``"1D"`` or ``"1W"``; ``None`` for none.
        tz: Time zone of the buckets.

    Returns:
        The summary, which can be added to others of the same kind.

    Raises:
        UsageError: If a column is missing, or a width or zone isn't one.

    Example:
        >>> import pandas as pd
        >>> events = pd.DataFrame({
        ...     "operation": ["score"] * 4, "outcome": ["success"] * 4,
        ...     "duration_us": pd.array([100_000, 200_000, 300_000, 1_000_000], dtype="Int64")})
        >>> score = summarise(events).to_frame().iloc[0]
        >>> int(score["n"]), float(score["p50_s"]), float(score["p95_s"])
        (4, 0.25, 0.895)
    """
    by = tuple(by)
    check_columns(frame, ["duration_us", "outcome", *(["time"] if freq else []), *by])
    find_zone(tz)
    timed = frame.loc[frame["duration_us"].notna()]
    rows = timed[[*by]].copy(deep=False)
    keys = [*by]
    if freq is not None:
        parse_width(freq)
        rows["time"] = bucket_times(timed["time"], freq, tz)
        keys.append("time")
    part = _Part(group_rows(rows, keys), timed["duration_us"].to_numpy(dtype="int64"), mark_failures(timed))
    return LatencySummary(by, freq, tz, (part,))


def _join_parts(parts: Sequence[_Part], keys: list[str]) -> _Part:
    """Number the groups of all parts together."""
    if len(parts) == 1:
        return parts[0]
    joined = group_rows(join_frames([part.groups.keys for part in parts]), keys)
    starts = np.cumsum([0, *(len(part.groups) for part in parts)])
    codes = [joined.codes[start + part.groups.codes] for part, start in zip(parts, starts[:-1], strict=True)]
    return _Part(
        Groups(joined.keys, np.concatenate(codes)),
        np.concatenate([part.microseconds for part in parts]),
        np.concatenate([part.failed for part in parts]),
    )


def _measure(part: _Part) -> pd.DataFrame:
    """Return one row of percentiles for each group."""
    groups = part.groups
    n = groups.count()
    # Sorted by group, then by duration, each group is a run in which a percentile is a look-up.
    order = np.lexsort((part.microseconds, groups.codes))
    values = part.microseconds[order].astype("float64")
    starts = np.cumsum(n) - n
    frame = groups.keys.assign(n=n, failures=groups.total(part.failed))
    # Whole numbers, in two halves that can't overflow: a sum of floats would depend on the order of the
    # parts.
    high, low = groups.total(part.microseconds >> 32), groups.total(part.microseconds & 0xFFFF_FFFF)
    frame["min_s"] = values[starts] / 1e6
    frame["mean_s"] = (high * 2.0**32 + low) / np.maximum(n, 1) / 1e6
    for percentile in PERCENTILES:
        frame[f"p{percentile}_s"] = _interpolate(values, starts, n, percentile) / 1e6
    frame["max_s"] = values[starts + n - 1] / 1e6
    return frame


def _interpolate(values: np.ndarray, starts: np.ndarray, n: np.ndarray, percentile: int) -> np.ndarray:
    """Return the percentile of each sorted run."""
    below, hundredths = np.divmod((n - 1) * percentile, 100)
    low = values[starts + below]
    high = values[starts + np.minimum(below + 1, n - 1)]
    between: np.ndarray = low + (high - low) * (hundredths / 100)
    return between
