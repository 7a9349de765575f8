"""Charts of activity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auditkit.analysis import activity
from auditkit.charts.activity import draw_timeline, draw_types, draw_workflows
from auditkit.charts.theme import MAX_POINTS, VERMILION
from tests.frames import ATTACKS, make_day, make_frame


def count_points(figure: Any) -> int:
    return sum(len(trace.x) for trace in figure.data)


def test_a_day_in_five_minutes_is_stacked_by_its_largest_types() -> None:
    """Six series whose sum is the day, zone and unit on the axes, epoch milliseconds on a date axis."""
    frame = activity.summarise(make_day(3000), freq="5min", tz="Europe/Berlin").to_frame(fill=True)
    figure = draw_timeline(frame)
    assert len(figure.data) == 6
    assert figure.data[-1].name == "all others"
    assert sum(np.nansum(trace.y) for trace in figure.data) == 3000
    assert count_points(figure) <= MAX_POINTS
    assert figure.layout.xaxis.type == "date"
    assert figure.data[0].x.dtype == "float64"
    assert "Europe/Berlin" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "events per 5 minutes"


def test_errors_have_their_own_series_however_few() -> None:
    """What a reader looks for first isn't hidden among all others, and has the colour of failures."""
    figure = draw_timeline(activity.summarise(make_day(3000), freq="1h").to_frame())
    errors = [trace for trace in figure.data if trace.name == "error"]
    assert [trace.marker.color for trace in errors] == [VERMILION]


@pytest.mark.parametrize("freq, width", [("5min", "30 minutes"), ("30s", "30 minutes"), ("1h", "hour")])
def test_too_many_buckets_are_drawn_as_fewer_and_nothing_is_lost(freq: str, width: str) -> None:
    """A week in small steps stays below the limit, in a round width, with the same sum."""
    week = pd.concat([make_day(500, seed=day) for day in range(7)], ignore_index=True)
    week["time"] += pd.to_timedelta(np.repeat(range(7), 500), unit="D").as_unit("us")
    figure = draw_timeline(activity.summarise(week, freq=freq).to_frame(fill=True))
    assert count_points(figure) <= MAX_POINTS
    assert sum(np.nansum(trace.y) for trace in figure.data) == 3500
    assert figure.layout.yaxis.title.text == f"events per {width}"


def test_a_day_on_which_clocks_go_back_has_25_hours_side_by_side() -> None:
    """No two bars stand at the same place."""
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)
    frame = make_frame([{"type": "a", "time": begin + timedelta(hours=hour)} for hour in range(25)])
    figure = draw_timeline(activity.summarise(frame, freq="1h", tz="Europe/Berlin").to_frame())
    places = figure.data[0].x
    assert (len(places), len(set(places))) == (25, 25)
    assert set(np.diff(places)) == {3_600_000}


def test_bars_carry_failures_apart_and_the_rest_in_one() -> None:
    """Twelve bars and one for the others, whose sum is all events."""
    rows = [{"type": f"type-{number}"} for number in range(20)] + [{"type": "type-0", "outcome": "failure"}]
    figure = draw_types(activity.summarise(make_frame(rows)).to_frame())
    fine, failed, _ = figure.data
    assert figure.layout.yaxis.ticktext[-1] == "8 others"
    assert sum(fine.x) + sum(failed.x) == 21
    assert sum(failed.x) == 1
    assert failed.marker.pattern.shape == "/"


def test_names_that_are_cut_alike_stay_two_bars() -> None:
    """Bars stand at numbers, so that equal labels can't merge."""
    rows = [{"workflow": "x" * 50 + middle + "x" * 50} for middle in "ab"]
    figure = draw_workflows(activity.summarise(make_frame(rows), by=("workflow",)).to_frame())
    assert len(set(figure.layout.yaxis.ticktext)) == 1
    assert list(figure.data[0].y) == [0, 1]


def test_hostile_names_are_only_text_in_a_figure() -> None:
    """No text of a figure holds a tag, whatever the events say."""
    frame = activity.summarise(make_frame([{"type": attack} for attack in ATTACKS]), freq="1h").to_frame()
    for figure in (draw_timeline(frame, limit=30), draw_types(frame, limit=30)):
        labels = [trace.name or "" for trace in figure.data] + [*(figure.layout.yaxis.ticktext or ())]
        assert not any(character in label for label in labels for character in "<>$")


@pytest.mark.parametrize("draw, by", [(draw_types, "type"), (draw_workflows, "workflow")])
def test_no_events_and_no_names_can_be_drawn(draw: Any, by: str) -> None:
    """An empty frame has a sentence, a missing name a bar of its own."""
    assert draw(activity.summarise(make_frame([]), by=(by,)).to_frame()).layout.annotations
    nameless = activity.summarise(make_frame([{"type": None}]), by=(by,)).to_frame()
    assert list(draw(nameless).layout.yaxis.ticktext) == ["(none)"]


def test_one_event_and_no_event_make_a_timeline() -> None:
    """Neither needs a second bucket."""
    one = draw_timeline(activity.summarise(make_frame([{"type": None}]), freq="1D").to_frame())
    assert [trace.name for trace in one.data] == ["(none)"]
    assert draw_timeline(activity.summarise(make_frame([]), freq="1D").to_frame()).layout.annotations


def test_days_are_named_as_days() -> None:
    """The unit of the axis is the width of the bars."""
    rows = [{"time": datetime(2026, 11, day, 9, tzinfo=UTC)} for day in range(1, 20)]
    figure = draw_timeline(activity.summarise(make_frame(rows), freq="1D").to_frame())
    assert figure.layout.yaxis.title.text == "events per day"
