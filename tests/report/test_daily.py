"""The daily report: one file, whole, that carries everything and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import plotly.offline
import pytest

import auditkit
from auditkit import report
from auditkit.errors import StoreMissing, UsageError
from tests.frames import DAY, FrameTrail, make_day, make_frame, make_hostile, make_verification

SECRET = "a secret of sixteen bytes or more"
NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


class Document(HTMLParser):
    """Collects scripts, elements and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: dict[str, int] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: set[str] = set()
        self.handlers: set[str] = set()
        self.policy = ""
        self._script: dict[str, str | None] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        given = dict(attrs)
        self.addresses |= {value or "" for name, value in attrs if name in {"href", "src", "action", "data"}}
        self.handlers |= {name for name in given if name.startswith("on")}
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if tag == "script":
            self._script = given

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None


def read(path: Path) -> Document:
    return Document(path.read_text(encoding="utf-8"))


def test_a_report_is_one_file_in_the_reports_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named after its day, and nothing else is left in the folder."""
    monkeypatch.chdir(tmp_path)
    made = report.daily(trail=FrameTrail(make_day(300)), now=NOW)
    assert made.path == Path("reports") / "daily-2026-11-23.html"
    assert [path.name for path in Path("reports").iterdir()] == ["daily-2026-11-23.html"]
    assert (made.day, made.events, made.tz) == (DAY, 300, "UTC")
    assert made.size == made.path.stat().st_size
    assert made.verification is not None


def test_a_report_goes_where_it_is_told_and_replaces_the_one_before(tmp_path: Path) -> None:
    """A folder is made, a file is replaced as a whole, and others may read it."""
    output = tmp_path / "a" / "b" / "report.html"
    for events in (10, 20):
        report.daily("2026-11-23", output=output, trail=FrameTrail(make_day(events)), now=NOW)
    assert "20 events" in output.read_text(encoding="utf-8")
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    assert stat.S_IMODE(output.stat().st_mode) & stat.S_IRUSR


def test_a_report_that_cant_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """The error is the system's, and what was there is still there."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        report.daily(output=blocked / "report.html", trail=FrameTrail(make_day(10)), now=NOW)
    assert blocked.read_text(encoding="utf-8") == "in the way"


def test_the_page_can_run_its_two_scripts_and_load_nothing(tmp_path: Path) -> None:
    """The policy names the hash of each script that is there, and every address is a place in the page."""
    path = report.daily(output=tmp_path / "r.html", trail=FrameTrail(make_day(300)), now=NOW).path
    page = read(path)
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    sources = [*running, plotly.offline.get_plotlyjs()]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in sources]
    policy = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert len(running) == 1
    assert policy["script-src"].split() == hashes
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == "'unsafe-inline'"
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.handlers
    assert "src" not in {name for attributes, _ in page.scripts for name in attributes}


def test_every_chart_has_its_figure_and_words_for_who_doesnt_see_it(tmp_path: Path) -> None:
    """The data of each chart is JSON in the page, and each has a caption and a line without JavaScript."""
    path = report.daily(output=tmp_path / "r.html", trail=FrameTrail(make_day(900)), now=NOW).path
    page = read(path)
    data = {
        str(attributes["id"]): json.loads(text)
        for attributes, text in page.scripts
        if str(attributes.get("id")).startswith("data-")
    }
    charts = re.findall(r'id="chart-([a-z]+)" role="img" aria-label="[^"]+"', path.read_text(encoding="utf-8"))
    assert sorted(data) == sorted(f"data-{chart}" for chart in charts)
    assert len(data) == 6
    assert all(figure["data"] for figure in data.values())
    assert page.elements["figcaption"] == 6
    assert path.read_text(encoding="utf-8").count("This chart needs JavaScript.") == 6


def test_the_data_of_a_page_stays_small(tmp_path: Path) -> None:
    """What isn't plotly.js is below 300 kB, whatever the number of events."""
    path = report.daily(output=tmp_path / "r.html", trail=FrameTrail(make_day(20_000)), now=NOW).path
    library = next(text for attributes, text in read(path).scripts if attributes.get("id") == "plotly")
    assert path.stat().st_size - len(library) < 300_000


def test_a_page_without_charts_brings_no_plotly(tmp_path: Path) -> None:
    """An empty day is a small file."""
    made = report.daily(output=tmp_path / "r.html", trail=FrameTrail(make_frame([])), now=NOW)
    assert made.size < 30_000
    assert "plotly" not in {attributes.get("id") for attributes, _ in read(made.path).scripts}


def test_hostile_events_add_no_element(tmp_path: Path) -> None:
    """The page has the elements of a page about harmless events, in which no image, frame or form occurs."""
    hostile = report.daily(output=tmp_path / "h.html", trail=FrameTrail(make_hostile()), now=NOW)
    page = read(hostile.path)
    harmless = read(report.daily(output=tmp_path / "r.html", trail=FrameTrail(make_day(900)), now=NOW).path)
    assert set(page.elements) == set(harmless.elements)
    assert not set(page.elements) & {"img", "iframe", "form", "object", "embed", "svg", "base", "input"}
    assert page.elements["script"] == harmless.elements["script"]
    assert page.elements["a"] == harmless.elements["a"]
    assert not page.handlers
    assert hostile.size - 2_000_000 < 300_000
    text = hostile.path.read_text(encoding="utf-8")
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_two_reports_of_the_same_day_are_the_same_file(tmp_path: Path) -> None:
    """With the clock given, every byte is."""
    for name in ("one", "two"):
        report.daily(output=tmp_path / name, trail=FrameTrail(make_day(300)), now=NOW)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_report_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line, and in a notebook as a card with a link that can't be anything but the file."""
    monkeypatch.chdir(tmp_path)
    made = report.daily(
        output="javascript:alert(1)/<b>.html", trail=FrameTrail(make_day(300), make_verification()), now=NOW
    )
    assert "(2026-11-23 UTC, 300 events, 2.1" in repr(made)
    assert repr(made).endswith("The record of this day is intact")
    card = Document(made._repr_html_())
    assert card.addresses == {"./javascript%3Aalert%281%29/%3Cb%3E.html"}
    assert set(card.elements) == {"div", "a"}
    elsewhere = report.daily(output=tmp_path.parent / "x.html", trail=FrameTrail(make_day(9)), now=NOW)
    assert Document(elsewhere._repr_html_()).addresses == {(tmp_path.parent / "x.html").resolve().as_uri()}


def test_a_store_is_opened_by_its_path_and_its_key(tmp_path: Path) -> None:
    """From the logger to the page, with real events, a real verification and its checkpoint."""
    with auditkit.AuditLogger(tmp_path / "audit", secret_key=SECRET) as log:
        log.log_lead_ingested("L-1", "web_form", {"name": "<b>Ada</b>"}, "inbound")
        log.track_performance("score_lead", 0.25)
        try:
            raise TimeoutError("CRM didn't answer")
        except TimeoutError as error:
            log.log_error(error, lead_id="L-1", workflow="inbound")
        log.rotate()
        log.log_email_sent("L-1", "ada@example.org", "Hello", 1, "inbound")
    made = report.daily("today", store=tmp_path / "audit", output=tmp_path / "r.html", secret_key=SECRET)
    assert made.events == 4
    assert made.verification is not None
    assert made.verification.ok
    text = made.path.read_text(encoding="utf-8")
    for words in ("The record of this day is intact", "CRM didn&#39;t answer", "auditkit/", "score_lead"):
        assert words in text
    assert "<b>Ada" not in text


def test_a_damaged_day_is_reported_without_its_events(tmp_path: Path) -> None:
    """Figures that leave out what can't be read would look like the whole day, so there are none, and the reason."""
    with auditkit.AuditLogger(tmp_path / "audit", secret_key=SECRET) as log:
        log.log_lead_ingested("L-1", "web_form", {"name": "Ada"}, "inbound")
        log.rotate()
    segment = next((tmp_path / "audit" / "events").rglob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-100])
    made = report.daily("today", store=tmp_path / "audit", output=tmp_path / "r.html", secret_key=SECRET)
    assert made.events == 0
    assert made.verification is not None
    assert made.verification.verdict == "findings"
    text = made.path.read_text(encoding="utf-8")
    assert "its events can&#39;t be read" in text
    assert segment.name in text
    assert 'aria-label="Key figures"' not in text
    assert "The events of this day couldn&#39;t be read." in text
    assert "No events were recorded" not in text
    for shown in (repr(made), made._repr_html_()):
        assert "0 events" not in shown
    assert "its events can't be read" in repr(made)


def make_two_days(folder: Path) -> list[Path]:
    """Record two events on Sunday and three on Monday, and give the two segments."""
    with auditkit.AuditLogger(folder, secret_key=SECRET) as log:
        for number in range(5):
            time = datetime(2026, 11, 22 + (number >= 2), 9, number, tzinfo=UTC)
            log.log_event("lead.ingested", {"n": number}, lead_id=f"L-{number}", time=time)
        log.rotate()
    return [next((folder / "events" / f"date=2026-11-{day}").glob("*.parquet")) for day in (22, 23)]


@pytest.mark.parametrize("gone", [False, True], ids=["flipped bit", "partition gone"])
def test_damage_on_the_day_before_leaves_out_the_comparison_only(tmp_path: Path, gone: bool) -> None:
    """The day itself is sound and shown in full; why nothing is compared stands below its figures."""
    segment, _ = make_two_days(tmp_path / "audit")
    if gone:
        shutil.rmtree(segment.parent)
    else:
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
    made = report.daily("2026-11-23", store=tmp_path / "audit", output=tmp_path / "r.html", secret_key=SECRET)
    assert (made.events, made.damage, made.verdict.headline) == (3, "", "The record of this day is intact")
    text = made.path.read_text(encoding="utf-8")
    assert "No events were recorded" not in text
    assert "Changes are left out, as the day before can&#39;t be read" in text
    assert "date=2026-11-22" in text
    assert "none before" not in text
    assert "Changes are against" not in text


def test_without_a_day_a_damaged_newest_one_is_reported(tmp_path: Path) -> None:
    """The newest event can't be read, and the day that has it is the one to report on."""
    _, segment = make_two_days(tmp_path / "audit")
    segment.write_bytes(segment.read_bytes()[:-1])
    made = report.daily(store=tmp_path / "audit", output=tmp_path / "r.html", secret_key=SECRET, now=NOW)
    assert made.day == date(2026, 11, 23)
    assert made.verification is not None
    assert made.verification.verdict == "findings"


def test_a_missing_store_and_a_double_one_are_refused(tmp_path: Path) -> None:
    """No page is made about nothing."""
    with pytest.raises(StoreMissing):
        report.daily(store=tmp_path / "nowhere", output=tmp_path / "r.html")
    with pytest.raises(UsageError, match="give one of them"):
        report.daily(store="audit", trail=FrameTrail(make_frame([])))
    assert not (tmp_path / "r.html").exists()
