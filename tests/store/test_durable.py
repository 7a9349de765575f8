"""Durable writes and locks, with real files, processes and signals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from auditkit.store import durable
from tests.recording.running import wait_until


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_and_folders_are_their_owners_alone(tmp_path: Path, mask: int) -> None:
    """Whatever the umask, files have mode 0600 and folders 0700, those above them too."""
    with umask(mask):
        durable.make_folder(tmp_path / "a" / "b" / "c")
        assert durable.create_file(tmp_path / "a" / "created", b"x")
        durable.replace_file(tmp_path / "a" / "replaced", b"x")
        with durable.hold_lock(tmp_path / "a" / "lock"):
            pass
    for folder in ("a", "a/b", "a/b/c"):
        assert mode_of(tmp_path / folder) == 0o700
    for file in ("created", "replaced", "lock"):
        assert mode_of(tmp_path / "a" / file) == 0o600


def test_the_first_of_several_creators_wins(tmp_path: Path) -> None:
    """Thirty-two threads create one file; one does, its content is whole, and nothing else is left."""
    path = tmp_path / "file"
    contents = [str(number).encode() * 1000 for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda content: durable.create_file(path, content), contents))
    assert made.count(True) == 1
    assert path.read_bytes() == contents[made.index(True)]
    assert names_in(tmp_path) == ["file"]


def test_readers_see_the_old_content_or_the_new(tmp_path: Path) -> None:
    """A file that is replaced again and again is never seen half-written, and never absent."""
    path = tmp_path / "file"
    durable.create_file(path, b"0" * 100_000)
    done = threading.Event()

    def replace() -> None:
        for number in range(60):
            durable.replace_file(path, str(number % 10).encode() * 100_000)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    seen = 0
    while not done.is_set():
        content = path.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
        seen += 1
    writer.join()
    assert seen
    assert names_in(tmp_path) == ["file"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file larger than the system allows raises, and neither a part of it nor the old content's end is there."""
    program = (
        "import pathlib, resource, signal, sys\n"
        "from auditkit.store import durable\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for act in (durable.create_file, durable.replace_file):\n"
        "    try:\n"
        "        act(folder / 'file', b'x' * 10_000)\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
    )
    (tmp_path / "file").write_bytes(b"old")
    root = Path(__file__).parents[2]
    finished = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=root, capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines() == ["File too large", "File too large"]
    assert names_in(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_publishing_never_replaces_and_can_be_repeated(tmp_path: Path) -> None:
    """A finished file appears under its name; what is already there stays, and the source goes."""
    for content in (b"first", b"second"):
        source = tmp_path / "source"
        source.write_bytes(content)
        durable.publish_file(source, tmp_path / "target")
        assert names_in(tmp_path) == ["target"]
    assert (tmp_path / "target").read_bytes() == b"first"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A lock file that somebody made a link to another file is refused."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), durable.hold_lock(tmp_path / "lock"):
        pass
    assert not durable.create_file(tmp_path / "lock", b"x")
    assert victim.read_bytes() == b"precious"


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Eight threads take turns: what one reads, nobody changes before it has written."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(_: int) -> None:
        for _ in range(25):
            with durable.hold_lock(tmp_path / "lock") as held:
                assert held
                number = int(counter.read_text())
                time.sleep(0)
                counter.write_text(str(number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert counter.read_text() == "200"


def test_a_lock_that_is_held_can_be_left_to_its_holder(tmp_path: Path) -> None:
    """Without waiting, a taken lock is told, and free again afterwards."""
    with durable.hold_lock(tmp_path / "lock"):
        with durable.hold_lock(tmp_path / "lock", wait=False) as held:
            assert not held
        # Leaving without having held it hasn't freed it.
        with durable.hold_lock(tmp_path / "lock", wait=False) as held:
            assert not held
    with durable.hold_lock(tmp_path / "lock", wait=False) as held:
        assert held


HOLD = """
import os, pathlib, sys, time
from auditkit.store import durable
with durable.hold_lock(pathlib.Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() == 0:
        sys.stdout.close()
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    if sys.argv[2] == "sleep":
        time.sleep(60)
print("free", flush=True)
sys.stdin.read()
"""


def start_holder(lock: Path, what: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, lock, what],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    """After kill -9 the next one has the lock at once."""
    with start_holder(tmp_path / "lock", "sleep") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with durable.hold_lock(tmp_path / "lock", wait=False) as held:
            assert not held
        holder.kill()
        holder.wait()
        with durable.hold_lock(tmp_path / "lock") as held:
            assert held


def can_be_taken(lock: Path) -> bool:
    with durable.hold_lock(lock, wait=False) as held:
        return bool(held)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A child that was forked while the lock was held has the file open; the lock goes with its holder nevertheless."""
    with start_holder(tmp_path / "lock", "fork") as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            assert holder.stdout.readline() == "free\n"
            # The child may not have come to its first step yet.
            wait_until(lambda: can_be_taken(tmp_path / "lock"), seconds=20)
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_child_that_was_forked_inside_of_a_lock_leaves_it_to_its_parent(tmp_path: Path) -> None:
    """Its code runs on behind what the lock was for, and that frees nothing."""
    child = -1
    try:
        with durable.hold_lock(tmp_path / "lock"):
            child = os.fork()
            if child:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if child == 0:
            with durable.hold_lock(tmp_path / "lock", wait=False) as held:
                os._exit(1 if held else 0)
    finally:
        if child == 0:
            os._exit(2)
    with durable.hold_lock(tmp_path / "lock", wait=False) as held:
        assert held


def test_a_fork_while_another_thread_takes_and_frees_a_lock(tmp_path: Path) -> None:
    """At whatever moment the children are forked: none of them has the lock, as long as they live."""
    going = threading.Event()
    going.set()
    taken = count()

    def take_turns() -> None:
        while going.is_set():
            with durable.hold_lock(tmp_path / "lock"):
                next(taken)

    children: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        turns = pool.submit(take_turns)
        try:
            for _ in range(200):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    child = os.fork()
                if child == 0:
                    time.sleep(60)
                    os._exit(0)
                children.append(child)
            before = next(taken)
            wait_until(lambda: next(taken) > before + 1000, seconds=20)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                os.waitpid(child, 0)
            going.clear()
            turns.result()
