"""What reaches a terminal is printable, whatever an event holds."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from auditkit.cli.cells import summarise_details, summarise_event
from auditkit.cli.terminal import Column, make_table, printable, printable_lines, shorten

HOSTILE = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://example.com\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "back\x08\x08space",
    "line\nbreak\r\n",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "nul\0",
    "del\x7f",
    "\u2028\u2029",
    "\U000e0041tag",
    "\ud800",
)
"""Texts that would move the cursor, set the title, link, hide or reverse text, or can't be encoded."""

anything = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(HOSTILE)


@given(anything)
def test_every_text_becomes_printable(text: str) -> None:
    """No character that a terminal could act on is left, and the rest of the text is untouched."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


@given(anything)
def test_lines_keep_their_breaks_only(text: str) -> None:
    """A traceback keeps its lines; everything else in it becomes printable."""
    shown = printable_lines(text)
    assert all(line.isprintable() for line in shown.split("\n"))


def test_every_kind_of_space_stays_a_space() -> None:
    """A no-break or ideographic space in a name isn't shown as an escape."""
    assert printable("a\u00a0b\u3000c d") == "a b c d"


@given(anything, st.integers(1, 50))
def test_a_shortened_text_has_at_most_its_length(text: str, limit: int) -> None:
    """A megabyte of message costs a table only what it can show."""
    assert len(shorten(text, limit)) <= limit


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_hostile_text_as_escapes(text: str) -> None:
    """A table prints no escape sequence of an event, and reads no markup in it."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None, markup=False)
    console.print(make_table([Column("what", flexible=True)], [[f"[bold]{text}[/bold]"]]))
    lines = out.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert "[bold]" in lines[2]


@given(st.dictionaries(anything, st.recursive(anything | st.integers() | st.none(), st.lists, max_leaves=5)))
def test_a_summary_of_details_is_one_printable_line(value: dict[str, object]) -> None:
    """Keys are as hostile as values."""
    assert summarise_details(json.dumps(value)).isprintable()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["operation", "message", "error_type", "details"], anything)))
def test_a_summary_of_an_event_is_one_printable_line(event: dict[str, str]) -> None:
    """Whatever field holds the hostile text."""
    assert summarise_event(event).plain.isprintable()
