"""The bytes of a source file: unpacked, counted, and read as far as they can be.

A file that is cut or damaged gives everything before the damage; then it says so (`Stream.broken`), and its
reader reports what is missing.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from auditkit.errors import UsageError, require

BLOCK: Final = 1 << 18
"""How much is read at a time, in bytes."""

MAX_ROW: Final = 16 << 20
"""Longest row that is read, in bytes. An event holds 4 MiB; more is indentation, or an attack on memory."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK: Final = 1 << 14  # what damage behind it can take along
_GZIP_WINDOW: Final = 31  # zlib's way of asking for a gzip header and its checksum


class Stream:
    """One file, opened for reading; its compression is told from its first bytes.

    Args:
        path: The file.

    Attributes:
        compression: ``"gzip"``, ``"zstd"`` or None.
        total: Size of the file, in bytes.
        done: How many of them have been read.
        broken: Why reading ended before the file did; None as long as it didn't.

    Raises:
        UsageError: If it isn't a regular file.
        OSError: If it can't be read.
        ExtraMissing: If it is compressed with zstd and pyarrow isn't installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_regular(path)
        self.total = os.fstat(self._file.fileno()).st_size
        self.done = 0
        self.broken: str | None = None
        head = self._file.read(len(_ZSTD))
        self._file.seek(0)
        self.compression = "gzip" if head.startswith(_GZIP) else "zstd" if head == _ZSTD else None
        if self.compression == "zstd":
            require("pyarrow", "seal")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_blocks(self) -> Iterator[bytes]:
        """Give the unpacked bytes from the file's beginning, in blocks that aren't empty."""
        self._file.seek(0)
        self.done = 0
        self.broken = None
        if self.compression == "gzip":
            return self._unpack_gzip()
        if self.compression == "zstd":
            return self._unpack_zstd()
        return iter(self._read, b"")

    def _read(self) -> bytes:
        try:
            block = self._file.read(BLOCK)
        except OSError as error:
            self.broken = f"the file can't be read on after byte {self.done} ({error.strerror})"
            return b""
        self.done += len(block)
        return block

    def _unpack_gzip(self) -> Iterator[bytes]:
        # The gzip module raises away what it had unpacked before the damage, so zlib is asked itself.
        unpack = zlib.decompressobj(_GZIP_WINDOW)
        packed = b""
        begun = False
        while True:
            packed = packed or self._read()
            if not packed:
                if begun and self.broken is None:
                    self.broken = "the gzip data is cut: its end is missing"
                return
            begun = True
            try:
                block = unpack.decompress(packed, BLOCK)
            except zlib.error as error:
                self.broken = f"the gzip data is damaged before byte {self.done} ({error})"
                return
            packed = unpack.unconsumed_tail
            if block:
                yield block
            if unpack.eof:
                # Another member may follow, as from `cat a.gz b.gz`; zeros are padding.
                packed = unpack.unused_data.lstrip(b"\0") or self._read().lstrip(b"\0")
                while not packed and self.done < self.total and self.broken is None:
                    packed = self._read().lstrip(b"\0")
                if not packed:
                    return
                unpack = zlib.decompressobj(_GZIP_WINDOW)

    def _unpack_zstd(self) -> Iterator[bytes]:
        import pyarrow as pa

        try:
            # Arrow closes what it has read, so it gets a file of its own.
            file = open_regular(self._path)
            with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as unpacked:
                while block := unpacked.read(_ZSTD_BLOCK):
                    self.done = min(file.tell(), self.total)
                    yield block
        except (OSError, pa.ArrowException) as error:
            why = str(error).partition("\n")[0]
            self.broken = f"the zstd data is cut or damaged before byte {self.done} ({why})"
        self.done = self.total


class BlockFile(io.RawIOBase):
    """Blocks of bytes as a file that io's text layer reads.

    Example:
        >>> io.TextIOWrapper(io.BufferedReader(BlockFile(iter([b"a", b"b\\nc"])))).readlines()
        ['ab\\n', 'c']
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 is the end."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading, unless reading it might never end.

    Raises:
        UsageError: If it is a folder, a pipe or a device.
        OSError: If it can't be opened.
    """
    # Opening a pipe that has no writer would wait for one.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"expected a file, found a folder, a pipe or a device at {path}")
    return io.BufferedReader(io.FileIO(descriptor, "rb"), BLOCK)


def hash_file(path: Path) -> tuple[str, int]:
    """Give the SHA-256 of a file's bytes in hexadecimal, and its size in bytes."""
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
