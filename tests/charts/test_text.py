"""Hostile text made fit to show."""

from __future__ import annotations

import html
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.charts.text import clean_text, format_count, format_share, format_size, is_missing, make_label
from tests.frames import ATTACKS

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300) | st.sampled_from(ATTACKS)


@given(text=ANY_TEXT, lines=st.booleans())
def test_nothing_that_could_deceive_is_left(text: str, lines: bool) -> None:
    """No control character, no change of writing direction, no lone surrogate, and no more than asked."""
    cleaned = clean_text(text, limit=50, lines=lines)
    allowed = {"\n", "\t"} if lines else set()
    for character in cleaned:
        assert character in allowed or unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert character in "\u200c\u200d" or unicodedata.category(character) != "Cf"
    cleaned.encode("utf-8")
    assert len(cleaned) <= 50 * len("\\U0001f600") + 40


@given(text=ANY_TEXT)
def test_a_label_has_nothing_that_plotly_reads(text: str) -> None:
    """Neither a tag nor an entity of the event's own nor TeX starts in a label, and it reads as the text."""
    label = make_label(text)
    assert not set(label) & set("<>$")
    shown = html.unescape(label)
    assert len(shown) <= 32
    assert shown.strip()


def test_what_is_cut_says_how_much_is_missing() -> None:
    """A megabyte becomes a line, and the reader knows."""
    assert clean_text("x" * 1_500_000, 10) == "xxxxxxxxxx… (1,499,990 more characters)"


def test_emoji_and_other_scripts_stay_readable() -> None:
    """Joiners don't deceive, and without them emoji fall apart."""
    assert clean_text("👩‍💻 日本語 مرحبا") == "👩‍💻 日本語 مرحبا"


def test_a_traceback_keeps_its_lines() -> None:
    """Lines and indentation are what makes it readable; a carriage return isn't a line."""
    assert clean_text("a\r\n\tb\rc", lines=True) == "a\n\tb\\x0dc"


@pytest.mark.parametrize("value", [None, float("nan"), pd.NA, pd.NaT])
def test_missing_values_are_a_dash(value: object) -> None:
    """None of pandas' ways to say nothing is printed by its name."""
    assert is_missing(value)
    assert clean_text(value) == "–"


def test_missing_numbers_are_a_dash() -> None:
    """So are numbers without a value."""
    nan = float("nan")
    assert {format_count(nan), format_share(nan), format_size(nan)} == {"–"}


def test_sizes_pass_from_unit_to_unit() -> None:
    """No size reads as a thousand of the unit below."""
    sizes = [0, 999, 999.6, 999_499, 999_600, 2_110_000, 5e9, 3e12]
    assert [format_size(size) for size in sizes] == [
        "0 B",
        "999 B",
        "1 kB",
        "999 kB",
        "1 MB",
        "2.11 MB",
        "5 GB",
        "3.0 TB",
    ]
