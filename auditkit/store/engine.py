"""The query engine: one in-memory DuckDB a process, and a connection of its own for whoever needs one.

Making an instance costs some 20 ms, a connection to it a few microseconds. Views that are registered belong to their
connection alone.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import threading
import weakref
from typing import Final

from auditkit.errors import explain_missing

try:
    import duckdb
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

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
        self.instance.execute("SET GLOBAL TimeZone = 'UTC'")

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


def limit_threads(count: int) -> None:
    """Hold all queries of this process to a number of threads."""
    with connect() as connection:
        connection.execute(f"SET GLOBAL threads = {int(count)}")


def _begin_anew() -> None:
    """Let a forked child make an instance of its own."""
    global _engine, _lock
    _lock = threading.Lock()
    if _engine is not None:
        _engine.abandon()
        _engine = None


os.register_at_fork(after_in_child=_begin_anew)
