"""Running the programs of `tests.recording.programs` as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import auditkit
from auditkit.trail import AuditTrail

SECRET = "a secret that only these tests know"

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).with_name("programs.py")


started: list[subprocess.Popen[str]] = []
"""What a test has started; the fixture `store` ends what is still running."""


def start(program: str, *arguments: object, under: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    """Start a program, perhaps under another; what it prints is read by the caller."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    variables = dict(os.environ)
    if program in ("interrupt", "interrupt_everything", "come_and_go"):
        # A coverage tracer that is interrupted in its own code hangs, and proves nothing about ours. A thousand
        # processes that do the same tell it nothing new, and take twice as long.
        variables = {name: value for name, value in variables.items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(
        [*under, sys.executable, str(PROGRAMS), program, *map(str, arguments)],
        env={**variables, "PYTHONPATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


def read_line(process: subprocess.Popen[str]) -> str:
    """Read the first line a program prints, and no byte more, so that `finish` gets the others."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"the program ended: {process.communicate()[1][-4000:]}"
        line += byte
    return line.decode().strip()


def finish(process: subprocess.Popen[str], *, code: int | None = 0) -> tuple[list[str], str]:
    """Wait for a program; gives the lines it printed and what stands on its stderr."""
    out, err = process.communicate(timeout=120)
    assert code is None or process.returncode == code, f"exit code {process.returncode}\n{out[-2000:]}\n{err[-4000:]}"
    return out.splitlines(), err


def run(
    program: str, *arguments: object, code: int | None = 0, under: Sequence[str] = (), **environment: str
) -> tuple[list[str], str]:
    """Run a program to its end."""
    return finish(start(program, *arguments, under=under, **environment), code=code)


def open_trail(store: Path) -> AuditTrail:
    """Open a store that was made with our secret."""
    return auditkit.open(store, secret_key=SECRET)


def read_ids(trail: AuditTrail, **filters: str) -> list[str]:
    """Give the ids of the application's events."""
    return [str(event_id) for event_id in trail.events(columns=["id"], **filters)["id"]]  # type: ignore[arg-type]


def check_sound(trail: AuditTrail, **counts: int) -> None:
    """Verify a store and demand that nothing is found; what is noted beyond missing anchors is counted by its kind."""
    verification = trail.verify()
    assert verification.ok, verification
    kinds = Counter(note.kind for note in verification.notes if note.kind != "unanchored")
    assert kinds == counts, verification


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
