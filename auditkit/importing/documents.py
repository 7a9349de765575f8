"""Rows of JSON Lines and of JSON documents, one at a time: an object, or the reason why it isn't one.

A JSON document is an array of objects, or an object that holds such an array (``{"Records": [...]}``). Only
the row at hand is in memory. The end of a row is found by counting brackets outside strings, whatever stands
between them, so that one broken row doesn't take its neighbours along.

RFC 8259 leaves to the reader what it does with a key that comes twice, or with a number that no double holds.
Here a second value for a key is refused, integers of any size are kept, and a decimal number that a double
would change is kept as text.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from auditkit.conversion import MAX_DEPTH
from auditkit.errors import UsageError
from auditkit.importing.mapping import Record
from auditkit.importing.problems import Unusable, find_repeated, make_printable, name_argument, show_value
from auditkit.importing.streams import BLOCK, MAX_ROW, BlockFile, Stream

Raw = Any
"""What a row was read from, for the rejects file: bytes, a list of lines, or an object."""

Row = tuple[int | None, Record | Unusable, Raw]
"""Number of the line it begins on (1 for the first; None where lines don't count), the row, its raw form."""

SHOWN_RAW: Final = 1 << 16
"""How much of a row that is longer than `MAX_ROW` the rejects keep, in bytes."""

_TEXT_BLOCK: Final = 1 << 13  # what an undecodable byte behind it can take along, in characters
_SPACE: Final = b" \t\r\n"
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_SCALAR_END: Final = re.compile(rb"[,\]}\s]")
_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_loads = orjson.loads
_dumps = orjson.dumps


def decode_object(raw: bytes) -> Record:
    """Decode one JSON object, or say why it can't be kept as it is.

    Args:
        raw: The text's bytes.

    Raises:
        Unusable: If it isn't UTF-8, JSON, or an object, if a key comes twice, or if it is nested too deeply.

    Example:
        >>> decode_object(b'{"id": 123456789012345678901234567890}')
        {'id': 123456789012345678901234567890}
        >>> decode_object(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ...
        auditkit.importing.problems.Unusable: ('duplicate key', "'a' comes twice in one object")
    """
    try:
        record = _loads(raw)
        # The quick parser keeps the last of two equal keys and rounds long numbers, without a word. If the
        # result prints as what was read, but for white space, then nothing of the kind has happened.
        again = _dumps(record)
        if again != raw and again.translate(None, _SPACE) != raw.translate(None, _SPACE):
            record = _decode_slowly(raw)
    except ValueError:
        record = _decode_slowly(raw)
    except TypeError:  # printing gives up on deep nesting
        record = _decode_slowly(raw)
    if record.__class__ is not dict:
        raise Unusable("not an object", f"expected a JSON object, found {show_value(record)}")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        check_depth(record)
    return record


def check_depth(value: Record) -> None:
    """Refuse an object that is nested more deeply than an event keeps.

    Raises:
        Unusable: If it is.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for children in below for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise _refuse_depth()


def _refuse_depth() -> Unusable:
    return Unusable("too deep", f"nested more than {MAX_DEPTH} levels, which an event would cut")


def _decode_slowly(raw: bytes) -> Any:
    """Decode what the quick parser can't, or can't be trusted with: long numbers, NaN, strange numerals."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unusable("encoding", f"byte {raw[error.start]:#04x} at {error.start + 1} isn't UTF-8") from None
    try:
        value = _decoder.decode(text)
        # An escaped lone surrogate is no text; no file and no event can hold it.
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except json.JSONDecodeError as error:
        raise Unusable("broken JSON", f"{make_printable(error.msg)} at character {error.pos + 1}") from None
    except RecursionError:
        raise _refuse_depth() from None
    except UnicodeEncodeError:
        raise Unusable("encoding", "an escape such as \\ud800 stands for half a character") from None
    except ValueError:  # the one that is left: Python's guard against integers that take for ever
        raise Unusable("too large", "an integer of more than 4,300 digits") from None
    return value


def _parse_decimal(text: str) -> float | Decimal | str:
    """Read a number with a point or an exponent so that none of its digits is lost."""
    number = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent of many digits
        return text
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _build_object(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) != len(pairs):
        twice = find_repeated(key for key, _ in pairs)
        raise Unusable("duplicate key", f"{show_value(twice)} comes twice in one object")
    return record


_decoder: Final = json.JSONDecoder(object_pairs_hook=_build_object, parse_float=_parse_decimal)


def read_utf8(stream: Stream, encoding: str) -> Iterator[bytes]:
    """Give a text file's blocks in UTF-8, without a byte order mark.

    Args:
        stream: The file.
        encoding: Its encoding.

    Raises:
        UsageError: If the file begins with the mark of another encoding.
    """
    blocks = stream.read_blocks()
    first = next(blocks, b"")
    refuse_other_bom(first, encoding)
    if _is_utf8(encoding):
        first = first.removeprefix(codecs.BOM_UTF8)
        if first:
            yield first
        yield from blocks
        return
    file = io.BufferedReader(BlockFile(_chain(first, blocks)), BLOCK)
    # Bytes that are no text of this encoding come out as bytes that are no UTF-8, and their row says so.
    with io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="") as text:
        while True:
            try:
                block = text.read(_TEXT_BLOCK)
            except UnicodeError as error:
                stream.broken = f"the text isn't {encoding} from here on ({make_printable(str(error))})"
                return
            if not block:
                return
            yield encode_again(block, "utf-8")


def encode_again(text: str, encoding: str) -> bytes:
    r"""Give the bytes that a text was read from, also those that were no text in its encoding.

    Args:
        text: A text that was decoded with ``surrogateescape``.
        encoding: The encoding to give it in.

    Example:
        >>> encode_again("a\udcff", "utf-8"), encode_again("a\ud800", "utf-8")
        (b'a\xff', b'a\xed\xa0\x80')
    """
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:  # half a character, which encodings with escapes of their own can make
        return text.encode("utf-8", "surrogatepass")


def refuse_other_bom(first: bytes, encoding: str) -> None:
    """Refuse a file that says itself that it is UTF-16 or UTF-32, if nobody expects that.

    Raises:
        UsageError: If it does.
    """
    if not _is_utf8(encoding):
        return
    for mark, name in _BOMS:
        if first.startswith(mark):
            raise UsageError(f"expected {encoding}, found the mark of {name}: give {name_argument('encoding', name)}")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks


def read_lines(stream: Stream, encoding: str) -> Iterator[Row]:
    """Read JSON Lines: one object a line, blank lines left out.

    Args:
        stream: The file.
        encoding: Its encoding.

    Yields:
        The rows. If the file is broken, the last one is the reason, with what is left of the row it broke in. A last
        line without its newline that isn't JSON counts as broken off.
    """
    number = 0
    rest = b""
    cut = False  # inside a line that is too long
    for block in read_utf8(stream, encoding):
        lines = block.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        for line in lines:
            number += 1
            if cut or len(line) > MAX_ROW:
                cut = False
                yield _cut_row(number, line)
                continue
            if not line or line.isspace():
                continue
            try:
                yield number, decode_object(line), line
            except Unusable as problem:
                yield number, problem, line
        if len(rest) > MAX_ROW:
            # Its beginning is kept for the rejects, and the rest of the line is let go.
            rest, cut = rest[:SHOWN_RAW], True
    number += 1
    if stream.broken is not None:
        yield number, Unusable("file broken", stream.broken, fatal=True), rest
    elif cut:
        yield _cut_row(number, rest)
    elif rest.strip():
        try:
            yield number, decode_object(rest), rest
        except Unusable as problem:
            # A character can be cut in two as well.
            if problem.kind == "broken JSON" or (problem.kind == "encoding" and not rest.rstrip().endswith(b"}")):
                detail = f"the last line has no end: the file is cut, or isn't JSON there ({problem.detail})"
                problem = Unusable("file broken", detail, fatal=True)
            yield number, problem, rest


def _cut_row(number: int | None, raw: bytes) -> Row:
    detail = f"a row of more than {MAX_ROW} bytes; the rejects hold its first {SHOWN_RAW}"
    return number, Unusable("too large", detail), raw[:SHOWN_RAW]


class Document:
    """Reads the rows of one JSON document.

    Args:
        stream: The file.
        encoding: Its encoding.
        records: Dotted path of the array in an object; None for the first array of objects at its top.

    Attributes:
        found: Dotted path of the array that was read; empty if the document itself is the array.
    """

    def __init__(self, stream: Stream, encoding: str, records: str | None) -> None:
        self._stream = stream
        self._wanted = None if records is None else records.split(".")
        self.found: str | None = None
        self._cursor = _Cursor(read_utf8(stream, encoding))
        self._keys: list[str] = []
        self._empty: str | None = None  # name of the first array without members

    def read_rows(self) -> Iterator[Row]:
        """Read the rows.

        Yields:
            The rows. What can't be read any more, and other arrays that aren't read, are the last ones.

        Raises:
            UsageError: If the document holds no array of objects, or not the one that was asked for.
        """
        cursor = self._cursor
        try:
            first = cursor.peek()
            if first == b"[":
                if self._wanted is not None:
                    asked = name_argument("records", ".".join(self._wanted))
                    raise UsageError(f"expected an object with an array at {asked}, found an array: leave records out")
                self.found = ""
                yield from self._read_array()
            elif first == b"{":
                yield from self._read_object([])
            elif self._stream.broken is None:
                raise UsageError(
                    "expected a JSON array, or an object that holds one, found "
                    + ("nothing" if first is None else show_value(first.decode("latin-1")))
                    + f"; if it has one object a line, give {name_argument('format', 'jsonl')}"
                )
            if cursor.peek() is not None:
                raise _Broken("something follows the end of the document")
            if self._stream.broken is not None:
                raise _Broken(self._stream.broken)
        except _Broken as broken:
            why = self._stream.broken or broken.why
            yield None, Unusable("file broken", why, fatal=True), cursor.take_rest()
            return
        if self.found is None:
            self.found = self._empty
        if self.found is None:
            wanted = "any array of objects"
            if self._wanted is not None:
                wanted = name_argument("records", ".".join(self._wanted))
            keys = ", ".join(show_value(key) for key in self._keys[:10]) or "none"
            raise UsageError(
                f"expected {wanted} in the JSON object, found no such thing among its keys ({keys}); "
                f"if it has one object a line, give {name_argument('format', 'jsonl')}"
            )

    def _read_object(self, way: list[str]) -> Iterator[Row]:
        """Go through an object's members, looking for the array."""
        cursor = self._cursor
        cursor.skip(b"{")
        if cursor.peek() == b"}":
            cursor.skip(b"}")
            return
        while True:
            if cursor.peek() != b'"':
                raise _Broken(f"expected a key, found {cursor.show()}")
            key = _decode_key(cursor.take_value(keep=True))
            if not way:
                self._keys.append(key)
            if cursor.peek() != b":":
                raise _Broken(f"expected a colon behind the key {show_value(key)}, found {cursor.show()}")
            cursor.skip(b":")
            yield from self._read_member([*way, key])
            following = cursor.peek()
            if following == b",":
                cursor.skip(b",")
            elif following == b"}":
                cursor.skip(b"}")
                return
            else:
                raise _Broken(f"expected a comma or the object's end, found {cursor.show()}")

    def _read_member(self, way: list[str]) -> Iterator[Row]:
        cursor = self._cursor
        first = cursor.peek()
        name = ".".join(way)
        if self._wanted is not None:
            if way == self._wanted and first == b"[" and self.found is None:
                self.found = name
                yield from self._read_array()
                return
            if first == b"{" and way == self._wanted[: len(way)]:
                yield from self._read_object(way)
                return
        elif first == b"[" and cursor.peek_member() == b"]":
            self._empty = self._empty or name
        elif first == b"[" and cursor.peek_member() == b"{":
            if self.found is None:
                self.found = name
                yield from self._read_array()
                return
            detail = f"another array, {show_value(name)}, was not read: {name_argument('records', name)} reads it"
            yield None, Unusable("not read", detail, fatal=True), None
        cursor.take_value(keep=False)

    def _read_array(self) -> Iterator[Row]:
        cursor = self._cursor
        cursor.skip(b"[")
        if cursor.peek() == b"]":
            cursor.skip(b"]")
            return
        while True:
            raw = cursor.take_value(keep=True)
            if len(raw) > MAX_ROW:
                yield _cut_row(None, raw)
            else:
                try:
                    yield None, decode_object(raw), raw
                except Unusable as problem:
                    yield None, problem, raw
            following = cursor.peek()
            if following == b",":
                cursor.skip(b",")
            elif following == b"]":
                cursor.skip(b"]")
                return
            elif following is None:
                raise _Broken("the array has no end")
            elif following == b"{":
                detail = "expected a comma between two rows; the second one was read"
                yield None, Unusable("broken JSON", detail), None
            else:
                raise _Broken(f"expected a comma or the array's end, found {cursor.show()}")


class _Broken(Exception):
    """The document can't be read on from here."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Cursor:
    """A place in a JSON text that is read block by block."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = b""
        self._at = 0

    def _fill(self, least: int = 1) -> bool:
        """Read on; at least so many bytes, if there are."""
        blocks = [self._buffer[self._at :]]
        size = 0
        while size < least and (block := next(self._blocks, b"")):
            blocks.append(block)
            size += len(block)
        self._buffer = b"".join(blocks)
        self._at = 0
        return size > 0

    def peek(self) -> bytes | None:
        """Give the next byte that isn't white space, or None at the end."""
        while True:
            match = _NOT_SPACE.search(self._buffer, self._at)
            if match:
                self._at = match.start()
                return match.group()
            self._at = len(self._buffer)
            if not self._fill():
                return None

    def skip(self, expected: bytes) -> None:
        """Step over a byte that was peeked at."""
        assert self._buffer[self._at : self._at + 1] == expected
        self._at += 1

    def peek_member(self) -> bytes | None:
        """Give the first byte in the array that begins here, or None if there is none near by."""
        start = self._at + 1
        while True:
            match = _NOT_SPACE.search(self._buffer, start)
            if match:
                return match.group()
            if len(self._buffer) - self._at > MAX_ROW:
                return None
            start = len(self._buffer) - self._at
            if not self._fill():
                return None

    def take_value(self, *, keep: bool) -> bytes:
        """Step over the value that begins here, whatever it is.

        Args:
            keep: Whether its bytes are wanted; a value that isn't may be of any length.

        Raises:
            _Broken: If it has no end, or if it is kept and longer than `MAX_ROW`.
        """
        first = self.peek()
        if first is None:
            raise _Broken("a value is missing at the end")
        if first not in b'{["':
            return self._take_scalar()
        depth = 0
        place = self._at  # as far as the value was looked through
        while True:
            for match in _TOKEN.finditer(self._buffer, place):
                token = self._buffer[match.start()]
                if token == 0x22:  # a quote
                    if match.end() - match.start() == 1:
                        # Its end hasn't been read yet. It is looked through again from its beginning, so as
                        # much is read as there is of it: a long string isn't looked through for each block.
                        place = match.start()
                        more = len(self._buffer) - place
                        break
                    if depth == 0:
                        return self._finish(match.end())
                elif token in (0x7B, 0x5B):  # { [
                    depth += 1
                else:
                    depth -= 1
                    if depth == 0:
                        return self._finish(match.end())
            else:
                place = len(self._buffer)
                more = 1
            if not keep:
                self._at = place
            if len(self._buffer) - self._at > MAX_ROW:
                raise _Broken(f"a value is longer than {MAX_ROW} bytes, or a quote or bracket is missing")
            place -= self._at
            if not self._fill(more):
                raise _Broken("the last value has no end: the file is cut, or a quote or bracket is missing")

    def _take_scalar(self) -> bytes:
        start = self._at
        while True:
            match = _SCALAR_END.search(self._buffer, start)
            if match:
                return self._finish(match.start())
            if len(self._buffer) - self._at > MAX_ROW:
                raise _Broken(f"a value is longer than {MAX_ROW} bytes")
            start = len(self._buffer) - self._at
            if not self._fill():
                return self._finish(len(self._buffer))

    def _finish(self, end: int) -> bytes:
        value = self._buffer[self._at : end]
        self._at = end
        return value

    def show(self) -> str:
        """Show what stands here, for a message."""
        rest = self._buffer[self._at : self._at + 40]
        return show_value(rest.decode("utf-8", "replace")) if rest else "the end"

    def take_rest(self) -> bytes:
        """Give what was read and not used, as far as the rejects keep it."""
        return self._buffer[self._at : self._at + SHOWN_RAW]


def _decode_key(raw: bytes) -> str:
    try:
        key = json.loads(raw)
    except ValueError:
        raise _Broken(f"expected a key, found {show_value(raw.decode('utf-8', 'replace'))}") from None
    assert isinstance(key, str)
    return key
