"""An attacker without the key at the ledger, at ``store.json`` and at the key: found, and the events aren't accused."""

from __future__ import annotations

import hmac
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auditkit
from auditkit import note
from auditkit.integrity import Verification
from auditkit.keys import GivenKey, derive_commit_key
from auditkit.store import ledger
from auditkit.store.ledger import LedgerState
from tests.integrity.stores import (
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    accused_events,
    add_events,
    findings_about,
    list_rows,
    make_site,
    read_segment,
    say,
    write_segment,
)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledgers")


def check_accused(site: Site, verification: Verification, *commits: int) -> None:
    """Assert that the commits are named, and that neither an event nor another commit is."""
    text = say(verification)
    assert verification.verdict == "findings", text
    for number in commits:
        assert findings_about(verification, f"ledger/{number:08}.commit"), text
    assert not accused_events(verification), text
    segments = {site.name(path) for path in site.segments()}
    for finding in verification.findings:
        if finding.file in segments:
            # A segment that only the damaged commit listed is not accused: what is said is that nothing lists it now.
            assert (finding.kind, finding.severity) == ("unverifiable", "incomplete"), text
        else:
            assert finding.file in {f"ledger/{number:08}.commit" for number in commits}, text


def rewrite_commit(path: Path, **fields: Any) -> None:
    """Edit a commit's JSON as an attacker would, with the MAC and the note as they are."""
    line, _, rest = path.read_bytes().partition(b"\n")
    body = json.loads(line)
    body.update(fields)
    path.write_bytes(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" + rest)


@settings(max_examples=80, database=None)
@given(data=st.data())
def test_any_changed_byte_of_a_commit_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """Every byte of a commit is under its MAC, its own leaf or its note's signature."""
    site = sample.copy(workplace / "site")
    path = data.draw(st.sampled_from(site.commits()))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    for deep in (True, False):
        check_accused(site, site.verify(deep=deep), site.commits().index(path) + 1)


@settings(max_examples=40, database=None)
@given(data=st.data())
def test_any_cut_commit_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """A commit that was cut short isn't one, wherever the cut is."""
    site = sample.copy(workplace / "site")
    path = data.draw(st.sampled_from(site.commits()))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    check_accused(site, site.verify(), site.commits().index(path) + 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"time": 0},
        {"detail": "rewritten"},
        {"key_n": 0},
        {"key_n": 2**53 - 1},
        {"n": 2**53 - 1},
        {"first_leaf": 2**53 - 1},
        {"add": []},
        {"why": "retain"},
        {"prev_root": "0" * 64},
        {"prev_root": "  " * 32},
        {"store": "zzzzzzzzzzzzzzzz"},
        {"time": 2**63},
        {"keys": {"old": None, "new": 7, "old_signature": None}},
        {"remove": ["events/date=2020-03-02/../../../../etc/passwd.parquet"]},
    ],
    ids=str,
)
def test_an_edited_field_of_a_commit_is_found(site: Site, fields: dict[str, Any]) -> None:
    """Edits that leave the commit readable, or that would make a careless verifier loop or open a file, are found."""
    rewrite_commit(site.layout.commit(2), **fields)
    check_accused(site, site.verify(), 2)


def test_a_missing_commit_is_found(site: Site) -> None:
    """A commit that was taken out of the middle is named; its segment is said to be listed by nothing."""
    site.layout.commit(2).unlink()
    verification = site.verify()
    check_accused(site, verification, 2)
    assert findings_about(verification, "ledger/00000002.commit")[0].kind == "missing"


def test_exchanged_commits_are_found(site: Site) -> None:
    """Two commits that change places are both named, and no event is."""
    second, third = site.layout.commit(2), site.layout.commit(3)
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)
    check_accused(site, site.verify(), 2, 3)


def test_a_commit_made_with_another_key_is_found(site: Site) -> None:
    """An attacker can make a MAC and a note with a key of their own, and neither is believed."""
    path = site.layout.commit(3)
    commit = ledger.read_commit(site.layout, 3)
    state = LedgerState(site.store_id)
    for number in (1, 2):
        state = ledger.apply_commit(state, ledger.read_commit(site.layout, number))
    mallory = GivenKey("mallory's own secret")
    forged = ledger.make_commit(state, replace(commit, detail="forged"), mallory.draw()[1], [mallory.signing_seed])
    path.write_bytes(ledger.format_commit(forged))
    verification = site.verify()
    check_accused(site, verification, 3)
    assert len(findings_about(verification, site.name(path))) == 2, "the MAC and the note"


def test_a_commit_whose_note_alone_was_made_anew_is_found(site: Site) -> None:
    """A stolen MAC doesn't help: the checkpoint must be signed with the store's key."""
    path = site.layout.commit(3)
    commit = ledger.read_commit(site.layout, 3)
    text = note.parse_note(commit.checkpoint).text
    forged = note.sign_note(text, f"auditkit/{site.store_id}", bytes(32))
    path.write_bytes(ledger.format_commit(replace(commit, checkpoint=forged)))
    check_accused(site, site.verify(), 3)


def test_a_commit_under_another_commit_s_note_is_found(site: Site) -> None:
    """A note that the store's key did sign says nothing about a tree that isn't its own."""
    path = site.layout.commit(3)
    earlier = ledger.read_commit(site.layout, 2)
    path.write_bytes(ledger.format_commit(replace(ledger.read_commit(site.layout, 3), checkpoint=earlier.checkpoint)))
    verification = site.verify()
    check_accused(site, verification, 3)
    assert "checkpoint" in findings_about(verification, site.name(path))[0].expected


def test_a_segment_rewritten_together_with_its_commit_is_found(site: Site, sample: Sample) -> None:
    """Whoever rewrites a segment and lists it anew in the ledger is found at both, and at the very event."""
    commit = ledger.read_commit(site.layout, 3)
    entry = commit.add[0]
    path = site.path / entry.path
    table = read_segment(path)
    values = table.column("message").to_pylist()
    values[4] = "rewritten"
    field = table.schema.get_field_index("message")
    write_segment(path, table.set_column(field, table.schema.field("message"), [values]))
    from hashlib import sha256

    digest = sha256(path.read_bytes()).hexdigest()
    renamed = path.with_name(f"{digest[:16]}.parquet")
    size = path.stat().st_size
    path.rename(renamed)
    fields = entry.to_fields()
    fields.update(path=site.name(renamed), sha256=digest, bytes=size)
    rewrite_commit(site.layout.commit(3), add=[fields])
    verification = site.verify()
    assert findings_about(verification, "ledger/00000003.commit"), say(verification)
    assert accused_events(verification) == {list_rows(site, renamed)[4]}, say(verification)


def test_a_file_that_pretends_to_be_a_late_commit_doesn_t_keep_the_verifier_busy(site: Site) -> None:
    """A commit numbered 99,999,999 is one finding and one hole, not a hundred million."""
    shutil.copy(site.layout.commit(1), site.layout.commit(99_999_999))
    verification = site.verify()
    assert len(findings_about(verification, "ledger/00000004.commit")) == 1
    assert findings_about(verification, "ledger/99999999.commit")
    assert len(verification.findings) < 10, say(verification)


def test_a_reader_refuses_a_broken_ledger_and_a_sealer_leaves_the_journals(site: Site) -> None:
    """Nothing is answered from a ledger that isn't whole, and nothing is sealed on top of it."""
    site.layout.commit(2).unlink()
    journals = {path: path.read_bytes() for path in site.journals()}
    with pytest.raises(auditkit.errors.StoreDamaged, match="auditkit integrity"):
        site.open().events()
    with pytest.raises(auditkit.errors.StoreDamaged):
        site.seal()
    assert {path: path.read_bytes() for path in site.journals()} == journals


# -- store.json and the keys ------------------------------------------------------------------------------------------


def edit_description(site: Site, **fields: Any) -> None:
    path = site.path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("public_key", [note.format_verifier_key("auditkit/x", bytes(32)), "nonsense", None])
def test_another_public_key_in_the_description_is_found(site: Site, public_key: str | None) -> None:
    """The public key in ``store.json`` proves nothing, so it is compared with the one that the key makes."""
    edit_description(site, public_key=public_key)
    verification = site.verify()
    assert [finding.file for finding in verification.findings] == ["store.json"], say(verification)


def test_another_store_id_in_the_description_is_found(site: Site) -> None:
    """An edited id is one finding about ``store.json``: the commits tell which store it is, the events are proved."""
    edit_description(site, store="zzzzzzzzzzzzzzzz")
    verification = site.verify()
    assert [finding.file for finding in verification.findings] == ["store.json"], say(verification)
    assert verification.checked_events == 145


def test_another_key_id_in_the_description_is_incomplete(site: Site) -> None:
    """With a key that ``store.json`` doesn't name, nothing can be proved, and that is what is said."""
    edit_description(site, key_id="0" * 16)
    verification = site.verify()
    assert (verification.verdict, verification.exit_code) == ("incomplete", 3)
    assert verification.key_id is None


def test_without_the_key_hashes_are_checked_all_the_same(site: Site, sample: Sample, tmp_path: Path) -> None:
    """A missing or wrong key makes the verdict incomplete, and a changed file is found without it."""
    other = make_site(tmp_path / "other", "otherotherothers")
    for key_file in (tmp_path / "nowhere.key", other.key_file):
        trail = auditkit.open(site.path, key_file=key_file)
        verification = trail.verify()
        assert verification.verdict == "incomplete", say(verification)
        assert [finding.kind for finding in verification.findings] == ["unverifiable"]
        with pytest.raises(auditkit.errors.KeyProblem):
            trail.seal()
    path = site.segments()[0]
    path.write_bytes(path.read_bytes() + b"x")
    verification = auditkit.open(site.path, key_file=other.key_file).verify()
    assert verification.verdict == "findings", say(verification)
    assert findings_about(verification, site.name(path))


def test_a_restored_older_key_file_still_verifies(sample: Sample, site: Site) -> None:
    """The counter in the key file may be older than the store: every key comes from the same root."""
    state = json.loads(site.key_file.read_text())
    state.update(n=0, current=state["root"])
    site.key_file.write_text(json.dumps(state))
    assert site.verify().ok


def test_a_store_that_never_saw_a_sealer_verifies(tmp_path: Path) -> None:
    """Journals alone are checked as well, and there is no ledger to complain about."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    add_events(chain, 5)
    chain.close()
    verification = site.verify()
    assert verification.ok, say(verification)
    assert (verification.journal_events, verification.checked_commits, verification.checkpoint) == (7, 0, None)


def test_the_mac_of_a_commit_is_the_one_of_the_specification(sample: Sample) -> None:
    """C[n] = HMAC(K[n], "auditkit/1 commit" 0x00 store), over the line without the MAC."""
    site = sample.site
    for path in site.commits():
        line = path.read_bytes().partition(b"\n")[0]
        fields = json.loads(line)
        body = line[: line.rindex(b',"mac":')] + b"}"
        key = site.keys.find([fields["key_n"]])[fields["key_n"]]
        label = b"auditkit/1 commit\0" + site.store_id.encode()
        assert derive_commit_key(key, site.store_id) == hmac.digest(key, label, "sha256")
        assert fields["mac"] == hmac.digest(hmac.digest(key, label, "sha256"), body, "sha256").hex()
