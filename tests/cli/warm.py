"""A process that has imported what the command line needs, and forks for each call of it.

Most of the time of a call goes into importing pandas, pyarrow and DuckDB, and the tests make hundreds of calls. Each is
still a process of its own, with its own streams, environment and working directory, whose parent has run nothing
before. What is about the start of a process, or its signals, takes a fresh one.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
import traceback
from typing import NamedTuple

IMPORTED = (
    "cryptography.hazmat.primitives.asymmetric.ed25519", "duckdb", "jinja2", "numpy", "pandas", "plotly.graph_objects",
    "pyarrow.compute", "pyarrow.json", "pyarrow.parquet", "rich.progress", "rich.table",
    "auditkit.anchoring.publication", "auditkit.cli.program", "auditkit.demo", "auditkit.exporting",
    "auditkit.importing", "auditkit.integrity", "auditkit.receipts", "auditkit.report", "auditkit.scan",
    "auditkit.sealing", "auditkit.trail",
)  # fmt: skip


class Request(NamedTuple):
    """A call of the command line."""

    arguments: list[str]
    cwd: str
    env: dict[str, str]


def serve(link: socket.socket) -> None:
    """Fork for each request, and answer with its exit code; ends when nobody is left who asks."""
    for name in IMPORTED:
        importlib.import_module(name)
    while True:
        data, descriptors, _, _ = socket.recv_fds(link, 4, 3)
        if not data:
            return
        size = int.from_bytes(data, "big")
        request = Request(*json.loads(link.recv(size, socket.MSG_WAITALL)))
        child = os.fork()
        if child == 0:
            link.close()
            run(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        link.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def run(request: Request, descriptors: list[int]) -> None:
    """Be the process that was asked for."""
    code: object = 70
    try:
        os.setsid()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # As the interpreter makes them when it starts; those of the parent know what they were opened on.
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace", buffering=1)
        os.environ.clear()
        os.environ.update(request.env)
        time.tzset()
        os.chdir(request.cwd)
        sys.argv = ["auditkit", *request.arguments]
        from auditkit.cli import main

        main()
    except SystemExit as stop:
        code = stop.code
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        raise
    finally:
        os._exit(code if isinstance(code, int) else 70)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
