"""Any Python value as JSON text: the one documented conversion of ``details``. Never an exception, never a lost event.

| value | becomes |
|---|---|
| str, bool, None, int of 64 bits, finite float, list, tuple, dict | itself in JSON |
| int beyond 64 bits | ``{"$int": "digits"}`` |
| NaN, Infinity, -Infinity | ``{"$float": "NaN"}`` and so on |
| keys that aren't text | their text: ``1`` → ``"1"``, ``None`` → ``"null"``; a clash gets ``~2`` … |
| keys of any other kind | ``"$unconvertible:module.Class"`` |
| datetime, date, time | ISO 8601 |
| timedelta (numpy's and pandas' too) | seconds |
| Decimal, UUID, path | text |
| bytes | ``{"$base64": "…"}``; over a million, its beginning and ``"$cut": {"bytes": 10485760}`` beside it |
| set, frozenset, generator-free iterables of numpy and pandas | list (a set sorted by its members' JSON) |
| dataclass, named tuple, pydantic-like model, Mapping | object |
| Enum | its value |
| numpy and pandas scalars | the Python value; NaT and NA become null |
| exception | ``{"type": …, "message": …}`` |
| lone surrogate in text | U+FFFD |
| text over a million characters | its beginning and ``…[cut: 10485760 characters]`` |
| a container inside itself | ``{"$circular": "dict"}`` |
| deeper than 254 levels, or than 100 where anything in the details is one of these rows | ``{"$too_deep": "list"}`` |
| anything else | ``{"$unconvertible": "module.Class"}`` |

The last row never calls ``repr``: an object's repr may hold secrets, megabytes, or code that fails.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import os
import uuid
from base64 import b64encode
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import orjson

MAX_TEXT: Final = 1_000_000
"""Longest text kept, in characters."""

MAX_DEPTH: Final = 100
"""Deepest nesting kept, in levels, by the careful walk; orjson alone goes down to 254."""

MAX_DETAILS_BYTES: Final = 3 << 20
"""Largest details kept, in bytes of JSON: the line they stand in has 4 MiB."""

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_MAX_64: Final = (1 << 64) - 1
_MIN_64: Final = -(1 << 63)
_dumps = orjson.dumps


def encode_details(value: Any) -> str:
    """Convert a value to JSON text by the table above.

    Args:
        value: Anything.

    Returns:
        JSON text, without lone surrogates.

    Example:
        >>> encode_details({"source": "web", "score": 0.5})
        '{"source":"web","score":0.5}'
        >>> encode_details({1: float("nan"), "when": datetime.date(2026, 11, 23), "tags": {"b", "a"}})
        '{"1":{"$float":"NaN"},"when":"2026-11-23","tags":["a","b"]}'
        >>> encode_details(object())
        '{"$unconvertible":"builtins.object"}'
    """
    try:
        # orjson prints NaN as null and calls no default for it, so a "null" in the result is looked into.
        text = _dumps(value, None, _OPTIONS).decode()
        if ("null" not in text or not _holds_nonfinite(value)) and len(text) <= MAX_TEXT:
            return text
    except (TypeError, ValueError, RecursionError, RuntimeError):
        pass  # orjson names no reason a program could act on; the careful way below takes every value
    try:
        text = _dumps(_Converter().convert(value, 0)).decode()
    except Exception:  # noqa: BLE001 - whatever a value's own code still managed to break: the event is kept
        return _dumps({"$unconvertible": "details"}).decode()
    if len(text) * 4 > MAX_DETAILS_BYTES and len(text.encode()) > MAX_DETAILS_BYTES:
        marker = {"$cut": {"bytes": len(text.encode()), "beginning": text[: MAX_TEXT // 4]}}
        text = _dumps(marker).decode()
    return text


def make_text(value: Any) -> str:
    """Make the text of a column out of whatever stands for an actor, a lead or a message.

    Args:
        value: Text, which is cleaned, or anything else, which becomes its JSON text without the quotes.

    Example:
        >>> make_text(42), make_text(True), make_text(datetime.date(2026, 11, 23))
        ('42', 'true', '2026-11-23')
    """
    if issubclass(type(value), str):
        return clean_text(str.__str__(value))
    encoded = encode_details(value)
    decoded = orjson.loads(encoded)
    return decoded if isinstance(decoded, str) else encoded


def clean_text(text: str) -> str:
    """Make text that UTF-8 can hold and a line has room for.

    Nothing is escaped: this is what is recorded, and whoever shows it escapes what its own place could act on.

    Example:
        >>> clean_text("a\\ud800b") == "a\\ufffdb"
        True
        >>> clean_text("x" * 1_000_001)[1_000_000:]
        '…[cut: 1000001 characters]'
    """
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}…[cut: {len(text)} characters]"
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _holds_nonfinite(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return False
    if kind is float:
        return not math.isfinite(value)
    if depth > MAX_DEPTH:
        return True
    if kind is dict:
        return any(_holds_nonfinite(member, depth + 1) for member in value.values())
    if kind is list or kind is tuple:
        return any(_holds_nonfinite(member, depth + 1) for member in value)
    return True  # an enumeration, whose value may be anything


class _Converter:
    """One careful walk over a value; remembers which containers it is inside of."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def convert(self, value: Any, depth: int) -> Any:
        # Not value.__class__: a proxy or a mock answers that with its own code, which may fail.
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return clean_text(value)
        if kind is int:
            return value if _MIN_64 <= value <= _MAX_64 else {"$int": _print_integer(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": _name_nonfinite(value)}
        if depth >= MAX_DEPTH:
            return {"$too_deep": clean_text(kind.__name__)}
        if id(value) in self._inside:
            return {"$circular": clean_text(kind.__name__)}
        self._inside.add(id(value))
        try:
            return self._convert_other(value, depth)
        except Exception:  # noqa: BLE001 - a value's own code runs here, and must not lose the event
            return _mark_unconvertible(value)
        finally:
            self._inside.discard(id(value))

    def _convert_other(self, value: Any, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, str):
            # A proxy of text says that it is text, and isn't.
            return clean_text(str.__str__(value) if issubclass(type(value), str) else str(value))
        if isinstance(value, int):
            return self.convert(int(value), depth)
        if isinstance(value, float):
            return self.convert(float(value), depth)
        if isinstance(value, Mapping):
            return self._convert_items(list(value.items()), depth)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._convert_items(list(zip(value._fields, value, strict=True)), depth)
        if isinstance(value, list | tuple):
            return [self.convert(member, depth + 1) for member in list(value)]
        if isinstance(value, AbstractSet):
            return sorted((self.convert(member, depth + 1) for member in list(value)), key=orjson.dumps)
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return None if type(value).__name__ == "NaTType" else value.isoformat()
        if isinstance(value, datetime.timedelta):
            return value.total_seconds()
        if isinstance(value, decimal.Decimal | uuid.UUID | os.PathLike):
            return clean_text(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return _encode_bytes(bytes(value))
        if isinstance(value, BaseException):
            return {"type": clean_text(type(value).__name__), "message": clean_text(str(value))}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
            return self._convert_items(fields, depth)
        return self._convert_foreign(value, depth)

    def _convert_foreign(self, value: Any, depth: int) -> Any:
        """Convert what numpy, pandas and pydantic make, without importing any of them."""
        module = type(value).__module__.partition(".")[0]
        if module in ("numpy", "pandas"):
            if type(value).__name__ in ("NAType", "NaTType"):
                return None
            if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
                return self._convert_moments(value, depth)
            if hasattr(value, "to_dict") and type(value).__name__ == "DataFrame":
                return self.convert(value.to_dict("records"), depth + 1)
            if hasattr(value, "tolist"):
                plain = value.tolist()
                same = type(plain) is type(value)
                return _mark_unconvertible(value) if same else self.convert(plain, depth + 1)
            if hasattr(value, "isoformat"):
                return value.isoformat()
        if hasattr(value, "model_dump"):
            return self.convert(value.model_dump(), depth + 1)
        return _mark_unconvertible(value)

    def _convert_moments(self, value: Any, depth: int) -> Any:
        """Convert numpy's times: `tolist` would make bare counts of nanoseconds of some of them."""
        if getattr(value, "ndim", 0):
            return [self.convert(member, depth + 1) for member in value]
        scalar = value[()]
        if str(scalar) == "NaT":
            return None
        return str(scalar) if scalar.dtype.kind == "M" else float(scalar / type(scalar)(1, "s"))

    def _convert_items(self, items: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        clashes: dict[str, int] = {}
        for key, member in items:
            try:
                name = _name_key(key)
            except Exception:  # noqa: BLE001 - a key's own code must not cost the other keys
                name = _mark_key(key)
            unique = name
            while unique in result:
                clashes[name] = clashes.get(name, 1) + 1
                unique = f"{name}~{clashes[name]}"
            result[unique] = self.convert(member, depth + 1)
        return result


def _encode_bytes(data: bytes) -> dict[str, Any]:
    encoded: dict[str, Any] = {"$base64": b64encode(data[:MAX_TEXT]).decode()}
    return encoded if len(data) <= MAX_TEXT else {**encoded, "$cut": {"bytes": len(data)}}


def _name_key(key: Any) -> str:
    if isinstance(key, str):
        return clean_text(str.__str__(key))
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return _print_integer(int(key))
    if isinstance(key, float | decimal.Decimal | uuid.UUID | os.PathLike):
        return clean_text(str(key))
    if isinstance(key, datetime.datetime | datetime.date | datetime.time):
        return key.isoformat()
    if isinstance(key, enum.Enum):
        return _name_key(key.value)
    if isinstance(key, tuple):
        return ",".join(_name_key(member) for member in key)
    if type(key).__module__ == "numpy" and hasattr(key, "item") and type(key.item()) is not type(key):
        return _name_key(key.item())
    return _mark_key(key)


def _mark_key(key: Any) -> str:
    return f"$unconvertible:{_name_class(type(key))}"


def _print_integer(value: int) -> str:
    # Python refuses to print integers of more than 4,300 digits in decimal; hexadecimal has no such limit.
    return str(value) if value.bit_length() < 10_000 else hex(value)[:MAX_TEXT]


def _name_nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _mark_unconvertible(value: Any) -> dict[str, str]:
    return {"$unconvertible": _name_class(type(value))}


def _name_class(kind: type) -> str:
    return clean_text(f"{kind.__module__}.{kind.__qualname__}")
