"""Signals, exceptions and finalisers in the middle of a call: no event is torn, doubled or misplaced."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from auditkit import AuditLogger, event
from auditkit.recording import recorder, writer
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, finish, open_trail, read_ids, read_line, run, start

ROOT_KEY = independent.root_of_secret(SECRET)


def check_recorded(store: Path, ids: list[str], *, unreturned: int = 0) -> None:
    """Hold a store to the calls that returned: each event once, in sound chains, before and after sealing."""
    trail = open_trail(store)
    independent.check_journal(store, ROOT_KEY)
    for seal in (False, True):
        if seal:
            trail.seal()
        found = Counter(read_ids(trail))
        assert set(found.values()) <= {1}
        assert set(ids) <= set(found)
        assert len(found) <= len(ids) + unreturned
        check_sound(trail)


def test_a_handler_that_records_in_the_middle_of_a_call(store: Path) -> None:
    """A handler's events go to a chain of their own when they come in the middle of a line."""
    out, _ = run("interrupt", store, "record", 4000)
    ids = out[:-1]
    assert len(set(ids)) == len(ids) > 4000
    check_recorded(store, ids)
    writers = [
        {line.fields["type"] for line in lines if not line.fields["type"].startswith("auditkit.")}
        for lines in independent.read_journal(store).values()
    ]
    assert writers == []  # sealed
    frame = open_trail(store).events(columns=["writer", "type"])
    assert frame.groupby("writer")["type"].nunique().tolist() in ([1, 2], [2, 1], [2, 2], [2])


@pytest.mark.parametrize("what", ["raise", "raise record", "raise flush", "flush record"])
def test_a_handler_that_raises_out_of_a_call(store: Path, what: str) -> None:
    """A timeout's exception may end a call at any point; the chain goes on as if it had never started, or ended."""
    out, _ = run("interrupt", store, what, 2500)
    ids, raised = out[:-1], int(out[-1].split()[1])
    assert ("raise" in what) == (raised > 20)
    check_recorded(store, ids, unreturned=raised * 2)


@pytest.mark.parametrize("kind", ["disk", "value", "key"])
def test_timeouts_that_look_like_the_calls_own_errors(store: Path, kind: str) -> None:
    """A TimeoutError is an OSError and no full disk, a ValueError is no wrong text; each leaves the call it ends.

    Nothing is recorded twice or dropped for one, no lock stays with one, and rotations and flushes may be ended too.
    """
    out, errors = run("interrupt_everything", store, kind, 1500)
    ids, (_, raised, _, left) = out[:-1], out[-1].split()
    assert int(raised) > 300
    assert int(raised) - int(left) <= 1  # one may come just behind the last call
    assert "can't be written" not in errors
    check_recorded(store, ids, unreturned=int(raised))
    assert "" not in ids


def test_a_second_interruption_while_the_first_is_repaired(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first comes between a line and its counters, the second while the chain takes its state from the journal."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    ids = [audit.log_event("first")]
    write = recorder._write

    def write_and_interrupt(descriptor: int, line: bytes) -> int:
        write(descriptor, line)
        raise KeyboardInterrupt

    def interrupt(line: bytes) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_write", write_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            audit.log_event("interrupted")
        patch.setattr(recorder, "_write", write)
        patch.setattr(writer, "hash_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            audit.flush()
        patch.setattr(writer, "hash_line", event.hash_line)
        ids += [audit.log_event("second"), audit.log_event("third")]
    audit.close()
    assert list(open_trail(store).events()["type"]) == ["first", "interrupted", "second", "third"]
    check_recorded(store, ids, unreturned=1)


@pytest.mark.parametrize("how", ["exit", "return"])
def test_a_handler_that_closes_the_logger(store: Path, how: str) -> None:
    """SIGTERM's handler closes in the middle of whatever is recorded; the end is signed and nothing is lost."""
    processes = [start("terminate", store, how) for _ in range(6)]
    ids = [read_line(process) for process in processes]
    for number, process in enumerate(processes):
        time.sleep(0.003 * number)
        process.send_signal(signal.SIGTERM)
        out, _ = finish(process)
        assert how == "exit" or "closed" in out
        ids += [line for line in out if line != "closed"]
    writers = independent.check_journal(store, ROOT_KEY)
    assert {lines[-1].fields["type"] for lines in writers.values()} == {"auditkit.closed"}
    check_recorded(store, ids, unreturned=12)


def test_many_loggers_that_are_closed_in_the_middle_of_a_call(store: Path) -> None:
    """Two hundred times a handler closes at a random moment: each chain has its signed end behind its last event."""
    ids, _ = run("close_often", store, 200)
    writers = independent.check_journal(store, ROOT_KEY)
    assert [lines[-1].fields["type"] for lines in writers.values()] == ["auditkit.closed"] * 200
    check_recorded(store, ids)


def test_finalisers_that_record(store: Path) -> None:
    """The garbage collector may run in the middle of a call, and what it runs may record."""
    ids, _ = run("finalise", store, 3000)
    assert len(ids) == len(set(ids)) > 5000
    check_recorded(store, ids)


def test_signals_during_a_conversion(store: Path) -> None:
    """A timeout, an exit on SIGTERM and Ctrl-C leave the call that converts; an exit of the value's own doesn't."""
    out, _ = run("interrupt_conversion", store)
    assert [line.strip() for line in out] == [
        "recorded 1",
        "recorded 2",
        *["TimeoutError"] * 2,
        *["SystemExit 3"] * 2,
        *["SystemExit 4"] * 2,
        *["KeyboardInterrupt"] * 2,
    ]
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert [line.fields["type"] for line in lines] == ["auditkit.opened", "x", "x", "auditkit.closed"]
