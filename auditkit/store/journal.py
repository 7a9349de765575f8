"""Journals: append-only files of lines, one writer's part each, locked by their owner while it lives.

One file for each writing process, never a shared one: a process killed inside a large append leaves a torn line, and
in a file of its own that line can only be the last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from auditkit.errors import StoreDamaged
from auditkit.store import durable
from auditkit.store.layout import Layout, read_part_name

MAX_PART_BYTES: Final = 4 << 30
"""Largest part that is read whole; sealing takes larger ones too, piece by piece."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True)
class Part:
    """One journal file as found on disk.

    Attributes:
        path: Where it lies.
        writer: Id of its writer.
        number: Place among the writer's parts, from 0.
    """

    path: Path
    writer: str
    number: int


def open_part(layout: Layout, writer: str, number: int) -> tuple[int, int]:
    """Make and lock a new part for its owner.

    A sealer may see the file between its making and its locking, take it for a dead writer's, and remove it while it
    is empty. So the lock is waited for, and the path must still name the locked file; otherwise the next number is
    taken, as it is when a call that was interrupted has left a file of that name.

    Args:
        layout: The store's paths.
        writer: Id of the writer.
        number: Wanted place among its parts.

    Returns:
        The open descriptor, and the number that was taken.

    Raises:
        OSError: If the file can't be made.
    """
    while True:
        path = layout.part(writer, number)
        try:
            descriptor = os.open(path, _FLAGS, 0o600)
        except FileExistsError:
            number += 1
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                path.unlink(missing_ok=True)  # a file system without locks must not be filled with empty files
                raise
            if _names(path, descriptor):
                durable.hand_over(descriptor, layout.journal)
                return descriptor, number
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        number += 1


def _names(path: Path, descriptor: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def list_parts(layout: Layout) -> list[Part]:
    """List the journal's parts, by writer and number.

    Files of other names are not the journal's, and neither are links, pipes and folders: opening a planted pipe would
    wait for ever. `auditkit.integrity` reports them.
    """
    try:
        with os.scandir(layout.journal) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in sorted(names):
        parsed = read_part_name(name)
        if parsed is not None:
            found.append(Part(layout.journal / name, parsed.writer, parsed.part))
    return found


def open_for_reading(part: Part) -> BinaryIO:
    """Open a part for reading.

    Raises:
        FileNotFoundError: If it has vanished.
        StoreDamaged: If something else has taken its place.
    """
    return durable.open_regular(part.path, "a journal")


def is_owned(part: Part) -> bool:
    """Tell whether a living process still holds a part; a part that has vanished is nobody's.

    Raises:
        StoreDamaged: If something else has taken its place.
    """
    try:
        file = open_for_reading(part)
    except FileNotFoundError:
        return False
    with file:
        return not durable.try_lock(file.fileno())


def remove_part(part: Part, size: int) -> bool:
    """Remove a part whose lines are all sealed, unless it is owned or has grown since.

    Args:
        part: The part.
        size: Its length in bytes when it was read.

    Returns:
        Whether it is gone.

    Raises:
        StoreDamaged: If something else has taken its place.
    """
    try:
        file = open_for_reading(part)
    except FileNotFoundError:
        return True
    with file:
        if not durable.try_lock(file.fileno()) or os.fstat(file.fileno()).st_size != size:
            return False
        part.path.unlink()
        return True


@dataclass(frozen=True)
class PartContent:
    """What a part holds.

    Attributes:
        data: Its complete lines, each with its newline.
        torn: What stands behind the last newline: a line whose writing was interrupted, or one being written now.
    """

    data: bytes
    torn: bytes

    @property
    def size(self) -> int:
        """Length of the part in bytes when it was read."""
        return len(self.data) + len(self.torn)


def read_part(part: Part, offset: int = 0) -> PartContent:
    """Read a part's complete lines; one that has vanished is empty.

    Raises:
        StoreDamaged: If something else has taken its place, or it is longer than `MAX_PART_BYTES`.
    """
    try:
        with open_for_reading(part) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_PART_BYTES:
                raise StoreDamaged(
                    f"expected a journal of at most {MAX_PART_BYTES >> 30} GiB at {part.path}, found {size:,} bytes: "
                    "seal it with `auditkit seal`, or move it away if it isn't a journal"
                )
            file.seek(offset)
            content = file.read(max(size - offset, 0))
    except FileNotFoundError:
        return PartContent(b"", b"")
    end = content.rfind(b"\n") + 1
    return PartContent(content[:end], content[end:])


def split_lines(data: bytes) -> Iterator[bytes]:
    """Give each line of a part's complete lines, without its newline."""
    if data:
        yield from data[:-1].split(b"\n")
