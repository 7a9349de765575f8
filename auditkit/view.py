"""A result that one can look at: the frame, its chart, and the code that makes it again.

In a notebook a view shows its chart, where the front end knows plotly, and its table everywhere else. Neither
loads anything from the network. Cells are event text and therefore hostile: they are cleaned, cut and
escaped.
"""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from auditkit.charts.text import MISSING, clean_text, format_count, is_missing, make_label
from auditkit.errors import UsageError, explain_missing
from auditkit.times import format_duration

try:
    import pandas as pd
except ModuleNotFoundError as error:
    raise explain_missing(error, "analysis") from error

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_ROWS: Final = 20
"""Rows of a table that a view shows; the frame has all of them."""

CELL_CHARACTERS: Final = 100
"""Characters of a cell that a view shows."""

_TABLE_STYLE: Final = "border-collapse:collapse;font-variant-numeric:tabular-nums;line-height:1.4"
_CELL_STYLE: Final = "padding:3px 12px 3px 0;vertical-align:top"

PLOTLY_MIME: Final = "application/vnd.plotly.v1+json"


@dataclass(frozen=True, eq=False)
class View:
    """A result with its chart and its code.

    Attributes:
        frame: The result as a tidy frame.
        title: What it is, in a few words; no event text.
        chart: Draws the frame, from `auditkit.charts`; ``None`` where there is nothing to draw.
        python: The Python line that makes the result again.
        cli: The line for the shell that makes it again, or empty.
        note: A sentence that belongs under the result, such as the range it covers.

    Example:
        >>> view = View(pd.DataFrame({"type": ["email.sent"], "n": [3]}), "Events by type",
        ...             python="auditkit.open('audit').statistics()", cli="auditkit stats --store audit")
        >>> view
        Events by type
              type n
        email.sent 3
        >>> print(view.code())
        auditkit.open('audit').statistics()
        $ auditkit stats --store audit
    """

    frame: pd.DataFrame
    title: str
    chart: Callable[[pd.DataFrame], Figure] | None = field(default=None, repr=False)
    python: str = ""
    cli: str = ""
    note: str = ""

    def figure(self) -> Figure:
        """Return the chart of the frame.

        Returns:
            A plotly figure.

        Raises:
            UsageError: If this result has no chart.
            ExtraMissing: If plotly isn't installed.
        """
        if self.chart is None:
            raise UsageError(f"expected a result with a chart, but {self.title!r} is a table only: use .frame")
        drawn = self.chart(self.frame)
        # The title takes the top of the figure, and the legend moves below it.
        height = drawn.layout.height or 400
        drawn.update_layout(
            title={"text": make_label(self.title, 120), "y": 1, "yanchor": "top", "pad": {"t": 16}},
            legend={"y": 1 - 44 / height},
            margin={"t": 64},
            height=height + 40,
        )
        return drawn

    def to_html(self) -> str:
        """Return a fragment of HTML with the chart, the table and the code.

        The chart needs a page that has loaded plotly.js before; the fragment itself loads nothing.

        Returns:
            HTML in which everything that came from an event is escaped.
        """
        parts = [self._render_table()]
        if self.chart is not None:
            from auditkit.charts.theme import CONFIG

            parts.insert(
                0,
                self.figure().to_html(
                    full_html=False,
                    include_plotlyjs=False,
                    include_mathjax=False,
                    # A copy: plotly takes entries out of what it's given.
                    config=dict(CONFIG),
                    # Neither escaped by plotly nor made from anything but random digits.
                    div_id=f"auditkit-{secrets.token_hex(8)}",
                ),
            )
        return f'<div class="auditkit-view">{"".join(parts)}</div>'

    def code(self) -> str:
        """Return the lines that make this result again.

        Returns:
            The Python line, then the line for the shell after ``$``; without those that there aren't.
        """
        return "\n".join([*([self.python] if self.python else []), *([f"$ {self.cli}"] if self.cli else [])])

    def __repr__(self) -> str:
        shown = self._show_rows()
        table = shown.to_string(index=False, max_colwidth=60) if len(shown) else "(no rows)"
        return "\n".join(part for part in (self.title, table, self._count_rows(), self.note) if part)

    def _repr_html_(self) -> str:
        return f'<div class="auditkit-view">{self._render_table()}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if self.chart is not None and len(self.frame):
            from auditkit.charts.theme import CONFIG

            bundle[PLOTLY_MIME] = {**json.loads(self.figure().to_json()), "config": CONFIG}
        return bundle

    def _show_rows(self) -> pd.DataFrame:
        """Return the first rows with every cell as safe text."""
        head = self.frame.head(MAX_ROWS)
        cells = {clean_text(name, 60): [show_cell(str(name), value) for value in head[name]] for name in head.columns}
        return pd.DataFrame(cells, dtype="str")

    def _count_rows(self) -> str:
        total = len(self.frame)
        return f"showing {MAX_ROWS} of {total:,} rows" if total > MAX_ROWS else ""

    def _render_table(self) -> str:
        shown = self._show_rows()
        numeric = {
            clean_text(name, 60) for name in self.frame.columns if pd.api.types.is_numeric_dtype(self.frame[name].dtype)
        }
        align = {str(name): "right" if name in numeric else "left" for name in shown.columns}
        head = "".join(
            f'<th scope="col" style="text-align:{side};{_CELL_STYLE}">{html.escape(name)}</th>'
            for name, side in align.items()
        )
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:{side};{_CELL_STYLE}">{html.escape(cell)}</td>'
                for side, cell in zip(align.values(), row, strict=True)
            )
            + "</tr>"
            for row in shown.itertuples(index=False, name=None)
        )
        empty = "" if len(shown) else "<p>(no rows)</p>"
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (self._count_rows(), self.note) if note)
        code = f"<pre><code>{html.escape(self.code())}</code></pre>" if self.code() else ""
        return (
            f"<p><strong>{html.escape(self.title)}</strong></p>"
            f'<table style="{_TABLE_STYLE}">'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{empty}{notes}{code}"
        )


def show_cell(column: str, value: object) -> str:
    """Return a cell of a result as safe text, in the unit that its column's name tells.

    Args:
        column: Name of the column; ``*_s`` are seconds and ``*_us`` microseconds.
        value: The cell.

    Returns:
        Text without control characters, cut to `CELL_CHARACTERS`; not escaped for HTML.

    Example:
        >>> show_cell("p95_s", 0.1823), show_cell("duration_us", 1500), show_cell("n", 48211)
        ('182 ms', '1.5 ms', '48,211')
        >>> show_cell("lead_id", None)
        '–'
    """
    if is_missing(value):
        return MISSING
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, str):
        return clean_text(value, CELL_CHARACTERS)
    if column.endswith("_s"):
        return format_duration(float(str(value)))
    if column.endswith("_us"):
        return format_duration(float(str(value)) / 1e6)
    if isinstance(value, bool):
        return str(value)
    try:
        number = float(str(value))
    except ValueError:
        return clean_text(value, CELL_CHARACTERS)
    return format_count(number) if number.is_integer() else f"{number:,.4g}"
