"""The demo, start to end: record, seal, verify, count, render."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import orjson

from auditkit.demo.folder import DemoFolder, claim_folder
from auditkit.demo.scenario import WORKERS
from auditkit.errors import AuditError, UsageError
from auditkit.interpreter import find_python
from auditkit.store.description import open_or_create
from auditkit.store.layout import Layout

if TYPE_CHECKING:
    from auditkit.integrity import Verification
    from auditkit.trail import AuditTrail

DEFAULT_EVENTS: Final = 12_000
DEFAULT_SEED: Final = 2026
MIN_EVENTS: Final = 100
MAX_EVENTS: Final = 1_000_000

BEGUN: Final = 5
"""How many times as many events as today the day before has, for the report to show that one: in the first hours of a
day there is little to see."""


@dataclass(frozen=True)
class Demo:
    """A demo that was recorded.

    Attributes:
        root: Its folder.
        trail: Its store, open for reading.
        verification: What the integrity check said.
        events: Number of events.
        processes: Number of processes that recorded them.
        report: The daily report.
        day: The day that it shows.
        lead: A lead with an eventful history, worth a look.
    """

    root: Path
    trail: AuditTrail
    verification: Verification
    events: int
    processes: int
    report: Path
    day: date
    lead: str


Tell = Callable[[str, str, float], None]
"""Called when a stage is done, with its name, what came of it, and the seconds it took."""


def record_demo(
    root: Path,
    *,
    events: int = DEFAULT_EVENTS,
    seed: int = DEFAULT_SEED,
    now: datetime | None = None,
    begin: Callable[[str], None] = lambda stage: None,
    tell: Tell = lambda stage, result, seconds: None,
) -> Demo:
    """Record a week of a sales automation with several processes, seal it, verify it, render a report.

    Args:
        root: Folder of the demo; an older demo in it is replaced, nothing else is touched.
        events: About how many events to record, 100 to 1,000,000.
        seed: Seed of the scenario: the same seed and ``now`` give the same events but for their ids.
        now: When the week ends; the clock's time by default.
        begin: Called with each stage's name when it begins.
        tell: Called with each stage's name, result and seconds when it ends.

    Returns:
        The demo.

    Raises:
        UsageError: If the number of events or the folder can't be used.
        AuditError: If a worker fails.
    """
    if not MIN_EVENTS <= events <= MAX_EVENTS:
        raise UsageError(f"expected {MIN_EVENTS} to {MAX_EVENTS:,} events, found {events:,}")
    moment = now or datetime.now(UTC)
    with claim_folder(root) as folder:
        description, _ = open_or_create(Layout(folder.store), key_file=folder.key_file)
        folder.store_id = description.store
        folder.write_mark()
        clock = _Stages(begin, tell)

        clock.begin("recording")
        _run_workers(folder, events, seed, moment)
        trail = _open(folder)
        count = trail.count()
        clock.end(f"{count:,} signed events by {WORKERS} processes at once")

        clock.begin("sealing")
        trail.seal()
        size = sum(path.stat().st_size for path in folder.store.glob("events/*/*.parquet"))
        clock.end(f"{len(trail.days())} daily Parquet partitions, {size / max(1, count):.0f} bytes an event")

        clock.begin("verifying")
        verification = trail.verify()
        clock.end(
            f"{verification.checked_events:,} signatures, "
            + ("record is sound" if verification.ok else f"NOT SOUND: {len(verification.findings)} findings")
        )

        clock.begin("reporting")
        day = _choose_day(trail, moment)
        report = _render(folder, trail, day)
        clock.end(f"daily report of {day}")
        return Demo(root, trail, verification, count, WORKERS, report, day, find_eventful_lead(trail))


class _Stages:
    def __init__(self, begin: Callable[[str], None], tell: Tell) -> None:
        self._begin, self._tell = begin, tell
        self._stage, self._start = "", 0.0

    def begin(self, stage: str) -> None:
        self._stage, self._start = stage, perf_counter()
        self._begin(stage)

    def end(self, result: str) -> None:
        self._tell(self._stage, result, perf_counter() - self._start)


def _open(folder: DemoFolder) -> AuditTrail:
    import auditkit

    return auditkit.open(folder.store, key_file=folder.key_file)


def _run_workers(folder: DemoFolder, events: int, seed: int, now: datetime) -> None:
    command = [find_python() or sys.executable, "-m", "auditkit.demo.worker"]
    children = []
    try:
        for worker in range(WORKERS):
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            children.append(child)
            order = {
                "store": str(folder.store.absolute()),
                "key_file": str(folder.key_file.absolute()),
                "worker": worker,
                "seed": seed,
                "now": now.isoformat(),
                "events": events,
            }
            assert child.stdin is not None
            child.stdin.write(orjson.dumps(order))
            child.stdin.close()
            child.stdin = None
        for worker, child in enumerate(children):
            _, complaint = child.communicate()
            if child.returncode != 0:
                last = complaint.decode(errors="replace").strip()[-2000:]
                raise AuditError(f"expected worker {worker} of the demo to end well, found: {last}")
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()


def _choose_day(trail: AuditTrail, now: datetime) -> date:
    """Choose today, or the newest day before it if today has just begun."""
    today = now.astimezone(UTC).date()
    newest, *before = sorted((day for day in trail.days() if day <= today), reverse=True)
    if newest == today and before:
        so_far = trail.count(since=today, until=today)
        if so_far * BEGUN < trail.count(since=before[0], until=before[0]):
            return before[0]
    return newest


def _render(folder: DemoFolder, trail: AuditTrail, day: date) -> Path:
    from auditkit import report

    output = folder.report_folder / f"daily-{day}.html"
    folder.report_folder.mkdir(exist_ok=True)
    if output.exists():
        raise UsageError(f"expected no file at {output}, found one that no demo made: move it away")
    folder.reports.append(output.name)
    folder.write_mark()
    return report.daily(day, output=output, trail=trail).path


def find_eventful_lead(trail: AuditTrail) -> str:
    """Find a lead with a failure in a long history: one worth looking at."""
    frame = trail.events(columns=["lead_id", "outcome"])
    frame = frame[frame["lead_id"].notna()]
    known = frame.groupby("lead_id")["outcome"].agg(n="size", failed=lambda outcomes: (outcomes == "failure").any())
    ordered = known.reset_index().sort_values(["failed", "n", "lead_id"], ascending=[False, False, True])
    return str(ordered["lead_id"].iloc[0]) if len(ordered) else ""
