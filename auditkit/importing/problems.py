"""What is wrong with a row or a call, how an argument is named, and how to show a hostile value safely."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

SHOWN: Final = 80
"""Longest value that a reason quotes, in characters."""


OPTIONS: ContextVar[Mapping[str, str] | None] = ContextVar("auditkit_import_options", default=None)
"""For each argument of an import its option, where those are named; see `name_options`."""


@contextmanager
def name_options(options: Mapping[str, str]) -> Iterator[None]:
    """Name arguments as options of a command line in what is said inside of the block.

    Args:
        options: For each argument its option.

    Example:
        >>> with name_options({"skip": "--skip"}):
        ...     name_argument("skip", 20000)
        '--skip 20000'
    """
    token = OPTIONS.set(options)
    try:
        yield
    finally:
        OPTIONS.reset(token)


def name_argument(name: str, value: str | int) -> str:
    """Write an argument so as to be given: in Python, or inside of `name_options` in a shell.

    Example:
        >>> name_argument("again", True), name_argument("tz", "UTC")
        ('again=True', "tz='UTC'")
    """
    options = OPTIONS.get()
    if options is None:
        return f"{name}={value!r}"
    return options[name] if value is True else f"{options[name]} {shlex.quote(str(value))}"


class Unusable(Exception):
    """A row can't become an event; the row goes to the rejects, the import goes on.

    Attributes:
        kind: Short name under which rows of this sort are counted, for instance ``"broken JSON"``.
        detail: What was expected and found, in printable characters.
        fatal: Whether the file can't be read on from here, so that its rest is missing.
    """

    def __init__(self, kind: str, detail: str, *, fatal: bool = False) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.fatal = fatal

    @property
    def reason(self) -> str:
        """Kind and detail in one line."""
        return f"{self.kind}: {self.detail}"


class ZoneMissing(Unusable):
    """A time says neither its zone nor its offset, and nobody gave one."""


def find_repeated(names: Iterable[str]) -> str | None:
    """Give the first name that comes a second time, or None.

    Example:
        >>> find_repeated(["a", "b", "a", "b"])
        'a'
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def make_printable(text: str, limit: int = SHOWN) -> str:
    r"""Cut a text and replace what a terminal could act on.

    Args:
        text: Anything, also control characters, escape sequences and lone surrogates.
        limit: Longest result, in characters.

    Returns:
        One line for which ``str.isprintable`` is true.

    Example:
        >>> make_printable("red \x1b[31m\nalert")
        'red �[31m�alert'
        >>> make_printable("x" * 100, 10)
        'xxxxxxxxx…'
    """
    # Cut first, so that a field of megabytes costs nothing; one more character tells whether it was longer.
    text = text[: limit + 1]
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)


def show_value(value: object) -> str:
    """Show a value of a row inside a reason.

    Example:
        >>> show_value("10:00"), show_value(None), show_value([1, 2])
        ("'10:00'", 'null', 'a list')
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{make_printable(value)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 256 else "an integer of more than 256 bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"
