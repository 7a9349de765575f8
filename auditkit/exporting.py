"""Exports: the events of a trail as CSV, JSON, JSON Lines or Parquet, streamed in bounded memory.

An export reads one batch of events at a time (`AuditTrail.stream`) and writes it before it asks for the next,
so its memory doesn't grow with the number of events. A file is written beside its place under a temporary
name and renamed when it is complete: whoever finds the name finds the whole export, and a failed export
leaves what was there before.

What the formats promise:

=========  ================================================================================================
csv        RFC 4180: comma, CRLF, quotes where needed, UTF-8 (with a byte order mark on request). Safe to
           open in a spreadsheet: see `guard_cell`. For people: a guarded cell isn't the exact value any more.
json       one array of objects, streamed. Exact: times in microseconds, details as they were recorded.
jsonl      the same objects, one a line (RFC 8259 each, LF between them).
parquet    the columns of the trail's frame, zstd; times are ``timestamp[us, UTC]``. Exact.
=========  ================================================================================================

In JSON, characters that a terminal could act on (control characters, ESC, bidirectional overrides) are
written as ``\\u`` escapes: every reader gets the same text back, and the file can be shown with ``cat``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, cast

import orjson

from auditkit.errors import UsageError, require
from auditkit.event import READ_COLUMNS
from auditkit.store.outputs import choose_output

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from auditkit.trail import AuditTrail

FORMATS: Final = ("csv", "json", "jsonl", "parquet")
"""The formats, which are also the suffixes of file names."""

COLUMNS: Final = READ_COLUMNS
"""Columns of an export, in the order of the trail's frame."""

INTEGER_COLUMNS: Final = frozenset({"duration_us", "seq"})

BATCH_ROWS: Final = 16_384
"""Events in memory at a time: about 20 MB for ordinary events."""

# Excel and LibreOffice take a cell that begins with one of these for a formula, or strip it and look at the
# next character; a Japanese or Chinese Excel takes the full-width forms for the same signs.
_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n\0＝＋－＠﹦﹢﹣﹫")

# Control characters but for tab and line ends. Spreadsheets refuse or drop them, and NUL ends a cell for many
# readers.
_CSV_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A, 0x0D)
}


_SPACES: Final = bytes.maketrans(b"\t\r\n", b"   ")


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        rows: Number of events.
        bytes: Size of the output in bytes.
        path: The file, or None if the export went to a stream.
    """

    rows: int
    bytes: int
    path: Path | None


class _Writer(Protocol):
    """Writes batches of events to a stream in one format."""

    def write(self, frame: pd.DataFrame) -> None:
        """Write the events of a frame."""

    def finish(self) -> None:
        """Write what must stand behind the last event."""


def guard_cell(text: str) -> str:
    """Make a CSV cell that no spreadsheet takes for a formula.

    A cell whose first character is one of ``= + - @``, tab, CR, LF, NUL or a full-width form of the signs
    gets a leading apostrophe. So does a cell that consists of apostrophes and then such a character, so that
    the rule can be undone: where the text after the leading apostrophes begins with such a character, drop
    one apostrophe. Control characters other than tab and line ends are shown as ``\\xNN``.

    Args:
        text: The value of a text column. Numbers in number columns need no guard and get none.

    Returns:
        The cell's text, before CSV quoting (quotes alone don't stop a spreadsheet).

    Example:
        >>> guard_cell('=HYPERLINK("http://example.com")')
        '\\'=HYPERLINK("http://example.com")'
        >>> guard_cell("no = formula")
        'no = formula'
        >>> guard_cell("red \\x1b[31m")
        'red \\\\x1b[31m'
    """
    if not text:
        return text
    first = text[0]
    if first == "'":
        first = text.lstrip("'")[:1]
    guarded = "'" + text if first in _FORMULA_STARTS else text
    return guarded if guarded.isprintable() else guarded.translate(_CSV_CONTROLS)


def escape_json(text: str) -> str:
    """Write the characters of a JSON text that a terminal could act on as ``\\u`` escapes.

    Args:
        text: A JSON text. Outside its strings it may hold only ASCII.

    Returns:
        A JSON text with the same value in which every character is printable, a tab or a line end.

    Example:
        >>> escape_json('"\\x7f \\u202e é"')
        '"\\\\u007f \\\\u202e é"'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\t\r\n" else _escape_character(c) for c in text)


def _escape_character(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def list_times(times: pd.Series[Any]) -> list[str | None]:
    """Print a column of times as exact UTC texts, for instance ``2026-11-23T10:00:00.000001Z``."""
    import numpy as np

    values = times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    texts = np.datetime_as_string(values, unit="us")
    return [None if text == "NaT" else f"{text}Z" for text in texts.tolist()]


def list_records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Turn a frame of events into records of exact JSON values.

    Args:
        frame: Events as the trail gives them, all columns or some.

    Yields:
        One dictionary a row, in the frame's column order: times as text in UTC with microseconds, integers,
        strings and None; ``details`` as an `orjson.Fragment` that holds the recorded JSON unchanged (as a
        string if it isn't JSON, which only damage can cause).
    """
    names = list(frame.columns)
    columns = [_list_values(name, frame[name]) for name in names]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _list_values(name: str, column: pd.Series[Any]) -> list[Any]:
    import pandas as pd

    if name == "details":
        return [_embed(value) if isinstance(value, str) else None for value in column.tolist()]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return cast("list[Any]", list_times(column))
    return column.astype(object).where(column.notna(), None).tolist()


def _embed(details: str) -> Any:
    raw = details.encode("utf-8", "surrogatepass")
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return details.encode("utf-8", "replace").decode()
    # Inside its strings valid JSON has no raw control character, so a line end or tab here is space between
    # tokens.
    return orjson.Fragment(raw.translate(_SPACES))


def encode_record(record: dict[str, Any]) -> bytes:
    """Print one record as compact JSON that is safe to show in a terminal.

    Example:
        >>> encode_record({"type": "log", "message": "a\\x1bb"})
        b'{"type":"log","message":"a\\\\u001bb"}'
    """
    return escape_json(orjson.dumps(record).decode()).encode()


class _CsvWriter:
    def __init__(self, stream: IO[bytes], columns: Sequence[str], cell: Callable[[str], str], bom: bool) -> None:
        self._stream = stream
        self._cell = cell
        self._text = io.StringIO(newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        if bom:
            self._text.write("\ufeff")
        self._csv.writerow(columns)

    def write(self, frame: pd.DataFrame) -> None:
        self._csv.writerows(zip(*(self._list_cells(name, frame[name]) for name in frame.columns), strict=True))
        self._flush()

    def _list_cells(self, name: str, column: pd.Series[Any]) -> list[Any]:
        import pandas as pd

        if isinstance(column.dtype, pd.DatetimeTZDtype):
            return list_times(column)
        values = column.astype(object).where(column.notna(), None).tolist()
        if name in INTEGER_COLUMNS:
            return values
        cell = self._cell
        return [None if value is None else cell(str(value)) for value in values]

    def finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        self._stream.write(self._text.getvalue().encode("utf-8", "backslashreplace"))
        self._text.seek(0)
        self._text.truncate()


class _JsonWriter:
    """One object a line; as an array, with a bracket before, commas between and a bracket behind."""

    def __init__(self, stream: IO[bytes], array: bool) -> None:
        self._stream = stream
        self._array = array
        self._empty = True

    def write(self, frame: pd.DataFrame) -> None:
        lines = [encode_record(record) for record in list_records(frame)]
        if not lines:
            return
        if not self._array:
            self._stream.write(b"\n".join(lines) + b"\n")
            return
        self._stream.write(b"[\n" if self._empty else b",\n")
        self._stream.write(b",\n".join(lines))
        self._empty = False

    def finish(self) -> None:
        if self._array:
            self._stream.write(b"[]\n" if self._empty else b"\n]\n")


class _ParquetWriter:
    def __init__(self, stream: IO[bytes], columns: Sequence[str]) -> None:
        pa = require("pyarrow", "seal")
        parquet = require("pyarrow.parquet", "seal")
        self._from_pandas: Callable[..., Any] = pa.Table.from_pandas
        self._schema = pa.schema([(name, _choose_type(pa, name)) for name in columns])
        self._writer = parquet.ParquetWriter(
            stream, self._schema, compression="zstd", write_page_checksum=True, store_schema=True
        )

    def write(self, frame: pd.DataFrame) -> None:
        self._writer.write_table(self._from_pandas(frame, schema=self._schema, preserve_index=False))

    def finish(self) -> None:
        self._writer.close()


def _choose_type(pa: Any, name: str) -> pa.DataType:
    if name == "time":
        return pa.timestamp("us", tz="UTC")
    return pa.int64() if name in INTEGER_COLUMNS else pa.string()


class _Counter(io.RawIOBase):
    """Counts the bytes on their way, and never closes the stream below."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._stream.write(data)
        self.bytes += size
        return size

    def flush(self) -> None:
        if not self.closed:
            self._stream.flush()

    def tell(self) -> int:
        return self.bytes


def write_events(
    batches: Iterable[pd.DataFrame],
    stream: IO[bytes],
    format: str,
    *,
    columns: Sequence[str] = COLUMNS,
    cell: Callable[[str], str] = guard_cell,
    bom: bool = False,
) -> ExportResult:
    """Write batches of events to an open binary stream, one after the other.

    Args:
        batches: Frames as `AuditTrail.stream` gives them.
        stream: Where the bytes go; it is flushed, not closed.
        format: ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``.
        columns: The columns to write, in this order.
        cell: What makes the cells of CSV from texts.
        bom: Begin CSV with a byte order mark, which tells Excel that it's UTF-8.

    Returns:
        Rows and bytes written.

    Raises:
        UsageError: If the format isn't one of the four.
        OSError: If the stream can't take the bytes.

    Example:
        >>> import io, pandas as pd
        >>> events = pd.DataFrame({"type": ["log"], "message": ["=1+1"]})
        >>> out = io.BytesIO()
        >>> write_events([events], out, "csv", columns=["type", "message"]).rows
        1
        >>> out.getvalue()
        b"type,message\\r\\nlog,'=1+1\\r\\n"
    """
    counter = _Counter(stream)
    target = cast("IO[bytes]", counter)
    writer: _Writer
    if format == "csv":
        writer = _CsvWriter(target, columns, cell, bom)
    elif format in ("json", "jsonl"):
        writer = _JsonWriter(target, array=format == "json")
    elif format == "parquet":
        writer = _ParquetWriter(target, columns)
    else:
        raise UsageError(f"expected a format out of {', '.join(FORMATS)}, found {format!r}")
    rows = 0
    for frame in batches:
        writer.write(frame[list(columns)])
        rows += len(frame)
    writer.finish()
    stream.flush()
    return ExportResult(rows, counter.bytes, None)


def choose_format(output: str | os.PathLike[str]) -> str:
    """Take the format from a file name's suffix.

    Raises:
        UsageError: If the suffix isn't one of a format.

    Example:
        >>> choose_format("events.jsonl")
        'jsonl'
    """
    suffix = Path(output).suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise UsageError(
            f"expected a file name that ends in {', '.join('.' + name for name in FORMATS)}, found "
            f"{str(output)!r}: name the format"
        )
    return suffix


def export_events(
    trail: AuditTrail,
    output: str | os.PathLike[str] | IO[bytes],
    format: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    bom: bool = False,
    cell: Callable[[str], str] = guard_cell,
    limit: int | None = None,
    newest: bool = False,
    **filters: Any,
) -> ExportResult:
    """Export the events of a trail.

    Args:
        trail: The trail to read.
        output: A file, which appears whole or not at all; ``"-"`` for standard output; or a binary stream.
        format: ``"csv"``, ``"json"``, ``"jsonl"`` or ``"parquet"``; by default what the file's suffix says.
        columns: The columns to write, in this order; by default all of `COLUMNS`.
        bom: Begin CSV with a byte order mark, which tells Excel that it's UTF-8.
        cell: What makes the cells of CSV from texts.
        limit: At most so many events, the earliest ones.
        newest: Keep the latest ones instead; these are held in memory.
        **filters: The filters of `AuditTrail.events`: ``type``, ``actor``, ``lead_id``, ``workflow``,
            ``outcome``, ``operation``, ``since``, ``until``, ``include_internal``.

    Returns:
        Rows and bytes written, and the file.

    Raises:
        UsageError: If the format or a column is unknown, or the file lies in a store or is a key file.
        StoreDamaged: If a segment can't be read; before the first byte is written, unless it is damaged after that.
        OSError: If the file can't be written; what was there before is still there.

    Example:
        >>> import auditkit, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store, key = f"{folder.name}/audit", f"{folder.name}/key"
        >>> with auditkit.AuditLogger(store, key_file=key) as log:
        ...     _ = log.log_lead_ingested("L-1", "web", {"name": "Ana"}, "inbound")
        >>> trail = auditkit.open(store, key_file=key)
        >>> result = export_events(trail, f"{folder.name}/events.csv", columns=["type", "lead_id"])
        >>> result.rows, result.path.read_text().splitlines()
        (1, ['type,lead_id', 'lead.ingested,L-1'])
        >>> folder.cleanup()
    """
    chosen = check_columns(columns)
    file = None if output == "-" or not isinstance(output, (str, os.PathLike)) else output
    if format is None and file is None:
        raise UsageError(f"expected a format for an export to a stream: give one of {', '.join(FORMATS)}")
    kind = format or choose_format(cast("str", file))
    path = None if file is None else choose_output(file, "an export", trail.path)
    batches = read_batches(trail, chosen, limit=limit, newest=newest, **filters)
    if path is None:
        target = sys.stdout.buffer if output == "-" else cast("IO[bytes]", output)
        return write_events(batches, target, kind, columns=chosen, cell=cell, bom=bom)
    with _replace(path) as stream:
        result = write_events(batches, stream, kind, columns=chosen, cell=cell, bom=bom)
    return ExportResult(result.rows, result.bytes, path)


def read_batches(
    trail: AuditTrail,
    columns: Sequence[str] = COLUMNS,
    *,
    limit: int | None = None,
    newest: bool = False,
    **filters: Any,
) -> Iterator[pd.DataFrame]:
    """Read the events that match in pieces, ordered by time.

    Args:
        trail: The trail.
        columns: The columns to read.
        limit: At most so many events, the earliest ones.
        newest: Keep the latest ones instead; these are held in memory.
        **filters: The filters of `AuditTrail.events`.

    Returns:
        Frames of at most `BATCH_ROWS` events, or one of the latest.

    Raises:
        StoreDamaged: If what is to be read can't be; before anything is written, as every segment is checked here.
    """
    if limit is not None and newest:
        return iter([trail.events(columns=list(columns), limit=limit, newest=True, **filters)])
    frames = trail.stream(columns=list(columns), batch_rows=BATCH_ROWS, **filters)
    return frames if limit is None else _take_first(frames, limit)


def _take_first(frames: Iterator[pd.DataFrame], limit: int) -> Iterator[pd.DataFrame]:
    while limit > 0 and (frame := next(frames, None)) is not None:
        yield frame.head(limit)
        limit -= len(frame)


def check_columns(columns: Sequence[str] | None) -> tuple[str, ...]:
    """Check the columns that were asked for; None stands for all of them.

    Raises:
        UsageError: If a column is unknown or none is left.

    Example:
        >>> check_columns(["time", "type"])
        ('time', 'type')
    """
    chosen = tuple(COLUMNS if columns is None else dict.fromkeys(columns))
    unknown = [name for name in chosen if name not in COLUMNS]
    if unknown or not chosen:
        found = ", ".join(unknown) or "none"
        raise UsageError(f"expected columns out of {', '.join(COLUMNS)}, found {found}")
    return chosen


@contextlib.contextmanager
def _replace(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well."""
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        # A pipe or /dev/null is written to; a rename would put a file in its place.
        with path.open("wb") as stream:
            yield stream
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        opened = beside.open("xb")
    except OSError as error:
        error.filename = str(path)  # the temporary name says nothing to whoever named the file
        raise
    try:
        with opened as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
