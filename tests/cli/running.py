"""Running the real command line: as a process with pipes, and as a process on a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

COMMAND = [sys.executable, "-m", "auditkit"]

_SGR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Finished:
    """What a process did."""

    code: int
    out: str
    err: str


def run_cli(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Finished:
    """Run auditkit with pipes, as a script does."""
    finished = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
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
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(slave)
    pieces = []
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the last writer has closed the terminal
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(master)
    _, err = process.communicate()
    # The terminal puts a CR before each LF, behind the one that CSV lines have already.
    out = re.sub(r"\r+\n", "\n", b"".join(pieces).decode())
    return Finished(process.returncode, out, err.decode())


def strip_styles(text: str) -> str:
    """Leave out colours and bold type; whatever other escape sequence there is stays, to be found."""
    return _SGR.sub("", text)


def find_unprintable(text: str) -> list[str]:
    """List the characters that a terminal could act on, line ends apart."""
    return sorted({character for character in text if not character.isprintable() and character != "\n"})


def find_wide_lines(text: str, columns: int = 80) -> list[str]:
    """List the lines that a terminal would wrap."""
    return [line for line in text.split("\n") if cell_len(line) > columns]
