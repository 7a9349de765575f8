"""A sealing that is killed at any step, raced by another, or fed with damage: nothing is lost, nothing comes twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import orjson
import pytest

import auditkit
from auditkit.store import journal
from auditkit.store.layout import Layout

SECRET = "a secret that only these tests know"

SEAL = f"""
import sys
import auditkit
print(auditkit.open(sys.argv[1], secret_key={SECRET!r}).seal().events)
"""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace injects the faults, and isn't installed"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one sealed commit and the journals of three writers on two days."""
    path = tmp_path / "audit"
    for _ in range(2):
        with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
            for i in range(40):
                audit.log_event("step", {"i": i}, lead_id=f"L-{i}")
        if not list((path / "ledger").iterdir()):
            auditkit.open(path, secret_key=SECRET).seal()
    return path


def read_ids(path: Path) -> list[str]:
    return list(auditkit.open(path, secret_key=SECRET).events(include_internal=True)["id"])


def check_whole(path: Path, ids: list[str]) -> None:
    """Every event is there once, the store is sound, and another sealing puts it in order."""
    assert Counter(read_ids(path)) == Counter(ids)
    trail = auditkit.open(path, secret_key=SECRET)
    assert trail.verify().ok, trail.verify()
    trail.seal()
    assert Counter(read_ids(path)) == Counter(ids)
    assert trail.verify().ok, trail.verify()
    assert not list((path / "journal").iterdir())
    assert not list((path / "staging").iterdir())


@needs_strace
@pytest.mark.parametrize("syscall", ["fsync", "rename", "link", "unlink", "ftruncate"])
@pytest.mark.parametrize("when", [1, 2, 3, 4, 6])
def test_a_sealing_killed_at_any_step_loses_nothing(store: Path, syscall: str, when: int) -> None:
    """Killed at the entry of a system call, a sealing leaves a store that the next one finishes."""
    ids = read_ids(store)
    names = {"rename": "rename,renameat,renameat2", "link": "link,linkat", "unlink": "unlink,unlinkat"}.get(
        syscall, syscall
    )
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={names}", "-e"]
    command += [f"inject={names}:signal=KILL:when={when}", sys.executable, "-c", SEAL, str(store)]
    subprocess.run(command, capture_output=True, check=False)
    check_whole(store, ids)


@needs_strace
@pytest.mark.parametrize(
    "fault", ["fsync:error=EIO:when=1", "fsync:error=EIO:when=4", "link,linkat:error=ENOSPC:when=1"]
)
def test_a_disk_that_fails_while_sealing_leaves_the_journals(store: Path, fault: str) -> None:
    """An input/output error ends the sealing with an error, and its events are still where they were."""
    ids = read_ids(store)
    names = fault.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={names}", "-e", f"inject={fault}"]
    done = subprocess.run([*command, sys.executable, "-c", SEAL, str(store)], capture_output=True, check=False)
    assert done.returncode != 0
    check_whole(store, ids)


def test_two_sealers_that_race_seal_every_event_once(store: Path) -> None:
    """One of them does the work, the other finds nothing left."""
    ids = read_ids(store)
    sealers = [
        subprocess.Popen([sys.executable, "-c", SEAL, str(store)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    sealed = [int(sealer.communicate()[0]) for sealer in sealers]
    assert sorted(sealed)[:3] == [0, 0, 0]
    assert sum(sealed) == 42
    check_whole(store, ids)


def test_sealing_while_a_process_records_takes_each_event_once(store: Path) -> None:
    """Complete lines of a journal whose owner is writing are sealed, and the reader sees each event in one place."""
    audit = auditkit.AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    recorded: list[str] = []
    stop = threading.Event()

    def record() -> None:
        while not stop.wait(0.0002):
            recorded.append(audit.log_event("live", {"n": len(recorded)}))

    thread = threading.Thread(target=record)
    thread.start()
    trail = auditkit.open(store, secret_key=SECRET)
    try:
        for _ in range(6):
            trail.seal()
            known = len(recorded)
            seen = list(trail.events(type="live", columns=["id"])["id"])
            assert len(seen) == len(set(seen)) >= known
            assert seen[:known] == recorded[:known]
    finally:
        stop.set()
        thread.join()
    audit.close()
    check_whole(store, read_ids(store))
    assert list(trail.events(type="live", columns=["id"])["id"]) == recorded


def damage(path: Path, change: str) -> int:
    """Damage the third line of the only journal; gives how many of its events are lost by that."""
    (part,) = journal.list_parts(Layout(path))
    lines = part.path.read_bytes().splitlines(keepends=True)
    if change == "middle":
        lines[2] = lines[2][:50] + b"\xff\x00" + lines[2][52:]
    elif change == "joined":
        lines[2] = b"{}{}\n"
    elif change == "blank":
        lines.insert(2, b"\n")
    elif change == "torn":
        lines[-1] = lines[-1][:30]
    elif change == "zeros":
        lines.append(bytes(500))
    part.path.write_bytes(b"".join(lines))
    return {"middle": 1, "joined": 1, "torn": 1}.get(change, 0)


@pytest.mark.parametrize("change", ["middle", "joined", "blank", "torn", "zeros"])
def test_damage_is_set_aside_and_the_rest_is_sealed(store: Path, change: str) -> None:
    """What can't be believed goes to quarantine with its reason; what stands around it is sealed and proved."""
    whole = len(read_ids(store))
    lost = damage(store, change)
    trail = auditkit.open(store, secret_key=SECRET)
    result = trail.seal()
    assert result.quarantined == 1
    (kept,) = (store / "quarantine").iterdir()
    record = orjson.loads(kept.read_bytes())
    assert record["reason"].startswith("expected")
    assert len(read_ids(store)) == whole - lost
    verification = trail.verify()
    if change in ("middle", "joined"):
        assert [(f.kind, f.first_seq, f.last_seq) for f in verification.findings] == [("missing", 2, 2)]
    else:
        assert verification.ok, verification
    assert "quarantined" in {note.kind for note in verification.notes}


def test_short_lived_processes_share_their_segments(tmp_path: Path) -> None:
    """Three hundred writers with ten events each end as one segment a day, not as three hundred."""
    path = tmp_path / "audit"
    for _ in range(300):
        with auditkit.AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
            for i in range(10):
                audit.log_event("step", {"i": i})
    trail = auditkit.open(path, secret_key=SECRET)
    trail.seal()
    assert trail.count(type="step") == 3000
    assert len(list((path / "events").rglob("*.parquet"))) == len(trail.days())
    assert trail.verify().ok


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
