"""What a report says, before it is HTML."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from auditkit.report.model import Page, Section
from auditkit.report.reading import find_span, read_day
from auditkit.report.sections import compose_page
from tests.frames import DAY, FrameTrail, make_day, make_finding, make_frame, make_hostile, make_verification

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


def compose(frame: pd.DataFrame, verification: Any = None, tz: str = "UTC", now: datetime = NOW, **more: str) -> Page:
    day = read_day(FrameTrail(frame), find_span(DAY, tz, now))
    problem = more.pop("problem", "")
    return compose_page(day, verification, problem, store=more.get("store", "audit"), store_id="5f0c", now=now)


def find(page: Page, key: str) -> Section:
    return next(section for section in page.sections if section.key == key)


def test_a_full_day_has_its_parts_in_order() -> None:
    """From what happened over what went wrong to what was checked."""
    page = compose(make_day(800), make_verification())
    keys = [section.key for section in page.sections]
    assert keys == ["timeline", "types", "errors", "latency", "workflows", "recent", "integrity"]
    assert page.title == "Monday, 23 November 2026"
    assert page.subtitle == "00:00 to 24:00 · UTC · 800 events"


def test_empty_parts_vanish() -> None:
    """A day without failures, durations and workflows has no empty headings."""
    page = compose(make_frame([{"time": datetime(2026, 11, 23, 9, tzinfo=UTC)}]), make_verification(partitions=()))
    assert [section.key for section in page.sections] == ["timeline", "types", "recent"]


def test_a_day_without_events_says_so() -> None:
    """One sentence instead of charts, no percentile, and no comparison with nothing."""
    page = compose(make_frame([]), make_verification(partitions=(), checked_events=0))
    assert [section.key for section in page.sections] == ["timeline"]
    assert find(page, "timeline").intro == "No events were recorded on this day."
    assert [figure.value for figure in page.figures] == ["0", "–", "0", "0"]
    assert page.compared == ""
    assert page.verdict.headline == "No findings"


def test_a_sound_record_is_said_to_be_and_what_cant_be_proved_too() -> None:
    """Good news carries its limits."""
    note = make_finding(kind="unanchored", severity="note", file="ledger", expected="an anchor", found="none", events=7)
    verdict = compose(make_day(50), make_verification(notes=(note,), journal_events=12)).verdict
    assert (verdict.tone, verdict.sign) == ("good", "✓")
    assert verdict.headline == "The record of this day is intact"
    assert "4,000 events in 2 segments, 12 not sealed yet, and 3 commits of the ledger" in verdict.sentence
    assert verdict.notes[0].startswith("unanchored (ledger), 7 events: expected an anchor, found none")
    assert verdict.checkpoint.startswith("auditkit/5f0c\n4003\n")
    assert ("Key", "k1:5b1e") in [(fact.label, fact.value) for fact in verdict.facts]


def test_what_may_be_gone_is_the_headline() -> None:
    """A warning changes no verdict, and no page calls the record intact with one."""
    warning = make_finding(kind="rolled_back", severity="warning", file="journal", found="2 keys drawn for nothing")
    verdict = compose(make_day(50), make_verification(notes=(warning,))).verdict
    assert (verdict.tone, verdict.sign) == ("warn", "?")
    assert verdict.headline == "Nothing that is here was changed, but some of it may be gone"
    assert verdict.sentence.startswith("2 keys drawn for nothing. ")


def test_a_fast_check_doesnt_claim_a_deep_one() -> None:
    """Files and ledger only: the sentence says what wasn't checked."""
    verdict = compose(make_day(50), make_verification(deep=False)).verdict
    assert "the signature of each event was not checked" in verdict.sentence


def test_findings_come_first_with_place_time_and_advice() -> None:
    """A changed record is the headline, and every finding says where, what and what to do."""
    gap = make_finding(kind="missing", first_seq=5, last_seq=9, file="")
    verdict = compose(make_day(50), make_verification(make_finding(), gap), tz="Europe/Berlin").verdict
    assert verdict.tone == "bad"
    assert verdict.headline == "2 findings: the record isn't as it was written"
    assert verdict.findings is not None
    first, second = ([cell.text for cell in row] for row in verdict.findings.rows)
    assert first[0] == "tampered"
    assert first[1].endswith("0123456789abcdef.parquet · writer 20261123-generated · seq 118")
    assert first[2] == "2026-11-23 10:12:05"
    assert second[1] == "writer 20261123-generated · seq 5 to 9"


def test_a_hundred_findings_are_capped_and_counted() -> None:
    """The page stays readable, and nothing is hidden."""
    verdict = compose(make_day(50), make_verification(*[make_finding()] * 100)).verdict
    assert verdict.findings is not None
    assert len(verdict.findings.rows) == 50
    assert verdict.findings.note == "showing 50 of 100 findings"


def test_what_couldnt_be_checked_accuses_nobody() -> None:
    """Incomplete is neither good nor bad."""
    missing = make_finding(kind="unverifiable", severity="incomplete")
    verdict = compose(make_day(50), make_verification(missing)).verdict
    assert verdict.tone == "warn"
    assert verdict.headline == "The check is incomplete"
    assert verdict.findings is not None
    assert verdict.findings.rows[0][0].tone == "warn"


def test_without_a_key_nothing_is_proved() -> None:
    """The page says so at its top."""
    verdict = compose(make_day(50), None, problem="no key was found").verdict
    assert verdict.tone == "warn"
    assert verdict.sentence.endswith("no key was found")


def test_figures_carry_their_change_against_the_day_before() -> None:
    """More events are neither good nor bad, a slower p95 is bad, a lower error rate is good."""
    before = make_day(1000, DAY - timedelta(days=1), seed=3)
    before.loc[:99, "outcome"] = "failure"
    page = compose(pd.concat([before, make_day(2000, slower=4)], ignore_index=True), make_verification())
    figures = {figure.label.split(" ·")[0]: figure for figure in page.figures}
    assert (figures["Events"].change, figures["Events"].tone) == ("▲ 100 %", "plain")
    assert figures["Error rate"].tone == "good"
    assert figures["Error rate"].change.startswith("▼")
    assert figures["p95"].tone == "bad"
    assert figures["Actors"].change == "unchanged"
    assert page.compared == "Changes are against the day before."


def test_a_first_day_and_a_tenfold_day_read_as_words() -> None:
    """No division by zero, and no five-digit percentage."""
    assert compose(make_day(50), None).figures[0].change == "none before"
    few = make_day(20, DAY - timedelta(days=1))
    page = compose(pd.concat([few, make_day(1000)], ignore_index=True), None)
    assert page.figures[0].change == "▲ 50 times"


def test_a_day_that_isnt_over_says_so() -> None:
    """In the subtitle and under the figures."""
    page = compose(make_day(500), None, now=datetime(2026, 11, 23, 14, 5, tzinfo=UTC))
    assert page.subtitle.startswith("00:00 to 14:05, the day isn't over · UTC")
    assert page.compared == "Changes are against the day before until 14:05, as this day isn't over."


def test_times_are_those_of_the_zone_and_it_is_named() -> None:
    """An event at 23:30 UTC on the day before is one of 00:30 in Berlin."""
    frame = make_frame([{"time": datetime(2026, 11, 22, 23, 30, tzinfo=UTC), "type": "late"}])
    page = compose(frame, None, tz="Europe/Berlin")
    table = find(page, "recent").table
    assert table is not None
    assert table.rows[0][0].text == "00:30:00.000"
    assert "Europe/Berlin (UTC+01:00)" in page.subtitle


def test_long_lists_are_capped_and_say_so() -> None:
    """Twenty groups, two hundred events, and how many there are."""
    begin = datetime(2026, 11, 23, 9, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "time": begin + timedelta(seconds=number),
            "type": f"type-{number % 30}",
            "workflow": f"flow-{number % 30}",
            "operation": f"operation-{number % 30}",
            "duration_us": number,
            "outcome": "failure",
            "error_type": f"E{number % 30}",
            "traceback": f"traceback {number}",
        }
        for number in range(300)
    ]
    page = compose(make_frame(rows), make_verification())
    notes = {section.key: section.table.note for section in page.sections if section.table}
    assert notes["types"] == "showing 20 of 30 types"
    assert notes["errors"] == "showing 20 of 30 groups"
    assert notes["workflows"] == "showing 20 of 30 workflows"
    assert notes["latency"].startswith("showing 20 of 30 operations")
    assert notes["recent"] == "showing 200 of 300 events"
    assert notes["integrity"] == "1 other partition of the store not checked, outside this day."
    assert len(find(page, "errors").folds) == 20


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    """The end says most, the beginning says where it came from."""
    long = "Traceback (most recent call last):\n" + "  frame\n" * 100_000 + "ValueError: the end"
    frame = make_frame([{"outcome": "failure", "error_type": "ValueError", "traceback": long}])
    (fold,) = find(compose(frame, None), "errors").folds
    assert fold.title == "ValueError · event 20261123-test:0"
    assert fold.text.startswith("Traceback")
    assert fold.text.endswith("ValueError: the end")
    assert "characters left out" in fold.text
    assert len(fold.text) < 7000


def test_equal_tracebacks_are_folded_once() -> None:
    """Two groups with the same stack don't fill the page twice."""
    rows = [{"outcome": "failure", "error_type": "E", "workflow": name, "traceback": "same"} for name in ("a", "b")]
    assert len(find(compose(make_frame(rows), None), "errors").folds) == 1


def test_a_page_says_how_to_make_it_again() -> None:
    """Also from a folder with a quote in its name, and for a zone of its own."""
    page = compose(make_frame([]), None, tz="Europe/Berlin", store='it\'s "mine"')
    assert page.python == 'auditkit.report.daily("2026-11-23", store="it\'s \\"mine\\"", tz="Europe/Berlin")'
    assert page.cli == "auditkit report daily --day 2026-11-23 --store 'it'\"'\"'s \"mine\"' --tz Europe/Berlin"


def test_hostile_events_leave_only_printable_text_in_the_model() -> None:
    """No control character, no override, no megabyte reaches a template."""
    page = compose(make_hostile(), make_verification(make_finding(found="\x1b[31m", file="\u202e" * 5000)))
    texts = [repr(page.verdict)] + [
        cell.text for section in page.sections if section.table for row in section.table.rows for cell in row
    ]
    for text in texts:
        assert text.isprintable() or "\u200d" in text
    assert max(map(len, texts[1:])) < 600
    assert sum(len(chart.figure) for section in page.sections for chart in section.charts) < 60_000
