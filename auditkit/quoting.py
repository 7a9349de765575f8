"""Text from outside, made safe to be shown: what isn't printable is shown as its escape."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Make a text safe for a terminal or a page: what isn't printable is shown as its escape.

    More is escaped than a page needs (`auditkit.charts.text.clean_text`): a terminal counts columns, and a joiner in
    the text would put a table's lines out of step.

    Args:
        text: Any text.

    Returns:
        The text, where every character that `str.isprintable` refuses is written as in a Python string
        (``\\x1b``, ``\\n``, ``\\u202e``), except that every kind of space stays a space.

    Example:
        >>> print(printable("red \\x1b[31m, two\\nlines, \\u202eback, a\\u00a0space"))
        red \\x1b[31m, two\\nlines, \\u202eback, a space
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")
