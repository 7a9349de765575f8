"""Attacks on the rows of sealed segments: with the ledger as it is, and with everything fixed up but the keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.attacks.archive import UNUSED_KEYS, Archive, Stored, Told, check_told, name_commit, tell_events
from tests.attacks.forging import OWN_KEY, Forger, Row, edit_rows, hash_row, sign_rows
from tests.attacks.recorder import MONDAY, WEDNESDAY
from tests.integrity.stores import Site


@dataclass
class Trace:
    """What must be told of an attack on rows, beside the files it was made on.

    Attributes:
        files: The segments that were rewritten.
        listed: What contradicts the ledger's list of events, if the ledger is as it was.
        shown: What the rows themselves show to anybody.
        proved: What takes the secret key to see.
        forged: What takes the secret key to see where the ledger lists the forged rows.
        listable: Whether a commit can list the rows as they now are; each writer's numbers must go up in it.
    """

    files: list[str]
    listed: list[Told] = field(default_factory=list)
    shown: list[Told] = field(default_factory=list)
    proved: list[Told] = field(default_factory=list)
    forged: list[Told] | None = None
    listable: bool = True


Attack = Callable[[Archive, Site], Trace]


def find_rows(archive: Archive, path: str, person: int = 0) -> list[Stored]:
    """List the events of one of a segment's writers: of the first one that it has, or of the second."""
    writers = [run[0] for run in archive.entries[path]["runs"]]
    writers.sort(key=lambda writer: -sum(event.writer == writer for event in archive.events[path]))
    return [event for event in archive.events[path] if event.writer == writers[person]]


def change_actor(row: Row) -> Row:
    return {**row, "actor": "mallory"}


def edit(place: int) -> Attack:
    """Change an event of a writer: the first one, one in the middle, the last one."""

    def attack(archive: Archive, site: Site) -> Trace:
        path = archive.find_segment(1, MONDAY)
        event = find_rows(archive, path)[place]
        edit_rows(site.path / path, lambda rows: [change_actor(row) if is_at(row, event) else row for row in rows])
        return Trace([path], proved=[tell_events("tampered", path, [event])])

    return attack


def is_at(row: Row, *events: Stored) -> bool:
    """Tell whether a row is one of these events."""
    return any((row["writer"], row["seq"]) == (event.writer, event.seq) for event in events)


def delete(first: int, last: int) -> Attack:
    """Delete consecutive events of a writer."""

    def attack(archive: Archive, site: Site) -> Trace:
        path = archive.find_segment(1, MONDAY)
        events = find_rows(archive, path)
        gone = events[first:last]
        edit_rows(site.path / path, lambda rows: [row for row in rows if not is_at(row, *gone)])
        told = tell_hole(path, events, first, first + len(gone))
        return Trace([path], shown=[told]) if first > 0 and gone[-1] != events[-1] else Trace([path], listed=[told])

    return attack


def tell_hole(path: str, events: list[Stored], first: int, last: int) -> Told:
    """Say what must be told of events that are gone: between the times of the ones around them."""
    around = [*events[max(first - 1, 0) : first], *events[last : last + 1]]
    told = tell_events("missing", path, events[first:last])
    return replace(told, times=tell_events("missing", path, around).times)


def insert_behind(archive: Archive, site: Site) -> Trace:
    """Add an event behind a writer's last one, signed with a key of one's own."""
    path = archive.find_segment(1, MONDAY)
    events, store = find_rows(archive, path), site.store_id
    added = replace(events[-1], seq=events[-1].seq + 1)

    def add(rows: list[Row]) -> list[Row]:
        place = next(n for n, row in enumerate(rows) if is_at(row, events[-1])) + 1
        (forged,) = sign_rows(
            [{**rows[place - 1], "seq": added.seq}], store, 0, OWN_KEY, hash_row(rows[place - 1], store)
        )
        return [*rows[:place], forged, *rows[place:]]

    edit_rows(site.path / path, add)
    told = tell_events("tampered", path, [added])
    return Trace([path], listed=[told], forged=[told])


def insert_between(archive: Archive, site: Site) -> Trace:
    """Put another event of the same number before a genuine one."""
    path = archive.find_segment(1, MONDAY)
    event = find_rows(archive, path)[5]
    edit_rows(
        site.path / path,
        lambda rows: [each for row in rows for each in ([change_actor(row), row] if is_at(row, event) else [row])],
    )
    return Trace([path], shown=[tell_events("tampered", path, [event])], listable=False)


def duplicate(archive: Archive, site: Site) -> Trace:
    """Repeat an event."""
    path = archive.find_segment(1, MONDAY)
    event = find_rows(archive, path)[5]
    edit_rows(site.path / path, lambda rows: [each for row in rows for each in [row] * (1 + is_at(row, event))])
    return Trace([path], shown=[tell_events("tampered", path, [event])], listable=False)


def reorder(archive: Archive, site: Site) -> Trace:
    """Move an event three places on."""
    path = archive.find_segment(1, MONDAY)
    events = find_rows(archive, path)

    def move(rows: list[Row]) -> list[Row]:
        place = next(n for n, row in enumerate(rows) if is_at(row, events[5]))
        return [*rows[:place], *rows[place + 1 : place + 4], rows[place], *rows[place + 4 :]]

    edit_rows(site.path / path, move)
    return Trace([path], shown=[tell_events("tampered", path, [events[5]])], listable=False)


def move_rows(archive: Archive, site: Site, source: str, target: str, moved: list[Stored]) -> None:
    """Take events out of a segment and put them at the end of another."""
    taken: list[Row] = []

    def take(rows: list[Row]) -> list[Row]:
        taken.extend(row for row in rows if is_at(row, *moved))
        return [row for row in rows if not is_at(row, *moved)]

    edit_rows(site.path / source, take)
    edit_rows(site.path / target, lambda rows: sorted([*rows, *taken], key=lambda row: (row["writer"], row["seq"])))


def move_to_another_segment(archive: Archive, site: Site) -> Trace:
    """Move the first events of a segment to the end of the one before it, of the same date."""
    source, target = archive.find_segment(2, MONDAY), archive.find_segment(1, MONDAY)
    events = find_rows(archive, source)
    move_rows(archive, site, source, target, events[:2])
    return Trace(
        [target, source],
        listed=[tell_hole(source, events, 0, 2), tell_events("tampered", target, events[:2])],
    )


def move_to_another_date(archive: Archive, site: Site) -> Trace:
    """Move events to the segment of another date."""
    source, target = archive.find_segment(1, MONDAY), archive.find_segment(5, WEDNESDAY)
    events = find_rows(archive, source, person=1)
    move_rows(archive, site, source, target, events[3:5])
    return Trace(
        [source, target],
        listed=[tell_events("tampered", target, events[3:5])],
        shown=[tell_hole(source, events, 3, 5)],
    )


def resign(archive: Archive, site: Site) -> Trace:
    """Change an event, and sign it and all that follow it with a key of one's own."""
    path = archive.find_segment(1, MONDAY)
    events = find_rows(archive, path)

    def sign(rows: list[Row]) -> list[Row]:
        own = [row for row in rows if row["writer"] == events[0].writer]
        signed = sign_rows([*own[:5], change_actor(own[5]), *own[6:]], site.store_id, 5, OWN_KEY)
        others = [row for row in rows if row["writer"] != events[0].writer]
        return sorted([*signed, *others], key=lambda row: (row["writer"], row["seq"]))

    edit_rows(site.path / path, sign)
    # Where nothing says what the last leaf was, the last event may be genuine: its own MAC covers a forged one.
    last = tell_events("unverifiable", path, events[-1:], "incomplete")
    forged = [tell_events("tampered", path, events[5:-1]), last]
    return Trace([path], proved=[tell_events("tampered", path, events[5:])], forged=forged)


ATTACKS = {
    "edits the first event": edit(0),
    "edits an event": edit(5),
    "edits the last event": edit(-1),
    "deletes the first event": delete(0, 1),
    "deletes events": delete(5, 8),
    "deletes the last events": delete(19, 21),
    "adds an event": insert_behind,
    "puts another event in a place": insert_between,
    "repeats an event": duplicate,
    "reorders events": reorder,
    "moves events to another segment": move_to_another_segment,
    "moves events to another date": move_to_another_date,
    "signs with a wrong key": resign,
}

each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


@each_attack
def test_an_attacker_rewrites_a_segment(archive: Archive, site: Site, attack: Attack) -> None:
    """The file is named with what it held, and the very events that were changed; nothing else is accused."""
    trace = attack(archive, site)
    files = [archive.tell_segment("tampered", path) for path in trace.files]
    check_told(site.verify(), [*files, *trace.listed, *trace.shown, *trace.proved])
    check_told(site.verify(deep=False), files)


@each_attack
def test_an_attacker_rewrites_a_segment_before_an_auditor_without_the_secret(
    archive: Archive, site: Site, attack: Attack
) -> None:
    """The public key alone finds every rewritten file, and which events are gone, repeated or out of their place."""
    trace = attack(archive, site)
    files = [archive.tell_segment("tampered", path) for path in trace.files]
    verification = site.open().verify(public_key=archive.public_key, pin=False)
    check_told(verification, [*files, *trace.listed, *trace.shown], warnings=[archive.tell_unsealed()])


@each_attack
def test_an_attacker_fixes_up_everything_but_the_keys(archive: Archive, site: Site, attack: Attack) -> None:
    """Hash, path, nodes, runs and all later roots fit; each commit made anew is accused twice, by MAC and by note.

    No commit lists the segments any more, which is said of each; the events themselves are proved or not as ever.
    """
    trace = attack(archive, site)
    before = {path.read_bytes(): site.name(path) for path in site.segments()}
    made = Forger().rewrite(site)
    assert made == list(range(archive.find_commit(trace.files[0]), 7))
    after = {before[path.read_bytes()]: site.name(path) for path in site.segments()}
    orphans = [Told("unverifiable", "incomplete", after[path]) for path in archive.list_segments(*made)]
    forged = [Told("tampered", "finding", name_commit(number)) for number in made]
    unlistable = [] if trace.listable else forged[:1]
    proved = trace.proved if trace.forged is None else trace.forged
    told = [replace(each, file=after[each.file]) for each in (*trace.shown, *proved)]
    check_told(site.verify(), [*forged, *forged, *unlistable, *orphans, *told], warnings=[UNUSED_KEYS])
    verification = site.open().verify(public_key=archive.public_key, pin=False)
    shown = [replace(each, file=after[each.file]) for each in trace.shown]
    check_told(verification, [*forged, *unlistable, *orphans, *shown], warnings=[archive.tell_unsealed()])
