"""``auditkit performance``: how long operations took."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any

import click

from auditkit.cli.declarations import Settings, command, option, range_options, resolve_range

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.cli.terminal import Terminal
    from auditkit.trail import AuditTrail

_WIDTHS = {"hour": "1h", "day": "1D", "week": "1W"}


@command(
    "performance",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit performance", "every operation, the slowest first"),
        ("auditkit performance --since 24h", "of the last day"),
        ("auditkit performance --operation crm.sync --by day", "whether one gets slower"),
    ),
)
@option("--operation", multiple=True, metavar="NAME", help="This operation; can be given more than once.")
@option(
    "--by",
    type=click.Choice(list(_WIDTHS)),
    metavar="UNIT",
    help="A row for each hour, day or week, instead of one for all time.",
)
@range_options
def run(
    settings: Settings,
    operation: tuple[str, ...],
    by: str | None,
    since: str | None,
    until: str | None,
    tz: str,
) -> None:
    """Show how long operations took: count, failures, mean, and percentiles.

    The percentiles are exact, with linear interpolation between ranks.
    """
    from auditkit.cli.cells import list_exact, write_json
    from auditkit.cli.frames import write_frame_csv
    from auditkit.times import find_zone

    zone = find_zone(tz)
    span = resolve_range(settings, since, until, zone)
    trail = settings.open_trail(frames=True)
    filters = {"operation": list(operation) or None, "since": span.since, "until": span.until}
    if settings.format == "table":
        print_performance(settings.terminal, trail, by=by, zone=zone, **filters)
        return
    table = measure_operations(trail, by=by, zone=zone, **filters)
    if settings.format == "json":
        write_json(list_exact(table))
    else:
        write_frame_csv(table)


def measure_operations(trail: AuditTrail, *, by: str | None = None, zone: tzinfo = UTC, **filters: Any) -> pd.DataFrame:
    """Measure the operations of a trail; see `auditkit.analysis.latency` for the columns.

    Args:
        trail: The trail.
        by: ``"hour"``, ``"day"`` or ``"week"`` for a row each.
        zone: Zone of the days.
        **filters: Filters of `AuditTrail.events`.

    Returns:
        The operation with the largest p95 first; with ``by``, by operation and time.
    """
    from auditkit.analysis import latency
    from auditkit.cli.cells import name_zone
    from auditkit.cli.frames import gather_summary

    width = _WIDTHS[by] if by else None
    table = gather_summary(
        trail,
        lambda frame: latency.summarise(frame, by=("operation",), freq=width, tz=name_zone(zone)),
        ("time", "operation", "outcome", "duration_us"),
        **filters,
    ).to_frame()
    table = table[table["operation"].notna()]
    return table if by else table.sort_values("p95_s", ascending=False, kind="stable", ignore_index=True)


def print_performance(
    terminal: Terminal, trail: AuditTrail, *, by: str | None = None, zone: tzinfo = UTC, **filters: Any
) -> None:
    """Print the percentiles of a trail's operations."""
    from auditkit.cli.frames import print_frame

    with terminal.show_status("reading durations"):
        table = measure_operations(trail, by=by, zone=zone, **filters)
    if table.empty:
        if any(filters.values()):
            terminal.note("no measured operation fits: `auditkit performance` alone shows those that there are")
        else:
            terminal.note("no operation was measured: see `track` in the documentation")
        return
    wide = terminal.out.width >= 100
    columns = ["operation", "time", "n", "failures", *(["mean_s"] if wide else [])]
    columns += ["p50_s", "p90_s", "p95_s", "p99_s", "max_s"]
    print_frame(terminal, table, columns, zone, days=by in ("day", "week"))
