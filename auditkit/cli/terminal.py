"""What reaches the terminal, and how.

An event's texts are written by whoever the application talked to. Raw, they could move the cursor, recolour
the screen, set the clipboard or hide text behind a bidirectional override. So every text that comes from a
store, a file or an error goes through `printable`, and tables take `rich.text.Text`, never markup.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from auditkit.quoting import printable as printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

MAX_CELL: Final = 400
"""Characters of a text that a table looks at; the rest couldn't be seen."""

ELLIPSIS: Final = "…"


def printable_lines(text: str) -> str:
    """Make a text safe for a terminal and keep its line breaks (LF and CRLF).

    Example:
        >>> printable_lines("one\\r\\ntwo\\x07")
        'one\\ntwo\\\\x07'
    """
    return "\n".join(printable(line) for line in text.replace("\r\n", "\n").split("\n"))


def shorten(text: str, limit: int = MAX_CELL) -> str:
    """Cut a text to at most ``limit`` characters, with an ellipsis where it was cut.

    Example:
        >>> shorten("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def shorten_middle(text: str, limit: int) -> str:
    """Cut a text to at most ``limit`` characters by leaving out its middle.

    Example:
        >>> shorten_middle("2026-11-23T10-access.log", 14)
        '2026-1…ess.log'
    """
    if len(text) <= limit:
        return text
    tail = limit // 2
    return text[: limit - tail - 1] + ELLIPSIS + text[-tail:]


def shorten_alike(names: Sequence[str], limit: int) -> list[str] | None:
    """Cut names to at most ``limit`` characters so that they can still be told apart.

    Names of one program's files begin and end alike, and may differ in a few characters in between.

    Args:
        names: The names.
        limit: Characters of the longest.

    Returns:
        The names without what is the same in all, or None if they can't be told apart in so few characters.

    Example:
        >>> shorten_alike(["218007_trail_1220Z_ab.json", "218007_trail_1235Z_cd.json"], 12)
        ['…20Z_ab…', '…35Z_cd…']
        >>> shorten_alike(["one.json", "two.json"], 12)
        ['one.json', 'two.json']
    """
    if all(len(name) <= limit for name in names):
        return list(names)
    different = sorted(set(names))
    start = _count_same(different)
    end = _count_same([name[start:][::-1] for name in different])
    cut = {name: f"{ELLIPSIS}{name[start : len(name) - end]}{ELLIPSIS}" for name in different}
    if len(different) == 1:
        cut = {different[0]: different[0]}
    cut = {name: shorten_middle(text, limit) for name, text in cut.items()}
    return [cut[name] for name in names] if len(set(cut.values())) == len(cut) else None


def _count_same(texts: Sequence[str]) -> int:
    """Count the characters with which all texts begin."""
    same = (len(set(characters)) == 1 for characters in zip(*texts, strict=False))
    return len(list(takewhile(bool, same)))


def shorten_path(path: str | os.PathLike[str]) -> str:
    """Show a path as it's typed from here, relative or absolute, whichever is shorter, quoted for the shell.

    Example:
        >>> shorten_path("reports/my report.html")
        "'reports/my report.html'"
    """
    import shlex

    return printable(shlex.quote(min(os.path.relpath(path), str(Path(path).absolute()), key=len)))


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        right: Right-justified, as numbers are.
        flexible: Gives way when the terminal is narrow; the others keep their width.
        max_width: Columns of the terminal that it takes at most.
    """

    title: str
    right: bool = False
    flexible: bool = False
    max_width: int | None = None


class Terminal:
    """Standard output for data and standard error for everything else.

    Colours and bold type appear on a terminal only, never with ``NO_COLOR`` set or ``TERM=dumb``.

    Args:
        verbose: Show the notes that `debug` gives.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self._out: Console | None = None
        self._err: Console | None = None

    @property
    def out(self) -> Console:
        """The console for data."""
        if self._out is None:
            self._out = _make_console(sys.stdout)
        return self._out

    @property
    def err(self) -> Console:
        """The console for everything else."""
        if self._err is None:
            self._err = _make_console(sys.stderr)
        return self._err

    def note(self, text: str) -> None:
        """Say something beside the data, on standard error."""
        self.err.print(make_text(printable_lines(text), "dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say what the user should see, on standard error."""
        line = make_text("warning: ", "bold yellow")
        line.append(printable_lines(text))
        self.err.print(line, soft_wrap=True)

    def debug(self, text: str) -> None:
        """Say how it's done, on standard error, if the user asked for it."""
        if self.verbose:
            self.note(text)

    def print_table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Text | str]], title: str | None = None
    ) -> None:
        """Print a table on standard output that fits the terminal.

        Args:
            columns: Its columns.
            rows: A text per column; a plain string is made printable, a `Text` must be.
            title: A line above it.
        """
        if title is not None:
            self.out.print(make_text(title, "bold"), soft_wrap=True)
        self.out.print(make_table(columns, rows))

    @contextmanager
    def show_status(self, text: str) -> Iterator[None]:
        """Show on standard error that something is being done, if a human can see it."""
        if not self.err.is_terminal:
            yield
            return
        with self.err.status(make_text(text, "dim"), spinner="line"):
            yield


def _make_console(stream: TextIO) -> Console:
    from rich.console import Console

    class QuietConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            # rich would exit with 1, which here means that the store was tampered with.
            raise BrokenPipeError

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return QuietConsole(
        file=stream,
        color_system=None if plain else "auto",
        no_color=plain,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
        legacy_windows=False,
        safe_box=True,
    )


def make_text(text: str, style: str = "", *, wrap: bool = False) -> Text:
    """Make text for a table or a console; no markup is read in it.

    Args:
        text: The text, printable.
        style: Its style, in rich's words.
        wrap: Whether it goes on in the next line where it doesn't fit, instead of being cut.
    """
    from rich.text import Text

    return Text(text, style=style, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[Text | str]]) -> RenderableType:
    """Make a table: a heading, a rule, and one line a row, cut where it doesn't fit."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        border_style="dim",
    )
    for column in columns:
        table.add_column(
            make_text(column.title),
            justify="right" if column.right else "left",
            overflow="ellipsis",
            # rich narrows the columns that may wrap first; their text then ends in an ellipsis instead of
            # wrapping.
            no_wrap=not column.flexible,
            max_width=column.max_width,
        )
    for row in rows:
        table.add_row(*(make_text(printable(shorten(c))) if isinstance(c, str) else c for c in row))
    return table


def is_colour_wanted(stream: Any) -> bool:
    """Say whether escape sequences may go to a stream, without importing rich.

    Example:
        >>> import io
        >>> is_colour_wanted(io.StringIO())
        False
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(stream.isatty())
