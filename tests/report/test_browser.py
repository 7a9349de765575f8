"""The daily report in a real browser: drawn, silent, and inert whatever the events say."""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from auditkit import report
from auditkit.integrity import Finding
from tests.frames import ATTACKS, DAY, FrameTrail, make_day, make_finding, make_frame, make_hostile, make_verification

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Visit:
    """A page as the browser left it."""

    dom: str
    console: list[str]

    @property
    def body(self) -> str:
        """The page without its scripts, which hold the data."""
        return re.sub(r"<script.*?</script>", "", self.dom, flags=re.DOTALL)


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(chromium: str, tmp_path: Path) -> Visitor:
    """Return a function that opens a file and waits until the page is at rest."""

    def open_page(path: Path, *options: str) -> Visit:
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1280,900",
            "--virtual-time-budget=20000",
            "--enable-logging=stderr",
            "--v=0",
            *options,
            "--dump-dom",
            path.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        log = done.stderr.decode("utf-8", "replace").splitlines()
        return Visit(done.stdout.decode("utf-8"), [line for line in log if "CONSOLE" in line])

    return open_page


def make_report(path: Path, frame: pd.DataFrame, *findings: Finding) -> Path:
    trail = FrameTrail(frame, make_verification(*findings))
    return report.daily("2026-11-23", output=path / "report.html", trail=trail, now=NOW).path


def test_every_chart_is_drawn_without_a_word_on_the_console(visit: Visitor, tmp_path: Path) -> None:
    """plotly.js is unpacked and runs under the policy, nothing is blocked, and nothing can be sent to a cloud."""
    frame = pd.concat([make_day(900, DAY - timedelta(days=1)), make_day(900)], ignore_index=True)
    page = visit(make_report(tmp_path, frame))
    assert page.console == []
    assert 'data-charts="6"' in page.dom
    assert page.body.count('class="main-svg"') >= 6
    assert "could not be drawn" not in page.body
    for trace in ("cloud", "Share chart", "plotly-logomark", "modebar-btn--logo"):
        assert trace not in page.body
    for words in ("email.sent", "crm_sync", "TimeoutError", "events per 5 minutes", "time of day, UTC", "n = "):
        assert words in page.body


def test_hostile_events_are_inert_and_readable(visit: Visitor, tmp_path: Path) -> None:
    """No script ran, no element or link came in, and the labels read as the events were."""
    page = visit(make_report(tmp_path, make_hostile(), make_finding(file=ATTACKS[1], found=ATTACKS[0])))
    assert page.console == []
    assert "data-charts" in page.dom
    assert "pwned=" not in page.dom.split("<body", 1)[1].split(">", 1)[0]
    body = page.body
    assert not re.search(r"<(img|iframe|object|embed|form|base|link)\b", body)
    assert set(re.findall(r"<a\b[^>]*?href=\"([^\"#][^\"]*)", body)) == set()
    assert "xlink:href" not in body
    # A tag of an event would be an element of the label, and an entity of its own would be the character.
    drawn = "".join(re.findall(r"<svg.*?</svg>", body, flags=re.DOTALL))
    assert "&lt;!--&lt;script&gt;" in drawn
    assert "&amp;lt;b&amp;gt;a…" in drawn
    assert "$\\href{jav…" in drawn
    assert not re.search(r"font-weight: ?bold[^>]*>bold", drawn)


def test_only_the_genuine_plotly_runs(visit: Visitor, tmp_path: Path) -> None:
    """Another script in its place is refused by the policy, and the page says that its charts are missing."""
    path = make_report(tmp_path, make_day(300))
    other = base64.b64encode(gzip.compress(b"document.body.dataset.pwned = 1")).decode()
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'(id="plotly">)[^<]*', lambda match: match[1] + other, text), encoding="utf-8")
    page = visit(path)
    assert "data-pwned" not in page.dom
    assert "the browser refused to run plotly.js" in page.body
    assert any("Content Security Policy" in line for line in page.console)


def test_an_empty_day_is_silent_too(visit: Visitor, tmp_path: Path) -> None:
    """No chart, no plotly, no error."""
    page = visit(make_report(tmp_path, make_frame([])))
    assert page.console == []
    assert "No events were recorded on this day." in page.body
    assert "main-svg" not in page.body


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_follow_the_readers_colours(visit: Visitor, tmp_path: Path, scheme: str) -> None:
    """Dark pages have dark charts."""
    options = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    page = visit(make_report(tmp_path, make_day(300)), *options)
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 27, 33)"}[scheme]
    assert f"background: {paper}" in page.body
