"""Imports: every row is an event or a reject, once, whatever happens on the way."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import random
import signal
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.importing import Mapping, Reading, import_file, import_files
from auditkit.logger import AuditLogger
from tests.importing.conftest import Memory

MAPPING = Mapping(name="orders", time="at", type="kind", actor="who")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"at": "2026-11-23T12:00:00Z", "kind": "order.placed", "who": "ana", "total": 120},
    {"at": "2026-11-23T12:00:01Z", "kind": "order.paid", "who": None, "items": [{"id": 1}]},
    {"at": "2026-11-24T00:00:00Z", "kind": "order.placed", "who": "bo"},
]
EVENTS = [
    {"type": "order.placed", "actor": "ana", "time": NOON, "details": {"total": 120}},
    {
        "type": "order.paid",
        "time": NOON + timedelta(seconds=1),
        "details": {"who": None, "items": [{"id": 1}]},
    },
    {"type": "order.placed", "actor": "bo", "time": NOON + timedelta(hours=12)},
]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "name, form",
    [
        ("rows.jsonl", "jsonl"),
        ("rows.ndjson", "jsonl"),
        ("rows.log", "jsonl"),
        ("rows.json", "jsonl"),
        ("rows.jsonl.gz", "jsonl"),
        ("rows", "jsonl"),
        ("rows.json", "json"),
        ("rows.json.gz", "json"),
        ("packed.json", "json gzip"),
        ("rows.json", "json object"),
        ("rows.json", "json indented"),
        ("rows.parquet", "parquet"),
        ("rows", "parquet"),
    ],
)
def test_the_same_rows_come_from_every_format(tmp_path: Path, memory: Memory, name: str, form: str) -> None:
    """A file's format is told from its name and its content, and makes no difference to the events."""
    file = tmp_path / name
    if form == "jsonl":
        data = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{"total": None, "items": None} | row for row in ROWS]), file)
        data = file.read_bytes()
    else:
        held: Any = {"Records": ROWS} if "object" in form else ROWS
        data = json.dumps(held, indent=2 if "indented" in form else None).encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") or "gzip" in form else data)

    result = import_file(file, memory, MAPPING)

    assert result.format == form.split()[0]
    assert (result.rows, result.imported, result.rejected, result.complete) == (3, 3, 0, True)
    assert (result.first, result.last) == (NOON, NOON + timedelta(hours=12))
    assert result.types == {"order.placed": 2, "order.paid": 1}
    assert result.rejects is None
    found = [event | {"details": _drop_nulls(event.get("details"))} for event in memory.events]
    assert found == [event | {"details": _drop_nulls(event.get("details"))} for event in EVENTS]
    assert list(Path.cwd().iterdir()) == []


def _drop_nulls(details: Any) -> Any:
    """A Parquet file has every column in every row."""
    return {key: value for key, value in (details or {}).items() if value is not None}


def test_a_csv_is_read_as_stated_and_the_result_says_how(tmp_path: Path, memory: Memory) -> None:
    """Defaults aren't guesses: they are part of the result."""
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([["at", "kind", "who", "note"], ["2026-11-23 12:00", "x", "", "a,b"]])
    result = import_file(file, memory, MAPPING.with_zone("UTC"))
    assert memory.events == [{"type": "x", "time": NOON, "details": {"who": None, "note": "a,b"}}]
    expected = {"encoding": "utf-8", "delimiter": ",", "quotechar": '"', "nulls": [""], "tz": "UTC"}
    assert {key: result.options[key] for key in expected} == expected
    for text_of in (str(result), repr(result.options)):
        assert "'utf-8'" in text_of
    tabs = tmp_path / "rows.tsv"
    tabs.write_text("at\tkind\twho\n2026-11-23T12:00Z\ty\tana\n")
    assert import_file(tabs, memory, MAPPING).options["delimiter"] == "\t"


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line) | st.sampled_from(ROWS), max_size=8))
def test_every_line_is_an_event_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes | dict[str, Any]]
) -> None:
    """Sound rows among any bytes: the counts add up, sound rows are events, the others are in the rejects."""
    folder = tmp_path_factory.mktemp("lines")
    # The first line is a sound one: a file's first bytes may say that it is gzip, or UTF-16.
    lines = [ROWS[0], *lines]
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    file = folder / "rows.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in raw))
    memory = Memory()
    result = import_file(file, memory, MAPPING, rejects=folder / "r", reading=Reading(format="jsonl"))
    assert result.rows == result.imported + result.rejected
    assert result.imported == len(memory.events)
    assert result.imported >= sum(isinstance(line, dict) for line in lines)
    assert sum(result.types.values()) == result.imported
    assert sum(result.reasons.values()) == result.rejected
    entries = _read_rejects(folder / "r") if result.rejected else []
    assert len(entries) == result.rejected
    for entry in entries:
        kept = entry["raw"].encode() if "raw" in entry else base64.b64decode(entry["raw_base64"])
        assert kept == raw[entry["line"] - 1]


def _read_rejects(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("ascii")
    assert text.replace("\n", "").isprintable()
    return [json.loads(line) for line in text.splitlines()]


def test_rejects_are_shown_counted_and_kept(tmp_path: Path, memory: Memory) -> None:
    """A reject says which row, which line and why; its file holds the row, for its owner's eyes only."""
    file = tmp_path / "rows.jsonl"
    evil = '{"at": "\x7f", "kind": "x\\u001b[31m"}'
    lines = [json.dumps(ROWS[0]), "", '{"at": 5, "kind": "x"}', '{"kind": "x"}', "\x1b]0;owned\x07", evil]
    file.write_text("\n".join(lines))
    result = import_file(file, memory, MAPPING)
    assert (result.imported, result.rejected) == (1, 4)
    assert result.reasons == {"time": 2, "no time": 1, "broken JSON": 1}
    assert result.rejects == Path("rows.jsonl.rejects.jsonl")
    assert stat.S_IMODE(result.rejects.stat().st_mode) == 0o600
    entries = _read_rejects(result.rejects)
    assert [(entry["row"], entry["line"]) for entry in entries] == [(2, 3), (3, 4), (4, 5), (5, 6)]
    assert [entry["raw"] for entry in entries] == lines[2:]
    assert [sample.row for sample in result.samples] == [2, 3, 4, 5]
    assert str(result.samples[1]) == """row 3 (line 4): no time: found no value for 'at' | {"kind": "x"}"""
    assert all(line.isprintable() for line in str(result).splitlines())


def test_a_rejects_file_is_never_written_over(tmp_path: Path, memory: Memory) -> None:
    """A second file gets another name; a file that was asked for is added to."""
    file = write_lines(tmp_path / "rows.jsonl", [{"kind": "x"}])
    names = [import_file(file, memory, MAPPING).rejects for _ in range(3)]
    assert [str(name) for name in names] == [f"rows.jsonl.rejects{n}.jsonl" for n in ("", "-2", "-3")]
    for _ in range(2):
        import_file(file, memory, MAPPING, rejects=tmp_path / "mine")
    assert len(_read_rejects(tmp_path / "mine")) == 2
    with pytest.raises(UsageError, match="can't be written"):
        import_file(file, memory, MAPPING, rejects=tmp_path / "no" / "folder")


def test_rejects_that_cannot_be_kept_stop_the_import_where_it_is(tmp_path: Path, memory: Memory) -> None:
    """The disk is full: the rows so far are recorded, the mark says where it stopped, and it can go on there."""
    rows = [ROWS[0] | {"n": n} for n in range(5)] + [{"kind": "x"}] + [ROWS[0] | {"n": n} for n in range(5, 9)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UsageError, match=r"row 6 of rows\.jsonl .* /dev/full, can't be written"):
        import_file(file, memory, MAPPING, rejects="/dev/full")
    assert (memory.marks[-1]["state"], memory.marks[-1]["through"]) == ("stopped", 5)
    result = import_file(file, memory, MAPPING, skip=5, find_imports=lambda: memory.marks)
    assert (result.imported, result.rejected) == (4, 1)
    assert [event["details"]["n"] for event in memory.events] == list(range(9))


def test_a_row_is_kept_byte_for_byte_in_the_rejects(tmp_path: Path, memory: Memory) -> None:
    """In any encoding: what was no text in it comes back as the bytes that stood there."""
    for encoding, row in [("utf-8", b"\xff,x,\n"), ("cp1252", b"\x81,x,\n"), ("euc-jp", b"\xa4\xff,x,\n")]:
        file = tmp_path / f"{encoding}.csv"
        file.write_bytes(b"at,kind,who\n" + row)
        result = import_file(file, memory, MAPPING, reading=Reading(encoding=encoding))
        assert result.reasons == {"encoding": 1}
        assert result.rejects is not None
        (entry,) = _read_rejects(result.rejects)
        kept = base64.b64decode(entry["raw_base64"])
        assert kept == row


def test_a_message_names_the_file_it_is_about(tmp_path: Path, memory: Memory) -> None:
    """Among many files it says which one isn't what it is said to be."""
    good = write_lines(tmp_path / "good.jsonl", ROWS)
    bad = tmp_path / "bad.json"
    bad.write_text('{"a": 1}')
    with pytest.raises(UsageError, match=r"bad\.json: expected any array of objects"):
        import_files([good, bad], memory, MAPPING)


ZONELESS = {"at": "2026-11-23T12:00:00", "kind": "x"}


@pytest.mark.parametrize("rows", [1, 7, 1_500])
def test_a_file_without_a_zone_stops_before_it_begins(tmp_path: Path, memory: Memory, rows: int) -> None:
    """Not a million rejects, but one message that says what to give; a limited look says the same."""
    file = write_lines(tmp_path / "rows.jsonl", [ZONELESS] * rows)
    for limit in (None, 3):
        with pytest.raises(UsageError, match="give the zone of such times, for instance tz='UTC'") as caught:
            import_file(file, memory, MAPPING, limit=limit, rejects=tmp_path / "rejects")
        assert f"none of the {min(rows, limit or 1_000):,} rows read says its zone" in str(caught.value)
    assert (memory.events, memory.marks) == ([], [])
    assert not (tmp_path / "rejects").exists()
    assert import_file(file, memory, MAPPING.with_zone("UTC")).imported == rows


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_row_without_a_zone_among_others_is_a_reject(tmp_path: Path, memory: Memory, at: int) -> None:
    """A bad row of a sound file costs itself only, also as the very first; it is counted, shown and kept."""
    rows = [*ROWS[:at], ZONELESS, {"kind": "x"}, ZONELESS, *ROWS[at:]]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    result = import_file(file, memory, MAPPING, rejects=tmp_path / "rejects")
    assert memory.events == EVENTS
    assert (result.imported, result.rejected, result.rows) == (3, 3, 6)
    assert result.reasons == {"time without a zone": 2, "no time": 1}
    kept = [json.loads(line) for line in (tmp_path / "rejects").read_text().splitlines()]
    assert {entry["row"]: json.loads(entry["raw"]) for entry in kept} == {
        at + 1: ZONELESS,
        at + 2: {"kind": "x"},
        at + 3: ZONELESS,
    }
    assert "carries no offset" in str(result)


def test_the_rest_of_a_stopped_import_may_have_no_zone(tmp_path: Path, memory: Memory) -> None:
    """Behind rows that were imported with their zones, rows without are rejects, and not a reason to stop."""
    file = write_lines(tmp_path / "rows.jsonl", [*ROWS, ZONELESS])
    assert import_file(file, memory, MAPPING, limit=3).imported == 3
    result = import_file(file, memory, MAPPING, skip=3, rejects=tmp_path / "rejects")
    assert (result.imported, result.rejected) == (0, 1)


def test_an_interrupt_before_the_first_zone_loses_no_row(tmp_path: Path, memory: Memory) -> None:
    """Where ``skip`` goes on behind rows that were held back, they are in the rejects."""

    def interrupt(_done: int, _total: int, rows: int) -> None:
        if rows >= 256:
            signal.raise_signal(signal.SIGINT)

    file = write_lines(tmp_path / "rows.jsonl", [ZONELESS] * 900 + ROWS)
    with pytest.raises(KeyboardInterrupt, match=r"skip=\d+ goes on there") as stopped:
        import_file(file, memory, MAPPING, rejects=tmp_path / "rejects", progress=interrupt)
    skip = int(str(stopped.value).split("skip=")[1].split()[0])
    assert len((tmp_path / "rejects").read_text().splitlines()) == skip
    result = import_file(file, memory, MAPPING, skip=skip, rejects=tmp_path / "rejects")
    assert (result.imported, result.rejected) == (3, 900 - skip)
    assert memory.events == EVENTS


def test_a_column_that_is_not_there_stops_the_import_before_it_begins(tmp_path: Path, memory: Memory) -> None:
    """A mistyped name of a column is told from the header; one of a lesser column is noted."""
    file = tmp_path / "rows.csv"
    file.write_text("when,kind\n2026-11-23T12:00Z,x\n")
    with pytest.raises(UsageError, match=r"no column 'at'.* its columns are: when, kind"):
        import_file(file, memory, MAPPING)
    result = import_file(file, memory, MAPPING.with_pairs(["time=when"]))
    assert result.notes == ("no column 'who': events have no actor",)


def test_rows_in_any_order_are_recorded_day_by_day(tmp_path: Path, memory: Memory) -> None:
    """A trail keeps a chain for each day; within a day the file's order stays."""
    rows = [
        {"at": (NOON + timedelta(days=day % 7)).isoformat(), "kind": "x", "n": n}
        for n, day in enumerate(random.Random(7).sample(range(1000), 1000))
    ]
    import_file(write_lines(tmp_path / "rows.jsonl", rows), memory, MAPPING)
    days = [event["time"].date() for event in memory.events]
    assert sum(day != before for day, before in zip(days[1:], days, strict=False)) == 6
    numbers = [(event["time"].date(), event["details"]["n"]) for event in memory.events]
    assert numbers == sorted(numbers)


def test_limit_and_skip_cut_a_file_without_a_gap(tmp_path: Path, memory: Memory) -> None:
    """The first rows, then the rest: together they are all."""
    file = write_lines(tmp_path / "rows.jsonl", [ROWS[0] | {"n": n} for n in range(10)])
    first = import_file(file, memory, MAPPING, limit=4)
    assert (first.rows, first.notes) == (4, ("only 4 rows were read, as asked; skip=4 goes on there",))
    rest = import_file(file, memory, MAPPING, skip=4)
    assert (rest.rows, rest.notes) == (6, ())
    assert [event["details"]["n"] for event in memory.events] == list(range(10))
    for wrong in ({"limit": 0}, {"skip": -1}, {"max_rejects": 0}):
        with pytest.raises(UsageError):
            import_file(file, memory, MAPPING, **wrong)  # type: ignore[arg-type]  # one of three integers


def test_a_wrong_mapping_does_not_fill_the_disk(tmp_path: Path, memory: Memory) -> None:
    """After so many rejects the import gives up, says where, and can go on there."""
    rows = [ROWS[0] | {"n": 0}, *([{"kind": "x"}] * 30), ROWS[0] | {"n": 1}]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    result = import_file(file, memory, MAPPING, max_rejects=20)
    assert (result.rows, result.rejected, result.complete) == (21, 20, False)
    assert "given up after 20 rejects (max_rejects), before row 22" in result.notes[0]
    rest = import_file(file, memory, MAPPING, skip=21, find_imports=lambda: memory.marks)
    assert (rest.rows, rest.rejected) == (11, 10)
    assert [event["details"]["n"] for event in memory.events] == [0, 1]
    assert import_file(file, Memory(), MAPPING, max_rejects=30).complete is False
    assert import_file(file, Memory(), MAPPING, max_rejects=31).complete is True


def test_progress_reaches_the_end_of_all_files(tmp_path: Path, memory: Memory) -> None:
    """Bytes and rows grow over all files, and end at the totals."""
    files = [write_lines(tmp_path / f"{n}.jsonl", [ROWS[0] | {"n": n}] * 600) for n in range(3)]
    seen: list[tuple[int, int, int]] = []
    import_files(files, memory, MAPPING, progress=lambda *values: seen.append(values))
    total = sum(file.stat().st_size for file in files)
    assert seen[-1] == (total, total, 1800)
    assert seen == sorted(seen)


@pytest.mark.parametrize("cut", [10, 300, 1_000])
def test_a_cut_file_is_imported_up_to_the_cut(tmp_path: Path, memory: Memory, cut: int) -> None:
    """What can be read is recorded; the rest is a reject, and the result says that it isn't complete."""
    rows = [ROWS[0] | {"n": n, "text": random.Random(n).randbytes(20).hex()} for n in range(200)]
    packed = gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode())
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(packed[:-cut])
    result = import_file(file, memory, MAPPING)
    assert not result.complete
    assert result.reasons == {"file broken": 1}
    assert "NOT COMPLETE" in str(result)
    assert [event["details"]["n"] for event in memory.events] == list(range(result.imported))
    assert result.imported >= 150
    assert memory.marks[-1]["complete"] is False


def test_a_csv_that_breaks_inside_a_row_does_not_import_the_stump(tmp_path: Path, memory: Memory) -> None:
    """`…,12` may have been `…,1234`: a row at the break is a reject, though it has all its cells."""
    text = "".join(f"2026-11-23T12:00Z,x,ana,{'9' * 30}{n}\n" for n in range(3000))
    packed = gzip.compress(f"at,kind,who,total\n{text}".encode())
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(packed[: len(packed) // 2])
    result = import_file(file, memory, MAPPING)
    assert (result.complete, result.reasons) == (False, {"file broken": 1})
    assert [event["details"]["total"] for event in memory.events] == [f"{'9' * 30}{n}" for n in range(result.imported)]


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, memory: Memory) -> None:
    """The trail remembers a SHA-256; it must be that of the rows."""
    file = write_lines(tmp_path / "rows.jsonl", [ROWS[0]] * 600)

    def append(*_: int) -> None:
        with file.open("a") as text:
            text.write(json.dumps(ROWS[1]) + "\n")

    result = import_file(file, memory, MAPPING, progress=append)
    assert not result.complete
    assert "the file was changed while it was read" in result.notes


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, memory: Memory, what: str) -> None:
    """A pipe without a writer and an endless device would hang an import for ever."""
    path = Path("/dev/zero") if what == "device" else tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    with pytest.raises(UsageError, match="expected a file, found a folder, a pipe or a device"):
        import_file(path, memory, MAPPING)
    with pytest.raises(FileNotFoundError):
        import_file(tmp_path / "nothing", memory, MAPPING)


def test_a_format_that_cannot_be_told_is_asked_for(tmp_path: Path, memory: Memory) -> None:
    """Nothing is sniffed: text of an unknown name might be anything."""
    file = tmp_path / "rows.txt"
    file.write_text("at;kind\n2026-11-23T12:00Z;x\n")
    with pytest.raises(UsageError, match="give format="):
        import_file(file, memory, MAPPING)
    assert import_file(file, memory, MAPPING, reading=Reading(format="csv", delimiter=";")).imported == 1


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "klingon"},
        {"encoding": "hex"},
        {"delimiter": ",,"},
        {"delimiter": '"'},
        {"records": "a..b"},
    ],
)
def test_reading_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    """At once, and not with the first row."""
    with pytest.raises(UsageError):
        Reading(**options)


def test_an_empty_file_is_no_fault(tmp_path: Path, memory: Memory) -> None:
    """It holds no rows, and the result says so."""
    for name in ("rows.jsonl", "rows.csv", "rows.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
        result = import_file(tmp_path / name, memory, MAPPING)
        assert (result.rows, result.complete, result.notes) == (0, True, ("the file holds no rows",))


def test_types_without_number_do_not_fill_the_memory(tmp_path: Path, memory: Memory) -> None:
    """A hostile file has a type for each row; the result counts a thousand of them and the rest together."""
    rows = [{"at": "2026-11-23T12:00Z", "kind": f"t{n}"} for n in range(1500)]
    result = import_file(write_lines(tmp_path / "rows.jsonl", rows), memory, MAPPING)
    assert len(result.types) == 1001
    assert result.types["(other types)"] == 500
    assert "and 981 more types" in str(result)


def _read_journals(store: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for file in store.glob("journal/*.jsonl") for line in file.read_bytes().splitlines()]
    return [event for event in events if not event["type"].startswith("auditkit.")]


def make_logger(store: Path, **options: Any) -> AuditLogger:
    return AuditLogger(store, secret_key="a secret for this test", enable_rotation=False, **options)


def test_a_row_reaches_the_journal_as_it_was(tmp_path: Path) -> None:
    """The real logger signs what the file said: every column, and the rest in the details, to the digit."""
    row = {
        "at": "2026-11-23T12:00:00.123456Z",
        "kind": "order.paid",
        "who": "Zoë \u2028 \x1b[31m",
        "lead": 17,
        "took": 1.5,
        "err": {"class": "Timeout", "text": "=cmd()", "trace": "a\nb"},
        "big": 123456789012345678901234567890,
        "nested": {"list": [1, None, {"é": 0.1}]},
    }
    pairs = ["lead_id=lead", "workflow==shop", "outcome==failure", "operation==pay", "duration=took"]
    pairs += ["duration_unit=ms", "error_type=err.class", "message=err.text", "traceback=err.trace"]
    mapping = MAPPING.with_pairs(pairs)
    file = write_lines(tmp_path / "rows.jsonl", [row])
    with make_logger(tmp_path / "audit") as logger:
        result = import_file(file, logger, mapping, find_imports=list)
    assert result.imported == 1
    (event,) = _read_journals(tmp_path / "audit")
    assert {key: event[key] for key in list(event)[5:-1]} == {
        "time": 1_795_435_200_123_456,
        "type": "order.paid",
        "actor": row["who"],
        "lead_id": "17",
        "workflow": "shop",
        "outcome": "failure",
        "operation": "pay",
        "duration_us": 1500,
        "error_type": "Timeout",
        "message": "=cmd()",
        "traceback": "a\nb",
        "details": event["details"],
    }
    assert json.loads(event["details"]) == {
        "big": {"$int": "123456789012345678901234567890"},
        "nested": {"list": [1, None, {"é": 0.1}]},
    }


def test_a_context_around_an_import_does_not_speak_for_its_rows(tmp_path: Path) -> None:
    """Whoever runs the import isn't the actor of what the file tells."""
    file = write_lines(tmp_path / "rows.jsonl", [{"at": "2026-11-23T12:00Z", "kind": "x"}])
    with (
        make_logger(tmp_path / "audit") as logger,
        logger.context(actor="admin", lead_id="L-1", workflow="w"),
    ):
        import_file(file, logger, MAPPING, find_imports=list)
    (event,) = _read_journals(tmp_path / "audit")
    assert (event["actor"], event["lead_id"], event["workflow"]) == (None, None, None)


def test_what_an_event_cannot_hold_whole_is_rejected_whole(tmp_path: Path) -> None:
    """The logger would cut a text of megabytes; an import keeps the row in the rejects instead."""
    rows = [
        ROWS[0] | {"text": "x" * 1_000_001},
        ROWS[0] | {"many": ["é" * 1000] * 2000},
        ROWS[0] | {"quotes": ['"' * 999_999] * 2},
        ROWS[0] | {"text": "x" * 999_000},
        ROWS[0] | {"kind": "k" * 201},
        ROWS[0] | {"deep": json.loads("[" * 100 + "]" * 100)},
    ]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    with make_logger(tmp_path / "audit") as logger:
        result = import_file(file, logger, MAPPING, find_imports=list)
    assert result.reasons == {"too large": 3, "not an event": 1, "too deep": 1}
    (event,) = _read_journals(tmp_path / "audit")
    assert json.loads(event["details"])["text"] == "x" * 999_000
    assert result.rejects is not None
    kept = [json.loads(entry["raw"]) for entry in _read_rejects(result.rejects)]
    assert sorted(map(json.dumps, kept)) == sorted(json.dumps(row) for row in rows if row is not rows[3])


def test_events_the_journal_cannot_keep_are_rejects(tmp_path: Path, memory: Memory) -> None:
    """A logger that drops events when the disk is full says so with an empty id, and the row isn't lost."""

    class Full(Memory):
        def log_event(self, type: str, details: Any = None, *args: Any, **fields: Any) -> str:
            event_id = super().log_event(type, details, *args, **fields)
            return "" if len(self.events) > 1 else event_id

    result = import_file(write_lines(tmp_path / "rows.jsonl", ROWS), Full(), MAPPING)
    assert (result.imported, result.rejected, result.reasons) == (1, 2, {"not kept": 2})


def test_an_interrupt_stops_between_two_rows(tmp_path: Path, memory: Memory) -> None:
    """Ctrl-C records what was read and says where to go on; going on there gives each row exactly once."""
    rows = [ROWS[0] | {"n": n} for n in range(30_000)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    calls = 0

    def interrupt(*_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"skip=\d+ goes on there") as stopped:
        import_file(file, memory, MAPPING, progress=interrupt)
    through = memory.marks[-1]["through"]
    assert f"skip={through}" in str(stopped.value)
    assert memory.marks[-1]["state"] == "stopped"
    assert 0 < len(memory.events) == through < 30_000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    import_file(file, memory, MAPPING, skip=through, find_imports=lambda: memory.marks)
    assert [event["details"]["n"] for event in memory.events] == list(range(30_000))


def test_an_import_in_another_thread_leaves_signals_alone(tmp_path: Path, memory: Memory) -> None:
    """Only the main thread may handle signals, and an application's own handler stays."""
    file = write_lines(tmp_path / "rows.jsonl", ROWS)
    thread = threading.Thread(target=import_file, args=(file, memory, MAPPING))
    thread.start()
    thread.join()
    assert len(memory.events) == 3
