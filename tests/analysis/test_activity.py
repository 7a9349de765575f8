"""Counts of events: against plain pandas, by group, by time, filled."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given

from auditkit.analysis import activity
from auditkit.errors import UsageError
from tests.analysis.strategies import FRAMES
from tests.frames import make_day, make_frame


@given(frame=FRAMES)
def test_counts_equal_plain_pandas(frame: pd.DataFrame) -> None:
    """Events, failures, different leads and the first and last moment are what a groupby says."""
    result = activity.summarise(frame, by=("type",), distinct=("lead_id",)).to_frame().set_index("type")
    grouped = frame.groupby("type", dropna=False)
    expected = pd.DataFrame(
        {
            "n": grouped.size(),
            "failures": grouped["outcome"].agg(lambda outcomes: (outcomes == "failure").sum()),
            "leads": grouped["lead_id"].nunique(),
            "first": grouped["time"].min(),
            "last": grouped["time"].max(),
        }
    )
    pd.testing.assert_frame_equal(result.sort_index(), expected.sort_index(), check_dtype=False)


def test_the_largest_group_comes_first_and_ties_go_by_name() -> None:
    """A reader meets what matters first, and two runs print the same."""
    frame = make_frame([{"type": name} for name in ("b", "a", "c", "c")])
    assert activity.summarise(frame).to_frame()["type"].tolist() == ["c", "a", "b"]


def test_filling_gives_each_group_every_bucket_of_a_dst_day() -> None:
    """Twenty-five hours for each of two types, with zeros where nothing happened."""
    frame = make_frame(
        [
            {"type": "a", "time": datetime(2026, 10, 25, 0, 30, tzinfo=UTC)},
            {"type": "b", "time": datetime(2026, 10, 25, 1, 30, tzinfo=UTC)},
        ]
    )
    summary = activity.summarise(frame, freq="1h", tz="Europe/Berlin", distinct=("lead_id",))
    filled = summary.to_frame(
        fill=True, since=datetime(2026, 10, 24, 22, tzinfo=UTC), until=datetime(2026, 10, 25, 23, tzinfo=UTC)
    )
    assert filled.groupby("type").size().to_dict() == {"a": 25, "b": 25}
    assert filled["n"].sum() == 2
    assert filled.dtypes.equals(summary.to_frame().dtypes)


def test_an_empty_day_can_be_filled_without_groups() -> None:
    """A flat line for a day without events, rather than no line."""
    summary = activity.summarise(make_frame([]), by=(), freq="1h")
    day = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    filled = summary.to_frame(fill=True, since=day[0], until=day[1])
    assert (len(filled), filled["n"].sum()) == (24, 0)
    assert len(summary.to_frame(fill=True)) == 0


def test_only_buckets_can_be_filled() -> None:
    """Without a width there is nothing to fill."""
    with pytest.raises(UsageError, match="freq"):
        activity.summarise(make_frame([{}])).to_frame(fill=True)


def test_distinct_columns_are_named_in_the_plural() -> None:
    """lead_id is counted as leads, actor as actors."""
    frame = activity.summarise(make_day(50), by=(), distinct=("lead_id", "actor", "type")).to_frame()
    assert list(frame.columns) == ["n", "failures", "leads", "actors", "types", "first", "last"]


def test_moments_are_given_in_the_zone_asked_for() -> None:
    """First and last read as the clock on the wall did."""
    frame = activity.summarise(make_frame([{}]), tz="Asia/Kathmandu").to_frame()
    assert frame["first"][0].isoformat() == "2026-11-23T14:45:00+05:45"
