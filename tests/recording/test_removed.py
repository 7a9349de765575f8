"""Somebody removes a journal under the process that writes it: it is noticed, said, and what follows is kept."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from auditkit import AuditLogger
from auditkit.recording import RecordingWarning
from tests.recording.running import SECRET, open_trail, read_ids

A_SECOND = 1.1
"""How long a removed journal may go unnoticed, and a little more."""


def remove_journal(store: Path) -> None:
    """Remove every journal, as a careless cron job does."""
    for path in (store / "journal").glob("*.jsonl"):
        path.unlink()


def test_events_after_a_removed_journal_are_kept_in_a_new_one(store: Path) -> None:
    """What was removed is lost and verification says so; the process warns and goes on in a new file."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    audit.log_event("order.paid")
    remove_journal(store)
    time.sleep(A_SECOND)
    with pytest.warns(RecordingWarning, match="somebody has removed the journal"):
        first = audit.log_event("order.sent")
    second = audit.log_event("order.received")
    audit.close()
    trail = open_trail(store)
    assert read_ids(trail) == [first, second]
    assert not trail.verify().ok


def test_events_wait_while_the_whole_journal_folder_is_gone(store: Path) -> None:
    """With the folder gone there is no file to go on in; the events wait in memory until it is back."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    audit.log_event("order.paid")
    shutil.rmtree(store / "journal")
    time.sleep(A_SECOND)
    with pytest.warns(RecordingWarning):
        first = audit.log_event("order.sent")
    assert first
    (store / "journal").mkdir()
    time.sleep(0.2)
    second = audit.log_event("order.received")
    audit.close()
    assert read_ids(open_trail(store)) == [first, second]


def test_flush_refuses_to_call_a_removed_journal_durable(store: Path) -> None:
    """After `flush` everything is durable or an error says that it isn't; the next call is fine again."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    audit.log_event("order.paid")
    remove_journal(store)
    with pytest.warns(RecordingWarning), pytest.raises(FileNotFoundError, match="journal was removed"):
        audit.flush()
    kept = audit.log_event("order.sent")
    audit.flush()
    audit.close()
    assert read_ids(open_trail(store)) == [kept]


def test_rotating_a_removed_journal_says_that_it_was_removed(store: Path) -> None:
    """A rotation is when the file would be handed on, so it is when its absence is noticed at the latest."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    audit.log_event("order.paid")
    remove_journal(store)
    with pytest.warns(RecordingWarning, match="somebody has removed the journal"):
        audit.rotate()
    kept = audit.log_event("order.sent")
    audit.close()
    assert read_ids(open_trail(store)) == [kept]


def test_threads_that_stand_back_lose_and_repeat_nothing(store: Path) -> None:
    """Eight busy threads queue for one chain in turns; each call's id is its own and every event is there once."""
    audit = AuditLogger(store, secret_key=SECRET, enable_rotation=False)
    ids: list[list[str]] = [[] for _ in range(8)]

    def work(mine: list[str]) -> None:
        mine.extend(audit.log_event("order.paid", {"n": n}) for n in range(2_000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.close()
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(event_id for mine in ids for event_id in mine)
    assert trail.verify().ok
