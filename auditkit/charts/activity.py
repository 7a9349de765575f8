"""Charts of `auditkit.analysis.activity`: how much happened, when, and of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from auditkit.analysis.buckets import DAY_US, Width
from auditkit.charts.text import format_count, format_share, make_label
from auditkit.charts.theme import (
    BLUE,
    GREY,
    MAX_POINTS,
    SERIES,
    VERMILION,
    draw_nothing,
    make_figure,
    place_times,
    scale_counts,
    title_times,
)
from auditkit.errors import explain_missing

try:
    import numpy as np
    import pandas as pd
except ModuleNotFoundError as error:
    raise explain_missing(error, "analysis") from error

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HATCH: Final = {"shape": "/", "fillmode": "overlay", "fgcolor": "#ffffff", "fgopacity": 0.55, "size": 6}
"""Pattern of failures, so that they differ by more than the colour."""

REST: Final = "all others"
"""Name of the series that holds what didn't get one of its own."""


def draw_timeline(frame: pd.DataFrame, by: str = "type", limit: int = 5) -> Figure:
    """Draw events over time as stacked bars.

    Args:
        frame: Of `auditkit.analysis.activity.summarise` with a ``freq``: the columns ``by``, ``time`` and
            ``n``.
        by: Column whose values are stacked.
        limit: Series at most, the largest; what is left is stacked as one. The type ``error`` always has its
            own.

    Returns:
        The figure. Where bars would be more than `MAX_POINTS`, several buckets are drawn as one.
    """
    if not frame["n"].sum():
        return draw_nothing("No events in this range")
    totals = frame.groupby(by, dropna=False)["n"].sum().sort_values(ascending=False, kind="stable")
    chosen = [*totals.index[:limit]]
    if "error" in totals.index and "error" not in chosen:
        chosen[-1] = "error"
    codes = np.full(len(frame), len(chosen))
    for position, value in enumerate(chosen):
        same = frame[by].isna() if pd.isna(value) else frame[by].eq(value).fillna(value=False)
        codes[same.to_numpy(dtype=bool)] = position
    names = [make_label(value) for value in chosen]
    colours = [VERMILION if value == "error" else colour for value, colour in zip(chosen, _cycle(), strict=False)]
    if len(totals) > len(chosen):
        names.append(REST)
        colours.append(GREY)

    moments = pd.Series(frame["time"].sort_values().unique())
    width = _measure_width(moments)
    factor = _widen(len(moments), len(names), width)
    kept = moments.iloc[::factor].reset_index(drop=True)
    rows = np.searchsorted(kept.to_numpy(), frame["time"].to_numpy(), side="right") - 1
    table = np.zeros((len(names), len(kept)))
    np.add.at(table, (codes, rows), frame["n"].to_numpy(dtype="float64"))
    table[table == 0] = np.nan

    places, zone = place_times(kept)
    step = width * factor / 1000
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": name,
            "x": places,
            "y": counts,
            "offset": 0,
            "width": step,
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": "%{y:,}",
        }
        for name, counts, colour in zip(names, table, colours, strict=True)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0,
        "hovermode": "x unified",
        "height": 340,
        "xaxis": {
            "type": "date",
            "tickangle": 0,
            "title": {"text": title_times(kept, zone)},
            "range": [places[0], places[-1] + step],
            "hoverformat": "%d %b %H:%M" if width < DAY_US else "%a %d %b %Y",
            "showgrid": False,
        },
        "yaxis": scale_counts(float(np.nansum(table, axis=0).max()))
        | {"title": {"text": f"events per {_name_width(width * factor)}"}},
    }
    return make_figure(traces, layout)


def draw_types(frame: pd.DataFrame, limit: int = 12) -> Figure:
    """Draw how many events there were of each type, and how many of them failed.

    Args:
        frame: Of `auditkit.analysis.activity.summarise`: the columns ``type``, ``n`` and ``failures``.
        limit: Bars at most; what is left is one more.

    Returns:
        The figure.
    """
    return _draw_bars(frame, "type", limit)


def draw_workflows(frame: pd.DataFrame, limit: int = 12) -> Figure:
    """Draw how many events each workflow had, and how many of them failed.

    Args:
        frame: Of `auditkit.analysis.activity.summarise`: the columns ``workflow``, ``n`` and ``failures``.
        limit: Bars at most; what is left is one more.

    Returns:
        The figure.
    """
    return _draw_bars(frame, "workflow", limit)


def _draw_bars(frame: pd.DataFrame, by: str, limit: int) -> Figure:
    """Draw one horizontal bar for each value, the largest on top."""
    totals = frame.groupby(by, dropna=False)[["n", "failures"]].sum()
    totals = totals.sort_values("n", ascending=False, kind="stable")
    whole = int(totals["n"].sum())
    if not whole:
        return draw_nothing("No events in this range")
    limit = len(totals) if len(totals) == limit + 1 else limit
    top = totals.iloc[:limit]
    names = [make_label(value) for value in top.index]
    counts, failures = top["n"].tolist(), top["failures"].tolist()
    if len(totals) > limit:
        names.append(f"{len(totals) - limit:,} others")
        counts.append(whole - sum(counts))
        failures.append(int(totals["failures"].sum()) - sum(failures))
    # Bars stand at whole numbers, as two names that are cut to the same label would share one place on an
    # axis of names.
    places = list(range(len(names)))
    shares = [format_share(count / whole) for count in counts]
    facts = [[name, share] for name, share in zip(names, shares, strict=True)]
    bar = {"type": "bar", "orientation": "h", "y": places, "customdata": facts, "width": 0.68}
    traces: list[dict[str, Any]] = [
        bar
        | {
            "name": "no failure",
            "x": [count - failed for count, failed in zip(counts, failures, strict=True)],
            "marker": {"color": BLUE},
            "hovertemplate": "%{customdata[0]} (%{customdata[1]} of all)<br>%{x:,}<extra>no failure</extra>",
        }
    ]
    if any(failures):
        traces.append(
            bar
            | {
                "name": "failure",
                "x": failures,
                "marker": {"color": VERMILION, "pattern": HATCH},
                "hovertemplate": "%{customdata[0]} (%{customdata[1]} of all)<br>%{x:,}<extra>failure</extra>",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": counts,
            "y": places,
            "text": [f" {format_count(count)}" for count in counts],
            "textposition": "middle right",
            "textfont": {"size": 12},
            "cliponaxis": False,
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    layout = {
        "barmode": "stack",
        "height": 100 + 28 * len(names),
        "showlegend": any(failures),
        # Room for the counts beside the longest bar.
        "xaxis": scale_counts(max(counts)) | {"title": {"text": "events"}, "range": [0, max(counts) * 1.22]},
        "yaxis": {
            "tickmode": "array",
            "tickvals": places,
            "ticktext": names,
            "range": [len(names) - 0.4, -0.6],
            "showgrid": False,
        },
    }
    return make_figure(traces, layout)


def _cycle() -> list[str]:
    return [*SERIES] * 8


def _measure_width(moments: pd.Series) -> int:
    """Return the width of the buckets in microseconds: the least distance between two; an hour for one."""
    if len(moments) < 2:
        return 3_600_000_000
    return int(moments.diff().min() // pd.Timedelta(microseconds=1))


def _widen(buckets: int, series: int, width: int) -> int:
    """Return how many buckets to draw as one: few enough bars, and a width that divides a day."""
    factor = -(-buckets * series // MAX_POINTS)
    while factor > 1 and factor < buckets and DAY_US % (width * factor) and (width * factor) % DAY_US:
        factor += 1
    return max(1, factor)


def _name_width(microseconds: int) -> str:
    days, rest = divmod(microseconds, DAY_US)
    if days and not rest:
        return "day" if days == 1 else f"{days} days"
    return str(Width("", microseconds, 0)) if microseconds % 1_000_000 == 0 else "bucket"
