"""Rows of Parquet files, in batches.

Times with a zone come as instants in UTC, times without one as local times. Instants and durations that need
nanoseconds come as text and as integers, so that no digit is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from auditkit.errors import UsageError, require
from auditkit.importing.documents import Row
from auditkit.importing.problems import Unusable, find_repeated, make_printable, show_value
from auditkit.importing.streams import open_regular

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMN_BYTES: Final = 1 << 30
"""Most that one column of a row group may take unpacked; a file of 500 bytes can claim gigabytes."""

_BATCH_ROWS: Final = 4096
# Page checksums are compared where there are any; extension types, which may run code, are not made.
_CAUTION: Final[dict[str, Any]] = {
    "page_checksum_verification": True,
    "arrow_extensions_enabled": False,
    "thrift_string_size_limit": 64 << 20,
    "thrift_container_size_limit": 1 << 20,
}


class Columns:
    """Reads the rows of one Parquet file.

    Args:
        path: The file.

    Attributes:
        columns: Names of the columns.
        total: Size of the file, in bytes.
        done: How many of them have been read, in proportion to the rows.
        broken: Why some rows couldn't be read; None as long as all could.

    Raises:
        UsageError: If it isn't a Parquet file, or if two columns have one name.
        ExtraMissing: If pyarrow isn't installed.
        OSError: If the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        require("pyarrow.parquet", "seal")
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file = open_regular(path)
        try:
            self._parquet = pq.ParquetFile(self._file, **_CAUTION)
            self.columns = tuple(str(name) for name in self._parquet.schema_arrow.names)
        except (OSError, pa.ArrowException, ValueError) as error:
            self._file.close()
            raise UsageError(f"{path} isn't a sound Parquet file: {_first_line(error)}") from error
        twice = find_repeated(self.columns)
        if twice is not None:
            self.close()
            raise UsageError(f"two columns are named {show_value(twice)}: a row can't hold both values")
        self.total = path.stat().st_size
        self.done = 0
        self.broken: str | None = None

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._file.close()

    def read_rows(self) -> Iterator[Row]:
        """Read the rows, group by group, so that a broken group doesn't take the others along.

        Yields:
            The rows; for a group that can't be read to its end, the reason.
        """
        import pyarrow as pa

        metadata = self._parquet.metadata
        seen = 0
        before = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            read = 0
            try:
                sizes = [group.column(at).total_uncompressed_size for at in range(group.num_columns)]
                claimed = max(sizes, default=0)
                if claimed > MAX_COLUMN_BYTES:
                    raise pa.ArrowInvalid(f"a column claims {claimed} bytes, more than {MAX_COLUMN_BYTES}")
                for batch in self._parquet.iter_batches(_BATCH_ROWS, row_groups=[number], use_threads=False):
                    yield from _list_rows(_simplify(batch))
                    read += batch.num_rows
                    seen += batch.num_rows
                    self.done = self.total * seen // max(metadata.num_rows, 1)
            except (OSError, pa.ArrowException, ValueError, NotImplementedError) as error:
                first, last = before + read + 1, before + group.num_rows
                self.broken = f"rows {first} to {last} can't be read: {_first_line(error)}"
                yield None, Unusable("file broken", self.broken, fatal=True), None
            before += group.num_rows
        self.done = self.total


def _simplify(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give every column a type whose values Python has, without losing a digit."""
    import pyarrow as pa

    columns: list[Any] = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_timestamp(kind):
            column = _to_microseconds(column, pa.timestamp("us", "UTC" if kind.tz else None), pa.string())
        elif pa.types.is_duration(kind):
            column = _to_microseconds(column, pa.duration("us"), pa.int64())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=list(batch.schema.names))


def _to_microseconds(column: Any, wanted: Any, otherwise: Any) -> Any:
    import pyarrow as pa

    try:
        return column.cast(wanted)
    except pa.ArrowInvalid:
        return column.cast(otherwise)


def _list_rows(batch: pa.RecordBatch) -> Iterator[Row]:
    names = batch.schema.names
    try:
        rows = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except (ValueError, OverflowError):  # a time before the year 1, or text that isn't UTF-8
        for at in range(batch.num_rows):
            yield _read_row(batch, at)
        return
    for at, values in enumerate(rows):
        yield None, dict(zip(names, values, strict=True)), (batch, at)


def _read_row(batch: pa.RecordBatch, at: int) -> Row:
    record = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            record[name] = column[at].as_py()
        except (ValueError, OverflowError) as error:
            return None, Unusable("value", f"column {show_value(name)}: {_first_line(error)}"), None
    return None, record, (batch, at)


def _first_line(error: BaseException) -> str:
    return make_printable(str(error).partition("\n")[0], 200)
