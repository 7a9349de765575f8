"""What all charts share: where times stand, and the look."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from auditkit.charts.theme import CONFIG, DARK, LIGHT, draw_nothing, make_figure, place_times, title_times


def series(*moments: str, tz: str = "UTC") -> pd.Series:
    return pd.Series(pd.to_datetime(list(moments), utc=True).as_unit("us").tz_convert(tz))


def test_times_stand_where_the_clock_on_the_wall_stood() -> None:
    """09:00 in Berlin is at 09:00 on the axis, as epoch milliseconds."""
    places, zone = place_times(series("2026-11-23T08:00:00Z", tz="Europe/Berlin"))
    assert places.tolist() == [pd.Timestamp("2026-11-23T09:00Z").timestamp() * 1000]
    assert zone == "Europe/Berlin"
    assert places.dtype == "float64"


def test_the_hour_that_comes_twice_doesnt_overlap() -> None:
    """When clocks go back, the axis keeps the offset of its beginning and says so."""
    places, zone = place_times(
        series("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", tz="Europe/Berlin")
    )
    assert [place / 3_600_000 % 24 for place in places] == [2, 3, 4]
    assert zone == "Europe/Berlin (UTC+02:00 throughout, as the clocks went back)"


def test_the_axis_says_time_of_day_within_one_day_only() -> None:
    """A week isn't a time of day."""
    day, days = series("2026-11-23T08:00:00Z"), series("2026-11-23T08:00:00Z", "2026-11-24T08:00:00Z")
    assert title_times(day, "UTC") == "time of day, UTC"
    assert title_times(days, "UTC") == "time, UTC"


def test_no_chart_can_be_sent_to_a_cloud() -> None:
    """Plotly would by default: the button is off and has no address."""
    assert CONFIG["showSendToCloud"] is False
    assert CONFIG["plotlyServerURL"] == ""


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_texts_are_readable_on_their_background(theme: dict[str, Any]) -> None:
    """Every text has at least the contrast of 4.5 that WCAG 2.2 asks for (success criterion 1.4.3)."""
    layout = theme["layout"]
    paper = layout["paper_bgcolor"]
    inks = [
        layout["font"]["color"],
        layout["xaxis"]["tickfont"]["color"],
        layout["xaxis"]["title"]["font"]["color"],
        layout["legend"]["font"]["color"],
        layout["annotationdefaults"]["font"]["color"],
    ]
    for ink in inks:
        assert contrast(str(ink), str(paper)) >= 4.5


def test_both_themes_are_valid_templates() -> None:
    """Plotly takes every property of them."""
    make_figure([], {"template": LIGHT})
    make_figure([], {"template": DARK})


def test_nothing_to_draw_says_so() -> None:
    """An empty range has a sentence, and no axes."""
    figure = draw_nothing("No events in this range")
    assert figure.layout.annotations[0].text == "No events in this range"
    assert figure.layout.xaxis.visible is False


def contrast(one: str, other: str) -> float:
    lights = sorted((luminance(one), luminance(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
