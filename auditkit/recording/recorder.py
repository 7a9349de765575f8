"""Recording: each event goes to the chain of its date, under one lock. The hot path.

A call returns when the line has reached the operating system, so a killed process loses nothing whose call returned.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from hashlib import sha256
from itertools import count
from typing import Any, Final, TypeVar

import orjson

from auditkit.errors import ClosedError, KeyProblem
from auditkit.event import NO_RESULT, make_fields
from auditkit.keys import Keys
from auditkit.recording.writer import (
    MAX_BODY_BYTES,
    NOT_KEPT,
    RETRY_SECONDS,
    Drawn,
    ForeignChain,
    OnFailure,
    UnencodableText,
    Waiting,
    Writer,
    WriterTerms,
    raise_interruption,
    warn,
)
from auditkit.store import durable
from auditkit.store.layout import Layout, find_day

T = TypeVar("T")

_dumps: Final = orjson.dumps
_write: Final = os.write
_copy_leaf: Final = sha256(b"\0").copy
"""Begins a leaf; copying a state is cheaper than making a new hash."""

MAX_OPEN_WRITERS: Final = 64
"""How many dates one process keeps open: an unsorted import of a year doesn't hold 365 files."""

TURN_PAUSES: Final = tuple(50e-6 * 3**tries for tries in range(5))
"""How long a thread stands back, in seconds, each time it finds another one writing, before it queues for the lock.

Growing, as a single event is over in a few microseconds and busy threads go on for long: with four of them an event
takes less than half as long as with pauses that stay short, and a rare encounter costs no more.
"""


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
        self._terms = WriterTerms(
            layout, store, keys, Drawn(keys), signs, on_failure, Waiting(), weakref.WeakSet(), self._write_waiting
        )
        self.number = next(_numbers)
        self._max_part_bytes = max_part_bytes or (1 << 62)
        self._on_part = on_part
        self._on_writer = on_writer
        self._lock = threading.RLock()
        self._busy = False
        self._nested: Recorder | None = None
        self._writers: dict[date, Writer] = {}
        self._current: Writer | None = None
        self._parent: str | None = None
        self._lost = 0
        self._retry_at = 0.0
        self._closed = False
        _recorders.add(self)

    def record(
        self,
        now_us: int,
        kind: str,
        time_us: int,
        details: str | None = None,
        actor: str | None = None,
        lead_id: str | None = None,
        workflow: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> str:
        """Sign one event and append it to the journal. Its texts must be `str` itself, without lone surrogates.

        Args:
            now_us: The clock's time, microseconds since 1970.
            kind: The event's type.
            time_us: When it happened, microseconds since 1970; its UTC date decides the partition.
            details: JSON text.
            actor: Who or what did it.
            lead_id: The lead it concerns.
            workflow: The workflow it belongs to.
            result: All of `auditkit.event.RESULT_KEYS` in their order, or None if the event has none of them.

        Returns:
            The event's id, or `NOT_KEPT`.

        Raises:
            ClosedError: If the recorder was closed.
            OSError: If the journal can't be written and ``on_failure`` is ``"raise"``.
            KeyProblem: If the key can't be drawn and ``on_failure`` is ``"raise"``.
            UnencodableText: If a text isn't what it must be; nothing was written.
        """
        try:
            # Not "with", which takes twice as long. An interruption can come at the end of this call, so it stands
            # inside of the try.
            if not self._lock.acquire(False):
                self._stand_back()
            if self._busy:
                return self._nest().record(now_us, kind, time_us, details, actor, lead_id, workflow, result)
            self._busy = True
            try:
                writer = self._current
                if writer is None or not writer.start_us <= time_us < writer.end_us:
                    try:
                        writer = self._choose(now_us, time_us)
                    except (OSError, KeyProblem) as error:
                        raise_interruption(error)
                        return self._lose(error)
                    if writer is None:
                        self._lost += 1
                        return NOT_KEPT
                if now_us >= writer.check_us:
                    writer.check(now_us)
                if not writer.quick:
                    event_id = writer.append(make_fields(kind, time_us, details, actor, lead_id, workflow, result))
                else:
                    # What Writer.append does, but without its calls, which cost a tenth of the whole, and with the keys
                    # printed as one that are the same for all events of a chain, or empty in most.
                    seq = writer.seq
                    fields = {
                        "v": writer.head,
                        "seq": seq,
                        "epoch": writer.epoch,
                        "time": time_us,
                        "type": kind,
                        "actor": actor,
                        "lead_id": lead_id,
                        "workflow": workflow,
                        "outcome": NO_RESULT,
                    }
                    if result is not None:
                        fields.update(result)
                    fields["details"] = details
                    try:
                        body = _dumps(fields)
                    except TypeError as error:
                        raise_interruption(error)
                        raise UnencodableText from error
                    inner = writer.copy_inner()
                    inner.update(writer.prev + body)
                    outer = writer.copy_outer()
                    outer.update(inner.digest())
                    line = b'%b,"mac":"%b"}\n' % (body[:-1], outer.hexdigest().encode())
                    size = len(line)
                    if size > MAX_BODY_BYTES:
                        return writer.append(make_fields(kind, time_us, details, actor, lead_id, workflow, result))
                    try:
                        written = _write(writer.descriptor, line)
                        if written != size:
                            durable.write_all(writer.descriptor, memoryview(line)[written:])
                    except OSError as error:
                        raise_interruption(error)
                        return writer.append_failed(line, time_us, error)
                    leaf = _copy_leaf()
                    leaf.update(line[:-1])
                    writer.prev = leaf.digest()
                    writer.seq = seq + 1
                    writer.last_time_us = time_us
                    writer.size += size
                    event_id = f"{writer.id_head}{seq}"
                if writer.size >= self._max_part_bytes:
                    self._rotate_writer(writer, now_us)
                return event_id
            except UnencodableText:
                raise  # nothing was written
            except ForeignChain:
                self._forget_foreign()
                return self.record(now_us, kind, time_us, details, actor, lead_id, workflow, result)
            except BaseException:
                self._distrust()
                raise
            finally:
                self._busy = False
        finally:
            try:  # noqa: SIM105 - suppress() takes longer than the rest of this method's own code
                self._lock.release()
            except RuntimeError:
                pass  # waiting for the lock was interrupted, so it isn't this thread's

    def _stand_back(self) -> None:
        """Take the lock, but let the thread that is writing go on for a moment before queueing for it.

        Writing lets go of the interpreter, so every other thread would come as far as the lock and have to be woken
        again: with four busy threads that costs twice as much as the events themselves.
        """
        for pause in TURN_PAUSES:
            time.sleep(pause)
            if self._lock.acquire(blocking=False):
                return
        self._lock.acquire()

    def _run_owned(self, work: Callable[[bool], T]) -> T:
        """Do something with the lock held, as `record` does; told False inside of a call that a signal interrupted.

        No context manager: an interruption at the beginning of its exit would leave the lock taken for ever.
        """
        try:
            self._lock.acquire()
            if self._busy:
                return work(False)
            self._busy = True
            try:
                return work(True)
            except ForeignChain:
                self._forget_foreign()
                return self._run_owned(work)
            except BaseException:
                self._distrust()
                raise
            finally:
                self._busy = False
        finally:
            try:  # noqa: SIM105 - as in `record`
                self._lock.release()
            except RuntimeError:
                pass  # waiting for the lock was interrupted, so it isn't this thread's

    def _distrust(self) -> None:
        """Have every chain look at its journal before it goes on: the call that was interrupted may have written."""
        if self._current is not None:
            self._parent = self._current.name
            self._current = None
        for writer in self._writers.values():
            writer.suspect = True

    def _forget_foreign(self) -> None:
        """Forget what a forked child, come back into its parent's call, has of the parent's chains."""
        self._writers = {day: writer for day, writer in self._writers.items() if not writer.foreign}
        if self._current is not None and self._current.foreign:
            self._current = None

    def _nest(self) -> Recorder:
        """Give the recorder for a call from inside a call, as a signal handler or a finaliser makes it.

        The outer call is in the middle of a line, so the inner event goes to a chain of its own.
        """
        if self._nested is None:
            self._nested = Recorder(
                self.layout, self._terms.store, self._terms.keys, max_part_bytes=self._max_part_bytes,
                signs=self._terms.signs, on_failure=self._terms.on_failure, on_part=self._on_part,
            )  # fmt: skip
            self._nested._parent = self._current.name if self._current else self._parent
        return self._nested

    def _choose(self, now_us: int, time_us: int) -> Writer | None:
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
            writer = Writer(self._terms, day, before.name if before else self._parent, now_us, time_us)
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
        if self._terms.waiting.total:
            self._write_waiting()
        return writer

    def _is_closed(self) -> bool:
        """Tell whether a signal handler has closed the recorder meanwhile."""
        return self._closed

    def _lose(self, error: OSError | KeyProblem) -> str:
        """Count an event for which no chain could be opened, or raise, as the application chose."""
        if self._terms.on_failure == "raise":
            raise error
        self._lost += 1
        self._retry_at = time.monotonic() + RETRY_SECONDS
        # An OSError's text names the file, which is another at each try: the same warning would be given each time.
        why = error.strerror if isinstance(error, OSError) else error
        warn(
            f"no journal can be opened in {self.layout.journal}, so events are counted, not kept ({why}): "
            "restore the folder or the key file"
        )
        return NOT_KEPT

    def _write_waiting(self) -> None:
        """Write what waits, of every date: each writer tries again only when its own date has an event."""
        for writer in self._writers.values():
            if not writer.suspect:
                writer.write_waiting()

    def _close_writer(self, day: date, *, give_up: bool = False) -> None:
        """Close a date's chain; while its lines wait for the disk it stays open unless it is given up."""
        writer = self._writers.get(day)
        if writer is None:
            return  # a forked child, come back into its parent's call, has none of its chains
        if writer.suspect and not writer.resync():
            closed = True
        else:
            try:
                closed = writer.close(give_up=give_up)
            except OSError as error:
                raise_interruption(error)
                self._writers.pop(day, None)
                raise
        if closed:
            self._writers.pop(day, None)
            self._parent = writer.name
            if self._current is writer:
                self._current = None

    def _rotate_writer(self, writer: Writer, now_us: int) -> None:
        try:
            writer.rotate(now_us)
        except OSError as error:
            raise_interruption(error)
            # No room for a new file: the old one goes on, and the next event tries again.
            return
        except ForeignChain:
            return  # the event is on record, and the part is the parent's
        self._on_part()

    def rotate(self) -> None:
        """Finish the open journal parts, so that they can be sealed, and ratchet their keys."""
        now_us = time.time_ns() // 1000

        def work(owned: bool) -> None:
            # From inside of a call the part isn't changed under it: complete lines of an open part can be sealed too.
            for writer in self._trusted() if owned else ():
                writer.rotate(now_us)

        self._run_owned(work)
        if self._nested is not None:
            self._nested.rotate()

    def close_past(self, now_us: int) -> None:
        """Sign the ends of the chains whose UTC day is over, so that it can be sealed; lines that wait keep it open.

        Args:
            now_us: The clock's time, microseconds since 1970.

        Raises:
            OSError: If the disk refuses and ``on_failure`` is ``"raise"``.
        """

        def work(owned: bool) -> None:
            past = [day for day, writer in self._writers.items() if writer.end_us <= now_us]
            for day in past if owned else ():
                self._close_writer(day)

        self._run_owned(work)
        if self._nested is not None:
            self._nested.close_past(now_us)

    def _trusted(self) -> list[Writer]:
        for day, writer in list(self._writers.items()):
            if writer.suspect and not writer.resync():
                self._writers.pop(day, None)
        return list(self._writers.values())

    def flush(self) -> None:
        """Write what waits and make everything recorded so far survive a power loss.

        Raises:
            OSError: If the disk refuses.
        """

        def work(owned: bool) -> None:
            problem: OSError | None = None
            for writer in self._trusted() if owned else ():
                try:
                    writer.sync()
                except OSError as error:
                    raise_interruption(error)
                    problem = problem or error  # the other dates' events are made durable nevertheless
            if problem is not None:
                raise problem
            if self._writers:
                durable.sync_folder(self.layout.journal)

        self._run_owned(work)
        if self._nested is not None:
            self._nested.flush()

    def close(self) -> None:
        """Sign the end of every open chain and let go of the journal; a second call does nothing.

        A signal handler that closes in the middle of a call leaves the end to the next call or the interpreter's exit.

        Raises:
            OSError: If the disk refuses and ``on_failure`` is ``"raise"``; everything is closed nevertheless.
        """

        def work(owned: bool) -> OSError | None:
            if owned and self._lost and not self._closed:
                now_us = time.time_ns() // 1000
                self._retry_at = 0.0
                try:
                    self._choose(now_us, now_us)
                except (OSError, KeyProblem) as error:
                    raise_interruption(error)  # otherwise what is lost is told below
            self._closed = True
            if owned:
                return self._close_writers()
            if self._current is not None:
                self._parent, self._current = self._current.name, None
            return None

        problem = self._run_owned(work)
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
                raise_interruption(error)
                problem = error
        if self._lost:
            warn(f"{self._lost} events are lost: no journal can be opened in {self.layout.journal}")
            self._lost = 0
        return problem

    def _abandon(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        if self._current is not None:
            self._parent = self._current.name
        for writer in list(self._terms.writers):
            writer.leave()
        self._writers.clear()
        self._current = None
        self._nested = None
        self._lost = 0
        self._terms.waiting.total = 0
        self._terms.drawn.unused.clear()


_numbers = count()
_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_held: list[list[Recorder]] = []
"""For each fork under way what it holds: a signal handler may fork inside of another fork."""

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
    held: list[Recorder] = []
    _held.append(held)
    for recorder in _list_recorders():
        recorder._lock.acquire()
        held.append(recorder)


def _release_all() -> None:
    for recorder in reversed(_held.pop()):
        recorder._lock.release()
    _fork_lock.release()


def _abandon_all() -> None:
    # A forked child has the parent's chains in memory. It must not write to them: it opens its own, at its first event.
    global _fork_lock
    _fork_lock = threading.RLock()
    _held.pop()
    for outer in _held:
        # A fork around this one, which a signal handler has made, will release what it takes from now on.
        outer.clear()
        _fork_lock.acquire()
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
