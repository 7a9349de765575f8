"""Damage to a journal that isn't sealed yet: the findings say what happened, and not what only seems to have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditkit.integrity import Finding
from tests.integrity.stores import WEDNESDAY, Chain, Site, add_events, make_site, print_body


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A journal with the events 0 to 20, whose process was killed."""
    chain = Chain(make_site(tmp_path / "site"), WEDNESDAY, "w")
    add_events(chain, 20)
    return chain


def tell(site: Site) -> list[tuple[str, str, int | None, int | None, int | None]]:
    def short(finding: Finding) -> tuple[str, str, int | None, int | None, int | None]:
        return finding.kind, finding.severity, finding.first_seq, finding.last_seq, finding.events

    return [short(finding) for finding in site.verify().findings]


def rewrite(chain: Chain, lines: list[bytes]) -> Site:
    chain.path.write_bytes(b"".join(line + b"\n" for line in lines))
    return chain.site


@pytest.mark.parametrize("place", [1, 5, 18])
def test_a_damaged_line_is_one_finding_with_its_number(chain: Chain, place: int) -> None:
    """Its neighbours are there, so it can only have been the event between them, and nothing else is missing."""
    chain.lines[place] = b"\0" * 80
    assert tell(rewrite(chain, chain.lines)) == [("tampered", "finding", place, place, 1)]


def test_the_last_line_behind_a_damaged_one_is_unverifiable(chain: Chain) -> None:
    """Its MAC covers what is damaged and nothing stands behind it: it isn't called tampered, and not called proved."""
    chain.lines[19] = chain.lines[19][:40]
    assert tell(rewrite(chain, chain.lines)) == [
        ("tampered", "finding", 19, 19, 1),
        ("unverifiable", "incomplete", 20, 20, 1),
    ]


def test_the_last_line_behind_a_changed_one_is_unverifiable(chain: Chain) -> None:
    """Of two last lines of which the first was edited, that one is accused alone."""
    chain.lines[19] = print_body(json.loads(chain.lines[19]) | {"actor": "mallory"})
    assert tell(rewrite(chain, chain.lines)) == [
        ("tampered", "finding", 19, 19, 1),
        ("unverifiable", "incomplete", 20, 20, 1),
    ]


def test_damaged_last_lines_are_named_by_their_lines(chain: Chain) -> None:
    """Without an event behind them nobody can say which they were, or whether they were any."""
    chain.lines[19:] = [b"{}", b"rubbish", b""]
    assert tell(rewrite(chain, chain.lines)) == [("tampered", "finding", None, None, 1)] * 3


def test_lines_that_are_gone_beside_damaged_ones_are_counted(chain: Chain) -> None:
    """Four events are gone where one line is damaged: three are missing."""
    chain.lines[5:9] = [b"{}"]
    findings = rewrite(chain, chain.lines).verify().findings
    damaged, missing = findings
    assert (damaged.kind, damaged.first_seq) == ("tampered", None)
    assert (missing.kind, missing.first_seq, missing.last_seq, missing.events) == ("missing", 5, 8, 3)
    assert missing.found == "1 of the lines there is no event"


def test_rubbish_between_two_events_takes_nobody_s_place(chain: Chain) -> None:
    """A line was put in: it is named, and nothing is missing."""
    chain.lines.insert(7, b"rubbish")
    assert tell(rewrite(chain, chain.lines)) == [("tampered", "finding", None, None, 1)]


@pytest.mark.parametrize("place", [1, 8, 19])
def test_a_forged_high_number_out_of_its_order_leaves_no_hole(chain: Chain, place: int) -> None:
    """A forged event 1000 among the first ones is no sign of 979 missing ones."""
    forged = print_body(json.loads(chain.lines[place]) | {"seq": 1000, "message": "forged"})
    chain.lines.insert(place, forged)
    assert {(kind, first, last) for kind, _, first, last, _ in tell(rewrite(chain, chain.lines))} == {
        ("tampered", 1000, 1000)
    }


def test_a_number_that_jumps_at_the_end_is_both_things_that_it_can_be(chain: Chain) -> None:
    """The events before it were removed or it was forged: nobody can tell, and the finding says so."""
    chain.lines.append(print_body(json.loads(chain.lines[20]) | {"seq": 25}))
    missing, last = rewrite(chain, chain.lines).verify().findings
    assert (missing.kind, missing.first_seq, missing.last_seq) == ("missing", 21, 24)
    assert missing.found.endswith("if the event behind them isn't forged")
    assert (last.kind, last.first_seq) == ("unverifiable", 25)


def test_a_line_of_a_newer_version_excuses_no_missing_event(chain: Chain) -> None:
    """Whoever replaces an event by a line of another version isn't let off with an incomplete verdict."""
    chain.lines[7] = print_body(json.loads(chain.lines[7]) | {"v": 2})
    assert tell(rewrite(chain, chain.lines)) == [
        ("unverifiable", "incomplete", 7, 7, 1),
        ("missing", "finding", 7, 7, 1),
    ]
