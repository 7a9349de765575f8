"""Event text made fit to show: one safe line, a chart label, a number with its unit.

An event's fields are written by whoever can cause an event, and the reader of a table must see what is there.
So control characters, bidirectional overrides and other invisible characters are shown as escapes (``\\x1b``,
``\\u202e``), and whatever is cut says how much is missing. None of this makes text safe for HTML: that is the
business of the template's autoescape, or of `html.escape`.
"""

from __future__ import annotations

import math
from typing import Final

MISSING: Final = "–"
"""What stands where there is no value."""

# The joiners make emoji and several scripts readable and change no order.
_JOINERS: Final = "\u200c\u200d"


def clean_text(value: object, limit: int = 200, *, lines: bool = False) -> str:
    """Return text of an event as something that can be shown in a page or a notebook.

    These lay text out themselves: joined emoji and scripts stay as they are, which a terminal would misalign
    (`auditkit.cli.terminal.printable`), and a line end is shown by a sign and not as code.

    Args:
        value: The text; anything else is shown as its ``str``, missing values as `MISSING`.
        limit: Characters at most, before the note on what was cut.
        lines: Keep line ends and tabs, for a traceback; otherwise a line end is shown as ``⏎``.

    Returns:
        Printable text.

    Example:
        >>> clean_text("evil\\u202egnp.exe")
        'evil\\\\u202egnp.exe'
        >>> clean_text("two\\nlines"), clean_text(None)
        ('two⏎lines', '–')
        >>> clean_text("a" * 2000, limit=5)
        'aaaaa… (1,995 more characters)'
    """
    if is_missing(value):
        return MISSING
    text = str(value)
    rest = len(text) - limit
    if rest > 0:
        text = text[:limit]
    if not text.isprintable():
        text = text.replace("\r\n", "\n")
        text = "".join(_show(character, lines=lines) for character in text)
    return f"{text}… ({rest:,} more characters)" if rest > 0 else text


def make_label(value: object, limit: int = 32) -> str:
    """Return text of an event as a label that plotly shows as it is.

    Plotly reads tags such as ``<b>`` and ``<a href>``, entities, and TeX between dollar signs in every text
    of a figure. So the characters that start these are written as entities, which plotly turns back into
    text. Made for figures only: elsewhere the entities would be seen.

    Args:
        value: The text; missing values become ``(none)``, empty text ``(empty)``.
        limit: Characters at most; a longer text is cut in its middle, with an ellipsis.

    Returns:
        The label.

    Example:
        >>> make_label("<b>R&D</b> $5")
        '&lt;b&gt;R&amp;D&lt;/b&gt; &#36;5'
        >>> make_label("auditkit.demo.services.CrmRejected")
        'auditkit.d….services.CrmRejected'
        >>> make_label(None), make_label("")
        ('(none)', '(empty)')
    """
    if is_missing(value):
        return "(none)"
    whole = str(value)
    # Of a long name both ends are kept, as names that begin alike differ at their end.
    head, tail = limit - limit * 2 // 3 - 1, limit * 2 // 3
    if len(whole) > 4 * limit:
        text = clean_text(whole[:limit], limit) + clean_text(whole[-limit:], limit)
    else:
        text = clean_text(whole, 4 * limit).strip() or "(empty)"
    if len(text) > limit:
        text = f"{text[:head].rstrip()}…{text[-tail:].lstrip()}"
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):
        text = text.replace(character, entity)
    return text


def format_count(value: float) -> str:
    """Return a whole number with thousands separators.

    Args:
        value: The number; a missing one becomes `MISSING`.

    Example:
        >>> format_count(48211), format_count(float("nan"))
        ('48,211', '–')
    """
    return MISSING if is_missing(value) else f"{int(value):,}"


def format_share(value: float) -> str:
    """Return a share as a percentage with one decimal; a small one isn't rounded to nothing.

    Args:
        value: Between 0 and 1; a missing one becomes `MISSING`.

    Example:
        >>> [format_share(share) for share in (0.0213, 1.0, 0.0004, 0.00004, 0.0)]
        ['2.1 %', '100 %', '0.04 %', '< 0.01 %', '0 %']
    """
    if is_missing(value):
        return MISSING
    if value in {0, 1}:
        return f"{value * 100:.0f} %"
    if 0 < value < 0.0001:
        return "< 0.01 %"
    return f"{value * 100:.{1 if abs(value) >= 0.001 else 2}f} %"


def format_size(size: float) -> str:
    """Return a number of bytes in the decimal unit that suits it.

    Args:
        size: Bytes; a missing number becomes `MISSING`.

    Example:
        >>> format_size(999), format_size(231_004), format_size(4_815_765)
        ('999 B', '231 kB', '4.82 MB')
    """
    if is_missing(size):
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{_round(size)} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def is_missing(value: object) -> bool:
    """Return whether a value of a frame's cell stands for none (None, NaN, NaT, NA).

    Args:
        value: Any scalar.

    Example:
        >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing(0)
        (True, True, False, False)
    """
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float) and math.isnan(value)


def _round(value: float) -> str:
    """Return a number with three significant digits and no needless zeros."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _show(character: str, *, lines: bool) -> str:
    """Return one character as something visible."""
    if character.isprintable() or character in _JOINERS:
        return character
    if character == "\n":
        return character if lines else "⏎"
    if character == "\t":
        return character if lines else " "
    code = ord(character)
    if character.isspace() and code > 0x7F and code not in {0x85, 0x2028, 0x2029}:
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
