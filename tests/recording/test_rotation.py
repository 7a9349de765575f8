"""Rotation: journals become segments, in a child process, while the application goes on."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditkit import AuditLogger
from auditkit.errors import AuditError
from auditkit.spawning import DEAD_PARTS, find_python, needs_sealing
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, finish, open_trail, read_ids, run, start, wait_until

ROOT_KEY = independent.root_of_secret(SECRET)
DAY = datetime(2001, 5, 5, tzinfo=UTC)


def list_segments(store: Path) -> list[Path]:
    return sorted((store / "events").glob("date=*/*.parquet"))


def test_a_journal_that_has_grown_is_sealed_by_a_child(store: Path) -> None:
    """At the size limit the part is finished and becomes a segment, while recording goes on in the next one."""
    with AuditLogger(store, max_file_size_mb=0.1, secret_key=SECRET) as audit:
        ids = [audit.log_event("x", {"n": number}, message="x" * 100) for number in range(1000)]
        wait_until(lambda: bool(list_segments(store)))
        ids += [audit.log_event("x", {"n": number}) for number in range(10)]
        trail = open_trail(store)
        assert read_ids(trail) == ids
        check_sound(trail)
    sizes = [path.stat().st_size for path in (store / "journal").iterdir()]
    assert max(sizes) < 110_000
    trail.seal()
    assert read_ids(trail) == ids
    check_sound(trail)
    assert max(json.loads(str(seq)) for seq in trail.events(columns=["seq"])["seq"]) == 1010


def test_the_key_changes_with_each_part(store: Path) -> None:
    """Parts that are handed over are signed with keys that the process has forgotten since."""
    with AuditLogger(store, max_file_size_mb=0.01, secret_key=SECRET) as audit:
        # No sealer may take the parts away before they were looked at.
        audit._housekeeper.stop()  # type: ignore[union-attr]
        for number in range(100):
            audit.log_event("x", {"n": number}, message="x" * 100)
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    epochs: dict[str, set[int]] = {}
    for line in lines:
        epochs.setdefault(line.file, set()).add(line.fields["epoch"])
    assert len(epochs) > 3
    assert list(epochs.values()) == [{number} for number in range(len(epochs))]


def test_rotation_on_demand(store: Path) -> None:
    """After ``rotate()`` everything is in segments, and the same chain goes on."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        first = audit.log_event("x")
        audit.rotate()
        assert len(list_segments(store)) == 1
        second = audit.log_event("x")
        assert first.rpartition(":")[0] == second.rpartition(":")[0]
        audit.rotate()
        audit.rotate()
        assert list(audit.query_events()["id"]) == [first, second]
    trail = open_trail(store)
    trail.seal()
    check_sound(trail)
    assert not list((store / "journal").iterdir())


def test_rotations_by_several_threads_and_processes(store: Path) -> None:
    """Whoever rotates, nothing is lost and nothing is sealed twice."""
    with (
        AuditLogger(store, secret_key=SECRET, enable_rotation=False) as first,
        AuditLogger(store, secret_key=SECRET, enable_rotation=False) as second,
        ThreadPoolExecutor(4) as pool,
    ):

        def work(number: int) -> list[str]:
            audit = (first, second)[number % 2]
            ids = [audit.log_event("x", {"n": number}) for _ in range(200)]
            audit.rotate()
            return ids + [audit.log_event("x", {"n": number}) for _ in range(200)]

        ids = [event_id for found in pool.map(work, range(6)) for event_id in found]
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    trail.seal()
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def test_a_sealer_that_fails_is_told(store: Path) -> None:
    """The error has the sealer's own words, and the journal is untouched."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        event_id = audit.log_event("x")
        (store / "staging").write_text("a file where a folder should be")
        with pytest.raises(AuditError, match="staging"):
            audit.rotate()
        (store / "staging").unlink()
        audit.rotate()
    assert read_ids(open_trail(store)) == [event_id]
    check_sound(open_trail(store))


def test_many_short_lived_writers_become_one_segment_a_day(store: Path) -> None:
    """Three hundred loggers of ten events over three days end as three files, and every event is in them."""
    ids = []
    for number in range(300):
        with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
            moment = DAY + timedelta(days=number % 3, seconds=number)
            ids += [audit.log_event("x", {"n": again}, time=moment) for again in range(10)]
    assert len(list((store / "journal").iterdir())) == 300
    trail = open_trail(store)
    result = trail.seal()
    assert (result.events, len(result.segments)) == (3600, 3)
    assert len(list_segments(store)) == 3
    assert not list((store / "journal").iterdir())
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def test_thirty_short_lived_processes(store: Path) -> None:
    """Real processes of ten events each: one segment."""
    ids = []
    for _ in range(10):
        processes = [start("record", store, 10) for _ in range(3)]
        ids += [event_id for process in processes for event_id in finish(process)[0]]
    trail = open_trail(store)
    assert len(trail.seal().segments) == 1
    assert sorted(read_ids(trail)) == sorted(ids)
    assert len(ids) == len(set(ids)) == 300
    check_sound(trail)


def test_many_journals_of_today_are_sealed_by_the_next_opener(store: Path) -> None:
    """A few journals of dead processes wait for more; hundreds, or one of an earlier day, don't."""
    layout = Layout(store)
    for number in range(DEAD_PARTS):
        assert not needs_sealing(layout), number
        with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
            audit.log_event("x")
    assert needs_sealing(layout)
    with AuditLogger(store, secret_key=SECRET) as audit:
        wait_until(lambda: len(list((store / "journal").iterdir())) <= 1)
        audit.log_event("x")
    trail = open_trail(store)
    assert len(read_ids(trail)) == DEAD_PARTS + 1
    check_sound(trail)


def test_a_journal_of_an_earlier_day_needs_sealing(store: Path) -> None:
    """Yesterday is complete, so it isn't waited for."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("x", time=DAY)
        assert not needs_sealing(Layout(store))  # its owner lives
    assert needs_sealing(Layout(store))


def test_the_secret_reaches_the_child_by_no_public_way(store: Path, tmp_path: Path) -> None:
    """Neither the child's command line nor its environment has the secret: others can read them."""
    spy = tmp_path / "python"
    spy.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, subprocess, sys\n"
        "folder = pathlib.Path(__file__).parent\n"
        "folder.joinpath('seen').write_text(repr((sys.argv, dict(os.environ))))\n"
        "raise SystemExit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)\n"
    )
    spy.chmod(0o700)
    out, _ = run("rotate", store, AUDITKIT_PYTHON=str(spy))
    assert read_ids(open_trail(store)) == out
    seen = (tmp_path / "seen").read_text()
    assert "auditkit.sealing" in seen
    assert SECRET not in seen
    assert SECRET.encode().hex() not in seen


def test_a_python_is_found_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter; inside another application the one that is named."""
    assert find_python() == sys.executable
    monkeypatch.setenv("AUDITKIT_PYTHON", "some/python")
    assert find_python() == "some/python"


def test_a_process_hardly_grows_while_it_records(store: Path) -> None:
    """Hundreds of thousands of events later, with many parts sealed by children, memory is what it was."""
    out, _ = run("outgrow", store, 200_000)
    assert int(out[0]) < 2_000_000
    wait_until(lambda: bool(list_segments(store)))  # the last sealer may outlive the process that started it
    trail = open_trail(store)
    trail.seal()
    assert trail.count() == 240_000
    assert trail.verify().ok
