"""The one conversion of details: every row of its table, and whatever a program may throw at it."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import io
import json
import re
import sys
import types
import weakref
from array import array
from base64 import b64decode
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unittest.mock import MagicMock
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.conversion import MAX_DETAILS_BYTES, MAX_TEXT, clean_text, encode_details, make_text


class Colour(enum.Enum):
    RED = "red"
    NOTHING = float("nan")


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Lead:
    name: str
    tags: set[str]
    password: str = dataclasses.field(default="hidden", repr=False)


class Model:
    """What pydantic's models have."""

    def model_dump(self) -> dict[str, Any]:
        return {"name": "Ana", "since": date(2026, 11, 23)}


class Folder:
    """A path of bytes that are no text."""

    def __fspath__(self) -> bytes:
        return b"in/\xff"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Number(int):
    pass


TABLE: list[tuple[Any, Any]] = [
    # itself in JSON
    (None, None),
    (True, True),
    ("text", "text"),
    (0.1, 0.1),
    (2**64 - 1, 2**64 - 1),
    (-(2**63), -(2**63)),
    ([1, (2, [3])], [1, [2, [3]]]),
    ({"a": {"b": []}}, {"a": {"b": []}}),
    # integers beyond 64 bits
    (2**64, {"$int": "18446744073709551616"}),
    (-(2**63) - 1, {"$int": "-9223372036854775809"}),
    ([2**200], [{"$int": str(2**200)}]),
    # floats that aren't numbers
    (float("nan"), {"$float": "NaN"}),
    ({"rate": float("inf")}, {"rate": {"$float": "Infinity"}}),
    ([None, -float("inf")], [None, {"$float": "-Infinity"}]),
    ({"null": "null", "x": None}, {"null": "null", "x": None}),
    # keys that aren't text
    ({7: "a", None: "b", True: "c", 2.5: "d"}, {"7": "a", "null": "b", "true": "c", "2.5": "d"}),
    ({date(2026, 11, 23): 1, Colour.RED: 2, (1, "x"): 3}, {"2026-11-23": 1, "red": 2, "1,x": 3}),
    ({Word.YES: 1, Level.HIGH: 2, Text("t"): 3}, {"yes": 1, "3": 2, "t": 3}),
    ({UUID(int=1): 1, Decimal("1.50"): 2}, {"00000000-0000-0000-0000-000000000001": 1, "1.50": 2}),
    ({np.int64(7): 1, np.float32(0.5): 2, np.str_("s"): 3, np.bool_(False): 4}, {"7": 1, "0.5": 2, "s": 3, "false": 4}),
    ({"1": "a", 1: "b", "1~2": "c"}, {"1": "a", "1~2": "b", "1~2~2": "c"}),
    ({2**70: 1}, {str(2**70): 1}),
    ({b"bytes": 1, object: 2}, {"$unconvertible:builtins.bytes": 1, "$unconvertible:builtins.type": 2}),
    # moments
    (datetime(2026, 11, 23, 10, tzinfo=UTC), "2026-11-23T10:00:00+00:00"),
    (datetime(2026, 11, 23, 10, 0, 0, 5), "2026-11-23T10:00:00.000005"),  # noqa: DTZ001 - naive ones come too
    (date(1, 1, 1), "0001-01-01"),
    (time(10, 30, tzinfo=timezone(timedelta(hours=2))), "10:30:00+02:00"),
    (timedelta(days=1, microseconds=1), 86400.000001),
    # text of other kinds
    (Decimal("1.10"), "1.10"),
    (Decimal("NaN"), "NaN"),
    (UUID(int=2), "00000000-0000-0000-0000-000000000002"),
    (PurePosixPath("a/b"), "a/b"),
    (Folder(), "in/\ufffd"),
    (Fraction(1, 3), "1/3"),
    (Fraction(4, 2), "2"),
    (ip_address("192.0.2.1"), "192.0.2.1"),
    (ip_address("2001:db8::1"), "2001:db8::1"),
    (ip_network("192.0.2.0/24"), "192.0.2.0/24"),
    (ip_interface("192.0.2.1/24"), "192.0.2.1/24"),
    (UserString("text"), "text"),
    # numbers and patterns
    (1.5 - 2j, {"$complex": [1.5, -2.0]}),
    (complex("nan+infj"), {"$complex": [{"$float": "NaN"}, {"$float": "Infinity"}]}),
    (range(3), {"$range": [0, 3, 1]}),
    (range(10**30, 0, -2), {"$range": [{"$int": "1" + "0" * 30}, 0, -2]}),
    (re.compile("^L-\\d+$"), {"$pattern": "^L-\\d+$", "$flags": 32}),
    (re.compile(b"a", re.IGNORECASE), {"$pattern": {"$base64": "YQ=="}, "$flags": 2}),
    # bytes
    (b"\x00\xff", {"$base64": "AP8="}),
    (bytearray(b"a"), {"$base64": "YQ=="}),
    (memoryview(b"a"), {"$base64": "YQ=="}),
    # collections
    ({"b", "a"}, ["a", "b"]),
    (frozenset({2, 10, 1}), [1, 10, 2]),
    ({(1, 2), "x"}, ["x", [1, 2]]),
    (deque([1, {2}], maxlen=5), [1, [2]]),
    (UserList([1, 2]), [1, 2]),
    (array("d", [0.5, float("nan")]), [0.5, {"$float": "NaN"}]),
    ({"a": 1}.values(), [1]),
    ({"b": 1, "a": 2}.keys(), ["a", "b"]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (defaultdict(list, {1: [2]}), {"1": [2]}),
    (types.SimpleNamespace(lead="L-1", tags={"vip"}), {"lead": "L-1", "tags": ["vip"]}),
    (UserDict({"a": 1}), {"a": 1}),
    (ChainMap({"a": 1}, {"a": 2}), {"a": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    ({"a": 1}.items(), [["a", 1]]),
    (Lead("Ana", {"vip"}), {"name": "Ana", "tags": ["vip"], "password": "hidden"}),
    (Point(1, 2), {"x": 1, "y": 2}),
    ([Pair(1, Point(2, 3))], [{"left": 1, "right": {"x": 2, "y": 3}}]),
    (Model(), {"name": "Ana", "since": "2026-11-23"}),
    # enumerations
    (Colour.RED, "red"),
    (Colour.NOTHING, {"$float": "NaN"}),
    ([Level.HIGH, Word.YES], [3, "yes"]),
    # subclasses
    (Text("t"), "t"),
    (Number(5), 5),
    ([Number(2**70)], [{"$int": str(2**70)}]),
    # numpy
    (np.int64(5), 5),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float64(0.5), 0.5),
    (np.float32("nan"), {"$float": "NaN"}),
    (np.bool_(True), True),
    (np.str_("s"), "s"),
    (np.bytes_(b"s"), {"$base64": "cw=="}),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array(5), 5),
    (np.array([1, None, "x"], dtype=object), [1, None, "x"]),
    (np.array([np.nan, 1.0]), [{"$float": "NaN"}, 1.0]),
    (np.datetime64("2026-11-23T10:00"), "2026-11-23T10:00"),
    (np.datetime64("2026-11-23T10:00:00.000000001"), "2026-11-23T10:00:00.000000001"),
    (np.datetime64("NaT", "s"), None),
    (np.array(["2026-11-23", "NaT"], dtype="datetime64[ns]"), ["2026-11-23T00:00:00.000000000", None]),
    (np.timedelta64(1, "D"), 86400.0),
    (np.timedelta64(5, "ns"), 5e-9),
    (np.array([[1, 2]], dtype="timedelta64[ms]"), [[0.001, 0.002]]),
    (np.timedelta64("NaT", "s"), None),
    (np.ma.masked, None),
    (np.longdouble(1), {"$unconvertible": "numpy.longdouble"}),
    (np.complex128(1j), {"$complex": [0.0, 1.0]}),
    (np.complex64(1j), {"$complex": [0.0, 1.0]}),
    # pandas
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Timestamp("2026-11-23T10:00", tz="UTC"), "2026-11-23T10:00:00+00:00"),
    (pd.Timedelta("1min"), 60.0),
    (pd.Series([1, None], dtype="Int64"), [1, None]),
    (pd.Series([pd.Timestamp("2026-11-23"), pd.NaT]), ["2026-11-23T00:00:00", None]),
    (pd.Index(["a", "b"]), ["a", "b"]),
    (pd.Categorical(["a", "b", "a"]), ["a", "b", "a"]),
    (pd.date_range("2026-11-23", periods=1, tz="UTC"), ["2026-11-23T00:00:00+00:00"]),
    (
        pd.DataFrame({"n": [1, 2], "t": [pd.Timestamp("2026-11-23"), pd.NaT]}),
        [{"n": 1, "t": "2026-11-23T00:00:00"}, {"n": 2, "t": None}],
    ),
    # classes and functions
    (int, {"$class": "builtins.int"}),
    (Lead, {"$class": f"{__name__}.Lead"}),
    (Colour, {"$class": f"{__name__}.Colour"}),
    (len, {"$function": "builtins.len"}),
    (json.dumps, {"$function": "json.dumps"}),
    (Model().model_dump, {"$function": f"{__name__}.Model.model_dump"}),
    ([].append, {"$function": "list.append"}),
    (lambda: 1, {"$function": f"{__name__}.<lambda>"}),
    # exceptions
    (KeyError("x"), {"type": "KeyError", "message": "'x'"}),
    # texts that UTF-8 can't hold
    ("a\ud800b", "a\ufffdb"),
    ({"\udfff": "\ud83d\ude00"}, {"\ufffd": "\U0001f600"}),
    # anything else
    (object(), {"$unconvertible": "builtins.object"}),
    (iter([1]), {"$unconvertible": "builtins.list_iterator"}),
    ((number for number in [1]), {"$unconvertible": "builtins.generator"}),
    (map(str, [1]), {"$unconvertible": "builtins.map"}),
    (io.StringIO("text"), {"$unconvertible": "_io.StringIO"}),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_the_table(row: int) -> None:
    """Each row of the documented table, alone and inside of other containers."""
    value, expected = TABLE[row]
    assert json.loads(encode_details(value)) == expected
    assert json.loads(encode_details({"a": [value, value]})) == {"a": [expected, expected]}


def nest(levels: int, *, around: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if around is dict else [value]
    return value


@pytest.mark.parametrize("around", [dict, list])
@pytest.mark.parametrize("levels", [50, 99, 254, 255, 10_000])
def test_deep_nesting(around: type, levels: int) -> None:
    """Ten thousand levels end in a marker at the hundredth; what orjson can print stays."""
    value: Any = json.loads(encode_details(nest(levels, around=around)))
    depth = 0
    while value != 1 and "$too_deep" not in value:
        value = value["a"] if around is dict else value[0]
        depth += 1
    assert (depth, value) == ((levels, 1) if levels <= 254 else (100, {"$too_deep": around.__name__}))


def test_a_deep_nest_where_the_stack_is_nearly_full() -> None:
    """A call at the edge of the recursion limit still gives JSON text."""

    def descend(levels: int) -> str:
        return encode_details({"x": nest(90, around=list), "y": {1}}) if levels == 0 else descend(levels - 1)

    depth = 0
    frame = sys._getframe()
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    text = descend(sys.getrecursionlimit() - depth - 100)
    assert "$unconvertible" in text
    assert json.loads(text)["y"] == [1]


def test_circular_references() -> None:
    """A container inside itself is named, wherever it comes again; one that is used twice isn't circular."""
    endless: list[Any] = [1]
    endless.append(endless)
    mapping: dict[str, Any] = {"list": endless}
    mapping["self"] = mapping
    twice = {"same": 1}
    assert json.loads(encode_details({"m": mapping, "twice": [twice, twice]})) == {
        "m": {"list": [1, {"$circular": "list"}], "self": {"$circular": "dict"}},
        "twice": [twice, twice],
    }


def test_a_text_of_ten_megabytes_is_cut() -> None:
    """The beginning and the length of a huge text are kept."""
    assert json.loads(encode_details({"body": "x" * 10_485_760})) == {
        "body": "x" * MAX_TEXT + "…[cut: 10485760 characters]"
    }


def test_bytes_of_ten_megabytes_are_cut_and_say_so() -> None:
    """The beginning and the length of huge bytes are kept."""
    value = json.loads(encode_details({"body": b"x" * 10_485_760}))
    assert b64decode(value["body"]["$base64"]) == b"x" * MAX_TEXT
    assert value["body"]["$cut"] == {"bytes": 10_485_760}


@pytest.mark.parametrize("character", ["x", "\x01", "漢", '"'])
def test_many_long_texts_are_cut_together(character: str) -> None:
    """Details beyond three mebibytes of JSON keep their beginning, inside of JSON that is still valid."""
    text = encode_details({str(number): character * 400_000 for number in range(10)})
    assert len(text.encode()) <= MAX_DETAILS_BYTES
    cut = json.loads(text)["$cut"]
    assert cut["bytes"] > MAX_DETAILS_BYTES
    assert cut["beginning"].startswith('{"0":"')


def test_a_huge_integer_is_kept_whole() -> None:
    """Integers of more digits than Python prints are hexadecimal."""
    huge = 3**20_000
    assert int(json.loads(encode_details(huge))["$int"], 16) == huge
    assert make_text(10**5_000) == json.dumps({"$int": hex(10**5_000)}, separators=(",", ":"))


class Failing:
    """An object whose every method fails."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of request context")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class FailingList(list[int]):
    def __iter__(self) -> Iterator[int]:
        raise OSError("no members")


class FailingMapping(UserDict[str, int]):
    def items(self) -> Any:
        raise KeyError("no items")


class FailingPath(PurePosixPath):
    def __str__(self) -> str:
        raise ValueError("no text")


class FailingError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class FailingDate(date):
    def isoformat(self) -> str:
        return b"not text"  # type: ignore[return-value]


class FailingModel:
    def model_dump(self) -> dict[str, Any]:
        raise TypeError("no dump")


class EndlessModel:
    def model_dump(self) -> EndlessModel:
        return EndlessModel()


@pytest.mark.parametrize(
    "make",
    [
        Failing,
        lambda: FailingList([1]),
        lambda: FailingMapping(a=1),
        lambda: FailingPath("x"),
        FailingError,
        FailingModel,
    ],
)
def test_an_object_that_fails_is_named_and_costs_nothing_else(make: Callable[[], Any]) -> None:
    """Whatever an object's own code raises, the event keeps the rest of its details."""
    value = make()
    marker = {"$unconvertible": f"{__name__}.{type(value).__qualname__}"}
    assert json.loads(encode_details({"before": 1, "bad": value, "after": [{2}]})) == {
        "before": 1,
        "bad": marker,
        "after": [[2]],
    }


class Raising(Exception):
    """Raises whatever it is told to, wherever a conversion runs its code."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self._error = error

    def __fspath__(self) -> str:
        raise self._error

    def __str__(self) -> str:
        raise self._error

    def model_dump(self) -> None:
        raise self._error


class RaisingMapping(UserDict[str, type[BaseException]]):
    def items(self) -> Any:
        raise self["error"]


class RaisingModel:
    def __init__(self, error: type[BaseException]) -> None:
        self.model_dump = Raising(error).model_dump


@dataclasses.dataclass
class RaisingRecord:
    error: type[BaseException]

    def __getattribute__(self, name: str) -> Any:
        if name == "error":
            raise object.__getattribute__(self, "error")
        return object.__getattribute__(self, name)


RAISING: list[Callable[[type[BaseException]], Any]] = [
    Raising,
    RaisingModel,
    RaisingRecord,
    lambda error: RaisingMapping(error=error),
    lambda error: {Raising(error): 1, "b": {2}},
    lambda error: [Proxy(Raising(error))],
]


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, RuntimeError])
@pytest.mark.parametrize("make", RAISING)
def test_an_exit_that_a_value_raises_is_no_exit(make: Callable[[Any], Any], error: type[BaseException]) -> None:
    """A value whose code calls sys.exit costs itself, not the event and not the application."""
    value = json.loads(encode_details({"before": 1, "bad": make(error), "after": {2}}))
    assert (value["before"], value["after"]) == (1, [2])
    assert "$unconvertible" in json.dumps(value["bad"])


def test_a_class_that_hides_its_name_is_named_nevertheless() -> None:
    """A metaclass whose code fails has no say in a marker."""

    class Hiding(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

    class Hidden(metaclass=Hiding):
        pass

    name = f"{__name__}.test_a_class_that_hides_its_name_is_named_nevertheless.<locals>.Hidden"
    assert json.loads(encode_details([Hidden(), {Hidden(): 1}])) == [
        {"$unconvertible": name},
        {f"$unconvertible:{name}": 1},
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_ends_a_program_from_outside_goes_on_its_way(error: type[BaseException]) -> None:
    """Ctrl-C and a cancellation during a conversion aren't swallowed."""
    with pytest.raises(error):
        encode_details({"bad": RaisingRecord(error), "other": {1}})


def test_a_value_that_fails_through_a_class_s_call_is_no_interruption() -> None:
    """Neither SIG_DFL nor SIG_IGN, which are members of an enumeration, passes for a handler."""

    class Odd:
        def model_dump(self) -> Any:
            return Colour("no colour")

    assert json.loads(encode_details([Odd()]))[0]["$unconvertible"].endswith("Odd")


def test_an_attrs_class_is_an_object() -> None:
    """Classes that attrs made are told by what it leaves in them, with or without slots."""
    attrs = pytest.importorskip("attrs")
    for slots in (True, False):
        kind = attrs.make_class("Lead", {"name": attrs.field(), "tags": attrs.field(factory=set)}, slots=slots)
        assert json.loads(encode_details(kind("Ana"))) == {"name": "Ana", "tags": []}
        assert json.loads(encode_details([kind])) == [{"$class": f"{__name__}.Lead"}]


@pytest.mark.parametrize("value", [FailingDate(2026, 1, 1), EndlessModel(), MagicMock(), [MagicMock()]])
def test_an_object_that_lies_is_no_lost_event(value: Any) -> None:
    """Objects that give other types than they should still end as JSON."""
    assert json.loads(encode_details({"value": value}))


def test_a_key_that_fails_costs_nothing_else() -> None:
    """One key whose text can't be had is named by its class; the other keys and all values are there."""
    assert json.loads(encode_details({FailingPath("x"): 1, "b": {2}})) == {
        f"$unconvertible:{__name__}.FailingPath": 1,
        "b": [2],
    }


def test_a_dead_proxy_is_no_lost_event() -> None:
    """A weak proxy of an object that is gone fails at whatever it is asked."""
    lead = Lead("Ana", set())
    proxy = weakref.proxy(lead)
    assert json.loads(encode_details([proxy]))
    del lead
    assert json.loads(encode_details([proxy])) == [{"$unconvertible": "weakref.ProxyType"}]


class Proxy:
    """Stands for another object as web frameworks' request locals do: even its class is the other's."""

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(object.__getattribute__(self, "_target"))

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_target"), name)

    def __str__(self) -> str:
        return str(object.__getattribute__(self, "_target"))


def test_a_proxy_of_text_is_text() -> None:
    """What stands for text is taken for it, in details and in columns."""
    assert json.loads(encode_details([Proxy("ana")])) == ["ana"]
    assert make_text(Proxy("ana")) == "ana"


def test_the_repr_of_an_object_is_never_called() -> None:
    """A repr may hold secrets or megabytes."""
    called = []

    class Secretive:
        def __repr__(self) -> str:
            called.append(1)
            return "token=123"

        __str__ = __repr__

    text = encode_details({"a": Secretive(), Secretive(): 1})
    assert called == []
    assert "123" not in text


def test_a_generator_is_not_consumed() -> None:
    """An audit log mustn't eat what the application is about to read."""
    generator = (number for number in range(3))
    encode_details({"rows": generator, "other": {1}})
    assert list(generator) == [0, 1, 2]


def test_a_dictionary_that_changes_meanwhile_is_no_lost_event() -> None:
    """A value whose conversion adds keys to its container, as another thread might, breaks nothing."""
    container: dict[Any, Any] = {}

    class Meddler:
        def model_dump(self) -> dict[str, int]:
            container[len(container) + 100] = 1
            return {"meddled": len(container)}

    container.update({number: Meddler() for number in range(3)})
    value = json.loads(encode_details(container))
    assert value["2"] == {"meddled": 6}


def test_many_clashing_keys_take_no_quadratic_time() -> None:
    """Keys that all have one name are numbered on, each in constant time."""
    value = json.loads(encode_details({object(): number for number in range(50_000)}))
    assert len(value) == 50_000
    assert value["$unconvertible:builtins.object"] == 0
    assert value["$unconvertible:builtins.object~50000"] == 49_999


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.dates()
        | st.datetimes() | st.timedeltas() | st.decimals() | st.uuids() | st.complex_numbers(),
        lambda inner: st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.none() | st.integers() | st.text(st.characters()) | st.floats() | st.binary(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_every_value_becomes_json(value: Any) -> None:
    """Anything becomes JSON of one line that UTF-8 can hold, in which nothing is NaN, and the same each time."""
    text = encode_details(value)
    text.encode()
    json.loads(text, parse_constant=pytest.fail)
    assert "\n" not in text
    assert encode_details(value) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)  # fmt: skip
def test_what_json_holds_comes_back_equal(value: Any) -> None:
    """JSON's own values aren't changed."""
    assert json.loads(encode_details(value)) == value


@pytest.mark.parametrize(
    "value, text",
    [
        (42, "42"),
        (np.int64(42), "42"),
        (4.5, "4.5"),
        (True, "true"),
        (Text("ana"), "ana"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 11, 23), "2026-11-23"),
        (Path("a\\b"), "a\\b"),
        (Word.YES, "yes"),
        (["a"], '["a"]'),
        (b"x", '{"$base64":"eA=="}'),
        (float("nan"), '{"$float":"NaN"}'),
        ("", ""),
    ],
)
def test_text_of_a_column(value: Any, text: str) -> None:
    """An id that isn't text becomes the text that a person would expect."""
    made = make_text(value)
    assert made == text
    assert type(made) is str


@given(st.text(st.characters()))
def test_clean_text_is_what_utf8_can_hold(text: str) -> None:
    """Cleaning changes nothing but surrogates, and cleaning again changes nothing."""
    cleaned = clean_text(text)
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text
