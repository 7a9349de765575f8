"""Charts of `auditkit.analysis.latency`: how long operations took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from auditkit.charts.text import format_count, make_label
from auditkit.charts.theme import (
    BLUE,
    GREY,
    MAX_POINTS,
    ORANGE,
    SERIES,
    VERMILION,
    draw_nothing,
    make_figure,
    place_times,
    title_times,
)
from auditkit.errors import UsageError, explain_missing
from auditkit.times import format_duration

try:
    import pandas as pd
except ModuleNotFoundError as error:
    raise explain_missing(error, "analysis") from error

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ENOUGH_FOR_P99: Final = 100
"""Durations below which a p99 is little more than the maximum; it's drawn hollow then."""

_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "x")
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
_LEAST_S: Final = 1e-6


def draw_percentiles(frame: pd.DataFrame, by: str = "operation", limit: int = 15) -> Figure:
    """Draw p50, p95 and p99 of each group on one line, the slowest p95 on top, with n beside the name.

    Args:
        frame: Of `auditkit.analysis.latency.summarise` without a ``freq``.
        by: Column that names the groups.
        limit: Groups at most: those with the slowest p95.

    Returns:
        The figure, with a logarithmic axis in seconds. The p99 of fewer than `ENOUGH_FOR_P99` durations is
        hollow.
    """
    known = frame.loc[frame["n"] > 0].sort_values("p95_s", ascending=False, kind="stable").head(limit)
    if not len(known):
        return draw_nothing("No durations in this range")
    counts = known["n"].tolist()
    places = list(range(len(known)))
    names = [f"{make_label(value, 26)}  n = {format_count(n)}" for value, n in zip(known[by], counts, strict=True)]
    p50, p95, p99 = (known[column].clip(lower=_LEAST_S).tolist() for column in ("p50_s", "p95_s", "p99_s"))
    spans: list[float | None] = []
    rows: list[float | None] = []
    for place, low, high in zip(places, p50, p99, strict=True):
        spans += [low, high, None]
        rows += [place, place, None]
    few = any(n < ENOUGH_FOR_P99 for n in counts)
    hollow = ["triangle-up" if n >= ENOUGH_FOR_P99 else "triangle-up-open" for n in counts]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": spans,
            "y": rows,
            "line": {"color": GREY, "width": 2},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for name, values, colour, symbol in (
        ("p50", p50, BLUE, "circle"),
        ("p95", p95, ORANGE, "diamond"),
        (f"p99 (hollow: n < {ENOUGH_FOR_P99})" if few else "p99", p99, VERMILION, hollow),
    ):
        facts = [[label, format_duration(value)] for label, value in zip(names, values, strict=True)]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": values,
                "y": places,
                "customdata": facts,
                "marker": {
                    "color": colour,
                    "symbol": symbol,
                    "size": 11,
                    "line": {"width": 1.5, "color": colour},
                },
                "hovertemplate": f"%{{customdata[0]}}<br>{name[:3]} = %{{customdata[1]}}<extra></extra>",
            }
        )
    layout = {
        "height": 130 + 30 * len(names),
        "xaxis": scale_seconds([*p50, *p99]) | {"title": {"text": "duration (logarithmic)"}},
        "yaxis": {
            "tickmode": "array",
            "tickvals": places,
            "ticktext": names,
            "range": [len(names) - 0.4, -0.6],
        },
    }
    return make_figure(traces, layout)


def draw_trend(frame: pd.DataFrame, by: str = "operation", percentile: int = 95, limit: int = 5) -> Figure:
    """Draw a percentile over time, one line for each group; a line is broken where there was no duration.

    Args:
        frame: Of `auditkit.analysis.latency.summarise` with a ``freq``, filled.
        by: Column that names the groups.
        percentile: 50, 90, 95 or 99.
        limit: Lines at most: the groups with the slowest percentile anywhere.

    Returns:
        The figure.

    Raises:
        UsageError: If there are more buckets than a figure may have points.
    """
    column = f"p{percentile}_s"
    worst = frame.groupby(by, dropna=False)[column].max().dropna().sort_values(ascending=False, kind="stable")
    if not len(worst):
        return draw_nothing("No durations in this range")
    buckets = frame["time"].nunique()
    if buckets > MAX_POINTS:
        raise UsageError(
            f"expected at most {MAX_POINTS:,} buckets, found {buckets:,}: summarise with a wider freq, as "
            "percentiles can't be merged afterwards"
        )
    limit = min(limit, max(1, MAX_POINTS // buckets))
    traces = []
    shown = []
    places, zone = place_times(frame["time"])
    for number, value in enumerate(worst.index[:limit]):
        same = frame[by].isna() if pd.isna(value) else frame[by].eq(value).fillna(value=False)
        rows = same.to_numpy(dtype=bool)
        series = frame.loc[rows]
        seconds = series[column].clip(lower=_LEAST_S)
        shown += seconds.dropna().tolist()
        facts = [[format_duration(second), format_count(n)] for second, n in zip(seconds, series["n"], strict=True)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": make_label(value),
                "x": places[rows],
                "y": seconds.to_numpy(),
                "customdata": facts,
                "connectgaps": False,
                "line": {
                    "color": SERIES[number % len(SERIES)],
                    "width": 2,
                    "dash": _DASHES[number % len(_DASHES)],
                },
                "marker": {"symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 7},
                "hovertemplate": "%{customdata[0]} (n = %{customdata[1]})",
            }
        )
    layout = {
        "height": 340,
        "hovermode": "x unified",
        "xaxis": {
            "type": "date",
            "tickangle": 0,
            "title": {"text": title_times(frame["time"], zone)},
            "hoverformat": "%d %b %H:%M",
            "showgrid": False,
        },
        "yaxis": scale_seconds(shown) | {"title": {"text": f"p{percentile} (logarithmic)"}},
    }
    return make_figure(traces, layout)


def scale_seconds(values: list[float]) -> dict[str, Any]:
    """Return a logarithmic axis for durations, whose ticks carry their units.

    Args:
        values: Positive durations in seconds, all that the axis must hold.

    Returns:
        Properties of a plotly axis.

    Example:
        >>> scale_seconds([0.004, 2.5])["ticktext"]
        ['1 ms', '10 ms', '100 ms', '1 s', '10 s']
    """
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.08, (high - low) * 0.06)
    low, high = low - room, high + room
    steps = (1, 2, 5) if high - low < 1.6 else (1, 3) if high - low < 2.6 else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return {
        "type": "log",
        "range": [low, high],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [format_duration(tick).replace(".0 ", " ") for tick in ticks],
    }
