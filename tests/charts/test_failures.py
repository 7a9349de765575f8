"""Charts of failures."""

from __future__ import annotations

from auditkit.analysis import failures
from auditkit.charts.failures import draw_failures
from tests.frames import ATTACKS, make_day, make_frame


def test_bars_sum_up_the_groups_of_a_type() -> None:
    """One bar for each type of error, whatever operation and workflow it was in."""
    day = make_day(3000)
    figure = draw_failures(failures.summarise(day).to_frame())
    failed = day.loc[day["outcome"] == "failure", "error_type"].value_counts()
    assert dict(zip(figure.layout.yaxis.ticktext, figure.data[0].x, strict=True)) == failed.to_dict()


def test_rare_types_share_a_bar() -> None:
    """Thirty kinds are twelve bars and one."""
    rows = [{"outcome": "failure", "error_type": f"E{number}"} for number in range(30)]
    figure = draw_failures(failures.summarise(make_frame(rows)).to_frame())
    assert (figure.layout.yaxis.ticktext[-1], figure.data[0].x[-1]) == ("18 others", 18)


def test_no_failure_and_hostile_ones_can_be_drawn() -> None:
    """A good day has a sentence, and no name is more than text."""
    assert draw_failures(failures.summarise(make_frame([{}])).to_frame()).layout.annotations
    rows = [{"outcome": "failure", "error_type": attack} for attack in (*ATTACKS, None)]
    figure = draw_failures(failures.summarise(make_frame(rows)).to_frame(), limit=30)
    assert not any(character in label for label in figure.layout.yaxis.ticktext for character in "<>$")
