"""Any event survives the way from the journal through Parquet and back to the bytes that were signed."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditkit
from auditkit.event import BODY_KEYS, encode_body, join_line, make_fields, make_schema
from auditkit.store import segment_writer, segments

STORE = "abcdefghijklmnop"
SECRET = "a secret that only these tests know"

TEXT = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from('\x00\x01\x07\x08\t\n\x0b\x0c\r\x1f"\\/\x7f\x85\u2028\u2029\ufeff😀'),
    ),
    max_size=30,
)
NULLABLE = st.none() | TEXT | st.sampled_from(["\\u001f", "\\u00", "\\\\u001F"])


@st.composite
def make_lines(draw: st.DrawFn) -> list[bytes]:
    """Lines of events whose every column holds whatever the format allows."""
    lines = []
    for seq in range(draw(st.integers(1, 12))):
        fields = make_fields(draw(TEXT), draw(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)))
        fields |= {"store": STORE, "writer": draw(TEXT), "seq": seq, "epoch": draw(st.integers(0, 2**53 - 1))}
        fields["duration_us"] = draw(st.none() | st.integers(0, 2**53 - 1))
        for name in ("actor", "lead_id", "workflow", "outcome", "operation", "error_type", "message", "traceback"):
            fields[name] = draw(NULLABLE)
        fields["details"] = draw(NULLABLE)
        lines.append(join_line(encode_body(fields), draw(st.none() | st.binary(min_size=32, max_size=32))))
    return lines


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(lines=make_lines())
def test_any_line_comes_back_from_its_columns(lines: list[bytes], tmp_path: Path) -> None:
    """Line to columns, columns to a Parquet file, the file to columns, columns to the same line."""
    table, good, reasons = segments.parse_lines(lines, STORE)
    assert good == [True] * len(lines), reasons
    assert segments.rebuild_lines(table, STORE) == lines
    path = tmp_path / "segment.parquet"
    schema = make_schema(STORE)
    with segment_writer.open_writer(path, schema) as writer:
        writer.write_table(table.cast(schema))
    read = list(segments.read_tables(path))
    assert [line for piece in read for line in segments.rebuild_lines(piece, STORE)] == lines


def test_long_fields_come_back(tmp_path: Path) -> None:
    """A field of three million characters is longer than the block in which the JSON reader reads by default."""
    fields = make_fields("x", 0) | {"store": STORE, "writer": "w", "seq": 0, "epoch": 0, "message": "é\x1f" * 300_000}
    fields["traceback"] = "x" * 1_500_000
    lines = [join_line(encode_body(fields), bytes(32)) for _ in range(3)]
    table, good, _ = segments.parse_lines(lines, STORE)
    assert all(good)
    assert segments.rebuild_lines(table, STORE) == lines


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"{}{}",
        b"null",
        b'{"v":1}',
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"v":1,"store":"abcdefghijklmnop"}',
    ],
)
def test_what_is_no_event_spoils_no_other(line: bytes) -> None:
    """A bad line among good ones is named with its reason, and the good ones are kept as they are."""
    fields = make_fields("x", 0) | {"store": STORE, "writer": "w", "seq": 0, "epoch": 0}
    sound = join_line(encode_body(fields), bytes(32))
    table, good, reasons = segments.parse_lines([sound, line, sound], STORE)
    assert good == [True, False, True]
    assert len(reasons) == 1
    assert reasons[0].startswith("expected")
    assert segments.rebuild_lines(table, STORE) == [sound, sound]


def test_the_line_of_another_store_is_refused() -> None:
    """An event belongs to the store that it names."""
    fields = make_fields("x", 0) | {"store": "ponmlkjihgfedcba", "writer": "w", "seq": 0, "epoch": 0}
    _, good, reasons = segments.parse_lines([join_line(encode_body(fields), bytes(32))], STORE)
    assert good == [False]
    assert "store" in reasons[0]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three days, sealed in two commits."""
    path = tmp_path_factory.mktemp("sealed") / "audit"
    start = datetime(2026, 11, 20, 23, 50, tzinfo=UTC)
    for half in range(2):
        with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
            for i in range(300):
                moment = start + timedelta(minutes=7 * i + half)
                audit.log_event(
                    ("lead.ingested", "operation", "error")[i % 3],
                    {"number": i, "text": "tab\t, bell\x07, ☃", "nothing": None},
                    actor=("ana", None)[i % 2],
                    lead_id=f"L-{i % 17}",
                    time=moment,
                    duration=i / 1000 if i % 3 == 1 else None,
                    outcome="failure" if i % 3 == 2 else None,
                    message="=HYPERLINK()" if i % 3 == 2 else None,
                )
        auditkit.open(path, secret_key=SECRET).seal()
    return path


def test_a_frame_gives_the_signed_bytes_back(sealed: Path) -> None:
    """Whoever has the DataFrame of a segment can print the bodies again with the standard library's JSON."""
    trail = auditkit.open(sealed, secret_key=SECRET)
    frame = trail.events(include_internal=True).set_index(["writer", "seq"])
    lines = {}
    for path in (sealed / "events").rglob("*.parquet"):
        for table in segments.read_tables(path):
            rows = zip(
                table["writer"].to_pylist(),
                table["seq"].to_pylist(),
                table["epoch"].to_pylist(),
                segments.rebuild_lines(table, trail.store_id),
                strict=True,
            )
            lines.update({(writer, seq): (epoch, line) for writer, seq, epoch, line in rows})
    assert len(lines) == len(frame) > 600
    for key, (epoch, line) in lines.items():
        row = frame.loc[[key]].iloc[0]
        fields: dict[str, Any] = dict.fromkeys(BODY_KEYS)
        fields |= {"v": 1, "store": trail.store_id, "writer": key[0], "seq": key[1], "epoch": epoch}
        fields["time"] = (row["time"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(microseconds=1)
        for name in set(BODY_KEYS) - {"v", "store", "writer", "seq", "epoch", "time"}:
            fields[name] = None if pd.isna(row[name]) else row[name]
        fields["duration_us"] = None if fields["duration_us"] is None else int(fields["duration_us"])
        body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        assert line.startswith(body[:-1] + b',"mac":"')


def test_other_tools_read_the_same_events(sealed: Path) -> None:
    """DuckDB, pandas and pyarrow read the partitions without auditkit and see what `events` gives."""
    ours = auditkit.open(sealed, secret_key=SECRET).events(include_internal=True)
    columns = ["writer", "seq", "type", "lead_id", "duration_us", "details"]
    wanted = ours.sort_values(["writer", "seq"])[columns].astype(object).where(ours[columns].notna(), None)
    expected = wanted.sort_values(["writer", "seq"]).values.tolist()
    pattern = str(sealed / "events" / "*" / "*.parquet")
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT {', '.join(columns)} FROM '{pattern}' ORDER BY writer, seq").fetchall()
    assert [list(row) for row in rows] == expected
    frame = pd.read_parquet(sealed / "events").sort_values(["writer", "seq"])
    assert frame[columns].astype(object).where(frame[columns].notna(), None).values.tolist() == expected
    assert list(frame["time"]) == list(ours.sort_values(["writer", "seq"])["time"])
    dataset = pyarrow.dataset.dataset(sealed / "events", partitioning="hive")
    assert dataset.count_rows() == len(ours)
    days = dataset.to_table(columns=["date", "time"]).to_pylist()
    assert all(date.fromisoformat(str(row["date"])) == row["time"].date() for row in days)
