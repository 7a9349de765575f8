"""Running the real command line: as a process with pipes, and as a process on a terminal of 80 columns."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.cells import cell_len

from tests.cli.warm import Request

COMMAND = [sys.executable, "-m", "auditkit"]

_SGR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Finished:
    """What a process did."""

    code: int
    out: str
    err: str


class _Warm:
    """The warm process of this test process; see `tests.cli.warm`."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.warm", str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End it: nobody asks any more."""
        self._link.close()
        self._process.wait()

    def run(self, arguments: Sequence[str], cwd: Path | None, env: dict[str, str], streams: list[int]) -> int:
        """Call the command line with these streams; gives its exit code."""
        request = json.dumps(Request(list(arguments), str(cwd or Path.cwd()), env)).encode()
        socket.send_fds(self._link, [len(request).to_bytes(4, "big")], streams)
        self._link.sendall(request)
        return int.from_bytes(self._link.recv(4, socket.MSG_WAITALL), "big", signed=True)


@cache
def _start_warm(_test_process: int) -> _Warm:
    return _Warm()


def _is_fresh(env: dict[str, str]) -> bool:
    """Tell whether a call needs an interpreter of its own: one that reads these variables only when it starts."""
    return any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env)


def run_cli(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Finished:
    """Run auditkit with pipes, as a script does."""
    words, env = [*map(str, arguments)], env or {}
    if not _is_fresh(env):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            code = _start_warm(os.getpid()).run(words, cwd, {**os.environ, **env}, streams)
            out.seek(0)
            err.seek(0)
            return Finished(code, out.read().decode(), err.read().decode())
    finished = subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return Finished(finished.returncode, finished.stdout.decode(), finished.stderr.decode())


def run_on_terminal(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    columns: int = 80,
) -> Finished:
    """Run auditkit with standard output on a terminal; standard error stays a pipe, to tell the two apart."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
    pieces: list[bytes] = []
    reader = threading.Thread(target=_read_terminal, args=(master, pieces))
    reader.start()
    with tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = [nothing.fileno(), slave, err.fileno()]
        code = _start_warm(os.getpid()).run([*map(str, arguments)], cwd, environment, streams)
        os.close(slave)
        reader.join()
        os.close(master)
        err.seek(0)
        # The terminal puts a CR before each LF, behind the one that CSV lines have already.
        out = re.sub(r"\r+\n", "\n", b"".join(pieces).decode())
        return Finished(code, out, err.read().decode())


def _read_terminal(master: int, pieces: list[bytes]) -> None:
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the last writer has closed the terminal
            return
        if not piece:
            return
        pieces.append(piece)


def strip_styles(text: str) -> str:
    """Leave out colours and bold type; whatever other escape sequence there is stays, to be found."""
    return _SGR.sub("", text)


def find_unprintable(text: str) -> list[str]:
    """List the characters that a terminal could act on, line ends apart."""
    return sorted({character for character in text if not character.isprintable() and character != "\n"})


def find_wide_lines(text: str, columns: int = 80) -> list[str]:
    """List the lines that a terminal would wrap."""
    return [line for line in text.split("\n") if cell_len(line) > columns]
