"""``auditkit import``: events from files that other programs wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from auditkit.cli.declarations import Exit, Settings, command, option
from auditkit.cli.interrupts import raise_from_now_on

if TYPE_CHECKING:
    from rich.text import Text

    from auditkit.cli.terminal import Terminal
    from auditkit.importing import ImportResult, Mapping, Reading

READING = "How to read the files"

OPTIONS: Final = {
    "again": "--again",
    "encoding": "--encoding",
    "format": "--input-format",
    "records": "--records",
    "skip": "--skip",
    "tz": "--tz",
}
"""For each argument that a message of an import names its option."""


@command(
    "import",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit import trail/*.json.gz --mapping cloudtrail", "AWS CloudTrail"),
        (
            "auditkit import app.jsonl --set time=ts --set type=event --set actor=user.id",
            "fields by their paths",
        ),
        ("auditkit import leads.csv --mapping leads.toml --tz Europe/Berlin", "a mapping of your own"),
        ("auditkit import --mapping list", "the ready-made mappings"),
    ),
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILES...")
@option(
    "--mapping",
    metavar="NAME|FILE",
    help="A ready-made mapping, or a TOML file; `list` shows the ready-made ones.",
)
@option(
    "--set",
    "pairs",
    multiple=True,
    metavar="FIELD=PATH",
    help="Where a field stands: time=eventTime, actor=user.email, type==order.placed for a constant.",
)
@option("--tz", metavar="ZONE", help="Time zone of times that state none.")
@option("--again", is_flag=True, help="Import although a file was imported before.")
@option("--skip-known", is_flag=True, help="Leave out files that were imported before.")
@option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where rows go that can't be events [default: <file>.rejects.jsonl].",
)
@option("--limit", type=click.IntRange(min=1), metavar="N", help="Read at most N rows of each file.")
@option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Leave out the first N rows, to go on after an interrupted import.",
)
@option(
    "--input-format",
    type=click.Choice(["jsonl", "json", "csv", "parquet"]),
    section=READING,
    metavar="FORMAT",
    help="jsonl, json, csv or parquet [default: recognised].",
)
@option("--encoding", metavar="NAME", section=READING, help="Text encoding [default: utf-8].")
@option("--delimiter", metavar="CHAR", section=READING, help="What stands between CSV cells [default: comma].")
@option("--records", metavar="PATH", section=READING, help="Where the array of rows stands in a JSON object.")
def run(
    settings: Settings,
    files: tuple[Path, ...],
    mapping: str | None,
    pairs: tuple[str, ...],
    tz: str | None,
    again: bool,
    skip_known: bool,
    rejects: Path | None,
    limit: int | None,
    skip: int,
    input_format: str | None,
    encoding: str | None,
    delimiter: str | None,
    records: str | None,
) -> int:
    """Import events from JSON, JSON Lines, CSV or Parquet files (gzip too), and seal them.

    Whatever isn't mapped goes into the events' details. A row that can't be an event is counted, shown and
    written to the rejects file, and the exit code is then 4. Importing a file twice is refused unless --again
    is given.
    """
    from auditkit.importing import check_files, import_files
    from auditkit.importing.problems import name_options

    raise_from_now_on()
    if mapping == "list":
        _list_mappings(settings)
        return Exit.SOUND
    if not files:
        raise click.UsageError("expected files to import, found none: see the examples in --help")
    from auditkit import spawning
    from auditkit.logger import AuditLogger

    with name_options(OPTIONS):
        chosen = _choose_mapping(mapping, pairs, tz)
        reading = _choose_reading(input_format, encoding, delimiter, records)
        # Before the store is opened: a mistyped name must not make a store.
        check_files(files, chosen, limit=limit, skip=skip, reading=reading)
        with (
            AuditLogger(settings.store, key_file=settings.key_file, on_failure="raise") as logger,
            _show_progress(settings.terminal) as progress,
        ):
            results = import_files(
                list(files),
                logger,
                chosen,
                rejects=rejects,
                again=again,
                skip_known=skip_known,
                progress=progress,
                limit=limit,
                skip=skip,
                reading=reading,
            )
    if spawning.can_seal():
        # After the logger is closed, so that the ends of its chains are sealed too.
        with settings.terminal.show_status("sealing"):
            settings.open_trail().seal()
    if settings.format == "json":
        _write_json(results)
    elif settings.format == "csv":
        _write_csv(results)
    else:
        _print_results(settings.terminal, results)
    if not all(result.complete for result in results):
        return Exit.INCOMPLETE
    return Exit.INPUT_OUTPUT if any(result.rejected for result in results) else Exit.SOUND


def _choose_mapping(name: str | None, pairs: Sequence[str], tz: str | None) -> Mapping:
    from auditkit.importing import Mapping, find_mapping, load_mapping

    overrides = [*pairs, *([f"tz={tz}"] if tz else [])]
    if name is None:
        if not pairs:
            raise click.UsageError(
                "expected a mapping: give --mapping NAME, --mapping FILE.toml, or --set time=PATH --set "
                "type=PATH; --mapping list shows the ready-made ones"
            )
        return Mapping.from_pairs(overrides, name="command line")
    mapping = load_mapping(name) if name.endswith(".toml") else find_mapping(name)
    return mapping.with_pairs(overrides) if overrides else mapping


def _choose_reading(format: str | None, encoding: str | None, delimiter: str | None, records: str | None) -> Reading:
    from auditkit.importing import Reading

    given: dict[str, Any] = {
        "format": format,
        "encoding": encoding,
        "delimiter": delimiter,
        "records": records,
    }
    return replace(Reading(), **{name: value for name, value in given.items() if value is not None})


def _list_mappings(settings: Settings) -> None:
    from auditkit.cli.cells import write_csv, write_json
    from auditkit.cli.terminal import Column, make_text, printable
    from auditkit.importing import mapping_names

    names = mapping_names()
    if settings.format == "json":
        write_json(names)
    elif settings.format == "csv":
        write_csv(["name", "description"], names.items())
    else:
        rows = [(name, make_text(printable(text), wrap=True)) for name, text in names.items()]
        settings.terminal.print_table([Column("mapping"), Column("for", flexible=True)], rows)


@contextmanager
def _show_progress(terminal: Terminal) -> Iterator[Callable[[int, int, int], None] | None]:
    if not terminal.err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("importing"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=terminal.err,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, rows=0)
        yield lambda done, total, rows: bar.update(task, completed=done, total=total, rows=rows)


def _print_results(terminal: Terminal, results: Sequence[ImportResult]) -> None:
    from datetime import UTC

    from auditkit.cli.cells import count_things, show_number, show_time
    from auditkit.cli.terminal import Column, make_text, printable

    columns = [Column("file", flexible=True), Column("rows", right=True), Column("imported", right=True)]
    columns += [Column("rejected", right=True), Column("first (UTC)"), Column("last (UTC)")]
    rows: list[Sequence[Text | str]] = []
    names = _name_files(results, max(18, terminal.out.width - 62))
    for name, result in zip(names, results, strict=True):
        rejected = make_text(f"{result.rejected:,}" if result.rejected else "·", "red" if result.rejected else "")
        span = [show_time(moment, UTC, seconds=False) for moment in (result.first, result.last)]
        rows.append(
            (make_text(name, wrap=True), show_number(result.rows), show_number(result.imported), rejected, *span)
        )
    terminal.print_table(columns, rows)
    for assumed in dict.fromkeys(_describe_reading(result) for result in results):
        terminal.note(assumed)
    for result in results:
        for note in result.notes:
            terminal.note(f"{result.source}: {note}")
        for reject in result.samples[:3]:
            terminal.warn(printable(f"{result.source} {reject}"))
        if result.rejected:
            terminal.warn(
                f"{result.source}: {count_things(result.rejected, 'row')} rejected, written to {result.rejects}"
            )
        if not result.complete:
            terminal.warn(f"{result.source}: the file is broken, what stands behind the break was not read")
    if len(results) > 1:
        total, seconds = sum(r.imported for r in results), sum(r.duration for r in results)
        terminal.note(f"{count_things(total, 'event')} of {len(results)} files in {seconds:.1f} s")


def _name_files(results: Sequence[ImportResult], width: int) -> list[str]:
    """Name the files so that each can be told from the others: in the width of a column, or else in whole."""
    from auditkit.cli.cells import show_text
    from auditkit.cli.terminal import printable, shorten_alike

    names = [show_text(result.source) for result in results]
    if len(set(names)) < len(names):
        names = [printable(str(result.path)) for result in results]
    marks = [" (known)" if result.skipped else "" for result in results]
    shown = shorten_alike(names, width - max(map(len, marks))) if len(names) > 1 else None
    return [name + mark for name, mark in zip(shown or names, marks, strict=True)]


def _describe_reading(result: ImportResult) -> str:
    """Say what was assumed about a file."""
    options = [f"{name} {value}" for name, value in result.options.items() if value is not None]
    return f"mapping {result.mapping}, read as {', '.join([result.format, *options])}"


def _describe(result: ImportResult) -> dict[str, Any]:
    return {
        "source": result.source,
        "path": str(result.path),
        "sha256": result.sha256,
        "mapping": result.mapping,
        "format": result.format,
        "options": result.options,
        "rows": result.rows,
        "imported": result.imported,
        "rejected": result.rejected,
        "first": result.first,
        "last": result.last,
        "types": result.types,
        "reasons": result.reasons,
        "rejects": None if result.rejects is None else str(result.rejects),
        "complete": result.complete,
        "skipped": result.skipped,
        "notes": result.notes,
        "duration_s": result.duration,
    }


def _write_json(results: Sequence[ImportResult]) -> None:
    from auditkit.cli.cells import write_json

    write_json([_describe(result) for result in results])


def _write_csv(results: Sequence[ImportResult]) -> None:
    from auditkit.cli.cells import write_csv

    names = [
        "source",
        "rows",
        "imported",
        "rejected",
        "first",
        "last",
        "mapping",
        "format",
        "sha256",
        "rejects",
    ]
    write_csv(names, ([_describe(result)[name] for name in names] for result in results))
