"""Parquet: every type of a column becomes a value that an event can keep."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditkit.errors import UsageError
from auditkit.importing.columnar import Columns
from auditkit.importing.problems import Unusable


def read(path: Path) -> Sequence[object]:
    """Give the rows of a file, and the kinds of what can't be a row."""
    parquet = Columns(path)
    rows = [row.kind if isinstance(row, Unusable) else row for _, row, _ in parquet.read_rows()]
    parquet.close()
    return rows


def test_times_keep_their_zone_and_their_digits(tmp_path: Path) -> None:
    """Instants come in UTC, local times stay local, and what needs nanoseconds comes as text."""
    nanoseconds = 1_700_000_000_123_456_789
    table = pa.table(
        {
            "instant": pa.array([1_700_000_000_000], pa.timestamp("ms", "Europe/Berlin")),
            "local": pa.array([1_700_000_000_000_000], pa.timestamp("us")),
            "whole": pa.array([nanoseconds // 1000 * 1000], pa.timestamp("ns", "UTC")),
            "fine": pa.array([nanoseconds], pa.timestamp("ns", "UTC")),
            "took": pa.array([1500], pa.duration("ns")),
            "took_us": pa.array([2_000_000], pa.duration("ns")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = read(tmp_path / "a.parquet")
    assert row == {
        "instant": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "local": datetime(2023, 11, 14, 22, 13, 20),  # noqa: DTZ001 - the file states no zone
        "whole": datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
        "fine": "2023-11-14 22:13:20.123456789Z",
        "took": 1500,
        "took_us": timedelta(milliseconds=2),
    }


def test_nested_and_other_types_are_read(tmp_path: Path) -> None:
    """Structs, lists, decimals, dates, bytes, dictionaries and nulls."""
    table = pa.table(
        {
            "user": [{"id": 1, "tags": ["a", None]}, None],
            "amount": [Decimal("12.50"), None],
            "day": [date(2026, 11, 23), None],
            "raw": [b"\xff", None],
            "kind": pa.array(["x", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        {
            "user": {"id": 1, "tags": ["a", None]},
            "amount": Decimal("12.50"),
            "day": date(2026, 11, 23),
            "raw": b"\xff",
            "kind": "x",
        },
        dict.fromkeys(["user", "amount", "day", "raw", "kind"]),
    ]


def test_a_value_that_python_cannot_hold_refuses_its_row_only(tmp_path: Path) -> None:
    """A time in the year 200,000, and bytes that call themselves text."""
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb")]
    )
    times = pa.array([0, 0, 6_000_000_000_000_000_000], pa.timestamp("us"))
    pq.write_table(pa.table({"text": text, "time": times}), tmp_path / "a.parquet")
    first, *others = read(tmp_path / "a.parquet")
    assert first == {"text": "a", "time": datetime(1970, 1, 1)}  # noqa: DTZ001 - the file states no zone
    assert others == ["value", "value"]


def test_a_broken_row_group_does_not_take_the_others_along(tmp_path: Path) -> None:
    """Groups before and behind the damage are read, and the damage names the rows that are missing."""
    path = tmp_path / "a.parquet"
    table = pa.table({"n": list(range(3000)), "text": [f"row {number} " * 5 for number in range(3000)]})
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=True)
    with pq.ParquetFile(path) as sound:
        start = sound.metadata.row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 200] ^= 0xFF
    path.write_bytes(data)
    parquet = Columns(path)
    rows = list(parquet.read_rows())
    problems = [row for _, row, _ in rows if isinstance(row, Unusable)]
    assert len(rows) - len(problems) == 2000
    assert [problem.fatal for problem in problems] == [True]
    assert "rows 1001 to 2000" in problems[0].reason
    assert parquet.done == parquet.total
    parquet.close()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"not a Parquet file"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Cut at any place, or something else altogether."""
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(UsageError, match="isn't a sound Parquet file"):
        Columns(tmp_path / "a.parquet")


def test_every_cut_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    """The footer is at the end, so that no part of a file can be mistaken for the whole."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3]}), path)
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(UsageError, match="isn't a sound Parquet file"):
            Columns(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """One value would hide the other."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="two columns are named 'a'"):
        Columns(tmp_path / "a.parquet")
