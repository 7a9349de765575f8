"""Writing segments: journal lines that follow their writer's chain become the rows of a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from auditkit.chains import Row, WriterKeys, check_macs, prove_lines, read_number
from auditkit.errors import FormatUnknown, StoreDamaged, explain_missing
from auditkit.event import CLOSED, DAY_US, GAP, GENESIS, hash_line, make_schema, parse_line
from auditkit.store import engine
from auditkit.store.layout import find_day, read_writer_day, start_of_day
from auditkit.store.openings import Openings
from auditkit.store.runs import Head, Run, read_dropped
from auditkit.store.segments import ROW_GROUP_BYTES, ROW_GROUP_ROWS, digest_file, parse_lines

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

if TYPE_CHECKING:
    import duckdb

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


@dataclass
class SegmentWriter:
    """Writes one segment, in the order its lines are given: by writer and sequence number.

    Args:
        path: Where the file is made; it must not be there.
        store: Id of the store.
        day: UTC date of its events.
        heads: Where each writer's chain has got to; moved on by what is added.
        held: For each writer the runs that earlier commits hold.
        signers: The writers' keys: with them a line that its writer didn't sign is set aside.
        openings: The first events that are in earlier segments; they say which key their writer has.
    """

    path: Path
    store: str
    day: date
    heads: dict[str, Head]
    held: dict[str, list[Run]] = field(default_factory=dict)
    signers: WriterKeys | None = None
    openings: Openings | None = None
    rows: int = 0
    _tables: list[Any] = field(default_factory=list)
    _waiting: int = 0
    _waiting_bytes: int = 0
    _leaves: bytearray = field(default_factory=bytearray)
    _runs: list[Run] = field(default_factory=list)
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
        if (
            head is None
            or head.closed
            or head.link is None
            or not self._runs
            or self._runs[-1].writer != writer
            or not lines
        ):
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
        if self.signers is None or not self.signers.knows(writer):
            leaves = [hash_line(line) for line in lines]
        else:
            proved = prove_lines(self.signers, writer, lines, table.column("epoch").to_pylist(), head.link)
            if proved is None:
                return False
            leaves = proved
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

        The first event says which key its writer has. It is believed once a MAC holds under that key, its own for
        instance: whoever changes it must not have a whole journal set aside. None is given if the key isn't known.
        """
        if self.signers is None:
            return None
        rows = _list_rows(table, lines)
        if not self.signers.knows(writer):
            first = next((line for row, line in zip(rows, lines, strict=True) if row.seq == 0), None)
            if first is None and self.openings is not None:
                first = self.openings.find(writer)
            number = None if first is None else read_number(orjson.loads(first).get("details"))
            if first is None or number is None:
                return None
            self.signers.prepare(writer, number)
            if self._holds(writer, first, GENESIS):
                self.signers.proved.add(writer)
        valid = check_macs(self.signers, writer, rows, leaves, prev)
        if any(valid):
            self.signers.proved.add(writer)
        elif writer not in self.signers.proved:
            self.signers.forget(writer)
            return None
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
                run_held = next((known for known in held if known.first <= seq <= known.last), None)
                if run_held is None:
                    fault = f"expected seq {head.next} or later, found seq {seq} again or out of its order"
                elif seq == run_held.last and leaves[index] != run_held.link:
                    fault = f"expected seq {seq} as an earlier commit holds it, found another event of that number"
                else:
                    continue
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
        self._waiting_bytes += table.nbytes
        self._tables.append(table)
        if self._waiting >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        schema = make_schema(self.store)
        if self._writer is None:
            self._writer = open_writer(self.path, schema)
        table = pa.concat_tables(self._tables).combine_chunks().cast(schema)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._tables.clear()
        self._waiting = self._waiting_bytes = 0

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
        return SealedSegment(
            self.day,
            digest_file(self.path),
            self.path.stat().st_size,
            self.rows,
            self._time_min,
            self._time_max,
            bytes(self._leaves),
            tuple(self._runs),
        )


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
