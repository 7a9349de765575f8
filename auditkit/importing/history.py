"""Which files were imported: the trail itself remembers, as signed events.

=======================  ================================================================================
auditkit.import_started  before the first event of a file is recorded
auditkit.imported        behind the last
auditkit.import_stopped  behind the last, if the user stopped the import
=======================  ================================================================================

Their details tell the file (name, size, SHA-256), the mapping in full, how the file was read, and the rows. A
start without an end is an import that was killed, or one that is still going on.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Readable
from datetime import datetime
from typing import Any, Final, Protocol, cast

import orjson

from auditkit.errors import ImportRefused
from auditkit.importing.problems import name_argument

STARTED: Final = "auditkit.import_started"
IMPORTED: Final = "auditkit.imported"
STOPPED: Final = "auditkit.import_stopped"
MARKS: Final = (STARTED, IMPORTED, STOPPED)
"""Types of the events that remember imports."""


class Sink(Protocol):
    """What an import needs of a logger; `auditkit.logger.AuditLogger` has it."""

    def log_event(
        self,
        type: str,
        details: Any = None,
        actor: str | None = None,
        lead_id: str | None = None,
        workflow: str | None = None,
        *,
        time: datetime | None = None,
        outcome: str | None = None,
        operation: str | None = None,
        duration: float | None = None,
        error_type: str | None = None,
        message: str | None = None,
        traceback: str | None = None,
    ) -> str:
        """Record one event and give its id; empty if it couldn't be kept."""


def record_mark(sink: Sink, kind: str, details: Readable[str, object]) -> None:
    """Record one of the events that remember imports."""
    # A logger's users can't record types of the toolkit's own; the toolkit can.
    record = getattr(sink, "log_internal", sink.log_event)
    record(kind, details)


def find_marks(sink: Sink) -> list[dict[str, Any]]:
    """Give the details of all events that remember imports, oldest first.

    Args:
        sink: A logger that can be queried; any other sink remembers nothing.
    """
    query = getattr(sink, "query_events", None)
    if query is None:
        return []
    texts = query(type=list(MARKS))["details"]
    return [cast("dict[str, Any]", orjson.loads(text)) for text in texts if isinstance(text, str)]


def check_repetition(
    marks: Iterable[Readable[str, Any]], source: str, sha256: str, mapping: str, skip: int
) -> str | None:
    """Refuse to import what is in the trail already.

    Args:
        marks: Details of the events that remember imports.
        source: Name of the file, for messages.
        sha256: Its SHA-256, in hexadecimal.
        mapping: Name of the mapping.
        skip: How many rows at its beginning are to be left out.

    Returns:
        A note, if the file was imported with another mapping.

    Raises:
        ImportRefused: If the same file was imported, or begun, with this mapping.
    """
    same = [mark for mark in marks if mark.get("sha256") == sha256]
    others = sorted({str(mark.get("mapping")) for mark in same if mark.get("mapping") != mapping})
    same = [mark for mark in same if mark.get("mapping") == mapping]
    ended = {mark.get("import") for mark in same if mark.get("state") != "started"}
    unfinished = [mark for mark in same if mark.get("import") not in ended]
    # An import that recorded no event left nothing that could be there twice.
    ended_marks = [mark for mark in same if mark.get("state") != "started" and mark.get("imported")]
    again = name_argument("again", value=True)
    what = f"{source} (SHA-256 {sha256[:16]}…, mapping {mapping})"
    if unfinished:
        mark = unfinished[-1]
        raise ImportRefused(
            f"an import of {what} began on {mark.get('time')} and hasn't ended: it was killed, or it still "
            "goes on. What it recorded stays in the trail. If it has stopped, import the file into a new "
            f"store, or give {again} to import all of it (what it had recorded will be there twice)"
        )
    if ended_marks:
        last = max(ended_marks, key=lambda mark: int(mark.get("through", 0)))
        through = int(last.get("through", 0))
        partial = last.get("state") == "stopped" or last.get("limited")
        if partial and skip >= through:
            return None
        counts = f"{last.get('imported'):,} events, {last.get('rejected'):,} rows rejected"
        if partial:
            advice = (
                f"give {name_argument('skip', through)} to go on behind it, or {again} to import it from its beginning"
            )
            done = f"was imported up to row {through:,}"
        else:
            advice = f"give {again} to record every event a second time"
            done = "was imported"
        raise ImportRefused(f"{what} {done} on {last.get('time')} ({counts}): {advice}")
    if others:
        return f"this file was imported before, with the mapping {', '.join(others)}"
    return None
