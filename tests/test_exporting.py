"""Exports: exact where they promise it, safe in a spreadsheet where they promise that, whole or not there."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditkit
from auditkit.errors import UsageError
from auditkit.exporting import COLUMNS, escape_json, export_events, guard_cell, write_events
from auditkit.trail import AuditTrail

DANGEROUS = "=+-@\t\r\n\0＝＋－＠"

NASTY = [
    '=HYPERLINK("http://example.com","x")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "＝1+1",
    "＠x",
    "'=1",
    "''",
    'quote " comma , line\nbreak',
    "red \x1b[31m \x9b \x7f",
    "\u202egnp.exe",
    "żółć 漢字 👩‍💻",
    "",
]

TEXT_COLUMNS = ("actor", "lead_id", "workflow", "message", "traceback", "error_type")


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> AuditTrail:
    """A store whose texts are as hostile as they come, half sealed, half in the journal."""
    folder = tmp_path_factory.mktemp("store")
    start = datetime(2026, 11, 23, 9, tzinfo=UTC)
    with auditkit.AuditLogger(folder / "audit", key_file=folder / "key", enable_rotation=False) as audit:
        for number, text in enumerate(NASTY):
            fields: dict[str, Any] = dict.fromkeys(TEXT_COLUMNS, text)
            details = {"text": text, "number": 0.1, "big": 2**63, "nested": [None, {"a": number}]}
            moment = start + timedelta(hours=5 * number, microseconds=number)
            audit.log_event(
                "form.sent",
                details,
                time=moment,
                operation="op",
                duration=-0.0 + number,
                outcome="failure",
                **fields,
            )
            if number == len(NASTY) // 2:
                audit.rotate()
    return auditkit.open(folder / "audit", key_file=folder / "key")


def read_bytes(trail: AuditTrail, format: str, **options: Any) -> bytes:
    """Export to memory."""
    out = io.BytesIO()
    result = export_events(trail, out, format, **options)
    assert result.bytes == len(out.getvalue())
    return out.getvalue()


def take_back(cell: str) -> str:
    """Undo the guard as the documentation says."""
    rest = cell.lstrip("'")
    return cell[1:] if cell.startswith("'") and rest[:1] in set(DANGEROUS) and rest else cell


@given(st.text() | st.sampled_from(NASTY))
def test_no_cell_begins_with_what_a_spreadsheet_takes_for_a_formula(text: str) -> None:
    """A guarded cell is text for Excel, LibreOffice and Google, also behind apostrophes."""
    assert guard_cell(text)[:1] not in set(DANGEROUS)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.text("'=+-@ab"))
def test_the_guard_can_be_undone(text: str) -> None:
    """Dropping one apostrophe by the documented rule gives the text back."""
    assert take_back(guard_cell(text)) == text


@given(st.text())
def test_a_cell_holds_no_control_character_but_tabs_and_line_ends(text: str) -> None:
    """NUL ends a cell for many readers, and ESC has nothing to do in a spreadsheet."""
    controls = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - set("\t\r\n")
    assert set(guard_cell(text)) & controls == set()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaped_json_is_printable_and_the_same(text: str) -> None:
    """Every JSON reader turns the escapes back."""
    escaped = escape_json(json.dumps(text, ensure_ascii=False))
    assert escaped.isprintable()
    assert json.loads(escaped) == text


def test_jsonl_and_json_hold_the_exact_values(trail: AuditTrail) -> None:
    """Nothing is rounded, cut or guarded; details are JSON inside JSON, big numbers and all."""
    frame = trail.events()
    lines = [json.loads(line) for line in read_bytes(trail, "jsonl").decode().splitlines()]
    assert lines == json.loads(read_bytes(trail, "json"))
    assert len(lines) == len(frame) == len(NASTY)
    for line, event in zip(lines, frame.to_dict("records"), strict=True):
        assert list(line) == list(COLUMNS)
        for name in TEXT_COLUMNS:
            assert line[name] == event[name]
        assert line["details"] == json.loads(event["details"])
        assert line["duration_us"] == event["duration_us"]
        assert datetime.fromisoformat(line["time"]) == event["time"].to_pydatetime()


def test_json_can_be_shown_in_a_terminal(trail: AuditTrail) -> None:
    """``cat`` of an export does nothing to a terminal."""
    for kind in ("json", "jsonl"):
        text = read_bytes(trail, kind).decode()
        assert all(line.isprintable() for line in text.split("\n"))


def test_csv_reads_back_with_every_value(trail: AuditTrail) -> None:
    """Python's reader gets every text back by the documented rule, and numbers as numbers."""
    rows = list(csv.DictReader(io.StringIO(read_bytes(trail, "csv").decode(), newline="")))
    frame = trail.events()
    assert len(rows) == len(NASTY)
    for row, text, event in zip(rows, NASTY, frame.to_dict("records"), strict=True):
        for name in TEXT_COLUMNS:
            if text.isprintable() or "\n" in text:
                assert take_back(row[name]) == text
            assert row[name][:1] not in set(DANGEROUS)
        assert row["duration_us"] == str(event["duration_us"])
        assert datetime.fromisoformat(row["time"]) == event["time"].to_pydatetime()


def test_csv_follows_rfc_4180_and_has_a_bom_on_request(trail: AuditTrail) -> None:
    """Lines end in CRLF, and Excel is told that it's UTF-8 if the user wants that."""
    plain = read_bytes(trail, "csv", columns=["type", "seq"])
    assert plain.startswith(b"type,seq\r\nform.sent,")
    assert plain.endswith(b"\r\n")
    assert read_bytes(trail, "csv", columns=["type", "seq"], bom=True) == b"\xef\xbb\xbf" + plain


def test_negative_numbers_stay_numbers() -> None:
    """The guard is for texts: a negative number in a number column is no formula."""
    frame = pd.DataFrame({"message": ["-5"], "duration_us": pd.array([-5], dtype="Int64")})
    out = io.BytesIO()
    write_events([frame], out, "csv", columns=["message", "duration_us"])
    assert out.getvalue() == b"message,duration_us\r\n'-5,-5\r\n"


def test_parquet_is_the_frame(trail: AuditTrail, tmp_path: Path) -> None:
    """Pandas and DuckDB read the frame's values, with its types."""
    path = tmp_path / "events.parquet"
    export_events(trail, path)
    frame = trail.events()
    read = pd.read_parquet(path)
    assert list(read.columns) == list(COLUMNS)
    for name in COLUMNS:
        assert read[name].isna().tolist() == frame[name].isna().tolist()
        assert read[name].dropna().tolist() == frame[name].dropna().tolist()
    assert str(read["time"].dtype) == "datetime64[us, UTC]"
    count = duckdb.execute("SELECT count(DISTINCT message) FROM read_parquet(?)", [str(path)]).fetchall()
    assert count == [(len(set(NASTY)),)]


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_an_export_of_nothing_is_a_valid_file(trail: AuditTrail, tmp_path: Path, format: str) -> None:
    """No event fits: the file is there, and a reader finds no rows in it."""
    path = tmp_path / f"events.{format}"
    assert export_events(trail, path, type="no.such.type").rows == 0
    if format == "parquet":
        assert len(pd.read_parquet(path)) == 0
    elif format == "csv":
        assert path.read_text().strip() == ",".join(COLUMNS)
    else:
        assert path.read_text() == ("[]\n" if format == "json" else "")


def test_filters_and_columns_choose_what_is_written(trail: AuditTrail) -> None:
    """The filters are those of ``events``, the columns come in the order they were asked for."""
    text = read_bytes(trail, "jsonl", columns=["seq", "actor"], actor=["+1", "@SUM(A1)"])
    assert [list(json.loads(line).items())[1] for line in text.splitlines()] == [
        ("actor", "+1"),
        ("actor", "@SUM(A1)"),
    ]
    with pytest.raises(UsageError, match="found nonsense"):
        read_bytes(trail, "csv", columns=["nonsense"])


def test_a_failed_export_leaves_what_was_there(trail: AuditTrail, tmp_path: Path) -> None:
    """The disk fills up in the middle: the old file is still whole, and nothing lies beside it."""
    path = tmp_path / "events.jsonl"
    path.write_text("yesterday's export")
    script = (
        "import resource, sys, auditkit\n"
        "from auditkit.exporting import export_events\n"
        f"trail = auditkit.open({str(trail.path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        f"    export_events(trail, {str(path)!r})\n"
        "except OSError as error:\n"
        "    sys.exit(7 if error.errno == 27 else 8)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 7, finished.stderr
    assert path.read_text() == "yesterday's export"
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]


def test_an_export_follows_a_link_and_writes_into_a_pipe(trail: AuditTrail, tmp_path: Path) -> None:
    """A link goes on pointing at its target; a named pipe or device is written to, not replaced by a file."""
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    target.write_text("old")
    link.symlink_to(target)
    export_events(trail, link)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == len(NASTY)
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen(["wc", "-l", str(pipe)], stdout=subprocess.PIPE) as reader:
        export_events(trail, pipe)
        out, _ = reader.communicate()
    assert int(out.split()[0]) == len(NASTY)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_export_into_the_store_is_refused(trail: AuditTrail) -> None:
    """Readers of ``events/**/*.parquet`` would take the export for a part of the record."""
    path = trail.path / "events" / "date=2026-11-23" / "x.parquet"
    with pytest.raises(UsageError, match="outside the store"):
        export_events(trail, path)
    assert not path.exists()


def test_the_format_is_the_suffix_or_must_be_named(trail: AuditTrail, tmp_path: Path) -> None:
    """``events.xlsx`` is refused with what there is; a stream needs its format named."""
    with pytest.raises(UsageError, match=r"\.csv, \.json, \.jsonl, \.parquet"):
        export_events(trail, tmp_path / "events.xlsx")
    with pytest.raises(UsageError, match="expected a format"):
        export_events(trail, io.BytesIO())
    with pytest.raises(UsageError, match="'xml'"):
        export_events(trail, io.BytesIO(), "xml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_memory_does_not_grow_with_the_number_of_batches(trail: AuditTrail, kind: str) -> None:
    """A stream of 23 batches needs hardly more memory than one of three, not the 40 MB that lie between them."""
    batch = pd.concat([trail.events()] * 100, ignore_index=True)
    text = "x" * (2_000_000 // len(batch))

    def make_batch(number: int) -> pd.DataFrame:
        """Make a batch of 2 MB that shares no text with another one."""
        return batch.assign(message=[f"{number} {row} {text}" for row in range(len(batch))])

    class Nowhere(io.BytesIO):
        def write(self, data: Any) -> int:
            return memoryview(data).nbytes

    def measure(count: int) -> int:
        Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew, see proc(5)
        write_events(map(make_batch, range(count)), Nowhere(), kind)
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10

    measure(3)  # what is loaded at its first use isn't meant
    few = measure(3)
    assert measure(23) - few < 10_000_000
