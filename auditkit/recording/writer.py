"""One chain: the events that one process records for one UTC date, signed, chained and appended to its journal.

The state of a chain (sequence number, previous leaf) moves on only with the line that needs it.

When the journal can't be written (a full disk, a vanished folder), events wait as signed lines in bounded memory and
are written with the next call that succeeds. What doesn't fit any more is counted, and a signed gap event says how
many were dropped, in their place in the chain.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from auditkit.conversion import is_interruption
from auditkit.event import (
    CLOSED,
    DAY_US,
    GAP,
    GENESIS,
    MAX_LINE_BYTES,
    OPENED,
    hash_line,
    join_line,
    make_fields,
    make_head,
    name_id,
)
from auditkit.keys import Keys, derive_writer_key, prepare_hmac, ratchet_epoch
from auditkit.store import durable
from auditkit.store.journal import open_part
from auditkit.store.layout import Layout, name_writer, start_of_day

if TYPE_CHECKING:
    from hashlib import _Hash

EPOCH_US: Final = 15 * 60 * 1_000_000
"""How long a writer signs with one key, in microseconds, if nothing rotates it earlier."""

CHECK_US: Final = 1_000_000
"""How often a writer looks, in microseconds, whether somebody has removed its journal."""

MAX_WAITING_BYTES: Final = 16 << 20
"""How many bytes of signed lines wait in memory while the journal can't be written, those of all dates together."""

RETRY_SECONDS: Final = 0.1
"""Pause between two tries to write what waits, or to open a chain."""

NOT_KEPT: Final = ""
"""Id of an event that could not be kept: a gap event counts it."""

MAX_BODY_BYTES: Final = MAX_LINE_BYTES - 256
"""Longest body that is signed as it is; longer ones are cut."""

OnFailure = Literal["drop", "raise"]

_CUT_TEXT: Final = 50_000


class UnencodableText(Exception):
    """A field holds text that UTF-8 can't hold, or something that isn't text."""


class ForeignChain(Exception):
    """A forked child has come back into a call of its parent, whose chain isn't its own."""


class RecordingWarning(UserWarning):
    """Events can't be written at the moment and wait in memory, are counted, or are lost."""


class Waiting:
    """How many bytes wait, over all writers of a recorder."""

    total = 0


class Drawn:
    """The keys that a recorder has drawn and not used: a chain that couldn't be begun leaves its key to the next one.

    A number that is never used looks like a deleted journal.
    """

    __slots__ = ("_keys", "unused")

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.unused: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"Drawn({len(self.unused)} unused)"

    def draw(self) -> tuple[int, bytes]:
        """Take a number and its key."""
        return self.unused.pop() if self.unused else self._keys.draw()


@dataclass(frozen=True)
class WriterTerms:
    """What all writers of a recorder have in common.

    Attributes:
        layout: The store's paths.
        store: Id of the store.
        keys: Where its keys come from.
        drawn: What is drawn from them.
        signs: Whether events are signed.
        on_failure: What becomes of an event that the disk refuses.
        waiting: What they have waiting altogether.
        writers: All of them, also the one that is just being made.
        on_recovery: Called when writing works again.
    """

    layout: Layout
    store: str
    keys: Keys
    drawn: Drawn
    signs: bool
    on_failure: OnFailure
    waiting: Waiting
    writers: weakref.WeakSet[Writer]
    on_recovery: Callable[[], None]


class Writer:
    """One chain. Its caller holds the recorder's lock, and for speed makes most lines itself (`Recorder.record`).

    Args:
        terms: What it has in common with the recorder's other writers.
        day: UTC date of its events.
        parent: Id of the writer that this process had before.
        now_us: The clock's time, microseconds since 1970.
        time_us: Time of the event that it is opened for.

    Raises:
        OSError: If no journal can be made.
        KeyProblem: If no key can be drawn.
    """

    def __init__(self, terms: WriterTerms, day: date, parent: str | None, now_us: int, time_us: int) -> None:
        self._terms = terms
        self._layout = terms.layout
        self.store = terms.store
        self.name = name_writer(day)
        self.id_head = f"{self.name}:"
        self.head = make_head(self.store, self.name)
        self.start_us = start_of_day(day)
        self.end_us = self.start_us + DAY_US
        self.seq = 0
        self.size = 0
        self.last_time_us = time_us
        self.suspect = False
        self.prev = GENESIS
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._ended = False
        self._errno = 0
        self._retry_at = 0.0
        self.foreign = False
        self.descriptor, self._part = -1, 0
        drawn: tuple[int, bytes] | None = None
        terms.writers.add(self)
        try:
            # The file comes before the key: a number that is drawn and never used looks like a deleted journal.
            self._open_part(0)
            if terms.signs:
                drawn = terms.drawn.draw()
            n, key = drawn or (0, b"")
            self.key = derive_writer_key(key, self.store, self.name) if terms.signs else None
            self.copy_inner, self.copy_outer = _prepare(self.key)
            self.epoch = 0
            self.quick = terms.signs
            self._epoch_end_us = now_us + EPOCH_US
            self.check_us = now_us + CHECK_US
            # The chain lies in one date's partition, so an import's first event is dated like its second.
            opened_us = now_us if self.start_us <= now_us < self.end_us else time_us
            details = {"n": n, "parent": parent, "host": socket.gethostname(), "pid": os.getpid()}
            if not self.append_internal(OPENED, opened_us, details):
                raise OSError(errno.ENOBUFS, "no room to wait in memory")
        except BaseException:
            if self._discard() and drawn is not None:
                terms.drawn.unused.append(drawn)
            raise

    def _discard(self) -> bool:
        """Remove the part if nothing was written to it, and tell so; it is locked, so no sealer is reading it."""
        empty = False
        with _Tolerance():
            if not self.foreign and os.fstat(self.descriptor).st_size == 0:
                empty = True
                self._layout.part(self.name, self._part).unlink()
        self.abandon()
        return empty

    def append(self, fields: dict[str, Any]) -> str:
        """Sign an event and append it; its id, or `NOT_KEPT`."""
        line = self._sign(fields)
        if self._waiting or self._dropped:
            return self._append_waiting(line, fields)
        try:
            self._write(line)
        except OSError as error:
            raise_interruption(error)
            return self.append_failed(line, fields["time"], error)
        return self._count(line, fields["time"])

    def _sign(self, fields: dict[str, Any]) -> bytes:
        """Make the chain's next line, with its newline."""
        self._refuse_foreign()
        fields["store"] = self.store
        fields["writer"] = self.name
        fields["seq"] = self.seq
        fields["epoch"] = self.epoch
        try:
            body = orjson.dumps(fields)
        except TypeError as error:
            raise_interruption(error)
            raise UnencodableText from error
        if len(body) > MAX_BODY_BYTES:
            return self._sign(_cut_fields(fields))
        if self.key is None:
            return join_line(body, None) + b"\n"
        inner, outer = self.copy_inner(), self.copy_outer()
        inner.update(self.prev + body)
        outer.update(inner.digest())
        return join_line(body, outer.digest()) + b"\n"

    def _write(self, line: bytes) -> None:
        self._refuse_foreign()
        durable.write_all(self.descriptor, line)

    def _count(self, line: bytes, time_us: int) -> str:
        """Count a line that was written; the id of its event."""
        self.last_time_us = time_us
        event_id = self._move_on(line)
        # Last: an interruption before this makes `resync` take the state from the line itself.
        self.size += len(line)
        return event_id

    def _move_on(self, line: bytes) -> str:
        """Take a line as the chain's last one; the id of its event."""
        self.prev = hash_line(line[:-1])
        self.seq += 1
        return name_id(self.name, self.seq - 1)

    def resync(self) -> bool:
        """Take the chain's state from the journal after an interrupted call; tells whether the chain can go on.

        An exception out of a signal handler (a timeout, Ctrl-C) may come between a line and the counters behind it.
        """
        try:
            lines = self._read_uncounted()
        except OSError as error:
            raise_interruption(error)
            self.abandon()
            return False
        waiting, size = self._waiting.copy(), self.size
        prev, seq, time_us, ended = self.prev, self.seq, self.last_time_us, self._ended
        for line in lines:
            size += len(line)
            if waiting and waiting[0] == line:
                waiting.popleft()
        if waiting or lines:
            last = waiting[-1] if waiting else lines[-1]
            fields = orjson.loads(last)
            prev = hash_line(last[:-1])
            seq = fields["seq"] + (orjson.loads(fields["details"])["dropped"] if fields["type"] == GAP else 1)
            time_us = fields["time"]
            ended = fields["type"] == CLOSED
        waiting_bytes = sum(map(len, waiting))
        total = self._terms.waiting.total + waiting_bytes - self._waiting_bytes
        quick = self.key is not None and not waiting and not self._dropped
        # All at once, without a call between them: a second interruption comes before all of it or behind it.
        self.prev, self.seq, self.last_time_us, self._ended, self.size = prev, seq, time_us, ended, size
        self._waiting, self._waiting_bytes, self._terms.waiting.total = waiting, waiting_bytes, total
        self.quick, self.suspect = quick, False
        if ended and not waiting:
            self.abandon()
            return False
        return True

    def _read_uncounted(self) -> list[bytes]:
        """Read the lines behind those that were counted, and take a torn one back."""
        if self.descriptor < 0:
            return []
        held = os.fstat(self.descriptor).st_size
        tail = os.pread(self.descriptor, max(held - self.size, 0), self.size)
        end = tail.rfind(b"\n") + 1
        if end < len(tail):
            os.ftruncate(self.descriptor, self.size + end)
        return [line + b"\n" for line in tail[:end].split(b"\n")[:-1]]

    def append_internal(self, kind: str, time_us: int, details: dict[str, Any]) -> str:
        """Append one of the toolkit's own events."""
        return self.append(make_fields(kind, time_us, orjson.dumps(details).decode()))

    def append_failed(self, line: bytes, time_us: int, error: OSError) -> str:
        """Take back a torn line, then raise the error or let the line wait, as the application chose."""
        self._refuse_foreign()
        if self.descriptor < 0:
            # No file could be opened last time, so the error says nothing of why none can be now.
            try:
                self.open_next_part()
                self._write(line)
            except OSError as problem:
                raise_interruption(problem)
                error = problem
            else:
                return self._count(line, time_us)
        self._take_back()
        if self._terms.on_failure == "raise":
            raise error
        self._errno = error.errno or 0
        self._retry_at = time.monotonic() + RETRY_SECONDS
        event_id = self._wait(line, time_us)
        warn(
            f"events can't be written to {self._layout.journal} ({error.strerror}); they wait in memory, at most "
            f"{MAX_WAITING_BYTES >> 20} MiB of them: free space there or restore the folder"
        )
        return event_id

    def _take_back(self) -> None:
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError as error:
            raise_interruption(error)
            # The torn line stays as the end of this part; what follows goes to a new one, as soon as there is one.
            self.abandon()
            with _Tolerance():
                self.open_next_part()

    def _wait(self, line: bytes, time_us: int) -> str:
        self.quick = False
        if self._terms.waiting.total + len(line) > MAX_WAITING_BYTES:
            self._dropped += 1
            return NOT_KEPT
        self._waiting.append(line)
        self._count_waiting(len(line))
        self.last_time_us = time_us
        return self._move_on(line)

    def _count_waiting(self, size: int) -> None:
        mine, total = self._waiting_bytes + size, self._terms.waiting.total + size
        self._waiting_bytes, self._terms.waiting.total = mine, total

    def _append_waiting(self, line: bytes, fields: dict[str, Any]) -> str:
        """Handle an event that comes while others wait: it goes behind them."""
        if self._dropped:
            # This line was signed for a place that a dropped event holds; it is signed again if writing works.
            if self.write_waiting():
                self._terms.on_recovery()
                return self.append(fields)
            self._dropped += 1
            return NOT_KEPT
        event_id = self._wait(line, fields["time"])
        if self.write_waiting():
            self._terms.on_recovery()
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
                if self.descriptor < 0:
                    self.open_next_part()
                self._write(line)
            except OSError as error:
                raise_interruption(error)
                self._take_back()
                self._errno = error.errno or 0
                self._retry_at = time.monotonic() + RETRY_SECONDS
                return False
            self._waiting.popleft()
            self._count_waiting(-len(line))
            self.size += len(line)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.append_gap(dropped)
        self._judge_quick()
        return not self._waiting and not self._dropped

    def _judge_quick(self) -> None:
        """Say whether the next line may be made the quick way: signed, with none before it that waits."""
        self.quick = self.key is not None and not self._waiting and not self._dropped

    def append_gap(self, dropped: int) -> None:
        """Say in the chain that events were dropped; the gap event holds all their places."""
        kept = self.append_internal(GAP, self.last_time_us, {"dropped": dropped})
        if kept:
            self.seq += dropped - 1
        else:
            # The gap event was dropped itself, and counted as one.
            self._dropped += dropped - 1

    def check(self, now_us: int) -> None:
        """Do what is due every now and then: change the key, and notice a journal that somebody has removed."""
        if now_us >= self._epoch_end_us:
            self.ratchet(now_us)
        self.check_us = min(now_us + CHECK_US, self._epoch_end_us)
        if self._is_removed():
            self._replace_removed()

    def _is_removed(self) -> bool:
        return self.descriptor >= 0 and os.fstat(self.descriptor).st_nlink == 0

    def _replace_removed(self) -> None:
        """Go on in a new part: what is written to a removed file is gone when it is closed."""
        path, lost = self._layout.part(self.name, self._part), self.size
        self.abandon()
        with _Tolerance():
            self.open_next_part()
        warn(
            f"somebody has removed the journal {path} while it was being written; what it held (up to {lost} bytes) is "
            "lost unless it was sealed before: find out who removes files there"
        )

    def ratchet(self, now_us: int) -> None:
        """Replace the writer's key by the next one; the old one can't be computed back."""
        if self.key is not None:
            key = ratchet_epoch(self.key)
            inner, outer = _prepare(key)
            # All at once, without a call between them: an interruption must not leave the number of another key.
            self.key, self.copy_inner, self.copy_outer, self.epoch = key, inner, outer, self.epoch + 1
        self._epoch_end_us = now_us + EPOCH_US

    def open_next_part(self) -> None:
        """Go on in a new file; the old one is the sealer's."""
        self._open_part(self._part + 1)

    def _open_part(self, number: int) -> None:
        self._refuse_foreign()
        descriptor, part = open_part(self._layout, self.name, number)
        old, self.descriptor, self._part, self.size = self.descriptor, descriptor, part, 0
        if old >= 0:
            os.close(old)
        self._refuse_foreign()

    def rotate(self, now_us: int) -> None:
        """Go on in a new file with a new key.

        Raises:
            OSError: If there is no room for a new file; the old one goes on.
        """
        if self._is_removed():
            self._replace_removed()
        else:
            self.open_next_part()
        self.ratchet(now_us)

    def sync(self) -> None:
        """Write what waits, and wait until the disk has everything.

        Raises:
            OSError: If the disk refuses, or somebody has removed the journal.
        """
        if not self.write_waiting(now=True):
            raise OSError(self._errno, os.strerror(self._errno), str(self._layout.part(self.name, self._part)))
        if self._is_removed():
            path = self._layout.part(self.name, self._part)
            self._replace_removed()
            raise FileNotFoundError(errno.ENOENT, "the journal was removed while it was being written", str(path))
        self._refuse_foreign()
        os.fsync(self.descriptor)

    def close(self, *, give_up: bool = False) -> bool:
        """Sign the chain's end and let go of the journal.

        Args:
            give_up: Whether to let go even if lines still wait; otherwise the writer stays as it is.

        Returns:
            Whether the writer is closed.
        """
        try:
            if self.write_waiting(now=True) and not self._ended:
                self._ended = self._append_end()
        except OSError:
            self.abandon()
            raise
        if not self._ended and not give_up:
            return False
        self.abandon()
        if lost := len(self._waiting) + self._dropped:
            warn(f"{lost} events of writer {self.name} are lost: {self._layout.journal} can't be written to the end")
        return True

    def _append_end(self) -> bool:
        """Sign the chain's end and write it; tells whether it could be. It never waits: events would come behind it."""
        line = self._sign(make_fields(CLOSED, self.last_time_us, "{}"))
        try:
            self._write(line)
        except OSError as error:
            raise_interruption(error)
            self._take_back()
            if self._terms.on_failure == "raise":
                raise
            return False
        self._count(line, self.last_time_us)
        return True

    def _refuse_foreign(self) -> None:
        """Make sure that this process owns the chain, right before something is done to it."""
        if self.foreign:
            self.abandon()
            raise ForeignChain

    def leave(self) -> None:
        """Leave the chain to the process that this one was forked from, whose call may go on here too."""
        self.foreign = True
        self.abandon()

    def abandon(self) -> None:
        """Close the journal as it is; in a forked child that leaves the parent's lock in place, unlocking would not."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def raise_interruption(error: BaseException) -> None:
    """Let an exception of a signal handler go on its way: a timeout is an OSError too, and no failure of the disk."""
    found: BaseException | None = error
    while found is not None:
        if is_interruption(found):
            raise error
        found = found.__cause__


class _Tolerance:
    """Goes on where the disk refuses something that isn't needed."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError) and not is_interruption(error)


_log = logging.getLogger("auditkit")
_telling = threading.local()


def warn(message: str) -> None:
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
            cut[name] = orjson.dumps({"$cut": {"characters": len(text), "beginning": text[:_CUT_TEXT]}}).decode()
        else:
            cut[name] = f"{text[:_CUT_TEXT]}…[cut: {len(text)} characters]"
    return cut
