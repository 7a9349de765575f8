"""The commands on a real store, run as a user and as a script run them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import auditkit
from tests.cli.conftest import Store
from tests.cli.running import (
    COMMAND,
    find_unprintable,
    find_wide_lines,
    run_cli,
    run_on_terminal,
    strip_styles,
)
from tests.cli.test_terminal import HOSTILE

READING = (
    ["stats"],
    ["query"],
    ["query", "--internal", "--limit", "0"],
    ["errors", "--traceback", "--limit", "99"],
    ["performance"],
    ["performance", "--by", "hour"],
    ["integrity"],
    ["integrity", "--fast"],
)


@pytest.mark.parametrize("arguments", READING)
def test_a_table_fits_80_columns_and_holds_nothing_a_terminal_acts_on(arguments: list[str], store: Store) -> None:
    """On a terminal there are colours of ours and nothing of an event's; in a pipe there is only text."""
    shown = run_on_terminal(*arguments, *store.options)
    assert shown.code == 0, shown.err
    assert "\x1b[" in shown.out
    assert find_unprintable(strip_styles(shown.out)) == []
    assert find_unprintable(shown.err) == []
    # A traceback and a signed checkpoint are whole: a cut signature would be none.
    whole = "--traceback" in arguments or "integrity" in arguments
    assert whole or find_wide_lines(strip_styles(shown.out)) == []
    assert find_wide_lines(strip_styles(shown.out).partition("\nCheckpoint")[0]) == [] or "integrity" not in arguments
    piped = run_cli(*arguments, *store.options)
    assert piped.code == 0
    assert find_unprintable(piped.out) == []
    assert whole or find_wide_lines(piped.out) == []


@pytest.mark.parametrize("arguments", READING)
def test_no_color_is_honoured(arguments: list[str], store: Store) -> None:
    """With NO_COLOR a terminal gets plain text, for what a dumb terminal gets too."""
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in run_on_terminal(*arguments, *store.options, env=env).out


@pytest.mark.parametrize("arguments", READING)
def test_json_is_one_document_without_anything_a_terminal_acts_on(arguments: list[str], store: Store) -> None:
    """A script can parse all of standard output, and a person can look at it."""
    shown = run_on_terminal(*[a for a in arguments if a != "--traceback"], "--format", "json", *store.options)
    assert shown.code == 0
    json.loads(shown.out)
    assert find_unprintable(shown.out) == []


@pytest.mark.parametrize("arguments", READING)
def test_csv_is_safe_on_a_terminal_and_in_a_spreadsheet(arguments: list[str], store: Store) -> None:
    """On a terminal every character is printable; in a pipe no cell begins a formula."""
    arguments = [argument for argument in arguments if argument != "--traceback"]
    shown = run_on_terminal(*arguments, "--format", "csv", *store.options)
    assert shown.code == 0
    assert find_unprintable(shown.out) == []
    piped = run_cli(*arguments, "--format", "csv", *store.options)
    rows = list(csv.reader(io.StringIO(piped.out, newline="")))
    assert all(len(row) == len(rows[0]) for row in rows)
    assert not any(re.match(r"[=+@\t\r\n\0]|-[^\d]", cell) for row in rows for cell in row)


def test_query_shows_a_leads_history_in_order(store: Store) -> None:
    """One lead's events, the newest at the bottom, with the zone of their times."""
    shown = run_cli("query", "--lead", "L-3", *store.options)
    lines = shown.out.rstrip("\n").split("\n")
    assert "time (UTC)" in lines[0]
    assert len(lines) == 2 + 8
    times = [line[:19] for line in lines[2:]]
    assert times == sorted(times)
    assert "crm.sync 750 ms TimeoutError: no" in shown.out
    assert "source=web n=8" in shown.out


def test_query_filters_add_up_and_values_of_one_are_alternatives(store: Store) -> None:
    """Two leads of one type and outcome."""
    arguments = ["--lead", "L-1", "--lead", "L-2", "--type", "operation", "--outcome", "failure"]
    events = json.loads(run_cli("query", *arguments, "--format", "json", *store.options).out)
    assert {event["lead_id"] for event in events} == {"L-1", "L-2"}
    assert {event["type"] for event in events} == {"operation"}
    assert len(events) == 4


def test_query_gives_exact_values_as_json(store: Store) -> None:
    """Microseconds, details as recorded, and hostile texts unchanged after a JSON reader."""
    events = json.loads(run_cli("query", "--type", "form.sent", "--format", "json", *store.options).out)
    assert [event["message"] for event in events] == [t.replace("\ud800", "\ufffd") for t in HOSTILE]
    assert events[0]["details"][HOSTILE[0]] == HOSTILE[0]
    assert events[0]["duration_us"] == 1000
    first = json.loads(run_cli("query", "--lead", "L-1", "--format", "json", *store.options).out)[0]
    assert first["time"] == "2026-11-22T22:10:00.000001Z"


def test_query_in_a_time_zone_means_its_days(store: Store) -> None:
    """A day in Auckland begins at 11:00 UTC of the day before; what a range was resolved to is said."""
    arguments = ["query", "--since", "2026-11-23", "--until", "2026-11-23", "--tz", "Pacific/Auckland"]
    shown = run_cli(*arguments, *store.options)
    assert "from 2026-11-22 11:00 UTC to before 2026-11-23 11:00 UTC" in shown.err
    assert "time (Auckland)" in shown.out
    assert "2026-11-23 21:12:00" in shown.out
    before = run_cli(*arguments, "--lead", "L-1", *store.options)
    assert "2026-11-23 11:10:00" in before.out


def test_query_limits_a_table_and_says_so(store: Store) -> None:
    """50 events unless another number is asked for, the newest, and the total is named."""
    shown = run_cli("query", *store.options)
    assert len(shown.out.rstrip("\n").split("\n")) == 2 + 50
    assert "the newest 50 of 53 events" in shown.err
    assert "2026-11-23 08:12:00" in shown.out
    assert len(json.loads(run_cli("query", "--limit", "2", "--format", "json", *store.options).out)) == 2
    assert len(json.loads(run_cli("query", "--format", "json", *store.options).out)) == 53


def test_a_filter_that_nothing_fits_is_not_taken_for_an_empty_store(store: Store) -> None:
    """Whoever mistypes an operation is told that a filter was at work, and isn't sent to read about `track`."""
    shown = run_cli("performance", "--operation", "nobody", *store.options)
    assert (shown.code, shown.out) == (0, "")
    assert "no measured operation fits" in shown.err
    assert "nothing failed that fits the filters" in run_cli("errors", "--workflow", "nobody", *store.options).err


def test_what_is_newest_is_shown_although_an_old_day_is_damaged(store: Store) -> None:
    """The table is right, its note says what it can't say, and the exit code that something is wrong."""
    segment = sorted(store.path.glob("events/*/*.parquet"))[0]
    segment.write_bytes(segment.read_bytes()[::-1])
    shown = run_cli("query", "--limit", "5", *store.options)
    assert (shown.code, len(shown.out.splitlines())) == (1, 2 + 5)
    assert "the newest 5 events; how many there are can't be said" in shown.err
    assert segment.name in shown.err
    report = run_cli("report", "daily", "--day", "2026-11-22", *store.options, cwd=store.path.parent)
    assert report.code == 1
    assert "No events are shown, since some can't be read" in report.err


def test_query_without_a_match_says_so_on_standard_error(store: Store) -> None:
    """Nothing fits: standard output is empty, or an empty document."""
    shown = run_cli("query", "--lead", "nobody", *store.options)
    assert (shown.code, shown.out) == (0, "")
    assert "no event fits" in shown.err
    assert run_cli("query", "--lead", "nobody", "--format", "json", *store.options).out == "[]\n"


def test_a_wide_terminal_shows_more(store: Store) -> None:
    """With 160 columns the actor has room."""
    assert "actor" in run_on_terminal("query", *store.options, columns=160).out
    assert "actor" in run_cli("query", *store.options, env={"COLUMNS": "160"}).out


def test_stats_counts_what_is_there(store: Store) -> None:
    """Totals, types, workflows and days agree with what was recorded."""
    document = json.loads(run_cli("stats", "--format", "json", *store.options).out)
    assert document["total"]["events"] == 53
    assert document["total"]["failures"] == 10 + len(HOSTILE)
    assert document["total"]["first"] == "2026-11-22T22:00:00.000000Z"
    assert {row["type"]: row["n"] for row in document["types"]} == {
        "lead.ingested": 30,
        "operation": 10,
        "form.sent": len(HOSTILE),
    }
    assert [row["n"] for row in document["days"]] == [12, 41]
    table = run_cli("stats", *store.options).out
    assert "53 events, 23 failed" in table
    assert re.search(r"2026-11-23 Mon +41 ", table)


def test_stats_of_one_workflow_and_of_an_empty_range(store: Store) -> None:
    """Filters apply; a range without events is said to have none."""
    shown = run_cli("stats", "--workflow", "inbound", "--format", "csv", *store.options)
    assert {row["type"]: row["n"] for row in csv.DictReader(io.StringIO(shown.out))} == {
        "lead.ingested": "30",
        "operation": "10",
    }
    empty = run_cli("stats", "--since", "2020-01-01", "--until", "2020-01-02", *store.options)
    assert (empty.code, empty.out) == (0, "")
    assert "no events" in empty.err


def test_errors_group_failures(store: Store) -> None:
    """Ten timeouts are one line with their number; the traceback comes on request."""
    shown = run_cli("errors", "--limit", "1", *store.options)
    assert "10  TimeoutError in crm.sync of inbound" in shown.out
    assert "no answer from host 39" in shown.out
    assert "Traceback" not in shown.out
    assert "23 failures; the most frequent of 14 groups" in shown.err
    assert "the 2 most frequent of 14" in run_cli("errors", "--limit", "2", *store.options).err
    with_traceback = run_cli("errors", "--limit", "1", "--traceback", *store.options).out
    assert "Traceback (most recent call last):\n  ...\nTimeoutError: no answer from host 39" in with_traceback
    [group] = json.loads(run_cli("errors", "--workflow", "inbound", "--format", "json", *store.options).out)
    assert (group["n"], group["leads"], group["error_type"]) == (10, 5, "TimeoutError")


def test_performance_gives_percentiles(store: Store) -> None:
    """Exact percentiles in seconds as JSON, in human units in the table."""
    rows = json.loads(run_cli("performance", "--operation", "crm.sync", "--format", "json", *store.options).out)
    durations = pd.Series([0.25 * number for number in range(40) if number % 4 == 3])
    assert [(row["operation"], row["n"], row["failures"]) for row in rows] == [("crm.sync", 10, 10)]
    for percent in (50, 90, 95, 99):
        assert rows[0][f"p{percent}_s"] == pytest.approx(durations.quantile(percent / 100))
    assert re.search(r"crm\.sync +10 +10 +5\.2 s", run_cli("performance", *store.options).out)
    days = run_cli("performance", "--operation", "crm.sync", "--by", "day", *store.options).out
    assert re.search(r"crm\.sync +2026-11-22 +3 ", days)


def test_export_writes_what_query_shows(store: Store, tmp_path: Path) -> None:
    """The same events in every format; the summary goes to standard error."""
    events = json.loads(run_cli("query", "--format", "json", *store.options).out)
    for suffix in ("csv", "json", "jsonl", "parquet"):
        path = tmp_path / f"events.{suffix}"
        shown = run_cli("export", "--output", path, *store.options)
        assert (shown.code, shown.out) == (0, "")
        assert "53 events" in shown.err
    assert json.loads((tmp_path / "events.json").read_text()) == events
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == events
    assert len(pd.read_parquet(tmp_path / "events.parquet")) == 53
    piped = run_cli("export", "--format", "jsonl", "--limit", "3", "--columns", "seq, type", *store.options)
    assert [list(json.loads(line)) for line in piped.out.splitlines()] == [["seq", "type"]] * 3


def test_export_of_parquet_to_a_terminal_is_refused(store: Store) -> None:
    """Binary data would act on the terminal; a pipe takes it."""
    shown = run_on_terminal("export", "--format", "parquet", *store.options)
    assert (shown.code, shown.out) == (2, "")
    piped = subprocess.run([*COMMAND, "export", "--format", "parquet", *store.options], capture_output=True, check=True)
    assert len(pd.read_parquet(io.BytesIO(piped.stdout))) == 53


def test_seal_and_rotate_seal_what_is_open(store: Store) -> None:
    """The hostile events were in the journal still; afterwards there is nothing left to seal."""
    shown = run_cli("seal", *store.options)
    assert shown.code == 0, shown.err
    assert re.match(r"\d+ events sealed into \d segments?, ledger commit 2, ", shown.out)
    again = run_cli("rotate", "--format", "json", *store.options)
    assert json.loads(again.out)["commit"] is None
    assert list((store.path / "journal").iterdir()) == []
    assert json.loads(run_cli("stats", "--format", "json", *store.options).out)["total"]["events"] == 53


def test_report_daily_prints_the_path_only(store: Store, tmp_path: Path) -> None:
    """``firefox $(auditkit report daily)`` opens the report of the newest day."""
    shown = run_cli("report", "daily", *store.options, cwd=tmp_path)
    assert shown.code == 0, shown.err
    path = tmp_path / shown.out.rstrip("\n")
    assert path.name == "daily-2026-11-23.html"
    text = path.read_text()
    assert "<script>alert" not in text
    assert "41 events" in shown.err
    named = run_cli("report", "daily", "--day", "2026-11-22", "--output", "sunday.html", *store.options, cwd=tmp_path)
    assert named.out == "sunday.html\n"


def test_options_of_the_store_may_stand_before_the_command(store: Store) -> None:
    """``auditkit --store X stats`` and ``auditkit stats --store X`` are the same, and so is the variable."""
    before = run_cli(*store.options, "stats")
    assert before.out == run_cli("stats", *store.options).out
    assert before.out == run_cli("stats", env={"AUDITKIT_STORE": str(store.path)}).out
    assert before.out == run_cli("stats", cwd=store.path.parent).out


def test_verbose_says_how(store: Store) -> None:
    """What was done is said on standard error; standard output stays data."""
    shown = run_cli("stats", "--verbose", "--format", "json", *store.options)
    json.loads(shown.out)
    assert str(store.path) in shown.err


def test_import_records_a_file_and_refuses_it_twice(tmp_path: Path) -> None:
    """A first import makes the store; the second says that it was there before."""
    file = tmp_path / "app.jsonl"
    rows = [{"ts": f"2026-11-23T10:00:0{n}Z", "kind": "order.paid", "user": {"mail": "ana"}, "n": n} for n in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--store", str(tmp_path / "audit"), "--key-file", str(tmp_path / "key")]
    mapping = ["--set", "time=ts", "--set", "type=kind", "--set", "actor=user.mail"]
    shown = run_cli("import", file, *mapping, "--format", "json", *options, cwd=tmp_path)
    assert shown.code == 0, shown.err
    [result] = json.loads(shown.out)
    assert (result["rows"], result["imported"], result["rejected"]) == (5, 5, 0)
    events = json.loads(run_cli("query", "--format", "json", *options).out)
    assert [(event["type"], event["actor"], event["details"]["n"]) for event in events] == [
        ("order.paid", "ana", n) for n in range(5)
    ]
    assert list((tmp_path / "audit" / "events").glob("*/*.parquet"))
    again = run_cli("import", file, *mapping, *options, cwd=tmp_path)
    assert again.code == 2
    assert "Traceback" not in again.err
    assert run_cli("import", file, *mapping, "--again", *options, cwd=tmp_path).code == 0


def test_import_shows_and_keeps_rejected_rows(tmp_path: Path) -> None:
    """A row that can't be an event is counted, shown as printable text, and kept; the exit code is 4."""
    file = tmp_path / "app.jsonl"
    file.write_text('{"ts":"2026-11-23T10:00:00Z","kind":"a"}\n{"ts":"yester\\u001b[31mday","kind":"b"}\n')
    options = ["--store", str(tmp_path / "audit"), "--key-file", str(tmp_path / "key")]
    arguments = [
        "import",
        str(file),
        "--set",
        "time=ts",
        "--set",
        "type=kind",
        "--rejects",
        str(tmp_path / "bad.jsonl"),
    ]
    shown = run_cli(*arguments, *options, cwd=tmp_path)
    assert shown.code == 4
    assert re.search(r"app\.jsonl +2 +1 +1 ", shown.out)
    assert "1 row rejected" in shown.err
    assert find_unprintable(shown.out + shown.err) == []
    assert "yester" in (tmp_path / "bad.jsonl").read_text()


def test_import_of_many_files_tells_them_apart(tmp_path: Path) -> None:
    """Names that differ in their middle or in their folder are still different ones in 80 columns."""
    names = [f"218007301253_trail_us-east-1_202307{d}T1240Z_C1qUFaqv.jsonl" for d in range(10, 20)]
    names += ["a/same-name-of-two-folders.jsonl", "b/same-name-of-two-folders.jsonl"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"ts": "2026-11-23T10:00:00Z", "kind": "a", "n": number}) + "\n")
    options = ["--set", "time=ts", "--set", "type=kind", "--key-file", str(tmp_path / "key")]
    for files in (names[:10], names[:3], names[10:]):
        store = ["--store", str(tmp_path / f"audit-{len(files)}")]
        shown = run_cli("import", *files, *options, *store, cwd=tmp_path)
        assert shown.code == 0, shown.err
        rows = shown.out.splitlines()[2:]
        assert len({row[:18] for row in rows}) == len(rows) == len(files)
        assert find_wide_lines(shown.out) == []
        again = run_cli("import", *files, "--skip-known", *options, *store, cwd=tmp_path)
        assert again.out.count("(known)") == len(files)
    mixed = run_cli("import", *names, *options, "--store", str(tmp_path / "audit-mixed"), cwd=tmp_path)
    # Where they can't be told apart in the width of a column, the whole names are there.
    text = "".join(row[:18].strip() for row in mixed.out.splitlines()[2:])
    assert all(name in text for name in names)
    assert "12 events of 12 files" in mixed.err


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_bars_are_signs_where_there_are_no_blocks(store: Store, encoding: str) -> None:
    """No bar of escapes, and no line that is wider than the terminal."""
    shown = subprocess.run(
        [*COMMAND, "stats", *store.options],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    ).stdout.decode(encoding)
    bars = [line for line in shown.splitlines() if "#" in line]
    assert len(bars) == 2
    assert "\\u258" not in shown
    assert find_wide_lines("\n".join(bars)) == []


def test_one_event_is_one_event(tmp_path: Path) -> None:
    """Counts of one are said in the singular."""
    file = tmp_path / "app.jsonl"
    file.write_bytes(b'{"ts":"2026-11-23T10:00:00Z","kind":"a","who":"ana","lead":"L-1"}\n')
    options = ["--store", str(tmp_path / "audit"), "--key-file", str(tmp_path / "key")]
    pairs = [f"--set={pair}" for pair in ("time=ts", "type=kind", "actor=who", "lead_id=lead")]
    said = [run_cli("import", file, file, *pairs, "--again", "--limit", "1", *options, cwd=tmp_path)]
    with auditkit.AuditLogger(tmp_path / "audit", key_file=tmp_path / "key", enable_rotation=False) as audit:
        audit.log_event("b", time=datetime(2026, 11, 22, 10, tzinfo=UTC))
    day = ["--since", "2026-11-22", "--until", "2026-11-22"]
    said.append(run_cli("stats", *day, *options))
    assert said[-1].out.startswith("1 event, 0 failed, 0 leads, 0 actors\n")
    said.append(run_cli("export", *day, *options))
    said.append(run_cli("query", "--limit", "1", *options))
    said.append(run_cli("seal", *options))
    said.append(run_cli("report", "daily", "--day", "2026-11-22", *options, cwd=tmp_path))
    for shown in said:
        assert shown.code == 0, shown.err
        assert not re.search(r"\b1 (events|leads|actors|rows|segments)\b", shown.out + shown.err)


ROW = b'{"ts":"2026-11-23T10:00:00Z","kind":"a"}\n'
NAIVE = b'{"ts":"2026-11-23T10:00:00","kind":"a"}\n'


@pytest.mark.parametrize(
    "name, content, arguments, said",
    [
        ("app.jsonl", NAIVE, [], "--tz UTC or --tz Europe/Berlin"),
        ("app.jsonl", ROW, ["--set", "time_format=epoch_s", "--set", "tz=Mars/Olympus"], "Mars/Olympus"),
        ("app.jsonl", ROW, ["--set", "time_format=date"], "--tz UTC or --tz Europe/Berlin"),
        ("app.jsonl", ROW.decode().encode("utf-16"), [], "--encoding utf-16"),
        (
            "app.log",
            b"10:00 a\n",
            [],
            "--input-format jsonl, --input-format json, --input-format csv or --input-format",
        ),
        ("app.json", b'{"one": 1}', [], "--input-format jsonl"),
        ("app.json", b'{"one": [{}]}', ["--records", "a b"], "--records 'a b'"),
        ("app.csv", b"ts,sort\n2026-11-23T10:00:00Z,a\n", [], "has no column 'kind'"),
        ("folder", None, [], "found a folder"),
    ],
)
def test_import_refuses_in_its_own_words_and_makes_no_store(
    tmp_path: Path, name: str, content: bytes | None, arguments: list[str], said: str
) -> None:
    """What to do is said as options, not as arguments of a function; neither store nor key is there afterwards."""
    file = tmp_path / name
    file.mkdir() if content is None else file.write_bytes(content)
    options = ["--store", str(tmp_path / "audit"), "--key-file", str(tmp_path / "key")]
    shown = run_cli("import", file, "--set", "time=ts", "--set", "type=kind", *arguments, *options, cwd=tmp_path)
    assert (shown.code, shown.out) == (2, ""), shown.err
    assert said in shown.err
    assert not re.search(r"\w=['{T]", shown.err)
    assert list(tmp_path.iterdir()) == [file]


def test_import_goes_on_as_it_says(tmp_path: Path) -> None:
    """A part that was imported, and a whole, are refused with the options that go on."""
    file = tmp_path / "app.jsonl"
    file.write_bytes(ROW * 5)
    options = ["--store", str(tmp_path / "audit"), "--key-file", str(tmp_path / "key")]
    call = ["import", str(file), "--set", "time=ts", "--set", "type=kind", *options]
    assert "only 3 rows were read, as asked; --skip 3 goes on there" in run_cli(*call, "--limit", "3", cwd=tmp_path).err
    refused = run_cli(*call, cwd=tmp_path).err
    assert "give --skip 3 to go on behind it, or --again to import it from its beginning" in refused
    assert run_cli(*call, "--skip", "3", cwd=tmp_path).code == 0
    assert "give --again to record every event a second time" in run_cli(*call, cwd=tmp_path).err


def test_import_lists_its_mappings(tmp_path: Path) -> None:
    """``--mapping list`` names the ready-made ones, and makes no store."""
    shown = run_cli("import", "--mapping", "list", cwd=tmp_path)
    assert shown.code == 0
    assert "cloudtrail" in shown.out
    assert list(tmp_path.iterdir()) == []


def test_times_in_every_format_name_their_zone(store: Store) -> None:
    """A time without a zone would be a guess: tables name it in the heading, data in the value."""
    document = json.loads(run_cli("errors", "--format", "json", *store.options).out)
    assert datetime.fromisoformat(document[0]["first"]).utcoffset() is not None
    assert "(UTC)" in run_cli("errors", *store.options).out
