"""Pins: what a user saw last is remembered outside the store, and only goes on."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditkit import note
from auditkit.anchoring.pins import (
    MAX_COMMITS,
    Pin,
    PinnedCommit,
    locate_pin,
    make_pin,
    read_pin,
    replace_pin,
    write_pin,
)
from auditkit.errors import StoreDamaged
from tests.integrity.stores import CHECKOUT

STORE, OTHER = "sitesitesitesite", "otherotherothers"


def make(size: int, store: str = STORE, root: bytes = bytes(32), commits: int = 3) -> Pin:
    """Make the pin of a tree of so many leaves."""
    listed = [
        PinnedCommit(number + 1, size - commits + number + 1, root, 1_000_000 * number, 1, 5, 6)
        for number in range(commits)
    ]
    origin = f"auditkit/{store}"
    signed = note.sign_note(note.format_checkpoint(note.Checkpoint(origin, size, root)), origin, bytes(32))
    return make_pin(store, signed, listed)


def test_a_pin_is_read_as_it_was_written(isolated_user: Path) -> None:
    """In the user's state folder, its owner's alone; the newest hundred commits are named."""
    assert read_pin(STORE) is None
    pin = make(500, commits=MAX_COMMITS + 50)
    write_pin(pin)
    assert read_pin(STORE) == pin
    assert len(pin.commits) == MAX_COMMITS
    assert pin.newest.size == 500
    path = locate_pin(STORE)
    assert path.parent == isolated_user / ".local" / "state" / "auditkit" / "checkpoints"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_pin(OTHER) is None


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(3, 1 << 50), min_size=1, max_size=8))
def test_a_pin_never_goes_back(isolated_user: Path, sizes: list[int]) -> None:
    """Whatever is seen in whatever order, the largest tree stays; only a replacement takes a smaller one."""
    locate_pin(STORE).unlink(missing_ok=True)
    for size in sizes:
        write_pin(make(size))
    pin = read_pin(STORE)
    assert pin is not None
    assert pin.newest.size == max(sizes)
    replace_pin(make(3))
    pin = read_pin(STORE)
    assert pin is not None
    assert pin.newest.size == 3


def test_the_first_history_of_a_size_stays() -> None:
    """Another tree of the same size is no news."""
    write_pin(make(7))
    write_pin(make(7, root=bytes([1]) * 32))
    pin = read_pin(STORE)
    assert pin is not None
    assert pin.newest.root == bytes(32)


PINNING = """
import sys
from auditkit.anchoring.pins import write_pin
from tests.anchoring.test_pins import make
for size in range(int(sys.argv[1]), 200, 2):
    write_pin(make(size))
"""


def test_verifications_that_pin_at_once_take_turns() -> None:
    """Real processes that write at the same time: the newest stays, and nothing is left beside it."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PINNING, str(start)], cwd=CHECKOUT, env={**os.environ})
        for start in (150, 151)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    pin = read_pin(STORE)
    assert pin is not None
    assert pin.newest.size == 199
    names = sorted(path.name for path in locate_pin(STORE).parent.iterdir())
    assert names == [f"{STORE}.json", f"{STORE}.json.lock"]


def write_fields(**changes: object) -> None:
    """Put a changed pin into the place of the user's."""
    replace_pin(make(9))
    path = locate_pin(STORE)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


COMMIT = [3, 9, "00" * 32, 1, 1, None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"auditkit": "key"},
        {"v": 2},
        {"store": OTHER},
        {"seen": "yesterday"},
        {"seen": 1 << 62},
        {"seen": -(1 << 62)},
        {"seen": 1.5},
        {"checkpoint": "no note"},
        {"checkpoint": 7},
        {"checkpoint": make(9, OTHER).checkpoint},
        {"checkpoint": make(8).checkpoint},
        {"commits": []},
        {"commits": 7},
        {"commits": [[1]]},
        {"commits": [[*COMMIT[:2], "11" * 32, *COMMIT[3:]]]},
        {"commits": [[*COMMIT[:2], "zz", *COMMIT[3:]]]},
        {"commits": [[*COMMIT[:2], None, *COMMIT[3:]]]},
        {"commits": [[-3, *COMMIT[1:]]]},
        {"commits": [[*COMMIT[:3], 1 << 62, *COMMIT[4:]]]},
        {"commits": [[*COMMIT[:4], -1, *COMMIT[5:]]]},
        {"commits": [[*COMMIT[:5], 1 << 62, 1 << 62]]},
        {"commits": [[True, *COMMIT[1:]]]},
    ],
)
def test_a_damaged_or_foreign_pin_is_told_and_never_overwritten(changes: dict[str, object]) -> None:
    """It may have been damaged to hide a removal: what a verification sees doesn't take its place."""
    write_fields(**changes)
    before = locate_pin(STORE).read_bytes()
    with pytest.raises(StoreDamaged, match="expected the pinned checkpoint of store") as caught:
        read_pin(STORE)
    assert str(locate_pin(STORE)) in str(caught.value)
    with pytest.raises(StoreDamaged):
        write_pin(make(20))
    assert locate_pin(STORE).read_bytes() == before
    replace_pin(make(20))
    assert read_pin(STORE) is not None


@pytest.mark.parametrize("data", [b"", b"\0" * 50, b"[]", b"null", b"[" * 9999, b"\xff", b" " * (5 << 20)])
def test_anything_else_in_its_place_is_no_pin(data: bytes) -> None:
    """Whatever lies there, the error is ours."""
    replace_pin(make(3))
    locate_pin(STORE).write_bytes(data)
    with pytest.raises(StoreDamaged):
        read_pin(STORE)


def test_a_pipe_in_its_place_keeps_nobody_waiting() -> None:
    """Nor does a folder, or a link to a device."""
    replace_pin(make(3))
    path = locate_pin(STORE)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreDamaged, match="a pipe"):
        read_pin(STORE)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreDamaged, match="a folder"):
        read_pin(STORE)
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(StoreDamaged, match="a device"):
        read_pin(STORE)


def test_a_file_in_the_place_of_the_folder_is_no_pin(isolated_user: Path) -> None:
    """Reading finds none, writing says why it can't."""
    folder = isolated_user / ".local" / "state"
    folder.parent.mkdir(parents=True)
    folder.write_text("x")
    assert read_pin(STORE) is None
    with pytest.raises(OSError, match="Not a directory"):
        write_pin(make(3))


def test_without_a_home_folder_nothing_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have none: reading finds none, writing says what to set, the working folder stays."""
    for variable in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    child = os.fork()
    if not child:
        os.setuid(54321)
        try:
            found = read_pin(STORE)
            write_pin(make(3))
        except OSError as error:
            os._exit(0 if found is None and "$XDG_STATE_HOME" in str(error.strerror) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert not list(tmp_path.iterdir())


def test_a_pin_is_of_what_its_checkpoint_covers() -> None:
    """One that isn't can't be read back."""
    pin = make(9)
    replace_pin(replace(pin, commits=pin.commits[:-1]))
    with pytest.raises(StoreDamaged):
        read_pin(STORE)
