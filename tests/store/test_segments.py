"""Segments are as strict as the format: whichever way a line is read, the same lines are events."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.event import CLOSED, GAP, SEGMENT_KEYS, hash_line, make_schema, parse_line
from auditkit.store import segments
from auditkit.store.runs import Head, Run
from auditkit.store.segment_writer import SegmentWriter
from tests.integrity.stores import MONDAY, TEXTS, Chain, Site, add_events, at, make_site, print_body

STORE = "sitesitesitesite"
WRITER = f"{MONDAY:%Y%m%d}-{'a' * 16}"


def make_line(seq: int = 0, changes: dict[str, Any] | None = None, **fields: Any) -> bytes:
    body: dict[str, Any] = {
        "v": 1, "store": STORE, "writer": WRITER, "seq": seq, "epoch": 0, "time": at(MONDAY, seq), "type": "test",
        "actor": None, "lead_id": None, "workflow": None, "outcome": None, "operation": None, "duration_us": None,
        "error_type": None, "message": None, "traceback": None, "details": None, "mac": "ab" * 32,
    }  # fmt: skip
    return print_body(body | fields | (changes or {}))


def is_event(line: bytes) -> bool:
    """Judge a line by the format's one definition."""
    try:
        fields, _ = parse_line(line)
    except (StoreDamaged, FormatUnknown):
        return False
    return bool(fields["store"] == STORE)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, 2, -1, 2**53 - 1, 2**53, 253_402_300_799_999_999, 253_402_300_800_000_000, 2**63])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(TEXTS)
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=1)
)


@settings(max_examples=300)
@given(
    changes=st.lists(st.dictionaries(st.sampled_from(list(json.loads(make_line()))), VALUES, max_size=2), max_size=4)
)
def test_the_quick_way_takes_what_the_careful_way_takes(changes: list[dict[str, Any]]) -> None:
    """The reader takes nulls, large numbers and other versions; what comes out of it is no less strict for that."""
    lines = [make_line(seq, fields) for seq, fields in enumerate(changes)]
    table, good, reasons = segments.parse_lines(lines, STORE)
    assert good == [is_event(line) for line in lines]
    assert len(reasons) == good.count(False)
    assert segments.rebuild_lines(table, STORE) == [line for line, holds in zip(lines, good, strict=True) if holds]


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_judged_as_the_format_judges_it(data: st.DataObject) -> None:
    """Whatever byte of a line is changed, cut out or put in, both ways agree on whether it is an event."""
    line = bytearray(make_line(3, message=data.draw(st.sampled_from(TEXTS)), duration_us=7))
    place = data.draw(st.integers(0, len(line) - 1))
    what = data.draw(st.sampled_from(["change", "cut", "insert"]))
    if what == "cut":
        del line[place]
    else:
        value = data.draw(st.integers(0, 255).filter(lambda byte: byte != 10))
        line[place : place + (what == "change")] = bytes([value])
    lines = [make_line(2), bytes(line), make_line(4)]
    table, good, _ = segments.parse_lines(lines, STORE)
    assert good == [True, is_event(bytes(line)), True]
    assert segments.rebuild_lines(table, STORE) == [kept for kept, holds in zip(lines, good, strict=True) if holds]


def seal_lines(
    tmp_path: Path, lines: list[bytes], heads: dict[str, Head] | None = None, **more: Any
) -> tuple[SegmentWriter, list[tuple[int, str]]]:
    writer = SegmentWriter(tmp_path / "segment.parquet", STORE, MONDAY, {} if heads is None else heads, **more)
    rejects = writer.add(WRITER, lines)
    return writer, [(reject.number, reject.reason) for reject in rejects]


def test_a_segment_says_what_it_holds(tmp_path: Path) -> None:
    """Columns, footer, runs, leaves, times and digest are those of the lines."""
    lines = [make_line(seq, message=TEXTS[seq]) for seq in range(len(TEXTS))]
    writer, rejects = seal_lines(tmp_path, lines)
    sealed = writer.close()
    assert not rejects
    assert sealed is not None
    assert (sealed.rows, sealed.time_min, sealed.time_max) == (len(lines), at(MONDAY), at(MONDAY, len(lines) - 1))
    assert sealed.leaves == b"".join(map(hash_line, lines))
    (run,) = sealed.runs
    assert (run.first, run.last, run.next, run.prev, run.link) == (
        0, len(lines) - 1, len(lines), bytes(32), hash_line(lines[-1]),
    )  # fmt: skip
    file = pq.ParquetFile(writer.path)
    assert tuple(file.schema_arrow.names) == SEGMENT_KEYS
    assert file.schema_arrow.equals(make_schema())
    assert {b"format": b"1", b"store": STORE.encode()}.items() <= file.schema_arrow.metadata.items()
    column = file.metadata.row_group(0).column(SEGMENT_KEYS.index("message"))
    assert column.compression == "ZSTD"
    assert segments.digest_file(writer.path) == sealed.digest


def make_run(first: int, last: int) -> Run:
    """Make what the ledger says of lines that an earlier commit holds."""
    return Run(WRITER, first, last, None, hash_line(make_line(last)), closed=False, next=last + 1)


def test_nothing_to_seal_makes_no_file(tmp_path: Path) -> None:
    """A journal whose every line is sealed already, or none is an event, leaves no empty segment."""
    for lines, heads, held in (
        ([b"{}"], {}, {}),
        ([make_line(0), make_line(1)], {WRITER: Head(2, bytes(32), closed=False)}, {WRITER: [make_run(0, 1)]}),
    ):
        writer, _ = seal_lines(tmp_path, lines, heads, held=held)
        assert writer.close() is None
        assert not writer.path.exists()


def test_what_was_passed_over_before_is_not_dropped_as_sealed(tmp_path: Path) -> None:
    """A number below the head that no commit holds is set aside: dropping its journal would lose it."""
    heads, held = {WRITER: Head(8, bytes(32), closed=False)}, {WRITER: [make_run(0, 3), make_run(6, 7)]}
    writer, rejects = seal_lines(tmp_path, [make_line(seq) for seq in (2, 3, 4, 6, 8, 9, 8)], heads, held=held)
    assert [(number, reason.partition(", ")[2]) for number, reason in rejects] == [
        (3, "found seq 4 again or out of its order"),
        (7, "found seq 8 again or out of its order"),
    ]
    sealed = writer.close()
    assert sealed is not None
    assert [(run.first, run.last) for run in sealed.runs] == [(8, 9)]


def test_a_hole_splits_a_run_and_a_gap_event_doesn_t(tmp_path: Path) -> None:
    """The next number behind a gap event is the one that it says; behind a hole nothing says which leaf came before."""
    gap = make_line(2, type=GAP, details='{"dropped":3}')
    lines = [make_line(0), make_line(1), gap, make_line(5), make_line(7), make_line(8, type=CLOSED), make_line(9)]
    writer, rejects = seal_lines(tmp_path, lines)
    sealed = writer.close()
    assert sealed is not None
    assert [(run.first, run.last, run.next, run.prev is None, run.closed) for run in sealed.runs] == [
        (0, 5, 6, False, False),
        (7, 8, 9, True, True),
    ]
    assert rejects == [(7, "expected nothing behind the end its writer signed, found seq 9")]


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"writer": WRITER.replace("a", "b")}, "expected an event of writer"),
        ({"time": at(date(2020, 3, 3))}, "expected an event of 2020-03-02, found one of 2020-03-03"),
        ({"time": at(MONDAY) - 1}, "expected an event of 2020-03-02, found one of 2020-03-01"),
    ],
)
def test_an_event_of_another_writer_or_date_is_set_aside(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    """A journal holds one writer's events of one date; neither the name nor the partition is stretched."""
    writer, rejects = seal_lines(tmp_path, [make_line(0), make_line(1, **fields), make_line(2)])
    ((number, found),) = rejects
    assert number == 2
    assert found.startswith(reason)
    sealed = writer.close()
    assert sealed is not None
    assert [(run.first, run.last) for run in sealed.runs] == [(0, 0), (2, 2)]


def test_lines_that_need_the_careful_way_and_lines_that_don_t_make_one_segment(tmp_path: Path) -> None:
    """Control characters that DuckDB prints otherwise, megabytes and plain lines lie in one chunk, in their order."""
    long = "x" * 1_300_000
    lines = [
        make_line(seq, message=text, traceback=long if seq in (5, 9) else None)
        for seq, text in enumerate([*TEXTS, "\x0b\x1f", "\\u001f", "\\u001F", *TEXTS])
    ]
    writer, rejects = seal_lines(tmp_path, lines)
    assert not rejects
    assert writer.close() is not None
    rebuilt = [line for table in segments.read_tables(writer.path) for line in segments.rebuild_lines(table, STORE)]
    assert rebuilt == lines


def test_the_edges_of_time_and_numbers_are_kept(tmp_path: Path) -> None:
    """The first and the last microsecond of the calendar, and the largest integers."""
    site = make_site(tmp_path / "site", STORE)
    first, last = Chain(site, date(1, 1, 1), "a"), Chain(site, date(9999, 12, 31), "b")
    first.add(time=-62_135_596_800_000_000, duration_us=2**53 - 1)
    last.add(time=253_402_300_799_999_999, duration_us=0)
    first.close()
    last.close()
    site.seal()
    assert site.verify().ok
    frame = site.open().events()
    assert [str(time) for time in frame["time"]] == ["0001-01-01 00:00:00+00:00", "9999-12-31 23:59:59.999999+00:00"]
    assert list(frame["duration_us"]) == [2**53 - 1, 0]
    assert [path.parent.name for path in site.segments()] == ["date=0001-01-01", "date=9999-12-31"]


def find_segment(tmp_path: Path) -> tuple[Site, str, Path]:
    site = make_site(tmp_path / "site", STORE)
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    chain.close()
    (name,) = site.seal().segments
    return site, name, site.path / name


def test_a_segment_is_found_in_its_place_or_on_its_way(tmp_path: Path) -> None:
    """Between the commit and the rename a segment lies in staging, and readers and verifiers find it there."""
    site, name, path = find_segment(tmp_path)
    staged = site.layout.staged(name)
    path.rename(staged)
    assert segments.locate_segment(site.layout, name) == staged
    pieces = site.open().stream(include_internal=True, batch_rows=2)
    assert len(next(pieces)) == 2
    staged.rename(path)
    assert sum(map(len, pieces)) == 3, "a stream that has begun goes on although the file has been moved"
    path.rename(staged)
    assert site.verify().ok
    site.seal()
    assert path.exists()
    assert not staged.exists()
    path.unlink()
    assert segments.locate_segment(site.layout, name) is None


def test_a_flipped_bit_is_never_read_as_data(tmp_path: Path) -> None:
    """Page checksums: a damaged page is an error, wherever in the pages the bit is."""
    _, _, path = find_segment(tmp_path)
    content = path.read_bytes()
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    sound = [table.to_pylist() for table in segments.read_tables(path)]
    silent = 0
    for index in range(metadata.num_columns):
        column = metadata.column(index)
        start = column.dictionary_page_offset or column.data_page_offset
        for offset in range(start, start + column.total_compressed_size, 7):
            damaged = bytearray(content)
            damaged[offset] ^= 4
            path.write_bytes(damaged)
            try:
                silent += [table.to_pylist() for table in segments.read_tables(path)] != sound
            except StoreDamaged:
                continue
    assert silent == 0
