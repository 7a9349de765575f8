"""Starting the sealer: a short-lived child process, so that sealing costs the application neither memory nor time.

The child is spawned, not forked from a process with threads. It runs under `nice`, with pyarrow held to one thread, and
gets what it needs over a pipe: command lines and environments can be read by others.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from auditkit.event import DAY_US
from auditkit.keys import Keys
from auditkit.store import journal
from auditkit.store.layout import Layout, read_writer_day, today

DEAD_PARTS: Final = 256
"""How many journals of dead writers gather before a new process has them sealed: a thousand short-lived processes
end as a few segments, not a thousand."""

DEAD_BYTES: Final = 16 << 20
"""And how many bytes of them."""

AFTER_MIDNIGHT_SECONDS: Final = 5
"""Pause after the UTC day's end before it is sealed, for the writers that are just finishing it."""


def can_seal() -> bool:
    """Tell whether this installation can seal, without importing what that needs."""
    return all(importlib.util.find_spec(name) is not None for name in ("pyarrow", "duckdb", "cryptography"))


def find_python() -> str | None:
    """Find the command that runs Python: ``$AUDITKIT_PYTHON``, this interpreter, or ``python3`` on the path.

    In an embedded interpreter ``sys.executable`` is the application itself; running it again would start a second
    application.
    """
    if named := os.environ.get("AUDITKIT_PYTHON"):
        return named
    for candidate in (sys.executable, getattr(sys, "_base_executable", None)):
        if candidate and Path(candidate).name.lower().startswith(("python", "pypy")):
            return candidate
    return None if getattr(sys, "frozen", False) else shutil.which("python3")


def _make_environment(python: str) -> dict[str, str]:
    """Make the child's environment: one thread for each library, and modules from where this process has them.

    With ``-m`` alone the working directory would come first, and whoever can write there could have a module of his
    own loaded in a process that holds the key; ``-P`` keeps it out (Python 3.11).
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    if python in (sys.executable, getattr(sys, "_base_executable", None)):
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if Path(path).is_absolute())
    return environment


def start_sealer(
    layout: Layout, keys: Keys, *, live: bool, wait: bool, low_priority: bool = True
) -> subprocess.Popen[bytes] | None:
    """Start a child that seals what the journals hold.

    Args:
        layout: The store's paths.
        keys: The store's keys.
        live: Whether complete lines of journals that are still owned are sealed too.
        wait: Whether the child waits for another sealer or leaves the work to it.
        low_priority: Whether it gives way to everything else on the machine.

    Returns:
        The child, or None where no Python can be started.
    """
    python = find_python()
    if python is None:
        return None
    request = {"store": str(layout.root.absolute()), "keys": keys.to_secret(), "live": live, "wait": wait}
    command = [python, "-P", "-m", "auditkit.sealing"]
    nice = shutil.which("nice") if low_priority else None
    if nice:
        command = [nice, "-n", "19", *command]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_make_environment(python),
    )
    assert child.stdin is not None
    child.stdin.write(orjson.dumps(request))
    child.stdin.close()
    child.stdin = None
    return child


def needs_sealing(layout: Layout) -> bool:
    """Tell whether the journals of dead writers have grown to be worth a sealing, or are of an earlier day."""
    parts = journal.list_parts(layout)
    day = today()
    count = size = 0
    for part in parts:
        writer_day = read_writer_day(part.writer)
        if journal.is_owned(part):
            continue
        if writer_day is not None and writer_day < day:
            return True
        count += 1
        try:
            size += part.path.stat().st_size
        except FileNotFoundError:
            continue
    return count >= DEAD_PARTS or size >= DEAD_BYTES


class Housekeeper:
    """A daemon thread that starts the sealer when it is asked to, and when the UTC day ends.

    Args:
        start: Starts a sealer and returns it.
        report: Called with what went wrong, in words.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes] | None], report: Callable[[str], None]) -> None:
        self._start = start
        self._report = report
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._pid = 0

    def _ensure_running(self) -> None:
        """Start the thread if it isn't running in this process; a forked child has none."""
        if self._pid != os.getpid() and not self._stopped:
            self._pid = os.getpid()
            self._wake = threading.Event()
            self._thread = threading.Thread(target=self._run, name="auditkit-housekeeper", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                # Too many threads, or the interpreter is ending; the next sealer takes the journals.
                self._pid = 0
                self._report(f"the thread that seals can't be started ({error})")

    def request(self) -> None:
        """Ask for a sealing soon; returns at once."""
        self._ensure_running()
        self._wake.set()

    def stop(self) -> None:
        """End the thread; a sealer that is running finishes by itself."""
        self._stopped = True
        if self._pid == os.getpid():  # in a forked child the event's lock may be one that nobody will ever release
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(_seconds_to_midnight())
            if self._stopped:
                return
            self._wake.clear()
            try:
                child = self._start()
                if child is None:
                    continue
                _, complaint = child.communicate()
                if child.returncode not in (0, None):
                    self._report(complaint.decode(errors="replace").strip()[-2000:])
            except OSError as error:
                self._report(f"the sealer can't be started ({error})")


def _seconds_to_midnight() -> float:
    now_us = time.time_ns() // 1000
    return (DAY_US - now_us % DAY_US) / 1e6 + AFTER_MIDNIGHT_SECONDS
