"""The demo is real: several processes, genuine tracebacks, a sound record, and nothing outside its folder touched."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import auditkit
from auditkit.demo.folder import MARK, claim_folder
from auditkit.demo.recorder import Demo, record_demo
from auditkit.demo.scenario import DAYS, WORKERS, Step, compose_week
from auditkit.errors import UsageError
from tests.cli.running import find_unprintable, find_wide_lines, run_cli

NOW = datetime(2026, 11, 24, 16, 30, tzinfo=UTC)

CATALOGUE = {
    "lead.ingested",
    "lead.qualified",
    "lead.routed",
    "crm.created",
    "crm.updated",
    "email.sent",
    "email.scheduled",
    "email.cancelled",
    "workflow.started",
    "workflow.stopped",
    "error",
    "operation",
    "log",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """One demo of a fixed week."""
    return record_demo(tmp_path_factory.mktemp("demo") / "tour", events=4000, seed=1, now=NOW)


@pytest.fixture(scope="module")
def events(demo: Demo) -> pd.DataFrame:
    """Its events."""
    return demo.trail.events()


def test_the_week_is_recorded_by_several_processes(demo: Demo, events: pd.DataFrame) -> None:
    """Every worker writes a chain for each day, from its own process."""
    assert demo.events == len(events) >= 4000
    assert demo.trail.days() == [date(2026, 11, 18) + timedelta(days=n) for n in range(DAYS)]
    opened = demo.trail.events(type="auditkit.opened")
    assert len({json.loads(details)["pid"] for details in opened["details"]}) == WORKERS


def test_the_record_is_sound_and_sealed(demo: Demo) -> None:
    """Every signature holds, in Parquet files that anybody can read."""
    assert demo.verification.ok
    assert demo.verification.journal_events == 0
    assert demo.trail.verify().ok
    assert len(pd.read_parquet(demo.trail.path / "events", columns=["type"])) >= demo.events


def test_every_type_of_the_catalogue_happens(events: pd.DataFrame) -> None:
    """A newcomer sees all of them."""
    assert set(events["type"]) == CATALOGUE


def test_nothing_happens_after_now(events: pd.DataFrame) -> None:
    """The week goes up to this moment, and not beyond."""
    assert events["time"].max() <= NOW
    assert events["time"].max() > NOW - timedelta(hours=1)
    assert events["time"].min() >= NOW - timedelta(days=DAYS)


def test_leads_go_through_their_stages_in_order(events: pd.DataFrame) -> None:
    """No lead is routed before it's qualified, or mailed before it's in the CRM."""
    order = {"lead.ingested": 0, "lead.qualified": 1, "lead.routed": 2, "crm.created": 3, "email.scheduled": 4}
    stages = events[events["type"].isin(list(order))]
    assert (stages.groupby("lead_id")["type"].apply(lambda types: types.map(order).is_monotonic_increasing)).all()
    created = set(events.loc[events["type"] == "crm.created", "lead_id"])
    assert set(events.loc[events["type"] == "email.sent", "lead_id"]) <= created


def test_failures_have_genuine_tracebacks(events: pd.DataFrame) -> None:
    """They were raised and caught: the traceback ends in the error that the event names."""
    failures = events[events["outcome"] == "failure"]
    assert len(failures) > 20
    assert failures["error_type"].nunique() >= 5
    for failure in failures.to_dict("records"):
        assert failure["traceback"].startswith("Traceback (most recent call last):\n")
        assert failure["traceback"].rstrip().splitlines()[-1].startswith(failure["error_type"])
        assert "services.py" in failure["traceback"] or "json" in failure["traceback"]
    chained = failures[failures["error_type"].str.endswith("CrmUnavailable")]
    assert chained["traceback"].str.contains("direct cause").all()


def test_one_operation_gets_slower(events: pd.DataFrame) -> None:
    """The median of crm.sync grows from the first day to the last, until some time out."""
    sync = events[events["operation"] == "crm.sync"]
    medians = sync.groupby(sync["time"].dt.date)["duration_us"].median()
    assert medians.iloc[-1] > 4 * medians.iloc[0]
    steady = events[events["operation"] == "lead.enrich"]
    medians = steady.groupby(steady["time"].dt.date)["duration_us"].median()
    assert medians.max() < 2 * medians.min()


def test_hostile_form_entries_are_in_the_record(events: pd.DataFrame) -> None:
    """Formulas, markup and escape sequences, as spam holds them, so that the tools can be seen coping."""
    details = " ".join(events.loc[events["type"] == "lead.ingested", "details"])
    assert "=HYPERLINK(" in details
    assert "<script>" in details
    assert r"\u001b]0;" in details


def test_the_report_is_of_today(demo: Demo) -> None:
    """The report is rendered in the demo's folder."""
    assert demo.day == NOW.date()
    assert demo.report.parent.parent == demo.root
    assert "<script>alert" not in demo.report.read_text()


def test_the_lead_to_look_at_has_a_story(demo: Demo, events: pd.DataFrame) -> None:
    """The lead that the demo points to failed once and went on."""
    history = events[events["lead_id"] == demo.lead]
    assert len(history) > 8
    assert (history["outcome"] == "failure").any()


def test_the_same_seed_gives_the_same_week() -> None:
    """Whoever reports something about a demo can name its seed."""
    assert compose_week(5, NOW, 1000) == compose_week(5, NOW, 1000)
    assert compose_week(5, NOW, 1000) != compose_week(6, NOW, 1000)


def test_the_same_seed_records_the_same_events(tmp_path: Path) -> None:
    """Two demos of one moment differ in the ids of their events only, tracebacks included."""
    frames = [record_demo(tmp_path / name, events=300, seed=4, now=NOW).trail.events() for name in ("a", "b")]
    same = [
        frame.drop(columns=["id", "writer", "seq"]).sort_values(["time", "type", "lead_id"], ignore_index=True)
        for frame in frames
    ]
    pd.testing.assert_frame_equal(same[0], same[1])
    assert set(frames[0]["id"]).isdisjoint(frames[1]["id"])


@pytest.mark.parametrize("hour", range(0, 24, 5))
@pytest.mark.parametrize("weekday", range(7))
def test_every_week_works_out(hour: int, weekday: int) -> None:
    """At whatever hour and day it's run, midnight and Sunday included, all types happen in time and in order."""
    now = datetime(2026, 11, 23, hour, 1, tzinfo=UTC) + timedelta(days=weekday)
    week = compose_week(3, now, 3000)
    assert {step.type for step in week} == CATALOGUE
    assert 3000 <= len(week) < 3100
    assert all(now - timedelta(days=DAYS) <= step.time <= now for step in week)
    assert week == sorted(week, key=lambda step: step.time)
    assert {step.worker for step in week} == set(range(WORKERS))


def test_a_day_has_a_rhythm_with_a_dip_at_lunch() -> None:
    """Leads come in the morning and the afternoon, fewer at noon, hardly any at night."""
    week: list[Step] = compose_week(1, NOW.replace(hour=23), 40_000)
    hours = Counter(step.time.hour for step in week if step.type == "lead.ingested")
    assert hours[12] < 0.6 * hours[10]
    assert hours[12] < 0.6 * hours[14]
    assert hours[3] < 0.2 * hours[12]


def test_a_new_demo_replaces_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    """A second run gives another store; the user's own files in the folder stay as they are."""
    first = record_demo(tmp_path / "d", events=200, now=NOW)
    (tmp_path / "d" / "notes.txt").write_text("mine")
    (tmp_path / "d" / "reports" / "mine.html").write_text("mine")
    second = record_demo(tmp_path / "d", events=200, now=NOW)
    assert first.trail.store_id != second.trail.store_id
    assert second.verification.ok
    assert (tmp_path / "d" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "d" / "reports" / "mine.html").read_text() == "mine"
    assert {path.name for path in (tmp_path / "d").iterdir()} >= {"audit", "demo.key", "reports", MARK}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", ["store", "key", "mark", "exchanged store", "linked store"])
def test_what_no_demo_made_is_refused_and_untouched(tmp_path: Path, what: str) -> None:
    """A real store, a key, a strange mark, a store put in the demo's place: refused before anything is touched."""
    root = tmp_path / "d"
    if what in ("exchanged store", "linked store"):
        with claim_folder(root) as folder:
            folder.store_id = "aaaaaaaaaaaaaaaa"
            folder.write_mark()
    root.mkdir(exist_ok=True)
    if what == "linked store":
        auditkit.AuditLogger(tmp_path / "real", key_file=tmp_path / "key").close()
        (root / "audit").symlink_to(tmp_path / "real")
    elif what.endswith("store"):
        auditkit.AuditLogger(root / "audit", key_file=tmp_path / "key").close()
    elif what == "key":
        (root / "demo.key").write_text("mine")
    else:
        (root / MARK).write_text('{"made_by": "somebody else"}')
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="nothing was touched"):
        record_demo(root, events=200, now=NOW)
    after = {name: data for name, data in snapshot(tmp_path).items() if not name.endswith(".lock")}
    assert after == {name: data for name, data in before.items() if not name.endswith(".lock")}


def test_two_demos_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    """The second is told to wait."""
    with claim_folder(tmp_path / "d"), pytest.raises(UsageError, match="another demo running"):
        record_demo(tmp_path / "d", events=200, now=NOW)


def test_a_demo_at_midnight_shows_the_day_before(tmp_path: Path) -> None:
    """A report of a minute would show nothing."""
    demo = record_demo(tmp_path / "d", events=500, now=NOW.replace(hour=0, minute=1))
    assert demo.day == date(2026, 11, 23)


def test_the_command_shows_what_to_try_next_and_it_works(tmp_path: Path, isolated_user: Path) -> None:
    """Output fits 80 columns; the commands it names run; nothing is left in the user's folders."""
    shown = run_cli("demo", "--events", "1500", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["demo-audit"]
    assert list(isolated_user.rglob("*.key")) == []
    head, _, tail = shown.out.partition("Next, try\n")
    assert find_unprintable(shown.out + shown.err) == []
    assert find_wide_lines(head + shown.err) == []
    assert "record is sound" in shown.err
    report = re.search(r"report +(\S+\.html)", head)
    assert report is not None
    assert (tmp_path / report[1]).is_file()
    lines = [line.strip() for line in tail.strip().split("\n")]
    assert lines[0] == "cd demo-audit"
    assert len(lines) == 4
    for line in lines[1:]:
        arguments = re.sub(r"^.*auditkit", "", line).split()
        finished = run_cli(*arguments, cwd=tmp_path / "demo-audit")
        assert (finished.code, finished.out != "") == (0, True), finished.err
