"""Attacks that hide behind one another: a damage that would excuse another one, and lies that outlive their store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from auditkit import AuditLogger, note
from auditkit.integrity import Verification
from tests.attacks.archive import name_commit
from tests.attacks.recorder import MONDAY, THURSDAY, TUESDAY, WEDNESDAY
from tests.attacks.small import Vault, make_vault, record_day
from tests.integrity.stores import say


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A store of four commits, one a day."""
    made = make_vault(tmp_path / "vault")
    for number, day in enumerate([MONDAY, TUESDAY, WEDNESDAY, THURSDAY]):
        record_day(made, day, [f"paid.{number}"])
    return made


def remove(vault: Vault, *numbers: int) -> None:
    """Delete commits with the segments that they listed."""
    for number in numbers:
        commit = vault.layout.commit(number)
        for entry in json.loads(commit.read_bytes().partition(b"\n")[0])["add"]:
            (vault.path / entry["path"]).unlink()
        commit.unlink()


def accused(verification: Verification) -> set[str]:
    return {finding.file for finding in verification.findings if finding.severity == "finding"}


@pytest.mark.parametrize("public", [False, True], ids=["key", "public key"])
def test_a_hole_does_not_hide_a_cut_tail(vault: Vault, public: bool) -> None:
    """Commit 2 is missing, and so are the newest two: who has looked before is told of all three."""
    key = vault.public_key if public else None
    kept = vault.open().verify().checkpoint
    assert kept is not None
    remove(vault, 2, 4)
    verification = vault.open().verify(public_key=key)
    assert accused(verification) == {name_commit(2), name_commit(4)}, say(verification)
    cut = next(finding for finding in verification.findings if finding.file == name_commit(4))
    assert (cut.kind in ("truncated", "rolled_back"), cut.events) == (True, 3)
    # And to whoever has nothing but a kept checkpoint: the last commit says how large the tree was.
    told = vault.open().verify(public_key=key, pin=False, against=kept)
    assert accused(told) == {name_commit(2), name_commit(4)}, say(told)


@pytest.mark.parametrize("content", [b"garbage\n", b'{"v":2,"key_n":0,"mac":"' + b"0" * 64 + b'"}\n'])
@pytest.mark.parametrize("public", [False, True], ids=["key", "public key"])
def test_a_commit_that_can_t_be_read_does_not_hide_a_cut_tail(vault: Vault, public: bool, content: bytes) -> None:
    """Rubbish, or what claims to be of a newer version, in the place of a commit that was seen: both are told."""
    key = vault.public_key if public else None
    vault.open().verify()
    remove(vault, 3, 4)
    vault.layout.commit(3).write_bytes(content)
    verification = vault.open().verify(public_key=key)
    assert accused(verification) == {name_commit(3), name_commit(4)}, say(verification)
    assert verification.exit_code == 1


@pytest.mark.parametrize("public", [False, True], ids=["no key", "public key"])
def test_a_forged_store_is_not_remembered_as_the_honest_one(vault: Vault, tmp_path: Path, public: bool) -> None:
    """Somebody else's store under the same id is pinned by nobody, so the honest one isn't accused when it is back."""
    key = vault.public_key
    honest = tmp_path / "honest"
    shutil.move(vault.path, honest)
    description = json.loads((honest / "store.json").read_bytes())
    with AuditLogger(vault.path, secret_key="the secret of an attacker") as forger:
        forger.log_event("forged")
    forged = json.loads((vault.path / "store.json").read_bytes())
    shutil.rmtree(vault.path)
    for folder in ("journal", "events", "ledger"):
        (vault.path / folder).mkdir(parents=True)
    (vault.path / "store.json").write_text(json.dumps({**forged, "store": description["store"]}))
    with AuditLogger(vault.path, secret_key="the secret of an attacker", enable_rotation=False) as forger:
        for number in range(9):
            forger.log_event("forged", {"n": number})
        forger.rotate()
    (vault.path / "store.json").write_text(
        json.dumps({**json.loads((vault.path / "store.json").read_bytes()), "key_id": description["key_id"]})
    )
    verification = vault.open().verify(public_key=key) if public else vault.open().verify()
    assert not verification.ok, say(verification)
    shutil.rmtree(vault.path)
    shutil.move(honest, vault.path)
    assert vault.open().verify(public_key=key).ok
    assert vault.open().verify().ok


def test_a_checkpoint_left_in_the_store_contradicts_a_cut_ledger(vault: Vault) -> None:
    """Who cuts the ledger and forgets what a witness signed leaves the proof; without any pin or kept checkpoint."""
    (vault.path / "anchors").mkdir()
    checkpoint = vault.open().checkpoint()
    (vault.path / "anchors" / "00000004.note").write_text(checkpoint)
    assert vault.open().verify(pin=False).ok
    remove(vault, 4)
    verification = vault.open().verify(pin=False)
    assert accused(verification) == {name_commit(4)}, say(verification)
    assert "remove the newer files from anchors/" in verification.findings[0].advice
    assert vault.open().verify(repin=True).ok, "who restored a backup says so, and isn't told again in that run"


def test_a_thief_of_a_retired_signing_key_accuses_nobody(vault: Vault) -> None:
    """A checkpoint that a retired key signs today, put into the store, says nothing of it."""
    retired, origin = vault.keys.signing_seed, f"auditkit/{vault.open().store_id}"
    vault.open().rotate_keys(root=False)
    forged = note.sign_note(note.format_checkpoint(note.Checkpoint(origin, 5000, bytes(32))), origin, retired)
    (vault.path / "anchors").mkdir()
    (vault.path / "anchors" / "00000009.note").write_text(forged)
    verification = vault.open().verify(pin=False)
    assert verification.ok, say(verification)


def test_a_segment_made_of_events_in_the_journal_is_planted(vault: Vault, tmp_path: Path) -> None:
    """Genuine events that aren't sealed yet, sealed in a copy and put there: nothing was removed, so nothing is cut."""
    with AuditLogger(vault.path, key_file=vault.key_file, enable_rotation=False) as audit:
        audit.log_event("not.sealed", time=THURSDAY)
        audit.flush()
        copy = vault.copy(tmp_path / "copy")
        copy.seal()
        for path in copy.segments():
            target = vault.path / path.relative_to(copy.path)
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
                planted = vault.name(target)
        verification = vault.open().verify()
    found = {(finding.kind, finding.file) for finding in verification.findings}
    assert found == {("tampered", planted)}, say(verification)
