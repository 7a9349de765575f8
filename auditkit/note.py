r"""Signed notes and checkpoints, byte for byte as C2SP specifies them.

A *signed note* is a text that ends in a newline, an empty line, and one or more signature lines. Each of
those names a key and carries, in base64, the key's 4-byte id and the signature over the text (its last
newline included, the empty line not):

```
<text>\n
\n
— <key name> <base64(key id ‖ signature)>\n
```

A *checkpoint* is a note whose text states the size and root of a Merkle tree: the origin (the log's name),
the number of leaves in decimal, the root in base64, and possibly extension lines, which are kept as they are:

```
auditkit/3f9a1c
3
Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=
```

A *verifier key* is the public half in one line, ``<name>+<key id in hex>+<base64(0x01 ‖ public key)>``, where

```
key id = first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)      0x01 stands for Ed25519
```

Formatting and parsing come in pairs, and a parser refuses what its formatter wouldn't write: other base64 of
the same bytes, a size with leading zeroes, a missing newline. What a formatter is given is checked with
``UsageError``; what a parser reads is hostile, and every fault in it is a ``StoreDamaged``. A note says
nothing until ``verify_note`` has checked it against a key that came from elsewhere.

>>> seed = bytes(range(32))
>>> verifier_key = format_verifier_key("example.com/log", derive_public_key(seed))
>>> verifier_key
'example.com/log+d455c521+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4'
>>> text = format_checkpoint(Checkpoint("example.com/log", 3, bytes(32)))
>>> signed = sign_note(text, "example.com/log", seed)
>>> print(signed, end="")
example.com/log
3
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
<BLANKLINE>
— example.com/log 1FXFIUi3aEofqymuJ5fxIBGf9uQEcUNbKsrIDce6rHPX7ZpjMQI+sXJ42zunZxLpolf8+v7PlD6E9tYC9ay+djttPwI=
>>> note = parse_note(signed)
>>> verify_note(note, verifier_key)
True
>>> parse_checkpoint(note.text).size
3

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, RFC 8032 (Ed25519), RFC 4648 section 4 (base64).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from auditkit.errors import StoreDamaged, UsageError, require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Checkpoint",
    "Note",
    "Signature",
    "VerifierKey",
    "derive_public_key",
    "format_checkpoint",
    "format_note",
    "format_verifier_key",
    "parse_checkpoint",
    "parse_note",
    "parse_verifier_key",
    "sign_note",
    "sign_text",
    "verify_note",
]

MAX_NOTE_BYTES = 1_000_000
"""Longest note that is read or written. Sixteen post-quantum signatures take a twelfth of it."""

MAX_SIGNATURES = 100
"""Most signatures that a note may carry; C2SP asks for 16 at least."""

MAX_TREE_SIZE = 2**63 - 1
"""Largest tree a checkpoint may state: what a signed 64-bit integer holds, as in Go's implementation."""

_ED25519 = b"\x01"
_KEY_ID_SIZE = 4
_KEY_SIZE = 32
_SIGNATURE_SIZE = 64
_ROOT_SIZE = 32
_MARK = "— "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_CONTROL_OR_NEWLINE = re.compile("[\x00-\x1f]")
_SIZE = re.compile("0|[1-9][0-9]{0,18}")
_HEX_ID = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True)
class Signature:
    """One signature line of a note.

    Attributes:
        name: Name of the key that signed.
        key_id: The key's id, 4 bytes.
        signature: The signature proper; 64 bytes for Ed25519, other kinds have other lengths.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A note as parsed: nothing in it is to be believed before ``verify_note`` said so.

    Attributes:
        text: What was signed, with its last newline.
        signatures: The signatures, in the order of their lines.
    """

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True)
class VerifierKey:
    """The public half of a key that signs notes.

    Attributes:
        name: Name of the key.
        public_key: The Ed25519 public key, 32 bytes.

    Raises:
        UsageError: If the name can't be a key's name, or the key isn't 32 bytes long.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse what a verifier key can't hold."""
        _refuse_call("verifier key", _find_name_fault(self.name))
        if len(self.public_key) != _KEY_SIZE:
            raise UsageError(f"verifier key: expected a public key of {_KEY_SIZE} bytes, found {len(self.public_key)}")

    @property
    def key_id(self) -> bytes:
        """The key's id, 4 bytes."""
        return _compute_key_id(self.name, self.public_key)

    def __str__(self) -> str:
        """Return the line that ``format_verifier_key`` writes."""
        return f"{self.name}+{self.key_id.hex()}+{_encode_base64(_ED25519 + self.public_key)}"


@dataclass(frozen=True)
class Checkpoint:
    """Size and root of a Merkle tree, the text of a checkpoint note.

    Attributes:
        origin: Name of the log, for a store ``auditkit/<store id>``.
        size: Number of leaves.
        root: Root of the tree, 32 bytes.
        extensions: Further lines of the text, without their newlines.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def format_checkpoint(checkpoint: Checkpoint) -> str:
    r"""Write a checkpoint as the text of a note.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The text, with its last newline, for ``sign_note``.

    Raises:
        UsageError: If a line would be empty or hold a control character, the size is out of range, or the
            root isn't 32 bytes long.

    Example:
        >>> format_checkpoint(Checkpoint("auditkit/3f9a1c", 0, bytes(32)))
        'auditkit/3f9a1c\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n'
    """
    _refuse_call("checkpoint", _find_checkpoint_fault(checkpoint))
    lines = [checkpoint.origin, str(checkpoint.size), _encode_base64(checkpoint.root), *checkpoint.extensions]
    return "".join(line + "\n" for line in lines)


def parse_checkpoint(text: str, *, source: str = "checkpoint") -> Checkpoint:
    r"""Read the text of a checkpoint note.

    Args:
        text: The text of a note, with its last newline.
        source: Where the text came from, for the error message.

    Returns:
        The checkpoint, which ``format_checkpoint`` writes back to the same text.

    Raises:
        StoreDamaged: If ``format_checkpoint`` wouldn't have written this text.

    Example:
        >>> parse_checkpoint("auditkit/3f9a1c\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").size
        7
        >>> parse_checkpoint("auditkit/3f9a1c\n07\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
        Traceback (most recent call last):
        ...
        auditkit.errors.StoreDamaged: checkpoint: expected a tree size in decimal in line 2, found '07'
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop():
        raise StoreDamaged(
            f"{source}: expected three lines or more (origin, size, root), each ending in a newline, "
            f"found {_quote(text)}"
        )
    origin, size, root = lines[:3]
    if not _SIZE.fullmatch(size):
        raise StoreDamaged(f"{source}: expected a tree size in decimal in line 2, found {_quote(size)}")
    checkpoint = Checkpoint(origin, int(size), _decode_base64(root, source, "the root"), tuple(lines[3:]))
    _refuse_input(source, _find_checkpoint_fault(checkpoint))
    return checkpoint


def format_note(text: str, signatures: Iterable[Signature]) -> str:
    r"""Write a signed note.

    Args:
        text: The text that was signed, with its last newline.
        signatures: At least one signature.

    Returns:
        The note. Encoded as UTF-8 these are the exact bytes to store.

    Raises:
        UsageError: If the text doesn't end in a newline or holds a control character, there is no signature,
            or one of them can't be written.

    Example:
        >>> format_note("hello\n", [Signature("example.com", bytes(4), b"signature")])
        'hello\n\n— example.com AAAAAHNpZ25hdHVyZQ==\n'
    """
    note = Note(text, tuple(signatures))
    _refuse_call("note", _find_note_fault(note))
    lines = [f"{_MARK}{each.name} {_encode_base64(each.key_id + each.signature)}\n" for each in note.signatures]
    whole = f"{text}\n{''.join(lines)}"
    if len(whole.encode()) > MAX_NOTE_BYTES:
        raise UsageError(f"note: expected at most {MAX_NOTE_BYTES} bytes, found {len(whole.encode())}")
    return whole


def parse_note(data: bytes | str, *, source: str = "note") -> Note:
    r"""Read a signed note, without believing it.

    Args:
        data: The note: its bytes, or the same as text.
        source: Where the note came from, for the error message.

    Returns:
        The note, which ``format_note`` writes back to the same bytes.

    Raises:
        StoreDamaged: If ``format_note`` wouldn't have written these bytes.

    Example:
        >>> parse_note(b"hello\n\n\xe2\x80\x94 example.com AAAAAHNpZ25hdHVyZQ==\n").text
        'hello\n'
        >>> parse_note(b"hello\n")
        Traceback (most recent call last):
        ...
        auditkit.errors.StoreDamaged: note: expected an empty line before the signatures, found none ...
    """
    try:
        encoded = data.encode() if isinstance(data, str) else data
        if len(encoded) > MAX_NOTE_BYTES:
            raise StoreDamaged(f"{source}: expected at most {MAX_NOTE_BYTES} bytes, found {len(encoded)}")
        whole = encoded.decode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(f"{source}: expected UTF-8, found {error.reason} at {error.start}") from None
    # The text may itself hold empty lines, the signatures can't: the last one separates them.
    split = whole.rfind("\n\n")
    if split < 0:
        raise StoreDamaged(
            f"{source}: expected an empty line before the signatures, found none in {len(encoded)} bytes"
        )
    lines = whole[split + 2 :].split("\n")
    if lines.pop():
        raise StoreDamaged(f"{source}: expected a newline at the end, found {_quote(whole[-20:])}")
    # Counted before any is decoded, so that a hostile note costs no more than reading it.
    if len(lines) > MAX_SIGNATURES:
        raise StoreDamaged(f"{source}: expected at most {MAX_SIGNATURES} signatures, found {len(lines)}")
    note = Note(whole[: split + 1], tuple(_parse_signature(line, source) for line in lines))
    _refuse_input(source, _find_note_fault(note))
    return note


def format_verifier_key(name: str, public_key: bytes) -> str:
    """Write a public key as one line that others can check notes with.

    Args:
        name: Name of the key: neither spaces nor ``+`` in it.
        public_key: The Ed25519 public key, 32 bytes.

    Returns:
        The verifier key, without a newline.

    Raises:
        UsageError: If the name can't be a key's name, or the key isn't 32 bytes long.

    Example:
        >>> format_verifier_key("example.com", bytes(32))
        'example.com+32a0b7a0+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return str(VerifierKey(name, public_key))


def parse_verifier_key(text: str, *, source: str = "verifier key") -> VerifierKey:
    """Read a verifier key.

    Args:
        text: The line, without a newline.
        source: Where the key came from, for the error message.

    Returns:
        The key, which ``format_verifier_key`` writes back to the same text.

    Raises:
        StoreDamaged: If ``format_verifier_key`` wouldn't have written this text. The message doesn't repeat
            the text, because the commonest mistake is to give the secret key.

    Example:
        >>> key = parse_verifier_key("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
        >>> key.name, key.key_id.hex()
        ('PeterNeumann', 'c74f20a3')
    """
    # The base64 may hold a "+" too, so it is the first two that separate.
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _HEX_ID.fullmatch(key_id):
        raise StoreDamaged(
            f"{source}: expected <name>+<8 lower-case hex digits>+<base64>, found {len(text)} characters of "
            "another form: give the public key as store.json has it, not the secret key"
        )
    _refuse_input(source, _find_name_fault(name))
    key = _decode_base64(encoded, source, "the public key", secret=True)
    if len(key) != 1 + _KEY_SIZE or key[:1] != _ED25519:
        raise StoreDamaged(
            f"{source}: expected an Ed25519 key (1, then {_KEY_SIZE} bytes), found {len(key)} bytes of another kind"
        )
    verifier = VerifierKey(name, key[1:])
    if verifier.key_id.hex() != key_id:
        raise StoreDamaged(
            f"{source}: expected key id {verifier.key_id.hex()} for this name and key, found {key_id}: "
            "the line was changed or mistyped"
        )
    return verifier


def derive_public_key(private_seed: bytes) -> bytes:
    """Derive the public key of an Ed25519 key.

    Args:
        private_seed: The secret key, 32 random bytes (the seed of RFC 8032).

    Returns:
        The public key, 32 bytes.

    Raises:
        UsageError: If the seed isn't 32 bytes long.
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> derive_public_key(bytes(32)).hex()
        '3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29'
    """
    return _load_private_key(private_seed).public_key().public_bytes_raw()


def sign_text(text: str, name: str, private_seed: bytes) -> Signature:
    r"""Sign the text of a note.

    Args:
        text: The text, with its last newline.
        name: Name of the key.
        private_seed: The secret key, 32 bytes.

    Returns:
        The signature, to be written by ``format_note``, alone or with others.

    Raises:
        UsageError: If the text, the name or the seed can't be used.
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> sign_text("hello\n", "example.com", bytes(32)).key_id.hex()
        '2a3d8424'
    """
    _refuse_call("note", _find_text_fault(text) or _find_name_fault(name))
    private = _load_private_key(private_seed)
    key_id = _compute_key_id(name, private.public_key().public_bytes_raw())
    return Signature(name, key_id, private.sign(text.encode()))


def sign_note(text: str, name: str, private_seed: bytes) -> str:
    r"""Sign a text and write the note.

    Args:
        text: The text, with its last newline.
        name: Name of the key.
        private_seed: The secret key, 32 bytes.

    Returns:
        The note with this one signature.

    Raises:
        UsageError: If the text, the name or the seed can't be used.
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> sign_note("hello\n", "example.com", bytes(32)).partition("\n\n")[0]
        'hello'
    """
    return format_note(text, [sign_text(text, name, private_seed)])


def verify_note(note: Note, verifier_key: VerifierKey | str) -> bool:
    r"""Say whether a key signed a note.

    Signatures by other keys are ignored, as C2SP demands; but if the same key signed more than once, all of
    its signatures must hold.

    Args:
        note: The note, from ``parse_note``.
        verifier_key: The key to trust, from a source outside the note's own store.

    Returns:
        True if the key signed exactly this text.

    Raises:
        StoreDamaged: If the verifier key can't be read.
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> note = parse_note(sign_note("hello\n", "example.com", bytes(32)))
        >>> verify_note(note, VerifierKey("example.com", derive_public_key(bytes(32))))
        True
        >>> verify_note(note, VerifierKey("example.com", derive_public_key(bytes([1] * 32))))
        False
    """
    key = parse_verifier_key(verifier_key) if isinstance(verifier_key, str) else verifier_key
    found = [each for each in note.signatures if (each.name, each.key_id) == (key.name, key.key_id)]
    if not found:
        return False
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "seal")
    invalid = require("cryptography.exceptions", "seal").InvalidSignature
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(key.public_key)
        for each in found:
            public.verify(each.signature, note.text.encode())
    except (invalid, ValueError):
        return False
    return True


def _load_private_key(private_seed: bytes) -> Ed25519PrivateKey:
    if len(private_seed) != _KEY_SIZE:
        raise UsageError(f"expected a secret key of {_KEY_SIZE} bytes, found {len(private_seed)}")
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "seal")
    key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.from_private_bytes(private_seed)
    return key


def _compute_key_id(name: str, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_SIZE]


def _parse_signature(line: str, source: str) -> Signature:
    name, space, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK) or not space:
        raise StoreDamaged(f"{source}: expected a signature line (dash, key name, base64), found {_quote(line)}")
    raw = _decode_base64(encoded, source, f"the signature of {_quote(name)}")
    return Signature(name, raw[:_KEY_ID_SIZE], raw[_KEY_ID_SIZE:])


# Each _find_…_fault returns what is wrong, or "": one definition that the formatter and the parser share.


def _find_checkpoint_fault(checkpoint: Checkpoint) -> str:
    if not 0 <= checkpoint.size <= MAX_TREE_SIZE:
        return f"expected a tree size from 0 to {MAX_TREE_SIZE}, found {checkpoint.size}"
    if len(checkpoint.root) != _ROOT_SIZE:
        return f"expected a root of {_ROOT_SIZE} bytes, found {len(checkpoint.root)}"
    for line in (checkpoint.origin, *checkpoint.extensions):
        if not line:
            return "expected an origin and extension lines that aren't empty, found an empty line"
        if _CONTROL_OR_NEWLINE.search(line) or not _is_encodable(line):
            return f"expected lines without control characters, found {_quote(line)}"
    return ""


def _find_note_fault(note: Note) -> str:
    if not note.signatures:
        return "expected at least one signature, found none"
    if len(note.signatures) > MAX_SIGNATURES:
        return f"expected at most {MAX_SIGNATURES} signatures, found {len(note.signatures)}"
    for each in note.signatures:
        if fault := _find_name_fault(each.name):
            return fault
        if len(each.key_id) != _KEY_ID_SIZE or not each.signature:
            return (
                f"expected a key id of {_KEY_ID_SIZE} bytes and a signature after it, "
                f"found {len(each.key_id)} and {len(each.signature)} bytes by {_quote(each.name)}"
            )
    return _find_text_fault(note.text)


def _find_text_fault(text: str) -> str:
    if not text.endswith("\n"):
        return f"expected a text that ends in a newline, found {_quote(text[-20:])}"
    if bad := _CONTROL.search(text):
        return f"expected no control characters but newlines, found {_quote(bad[0])} at {bad.start()}"
    if not _is_encodable(text):
        return "expected a text that UTF-8 can hold, found a lone surrogate"
    return ""


def _find_name_fault(name: str) -> str:
    if (
        not name
        or "+" in name
        or any(char.isspace() for char in name)
        or _CONTROL_OR_NEWLINE.search(name)
        or not _is_encodable(name)
    ):
        return f"expected a key name without spaces, + and control characters, found {_quote(name)}"
    return ""


def _refuse_call(what: str, fault: str) -> None:
    if fault:
        raise UsageError(f"{what}: {fault}")


def _refuse_input(source: str, fault: str) -> None:
    if fault:
        raise StoreDamaged(f"{source}: {fault}")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode_base64(text: str, source: str, what: str, *, secret: bool = False) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    # Encoding again is what makes it canonical: the decoder takes stray bits before the padding without a
    # word.
    if not data or _encode_base64(data) != text:
        found = f"{len(text)} other characters" if secret else _quote(text)
        raise StoreDamaged(f"{source}: expected {what} in base64, found {found}")
    return data


def _quote(text: str) -> str:
    # Whatever is quoted may be hostile: pure ASCII without control characters, and never long.
    return ascii(text if len(text) <= 60 else text[:57] + "...")
