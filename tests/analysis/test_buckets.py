"""Time buckets: DST days, odd zones, and what isn't a bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.analysis.buckets import bucket_times, list_buckets, parse_width
from auditkit.errors import UsageError

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe")
WIDTHS = ("30s", "5min", "1h", "6h", "1D", "1W")


def series(*moments: str) -> pd.Series:
    return pd.Series(pd.to_datetime(list(moments), utc=True).as_unit("us"))


def test_the_hour_that_comes_twice_is_two_buckets() -> None:
    """When clocks go back, the same reading at two offsets isn't the same hour."""
    buckets = bucket_times(series("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"), "1h", "Europe/Berlin")
    assert [str(bucket) for bucket in buckets] == ["2026-10-25 02:00:00+02:00", "2026-10-25 02:00:00+01:00"]


@pytest.mark.parametrize("day, hours", [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_have_as_many_hours_as_the_clocks_give_them(day: str, hours: int) -> None:
    """A day in Berlin has 23, 24 or 25 buckets of an hour, and 12 times as many of five minutes."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    end = (begin.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert len(list_buckets(begin, end, "1h", "Europe/Berlin")) == hours
    assert len(list_buckets(begin, end, "5min", "Europe/Berlin")) == 12 * hours
    assert len(list_buckets(begin, end, "1D", "Europe/Berlin")) == 1


def test_a_day_begins_where_midnight_is_skipped_or_comes_twice() -> None:
    """Beirut skips midnight in March, Havana has it twice in November; the day still has one beginning."""
    beirut = bucket_times(series("2026-03-29T10:00:00Z"), "1D", "Asia/Beirut")
    assert str(beirut[0]) == "2026-03-29 01:00:00+03:00"
    havana = bucket_times(series("2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z"), "1D", "America/Havana")
    assert {str(moment) for moment in havana} == {"2026-11-01 00:00:00-04:00"}


def test_weeks_begin_on_monday() -> None:
    """A Sunday belongs to the week of the Monday before."""
    assert str(bucket_times(series("2026-11-29T23:00:00Z"), "1W")[0]) == "2026-11-23 00:00:00+00:00"


@given(
    moment=st.datetimes(
        datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2035-01-01"), timezones=st.just(UTC)
    ),
    span=st.integers(1, 3 * 86_400),
    tz=st.sampled_from(ZONES),
    freq=st.sampled_from(WIDTHS[1:]),
)
def test_listed_buckets_hold_every_moment_of_their_range(moment: datetime, span: int, tz: str, freq: str) -> None:
    """The bucket of any moment is listed, is the last one that begins before it, and the list ascends."""
    end = moment + timedelta(seconds=span)
    listed = list_buckets(moment, end, freq, tz)
    times = pd.Series(pd.DatetimeIndex([moment, end - timedelta(microseconds=1)]).as_unit("us"))
    found = bucket_times(times, freq, tz)
    assert listed.is_monotonic_increasing
    assert listed.is_unique
    assert (listed[0], listed[-1]) == (found[0], found[1])
    assert (bucket_times(pd.Series(listed), freq, tz) == listed).all()
    assert (found <= times).all()


@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_year_have_buckets_too(year: int) -> None:
    """An event may claim any date that the format can hold."""
    moments = pd.Series(pd.DatetimeIndex([datetime(year, 6, 1, 12, 34, tzinfo=UTC)]).as_unit("us"))
    assert bucket_times(moments, "1h")[0].hour == 12
    assert len(list_buckets(datetime(year, 6, 1, tzinfo=UTC), datetime(year, 6, 2, tzinfo=UTC), "1h")) == 24


@pytest.mark.parametrize("freq", ["7min", "0h", "5", "h5", "2D", "24h", "1M", "", "-1h", "1h; DROP TABLE"])
def test_what_doesnt_divide_a_day_is_no_bucket(freq: str) -> None:
    """A width that would drift against the clock, or isn't one, is refused."""
    with pytest.raises(UsageError, match=r"bucket|1D or 1W"):
        bucket_times(series("2026-11-23T00:00:00Z"), freq)


def test_a_zone_that_isnt_one_is_refused_by_name() -> None:
    """Neither a typo nor a path gets past as a zone."""
    for tz in ("Europe/Berlim", "../../etc/passwd", ""):
        with pytest.raises(UsageError, match="expected a time zone"):
            bucket_times(series("2026-11-23T00:00:00Z"), "1h", tz)


def test_too_many_buckets_are_refused_before_they_are_made() -> None:
    """Thirty seconds over a century would fill the memory."""
    with pytest.raises(UsageError, match="take wider buckets"):
        list_buckets(datetime(1926, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "30s")


def test_an_empty_range_has_no_buckets() -> None:
    """Nothing lies between a moment and itself, but the dtype stays."""
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    listed = list_buckets(moment, moment, "1h", "Europe/Berlin")
    assert (len(listed), str(listed.dtype)) == (0, "datetime64[us, Europe/Berlin]")


@pytest.mark.parametrize(
    "freq, words",
    [
        ("1h", "hour"),
        ("6h", "6 hours"),
        ("60min", "hour"),
        ("5min", "5 minutes"),
        ("30s", "30 seconds"),
        ("1W", "week"),
    ],
)
def test_widths_read_as_words(freq: str, words: str) -> None:
    """An axis says "events per 5 minutes"."""
    assert str(parse_width(freq)) == words
