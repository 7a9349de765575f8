"""A sealer that somebody without the key wants to mislead: what he wrote isn't sealed, and what it has stays sound."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import orjson
import pytest

import auditkit
from auditkit.event import BODY_KEYS, encode_body
from auditkit.store import journal
from auditkit.store.layout import Layout
from tests.docs import verifier

SECRET = "a secret that only these tests know"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one sealed commit, and the journal of another writer."""
    path = tmp_path / "audit"
    for _ in range(2):
        with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
            for i in range(40):
                audit.log_event("step", {"i": i}, lead_id=f"L-{i}")
        if not list((path / "ledger").iterdir()):
            auditkit.open(path, secret_key=SECRET).seal()
    return path


def test_a_forged_ledger_is_not_continued(store: Path) -> None:
    """A commit that the store's key didn't make stops the sealer before it drops a journal."""
    commit = store / "ledger" / "00000001.commit"
    text = commit.read_bytes()
    place = text.index(b'"mac":"') + 7
    commit.write_bytes(text[:place] + (b"0" if text[place : place + 1] != b"0" else b"1") + text[place + 1 :])
    before = sorted(path.name for path in (store / "journal").iterdir())
    with pytest.raises(auditkit.AuditError, match="MAC"):
        auditkit.open(store, secret_key=SECRET).seal()
    assert sorted(path.name for path in (store / "journal").iterdir()) == before


def append_forged(path: Path, kind: str, details: str, step: int = 1) -> None:
    """Append a line to the newest journal as somebody without the key can make it."""
    part = max(journal.list_parts(Layout(path)), key=lambda found: found.path.stat().st_mtime_ns)
    last = orjson.loads(part.path.read_bytes().splitlines()[-1])
    last |= {"seq": last["seq"] + step, "type": kind, "details": details, "mac": "0" * 64}
    with part.path.open("ab") as file:
        file.write(orjson.dumps(last) + b"\n")


@pytest.mark.parametrize("dropped", [1, 1000, 2**53 + 1, 2**64 - 1])
@pytest.mark.parametrize("kind", ["auditkit.gap", "auditkit.closed", "step"])
def test_a_forged_line_silences_no_writer_and_bricks_no_store(tmp_path: Path, kind: str, dropped: int) -> None:
    """Forged ends and gaps in a living writer's journal are set aside, accused, and what it writes next is sealed."""
    path = tmp_path / "audit"
    audit = auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False)
    first = [audit.log_event("step", {"i": i}) for i in range(3)]
    append_forged(path, kind, f'{{"dropped":{dropped}}}')
    second = [audit.log_event("step", {"i": i}) for i in range(3)]
    trail = auditkit.open(path, secret_key=SECRET)
    assert not trail.verify().ok
    assert trail.seal().quarantined == 1
    third = audit.log_event("step")
    audit.close()
    trail.seal()
    assert list(trail.events(type="step", columns=["id"])["id"]) == [*first, *second, third]
    verification = trail.verify()
    assert [finding.kind for finding in verification.findings] == ["tampered"]
    assert "without a valid MAC" in verification.findings[0].found


def plant_part(path: Path, seq: int = 3) -> Path:
    """Plant a part of the sealed writer, with one line that it never signed."""
    trail = auditkit.open(path, secret_key=SECRET)
    writer = trail.events(include_internal=True)["writer"].iloc[0]
    body = {
        "v": 1, "store": trail.store_id, "writer": writer, "seq": seq, "epoch": 0, "type": "step",
        "time": int(trail.events()["time"].iloc[0].value) // 1000,
    }  # fmt: skip
    body = {key: body.get(key) for key in BODY_KEYS}
    part = Layout(path).part(str(writer), 7)
    part.write_bytes(encode_body(body)[:-1] + b',"mac":"' + b"ab" * 32 + b'"}\n')
    return part


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A store with one writer, all of it sealed."""
    path = tmp_path / "audit"
    with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("step")
    auditkit.open(path, secret_key=SECRET).seal()
    return path


def test_a_forgery_beside_which_nothing_is_sealed_is_told_by_a_commit_that_adds_nothing(sealed: Path) -> None:
    """The journal with the forged line is dropped, and the finding stays: it is in a commit of its own, once."""
    trail = auditkit.open(sealed, secret_key=SECRET)
    plant_part(sealed)
    assert [finding.kind for finding in trail.verify().findings] == ["tampered"]
    result = trail.seal()
    assert (result.events, result.segments, result.commit, result.quarantined) == (0, (), 2, 1)
    assert not journal.list_parts(Layout(sealed))
    (finding,) = trail.verify().findings
    assert finding.found.startswith("1 lines quarantined, 1 without a valid MAC")
    with pytest.raises(verifier.Fault, match="didn't sign"):
        verifier.verify_store(sealed, verifier.Key.from_secret(SECRET.encode()))
    assert trail.seal().commit is None
    with auditkit.AuditLogger(sealed, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("later")
    assert trail.seal().commit == 3
    assert trail.count() == 2
    assert [finding.file for finding in trail.verify().findings] == ["ledger/00000002.commit"]


def test_a_forgery_that_lies_on_is_told_once(sealed: Path) -> None:
    """A forged part that somebody keeps locked is read by every sealing, and makes one commit, not one for each."""
    trail = auditkit.open(sealed, secret_key=SECRET)
    part = plant_part(sealed)
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [trail.seal().commit for _ in range(4)] == [2, None, None, None]
    assert trail.seal().commit is None
    assert not trail.verify().ok


def test_a_planted_quarantine_file_silences_no_finding(sealed: Path, tmp_path: Path) -> None:
    """What is in the quarantine already, by whoever's hand, isn't what a signed commit says."""
    plant_part(sealed)
    copy = shutil.copytree(sealed, tmp_path / "copy")
    auditkit.open(copy, secret_key=SECRET).seal()
    shutil.copytree(copy / "quarantine", sealed / "quarantine")
    trail = auditkit.open(sealed, secret_key=SECRET)
    assert trail.seal().commit == 2
    assert not trail.verify().ok


def test_other_forgeries_behind_the_first_are_told_too(sealed: Path) -> None:
    """A commit that says of one forged line what would be said of the next doesn't stand for both."""
    trail = auditkit.open(sealed, secret_key=SECRET)
    for number in range(2, 5):
        plant_part(sealed, seq=1 + number)
        assert trail.seal().commit == number
    assert len(trail.verify().findings) == 3


def test_a_line_that_was_repeated_is_found_behind_its_sealing_too(tmp_path: Path) -> None:
    """A second copy of a genuine line is a finding in the journal, and of the commit that its sealer made."""
    path = tmp_path / "audit"
    with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        for _ in range(4):
            audit.log_event("step")
    (part,) = journal.list_parts(Layout(path))
    lines = part.path.read_bytes().splitlines(keepends=True)
    part.path.write_bytes(b"".join([*lines[:4], lines[2], *lines[4:]]))
    trail = auditkit.open(path, secret_key=SECRET)
    assert not trail.verify().ok
    assert trail.seal().quarantined == 1
    assert trail.count(type="step") == 4
    assert [finding.file for finding in trail.verify().findings] == ["ledger/00000001.commit"]


def test_a_line_that_was_changed_before_its_sealing_is_never_shown_as_sealed(tmp_path: Path) -> None:
    """An event is deleted and the last one replaced: neither becomes part of the sealed record."""
    path = tmp_path / "audit"
    audit = auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False)
    for i in range(6):
        audit.log_event("step", {"i": i})
    audit.close()
    (part,) = journal.list_parts(Layout(path))
    lines = part.path.read_bytes().splitlines(keepends=True)
    forged = lines[-2].replace(b'{\\"i\\":5}', b'{\\"i\\":1000000}')
    assert forged != lines[-2]
    part.path.write_bytes(b"".join([*lines[:4], *lines[5:-2], forged]))
    trail = auditkit.open(path, secret_key=SECRET)
    trail.seal()
    assert not trail.events()["details"].str.contains("1000000").any()
    verification = trail.verify()
    assert "tampered" in {finding.kind for finding in verification.findings}


def test_a_link_in_place_of_a_folder_is_refused(store: Path, tmp_path: Path) -> None:
    """A sealer removes what lies in staging, so it must be the store's own."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious.parquet").write_text("keep me")
    shutil.rmtree(store / "staging")
    (store / "staging").symlink_to(victim)
    with pytest.raises(auditkit.AuditError, match="symbolic link"):
        auditkit.open(store, secret_key=SECRET).seal()
    assert (victim / "precious.parquet").read_text() == "keep me"
