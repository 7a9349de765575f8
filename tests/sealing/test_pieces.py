"""A journal is sealed piece by piece, some megabytes at a time: where the pieces end changes nothing.

The pieces behind a writer's first one are taken at once where their rows plainly go on, so these tests lead whatever
isn't plain to that place too, and compare with all lines in one piece.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from auditkit.chains import KeyTable, WriterKeys
from auditkit.store.runs import Head
from auditkit.store.segment_writer import Reject, SealedSegment, SegmentWriter
from auditkit.store.segments import read_tables, rebuild_lines
from tests.integrity.stores import MONDAY, TUESDAY, Chain, Site, add_events, at, make_site, print_body, say


@dataclass(frozen=True)
class Outcome:
    """What became of a writer's lines."""

    sealed: SealedSegment | None
    lines: list[bytes]
    rejects: list[Reject]
    head: Head


def seal(site: Site, chain: Chain, path: Path, pieces: list[list[bytes]]) -> Outcome:
    """Seal a writer's lines, given in pieces, each with the line behind it as the sealer gives it."""
    heads: dict[str, Head] = {}
    keys = WriterKeys(site.store_id, KeyTable(site.keys, site.keys.count_drawn(site.store_id)))
    writer = SegmentWriter(path, site.store_id, MONDAY, heads, signers=keys)
    rejects, number = [], 1
    for place, lines in enumerate(pieces):
        follower = pieces[place + 1][0] if place + 1 < len(pieces) else None
        rejects += writer.add(chain.writer, lines, number, follower)
        number += len(lines)
    sealed = writer.close()
    lines = [line for table in read_tables(path) for line in rebuild_lines(table, site.store_id)]
    # Which bytes Parquet makes of the rows depends on how they were handed over.
    return Outcome(sealed and replace(sealed, digest="", size=0), lines, rejects, heads[chain.writer])


def go_on(chain: Chain) -> None:
    add_events(chain, 4)


def ratchet(chain: Chain) -> None:
    chain.ratchet()
    add_events(chain, 4)


def end(chain: Chain) -> None:
    add_events(chain, 2)
    chain.close()


def go_on_behind_the_end(chain: Chain) -> None:
    chain.close()
    add_events(chain, 4)


def leave_a_gap(chain: Chain) -> None:
    add_events(chain, 1)
    chain.add_gap(5)
    add_events(chain, 2)


def end_in_a_gap(chain: Chain) -> None:
    add_events(chain, 2)
    chain.add_gap(5)


def change_one(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines[-3] = print_body(json.loads(chain.lines[-3]) | {"actor": "mallory"})


def change_the_last(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines[-1] = print_body(json.loads(chain.lines[-1]) | {"actor": "mallory"})


def forge_all(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines[-4:] = [print_body(json.loads(line) | {"mac": "ab" * 32}) for line in chain.lines[-4:]]


def strip_all(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines[-4:] = [print_body(json.loads(line) | {"mac": None}) for line in chain.lines[-4:]]


def be_early(chain: Chain) -> None:
    chain.add(time=at(MONDAY))
    add_events(chain, 1)


def be_late(chain: Chain) -> None:
    chain.add(time=at(TUESDAY) - 1)
    add_events(chain, 1)


def be_of_the_day_before(chain: Chain) -> None:
    chain.add(time=at(MONDAY) - 1)
    add_events(chain, 3)


def be_of_the_day_after(chain: Chain) -> None:
    chain.add(time=at(TUESDAY))
    add_events(chain, 3)


def name_another_writer(chain: Chain) -> None:
    for _ in range(3):
        chain.add(writer="20200302-zzzzzzzzzzzzzzzz")


def repeat_one(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines.insert(-1, chain.lines[-2])


def lose_one(chain: Chain) -> None:
    add_events(chain, 4)
    del chain.lines[-3]


def exchange_two(chain: Chain) -> None:
    add_events(chain, 5)
    chain.lines[-3], chain.lines[-2] = chain.lines[-2], chain.lines[-3]


def damage_one(chain: Chain) -> None:
    add_events(chain, 4)
    chain.lines[-3] = b"damage"


STORIES: dict[Callable[[Chain], None], tuple[int, int]] = {
    # How many of the lines behind the first five are sealed, and how many are set aside.
    go_on: (4, 0),
    ratchet: (4, 0),
    end: (3, 0),
    go_on_behind_the_end: (1, 4),
    leave_a_gap: (4, 0),
    end_in_a_gap: (3, 0),
    change_one: (3, 1),
    change_the_last: (3, 1),
    forge_all: (0, 4),
    strip_all: (0, 4),
    be_early: (2, 0),
    be_late: (2, 0),
    be_of_the_day_before: (3, 1),
    be_of_the_day_after: (3, 1),
    name_another_writer: (0, 3),
    repeat_one: (4, 1),
    lose_one: (3, 0),
    exchange_two: (3, 2),
    damage_one: (3, 1),
}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_where_the_pieces_end_changes_nothing(tmp_path: Path, story: Callable[[Chain], None]) -> None:
    """In one piece, in two at every place, and line by line: the same is sealed and the same is set aside."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, MONDAY, opens=False)
    chain.add(type="auditkit.opened", details=json.dumps({"n": chain.number}), time=at(MONDAY, 3600))
    add_events(chain, 4)
    story(chain)
    lines = chain.lines
    whole = seal(site, chain, tmp_path / "whole.parquet", [lines])
    assert whole.sealed is not None
    assert (whole.sealed.rows - 5, len(whole.rejects)) == STORIES[story]
    times = [json.loads(line)["time"] for line in whole.lines]
    assert (whole.sealed.time_min, whole.sealed.time_max) == (min(times), max(times))
    ways = [[lines[:place], lines[place:]] for place in range(1, len(lines))]
    for number, pieces in enumerate([*ways, [[line] for line in lines]]):
        assert seal(site, chain, tmp_path / f"{number}.parquet", pieces) == whole, list(map(len, pieces))


@pytest.mark.parametrize("story", [go_on, lose_one, repeat_one, exchange_two], ids=lambda story: story.__name__)
def test_the_pieces_of_a_writer_that_doesn_t_sign(tmp_path: Path, story: Callable[[Chain], None]) -> None:
    """Where no MAC says so, the numbers alone tell which rows plainly go on."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, MONDAY)
    add_events(chain, 4)
    story(chain)
    lines = [print_body(json.loads(line) | {"mac": None}) for line in chain.lines]
    whole = seal(site, chain, tmp_path / "whole.parquet", [lines])
    assert len(whole.lines) + len(whole.rejects) == len(lines)
    for place in range(1, len(lines)):
        assert seal(site, chain, tmp_path / f"{place}.parquet", [lines[:place], lines[place:]]) == whole, place


def test_a_writer_that_goes_on_behind_another_has_a_run_of_its_own(tmp_path: Path) -> None:
    """An earlier commit holds the writer's first events: its next ones are no part of the run that stands there."""
    site = make_site(tmp_path / "site")
    first, second = Chain(site, MONDAY, "a", owned=True), Chain(site, MONDAY, "b", owned=True)
    add_events(first, 2)
    add_events(second, 5)
    site.seal()
    for chain in (first, second):
        chain.rotate()
        add_events(chain, 3)
    assert first.seq == 6, "where the second one goes on"
    assert site.seal().events == 6
    verification = site.verify()
    assert verification.ok, say(verification)


def test_the_pieces_that_the_sealer_makes(tmp_path: Path) -> None:
    """Of lines of three megabytes come several pieces: a change in a later one is set aside, and the rest is proved."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, MONDAY)
    for _ in range(8):
        chain.add(message="x" * 3_000_000)
    chain.close()
    lines = chain.path.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"type":"test"', b'"type":"tost"')
    chain.path.write_bytes(b"".join(lines))
    result = site.seal()
    assert (result.events, result.quarantined) == (9, 1)
    assert site.open().count(type="tost") == 0
