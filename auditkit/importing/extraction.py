"""Extraction: a mapping, compiled once, takes the columns of an event out of each row.

A value moves: what a column holds character for character isn't repeated in ``details``. Where the column
says less than the source did (a time whose offset was converted, an outcome that was looked up, a rounded
duration, a part of a template), the source's value stays in ``details`` as well. So nothing of a row is lost.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping as Readable
from decimal import Decimal
from typing import Any, Final

import orjson

from auditkit.conversion import MAX_DETAILS_BYTES, MAX_TEXT, encode_details
from auditkit.errors import UsageError
from auditkit.event import INTERNAL_PREFIX, MAX_LINE_BYTES
from auditkit.importing.mapping import TEXT_COLUMNS, Function, Mapping, Record, Source
from auditkit.importing.moments import compile_format, parse_duration
from auditkit.importing.problems import Unusable, show_value

Fields = dict[str, Any]
"""Arguments of `AuditLogger.log_event`, but for the type and the details."""

_PIECE: Final = re.compile(r"\{([^{}]*)\}")
_REMEMBERED: Final = 1000
_LINE_RESERVE: Final = 4096
_CUT: Final = '{"$cut":{"bytes":'  # what the conversion of details puts in the place of too many


class Place:
    """A way through nested objects and lists."""

    __slots__ = ("key", "steps")

    def __init__(self, path: str) -> None:
        self.key = path
        parts = path.split(".")
        self.steps = tuple(parts) if len(parts) > 1 and all(parts) else ()

    def read(self, record: Record) -> Any:
        """Give the value, or None if the way leads nowhere."""
        value = record.get(self.key)
        if value is None and self.steps:
            value = record
            for step in self.steps:
                if value.__class__ is dict:
                    value = value.get(step)
                elif value.__class__ is list:
                    value = value[int(step)] if _is_index(step, len(value)) else None
                else:
                    return None
        return value

    def remove(self, record: Record) -> None:
        """Take the value out, and objects that are empty thereby; members of lists stay where they are."""
        if record.get(self.key) is not None or not self.steps:
            record.pop(self.key, None)
            return
        holders: list[tuple[Any, str]] = []
        value: Any = record
        for step in self.steps:
            holders.append((value, step))
            if value.__class__ is dict:
                value = value.get(step)
            elif value.__class__ is list and _is_index(step, len(value)):
                value = value[int(step)]
            else:
                return
        for holder, step in reversed(holders):
            if holder.__class__ is not dict:
                return
            holder.pop(step, None)
            if holder:
                return


class _Constant:
    __slots__ = ("place", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = None

    def read(self, record: Record) -> Any:
        return self.text


class _Field:
    __slots__ = ("place", "read")

    def __init__(self, path: str) -> None:
        self.place = Place(path)
        self.read = self.place.read


class _Template:
    __slots__ = ("pieces", "place")

    def __init__(self, text: str) -> None:
        self.place = None
        pieces = _PIECE.split(text)
        if any("{" in piece or "}" in piece for piece in pieces[::2]) or not all(pieces[1::2]):
            raise UsageError(f"a template has paths in braces, such as http.{{method}}; found {text!r}")
        self.pieces = [Place(piece) if at % 2 else piece for at, piece in enumerate(pieces)]

    def read(self, record: Record) -> Any:
        parts = []
        for piece in self.pieces:
            if isinstance(piece, str):
                parts.append(piece)
                continue
            value = piece.read(record)
            if _is_nothing(value):
                return None
            parts.append(make_text(value))
        return "".join(parts)


class _Computed:
    __slots__ = ("function", "place")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.place = None

    def read(self, record: Record) -> Any:
        try:
            return self.function(record)
        except Exception as error:  # the mapping's own code met a row it doesn't know
            name = getattr(self.function, "__name__", "a function of the mapping")
            raise Unusable("mapping", f"{name} failed on this row: {type(error).__name__}") from error


_Alternative = _Constant | _Field | _Template | _Computed


class Extractor:
    """Takes events out of rows by one mapping.

    Args:
        mapping: The mapping.

    Raises:
        UsageError: If a template of it can't be meant.

    Example:
        >>> extractor = Extractor(Mapping(time="at", type="order.{kind}", actor="user.mail"))
        >>> user = {"mail": "ana@example.com", "age": 30}
        >>> row = {"at": "2026-11-23T10:00:00Z", "kind": "placed", "user": user}
        >>> kind, details, fields = extractor.extract(row)
        >>> kind, details, fields["actor"]
        ('order.placed', {'kind': 'placed', 'user': {'age': 30}}, 'ana@example.com')
    """

    def __init__(self, mapping: Mapping) -> None:
        self._read_moment = compile_format(mapping.time_format, mapping.tz, mapping.fold)
        self._unit = mapping.duration_unit
        self._outcomes = _Outcomes(mapping.outcome_values) if mapping.outcome_values else None
        self._time = _compile_source(mapping.time)
        self._type = _compile_source(mapping.type)
        self._duration = None if mapping.duration is None else _compile_source(mapping.duration)
        self._texts = [
            (name, _compile_source(source)) for name in TEXT_COLUMNS if (source := getattr(mapping, name)) is not None
        ]

    def extract(self, record: Record) -> tuple[str, Record | None, Fields]:
        """Take the columns out of a row.

        Args:
            record: The row; what is left of it becomes the details.

        Returns:
            The event's type, its details (None if nothing is left), and the other arguments of ``log_event``.

        Raises:
            Unusable: If the row can't become an event.
        """
        used: list[Place] = []
        value, place = _find(self._type, record)
        if value is None:
            raise Unusable("no type", f"found no value for {_describe(self._type)}")
        kind = make_text(value)
        if not kind:
            raise Unusable("no type", f"the text of {_describe(self._type)} is empty")
        if kind.startswith(INTERNAL_PREFIX):
            detail = f"{show_value(kind)}: types in {INTERNAL_PREFIX} are the toolkit's own"
            raise Unusable("reserved type", detail)
        if place is not None:
            used.append(place)

        value, place = _find(self._time, record)
        if value is None:
            raise Unusable("no time", f"found no value for {_describe(self._time)}")
        moment, exact = self._read_moment(value)
        if exact and place is not None:
            used.append(place)
        fields: Fields = {"time": moment}

        for name, alternatives in self._texts:
            for alternative in alternatives:
                value = alternative.read(record)
                if not _is_nothing(value):
                    break
            else:
                continue
            text = value if value.__class__ is str and len(value) <= MAX_TEXT else make_text(value)
            place = alternative.place
            if self._outcomes is not None and name == "outcome" and alternative.__class__ is not _Constant:
                outcome = self._outcomes.find(text)
                if outcome != text:
                    place = None
                text = outcome
            fields[name] = text
            if place is not None:
                used.append(place)

        if self._duration is not None:
            value, place = _find(self._duration, record)
            if value is not None:
                microseconds, exact = parse_duration(value, self._unit)
                fields["duration"] = microseconds / 1_000_000
                if exact and place is not None:
                    used.append(place)

        for place in used:
            place.remove(record)
        return kind, record or None, fields


class _Outcomes:
    """Looks outcomes up; remembers what it found, since a source has few of them."""

    def __init__(self, values: Readable[str, str]) -> None:
        self._exact = {value: outcome for value, outcome in values.items() if not value.endswith("*")}
        self._patterns = [(value[:-1], outcome) for value, outcome in values.items() if value.endswith("*")]
        self._found: dict[str, str] = {}

    def find(self, text: str) -> str:
        found = self._found.get(text)
        if found is None:
            found = self._exact.get(text)
            if found is None:
                found = next((outcome for start, outcome in self._patterns if text.startswith(start)), text)
            if len(self._found) < _REMEMBERED:
                self._found[text] = found
        return found


def make_text(value: Any) -> str:
    """Give a value as the text of a column.

    Raises:
        Unusable: If it is an object, a list or bytes, or longer than an event can hold.

    Example:
        >>> make_text("ana"), make_text(42), make_text(0.5), make_text(True)
        ('ana', '42', '0.5', 'true')
    """
    if value.__class__ is str:
        text: str = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int) and value.bit_length() < _REMEMBERED:
        text = str(value)
    elif isinstance(value, float):
        text = repr(value)
    elif isinstance(value, Decimal):
        text = str(value)
    elif isinstance(value, dt.datetime | dt.date | dt.time):
        text = value.isoformat()
    else:
        raise Unusable("not a text", f"expected a text or a number for a column, found {show_value(value)}")
    if len(text) > MAX_TEXT:
        raise Unusable("too large", f"a text of {len(text)} characters, where an event holds {MAX_TEXT}")
    return text


def check_size(details: Record | None, fields: Fields) -> None:
    """Refuse a row that an event could hold only in part.

    Args:
        details: What the event's details will be.
        fields: Its other columns.

    Raises:
        Unusable: If a text or the whole is too large.
    """
    text = encode_details(details)
    if text.startswith(_CUT):
        raise Unusable("too large", f"details of more than {MAX_DETAILS_BYTES} bytes, which an event would cut")
    if len(text) > MAX_TEXT and _holds_long_text(details):
        raise Unusable("too large", f"a text of more than {MAX_TEXT} characters, which an event would cut")
    columns = sum(len(orjson.dumps(value)) for value in fields.values() if isinstance(value, str))
    size = len(orjson.dumps(text)) + columns
    if size > MAX_LINE_BYTES - _LINE_RESERVE:
        raise Unusable("too large", f"{size} bytes, where an event holds {MAX_LINE_BYTES - _LINE_RESERVE}")


def list_columns(mapping: Mapping) -> dict[str, tuple[str, ...]]:
    """Give the paths that each column of a mapping can come from; without constants and functions.

    Example:
        >>> list_columns(Mapping(time="ts", type="{a}.{b}", actor=("user", "=nobody")))
        {'time': ('ts',), 'type': ('a', 'b')}
    """
    found = {}
    for name in ("time", "type", *TEXT_COLUMNS, "duration"):
        source = getattr(mapping, name)
        if source is None:
            continue
        alternatives = _compile_source(source)
        paths = tuple(path for alternative in alternatives for path in _list_paths(alternative))
        # A constant or a function among the alternatives makes the paths dispensable.
        always = any(isinstance(alternative, _Constant | _Computed) for alternative in alternatives)
        if paths and not always:
            found[name] = paths
    return found


def _list_paths(alternative: _Alternative) -> list[str]:
    if isinstance(alternative, _Field):
        return [alternative.place.key]
    if isinstance(alternative, _Template):
        return [piece.key for piece in alternative.pieces if isinstance(piece, Place)]
    return []


def _compile_source(source: Source) -> tuple[_Alternative, ...]:
    alternatives = source if isinstance(source, tuple) else (source,)
    return tuple(_compile_alternative(alternative) for alternative in alternatives)


def _compile_alternative(alternative: str | Function) -> _Alternative:
    if not isinstance(alternative, str):
        return _Computed(alternative)
    if alternative.startswith("="):
        return _Constant(alternative[1:])
    if "{" in alternative or "}" in alternative:
        return _Template(alternative)
    return _Field(alternative)


def _find(alternatives: tuple[_Alternative, ...], record: Record) -> tuple[Any, Place | None]:
    for alternative in alternatives:
        value = alternative.read(record)
        if not _is_nothing(value):
            return value, alternative.place
    return None, None


def _is_nothing(value: Any) -> bool:
    """Tell whether a value says that there is none: null, or NaN, as pandas writes a gap among numbers."""
    return value is None or (value.__class__ is float and value != value)


def _describe(alternatives: tuple[_Alternative, ...]) -> str:
    paths = [path for alternative in alternatives for path in _list_paths(alternative)]
    return " or ".join(show_value(path) for path in paths) or "the mapping's function"


def _is_index(step: str, length: int) -> bool:
    return len(step) < 10 and step.isdecimal() and step.isascii() and int(step) < length


def _holds_long_text(value: object) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if len(item) > MAX_TEXT:
                return True
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return False
