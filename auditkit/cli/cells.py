"""From a frame's values to what a table, a JSON document or a CSV file shows of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import IO, TYPE_CHECKING, Any

from auditkit.charts.text import MISSING, is_missing
from auditkit.cli.terminal import MAX_CELL, make_text, printable, shorten
from auditkit.times import format_duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text


def name_zone(zone: tzinfo) -> str:
    """Name a time zone.

    Example:
        >>> name_zone(UTC)
        'UTC'
    """
    return str(getattr(zone, "key", None) or zone)


def label_zone(zone: tzinfo) -> str:
    """Name a time zone for a heading, where a long name has no room.

    Example:
        >>> from zoneinfo import ZoneInfo
        >>> label_zone(ZoneInfo("America/Argentina/Buenos_Aires"))
        'Buenos_Aires'
    """
    return name_zone(zone).rpartition("/")[2]


def show_time(value: Any, zone: tzinfo, *, seconds: bool = True) -> str:
    """Show a time in a zone, to the second; the heading names the zone.

    Example:
        >>> show_time(datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC), UTC)
        '2026-11-23 10:00:05'
        >>> show_time(None, UTC)
        '–'
    """
    if is_missing(value):
        return MISSING
    local: datetime = value.astimezone(zone) if isinstance(value, datetime) else value.tz_convert(zone)
    return local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def show_number(value: Any) -> str:
    """Show a count with separators.

    Example:
        >>> show_number(12034)
        '12,034'
    """
    return MISSING if is_missing(value) else f"{int(value):,}"


def count_things(number: int, thing: str) -> str:
    """Say how many of a thing there are.

    Example:
        >>> count_things(1, "commit"), count_things(2000, "commit")
        ('1 commit', '2,000 commits')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def show_seconds(value: Any) -> str:
    """Show a duration given in seconds.

    Example:
        >>> show_seconds(0.25)
        '250 ms'
    """
    return MISSING if is_missing(value) else format_duration(float(value))


def show_text(value: Any) -> str:
    """Show a text, cut and made printable; a missing one is a dash.

    Example:
        >>> show_text("a\\tb")
        'a\\\\tb'
    """
    return MISSING if is_missing(value) else printable(shorten(str(value)))


def summarise_event(event: Mapping[str, Any]) -> Text:
    """Say in one line what an event holds beyond its time, type and lead.

    Args:
        event: A row of the trail's frame.

    Returns:
        For a failure its error in red, for an operation its name and duration, otherwise the details.
    """
    parts: list[str] = []
    failed = event.get("outcome") == "failure"
    if not is_missing(event.get("operation")):
        parts.append(show_text(event["operation"]))
        if not is_missing(event.get("duration_us")):
            parts.append(format_duration(int(event["duration_us"]) / 1e6))
    if not is_missing(event.get("error_type")):
        parts.append(f"{show_text(event['error_type'])}:")
    if not is_missing(event.get("message")):
        parts.append(show_text(event["message"]))
    if not is_missing(event.get("details")):
        parts.append(summarise_details(event["details"]))
    if not parts and not is_missing(event.get("outcome")):
        parts.append(show_text(event["outcome"]))
    return make_text(shorten(" ".join(part for part in parts if part)), "red" if failed else "")


def summarise_details(details: str) -> str:
    """Show JSON details as ``key=value`` pairs, the short values first that a person looks for.

    Example:
        >>> summarise_details('{"source":"web","data":{"name":"Ana"},"score":0.5}')
        'source=web data.name=Ana score=0.5'
        >>> summarise_details("no json")
        'no json'
    """
    import orjson

    if len(details) > 20 * MAX_CELL:
        return show_text(details)
    try:
        value = orjson.loads(details)
    except orjson.JSONDecodeError:
        return show_text(details)
    return shorten(" ".join(printable(pair) for pair in _list_pairs(value, "")))


def _list_pairs(value: Any, path: str) -> Iterator[str]:
    import orjson

    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _list_pairs(member, f"{path}.{key}" if path else str(key))
    else:
        text = shorten(value) if isinstance(value, str) else orjson.dumps(value).decode()
        yield f"{path}={text}" if path else text


def make_exact(value: Any) -> Any:
    """Turn a frame's value into one that JSON holds exactly.

    Example:
        >>> make_exact(datetime(2026, 11, 23, 10, tzinfo=UTC))
        '2026-11-23T10:00:00.000000Z'
    """
    if isinstance(value, Mapping):
        return {str(key): make_exact(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_exact(member) for member in value]
    if is_missing(value):
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        return make_exact(value.item())
    if isinstance(value, (str, bool, int, float)):
        return value
    return str(value)


def list_exact(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a frame into records that JSON holds exactly."""
    return [make_exact(record) for record in frame.to_dict("records")]


def write_json(document: Any, stream: IO[bytes] | None = None) -> None:
    """Write one JSON document to standard output, indented; a terminal finds nothing in it to act on."""
    import orjson

    from auditkit.exporting import escape_json

    text = escape_json(orjson.dumps(make_exact(document), option=orjson.OPT_INDENT_2).decode())
    target = stream or sys.stdout.buffer
    target.write(text.encode() + b"\n")
    target.flush()


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], stream: IO[bytes] | None = None) -> None:
    """Write a small CSV table to standard output, safe for spreadsheets and terminals."""
    import csv
    import io

    cell = choose_cell()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        exact = [make_exact(value) for value in row]
        writer.writerow([cell(value) if isinstance(value, str) else value for value in exact])
    target = stream or sys.stdout.buffer
    target.write(text.getvalue().encode("utf-8", "backslashreplace"))
    target.flush()


def choose_cell() -> Callable[[str], str]:
    """Choose how CSV cells are made: a terminal gets nothing to act on, a pipe the exact text."""
    from auditkit.exporting import guard_cell

    if sys.stdout.isatty():
        return lambda text: printable(guard_cell(text))
    return guard_cell
