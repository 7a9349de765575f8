"""Recording: sign an event, chain it to the one before, append it to the journal. The hot path.

A call returns when the line has reached the operating system, so a killed process loses nothing whose call returned.
The state of a chain (sequence number, previous leaf) moves on only with the line that needs it, and every line of a
chain is made under one lock.

When the journal can't be written (a full disk, a vanished folder), events wait as signed lines in bounded memory and
are written with the next call that succeeds. What doesn't fit any more is counted, and a signed gap event says how
many were dropped, in their place in the chain.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import socket
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from functools import lru_cache
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from auditkit.errors import ClosedError, KeyProblem
from auditkit.event import CLOSED, DAY_US, GAP, GENESIS, MAX_LINE_BYTES, OPENED, UNSIGNED_TAIL, make_fields
from auditkit.keys import Keys, derive_writer_key, prepare_hmac, ratchet_epoch
from auditkit.store import durable
from auditkit.store.journal import open_part
from auditkit.store.layout import Layout, find_day, name_writer, start_of_day

if TYPE_CHECKING:
    from hashlib import _Hash

EPOCH_US: Final = 15 * 60 * 1_000_000
"""How long a writer signs with one key, in microseconds, if nothing rotates it earlier."""

MAX_OPEN_WRITERS: Final = 64
"""How many dates one process keeps open: an unsorted import of a year doesn't hold 365 files."""

MAX_WAITING_BYTES: Final = 16 << 20
"""How many bytes of signed lines wait in memory while the journal can't be written, those of all dates together."""

RETRY_SECONDS: Final = 0.1
"""Pause between two tries to write what waits, or to open a chain."""

NOT_KEPT: Final = ""
"""Id of an event that could not be kept: a gap event counts it."""

OnFailure = Literal["drop", "raise"]

_dumps = orjson.dumps
_write = os.write
_copy_leaf = sha256(b"\0").copy
"""Begins a leaf; copying a state is cheaper than making a new hash."""

MAX_BODY_BYTES: Final = MAX_LINE_BYTES - 256

_CUT_TEXT: Final = 50_000


class RecordingWarning(UserWarning):
    """Events can't be written at the moment and wait in memory, are counted, or are lost."""


class _Waiting:
    """How many bytes wait, over all writers of a recorder."""

    total = 0


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
        self.suspect = False
        self._ended = False
        self._prev = GENESIS
        self._waiting: deque[bytes] = deque()
        self._all_waiting = recorder.waiting
        self._recovered = recorder.write_waiting
        self._dropped = 0
        self._errno = 0
        self._retry_at = 0.0
        # The file comes before the key: a number that is drawn and never used looks like a deleted journal.
        self._descriptor, self.part = open_part(self._layout, self.name, 0)
        try:
            n, key = recorder.keys.draw() if recorder.signs else (0, b"")
            self._key = derive_writer_key(key, self._store, self.name) if recorder.signs else None
            self._copy_inner, self._copy_outer = _prepare(self._key)
            self._epoch = 0
            self.epoch_end_us = now_us + EPOCH_US
            # The chain lies in one date's partition, so an import's first event is dated like its second.
            opened_us = now_us if self.start_us <= now_us < self.end_us else time_us
            details = {"n": n, "parent": parent, "host": socket.gethostname(), "pid": os.getpid()}
            if not self.append_internal(OPENED, opened_us, details):
                raise OSError(errno.ENOBUFS, "no room to wait in memory")
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        """Remove the part that nothing was written to; it is locked, so no sealer is reading it."""
        with suppress(OSError):
            if os.fstat(self._descriptor).st_size == 0:
                self._layout.part(self.name, self.part).unlink()
        self.abandon()

    def append(self, fields: dict[str, Any]) -> str:
        """Sign an event and append it; its id, or `NOT_KEPT`."""
        fields["store"] = self._store
        fields["writer"] = self.name
        fields["seq"] = seq = self.seq
        fields["epoch"] = self._epoch
        body = _dumps(fields)
        if len(body) > MAX_BODY_BYTES:
            return self.append(_cut_fields(fields))
        if self._key is not None:
            inner = self._copy_inner()
            inner.update(self._prev + body)
            outer = self._copy_outer()
            outer.update(inner.digest())
            line = b'%b,"mac":"%b"}\n' % (body[:-1], outer.hexdigest().encode())
        else:
            line = body[:-1] + UNSIGNED_TAIL + b"\n"
        if self._waiting or self._dropped:
            return self._append_waiting(line, fields)
        try:
            written = _write(self._descriptor, line)
            if written != len(line):
                durable.write_all(self._descriptor, memoryview(line)[written:])
        except OSError as error:
            return self._append_failed(line, error)
        leaf = _copy_leaf()
        leaf.update(line[:-1])
        self._prev = leaf.digest()
        self.seq = seq + 1
        self.size += len(line)
        self.last_time_us = fields["time"]
        return f"{self.name}:{seq}"

    def resync(self) -> bool:
        """Take the chain's state from the journal after an interrupted call; tells whether the chain can go on.

        An exception out of a signal handler (a timeout, Ctrl-C) may come between a line and the counters behind it.
        """
        try:
            lines = self._read_uncounted()
        except OSError:
            self.abandon()
            return False
        for line in lines:
            self.size += len(line)
            if self._waiting and self._waiting[0] == line:
                self._waiting.popleft()
        if self._waiting or lines:
            last = self._waiting[-1] if self._waiting else lines[-1]
            fields = orjson.loads(last)
            self._prev = sha256(b"\0" + last[:-1]).digest()
            self.seq = fields["seq"] + (orjson.loads(fields["details"])["dropped"] if fields["type"] == GAP else 1)
            self.last_time_us = fields["time"]
            self._ended = fields["type"] == CLOSED
        self.suspect = False
        if self._ended and not self._waiting:
            self.abandon()
            return False
        return True

    def _read_uncounted(self) -> list[bytes]:
        """Read the lines behind those that were counted, and take a torn one back."""
        if self._descriptor < 0:
            return []
        held = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, max(held - self.size, 0), self.size)
        end = tail.rfind(b"\n") + 1
        if end < len(tail):
            os.ftruncate(self._descriptor, self.size + end)
        return [line + b"\n" for line in tail[:end].split(b"\n")[:-1]]

    def append_internal(self, kind: str, time_us: int, details: dict[str, Any]) -> str:
        return self.append(make_fields(kind, time_us, _dumps(details).decode()))

    def _append_failed(self, line: bytes, error: OSError) -> str:
        """Take back a torn line, then raise or wait, as the application chose."""
        self._take_back()
        if self._raise:
            raise error
        self._errno = error.errno or 0
        self._retry_at = time.monotonic() + RETRY_SECONDS
        event_id = self._wait(line)
        _warn(
            f"events can't be written to {self._layout.journal} ({error.strerror}); they wait in memory, at most "
            f"{MAX_WAITING_BYTES >> 20} MiB of them: free space there or restore the folder"
        )
        return event_id

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            # The torn line stays as the end of this part; what follows goes to a new one, as soon as there is one.
            self.abandon()
            with suppress(OSError):
                self.open_next_part()

    def _wait(self, line: bytes) -> str:
        if self._dropped or self._all_waiting.total + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            return NOT_KEPT
        self._waiting.append(line)
        self._all_waiting.total += len(line)
        self._prev = sha256(b"\0" + line[:-1]).digest()
        self.seq += 1
        return f"{self.name}:{self.seq - 1}"

    def _append_waiting(self, line: bytes, fields: dict[str, Any]) -> str:
        """Handle an event that comes while others wait: it goes behind them."""
        if self._dropped:
            # This line was signed for a place that a dropped event holds; it is signed again if writing works.
            if self.write_waiting():
                self._recovered()
                return self.append(fields)
            self._dropped += 1
            return NOT_KEPT
        event_id = self._wait(line)
        if self.write_waiting():
            self._recovered()
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
                if self._descriptor < 0:
                    self.open_next_part()
                durable.write_all(self._descriptor, line)
            except OSError as error:
                self._take_back()
                self._errno = error.errno or 0
                self._retry_at = time.monotonic() + RETRY_SECONDS
                return False
            self._waiting.popleft()
            self._all_waiting.total -= len(line)
            self.size += len(line)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.append_gap(dropped)
        return not self._waiting

    def append_gap(self, dropped: int) -> None:
        """Say in the chain that events were dropped; the gap event holds all their places."""
        kept = self.append_internal(GAP, self.last_time_us, {"dropped": dropped})
        if kept:
            self.seq += dropped - 1
        else:
            # The gap event was dropped itself, and counted as one.
            self._dropped += dropped - 1

    def ratchet(self, now_us: int) -> None:
        """Replace the writer's key by the next one; the old one can't be computed back."""
        if self._key is not None:
            key = ratchet_epoch(self._key)
            inner, outer = _prepare(key)
            # All at once, without a call between them: an interruption must not leave the number of another key.
            self._key, self._copy_inner, self._copy_outer, self._epoch = key, inner, outer, self._epoch + 1
        self.epoch_end_us = now_us + EPOCH_US

    def open_next_part(self) -> None:
        """Go on in a new file; the old one is the sealer's."""
        descriptor, part = open_part(self._layout, self.name, self.part + 1)
        old, self._descriptor, self.part, self.size = self._descriptor, descriptor, part, 0
        if old >= 0:
            os.close(old)

    def sync(self) -> None:
        if not self.write_waiting(now=True):
            raise OSError(self._errno, os.strerror(self._errno), str(self._layout.part(self.name, self.part)))
        os.fsync(self._descriptor)

    def close(self, *, give_up: bool = False) -> bool:
        """Sign the chain's end and let go of the journal.

        Args:
            give_up: Whether to let go even if lines still wait; otherwise the writer stays as it is.

        Returns:
            Whether the writer is closed.
        """
        try:
            if self.write_waiting(now=True) and not self._ended:
                self.append_internal(CLOSED, self.last_time_us, {})
                self._ended = True
        except OSError:
            self.abandon()
            raise
        lost = len(self._waiting) + self._dropped
        if lost and not give_up:
            return False
        self.abandon()
        if lost:
            _warn(f"{lost} events of writer {self.name} are lost: {self._layout.journal} can't be written to the end")
        return True

    def abandon(self) -> None:
        """Close the journal as it is; in a forked child that leaves the parent's lock in place, unlocking would not."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_log = logging.getLogger("auditkit")
_telling = threading.local()


def _warn(message: str) -> None:
    """Warn, unless it is the recording of a warning that fails: `logging.captureWarnings` makes events of them."""
    if getattr(_telling, "now", False):
        return
    _telling.now = True
    try:
        warnings.warn(message, RecordingWarning, stacklevel=5)
    except Exception:  # noqa: BLE001 - ``-W error`` raises it, and a disk that refuses must not end the application
        _log_once(message)
    finally:
        _telling.now = False


@lru_cache(maxsize=64)
def _log_once(message: str) -> None:
    _log.warning("%s", message)


def _prepare(key: bytes | None) -> tuple[Callable[[], _Hash], Callable[[], _Hash]]:
    """Give what copies the keyed hash states; looking the methods up for every event would cost as much as one."""
    inner, outer = prepare_hmac(key or b"")
    return inner.copy, outer.copy


def _cut_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Cut every text over a limit, with a marker, so that the line fits; details stay valid JSON."""
    cut = dict(fields)
    for name, text in fields.items():
        if not isinstance(text, str) or len(text) <= _CUT_TEXT:
            continue
        if name == "details":
            cut[name] = _dumps({"$cut": {"characters": len(text), "beginning": text[:_CUT_TEXT]}}).decode()
        else:
            cut[name] = f"{text[:_CUT_TEXT]}…[cut: {len(text)} characters]"
    return cut


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
        on_writer: Called without arguments when a chain was opened; it must return at once.
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
        on_writer: Callable[[], None] = lambda: None,
    ) -> None:
        self.layout = layout
        self.store = store
        self.keys = keys
        self.signs = signs
        self.on_failure: OnFailure = on_failure
        self.waiting = _Waiting()
        self.number = next(_numbers)
        self._max_part_bytes = max_part_bytes or (1 << 62)
        self._on_part = on_part
        self._on_writer = on_writer
        self._lock = threading.RLock()
        self._busy = False
        self._nested: Recorder | None = None
        self._writers: dict[date, _Writer] = {}
        self._current: _Writer | None = None
        self._parent: str | None = None
        self._lost = 0
        self._retry_at = 0.0
        self._closed = False
        _recorders.add(self)

    def record(self, now_us: int, fields: dict[str, Any]) -> str:
        """Sign one event and append it to the journal.

        Args:
            now_us: The clock's time, microseconds since 1970.
            fields: The event's body, as `auditkit.event.make_fields` makes it: text without lone surrogates, integers,
                None. Who signs it is filled in; the UTC date of its time decides the partition.

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
                    if writer is None or not writer.start_us <= fields["time"] < writer.end_us:
                        try:
                            writer = self._choose(now_us, fields["time"])
                        except (OSError, KeyProblem) as error:
                            return self._lose(error)
                        if writer is None:
                            self._lost += 1
                            return NOT_KEPT
                    if now_us >= writer.epoch_end_us:
                        writer.ratchet(now_us)
                    event_id = writer.append(fields)
                    if writer.size >= self._max_part_bytes:
                        self._rotate_writer(writer, now_us)
                    return event_id
                except BaseException:
                    self._distrust()
                    raise
                finally:
                    self._busy = False
        return nested.record(now_us, fields)

    @contextmanager
    def _own(self) -> Iterator[bool]:
        """Hold the recorder as `record` does; False inside of a call that a signal handler interrupted."""
        with self._lock:
            if self._busy:
                yield False
                return
            self._busy = True
            try:
                yield True
            except BaseException:
                self._distrust()
                raise
            finally:
                self._busy = False

    def _distrust(self) -> None:
        """Have every chain look at its journal before it goes on: the call that was interrupted may have written."""
        if self._current is not None:
            self._parent = self._current.name
            self._current = None
        for writer in self._writers.values():
            writer.suspect = True

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

    def _choose(self, now_us: int, time_us: int) -> _Writer | None:
        """Give the chain for a time, None while none can be opened and it isn't time to try again."""
        if self._closed:
            self._close_writers()  # what a signal handler had to leave
            raise ClosedError(
                f"expected an open logger for {self.layout.root}, found one that was closed: make a new one"
            )
        day = find_day(time_us)
        writer = self._writers.pop(day, None)
        if writer is not None and writer.suspect and not writer.resync():
            writer = None
        if writer is None:
            if self._lost and time.monotonic() < self._retry_at:
                return None
            if len(self._writers) >= MAX_OPEN_WRITERS:
                self._close_writer(next(iter(self._writers)))
            before = self._current
            writer = _Writer(self, day, before.name if before else self._parent, now_us, time_us)
            self._writers[day] = writer
            self._on_writer()
            if before is not None and before.end_us <= writer.start_us and writer.end_us > now_us >= writer.start_us:
                # Midnight: yesterday's chain is complete, and its partition can be sealed.
                self._close_writer(find_day(before.start_us))
                self._on_part()
        self._writers[day] = writer
        self._current = None if self._is_closed() else writer
        if self._lost:
            lost, self._lost = self._lost, 0
            writer.append_gap(lost)
        if self.waiting.total:
            self.write_waiting()
        return writer

    def _is_closed(self) -> bool:
        """Tell whether a signal handler has closed the recorder meanwhile."""
        return self._closed

    def _lose(self, error: OSError | KeyProblem) -> str:
        """Count an event for which no chain could be opened, or raise, as the application chose."""
        if self.on_failure == "raise":
            raise error
        self._lost += 1
        self._retry_at = time.monotonic() + RETRY_SECONDS
        # An OSError's text names the file, which is another at each try: the same warning would be given each time.
        why = error.strerror if isinstance(error, OSError) else error
        _warn(
            f"no journal can be opened in {self.layout.journal}, so events are counted, not kept ({why}): "
            "restore the folder or the key file"
        )
        return NOT_KEPT

    def write_waiting(self) -> None:
        """Write what waits, of every date: each writer tries again only when its own date has an event."""
        for writer in self._writers.values():
            if not writer.suspect:
                writer.write_waiting()

    def _close_writer(self, day: date, *, give_up: bool = False) -> None:
        """Close a date's chain; while its lines wait for the disk it stays open unless it is given up."""
        writer = self._writers[day]
        if writer.suspect and not writer.resync():
            closed = True
        else:
            try:
                closed = writer.close(give_up=give_up)
            except OSError:
                del self._writers[day]
                raise
        if closed:
            del self._writers[day]
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
        with self._own() as owned:
            # From inside of a call the part isn't changed under it: complete lines of an open part can be sealed too.
            for writer in self._trusted() if owned else ():
                writer.open_next_part()
                writer.ratchet(now_us)
        if self._nested is not None:
            self._nested.rotate()

    def close_past(self, now_us: int) -> None:
        """Sign the ends of the chains whose UTC day is over, so that it can be sealed; lines that wait keep it open.

        Args:
            now_us: The clock's time, microseconds since 1970.

        Raises:
            OSError: If the disk refuses and ``on_failure`` is ``"raise"``.
        """
        with self._own() as owned:
            past = [day for day, writer in self._writers.items() if writer.end_us <= now_us]
            for day in past if owned else ():
                self._close_writer(day)
        if self._nested is not None:
            self._nested.close_past(now_us)

    def _trusted(self) -> list[_Writer]:
        for day, writer in list(self._writers.items()):
            if writer.suspect and not writer.resync():
                del self._writers[day]
        return list(self._writers.values())

    def flush(self) -> None:
        """Write what waits and make everything recorded so far survive a power loss.

        Raises:
            OSError: If the disk refuses.
        """
        with self._own() as owned:
            for writer in self._trusted() if owned else ():
                writer.sync()
            if self._writers:
                durable.sync_folder(self.layout.journal)
        if self._nested is not None:
            self._nested.flush()

    def close(self) -> None:
        """Sign the end of every open chain and let go of the journal; a second call does nothing.

        A signal handler that closes in the middle of a call leaves the end to the next call or the interpreter's exit.

        Raises:
            OSError: If the disk refuses and ``on_failure`` is ``"raise"``; everything is closed nevertheless.
        """
        problem: OSError | None = None
        with self._own() as owned:
            if owned and self._lost and not self._closed:
                now_us = time.time_ns() // 1000
                self._retry_at = 0.0
                with suppress(OSError, KeyProblem):
                    self._choose(now_us, now_us)
            self._closed = True
            if owned:
                problem = self._close_writers()
            elif self._current is not None:
                self._parent, self._current = self._current.name, None
        if self._nested is not None:
            self._nested.close()
        if problem is not None:
            raise problem

    def _close_writers(self) -> OSError | None:
        problem: OSError | None = None
        for day in list(self._writers):
            try:
                self._close_writer(day, give_up=True)
            except OSError as error:
                problem = error
        if self._lost:
            _warn(f"{self._lost} events are lost: no journal can be opened in {self.layout.journal}")
            self._lost = 0
        return problem

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
        self.waiting.total = 0


_numbers = count()
_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_held: list[Recorder] = []
_fork_lock = threading.RLock()


def _list_recorders() -> list[Recorder]:
    """List the recorders, each before those nested in it: so every thread takes the locks in one order."""
    while True:
        try:
            return sorted(_recorders, key=lambda recorder: recorder.number)
        except RuntimeError:
            continue  # another thread made a recorder meanwhile


def _hold_all() -> None:
    _fork_lock.acquire()
    for recorder in _list_recorders():
        recorder._lock.acquire()
        _held.append(recorder)


def _release_all() -> None:
    while _held:
        _held.pop()._lock.release()
    _fork_lock.release()


def _abandon_all() -> None:
    # A forked child has the parent's chains in memory. It must not write to them: it opens its own, at its first event.
    global _fork_lock
    _fork_lock = threading.RLock()
    _held.clear()
    for recorder in _list_recorders():
        recorder._abandon()


def _close_leftovers() -> None:
    """Close what a signal handler couldn't: registered when this is imported, so it runs after other exit handlers."""
    for recorder in _list_recorders():
        if recorder._writers:
            with suppress(OSError):
                recorder.close()


atexit.register(_close_leftovers)


os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_abandon_all)
