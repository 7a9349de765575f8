"""The query engine: one in-memory DuckDB a process, and a connection of its own for whoever needs one.

Making an instance costs some 20 ms, a connection to it a few microseconds. Views that are registered belong to their
connection alone.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from auditkit.conversion import is_interruption
from auditkit.errors import explain_missing

if TYPE_CHECKING:
    import pyarrow as pa

try:
    import duckdb
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

T = TypeVar("T")

MEMORY_LIMIT: Final = "4GB"
"""How much memory queries may take together; what doesn't fit goes to disk."""


class _Engine:
    """The instance of one process."""

    def __init__(self) -> None:
        # What doesn't fit into memory goes to a folder that nobody else may enter; it goes with the process.
        spill = tempfile.mkdtemp(prefix="auditkit-")
        self._clean_up = weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        self.instance: duckdb.DuckDBPyConnection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": spill,
            }
        )
        run(self.instance, lambda: self.instance.execute("SET GLOBAL TimeZone = 'UTC'"))

    def abandon(self) -> None:
        """Leave the parent's instance and its folder alone in a forked child.

        The instance's threads aren't there any more, and its end would wait for them, at the child's exit too. So it
        gets a reference that nobody gives back.
        """
        self._clean_up.detach()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.instance))


_engine: _Engine | None = None
_lock = threading.Lock()


def connect() -> duckdb.DuckDBPyConnection:
    """Open a connection that keeps to itself: no extensions are fetched, and no file is read that isn't named.

    Returns:
        A connection for one thread; closing it is the caller's.
    """
    global _engine
    with _lock:
        if _engine is None:
            _engine = _Engine()
        return _engine.instance.cursor()


def run(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Let a connection work, so that an interruption reaches the caller as what it is.

    DuckDB looks for signals itself while it works in the main thread. What a signal's handler raises then (Ctrl-C, a
    timeout) is lost, or comes back as an error of the query, which looks like damage. So the work is done in a thread
    of its own, and the main thread waits, where it can be interrupted as anywhere else. That holds for all it is asked
    for: it reads a registered table's schema with Python code, in which a handler would run as well.

    Args:
        connection: Whose work it is; an interruption stops it.
        work: What to do; it uses no other connection.

    Returns:
        What the work gave; what it raised is raised.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return work()
    task = _Task(work)
    try:
        try:
            # Not threading.Thread: an interruption in its start leaves its bookkeeping half done, which it prints.
            _thread.start_new_thread(task.run, ())
        except RuntimeError as error:
            if is_interruption(error):
                raise
            return work()  # at the interpreter's end no thread can be started any more
        task.done.acquire()
    except BaseException:
        task.stop(connection)
        raise
    return task.get()


class _Task(Generic[T]):
    """Work that another thread does."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._gate = threading.Lock()
        self._begun = self._cancelled = self._stopped = False
        # A bare lock: unlike Thread.join and Event.wait it has no code of its own that an interruption could split.
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        with self._gate:
            if self._cancelled:
                return
            self._begun = True
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error
        finally:
            self._stopped = True
            self.done.release()

    def stop(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Stop the work, or keep it from beginning: the interruption may have come while the thread was started.

        Its connection mustn't be closed under it, so its end is waited for, and a second Ctrl-C changes nothing. It is
        interrupted again and again: a query that begins only now would know nothing of it.
        """
        with self._gate:
            self._cancelled = True
        while self._begun and not self._stopped:
            with suppress(KeyboardInterrupt):
                connection.interrupt()
                time.sleep(0.001)

    def get(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


def register(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Let a connection's queries find a table under a name.

    Args:
        connection: Whose queries.
        name: The name, which hides an older table of that name.
        table: What they find.
    """
    run(connection, lambda: connection.register(name, table))


def limit_threads(count: int) -> None:
    """Hold all queries of this process to a number of threads."""
    with connect() as connection:
        run(connection, lambda: connection.execute(f"SET GLOBAL threads = {int(count)}"))


def _begin_anew() -> None:
    """Let a forked child make an instance of its own."""
    global _engine, _lock
    _lock = threading.Lock()
    if _engine is not None:
        _engine.abandon()
        _engine = None


os.register_at_fork(after_in_child=_begin_anew)
