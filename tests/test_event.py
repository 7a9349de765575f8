"""Events keep their bytes: whatever is recorded is in the journal, printed as the format says, and signed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditkit import AuditLogger, event
from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.event import (
    BODY_KEYS,
    MAX_INTEGER,
    MAX_LINE_BYTES,
    MAX_TIME_US,
    MIN_TIME_US,
    encode_body,
    hash_line,
    join_line,
    parse_line,
    split_line,
)
from tests.recording import independent

SECRET = "a secret that only these tests know"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ANY_TEXT = st.text(st.characters(codec="utf-8"))
"""Every character that UTF-8 can hold: controls, NUL, U+2028, beyond the basic plane."""

HOSTILE_TEXT = st.one_of(
    st.text(st.characters()),  # lone surrogates too
    st.sampled_from(
        ["", "\0", "\x1b[31m", "\u2028\u2029", "\x7f\x80", '"\\/', "\ud800", "\udfff\ud800", "\ud83d\ude00"]
    ),
)

COLUMNS = ("actor", "lead_id", "workflow", "outcome", "operation", "error_type", "message", "traceback")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)

BODIES = st.fixed_dictionaries(
    {
        "v": st.just(1),
        "store": ANY_TEXT,
        "writer": ANY_TEXT,
        "seq": st.integers(0, MAX_INTEGER),
        "epoch": st.integers(0, MAX_INTEGER),
        "time": st.integers(MIN_TIME_US, MAX_TIME_US),
        "type": ANY_TEXT,
        **dict.fromkeys(("actor", "lead_id", "workflow", "outcome", "operation"), st.none() | ANY_TEXT),
        "duration_us": st.none() | st.integers(0, MAX_INTEGER),
        **dict.fromkeys(("error_type", "message", "traceback", "details"), st.none() | ANY_TEXT),
    }
).map(lambda fields: {key: fields[key] for key in BODY_KEYS})


def clean(text: str) -> str:
    """Clean a text as the documentation says: a pair of surrogates is a character, a lone one is U+FFFD."""
    paired = re.sub(
        "[\ud800-\udbff][\udc00-\udfff]",
        lambda pair: chr(0x10000 + ((ord(pair[0][0]) - 0xD800) << 10) + ord(pair[0][1]) - 0xDC00),
        text,
    )
    return re.sub("[\ud800-\udfff]", "\ufffd", paired)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditLogger:
    """One logger for all examples: what it records is read back from the end of its journal."""
    return AuditLogger(tmp_path_factory.mktemp("store") / "audit", secret_key=SECRET, enable_rotation=False)


def find_event(audit: AuditLogger, event_id: str) -> independent.Line:
    """Find an event by its id."""
    writer, _, seq = event_id.rpartition(":")
    path = next((audit.path / "journal").glob(f"{writer}.*.jsonl"))
    return independent.take_apart(path.read_bytes().split(b"\n")[int(seq)], path.name)


@given(fields=BODIES)
def test_a_body_is_printed_as_the_format_says(fields: dict[str, Any]) -> None:
    """The canonical bytes are those of an independent printer, and the standard library reads them back."""
    body = encode_body(fields)
    assert body == independent.print_body(fields)
    assert json.loads(body) == fields


@given(fields=BODIES, mac=st.none() | st.binary(min_size=32, max_size=32))
def test_a_line_and_its_parts_are_one(fields: dict[str, Any], mac: bytes | None) -> None:
    """Joining, splitting and parsing a line are inverse to each other, and its leaf is RFC 6962's."""
    body = encode_body(fields)
    line = join_line(body, mac)
    assert b"\n" not in line
    assert split_line(line) == (body, mac)
    assert parse_line(line) == (fields, mac)
    assert hash_line(line) == sha256(b"\0" + line).digest()


@given(fields=BODIES, data=st.data())
def test_a_line_that_is_changed_is_another_event_or_none(fields: dict[str, Any], data: st.DataObject) -> None:
    """One byte changed anywhere in a line is refused by the parser or gives other values; it never goes unseen."""
    line = join_line(encode_body(fields), bytes(range(32)))
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda other: other != line[place]))
    changed = line[:place] + bytes([byte]) + line[place + 1 :]
    try:
        parsed = parse_line(changed)
    except (StoreDamaged, FormatUnknown):
        return
    assert parsed != (fields, bytes(range(32)))
    assert join_line(encode_body(parsed[0]), parsed[1]) == changed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.replace(b'"v":1', b'"v": 1'),
        lambda line: line.replace(b'"v":1', b'"v":1.0'),
        lambda line: line.replace(b'"v":1', b'"v":0'),
        lambda line: line.replace(b'"seq":7', b'"seq":-1'),
        lambda line: line.replace(b'"seq":7', b'"seq":true'),
        lambda line: line.replace(b'"seq":7', b'"seq":9007199254740992'),
        lambda line: line.replace(b'"seq":7', b'"seq":null'),
        lambda line: line.replace(b'"time":0', b'"time":253402300800000000'),
        lambda line: line.replace(b'"actor":null', b'"actor":5'),
        lambda line: line.replace(b'"actor":null', b'"actor":"\\u0041"'),
        lambda line: line.replace(b'"actor":null', b'"actor":"\\u001F"'),
        lambda line: line.replace(b'"actor":null', b'"actor":"\\/"'),
        lambda line: line.replace(b'"actor":null', b'"actor":"\xff"'),
        lambda line: line.replace(b'"actor":null,', b""),
        lambda line: line.replace(b'"actor":null', b'"actor":null,"actor":null'),
        lambda line: line.replace(b'"actor":null,"lead_id":null', b'"lead_id":null,"actor":null'),
        lambda line: line.replace(b'"type":"x"', b'"type":null'),
        lambda line: line.replace(b'00"}', b'0G"}'),
        lambda line: line.replace(b'00"}', b'AA"}'),
        lambda line: line.replace(b'00"}', b'"}'),
        lambda line: line[:-1],
        lambda line: line + line,
        lambda line: b"[]" + line[-75:],
        lambda line: b"",
    ],
)
def test_a_line_that_the_format_does_not_allow_is_refused(spoil: Any) -> None:
    """The parser takes only what the printer makes: no blanks, no other escapes, no missing or double keys."""
    fields = {**event.make_fields("x", 0), "store": "s", "writer": "w", "seq": 7, "epoch": 0}
    line = join_line(encode_body(fields), bytes(32))
    assert parse_line(line)[0] == fields
    assert spoil(line) != line
    with pytest.raises(StoreDamaged, match="expected"):
        parse_line(spoil(line))


def test_an_event_of_a_newer_version_is_not_called_damaged() -> None:
    """What a newer auditkit wrote can't be judged by this one, and that is what it says."""
    fields = {**event.make_fields("x", 0), "v": 2, "store": "s", "writer": "w", "seq": 7, "epoch": 0}
    with pytest.raises(FormatUnknown, match="use a newer auditkit"):
        parse_line(join_line(encode_body(fields), bytes(32)))


@settings(max_examples=300)
@given(
    kind=HOSTILE_TEXT.filter(lambda text: 0 < len(text) <= 200 and not text.startswith("auditkit.")),
    details=JSON,
    texts=st.fixed_dictionaries(dict.fromkeys(COLUMNS, st.none() | HOSTILE_TEXT)),
    time=st.none() | st.integers(MIN_TIME_US, MAX_TIME_US),
    duration=st.none() | st.floats(0, 1e9),
)
@example(kind="x", details=None, texts=dict.fromkeys(COLUMNS, "\ud83d\ude00\ud83d"), time=MIN_TIME_US, duration=0.0)
@example(kind="x", details={"": "\0"}, texts=dict.fromkeys(COLUMNS, "\0"), time=MAX_TIME_US, duration=1e-7)
def test_any_event_is_recorded_unchanged(
    audit: AuditLogger, kind: str, details: Any, texts: dict[str, Any], time: int | None, duration: float | None
) -> None:
    """Any text, any JSON, any time of the years 1 to 9999 comes back from the journal as it was given."""
    moment = None if time is None else EPOCH + timedelta(microseconds=time)
    line = find_event(audit, audit.log_event(kind, details, time=moment, duration=duration, **texts))
    fields, mac = parse_line(join_line(line.body, bytes.fromhex(line.mac or "")))
    assert (mac or b"").hex() == line.mac
    assert line.body == independent.print_body(line.fields)
    assert fields == line.fields
    assert fields["type"] == clean(kind)
    assert {name: fields[name] for name in COLUMNS} == {
        name: None if text is None else clean(text) for name, text in texts.items()
    }
    if time is not None:
        assert fields["time"] == time
    assert fields["duration_us"] == (None if duration is None else round(duration * 1e6))
    if details is None:
        assert fields["details"] is None
    else:
        assert json.loads(fields["details"]) == details


def test_every_example_was_chained_and_signed(tmp_path: Path) -> None:
    """An independent verifier follows every chain of a store with hostile events of many dates."""
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as audit:
        for number in range(300):
            moment = EPOCH + timedelta(days=number % 7 * 400_000, microseconds=number)
            audit.log_event("x", {"n": number}, message=chr(number) * number, time=moment)
    writers = independent.check_journal(tmp_path / "audit", independent.root_of_secret(SECRET))
    assert len(writers) == 7
    assert sum(map(len, writers.values())) == 300 + 2 * 7


@pytest.mark.parametrize(
    "character, width", [("a", 1), ("\x01", 6), ('"', 2), ("\u2028", 3), ("\U0001f600", 4), ("\ud800", 3)]
)
def test_a_line_is_never_longer_than_the_format_allows(tmp_path: Path, character: str, width: int) -> None:
    """Megabytes in every field at once are cut, with markers, and the event is still one sound line."""
    huge = character * (6_000_000 // width)
    fields: dict[str, Any] = dict.fromkeys(COLUMNS, huge)
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as audit:
        event_id = audit.log_event("x", {"huge": huge, "more": [huge]}, **fields)
    line = find_event(audit, event_id)
    assert len(line.body) + 100 < MAX_LINE_BYTES
    assert line.body == independent.print_body(line.fields)
    for name in COLUMNS:
        beginning, _, marker = line.fields[name].partition("…")
        assert marker == f"[cut: {marker[6:-12]} characters]"
        assert set(beginning) == {clean(character)}
    assert json.loads(line.fields["details"])["$cut"]


def test_a_long_text_that_fits_is_kept_whole(tmp_path: Path) -> None:
    """A traceback of three megabytes has room in a line, so none of it is cut."""
    text = "line\n" * 600_000
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as audit:
        event_id = audit.log_event("x", traceback=text)
    assert find_event(audit, event_id).fields["traceback"] == text


def test_the_schema_has_the_columns_of_the_body() -> None:
    """Arrow's columns are the body's keys in their order, without the store, and then the MAC and the leaf."""
    schema = event.make_schema("aaaaaaaaaaaaaaaa")
    assert tuple(schema.names) == (*(key for key in BODY_KEYS if key != "store"), "mac", "leaf")
    assert schema.metadata == {b"format": b"1", b"store": b"aaaaaaaaaaaaaaaa"}
    assert {field.name for field in schema if not field.nullable} == {"v", "writer", "seq", "epoch", "time", "type"}


def test_the_keys_of_the_format_are_those_of_its_description() -> None:
    """The one definition in code is the list of the specification."""
    assert BODY_KEYS == independent.KEYS
    assert tuple(event.make_fields("x", 0)) == independent.KEYS
