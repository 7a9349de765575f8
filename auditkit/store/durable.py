"""Durable writes and locks: the one place that knows what a file system guarantees.

| step | what it gives | the hole that remains |
|---|---|---|
| `create_file` | the file is there whole or not at all; the first of several creators wins | none after it returned |
| `replace_file` | readers see the old content or the new, never a mixture | none after it returned |
| `publish_file` | a finished file appears under a new name, never over an existing one | until its folder is synced |
| `hold_lock` | one holder at a time; a killed holder frees it at once | not across network file systems without locks |

A rename without the file's own sync can leave an empty file after a power loss, without the folder's sync it can
leave the old name: so both are synced, in that order. After a failed fsync nothing is known of the file's content and
a second fsync may report success over lost data (PostgreSQL's "fsyncgate", 2018): the error is raised, never retried.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BESIDE = re.compile(r"\..+\.[0-9a-f]{12}")
"""Names that `_write_beside` gives."""

CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a finished file's content durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, however often the system takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(beside, CREATE_FLAGS, mode)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return beside


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing beside the files of a folder; nobody may be writing there now."""
    if folder.is_dir():
        for path in folder.iterdir():
            if _BESIDE.fullmatch(path.name):
                path.unlink(missing_ok=True)


def create_file(path: Path, data: bytes, mode: int = 0o600) -> bool:
    """Put a file there if none is: link(2) fails where rename(2) would replace without a word.

    Args:
        path: Where the file goes; its folder exists.
        data: Its whole content.
        mode: Its permissions.

    Returns:
        True if this call made it, False if a file of that name was there already.
    """
    beside = _write_beside(path, data, mode)
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    sync_folder(path.parent)
    return True


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file's content in one step."""
    beside = _write_beside(path, data, mode)
    try:
        os.rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish_file(source: Path, target: Path) -> None:
    """Move a finished, synced file to its final name; repeating it after a crash gives the same result."""
    with suppress(FileExistsError):
        os.link(source, target)
    source.unlink()


def make_folder(path: Path) -> None:
    """Make a folder (and what stands above it) that only its owner may enter, and make its name durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    sync_folder(path.parent)


def try_lock(descriptor: int) -> bool:
    """Take an open file's lock if nobody holds it.

    flock(2) and not lockf: a POSIX record lock is lost when any descriptor of the file is closed in the process.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock that a file stands for, making the file if it isn't there.

    Letting go is said to the system: a child that was forked meanwhile has the file open too, and a mere close here
    would leave the lock with it for its whole life. The child, if it comes here, only closes: it holds nothing.

    Args:
        path: The lock file; it stays, since removing it would let two holders in.
        wait: Whether to wait for another holder.

    Yields:
        Whether the lock was taken: always True when waiting.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    owner = os.getpid()
    try:
        if wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
        else:
            yield try_lock(descriptor)
    finally:
        if os.getpid() == owner:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
