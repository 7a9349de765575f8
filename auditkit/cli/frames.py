"""Small frames (statistics, errors, percentiles) as a table, as one JSON document, or as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from auditkit.cli.cells import (
    label_zone,
    list_exact,
    show_number,
    show_seconds,
    show_text,
    show_time,
    write_csv,
)
from auditkit.cli.terminal import Column, make_text

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.cli.terminal import Terminal
    from auditkit.trail import AuditTrail


_PIECE_ROWS: Final = 500_000
"""Rows in memory at a time, of the few columns that a summary needs: some 100 MB."""


class _Adds(Protocol):
    """What adds up with its like."""

    def __add__(self, other: Any, /) -> Any:
        """Add another."""


Summary = TypeVar("Summary", bound=_Adds)


class _Kind(NamedTuple):
    title: str
    show: Callable[[Any], str]
    right: bool = True
    flexible: bool = False
    style: str = ""


def _show_failures(value: Any) -> str:
    text = show_number(value)
    return "·" if text == "0" else text


_KINDS: Final = {
    "n": _Kind("events", show_number),
    "failures": _Kind("failed", _show_failures),
    "leads": _Kind("leads", show_number),
    "actors": _Kind("actors", show_number),
    "mean_s": _Kind("mean", show_seconds),
    "min_s": _Kind("min", show_seconds),
    "max_s": _Kind("max", show_seconds),
    "error_type": _Kind("error", show_text, right=False, flexible=True),
    "message": _Kind("message", show_text, right=False, flexible=True),
    "operation": _Kind("operation", show_text, right=False, flexible=True),
    "workflow": _Kind("workflow", show_text, right=False, flexible=True),
    "type": _Kind("type", show_text, right=False, flexible=True),
}


def _find_kind(name: str, zone: tzinfo, days: bool) -> _Kind:
    if name == "time" and days:
        return _Kind(f"day ({label_zone(zone)})", lambda value: show_time(value, zone, seconds=False)[:10], right=False)
    if name in ("first", "last", "time"):
        return _Kind(f"{name} ({label_zone(zone)})", lambda value: show_time(value, zone, seconds=False), right=False)
    if name in _KINDS:
        return _KINDS[name]
    if name.startswith("p") and name.endswith("_s"):
        return _Kind(name.removesuffix("_s"), show_seconds)
    return _Kind(name, show_text, right=False, flexible=True)


def gather_summary(
    trail: AuditTrail, summarise: Callable[[pd.DataFrame], Summary], columns: Sequence[str], **filters: Any
) -> Summary:
    """Summarise a trail's events piece by piece: memory holds one piece and the summary.

    Args:
        trail: The trail.
        summarise: Makes the summary of a frame; summaries add up.
        columns: Columns that it needs.
        **filters: Filters of `AuditTrail.events`.
    """
    names = list(dict.fromkeys(columns))
    # The first frame gives the summary its columns, also where nothing fits the filters.
    if trail.count(**filters) <= _PIECE_ROWS:
        return summarise(trail.events(columns=names, **filters))
    total = summarise(trail.events(columns=names, limit=0, **filters))
    for frame in _join_pieces(trail.stream(columns=names, ordered=False, **filters)):
        total = total + summarise(frame)
    return total


def _join_pieces(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Join frames up to a size: a stream gives at least one for each day, and a summary of each costs its while."""
    import pandas as pd

    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _PIECE_ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def print_frame(
    terminal: Terminal,
    frame: pd.DataFrame,
    columns: Sequence[str],
    zone: tzinfo = UTC,
    title: str | None = None,
    days: bool = False,
) -> None:
    """Print a frame as a table.

    Args:
        terminal: Where to.
        frame: The frame.
        columns: Its columns to show, in this order; those it doesn't have are left out.
        zone: Zone of the times.
        title: A line above the table.
        days: Whether its times are days.
    """
    names = [name for name in columns if name in frame.columns]
    kinds = [_find_kind(name, zone, days) for name in names]
    heads = [Column(kind.title, right=kind.right, flexible=kind.flexible) for kind in kinds]
    rows = []
    for record in frame[names].to_dict("records"):
        failed = bool(record.get("failures"))
        row = []
        for name, kind in zip(names, kinds, strict=True):
            style = "red" if failed and name == "failures" else ("dim" if name in ("first", "last") else "")
            row.append(make_text(kind.show(record[name]), style))
        rows.append(row)
    terminal.print_table(heads, rows, title)


def write_frame_csv(frame: pd.DataFrame) -> None:
    """Write a frame to standard output as CSV: exact values, safe for spreadsheets."""
    names = [str(name) for name in frame.columns]
    write_csv(names, ([record[name] for name in names] for record in list_exact(frame)))
