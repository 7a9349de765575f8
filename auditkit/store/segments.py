"""Segments: sealed events as plain Parquet, and back from their columns to the very bytes that were signed.

A journal's lines become columns through pyarrow's JSON reader, which is quick but lenient: it takes two objects on a
line, blank lines and missing keys without a word. So every row is printed again from the columns (DuckDB does that
1.5 million times a second) and compared with its line, byte for byte. What doesn't match is looked at singly, and what
still doesn't match is not an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from auditkit.errors import FormatUnknown, StoreDamaged, explain_missing
from auditkit.event import (
    BODY,
    BODY_KEYS,
    FORMAT,
    MAX_INTEGER,
    MAX_TIME_US,
    MIN_TIME_US,
    SEGMENT_KEYS,
    STRING_KEYS,
    encode_body,
    join_line,
    make_schema,
    parse_line,
)
from auditkit.store import engine
from auditkit.store.layout import Layout

try:
    import duckdb
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.json as pajson
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

ROW_GROUP_ROWS: Final = 131_072
"""Rows of a row group: large enough to compress, small enough to skip."""

ROW_GROUP_BYTES: Final = 128 << 20
"""Most bytes of a row group, or a little more: whoever reads one has it in memory several times over."""

CHUNK_BYTES: Final = 8 << 20
"""How much of a journal is turned into columns at a time; larger chunks cost more in fresh memory than they save."""

DOUBTFUL_ROWS: Final = 4096
DOUBTFUL_BYTES: Final = 1 << 30
"""How many rows of a file that nothing vouches for are read at a time, and how much text it may hold altogether."""

PARSED_BYTES: Final = 8 * CHUNK_BYTES
"""How much is parsed at once: the JSON reader takes no block of 2 GiB, and an unsealed journal may be longer."""

PRINTED_BYTES: Final = 4 * CHUNK_BYTES
"""How much is printed at once: the engine has it in memory a dozen times, and has only so much of it."""

PACKED: Final = tuple(key for key in STRING_KEYS if key not in ("store", "details"))
"""Columns of text in which few values stand often."""

PRINTED_ROWS: Final = 8192
"""How many lines the engine hands over at once."""

MAX_CONSTANT: Final = 1000
"""Longest text, in characters, that becomes a part of the query where it stands in every row."""

MARGIN_ROWS: Final = 1000
"""How many rows more than it has bytes a file may have, to be read although nothing vouches for it."""


def rebuild_lines(table: pa.Table, store: str, connection: duckdb.DuckDBPyConnection | None = None) -> list[bytes]:
    """Print the journal line of every row from its columns alone.

    Args:
        table: Rows with the columns of a segment.
        store: Id of the store, which a row doesn't repeat.
        connection: A connection to use again.

    Returns:
        The lines in the order of the rows, without newlines.

    Raises:
        StoreDamaged: If a value can't be printed.
    """
    return [line for lines in print_lines(table, store, connection) for line in lines]


def print_lines(
    table: pa.Table, store: str, connection: duckdb.DuckDBPyConnection | None = None
) -> Iterator[list[bytes]]:
    """Print the lines that `rebuild_lines` gives, some thousand at a time: those are still in the processor's cache.

    Args:
        table: Rows with the columns of a segment; texts may be dictionaries.
        store: Id of the store.
        connection: A connection to use again.

    Raises:
        StoreDamaged: If a value can't be printed.
    """
    place, escaped = 0, _holds_controls(table)
    for texts in _print_batches(table, store, "", connection):
        width = np.int64 if texts.type == pa.large_string() else np.int32
        ends = np.frombuffer(texts.buffers()[1], dtype=width)[texts.offset : texts.offset + len(texts) + 1]
        data = _join_texts(texts).to_pybytes()
        lines = [data[start:end] for start, end in pairwise((ends - ends[0]).tolist())]
        if escaped and b"\\u00" in data:
            for index, line in enumerate(lines):
                # DuckDB prints \u001F where the format says \u001f.
                if b"\\u00" in line:
                    lines[index] = _rebuild_line(table, place + index, store)
        place += len(lines)
        yield lines


def _holds_controls(table: pa.Table) -> bool:
    """Tell whether a text has a character below 0x20, which is quicker than to look for its escape in the lines."""
    for column in table.columns:
        for chunk in column.chunks:
            texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            if texts.type == pa.string() and len(texts):
                data = np.frombuffer(_join_texts(texts), np.uint8)
                if data.size and data.min() < ord(" "):
                    return True
    return False


def _print_rows(table: pa.Table, store: str, connection: duckdb.DuckDBPyConnection | None = None) -> bytes:
    """Print every row as a line with its newline; JSON escapes those inside of values."""
    return b"".join(_join_texts(texts) for texts in _print_batches(table, store, "\n", connection))


def _print_batches(
    table: pa.Table, store: str, end: str, connection: duckdb.DuckDBPyConnection | None
) -> Iterator[pa.StringArray | pa.LargeStringArray]:
    """Print every row as a text that ends as it is told."""
    if table.num_rows > 1 and _measure_table(table) > PRINTED_BYTES:
        middle = table.num_rows // 2
        for part in (table.slice(0, middle), table.slice(middle)):
            yield from _print_batches(part, store, end, connection)
        return
    # A connection of its own: as long as a result isn't read to its end, a connection can't be asked anything else.
    own = engine.connect() if connection is None else connection.cursor()
    query, values = _print_query(table, store, end)

    def begin() -> pa.RecordBatchReader:
        own.register("rows", table)
        return own.sql(query, params=values).to_arrow_reader(PRINTED_ROWS)

    try:
        reader = engine.run(own, begin)
        while (batch := engine.run(own, lambda: next(reader, None))) is not None:
            yield batch.column(0)
    except (duckdb.Error, pa.ArrowException) as error:
        if "Out of Memory" in str(error):
            # Once it has begun to hand lines over, it tells what happens through Arrow.
            raise MemoryError(f"printing {table.num_rows} rows takes more memory than there is: {error}") from error
        raise StoreDamaged(f"expected rows that can be printed, found values that can't: {str(error)[:300]}") from error
    finally:
        own.close()


def _measure_table(table: pa.Table) -> int:
    """Tell how many bytes rows take when each text stands for itself; an upper bound where that is small enough."""
    plain = [chunk for column in table.columns for chunk in column.chunks if not pa.types.is_dictionary(chunk.type)]
    packed = [chunk for column in table.columns for chunk in column.chunks if pa.types.is_dictionary(chunk.type)]
    size = sum(chunk.nbytes for chunk in plain)
    most = sum((pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) * len(chunk) for chunk in packed)
    return int(size + (most if size + most <= PRINTED_BYTES else sum(map(_measure, packed))))


def _print_query(table: pa.Table, store: str, end: str) -> tuple[str, list[str]]:
    """Put together what prints rows: one text of pieces, those that are the same in all rows joined beforehand.

    `to_json` of the whole row gives the same and takes twice as long.
    """
    pieces, values, fixed = [], [], "{"
    for key in (*BODY_KEYS, "mac"):
        fixed += f'"{key}":'
        value = f'"{store}"' if key == "store" else _print_constant(table.column(key))
        if value is not None:
            fixed += value
        else:
            column = table.column(key)
            pieces += ["?", _print_value(key, column)]
            values.append(fixed)
            fixed = ""
        fixed += ","
    values.append(fixed[:-1] + "}" + end)
    return f"SELECT concat({', '.join([*pieces, '?'])}) AS line FROM rows", values


def _print_constant(column: pa.ChunkedArray) -> str | None:
    """Print what stands in every row of a column, as the format prints it; None where that isn't plain to see."""
    if column.null_count == len(column):
        return "null"
    if column.null_count or column.num_chunks != 1:
        return None
    if pa.types.is_dictionary(column.type):
        texts = column.chunk(0).dictionary
        if len(texts) == 1 and len(text := texts[0].as_py()) <= MAX_CONSTANT:
            return orjson.dumps(text).decode()
    elif column.type == pa.int64():
        numbers = np.asarray(column.chunk(0))
        if (numbers == numbers[0]).all():
            return str(numbers[0])
    return None


def _print_value(key: str, column: pa.ChunkedArray) -> str:
    """Give what prints a column's values in SQL; `concat` would leave out a null without a word."""
    if key == "mac":
        printed = "'\"' || lower(hex(mac)) || '\"'"
    elif key == "time":
        printed = "epoch_us(time)::VARCHAR"
    elif column.type == pa.int64():
        printed = f'"{key}"::VARCHAR'
    else:
        printed = f'to_json("{key}")::VARCHAR'
    return f"coalesce({printed}, 'null')" if column.null_count else printed


def _join_texts(texts: pa.StringArray | pa.LargeStringArray) -> pa.Buffer:
    """Give the bytes of all texts one behind the other, as they lie in memory."""
    _, offsets, data = texts.buffers()
    width = np.int64 if texts.type == pa.large_string() else np.int32
    ends = np.frombuffer(offsets, dtype=width)[texts.offset : texts.offset + len(texts) + 1]
    return data.slice(int(ends[0]), int(ends[-1] - ends[0]))


def _rebuild_line(table: pa.Table, index: int, store: str) -> bytes:
    row = table.slice(index, 1)
    fields: dict[str, Any] = {}
    for column in BODY:
        if column.name == "store":
            fields["store"] = store
        elif column.kind == "time":
            fields["time"] = row.column("time").combine_chunks().view("int64")[0].as_py()
        else:
            fields[column.name] = row.column(column.name)[0].as_py()
    return join_line(encode_body(fields), row.column("mac")[0].as_py())


def span_times(table: pa.Table) -> tuple[int, int]:
    """Give the earliest and the latest time of a table's rows, in microseconds since 1970; there is at least one."""
    times = pc.min_max(table.column("time").cast(pa.int64())).as_py()
    return times["min"], times["max"]


def parse_lines(
    lines: list[bytes], store: str, connection: duckdb.DuckDBPyConnection | None = None
) -> tuple[pa.Table, list[bool], list[str]]:
    """Turn journal lines into columns, keeping only those that come back from the columns byte for byte.

    Args:
        lines: Lines without their newlines.
        store: Id of the store whose events they must be.
        connection: A connection to use again.

    Returns:
        The columns of the good lines; for every line whether it was good; and why the others weren't, in order.
    """
    if len(lines) > 1 and sum(map(len, lines)) > PARSED_BYTES:
        middle = len(lines) // 2
        first, second = (parse_lines(part, store, connection) for part in (lines[:middle], lines[middle:]))
        return pa.concat_tables([first[0], second[0]]), first[1] + second[1], first[2] + second[2]
    data = b"\n".join([*lines, b""])
    table = _read_quickly(data, len(lines), store)
    if table is not None and (
        _print_rows(table, store, connection) == data
        or (b"\\u00" in data and rebuild_lines(table, store, connection) == lines)
    ):
        return table, [True] * len(lines), []
    good, rows, reasons = [], [], []
    for line in lines:
        try:
            fields, mac = parse_line(line)
            if fields["store"] != store:
                raise StoreDamaged(f"expected an event of store {store}, found one of {fields['store']}")
        except (StoreDamaged, FormatUnknown) as error:
            good.append(False)
            reasons.append(str(error))
        else:
            good.append(True)
            rows.append((fields, mac))
    return _make_table(rows), good, reasons


def _read_quickly(data: bytes, count: int, store: str) -> pa.Table | None:
    kinds = {"integer": pa.int64(), "time": pa.int64(), "string": pa.string()}
    schema = pa.schema([*((column.name, kinds[column.kind]) for column in BODY), ("mac", pa.string())])
    try:
        raw = pajson.read_json(
            pa.BufferReader(data),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
        raw.validate(full=True)  # the reader takes bytes that aren't UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    mac = raw.column("mac").combine_chunks()
    if raw.num_rows != count or mac.null_count:
        return None
    packed = _unhex(mac)
    stores = pc.unique(raw.column("store")).to_pylist()
    if packed is None or stores != [store] or not _holds_events(raw):
        return None
    columns = [_convert(raw.column(c.name), c.kind) for c in BODY if c.name != "store"]
    columns += [packed, pa.nulls(raw.num_rows, pa.binary(32))]
    try:
        table: pa.Table = pa.table(columns, schema=make_schema(store))
        table.validate()
    except pa.ArrowInvalid:
        return None
    return table


def _holds_events(raw: pa.Table) -> bool:
    """Tell whether every value is one that `check_fields` takes; the reader takes any integer, and null anywhere."""
    for column in BODY:
        values = raw.column(column.name)
        if values.null_count and not column.nullable:
            return False
        if column.kind != "string":
            least, most = (MIN_TIME_US, MAX_TIME_US) if column.kind == "time" else (0, MAX_INTEGER)
            least, most = (FORMAT, FORMAT) if column.name == "v" else (least, most)
            found = pc.min_max(values).as_py()
            if found["min"] is not None and not least <= found["min"] <= found["max"] <= most:
                return False
    return True


def _convert(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", tz="UTC")) if kind == "time" else column


def _unhex(digits: pa.StringArray) -> pa.Array | None:
    """Turn an array of 64 hexadecimal digits each into 32 bytes each; None if one isn't that."""
    # Compared by numpy: pyarrow turns an interruption, while it converts the 64, into an error of the number's type.
    if (np.asarray(pc.binary_length(digits)) != 64).any():
        return None
    try:
        packed = bytes.fromhex(_join_texts(digits).to_pybytes().decode("ascii"))
    except ValueError:
        return None
    if len(packed) != 32 * len(digits):
        return None
    return pa.Array.from_buffers(pa.binary(32), len(digits), [None, pa.py_buffer(packed)])


def _make_table(rows: list[tuple[dict[str, Any], bytes | None]]) -> pa.Table:
    schema = make_schema()
    columns = []
    for name in SEGMENT_KEYS:
        kind = schema.field(name).type
        if name == "mac":
            columns.append(pa.array([mac for _, mac in rows], kind))
        elif name == "leaf":
            columns.append(pa.nulls(len(rows), kind))
        elif name == "time":
            columns.append(pa.array([fields["time"] for fields, _ in rows], pa.int64()).cast(kind))
        else:
            columns.append(pa.array([fields[name] for fields, _ in rows], kind))
    table: pa.Table = pa.table(columns, schema=schema)
    return table


def open_segment(path: Path, packed: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a segment with its page checksums checked.

    Args:
        path: The file.
        packed: Columns of text that are read as dictionaries.

    Raises:
        StoreDamaged: If it isn't a Parquet file with this format's columns.
    """
    try:
        file: pq.ParquetFile = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=[*packed])
        schema = file.schema_arrow
    except pa.ArrowMemoryError:
        raise  # says nothing about the file
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreDamaged(f"expected a Parquet segment at {path}, found a file that can't be read: {error}") from error
    metadata = schema.metadata or {}
    expected = make_schema()
    for name in packed:
        place = expected.get_field_index(name)
        expected = expected.set(place, expected.field(place).with_type(pa.dictionary(pa.int32(), pa.string())))
    if metadata.get(b"format") != str(FORMAT).encode() or not schema.equals(expected):
        raise StoreDamaged(
            f"expected a segment of format {FORMAT} with the columns {', '.join(SEGMENT_KEYS)} at {path}, "
            f"found {', '.join(schema.names)[:500]}"
        )
    return file


def read_tables(
    path: Path, rows: int = ROW_GROUP_ROWS // 2, *, groups: Sequence[int] | None = None, packed: bool = False
) -> Iterator[pa.Table]:
    """Read a segment a batch of rows at a time.

    Args:
        path: The file.
        rows: Most rows of a batch.
        groups: Which row groups are read; None for all.
        packed: Whether all texts but the details stay dictionaries, as they are stored: that is three times as quick.

    Raises:
        StoreDamaged: If a page's checksum or content is wrong.
    """
    file = open_segment(path, PACKED if packed else ())
    schema = make_schema()
    try:
        # Group by group: a batch over several would be as large as all of them.
        for group in range(file.num_row_groups) if groups is None else groups:
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False):
                batch.validate(full=True)
                table = pa.Table.from_batches([batch])
                yield table if packed else table.cast(schema)
    except pa.ArrowMemoryError:
        raise  # says nothing about the file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error
    finally:
        file.close()


def read_doubtful_tables(path: Path, max_rows: int, groups: list[int] | None = None) -> Iterator[pa.Table]:
    """Read a file that nothing vouches for, as `read_tables` does, without believing what it says of its size.

    A few hundred bytes of Parquet can stand for gigabytes: a text is stored once, and a number says how often it is
    meant. So texts are kept as a dictionary and measured before they are laid out.

    Args:
        path: The file.
        max_rows: Most rows that are read.
        groups: Which row groups are read; None for all.

    Raises:
        StoreDamaged: If it isn't a sound segment, or too large.
    """
    open_segment(path).close()
    schema = make_schema()
    texts = [field.name for field in schema if field.type == pa.string()]
    rows = size = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
            if file.metadata.num_rows > max_rows:
                raise StoreDamaged(f"expected at most {max_rows} rows in {path}, found {file.metadata.num_rows}")
            for batch in file.iter_batches(batch_size=DOUBTFUL_ROWS, row_groups=groups, use_threads=False):
                rows += batch.num_rows
                size += sum(_measure(batch.column(name)) for name in texts)
                if rows > max_rows or size > DOUBTFUL_BYTES:
                    raise StoreDamaged(f"expected at most {max_rows} rows and {DOUBTFUL_BYTES} bytes in {path}")
                table = pa.Table.from_batches([batch]).cast(schema)
                table.validate(full=True)
                yield table
    except pa.ArrowMemoryError:
        raise  # says nothing about the file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error


def _measure(texts: pa.DictionaryArray) -> int:
    """Add up how many bytes texts take when each stands for itself."""
    lengths = pc.binary_length(texts.dictionary)
    return pc.sum(lengths.take(texts.indices.drop_null())).as_py() or 0


class Outline(NamedTuple):
    """What is known of a sound segment before its rows are looked at."""

    groups: list[int]
    """How many rows each row group has."""
    opened: dict[str, str | None]
    """The details of the first event of every writer that begins there."""


def read_outline(path: Path) -> Outline:
    """Read how a segment that something vouches for is divided, and the details of its writers' first events.

    Raises:
        StoreDamaged: If it can't be read.
    """
    opened: dict[str, str | None] = {}
    with open_segment(path) as file:
        try:
            groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            for number in range(file.num_row_groups):
                if _holds_opening(file, number):
                    table = file.read_row_group(number, columns=["writer", "seq", "details"], use_threads=False)
                    table.validate(full=True)
                    first = _choose_first(table)
                    for writer, details in zip(*(first.column(i).to_pylist() for i in (0, 2)), strict=True):
                        opened.setdefault(writer, details)
        except pa.ArrowMemoryError:
            raise  # says nothing about the file
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error
    return Outline(groups, opened)


def read_openings(path: Path, store: str) -> dict[str, bytes]:
    """Print the line of the first event of every writer that begins in a segment; the file needn't be sound.

    Args:
        path: The file.
        store: Id of the store.

    Returns:
        The lines by writer.

    Raises:
        StoreDamaged: If it can't be read.
        OSError: If the system refuses to.
    """
    limit = path.stat().st_size + MARGIN_ROWS
    with open_segment(path) as file:
        if file.metadata.num_rows > limit:
            raise StoreDamaged(f"expected at most {limit} rows in {path}, found {file.metadata.num_rows}")
        try:
            groups = [number for number in range(file.num_row_groups) if _holds_opening(file, number)]
        except pa.ArrowMemoryError:
            raise  # says nothing about the file
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error
    openings: dict[str, bytes] = {}
    for table in read_doubtful_tables(path, limit, groups) if groups else ():
        first = _choose_first(table)
        if first.num_rows:
            openings.update(zip(first.column("writer").to_pylist(), rebuild_lines(first, store), strict=True))
    return openings


def _holds_opening(file: pq.ParquetFile, group: int) -> bool:
    seqs = file.read_row_group(group, columns=["seq"], use_threads=False).column(0)
    return bool((np.asarray(seqs) == 0).any())


def _choose_first(table: pa.Table) -> pa.Table:
    """Choose the rows of first events, of which there are few; see `_unhex` for why numpy is asked."""
    places = np.flatnonzero(np.asarray(table.column("seq")) == 0).tolist()
    return pa.concat_tables([table.slice(place, 1) for place in places] or [table.slice(0, 0)])


def locate_segment(layout: Layout, name: str) -> Path | None:
    """Find a segment's file: in its place, or in staging between its commit and its rename.

    A sealer may move it between the two looks, so its place is looked at once more.
    """
    for path in (layout.segment(name), layout.staged(name), layout.segment(name)):
        if path.is_file():
            return path
    return None


def digest_file(path: Path) -> str:
    """Compute a file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
