"""``auditkit integrity``: whether the record is what was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auditkit.cli.declarations import Exit, Settings, command, option, range_options, resolve_range

if TYPE_CHECKING:
    from datetime import tzinfo

    from auditkit.cli.terminal import Terminal
    from auditkit.integrity import Finding, Verification


_PATIENCE_S = 1.0
"""How long nothing is shown: most verifications are over by then."""


@command(
    "integrity",
    formats=("table", "json", "csv"),
    examples=(
        ("auditkit integrity", "check every event's signature"),
        ("auditkit integrity --fast", "check the files of sealed events, not each event: millions a second"),
        (
            "auditkit integrity --strict --format json > verdict.json",
            "for a machine, notes count as findings",
        ),
        ("auditkit integrity --since 7d --key-file /media/usb/audit.key", "one week, with a given key"),
        ("auditkit integrity --against report.html", "nothing is gone that this report knew of"),
        ("auditkit integrity --public-key audit.pub", "what is sealed, without any secret"),
    ),
)
@option("--fast", is_flag=True, help="Check files, ledger and journals, not each sealed event.")
@option("--strict", is_flag=True, help="Exit with 1 for notes too, such as a tail that nothing vouches for yet.")
@option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A checkpoint kept outside the store, or a file with some: a report, a mail, a receipt. Several can be given.",
)
@option(
    "--public-key",
    metavar="KEY",
    help="The store's public key, or a file that holds it, instead of the secret: from a source outside the store.",
)
@option("--no-pin", is_flag=True, help="Neither compare with what you saw at the last verification nor remember it.")
@option(
    "--repin", is_flag=True, help="Remember it without comparing: once, after you restored the store from a backup."
)
@range_options
def run(
    settings: Settings,
    fast: bool,
    strict: bool,
    against: tuple[Path, ...],
    public_key: str | None,
    no_pin: bool,
    repin: bool,
    since: str | None,
    until: str | None,
    tz: str,
) -> int:
    """Check whether the record is what was written: nothing changed, removed, reordered or put in.

    It is also compared with the newest checkpoint you saw at an earlier verification, which is kept in your own state
    folder: so a store that was cut, or replaced by an older copy, is found.

    Exits with 0 if the record is sound, 1 if there are findings, 3 if a partition or key is missing, so that
    it can't be said.
    """
    from auditkit.cli.inputs import read_public_key
    from auditkit.errors import UsageError
    from auditkit.times import find_zone

    if no_pin and repin:
        raise UsageError("expected --no-pin or --repin, found both: give one")

    zone = find_zone(tz)
    span = resolve_range(settings, since, until, zone)
    trail = settings.open_trail()
    with _show_progress(settings.terminal, "checking files" if fast else "checking events") as progress:
        verification = trail.verify(
            deep=not fast,
            since=span.since,
            until=span.until,
            progress=progress,
            public_key=None if public_key is None else read_public_key(public_key, trail.store_id, trail.path),
            against=against,
            pin=not no_pin,
            repin=repin,
        )
    if settings.format == "json":
        from auditkit.cli.cells import write_json

        write_json(verification.to_dict())
    elif settings.format == "csv":
        from auditkit.cli.frames import write_frame_csv

        write_frame_csv(verification.to_frame())
    else:
        print_verification(settings.terminal, verification, zone)
    if strict and verification.exit_code == Exit.SOUND and verification.notes:
        settings.terminal.note(f"{len(verification.notes)} notes count as findings with --strict")
        return Exit.FINDINGS
    return verification.exit_code


@contextmanager
def _show_progress(terminal: Terminal, text: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how far it is, once it has taken a second."""
    if not terminal.err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
    )
    task = bar.add_task(text, total=None)
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        if not bar.live.is_started and time.monotonic() - start > _PATIENCE_S:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()


def print_verification(terminal: Terminal, verification: Verification, zone: tzinfo) -> None:
    """Print a verdict: one line that says it, what was checked, each partition, each finding."""
    from auditkit.charts.text import format_size
    from auditkit.cli.cells import count_things, show_number, show_text, show_time
    from auditkit.cli.terminal import Column, make_text, printable_lines
    from auditkit.times import format_duration

    words = {"ok": ("sound", "bold green"), "findings": ("NOT SOUND", "bold red")}
    word, style = words.get(verification.verdict, ("INCOMPLETE", "bold yellow"))
    count = len(verification.findings)
    doubts = "; ".join(show_text(warning.found) for warning in verification.warnings)
    if verification.ok and doubts:
        style = "bold yellow"
    line = make_text(word, style)
    if verification.ok and verification.commit and not verification.anchored:
        line.append(", its tail unanchored", "default not bold")
    if count:
        line.append(f": {count_things(count, 'finding')}", "default not bold")
    if doubts:
        line.append(f", {'but' if verification.ok else 'and'} {doubts}", "default not bold")
    terminal.out.print(line, soft_wrap=True)
    facts = [
        ("checked", _count_checked(verification)),
        ("depth", "every event" if verification.deep else "files, ledger and journals; not each sealed event"),
        ("span", f"{show_time(verification.first, zone)} to {show_time(verification.last, zone)} {zone}"),
        ("store", show_text(verification.store_id)),
        ("key", _tell_key(verification)),
        ("anchors", _tell_anchors(verification)),
        ("took", format_duration(verification.duration)),
    ]
    for name, text in facts:
        row = make_text(f"  {name:<8}", "dim")
        row.append(text, "default")
        terminal.out.print(row, soft_wrap=True)
    if verification.partitions:
        columns = [Column("date"), Column("events", right=True), Column("segments", right=True)]
        columns += [
            Column("size", right=True),
            Column("findings", right=True),
            Column("status", flexible=True),
        ]
        terminal.out.print()
        terminal.print_table(
            columns,
            [
                (
                    str(p.date),
                    show_number(p.events),
                    show_number(p.segments),
                    format_size(p.bytes),
                    make_text(str(p.findings) if p.findings else "·", "bold red" if p.findings else ""),
                    make_text(show_text(p.status), "green" if p.status == "ok" else "yellow"),
                )
                for p in verification.partitions
            ],
        )
    for title, items in (("Findings", verification.findings), ("Notes", verification.notes)):
        if items:
            terminal.out.print()
            terminal.out.print(make_text(title, "bold"))
            for finding in items:
                for text in _describe(finding, zone, terminal.out.width):
                    terminal.out.print(make_text(text), soft_wrap=True)
    if verification.checkpoint and verification.notes:
        terminal.out.print()
        terminal.out.print(make_text("Checkpoint, to be kept outside the store", "bold"))
        text = printable_lines(verification.checkpoint.rstrip())
        terminal.out.print(make_text(text, "dim"), soft_wrap=True)


def _tell_key(verification: Verification) -> str:
    from auditkit.cli.cells import show_text

    if verification.key_id is not None:
        return show_text(verification.key_id)
    return "not at hand" if verification.public_key is None else "the public key alone: what is sealed"


def _tell_anchors(verification: Verification) -> str:
    """Say what vouches from outside that nothing newer was cut off."""
    from auditkit.cli.cells import show_text

    told = [f"{show_text(anchor.source)}: {anchor.status.replace('_', ' ')}" for anchor in verification.anchors]
    return "; ".join(dict.fromkeys(told)) or "none: nothing outside the store tells whether its end was cut off"


def _count_checked(verification: Verification) -> str:
    from auditkit.cli.cells import count_things

    parts = [
        count_things(verification.checked_events, "event"),
        count_things(verification.checked_segments, "segment"),
        count_things(verification.checked_commits, "commit"),
    ]
    if verification.journal_events:
        parts.append(f"{count_things(verification.journal_events, 'event')} not sealed yet")
    return ", ".join(parts)


def _describe(finding: Finding, zone: tzinfo, width: int) -> list[str]:
    """Describe a finding in a few lines that fit the terminal; what isn't known is left out."""
    import textwrap

    from auditkit.charts.text import is_missing
    from auditkit.cli.cells import count_things, show_text, show_time

    where = [show_text(finding.file)] if finding.file else []
    if finding.writer:
        where.append(f"writer {show_text(finding.writer)}")
    if finding.first_seq is not None:
        several = finding.last_seq not in (None, finding.first_seq)
        where.append(f"seq {finding.first_seq}" + (f" to {finding.last_seq}" if several else ""))
    if not is_missing(finding.time_min):
        where.append(f"{show_time(finding.time_min, zone)} to {show_time(finding.time_max, zone)} {zone}")
    if finding.events:
        where.append(count_things(finding.events, "event"))
    paragraphs = [(f"  {finding.kind}: ", ", ".join(where), "    ")]
    for name, text in (("expected", finding.expected), ("found", finding.found), ("advice", finding.advice)):
        if text:
            paragraphs.append((f"    {name:<9}", show_text(text), " " * 13))
    lines = []
    for head, text, indent in paragraphs:
        lines += textwrap.wrap(
            text, max(40, width), initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
        )
    return lines
