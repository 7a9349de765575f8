"""A view: the frame, its chart, its code, and nothing from the network."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

from auditkit.analysis import activity, failures
from auditkit.charts.activity import draw_types
from auditkit.charts.theme import CONFIG
from auditkit.errors import UsageError
from auditkit.view import MAX_ROWS, PLOTLY_MIME, View
from tests.frames import ATTACKS, make_day, make_frame, make_hostile


class Elements(HTMLParser):
    """Collects the elements and attributes of a fragment."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


TABLE_ELEMENTS = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"}


@pytest.fixture
def view() -> View:
    return View(
        activity.summarise(make_day(500)).to_frame(),
        "Events by type",
        draw_types,
        python="auditkit.open('audit').statistics()",
        cli="auditkit stats --store audit",
        note="2026-11-23 UTC",
    )


def test_a_view_prints_as_a_table(view: View) -> None:
    """Title, rows and range, in a terminal as in a log."""
    lines = repr(view).splitlines()
    assert lines[0] == "Events by type"
    assert lines[1].split() == ["type", "n", "failures", "first", "last"]
    assert lines[-1] == "2026-11-23 UTC"


def test_a_view_says_how_to_make_it_again(view: View) -> None:
    """In Python and in a shell, and in HTML too."""
    assert view.code() == "auditkit.open('audit').statistics()\n$ auditkit stats --store audit"
    assert "$ auditkit stats --store audit" in view._repr_html_()
    assert View(view.frame, "x").code() == ""


def test_a_notebook_gets_chart_table_and_text_and_loads_nothing(view: View) -> None:
    """Plotly's own MIME type where the front end knows it; no script, no address, no CDN anywhere else."""
    bundle = view._repr_mimebundle_()
    assert set(bundle) == {PLOTLY_MIME, "text/html", "text/plain"}
    assert bundle[PLOTLY_MIME]["data"][0]["type"] == "bar"
    assert bundle[PLOTLY_MIME]["config"]["showSendToCloud"] is False
    assert Elements(bundle["text/html"]).names == TABLE_ELEMENTS
    assert "http" not in bundle["text/html"]


def test_the_fragment_holds_the_chart_but_not_plotly_itself(view: View) -> None:
    """A page that has plotly.js draws it; the fragment neither brings nor loads it."""
    fragment = view.to_html()
    assert "Plotly.newPlot" in fragment
    assert CONFIG["plotlyServerURL"] == "", "making a fragment must not change the shared configuration"
    assert len(fragment) < 50_000
    assert "<script src" not in fragment.replace("'", '"')
    assert "cdn.plot.ly" not in fragment


def test_long_results_are_capped_and_say_so() -> None:
    """Twenty rows are shown, and how many there are."""
    view = View(pd.DataFrame({"n": range(48_211)}), "Many")
    for text in (repr(view), view._repr_html_()):
        assert f"showing {MAX_ROWS} of 48,211 rows" in text
    assert view._repr_html_().count("<tr>") == MAX_ROWS + 1


def test_hostile_cells_are_text() -> None:
    """Whatever the events say, the table has the elements of a table and no attribute but its own."""
    view = View(failures.summarise(make_hostile()).to_frame(), "Failures")
    elements = Elements(view._repr_html_())
    assert elements.names <= TABLE_ELEMENTS
    assert elements.attributes == {"class", "scope", "style"}
    assert "\x1b" not in repr(view)
    assert "\u202e" not in repr(view)
    assert len(view._repr_html_()) < 100_000


def test_hostile_columns_and_titles_are_text() -> None:
    """A frame of one's own may have any names."""
    columns: list[object] = [*ATTACKS, 7]
    frame = pd.DataFrame([[1] * len(columns)], columns=pd.Index(columns))
    view = View(frame, "<script>", python="<b>", note="<i>")
    assert Elements(view._repr_html_()).names <= TABLE_ELEMENTS


def test_a_result_without_a_chart_says_so() -> None:
    """There is no empty figure instead, and the notebook gets the table."""
    view = View(make_frame([]), "Events")
    with pytest.raises(UsageError, match=r"use \.frame"):
        view.figure()
    assert "(no rows)" in repr(view)
    assert PLOTLY_MIME not in view._repr_mimebundle_()
    assert "Plotly" not in view.to_html()


def test_an_empty_result_has_no_chart_in_a_notebook() -> None:
    """An empty picture would hide the sentence that says it's empty."""
    view = View(activity.summarise(make_frame([])).to_frame(), "Events", draw_types)
    assert PLOTLY_MIME not in view._repr_mimebundle_()
    assert view.figure().layout.annotations


def test_a_figure_has_room_for_its_title_and_legend(view: View) -> None:
    """The legend hangs below the title."""
    figure = view.figure()
    assert figure.layout.title.text == "Events by type"
    assert figure.layout.legend.y < 1
    assert figure.layout.margin.t >= 60


def test_cells_are_shown_in_their_units() -> None:
    """Seconds, microseconds, shares and truth values read as such."""
    frame = pd.DataFrame(
        {"p95_s": [0.25], "duration_us": [1500], "rate": [0.123456], "ok": [True], "what": [("a", 1)], "none": [None]}
    )
    row = repr(View(frame, "Units")).splitlines()[2]
    assert row.split("  ")[0].strip() == "250 ms"
    for text in ("1.5 ms", "0.1235", "True", "('a', 1)", "–"):
        assert text in row
