"""Imports: files become events of a trail, each row exactly once or in the rejects.

Rows are taken in batches, and a batch is recorded day by day: a trail keeps one chain for each day, and a
file in another order than that of time would otherwise close and open chains at every row. Rows of one day
keep their order.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Readable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any, Final

from auditkit.errors import ImportRefused, UsageError
from auditkit.importing.catalogue import find_mapping
from auditkit.importing.documents import Raw
from auditkit.importing.extraction import Extractor, Fields, check_size, list_columns
from auditkit.importing.history import (
    IMPORTED,
    STARTED,
    STOPPED,
    Sink,
    check_repetition,
    find_marks,
    record_mark,
)
from auditkit.importing.mapping import Mapping, Record, load_mapping
from auditkit.importing.problems import OPTIONS, Unusable, ZoneMissing, make_printable, name_argument
from auditkit.importing.reading import Opened, Reading, open_rows
from auditkit.importing.rejects import Reject, Rejects, RejectsUnwritable
from auditkit.importing.streams import hash_file
from auditkit.store.outputs import choose_output

Progress = Callable[[int, int, int], None]
"""Called about ten times a second with the bytes read, the bytes there are, and the rows read."""

FindImports = Callable[[], Iterable[Readable[str, Any]]]
"""Gives the details of the events that remember imports."""

MAX_REJECTS: Final = 100_000
"""How many rejects stop the import of a file, unless the call says otherwise."""

_BATCH_ROWS: Final = 20_000
_BATCH_BYTES: Final = 16 << 20
_ZONELESS_ROWS: Final = 1_000
_LARGE: Final = 500_000  # from this length on, a row may be too large for an event
_MAX_TYPES: Final = 1_000
_OTHER_TYPES: Final = "(other types)"
_PROGRESS_SECONDS: Final = 0.1
_PROGRESS_ROWS: Final = 256
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

# Day of the event, number and line of the row, its raw form, and the event.
_Pending = tuple[int, int, int | None, Raw, str, Record | None, Fields]


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What an import did.

    Attributes:
        source: Name of the file.
        path: The file.
        sha256: SHA-256 of its bytes, in hexadecimal.
        mapping: Name of the mapping.
        format: The file's format.
        options: How the file was read and its times were understood: what was given, and what was assumed.
        rows: How many rows were read; the sum of `imported` and `rejected`.
        imported: How many became events.
        rejected: How many couldn't.
        first: Earliest time of an event.
        last: Latest time of an event.
        types: How many events there are of each type.
        reasons: How many rejects there are of each kind.
        samples: The first rejects.
        rejects: The file that holds all rejects; None if there are none.
        complete: Whether the file was read to its end. False says that it is cut, damaged, or was changed.
        skipped: Whether the file was left out, since it was imported before.
        notes: What else should be known.
        duration: How long it took, in seconds.
    """

    source: str
    path: Path
    sha256: str
    mapping: str
    format: str = ""
    options: Readable[str, Any]
    rows: int = 0
    imported: int = 0
    rejected: int = 0
    first: datetime | None = None
    last: datetime | None = None
    types: Readable[str, int]
    reasons: Readable[str, int]
    samples: tuple[Reject, ...] = ()
    rejects: Path | None = None
    complete: bool = True
    skipped: bool = False
    notes: tuple[str, ...] = ()
    duration: float = 0.0

    def __str__(self) -> str:
        name = make_printable(self.source)
        if self.skipped:
            return f"{name}: left out, it was imported before"
        lines = [f"{name}: {self.rows:,} rows, {self.imported:,} imported, {self.rejected:,} rejected"]
        if self.first is not None and self.last is not None:
            lines.append(f"  from {self.first:%Y-%m-%d %H:%M:%S} to {self.last:%Y-%m-%d %H:%M:%S} UTC")
        shown = (f"{key}={value!r}" for key, value in self.options.items() if value is not None)
        how = f"  read as {self.format}, mapping {self.mapping}: {', '.join(shown)}"
        lines.append(make_printable(how, 300))
        for kind, count in sorted(self.types.items(), key=lambda item: (-item[1], item[0]))[:20]:
            lines.append(f"  {count:>9,} {make_printable(kind)}")
        if len(self.types) > 20:
            lines.append(f"            and {len(self.types) - 20:,} more types")
        for reason, count in self.reasons.items():
            lines.append(f"  {count:>9,} rejected: {make_printable(reason)}")
        lines += [f"  {sample}" for sample in self.samples[:3]]
        if self.rejects is not None:
            lines.append(f"  rejects are in {make_printable(str(self.rejects), 300)}")
        if not self.complete:
            lines.append("  NOT COMPLETE: the file could not be read to its end")
        return "\n".join([*lines, *(f"  {make_printable(note, 300)}" for note in self.notes)])


def import_file(
    path: str | os.PathLike[str],
    logger: Sink,
    mapping: Mapping | str,
    *,
    rejects: str | os.PathLike[str] | None = None,
    again: bool = False,
    progress: Progress | None = None,
    limit: int | None = None,
    skip: int = 0,
    max_rejects: int = MAX_REJECTS,
    reading: Reading | None = None,
    find_imports: FindImports | None = None,
) -> ImportResult:
    """Import one file.

    Args:
        path: The file: JSON Lines, JSON, CSV or Parquet; text may be packed with gzip or Zstandard.
        logger: Where the events are recorded. Its own actor and workflow stand in for rows that name none; a
            surrounding `context` doesn't.
        mapping: A mapping, the name of a ready-made one, or the path of a TOML file.
        rejects: File for rows that can't be events; it is added to. Default: ``<file name>.rejects.jsonl`` in
            the current folder, which is made with the first reject and never written over.
        again: Import the file although the trail says that it was imported.
        progress: Called about ten times a second with the bytes read, all bytes, and the rows read.
        limit: Most rows to read.
        skip: How many rows at the beginning to leave out, to go on behind an import that was stopped.
        max_rejects: How many rejects stop the import: with so many, the mapping or the file is wrong.
        reading: How the file is to be read; by default its format is told from it.
        find_imports: Gives the details of the events that remember imports; by default the logger's trail is
            asked.

    Returns:
        What was imported and what wasn't.

    Raises:
        ImportRefused: If the file was imported before with a mapping of this name, or if such an import was
            begun and not ended. Nothing is recorded.
        UsageError: If the mapping or the reading doesn't fit the file, or the rejects can't be written.
        ExtraMissing: If the file needs pyarrow, which isn't installed.
        OSError: If the file can't be opened.
        KeyboardInterrupt: If the user stopped it; the rows up to there are recorded, and `skip` goes on.

    Example:
        >>> import tempfile
        >>> from auditkit.logger import AuditLogger
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "orders.jsonl")
        ...     _ = file.write_text('{"at": "2026-11-23T10:00:00Z", "who": "ana", "total": 120}\\n')
        ...     mapping = Mapping(time="at", type="=order.placed", actor="who")
        ...     with AuditLogger(f"{folder}/audit", secret_key="an example's secret") as audit:
        ...         result = import_file(file, audit, mapping, find_imports=list)
        >>> result.imported, result.rejected, result.types
        (1, 0, {'order.placed': 1})
    """
    return import_files(
        [path],
        logger,
        mapping,
        rejects=rejects,
        again=again,
        progress=progress,
        limit=limit,
        skip=skip,
        max_rejects=max_rejects,
        reading=reading,
        find_imports=find_imports,
    )[0]


def import_files(
    paths: Iterable[str | os.PathLike[str]],
    logger: Sink,
    mapping: Mapping | str,
    *,
    rejects: str | os.PathLike[str] | None = None,
    again: bool = False,
    skip_known: bool = False,
    progress: Progress | None = None,
    limit: int | None = None,
    skip: int = 0,
    max_rejects: int = MAX_REJECTS,
    reading: Reading | None = None,
    find_imports: FindImports | None = None,
) -> list[ImportResult]:
    """Import several files; all are looked up before the first row is recorded.

    Args:
        paths: The files, in the order in which they are imported.
        logger: As in `import_file`.
        mapping: As in `import_file`.
        rejects: One file for the rejects of all; by default each file has its own.
        again: As in `import_file`.
        skip_known: Leave files out that were imported before, instead of refusing all.
        progress: As in `import_file`; the bytes are those of all files.
        limit: Most rows to read of each file.
        skip: How many rows at the beginning of each file to leave out.
        max_rejects: How many rejects stop the import of a file.
        reading: As in `import_file`.
        find_imports: As in `import_file`.

    Returns:
        The results, in the order of the files.

    Raises:
        ImportRefused: If a file was imported before. Nothing is recorded.
        UsageError: As in `import_file`.
        ExtraMissing: As in `import_file`.
        OSError: If a file can't be opened.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"expected a limit of at least 1 row, found {limit}")
    if max_rejects < 1:
        raise UsageError(f"expected max_rejects of at least 1, found {max_rejects}")
    if skip < 0:
        raise UsageError(f"expected skip to be a number of rows, found {skip}")
    chosen = _choose_mapping(mapping)
    extractor = Extractor(chosen)
    sources = _look_up(
        [Path(path) for path in paths],
        chosen.name,
        # Nothing needs to be asked where the answer has no consequence.
        [] if again else list(find_marks(logger) if find_imports is None else find_imports()),
        again=again,
        skip_known=skip_known,
        skip=skip,
    )
    if rejects is not None:
        _check_rejects(choose_output(rejects, "a file for the rejects"), sources)
    meter = _Meter(progress, sum(source.size for source in sources if not source.known))
    results = []
    for source in sources:
        if source.known:
            results.append(source.make_result(chosen.name, skipped=True))
            continue
        task = _Import(
            source,
            logger,
            chosen,
            extractor,
            meter,
            rejects=rejects,
            reading=reading or Reading(),
            limit=limit,
            skip=skip,
            max_rejects=max_rejects,
        )
        # A context around the call (an actor, a lead) is that of the caller, not that of the rows.
        context = contextvars.Context()
        context.run(OPTIONS.set, OPTIONS.get())
        with _name_file(source.path):
            results.append(context.run(task.run))
        meter.finish_file(source.size, results[-1].rows)
    return results


def _check_rejects(rejects: Path, sources: list[_Source]) -> None:
    for source in sources:
        if rejects.exists() and rejects.samefile(source.path):
            raise UsageError(
                f"expected a file for the rejects other than the one that is imported, found {source.path} for both: "
                "what is rejected would be read and rejected again without an end"
            )


def check_files(
    paths: Iterable[str | os.PathLike[str]],
    mapping: Mapping | str,
    *,
    limit: int | None = None,
    skip: int = 0,
    reading: Reading | None = None,
) -> None:
    """Refuse what `import_files` would refuse at a file's first rows, for whom a logger is still to be made.

    Args:
        paths: The files.
        mapping: As in `import_file`.
        limit: As in `import_files`.
        skip: As in `import_files`.
        reading: As in `import_file`.

    Raises:
        UsageError: If a path isn't that of a file, or if the mapping or the reading doesn't fit it.
        ExtraMissing: As in `import_file`.
        OSError: If a file can't be opened.
    """
    chosen = _choose_mapping(mapping)
    extractor = Extractor(chosen)
    rows = _ZONELESS_ROWS if limit is None else min(limit, _ZONELESS_ROWS)
    for path in map(Path, paths):
        with _name_file(path), contextlib.closing(open_rows(path, reading or Reading())) as opened:
            _check_columns(opened, chosen, path.name)
            _check_beginning(opened, extractor, rows, zones=not skip)


def _check_beginning(opened: Opened, extractor: Extractor, most: int, *, zones: bool) -> None:
    """Look for a row that can be an event, and refuse a file whose rows all lack their zone."""
    zoneless: ZoneMissing | None = None
    read = bad = 0
    for _, row, _ in islice(opened.rows, most):
        read += 1
        try:
            if isinstance(row, dict):
                extractor.extract(row)
                return
        except ZoneMissing as problem:
            zoneless = zoneless or problem
            continue
        except Unusable:
            pass
        bad += 1
    # Where other rows are bad too, a sound one may stand further on.
    if zones and zoneless is not None and (read < _ZONELESS_ROWS or not bad):
        raise _refuse_zone(zoneless, read)


def _refuse_zone(problem: Unusable, rows: int) -> UsageError:
    return UsageError(
        f"{problem.detail}, and none of the {rows:,} rows read says its zone: give the zone of such times, for "
        f"instance {name_argument('tz', 'UTC')} or {name_argument('tz', 'Europe/Berlin')} (nothing was recorded)"
    )


@contextlib.contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Put the file's name before the message of an error that doesn't say it."""
    try:
        yield
    except UsageError as error:
        if path.name in str(error):
            raise
        raise UsageError(f"{path}: {error}") from error


def _check_columns(opened: Opened, mapping: Mapping, source: str) -> list[str]:
    """Compare a mapping with a table's columns, before every row fails for the same reason.

    Returns:
        Notes on the columns that are missing.

    Raises:
        UsageError: If one is missing without which there is no event.
    """
    if opened.columns is None or not opened.columns:
        return []
    notes = []
    names = set(opened.columns)
    for column, paths in list_columns(mapping).items():
        if any(path in names or path.partition(".")[0] in names for path in paths):
            continue
        missing = " or ".join(repr(path) for path in paths)
        if column in ("time", "type"):
            listed = make_printable(", ".join(opened.columns), 500)
            raise UsageError(
                f"{source} has no column {missing}, which the mapping {mapping.name} takes the {column} from; its "
                f"columns are: {listed}"
            )
        notes.append(f"no column {missing}: events have no {column}")
    return notes


@dataclass(frozen=True)
class _Source:
    """A file to import."""

    path: Path
    sha256: str
    size: int
    changed_ns: int
    known: bool
    note: str | None

    def make_result(self, mapping: str, **fields: Any) -> ImportResult:
        given = {"options": {}, "types": {}, "reasons": {}} | fields
        return ImportResult(source=self.path.name, path=self.path, sha256=self.sha256, mapping=mapping, **given)


def _choose_mapping(mapping: Mapping | str) -> Mapping:
    if isinstance(mapping, Mapping):
        return mapping
    return load_mapping(mapping) if mapping.endswith(".toml") else find_mapping(mapping)


def _look_up(
    paths: list[Path],
    mapping: str,
    marks: list[Readable[str, Any]],
    *,
    again: bool,
    skip_known: bool,
    skip: int,
) -> list[_Source]:
    sources: list[_Source] = []
    refusals: list[str] = []
    for path in paths:
        changed_ns = path.stat().st_mtime_ns
        sha256, size = hash_file(path)
        known, note = False, None
        twin = next((source for source in sources if source.sha256 == sha256), None)
        try:
            if twin is not None and not again:
                raise ImportRefused(f"{path.name} has the same content as {twin.path.name}: leave one out")
            note = check_repetition(marks, path.name, sha256, mapping, skip)
        except ImportRefused as refusal:
            known = skip_known
            if not skip_known:
                refusals.append(str(refusal))
        sources.append(_Source(path, sha256, size, changed_ns, known, note))
    if refusals:
        more = f"; and {len(refusals) - 3} more files" if len(refusals) > 3 else ""
        raise ImportRefused("; ".join(refusals[:3]) + more + ". Nothing was recorded.")
    return sources


class _Meter:
    """Tells the progress over all files, not too often."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._rows = 0
        self._next = 0.0

    def show(self, done: int, total: int, rows: int) -> None:
        """Report that so many of a file's bytes and rows have been read, if it is time."""
        if self._progress is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._progress(self._done + min(done, total), self._total, self._rows + rows)

    def finish_file(self, size: int, rows: int) -> None:
        """Report that a file is done."""
        self._done += size
        self._rows += rows
        if self._progress is not None:
            self._progress(self._done, self._total, self._rows)


class _Import:
    """The import of one file."""

    def __init__(
        self,
        source: _Source,
        logger: Sink,
        mapping: Mapping,
        extractor: Extractor,
        meter: _Meter,
        *,
        rejects: str | os.PathLike[str] | None,
        reading: Reading,
        limit: int | None,
        skip: int,
        max_rejects: int,
    ) -> None:
        self._source = source
        self._logger = logger
        self._log_event = logger.log_event
        self._mapping = mapping
        self._extract = extractor.extract
        path = None if rejects is None else Path(rejects)
        self._rejects = Rejects(source.path.name, path, reading.encoding)
        self._reading = reading
        self._meter = meter
        self._limit = limit
        self._skip = skip
        self._max_rejects = max_rejects
        self._id = secrets.token_hex(8)
        self._row = 0  # number of the last row that was taken or rejected
        self._imported = 0
        self._first = _NEVER
        self._last = datetime.min.replace(tzinfo=UTC)
        self._types: dict[str, int] = {}
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._zoneless: list[tuple[int, int | None, Unusable, Raw]] = []
        self._zoneless_bytes = 0
        self._started = False
        self._recording = False  # a batch, whose rows are in the order of their days
        self._complete = True
        self._limited = False
        self._notes: list[str] = [] if source.note is None else [source.note]

    def run(self) -> ImportResult:
        begun = time.perf_counter()
        opened = open_rows(self._source.path, self._reading)
        try:
            self._notes += _check_columns(opened, self._mapping, self._source.path.name)
            with _defer_interrupts() as interrupted:
                for number, line_and_more in self._number_rows(opened):
                    self._take(number, *line_and_more)
                    if interrupted.is_set():
                        self._stop(opened)
                self._refuse_zoneless()
                self._record_pending()
                self._check_unchanged()
                if self._started:
                    self._mark(IMPORTED, "imported", self._describe(opened))
                if interrupted.is_set():
                    raise KeyboardInterrupt(f"stopped behind {self._source.path.name}, which was imported")
        except RejectsUnwritable:
            if not self._recording:
                self._leave(opened)
            raise
        finally:
            opened.close()
            self._rejects.close()
        if self._row == 0 and self._complete:
            self._notes.append("the file holds no rows" if self._skip == 0 else "no rows are left to import")
        return self._source.make_result(
            self._mapping.name,
            format=opened.format,
            options=self._describe(opened),
            rows=self._imported + self._rejects.count,
            imported=self._imported,
            rejected=self._rejects.count,
            first=self._first if self._imported else None,
            last=self._last if self._imported else None,
            types=self._types,
            reasons=self._rejects.reasons,
            samples=tuple(self._rejects.samples),
            rejects=self._rejects.path,
            complete=self._complete,
            notes=tuple(self._notes),
            duration=time.perf_counter() - begun,
        )

    def _number_rows(self, opened: Opened) -> Iterator[tuple[int, tuple[int | None, Record | Unusable, Raw]]]:
        """Number the rows, leave out the first, stop at the limit, and show the progress."""
        end = None if self._limit is None else self._skip + self._limit
        for number, row in enumerate(opened.rows, 1):
            if end is not None and number > end:
                self._limited = True
                self._notes.append(
                    f"only {self._limit:,} rows were read, as asked; {name_argument('skip', end)} goes on there"
                )
                return
            if self._rejects.count >= self._max_rejects:
                self._limited = True
                self._complete = False
                self._notes.append(
                    f"the import was given up after {self._rejects.count:,} rejects (max_rejects), before row "
                    f"{number:,}: is it the right mapping? {name_argument('skip', number - 1)} goes on there"
                )
                return
            if number % _PROGRESS_ROWS == 0:
                self._meter.show(*opened.measure(), number)
            if number > self._skip:
                yield number, row

    def _take(self, number: int, line: int | None, row: Record | Unusable, raw: Raw) -> None:
        """Make an event of a row, to be recorded with its batch, or reject it."""
        if row.__class__ is dict:
            try:
                kind, details, fields = self._extract(row)
                size = _measure(raw)
                if size is None or size > _LARGE:
                    check_size(details, fields)
            except Unusable as problem:
                if isinstance(problem, ZoneMissing) and not self._started and not self._pending and self._skip == 0:
                    self._row = number
                    self._zoneless.append((number, line, problem, raw))
                    self._zoneless_bytes += _measure(raw) or 0
                    if len(self._zoneless) >= _ZONELESS_ROWS or self._zoneless_bytes >= _BATCH_BYTES:
                        self._refuse_zoneless()
                    return
                self._rejects.add(number, line, problem, raw)
                self._row = number
                return
            self._row = number
            if self._zoneless:
                self._reject_zoneless()
            self._pending.append((fields["time"].toordinal(), number, line, raw, kind, details, fields))
            self._pending_bytes += size or 0
            if len(self._pending) >= _BATCH_ROWS or self._pending_bytes >= _BATCH_BYTES:
                self._record_pending()
        else:
            assert isinstance(row, Unusable)
            if row.fatal:
                self._complete = False
            self._rejects.add(number, line, row, raw)
            self._row = number

    def _refuse_zoneless(self) -> None:
        """Refuse a file of which no row so far says its zone: one answer makes events of all of them.

        Raises:
            UsageError: If there were such rows; they are held back as long as no other row became an event.
        """
        if self._zoneless:
            raise _refuse_zone(self._zoneless[0][2], self._row)

    def _reject_zoneless(self) -> None:
        """Reject the rows without a zone that stood before the first with one: they are bad rows of a sound file."""
        for number, line, problem, raw in self._zoneless:
            self._rejects.add(number, line, problem, raw)
        self._zoneless.clear()

    def _record_pending(self) -> None:
        """Record the batch, day by day."""
        if not self._pending:
            return
        if not self._started:
            self._started = True
            self._mark(STARTED, "started", {})
        self._recording = True
        self._pending.sort(key=itemgetter(0))  # stable: a day's rows keep their order
        log_event, types = self._log_event, self._types
        first, last = self._first, self._last
        for _, number, line, raw, kind, details, fields in self._pending:
            try:
                event_id = log_event(kind, details, **fields)
            except UsageError as error:
                problem = Unusable("not an event", make_printable(str(error), 300))
                self._rejects.add(number, line, problem, raw)
                continue
            if not event_id:
                self._rejects.add(number, line, Unusable("not kept", "the journal can't be written"), raw)
                continue
            self._imported += 1
            moment = fields["time"]
            if moment < first:
                first = moment
            if moment > last:
                last = moment
            if kind not in types and len(types) >= _MAX_TYPES:
                kind = _OTHER_TYPES
            types[kind] = types.get(kind, 0) + 1
        self._first, self._last = first, last
        self._recording = False
        self._pending.clear()
        self._pending_bytes = 0

    def _leave(self, opened: Opened) -> None:
        """Record what was read, and remember where it ended."""
        self._record_pending()
        if self._started:
            self._mark(STOPPED, "stopped", self._describe(opened))

    def _stop(self, opened: Opened) -> None:
        """Stop between two rows, and let the interrupt take its course."""
        self._reject_zoneless()
        self._leave(opened)
        raise KeyboardInterrupt(f"stopped behind row {self._row}: {name_argument('skip', self._row)} goes on there")

    def _mark(self, kind: str, state: str, options: Readable[str, Any]) -> None:
        ended = state != "started"
        details: dict[str, Any] = {
            "state": state,
            "import": self._id,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": self._source.path.name,
            "sha256": self._source.sha256,
            "bytes": self._source.size,
            "mapping": self._mapping.name,
        }
        if ended:
            details |= {
                "rows": self._imported + self._rejects.count,
                "imported": self._imported,
                "rejected": self._rejects.count,
                "skipped": self._skip,
                "through": self._row,
                "limited": self._limited,
                "complete": self._complete,
                "first": self._first.isoformat() if self._imported else None,
                "last": self._last.isoformat() if self._imported else None,
                "reading": dict(options),
                "mapping_fields": self._mapping.to_dict(),
            }
        record_mark(self._logger, kind, details)

    def _describe(self, opened: Opened) -> dict[str, Any]:
        """Say how the file was read and its times were understood."""
        mapping = self._mapping
        times: dict[str, Any] = {"time_format": mapping.time_format, "tz": mapping.tz, "fold": mapping.fold}
        if mapping.duration is not None:
            times["duration_unit"] = mapping.duration_unit
        return opened.options | times

    def _check_unchanged(self) -> None:
        """Notice a file that was written to meanwhile: its SHA-256 isn't that of what was imported."""
        now = self._source.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self._source.size, self._source.changed_ns):
            self._complete = False
            self._notes.append("the file was changed while it was read")


def _measure(raw: Raw) -> int | None:
    """Give the length of a row's text; a row of a Parquet file has none."""
    if isinstance(raw, bytes):
        return len(raw)
    if isinstance(raw, list):
        return len(raw[0]) if len(raw) == 1 else sum(map(len, raw))
    return None


@contextlib.contextmanager
def _defer_interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C stop an import between two rows, so that it is known which rows are recorded.

    A second one stops at once. Only the main thread gets interrupts, and a handler of the application's own
    stays in place.
    """
    interrupted = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupted
        return

    def note(_: int, __: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
