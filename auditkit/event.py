"""The event: its columns, its canonical bytes, its leaf. The one definition everything else follows.

An event's **body** is one JSON object of integers, strings and nulls, all keys always, in one order, so that every
language prints the same bytes. Its **line** is the body with the MAC as a last key; a journal is a file of lines. The
**leaf** is the hash under which the event stands in the store's Merkle tree. `docs/format.md` is the specification.

A body, wrapped here for reading (in a journal it is one line without spaces)::

    {"v":1,"store":"k3f9...","writer":"20261123-...","seq":7,"epoch":0,"time":1795392000000000,
     "type":"lead.ingested","actor":"ana","lead_id":"L-1","workflow":null,"outcome":null,"operation":null,
     "duration_us":null,"error_type":null,"message":null,"traceback":null,"details":"{\\"source\\":\\"web\\"}"}
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from auditkit.errors import FormatUnknown, StoreDamaged, require

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT: Final = 1
"""Version of the store's format; every body carries it as ``v``."""

MAX_LINE_BYTES: Final = 4 << 20
"""Largest line a writer makes, the newline not counted. Longer fields are cut before signing, with a marker."""

MIN_TIME_US: Final = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z in microseconds since 1970."""

MAX_TIME_US: Final = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z in microseconds since 1970."""

MAX_INTEGER: Final = (1 << 53) - 1
"""Largest integer of a body but for ``time``: what every JSON reader keeps exactly."""

DAY_US: Final = 86_400_000_000
"""One day in microseconds."""

GENESIS: Final = bytes(32)
"""What the MAC of a writer's first event chains to."""

OPENED: Final = "auditkit.opened"
"""Type of a writer's first event; its details are ``{n, parent, host, pid}``."""

CLOSED: Final = "auditkit.closed"
"""Type of a writer's last event: without it, a missing tail can't be told from a crash."""

GAP: Final = "auditkit.gap"
"""Type of the event that stands for ``{"dropped": k}`` events; the next sequence number is ``seq + k``."""

NEWER: Final = "expected an event of version"
"""How the refusal of an event begins that a newer auditkit wrote: it isn't damaged, it can't be judged here."""

INTERNAL_PREFIX: Final = "auditkit."
"""Types that begin so are the toolkit's own; queries leave them out unless they are asked for."""


class Column(NamedTuple):
    """One key of the body, which is also one column of a segment."""

    name: str
    kind: str
    """``integer``, ``time`` (integer microseconds) or ``string``."""
    nullable: bool
    meaning: str


BODY: Final[tuple[Column, ...]] = (
    Column("v", "integer", False, "version of the format"),
    Column("store", "string", False, "id of the store; in a segment it stands in the footer"),
    Column("writer", "string", False, "one process on one UTC date"),
    Column("seq", "integer", False, "place in its writer, from 0"),
    Column("epoch", "integer", False, "how often the writer's key was ratcheted"),
    Column("time", "time", False, "when it happened, microseconds since 1970 in UTC"),
    Column("type", "string", False, "what happened, for instance lead.ingested"),
    Column("actor", "string", True, "who or what did it"),
    Column("lead_id", "string", True, "the lead it concerns"),
    Column("workflow", "string", True, "the workflow it belongs to"),
    Column("outcome", "string", True, "success, failure, or the application's own word"),
    Column("operation", "string", True, "the operation that was measured"),
    Column("duration_us", "integer", True, "how long it took, microseconds"),
    Column("error_type", "string", True, "class of the error"),
    Column("message", "string", True, "message of the error or log record"),
    Column("traceback", "string", True, "the traceback as text"),
    Column("details", "string", True, "everything else, as JSON text"),
)
"""The body's keys in their order."""

BODY_KEYS: Final = tuple(column.name for column in BODY)
SEGMENT_KEYS: Final = (*(key for key in BODY_KEYS if key != "store"), "mac", "leaf")
READ_COLUMNS: Final = (
    "id",
    *(key for key in BODY_KEYS if key not in ("v", "store", "writer", "seq", "epoch")),
    "writer",
    "seq",
)
"""Columns of the events that reading and exporting give, in their order; ``id`` is ``writer:seq``."""

STRING_KEYS: Final = tuple(column.name for column in BODY if column.kind == "string")

MAC_HEAD: Final = b',"mac":"'
MAC_TAIL: Final = b'"}'
LINE_TAIL_BYTES: Final = len(MAC_HEAD) + 64 + len(MAC_TAIL)
"""How much longer a line is than its body without its closing brace."""

UNSIGNED_TAIL: Final = b',"mac":null}'
"""End of a line whose writer was told not to sign (``enable_integrity=False``)."""


RESULT_KEYS: Final = BODY_KEYS[BODY_KEYS.index("outcome") : BODY_KEYS.index("details")]
"""The keys that most events leave empty: they stand together, so that they can be printed as one."""

NO_RESULT: Final = orjson.Fragment(orjson.dumps(dict.fromkeys(RESULT_KEYS))[len('{"outcome":') : -1])
"""What prints all of `RESULT_KEYS` as null, as the value of the first of them."""


def make_head(store: str, writer: str) -> orjson.Fragment:
    """Make what prints a body's keys before ``seq``, as the value of the first of them; they are a chain's own.

    Example:
        >>> orjson.dumps({"v": make_head("k3f9", "w"), "seq": 7})
        b'{"v":1,"store":"k3f9","writer":"w","seq":7}'
    """
    return orjson.Fragment(orjson.dumps({"v": FORMAT, "store": store, "writer": writer})[len('{"v":') : -1])


def make_fields(
    kind: str,
    time_us: int,
    details: str | None = None,
    actor: str | None = None,
    lead_id: str | None = None,
    workflow: str | None = None,
    result: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a body's fields with everything empty that isn't given; the writer fills in who signs it.

    Args:
        kind: The event's type.
        time_us: When it happened, microseconds since 1970.
        details: JSON text.
        actor: Who or what did it.
        lead_id: The lead it concerns.
        workflow: The workflow it belongs to.
        result: Any of `RESULT_KEYS`.

    Example:
        >>> tuple(make_fields("auditkit.closed", 0, result={"outcome": "success"})) == BODY_KEYS
        True
    """
    given = {"type": kind, "time": time_us, "actor": actor, "lead_id": lead_id, "workflow": workflow}
    return {**dict.fromkeys(BODY_KEYS), "v": FORMAT, **given, **(result or {}), "details": details}


def encode_body(fields: dict[str, Any]) -> bytes:
    """Print a body's canonical bytes.

    Args:
        fields: All keys of `BODY_KEYS`, in that order, holding integers, strings without lone surrogates, or None.

    Returns:
        Compact UTF-8 JSON. Escapes are ``\\" \\\\ \\b \\t \\n \\f \\r`` and lower-case ``\\u00xx`` for the other
        characters below 0x20; everything else stands raw (RFC 8259 allows both).

    Example:
        >>> encode_body({"v": 1, "message": "a\\x1f/\\x7f\\u2028"}).decode().isascii()
        False
        >>> encode_body({"v": 1, "message": "tab\\t, bell\\x07"})
        b'{"v":1,"message":"tab\\\\t, bell\\\\u0007"}'
    """
    return orjson.dumps(fields)


def join_line(body: bytes, mac: bytes | None) -> bytes:
    """Join a body and its 32-byte MAC to the line that a journal holds, without the newline.

    Example:
        >>> join_line(b'{"v":1}', bytes(32))[:16]
        b'{"v":1,"mac":"00'
        >>> join_line(b'{"v":1}', None)
        b'{"v":1,"mac":null}'
    """
    if mac is None:
        return body[:-1] + UNSIGNED_TAIL
    return body[:-1] + MAC_HEAD + mac.hex().encode() + MAC_TAIL


def split_line(line: bytes) -> tuple[bytes, bytes | None]:
    """Split a line into its body and its MAC; the inverse of `join_line`.

    Raises:
        StoreDamaged: If the line doesn't end as `join_line` ends it.

    Example:
        >>> split_line(join_line(b'{"v":1}', bytes(32))) == (b'{"v":1}', bytes(32))
        True
    """
    if line.endswith(UNSIGNED_TAIL):
        return line[: -len(UNSIGNED_TAIL)] + b"}", None
    tail = line[-LINE_TAIL_BYTES:]
    if not (tail.startswith(MAC_HEAD) and tail.endswith(MAC_TAIL)):
        raise StoreDamaged(f"expected a journal line to end in its MAC, found {line[-80:]!r}")
    digits = tail[len(MAC_HEAD) : -len(MAC_TAIL)]
    try:
        mac = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        mac = b""
    if mac.hex().encode() != digits:
        raise StoreDamaged(f"expected 64 lower-case hexadecimal digits as MAC, found {digits!r}")
    return line[:-LINE_TAIL_BYTES] + b"}", mac


def parse_line(line: bytes) -> tuple[dict[str, Any], bytes | None]:
    """Read one journal line, as strictly as it is written.

    Args:
        line: The line without its newline.

    Returns:
        The body's fields in their order, and the MAC (None if the writer didn't sign).

    Raises:
        StoreDamaged: If the line isn't byte for byte what this version writes for those fields.
        FormatUnknown: If a newer auditkit wrote it.
    """
    body, mac = split_line(line)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise StoreDamaged(f"expected a JSON object as event, found text that isn't JSON ({error})") from error
    check_fields(fields)
    if encode_body(fields) != body:
        raise StoreDamaged("expected an event in canonical form, found the same values printed otherwise")
    return fields, mac


def check_fields(fields: object) -> None:
    """Refuse a body whose keys, kinds or ranges aren't the format's.

    Raises:
        StoreDamaged: Naming the first key that is wrong.
        FormatUnknown: If a newer auditkit wrote it.
    """
    version = fields.get("v") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise FormatUnknown(f"{NEWER} {FORMAT} or older, found version {version}: use a newer auditkit")
    if not isinstance(fields, dict) or tuple(fields) != BODY_KEYS:
        found = ", ".join(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise StoreDamaged(f"expected an event with the keys {', '.join(BODY_KEYS)}, found {found[:500]}")
    for column in BODY:
        value = fields[column.name]
        if value is None:
            if not column.nullable:
                raise StoreDamaged(f"expected a value for {column.name}, found null")
        elif column.kind == "string":
            if type(value) is not str:
                raise StoreDamaged(f"expected text for {column.name}, found {type(value).__name__}")
        elif type(value) is not int:
            raise StoreDamaged(f"expected an integer for {column.name}, found {type(value).__name__}")
        elif column.kind == "time":
            if not MIN_TIME_US <= value <= MAX_TIME_US:
                raise StoreDamaged(f"expected a time between the years 1 and 9999, found {value} µs")
        elif not 0 <= value <= MAX_INTEGER:
            raise StoreDamaged(f"expected {column.name} between 0 and 2^53 - 1, found {value}")
    if fields["v"] != FORMAT:
        raise StoreDamaged(f"expected an event of version {FORMAT}, found version {fields['v']}")


def hash_line(line: bytes) -> bytes:
    """Compute the leaf of a line: RFC 6962's leaf hash over its bytes without the newline.

    Example:
        >>> hash_line(b"").hex()[:16]
        '6e340b9cffb37a98'
    """
    return sha256(b"\0" + line).digest()


def name_id(writer: str, seq: int) -> str:
    """Name an event: the id that every call and every export gives for it.

    Example:
        >>> name_id("20261123-aaaaaaaaaaaaaaaa", 7)
        '20261123-aaaaaaaaaaaaaaaa:7'
    """
    return f"{writer}:{seq}"


def make_schema(store: str | None = None) -> pa.Schema:
    """Make the Arrow schema of a segment.

    Args:
        store: Id of the store, which then stands in the schema's metadata (the Parquet footer) with the format.

    Returns:
        The body's columns but ``store``, then ``mac`` and ``leaf`` (32 bytes each). ``time`` is a timestamp in
        microseconds in UTC; the names and the order are those of the body.

    Raises:
        ExtraMissing: If pyarrow isn't installed.

    Example:
        >>> make_schema().field("time").type
        TimestampType(timestamp[us, tz=UTC])
    """
    arrow = require("pyarrow", "seal")
    kinds = {"integer": arrow.int64(), "time": arrow.timestamp("us", tz="UTC"), "string": arrow.string()}
    fields = [arrow.field(c.name, kinds[c.kind], nullable=c.nullable) for c in BODY if c.name != "store"]
    fields += [arrow.field("mac", arrow.binary(32)), arrow.field("leaf", arrow.binary(32))]
    metadata = None if store is None else {"format": str(FORMAT), "store": store}
    schema: pa.Schema = arrow.schema(fields, metadata=metadata)
    return schema
