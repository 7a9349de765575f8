"""``auditkit stats``: what the store holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from auditkit.cli.declarations import Settings, command, option, range_options, resolve_range

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.analysis.activity import ActivitySummary
    from auditkit.cli.terminal import Terminal
    from auditkit.trail import AuditTrail

_DAYS_SHOWN = 14
_ROWS_SHOWN = 25
_BLOCKS = "▏▎▍▌▋▊▉█"
_COLUMNS = ["time", "type", "workflow", "outcome", "lead_id", "actor"]


@dataclass(frozen=True)
class Statistics:
    """Counts of a store's events.

    Attributes:
        total: One row: events, failures, different leads and actors, first and last.
        types: A row for each event type.
        workflows: A row for each workflow.
        days: A row for each day that has events.
    """

    total: pd.DataFrame
    types: pd.DataFrame
    workflows: pd.DataFrame
    days: pd.DataFrame


@dataclass(frozen=True)
class _Counts:
    """Several summaries of the same events, which add up together."""

    parts: tuple[ActivitySummary, ...]

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(tuple(mine + theirs for mine, theirs in zip(self.parts, other.parts, strict=True)))


@command(
    "stats",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit stats", "the whole store"),
        ("auditkit stats --since 24h --workflow inbound-web", "one workflow's last day"),
        ("auditkit stats --format json | jq .total.events", "a number for a script"),
    ),
)
@option("--workflow", multiple=True, metavar="NAME", help="Events of this workflow.")
@range_options
def run(settings: Settings, workflow: tuple[str, ...], since: str | None, until: str | None, tz: str) -> None:
    """Show what the store holds: events by day, type and workflow.

    JSON holds all of it, CSV the counts by type.
    """
    from auditkit.cli.cells import list_exact, write_json
    from auditkit.cli.frames import write_frame_csv
    from auditkit.times import find_zone

    zone = find_zone(tz)
    span = resolve_range(settings, since, until, zone)
    trail = settings.open_trail(frames=True)
    filters: dict[str, Any] = {"since": span.since, "until": span.until, "workflow": list(workflow) or None}
    if settings.format == "table":
        print_statistics(settings.terminal, trail, zone=zone, **filters)
        return
    statistics = gather_statistics(trail, zone, **filters)
    if settings.format == "csv":
        write_frame_csv(statistics.types)
        return
    total = list_exact(statistics.total)[0] if len(statistics.total) else {}
    write_json(
        {
            "store": {"path": str(trail.path), "id": trail.store_id},
            "total": {
                "events": total.get("n", 0),
                "failures": total.get("failures", 0),
                "leads": total.get("leads", 0),
                "actors": total.get("actors", 0),
                "first": total.get("first"),
                "last": total.get("last"),
            },
            "types": list_exact(statistics.types),
            "workflows": list_exact(statistics.workflows),
            "days": list_exact(statistics.days),
        }
    )


def gather_statistics(trail: AuditTrail, zone: tzinfo = UTC, **filters: Any) -> Statistics:
    """Count a trail's events, in bounded memory.

    Args:
        trail: The trail.
        zone: Zone of the days.
        **filters: Filters of `AuditTrail.events`.
    """
    from auditkit.analysis import activity
    from auditkit.cli.cells import name_zone
    from auditkit.cli.frames import gather_summary

    tz = name_zone(zone)

    def count(frame: pd.DataFrame) -> _Counts:
        return _Counts(
            (
                activity.summarise(frame, by=(), tz=tz, distinct=("lead_id", "actor")),
                activity.summarise(frame, by=("type",), tz=tz),
                activity.summarise(frame, by=("workflow",), tz=tz),
                activity.summarise(frame, by=(), freq="1D", tz=tz),
            )
        )

    total, types, workflows, days = gather_summary(trail, count, _COLUMNS, **filters).parts
    return Statistics(total.to_frame(), types.to_frame(), workflows.to_frame(), days.to_frame())


def print_statistics(
    terminal: Terminal, trail: AuditTrail, *, zone: tzinfo = UTC, brief: bool = False, **filters: Any
) -> None:
    """Print a store's statistics.

    Args:
        terminal: Where to.
        trail: The store.
        zone: Zone of days and times.
        brief: Leave out first and last times, and the workflows.
        **filters: Filters of `AuditTrail.events`.
    """
    from auditkit.cli.cells import count_things, name_zone, show_number, show_text, show_time
    from auditkit.cli.frames import print_frame
    from auditkit.cli.terminal import make_text

    with terminal.show_status("counting events"):
        statistics = gather_statistics(trail, zone, **filters)
    if statistics.total.empty:
        terminal.note(f"no events in {trail.path}" + (" that fit the filters" if any(filters.values()) else ""))
        return
    total = statistics.total.iloc[0]
    line = make_text(count_things(int(total["n"]), "event"), "bold")
    line.append(
        f", {show_number(total['failures'])} failed, {count_things(int(total['leads']), 'lead')}, "
        f"{count_things(int(total['actors']), 'actor')}",
        "default not bold",
    )
    terminal.out.print(line, soft_wrap=True)
    first, last = (show_time(total[name], zone) for name in ("first", "last"))
    terminal.out.print(make_text(f"{first} to {last} {name_zone(zone)}", "dim"), soft_wrap=True)
    terminal.debug(f"store {show_text(trail.store_id)}")
    terminal.out.print()
    names = ["n", "failures", *([] if brief else ["first", "last"])]
    _print_days(terminal, statistics.days)
    terminal.out.print()
    print_frame(terminal, statistics.types.head(_ROWS_SHOWN), ["type", *names], zone)
    if not brief and statistics.workflows["workflow"].notna().any():
        terminal.out.print()
        print_frame(terminal, statistics.workflows.head(_ROWS_SHOWN), ["workflow", *names], zone)
    for name, table in (("types", statistics.types), ("workflows", statistics.workflows)):
        if len(table) > _ROWS_SHOWN:
            terminal.note(f"the {_ROWS_SHOWN} largest of {len(table):,} {name}; --format json has all")


def _print_days(terminal: Terminal, days: pd.DataFrame) -> None:
    """Print a bar for each of the newest days."""
    from auditkit.cli.cells import show_number
    from auditkit.cli.terminal import Column, make_text

    shown = days.tail(_DAYS_SHOWN)
    largest = max(1, int(shown["n"].max()))
    width = max(10, min(48, terminal.out.width - 36))
    rows = []
    for day in shown.to_dict("records"):
        moment: datetime = day["time"]
        bar = make_text(draw_bar(int(day["n"]) / largest, width, terminal.out.encoding), "blue")
        failed = int(day["failures"])
        rows.append(
            (
                f"{moment:%Y-%m-%d %a}",
                show_number(day["n"]),
                make_text(show_number(failed) if failed else "·", "red" if failed else "dim"),
                bar,
            )
        )
    columns = [Column("day"), Column("events", right=True), Column("failed", right=True), Column("")]
    terminal.print_table(columns, rows)
    if len(days) > len(shown):
        terminal.note(f"the newest {len(shown)} of {len(days):,} days with events")


def draw_bar(share: float, width: int, encoding: str = "utf-8") -> str:
    """Draw a bar to an eighth of a character, or of signs where the encoding has no blocks.

    Args:
        share: Length, 0 to 1.
        width: Characters of the longest bar.
        encoding: Encoding of what it is written to.

    Example:
        >>> draw_bar(0.5, 5), draw_bar(0.0, 5), draw_bar(0.001, 5)
        ('██▌', '', '▏')
        >>> draw_bar(0.5, 5, "ascii"), draw_bar(0.001, 5, "latin-1")
        ('##', '#')
    """
    if share <= 0:
        return ""
    try:
        _BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return _BLOCKS[-1] * (eighths // 8) + _BLOCKS[:-1][eighths % 8 - 1 : eighths % 8]
