"""AuditTrail: what its users ask a store, and what they are shown, told and warned of."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auditkit
from auditkit import AuditLogger, AuditTrail, times
from auditkit.analysis import activity
from auditkit.errors import KeyMismatch, KeyMissing, StoreMissing, UsageError
from auditkit.scan import COLUMNS
from auditkit.view import View

ROOT = Path(auditkit.__file__).parents[1]

SECRET = "a secret that only these tests know"

DAYS = (date(2026, 11, 22), date(2026, 11, 23), date(2026, 11, 24))

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[31mred\x07",
    "evil\u202egnp.exe",
    "&lt;b&gt; &amp;",
    "x" * 79 + "<&" + "y" * 100,
    "=cmd|' /C calc'!A0",
)


@dataclass
class Recorded:
    """A store and, independently of it, what was recorded into it."""

    path: Path
    frame: pd.DataFrame

    def open(self) -> AuditTrail:
        return auditkit.open(self.path, secret_key=SECRET)


def make_event(chance: random.Random) -> dict[str, Any]:
    """Draw what one call records: an operation, an error, a mail, or something hostile."""
    kind = chance.choice(["email.sent", "lead.ingested", "operation", "operation", "operation", "error", *HOSTILE[:1]])
    day = chance.choice(DAYS)
    event: dict[str, Any] = {
        "type": kind,
        "actor": chance.choice(["ana", "bo", "", None, HOSTILE[1]]),
        "lead_id": chance.choice([None, *(f"L-{number}" for number in range(12))]),
        "workflow": chance.choice(["intake", "renewal", None]),
        "details": {"n": chance.randrange(1000), "text": chance.choice(HOSTILE)} if chance.random() < 0.7 else None,
        "time": datetime(day.year, day.month, day.day, tzinfo=UTC)
        + timedelta(microseconds=chance.randrange(86_400_000_000)),
    }
    if kind == "operation":
        event["operation"] = chance.choice(["score", "crm.sync", "mail.send", None])
        event["duration"] = chance.choice([0.0, 1e-6, round(chance.lognormvariate(-2, 1), 6)])
        event["outcome"] = chance.choice(["success", "success", "success", "failure"])
    if kind == "error" or event.get("outcome") == "failure":
        event["outcome"] = "failure"
        event["error_type"] = chance.choice(["TimeoutError", "KeyError", HOSTILE[0]])
        event["message"] = chance.choice(HOSTILE)
        event["traceback"] = chance.choice([None, "Traceback (most recent call last):\n  …"])
    return event


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Three UTC days by three writers: two commits, and journals that two of them still hold. Nobody changes it."""
    path = tmp_path_factory.mktemp("trail") / "audit"
    chance, rows = random.Random(20261123), []
    loggers = [AuditLogger(path, secret_key=SECRET, enable_rotation=False) for _ in range(3)]
    trail = auditkit.open(path, secret_key=SECRET)
    for turn, count in enumerate((150, 150, 120)):
        for _ in range(count):
            event = make_event(chance)
            rows.append(event | {"id": chance.choice(loggers[min(turn, 1) :]).log_event(**event)})
        if turn == 0:
            loggers[0].close()
        if turn < 2:
            assert trail.seal().events
    for audit in loggers:
        audit.close()
    return Recorded(path, make_frame(rows))


def make_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Say what `AuditTrail.events` must give for what was recorded."""
    frame = pd.DataFrame(rows).drop(columns=["duration", "details"])
    durations = [row.get("duration") for row in rows]
    frame["duration_us"] = pd.array([None if d is None else round(d * 1e6) for d in durations], dtype="Int64")
    details = [row["details"] for row in rows]
    frame["details"] = [
        None if d is None else json.dumps(d, ensure_ascii=False, separators=(",", ":")) for d in details
    ]
    frame["writer"] = [row["id"].partition(":")[0] for row in rows]
    frame["seq"] = [int(row["id"].partition(":")[2]) for row in rows]
    frame["time"] = pd.Series([np.datetime64(row["time"].replace(tzinfo=None), "us") for row in rows]).dt.tz_localize(
        "UTC"
    )
    texts = [column for column in COLUMNS if column not in ("time", "duration_us", "seq")]
    frame = frame[[*COLUMNS]].astype(dict.fromkeys(texts, "str"))
    return frame.sort_values(["time", "writer", "seq"], ignore_index=True)


@pytest.fixture
def trail(recorded: Recorded) -> AuditTrail:
    return recorded.open()


@pytest.fixture
def frame(recorded: Recorded) -> pd.DataFrame:
    return recorded.frame


@pytest.fixture
def recent(tmp_path: Path) -> Iterator[AuditTrail]:
    """A store whose five events lie 1 hour, 30 hours, 6 days, 10 days and 20 days before now."""
    with AuditLogger(tmp_path / "recent", secret_key=SECRET, enable_rotation=False) as audit:
        now = datetime.now(UTC)
        for hours in (1, 30, 144, 240, 480):
            audit.log_event("tick", {"hours": hours}, time=now - timedelta(hours=hours))
        yield auditkit.open(tmp_path / "recent", secret_key=SECRET)


def check(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_exact=True)


# -- events -----------------------------------------------------------------------------------------------------------


def test_everything_recorded_is_given_back(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """Ids, times, texts, durations and details are those of the calls, whichever file they lie in by now."""
    check(trail.events(), frame)
    assert len(list((trail.path / "events").rglob("*.parquet"))) >= 6
    assert list((trail.path / "journal").glob("*.jsonl"))
    assert trail.days() == [*DAYS]


@pytest.mark.parametrize(
    "column, one, several",
    [
        ("type", "operation", ["error", "email.sent"]),
        ("type", HOSTILE[0], [HOSTILE[0], "operation"]),
        ("actor", "", ["ana", HOSTILE[1]]),
        ("lead_id", "L-3", ("L-3", "L-11", "L-999")),
        ("workflow", "intake", ["intake", "renewal"]),
        ("outcome", "failure", ["success", "failure"]),
        ("operation", "crm.sync", ["score", "mail.send"]),
    ],
)
def test_a_filter_takes_one_value_or_several(
    trail: AuditTrail, frame: pd.DataFrame, column: str, one: str, several: list[str]
) -> None:
    """Each filter keeps what equals one of its values; an event without the value is never meant."""
    for wanted, values in ((one, [one]), (several, several), ([], []), ("never seen", []), (["never seen"], [])):
        expected = frame[frame[column].isin(values)]
        assert len(expected) > 0 or not values
        filters: dict[str, Any] = {column: wanted}
        check(trail.events(**filters), expected)
        assert trail.count(**filters) == len(expected)
        pieces = list(trail.stream(**filters, batch_rows=50))
        assert [event for piece in pieces for event in piece["id"]] == [*expected["id"]]


def test_filters_are_taken_together(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """An event must match all of them."""
    keep = frame["type"].eq("operation") & frame["outcome"].eq("failure") & frame["actor"].isin(["ana", "bo"])
    keep &= (frame["time"] >= pd.Timestamp("2026-11-23", tz="UTC")) & (frame["workflow"] == "intake")
    found = trail.events("operation", ["ana", "bo"], workflow="intake", outcome="failure", since="2026-11-23")
    assert len(found)
    check(found, frame[keep])


def test_a_lead_is_everything_that_happened_to_it(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """Over all days, in order; a lead nobody knows has an empty history with the same columns."""
    check(trail.lead("L-5"), frame[frame["lead_id"] == "L-5"])
    check(trail.lead("nobody"), frame[:0])


def test_columns_come_in_the_order_they_are_asked_for(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """Rows stay in the order of time, also when the time isn't among the columns."""
    for columns in (["seq", "type", "id"], ("details", "time"), ["duration_us"], [*reversed(COLUMNS)]):
        check(trail.events(columns=columns), frame[[*columns]])
    check(trail.events(columns="actor"), frame[["actor"]])


@pytest.mark.parametrize("columns", [["id", "colour"], ["mac"], ["epoch"], [], ["time", "time"], ["time; --"], [3]])
def test_columns_that_cant_be_meant_are_refused(trail: AuditTrail, columns: list[str]) -> None:
    """The message lists what there is, before anything is read."""
    for read in (trail.events, trail.stream):
        with pytest.raises(UsageError, match=r"expected (columns out of id, time, type|each column once)"):
            read(columns=columns)


def test_a_limit_keeps_the_earliest_or_the_newest(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """In both cases in the order of time, and after the filters."""
    for limit in (0, 1, 7, len(frame), 10**9):
        check(trail.events(limit=limit), frame[:limit])
        check(trail.events(limit=limit, newest=True), frame[max(0, len(frame) - limit) :])
    failed = frame[frame["outcome"] == "failure"]
    check(trail.events(outcome="failure", limit=3, newest=True, columns=["id"]), failed[["id"]][-3:])
    check(trail.events(limit=np.int64(2)), frame[:2])  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [-1, 2.5, "3", True, float("nan")])
def test_a_limit_is_a_whole_number_and_not_negative(trail: AuditTrail, limit: Any) -> None:
    """A negative one means something else in pandas and nothing here; so `errors` refuses it too."""
    for read in (trail.events, trail.errors):
        with pytest.raises(UsageError, match="expected a limit of 0 or more"):
            read(limit=limit)


@pytest.mark.parametrize("rows", [0, -1, 1.5, "many"])
def test_pieces_have_at_least_a_row(trail: AuditTrail, rows: Any) -> None:
    """A stream refuses what can't be meant when it's called, not when the first piece is taken."""
    with pytest.raises(UsageError, match="expected batch_rows of 1 or more"):
        trail.stream(batch_rows=rows)
    with pytest.raises(UsageError, match="expected a value or a list of values as actor"):
        trail.stream(actor=[None])  # type: ignore[list-item]


def test_the_toolkits_own_events_are_given_only_when_asked_for(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """With include_internal, or by their type; and they count as nothing in statistics."""
    everything = trail.events(include_internal=True)
    own = everything[everything["type"].str.startswith("auditkit.")]
    assert len(everything) == len(frame) + len(own) == trail.count(include_internal=True)
    assert {*own["type"]} == {"auditkit.opened", "auditkit.closed"}
    check(trail.events(type="auditkit.opened"), own[own["type"] == "auditkit.opened"])
    both = everything["type"].isin(["auditkit.closed", "error"])
    check(trail.events(type=["error", "auditkit.closed"]), everything[both])
    assert trail.count() == len(frame)
    assert not trail.statistics().frame["type"].str.startswith("auditkit.").any()


# -- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "since, until, tz, begin, end",
    [
        ("2026-11-23", None, "UTC", "2026-11-23T00:00", None),
        (None, "2026-11-23", "UTC", None, "2026-11-24T00:00"),
        ("2026-11-23", "2026-11-23", "UTC", "2026-11-23T00:00", "2026-11-24T00:00"),
        (date(2026, 11, 23), date(2026, 11, 23), "UTC", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("2026-11-23", "2026-11-23", "Asia/Tokyo", "2026-11-22T15:00", "2026-11-23T15:00"),
        (date(2026, 11, 23), "2026-11-23", ZoneInfo("America/New_York"), "2026-11-23T05:00", "2026-11-24T05:00"),
        ("2026-11-23T10:30:00Z", "2026-11-24T01:00:00+02:00", "UTC", "2026-11-23T10:30", "2026-11-23T23:00"),
        ("2026-11-23T10:30", None, "Europe/Berlin", "2026-11-23T09:30", None),
        (datetime(2026, 11, 23, 6, tzinfo=UTC), datetime(2026, 11, 23, 18, tzinfo=UTC), "UTC",
         "2026-11-23T06:00", "2026-11-23T18:00"),
        (datetime(2026, 11, 23, 6, tzinfo=timezone(timedelta(hours=-5))), None, "Asia/Tokyo", "2026-11-23T11:00", None),
        (pd.Timestamp("2026-11-23 06:00", tz="Europe/Berlin"), None, "UTC", "2026-11-23T05:00", None),
        ("2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z", "UTC", "2026-11-24T00:00", "2026-11-24T00:00"),
    ],
)  # fmt: skip
def test_a_range_is_half_open_and_its_days_are_those_of_the_zone(
    trail: AuditTrail, frame: pd.DataFrame, since: Any, until: Any, tz: Any, begin: str | None, end: str | None
) -> None:
    """Datetimes, dates and text mean what they say; a date as ``until`` is that whole day."""
    keep = pd.Series(data=True, index=frame.index)
    if begin:
        keep &= frame["time"] >= pd.Timestamp(begin, tz="UTC")
    if end:
        keep &= frame["time"] < pd.Timestamp(end, tz="UTC")
    check(trail.events(since=since, until=until, tz=tz), frame[keep])
    assert trail.count(since=since, until=until, tz=tz) == keep.sum()
    assert sum(map(len, trail.stream(since=since, until=until, tz=tz))) == keep.sum()


def test_the_ends_of_a_range_are_exact_to_the_microsecond(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """The event at ``since`` is in, the event at ``until`` is out."""
    first, last = (frame["time"][row].to_pydatetime() for row in (10, 20))
    check(trail.events(since=first, until=last), frame[10:20])
    later = first + timedelta(microseconds=1)
    check(trail.events(since=later, until=last + timedelta(microseconds=1)), frame[11:21])


@pytest.mark.parametrize(
    "since, count", [("90m", 1), ("24h", 1), ("2d", 2), ("7d", 3), ("1w", 3), ("2w", 4), ("1d12h", 2), ("21d", 5)]
)
def test_a_time_before_now_is_one(recent: AuditTrail, since: str, count: int) -> None:
    """``7d`` is 168 hours before the call, for every way of reading alike."""
    assert len(recent.events(since=since)) == count
    assert recent.count(since=since) == count
    assert int(recent.statistics(since=since).frame["n"].sum()) == count
    assert recent.count(until=since) == 5 - count


def test_events_say_the_range_that_they_are_of(recent: AuditTrail, trail: AuditTrail) -> None:
    """A relative time is a moment by then, and a day has its end in its zone."""
    assert trail.events(limit=1).attrs == {"range": "all time"}
    day = trail.events(since="2026-11-23", until="2026-11-23", tz="Europe/Berlin", limit=0)
    assert day.attrs["range"] == "from 2026-11-22 23:00 UTC to before 2026-11-23 23:00 UTC"
    before = datetime.now(UTC) - timedelta(hours=24)
    said = recent.events(since="24h").attrs["range"]
    moment = datetime.fromisoformat(said.removeprefix("from ").removesuffix(" UTC on")).replace(tzinfo=UTC)
    assert before <= moment <= datetime.now(UTC) - timedelta(hours=24)


def test_the_range_that_was_understood_is_shown(recent: AuditTrail, trail: AuditTrail) -> None:
    """The note names the very moments between which events were counted."""
    before = datetime.now(UTC)
    view = recent.statistics(since="24h")
    after = datetime.now(UTC)
    shown = view.note.removeprefix("from ").removesuffix(" UTC on")
    resolved = datetime.fromisoformat(shown).replace(tzinfo=UTC)
    assert before - timedelta(hours=24) <= resolved <= after - timedelta(hours=24)
    for ask in (trail.statistics, trail.errors, trail.performance):
        day = ask(since="2026-11-23", until="2026-11-23")
        assert day.note == "from 2026-11-23 00:00 UTC to before 2026-11-24 00:00 UTC"
        assert day.note in repr(day)
        assert day.note in day._repr_html_()
        assert ask().note == ""


@pytest.mark.parametrize(
    "since, until, message",
    [
        (datetime(2026, 11, 23), None, "expected a datetime with a time zone"),  # noqa: DTZ001
        (None, datetime(2026, 11, 23), "expected a datetime with a time zone"),  # noqa: DTZ001
        ("last tuesday", None, "expected a moment, found 'last tuesday'. Accepted: now, today"),
        ("2026-11-31", None, "expected a day of the calendar"),
        (20261123, None, "expected a moment"),
        ("2026-11-24", "2026-11-22", "expected since before until"),
    ],
)
def test_a_range_that_cant_be_meant_is_refused_everywhere(
    trail: AuditTrail, since: Any, until: Any, message: str
) -> None:
    """A naive datetime could be any of 24 moments; nothing is guessed."""
    reads: list[Callable[..., object]] = [
        trail.events, trail.stream, trail.count, trail.statistics, trail.errors, trail.performance, trail.verify,
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(UsageError, match=message):
            read(since=since, until=until)


def test_a_zone_that_isnt_one_is_refused(trail: AuditTrail) -> None:
    """Also when no day needs it."""
    with pytest.raises(UsageError, match="expected a time zone such as UTC or Europe/Berlin"):
        trail.events(since="2026-11-23", tz="Mars/Olympus")


# -- results ----------------------------------------------------------------------------------------------------------


def test_statistics_are_those_that_pandas_counts(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """A row a type, the most frequent first, with failures, leads, actors, and the first and last time."""
    for filters, part in (
        ({}, frame),
        ({"workflow": "intake"}, frame[frame["workflow"] == "intake"]),
        ({"workflow": ["intake", "renewal"]}, frame[frame["workflow"].notna()]),
        ({"since": "2026-11-24"}, frame[frame["time"] >= pd.Timestamp("2026-11-24", tz="UTC")]),
    ):
        groups = part.groupby("type")
        expected = pd.DataFrame(
            {
                "n": groups.size(),
                "failures": groups["outcome"].agg(lambda values: int((values == "failure").sum())),
                "leads": groups["lead_id"].nunique(),
                "actors": groups["actor"].nunique(),
                "first": groups["time"].min(),
                "last": groups["time"].max(),
            }
        ).reset_index()
        expected = expected.sort_values(["n", "type"], ascending=[False, True], ignore_index=True)
        found = trail.statistics(**filters).frame
        pd.testing.assert_frame_equal(found, expected)


def test_errors_are_the_failures_that_pandas_counts(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """A row a group, a missing operation or workflow is a group too; the sample is one of the group's events."""
    failed = frame[frame["outcome"] == "failure"]
    by = ["error_type", "operation", "workflow"]
    groups = failed.groupby(by, dropna=False)
    expected = pd.DataFrame(
        {
            "n": groups.size(),
            "leads": groups["lead_id"].nunique(),
            "actors": groups["actor"].nunique(),
            "first": groups["time"].min(),
            "last": groups["time"].max(),
        }
    ).reset_index()
    expected = expected.sort_values(["n", *by], ascending=[False, True, True, True], ignore_index=True)
    view = trail.errors()
    pd.testing.assert_frame_equal(view.frame[[*expected]], expected)
    assert view.frame["n"].sum() == len(failed)
    sampled = failed.set_index("id").loc[view.frame["id"], [*by, "message", "traceback"]].reset_index()
    pd.testing.assert_frame_equal(view.frame[["id", *by, "message", "traceback"]], sampled)
    check(trail.errors(limit=2).frame, view.frame[:2])
    check(trail.errors(limit=0).frame, view.frame[:0])


def test_percentiles_are_those_of_numpy_in_seconds(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """Exact ones over all that was measured, with linear interpolation, in whichever file it lies."""
    for filters, part in (
        ({}, frame),
        ({"operation": "score"}, frame[frame["operation"] == "score"]),
        ({"operation": ["score", "crm.sync"]}, frame[frame["operation"].isin(["score", "crm.sync"])]),
        ({"until": "2026-11-22"}, frame[frame["time"] < pd.Timestamp("2026-11-23", tz="UTC")]),
    ):
        found = trail.performance(**filters).frame
        measured = part[part["duration_us"].notna()]
        assert found["n"].sum() == len(measured) > 0
        for row in found.to_dict("records"):
            mine = (
                measured["operation"].isna()
                if pd.isna(row["operation"])
                else measured["operation"].eq(row["operation"])
            )
            seconds = measured.loc[mine, "duration_us"].to_numpy(dtype="int64") / 1e6
            assert row["n"] == len(seconds)
            assert row["failures"] == (measured.loc[mine, "outcome"] == "failure").sum()
            expected = [seconds.min(), seconds.mean(), *np.percentile(seconds, [50, 90, 95, 99]), seconds.max()]
            names = ("min_s", "mean_s", "p50_s", "p90_s", "p95_s", "p99_s", "max_s")
            np.testing.assert_allclose([row[name] for name in names], expected, rtol=1e-12)


VIEWS: list[tuple[str, dict[str, Any]]] = [
    ("statistics", {}),
    ("statistics", {"workflow": ["intake", "renewal"], "since": date(2026, 11, 23)}),
    ("statistics", {"workflow": 'it\'s "quoted" $HOME', "until": "2026-11-23"}),
    ("errors", {"limit": 3}),
    ("errors", {"since": datetime(2026, 11, 23, 6, 0, 0, 5, tzinfo=ZoneInfo("Europe/Berlin")), "limit": np.int64(2)}),
    ("performance", {"operation": "score"}),
    ("performance", {"operation": ("score", "crm.sync"), "since": "2026-11-22", "until": date(2026, 11, 23)}),
]


@pytest.mark.parametrize("method, arguments", VIEWS)
def test_a_view_draws_prints_and_says_how_it_was_made(
    trail: AuditTrail, method: str, arguments: dict[str, Any]
) -> None:
    """Its Python line, run as it stands, gives the same frame; its shell line names the same store and filters."""
    view: View = getattr(trail, method)(**arguments)
    python, shell = view.code().splitlines()
    again = eval(python, {"auditkit": auditkit})
    pd.testing.assert_frame_equal(again.frame, view.frame)
    words = shlex.split(shell.removeprefix("$ "))
    assert words[:4] == ["auditkit", {"statistics": "stats"}.get(method, method), "--store", str(trail.path)]
    given = [*zip(words[4::2], words[5::2], strict=True)]
    for name, value in arguments.items():
        values = value if isinstance(value, list | tuple) else [value]
        said = [word for option, word in given if option == f"--{name}"]
        assert len(said) == len(values)
        if name in ("since", "until"):
            assert times.parse_range(said[0], None) == times.parse_range(value, None)
        else:
            assert said == [str(each) for each in values]
    assert view.figure().layout.title.text
    page = view.to_html()
    assert page.count("<table") == 1
    assert list_tags(page).isdisjoint({"img", "iframe", "link"})
    for tag in ("script", "img"):
        assert f"<{tag}>alert" not in page
        assert tag not in list_tags(view._repr_html_())
    assert view.title in repr(view)


def test_the_shells_line_gives_what_the_view_shows(
    trail: AuditTrail, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague without Python repeats it."""
    from auditkit.cli import main

    view = trail.statistics(workflow=["intake"], since=date(2026, 11, 23))
    words = shlex.split(view.cli)
    monkeypatch.setattr("sys.argv", [*words, "--format", "json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    told = json.loads(capsys.readouterr().out)
    assert {row["type"]: row["n"] for row in told["types"]} == dict(
        zip(view.frame["type"], view.frame["n"], strict=True)
    )


class TagReader(HTMLParser):
    """Collects the names of tags, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def list_tags(page: str) -> set[str]:
    reader = TagReader()
    reader.feed(page)
    return reader.tags


def test_results_of_a_store_without_events_are_empty_and_show_themselves(tmp_path: Path) -> None:
    """A new installation looks at its store before anything has happened."""
    AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False).close()
    trail = auditkit.open(tmp_path / "audit", secret_key=SECRET)
    for view, full in (
        (trail.statistics(), ["type", "n", "failures", "leads", "actors", "first", "last"]),
        (trail.errors(), ["error_type", "operation", "workflow", "n"]),
        (trail.performance(), ["operation", "n", "failures"]),
    ):
        assert len(view.frame) == 0
        assert [*view.frame][: len(full)] == full
        assert view.figure() is not None
        assert "(no rows)" in repr(view)
        assert "(no rows)" in view.to_html()
    assert trail.count() == 0
    assert trail.events().empty
    assert list(trail.stream()) == []
    assert trail.verify().ok
    assert trail.seal().segments == () or trail.count() == 0
    statistics = trail.count_statistics()
    assert statistics["total_events"] == statistics["error_rate"] == 0
    assert statistics["first_event"] is None
    assert "0 events" in trail._repr_html_()


# -- the reading calls of the logger ----------------------------------------------------------------------------------


def test_the_loggers_reading_calls_answer_as_the_trail_does(
    recorded: Recorded, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """An application asks the logger it has, and gets the events of every process, its own latest included."""
    path = tmp_path / "audit"
    shutil.copytree(recorded.path, path)
    with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        check(audit.query_events(), frame)
        day = frame[(frame["time"].dt.date == DAYS[1]) & frame["type"].isin(["error", "operation"])]
        mine = day[day["workflow"].eq("intake") & day["lead_id"].isin(["L-1", "L-2", "L-3"])]
        found = audit.query_events(
            type=["error", "operation"],
            lead_id=["L-1", "L-2", "L-3"],
            workflow="intake",
            start_time="2026-11-23",
            end_time=datetime(2026, 11, 24, tzinfo=UTC),
            limit=2,
        )
        assert len(mine) > 0
        check(found, mine[:2])
        check(audit.get_lead_history("L-5"), frame[frame["lead_id"] == "L-5"])
        with pytest.raises(UsageError, match="expected a datetime with a time zone"):
            audit.query_events(start_time=datetime(2026, 11, 23))  # noqa: DTZ001
        latest = audit.log_event("just.now", lead_id="L-5")
        assert [*audit.get_lead_history("L-5")["id"]][-1] == latest


def test_get_statistics_counts_what_pandas_counts(recorded: Recorded, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Of the whole store or of one workflow, as plain Python values that JSON takes but for the two times."""
    path = tmp_path / "audit"
    shutil.copytree(recorded.path, path)
    with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        for workflow in (None, "intake", "unknown"):
            part = frame if workflow is None else frame[frame["workflow"] == workflow]
            found = audit.get_statistics(workflow)
            failed = int((part["outcome"] == "failure").sum())
            assert found == {
                "total_events": len(part),
                "events_by_type": part["type"].value_counts().to_dict(),
                "events_by_workflow": part["workflow"].value_counts().to_dict(),
                "unique_leads": part["lead_id"].nunique(),
                "unique_actors": part["actor"].nunique(),
                "errors": failed,
                "error_rate": failed / len(part) if len(part) else 0.0,
                "first_event": part["time"].min().to_pydatetime() if len(part) else None,
                "last_event": part["time"].max().to_pydatetime() if len(part) else None,
            }
            times_of = ("first_event", "last_event")
            json.dumps({key: value for key, value in found.items() if key not in times_of})
            assert all(type(found[key]) in (datetime, type(None)) for key in times_of)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_statistics_are_those_of_the_events_themselves(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """What the engine counts is what the analysis of all events says, column for column, sealed or not."""
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("counted") / "audit"
    trail: AuditTrail | None = None
    for _ in range(chance.randrange(1, 4)):
        with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
            for _ in range(chance.randrange(60)):
                audit.log_event(**make_event(chance))
        trail = auditkit.open(path, secret_key=SECRET)
        if chance.random() < 0.5:
            trail.seal()
    assert trail is not None
    for filters in ({}, {"workflow": "intake"}, {"since": "2026-11-23", "until": "2026-11-23"}, {"workflow": ["none"]}):
        events = trail.events(**filters)
        expected = activity.summarise(events, by=("type",), distinct=("lead_id", "actor")).to_frame()
        pd.testing.assert_frame_equal(trail.statistics(**filters).frame, expected, check_exact=True)


def test_results_read_only_the_columns_that_they_need(tmp_path: Path) -> None:
    """Sixty megabytes of details cost a count nothing."""
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as audit:
        for number in range(1000):
            text = random.Random(number).randbytes(30_000).hex()
            audit.log_event("big", {"text": text}, lead_id=f"L-{number}", operation="score", duration=0.5)
    trail = auditkit.open(tmp_path / "audit", secret_key=SECRET)
    trail.seal()
    program = f"""
import resource, auditkit, pandas, pyarrow
from auditkit.analysis import activity, failures, latency
from auditkit.charts import failures, activity, latency
from auditkit.view import View
trail = auditkit.open({str(tmp_path / "audit")!r})
trail.count()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert trail.count_statistics()["unique_leads"] == 1000
assert trail.statistics().frame["leads"][0] == 1000
assert trail.performance().frame["n"][0] == 1000
assert len(trail.errors().frame) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 40_000  # KiB; the details alone are 60 MB


# -- how a trail shows itself -----------------------------------------------------------------------------------------


def test_a_trail_shows_hostile_names_as_text(tmp_path: Path) -> None:
    """Whoever can cause an event, or name a folder, puts neither markup nor control characters into a notebook."""
    path = tmp_path / "<img src=x onerror=alert(1)>\x1b[31m\u202e"
    with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        for number, kind in enumerate(HOSTILE):
            for _ in range(number + 1):
                audit.log_event(
                    kind, actor=kind, outcome="failure", error_type=kind, message=kind, operation=kind, duration=1
                )
    trail = auditkit.open(path, secret_key=SECRET)
    page = trail._repr_html_()
    assert list_tags(page) == {"div", "b", "code", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&amp;lt;b&amp;gt; &amp;amp;" in page
    # Cut before it's escaped: half an entity would be shown as what it isn't.
    assert "x" * 79 + "&lt;…" in page
    for text in (page, repr(trail)):
        assert not {"\x1b", "\x07", "\u202e"} & {*text}
    assert repr(trail).startswith("AuditTrail('")
    for view in (trail.statistics(), trail.errors(), trail.performance()):
        shown = view._repr_html_()
        assert list_tags(shown).isdisjoint({"script", "img"})
        assert "onerror=alert(1)>" not in view.to_html()
        assert not {"\x1b", "\x07", "\u202e"} & {*repr(view)}
    pd.testing.assert_frame_equal(eval(trail.errors().python, {"auditkit": auditkit}).frame, trail.errors().frame)


def test_a_trail_shows_its_days_and_its_most_frequent_types(trail: AuditTrail, frame: pd.DataFrame) -> None:
    """One look says how much there is and of when; the path is whole."""
    page = trail._repr_html_()
    assert f"{len(frame):,} events" in page
    assert str(trail.path) in page
    assert f"<td>operation</td><td>{(frame['type'] == 'operation').sum()}</td>" in page
    days = trail.days()
    assert repr(trail) == f"AuditTrail({str(trail.path)!r}, store_id={trail.store_id!r}, {days[0]} to {days[-1]} (UTC))"


def test_types_made_of_ids_dont_flood_a_notebook(tmp_path: Path) -> None:
    """The page says how many it leaves out."""
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as audit:
        for number in range(45):
            audit.log_event(f"order.{number}")
    page = auditkit.open(tmp_path / "audit")._repr_html_()
    assert "the 20 most frequent of 45 types" in page
    assert page.count("<tr><td>") == 20


# -- opening ----------------------------------------------------------------------------------------------------------


def test_a_store_is_found_by_argument_variable_or_default(
    recorded: Recorded, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument goes before ``$AUDITKIT_STORE``, that before ``./audit``; reading needs no key."""
    monkeypatch.chdir(recorded.path.parent)
    assert auditkit.open().count() == len(frame)
    monkeypatch.setenv("AUDITKIT_STORE", str(tmp_path / "elsewhere"))
    with pytest.raises(StoreMissing, match="elsewhere"):
        auditkit.open()
    assert auditkit.open(recorded.path).count() == len(frame)
    assert auditkit.open(os.fspath(recorded.path)).path == recorded.path


def test_a_relative_store_stays_the_same_when_the_directory_changes(
    recorded: Recorded, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the trail would look at another folder, find nothing there, and say so."""
    monkeypatch.chdir(recorded.path.parent)
    trail = auditkit.open("audit")
    monkeypatch.chdir(tmp_path)
    check(trail.events(), frame)
    assert trail.path == recorded.path
    pd.testing.assert_frame_equal(eval(trail.statistics().python).frame, trail.statistics().frame)


@pytest.mark.parametrize("what", ["nothing", "an empty folder", "a file", "a folder of other things"])
def test_a_missing_store_says_what_to_do(tmp_path: Path, what: str) -> None:
    """And nothing is made where nothing was."""
    path = tmp_path / "audit"
    if what == "a file":
        path.write_text("notes")
    elif what != "nothing":
        path.mkdir()
        if what.endswith("things"):
            (path / "holiday.jpg").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreMissing, match=r"expected an audit store at .*audit, found no store\.json there: name the"):
        auditkit.open(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wrong_key_reads_but_neither_proves_nor_seals(
    recorded: Recorded, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Reading needs no key; verifying says what it can't prove; sealing would sign with the wrong one and refuses."""
    path = tmp_path / "audit"
    shutil.copytree(recorded.path, path)
    journals = {file: file.read_bytes() for file in (path / "journal").iterdir()}
    assert journals
    keys: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"secret_key": "another secret of these tests"}, KeyMismatch),
        ({"key_file": tmp_path / "no.key"}, KeyMissing),
        ({}, KeyMissing),
    ]
    for arguments, problem in keys:
        trail = auditkit.open(path, **arguments)
        check(trail.events(), frame)
        verification = trail.verify()
        assert not verification.ok
        assert verification.verdict == "incomplete"
        assert {finding.kind for finding in verification.findings} == {"unverifiable"}
        with pytest.raises(problem, match="key"):
            trail.seal()
    assert {file: file.read_bytes() for file in (path / "journal").iterdir()} == journals
    sound = auditkit.open(path, secret_key=SECRET)
    assert sound.verify().ok
    assert sound.seal().events
    check(sound.events(), frame)


def test_a_call_that_cannot_be_meant_is_refused_at_once(recorded: Recorded) -> None:
    """Not when the first event is read or proved: a path that is none, a secret that is too short, two keys."""
    for path in (b"store", "", "a\0b", 5, ["audit"]):
        with pytest.raises(UsageError, match="expected the path of a store's folder, found"):
            auditkit.open(path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected secret_key= or key_file=, found both"):
        auditkit.open(recorded.path, secret_key=SECRET, key_file="other.key")
    with pytest.raises(UsageError, match="expected a secret key of at least 16 bytes, found 5"):
        auditkit.open(recorded.path, secret_key="short")


def test_a_trail_gives_its_secret_to_nobody(recorded: Recorded) -> None:
    """A process pool, a notebook's checkpoint or a debugger gets at no secret, and is told what to do instead."""
    trail = recorded.open()
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"call auditkit\.open\(path\) where it is needed"):
            copying(trail)
    assert trail.verify().ok
    assert SECRET not in repr(vars(trail))


def test_no_secret_is_ever_shown(trail: AuditTrail) -> None:
    """Neither by the trail, nor by the code that makes a view again."""
    view = trail.statistics()
    for text in (repr(trail), trail._repr_html_(), repr(view), view.to_html(), view.code(), str(trail.verify())):
        assert SECRET not in text
