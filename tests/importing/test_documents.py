"""JSON Lines and JSON documents: every row exactly, or a reason, whatever the file holds."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.importing.documents import Document, decode_object, read_lines
from auditkit.importing.problems import Unusable
from auditkit.importing.streams import MAX_ROW, Stream

TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=10,
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), max_size=6)


class Blocks(Stream):
    """A stream of given bytes, in blocks of a given size."""

    def __init__(self, data: bytes, size: int, broken: str | None = None) -> None:
        self._data = data
        self._size = size
        self._end = broken
        self.broken = None

    def read_blocks(self) -> Iterator[bytes]:
        for at in range(0, len(self._data), self._size):
            yield self._data[at : at + self._size]
        self.broken = self._end


def read_document(data: bytes, size: int = 7, records: str | None = None) -> list[Any]:
    """Give the rows of a document, and the kinds of what can't be a row."""
    document = Document(Blocks(data, size), "utf-8", records)
    return [row.kind if isinstance(row, Unusable) else row for _, row, _ in document.read_rows()]


def read_jsonl(data: bytes, size: int = 7, broken: str | None = None) -> list[Any]:
    """Give the rows of JSON Lines, and the kinds of what can't be a row."""
    rows = read_lines(Blocks(data, size, broken), "utf-8")
    return [row.kind if isinstance(row, Unusable) else row for _, row, _ in rows]


@given(OBJECTS, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_every_json_value_survives(objects: list[dict[str, Any]], size: int, indent: int | None, escape: bool) -> None:
    """Arrays, arrays in objects and lines give the rows that were written, whatever the blocks are."""
    array = json.dumps(objects, indent=indent, ensure_ascii=escape).encode()
    assert read_document(array, size) == objects
    inside = b'{"version": {"a": [1]}, "Records": ' + array + b', "more": "[{"}\n'
    assert read_document(inside, size, "Records") == objects
    nested = b'{"hits": {"total": 3, "hits": ' + array + b"}}"
    assert read_document(nested, size, "hits.hits") == objects
    lines = [json.dumps(row, ensure_ascii=escape).encode() for row in objects]
    for newline in (b"\n", b"\r\n", b"\n\n"):
        assert read_jsonl(newline.join(lines), size) == objects


@given(st.binary(max_size=200) | TEXTS.map(str.encode), st.integers(1, 50))
@example(b'{"a":"' + b"\\" * 7, 1)
@example(b"[{}", 3)
@example(b"[,,}}:[", 3)
@example(b'{"a":[{}],"b":[{}]} []', 4)
def test_no_bytes_break_the_readers(data: bytes, size: int) -> None:
    """Whatever the bytes are, there are rows and reasons; or the file is no JSON document at all."""
    for row in read_jsonl(data, size):
        assert isinstance(row, str | dict)
    try:
        rows = read_document(data, size)
    except UsageError:
        return
    assert all(isinstance(row, str | dict) for row in rows)


@given(OBJECTS.filter(bool), st.data())
def test_a_cut_file_gives_the_rows_before_the_cut(objects: list[dict[str, Any]], data: Any) -> None:
    """A document that ends in its middle gives whole rows from its beginning, and says that it is cut."""
    text = json.dumps(objects).encode()
    cut = data.draw(st.integers(1, len(text) - 1))
    *rows, last = read_document(text[:cut])
    assert last == "file broken"
    assert rows == objects[: len(rows)]


@given(VALUES)
def test_the_quick_and_the_careful_way_agree(value: Any) -> None:
    """Spaces, escapes and other notations of the same object make no difference."""
    row = {"value": value}
    texts = [orjson.dumps(row)] if _fits(value) else []
    texts += [json.dumps(row).encode(), json.dumps(row, indent=3, ensure_ascii=False).encode()]
    for text in texts:
        assert decode_object(text) == row


def _fits(value: Any) -> bool:
    """Tell whether orjson can print it: integers of 64 bits only."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize(
    "text, value",
    [
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("18446744073709551616", 18446744073709551616),
        ("0.1234567890123456789", Decimal("0.1234567890123456789")),
        ("1e999", Decimal("1e999")),
        ("1e9999999999999999999999", "1e9999999999999999999999"),
        ("12.50", 12.5),
        ("1E5", 100000.0),
        ("-0.0", -0.0),
        ("Infinity", math.inf),
    ],
)
def test_no_digit_of_a_number_is_lost(text: str, value: object) -> None:
    """Long integers are kept, and decimals that a double would round are kept as text."""
    found = decode_object(f'{{"n": {text}}}'.encode())["n"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "raw, kind",
    [
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "duplicate key"),
        (b'{"a":1,"a":1}', "duplicate key"),
        (b'{"a": tru}', "broken JSON"),
        (b'{"a": 1', "broken JSON"),
        (b'{"a": 1}}', "broken JSON"),
        (b"{'a': 1}", "broken JSON"),
        (b'{"a": 01}', "broken JSON"),
        (b'{"a": "\n"}', "broken JSON"),
        (b'{"a": "\x00"}', "broken JSON"),
        (b"[1, 2]", "not an object"),
        (b'"text"', "not an object"),
        (b"null", "not an object"),
        (b'{"a": "\xff"}', "encoding"),
        ('{"a": "é"}'.encode("latin-1"), "encoding"),
        (b'{"a": "\\ud800"}', "encoding"),
        (b'{"\\udc00": 1}', "encoding"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}", "too deep"),
        (b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too deep"),
        (b'{"a":' * 500_000, "too deep"),
    ],
)
def test_what_is_no_sound_object_is_refused(raw: bytes, kind: str) -> None:
    """Each fault has its name, and a reason that can be shown on a terminal."""
    with pytest.raises(Unusable) as refused:
        decode_object(raw)
    assert refused.value.kind == kind
    assert refused.value.reason.isprintable()


@pytest.mark.parametrize("depth", [1, 50, 99])
def test_a_hundred_levels_are_no_problem(depth: int) -> None:
    """CloudTrail has eleven; an event keeps a hundred."""
    raw = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    assert decode_object(raw) == json.loads(raw)
    assert decode_object(b'{"a": "' + b"[{" * 5000 + b'"}') == {"a": "[{" * 5000}


def test_lines_that_are_cut_in_the_last_one_say_so() -> None:
    """Wherever the last line breaks off, also within a character: neither a row nor a bad row, but a broken file."""
    last = '{"n": 2, "more": {"text": "\N{EURO SIGN}"}}'.encode()
    for end in range(1, len(last)):
        assert read_jsonl(b'{"n": 1}\n' + last[:end]) == [{"n": 1}, "file broken"], last[:end]
    assert read_jsonl(last.replace(b"\xac", b"")) == ["encoding"]


def test_one_broken_row_does_not_take_its_neighbours_along() -> None:
    """A row that is no JSON, and one that is no object, are refused; the rows around them are read."""
    array = b'[{"a": 1}, {"a": tru}, 5, "x,]", {"a": 2}, , {"a": 3} {"a": 4}, {"a": 5},]'
    kinds = ["broken JSON", "not an object", "not an object"]
    assert read_document(array) == [
        {"a": 1},
        *kinds,
        {"a": 2},
        "broken JSON",
        {"a": 3},
        "broken JSON",
        {"a": 4},
        {"a": 5},
        "broken JSON",
    ]
    assert read_jsonl(b'{"a": 1}\n{"a": \n\n[]\n{"a": 2}\n{"a"') == [
        {"a": 1},
        "broken JSON",
        "not an object",
        {"a": 2},
        "file broken",
    ]


@pytest.mark.parametrize(
    "data",
    [
        b'[{"a": 1}] x',
        b'{"r": [{"a": 1}]} {}',
        b'{"r": [{"a": 1}], 5}',
        b'{"r": [{"a": 1}], "x" 5}',
        b'{"r": [{"a": 1}], "x": 5 5}',
        b'{"r": [{"a": 1}], "\\x": 5}',
        b'{"r": [{"a": 1}], "x": 5',
        b'[{"a": 1}',
        b'[{"a": 1},',
    ],
)
def test_what_cannot_be_read_is_the_last_row(data: bytes) -> None:
    """Rows before a document's damage are read, and the damage is a reject that marks the file as broken."""
    rows = [row for _, row, _ in Document(Blocks(data, 5), "utf-8", None).read_rows()]
    assert rows[0] == {"a": 1}
    assert isinstance(rows[-1], Unusable)
    assert (rows[-1].kind, rows[-1].fatal) == ("file broken", True)


def test_a_second_array_is_not_left_out_silently() -> None:
    """The first array of objects is read; another one is reported with the way to read it."""
    data = b'{"tags": ["x"], "a": [{"n": 1}], "b": [{"n": 2}]}'
    rows = [row for _, row, _ in Document(Blocks(data, 9), "utf-8", None).read_rows()]
    assert rows[0] == {"n": 1}
    assert isinstance(rows[1], Unusable)
    assert rows[1].fatal
    assert "records='b'" in rows[1].reason
    assert read_document(data, records="b") == [{"n": 2}]


@pytest.mark.parametrize(
    "data, records, message",
    [
        (b'{"a": 1, "b": [2]}', None, "'a', 'b'"),
        (b'{"a": {"b": [{}]}}', "a.c", "records='a.c'"),
        (b'[{"a": 1}]', "Records", "leave records out"),
        (b"", None, "found nothing"),
        (b"hello", None, "format='jsonl'"),
        (b"5", None, "format='jsonl'"),
        (b"{}", None, "any array of objects"),
    ],
)
def test_a_document_without_the_array_is_refused(data: bytes, records: str | None, message: str) -> None:
    """The message says what was looked for and what is there."""
    with pytest.raises(UsageError, match=message):
        read_document(data, records=records)


def test_an_empty_array_is_no_fault() -> None:
    """A log file of an hour in which nothing happened has no records; and none is taken for the wrong array."""
    for data in (b"[]", b'{"Records": [ ]}', b'{"a": [1], "Records": [], "b": "x"}'):
        assert read_document(data) == []
    assert read_document(b'{"empty": [], "Records": [{"a": 1}]}') == [{"a": 1}]
    assert read_document(b'{"a": [1, 2], "b": [' + b" " * 40) == ["file broken"]


def test_text_that_ends_inside_a_character_is_broken_there() -> None:
    """Half a UTF-16 character at the end is neither dropped nor guessed."""
    lines = [f'{{"a": {number}}}\n' for number in range(5000)]
    data = "".join(lines).encode("utf-16") + b"{"
    *rows, last = [row for _, row, _ in read_lines(Blocks(data, 1 << 18), "utf-16")]
    assert rows == [{"a": number} for number in range(len(rows))]
    assert len(rows) > 3000
    assert isinstance(last, Unusable)
    assert last.fatal


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00"])
def test_a_file_that_says_it_is_utf16_is_not_read_as_utf8(mark: bytes) -> None:
    """The byte order mark of another encoding is answered with the name of that encoding."""
    with pytest.raises(UsageError, match="give encoding='utf-"):
        read_jsonl(mark + b"x")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be", "cp1252", "utf-8-sig"])
def test_other_encodings_are_read_when_they_are_named(encoding: str) -> None:
    """The text is the same, whichever way its characters were written."""
    data = '{"a": "Müller"}\n{"a": "é\\n"}\n'.encode(encoding)
    rows = [row for _, row, _ in read_lines(Blocks(data, 5), encoding)]
    assert rows == [{"a": "Müller"}, {"a": "é\n"}]


def test_an_endless_line_is_refused_and_the_next_one_is_read() -> None:
    """A line longer than any event costs neither memory nor its neighbours."""
    data = b'{"a": 1}\n{"a": "' + b"x" * (MAX_ROW + 5_000_000) + b'"}\n{"a": 2}\n' + b"y" * (MAX_ROW + 10)
    rows = list(read_lines(Blocks(data, 1 << 18), "utf-8"))
    assert [row.kind if isinstance(row, Unusable) else row for _, row, _ in rows] == [
        {"a": 1},
        "too large",
        {"a": 2},
        "too large",
    ]
    assert [line for line, _, _ in rows] == [1, 2, 3, 4]
    assert all(len(raw) < 100_000 for _, _, raw in rows)


def test_a_value_without_an_end_stops_the_document() -> None:
    """A missing quote would swallow a whole file; reading stops where no row can be so long."""
    data = b'[{"a": 1}, {"a": "' + b"x" * 3 * MAX_ROW + b'"}, {"a": 2}]'
    assert read_document(data, 1 << 18) == [{"a": 1}, "file broken"]
    data = b'[{"a": 1}, {"a": "' + b"x" * MAX_ROW + b'"}, {"a": 2}]'
    assert read_document(data, 1 << 18) == [{"a": 1}, "too large", {"a": 2}]
    skipped = b'{"big": "' + b"x" * 5_000_000 + b'", "r": [{"a": 1}]}'
    assert read_document(skipped, 1 << 18) == [{"a": 1}]


@pytest.mark.parametrize("damage", ["cut", "flipped", "followed"])
def test_a_damaged_gzip_file_gives_what_stands_before_the_damage(tmp_path: Path, damage: str) -> None:
    """What can be unpacked is read, the row in which the damage lies isn't, and the reason is given."""
    lines = [json.dumps({"n": number, "text": "x" * (number % 50)}).encode() for number in range(5000)]
    packed = gzip.compress(b"\n".join(lines[:2500]) + b"\n") + gzip.compress(b"\n".join(lines[2500:]))
    if damage == "cut":
        packed = packed[:-20]
    elif damage == "flipped":
        packed = packed[:-4000] + b"\xff" * 20 + packed[-3980:]
    else:
        packed += b"rubbish"
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(packed)
    with Stream(file) as stream:
        *rows, last = [row for _, row, _ in read_lines(stream, "utf-8")]
    assert isinstance(last, Unusable)
    assert last.fatal
    assert "gzip" in last.reason
    assert len(rows) >= 2400
    sound = [json.loads(line) for line in lines[: len(rows)]]
    assert rows[:2400] == sound[:2400]
