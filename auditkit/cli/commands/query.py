"""``auditkit query``: events, filtered and in order of time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from auditkit.cli.declarations import (
    Settings,
    choose_filters,
    command,
    filter_options,
    option,
    resolve_range,
)
from auditkit.errors import StoreDamaged

if TYPE_CHECKING:
    from datetime import tzinfo

    import pandas as pd

    from auditkit.cli.terminal import Terminal
    from auditkit.trail import AuditTrail

TABLE_LIMIT = 50


@command(
    "query",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit query --since 24h", "the newest events of the last day"),
        ("auditkit query --lead L-1042 --tz Europe/Berlin", "one lead's history"),
        ("auditkit query --type error --actor crm-bot --limit 20", "what one actor got wrong"),
        ("auditkit query --since 7d --format json > week.json", "a week of events, exact"),
    ),
)
@filter_options
@option(
    "--limit",
    type=int,
    metavar="N",
    help="The newest N events; 0 for all [default: 50 in a table, else all].",
)
@option("--internal", is_flag=True, help="Also auditkit's own events, such as auditkit.opened.")
def run(
    settings: Settings,
    lead: tuple[str, ...],
    type: tuple[str, ...],
    workflow: tuple[str, ...],
    actor: tuple[str, ...],
    outcome: tuple[str, ...],
    since: str | None,
    until: str | None,
    tz: str,
    limit: int | None,
    internal: bool,
) -> None:
    """Show events, filtered and in order of time.

    A table shows the newest 50, the newest at the bottom. JSON and CSV hold every event that fits the
    filters, exact to the microsecond, and are streamed.
    """
    import click

    from auditkit.times import find_zone

    if limit is not None and limit < 0:
        raise click.UsageError(f"expected --limit of 0 (all) or more, found {limit}")
    zone = find_zone(tz)
    span = resolve_range(settings, since, until, zone)
    filters: dict[str, Any] = choose_filters(lead, type, workflow, actor, outcome)
    filters |= {"since": span.since, "until": span.until, "include_internal": internal}
    trail = settings.open_trail(frames=True)
    if settings.format == "table":
        _show_table(settings.terminal, trail, filters, TABLE_LIMIT if limit is None else limit, zone)
    else:
        _stream(settings, trail, filters, limit or 0)


def _show_table(terminal: Terminal, trail: AuditTrail, filters: dict[str, Any], limit: int, zone: tzinfo) -> None:
    from auditkit.cli.cells import count_things

    names = [
        "time",
        "type",
        "actor",
        "lead_id",
        "outcome",
        "operation",
        "duration_us",
        "error_type",
        "message",
    ]
    with terminal.show_status("reading events"):
        chosen: dict[str, Any] = {"limit": limit, "newest": True} if limit else {}
        frame = trail.events(columns=[*names, "details"], **filters, **chosen)
    if frame.empty:
        terminal.note("no event fits: check the filters, or see `auditkit stats` for what there is")
        return
    print_events(terminal, frame, zone)
    if limit and len(frame) >= limit:
        try:
            total = trail.count(**filters)
        except StoreDamaged:
            terminal.note(
                f"the newest {count_things(len(frame), 'event')}; how many there are can't be said, as others can't "
                "be read"
            )
            raise
        if total > len(frame):
            terminal.note(f"the newest {len(frame):,} of {count_things(total, 'event')}; --limit 0 shows all")


def print_events(terminal: Terminal, frame: pd.DataFrame, zone: tzinfo) -> None:
    """Print events as a table, one line each."""
    from auditkit.cli.cells import label_zone, show_text, show_time, summarise_event
    from auditkit.cli.terminal import Column, make_text

    wide = terminal.out.width >= 100
    columns = [Column(f"time ({label_zone(zone)})"), Column("type", max_width=24)]
    columns += [Column("lead", max_width=16), *([Column("actor", max_width=20)] if wide else [])]
    columns += [Column("what", flexible=True)]
    rows = []
    for event in frame.sort_values("time", kind="stable").to_dict("records"):
        style = "red" if event["outcome"] == "failure" else ""
        row = [
            make_text(show_time(event["time"], zone), "dim"),
            make_text(show_text(event["type"]), style),
            make_text(show_text(event["lead_id"])),
            *([make_text(show_text(event["actor"]))] if wide else []),
            summarise_event({str(name): value for name, value in event.items()}),
        ]
        rows.append(row)
    terminal.print_table(columns, rows)


def _stream(settings: Settings, trail: AuditTrail, filters: dict[str, Any], limit: int) -> None:
    from auditkit.cli.cells import choose_cell, count_things
    from auditkit.exporting import read_batches, write_events

    batches = read_batches(trail, limit=limit or None, newest=True, **filters)
    result = write_events(batches, sys.stdout.buffer, settings.format, cell=choose_cell())
    settings.terminal.debug(count_things(result.rows, "event"))
