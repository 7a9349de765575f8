"""What is wrong with a row, and how to show a hostile value safely."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SHOWN: Final = 80
"""Longest value that a reason quotes, in characters."""


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
