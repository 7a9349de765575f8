"""The one look of all charts, light and dark, and what all charts share.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), told apart by people with any kind of
colour vision; vermilion is kept for failures. Where two things could be confused there is a shape or a
pattern besides the colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from auditkit.errors import require

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from plotly.graph_objects import Figure

MAX_POINTS: Final = 2000
"""Points of a figure at most; beyond, a chart takes wider buckets or refuses."""

BLUE: Final = "#0072b2"
ORANGE: Final = "#e69f00"
GREEN: Final = "#009e73"
PURPLE: Final = "#cc79a7"
SKY: Final = "#56b4e9"
VERMILION: Final = "#d55e00"
GREY: Final = "#8b95a1"

SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY)
"""Colours of series, in order; `GREY` is for the rest, `VERMILION` for failures."""

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif"

CONFIG: Final[dict[str, Any]] = {
    # Plotly's "Share chart" uploads the figure to a cloud: the button goes, and its address with it.
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "displaylogo": False,
    "typesetMath": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
"""Configuration of every chart that is shown."""


def _make_theme(ink: str, muted: str, grid: str, paper: str) -> dict[str, Any]:
    axis = {
        "automargin": True,
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "zeroline": False,
        # Ticks that aren't seen keep the labels off the axis.
        "ticks": "outside",
        "ticklen": 5,
        "tickcolor": "rgba(0,0,0,0)",
        "tickfont": {"color": ink, "size": 12},
        "title": {"font": {"color": muted, "size": 12}, "standoff": 12},
    }
    return {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": paper,
            "plot_bgcolor": paper,
            "colorway": list(SERIES),
            "title": {"font": {"size": 16}, "x": 0, "xref": "paper", "xanchor": "left"},
            "margin": {"l": 12, "r": 16, "t": 36, "b": 12},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {
                "orientation": "h",
                "x": 0,
                # Hung from the top of the figure, as plotly misplaces a legend that stands on the plot when a
                # new width changes its number of lines.
                "yref": "container",
                "y": 1,
                "yanchor": "top",
                "traceorder": "normal",
                "font": {"color": ink, "size": 12},
            },
            "hoverlabel": {
                "align": "left",
                "bgcolor": paper,
                "bordercolor": muted,
                "font": {"family": FONT, "size": 12, "color": ink},
            },
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": muted, "activecolor": ink},
            "bargap": 0.25,
            "annotationdefaults": {"font": {"color": muted}},
        }
    }


LIGHT: Final = _make_theme(ink="#1f2933", muted="#5b6672", grid="#e3e7ec", paper="#ffffff")
DARK: Final = _make_theme(ink="#e4e8ed", muted="#a0abb8", grid="#2d343d", paper="#171b21")
"""The two themes, as plotly templates."""


def make_figure(traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> Figure:
    """Return a figure in the light theme.

    Args:
        traces: Plotly traces.
        layout: Plotly layout; the theme fills in what it leaves open.

    Returns:
        The figure.

    Raises:
        ExtraMissing: If plotly isn't installed.
    """
    objects = require("plotly.graph_objects", "report")
    figure: Figure = objects.Figure({"data": list(traces), "layout": {"template": LIGHT, **layout}})
    return figure


def draw_nothing(sentence: str) -> Figure:
    """Return a figure that says why there is nothing to see.

    Args:
        sentence: The reason; no text of an event.

    Returns:
        A figure without axes.
    """
    note = {"text": sentence, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    hidden = {"visible": False}
    return make_figure([], {"annotations": [note], "xaxis": hidden, "yaxis": hidden, "height": 160})


def scale_counts(largest: float) -> dict[str, Any]:
    """Return an axis for whole numbers, which has no ticks between them.

    Args:
        largest: The largest number to show.

    Returns:
        Properties of a plotly axis.

    Example:
        >>> scale_counts(3)["dtick"], "dtick" in scale_counts(3000)
        (1, False)
    """
    axis: dict[str, Any] = {"tickformat": ",", "rangemode": "tozero"}
    return axis | {"dtick": 1} if largest < 6 else axis


def place_times(times: pd.Series) -> tuple[np.ndarray, str]:
    """Return where times stand on a date axis, and how to name their zone.

    Plotly's date axes know UTC only, so a time is placed where the clock on the wall stood. Where a reading
    comes twice, as when clocks go back, the whole axis keeps the offset of its beginning, so that nothing
    overlaps.

    Args:
        times: datetime64 with a time zone.

    Returns:
        Epoch milliseconds as float64, and the zone's name for the axis title.

    Example:
        >>> import pandas as pd
        >>> noon = pd.Series(pd.to_datetime(["2026-11-23T12:00:00Z"])).dt.tz_convert("Europe/Berlin")
        >>> place_times(noon)[1]
        'Europe/Berlin'
    """
    zone = str(times.dt.tz)
    wall = times.dt.tz_localize(None)
    if wall.nunique() < times.nunique():
        offset = times.min().utcoffset()
        hours, minutes = divmod(round(offset.total_seconds() / 60), 60)
        wall = times.dt.tz_convert("UTC").dt.tz_localize(None) + offset
        zone = f"{zone} (UTC{hours:+03d}:{minutes:02d} throughout, as the clocks went back)"
    return wall.to_numpy(dtype="datetime64[us]").view("int64") / 1000, zone


def title_times(times: pd.Series, zone: str) -> str:
    """Return the title of a time axis.

    Args:
        times: What the axis shows.
        zone: Its zone, from `place_times`.

    Returns:
        ``time of day, <zone>`` within one day, else ``time, <zone>``.
    """
    return f"time of day, {zone}" if times.dt.date.nunique() <= 1 else f"time, {zone}"
