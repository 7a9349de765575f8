"""From summaries to the model of a daily report: what is said, in which words, in which order."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

import auditkit
from auditkit.analysis.buckets import bucket_times
from auditkit.charts import activity as activity_charts
from auditkit.charts import failures as failure_charts
from auditkit.charts import latency as latency_charts
from auditkit.charts.text import (
    MISSING,
    clean_text,
    format_count,
    format_share,
    format_size,
    is_missing,
)
from auditkit.errors import require
from auditkit.note import MAX_NOTE_BYTES
from auditkit.report.model import (
    Cell,
    Chart,
    Column,
    Fact,
    Figure,
    Fold,
    Page,
    Section,
    Table,
    Tone,
    Verdict,
)
from auditkit.times import find_zone, format_duration

if TYPE_CHECKING:
    from auditkit.integrity import Finding, PartitionResult, Verification
    from auditkit.report.reading import Day, Span, Totals

MAX_GROUPS: Final = 20
"""Rows of a table of groups."""

MAX_FINDINGS: Final = 50
"""Findings listed one by one."""

NOT_CHECKED: Final = "not checked"
"""Status of a partition that lies outside what was verified."""

MAX_TRACEBACK: Final = 6000
"""Characters of a sample traceback."""


def compose_page(
    day: Day,
    verification: Verification | None,
    problem: str,
    *,
    store: str,
    store_id: str,
    now: datetime,
) -> Page:
    """Make the model of a daily report.

    Args:
        day: What was read.
        verification: What was verified; ``None`` if it couldn't be.
        problem: Why it couldn't be.
        store: Folder of the store, as the reader should name it.
        store_id: Id of the store.
        now: The moment the report is made.

    Returns:
        The page.
    """
    span = day.span
    zone = find_zone(span.tz)
    begin, end = span.since.astimezone(zone), span.end.astimezone(zone)
    title = f"{span.day:%A}, {span.day.day} {span.day:%B %Y}"
    last = "24:00" if span.over else f"{end:%H:%M}, the day isn't over"
    argument = f'"{span.day.isoformat()}", store={json.dumps(store, ensure_ascii=False)}'
    zone_argument = "" if span.tz == "UTC" else f", tz={json.dumps(span.tz)}"
    zone_option = "" if span.tz == "UTC" else f" --tz {shlex.quote(span.tz)}"
    made = f"{now.astimezone(zone):%Y-%m-%d %H:%M:%S} {_name_offset(now.astimezone(zone))}"
    return Page(
        title=title,
        kicker="Daily audit report",
        subtitle=" · ".join(
            [
                f"{begin:%H:%M} to {last}",
                _name_zone(begin, span.tz),
                "its events can't be read" if day.damage else _count(day.totals.events, "event"),
            ]
        ),
        verdict=_tell_damage(
            _judge(verification, problem, span, store=store, store_id=store_id, made=made), day.damage
        ),
        figures=() if day.damage else _list_figures(day.totals, day.before),
        compared=_say_comparison(day),
        sections=tuple(section for section in _list_sections(day, verification) if section is not None),
        method=_list_methods(span),
        python=clean_text(f"auditkit.report.daily({argument}{zone_argument})", 500),
        cli=clean_text(
            f"auditkit report daily --day {span.day.isoformat()} --store {shlex.quote(store)}{zone_option}", 500
        ),
        footer=f"auditkit {auditkit.__version__} · made {made}",
    )


# Verdict


def _judge(
    verification: Verification | None, problem: str, span: Span, *, store: str, store_id: str, made: str
) -> Verdict:
    facts = [Fact("Store", f"{clean_text(store, 200)} · id {clean_text(store_id, 60)}")]
    versions = f"auditkit {auditkit.__version__}, pandas {pd.__version__}, Python {platform.python_version()}"
    made_by = Fact("Made by", f"{versions}, {made}")
    if verification is None:
        return Verdict(
            tone="warn",
            sign="?",
            headline="Not verified",
            sentence="The signatures were not checked, so nothing on this page is proved. " + clean_text(problem, 400),
            facts=(*facts, made_by),
        )
    tone, sign, headline, sentence = _say_verdict(verification)
    if verification.first is not None and verification.last is not None:
        facts.append(
            Fact(
                "Events checked",
                f"{_show_time(verification.first, span)} to {_show_time(verification.last, span)}",
            )
        )
    how = "every event and every file" if verification.deep else "files and ledger, not each event"
    facts += [
        Fact("Depth", f"{how}, in {format_duration(verification.duration)}"),
        Fact("Key", clean_text(verification.key_id or MISSING, 80)),
        Fact("Anchors", _say_anchors(verification)),
        made_by,
    ]
    findings = None
    if verification.findings:
        rows = tuple(_show_finding(finding, span) for finding in verification.findings[:MAX_FINDINGS])
        findings = Table(
            "Findings" if verification.verdict == "findings" else "What could not be checked",
            (
                Column("Kind", "code"),
                Column("Where", "long"),
                Column("Time"),
                Column("Expected", "long"),
                Column("Found", "long"),
                Column("What to do", "long"),
            ),
            rows,
            _say_shown(len(rows), len(verification.findings), "findings"),
        )
    return Verdict(
        tone=tone,
        sign=sign,
        headline=headline,
        sentence=sentence,
        facts=tuple(facts),
        findings=findings,
        notes=tuple(_say_note(note) for note in verification.notes[:MAX_FINDINGS]),
        checkpoint=clean_text(verification.checkpoint or "", MAX_NOTE_BYTES, lines=True).strip()
        if verification.checkpoint
        else "",
    )


def _tell_damage(verdict: Verdict, damage: str) -> Verdict:
    """Say on top why a page has no events."""
    if not damage:
        return verdict
    return replace(
        verdict, sentence=f"{verdict.sentence} No events are shown, since some can't be read: {clean_text(damage, 600)}"
    )


def _say_verdict(verification: Verification) -> tuple[Tone, str, str, str]:
    checked = f"Checked: {_say_checked(verification)}."
    accusing = sum(finding.severity == "finding" for finding in verification.findings)
    if accusing:
        return (
            "bad",
            "✕",
            f"{_count(accusing, 'finding')}: the record isn't as it was written",
            f"What is listed here doesn't match what was signed; figures made of it are no better. {checked}",
        )
    if not verification.ok:
        return (
            "warn",
            "?",
            "The check is incomplete",
            f"What is listed here could not be checked, so it is neither proved nor disproved. {checked}",
        )
    if verification.warnings:
        doubts = "; ".join(clean_text(warning.found, 300) for warning in verification.warnings)
        unchecked = all(warning.kind == "unverifiable" for warning in verification.warnings)
        known = "but not all of it could be checked" if unchecked else "but some of it may be gone"
        return "warn", "?", f"Nothing that is here was changed, {known}", f"{doubts}. {checked}"
    if not verification.checked_events and not verification.journal_events:
        return "good", "✓", "No findings", f"There was no event to check. {checked}"
    proof = (
        "Every signature and every chain is as it was written, and every file is the one the ledger names."
        if verification.deep
        else "Every file is the one the ledger names; the signature of each event was not checked."
    )
    tail = (
        "A checkpoint from outside the store shows that nothing sealed was cut off."
        if verification.anchored
        else "Whether newer parts were cut off can't be told yet: nothing outside the store vouches for its end."
    )
    return "good", "✓", "The record of this day is intact", f"{proof} {tail} {checked}"


def _say_anchors(verification: Verification) -> str:
    told = [f"{clean_text(anchor.source, 160)}: {anchor.status.replace('_', ' ')}" for anchor in verification.anchors]
    return "; ".join(dict.fromkeys(told)) or "none outside the store"


def _say_checked(verification: Verification) -> str:
    segments = _count(verification.checked_segments, "segment")
    sealed = f"{_count(verification.checked_events, 'event')} in {segments}"
    open_ones = f", {verification.journal_events:,} not sealed yet" if verification.journal_events else ""
    return f"{sealed}{open_ones}, and {_count(verification.checked_commits, 'commit')} of the ledger"


def _show_finding(finding: Finding, span: Span) -> tuple[Cell, ...]:
    where = [clean_text(finding.file, 160)] if finding.file else []
    if finding.writer:
        where.append(f"writer {clean_text(finding.writer, 60)}")
    if finding.first_seq is not None:
        last = finding.last_seq if finding.last_seq is not None else finding.first_seq
        where.append(f"seq {finding.first_seq}" + (f" to {last}" if last != finding.first_seq else ""))
    moments = [_show_time(moment, span) for moment in (finding.time_min, finding.time_max) if moment]
    return (
        Cell(clean_text(finding.kind, 40), "bad" if finding.severity == "finding" else "warn"),
        Cell(" · ".join(where) or MISSING),
        Cell(" to ".join(dict.fromkeys(moments)) or MISSING),
        Cell(clean_text(finding.expected, 300)),
        Cell(clean_text(finding.found, 300)),
        Cell(clean_text(finding.advice, 300)),
    )


def _say_note(note: Finding) -> str:
    """Say what a note is about: its kind and place, what would have been a proof, and what to do."""
    place = f" ({clean_text(note.file, 120)})" if note.file else ""
    size = f", {_count(note.events, 'event')}" if note.events else ""
    told = f"expected {clean_text(note.expected, 300)}, found {clean_text(note.found, 300)}"
    advice = f". What to do: {clean_text(note.advice, 300)}" if note.advice else ""
    return f"{clean_text(note.kind, 40)}{place}{size}: {told}{advice}"


# Key figures


def _list_figures(totals: Totals, before: Totals | None) -> tuple[Figure, ...]:
    rate = totals.failures / totals.events if totals.events else None
    if before is None:
        figures = [
            Figure("Events", format_count(totals.events)),
            Figure("Error rate", MISSING if rate is None else format_share(rate)),
            Figure("Leads touched", format_count(totals.leads)),
            Figure("Actors", format_count(totals.actors)),
        ]
        times = totals.percentiles.items()
        return (*figures, *(Figure(f"{name} · n = {totals.durations:,}", format_duration(t)) for name, t in times))
    rate_before = before.failures / before.events if before.events else None
    figures = [
        Figure("Events", format_count(totals.events), _say_change(totals.events, before.events)),
        _compare_rates(rate, rate_before),
        Figure("Leads touched", format_count(totals.leads), _say_change(totals.leads, before.leads)),
        Figure("Actors", format_count(totals.actors), _say_change(totals.actors, before.actors)),
    ]
    for name in ("p50", "p95", "p99"):
        value = totals.percentiles.get(name)
        if value is None:
            continue
        earlier = before.percentiles.get(name)
        change = _say_change(value, earlier)
        tone: Tone = "plain"
        if earlier and abs(value / earlier - 1) >= 0.05:
            tone = "bad" if value > earlier else "good"
        figures.append(Figure(f"{name} · n = {totals.durations:,}", format_duration(value), change, tone))
    return tuple(figures)


def _compare_rates(rate: float | None, before: float | None) -> Figure:
    label = "Error rate"
    if rate is None:
        return Figure(label, MISSING)
    if before is None:
        return Figure(label, format_share(rate), "no events before")
    points = (rate - before) * 100
    if abs(points) < 0.05:
        return Figure(label, format_share(rate), "unchanged")
    sign = "▲" if points > 0 else "▼"
    return Figure(label, format_share(rate), f"{sign} {abs(points):.1f} points", "bad" if points > 0 else "good")


def _say_change(value: float, before: float | None) -> str:
    if not before:
        return "none before" if value else ""
    change = value / before - 1
    if abs(change) < 0.005:
        return "unchanged"
    if change >= 9:
        return f"▲ {change + 1:,.0f} times"
    return f"{'▲' if change > 0 else '▼'} {abs(change) * 100:.0f} %"


def _say_comparison(day: Day) -> str:
    span = day.span
    if day.before is None:
        return f"Changes are left out, as the day before can't be read: {clean_text(day.damage_before, 600)}"
    if not day.totals.events and not day.before.events:
        return ""
    if span.over:
        return "Changes are against the day before."
    until = span.end.astimezone(find_zone(span.tz))
    return f"Changes are against the day before until {until:%H:%M}, as this day isn't over."


# Sections


def _list_sections(day: Day, verification: Verification | None) -> list[Section | None]:
    return [
        _describe_timeline(day),
        _describe_types(day),
        _describe_errors(day),
        _describe_latency(day),
        _describe_workflows(day),
        _describe_recent(day),
        _describe_integrity(verification),
    ]


def _describe_timeline(day: Day) -> Section | None:
    if day.damage:
        return Section("timeline", "Activity", "The events of this day couldn't be read.")
    if not day.totals.events:
        return Section("timeline", "Activity", "No events were recorded on this day.")
    frame = day.timeline.to_frame(fill=True, since=day.span.since, until=day.span.until)
    hours = frame.groupby(bucket_times(frame["time"], "1h", day.span.tz))[["n", "failures"]].sum()
    busiest = hours["n"].idxmax()
    intro = f"The busiest hour began at {busiest:%H:%M} with {_count(int(hours['n'].max()), 'event')}."
    chart = _chart(
        "timeline",
        "Events over the day in steps of five minutes, stacked by type",
        activity_charts.draw_timeline,
        frame,
    )
    rows = tuple(
        (
            Cell(f"{row['time']:%H:%M} {_name_offset(row['time'])}"),
            Cell(format_count(row["n"])),
            _failures(row["failures"]),
        )
        for row in hours.reset_index().to_dict("records")
    )
    columns = (Column("Hour from"), Column("Events", "number"), Column("Failures", "number"))
    table = Table("The same by the hour, as a table", columns, rows, display="folded")
    return Section("timeline", "Activity", intro, (chart,), table, wide=True)


def _describe_types(day: Day) -> Section | None:
    frame = day.types.to_frame()
    if frame.empty:
        return None
    shown = frame.head(MAX_GROUPS)
    rows = tuple(
        (
            _name(row["type"]),
            Cell(format_count(row["n"])),
            Cell(format_share(row["n"] / day.totals.events)),
            _failures(row["failures"]),
            Cell(f"{row['first']:%H:%M:%S}"),
            Cell(f"{row['last']:%H:%M:%S}"),
        )
        for row in shown.to_dict("records")
    )
    columns = (
        Column("Type", "code"),
        Column("Events", "number"),
        Column("Share", "number"),
        Column("Failures", "number"),
        Column("First", "number"),
        Column("Last", "number"),
    )
    chart = _chart("types", "Events by type, failures apart", activity_charts.draw_types, frame)
    table = Table("Events by type", columns, rows, _say_shown(len(rows), len(frame), "types"))
    return Section("types", "Event types", charts=_if_several(frame, chart), table=table)


def _describe_errors(day: Day) -> Section | None:
    frame = day.failed.to_frame()
    if frame.empty:
        return None
    shown = frame.head(MAX_GROUPS)
    rows = tuple(
        (
            _name(row["error_type"]),
            _name(row["operation"]),
            _name(row["workflow"]),
            Cell(format_count(row["n"])),
            Cell(format_count(row["leads"])),
            Cell(f"{row['first']:%H:%M:%S}"),
            Cell(f"{row['last']:%H:%M:%S}"),
            Cell(clean_text(row["message"], 160)),
        )
        for row in shown.to_dict("records")
    )
    columns = (
        Column("Error", "code"),
        Column("Operation", "code"),
        Column("Workflow", "code"),
        Column("Failures", "number"),
        Column("Leads", "number"),
        Column("First", "number"),
        Column("Last", "number"),
        Column("Sample message", "long"),
    )
    total = int(frame["n"].sum())
    share = format_share(total / day.totals.events) if day.totals.events else MISSING
    intro = f"{_count(total, 'failure')}, {share} of all events, in {_count(len(frame), 'group')}."
    chart = _chart("errors", "Failures by type of error", failure_charts.draw_failures, frame)
    table = Table("Failures", columns, rows, _say_shown(len(rows), len(frame), "groups"))
    return Section("errors", "Errors", intro, (chart,), table, _fold_tracebacks(shown), wide=True)


def _fold_tracebacks(frame: pd.DataFrame) -> tuple[Fold, ...]:
    """Return the sample traceback of each group, once for each that reads the same."""
    folds: dict[str, Fold] = {}
    for row in frame.to_dict("records"):
        if is_missing(row["traceback"]) or not str(row["traceback"]).strip():
            continue
        text = _cut_middle(str(row["traceback"]))
        where = "" if is_missing(row["operation"]) else f" in {clean_text(row['operation'], 80)}"
        title = f"{clean_text(row['error_type'], 80)}{where} · event {clean_text(row['id'], 80)}"
        folds.setdefault(text, Fold(title, text))
    return tuple(folds.values())


def _describe_latency(day: Day) -> Section | None:
    frame = day.latency.to_frame()
    if frame.empty:
        return None
    frame = frame.sort_values("p95_s", ascending=False, kind="stable", ignore_index=True)
    shown = frame.head(MAX_GROUPS)
    rows = tuple(
        (
            _name(row["operation"]),
            Cell(format_count(row["n"])),
            _failures(row["failures"]),
            *(Cell(format_duration(row[f"{name}_s"])) for name in ("min", "mean", "p50", "p90", "p95")),
            Cell(format_duration(row["p99_s"]), "warn" if row["n"] < latency_charts.ENOUGH_FOR_P99 else "plain"),
            Cell(format_duration(row["max_s"])),
        )
        for row in shown.to_dict("records")
    )
    names = ("n", "Failures", "Min", "Mean", "p50", "p90", "p95", "p99", "Max")
    columns = (Column("Operation", "code"), *(Column(name, "number") for name in names))
    notes = [_say_shown(len(rows), len(frame), "operations")]
    if (shown["n"] < latency_charts.ENOUGH_FOR_P99).any():
        notes.append("A p99 of fewer than 100 durations is little more than the maximum.")
    trend = day.trend.to_frame(fill=True, since=day.span.since, until=day.span.until)
    charts = (
        _chart("latency", "p50, p95 and p99 by operation", latency_charts.draw_percentiles, frame),
        _chart("trend", "p95 by operation and hour", latency_charts.draw_trend, trend),
    )
    table = Table("Durations by operation", columns, rows, " ".join(filter(None, notes)))
    return Section("latency", "Latency", "Slowest p95 first.", charts, table, wide=True)


def _describe_workflows(day: Day) -> Section | None:
    frame = day.workflows.to_frame()
    if frame["workflow"].isna().all():
        return None
    kinds = day.kinds.to_frame()
    started = _count_type(kinds, "workflow.started")
    stopped = _count_type(kinds, "workflow.stopped")
    shown = frame.head(MAX_GROUPS)
    rows = tuple(
        (
            _name(row["workflow"]),
            Cell(format_count(row["n"])),
            _failures(row["failures"]),
            Cell(format_share(row["failures"] / row["n"])),
            Cell(format_count(row["leads"])),
            Cell(format_count(started.get(row["workflow"], 0))),
            Cell(format_count(stopped.get(row["workflow"], 0))),
        )
        for row in shown.to_dict("records")
    )
    names = ("Events", "Failures", "Rate", "Leads", "Started", "Stopped")
    columns = (Column("Workflow", "code"), *(Column(name, "number") for name in names))
    chart = _chart("workflows", "Events by workflow, failures apart", activity_charts.draw_workflows, frame)
    table = Table("Workflows", columns, rows, _say_shown(len(rows), len(frame), "workflows"))
    return Section("workflows", "Workflows", charts=_if_several(frame, chart), table=table)


def _describe_recent(day: Day) -> Section | None:
    frame = day.recent
    if frame.empty:
        return None
    times = frame["time"].dt.tz_convert(find_zone(day.span.tz))
    rows = tuple(
        (
            Cell(f"{moment:%H:%M:%S.%f}"[:-3]),
            _name(row["type"]),
            _name(row["actor"]),
            _name(row["lead_id"]),
            _name(row["workflow"]),
            Cell(clean_text(row["outcome"], 40), "bad" if row["outcome"] == "failure" else "plain"),
            Cell(_say_event(row)),
        )
        for moment, row in zip(times, frame.to_dict("records"), strict=True)
    )
    columns = (
        Column("Time", "number"),
        Column("Type", "code"),
        Column("Actor", "code"),
        Column("Lead", "code"),
        Column("Workflow", "code"),
        Column("Outcome"),
        Column("What", "long"),
    )
    note = _say_shown(len(rows), day.totals.events, "events")
    table = Table("Recent events", columns, rows, note, display="scrolling")
    return Section("recent", "Recent events", "The newest first.", table=table, wide=True)


def _describe_integrity(verification: Verification | None) -> Section | None:
    if verification is None:
        return None
    checked = [partition for partition in verification.partitions if partition.status != NOT_CHECKED]
    if not checked:
        return None
    columns = (
        Column("Partition (UTC)"),
        Column("Segments", "number"),
        Column("Events", "number"),
        Column("Size", "number"),
        Column("Status"),
        Column("Findings", "number"),
    )
    rows = tuple(_show_partition(partition) for partition in checked)
    others = len(verification.partitions) - len(checked)
    note = f"{_count(others, 'other partition')} of the store not checked, outside this day." if others else ""
    intro = "The store keeps one partition for each UTC date."
    table = Table("Integrity by partition", columns, rows, note)
    return Section("integrity", "Integrity by partition", intro, table=table)


def _show_partition(partition: PartitionResult) -> tuple[Cell, ...]:
    tone: Tone = "bad" if partition.findings else "good" if partition.status == "ok" else "warn"
    return (
        Cell(str(partition.date)),
        Cell(format_count(partition.segments)),
        Cell(format_count(partition.events)),
        Cell(format_size(partition.bytes)),
        Cell(clean_text(partition.status, 40), tone),
        Cell(format_count(partition.findings)),
    )


def _list_methods(span: Span) -> tuple[str, ...]:
    zone = find_zone(span.tz)
    begin, end = span.since.astimezone(zone).isoformat(), span.until.astimezone(zone).isoformat()
    escapes = (
        "Characters that could deceive, such as control characters and changes of writing direction, are "
        "shown as escapes. Long texts are cut, and say so."
    )
    return (
        f"The day is {span.day} in {span.tz}, from {begin} to before {end}.",
        "An event belongs to the moment that the recording application gave it.",
        "The toolkit's own events (a writer opened, a writer closed) are verified and not counted.",
        "A failure is an event whose outcome is “failure”; the error rate is failures over all events.",
        "Percentiles are exact, by linear interpolation, over all events that carry a duration.",
        "Leads and actors are counted once, however many events name them.",
        "A group's sample is its newest failure that has a traceback.",
        escapes,
    )


# Small words


def _chart(key: str, caption: str, draw: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Chart:
    """Draw a figure; the page itself brings the theme."""
    require("plotly", "report")
    drawn = draw(frame)
    height = int(drawn.layout.height)
    drawn.layout.template = None
    return Chart(key, caption, drawn.to_json(), height)


def _if_several(frame: pd.DataFrame, chart: Chart) -> tuple[Chart, ...]:
    """Return the chart of a frame, unless it would be a single bar, which compares nothing."""
    return (chart,) if len(frame) > 1 else ()


def _name(value: object) -> Cell:
    return Cell(clean_text(value, 60) if str(value).strip() else "(empty)")


def _failures(count: int) -> Cell:
    return Cell(format_count(count), "bad" if count else "plain")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _count_type(kinds: pd.DataFrame, name: str) -> dict[Any, int]:
    rows = kinds.loc[kinds["type"].eq(name)]
    return dict(zip(rows["workflow"], rows["n"], strict=True))


def _say_shown(shown: int, total: int, noun: str) -> str:
    return f"showing {shown:,} of {total:,} {noun}" if shown < total else ""


def _say_event(row: dict[Any, Any]) -> str:
    """Say what an event is about, in one line."""
    parts = []
    if not is_missing(row["operation"]):
        parts.append(clean_text(row["operation"], 60))
    if not is_missing(row["duration_us"]):
        parts.append(format_duration(int(row["duration_us"]) / 1e6))
    if not is_missing(row["error_type"]):
        parts.append(clean_text(row["error_type"], 60))
    if not is_missing(row["message"]):
        parts.append(clean_text(row["message"], 140))
    elif not is_missing(row["details"]):
        parts.append(clean_text(row["details"], 140))
    return " · ".join(parts) or MISSING


def _show_time(moment: datetime, span: Span) -> str:
    return f"{moment.astimezone(find_zone(span.tz)):%Y-%m-%d %H:%M:%S}"


def _name_offset(moment: datetime) -> str:
    """Return the UTC offset of a moment, as ``UTC+01:00``."""
    text = moment.strftime("%z")
    return "UTC" if text in {"+0000", ""} else f"UTC{text[:3]}:{text[3:5]}"


def _name_zone(moment: datetime, tz: str) -> str:
    """Return a zone with the offset it has at a moment, unless its name is that already."""
    offset = _name_offset(moment)
    return tz if tz == offset else f"{tz} ({offset})"


def _cut_middle(text: str) -> str:
    """Return a traceback with its beginning and its end, which says most."""
    if len(text) <= MAX_TRACEBACK:
        return clean_text(text, MAX_TRACEBACK, lines=True)
    half = MAX_TRACEBACK // 2
    left_out = f"\n… {len(text) - 2 * half:,} characters left out …\n"
    return clean_text(text[:half], half, lines=True) + left_out + clean_text(text[-half:], half, lines=True)
