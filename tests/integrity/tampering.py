"""What an attacker without the key can do to the files of a store, and what must be found of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from auditkit.integrity import Verification
from tests.integrity.stores import (
    COLUMNS,
    Sample,
    Site,
    accused_events,
    hash_leaf,
    list_rows,
    print_body,
    read_segment,
    say,
    write_segment,
)

Event = tuple[str, int]


@dataclass
class Change:
    """One thing that was done to a store.

    Attributes:
        file: The file it was done to, relative to the store.
        touched: Events that may be named for it: changed, added, moved or removed ones.
        named: Those of them that must be named.
        quiet: Whether nobody can tell it from a crash, so that it must be in the notes.
    """

    file: str
    touched: set[Event] = field(default_factory=set)
    named: set[Event] = field(default_factory=set)
    quiet: bool = False


def check_found(site: Site, before: Site, changes: list[Change], verification: Verification) -> None:
    """Assert that each change is found where it was made, and that nobody else is accused."""
    text = say(verification)
    loud = [change for change in changes if not change.quiet]
    assert verification.ok == (not loud), text
    accused = accused_events(verification)
    for change in loud:
        about = [finding for finding in verification.findings if fnmatchcase(change.file, finding.file)]
        assert about, f"nothing says that {change.file} was changed:\n{text}"
        assert change.named <= accused, f"not named: {sorted(change.named - accused)}\n{text}"
    for change in changes:
        if change.quiet:
            assert any(note.kind == "unanchored" for note in verification.notes), text
    allowed = set().union(*(change.touched for change in changes))
    allowed |= find_unprovable(before, allowed)
    known = {event for path in (*before.segments(), *before.journals()) for event in list_rows(before, path)}
    assert not (accused & known) - allowed, f"accused without cause: {sorted((accused & known) - allowed)}\n{text}"
    files = {change.file for change in changes}
    for finding in verification.findings:
        assert any(fnmatchcase(file, finding.file) for file in files) or finding.file.startswith("writer "), text
        assert finding.expected, text
        assert finding.found, text
        assert finding.advice, text
        if finding.time_min is not None and finding.time_max is not None:
            assert finding.time_min <= finding.time_max, text
        if finding.first_seq is not None and finding.last_seq is not None:
            assert finding.first_seq <= finding.last_seq, text
            assert finding.events == finding.last_seq - finding.first_seq + 1 or finding.kind == "missing", text


def find_unprovable(site: Site, touched: set[Event]) -> set[Event]:
    """List the untouched events that nothing vouches for any more.

    An event is proved by its own MAC, which needs the event before it, or by the MAC of the event behind it. The last
    event of a segment is also proved by the ledger; the last one of a journal isn't.
    """
    unprovable = set()
    for path in (*site.segments(), *site.journals()):
        rows = list_rows(site, path)
        for place, event in enumerate(rows):
            before = rows[place - 1] if place else None
            after = rows[place + 1] if place + 1 < len(rows) else None
            alone = after is None or after[0] != event[0]
            if before in touched and (after in touched or (alone and path.suffix == ".jsonl")):
                unprovable.add(event)
    return unprovable


# -- segments ---------------------------------------------------------------------------------------------------------


def list_swapped(rows: list[Event], place: int, other: int) -> set[Event]:
    """List the events that may be named for a swap: of two or three turned around, any may be the moved ones."""
    return {event for at in (place, other) for event in rows[max(at - 1, 0) : at + 2]}


def change_cell(table: pa.Table, place: int, column: str, value: Any) -> pa.Table:
    values = table.column(column).to_pylist()
    values[place] = value
    changed = pa.array(values, table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), table.schema.field(column), changed)


def draw_value(draw: Callable[[Any], Any], column: str, old: Any, writers: list[str]) -> Any:
    """Draw another value for a cell, of the kind that stands there."""
    if column == "writer":
        return draw(st.sampled_from([w for w in writers if w != old]))
    if column in ("mac", "leaf"):
        return draw(st.binary(min_size=32, max_size=32).filter(lambda value: value != old))
    if column == "time":
        return old.replace(microsecond=(old.microsecond + draw(st.integers(1, 999_999))) % 1_000_000)
    if column in ("v", "seq", "epoch", "duration_us"):
        return draw(st.integers(0, 60).filter(lambda value: value != old))
    choices = st.text(max_size=6) if column == "type" else st.none() | st.text(max_size=6)
    return draw(choices.filter(lambda value: value != old))


def tamper_with_segment(site: Site, path: Path, draw: Callable[[Any], Any]) -> Change:
    """Rewrite a segment with one change."""
    table = read_segment(path)
    rows = list_rows(site, path)
    name = site.name(path)
    place = draw(st.integers(0, len(rows) - 1))
    event = rows[place]
    what = draw(st.sampled_from(["change", "drop", "swap", "repeat", "forge", "move"]))
    change = Change(name, {event}, {event})
    if what == "change" or (what == "swap" and len(rows) < 2):
        column = draw(st.sampled_from([*COLUMNS, "mac", "leaf"]))
        writers = [*sorted({chain for chain, _ in rows}), "20200302-zzzzzzzzzzzzzzzz"]
        value = draw_value(draw, column, table.column(column)[place].as_py(), writers)
        table = change_cell(table, place, column, value)
        if column in ("writer", "seq"):
            added = (value, event[1]) if column == "writer" else (event[0], value)
            change.touched.add(added)
            change.named.add(added)
        if column == "leaf":
            change.named.clear()  # no event carries a leaf of its own; the file's hash tells
    elif what == "drop":
        count = draw(st.integers(1, min(3, len(rows) - place)))
        table = pa.concat_tables([table.slice(0, place), table.slice(place + count)])
        change.touched = change.named = set(rows[place : place + count])
    elif what == "swap":
        other = (place + draw(st.integers(1, len(rows) - 1))) % len(rows)
        order = list(range(len(rows)))
        order[place], order[other] = order[other], order[place]
        table = table.take(order)
        # Rows of two writers may stand in order still, as far as each writer goes.
        change.touched, change.named = list_swapped(rows, place, other), set()
    elif what == "repeat":
        target = draw(st.integers(0, len(rows)))
        table = pa.concat_tables([table.slice(0, target), table.slice(place, 1), table.slice(target)])
    elif what == "forge":
        seq = draw(st.sampled_from([event[1], max(s for w, s in rows if w == event[0]) + 1]))
        forged = change_cell(change_cell(table.slice(place, 1), 0, "message", "forged"), 0, "seq", seq)
        table = pa.concat_tables([table, forged])
        change.touched = change.named = {(event[0], seq)}
    else:
        other = draw(st.sampled_from([p for p in site.segments() if p != path]))
        write_segment(other, pa.concat_tables([read_segment(other), table.slice(place, 1)]))
        change.file = site.name(other)
        return change
    write_segment(path, table.combine_chunks())
    return change


def damage_segment(site: Site, path: Path, draw: Callable[[Any], Any]) -> Change:
    """Damage a segment's bytes, put another file in its place, or take it away."""
    name, rows = site.name(path), set(list_rows(site, path))
    what = draw(st.sampled_from(["flip", "cut", "replace", "delete", "empty"]))
    change = Change(name, rows)
    data = bytearray(path.read_bytes())
    if what == "flip":
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        path.write_bytes(data)
    elif what == "cut":
        path.write_bytes(data[: draw(st.integers(0, len(data) - 1))])
    elif what == "replace":
        other = draw(st.sampled_from([p for p in site.segments() if p != path]))
        change.touched = rows | set(list_rows(site, other))
        path.write_bytes(other.read_bytes())
    elif what == "delete":
        path.unlink()
    else:
        path.write_bytes(b"")
    return change


# -- journals ---------------------------------------------------------------------------------------------------------


def open_lines(sample: Sample, site: Site) -> dict[Path, int]:
    """List the journals with the number of their first line that isn't sealed."""
    half_sealed = sample.chains["ed"].writer
    return {path: 11 if half_sealed in path.name else 0 for path in site.journals()}


def is_last_part(site: Site, path: Path) -> bool:
    writer = path.name.split(".")[0]
    return path == max(p for p in site.journals() if p.name.startswith(writer))


def tamper_with_journal(sample: Sample, site: Site, path: Path, draw: Callable[[Any], Any]) -> Change:
    """Edit a journal's lines as lines, keeping each of them an event."""
    first = open_lines(sample, site)[path]
    lines = path.read_bytes().splitlines()
    rows = list_rows(site, path)
    place = draw(st.integers(first, len(lines) - 1))
    event = rows[place]
    what = draw(st.sampled_from(["edit", "unsign", "delete", "repeat", "swap", "insert", "chained"]))
    change = Change(site.name(path), {event}, {event})
    if what == "edit":
        fields = json.loads(lines[place])
        column = draw(st.sampled_from(["seq", "epoch", "time", "type", "actor", "message", "duration_us", "details"]))
        fields[column] = draw_json(draw, column, fields[column])
        lines[place] = print_body(fields)
        if column == "seq":
            added = (event[0], fields["seq"])
            change.touched.add(added)
            change.named = {added}
            if fields["seq"] < first:
                # It passes for one that is sealed already: what is missed is the one it was.
                change.named = {event}
                change.quiet = place == len(lines) - 1 and is_last_part(site, path)
    elif what == "unsign":
        fields = json.loads(lines[place])
        fields["mac"] = None
        fields["actor"] = "mallory"
        lines[place] = print_body(fields)
    elif what == "delete":
        change.quiet = place == len(lines) - 1 and is_last_part(site, path)
        del lines[place]
    elif what == "repeat":
        lines.insert(draw(st.integers(first, len(lines))), lines[place])
    elif what == "swap":
        other = first + (place - first + draw(st.integers(1, max(1, len(lines) - first - 1)))) % (len(lines) - first)
        lines[place], lines[other] = lines[other], lines[place]
        change.touched, change.named = list_swapped(rows, place, other), set()
    elif what == "insert":
        fields = json.loads(lines[place])
        fields["message"] = "forged"
        lines.insert(draw(st.integers(first, len(lines))), print_body(fields))
    else:
        # An attacker who knows everything but the key: the chain to the next event is kept by its hash alone.
        fields = json.loads(lines[place])
        fields["message"] = "edited"
        fields["mac"] = hash_leaf(lines[place - 1]).hex() if place else "0" * 64
        lines[place] = print_body(fields)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return change


def draw_json(draw: Callable[[Any], Any], column: str, old: Any) -> Any:
    if column in ("seq", "epoch", "duration_us"):
        return draw(st.integers(0, 40).filter(lambda value: value != old))
    if column == "time":
        return old + draw(st.integers(1, 1_000_000))
    if column == "type":
        return draw(st.text(min_size=1, max_size=6).filter(lambda value: value != old))
    return draw((st.none() | st.text(max_size=6)).filter(lambda value: value != old))


def damage_journal(sample: Sample, site: Site, path: Path, draw: Callable[[Any], Any]) -> Change:
    """Flip a bit of a journal's unsealed lines."""
    first = open_lines(sample, site)[path]
    data = bytearray(path.read_bytes())
    rows = list_rows(site, path)
    lines = bytes(data).splitlines(keepends=True)
    start = sum(map(len, lines[:first]))
    offset = draw(st.integers(start, len(data) - 1))
    number = bytes(data[:offset]).count(b"\n")
    change = Change(site.name(path), set(rows[number : number + 2 if data[offset] == 10 else number + 1]))
    is_last = number == len(lines) - 1 and is_last_part(site, path)
    change.quiet = is_last and offset == len(data) - 1
    data[offset] ^= 1 << draw(st.integers(0, 7))
    path.write_bytes(data)
    try:
        fields = json.loads(bytes(data).split(b"\n")[number])
        change.touched.add((fields["writer"], fields["seq"]))
        # A last line that passes for one that is sealed already is as good as cut off.
        change.quiet = change.quiet or (is_last and fields["writer"] == rows[0][0] and fields["seq"] < first)
    except (ValueError, KeyError, TypeError):
        pass  # no event any more
    return change
