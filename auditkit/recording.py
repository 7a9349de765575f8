"""Recording: sign an event, chain it to the one before, append it to the journal. The hot path.

A call returns when the line has reached the operating system, so a killed process loses nothing whose call returned.
The state of a chain (sequence number, previous leaf) moves on only with the line that needs it, and every line of a
chain is made under one lock.

When the journal can't be written (a full disk, a vanished folder), events wait as signed lines in bounded memory and
are written with the next call that succeeds. What doesn't fit any more is counted, and a signed gap event says how
many were dropped, in their place in the chain.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from hashlib import sha256
from typing import Any, Final, Literal

import orjson

from auditkit.errors import ClosedError, KeyProblem
from auditkit.event import (
    CLOSED,
    DAY_US,
    FORMAT,
    GAP,
    GENESIS,
    MAX_LINE_BYTES,
    OPENED,
    UNSIGNED_TAIL,
)
from auditkit.keys import Keys, derive_writer_key, prepare_hmac, ratchet_epoch
from auditkit.store import durable
from auditkit.store.journal import open_part
from auditkit.store.layout import Layout, find_day, name_writer, start_of_day

EPOCH_US: Final = 15 * 60 * 1_000_000
"""How long a writer signs with one key, in microseconds, if nothing rotates it earlier."""

MAX_OPEN_WRITERS: Final = 64
"""How many dates one process keeps open: an unsorted import of a year doesn't hold 365 files."""

MAX_WAITING_BYTES: Final = 16 << 20
"""How many bytes of signed lines wait in memory while the journal can't be written."""

RETRY_SECONDS: Final = 0.1
"""Pause between two tries to write what waits."""

NOT_KEPT: Final = ""
"""Id of an event that could not be kept: a gap event counts it."""

OnFailure = Literal["drop", "raise"]

_dumps = orjson.dumps
_LEAF: Final = sha256(b"\0")
"""Beginning of every leaf; copying it is cheaper than making a new hash."""

_CUT_TEXT: Final = 100_000


class RecordingWarning(UserWarning):
    """Events can't be written at the moment, and wait in memory."""


class _Writer:
    """One chain: one process on one UTC date. Its caller holds the recorder's lock."""

    def __init__(self, recorder: Recorder, day: date, parent: str | None, now_us: int, time_us: int) -> None:
        self._layout = recorder.layout
        self._store = recorder.store
        self._raise = recorder.on_failure == "raise"
        self.name = name_writer(day)
        self.start_us = start_of_day(day)
        self.end_us = self.start_us + DAY_US
        self.seq = 0
        self.part = 0
        self.size = 0
        self.last_time_us = time_us
        self._prev = GENESIS
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._dropped = 0
        self._retry_at = 0.0
        n, key = recorder.keys.draw() if recorder.signs else (0, b"")
        self._key = derive_writer_key(key, self._store, self.name) if recorder.signs else None
        self._inner, self._outer = prepare_hmac(self._key or b"")
        self._epoch = 0
        self.epoch_end_us = now_us + EPOCH_US
        self._descriptor, self.part = open_part(self._layout, self.name, 0)
        # The chain lies in one date's partition, so an import's first event is dated like its second.
        opened_us = now_us if self.start_us <= now_us < self.end_us else time_us
        details = {"n": n, "parent": parent, "host": socket.gethostname(), "pid": os.getpid()}
        try:
            self.append_internal(OPENED, opened_us, details)
        except OSError:
            os.close(self._descriptor)
            raise

    def append(
        self,
        time_us: int,
        kind: str,
        actor: str | None,
        lead_id: str | None,
        workflow: str | None,
        outcome: str | None,
        operation: str | None,
        duration_us: int | None,
        error_type: str | None,
        message: str | None,
        traceback: str | None,
        details: str | None,
    ) -> str:
        seq = self.seq
        body = _dumps(
            {
                "v": FORMAT,
                "store": self._store,
                "writer": self.name,
                "seq": seq,
                "epoch": self._epoch,
                "time": time_us,
                "type": kind,
                "actor": actor,
                "lead_id": lead_id,
                "workflow": workflow,
                "outcome": outcome,
                "operation": operation,
                "duration_us": duration_us,
                "error_type": error_type,
                "message": message,
                "traceback": traceback,
                "details": details,
            }
        )
        if len(body) > MAX_LINE_BYTES - 256:
            return self.append(
                time_us,
                kind,
                _cut_text(actor),
                _cut_text(lead_id),
                _cut_text(workflow),
                _cut_text(outcome),
                _cut_text(operation),
                duration_us,
                _cut_text(error_type),
                _cut_text(message),
                _cut_text(traceback),
                _cut_details(details),
            )
        if self._key is not None:
            inner = self._inner.copy()
            inner.update(self._prev + body)
            outer = self._outer.copy()
            outer.update(inner.digest())
            line = b'%b,"mac":"%b"}\n' % (body[:-1], outer.hexdigest().encode())
        else:
            line = body[:-1] + UNSIGNED_TAIL + b"\n"
        if self._waiting or self._dropped:
            return self._append_waiting(line)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            return self._append_failed(line, 0, error)
        if written != len(line):
            try:
                durable.write_all(self._descriptor, memoryview(line)[written:])
            except OSError as error:
                return self._append_failed(line, written, error)
        leaf = _LEAF.copy()
        leaf.update(line[:-1])
        self._prev = leaf.digest()
        self.seq = seq + 1
        self.size += len(line)
        self.last_time_us = time_us
        return f"{self.name}:{seq}"

    def append_internal(self, kind: str, time_us: int, details: dict[str, Any]) -> str:
        text = _dumps(details).decode()
        return self.append(time_us, kind, None, None, None, None, None, None, None, None, None, text)

    def _append_failed(self, line: bytes, written: int, error: OSError) -> str:
        """Take back a torn line, then raise or wait, as the application chose."""
        self._take_back()
        if self._raise:
            raise error
        warnings.warn(
            f"events can't be written to {self._layout.journal} ({error.strerror}); they wait in memory, at most "
            f"{MAX_WAITING_BYTES >> 20} MiB of them: free space there or restore the folder",
            RecordingWarning,
            stacklevel=4,
        )
        self._retry_at = time.monotonic() + RETRY_SECONDS
        return self._wait(line)

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            # The torn line stays as the end of this part; the lines that follow go to a new one.
            with suppress(OSError):
                self.open_next_part()

    def _wait(self, line: bytes) -> str:
        if self._dropped or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            return NOT_KEPT
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._prev = sha256(b"\0" + line[:-1]).digest()
        self.seq += 1
        return f"{self.name}:{self.seq - 1}"

    def _append_waiting(self, line: bytes) -> str:
        """Handle an event that comes while others wait: it goes behind them."""
        if self._dropped:
            # This line was signed for a place that a dropped event holds; it is signed again if writing works.
            if not self.write_waiting():
                self._dropped += 1
                return NOT_KEPT
            fields = orjson.loads(line)
            return self.append(*(fields[key] for key in _ARGUMENTS))
        event_id = self._wait(line)
        self.write_waiting()
        return event_id

    def write_waiting(self, *, now: bool = False) -> bool:
        """Write what waits, if the pause is over; tells whether nothing waits any more."""
        if not self._waiting and not self._dropped:
            return True
        if not now and time.monotonic() < self._retry_at:
            return False
        while self._waiting:
            line = self._waiting[0]
            try:
                durable.write_all(self._descriptor, line)
            except OSError:
                self._take_back()
                self._retry_at = time.monotonic() + RETRY_SECONDS
                return False
            del self._waiting[0]
            self._waiting_bytes -= len(line)
            self.size += len(line)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.append_gap(dropped)
        return not self._waiting

    def append_gap(self, dropped: int) -> None:
        """Say in the chain that events were dropped; the gap event holds all their places."""
        before = self.seq
        self.append_internal(GAP, self.last_time_us, {"dropped": dropped})
        self.seq = before + dropped

    def ratchet(self, now_us: int) -> None:
        """Replace the writer's key by the next one; the old one can't be computed back."""
        if self._key is not None:
            self._key = ratchet_epoch(self._key)
            self._inner, self._outer = prepare_hmac(self._key)
            self._epoch += 1
        self.epoch_end_us = now_us + EPOCH_US

    def open_next_part(self) -> None:
        """Go on in a new file; the old one is the sealer's."""
        descriptor, self.part = open_part(self._layout, self.name, self.part + 1)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.size = 0

    def sync(self) -> None:
        self.write_waiting(now=True)
        os.fsync(self._descriptor)

    def close(self) -> None:
        self.append_internal(CLOSED, self.last_time_us, {})
        self.write_waiting(now=True)
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Forget the writer in a forked child: closing leaves the parent's lock in place, unlocking would not."""
        os.close(self._descriptor)


_ARGUMENTS: Final = (
    "time", "type", "actor", "lead_id", "workflow", "outcome", "operation", "duration_us", "error_type", "message",
    "traceback", "details",
)  # fmt: skip


def _cut_text(text: str | None) -> str | None:
    """Cut text over a limit, with a marker, so that its line fits."""
    if text is None or len(text) <= _CUT_TEXT:
        return text
    return f"{text[:_CUT_TEXT]}…[cut: {len(text)} characters]"


def _cut_details(details: str | None) -> str | None:
    """Cut details over a limit to a JSON object that says so."""
    if details is None or len(details) <= _CUT_TEXT:
        return details
    marker = {"$cut": {"characters": len(details), "beginning": details[:_CUT_TEXT]}}
    return _dumps(marker).decode()


class Recorder:
    """Signs and writes the events of one process to one store.

    Args:
        layout: The store's paths.
        store: Id of the store.
        keys: Where its keys come from.
        max_part_bytes: Size at which a journal part is handed to the sealer; None for never.
        signs: Whether events are signed.
        on_failure: ``"drop"`` never breaks the application, ``"raise"`` gives it the OSError.
        on_part: Called without arguments when a part is finished; it must return at once.
    """

    def __init__(
        self,
        layout: Layout,
        store: str,
        keys: Keys,
        *,
        max_part_bytes: int | None,
        signs: bool = True,
        on_failure: OnFailure = "drop",
        on_part: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout = layout
        self.store = store
        self.keys = keys
        self.signs = signs
        self.on_failure: OnFailure = on_failure
        self._max_part_bytes = max_part_bytes or (1 << 62)
        self._on_part = on_part
        self._lock = threading.RLock()
        self._busy = False
        self._nested: Recorder | None = None
        self._writers: dict[date, _Writer] = {}
        self._current: _Writer | None = None
        self._parent: str | None = None
        self._lost = 0
        self._closed = False
        _recorders.add(self)

    def record(
        self,
        now_us: int,
        time_us: int,
        kind: str,
        actor: str | None = None,
        lead_id: str | None = None,
        workflow: str | None = None,
        outcome: str | None = None,
        operation: str | None = None,
        duration_us: int | None = None,
        error_type: str | None = None,
        message: str | None = None,
        traceback: str | None = None,
        details: str | None = None,
    ) -> str:
        """Sign one event and append it to the journal.

        Args:
            now_us: The clock's time, microseconds since 1970.
            time_us: When the event happened, microseconds since 1970; its UTC date decides the partition.
            kind: The event's type.
            actor: And the other columns: text without lone surrogates, or None.
            lead_id: See `auditkit.event.BODY`.
            workflow: See `auditkit.event.BODY`.
            outcome: See `auditkit.event.BODY`.
            operation: See `auditkit.event.BODY`.
            duration_us: 0 to 2^53 - 1 microseconds.
            error_type: See `auditkit.event.BODY`.
            message: See `auditkit.event.BODY`.
            traceback: See `auditkit.event.BODY`.
            details: JSON text.

        Returns:
            The event's id, or `NOT_KEPT`.

        Raises:
            ClosedError: If the recorder was closed.
            OSError: If the journal can't be written and ``on_failure`` is ``"raise"``.
            KeyProblem: If the key can't be drawn and ``on_failure`` is ``"raise"``.
        """
        with self._lock:
            if self._busy:
                nested = self._nest()
            else:
                self._busy = True
                try:
                    writer = self._current
                    if writer is None or not writer.start_us <= time_us < writer.end_us:
                        try:
                            writer = self._choose(now_us, time_us)
                        except (OSError, KeyProblem) as error:
                            return self._lose(error)
                    if now_us >= writer.epoch_end_us:
                        writer.ratchet(now_us)
                    event_id = writer.append(
                        time_us, kind, actor, lead_id, workflow, outcome, operation, duration_us, error_type, message,
                        traceback, details,
                    )  # fmt: skip
                    if writer.size >= self._max_part_bytes:
                        self._rotate_writer(writer, now_us)
                    return event_id
                finally:
                    self._busy = False
        return nested.record(
            now_us, time_us, kind, actor, lead_id, workflow, outcome, operation, duration_us, error_type, message,
            traceback, details,
        )  # fmt: skip

    def _nest(self) -> Recorder:
        """Give the recorder for a call from inside a call, as a signal handler or a finaliser makes it.

        The outer call is in the middle of a line, so the inner event goes to a chain of its own.
        """
        if self._nested is None:
            self._nested = Recorder(
                self.layout, self.store, self.keys, max_part_bytes=self._max_part_bytes, signs=self.signs,
                on_failure=self.on_failure, on_part=self._on_part,
            )  # fmt: skip
            self._nested._parent = self._current.name if self._current else self._parent
        return self._nested

    def _choose(self, now_us: int, time_us: int) -> _Writer:
        if self._closed:
            raise ClosedError(
                f"expected an open logger for {self.layout.root}, found one that was closed: make a new one"
            )
        day = find_day(time_us)
        writer = self._writers.pop(day, None)
        if writer is None:
            if len(self._writers) >= MAX_OPEN_WRITERS:
                self._close_writer(next(iter(self._writers)))
            before = self._current
            writer = _Writer(self, day, before.name if before else self._parent, now_us, time_us)
            if before is not None and before.end_us <= writer.start_us and writer.end_us > now_us >= writer.start_us:
                # Midnight: yesterday's chain is complete, and its partition can be sealed.
                self._close_writer(find_day(before.start_us))
                self._on_part()
            if self._lost:
                lost, self._lost = self._lost, 0
                writer.append_gap(lost)
        self._writers[day] = writer
        self._current = writer
        return writer

    def _lose(self, error: OSError | KeyProblem) -> str:
        """Count an event for which no chain could be opened, or raise, as the application chose."""
        if self.on_failure == "raise":
            raise error
        self._lost += 1
        warnings.warn(
            f"no journal can be opened in {self.layout.journal}, so events are counted, not kept ({error}): "
            "restore the folder or the key file",
            RecordingWarning,
            stacklevel=4,
        )
        return NOT_KEPT

    def _close_writer(self, day: date) -> None:
        writer = self._writers.pop(day, None)
        if writer is not None:
            writer.close()
            self._parent = writer.name
            if self._current is writer:
                self._current = None

    def _rotate_writer(self, writer: _Writer, now_us: int) -> None:
        try:
            writer.open_next_part()
        except OSError:
            # No room for a new file: the old one goes on, and the next event tries again.
            return
        writer.ratchet(now_us)
        self._on_part()

    def rotate(self) -> None:
        """Finish the open journal parts, so that they can be sealed, and ratchet their keys."""
        now_us = time.time_ns() // 1000
        with self._lock:
            for writer in self._writers.values():
                writer.open_next_part()
                writer.ratchet(now_us)
        if self._nested is not None:
            self._nested.rotate()

    def flush(self) -> None:
        """Write what waits and make everything recorded so far survive a power loss.

        Raises:
            OSError: If the disk refuses.
        """
        with self._lock:
            for writer in self._writers.values():
                writer.sync()
            if self._writers:
                durable.sync_folder(self.layout.journal)
        if self._nested is not None:
            self._nested.flush()

    def close(self) -> None:
        """Sign the end of every open chain and let go of the journal; a second call does nothing."""
        with self._lock:
            for day in list(self._writers):
                self._close_writer(day)
            self._closed = True
        if self._nested is not None:
            self._nested.close()

    def _abandon(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        if self._current is not None:
            self._parent = self._current.name
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()
        self._current = None
        self._nested = None
        self._lost = 0


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_held: list[Recorder] = []


def _hold_all() -> None:
    for recorder in list(_recorders):
        recorder._lock.acquire()
        _held.append(recorder)


def _release_all() -> None:
    while _held:
        _held.pop()._lock.release()


def _abandon_all() -> None:
    # A forked child has the parent's chains in memory. It must not write to them: it opens its own, at its first event.
    while _held:
        _held.pop()._abandon()


os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_abandon_all)
