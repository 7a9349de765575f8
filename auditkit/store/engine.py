"""The query engine: one in-memory DuckDB a process, and a connection of its own for whoever needs one.

Making an instance costs some 20 ms, a connection to it a few microseconds. Views that are registered belong to their
connection alone.
"""

from __future__ import annotations

import os
import tempfile
import threading
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
        self.pid = os.getpid()
        # What doesn't fit into memory goes to a folder that nobody else may enter; it goes with the process.
        self._spill = tempfile.TemporaryDirectory(prefix="auditkit-")
        self.instance: duckdb.DuckDBPyConnection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": self._spill.name,
            }
        )
        self.instance.execute("SET GLOBAL TimeZone = 'UTC'")


_engine: _Engine | None = None
_lock = threading.Lock()


def connect() -> duckdb.DuckDBPyConnection:
    """Open a connection that keeps to itself: no extensions are fetched, and no file is read that isn't named.

    Returns:
        A connection for one thread; closing it is the caller's.
    """
    global _engine
    with _lock:
        # A forked child inherits the instance without its threads, so it makes its own.
        if _engine is None or _engine.pid != os.getpid():
            _engine = _Engine()
        return _engine.instance.cursor()


def limit_threads(count: int) -> None:
    """Hold all queries of this process to a number of threads."""
    with connect() as connection:
        connection.execute(f"SET GLOBAL threads = {int(count)}")


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
