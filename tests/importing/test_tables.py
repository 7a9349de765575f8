"""CSV: what a writer wrote is read; what isn't right is refused, row by row."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditkit import AuditLogger
from auditkit.errors import UsageError
from auditkit.importing import Mapping, import_file
from auditkit.importing.problems import Unusable
from auditkit.importing.streams import MAX_ROW, Stream
from auditkit.importing.tables import Table

CELLS = st.text(st.characters(codec="utf-8"), max_size=12)


def read_table(path: Path, data: bytes, **options: Any) -> list[Any]:
    """Give the rows of a CSV, and the kinds of what can't be a row."""
    return [row.kind if isinstance(row, Unusable) else row for _, row, _ in read_rows(path, data, **options)]


def read_rows(path: Path, data: bytes, **options: Any) -> list[Any]:
    path.write_bytes(data)
    usual: dict[str, Any] = {"encoding": "utf-8", "delimiter": ",", "quotechar": '"', "header": None}
    with Stream(path) as stream:
        return list(Table(stream, **(usual | {"nulls": ("",)} | options)).read_rows())


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=6),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, delimiter: str, encoding: str
) -> None:
    """Commas, quotes, line breaks, NUL and any character in a cell come back as they were."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    names = ["a", "b.c", ""]
    writer.writerows([names, *rows])
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    found = read_table(path, text.getvalue().encode(encoding), encoding=encoding, delimiter=delimiter)
    cells = [[cell or None for cell in row] for row in rows]
    assert found == [dict(zip(names, row, strict=True)) for row in cells]


@given(st.binary(max_size=200))
@example(b'a,b\n1,"2\n3,4\n')
@example(b"\xef\xbb\xbfa\r\x00\n")
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever the bytes are, there are rows and reasons; or the names of the columns can't be read."""
    try:
        rows = read_table(tmp_path_factory.getbasetemp() / "bytes.csv", data)
    except UsageError:
        return
    assert all(isinstance(row, str | dict) for row in rows)


def test_a_row_that_is_not_right_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    """Too few cells, too many, letters behind a quote, bytes that are no text: each alone."""
    data = b'a,b\n1,2\n3\n4,5,6\n"7"x,8\n\n\xff,9\n10,"1\n1"\n'
    assert read_table(tmp_path / "a.csv", data) == [
        {"a": "1", "b": "2"},
        "number of cells",
        "number of cells",
        "broken CSV",
        "encoding",
        {"a": "10", "b": "1\n1"},
    ]
    assert [line for line, _, _ in read_rows(tmp_path / "a.csv", data)] == [2, 3, 4, 5, 7, 8]


def test_a_quote_that_is_never_closed_marks_the_file_as_incomplete(tmp_path: Path) -> None:
    """Everything behind the quote is one reject that holds all its lines."""
    rows = read_rows(tmp_path / "a.csv", b'a,b\n1,2\n3,"4\n5,6\n7,8\n')
    assert rows[0][1] == {"a": "1", "b": "2"}
    line, problem, raw = rows[1]
    assert (line, problem.kind, problem.fatal) == (3, "broken CSV", True)
    assert "".join(raw) == '3,"4\n5,6\n7,8\n'


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_end_of_line_is_known(tmp_path: Path, end: bytes) -> None:
    """Unix, Windows and old Mac files read alike, with or without an end behind the last row."""
    data = end.join([b"a,b", b"1,2", b"3,4"])
    for text in (data, data + end):
        assert read_table(tmp_path / "a.csv", text) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_options_are_taken_as_given(tmp_path: Path) -> None:
    """Delimiter, quote, names, nulls and encoding are stated, and nothing else is tried."""
    data = "1;'x;y'\nNA;é\n".encode("cp1252")
    found = read_table(
        tmp_path / "a.csv",
        data,
        delimiter=";",
        quotechar="'",
        header=("n", "t"),
        nulls=("NA",),
        encoding="cp1252",
    )
    assert found == [{"n": "1", "t": "x;y"}, {"n": None, "t": "é"}]


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    """One value would hide the other."""
    with pytest.raises(UsageError, match="two columns are named 'a'"):
        read_table(tmp_path / "a.csv", b"a,b,a\n1,2,3\n")
    with pytest.raises(UsageError, match="the mark of utf-16"):
        read_table(tmp_path / "a.csv", "a,b\n".encode("utf-16"))
    assert read_table(tmp_path / "a.csv", b"") == []


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A name with another character in a byte's place would be a guess, and two names could become one."""
    data = "time,type,pré,prè\n2024-01-01T00:00:00Z,x,EINS,ZWEI\n".encode("cp1252")
    with pytest.raises(UsageError, match=r"byte 0xe9 is no text in this encoding \(utf-8\): name the encoding"):
        read_table(tmp_path / "a.csv", data)
    [row] = read_table(tmp_path / "a.csv", data, encoding="cp1252")
    assert (row["pré"], row["prè"]) == ("EINS", "ZWEI")
    with pytest.raises(UsageError, match="byte 0xff is no text"):
        read_table(tmp_path / "a.csv", b'\n"a\n\xff",b\n1,2\n')
    assert read_table(tmp_path / "a.csv", b"\xff,x\n1,2\n", header=("a", "b")) == ["encoding", {"a": "1", "b": "2"}]


def test_a_file_whose_names_are_no_text_leaves_the_trail_as_it_was(tmp_path: Path) -> None:
    """The import stops before anything is recorded, the mark of its beginning included."""
    (tmp_path / "a.csv").write_bytes(b"time,type,pr\xe9\n2024-01-01T00:00:00Z,x,1\n")
    with AuditLogger(tmp_path / "audit", secret_key="a secret that only these tests know") as audit:
        before = audit.query_events(type=["auditkit.opened", "auditkit.import_started", "x"])
        with pytest.raises(UsageError, match=r"a\.csv.*name the encoding"):
            import_file(tmp_path / "a.csv", audit, Mapping(name="m", time="time", type="type"))
        assert len(audit.query_events(type=["auditkit.opened", "auditkit.import_started", "x"])) == len(before)


def test_large_cells_are_read_and_endless_rows_are_not(tmp_path: Path) -> None:
    """The csv module's own limit of 131,072 characters doesn't count, and is in place again afterwards."""
    before = csv.field_size_limit()
    data = b"a,b\n" + b"x" * 1_000_000 + b",1\n" + b"y" * (MAX_ROW + 100_000) + b",2\nz,3\n"
    found = read_table(tmp_path / "a.csv", data)
    assert [row if isinstance(row, str) else row["b"] for row in found] == ["1", "too large", "3"]
    assert csv.field_size_limit() == before
