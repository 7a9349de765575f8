"""Charts of `auditkit.analysis.failures`: what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditkit.charts.text import format_count, make_label
from auditkit.charts.theme import GREY, VERMILION, draw_nothing, make_figure, scale_counts

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


def draw_failures(frame: pd.DataFrame, by: str = "error_type", limit: int = 12) -> Figure:
    """Draw how often each kind of failure happened, the most frequent on top.

    Args:
        frame: Of `auditkit.analysis.failures.summarise`: the columns ``by`` and ``n``.
        by: Column that names the failures.
        limit: Bars at most; what is left is one more.

    Returns:
        The figure.
    """
    totals = frame.groupby(by, dropna=False)["n"].sum().sort_values(ascending=False, kind="stable")
    if not len(totals):
        return draw_nothing("No failures in this range")
    limit = len(totals) if len(totals) == limit + 1 else limit
    names = [make_label(value) for value in totals.index[:limit]]
    counts = totals.iloc[:limit].tolist()
    colours = [VERMILION] * len(names)
    if len(totals) > limit:
        names.append(f"{len(totals) - limit:,} others")
        counts.append(int(totals.iloc[limit:].sum()))
        colours.append(GREY)
    places = list(range(len(names)))
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": counts,
            "y": places,
            "width": 0.68,
            "text": [format_count(count) for count in counts],
            "textposition": "outside",
            "cliponaxis": False,
            "customdata": names,
            "marker": {"color": colours},
            "hovertemplate": "%{customdata}: %{x:,}<extra></extra>",
        }
    ]
    layout = {
        "height": 90 + 28 * len(names),
        "xaxis": scale_counts(max(counts)) | {"title": {"text": "failures"}, "range": [0, max(counts) * 1.15]},
        "yaxis": {
            "tickmode": "array",
            "tickvals": places,
            "ticktext": names,
            "range": [len(names) - 0.4, -0.6],
            "showgrid": False,
        },
    }
    return make_figure(traces, layout)
