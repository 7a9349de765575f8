"""Believable events frames, as the trail gives them, and a trail that reads from one.

`FrameTrail` isn't a stand-in for the store: it answers the reading calls of a report from a frame in memory,
so that what a report makes of hostile or odd events can be tested without recording them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auditkit.integrity import Finding, PartitionResult, Verification

STRINGS = (
    "id",
    "type",
    "actor",
    "lead_id",
    "workflow",
    "outcome",
    "operation",
    "error_type",
    "message",
    "traceback",
    "details",
    "writer",
)
COLUMNS = (
    "id",
    "time",
    "type",
    "actor",
    "lead_id",
    "workflow",
    "outcome",
    "operation",
    "duration_us",
    "error_type",
    "message",
    "traceback",
    "details",
    "writer",
    "seq",
)

DAY = date(2026, 11, 23)

WORKFLOWS = ("inbound", "outbound", "reactivation")
OPERATIONS = {
    "score_lead": 0.08,
    "enrich_lead": 0.45,
    "crm_sync": 0.9,
    "send_email": 0.25,
    "render_template": 0.004,
}
ERRORS = {
    "TimeoutError": "CRM didn't answer within 30 s",
    "ConnectionResetError": "[Errno 104] Connection reset by peer",
    "ValidationError": "field 'phone' is not a number: '+49 (0) 30 / 12 34'",
}
TRACEBACK = """Traceback (most recent call last):
  File "/srv/sales/worker.py", line 118, in run
    self.sync(lead)
  File "/srv/sales/crm.py", line 57, in sync
    response = self.client.post("/leads", json=body, timeout=30)
{error}: {message}"""


def make_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return an events frame of rows that name only what matters to a test."""
    full = [
        {
            "id": f"20261123-test:{seq}",
            "writer": "20261123-test",
            "seq": seq,
            "type": "log",
            "outcome": "success",
        }
        | row
        for seq, row in enumerate(rows)
    ]
    frame = pd.DataFrame({column: [row.get(column) for row in full] for column in COLUMNS})
    times: Any = [row.get("time", datetime(2026, 11, 23, 9, tzinfo=UTC)) for row in full]
    frame["time"] = pd.Series(pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("us"))
    return type_frame(frame)


def type_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame the dtypes that the trail's frames have."""
    types: dict[str, Any] = dict.fromkeys(STRINGS, "str")
    return frame.astype(types | {"duration_us": "Int64", "seq": "int64", "time": "datetime64[us, UTC]"})


def make_day(events: int = 4000, day: date = DAY, seed: int = 7, slower: float = 1.0) -> pd.DataFrame:
    """Return a believable day of a sales automation: busy in office hours, with failures and slow calls.

    Args:
        events: How many.
        day: UTC date.
        seed: Same seed, same frame.
        slower: Factor on the durations of ``crm_sync``.
    """
    random = np.random.default_rng(seed)
    begin = pd.Timestamp(day, tz="UTC").as_unit("us")
    hours = np.clip(np.concatenate([random.normal(10.5, 2.2, events // 2), random.normal(15, 2.5, events)]), 0, 23.99)
    seconds = np.sort(random.choice(hours, events)) * 3600 + random.random(events) * 30
    kinds = {
        "lead.ingested": 0.14,
        "lead.qualified": 0.13,
        "lead.routed": 0.1,
        "crm.created": 0.06,
        "crm.updated": 0.09,
        "email.scheduled": 0.08,
        "email.sent": 0.11,
        "email.cancelled": 0.01,
        "workflow.started": 0.01,
        "workflow.stopped": 0.008,
        "error": 0.012,
        "operation": 0.25,
    }
    shares = np.array([*kinds.values()])
    types = random.choice([*kinds], events, p=shares / shares.sum())
    is_operation, is_error = types == "operation", types == "error"
    operations = random.choice([*OPERATIONS], events, p=[0.3, 0.2, 0.25, 0.15, 0.1])
    medians = np.array([OPERATIONS[name] for name in operations]) * np.where(operations == "crm_sync", slower, 1)
    durations = (medians * random.lognormal(0, 0.6, events) * 1e6).astype("int64")
    nothing = np.full(events, None, dtype=object)
    failed = is_error | (is_operation & (random.random(events) < np.where(operations == "crm_sync", 0.05, 0.01)))
    errors = random.choice([*ERRORS], events, p=[0.6, 0.25, 0.15])
    writer = f"{day:%Y%m%d}-generated"
    outcomes = np.where(failed, "failure", "success").astype(object)
    outcomes[types == "lead.qualified"] = "qualified"
    outcomes[types == "email.cancelled"] = "cancelled"
    frame = pd.DataFrame(
        {
            "time": begin + pd.to_timedelta(np.sort(seconds) * 1e6 // 1, unit="us"),
            "type": types,
            "actor": random.choice(["worker-1", "worker-2", "worker-3", "mailer"], events, p=[0.4, 0.3, 0.2, 0.1]),
            "lead_id": [f"L-{number:05d}" for number in random.integers(1, max(2, events // 6), events)],
            "workflow": random.choice(WORKFLOWS, events, p=[0.6, 0.3, 0.1]),
            "outcome": outcomes,
            "operation": np.where(is_operation, operations, nothing),
            "duration_us": pd.array(durations, dtype="Int64"),
            "error_type": np.where(failed, errors, nothing),
            "message": [ERRORS[name] if bad else None for name, bad in zip(errors, failed, strict=True)],
            "traceback": [
                TRACEBACK.format(error=name, message=ERRORS[name]) if bad and name != "ValidationError" else None
                for name, bad in zip(errors, failed, strict=True)
            ],
            "details": [f'{{"attempt": {number}, "source": "web_form"}}' for number in random.integers(1, 4, events)],
            "seq": np.arange(events),
            "writer": writer,
            "id": [f"{writer}:{seq}" for seq in range(events)],
        }
    )
    frame.loc[~is_operation, "duration_us"] = pd.NA
    quiet = np.isin(types, ["workflow.started", "workflow.stopped"])
    frame.loc[quiet, ["lead_id"]] = None
    return type_frame(frame[[*COLUMNS]])


def make_hostile(day: date = DAY) -> pd.DataFrame:
    """Return events in which every text field tries to be more than text."""
    begin = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
    return make_frame(
        [
            {
                "time": begin + timedelta(minutes=7 * number),
                "type": attack,
                "actor": attack,
                "lead_id": attack,
                "workflow": attack,
                "operation": attack,
                "duration_us": 1000 * (number + 1),
                "outcome": "failure" if number % 2 else attack,
                "error_type": attack,
                "message": attack,
                "traceback": attack,
                "details": attack,
            }
            for number, attack in enumerate(ATTACKS)
        ]
    )


ATTACKS = (
    "<script>document.body.dataset.pwned = 1; alert(1)</script>",
    '"><img src=x onerror="document.body.dataset.pwned=1">',
    "</script><script>document.body.dataset.pwned = 1</script>",
    "<!--<script>",
    "<a href='javascript:document.body.dataset.pwned=1'>click me</a>",
    "<b>bold</b><br><sup>up</sup><span style='color:red'>red</span>",
    "&lt;b&gt;already escaped&lt;/b&gt; &amp;amp; &#36;",
    "$\\href{javascript:alert(1)}{tex}$",
    "%{x} %{fullData.name} {{ 7 * 7 }} {% raw %}",
    '=HYPERLINK("http://evil.example/","x")',
    "evil\u202egnp.exe \u2066isolated\u2069",
    "\x1b[31mred\x1b[0m\x07\x00\x9b31m",
    "line one\nline two\r\n\ttabbed \u2028 separated",
    "x" * 1_500_000,
    "‎مرحبا بالعالم 👩‍💻 日本語",
    "lone \ufffd replacement",
    "2026-11-23",
    "1e3",
    "",
    " ",
)


def make_verification(*findings: Finding, notes: tuple[Finding, ...] = (), **changes: Any) -> Verification:
    """Return what a verification of a small store says: sound, unless findings are given."""
    checkpoint = "auditkit/5f0c\n4003\nq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n\n— auditkit/5f0c Wx1y\n"
    status = "findings" if findings else "ok"
    sound = Verification(
        store_id="5f0c27d19e",
        deep=True,
        findings=findings,
        notes=notes,
        checked_events=4000,
        checked_segments=2,
        checked_commits=3,
        partitions=(
            PartitionResult(DAY - timedelta(days=1), 1, 3600, 210_000, "not checked", 0),
            PartitionResult(DAY, 2, 4000, 231_004, status, len(findings)),
        ),
        first=datetime(2026, 11, 23, 1, tzinfo=UTC),
        last=datetime(2026, 11, 23, 23, tzinfo=UTC),
        key_id="k1:5b1e",
        checkpoint=checkpoint,
        duration=0.42,
    )
    return replace(sound, **changes)


def make_finding(**changes: Any) -> Finding:
    """Return a finding about one changed event."""
    moment = datetime(2026, 11, 23, 9, 12, 5, tzinfo=UTC)
    finding = Finding(
        kind="tampered",
        severity="finding",
        file="events/date=2026-11-23/0123456789abcdef.parquet",
        expected="the body that was signed",
        found="a body with another lead_id",
        advice="restore the file from a backup, and find out who could write to it",
        writer="20261123-generated",
        first_seq=118,
        last_seq=118,
        time_min=moment,
        time_max=moment,
        events=1,
    )
    return replace(finding, **changes)


@dataclass
class FrameTrail:
    """The reading calls of a trail, answered from a frame."""

    frame: pd.DataFrame
    verification: Verification = field(default_factory=make_verification)
    path: Path = Path("audit")
    store_id: str = "5f0c27d19e"

    def events(
        self,
        *,
        outcome: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: list[str] | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> pd.DataFrame:
        frame = self.frame
        keep = pd.Series(data=True, index=frame.index)
        if since is not None:
            keep &= frame["time"] >= since
        if until is not None:
            keep &= frame["time"] < until
        if outcome is not None:
            keep &= frame["outcome"].eq(outcome)
        frame = frame.loc[keep, columns or list(COLUMNS)]
        if limit is not None:
            frame = frame.iloc[-limit:] if newest else frame.iloc[:limit]
        return frame.reset_index(drop=True)

    def stream(self, *, batch_rows: int = 1000, ordered: bool = True, **filters: Any) -> Iterator[pd.DataFrame]:
        frame = self.events(**filters)
        for start in range(0, len(frame), batch_rows):
            yield frame.iloc[start : start + batch_rows].reset_index(drop=True)

    def days(self) -> list[date]:
        return sorted({moment.date() for moment in self.frame["time"]})

    def verify(self, **_: Any) -> Verification:
        return self.verification
