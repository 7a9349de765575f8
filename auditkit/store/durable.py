"""Durable writes, wary reads, and locks: the one place that knows what a file system guarantees.

| step | what it gives | the hole that remains |
|---|---|---|
| `create_file` | the file is there whole or not at all; the first of several creators wins | none after it returned |
| `replace_file` | readers see the old content or the new, never a mixture | none after it returned |
| `publish_file` | a finished file appears under a new name, never over an existing one | until its folder is synced |
| `hold_lock` | one holder at a time; a killed holder frees it at once | not across network file systems without locks |

A rename without the file's own sync can leave an empty file after a power loss, without the folder's sync it can
leave the old name: so both are synced, in that order. After a failed fsync nothing is known of the file's content and
a second fsync may report success over lost data (PostgreSQL's "fsyncgate", 2018): the error is raised, never retried.

Whoever can write to a folder can put anything under a file's name. `open_regular` opens a regular file and nothing
else: a pipe would keep its reader waiting for ever, a link would lead elsewhere, a device would fill the memory.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from auditkit.errors import AuditError, StoreDamaged

_BESIDE = re.compile(r"\.(.+)\.[0-9a-f]{12}", re.DOTALL)
"""Names that `_write_beside` gives."""

CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW

_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(
    path: Path, what: str, error: type[AuditError] = StoreDamaged, *, follow: bool = False, limit: int | None = None
) -> BinaryIO:
    """Open a regular file for reading, and nothing else that bears its name: it neither waits nor leads elsewhere.

    Args:
        path: Where the file lies.
        what: What it should be, with its article, for the message.
        error: What to raise if something else lies there.
        follow: Whether a symbolic link is followed. What it leads to must be a regular file all the same.
        limit: Longest length that is believed, in bytes; None for any.

    Returns:
        The open file, at its beginning.

    Raises:
        StoreDamaged: Or what ``error`` says, if it isn't a regular file or is longer than the limit.
        OSError: If it isn't there or the system refuses to open it.

    Example:
        >>> try:
        ...     open_regular(Path("/dev/null"), "a journal")
        ... except StoreDamaged as error:
        ...     print(str(error).partition(":")[0])
        expected a journal in a regular file at /dev/null, found a device
    """
    try:
        # The opener's descriptor is the file's from the beginning: handed over by a call of its own, an interruption
        # behind that call would have it closed twice, the second time perhaps as another file's.
        file = io.BufferedReader(io.FileIO(path, opener=_open_following if follow else _open_plainly))
    except OSError as problem:
        # A folder, a link that isn't followed (or leads to itself), and a socket can't be opened at all.
        if problem.errno not in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise
        found = path.stat(follow_symlinks=follow and problem.errno != errno.ELOOP)
        raise error(_tell_strange(path, what, found)) from problem
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise error(_tell_strange(path, what, found))
        if limit is not None and found.st_size > limit:
            raise error(_tell_long(path, what, limit, found.st_size))
    except BaseException:
        file.close()
        raise
    return file


def _open_plainly(path: str, _flags: int) -> int:
    return os.open(path, _READ_FLAGS | os.O_NOFOLLOW)


def _open_following(path: str, _flags: int) -> int:
    return os.open(path, _READ_FLAGS)


def _tell_strange(path: Path, what: str, found: os.stat_result) -> str:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
    return f"expected {what} in a regular file at {path}, found {kind}: move it away and restore the file from a backup"


def _tell_long(path: Path, what: str, limit: int, size: int) -> str:
    return (
        f"expected {what} of at most {limit:,} bytes at {path}, found {size:,}: "
        "move it away and restore the file from a backup"
    )


def read_regular(
    path: Path, what: str, limit: int, error: type[AuditError] = StoreDamaged, *, follow: bool = False
) -> bytes:
    """Read the whole of a regular file that is no longer than it can be; see `open_regular`."""
    with open_regular(path, what, error, follow=follow, limit=limit) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)
        if len(data) > size:  # it has grown, or its file system doesn't know lengths
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:
        raise error(_tell_long(path, what, limit, len(data)))
    return data


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, however often the system takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def hand_over(descriptor: int, example: Path) -> None:
    """Give a file or folder that root has made to the owner of another one, as if that owner had made it.

    ``sudo auditkit seal`` would otherwise leave files that the application can't read any more. Everybody else owns
    what they make, and a root that may not give files away (a container without CAP_CHOWN) leaves them as they are.

    Args:
        descriptor: What was just made, open.
        example: Whose owner and group it gets: the folder it is in, or the file that it replaces.
    """
    if os.geteuid() != 0:
        return
    owner = example.stat()
    with suppress(PermissionError):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def finish_file(path: Path) -> None:
    """Make a file that a library has written durable, and its owner's alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, 0o600)
        hand_over(descriptor, path.parent)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(beside, CREATE_FLAGS, mode)
    try:
        hand_over(descriptor, path if path.is_file() else path.parent)
        write_all(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return beside


def read_leftover_name(name: str) -> str | None:
    """Read for which file a temporary one was written; None if it isn't one.

    Example:
        >>> read_leftover_name(".store.json.0123456789ab")
        'store.json'
    """
    match = _BESIDE.fullmatch(name)
    return match[1] if match else None


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes were writing beside the files of a folder; nobody may be writing there now.

    What can't be removed stays: a folder that somebody gave such a name keeps nobody from going on.

    Args:
        folder: The folder; it needn't be there.
        name: The file whose leftovers are meant, None for those of every file.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            meant = read_leftover_name(path.name)
            if meant is not None and name in (None, meant):
                with suppress(OSError):
                    path.unlink()


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
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hand_over(descriptor, path.parent)
        finally:
            os.close(descriptor)
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


class FileLock(io.FileIO):
    """The lock that a file stands for, true if it was taken; the end of its ``with`` lets go of it.

    A ``with`` begins and ends in the file's own code, which isn't Python, so no exception of a signal handler can come
    into it: whoever keeps such an exception, as Jupyter does, keeps the frames it came through, and with them the lock.
    """

    def __init__(self, path: Path, *, wait: bool) -> None:
        super().__init__(path, "r+", opener=_open_lock)
        try:
            hand_over(self.fileno(), path.parent)
            if wait:
                fcntl.flock(self.fileno(), fcntl.LOCK_EX)
            self._held = wait or try_lock(self.fileno())
        except BaseException:
            self.close()
            raise

    def __bool__(self) -> bool:
        return self._held


_lock_files: Final[set[tuple[int, int]]] = set()
"""Device and number of every lock file that was ever open here."""


def _open_lock(path: str, _flags: int) -> int:
    """Open a lock file whose descriptors a forked child will know: one that may be locked is opened only then."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) in _lock_files:
            return descriptor
        _lock_files.add((found.st_dev, found.st_ino))
        os.close(descriptor)


def _let_go() -> None:
    """Take its parent's locks from a forked child, which would keep them all its life; its code may go on in one.

    The descriptors are asked, not the objects: another thread of the parent was perhaps just opening or closing one.
    """
    if not _lock_files:
        return
    nothing, other = os.pipe()
    for descriptor in _list_descriptors():
        with suppress(OSError):
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) in _lock_files:
                os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    os.close(other)


def _list_descriptors() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return list(range(os.sysconf("SC_OPEN_MAX")))


os.register_at_fork(after_in_child=_let_go)


def hold_lock(path: Path, *, wait: bool = True) -> FileLock:
    """Take the lock that a file stands for, making the file if it isn't there; to be used in a ``with``.

    Args:
        path: The lock file; it stays, since removing it would let two holders in.
        wait: Whether to wait for another holder.

    Returns:
        What holds the lock until the end of its ``with``, and is true if it was taken: always so when waiting.
    """
    return FileLock(path, wait=wait)
