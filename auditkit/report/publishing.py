"""The daily report: from a trail to a file."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import auditkit
from auditkit.charts.text import clean_text, format_count, format_size
from auditkit.errors import UsageError
from auditkit.report.reading import Trail, choose_day, find_span, read_day, verify_day
from auditkit.report.rendering import render_card, render_page
from auditkit.report.sections import compose_page
from auditkit.store.durable import replace_file
from auditkit.store.outputs import choose_output

if TYPE_CHECKING:
    from auditkit.integrity import Verification
    from auditkit.report.model import Verdict


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: The file.
        day: The day it is about.
        tz: Time zone of that day.
        events: Events of that day; 0 also if they couldn't be read.
        size: Bytes of the file.
        verification: What was verified; ``None`` if it couldn't be, for want of a key.
        verdict: The verdict as the report says it.
        damage: Why the events of the day couldn't be read; empty if they could.
    """

    path: Path
    day: date
    tz: str
    events: int
    size: int
    verification: Verification | None = field(repr=False)
    verdict: Verdict = field(repr=False)
    damage: str = field(default="", repr=False)

    @property
    def extent(self) -> str:
        """How many events the day has, in words."""
        if self.damage:
            return "its events can't be read"
        return f"{format_count(self.events)} event{'' if self.events == 1 else 's'}"

    def __repr__(self) -> str:
        return (
            f"Report {clean_text(str(self.path), 300)} ({self.day} {self.tz}, {self.extent}, "
            f"{format_size(self.size)}): {self.verdict.headline}"
        )

    def _repr_html_(self) -> str:
        return render_card(
            {
                "day": f"{self.day:%A}, {self.day.day} {self.day:%B %Y}",
                "href": _link(self.path),
                "path": clean_text(str(self.path), 300),
                "tone": self.verdict.tone,
                "sign": self.verdict.sign,
                "headline": self.verdict.headline,
                "events": f"{self.extent} · {self.tz} · {format_size(self.size)}",
            }
        )


def daily(
    day: str | date | None = None,
    store: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    tz: str = "UTC",
    *,
    trail: Trail | None = None,
    secret_key: str | bytes | None = None,
    key_file: str | os.PathLike[str] | None = None,
    now: datetime | None = None,
) -> Report:
    """Write the report of one day as a single HTML file that needs no network.

    Args:
        day: ``"2026-11-23"``, ``"today"``, ``"yesterday"`` or a date; default is today, or the newest day
            that has events.
        store: Folder of the store; default as for `auditkit.open`.
        output: The file; default is ``reports/daily-<date>.html`` in the current folder, which is made.
        tz: IANA name of the time zone whose day is meant and in which times are shown.
        trail: An opened trail, instead of ``store`` and keys.
        secret_key: As for `auditkit.open`.
        key_file: As for `auditkit.open`.
        now: The moment the report is made, for a reproducible one; default is the clock.

    Returns:
        The report, with its ``path``; in a notebook it shows itself with a link.

    Raises:
        UsageError: If the day, the zone or the combination of arguments can't be meant, or the file lies in a store or
            is a key file.
        StoreError: If the store isn't there or can't be read.
        ExtraMissing: If what reports need isn't installed.
        OSError: If the file can't be written.

    Example:
        >>> import auditkit, auditkit.report
        >>> with auditkit.AuditLogger("audit") as log:
        ...     _ = log.log_event("email.sent", {"subject": "hello"}, lead_id="L-1")
        >>> report = auditkit.report.daily(store="audit")
        >>> report.path.parent.name, report.events
        ('reports', 1)
    """
    moment = datetime.now(UTC) if now is None else now
    if trail is None:
        trail = auditkit.open(store, secret_key=secret_key, key_file=key_file)
    elif store is not None or secret_key is not None or key_file is not None:
        raise UsageError("expected a trail, or a store with its keys, found both: give one of them")
    span = find_span(choose_day(trail, day, tz, moment), tz, moment)
    path = Path(output) if output is not None else Path("reports") / f"daily-{span.day.isoformat()}.html"
    choose_output(path, "a report", trail.path)
    read = read_day(trail, span)
    verification, problem = verify_day(trail, span)
    page = compose_page(
        read,
        verification,
        problem,
        store=os.fspath(trail.path),
        store_id=trail.store_id,
        now=moment,
    )
    content = render_page(page).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A report is for others to read: it gets the mode that any new file of this user would get.
    replace_file(path, content, mode=0o666)
    return Report(path, span.day, tz, read.totals.events, len(content), verification, page.verdict, read.damage)


def _link(path: Path) -> str:
    """Return an address that can't be anything but this file: relative where the file is below here."""
    absolute = path.resolve()
    here = Path.cwd()
    if absolute.is_relative_to(here):
        return f"./{urllib.parse.quote(absolute.relative_to(here).as_posix())}"
    return absolute.as_uri()
