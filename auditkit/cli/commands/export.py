"""``auditkit export``: events to a file that other tools read."""

from __future__ import annotations

import sys
from typing import Any

import click

from auditkit.cli.declarations import Settings, choose_filters, command, filter_options, option, resolve_range


@command(
    "export",
    examples=(
        ("auditkit export --output events.csv", "all events, for a spreadsheet"),
        ("auditkit export --since 7d --type error --output errors.jsonl", "a week of errors"),
        ("auditkit export --output events.parquet", "for pandas, DuckDB, Polars, Spark"),
        ("auditkit export --format jsonl --lead L-1042 | jq .message", "to a pipe"),
    ),
)
@option("--output", default="-", metavar="FILE", help="File to write, or - for standard output [default: -].")
@option(
    "--format",
    type=click.Choice(["csv", "json", "jsonl", "parquet"]),
    metavar="FORMAT",
    help="csv, json, jsonl or parquet [default: what the file's suffix says; csv on standard output].",
)
@option("--columns", metavar="NAMES", help="Columns to write, with commas between [default: all].")
@option("--bom", is_flag=True, help="Begin CSV with a byte order mark, so that Excel knows that it's UTF-8.")
@option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N events.")
@option("--internal", is_flag=True, help="Also auditkit's own events, such as auditkit.opened.")
@filter_options
def run(
    settings: Settings,
    output: str,
    columns: str | None,
    bom: bool,
    limit: int | None,
    internal: bool,
    lead: tuple[str, ...],
    type: tuple[str, ...],
    workflow: tuple[str, ...],
    actor: tuple[str, ...],
    outcome: tuple[str, ...],
    since: str | None,
    until: str | None,
    tz: str,
) -> None:
    """Write events to a file that other tools read.

    An export streams: its memory doesn't grow with the number of events. A file appears whole or not at all.
    JSON, JSON Lines and Parquet hold the exact values. CSV is safe to open in a spreadsheet: a cell that
    begins with = + - @, a tab, a line end, NUL, or a full-width form of these gets a leading apostrophe.
    """
    from auditkit.charts.text import format_size
    from auditkit.cli.cells import choose_cell, count_things
    from auditkit.cli.terminal import shorten_path
    from auditkit.exporting import choose_format, export_events, guard_cell
    from auditkit.times import find_zone

    kind = settings.format or ("csv" if output == "-" else choose_format(output))
    if kind == "parquet" and output == "-" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: give --output FILE, or send it to a pipe")
    span = resolve_range(settings, since, until, find_zone(tz))
    filters: dict[str, Any] = choose_filters(lead, type, workflow, actor, outcome)
    filters |= {"since": span.since, "until": span.until, "include_internal": internal}
    if limit is not None:
        filters["limit"] = limit
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    trail = settings.open_trail(frames=True)
    with settings.terminal.show_status("exporting") if output != "-" else _nothing():
        result = export_events(
            trail,
            output,
            kind,
            columns=names,
            bom=bom,
            cell=choose_cell() if output == "-" else guard_cell,
            **filters,
        )
    where = "" if result.path is None else f" to {shorten_path(result.path)}"
    settings.terminal.note(f"{count_things(result.rows, 'event')}, {format_size(result.bytes)}{where}")


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
