"""One byte of one file is changed: every file of the store, at its beginning, its end and many places between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditkit import note
from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.integrity import Verification
from tests.attacks.archive import Archive, check_told, name_commit
from tests.integrity.stores import Site, say

PLACES = 24
"""How many bytes of a larger file are changed, one after the other."""


def flip_bytes(path: Path, places: int = PLACES) -> Iterator[int]:
    """Change one byte of a file after the other, the first and the last among them; the file is whole again behind."""
    whole = path.read_bytes()
    last = len(whole) - 1
    for step in range(places):
        place = round(step * last / (places - 1))
        data = bytearray(whole)
        data[place] ^= 1 << (step % 7)
        path.write_bytes(data)
        yield place
    path.write_bytes(whole)


def verify_changed(site: Site, *, deep: bool = False) -> Verification | None:
    """Verify a store whose description may not be one any more."""
    try:
        trail = site.open()
    except (StoreDamaged, FormatUnknown):
        return None
    return trail.verify(deep=deep, pin=False)


def test_any_byte_of_the_description_is_changed(sealed: Archive, sealed_site: Site) -> None:
    """Refused, found or incomplete; only the time of its making is something that nothing vouches for."""
    path = sealed_site.layout.description
    text = path.read_text()
    begin = text.index('"created": ') + len('"created": ')
    free = set(range(begin, text.index(",", begin)))
    unnoticed = set()
    for place in flip_bytes(path, len(text)):
        verification = verify_changed(sealed_site)
        if verification is None:
            continue
        if verification.ok:
            check_told(verification, [])
            unnoticed.add(place)
            continue
        accused = {finding.file for finding in verification.findings if finding.severity == "finding"}
        assert accused <= {"store.json"}, say(verification)
        assert verification.exit_code in (1, 3)
    assert unnoticed <= free
    check_told(sealed_site.verify(), [])


@pytest.mark.parametrize("number", range(1, 8))
def test_any_byte_of_a_commit_is_changed(sealed: Archive, sealed_site: Site, number: int) -> None:
    """The commit is accused and no other file; its segments are listed by nothing else, which is said of each."""
    path = sealed_site.layout.commit(number)
    for place in flip_bytes(path):
        verification = verify_changed(sealed_site)
        assert verification is not None
        told = {(finding.kind, finding.severity, finding.file) for finding in verification.findings}
        accused = ("tampered", "finding", name_commit(number))
        orphans = {("unverifiable", "incomplete", segment) for segment in sealed.list_segments(number)}
        assert accused in told, f"byte {place}: {say(verification)}"
        assert told - {accused} <= orphans, f"byte {place}: {say(verification)}"
        assert verification.exit_code == 1


@pytest.mark.parametrize("place", range(8))
def test_any_byte_of_a_segment_is_changed(sealed: Archive, sealed_site: Site, place: int) -> None:
    """Fast, the file is named with what it held; deep, each of its events that can't be believed as well."""
    name = sealed.list_segments()[place]
    told = sealed.tell_segment("tampered", name)
    for step, _ in enumerate(flip_bytes(sealed_site.path / name)):
        check_told(sealed_site.verify(deep=False), [told])
        if step % 4 == 0 or step == PLACES - 1:
            deep = sealed_site.verify()
            assert deep.exit_code == 1
            assert {finding.file for finding in deep.findings} == {name}, say(deep)
            assert not deep.warnings or {warning.kind for warning in deep.warnings} == {"missing"}, say(deep)
    check_told(sealed_site.verify(), [])


@pytest.mark.parametrize("who", ["fay", "gus", "hal"])
def test_any_byte_of_a_journal_is_changed(archive: Archive, site: Site, who: str) -> None:
    """One event is accused: the one whose line it is; of the last newline it is noted that a line is torn."""
    name = archive.find_journal(who)
    path, events = site.path / name, archive.events[name]
    whole = path.read_bytes()
    for place in flip_bytes(path):
        number = whole[:place].count(b"\n")
        verification = site.verify(deep=False)
        text = f"byte {place}, line {number + 1}: {say(verification)}"
        if place == len(whole) - 1:
            check_told(verification, [])
            assert any(each.kind == "torn" for each in verification.notes), text
            continue
        assert verification.exit_code == 1, text
        assert {finding.file for finding in verification.findings} == {name}, text
        named = {
            (finding.writer, seq)
            for finding in verification.findings
            if finding.severity == "finding" and finding.first_seq is not None and finding.last_seq is not None
            for seq in range(finding.first_seq, finding.last_seq + 1)
        }
        known = {(event.writer, event.seq) for event in events}
        ours = {(event.writer, event.seq) for event in events[number : number + 1]}
        assert named & known <= ours, text
    check_told(site.verify(deep=False), [])


def test_any_byte_of_a_witness_s_answer_is_changed(archive: Archive, site: Site) -> None:
    """What lies in anchors/ proves nothing to the verifier, so nothing is accused; the store's own note is given."""
    (path,) = site.layout.anchors.iterdir()
    own = archive.kept[5]
    site.layout.commit(6).unlink()
    for segment in archive.list_segments(6):
        (site.path / segment).unlink()
    assert site.open().checkpoint() == archive.cosigned
    for _ in flip_bytes(path):
        given = note.parse_note(site.open().checkpoint())
        assert given.text == note.parse_note(own).text
        assert note.verify_note(given, archive.public_key)
