"""What lies in a store and isn't a file of it: it is told, and doesn't keep anybody from reading or sealing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from auditkit.integrity import Finding, Verification
from tests.integrity.stores import Site, findings_about, say


def find_strangers(verification: Verification) -> dict[str, Finding]:
    """Return the notes about names that the format doesn't know, by folder."""
    return {note.file: note for note in verification.notes if note.kind == "unverifiable"}


def test_a_store_of_known_names_has_no_strangers(site: Site) -> None:
    """Neither what auditkit writes nor what its killed processes leave behind is one."""
    site.seal()
    (site.path / "journal" / "20200304-hhhhhhhhhhhhhhhh.000007.jsonl").touch()
    for name in (
        "staging/writing-17-0.parquet",
        "staging/0123456789abcdef.parquet",
        "quarantine/20200304-hhhhhhhhhhhhhhhh.000007.0123456789abcdef.jsonl",
        ".store.json.0123456789ab",
        "ledger/.00000009.commit.0123456789ab",
    ):
        (site.path / name).parent.mkdir(exist_ok=True)
        (site.path / name).touch()
    assert not find_strangers(site.verify())


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        "README",
        ".hidden",
        "journal/20200304-hhhhhhhhhhhhhhhh.000007.jsonl~",
        "journal/20201332-hhhhhhhhhhhhhhhh.000007.jsonl",
        "journal/.20200304-hhhhhhhhhhhhhhhh.0123456789ab",
        "ledger/00000001.commit.bak",
        "ledger/1.commit",
        "staging/events.parquet",
        "staging/.0123456789abcdef.parquet",
    ],
)
def test_a_file_that_the_format_doesn_t_know_is_noted(site: Site, place: str, deep: bool) -> None:
    """Nobody reads it, so without the note nobody would hear of it; it accuses nobody."""
    path = site.path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("whatever")
    verification = site.verify(deep=deep)
    assert verification.ok, say(verification)
    folder = place.rpartition("/")[0] or "."
    assert list(find_strangers(verification)) == [folder], say(verification)
    note = find_strangers(verification)[folder]
    assert note.severity == "note"
    assert note.found == f"1 of another name: '{path.name}'"
    assert site.seal().commit == 4
    assert path.read_text() == "whatever"


def test_a_folder_among_the_partitions_is_noted_and_a_file_accuses(site: Site) -> None:
    """What tools that read Parquet would take for events is a finding; what they wouldn't is a note."""
    (site.path / "events" / "archive").mkdir()
    verification = site.verify()
    assert verification.ok
    assert find_strangers(verification)["events"].found == "1 of another name: 'archive'"
    (site.path / "events" / "note.txt").write_text("x")
    verification = site.verify()
    assert findings_about(verification, "events/note.txt")
    assert find_strangers(verification)["events"].found == "1 of another name: 'archive'"


def test_many_strangers_make_one_note_and_hostile_names_are_escaped(site: Site) -> None:
    """A million planted files don't bury what else is to be told, and a name doesn't write to the terminal."""
    names = ["\x1b[31mred", os.fsdecode(b"\xff\xfe"), "new\nline", "x" * 250]
    names += [f"y{number:04}" for number in range(1000)]
    for name in names:
        (site.path / "ledger" / name).touch()
    (note,) = find_strangers(site.verify()).values()
    assert note.found.startswith("1004 of another name: ")
    assert note.found.endswith(" and 999 more")
    assert len(note.found) < 700
    assert note.found.isascii()
    assert note.found.isprintable()


@pytest.mark.parametrize("folder", ["journal", "ledger", "staging"])
def test_a_file_in_a_folder_s_place_is_found(site: Site, folder: str) -> None:
    """Nothing of the folder can be read, which is said; and verification ends."""
    shutil.rmtree(site.path / folder)
    (site.path / folder).write_text("a file")
    verification = site.verify()
    assert [finding.kind for finding in findings_about(verification, folder)] == ["tampered"], say(verification)


def test_a_folder_that_leads_elsewhere_is_noted(site: Site, tmp_path: Path) -> None:
    """It verifies, but no sealer works in it."""
    (site.path / "ledger").rename(tmp_path / "elsewhere")
    (site.path / "ledger").symlink_to(tmp_path / "elsewhere")
    verification = site.verify()
    assert verification.ok
    assert find_strangers(verification)["ledger"].found == "a symbolic link"
