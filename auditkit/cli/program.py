"""The program: the group of all commands, and what happens to errors."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from auditkit.cli.declarations import AuditGroup, Exit, colour_of, store_options
from auditkit.cli.terminal import is_colour_wanted, printable, printable_lines
from auditkit.errors import (
    DISTRIBUTION,
    AuditError,
    ExtraMissing,
    FormatUnknown,
    ImportRefused,
    KeyProblem,
    StoreDamaged,
    StoreIncomplete,
    UsageError,
)

COMMANDS: Final[dict[str, str]] = {
    "stats": "What the store holds: events by type and workflow.",
    "query": "Events, filtered and in order of time.",
    "errors": "What failed, grouped by error.",
    "performance": "How long operations took: percentiles.",
    "integrity": "Whether the record is what was written.",
    "receipt": "A proof of one event, for somebody without the store.",
    "verify-receipt": "Whether a receipt is valid, offline.",
    "prove": "That the record only grew since a checkpoint.",
    "anchor": "The newest checkpoint, kept where nobody here can change it.",
    "keys": "The store's keys: make, show, rotate, export the public one.",
    "export": "Events to a CSV, JSON, JSON Lines or Parquet file.",
    "report": "Reports as one self-contained HTML file.",
    "import": "Events from JSON, JSON Lines, CSV or Parquet files.",
    "rotate": "Seal everything up to this moment.",
    "seal": "Seal journals into Parquet partitions.",
    "demo": "A week of a sales automation, recorded before your eyes.",
}
"""The commands in the order of the help, with their short help: the group shows it without importing them."""

EXTRAS: Final = {
    "click": "cli",
    "cryptography": "seal",
    "duckdb": "seal",
    "jinja2": "report",
    "numpy": "seal",
    "pandas": "analysis",
    "plotly": "report",
    "pyarrow": "seal",
    "rfc3161_client": "timestamp",
    "rich": "cli",
}
"""Which extra brings a module that isn't installed, where the module that needs it doesn't say so itself."""

_MODULES: Final = {
    "import": "auditkit.cli.commands.ingest",
    "verify-receipt": "auditkit.cli.commands.verify_receipt",
}


class LazyGroup(AuditGroup):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, if there is one of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(_MODULES.get(cmd_name, f"auditkit.cli.commands.{cmd_name}"))
        found: click.Command = module.run
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and what they're for, without importing one."""
        formatter.write_paragraph()
        formatter.write(click.style("Commands:", bold=True) + "\n")
        with formatter.indentation():
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was perhaps meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from auditkit import __version__

        click.echo(f"auditkit {__version__}")
        ctx.exit()


@click.group(
    "auditkit",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
@store_options
@click.pass_context
def program(ctx: click.Context, store: Path | None, key_file: Path | None, verbose: bool) -> None:
    """Ask an audit trail what happened, how long it took, what failed, and whether it was tampered with.

    Data goes to standard output, everything else to standard error. Colours appear on a terminal only, and
    not with NO_COLOR set.
    """
    ctx.obj = {"store": store, "key_file": key_file, "verbose": verbose}


program.examples = (
    ("auditkit demo", "see it at work"),
    ("auditkit stats --store ./audit", "what is in a store"),
    ("auditkit query --since 24h --type error", "the last day's errors"),
    ("auditkit performance --operation crm.sync", "percentiles of one operation"),
    ("auditkit integrity && auditkit report daily", "a report, if the record is sound"),
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: The arguments behind the program's name.

    Returns:
        The exit code; `auditkit.cli.declarations.EXIT_CODES` lists them.
    """
    for name in ("stdout", "stderr"):
        # Python has None for a stream that was closed before it started, as >&- does.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character shows its escape instead of ending the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    verbose = "--verbose" in arguments
    with warnings.catch_warnings(), _say_log_records():
        warnings.showwarning = _show_warning
        try:
            return _run(arguments, verbose)
        except OSError as error:
            # Standard error can't be written: only the code can say so, and Python's own means findings here.
            _silence_streams()
            return Exit.BROKEN_PIPE if error.errno == errno.EPIPE else Exit.INPUT_OUTPUT


def _run(arguments: Sequence[str], verbose: bool) -> int:
    out = sys.stdout
    try:
        code = program.main(list(arguments), prog_name="auditkit", standalone_mode=False, color=colour_of(sys.stdout))
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.SOUND
    except click.ClickException as error:
        _show_usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        # Whoever was interrupted may say how to go on.
        cause = stop.__cause__ or stop
        if isinstance(cause, KeyboardInterrupt) and str(cause):
            _say(str(cause), "interrupted:", "yellow")
        return Exit.INTERRUPTED
    except SystemExit as stop:
        # click answers a broken pipe itself: it wraps the streams and exits with 1, which means findings here.
        if sys.stdout is not out:
            sys.stdout = out
            _silence_streams()
            return Exit.BROKEN_PIPE
        return stop.code if isinstance(stop.code, int) else Exit.SOUND
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            _silence_streams()
            return Exit.BROKEN_PIPE
        return _fail(error, verbose)
    except (AuditError, ImportError, MemoryError) as error:
        return _fail(error, verbose)
    except Exception as error:  # noqa: BLE001 - Python's own exit code for it means integrity findings here
        _fail(error, verbose=True)
        click.echo("This is a fault of auditkit, not yours.", err=True)
        return Exit.INTERNAL


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(str(message), "warning:", "yellow")


class _SayRecords(logging.Handler):
    """Says auditkit's own log records as everything else is said: printable, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        _say(record.getMessage(), "warning:", "yellow")


@contextmanager
def _say_log_records() -> Iterator[None]:
    handler = _SayRecords(logging.WARNING)
    logger = logging.getLogger("auditkit")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _show_usage(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    if isinstance(error, NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    _say(error.format_message())
    if context is not None:
        click.echo(f"Try: {context.command_path} --help", err=True)


def _fail(error: BaseException, verbose: bool) -> int:
    """Say on standard error what went wrong, and choose the exit code."""
    if verbose:
        import traceback

        click.echo(printable_lines("".join(traceback.format_exception(error)).rstrip()), err=True)
    _say(_describe(error))
    return choose_exit(error)


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, AuditError) and error.strerror:
        names = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{names}: {error.strerror}" if names else error.strerror
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, AuditError):
        module = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(module)
        if extra:
            return f'{module} is not installed: pip install "{DISTRIBUTION}[{extra}]" brings it'
    if isinstance(error, KeyProblem):
        return f"{error} (on the command line: --key-file)"
    return str(error) or type(error).__name__


def _say(message: str, label: str = "error:", colour: str = "red") -> None:
    if is_colour_wanted(sys.stderr):
        label = click.style(label, fg=colour, bold=True)
    click.echo(f"{label} {printable_lines(message)}", err=True, color=True)


def choose_exit(error: BaseException) -> Exit:
    """Choose the exit code that tells a script what kind of error it was.

    Example:
        >>> choose_exit(FileNotFoundError())
        <Exit.INPUT_OUTPUT: 4>
    """
    if isinstance(error, (StoreIncomplete, KeyProblem, FormatUnknown)):
        return Exit.INCOMPLETE
    if isinstance(error, StoreDamaged):
        return Exit.FINDINGS
    if isinstance(error, UsageError) and isinstance(error.__cause__, OSError):
        return Exit.INPUT_OUTPUT  # the call was good, and a file that it names is not
    if isinstance(error, (UsageError, ExtraMissing, ImportRefused, ImportError)):
        return Exit.USAGE
    return Exit.INPUT_OUTPUT


def _silence_streams() -> None:
    """Keep the interpreter from writing again, when it exits, to what can't be written."""
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere.fileno(), stream.fileno())


def list_options(command: click.Command) -> list[str]:
    """List the long names of a command's options, for the documentation's test."""
    names: list[Any] = [name for parameter in command.params for name in parameter.opts]
    return [printable(name) for name in names if name.startswith("--")]
