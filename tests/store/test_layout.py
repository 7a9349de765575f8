"""Paths: what is printed is read back, and nothing else is read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.store import layout
from auditkit.store.layout import Layout


@given(st.dates())
def test_a_writer_bears_its_date(day: date) -> None:
    """Any date of the years 1 to 9999 is read back out of the name of a writer, a part and a segment."""
    writer = layout.name_writer(day)
    assert layout.read_writer_day(writer) == day
    part = layout.read_part_name(layout.name_part(writer, 7))
    assert part is not None
    assert (part.writer, part.part) == (writer, 7)
    assert layout.read_segment_name(layout.name_segment(day, "0123456789abcdef" * 4)) == day


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_a_time_lies_in_its_day(time_us: int) -> None:
    """A time's UTC date begins at or before it and ends after it, also before 1970."""
    day = layout.find_day(time_us)
    assert layout.start_of_day(day) <= time_us < layout.start_of_day(day) + 86_400_000_000
    assert day == (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).date()


@pytest.mark.parametrize(
    "name",
    [
        "20261123-aaaaaaaaaaaaaaaa.000000.jsonl.tmp",
        ".20261123-aaaaaaaaaaaaaaaa.000000.jsonl.0123",
        "20261123-aaaaaaaaaaaaaaaa.0.jsonl",
        "20261123-AAAAAAAAAAAAAAAA.000000.jsonl",
        "20261123-aaaaaaaaaaaaaaa1.000000.jsonl",
        "20261123-aaaaaaaaaaaaaaaa.000000.jsonl\n",
        "../20261123-aaaaaaaaaaaaaaaa.000000.jsonl",
        "",
    ],
)
def test_other_files_are_no_journal_parts(name: str) -> None:
    """A name that isn't exactly a part's is nobody's journal."""
    assert layout.read_part_name(name) is None


@pytest.mark.parametrize("writer", ["20261323-aaaaaaaaaaaaaaaa", "20260230-aaaaaaaaaaaaaaaa", "2026-11-23", "x", ""])
def test_a_date_that_is_none_is_no_writer(writer: str) -> None:
    """Digits that aren't a date name no writer."""
    assert layout.read_writer_day(writer) is None


@pytest.mark.parametrize(
    "name",
    [
        "events/date=2026-11-23/../../store.json",
        "events/date=2026-02-30/0123456789abcdef.parquet",
        "/events/date=2026-11-23/0123456789abcdef.parquet",
        "events/date=2026-11-23/0123456789abcdef.parquet/",
        "events/date=2026-11-23/0123456789ABCDEF.parquet",
        "events/2026-11-23/0123456789abcdef.parquet",
    ],
)
def test_other_paths_are_no_segments(name: str) -> None:
    """A ledger can't lead a reader out of the store."""
    assert layout.read_segment_name(name) is None


def test_digits_of_other_scripts_name_nothing() -> None:
    """A second name for the same number would let one commit or part stand beside another."""
    assert layout.read_part_name("２０２６１１２３-aaaaaaaaaaaaaaaa.000000.jsonl") is None
    assert layout.read_commit_name("０００００００１.commit") is None
    assert layout.read_segment_name("events/date=２０２６-11-23/0123456789abcdef.parquet") is None


@given(st.integers(0, 99_999_999))
def test_commits_are_numbered(number: int) -> None:
    """A commit's number is read back out of its name."""
    assert layout.read_commit_name(layout.name_commit(number)) == number
    assert layout.read_commit_name(layout.name_commit(number) + "x") is None


def test_names_are_drawn_at_random() -> None:
    """Neither stores nor writers share a name."""
    assert len({layout.name_store() for _ in range(1000)}) == 1000
    assert len({layout.name_writer(date(2026, 11, 23)) for _ in range(1000)}) == 1000
    assert layout.is_store_name(layout.name_store())
    assert not layout.is_store_name("A" * 16)
    assert not layout.is_store_name(None)


def test_today_is_the_date_in_utc() -> None:
    """Late in the evening of New York it is tomorrow."""
    new_york = timezone(timedelta(hours=-5))
    assert layout.today(datetime(2026, 11, 23, 23, tzinfo=new_york)) == date(2026, 11, 24)


def test_every_path_lies_in_the_store() -> None:
    """The layout names paths and touches nothing."""
    store = Layout(Path("nowhere") / "audit")
    writer = layout.name_writer(date(2026, 11, 23))
    paths = [
        store.description,
        store.part(writer, 0),
        store.commit(1),
        store.segment("events/date=2026-11-23/0123456789abcdef.parquet"),
        store.staged("events/date=2026-11-23/0123456789abcdef.parquet"),
        store.seal_lock,
        store.quarantine,
    ]
    assert all(path.is_relative_to(store.root) for path in paths)
    assert len(set(paths)) == len(paths)
    assert not store.root.exists()
