"""Segments: sealed events as plain Parquet, and back from their columns to the very bytes that were signed.

A journal's lines become columns through pyarrow's JSON reader, which is quick but lenient: it takes two objects on a
line, blank lines and missing keys without a word. So every row is printed again from the columns (DuckDB does that
1.5 million times a second) and compared with its line, byte for byte. What doesn't match is looked at singly, and what
still doesn't match is not an event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from auditkit.chains import Row, WriterKeys, check_macs, read_number
from auditkit.errors import FormatUnknown, StoreDamaged, explain_missing
from auditkit.event import (
    BODY,
    BODY_KEYS,
    CLOSED,
    DAY_US,
    FORMAT,
    GAP,
    MAX_INTEGER,
    MAX_TIME_US,
    MIN_TIME_US,
    SEGMENT_KEYS,
    encode_body,
    hash_line,
    join_line,
    make_schema,
    parse_line,
)
from auditkit.store import engine
from auditkit.store.layout import Layout, find_day, read_writer_day, start_of_day

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

CHUNK_BYTES: Final = 8 << 20
"""How much of a journal is turned into columns at a time; larger chunks cost more in fresh memory than they save."""

DOUBTFUL_ROWS: Final = 4096
DOUBTFUL_BYTES: Final = 1 << 30
"""How many rows of a file that nothing vouches for are read at a time, and how much text it may hold altogether."""

PARSED_BYTES: Final = 8 * CHUNK_BYTES
"""How much is parsed at once: the JSON reader takes no block of 2 GiB, and an unsealed journal may be longer."""

MARGIN_ROWS: Final = 1000
"""How many rows more than it has bytes a file may have, to be read although nothing vouches for it."""

MAX_DROPPED: Final = 1 << 40
"""Most events that one gap event is believed to stand for: more than a process can have recorded in a day."""

UNSIGNED: Final = "expected an event that its writer signed"
"""How the refusal of a line begins that no MAC vouches for: that isn't damage, somebody wrote it."""

_BLOOM_COLUMNS: Final = ("lead_id",)
_DELTA_COLUMNS: Final = ("seq", "time", "duration_us")
_PLAIN_COLUMNS: Final = ("v", "details", "mac", "leaf", *_DELTA_COLUMNS)


@dataclass(frozen=True)
class Reject:
    """A journal line that isn't an event of its writer.

    Attributes:
        number: Line number in its part, from 1.
        line: Its bytes.
        reason: What was expected and found.
    """

    number: int
    line: bytes
    reason: str


@dataclass
class Run:
    """Consecutive events of one writer in one segment.

    Attributes:
        writer: Id of the writer.
        first: Its first sequence number.
        last: Its last one.
        prev: Leaf of the event before the first, None if that event is lost.
        link: Leaf of the last event.
        closed: Whether the writer signed its end with it.
        next: The sequence number that must come next; larger than ``last + 1`` behind a gap event.
    """

    writer: str
    first: int
    last: int
    prev: bytes | None
    link: bytes
    closed: bool
    next: int


@dataclass(frozen=True)
class SealedSegment:
    """A finished segment file, not yet in the ledger.

    Attributes:
        day: UTC date of its events.
        digest: SHA-256 of the file, hexadecimal.
        size: Length of the file in bytes.
        rows: How many events it holds.
        time_min: Earliest time, microseconds since 1970.
        time_max: Latest time.
        leaves: The events' leaves in the order of the rows, 32 bytes each.
        runs: Which events of which writers.
    """

    day: date
    digest: str
    size: int
    rows: int
    time_min: int
    time_max: int
    leaves: bytes
    runs: tuple[Run, ...]


def _print_query(store: str) -> str:
    sources = {"store": f"'{store}'", "time": "epoch_us(time)", "mac": "lower(hex(mac))"}
    parts = (f'"{key}" := ' + sources.get(key, f'"{key}"') for key in (*BODY_KEYS, "mac"))
    return f"SELECT to_json(struct_pack({', '.join(parts)}))::VARCHAR AS line FROM rows"


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
    lines = [line.encode() for line in _print_rows(table, store, connection).to_pylist()]
    for index, line in enumerate(lines):
        # DuckDB prints \u001F where the format says \u001f.
        if b"\\u00" in line:
            lines[index] = _rebuild_line(table, index, store)
    return lines


def _print_rows(table: pa.Table, store: str, connection: duckdb.DuckDBPyConnection | None = None) -> pa.StringArray:
    own = connection or engine.connect()
    own.register("rows", table)
    try:
        printed: pa.StringArray = own.sql(_print_query(store)).to_arrow_table().column(0).combine_chunks()
    except duckdb.Error as error:
        raise StoreDamaged(f"expected rows that can be printed, found values that can't: {str(error)[:300]}") from error
    finally:
        own.unregister("rows")
        if connection is None:
            own.close()
    return printed


def _prints_as(table: pa.Table, lines: list[bytes], store: str, connection: duckdb.DuckDBPyConnection | None) -> bool:
    """Tell whether every row, printed from its columns, is its line byte for byte."""
    printed = _print_rows(table, store, connection)
    _, offsets, data = printed.buffers()
    width = np.int64 if printed.type == pa.large_string() else np.int32
    ends = np.frombuffer(offsets, dtype=width)[printed.offset : printed.offset + len(printed) + 1]
    lengths = np.fromiter(map(len, lines), dtype=np.int64, count=len(lines))
    if not np.array_equal(np.diff(ends), lengths):
        return False
    return bool(data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes() == b"".join(lines))


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
    table = _read_quickly(lines, store)
    if table is not None and _prints_as(table, lines, store, connection):
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


def _read_quickly(lines: list[bytes], store: str) -> pa.Table | None:
    kinds = {"integer": pa.int64(), "time": pa.int64(), "string": pa.string()}
    schema = pa.schema([*((column.name, kinds[column.kind]) for column in BODY), ("mac", pa.string())])
    data = b"\n".join(lines) + b"\n"
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
    if raw.num_rows != len(lines) or mac.null_count:
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
    _, offsets, data = digits.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[digits.offset : digits.offset + len(digits) + 1]
    if not bool((np.diff(ends) == 64).all()):
        return None
    try:
        packed = bytes.fromhex(data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes().decode("ascii"))
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


@dataclass
class Head:
    """Where a writer's chain has got to.

    Attributes:
        next: The sequence number that must come next.
        link: Leaf of its last event.
        closed: Whether the writer signed its end.
    """

    next: int
    link: bytes | None
    closed: bool


@dataclass
class SegmentWriter:
    """Writes one segment, in the order its lines are given: by writer and sequence number.

    Args:
        path: Where the file is made; it must not be there.
        store: Id of the store.
        day: UTC date of its events.
        heads: Where each writer's chain has got to; moved on by what is added.
        held: For each writer the sequence numbers, first to last, that earlier commits hold.
        signers: The writers' keys: with them a line that its writer didn't sign is set aside.
        find_opened: Gives the details of a writer's first event from an earlier segment, which say which key it has.
    """

    path: Path
    store: str
    day: date
    heads: dict[str, Head]
    held: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    signers: WriterKeys | None = None
    find_opened: Callable[[str], str | None] | None = None
    rows: int = 0
    _tables: list[Any] = field(default_factory=list)
    _waiting: int = 0
    _leaves: bytearray = field(default_factory=bytearray)
    _runs: list[Run] = field(default_factory=list)
    _proved: set[str] = field(default_factory=set)
    _time_min: int = 1 << 62
    _time_max: int = -(1 << 62)
    _writer: pq.ParquetWriter | None = None
    _connection: duckdb.DuckDBPyConnection | None = None

    def add(self, writer: str, lines: list[bytes], number: int = 1, follower: bytes | None = None) -> list[Reject]:
        """Add consecutive lines of one writer; what the chain already holds is passed over.

        Args:
            writer: Id of the writer, from the journal's name.
            lines: Lines without their newlines.
            number: Line number of the first, for the rejects.
            follower: The writer's line behind the last of these, if it has one yet.

        Returns:
            The lines that aren't events of this writer's chain.
        """
        if self._connection is None:
            self._connection = engine.connect()
        table, good, reasons = parse_lines(lines, self.store, self._connection)
        explained = iter(reasons)
        rejects = [Reject(number + i, line, next(explained)) for i, line in enumerate(lines) if not good[i]]
        if not self._extend_run(writer, table, lines if not rejects else []):
            numbered = [(number + i, line) for i, line in enumerate(lines) if good[i]]
            keep = self._follow_chain(writer, table, numbered, rejects, follower)
            table = table.take(pa.array(keep, pa.int64()))
        if table.num_rows:
            self._append(table)
        return rejects

    def _extend_run(self, writer: str, table: pa.Table, lines: list[bytes]) -> bool:
        """Take all rows at once if they are the next ones of an open chain without gaps, as nearly all are."""
        head = self.heads.get(writer)
        if head is None or head.closed or not self._runs or self._runs[-1].writer != writer or not lines:
            return False
        run = self._runs[-1]
        times = np.asarray(table.column("time").combine_chunks().view("int64"))
        start = start_of_day(self.day)
        plain = (
            run.next == head.next
            and pc.unique(table.column("writer")).to_pylist() == [writer]
            and np.array_equal(np.asarray(table.column("seq")), np.arange(head.next, head.next + len(lines)))
            and start <= int(times.min())
            and int(times.max()) < start + DAY_US
            and not {GAP, CLOSED} & set(pc.unique(table.column("type")).to_pylist())
        )
        if not plain:
            return False
        leaves = [sha256(b"\0" + line).digest() for line in lines]
        if self.signers is not None and self.signers.knows(writer):
            rows = _list_rows(table, lines)
            if not all(check_macs(self.signers, writer, rows, leaves, head.link)):
                return False
        self._leaves += b"".join(leaves)
        run.last, run.link, run.next = head.next + len(lines) - 1, leaves[-1], head.next + len(lines)
        head.next, head.link = run.next, run.link
        self._time_min = min(self._time_min, int(times.min()))
        self._time_max = max(self._time_max, int(times.max()))
        return True

    def _judge(
        self,
        writer: str,
        table: pa.Table,
        lines: list[bytes],
        leaves: list[bytes],
        prev: bytes | None,
        follower: bytes | None,
    ) -> tuple[list[Row], list[bool]] | None:
        """Check each line's MAC over the line stored before it, and the follower's over the last one.

        The first event says which key its writer has. It is believed once a MAC holds under that key: whoever changes
        it must not have a whole journal set aside. None is given if the key isn't known.
        """
        if self.signers is None:
            return None
        rows = _list_rows(table, lines)
        if not self.signers.knows(writer):
            opened = [table.column("details")[i].as_py() for i, row in enumerate(rows) if row.seq == 0]
            if not opened and self.find_opened is not None:
                opened = [self.find_opened(writer)]
            number = read_number(opened[0]) if opened else None
            if number is None:
                return None
            self.signers.prepare(writer, number)
        valid = check_macs(self.signers, writer, rows, leaves, prev)
        if not any(valid) and writer not in self._proved:
            self.signers.forget(writer)
            return None
        self._proved.add(writer)
        if follower is not None and leaves:
            valid.append(self._holds(writer, follower, leaves[-1]))
        return rows, valid

    def _holds(self, writer: str, line: bytes, prev: bytes) -> bool:
        """Tell whether a line that comes later has a MAC that holds over a leaf."""
        try:
            fields, mac = parse_line(line)
        except (StoreDamaged, FormatUnknown):
            return False
        assert self.signers is not None
        row = Row(fields["seq"], fields["epoch"], mac, line, fields["time"])
        return check_macs(self.signers, writer, [row], [hash_line(line)], prev) == [True]

    def _follow_chain(
        self,
        writer: str,
        table: pa.Table,
        numbered: list[tuple[int, bytes]],
        rejects: list[Reject],
        follower: bytes | None,
    ) -> list[int]:
        """Say which rows go on from where the chain stands, and move the chain on.

        What an earlier commit holds is passed over. Anything else below the head is set aside: it was never sealed, and
        its journal is about to be dropped.
        """
        head = self.heads.setdefault(writer, Head(0, bytes(32), closed=False))
        times = table.column("time").combine_chunks().view("int64").to_pylist()
        kinds = table.column("type").to_pylist()
        keep: list[int] = []
        run: Run | None = None
        if self._runs and self._runs[-1].writer == writer and self._runs[-1].next == head.next:
            run = self._runs[-1]
        day = read_writer_day(writer)
        held = self.held.get(writer, [])
        writers = table.column("writer").to_pylist()
        lines = [line for _, line in numbered]
        leaves = [hash_line(line) for line in lines]
        judged = self._judge(writer, table, lines, leaves, head.link, follower)
        for index, seq in enumerate(table.column("seq").to_pylist()):
            line_number, line = numbered[index]
            fault = None
            if writers[index] != writer:
                fault = f"expected an event of writer {writer}, found one of {writers[index]}"
            elif find_day(times[index]) != day:
                fault = f"expected an event of {day}, found one of {find_day(times[index])}"
            elif seq < head.next:
                if any(first <= seq <= last for first, last in held):
                    continue
                fault = f"expected seq {head.next} or later, found seq {seq} again or out of its order"
            elif head.closed:
                fault = f"expected nothing behind the end its writer signed, found seq {seq}"
            elif judged is not None and not self._vouches(writer, judged, leaves, index, head):
                fault = f"{UNSIGNED}, found seq {seq} with a MAC that isn't its writer's"
            if fault is not None:
                rejects.append(Reject(line_number, line, fault))
                continue
            leaf = leaves[index]
            if run is None or seq != run.next:
                prev = head.link if seq == head.next else None
                run = Run(writer, seq, seq, prev, leaf, closed=False, next=seq + 1)
                self._runs.append(run)
            run.last, run.link, run.next = seq, leaf, seq + 1
            if kinds[index] == GAP:
                run.next = seq + read_dropped(table.column("details")[index].as_py())
            elif kinds[index] == CLOSED:
                run.closed = head.closed = True
            head.next, head.link = run.next, leaf
            keep.append(index)
            self._leaves += leaf
            self._time_min = min(self._time_min, times[index])
            self._time_max = max(self._time_max, times[index])
        return keep

    def _vouches(
        self, writer: str, judged: tuple[list[Row], list[bool]], leaves: list[bytes], index: int, head: Head
    ) -> bool:
        """Tell whether a MAC vouches for a row: its own over the chain's last row, or that of the row behind it."""
        rows, valid = judged
        row = rows[index]
        if row.seq == head.next and head.link is not None and self.signers is not None:
            (own,) = check_macs(self.signers, writer, [row], [leaves[index]], head.link)
            if own:
                return True
        return index + 1 < len(valid) and valid[index + 1]

    def _append(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self._waiting += table.num_rows
        self._tables.append(table)
        if self._waiting >= ROW_GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        schema = make_schema(self.store)
        if self._writer is None:
            self._writer = open_writer(self.path, schema)
        table = pa.concat_tables(self._tables).combine_chunks().cast(schema)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._tables.clear()
        self._waiting = 0

    def close(self) -> SealedSegment | None:
        """Finish the file and describe it; None (and no file) if nothing was added."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if not self.rows:
            return None
        if self._tables:
            self._write()
        assert self._writer is not None
        self._writer.close()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return SealedSegment(
            self.day,
            digest,
            self.path.stat().st_size,
            self.rows,
            self._time_min,
            self._time_max,
            bytes(self._leaves),
            tuple(self._runs),
        )


def read_dropped(details: str | None) -> int:
    """Read how many events a gap event stands for; 1 if it doesn't say."""
    import orjson

    try:
        dropped = orjson.loads(details or "{}").get("dropped", 1)
    except (orjson.JSONDecodeError, AttributeError):
        return 1
    return dropped if type(dropped) is int and 1 <= dropped <= MAX_DROPPED else 1


def _list_rows(table: pa.Table, lines: list[bytes]) -> list[Row]:
    """Give the rows of a table, each with its line, as chains take them."""
    times = table.column("time").combine_chunks().view("int64").to_pylist()
    columns = (table.column(name).to_pylist() for name in ("seq", "epoch", "mac"))
    return [Row(*fields) for fields in zip(*columns, lines, times, strict=True)]


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet file with the encodings that suit each column.

    MACs are random and aren't compressed; times, sequence numbers and durations are stored as differences; a Bloom
    filter on ``lead_id`` lets a reader skip the row groups that never saw a lead. Page checksums are on: without them
    three in four flipped bits are read as data.
    """
    compressed = [name for name in schema.names if name not in ("mac", "leaf")]
    writer: pq.ParquetWriter = pq.ParquetWriter(
        path,
        schema,
        compression={name: "zstd" if name in compressed else "none" for name in schema.names},
        compression_level=dict.fromkeys(compressed, 1),
        use_dictionary=[name for name in schema.names if name not in _PLAIN_COLUMNS],
        column_encoding=dict.fromkeys(_DELTA_COLUMNS, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
        store_schema=True,
        bloom_filter_options={name: {"ndv": ROW_GROUP_ROWS // 4, "fpp": 0.05} for name in _BLOOM_COLUMNS},
    )
    return writer


def open_segment(path: Path) -> pq.ParquetFile:
    """Open a segment with its page checksums checked.

    Raises:
        StoreDamaged: If it isn't a Parquet file with this format's columns.
    """
    try:
        file: pq.ParquetFile = pq.ParquetFile(path, page_checksum_verification=True)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreDamaged(f"expected a Parquet segment at {path}, found a file that can't be read: {error}") from error
    metadata = schema.metadata or {}
    if metadata.get(b"format") != str(FORMAT).encode() or not schema.equals(make_schema()):
        raise StoreDamaged(
            f"expected a segment of format {FORMAT} with the columns {', '.join(SEGMENT_KEYS)} at {path}, "
            f"found {', '.join(schema.names)[:500]}"
        )
    return file


def read_tables(path: Path, rows: int = ROW_GROUP_ROWS // 2) -> Iterator[pa.Table]:
    """Read a segment a batch of rows at a time.

    Raises:
        StoreDamaged: If a page's checksum or content is wrong.
    """
    file = open_segment(path)
    schema = make_schema()
    try:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            batch.validate(full=True)
            yield pa.Table.from_batches([batch]).cast(schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error
    finally:
        file.close()


def read_doubtful_tables(path: Path, max_rows: int) -> Iterator[pa.Table]:
    """Read a file that nothing vouches for, as `read_tables` does, without believing what it says of its size.

    A few hundred bytes of Parquet can stand for gigabytes: a text is stored once, and a number says how often it is
    meant. So texts are kept as a dictionary and measured before they are laid out.

    Args:
        path: The file.
        max_rows: Most rows that are read.

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
            for batch in file.iter_batches(batch_size=DOUBTFUL_ROWS, use_threads=False):
                rows += batch.num_rows
                size += sum(_measure(batch.column(name)) for name in texts)
                if rows > max_rows or size > DOUBTFUL_BYTES:
                    raise StoreDamaged(f"expected at most {max_rows} rows and {DOUBTFUL_BYTES} bytes in {path}")
                table = pa.Table.from_batches([batch]).cast(schema)
                table.validate(full=True)
                yield table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreDamaged(f"expected readable pages in the segment {path}, found damage: {error}") from error


def _measure(texts: pa.DictionaryArray) -> int:
    """Add up how many bytes texts take when each stands for itself."""
    lengths = pc.binary_length(texts.dictionary)
    return pc.sum(lengths.take(texts.indices.drop_null())).as_py() or 0


def read_opened(path: Path, writer: str) -> str | None:
    """Read the details of a writer's first event from the segment that holds it; None if they can't be read."""
    try:
        for table in read_doubtful_tables(path, path.stat().st_size + MARGIN_ROWS):
            names, seqs = table.column("writer").to_pylist(), table.column("seq").to_pylist()
            for index, name in enumerate(names):
                if name == writer and seqs[index] == 0:
                    details: str | None = table.column("details")[index].as_py()
                    return details
    except (StoreDamaged, OSError):
        return None  # the damage is reported where that segment itself is checked
    return None


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
