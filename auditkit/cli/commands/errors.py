"""``auditkit errors``: what failed, grouped by error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from auditkit.cli.declarations import Settings, command, option, range_options, resolve_range

if TYPE_CHECKING:
    from datetime import tzinfo

    import pandas as pd

    from auditkit.cli.terminal import Terminal


@command(
    "errors",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit errors", "what failed most often"),
        ("auditkit errors --since 24h --limit 3 --traceback", "the last day's worst, with tracebacks"),
        ("auditkit errors --workflow inbound-web --format json", "of one workflow, for a program"),
    ),
)
@option("--limit", type=click.IntRange(min=1), default=20, metavar="N", help="The N most frequent [default: 20].")
@option("--traceback", "with_traceback", is_flag=True, help="A sample traceback of each.")
@option("--workflow", multiple=True, metavar="NAME", help="Failures of this workflow.")
@range_options
def run(
    settings: Settings,
    limit: int,
    with_traceback: bool,
    workflow: tuple[str, ...],
    since: str | None,
    until: str | None,
    tz: str,
) -> None:
    """Show what failed, grouped by error, operation and workflow, the most frequent first.

    A failure is an event whose outcome is failure: an error, or an operation that ended in one.
    """
    from auditkit.analysis import failures
    from auditkit.cli.cells import list_exact, name_zone, write_json
    from auditkit.cli.frames import gather_summary, write_frame_csv
    from auditkit.times import find_zone

    zone = find_zone(tz)
    span = resolve_range(settings, since, until, zone)
    trail = settings.open_trail(frames=True)
    keys = ("error_type", "operation", "workflow")
    with settings.terminal.show_status("reading failures"):
        groups = gather_summary(
            trail,
            lambda frame: failures.summarise(frame, by=keys, tz=name_zone(zone)),
            (*failures.COLUMNS, *keys),
            outcome="failure",
            workflow=list(workflow) or None,
            since=span.since,
            until=span.until,
        ).to_frame()
    total, count = int(groups["n"].sum()), len(groups)
    groups = groups.head(limit)
    if settings.format == "json":
        write_json(list_exact(groups))
    elif settings.format == "csv":
        write_frame_csv(groups)
    elif groups.empty:
        chosen = workflow or since or until
        settings.terminal.note("nothing failed" + (" that fits the filters" if chosen else ""))
    else:
        _print_groups(settings.terminal, groups, zone, with_traceback)
        shown = f"the {f'{limit} ' if limit > 1 else ''}most frequent of " if count > limit else ""
        settings.terminal.note(f"{total:,} failures; {shown}{count} groups")


def _print_groups(terminal: Terminal, groups: pd.DataFrame, zone: tzinfo, with_traceback: bool) -> None:
    """Print a line for each group, and its message below where the line has no room for it."""
    from auditkit.charts.text import is_missing
    from auditkit.cli.cells import label_zone, show_number, show_text, show_time
    from auditkit.cli.terminal import Column, make_text, printable_lines

    columns = [Column("n", right=True), Column("error", flexible=True), Column(f"last ({label_zone(zone)})")]
    records = groups.to_dict("records")
    rows = []
    for group in records:
        error = make_text(shorten_class(show_text(group["error_type"])), "bold red")
        for name, preposition in (("operation", "in"), ("workflow", "of")):
            if not is_missing(group[name]):
                error.append(f" {preposition} ", "dim not bold")
                error.append(show_text(group[name]), "default not bold")
        if not is_missing(group["message"]):
            error.append(f"\n{show_text(group['message'])}", "default not bold")
        seen = make_text(show_time(group["last"], zone, seconds=False), "dim")
        rows.append((show_number(group["n"]), error, seen))
    terminal.print_table(columns, rows)
    if not with_traceback:
        return
    for group in records:
        terminal.out.print()
        terminal.out.print(make_text(f"{show_number(group['n'])} × {show_text(group['error_type'])}", "bold red"))
        text = group["traceback"] if isinstance(group["traceback"], str) else "(no traceback was recorded)"
        terminal.out.print(make_text(printable_lines(text.rstrip()), "dim"), soft_wrap=True)


def shorten_class(name: str) -> str:
    """Leave out the module of a class's name; a name that isn't a class's stays as it is.

    Example:
        >>> shorten_class("smtplib.SMTPRecipientsRefused")
        'SMTPRecipientsRefused'
    """
    parts = name.split(".")
    return parts[-1] if all(part.isidentifier() for part in parts) else name
