"""Rows of delimited text (CSV, TSV) as RFC 4180 has it, with any delimiter, quote and encoding.

Nothing is sniffed: what isn't given has a default, and the import's result shows both. Cells are text, since
CSV has no other type. Cells that say "nothing" (empty ones, unless `nulls` names others) become null.

A row whose quotes or whose number of cells isn't right is refused as it stands. It may hold several lines:
from a quote that nobody closed to the next one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from auditkit.errors import UsageError
from auditkit.importing.documents import Row, refuse_other_bom
from auditkit.importing.mapping import Record
from auditkit.importing.problems import Unusable, find_repeated, make_printable, show_value
from auditkit.importing.streams import BLOCK, MAX_ROW, BlockFile, Stream

_BOM: Final = "\ufeff"


class Table:
    """Reads the rows of one delimited text.

    Args:
        stream: The file.
        encoding: Its encoding.
        delimiter: What stands between two cells; one character.
        quotechar: What stands around a cell that holds delimiters; one character.
        header: Names of the columns, if the first row holds no names.
        nulls: Cells that mean that there is no value.

    Attributes:
        columns: Names of the columns.

    Raises:
        UsageError: If the names aren't there or hold bytes that aren't text, or if two are equal.
    """

    def __init__(
        self,
        stream: Stream,
        encoding: str,
        delimiter: str,
        quotechar: str,
        header: tuple[str, ...] | None,
        nulls: tuple[str, ...],
    ) -> None:
        self._stream = stream
        self._encoding = encoding
        self._nulls = frozenset(nulls)
        self._lines = _Lines(stream, encoding)
        self._reader = csv.reader(self._lines, delimiter=delimiter, quotechar=quotechar, strict=True)
        self.columns = self._read_header() if header is None else header
        twice = find_repeated(self.columns)
        if twice is not None:
            raise UsageError(
                f"two columns are named {show_value(twice)}, and one row can't hold both values: rename "
                "one, or give the names (header)"
            )

    def _read_header(self) -> tuple[str, ...]:
        try:
            with _FieldLimit():
                for names in self._reader:
                    if self._lines.undecodable:
                        raise _refuse_bytes(self._lines.row)
                    if names:
                        return tuple(names)
        except Unusable as error:
            # A name with a character in the place of what stood there would be a guess, and two could become one.
            raise UsageError(
                f"the first row can't be read as names: {error.detail} ({self._encoding}): name the encoding that the "
                "file is in (--encoding, Reading(encoding=…)), for instance cp1252"
            ) from error
        except (csv.Error, UnicodeError, _TooLong) as error:
            raise UsageError(f"the first row can't be read as names: {make_printable(str(error))}") from error
        return ()

    def read_rows(self) -> Iterator[Row]:
        """Read the rows.

        Yields:
            The rows. If the file is broken, the last one is the reason.
        """
        lines, reader, columns, nulls = self._lines, self._reader, self.columns, self._nulls
        width = len(columns)
        with _FieldLimit():
            while True:
                lines.begin_row()
                try:
                    cells = next(reader)
                except StopIteration:
                    break
                except csv.Error as error:
                    # At the file's end a missing quote means a missing end.
                    problem = Unusable("broken CSV", make_printable(str(error)), fatal=lines.ended)
                    yield lines.first, problem, lines.row
                    continue
                except _TooLong:
                    detail = f"a row of more than {MAX_ROW} characters, or a quote is missing"
                    yield lines.first, Unusable("too large", detail), lines.row
                    continue
                except UnicodeError as error:
                    self._stream.broken = f"the text can't be decoded on ({make_printable(str(error))})"
                    break
                if not cells:
                    continue
                if self._stream.broken is not None and not lines.row[-1].endswith(("\n", "\r")):
                    break  # the file broke inside this row, though its cells may look whole
                if lines.undecodable:
                    yield lines.first, _refuse_bytes(lines.row), lines.row
                elif len(cells) != width:
                    detail = f"expected {width} cells, found {len(cells)}"
                    yield lines.first, Unusable("number of cells", detail), lines.row
                else:
                    record: Record = dict(zip(columns, cells, strict=True))
                    if not nulls.isdisjoint(cells):
                        record = {name: None if cell in nulls else cell for name, cell in record.items()}
                    yield lines.first, record, lines.row
        if self._stream.broken is not None:
            yield lines.first, Unusable("file broken", self._stream.broken, fatal=True), lines.row


class _FieldLimit:
    """Lets the csv module read cells as long as rows may be; the limit is the process's, and comes back."""

    def __enter__(self) -> None:
        self._before = csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self._before)


class _TooLong(Exception):
    """A row is longer than rows may be."""


class _Lines:
    """The lines of a text, for the csv module; remembers those of the row at hand.

    Attributes:
        row: Lines of the row at hand, as they were read.
        first: Number of the row's first line; 1 is the file's first.
        undecodable: Whether the row holds bytes that are no text in the file's encoding.
        ended: Whether the text has come to its end.
    """

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._blocks = stream.read_blocks()
        head = next(self._blocks, b"")
        refuse_other_bom(head, encoding)
        file = io.BufferedReader(BlockFile(_chain(head, self._blocks)), BLOCK)
        self._text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
        self._read = self._text.readline
        self._number = 0
        self._size = 0
        self.row: list[str] = []
        self.first = 1
        self.undecodable = False
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def begin_row(self) -> None:
        self.row = []
        self.first = self._number + 1
        self.undecodable = False
        self._size = 0

    def __next__(self) -> str:
        line = self._read(MAX_ROW)
        if not line:
            self.ended = True
            raise StopIteration
        if self._number == 0:
            line = line.removeprefix(_BOM)
        self._number += 1
        self._size += len(line)
        if self._size >= MAX_ROW:
            self._skip_line(line)
            raise _TooLong
        self.row.append(line)
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError:
                self.undecodable = True
        return line

    def _skip_line(self, line: str) -> None:
        """Let the rest of an endless line go, so that the next row begins with the next line."""
        while line and not line.endswith(("\n", "\r")):
            line = self._read(MAX_ROW)


def _refuse_bytes(lines: list[str]) -> Unusable:
    for line in lines:
        for character in line:
            if "\udc80" <= character <= "\udcff":
                byte = ord(character) - 0xDC00
                return Unusable("encoding", f"byte {byte:#04x} is no text in this encoding")
    return Unusable("encoding", "a code that stands for half a character")


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks
