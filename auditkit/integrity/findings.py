"""What a verification says.

| kind | meaning |
|---|---|
| ``tampered`` | what is stored isn't what was recorded |
| ``missing`` | recorded, and neither there nor removed with authority |
| ``truncated`` | the newest part of the ledger is gone, and traces of it are left |
| ``rolled_back`` | the store is as it was before, or went on otherwise from there, or keys were drawn since |
| ``retired`` | removed with authority, as a signed commit says |
| ``unverifiable`` | the key or the format version isn't at hand, the writer didn't sign, or no version knows the file |
| ``unanchored`` | newer than any anchor outside the store: a removal of the newest part couldn't be seen |
| ``torn`` | a last line whose writing was interrupted |
| ``quarantined`` | lines that a sealer could not believe and set aside |

A *finding* accuses, *incomplete* says that something needed for the proof isn't there. A *warning* says that something
may be gone, though a crash can look the same: it doesn't change the verdict, but no verdict is shown without it. A
*note* tells what is worth knowing and accuses nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from auditkit.errors import require
from auditkit.quoting import printable
from auditkit.times import MAX_US, MIN_US, format_duration, from_us

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal[
    "tampered", "missing", "truncated", "rolled_back", "retired", "unverifiable", "unanchored", "torn", "quarantined"
]
Severity = Literal["finding", "incomplete", "warning", "note"]

_COLUMNS: Final = (
    "kind", "severity", "file", "writer", "first_seq", "last_seq", "time_min", "time_max", "events", "expected",
    "found", "advice",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing a verification found.

    Attributes:
        kind: See the table above.
        severity: ``finding``, ``incomplete``, ``warning`` or ``note``.
        file: Where, relative to the store.
        expected: What should be there.
        found: What is there.
        advice: What to do.
        writer: Whose events, None if it isn't about one writer.
        first_seq: First sequence number concerned.
        last_seq: Last one.
        time_min: Earliest time concerned (UTC), None if unknown.
        time_max: Latest time concerned.
        events: How many events are concerned, None if unknown.
    """

    kind: Kind
    severity: Severity
    file: str
    expected: str
    found: str
    advice: str = ""
    writer: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    time_min: datetime | None = None
    time_max: datetime | None = None
    events: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.writer is not None:
            place += f", writer {self.writer}"
        if self.first_seq is not None:
            last = "" if self.last_seq in (None, self.first_seq) else f" to {self.last_seq}"
            place += f", seq {self.first_seq}{last}"
        return f"{self.kind}: {place}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class PartitionResult:
    """What was found in the sealed segments of one UTC date.

    Attributes:
        date: The UTC date.
        segments: How many segments the ledger lists.
        events: How many events they hold.
        bytes: How long they are together.
        status: ``ok``, ``findings``, ``incomplete``, ``retired`` (all of it) or ``not checked`` (outside the range that
            was asked for).
        findings: How many findings concern them.
    """

    date: date
    segments: int
    events: int
    bytes: int
    status: str
    findings: int


@dataclass(frozen=True)
class AnchorResult:
    """What came of one checkpoint that was kept outside the store.

    Attributes:
        source: Where it was kept.
        size: Leaves of the tree it vouches for.
        status: ``ok``, ``truncated``, ``rolled_back``, or ``unverifiable`` (the store's key didn't sign it, or the
            ledger is too damaged to tell).
    """

    source: str
    size: int
    status: str


@dataclass(frozen=True)
class Verification:
    """The result of `AuditTrail.verify`.

    Attributes:
        store_id: Id of the store.
        deep: Whether every event was checked, or of the sealed ones only files and ledger.
        findings: Everything that accuses or is incomplete, all of it.
        notes: What is worth knowing; the warnings come first.
        checked_events: How many sealed events were checked; in fast mode, how many the checked files hold.
        journal_events: How many events that aren't sealed yet were checked.
        checked_segments: How many segments were checked.
        checked_commits: How many ledger commits were checked.
        partitions: The sealed dates, one by one.
        first: Time of the earliest checked event (UTC).
        last: Time of the latest.
        key_id: Name of the key that was used, None without one.
        checkpoint: The newest signed note of the ledger.
        duration: How long it took, in seconds.
        public_key: The verifier key that the notes were checked with, None without one from outside the store.
        commit: Number of the newest commit, 0 without any.
        tree_size: How many leaves the tree has: sealed events and commits.
        anchors: The checkpoints from outside the store that it was compared with, the pinned one included.
    """

    store_id: str
    deep: bool
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    checked_events: int = 0
    journal_events: int = 0
    checked_segments: int = 0
    checked_commits: int = 0
    partitions: tuple[PartitionResult, ...] = ()
    first: datetime | None = None
    last: datetime | None = None
    key_id: str | None = None
    checkpoint: str | None = field(default=None, repr=False)
    duration: float = 0.0
    public_key: str | None = None
    commit: int = 0
    tree_size: int = 0
    anchors: tuple[AnchorResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is sound."""
        return not self.findings

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The notes that say that something may be gone, or may be innocent; no verdict is shown without them."""
        return tuple(note for note in self.notes if note.severity == "warning")

    @property
    def verdict(self) -> str:
        """``ok``, ``findings`` (something accuses) or ``incomplete`` (something needed isn't there)."""
        if self.ok:
            return "ok"
        return "findings" if any(f.severity == "finding" for f in self.findings) else "incomplete"

    @property
    def anchored(self) -> bool:
        """Whether a checkpoint from outside the store vouches for the newest commit: nothing sealed was cut off."""
        return any(anchor.status == "ok" and anchor.size == self.tree_size for anchor in self.anchors)

    @property
    def exit_code(self) -> int:
        """0 for ``ok``, 1 for ``findings``, 3 for ``incomplete``."""
        return {"ok": 0, "findings": 1, "incomplete": 3}[self.verdict]

    def to_frame(self) -> pd.DataFrame:
        """Give findings, warnings and notes as a DataFrame, a row each, in the columns of `Finding`."""
        pandas = require("pandas", "analysis")
        rows = [asdict(item) for item in (*self.findings, *self.notes)]
        frame: pd.DataFrame = pandas.DataFrame(rows, columns=list(_COLUMNS))
        numbers = dict.fromkeys(("first_seq", "last_seq", "events"), "Int64")
        moments = dict.fromkeys(("time_min", "time_max"), "datetime64[us, UTC]")
        texts = dict.fromkeys(set(_COLUMNS) - set(numbers) - set(moments), "str")
        typed: pd.DataFrame = frame.astype({**numbers, **moments, **texts})
        return typed

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain values, for JSON: times as ISO 8601 in UTC, numbers, text and null."""
        return {
            "verdict": self.verdict,
            "ok": self.ok,
            "exit_code": self.exit_code,
            "deep": self.deep,
            "store": self.store_id,
            "key": self.key_id,
            "public_key": self.public_key,
            "checked_events": self.checked_events,
            "checked_segments": self.checked_segments,
            "checked_commits": self.checked_commits,
            "journal_events": self.journal_events,
            "first": _say_time(self.first),
            "last": _say_time(self.last),
            "duration_s": self.duration,
            "commit": self.commit,
            "tree_size": self.tree_size,
            "anchored": self.anchored,
            "anchors": [asdict(anchor) for anchor in self.anchors],
            "checkpoint": self.checkpoint,
            "partitions": [{**asdict(partition), "date": str(partition.date)} for partition in self.partitions],
            "findings": [_to_plain(finding) for finding in self.findings],
            "notes": [_to_plain(note) for note in self.notes],
        }

    def to_json(self) -> str:
        """Give all of it as one JSON object; see `to_dict`.

        Example:
            >>> Verification("k3f9", deep=True, findings=(), notes=()).to_json()[:30]
            '{"verdict":"ok","ok":true,"exi'
        """
        return orjson.dumps(self.to_dict()).decode()

    def to_html(self) -> str:
        """Give the verdict, and a table of all findings, warnings and notes, as a piece of HTML without scripts."""
        colour = _COLOURS["incomplete" if self.ok and self.warnings else self.verdict]
        word, _, rest = printable(str(self).partition("\n")[0]).partition(" ")
        head = f'<strong style="color:{colour}">{escape(word)}</strong> {escape(rest)}'
        parts = [f'<p style="margin:0 0 .75em">{head}</p>']
        items = (*self.findings, *self.notes)
        if items:
            titles = "".join(f'<th style="{_CELL}">{title}</th>' for title in _HTML_TITLES)
            rows = "".join(f"<tr>{_draw_cells(item)}</tr>" for item in items[:_HTML_ROWS])
            table = (
                f'<table style="border-collapse:collapse"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>'
            )
            parts.append(f'<div style="overflow-x:auto">{table}</div>')
        if len(items) > _HTML_ROWS:
            parts.append(f"<p>showing {_HTML_ROWS} of {len(items):,}: .to_frame() has them all</p>")
        if self.checkpoint is not None and not self.anchored:
            kept = "Checkpoint, to be kept outside the store"
            parts.append(f"<details><summary>{kept}</summary><pre>{escape(self.checkpoint)}</pre></details>")
        return f"<div>{''.join(parts)}</div>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        how = "every event" if self.deep else "files, ledger and journals"
        doubts = "; ".join(item.found for item in self.warnings)
        joined = f"{', but' if self.ok else ', and'} {doubts}" if doubts else ""
        tail = "" if self.anchored or not self.commit else " (the tail is unanchored)"
        head = (
            f"{self.verdict}{tail}{joined}: {self.checked_events:,} events in "
            f"{self.checked_segments:,} segments, {self.journal_events:,} in the "
            f"journals, {self.checked_commits:,} commits; {how}, in {format_duration(self.duration)}"
        )
        lines = [head, *(f"  {item}" for item in self.findings[:20])]
        if len(self.findings) > 20:
            lines.append(f"  … and {len(self.findings) - 20} more: .to_frame() has them all")
        lines += [f"  {item.severity}: {item}" for item in self.notes[:5]]
        return "\n".join(lines)


_COLOURS: Final = {"ok": "#1a7f37", "findings": "#b42318", "incomplete": "#9a6700"}
_CELL: Final = "text-align:left;vertical-align:top;padding:.4em 1.5em .4em 0;border-top:1px solid #8884"
_HTML_TITLES: Final = ("What", "Where and when (UTC)", "Expected, found, and what to do")
_HTML_ROWS: Final = 200
"""Findings that a page shows; a damaged store may have as many as events."""


def _draw_cells(item: Finding) -> str:
    """Draw a finding as the cells of a row; each of its texts may come from a hostile file."""
    colour = _COLOURS["findings" if item.severity == "finding" else "incomplete"]
    colour = "inherit" if item.severity == "note" else colour
    kind = f'<strong style="color:{colour}">{escape(item.kind.replace("_", " "))}</strong><br>{escape(item.severity)}'
    where = [item.file, "" if item.writer is None else f"writer {item.writer}"]
    if item.first_seq is not None:
        where.append(
            f"seq {item.first_seq}" + ("" if item.last_seq in (None, item.first_seq) else f" to {item.last_seq}")
        )
    if item.time_min is not None and item.time_max is not None:
        moments = dict.fromkeys(f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (item.time_min, item.time_max))
        where.append(" to ".join(moments))
    if item.events is not None:
        where.append(f"{item.events:,} event{'' if item.events == 1 else 's'}")
    told = [
        f'<span style="opacity:.7">{label}</span> {escape(printable(text))}'
        for label, text in (("expected", item.expected), ("found", item.found), ("advice", item.advice))
        if text
    ]
    places = [escape(printable(text)) for text in where if text]
    return (
        f'<td style="{_CELL};white-space:nowrap">{kind}</td><td style="{_CELL};width:30%">{"<br>".join(places)}</td>'
        f'<td style="{_CELL}">{"<br>".join(told)}</td>'
    )


def _say_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _to_plain(item: Finding) -> dict[str, Any]:
    return {**asdict(item), "time_min": _say_time(item.time_min), "time_max": _say_time(item.time_max)}


def to_moment(time_us: int | None) -> datetime | None:
    """Turn microseconds since 1970 into a moment; None, and what a damaged file says beyond year 9999, into None."""
    return None if time_us is None or not MIN_US <= time_us <= MAX_US else from_us(time_us)
