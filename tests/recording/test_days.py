"""Days: each event in its own date's chain, at midnight, in imports, and when the ground is pulled away."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from auditkit import AuditLogger
from auditkit.errors import ClosedError, KeyMissing
from auditkit.recording import EPOCH_US, MAX_OPEN_WRITERS, RETRY_SECONDS, Recorder, RecordingWarning
from auditkit.store import journal
from auditkit.store.description import open_or_create
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, open_trail, read_ids

ROOT_KEY = independent.root_of_secret(SECRET)
DAY = datetime(2001, 5, 5, tzinfo=UTC)
MIDNIGHT_US = int(DAY.timestamp()) * 1_000_000


def kinds_of(lines: list[independent.Line]) -> list[str]:
    return [line.fields["type"] for line in lines]


def make_recorder(store: Path, **options: Any) -> Recorder:
    """Make a recorder, whose clock is an argument."""
    layout = Layout(store)
    description, keys = open_or_create(layout, SECRET)
    return Recorder(layout, description.store, keys, **{"max_part_bytes": None, **options})


def record(recorder: Recorder, now_us: int, kind: str = "x") -> str:
    """Record an event that happens now."""
    return recorder.record(now_us, kind, now_us)


def test_midnight_ends_one_chain_and_begins_the_next(store: Path) -> None:
    """A day's last microsecond and the next one's first lie in two chains; yesterday's is closed and handed on."""
    handed: list[int] = []
    recorder = make_recorder(store, on_part=lambda: handed.append(1))
    record(recorder, MIDNIGHT_US - 2)
    record(recorder, MIDNIGHT_US - 1)
    assert handed == []
    record(recorder, MIDNIGHT_US)
    assert handed == [1]
    owned = {part.writer[:8]: journal.is_owned(part) for part in journal.list_parts(Layout(store))}
    assert owned == {"20010504": False, "20010505": True}
    record(recorder, MIDNIGHT_US + 1)
    recorder.close()
    yesterday, today = (lines for _, lines in sorted(independent.check_journal(store, ROOT_KEY).items()))
    assert kinds_of(yesterday) == kinds_of(today) == ["auditkit.opened", "x", "x", "auditkit.closed"]
    assert json.loads(today[0].fields["details"])["parent"] == yesterday[0].fields["writer"]
    trail = open_trail(store)
    trail.seal()
    assert [str(day) for day in trail.days()] == ["2001-05-04", "2001-05-05"]
    check_sound(trail)


def test_a_late_event_of_yesterday_is_no_midnight(store: Path) -> None:
    """Events that go back and forth over midnight keep both chains open, and open none anew."""
    recorder = make_recorder(store)
    for number in range(20):
        now = MIDNIGHT_US + number
        recorder.record(now, "x", now - 86_400_000_000 * (number % 2))
    recorder.close()
    writers = independent.check_journal(store, ROOT_KEY)
    assert sorted(len(lines) for lines in writers.values()) == [12, 12]


def test_the_key_is_ratcheted_after_a_quarter_of_an_hour(store: Path) -> None:
    """The first event after fifteen minutes, and after every rotation, is signed with the next key."""
    recorder = make_recorder(store)
    for now in (0, EPOCH_US - 1, EPOCH_US, EPOCH_US + 1, 2 * EPOCH_US, 10 * EPOCH_US):
        record(recorder, MIDNIGHT_US + now)
    recorder.rotate()
    record(recorder, MIDNIGHT_US + 10 * EPOCH_US + 1)
    recorder.close()
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert [line.fields["epoch"] for line in lines] == [0, 0, 0, 1, 1, 2, 3, 4, 4]
    assert {line.file[-12:-6] for line in lines} == {"000000", "000001"}
    check_sound(open_trail(store))


def test_a_clock_that_goes_back_breaks_nothing(store: Path) -> None:
    """An hour or a day back, the chains go on, and what was recorded then is found then."""
    recorder = make_recorder(store)
    moments = [MIDNIGHT_US + hours * 3_600_000_000 for hours in (12, 11, -12, 13, -36, 14)]
    ids = [record(recorder, now) for now in moments]
    recorder.close()
    independent.check_journal(store, ROOT_KEY)
    trail = open_trail(store)
    frame = trail.events(columns=["id", "time"])
    assert list(frame["id"]) == [ids[place] for place in (4, 2, 1, 0, 3, 5)]
    check_sound(trail)


def test_events_of_other_days_lie_in_their_own_partitions(store: Path) -> None:
    """Whatever zone a time is given in, its UTC date decides, from the year 1 to the year 9999."""
    tokyo, new_york = timezone(timedelta(hours=9)), timezone(timedelta(hours=-5))
    times = {
        "first": datetime(1, 1, 1, tzinfo=UTC),
        "before_1970": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "tokyo": datetime(2001, 5, 5, 8, tzinfo=tokyo),
        "utc": datetime(2001, 5, 5, 8, tzinfo=UTC),
        "new_york": datetime(2001, 5, 5, 20, tzinfo=new_york),
        "last": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    }
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        for kind, moment in times.items():
            audit.log_event(kind, time=moment)
        audit.log_event("now")
    independent.check_journal(store, ROOT_KEY)
    trail = open_trail(store)
    for seal in (False, True):
        if seal:
            trail.seal()
        frame = trail.events(columns=["type", "time"])
        assert {kind: moment.to_pydatetime() for kind, moment in zip(frame["type"], frame["time"], strict=True)} == {
            **{kind: moment.astimezone(UTC) for kind, moment in times.items()},
            "now": frame["time"][frame["type"] == "now"].iloc[0].to_pydatetime(),
        }
        check_sound(trail)
    folders = {path.name for path in (store / "events").iterdir()}
    days = ("0001-01-01", "1969-12-31", "2001-05-04", "2001-05-05", "2001-05-06", "9999-12-31")
    assert folders - {f"date={datetime.now(UTC).date()}"} == {f"date={day}" for day in days}


def count_open(store: Path) -> int:
    """Count the journal files that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(descriptor.readlink())
        except FileNotFoundError:
            continue
    return sum(link.is_relative_to(store / "journal") for link in links)


def test_an_unsorted_import_of_many_days(store: Path) -> None:
    """Two hundred days in random order: never more than 64 open files, each day whole, one segment a day."""
    days = [number for number in range(200) for _ in range(4)]
    random.Random(1).shuffle(days)
    ids = []
    most = 0
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        for number, day in enumerate(days):
            ids.append(audit.log_event("x", {"n": number}, time=DAY + timedelta(days=day, seconds=number)))
            if number % 20 == 0:
                most = max(most, count_open(store))
        assert count_open(store) == MAX_OPEN_WRITERS
    assert most == MAX_OPEN_WRITERS
    assert count_open(store) == 0
    writers = independent.check_journal(store, ROOT_KEY)
    assert {kinds_of(lines)[-1] for lines in writers.values()} == {"auditkit.closed"}
    per_day: dict[str, int] = defaultdict(int)
    for writer, lines in writers.items():
        per_day[writer[:8]] += kinds_of(lines).count("x")
    assert sorted(per_day.values()) == [4] * 200
    trail = open_trail(store)
    result = trail.seal()
    assert len(result.segments) == 200
    assert sorted(read_ids(trail)) == sorted(ids)
    assert not list((store / "journal").iterdir())
    check_sound(trail)


def test_a_sorted_import_keeps_few_chains(store: Path) -> None:
    """An import in the order of time opens one chain a day."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        for number in range(400):
            audit.log_event("x", time=DAY + timedelta(hours=6 * number))
    assert len(independent.check_journal(store, ROOT_KEY)) == 100


def test_a_journal_that_vanishes_never_breaks_the_application(store: Path) -> None:
    """While its folder is gone events are counted; when it's back the next chain says how many were lost."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("before")
        shutil.move(store / "journal", store / "elsewhere")
        with pytest.warns(RecordingWarning, match="restore the folder"):
            assert audit.log_event("lost", time=DAY) == ""
        assert audit.log_event("lost", time=DAY) == ""
        with pytest.raises(OSError, match="No such file"):
            audit.flush()
        shutil.move(store / "elsewhere", store / "journal")
        time.sleep(RETRY_SECONDS * 1.5)
        assert audit.log_event("kept", time=DAY)
        audit.flush()
    writers = independent.check_journal(store, ROOT_KEY)
    assert sorted(kinds_of(lines) for lines in writers.values()) == [
        ["auditkit.opened", "auditkit.gap", "kept", "auditkit.closed"],
        ["auditkit.opened", "before", "auditkit.closed"],
    ]
    check_sound(open_trail(store))


def test_a_key_that_vanishes_at_midnight_never_breaks_the_application(store: Path, tmp_path: Path) -> None:
    """The new day's chain can't be signed, so events are counted until the key file is back; no new key is made."""
    key_file = tmp_path / "keys" / "audit.key"
    with AuditLogger(store, key_file=key_file, enable_rotation=False) as audit:
        audit.log_event("before")
        kept = key_file.read_bytes()
        key_file.unlink()
        with pytest.warns(RecordingWarning, match="restore the folder or the key file"):
            assert audit.log_event("lost", time=DAY) == ""
        assert audit.log_event("before")
        assert not key_file.exists()
        assert len(list((store / "journal").iterdir())) == 1
        key_file.write_bytes(kept)
        time.sleep(RETRY_SECONDS * 1.5)
        assert audit.log_event("kept", time=DAY)
    writers = independent.check_journal(store, independent.root_of_file(key_file))
    assert len(writers) == 2
    gaps = [line.fields["details"] for lines in writers.values() for line in lines if "gap" in line.fields["type"]]
    assert gaps == ['{"dropped":1}']


def test_an_application_that_wants_to_know_is_told_of_a_missing_key(store: Path, tmp_path: Path) -> None:
    """With ``on_failure="raise"`` the call raises, and nothing is counted as dropped."""
    key_file = tmp_path / "keys" / "audit.key"
    with AuditLogger(store, key_file=key_file, enable_rotation=False, on_failure="raise") as audit:
        audit.log_event("before")
        kept = key_file.read_bytes()
        key_file.unlink()
        with pytest.raises(KeyMissing):
            audit.log_event("refused", time=DAY)
        key_file.write_bytes(kept)
        audit.log_event("kept", time=DAY)
    writers = independent.check_journal(store, independent.root_of_file(key_file))
    assert sum("auditkit.gap" in kinds_of(lines) for lines in writers.values()) == 0


def test_a_closed_recorder_records_nothing_of_any_day(store: Path) -> None:
    """After its end neither the same day nor another is opened again."""
    recorder = make_recorder(store)
    record(recorder, MIDNIGHT_US)
    recorder.close()
    recorder.close()
    for now in (MIDNIGHT_US, MIDNIGHT_US - 1):
        with pytest.raises(ClosedError, match="make a new one"):
            record(recorder, now)
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert kinds_of(lines) == ["auditkit.opened", "x", "auditkit.closed"]
