"""Reading: which format a file has, and its rows, one at a time.

The format is told from the file's first bytes where they are clear (Parquet, gzip, Zstandard), else from its
name (``.jsonl``, ``.ndjson``, ``.csv``, ``.tsv``, before ``.gz`` or ``.zst`` if it ends so), else from its
beginning: ``[`` is a JSON array, ``{`` one object a line, or an object that holds an array. What it turned
out to be is part of the import's result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from auditkit.errors import UsageError
from auditkit.importing.columnar import Columns
from auditkit.importing.documents import Document, Row, read_lines
from auditkit.importing.problems import name_argument
from auditkit.importing.streams import Stream
from auditkit.importing.tables import Table

FORMATS: Final = ("jsonl", "json", "csv", "parquet")
"""The formats that can be read."""

_SUFFIXES: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED: Final = (".gz", ".gzip", ".zst", ".zstd")
_PARQUET: Final = b"PAR1"
_PEEK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the bytes of a file are to be read; what doesn't concern its format has no effect.

    Attributes:
        format: ``jsonl``, ``json``, ``csv`` or ``parquet``; None tells it from the file.
        encoding: Encoding of text. A UTF-8 byte order mark is left out.
        delimiter: What stands between the cells of a CSV; None is a comma, and a tab in ``.tsv`` files.
        quotechar: What stands around cells of a CSV that hold delimiters.
        header: Names of a CSV's columns, if its first row holds no names.
        nulls: Cells of a CSV that mean that there is no value.
        records: Dotted path of the array in a JSON object, such as ``Records``; None is the first array of
            objects at its top.

    Raises:
        UsageError: If one of them can't be meant.

    Example:
        >>> Reading(format="csv", delimiter=";", encoding="cp1252").delimiter
        ';'
        >>> Reading(format="xml")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected the format jsonl, json, csv or parquet, found 'xml'
    """

    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quotechar: str = '"'
    header: tuple[str, ...] | None = None
    nulls: tuple[str, ...] = ("",)
    records: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"expected the format jsonl, json, csv or parquet, found {self.format!r}")
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError, TypeError) as error:
            raise UsageError(f"no text encoding {self.encoding!r}: expected utf-8, cp1252 …") from error
        for name in ("delimiter", "quotechar"):
            mark = getattr(self, name)
            if mark is not None and (not isinstance(mark, str) or len(mark) != 1 or mark in "\r\n\0"):
                raise UsageError(f"expected one character as {name}, found {mark!r}")
        if self.delimiter == self.quotechar:
            raise UsageError(f"delimiter and quotechar are both {self.delimiter!r}")
        if self.records is not None and not all(self.records.split(".")):
            raise UsageError(f"expected a dotted path such as Records as records, found {self.records!r}")


@dataclass
class Opened:
    """A file whose rows can be read.

    Attributes:
        format: Its format.
        options: How it is read: what was given, and what was assumed.
        columns: Names of its columns, where the format has such.
        rows: Its rows, once.
        measure: Gives how many bytes have been read, and how many there are.
        close: Closes it.
    """

    format: str
    options: dict[str, Any]
    columns: tuple[str, ...] | None
    rows: Iterator[Row]
    measure: Callable[[], tuple[int, int]]
    close: Callable[[], None]


def open_rows(path: Path, reading: Reading) -> Opened:
    """Open a file and tell its format.

    Args:
        path: The file.
        reading: How it is to be read.

    Raises:
        UsageError: If the format can't be told, or if the file isn't of it.
        ExtraMissing: If a library is needed that isn't installed.
        OSError: If it can't be opened.
    """
    stream = Stream(path)
    try:
        chosen = reading.format or _tell_format(path, stream, reading.encoding)
        if chosen == "parquet":
            stream.close()
            return _open_parquet(path)
        options: dict[str, Any] = {"compression": stream.compression, "encoding": reading.encoding}
        columns = None
        if chosen == "csv":
            tabs = _find_suffix(path) in (".tsv", ".tab")
            delimiter = reading.delimiter or ("\t" if tabs else ",")
            table = Table(stream, reading.encoding, delimiter, reading.quotechar, reading.header, reading.nulls)
            options |= {"delimiter": delimiter, "quotechar": reading.quotechar, "nulls": list(reading.nulls)}
            options["header"] = None if reading.header is None else list(reading.header)
            columns = table.columns
            rows = table.read_rows()
        elif chosen == "json":
            document = Document(stream, reading.encoding, reading.records)
            options["records"] = reading.records
            rows = _note_records(document, options)
        else:
            rows = read_lines(stream, reading.encoding)
    except BaseException:
        stream.close()
        raise
    return Opened(chosen, options, columns, rows, lambda: (stream.done, stream.total), stream.close)


def _open_parquet(path: Path) -> Opened:
    parquet = Columns(path)

    def measure() -> tuple[int, int]:
        return parquet.done, parquet.total

    return Opened("parquet", {}, parquet.columns, parquet.read_rows(), measure, parquet.close)


def _note_records(document: Document, options: dict[str, Any]) -> Iterator[Row]:
    for row in document.read_rows():
        options["records"] = document.found or None
        yield row


def _tell_format(path: Path, stream: Stream, encoding: str) -> str:
    head = _peek(stream)
    if head.startswith(_PARQUET) and stream.compression is None:
        return "parquet"
    named = _SUFFIXES.get(_find_suffix(path))
    if named is not None:
        return named
    text = head.decode(encoding, "replace").removeprefix("\ufeff").lstrip().encode()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        first, newline, rest = text.partition(b"\n")
        # One whole object on the first line and more below is one object a line.
        return "jsonl" if newline and rest.strip() and _is_object(first) else "json"
    if not text and stream.broken is None:
        return "json" if _find_suffix(path) == ".json" else "jsonl"
    raise UsageError(
        f"the format of {path} can't be told from its name or its beginning: give "
        f"{', '.join(name_argument('format', name) for name in FORMATS[:-1])} or {name_argument('format', FORMATS[-1])}"
    )


def _peek(stream: Stream) -> bytes:
    head = b""
    for block in stream.read_blocks():
        head += block
        if len(head) >= _PEEK:
            break
    return head


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _find_suffix(path: Path) -> str:
    """Give the suffix of a name, without that of a compression.

    Example:
        >>> _find_suffix(Path("a.jsonl.gz")), _find_suffix(Path("B.CSV"))
        ('.jsonl', '.csv')
    """
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix
