"""Sealing in a process of its own, perhaps under strace, which kills it at a chosen system call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from tests.integrity.stores import CHECKOUT, Site

SYSTEM_CALLS = {
    "mkdir": "mkdir,mkdirat",
    "fsync": "fsync,fdatasync",
    "rename": "rename,renameat,renameat2",
    "link": "link,linkat",
    "unlink": "unlink,unlinkat",
    "chmod": "chmod,fchmod,fchmodat",
}
"""What a sealer changes the store with, besides writing to files that nobody reads yet."""


def find_strace() -> str:
    """Return strace's path, or skip the test where it isn't or can't trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace isn't installed: it kills the sealer at a chosen system call")
    probe = subprocess.run([strace, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"strace can't trace here: {probe.stderr.decode()[-200:]}")
    return strace


def start_sealer(
    site: Site, *, live: bool = True, wait: bool = True, under: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a sealer as an application does, without waiting for it."""
    request = {"store": str(site.path), "keys": {"key_file": str(site.key_file)}, "live": live, "wait": wait}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [*under, sys.executable, "-m", "auditkit.sealing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(request))
    process.stdin.close()
    process.stdin = None
    return process


def run_sealer(
    site: Site, *, live: bool = True, wait: bool = True, under: Sequence[str] = ()
) -> tuple[int, bytes, str]:
    """Run a sealer to its end: exit code, output, complaints."""
    process = start_sealer(site, live=live, wait=wait, under=under)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.decode()


def count_calls(site: Site, strace: str, log: Path) -> dict[str, int]:
    """Seal under strace and count how often each kind of system call was made."""
    wanted = ",".join(SYSTEM_CALLS.values())
    code, _, complaint = run_sealer(site, under=[strace, "-f", "-qq", "-o", str(log), "-e", f"trace={wanted}"])
    assert code == 0, complaint
    names = [line.split("(")[0].split()[-1] for line in log.read_text().splitlines() if "(" in line]
    return {kind: sum(name in calls.split(",") for name in names) for kind, calls in SYSTEM_CALLS.items()}


def kill_at(kind: str, number: int, strace: str) -> list[str]:
    """Say how to run a program that is killed when it enters its n-th system call of a kind."""
    calls = SYSTEM_CALLS[kind]
    return [
        strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
        "-e", f"inject={calls}:signal=KILL:when={number}",
    ]  # fmt: skip
