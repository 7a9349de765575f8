"""What lies in a file's place and isn't that file: no reader waits for it, follows it, or fills the memory with it.

Each reader runs in a process of its own, with little memory and a limit on its time: what is tested is that it ends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from auditkit.errors import StoreDamaged
from auditkit.store import durable

ROOT = Path(__file__).parents[2]
PART = "journal/20261123-aaaaaaaaaaaaaaaa.000000.jsonl"
COMMIT = "ledger/00000001.commit"
KEY = "keys/store.key"

FOUND = {
    "pipe": "found a pipe: move it away",
    "folder": "found a folder: move it away",
    "socket": "found a socket: move it away",
    "link": "found a symbolic link: move it away",
    "device": "found a device: move it away",
    "giant": "found 1,099,511,627,776",
}

READ = """
import pathlib, resource, sys
from auditkit.errors import AuditError
from auditkit.store import journal, ledger
from auditkit.store.description import read_description
from auditkit.store.journal import Part
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
path = pathlib.Path(sys.argv[1])
if path.name == "store.json":
    acts = [lambda: read_description(Layout(path.parent))]
elif path.suffix == ".commit":
    acts = [lambda: ledger.read_commit(Layout(path.parents[1]), 1)]
elif path.suffix == ".jsonl":
    part = Part(path, path.name.partition(".")[0], 0)
    acts = [lambda: journal.read_part(part)]
    if sys.argv[2] != "giant":
        acts += [lambda: journal.is_owned(part), lambda: journal.remove_part(part, 0)]
else:
    acts = [lambda: KeyFile(path)]
for act in acts:
    try:
        act()
    except AuditError as error:
        print(type(error).__name__, error)
"""


def read(path: Path, kind: str) -> list[str]:
    """Read what lies there in another process; returns what it says, a line for each try."""
    finished = subprocess.run(
        [sys.executable, "-c", READ, path, kind], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout.splitlines()


def plant(path: Path, kind: str) -> None:
    """Put something of a kind in a file's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "link":
        (path.parent / "target").write_text("{}\n")
        path.symlink_to("target")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "link", "giant"])
@pytest.mark.parametrize("place", ["store.json", COMMIT, PART])
def test_what_is_no_file_of_the_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    """The error is ours, says what lies there and what to do, and comes at once."""
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    plant(Path(place), kind)
    said = read(tmp_path / place, kind)
    assert len(said) == (3 if place == PART and kind != "giant" else 1)
    for line in said:
        assert line.startswith("StoreDamaged expected ")
        assert str(tmp_path / place) in line
        assert FOUND[kind] in line


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "giant"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A key file may be a link, and what the link leads to must be a file all the same."""
    monkeypatch.chdir(tmp_path)
    plant(Path(KEY), kind)
    (line,) = read(tmp_path / KEY, kind)
    assert line.startswith("KeyMismatch expected an auditkit key file ")
    assert str(tmp_path / KEY) in line
    assert FOUND[kind] in line


def test_a_file_that_grows_while_it_is_read_is_read_to_its_limit(tmp_path: Path) -> None:
    """A file system that doesn't know a file's length gives it whole, and one that never ends is refused."""
    status = Path("/proc/self/status")
    assert status.stat().st_size == 0
    assert durable.read_regular(status, "a status", 1 << 20).startswith(b"Name:")
    with pytest.raises(StoreDamaged, match="expected a status of at most 10 bytes at /proc/self/status, found 11"):
        durable.read_regular(status, "a status", 10)
