"""Charts of latency."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from auditkit.analysis import latency
from auditkit.charts.latency import draw_percentiles, draw_trend, scale_seconds
from auditkit.charts.theme import MAX_POINTS
from auditkit.errors import UsageError
from tests.frames import make_day, make_frame, make_hostile


def test_each_name_carries_its_n_and_the_slowest_is_on_top() -> None:
    """A percentile without its n says nothing."""
    frame = latency.summarise(make_day(3000)).to_frame()
    figure = draw_percentiles(frame)
    slowest = frame.sort_values("p95_s").iloc[-1]
    assert figure.layout.yaxis.ticktext[0] == f"{slowest['operation']}  n = {slowest['n']:,}"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]


def test_a_p99_of_few_durations_is_hollow_and_says_why() -> None:
    """Under a hundred it's hardly more than the maximum."""
    rows = [{"operation": "many", "duration_us": us} for us in range(1, 101)]
    rows += [{"operation": "few", "duration_us": 1_000_000}]
    p99 = draw_percentiles(latency.summarise(make_frame(rows)).to_frame()).data[-1]
    assert p99.name == "p99 (hollow: n < 100)"
    assert list(p99.marker.symbol) == ["triangle-up-open", "triangle-up"]


def test_the_three_percentiles_differ_by_shape() -> None:
    """Colour alone tells nobody who can't see it."""
    figure = draw_percentiles(latency.summarise(make_day(5000)).to_frame())
    shapes = {str(np.unique(trace.marker.symbol)) for trace in figure.data[1:]}
    assert len(shapes) == 3


def test_a_line_is_broken_where_nothing_was_measured() -> None:
    """Two mornings aren't joined through a silent night, and no hour has zero seconds."""
    rows = [
        {"operation": "o", "duration_us": 1000, "time": datetime(2026, 11, 23, hour, tzinfo=UTC)} for hour in (1, 2, 7)
    ]
    line = draw_trend(latency.summarise(make_frame(rows), freq="1h").to_frame(fill=True)).data[0]
    assert line.connectgaps is False
    assert np.isnan(line.y).tolist() == [False, False, True, True, True, True, False]


def test_more_buckets_than_points_are_refused() -> None:
    """Percentiles can't be merged, so the answer is a wider bucket and not a wrong line."""
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    rows = [{"operation": "o", "duration_us": 1, "time": begin + timedelta(days=day)} for day in (0, 8)]
    frame = latency.summarise(make_frame(rows), freq="5min").to_frame(fill=True)
    with pytest.raises(UsageError, match="wider freq"):
        draw_trend(frame)


def test_many_buckets_leave_room_for_fewer_lines() -> None:
    """The limit on points holds for all lines together."""
    day = make_day(3000)
    frame = latency.summarise(day, freq="1min").to_frame(
        fill=True, since=datetime(2026, 11, 23, tzinfo=UTC), until=datetime(2026, 11, 24, tzinfo=UTC)
    )
    assert sum(len(trace.x) for trace in draw_trend(frame).data) <= MAX_POINTS


@pytest.mark.parametrize(
    "seconds, ticks",
    [
        ([0.2, 0.3], ["200 ms"]),
        ([0.001, 0.1], ["1 ms", "3 ms", "10 ms", "30 ms", "100 ms"]),
        ([1e-6, 9e9], None),
    ],
)
def test_ticks_carry_their_unit(seconds: list[float], ticks: list[str] | None) -> None:
    """Every range has ticks inside it, from microseconds to centuries."""
    axis = scale_seconds(seconds)
    low, high = axis["range"]
    inside = [
        text for value, text in zip(axis["tickvals"], axis["ticktext"], strict=True) if low <= np.log10(value) <= high
    ]
    assert inside
    assert ticks is None or inside == ticks


def test_no_duration_zero_durations_and_hostile_names_can_be_drawn() -> None:
    """A logarithmic axis has no zero, so the least is a microsecond."""
    nothing = latency.summarise(make_frame([{}]), freq="1h").to_frame()
    assert draw_trend(nothing).layout.annotations
    assert draw_percentiles(nothing).layout.annotations
    zero = latency.summarise(make_frame([{"operation": None, "duration_us": 0}])).to_frame()
    assert list(draw_percentiles(zero).data[1].x) == [1e-6]
    hostile = make_hostile()
    figure = draw_percentiles(latency.summarise(hostile).to_frame(), limit=30)
    trend = draw_trend(latency.summarise(hostile, freq="1h").to_frame(fill=True), limit=30)
    labels = [*figure.layout.yaxis.ticktext, *(trace.name for trace in trend.data)]
    assert not any(character in label for label in labels for character in "<>$")
