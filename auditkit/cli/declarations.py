"""The commands' common ground: help with examples first, shared options, settings, exit codes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from auditkit.cli.interrupts import raise_from_now_on
from auditkit.cli.terminal import Terminal, is_colour_wanted

if TYPE_CHECKING:
    from auditkit.times import TimeRange
    from auditkit.trail import AuditTrail

Function = Callable[..., Any]
AnyFunction = TypeVar("AnyFunction", bound=Function)


class Exit(IntEnum):
    """Exit codes of every command."""

    SOUND = 0
    FINDINGS = 1
    USAGE = 2
    INCOMPLETE = 3
    INPUT_OUTPUT = 4
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES: Final = (
    (Exit.SOUND, "sound: done, and nothing is wrong"),
    (Exit.FINDINGS, "integrity findings: the record isn't what was written"),
    (Exit.USAGE, "usage: the call can't be meant, or an extra isn't installed"),
    (Exit.INCOMPLETE, "incomplete: a partition or a key is missing"),
    (Exit.INPUT_OUTPUT, "input/output: a file can't be read or written, or holds bad rows"),
    (Exit.INTERNAL, "a fault of auditkit; the traceback is for its maintainers"),
    (Exit.INTERRUPTED, "interrupted with Ctrl-C"),
    (Exit.BROKEN_PIPE, "whoever read the output stopped, as head does"),
)

COMMON_SECTION: Final = "Common options"
FILTER_SECTION: Final = "Which events"


@dataclass
class Settings:
    """What the options that all commands share were set to.

    Attributes:
        store: Folder of the store, or None for ``$AUDITKIT_STORE``, else ``./audit``.
        key_file: Key file, or None for the environment's or the platform's.
        format: ``"table"``, ``"json"`` or ``"csv"``, for the commands that take it.
        terminal: Where output goes.
    """

    store: Path | None
    key_file: Path | None
    format: str
    terminal: Terminal = field(repr=False)

    def open_trail(self, *, frames: bool = False) -> AuditTrail:
        """Open the store for reading.

        Args:
            frames: Whether events are read as DataFrames: then pandas is loaded now, as an interrupted import of it
                would pass for a fault.

        Raises:
            StoreMissing: If there is none.
            ExtraMissing: If pandas is needed and isn't installed.
        """
        import auditkit
        from auditkit.errors import require

        open_trail = auditkit.open  # loads the libraries
        if frames:
            require("pandas", "analysis")
        raise_from_now_on()
        trail = open_trail(self.store, key_file=self.key_file)
        self.terminal.debug(f"store: {trail.path}")
        return trail


class SectionOption(click.Option):
    """An option that knows under which heading of the help it stands."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class _ExamplesFirst(click.Command):
    """A command whose help begins with examples.

    Attributes:
        examples: Pairs of a command line and what it does.
    """

    examples: Sequence[tuple[str, str]] = ()

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples, usage, description, options and exit codes, in that order."""
        _write_heading(formatter, "Examples")
        width = max((len(line) for line, _ in self.examples), default=0)
        beside = all(width + len(meaning) + 6 <= 80 for _, meaning in self.examples)
        for line, meaning in self.examples:
            formatter.write(f"  {line:<{width}}  # {meaning}\n" if beside else f"  # {meaning}\n  {line}\n")
        formatter.write_paragraph()
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, the command's own first."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = COMMON_SECTION if {"--help", "--version"} & set(parameter.opts) else "Options"
                sections.setdefault(getattr(parameter, "section", section), []).append(record)
        last = [name for name in (FILTER_SECTION, COMMON_SECTION) if name in sections]
        for name in [*(name for name in sections if name not in last), *last]:
            formatter.write_paragraph()
            _write_heading(formatter, name)
            with formatter.indentation():
                formatter.write_dl(sections[name], col_max=26)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        formatter.write_paragraph()
        _write_heading(formatter, "Exit codes")
        with formatter.indentation():
            if ctx.parent is None:
                formatter.write_dl([(str(int(code)), meaning) for code, meaning in EXIT_CODES])
            else:
                formatter.write_text(
                    "0 sound, 1 integrity findings, 2 usage, 3 incomplete (missing partition or key), 4 input/output"
                )
        super().format_epilog(ctx, formatter)


def _write_heading(formatter: click.HelpFormatter, title: str) -> None:
    # click strips the escape sequences again where standard output isn't a terminal.
    formatter.write(click.style(f"{title}:", bold=True) + "\n")


class AuditCommand(_ExamplesFirst):
    """A command of ``auditkit``."""


class AuditGroup(_ExamplesFirst, click.Group):
    """A group of commands of ``auditkit``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands before the options."""
        self.format_commands(ctx, formatter)
        _ExamplesFirst.format_options(self, ctx, formatter)


def list_words(words: Sequence[str]) -> str:
    """List words as a sentence does.

    Example:
        >>> list_words(["table", "json", "csv"])
        'table, json or csv'
    """
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def option(*names: str, section: str = "Options", **attributes: Any) -> Callable[[AnyFunction], AnyFunction]:
    """Declare an option that stands in a section of the help."""
    return click.option(*names, cls=SectionOption, section=section, **attributes)


def verbose_option(function: AnyFunction) -> AnyFunction:
    """Add the option that every command has."""
    meaning = "Say how it's done, and show tracebacks."
    return option("--verbose", is_flag=True, section=COMMON_SECTION, help=meaning)(function)


def store_options(function: AnyFunction) -> AnyFunction:
    """Add the options that name the store."""
    path = click.Path(path_type=Path)
    for add in (
        verbose_option,
        option(
            "--key-file",
            type=path,
            section=COMMON_SECTION,
            metavar="FILE",
            help="Key file [default: $AUDITKIT_KEY (a secret) or $AUDITKIT_KEY_FILE, else in the user's key folder].",
        ),
        option(
            "--store",
            type=path,
            section=COMMON_SECTION,
            metavar="DIR",
            help="Folder of the store [default: $AUDITKIT_STORE, else ./audit].",
        ),
    ):
        function = add(function)
    return function


def command(
    name: str, examples: Sequence[tuple[str, str]], formats: Sequence[str] = (), stored: bool = True
) -> Callable[[Function], AuditCommand]:
    """Make a command out of a function that takes `Settings` first and its own options after.

    Args:
        name: Name of the command.
        examples: Pairs of a command line and what it does, for the top of the help.
        formats: Values of ``--format``, the default first; none if the command has only one format.
        stored: Whether it works on the store that ``--store`` names.
    """

    def decorate(function: Function) -> AuditCommand:
        @functools.wraps(function)
        def call(**values: Any) -> Any:
            return function(_take_settings(values), **values)

        add: Function = call
        if formats:
            add = option(
                "--format",
                type=click.Choice(list(formats)),
                default=formats[0],
                metavar="FORMAT",
                help=f"{list_words(formats)} [default: {formats[0]}].",
            )(add)
        made: AuditCommand = click.command(name, cls=AuditCommand)((store_options if stored else verbose_option)(add))
        made.examples = examples
        return made

    return decorate


def _take_settings(values: dict[str, Any]) -> Settings:
    above: dict[str, Any] = click.get_current_context().find_root().obj or {}
    return Settings(
        store=values.pop("store", None) or above.get("store"),
        key_file=values.pop("key_file", None) or above.get("key_file"),
        format=values.pop("format", None) or "",
        terminal=Terminal(values.pop("verbose") or bool(above.get("verbose"))),
    )


def filter_options(function: AnyFunction) -> AnyFunction:
    """Add the options that choose events."""
    many: dict[str, Any] = {"multiple": True, "section": FILTER_SECTION}
    function = range_options(function)
    for add in (
        option("--outcome", metavar="NAME", help="Events with this outcome, for instance failure.", **many),
        option("--actor", metavar="NAME", help="Events of this actor.", **many),
        option("--workflow", metavar="NAME", help="Events of this workflow.", **many),
        option(
            "--type",
            metavar="NAME",
            help="Events of this type, for instance lead.routed. Can be given more than once, like the others.",
            **many,
        ),
        option("--lead", metavar="ID", help="Events of this lead.", **many),
    ):
        function = add(function)
    return function


def range_options(function: AnyFunction) -> AnyFunction:
    """Add the options that choose a time range."""
    for add in (
        option(
            "--tz",
            default="UTC",
            metavar="ZONE",
            section=FILTER_SECTION,
            help="Time zone of the dates given and shown, for instance Europe/Berlin [default: UTC].",
        ),
        option(
            "--until", metavar="TIME", section=FILTER_SECTION, help="Events before this time; a date means to its end."
        ),
        option(
            "--since",
            metavar="TIME",
            section=FILTER_SECTION,
            help="Events from this time on: 30m, 24h, 7d, 1w, today, 2026-11-23, 2026-11-23T10:00:00Z.",
        ),
    ):
        function = add(function)
    return function


def resolve_range(settings: Settings, since: str | None, until: str | None, zone: tzinfo) -> TimeRange:
    """Resolve the times that were given, and say what they mean.

    Raises:
        UsageError: If a time can't be read.
    """
    from auditkit.times import parse_range

    resolved = parse_range(since, until, tz=zone)
    if since or until:
        settings.terminal.note(f"range: {resolved}")
    return resolved


def choose_filters(
    lead: Sequence[str],
    type: Sequence[str],
    workflow: Sequence[str],
    actor: Sequence[str],
    outcome: Sequence[str],
) -> dict[str, list[str]]:
    """Turn the filter options into the trail's filters; what wasn't given is left out.

    Example:
        >>> choose_filters(["L-1"], [], [], ["ana", "bo"], [])
        {'lead_id': ['L-1'], 'actor': ['ana', 'bo']}
    """
    given = {"lead_id": lead, "type": type, "workflow": workflow, "actor": actor, "outcome": outcome}
    return {name: list(values) for name, values in given.items() if values}


def colour_of(stream: Any) -> bool | None:
    """Say what click should do about colour: strip it, or keep it where the stream is a terminal."""
    return None if is_colour_wanted(stream) and not os.environ.get("NO_COLOR") else False
