"""Starting the sealer: a short-lived child process, so that sealing costs the application neither memory nor time.

The child is spawned, not forked from a process with threads. It runs under `nice`, with pyarrow held to one thread, and
gets what it needs over a pipe: command lines and environments can be read by others.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson

from auditkit.errors import AuditError
from auditkit.event import DAY_US
from auditkit.interpreter import find_python, make_environment
from auditkit.keys import Keys
from auditkit.store import durable, journal
from auditkit.store.layout import Layout, read_writer_day, today

DEAD_PARTS: Final = 256
"""How many journals of dead writers gather before a new process has them sealed: a thousand short-lived processes
end as a few segments, not a thousand."""

DEAD_BYTES: Final = 16 << 20
"""And how many bytes of them."""

AFTER_MIDNIGHT_SECONDS: Final = 5
"""Pause after the UTC day's end before its chains are ended, for the calls that are just finishing it."""

SPREAD_SECONDS: Final = 60
"""Within which time after that a process looks whether the day is sealed: the first one seals for all the others."""

RETRY_SECONDS: Final = 60
"""Pause before another look where somebody else was sealing: that sealer may have listed the journals before."""

MAX_RETRIES: Final = 10
"""How often a request is looked at again: a sealer that works for longer, or whoever locks the folder only to keep
others from sealing, is left to the next request."""

_log = logging.getLogger("auditkit")


def can_seal() -> bool:
    """Tell whether this installation can seal, without importing what that needs."""
    return all(importlib.util.find_spec(name) is not None for name in ("pyarrow", "duckdb", "cryptography"))


@contextmanager
def _claim(layout: Layout) -> Iterator[int | None]:
    """Claim the sealing in the background: of a thousand processes that find it due, one starts a sealer.

    The claim is a lock on the journal's folder. The child inherits it and so holds it to its own end, however soon the
    process that started it leaves.

    Yields:
        The descriptor to hand on, or None if another process has the claim.
    """
    descriptor = os.open(layout.journal, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _claims.add(descriptor)
    try:
        yield descriptor if durable.try_lock(descriptor) else None
    finally:
        # Closing it unlocks too: the child has ended, and a forked process has let go at its birth.
        _claims.discard(descriptor)
        os.close(descriptor)


_claims: set[int] = set()


def _let_go() -> None:
    while _claims:
        os.close(_claims.pop())


os.register_at_fork(after_in_child=_let_go)


def run_sealer(layout: Layout, keys: Keys, *, live: bool, wait: bool, low_priority: bool = True) -> bool:
    """Seal what the journals hold, in a child process, and wait for it.

    Lines that the sealer had to set aside are told to the logger ``auditkit``. Where no Python can be started nothing
    happens: the journals wait for another process.

    Args:
        layout: The store's paths.
        keys: The store's keys.
        live: Whether complete lines of journals that are still owned are sealed too.
        wait: Whether another sealer is waited for; otherwise the work is left to it.
        low_priority: Whether it gives way to everything else on the machine.

    Returns:
        Whether the work was left to another process that is sealing.

    Raises:
        AuditError: If the child can't be started, or fails; the journals are untouched.
    """
    python = find_python()
    if python is None:
        return False
    request = {"store": str(layout.root.absolute()), "keys": keys.to_secret(), "live": live, "wait": wait}
    command = [python, "-P", "-m", "auditkit.sealing"]
    nice = shutil.which("nice") if low_priority else None
    if nice:
        command = [nice, "-n", "19", *command]
    if wait:
        return _run(python, command, request, layout)
    with _claim(layout) as claim:
        return True if claim is None else _run(python, command, request, layout, claim)


def _run(python: str, command: list[str], request: dict[str, Any], layout: Layout, *inherited: int) -> bool:
    """Run the child to its end; tells whether it found another sealer at work and left the work to it."""
    hint = "name a Python that has auditkit in $AUDITKIT_PYTHON"
    try:
        child = subprocess.run(
            command,
            input=orjson.dumps(request),
            capture_output=True,
            env=make_environment(python),
            pass_fds=inherited,
            check=False,
        )
    except OSError as error:
        raise AuditError(f"expected to start the sealer with {python}, found: {error.strerror}; {hint}") from error
    complaint = child.stderr.decode(errors="replace").strip()[-2000:]
    if child.returncode != 0:
        raise AuditError(
            f"expected the sealer of {layout.root} to end well, found exit code {child.returncode}: {complaint}"
        )
    try:
        result = orjson.loads(child.stdout)
        quarantined, busy = int(result["quarantined"]), bool(result["busy"])
    except (ValueError, TypeError, KeyError):
        # Its output isn't shown: whatever was run there was given the keys.
        raise AuditError(
            f"expected {python} to run the sealer of {layout.root}, found no result of it: {hint}; {complaint}"
        ) from None
    if quarantined:
        _log.warning(
            "sealing set %d journal lines aside that can't be believed: a killed process tore them, or somebody "
            "changed them; they lie with the reasons in %s, and `auditkit integrity` says which events are missing",
            quarantined,
            layout.quarantine,
        )
    return busy


def needs_sealing(layout: Layout) -> bool:
    """Tell whether the journals of dead writers have grown to be worth a sealing, or are of an earlier day."""
    day = today()
    count = size = 0
    for part in journal.list_parts(layout):
        if journal.is_owned(part):
            continue
        writer_day = read_writer_day(part.writer)
        if writer_day is not None and writer_day < day:
            return True
        with suppress(FileNotFoundError):
            size += part.path.stat().st_size
            count += 1
        if count >= DEAD_PARTS or size >= DEAD_BYTES:
            return True
    return False


class Housekeeper:
    """A daemon thread that starts the sealer when it is asked to, and that ends and seals the UTC day when it is over.

    A process that records nothing after midnight would else keep its yesterday open until it does.

    Args:
        layout: The store's paths.
        keys: The store's keys.
        clock: Tells the time, in microseconds since 1970.
        spread_seconds: Longest pause between the day's end and the look whether somebody has sealed it.
        retry_seconds: Pause before another look where a request met somebody else's sealing.

    Attributes:
        close_past: Called with the time, in microseconds since 1970, to end the chains of days that are over.
    """

    def __init__(
        self,
        layout: Layout,
        keys: Keys,
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        spread_seconds: float = SPREAD_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.close_past: Callable[[int], None] = lambda _now_us: None
        self._layout = layout
        self._keys = keys
        self._clock = clock
        self._spread_seconds = spread_seconds
        self._retry_seconds = retry_seconds
        self._retries_left = 0
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._pid = 0

    def watch(self) -> None:
        """Start the thread if it isn't running in this process (a forked child has none); returns at once."""
        # Without a thread, as where there are too many, the next event or another process seals the day.
        self._start()

    def request(self) -> None:
        """Ask for a sealing soon; returns at once."""
        if problem := self._start():
            _log_failure(f"the thread that seals can't be started ({problem})")
        self._wake.set()

    def stop(self) -> None:
        """End the thread; a sealer that is running finishes by itself."""
        self._stopped = True
        if self._pid == os.getpid():  # in a forked child the event's lock may be one that nobody will ever release
            self._wake.set()

    def _start(self) -> RuntimeError | None:
        if self._pid != os.getpid() and not self._stopped:
            self._pid = os.getpid()
            self._wake = threading.Event()
            self._thread = threading.Thread(target=self._run, name="auditkit-housekeeper", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._pid = 0
                return error
        return None

    def _run(self) -> None:
        while True:
            pause = self._seconds_to_day_end()
            again = self._retries_left > 0 and self._retry_seconds < pause
            asked = self._wake.wait(self._retry_seconds if again else pause)
            if self._stopped:
                return
            try:
                if asked:
                    self._retries_left = MAX_RETRIES
                    self._seal()
                elif again:
                    self._retries_left -= 1
                    self._look_again()
                elif self._end_day():
                    self._retries_left = MAX_RETRIES
                    self._seal()
            except (AuditError, OSError) as error:
                _log_failure(error)

    def _seal(self) -> None:
        """Seal; what comes too late for somebody else who is sealing is looked at again."""
        self._wake.clear()
        retries, self._retries_left = self._retries_left, 0
        if run_sealer(self._layout, self._keys, live=False, wait=False):
            self._retries_left = retries

    def _look_again(self) -> None:
        if needs_sealing(self._layout):
            self._seal()
        else:
            self._retries_left = 0

    def _end_day(self) -> bool:
        """End the chains of days that are over; tells whether a while later there still is something to seal."""
        self.close_past(self._clock())
        asked = self._wake.wait(random.uniform(0, self._spread_seconds))
        return not self._stopped and (asked or needs_sealing(self._layout))

    def _seconds_to_day_end(self) -> float:
        past_us = (self._clock() - AFTER_MIDNIGHT_SECONDS * 1_000_000) % DAY_US
        return (DAY_US - past_us) / 1e6


def _log_failure(problem: object) -> None:
    _log.warning("sealing failed; the journals are untouched and the next sealing takes them: %s", problem)
