"""Rotation: journals become segments, in a child process, while the application goes on."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import auditkit
from auditkit import AuditLogger
from auditkit.errors import AuditError
from auditkit.event import DAY_US
from auditkit.interpreter import find_python
from auditkit.recording import Recorder, RecordingWarning
from auditkit.spawning import AFTER_MIDNIGHT_SECONDS, DEAD_PARTS, Housekeeper, needs_sealing
from auditkit.store.description import open_or_create
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, open_trail, read_ids, run, wait_until

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


def test_sealing_while_a_process_records_takes_each_event_once(store: Path) -> None:
    """Complete lines of a journal whose owner is writing are sealed, and the reader sees each event in one place."""
    recorded: list[str] = []
    stop = threading.Event()
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:

        def record() -> None:
            while not stop.wait(0.0002):
                recorded.append(audit.log_event("live", {"n": len(recorded)}))

        thread = threading.Thread(target=record)
        thread.start()
        trail = open_trail(store)
        try:
            for _ in range(6):
                trail.seal()
                known = len(recorded)
                seen = read_ids(trail)
                assert len(seen) == len(set(seen)) >= known
                assert seen[:known] == recorded[:known]
        finally:
            stop.set()
            thread.join()
    trail.seal()
    assert read_ids(trail) == recorded
    assert not list((store / "journal").iterdir())
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


@pytest.mark.parametrize("python", ["/bin/true", "/bin/false", "/nowhere/python"])
def test_a_python_that_is_none_is_told(store: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    """Whatever else is run in the sealer's place, the error says so, and the journal is untouched."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        event_id = audit.log_event("x")
        monkeypatch.setenv("AUDITKIT_PYTHON", python)
        with pytest.raises(AuditError, match="sealer") as caught:
            audit.rotate()
        assert python in str(caught.value) or "exit code 1" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert SECRET.encode().hex() not in str(caught.value)
        assert not list_segments(store)
        monkeypatch.delenv("AUDITKIT_PYTHON")
        audit.rotate()
    assert read_ids(open_trail(store)) == [event_id]


def test_a_background_sealer_that_fails_is_logged(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nobody to raise to, so the failure goes to the logger `auditkit`, and recording goes on."""
    monkeypatch.setenv("AUDITKIT_PYTHON", "/bin/true")
    with AuditLogger(store, max_file_size_mb=0.001, secret_key=SECRET) as audit:
        ids = [audit.log_event("x", message="x" * 1000) for _ in range(3)]
        wait_until(lambda: "found no result" in caplog.text)
    assert read_ids(open_trail(store)) == ids


@pytest.mark.parametrize("how", ["asked", "alone"])
def test_lines_that_were_set_aside_are_told(store: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """The logger `auditkit` says how many lines can't be believed, where they lie and what to do."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("kept", time=DAY)
    [journal] = (store / "journal").iterdir()
    with journal.open("ab") as file:
        file.write(b"{}\n")
    with AuditLogger(store, secret_key=SECRET, enable_rotation=how == "alone") as audit:
        if how == "asked":
            audit.rotate()
        wait_until(lambda: "sealing set 1 journal lines aside" in caplog.text)
    assert str(store / "quarantine") in caplog.text
    assert len(list((store / "quarantine").iterdir())) == 1


def test_the_sealer_imports_nothing_from_the_working_directory(store: Path, tmp_path: Path) -> None:
    """Whoever can write there must not get his code into the process that has the key."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    (folder / "auditkit").mkdir()
    trap = f"open({str(tmp_path / 'trapped')!r}, 'w').close()\n"
    for name in (
        "orjson.py",
        "pyarrow.py",
        "logging.py",
        "sitecustomize.py",
        "auditkit/__init__.py",
        "auditkit/sealing.py",
    ):
        (folder / name).write_text(trap)
    ids, _ = run("rotate_among_strangers", store, folder)
    assert not (tmp_path / "trapped").exists()
    assert len(list_segments(store)) == 1
    assert read_ids(open_trail(store)) == ids


# -- the end of a day -------------------------------------------------------------------------------------------------


def make_recorder(store: Path, *, seconds_before: float) -> tuple[Recorder, Housekeeper]:
    """Make a recorder whose housekeeper believes that the day is looked after in so many seconds."""
    layout = Layout(store)
    description, keys = open_or_create(layout, SECRET)
    due_us = (time.time_ns() // 1000 // DAY_US + 1) * DAY_US + AFTER_MIDNIGHT_SECONDS * 1_000_000
    ahead_us = due_us - int(seconds_before * 1e6) - time.time_ns() // 1000
    housekeeper = Housekeeper(layout, keys, clock=lambda: time.time_ns() // 1000 + ahead_us, spread_seconds=0.1)
    recorder = Recorder(
        layout, description.store, keys, max_part_bytes=None,
        on_part=housekeeper.request, on_writer=housekeeper.watch,
    )  # fmt: skip
    housekeeper.close_past = recorder.close_past
    return recorder, housekeeper


def test_an_idle_process_seals_its_day_after_midnight(store: Path) -> None:
    """Without another event the chain is ended and sealed; the process lives, and its next event opens a new chain."""
    recorder, housekeeper = make_recorder(store, seconds_before=1)
    yesterday_us = int(DAY.timestamp()) * 1_000_000
    now_us = time.time_ns() // 1000
    first = recorder.record(now_us, "x", yesterday_us)
    assert not list_segments(store)
    wait_until(lambda: bool(list_segments(store)))
    wait_until(lambda: not list((store / "journal").iterdir()))
    trail = open_trail(store)
    assert list(trail.events(include_internal=True)["type"]) == ["auditkit.opened", "x", "auditkit.closed"]
    second = recorder.record(now_us, "x", yesterday_us)
    assert first.partition(":")[0] != second.partition(":")[0]
    housekeeper.stop()
    recorder.close()
    trail.seal()
    assert sorted(read_ids(trail)) == sorted([first, second])
    check_sound(trail)


def test_chains_end_with_their_day_and_no_sooner(store: Path) -> None:
    """Of the chains of three days only those are ended whose day is over; what comes next goes on where it should."""
    layout = Layout(store)
    description, keys = open_or_create(layout, SECRET)
    recorder = Recorder(layout, description.store, keys, max_part_bytes=None)
    day_us = int(DAY.timestamp()) * 1_000_000

    def record() -> list[str]:
        return [recorder.record(day_us, "x", day_us + day * DAY_US) for day in range(3)]

    first = record()
    recorder.close_past(day_us + DAY_US - 1)
    assert [event_id.rpartition(":")[2] for event_id in record()] == ["2", "2", "2"]
    recorder.close_past(day_us + 2 * DAY_US)
    third = record()
    assert [event_id.rpartition(":")[2] for event_id in third] == ["1", "1", "3"]
    assert third[2].partition(":")[0] == first[2].partition(":")[0]
    recorder.close()
    assert len(independent.check_journal(store, ROOT_KEY)) == 5
    check_sound(open_trail(store))


def test_lines_that_wait_keep_their_day_open(store: Path) -> None:
    """A day whose last events the disk refused isn't ended without them."""
    layout = Layout(store)
    description, keys = open_or_create(layout, SECRET)
    recorder = Recorder(layout, description.store, keys, max_part_bytes=None)
    day_us = int(DAY.timestamp()) * 1_000_000
    ids = [recorder.record(day_us, "x", day_us)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.warns(RecordingWarning):
            ids.append(recorder.record(day_us, "x", day_us))
        recorder.close_past(day_us + 2 * DAY_US)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recorder.close_past(day_us + 2 * DAY_US)
    trail = open_trail(store)
    assert read_ids(trail) == ids
    assert list(trail.events(include_internal=True)["type"])[-1] == "auditkit.closed"
    check_sound(trail)


def test_the_day_is_watched_wherever_something_was_recorded(store: Path) -> None:
    """The thread comes with the first event, in a forked child with its own, and keeps no process alive."""
    out, _ = run("watch_the_day", store)
    assert out == ["False", "True", "False", "True"]


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


@pytest.mark.slow
def test_a_thousand_short_lived_processes(store: Path, tmp_path: Path) -> None:
    """Real processes of ten events each, with the defaults: few sealers, few segments, and every event in them."""
    counting = tmp_path / "python"
    counting.write_text(f'#!/bin/sh\necho >> {tmp_path / "sealers"}\nexec {sys.executable} "$@"\n')
    counting.chmod(0o700)
    out, _ = run("come_and_go", store, 1000, AUDITKIT_PYTHON=str(counting))
    assert 1 <= len((tmp_path / "sealers").read_text()) < 20
    ids = [event_id for line in out for event_id in line.split()]
    assert len(ids) == len(set(ids)) == 10_000
    trail = auditkit.open(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    trail.seal()
    assert not list((store / "journal").iterdir())
    # A thousand journals are sealed at least whenever 256 have gathered, perhaps across midnight.
    assert len(list_segments(store)) <= 2 * 1000 // DEAD_PARTS + 2
    assert sorted(read_ids(trail)) == sorted(ids)
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
