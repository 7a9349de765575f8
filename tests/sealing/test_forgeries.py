"""A sealer that somebody without the key wants to mislead: what he wrote isn't sealed, and what it has stays sound."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

import auditkit
from auditkit.store import journal
from auditkit.store.layout import Layout

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
