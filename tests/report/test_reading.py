"""Which day a report is about, and what is read for it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from auditkit.errors import KeyMissing, UsageError
from auditkit.integrity import Verification
from auditkit.report.reading import choose_day, find_span, find_span_before, read_day, verify_day
from tests.frames import DAY, FrameTrail, make_day, make_frame

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(*moments: datetime) -> FrameTrail:
    return FrameTrail(make_frame([{"time": moment} for moment in moments]))


def test_todays_report_is_the_default_when_today_has_events() -> None:
    """An older event doesn't matter then, and neither does one from the future."""
    trail = at(datetime(2026, 11, 20, tzinfo=UTC), NOON - timedelta(hours=1), NOON + timedelta(days=400))
    assert choose_day(trail, None, "UTC", NOON) == date(2026, 11, 24)


def test_else_the_newest_day_that_has_events_is() -> None:
    """On a quiet morning the report is about the last day on which something happened."""
    trail = at(datetime(2026, 11, 20, tzinfo=UTC), NOON + timedelta(days=400))
    assert choose_day(trail, None, "UTC", NOON) == date(2026, 11, 20)


def test_events_from_the_future_are_reported_when_there_is_nothing_else() -> None:
    """A wrong clock is worth a look, not an empty page."""
    assert choose_day(at(NOON + timedelta(days=400)), None, "UTC", NOON) == date(2027, 12, 29)


def test_a_trail_without_events_is_reported_for_today() -> None:
    """An empty page is about a day too."""
    assert choose_day(FrameTrail(make_frame([])), None, "UTC", NOON) == date(2026, 11, 24)


def test_the_newest_day_is_that_of_the_zone() -> None:
    """An event at 23:30 UTC is one of the next day in Tokyo."""
    trail = at(datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    assert choose_day(trail, None, "Asia/Tokyo", NOON) == date(2026, 11, 21)


def test_a_day_and_a_zone_that_arent_ones_are_refused() -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match="expected a day"):
        choose_day(FrameTrail(make_frame([])), "someday", "UTC", NOON)
    with pytest.raises(UsageError, match="expected a time zone"):
        choose_day(FrameTrail(make_frame([])), None, "Mars/Olympus", NOON)


def test_a_day_of_25_hours_is_read_whole_and_no_more() -> None:
    """The last event of the day in Berlin belongs to it, the first of the next doesn't."""
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)
    trail = at(begin - timedelta(microseconds=1), begin, begin + timedelta(hours=25, microseconds=-1))
    span = find_span(date(2026, 10, 25), "Europe/Berlin", NOON)
    day = read_day(trail, span)
    assert day.before is not None
    assert (day.totals.events, day.before.events) == (2, 1)
    assert span.until - span.since == timedelta(hours=25)


def test_a_day_that_isnt_over_is_compared_with_as_much_of_the_day_before() -> None:
    """A morning isn't compared with a whole day."""
    now = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    span = find_span(DAY, "UTC", now)
    assert not span.over
    assert find_span_before(span) == (datetime(2026, 11, 22, tzinfo=UTC), now - timedelta(days=1))
    whole = find_span(DAY, "UTC", NOON)
    assert whole.over
    assert find_span_before(whole) == (datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC))


def test_what_is_read_in_pieces_is_what_the_frame_says() -> None:
    """Totals of a streamed day equal those of the frame in memory."""
    frame = make_day(2500)
    day = read_day(FrameTrail(frame), find_span(DAY, "UTC", NOON))
    seconds = frame["duration_us"].dropna().astype("float64") / 1e6
    assert day.totals.events == 2500
    assert day.totals.failures == frame["outcome"].eq("failure").sum()
    assert day.totals.leads == frame["lead_id"].nunique()
    assert day.totals.actors == frame["actor"].nunique()
    assert day.totals.percentiles["p95"] == pytest.approx(seconds.quantile(0.95))
    assert day.failed.to_frame()["n"].sum() == day.totals.failures
    assert len(day.recent) == 200
    assert day.recent["time"].is_monotonic_decreasing
    assert day.recent["time"].iloc[0] == frame["time"].max()


def test_an_empty_day_has_summaries_too() -> None:
    """Everything is there and says nothing."""
    day = read_day(FrameTrail(make_frame([])), find_span(DAY, "UTC", NOON))
    assert day.before is not None
    assert day.totals.events == day.before.events == 0
    assert day.totals.percentiles == {}
    assert day.timeline.to_frame().empty
    assert isinstance(day.recent, pd.DataFrame)


def test_a_missing_key_is_told_and_doesnt_end_the_report() -> None:
    """What can't be verified is reported as that."""

    class Keyless(FrameTrail):
        def verify(self, **_: object) -> Verification:
            raise KeyMissing("no key was found for this store")

    verification, problem = verify_day(Keyless(make_frame([])), find_span(DAY, "UTC", NOON))
    assert verification is None
    assert problem == "no key was found for this store"
