"""Attacks on journals, whose events no commit holds yet: what is found of them, and what can only be noted.

Gus ended in order, so the end of his journal is signed. Hal, his forked child, was killed, and so was Fay, of whose
events a part is sealed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auditkit.integrity import Verification
from tests.attacks.archive import NEWER_KEYS, UNUSED_KEYS, Archive, Stored, Told, check_told, name_commit, tell_events
from tests.attacks.forging import OWN_KEY
from tests.attacks.recorder import THURSDAY
from tests.integrity.stores import Site, say

PEOPLE = ("fay", "gus", "hal")


def edit_lines(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in edit(path.read_bytes().splitlines())))


def list_open(verification: Verification) -> set[str]:
    """List the writers of which it is noted that their end isn't signed."""
    (note,) = [note for note in verification.notes if note.expected.startswith("a signed end")]
    return set(note.found.partition(": ")[2].partition(";")[0].split(", "))


def tell_middle(name: str, events: list[Stored], first: int, last: int) -> Told:
    """Say what must be told of events that are gone from between others."""
    told = tell_events("missing", name, events[first:last])
    return replace(told, times=tell_events("missing", name, [events[first - 1], events[last]]).times)


def find_thursday(site: Site) -> str:
    """Give the segment of Thursday that the seventh commit added."""
    commit = json.loads(site.layout.commit(7).read_bytes().split(b"\n")[0])
    (path,) = [entry["path"] for entry in commit["add"] if f"date={THURSDAY:%Y-%m-%d}/" in entry["path"]]
    return str(path)


@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_cuts_the_end_of_a_journal(archive: Archive, site: Site, who: str, lines: int) -> None:
    """A killed process leaves the same: it is only noted, before the sealing and after, which makes it final."""
    name = archive.find_journal(who)
    writer = archive.events[name][0].writer
    before = list_open(archive.site.verify())
    assert (writer in before) == (who != "gus")
    edit_lines(site.path / name, lambda all_lines: all_lines[:-lines])
    verification = site.verify()
    check_told(verification, [])
    unsealed = sum(len(archive.list_unsealed(each)) for each in map(archive.find_journal, PEOPLE))
    assert verification.journal_events == unsealed - lines
    assert list_open(verification) == before | {writer}, "of a journal that was closed, the signed end is missed"
    assert site.seal().commit == 7
    after = site.verify()
    check_told(after, [])
    assert list_open(after) == before | {writer}
    assert after.checked_events == verification.checked_events + verification.journal_events


@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_cuts_a_journal_inside_a_line(archive: Archive, site: Site, who: str) -> None:
    """Half a line is noted as one whose writing was interrupted, and accuses nobody."""
    name = archive.find_journal(who)
    path = site.path / name
    path.write_bytes(path.read_bytes()[:-100])
    verification = site.verify()
    check_told(verification, [])
    (torn,) = [note for note in verification.notes if note.kind == "torn"]
    assert (torn.severity, torn.file, torn.writer) == ("note", name, archive.events[name][0].writer)
    assert torn.writer in list_open(verification)


@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_deletes_lines_inside_a_journal(archive: Archive, site: Site, who: str) -> None:
    """Which events are gone is found before the sealing, and after it in the segment that lacks them."""
    name = archive.find_journal(who)
    events = archive.list_unsealed(name)
    edit_lines(site.path / name, lambda lines: [*lines[:3], *lines[5:]])
    for key in (None, archive.public_key):
        verification = site.open().verify(pin=False, public_key=key)
        told = Told("unverifiable", "warning", "journal", events=25)
        check_told(verification, [tell_middle(name, events, 3, 5)], warnings=[] if key is None else [told])
    assert site.seal().commit == 7
    for key in (None, archive.public_key):
        verification = site.open().verify(pin=False, public_key=key)
        (finding,) = verification.findings
        assert (finding.kind, finding.file, finding.writer) == ("missing", find_thursday(site), events[0].writer)
        assert (finding.first_seq, finding.last_seq, finding.events) == (events[3].seq, events[4].seq, 2)
        assert verification.exit_code == 1


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_edits_a_line_of_a_journal(archive: Archive, site: Site, who: str, place: int) -> None:
    """The very event is accused; its sealing sets it aside, says so in the signed commit, and the event is missing."""
    name = archive.find_journal(who)
    events = archive.list_unsealed(name)

    def edit(lines: list[bytes]) -> list[bytes]:
        fields = json.loads(lines[place])
        fields["lead_id"] = "L-9"
        lines[place] = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        return lines

    edit_lines(site.path / name, edit)
    check_told(site.verify(), [tell_events("tampered", name, [events[place]])])
    result = site.seal()
    assert (result.commit, result.quarantined) == (7, 1)
    verification = site.verify()
    assert verification.exit_code == 1
    forged, missing = verification.findings
    assert (forged.kind, forged.file) == ("tampered", name_commit(7))
    assert "1 lines quarantined, 1 without a valid MAC" in forged.found
    assert (missing.kind, missing.file, missing.writer) == ("missing", find_thursday(site), events[0].writer)
    assert (missing.first_seq, missing.last_seq) == (events[place].seq, events[place].seq)
    assert [note.kind for note in verification.notes if note.kind == "quarantined"] == ["quarantined"]


def test_an_attacker_adds_a_line_behind_a_signed_end(archive: Archive, site: Site) -> None:
    """Gus has signed that nothing follows; what does is accused, whoever signed it."""
    name = archive.find_journal("gus")
    last = archive.events[name][-1]

    def add(lines: list[bytes]) -> list[bytes]:
        fields = json.loads(lines[-2])
        fields.update(seq=last.seq + 1, mac=OWN_KEY.hex())
        return [*lines, json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()]

    edit_lines(site.path / name, add)
    verification = site.verify()
    assert verification.exit_code == 1
    assert {(f.kind, f.file, f.writer, f.first_seq) for f in verification.findings} == {
        ("tampered", name, last.writer, last.seq + 1)
    }, say(verification)


@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_puts_an_older_copy_of_a_journal_back(archive: Archive, site: Site, who: str) -> None:
    """The copy is genuine as far as it goes, so it is a cut end: noted, and nothing more can be known."""
    name = archive.find_journal(who)
    writer = archive.events[name][0].writer
    older = (site.path / name).read_bytes().splitlines(keepends=True)[:4]
    (site.path / name).write_bytes(b"".join(older))
    verification = site.verify()
    check_told(verification, [])
    assert writer in list_open(verification)


def test_an_attacker_exchanges_two_journals(archive: Archive, site: Site) -> None:
    """Each holds the other's events, which are accused where they stand, all of them, and nobody else's."""
    gus, hal = archive.find_journal("gus"), archive.find_journal("hal")
    first, second = (site.path / gus).read_bytes(), (site.path / hal).read_bytes()
    (site.path / gus).write_bytes(second)
    (site.path / hal).write_bytes(first)
    verification = site.verify()
    told = [tell_events("tampered", gus, archive.events[hal]), tell_events("tampered", hal, archive.events[gus])]
    check_told(verification, told, warnings=[NEWER_KEYS])


def test_an_attacker_puts_back_a_journal_that_was_sealed(archive: Archive, site: Site) -> None:
    """Lines that the ledger holds are passed over: the sealed events count, and the journal changes none of them."""
    name = archive.find_journal("gus")
    data = (site.path / name).read_bytes()
    site.seal()
    assert not (site.path / name).exists()
    (site.path / name).write_bytes(data.replace(b"gus", b"bob"))
    verification = site.verify()
    check_told(verification, [])
    assert verification.journal_events == 0
    assert "bob" not in set(site.open().events()["actor"].dropna())


@pytest.mark.parametrize("who", PEOPLE)
def test_an_attacker_deletes_a_journal(archive: Archive, site: Site, who: str) -> None:
    """Only a number that was drawn and never used tells, and a child that names its parent: a warning, exit code 0."""
    name = archive.find_journal(who)
    writer = archive.events[name][0].writer
    (site.path / name).unlink()
    verification = site.verify()
    parent = Told("missing", "warning", f"journal/{writer}.*.jsonl", writer)
    warnings = {"fay": [], "gus": [UNUSED_KEYS, parent], "hal": [NEWER_KEYS]}[who]
    check_told(verification, [], warnings=warnings)
    if who == "fay":
        assert writer in list_open(verification), "her sealed events use her number: an open end is all that is left"


def test_an_attacker_deletes_all_journals(archive: Archive, site: Site) -> None:
    """The keys that were drawn since the last sealing are warned of; how many events there were nobody can tell."""
    for path in site.journals():
        path.unlink()
    verification = site.verify()
    check_told(verification, [], warnings=[NEWER_KEYS])
    assert "2 keys (number 12, 13) drawn after the newest event on record" in verification.warnings[0].found
