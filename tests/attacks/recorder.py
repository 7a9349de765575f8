"""The processes that record the archive which the attacks are made on: ``recorder.py PHASE STORE KEY_FILE``.

Times are given, so that the events lie on past dates; everything else is the toolkit's own doing.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from auditkit import AuditLogger
from auditkit.recording import RETRY_SECONDS, RecordingWarning

MONDAY: Final = datetime(2024, 5, 13, 9, tzinfo=UTC)
TUESDAY: Final = MONDAY + timedelta(days=1)
WEDNESDAY: Final = MONDAY + timedelta(days=2)
THURSDAY: Final = MONDAY + timedelta(days=3)


def record(audit: AuditLogger, day: datetime, count: int, who: str, minute: int = 0) -> None:
    """Record so many events of one person, a few seconds apart."""
    for number in range(count):
        moment = day + timedelta(minutes=minute, seconds=7 * number)
        failed = number % 5 == 4
        audit.log_event(
            "payment.booked" if number % 3 else "invoice.sent",
            {"amount": 100 + number, "by": who},
            actor=who,
            lead_id=f"L-{number % 4}",
            time=moment,
            operation="book" if number % 3 else None,
            duration=0.01 * number if number % 3 else None,
            outcome="failure" if failed else "success",
            message="no answer from the bank" if failed else None,
        )


def fork(audit: AuditLogger, day: datetime, count: int, who: str, *, closes: bool) -> None:
    """Let a forked child record, and end it in order or as a killed process ends."""
    child = os.fork()
    if child == 0:
        record(audit, day, count, who, minute=5)
        if closes:
            audit.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def work_week(store: str, key: str) -> None:
    """Monday and Tuesday: one process with two dates, a forked child, lost events and two sealings."""
    audit = AuditLogger(store, key_file=key, enable_rotation=False)
    record(audit, MONDAY, 20, "ana")
    fork(audit, MONDAY, 8, "bo", closes=True)
    audit.rotate()
    record(audit, MONDAY, 9, "ana", minute=30)
    # Nothing can be written to a journal whose folder is away: what is lost is counted in a signed gap event.
    folder, away = Path(store, "journal"), Path(store, "away")
    folder.rename(away)
    record(audit, TUESDAY, 3, "cy")
    away.rename(folder)
    time.sleep(1.5 * RETRY_SECONDS)
    record(audit, TUESDAY, 11, "cy", minute=10)
    audit.rotate()
    record(audit, MONDAY, 4, "ana", minute=50)
    record(audit, TUESDAY, 6, "cy", minute=40)
    audit.close()


def work_wednesday(store: str, key: str) -> None:
    """Wednesday: another process, and a child that is killed."""
    audit = AuditLogger(store, key_file=key, enable_rotation=False)
    record(audit, WEDNESDAY, 14, "di")
    fork(audit, WEDNESDAY, 7, "ed", closes=False)
    audit.close()


def begin_thursday(store: str, key: str) -> None:
    """Thursday: one that is sealed while it lives, goes on, and is killed."""
    audit = AuditLogger(store, key_file=key, enable_rotation=False)
    record(audit, THURSDAY, 6, "fay")
    audit.rotate()
    record(audit, THURSDAY, 7, "fay", minute=20)
    os._exit(0)


def end_thursday(store: str, key: str) -> None:
    """Thursday, not sealed any more: one that ends in order, and one that is killed."""
    audit = AuditLogger(store, key_file=key, enable_rotation=False)
    record(audit, THURSDAY, 9, "gus", minute=40)
    fork(audit, THURSDAY, 8, "hal", closes=False)
    audit.close()


PHASES: Final = {each.__name__: each for each in (work_week, work_wednesday, begin_thursday, end_thursday)}


if __name__ == "__main__":
    warnings.simplefilter("ignore", RecordingWarning)
    PHASES[sys.argv[1]](*sys.argv[2:])
