"""What a recorder keeps in mind between two calls: places, times, sizes and what waits, each seen in its journals.

Refused writes are real: a limit on the size of files. An interruption at one exact point is made by the write itself.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import auditkit
from auditkit.errors import ClosedError
from auditkit.event import DAY_US, MAX_LINE_BYTES, RESULT_KEYS
from auditkit.recording import RETRY_SECONDS, OnFailure, Recorder, RecordingWarning
from auditkit.recording import recorder as recording
from auditkit.recording import writer as writing
from auditkit.recording.writer import Writer
from auditkit.store import durable, journal
from auditkit.store.description import open_or_create
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import check_sound, open_trail, read_ids
from tests.recording.test_days import MIDNIGHT_US, ROOT_KEY, count_open, kinds_of, make_recorder

SECOND_US = 1_000_000
LITTLE = 8192
"""What some tests let wait in memory, so that it is full after a few events."""

RESULT = dict(zip(RESULT_KEYS, ("failure", "sync", 5, "KeyError", "no key", "line 1"), strict=True))


def record(recorder: Recorder, kind: str = "x", *, day: int = 0, later_us: int = 0, text: str | None = None) -> str:
    """Record an event of the first day or one behind it, always at the same moment of the clock."""
    return recorder.record(
        MIDNIGHT_US, kind, MIDNIGHT_US + day * DAY_US + later_us, None if text is None else json.dumps(text)
    )


@contextmanager
def no_room(most: int = 1) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    before, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, highest))


@contextmanager
def outage(most: int = 1) -> Iterator[None]:
    """Let no file grow beyond so many bytes, which the recorder warns of."""
    with no_room(most), pytest.warns(RecordingWarning):
        yield


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next try come at once."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next try come after the test, unless something doesn't wait for it."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(recording, "RETRY_SECONDS", 3600.0)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few events wait."""
    monkeypatch.setattr(writing, "MAX_WAITING_BYTES", LITTLE)


def fill_memory(recorder: Recorder, *, day: int) -> int:
    """Record until an event doesn't fit into memory any more; tells how many wait."""
    kept = 0
    while record(recorder, day=day):
        kept += 1
    assert kept
    return kept


def wait_for_the_pause() -> None:
    """Let the pause between two tries go by."""
    time.sleep(RETRY_SECONDS * 1.5)


def interrupt_behind(monkeypatch: pytest.MonkeyPatch, kind: str, call: Callable[[], object]) -> None:
    """Make a call that Ctrl-C ends just behind the writing of a line of a kind, before anything was counted."""
    write_all = durable.write_all

    def write_and_interrupt(descriptor: int, data: bytes | memoryview) -> None:
        write_all(descriptor, data)
        if f'"type":"{kind}"'.encode() in bytes(data):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", write_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()


def interrupt_record(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], *, half: bool = False) -> None:
    """Make a call that Ctrl-C ends behind its own line, or behind a half of it."""

    def write_and_interrupt(descriptor: int, line: bytes) -> int:
        os.write(descriptor, line[: len(line) // 2] if half else line)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recording, "_write", write_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()


def read_kinds(store: Path) -> list[list[str]]:
    """Give the types of each chain's lines, the chains by their dates."""
    return [kinds_of(lines) for _, lines in sorted(independent.read_journal(store).items())]


def check_kinds(store: Path) -> list[list[str]]:
    """Give the types of each chain's lines, and hold every chain to the format."""
    writers = independent.check_journal(store, ROOT_KEY)
    check_sound(open_trail(store))
    return [kinds_of(lines) for _, lines in sorted(writers.items())]


def read_opened(store: Path) -> dict[str, Any]:
    """Give what the first line of each chain says, by the type of the chain's first event of the application."""
    return {
        lines[1].fields["type"]: json.loads(lines[0].fields["details"])
        for lines in independent.read_journal(store).values()
    }


def name_of(event_id: str) -> str:
    """Give the chain that an event lies in."""
    return event_id.partition(":")[0]


def read_dropped(lines: list[independent.Line]) -> list[int]:
    """Give what the gap events of a chain count."""
    return [json.loads(line.fields["details"])["dropped"] for line in lines if line.fields["type"] == "auditkit.gap"]


# -- one event --------------------------------------------------------------------------------------------------------


def test_an_event_that_is_too_large_is_cut_and_keeps_its_result(store: Path) -> None:
    """Five million characters don't fit into a line, so they are cut; what came of the operation stays."""
    recorder = make_recorder(store)
    recorder.record(MIDNIGHT_US, "large", MIDNIGHT_US, json.dumps("x" * 5_000_000), "ana", "L-1", "mail", RESULT)
    record(recorder, "after")
    recorder.close()
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    fields = lines[1].fields
    assert len(lines[1].body) < MAX_LINE_BYTES
    assert json.loads(fields["details"])["$cut"]["characters"] == 5_000_002
    assert {name: fields[name] for name in RESULT_KEYS} == RESULT
    assert (fields["actor"], fields["lead_id"], fields["workflow"]) == ("ana", "L-1", "mail")
    check_sound(open_trail(store))


def test_what_waits_and_what_is_not_signed_has_its_result(store: Path) -> None:
    """The lines that aren't made the quick way say the same as the others."""
    for number, signs in enumerate((True, False)):
        recorder = make_recorder(store / str(number), signs=signs)
        record(recorder)
        with outage():
            record(recorder)
            recorder.record(MIDNIGHT_US, "result", MIDNIGHT_US, "{}", "ana", "L-1", "mail", RESULT)
        recorder.close()
        [lines] = independent.read_journal(store / str(number)).values()
        assert [{name: line.fields[name] for name in RESULT_KEYS} for line in lines[2:4]] == [
            dict.fromkeys(RESULT_KEYS),
            RESULT,
        ]


@pytest.mark.parametrize("signs", [True, False])
def test_a_chain_ends_when_its_last_event_happened(store: Path, signs: bool) -> None:
    """The end of a chain lies in its date, so it has the time of the last event and not the clock's."""
    recorder = make_recorder(store, signs=signs)
    record(recorder, later_us=SECOND_US)
    record(recorder, later_us=5 * SECOND_US)
    recorder.close()
    [lines] = independent.read_journal(store).values()
    assert [line.fields["time"] - MIDNIGHT_US for line in lines] == [0, SECOND_US, 5 * SECOND_US, 5 * SECOND_US]


def test_a_part_is_full_at_its_size(store: Path) -> None:
    """The event that reaches the size is the last of its part, and the next stands in the next one."""
    recorder = make_recorder(store / "measured")
    record(recorder)
    [part] = (store / "measured" / "journal").iterdir()
    size = part.stat().st_size
    recorder.close()
    for more, parts in ((0, 2), (1, 1)):
        again = store / str(more)
        recorder = make_recorder(again, max_part_bytes=size + more)
        record(recorder)
        assert len(list((again / "journal").iterdir())) == parts
        recorder.close()


def test_a_rotation_that_finds_no_folder_is_tried_again(store: Path) -> None:
    """The full part goes on while no other can be made, nothing is handed on, and the next event tries again."""
    handed: list[int] = []
    recorder = make_recorder(store, max_part_bytes=5000, on_part=lambda: handed.append(1))
    record(recorder)
    (store / "journal").rename(store / "away")
    assert record(recorder, text="x" * 5000)
    assert handed == []
    (store / "away").rename(store / "journal")
    assert record(recorder)
    assert handed == [1]
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "x", "x", "auditkit.closed"]]


# -- what waits -------------------------------------------------------------------------------------------------------


def test_the_next_event_of_another_date_brings_what_waits(store: Path, no_pause: None) -> None:
    """A chain that has no trouble itself brings along what waits in the others."""
    recorder = make_recorder(store)
    record(recorder, day=1)
    record(recorder)
    with outage():
        record(recorder, "waiting")
    record(recorder, day=1)
    assert read_kinds(store) == [["auditkit.opened", "x", "waiting"], ["auditkit.opened", "x", "x"]]
    recorder.close()
    check_kinds(store)


def test_the_chain_that_can_write_again_brings_what_waits_in_others(store: Path, no_pause: None) -> None:
    """When one date's lines get through, those of the other dates are written in the same call."""
    recorder = make_recorder(store)
    record(recorder, day=1)
    record(recorder)
    with outage():
        record(recorder, "waiting", day=1)
        record(recorder, "waiting")
    record(recorder)
    assert read_kinds(store) == [["auditkit.opened", "x", "waiting", "x"], ["auditkit.opened", "x", "waiting"]]
    recorder.close()
    check_kinds(store)


def test_the_chain_that_tells_its_gap_brings_what_waits_in_others(
    store: Path, no_pause: None, little_memory: None
) -> None:
    """So does a date that has dropped events meanwhile."""
    recorder = make_recorder(store)
    record(recorder, day=1)
    record(recorder)
    with outage():
        record(recorder, "waiting", day=1)
        kept = fill_memory(recorder, day=0)
    record(recorder, "after")
    assert read_kinds(store) == [
        ["auditkit.opened", *["x"] * (1 + kept), "auditkit.gap", "after"],
        ["auditkit.opened", "x", "waiting"],
    ]
    recorder.close()
    check_kinds(store)


def test_memory_is_free_again_after_an_outage(store: Path, little_memory: None) -> None:
    """As many events fit into memory at a second outage as at the first."""
    recorder = make_recorder(store)
    record(recorder)
    kept = []
    for _ in range(3):
        with outage():
            kept.append(fill_memory(recorder, day=0))
        recorder.flush()
    assert kept[0] - 1 <= kept[2] <= kept[1] <= kept[0]  # the numbers in the lines have more digits later
    recorder.close()
    check_kinds(store)


def test_what_waits_is_not_tried_again_with_every_event(store: Path, long_pause: None) -> None:
    """During the pause an event only joins what waits; flushing doesn't wait for the pause."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        record(recorder)
    record(recorder)
    assert read_kinds(store) == [["auditkit.opened", "x"]]
    recorder.flush()
    assert read_kinds(store) == [["auditkit.opened", "x", "x", "x"]]
    recorder.close()
    check_kinds(store)


def test_a_second_failure_begins_another_pause(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written again isn't tried with the very next event either; closing doesn't wait."""
    recorder = make_recorder(store)
    record(recorder)
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    with no_room():
        with pytest.warns(RecordingWarning):
            record(recorder)
        monkeypatch.setattr(writing, "RETRY_SECONDS", 3600.0)
        with pytest.raises(OSError, match="File too large"):
            recorder.flush()
    record(recorder)
    assert read_kinds(store) == [["auditkit.opened", "x"]]
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "x", "x", "auditkit.closed"]]


def test_flush_tells_the_newest_reason(store: Path) -> None:
    """First the file was gone, now its folder is: that is what can be repaired."""
    recorder = make_recorder(store)
    record(recorder)
    shutil.rmtree(store / "journal")
    with pytest.warns(RecordingWarning):
        kept = recorder.record(MIDNIGHT_US + 2 * SECOND_US, "x", MIDNIGHT_US)
    with pytest.raises(FileNotFoundError) as caught:
        recorder.flush()
    assert caught.value.errno == errno.ENOENT
    (store / "journal").mkdir()
    recorder.flush()
    recorder.close()
    assert read_ids(open_trail(store)) == [kept]


def test_flush_goes_on_behind_the_first_problem(store: Path) -> None:
    """One date's journal was removed, which is told; the other date's events are written nevertheless."""
    recorder = make_recorder(store)
    record(recorder)
    [removed] = (store / "journal").iterdir()
    record(recorder, day=1)
    with outage():
        record(recorder, "waiting", day=1)
    removed.unlink()
    with pytest.warns(RecordingWarning, match="removed the journal"), pytest.raises(FileNotFoundError):
        recorder.flush()
    assert read_kinds(store) == [["auditkit.opened", "x", "waiting"]]
    recorder.close()


def test_a_gap_that_is_dropped_itself_loses_no_count(store: Path, little_memory: None) -> None:
    """Another date's lines fill the memory, so the gap finds no place either; later it counts every event."""
    recorder = make_recorder(store)
    record(recorder)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        dropped = [record(recorder) for _ in range(3)]
        wait_for_the_pause()
        dropped.append(record(recorder))  # tries to write the gap
    assert dropped == [""] * 4
    wait_for_the_pause()
    record(recorder, "after")
    recorder.close()
    first, _ = check_kinds(store)
    assert first == ["auditkit.opened", "x", "auditkit.gap", "after", "auditkit.closed"]
    assert read_dropped(min(independent.read_journal(store).items())[1]) == [4]


def test_a_gap_that_waits_stands_before_what_follows(store: Path, little_memory: None) -> None:
    """One date's file is too large for what the disk allows, so its gap must wait when the others are written."""
    recorder = make_recorder(store)
    for _ in range(5):
        record(recorder, text="x" * 5000)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        ids = [record(recorder) for _ in range(3)]
    assert ids == [""] * 3
    with outage(20_000):
        wait_for_the_pause()
        record(recorder, day=1)  # makes room in memory
        wait_for_the_pause()
        ids.append(record(recorder))  # tries to write the gap, which now waits
    wait_for_the_pause()
    record(recorder, "after")
    recorder.close()
    first, _ = check_kinds(store)
    assert [kind for kind in first if kind != "auditkit.gap"] == [
        "auditkit.opened", *["x"] * (5 + 4 - ids.count("")), "after", "auditkit.closed",
    ]  # fmt: skip
    assert first[6] == "auditkit.gap"
    assert sum(read_dropped(min(independent.read_journal(store).items())[1])) == ids.count("")


def test_a_chain_that_finds_no_room_for_its_beginning_is_none(store: Path, little_memory: None) -> None:
    """Memory is full of another date's lines, so the events of a new date are counted and no empty file stays."""
    recorder = make_recorder(store)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        assert record(recorder) == ""
    assert len(list((store / "journal").iterdir())) == 1
    recorder.flush()
    wait_for_the_pause()
    record(recorder, "after")
    recorder.close()
    first, _ = check_kinds(store)
    assert first == ["auditkit.opened", "auditkit.gap", "after", "auditkit.closed"]


# -- the end of a chain -----------------------------------------------------------------------------------------------


def test_an_end_that_is_refused_is_written_once(store: Path) -> None:
    """The disk refuses a chain's signed end alone; the next try writes it, and no second one."""
    recorder = make_recorder(store)
    record(recorder)
    with no_room():
        recorder.close_past(MIDNIGHT_US + DAY_US)
    assert read_kinds(store) == [["auditkit.opened", "x"]]
    for _ in range(2):
        recorder.close_past(MIDNIGHT_US + DAY_US)
        assert check_kinds(store) == [["auditkit.opened", "x", "auditkit.closed"]]
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "auditkit.closed"]]


@pytest.mark.parametrize("how", ["late event", "midnight", "many dates"])
def test_nothing_comes_behind_the_end_of_a_chain(store: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The disk refuses an end, whatever it was for; an event that comes afterwards is in the chain before its end."""
    monkeypatch.setattr(recording, "MAX_OPEN_WRITERS", 2)
    recorder = make_recorder(store)
    ids = [record(recorder)]
    with no_room(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        if how == "late event":
            recorder.close_past(MIDNIGHT_US + DAY_US)
        elif how == "midnight":
            ids.append(recorder.record(MIDNIGHT_US + DAY_US, "x", MIDNIGHT_US + DAY_US))
        else:
            ids += [record(recorder, day=day) for day in (1, 2)]
    ids.append(record(recorder))
    recorder.close()
    assert name_of(ids[0]) == name_of(ids[-1])
    assert check_kinds(store)[0] == ["auditkit.opened", "x", "x", "auditkit.closed"]
    trail = open_trail(store)
    trail.seal()
    check_sound(trail)
    assert sorted(read_ids(trail)) == sorted(ids)


def test_a_chain_that_cannot_tell_its_gap_has_no_end_yet(store: Path, little_memory: None) -> None:
    """The day is over and memory is full, so the gap finds no place: it counts the events, and the end comes later."""
    recorder = make_recorder(store)
    record(recorder)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        assert [record(recorder) for _ in range(3)] == [""] * 3
        recorder.close_past(MIDNIGHT_US + DAY_US)
        with pytest.raises(OSError, match="File too large"):
            recorder.flush()
    wait_for_the_pause()
    recorder.close()
    assert check_kinds(store)[0] == ["auditkit.opened", "x", "auditkit.gap", "auditkit.closed"]
    assert read_dropped(min(independent.read_journal(store).items())[1]) == [3]


def test_a_gap_that_finds_no_place_is_tried_once_in_a_call(store: Path, little_memory: None, no_pause: None) -> None:
    """However long a try takes, so that the pause is over when it comes back: a call ends."""
    recorder = make_recorder(store)
    record(recorder)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        assert [record(recorder) for _ in range(3)] == [""] * 3
    record(recorder, "after")
    recorder.close()
    assert check_kinds(store)[0] == ["auditkit.opened", "x", "auditkit.gap", "after", "auditkit.closed"]
    assert read_dropped(min(independent.read_journal(store).items())[1]) == [3]


def test_the_end_of_a_chain_is_not_older_than_what_waited(store: Path) -> None:
    """Lines that were made while the disk refused count for the time of the end like any others."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        record(recorder, later_us=3 * SECOND_US)
        record(recorder, later_us=5 * SECOND_US)
    recorder.close()
    [lines] = independent.read_journal(store).values()
    assert [line.fields["time"] - MIDNIGHT_US for line in lines] == [0, 0, *[n * SECOND_US for n in (3, 5, 5)]]


def test_dropped_events_that_are_never_counted_are_told(store: Path, little_memory: None) -> None:
    """A date with nothing in memory has lost events too, if the disk refuses until the recorder is closed."""
    recorder = make_recorder(store)
    event_id = record(recorder)
    record(recorder, day=1)
    with outage():
        fill_memory(recorder, day=1)
        record(recorder)
    with no_room(), pytest.warns(RecordingWarning) as caught:
        recorder.close()
    assert any(f"events of writer {name_of(event_id)} are lost" in str(warning.message) for warning in caught)


def test_a_chain_that_could_not_be_ended_is_let_go(store: Path) -> None:
    """An application that wants to know is told; the journal is free to be sealed, and the date goes on in another."""
    recorder = make_recorder(store, on_failure="raise")
    record(recorder, "before")
    with no_room(), pytest.raises(OSError, match="File too large"):
        recorder.close_past(MIDNIGHT_US + DAY_US)
    [part] = journal.list_parts(Layout(store))
    assert not journal.is_owned(part)
    record(recorder, "after")
    with no_room(), pytest.raises(OSError, match="File too large"):
        recorder.close()
    assert not any(map(journal.is_owned, journal.list_parts(Layout(store))))
    assert sorted(check_kinds(store)) == [["auditkit.opened", "after"], ["auditkit.opened", "before"]]


def test_a_chain_names_the_one_that_was_closed_before_it(store: Path) -> None:
    """The process's chains hang together, also where one was closed before the next was needed."""
    recorder = make_recorder(store)
    first = record(recorder, "first")
    recorder.close_past(MIDNIGHT_US + DAY_US)
    record(recorder, "second")
    recorder.close()
    assert read_opened(store)["second"]["parent"] == name_of(first)


def test_a_recorder_that_is_closed_inside_of_a_call(store: Path) -> None:
    """The event under way is kept, the next call is refused and signs the end."""
    calls: list[Callable[[], None]] = []
    recorder = make_recorder(store, on_writer=lambda: calls.pop()())
    calls.append(recorder.close)
    assert record(recorder)
    assert read_kinds(store) == [["auditkit.opened", "x"]]
    with pytest.raises(ClosedError):
        record(recorder)
    assert check_kinds(store) == [["auditkit.opened", "x", "auditkit.closed"]]


# -- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["same date", "other date"])
def test_a_line_that_waited_and_was_written_before_an_interruption(
    store: Path, monkeypatch: pytest.MonkeyPatch, no_pause: None, then: str
) -> None:
    """It is there once, and the lines that still wait behind it come before any other."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        record(recorder, "first")
        record(recorder, "second")
    interrupt_behind(monkeypatch, "first", recorder.flush)
    if then == "other date":
        # Its chain is opened while the first one doesn't know yet what its journal holds.
        record(recorder, day=1)
        assert read_kinds(store)[0] == ["auditkit.opened", "x", "first"]
    record(recorder, "third")
    recorder.close()
    assert check_kinds(store)[0] == ["auditkit.opened", "x", "first", "second", "third", "auditkit.closed"]


def test_an_interruption_behind_a_line_that_waited_leaves_it_in_no_count(
    store: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None
) -> None:
    """Memory is free again also for what was written when the call ended."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        assert record(recorder, "large", text="x" * (LITTLE - 1000))
    interrupt_behind(monkeypatch, "large", recorder.flush)
    with outage():
        assert record(recorder, "large", text="x" * (LITTLE - 1000))
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "large", "large", "auditkit.closed"]]


@pytest.mark.parametrize("behind", ["last", "auditkit.gap"])
def test_an_interruption_around_a_gap(
    store: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None, behind: str
) -> None:
    """Before the gap or behind it: it is told once, in its place, and holds the places of all that it counts."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        record(recorder, "last", text="x" * (LITTLE - 1000))
        while record(recorder, "small"):
            pass
        assert [record(recorder) for _ in range(2)] == ["", ""]
    interrupt_behind(monkeypatch, "last", recorder.flush)
    if behind == "auditkit.gap":
        interrupt_behind(monkeypatch, behind, recorder.flush)
    recorder.flush()
    record(recorder, "after")
    recorder.close()
    [kinds] = check_kinds(store)
    assert [kind for kind in kinds if kind != "small"] == [
        "auditkit.opened", "x", "last", "auditkit.gap", "after", "auditkit.closed",
    ]  # fmt: skip
    [lines] = independent.read_journal(store).values()
    assert read_dropped(lines) == [3]


def test_an_interruption_before_a_gap(
    store: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None, no_pause: None
) -> None:
    """Everything that waited is written when the call ends, but the gap isn't: what follows doesn't take its place."""
    recorder = make_recorder(store)
    record(recorder)
    with outage():
        assert record(recorder, "only")
        assert record(recorder, text="x" * LITTLE) == ""
    interrupt_behind(monkeypatch, "only", recorder.flush)
    record(recorder, "after")
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "only", "auditkit.gap", "after", "auditkit.closed"]]


@pytest.mark.parametrize("then", ["record", "rotate", "flush", "close"])
def test_an_interruption_behind_a_signed_end(store: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """Nothing is ever written behind it: the date's next event opens another chain, and nothing else opens a file."""
    recorder = make_recorder(store)
    first = record(recorder)
    interrupt_behind(monkeypatch, "auditkit.closed", lambda: recorder.close_past(MIDNIGHT_US + DAY_US))
    if then == "record":
        assert name_of(record(recorder)) != name_of(first)
    elif then == "rotate":
        recorder.rotate()
    elif then == "flush":
        recorder.flush()
    assert len(list((store / "journal").iterdir())) == (2 if then == "record" else 1)
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "auditkit.closed"]] * (2 if then == "record" else 1)
    assert not any(map(journal.is_owned, journal.list_parts(Layout(store))))


def test_what_an_interrupted_call_wrote_has_its_time_and_its_place(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there once, nothing is taken for what a second interruption wrote, and the chain ends with its time."""
    recorder = make_recorder(store)
    record(recorder)
    interrupt_record(monkeypatch, lambda: record(recorder, "interrupted", later_us=7 * SECOND_US))
    recorder.rotate()  # takes the chain's state from the journal, and adds no event
    interrupt_record(monkeypatch, lambda: record(recorder, "interrupted", later_us=9 * SECOND_US))
    recorder.close()
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert kinds_of(lines) == ["auditkit.opened", "x", "interrupted", "interrupted", "auditkit.closed"]
    assert lines[-1].fields["time"] == MIDNIGHT_US + 9 * SECOND_US
    check_sound(open_trail(store))


def test_a_torn_line_behind_what_an_interrupted_call_wrote(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the torn line is taken back."""
    recorder = make_recorder(store)
    record(recorder)
    interrupt_record(monkeypatch, lambda: record(recorder, "interrupted"))
    record(recorder)
    [part] = (store / "journal").iterdir()
    with no_room(part.stat().st_size + 100), pytest.warns(RecordingWarning):
        record(recorder, "torn")
    assert read_kinds(store) == [["auditkit.opened", "x", "interrupted", "x"]]
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "interrupted", "x", "torn", "auditkit.closed"]]


def test_a_line_that_an_interruption_tore_is_taken_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows stands on a line of its own, in the torn one's place."""
    recorder = make_recorder(store)
    record(recorder)
    interrupt_record(monkeypatch, lambda: record(recorder, "torn"), half=True)
    record(recorder, "after")
    recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "x", "after", "auditkit.closed"]]


def test_the_next_chain_after_an_interruption_has_its_parent(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another date's chain names the one before, though its state isn't known yet."""
    recorder = make_recorder(store)
    first = record(recorder)
    interrupt_record(monkeypatch, lambda: record(recorder))
    record(recorder, "next", day=1)
    recorder.close()
    assert read_opened(store)["next"]["parent"] == name_of(first)


# -- no chain can be opened -------------------------------------------------------------------------------------------


def test_a_chain_that_cannot_be_opened_is_not_tried_with_every_event(store: Path, long_pause: None) -> None:
    """During the pause events are counted without a try; closing doesn't wait for the pause and tells the count."""
    recorder = make_recorder(store)
    (store / "journal").rename(store / "away")
    with pytest.warns(RecordingWarning, match="counted, not kept"):
        assert record(recorder) == ""
    (store / "away").rename(store / "journal")
    assert [record(recorder) for _ in range(2)] == ["", ""]
    assert read_kinds(store) == []
    recorder.close()
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert kinds_of(lines) == ["auditkit.opened", "auditkit.gap", "auditkit.closed"]
    assert read_dropped(lines) == [3]


@pytest.mark.parametrize("on_failure", ["raise", "drop"])
def test_a_chain_that_was_never_begun_uses_up_no_key(
    store: Path, tmp_path: Path, little_memory: None, no_pause: None, on_failure: OnFailure
) -> None:
    """Numbers that are drawn and used by nothing look like deleted journals, so the next try takes the same one."""
    layout = Layout(store)
    description, keys = open_or_create(layout, key_file=tmp_path / "home" / "key")
    recorder = Recorder(layout, description.store, keys, max_part_bytes=None, on_failure=on_failure)
    record(recorder, day=1)
    # A new key file is small enough, the first line of a chain isn't.
    with no_room(400), warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        if on_failure == "drop":
            fill_memory(recorder, day=1)
        for _ in range(5):
            if on_failure == "drop":
                assert record(recorder) == ""
            else:
                with pytest.raises(OSError, match="File too large"):
                    record(recorder)
    record(recorder, "after")
    recorder.close()
    assert len(independent.read_journal(store)) == 2
    assert isinstance(keys, KeyFile)
    assert keys.count_drawn(description.store) == 2
    trail = auditkit.open(store, key_file=tmp_path / "home" / "key")
    assert trail.verify().ok
    assert not trail.verify().warnings


def test_what_is_lost_for_good_is_told_at_the_end(store: Path) -> None:
    """If no chain could be opened until the recorder is closed, a warning is all that is left to tell how many."""
    recorder = make_recorder(store)
    shutil.rmtree(store / "journal")
    with pytest.warns(RecordingWarning, match="counted, not kept"):
        assert [record(recorder) for _ in range(2)] == ["", ""]
    with pytest.warns(RecordingWarning, match="2 events are lost: no journal can be opened"):
        recorder.close()


def test_a_folder_that_is_back_is_written_to_again(store: Path) -> None:
    """An application that wants to know is told while the journal's folder is gone, and records when it's back."""
    recorder = make_recorder(store, on_failure="raise")
    record(recorder)
    shutil.rmtree(store / "journal")
    with pytest.warns(RecordingWarning, match="removed the journal"), pytest.raises(OSError, match="No such file"):
        recorder.record(MIDNIGHT_US + 2 * SECOND_US, "x", MIDNIGHT_US)
    with pytest.raises(OSError, match="No such file"):
        record(recorder)
    (store / "journal").mkdir()
    record(recorder, "after")
    recorder.close()
    assert read_kinds(store) == [["after", "auditkit.closed"]]


# -- many dates -------------------------------------------------------------------------------------------------------


def test_the_date_that_was_used_longest_ago_is_closed_first(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two dates, the one that has just had an event stays open."""
    monkeypatch.setattr(recording, "MAX_OPEN_WRITERS", 2)
    recorder = make_recorder(store)
    ids = [record(recorder, day=day) for day in (0, 1, 0, 2, 0)]
    assert len({name_of(ids[place]) for place in (0, 2, 4)}) == 1
    recorder.close()
    assert [len(kinds) for kinds in check_kinds(store)] == [5, 3, 3]


def test_an_import_and_a_date_ahead_are_no_midnight(store: Path) -> None:
    """Only the date that the clock has come to ends the one before: neither an import's next day nor a late one."""
    recorder = make_recorder(store)
    for days in ((-9, -8, -9), (1, 0, 1)):
        first, _, third = (record(recorder, day=day) for day in days)
        assert name_of(first) == name_of(third)
    recorder.close()
    assert len(check_kinds(store)) == 4


# -- calls inside of calls --------------------------------------------------------------------------------------------


class Nesting:
    """A recorder each of whose events ends a part, and in one of whose calls something else can be done."""

    def __init__(self, store: Path, **options: Any) -> None:
        self._inner: list[Callable[[], object]] = []
        self.recorder = make_recorder(store, max_part_bytes=1, on_part=self._call, **options)

    def _call(self) -> None:
        if self._inner:
            self._inner.pop()()

    def record(self, inner: Callable[[], object]) -> str:
        """Record an event, and do something before the call returns."""
        self._inner.append(inner)
        event_id = record(self.recorder, "outer")
        assert not self._inner
        return event_id


def test_an_event_inside_of_a_call_is_recorded_like_any_other(store: Path) -> None:
    """Its chain names the outer one, keeps to the parts' size, is signed, and its event has everything."""
    nesting = Nesting(store)
    inner: list[str] = []
    outer = nesting.record(
        lambda: inner.append(
            nesting.recorder.record(MIDNIGHT_US, "inner", MIDNIGHT_US, "{}", "ana", "L-1", "mail", RESULT)
        )
    )
    nesting.recorder.close()
    writers = independent.check_journal(store, ROOT_KEY)
    lines = writers[name_of(inner[0])]
    assert read_opened(store)["inner"]["parent"] == name_of(outer)
    assert {name: lines[1].fields[name] for name in RESULT_KEYS} == RESULT
    assert [line.file[-12:-6] for line in lines] == ["000000", "000000", "000001"]
    assert len(writers) == 2
    check_sound(open_trail(store))


def test_an_event_inside_of_a_call_is_not_signed_where_none_is(store: Path) -> None:
    """The inner chain is as unsigned as the outer one."""
    nesting = Nesting(store, signs=False)
    nesting.record(lambda: record(nesting.recorder, "inner"))
    nesting.recorder.close()
    macs = {line.mac for lines in independent.read_journal(store).values() for line in lines}
    assert len(independent.read_journal(store)) == 2
    assert macs == {None}


def test_an_event_inside_of_a_call_is_refused_to_an_application_that_wants_to_know(store: Path) -> None:
    """The inner call raises like an outer one; the outer event is recorded already."""
    nesting = Nesting(store, on_failure="raise")

    def inner() -> None:
        with no_room(), pytest.raises(OSError, match="File too large"):
            record(nesting.recorder, "inner")

    nesting.record(inner)
    nesting.recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "outer", "auditkit.closed"]]


def test_what_is_done_with_a_recorder_is_done_with_its_inner_one(store: Path) -> None:
    """Flushing, rotating and the end of a day reach the chain of the calls inside of calls."""
    nesting = Nesting(store)
    inner: list[str] = []

    def wait() -> None:
        with outage():
            inner.extend([record(nesting.recorder, "inner"), record(nesting.recorder, "inner")])

    def read_inner() -> list[str]:
        return kinds_of(independent.read_journal(store).get(name_of(inner[0]), []))

    nesting.record(wait)
    assert read_inner() == []
    nesting.recorder.flush()
    assert read_inner() == ["auditkit.opened", "inner", "inner"]
    before = len(list((store / "journal").iterdir()))
    nesting.recorder.rotate()
    assert len(list((store / "journal").iterdir())) == before + 2
    nesting.recorder.close_past(MIDNIGHT_US + DAY_US)
    assert read_inner() == ["auditkit.opened", "inner", "inner", "auditkit.closed"]
    nesting.recorder.close()
    check_kinds(store)


@pytest.mark.parametrize("what", ["rotate", "close_past"])
def test_a_chain_is_not_changed_under_the_call_that_uses_it(store: Path, what: str) -> None:
    """A signal's handler may rotate or end the day in the middle of a line: that is left to the next call."""
    nesting = Nesting(store)
    change: dict[str, Callable[[], None]] = {
        "rotate": nesting.recorder.rotate,
        "close_past": lambda: nesting.recorder.close_past(MIDNIGHT_US + DAY_US),
    }
    first = nesting.record(change[what])
    assert len(list((store / "journal").iterdir())) == 2
    assert read_kinds(store) == [["auditkit.opened", "outer"]]
    assert name_of(record(nesting.recorder)) == name_of(first)
    nesting.recorder.close()
    assert check_kinds(store) == [["auditkit.opened", "outer", "x", "auditkit.closed"]]


# -- forked children --------------------------------------------------------------------------------------------------


def run_in_child(work: Callable[[], list[str]]) -> list[str]:
    """Do something in a forked child that leaves at once; gives what it found."""
    reading, writing_end = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of every fork where a library has threads of its own; the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writing_end, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing_end)
    with os.fdopen(reading, "rb") as file:
        found: list[str] = json.loads(file.read() or b"null")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return found


def test_a_child_has_its_memory_for_itself(store: Path, little_memory: None) -> None:
    """What waits in the parent takes no room in the child, where the parent's lines never are."""
    recorder = make_recorder(store)
    record(recorder, "parent")
    with outage():
        fill_memory(recorder, day=0)

    def work() -> list[str]:
        ids = [record(recorder, "child")]
        with no_room():
            ids.append(record(recorder, "child"))
        assert count_open(store) == 1  # its own, and not its parent's
        recorder.close()
        return ids

    ids = run_in_child(work)
    assert "" not in ids
    recorder.close()
    check_kinds(store)
    assert read_ids(open_trail(store), type="child") == ids


def test_a_child_counts_nothing_that_its_parent_has_lost(store: Path, long_pause: None) -> None:
    """The parent tells its own loss; the child's chain has no gap and needs no pause."""
    recorder = make_recorder(store)
    (store / "journal").rename(store / "away")
    with pytest.warns(RecordingWarning, match="counted, not kept"):
        record(recorder)
    (store / "away").rename(store / "journal")

    def work() -> list[str]:
        ids = [record(recorder, "child")]
        recorder.close()
        return ids

    assert "" not in run_in_child(work)
    recorder.close()
    assert sorted(check_kinds(store)) == [
        ["auditkit.opened", "auditkit.gap", "auditkit.closed"],
        ["auditkit.opened", "child", "auditkit.closed"],
    ]


def test_a_chain_inside_of_a_childs_call_names_the_childs_chain(store: Path) -> None:
    """The inner recorder that the parent had is not the child's."""
    nesting = Nesting(store)
    nesting.record(lambda: record(nesting.recorder, "inner"))

    def work() -> list[str]:
        ids = [record(nesting.recorder, "child")]
        nesting.record(lambda: ids.append(record(nesting.recorder, "childs inner")))
        nesting.recorder.close()
        return ids

    child, _ = run_in_child(work)
    nesting.recorder.close()
    check_kinds(store)
    assert read_opened(store)["childs inner"]["parent"] == name_of(child)


def fork_once(patch: pytest.MonkeyPatch, place: object, name: str, *, behind: bool = False) -> list[int]:
    """Let a function fork at its next call and both processes go on in it; gives the child's number, 0 in the child."""
    found: list[int] = []
    function = getattr(place, name)

    def fork() -> None:
        if not found:
            found.append(-1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                found[0] = os.fork()

    def call(*arguments: Any, **options: Any) -> Any:
        if behind:
            result = function(*arguments, **options)
            fork()
            return result
        fork()
        return function(*arguments, **options)

    patch.setattr(place, name, call)
    return found


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(
    "place, name",
    [
        (recording, "_write"),
        (writing, "open_part"),
        (Writer, "_write"),
        (KeyFile, "draw"),
        (Recorder, "_choose"),
        (Writer, "rotate"),
        (Writer, "sync"),
        (Writer, "close"),
        (Writer, "append"),
    ],
)
def test_a_fork_in_the_middle_of_a_call_that_goes_on_in_both(
    store: Path, tmp_path: Path, place: object, name: str, behind: bool
) -> None:
    """A signal handler forks, and parent and child come back into the call: each goes on with chains of its own."""
    layout = Layout(store)
    description, keys = open_or_create(layout, key_file=tmp_path / "home" / "key")
    recorder = Recorder(layout, description.store, keys, max_part_bytes=5000)
    ids = [record(recorder)] if place is recording else []
    with pytest.MonkeyPatch.context() as patch:
        children = fork_once(patch, place, name, behind=behind)
        code = 1
        try:
            ids.append(record(recorder, "both", text="x" * 5000))
            recorder.flush()
            ids.append(record(recorder))
            recorder.close()
            code = 0
        finally:
            if children == [0]:
                (tmp_path / "child").write_text("\n".join(ids))
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    ids += (tmp_path / "child").read_text().split()
    trail = auditkit.open(store, key_file=tmp_path / "home" / "key")
    for seal in (False, True):
        if seal:
            trail.seal()
        found = list(trail.events()["id"])
        assert len(found) == len(set(found))
        assert set(found) == set(ids)
        verification = trail.verify()
        assert verification.ok, verification
