"""Time buckets in any time zone.

A bucket of minutes or hours is counted in elapsed time from local midnight, a bucket of days or weeks begins
at local midnight. So a day on which the clocks change has 23 or 25 buckets of an hour, and none of them
overlaps another: the hour that comes twice is two buckets with the same reading on the clock and different
UTC offsets.

Where a zone skips midnight itself (Beirut in March), the day begins at its first moment; where midnight comes
twice (Havana in November), it begins at the first of both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

import numpy as np
import pandas as pd

from auditkit.errors import UsageError
from auditkit.times import find_zone

MAX_BUCKETS: Final = 1_000_000
"""Buckets that `list_buckets` makes at most: more means a wrong width for the range, and a full memory."""

DAY_US: Final = 86_400_000_000

_UNITS_US: Final = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
_PATTERN: Final = re.compile(r"(\d{0,6})\s*(s|min|h|D|W)")


@dataclass(frozen=True)
class Width:
    """Width of a bucket.

    Attributes:
        text: As it was asked for, such as ``"5min"``.
        microseconds: Elapsed microseconds, or ``None`` for calendar days and weeks, which vary with the
            clocks.
        days: Calendar days: 1 for ``"1D"``, 7 for ``"1W"``, 0 for anything shorter.
    """

    text: str
    microseconds: int | None
    days: int

    def __str__(self) -> str:
        """Return the width in words, for an axis title."""
        if self.days:
            return "day" if self.days == 1 else "week"
        assert self.microseconds is not None
        for unit, name in (("h", "hour"), ("min", "minute"), ("s", "second")):
            count, rest = divmod(self.microseconds, _UNITS_US[unit])
            if not rest:
                return name if count == 1 else f"{count} {name}s"
        raise AssertionError(self.microseconds)


def parse_width(freq: str) -> Width:
    """Parse the width of a bucket.

    Args:
        freq: A number and a unit: ``s``, ``min`` or ``h`` that divide a day, ``1D`` or ``1W`` (weeks begin on
            Monday).

    Returns:
        The width.

    Raises:
        UsageError: If it's anything else.

    Example:
        >>> str(parse_width("5min")), str(parse_width("1D"))
        ('5 minutes', 'day')
        >>> parse_width("7min")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: a bucket of 7min doesn't divide a day: use for instance 5min, 15min, 1h,
        1D or 1W
    """
    match = _PATTERN.fullmatch(freq)
    if match is None:
        raise UsageError(f"expected a bucket such as 5min, 1h, 1D or 1W, found {freq!r}")
    count, unit = int(match[1] or 1), match[2]
    if unit in "DW":
        if count != 1:
            raise UsageError(f"expected 1D or 1W, found {freq!r}: sum up the days to get longer buckets")
        return Width(freq, None, 1 if unit == "D" else 7)
    microseconds = count * _UNITS_US[unit]
    if not microseconds or DAY_US % microseconds:
        raise UsageError(f"a bucket of {freq} doesn't divide a day: use for instance 5min, 15min, 1h, 1D or 1W")
    if microseconds == DAY_US:
        raise UsageError(f"a bucket of {freq} isn't a day where clocks change: use 1D")
    return Width(freq, microseconds, 0)


def bucket_times(times: pd.Series, freq: str, tz: str = "UTC") -> pd.Series:
    """Return the beginning of each time's bucket.

    Args:
        times: datetime64 with a time zone.
        freq: Width of the buckets, see `parse_width`.
        tz: Zone whose days count.

    Returns:
        datetime64[us, tz], with the index of ``times``.

    Raises:
        UsageError: If the width or the zone isn't one.

    Example:
        >>> noon = pd.Series(pd.to_datetime(["2026-03-29T10:07:41Z"], utc=True))
        >>> bucket_times(noon, "5min", "Europe/Berlin")[0].isoformat()
        '2026-03-29T12:05:00+02:00'
        >>> bucket_times(noon, "1D", "Europe/Berlin")[0].isoformat()
        '2026-03-29T00:00:00+01:00'
    """
    width, zone = parse_width(freq), find_zone(tz)
    moments = times.dt.tz_convert(zone).dt.as_unit("us")
    days = moments.dt.tz_localize(None).dt.normalize()
    if width.days == 7:
        days = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    # A frame holds few days and many events: only the days are looked up in the zone's rules.
    codes, distinct = pd.factorize(days)
    midnights = _localise(pd.DatetimeIndex(distinct), zone)
    known = codes >= 0
    begins = np.full(len(times), np.datetime64("NaT", "us")).view("int64")
    begins[known] = _microseconds(midnights)[codes[known]]
    if width.microseconds is not None:
        elapsed = _microseconds(pd.DatetimeIndex(moments))[known] - begins[known]
        begins[known] += elapsed // width.microseconds * width.microseconds
    return pd.Series(_from_microseconds(begins, zone), index=times.index, name=times.name)


def list_buckets(since: datetime, until: datetime, freq: str, tz: str = "UTC") -> pd.DatetimeIndex:
    """Return the beginnings of all buckets that touch a range, so that empty ones can be shown.

    Args:
        since: First moment of the range (aware).
        until: End of the range (aware), not included.
        freq: Width of the buckets, see `parse_width`.
        tz: Zone whose days count.

    Returns:
        Ascending datetime64[us, tz] without gaps.

    Raises:
        UsageError: If the width or the zone isn't one, or there would be more than `MAX_BUCKETS`.

    Example:
        >>> from datetime import UTC
        >>> autumn = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC)
        >>> len(list_buckets(*autumn, "1h", "Europe/Berlin"))
        25
    """
    width, zone = parse_width(freq), find_zone(tz)
    if until <= since:
        return _from_microseconds(np.array([], dtype="int64"), zone)
    estimate = (until - since).total_seconds() * 1e6 / (width.microseconds or width.days * DAY_US)
    if estimate > MAX_BUCKETS:
        raise UsageError(
            f"{since.isoformat()} to {until.isoformat()} holds about {estimate:,.0f} buckets of {freq}, "
            f"more than {MAX_BUCKETS:,}: take wider buckets or a shorter range"
        )
    edges = bucket_times(pd.Series(pd.DatetimeIndex([since, until]).as_unit("us")), freq, tz)
    first_day = edges.iloc[0].tz_localize(None).normalize()
    last_day = edges.iloc[1].tz_localize(None).normalize()
    days = pd.date_range(first_day, last_day + pd.Timedelta(days=1), freq="D", unit="us")
    if width.days == 7:
        days = days[days.day_of_week == 0]
    begins = _microseconds(_localise(days, zone))
    if width.microseconds is not None:
        counts = -(np.diff(begins) // -width.microseconds)
        day = np.repeat(np.arange(len(counts)), counts)
        step = np.arange(len(day)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = begins[day] + step * width.microseconds
    first = _microseconds(pd.DatetimeIndex(edges))[0]
    end = _microseconds(pd.DatetimeIndex([until]).as_unit("us"))[0]
    return _from_microseconds(begins[(begins >= first) & (begins < end)], zone)


def _localise(days: pd.DatetimeIndex, zone: tzinfo) -> pd.DatetimeIndex:
    """Return the first moment of each local day."""
    first_of_two = np.ones(len(days), dtype=bool)
    return days.tz_localize(zone, ambiguous=first_of_two, nonexistent="shift_forward")


def _microseconds(moments: pd.DatetimeIndex) -> np.ndarray:
    """Return microseconds since 1970, UTC."""
    return moments.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]").view("int64")


def _from_microseconds(values: np.ndarray, zone: tzinfo) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(values.view("datetime64[us]")).tz_localize("UTC").tz_convert(zone)
