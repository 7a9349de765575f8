"""kill -9 at random moments: what a call has returned is there, exactly once, and the next one goes on."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditkit import AuditLogger
from auditkit.store import journal
from auditkit.store.layout import Layout
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, open_trail, read_ids, read_line, run, start, wait_until

ROOT_KEY = independent.root_of_secret(SECRET)


def kill_at_random(store: Path, threads: int, seed: int) -> list[str]:
    """Let a process record, kill it after some milliseconds, and give the ids whose calls had returned."""
    process = start("record_endlessly", store, threads, seed)
    first = read_line(process)
    time.sleep(random.Random(seed).uniform(0, 0.25))
    process.kill()
    rest, _ = process.communicate()
    # The last line of the pipe may be cut by the kill.
    return [first, *rest.split("\n")[:-1]]


@pytest.mark.parametrize("threads", [1, 4])
def test_every_event_whose_call_returned_is_there_once(store: Path, threads: int) -> None:
    """Killed six times while small and large events of two days are recorded and sealed: nothing lost or twice."""
    ids: list[str] = []
    for seed in range(6):
        ids += kill_at_random(store, threads, seed)
    assert len(set(ids)) == len(ids)
    trail = open_trail(store)
    for seal in (False, True):
        if seal:
            trail.seal()
        found = Counter(read_ids(trail))
        assert set(found.values()) == {1}
        assert set(ids) <= set(found)
        # At most one event a thread was written without its call having returned to print it.
        assert len(found) - len(ids) <= 6 * threads
        verification = trail.verify()
        assert verification.ok, verification
    assert not list((store / "journal").iterdir())
    assert set(trail.days()) == {datetime(2001, 5, 5, tzinfo=UTC).date(), datetime(2001, 5, 6, tzinfo=UTC).date()}


@pytest.mark.parametrize("kept", [1, 200, -1])
def test_a_torn_last_line_is_told_and_set_aside(store: Path, kept: int) -> None:
    """The half line of a killed process is noted, not taken for an event, and kept for a person to look at."""
    ids, _ = run("leave", store, "_exit")
    [path] = (store / "journal").iterdir()
    torn = path.read_bytes().splitlines()[-1][:kept]
    with path.open("ab") as file:
        file.write(torn)
    trail = open_trail(store)
    assert read_ids(trail) == ids
    check_sound(trail, torn=1)
    result = trail.seal()
    assert (result.quarantined, result.events) == (1, 6)
    assert read_ids(trail) == ids
    check_sound(trail, quarantined=1)
    [aside] = (store / "quarantine").iterdir()
    assert json.loads(aside.read_text())["text"] == torn.decode()
    assert not list((store / "journal").iterdir())


def test_the_next_opener_seals_what_a_killed_process_left_of_an_earlier_day(store: Path) -> None:
    """A killed process's journal of yesterday becomes a segment as soon as anybody opens the store."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    process = start("record_endlessly", store, 1, 0)
    read_line(process)
    process.kill()
    process.communicate()
    with AuditLogger(store, secret_key=SECRET) as audit:
        event_id = audit.log_event("x", time=yesterday)
        wait_until(lambda: (store / "ledger" / "00000001.commit").exists())
    trail = open_trail(store)
    assert event_id in read_ids(trail)
    check_sound(trail)


def test_a_process_that_lives_keeps_its_journal(store: Path) -> None:
    """Sealing takes the lines of a running process and leaves the file, which it goes on writing to."""
    process = start("wait", store)
    event_id = read_line(process)
    trail = open_trail(store)
    assert trail.seal().events == 2
    [part] = journal.list_parts(Layout(store))
    assert journal.is_owned(part)
    check_sound(trail)
    process.kill()
    process.communicate()
    assert trail.seal().events == 0
    assert journal.list_parts(Layout(store)) == []
    assert read_ids(trail) == [event_id]
    check_sound(trail)


def test_a_live_journal_that_is_sealed_whole_is_read_past(store: Path) -> None:
    """While the process lives, its journal holds what the segment holds, and readers see each event once."""
    event_id = read_line(start("wait", store))
    trail = open_trail(store)
    trail.seal()
    assert read_ids(trail) == [event_id]
