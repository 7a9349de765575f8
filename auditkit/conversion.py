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
| Decimal, Fraction, UUID, path, IP addresses and networks, ``UserString`` | text |
| bytes-like | ``{"$base64": "…"}``; over a million, its beginning and ``"$cut": {"bytes": 10485760}`` beside it |
| complex | ``{"$complex": [real, imaginary]}`` |
| range | ``{"$range": [start, stop, step]}`` |
| compiled pattern | ``{"$pattern": "text", "$flags": 32}`` |
| deque, array.array and every other Sequence, arrays and series of numpy and pandas | list |
| set, frozenset, views of a dict | list (a set sorted by its members' JSON) |
| dataclass, attrs class, named tuple, SimpleNamespace, model of pydantic, Mapping | object |
| Enum | its value |
| numpy and pandas scalars | the Python value; NaT and NA become null |
| exception | ``{"type": …, "message": …}`` |
| class | ``{"$class": "module.Class"}`` |
| function, method | ``{"$function": "module.name"}`` |
| lone surrogate in text | U+FFFD |
| text over a million characters | its beginning and ``…[cut: 10485760 characters]`` |
| a container inside itself | ``{"$circular": "dict"}`` |
| deeper than 254 levels, or than 100 where anything in the details is one of these rows | ``{"$too_deep": "list"}`` |
| anything else, also iterators, which are not consumed | ``{"$unconvertible": "module.Class"}`` |

The last row never calls ``repr``: an object's repr may hold secrets, megabytes, or code that fails.

A value's own code runs here, and whatever it raises costs that value only, `SystemExit` and `GeneratorExit` included.
What reaches the program from outside goes on its way: `KeyboardInterrupt` (nothing tells Ctrl-C from a value that
raises it), the exception of a signal handler, and a cancellation, which is a `BaseException` of another class.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import math
import os
import re
import signal
import types
import uuid
from base64 import b64encode
from collections import UserString
from collections.abc import Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Final

import orjson

MAX_TEXT: Final = 1_000_000
"""Longest text kept, in characters."""

MAX_DEPTH: Final = 100
"""Deepest nesting kept, in levels, by the careful walk; orjson alone goes down to 254."""

MAX_DETAILS_BYTES: Final = 3 << 20
"""Largest details kept, in bytes of JSON: the line they stand in has 4 MiB."""

OWN_ERRORS: Final = (Exception, SystemExit, GeneratorExit)
"""What a value's own code may raise at the cost of that value only, unless `is_interruption` says otherwise."""

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_MAX_64: Final = (1 << 64) - 1
_MIN_64: Final = -(1 << 63)
_dumps = orjson.dumps
# A metaclass may answer ``kind.__qualname__`` with code of its own; these are what Python itself keeps.
_module_of = type.__dict__["__module__"].__get__
_name_of = type.__dict__["__qualname__"].__get__


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
    except (TypeError, ValueError, RecursionError, RuntimeError) as error:
        # orjson names no reason a program could act on; the careful way below takes every value.
        if is_interruption(error):
            raise
    try:
        text = _dumps(_Converter().convert(value, 0)).decode()
    except OWN_ERRORS as error:  # whatever a value's own code still managed to break: the event is kept
        if is_interruption(error):
            raise
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


def is_interruption(error: BaseException) -> bool:
    """Tell whether a signal handler raised an exception that came out of a value's own code.

    Python runs a handler inside of whatever the main thread is doing, so a timeout or an orderly exit on SIGTERM may
    come out of there, and must not be taken for the value's.

    Args:
        error: The exception as it was caught.

    Example:
        >>> is_interruption(ValueError("raised by nobody"))
        False
    """
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:
        return False  # raised where it was caught; looking all handlers up takes longer than a conversion
    handlers = {_find_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    while handlers and trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _find_code(handler: object) -> types.CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    if callable(handler) and not hasattr(handler, "__code__"):
        handler = type(handler).__call__
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


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
            return {"$too_deep": _name_shortly(kind)}
        if id(value) in self._inside:
            return {"$circular": _name_shortly(kind)}
        self._inside.add(id(value))
        try:
            return self._convert_other(value, depth)
        except OWN_ERRORS as error:  # a value's own code runs here, and must not lose the event
            if is_interruption(error):
                raise
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
        if isinstance(value, bytes | bytearray | memoryview):
            return _encode_bytes(bytes(value))
        if isinstance(value, range):
            return {"$range": [self.convert(number, depth + 1) for number in (value.start, value.stop, value.step)]}
        if isinstance(value, UserString):
            return clean_text(value.data)
        if isinstance(value, Sequence | ValuesView):
            return [self.convert(member, depth + 1) for member in list(value)]
        if isinstance(value, AbstractSet):
            return sorted((self.convert(member, depth + 1) for member in list(value)), key=orjson.dumps)
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return None if type(value).__name__ == "NaTType" else value.isoformat()
        if isinstance(value, datetime.timedelta):
            return value.total_seconds()
        if isinstance(value, decimal.Decimal | uuid.UUID):
            return clean_text(str(value))
        if isinstance(value, os.PathLike):
            return clean_text(os.fsdecode(value))
        if isinstance(value, complex):
            return {"$complex": [self.convert(part, depth + 1) for part in (value.real, value.imag)]}
        if isinstance(value, re.Pattern):
            return {"$pattern": self.convert(value.pattern, depth + 1), "$flags": int(value.flags)}
        if isinstance(value, BaseException):
            return {"type": _name_shortly(type(value)), "message": clean_text(str(value))}
        if isinstance(value, type):
            return {"$class": _name_class(value)}
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
            return {"$function": _name_function(value)}
        if isinstance(value, types.SimpleNamespace):
            return self._convert_items(list(vars(value).items()), depth)
        if dataclasses.is_dataclass(value):
            fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
            return self._convert_items(fields, depth)
        return self._convert_foreign(value, depth)

    def _convert_foreign(self, value: Any, depth: int) -> Any:
        """Convert what numpy, pandas, attrs and pydantic make, without importing any of them."""
        if {"fractions", "ipaddress"} & {base.__module__ for base in type(value).__mro__}:
            return clean_text(str(value))
        if (attributes := getattr(type(value), "__attrs_attrs__", None)) is not None:
            return self._convert_items([(field.name, getattr(value, field.name)) for field in attributes], depth)
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
            except OWN_ERRORS as error:  # a key's own code must not cost the other keys
                if is_interruption(error):
                    raise
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
    if isinstance(key, float | decimal.Decimal | uuid.UUID):
        return clean_text(str(key))
    if isinstance(key, os.PathLike):
        return clean_text(os.fsdecode(key))
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
    module = _module_of(kind)
    return clean_text(f"{module}.{_name_of(kind)}" if type(module) is str else _name_of(kind))


def _name_shortly(kind: type) -> str:
    return clean_text(_name_of(kind).rpartition(".")[2])


def _name_function(function: Any) -> str:
    module = function.__module__
    return clean_text(f"{module}.{function.__qualname__}" if module else function.__qualname__)
