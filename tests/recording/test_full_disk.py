"""A full disk, real and small: events wait in memory, or are counted, or are refused, and every chain stays sound."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditkit import AuditHandler, AuditLogger
from auditkit.keys import GivenKey
from auditkit.recording import MAX_WAITING_BYTES, RETRY_SECONDS, Recorder, RecordingWarning
from auditkit.store.description import open_or_create
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, open_trail, read_ids, run

ROOT_KEY = independent.root_of_secret(SECRET)
DAY = datetime(2001, 5, 5, tzinfo=UTC)


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "audit"

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while ballast.write(b"x" * size):
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 - a loop that ends this way

    def fill_names(self) -> None:
        """Leave no room for another file, while those that are there may grow."""
        number = 0
        try:
            while True:
                (self.path / f"name-{number}").touch()
                number += 1
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017

    def free(self) -> None:
        """Make room again, and let the pause between two tries go by."""
        for name in self.path.glob("name-*"):
            name.unlink()
        (self.path / "ballast").unlink(missing_ok=True)
        time.sleep(RETRY_SECONDS * 1.5)


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk of 32 MiB and 200 names, or what the test's marker says."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    options = getattr(request, "param", "size=32m,nr_inodes=200")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_events_wait_until_there_is_room(disk: Disk) -> None:
    """Every event of an outage is there afterwards, in its order, and one warning was given."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        ids = [audit.log_event("before", {"n": number}) for number in range(10)]
        disk.fill()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ids += [audit.log_event("during", {"n": number}, message="x" * 300) for number in range(500)]
        assert [warning.category for warning in caught] == [RecordingWarning]
        assert "No space left on device" in str(caught[0].message)
        assert len(read_ids(open_trail(disk.store))) < 510
        disk.free()
        ids += [audit.log_event("after", {"n": number}) for number in range(10)]
    assert "" not in ids
    [lines] = independent.check_journal(disk.store, ROOT_KEY).values()
    assert [line.fields["seq"] for line in lines] == list(range(522))
    trail = open_trail(disk.store)
    assert read_ids(trail) == ids
    check_sound(trail)


def test_what_does_not_fit_into_memory_is_counted_in_the_chain(disk: Disk) -> None:
    """A gap event says how many were dropped, where they were dropped, and the chain verifies over it."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        disk.fill()
        with pytest.warns(RecordingWarning):
            during = [audit.log_event("during", {"n": number}, message="x" * 500_000) for number in range(60)]
        dropped = during.count("")
        assert 60 - dropped == MAX_WAITING_BYTES // 500_800
        assert during == [event_id for event_id in during if event_id] + [""] * dropped
        disk.free()
        after = audit.log_event("after")
    [lines] = independent.check_journal(disk.store, ROOT_KEY).values()
    gaps = [line.fields for line in lines if line.fields["type"] == "auditkit.gap"]
    assert [json.loads(gap["details"]) for gap in gaps] == [{"dropped": dropped}]
    assert int(after.rpartition(":")[2]) == gaps[0]["seq"] + dropped
    trail = open_trail(disk.store)
    assert read_ids(trail) == [event_id for event_id in [*during, after] if event_id]
    check_sound(trail)
    trail.seal()
    assert read_ids(trail) == [event_id for event_id in [*during, after] if event_id]
    check_sound(trail)


def test_outages_that_come_again(disk: Disk) -> None:
    """Four outages of different lengths, some with dropped events: one chain, and each loss is counted once."""
    ids = []
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        for outage in range(4):
            disk.fill()
            size = 1_500_000 if outage == 2 else 3_000
            with pytest.warns(RecordingWarning):
                ids += [audit.log_event("x", {"outage": outage}, message="x" * size) for _ in range(12 + outage)]
            disk.free()
            ids.append(audit.log_event("x", {"after": outage}))
            for part in sorted((disk.store / "journal").iterdir()):
                assert part.read_bytes().endswith(b"\n")
            audit.rotate()
    trail = open_trail(disk.store)
    assert read_ids(trail) == [event_id for event_id in ids if event_id]
    gaps = trail.events(type="auditkit.gap", columns=["details"])["details"]
    assert sum(json.loads(details)["dropped"] for details in gaps) == ids.count("") > 0
    check_sound(trail)


def test_a_half_written_line_is_taken_back(disk: Disk) -> None:
    """A line that only partly fits is removed, so that what follows stands on a line of its own."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("before")
        disk.fill()
        with (disk.path / "ballast").open("r+b") as ballast:
            ballast.truncate(ballast.seek(0, os.SEEK_END) - 40_000)
        with pytest.warns(RecordingWarning):
            audit.log_event("large", message="x" * 100_000)
        audit.log_event("small")
        [part] = (disk.store / "journal").iterdir()
        assert part.read_bytes().endswith(b"\n")
        disk.free()
        audit.log_event("after")
    trail = open_trail(disk.store)
    assert list(trail.events()["type"]) == ["before", "large", "small", "after"]
    check_sound(trail)


def test_an_application_that_wants_to_know_is_told(disk: Disk) -> None:
    """With ``on_failure="raise"`` the call raises the system's error, and the chain goes on without that event."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False, on_failure="raise") as audit:
        ids = [audit.log_event("before")]
        disk.fill()
        refused = 0
        for _ in range(20):
            try:
                ids.append(audit.log_event("during", message="x" * 3000))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - some of the twenty may still fit
                refused += 1
        assert refused > 15
        disk.free()
        ids.append(audit.log_event("after"))
    independent.check_journal(disk.store, ROOT_KEY)
    trail = open_trail(disk.store)
    assert read_ids(trail) == ids
    check_sound(trail)


def test_an_error_in_a_tracked_block_goes_before_ours(disk: Disk) -> None:
    """The application's exception is the one that arrives, with a note that it couldn't be recorded."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False, on_failure="raise") as audit:
        audit.log_event("before")
        disk.fill()
        with pytest.raises(KeyError) as caught, audit.track("op", details="x" * 10_000):
            raise KeyError("the application's own")
        assert caught.value.__notes__ == [
            f"auditkit could not record this failure: [Errno {errno.ENOSPC}] No space left on device"
        ]
        with pytest.raises(OSError, match="No space left"), audit.track("op", details="x" * 10_000):
            pass
        disk.free()


def test_flushing_tells_what_the_disk_refuses(disk: Disk) -> None:
    """A flush that leaves events in memory raises; afterwards it writes them."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("before")
        disk.fill()
        with pytest.warns(RecordingWarning):
            audit.log_event("during", message="x" * 10_000)
        with pytest.raises(OSError, match="No space left on device"):
            audit.flush()
        disk.free()
        audit.flush()
        assert list(open_trail(disk.store).events()["type"]) == ["before", "during"]


@pytest.mark.parametrize("on_failure", ["drop", "raise"])
def test_closing_on_a_full_disk(disk: Disk, on_failure: str, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be written to the very end is lost, and said to be; the logger is closed and the rest is sound."""
    audit = AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False, on_failure=on_failure)  # type: ignore[arg-type]
    audit.log_event("before")
    disk.fill()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            try:
                audit.log_event("during", message="x" * 10_000)
            except OSError:
                assert on_failure == "raise"
        audit.close()
    if on_failure == "drop":
        assert "3 events of writer" in str(caught[-1].message)
    with pytest.raises(Exception, match="expected an open logger"):
        audit.log_event("x")
    disk.free()
    trail = open_trail(disk.store)
    assert list(trail.events()["type"]) == ["before"]
    check_sound(trail)


def test_a_new_day_that_finds_no_room_for_a_file(disk: Disk) -> None:
    """While no chain can be opened events are counted, no keys are used up, and the next chain says how many."""
    with AuditLogger(disk.store, key_file=disk.path / "key", enable_rotation=False) as audit:
        audit.log_event("before")
        audit.log_event("before", time=DAY - timedelta(days=1))
        disk.fill_names()
        with pytest.warns(RecordingWarning, match="counted, not kept"):
            lost = [audit.log_event("during", time=DAY + timedelta(days=number)) for number in range(50)]
        assert lost == [""] * 50
        kept = audit.log_event("during")
        disk.free()
        after = audit.log_event("after", time=DAY)
    writers = independent.check_journal(disk.store, independent.root_of_file(disk.path / "key"))
    numbers = sorted(json.loads(lines[0].fields["details"])["n"] for lines in writers.values())
    assert numbers == list(range(3))
    gaps = [
        json.loads(line.fields["details"])
        for lines in writers.values()
        for line in lines
        if line.fields["type"] == "auditkit.gap"
    ]
    assert gaps == [{"dropped": 50}]
    recorded = {f"{writer}:{line.fields['seq']}" for writer, lines in writers.items() for line in lines}
    assert {kept, after} < recorded


def test_events_that_were_lost_are_counted_at_the_end_too(disk: Disk) -> None:
    """If nothing is recorded any more, closing opens a chain to say what was lost."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        disk.fill_names()
        with pytest.warns(RecordingWarning):
            assert audit.log_event("lost") == ""
        disk.free()
    [lines] = independent.check_journal(disk.store, ROOT_KEY).values()
    assert [line.fields["type"] for line in lines] == ["auditkit.opened", "auditkit.gap", "auditkit.closed"]
    check_sound(open_trail(disk.store))


@pytest.mark.parametrize("filters", ["error", "default"])
def test_a_warning_that_is_made_an_error_does_not_break_the_application(store: Path, filters: str) -> None:
    """Under ``-W error`` too a disk that refuses is told once for each reason, and every event is kept or counted."""
    ids, told = run("outlive_refusals", store, PYTHONWARNINGS=filters)
    assert "" not in ids
    assert told.count("events are counted, not kept (No such file or directory)") == 1
    assert told.count("events can't be written to") == 1
    assert ("RecordingWarning" in told) is (filters == "default")
    writers = independent.check_journal(store, ROOT_KEY)
    gaps = [
        line.fields["details"] for lines in writers.values() for line in lines if line.fields["type"].endswith("gap")
    ]
    assert gaps == ['{"dropped":2}'] * 3
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def make_recorder(store: Path) -> Recorder:
    """Make a recorder, whose clock is an argument."""
    layout = Layout(store)
    description, _ = open_or_create(layout, SECRET)
    return Recorder(layout, description.store, GivenKey(SECRET), max_part_bytes=None)


def test_midnight_on_a_full_disk(disk: Disk) -> None:
    """Yesterday's events still wait when the new day begins, and both days are whole once there is room."""
    recorder = make_recorder(disk.store)
    midnight = int(DAY.timestamp()) * 1_000_000
    ids = [recorder.record(midnight - 1000, "yesterday", midnight - 1000)]
    disk.fill()

    def record(now: int) -> str:
        kind = "yesterday" if now < midnight else "today"
        return recorder.record(now, kind, now, json.dumps("x" * 1000))

    with pytest.warns(RecordingWarning):
        ids += [record(midnight + microseconds) for microseconds in range(-30, 30)]
    disk.free()
    ids.append(recorder.record(midnight + 100, "today", midnight + 100))
    # The event of today has brought yesterday's along.
    assert len(read_ids(open_trail(disk.store))) == 62
    recorder.close()
    independent.check_journal(disk.store, ROOT_KEY)
    trail = open_trail(disk.store)
    assert read_ids(trail) == ids
    check_sound(trail)


def test_many_days_share_the_memory_that_events_wait_in(disk: Disk) -> None:
    """An import of many days into a full disk keeps no more in memory than one day would."""
    with AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False) as audit:
        disk.fill()
        with pytest.warns(RecordingWarning):
            ids = [
                audit.log_event("x", message="x" * 1_000_000, time=DAY + timedelta(days=number % 30))
                for number in range(60)
            ]
        kept = [event_id for event_id in ids if event_id]
        assert len(kept) * 1_000_000 < MAX_WAITING_BYTES < (len(kept) + 1.1) * 1_000_000
        disk.free()
        ids += [audit.log_event("x", time=DAY + timedelta(days=number)) for number in range(30)]
        audit.flush()
    writers = independent.check_journal(disk.store, ROOT_KEY)
    dropped = sum(
        json.loads(line.fields["details"])["dropped"]
        for lines in writers.values()
        for line in lines
        if line.fields["type"] == "auditkit.gap"
    )
    assert dropped == ids.count("")
    trail = open_trail(disk.store)
    assert sorted(read_ids(trail)) == sorted(event_id for event_id in ids if event_id)
    check_sound(trail)


def test_warnings_that_are_recorded_go_in_no_circle(disk: Disk) -> None:
    """`logging.captureWarnings` makes our own warning an event, which the full disk refuses too."""
    audit = AuditLogger(disk.store, secret_key=SECRET, enable_rotation=False)
    handler = AuditHandler(audit)
    logging.getLogger("py.warnings").addHandler(handler)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            audit.log_event("before")
            disk.fill()
            disk.fill_names()
            for number in range(20):
                audit.log_event("during", message="x" * 10_000)
                audit.log_event("during", time=DAY + timedelta(days=number))
            disk.free()
            audit.log_event("after")
            audit.close()
    finally:
        logging.captureWarnings(False)
        logging.getLogger("py.warnings").removeHandler(handler)
    independent.check_journal(disk.store, ROOT_KEY)
    check_sound(open_trail(disk.store))


def test_a_torn_line_that_cannot_be_taken_back_stays_the_last(disk: Disk) -> None:
    """If neither truncating nor a new file is possible, nothing is ever written behind the torn line."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace isn't installed")
    out, _ = run("tear", disk.store, under=[strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=ftruncate",
                                            "-e", "inject=ftruncate:error=EIO"])  # fmt: skip
    trail = open_trail(disk.store)
    assert read_ids(trail) == out
    assert [path.read_bytes()[-1:] for path in sorted((disk.store / "journal").iterdir())] == [b"x", b"\n"]
    independent.check_journal(disk.store, ROOT_KEY)
    check_sound(trail, torn=1)
    trail.seal()
    assert read_ids(trail) == out
    check_sound(trail, quarantined=1)
