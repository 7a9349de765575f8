r"""Proofs as files: that a leaf is in a log, and that a log only grew, each with the checkpoint it leads to.

An inclusion proof is a C2SP *tlog-proof*: all that is needed to check offline that a leaf is in the log. The extra data
is the application's; auditkit puts the event's line there, whose hash is the leaf (``docs/receipts.md``):

```
c2sp.org/tlog-proof@v1\n
extra <base64>\n                     may be left out
index <index of the leaf>\n
<base64 of a hash>\n                 none or more, from the leaf's sibling up to the root's child
\n
<signed note of a checkpoint>
```

A *consistency proof* has no file format of its own. It is written as the body of ``add-checkpoint`` in C2SP's
tlog-witness, so that the file can be sent to a witness as it is. Whoever checks it has the older checkpoint already:

```
old <leaves of the older tree>\n
<base64 of a hash>\n                 none or more
\n
<signed note of the newer checkpoint>
```

Formatting and parsing come in pairs, and a parser refuses what its formatter wouldn't write: other base64 of the same
bytes, leading zeros, a second empty line. What a formatter is given is checked with ``UsageError``; what a parser reads
is hostile, and every fault in it is a ``StoreDamaged``. A proof says nothing until `verify_proof` or
`verify_consistency_proof` has checked it with a key that came from elsewhere.

>>> from auditkit import note
>>> seed, log = bytes(range(32)), "example.com/log"
>>> leaves = [tree.hash_leaf(data) for data in (b"one", b"two", b"three")]
>>> root = tree.compute_root(3, tree.build_nodes(0, leaves))
>>> signed = note.sign_note(note.format_checkpoint(note.Checkpoint(log, 3, root)), log, seed)
>>> path = tree.prove_inclusion(2, 3, tree.serve_nodes(leaves))
>>> text = format_proof(TlogProof(2, tuple(path), signed, b"three"))
>>> print(text, end="")
c2sp.org/tlog-proof@v1
extra dGhyZWU=
index 2
...
<BLANKLINE>
example.com/log
3
...
<BLANKLINE>
— example.com/log ...
>>> proof = parse_proof(text)
>>> key = note.format_verifier_key(log, note.derive_public_key(seed))
>>> verify_proof(proof, tree.hash_leaf(proof.extra), key)
True
>>> verify_proof(proof, tree.hash_leaf(b"four"), key)
False

Sources: c2sp.org/tlog-proof, c2sp.org/tlog-witness, c2sp.org/tlog-checkpoint, RFC 6962 sections 2.1.1 and 2.1.2.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from auditkit import tree
from auditkit.errors import StoreDamaged, UsageError
from auditkit.note import (
    MAX_NOTE_BYTES,
    MAX_TREE_SIZE,
    Checkpoint,
    Note,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    parse_verifier_key,
    verify_note,
)

__all__ = [
    "MAX_EXTRA_BYTES",
    "MAX_HASHES",
    "MAX_PROOF_BYTES",
    "ConsistencyProof",
    "TlogProof",
    "VerifierKeys",
    "find_consistency_faults",
    "find_proof_faults",
    "find_signer",
    "format_consistency_proof",
    "format_proof",
    "parse_consistency_proof",
    "parse_proof",
    "read_verifier_keys",
    "verify_consistency_proof",
    "verify_proof",
]

MAX_HASHES: Final = 63
"""Most hashes of a proof: a tree of 2^63 leaves needs no more, and tlog-witness takes no more."""

MAX_EXTRA_BYTES: Final = 4 << 20
"""Longest extra data: an event's line is no longer."""

MAGIC: Final = "c2sp.org/tlog-proof@v1"
"""First line of a tlog-proof."""

_LINE_BYTES = len("index ") + 44 + 1
MAX_PROOF_BYTES: Final = 4 * -(-MAX_EXTRA_BYTES // 3) + (MAX_HASHES + 4) * _LINE_BYTES + MAX_NOTE_BYTES
"""Longest proof that is read."""

VerifierKeys: TypeAlias = VerifierKey | str | Sequence[VerifierKey | str]
"""One verifier key or several, of which one must have signed; as text they are in the form of `auditkit.note`."""

_NUMBER = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class TlogProof:
    """A proof that a leaf is in a log.

    Attributes:
        index: Index of the leaf, from 0.
        hashes: The inclusion proof, 32 bytes each, from the leaf's sibling up to the root's child.
        checkpoint: The signed note of the checkpoint to which they lead, verbatim.
        extra: Extra data, not authenticated by itself; None for none.
    """

    index: int
    hashes: tuple[bytes, ...] = field(repr=False)
    checkpoint: str = field(repr=False)
    extra: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConsistencyProof:
    """A proof that an older tree of a log is the beginning of a newer one.

    Attributes:
        old_size: Leaves of the older tree; 0 for the empty one, which needs no hashes.
        hashes: The consistency proof, 32 bytes each.
        checkpoint: The signed note of the newer checkpoint, verbatim.
    """

    old_size: int
    hashes: tuple[bytes, ...] = field(repr=False)
    checkpoint: str = field(repr=False)


def format_proof(proof: TlogProof) -> str:
    """Write a tlog-proof.

    Args:
        proof: The proof.

    Returns:
        The text. Encoded as UTF-8 these are the exact bytes to store, by custom in a file ``*.tlog-proof``.

    Raises:
        UsageError: If a number is out of range, a hash isn't 32 bytes long, there are more than `MAX_HASHES`, the extra
            data is empty or too long, or the checkpoint isn't the signed note of one.

    Example:
        >>> format_proof(TlogProof(0, (), "not a note"))
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: proof: expected an empty line before the signatures, found none in 10 bytes
    """
    _refuse_call(_find_fault(proof.index, proof.hashes, proof.checkpoint))
    lines = [MAGIC]
    if proof.extra is not None:
        if not 0 < len(proof.extra) <= MAX_EXTRA_BYTES:
            raise UsageError(
                f"proof: expected extra data of 1 to {MAX_EXTRA_BYTES} bytes or None, found {len(proof.extra)} bytes"
            )
        lines.append(f"extra {_encode(proof.extra)}")
    lines.append(f"index {proof.index}")
    return _join(lines, proof.hashes, proof.checkpoint)


def parse_proof(data: bytes | str, *, source: str = "receipt") -> TlogProof:
    """Read a tlog-proof, without believing it.

    Args:
        data: The proof: its bytes, or the same as text.
        source: Where it came from, for the error message.

    Returns:
        The proof, which `format_proof` writes back to the same bytes.

    Raises:
        StoreDamaged: If `format_proof` wouldn't have written these bytes.

    Example:
        >>> parse_proof(b"c2sp.org/tlog-proof@v1\\nindex 05\\n\\n")
        Traceback (most recent call last):
        ...
        auditkit.errors.StoreDamaged: receipt: expected "index" and a number without leading zeros, found 'index 05'
    """
    head, checkpoint = _split(data, source, 3)
    if head.pop(0) != MAGIC:
        raise StoreDamaged(f"{source}: expected {MAGIC} in the first line, found another: this is no tlog-proof")
    extra = None
    if head and head[0].startswith("extra "):
        extra = _decode(head.pop(0).removeprefix("extra "), source, "the extra data")
        if len(extra) > MAX_EXTRA_BYTES:
            raise StoreDamaged(f"{source}: expected at most {MAX_EXTRA_BYTES} bytes of extra data, found {len(extra)}")
    index = _parse_number(head, "index", source)
    proof = TlogProof(index, _parse_hashes(head, source), checkpoint, extra)
    _refuse_input(source, _find_fault(proof.index, proof.hashes, proof.checkpoint))
    return proof


def format_consistency_proof(proof: ConsistencyProof) -> str:
    r"""Write a consistency proof as the body of a witness's ``add-checkpoint``.

    Args:
        proof: The proof.

    Returns:
        The text. Encoded as UTF-8 these are the exact bytes to store or to send.

    Raises:
        UsageError: If the older size is larger than the checkpoint's, a hash isn't 32 bytes long, there are more than
            `MAX_HASHES` or any for the empty tree, or the checkpoint isn't the signed note of one.

    Example:
        >>> from auditkit import note
        >>> text = note.format_checkpoint(note.Checkpoint("example.com/log", 3, bytes(32)))
        >>> signed = note.sign_note(text, "example.com/log", bytes(32))
        >>> format_consistency_proof(ConsistencyProof(3, (), signed)).startswith("old 3\n\nexample.com/log\n3\n")
        True
    """
    _refuse_call(_find_fault(proof.old_size, proof.hashes, proof.checkpoint, consistency=True))
    return _join([f"old {proof.old_size}"], proof.hashes, proof.checkpoint)


def parse_consistency_proof(data: bytes | str, *, source: str = "consistency proof") -> ConsistencyProof:
    r"""Read a consistency proof, without believing it.

    Args:
        data: The proof: its bytes, or the same as text.
        source: Where it came from, for the error message.

    Returns:
        The proof, which `format_consistency_proof` writes back to the same bytes.

    Raises:
        StoreDamaged: If `format_consistency_proof` wouldn't have written these bytes.

    Example:
        >>> parse_consistency_proof("new 3\n\n")
        Traceback (most recent call last):
        ...
        auditkit.errors.StoreDamaged: consistency proof: expected "old" and a number ..., found 'new 3'
    """
    head, checkpoint = _split(data, source, 1)
    old_size = _parse_number(head, "old", source)
    proof = ConsistencyProof(old_size, _parse_hashes(head, source), checkpoint)
    _refuse_input(source, _find_fault(proof.old_size, proof.hashes, proof.checkpoint, consistency=True))
    return proof


def verify_proof(proof: TlogProof, leaf: bytes, verifier_keys: VerifierKeys) -> bool:
    """Say whether a leaf is in the log that one of the keys signs for.

    Args:
        proof: The proof, from `parse_proof`.
        leaf: The leaf hash (not the leaf's data).
        verifier_keys: The keys to trust, from a source outside the log. A key vouches only for the log of its name.

    Returns:
        True if the proof leads from the leaf to the root of the checkpoint, and one of the keys signed that.

    Raises:
        UsageError: If there is no key, or one can't be read.
        ExtraMissing: If ``cryptography`` isn't installed.
    """
    return not find_proof_faults(proof, leaf, verifier_keys)


def find_proof_faults(proof: TlogProof, leaf: bytes, verifier_keys: VerifierKeys) -> list[str]:
    """Say why `verify_proof` says no.

    Args:
        proof: See `verify_proof`.
        leaf: See `verify_proof`.
        verifier_keys: See `verify_proof`.

    Returns:
        What was expected and found, printable text; nothing if the proof holds.

    Raises:
        UsageError: See `verify_proof`.
        ExtraMissing: See `verify_proof`.
    """
    keys = read_verifier_keys(verifier_keys)
    signed, checkpoint = _read_checkpoint(proof.checkpoint)
    faults = [] if find_signer(signed, checkpoint.origin, keys) else [_describe_signers(signed, checkpoint, keys)]
    if not 0 <= proof.index < checkpoint.size:
        faults.append(f"expected the index of one of {checkpoint.size} leaves, found {proof.index}")
    elif not tree.verify_inclusion(proof.index, checkpoint.size, leaf, proof.hashes, checkpoint.root):
        faults.append(
            f"expected a path from leaf {proof.index} to the checkpoint's root over {checkpoint.size} leaves, "
            "found hashes that lead elsewhere"
        )
    return faults


def verify_consistency_proof(proof: ConsistencyProof, old_checkpoint: str, verifier_keys: VerifierKeys) -> bool:
    """Say whether a log only grew from an older checkpoint to the proof's.

    Args:
        proof: The proof, from `parse_consistency_proof`.
        old_checkpoint: The signed note of the older checkpoint, as somebody kept it.
        verifier_keys: The keys to trust, from a source outside the log. A key vouches only for the log of its name.

    Returns:
        True if both checkpoints are of one log, each signed by one of the keys, and the older tree is the beginning of
        the newer. Every tree grew from the empty one, so an older checkpoint of size 0 is only checked for its root.

    Raises:
        StoreDamaged: If the older checkpoint isn't a signed note of one.
        UsageError: If there is no key, or one can't be read.
        ExtraMissing: If ``cryptography`` isn't installed.
    """
    return not find_consistency_faults(proof, old_checkpoint, verifier_keys)


def find_consistency_faults(proof: ConsistencyProof, old_checkpoint: str, verifier_keys: VerifierKeys) -> list[str]:
    """Say why `verify_consistency_proof` says no.

    Args:
        proof: See `verify_consistency_proof`.
        old_checkpoint: See `verify_consistency_proof`.
        verifier_keys: See `verify_consistency_proof`.

    Returns:
        What was expected and found, printable text; nothing if the proof holds.

    Raises:
        StoreDamaged: See `verify_consistency_proof`.
        UsageError: See `verify_consistency_proof`.
        ExtraMissing: See `verify_consistency_proof`.
    """
    keys = read_verifier_keys(verifier_keys)
    old_signed, old = _read_checkpoint(old_checkpoint, "older checkpoint")
    signed, new = _read_checkpoint(proof.checkpoint)
    faults = [
        f"{which} checkpoint: {_describe_signers(each, checkpoint, keys)}"
        for which, each, checkpoint in (("older", old_signed, old), ("newer", signed, new))
        if not find_signer(each, checkpoint.origin, keys)
    ]
    if old.origin != new.origin:
        faults.append(f"expected two checkpoints of one log, found {_quote(old.origin)} and {_quote(new.origin)}")
    if proof.old_size != old.size:
        faults.append(
            f"expected a proof from the older checkpoint's {old.size} leaves, found one from {proof.old_size}"
        )
    elif not _is_beginning(proof, old, new):
        faults.append(
            f"expected the tree of {old.size} leaves to be the beginning of the one of {new.size}, found that this "
            "proof doesn't show it"
        )
    return faults


def _is_beginning(proof: ConsistencyProof, old: Checkpoint, new: Checkpoint) -> bool:
    if not old.size:
        return not proof.hashes and old.root == tree.EMPTY_ROOT
    return tree.verify_consistency(old.size, new.size, proof.hashes, old.root, new.root)


def read_verifier_keys(keys: VerifierKeys) -> tuple[VerifierKey, ...]:
    """Read the verifier keys that a caller gives.

    Args:
        keys: One key or several.

    Returns:
        The keys.

    Raises:
        UsageError: If there is none, or one can't be read. The message doesn't repeat it, as it may be a secret key.

    Example:
        >>> read_verifier_keys("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[0].name
        'PeterNeumann'
        >>> read_verifier_keys([])
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected at least one verifier key, found none: ...
    """
    several: Sequence[object] = [keys] if isinstance(keys, str | VerifierKey) else list(keys or ())
    read = []
    for each in several:
        try:
            key = parse_verifier_key(each) if isinstance(each, str) else each
        except StoreDamaged as error:
            raise UsageError(str(error)) from None
        if not isinstance(key, VerifierKey):
            raise UsageError(f"expected verifier keys as text or VerifierKey, found {type(key).__name__}")
        read.append(key)
    if not read:
        raise UsageError(
            "expected at least one verifier key, found none: give the public key that the log's owner published, as "
            "without one from elsewhere a proof shows nothing"
        )
    return tuple(read)


def find_signer(signed: Note, origin: str, verifier_keys: Iterable[VerifierKey]) -> VerifierKey | None:
    """Find the key that signed a checkpoint for its log.

    Args:
        signed: The checkpoint's note, from `parse_note`.
        origin: The log it is about; a key of another name doesn't count, whatever it signed.
        verifier_keys: The keys to try.

    Returns:
        The first key that signed it, None if none did.

    Raises:
        ExtraMissing: If ``cryptography`` isn't installed.
    """
    return next((key for key in verifier_keys if key.name == origin and verify_note(signed, key)), None)


def _describe_signers(signed: Note, checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> str:
    wanted = [key for key in keys if key.name == checkpoint.origin]
    if not wanted:
        return (
            f"expected a log of the key's name ({', '.join(_quote(key.name) for key in keys[:3])}), "
            f"found {_quote(checkpoint.origin)}"
        )
    ids = ", ".join(key.key_id.hex() for key in wanted[:3])
    tried = {(key.name, key.key_id) for key in wanted}
    if any((each.name, each.key_id) in tried for each in signed.signatures):
        return f"expected a valid signature by key {ids}, found an invalid one: the checkpoint was changed or forged"
    others = sorted({each.key_id.hex() for each in signed.signatures if each.name == checkpoint.origin})
    return f"expected a signature by key {ids}, found {'one by ' + ', '.join(others[:3]) if others else 'none'}"


def _read_checkpoint(text: str, source: str = "checkpoint") -> tuple[Note, Checkpoint]:
    signed = parse_note(text, source=source)
    return signed, parse_checkpoint(signed.text, source=source)


def _join(lines: list[str], hashes: Sequence[bytes], checkpoint: str) -> str:
    return "".join(f"{line}\n" for line in [*lines, *map(_encode, hashes), ""]) + checkpoint


def _split(data: bytes | str, source: str, leading: int) -> tuple[list[str], str]:
    """Split a proof into the lines of its head, at most ``leading`` before the hashes, and its checkpoint."""
    try:
        encoded = data.encode() if isinstance(data, str) else data
        if len(encoded) > MAX_PROOF_BYTES:
            raise StoreDamaged(f"{source}: expected at most {MAX_PROOF_BYTES} bytes, found {len(encoded)}")
        whole = encoded.decode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(f"{source}: expected UTF-8, found {error.reason} at {error.start}") from None
    head, separator, checkpoint = whole.partition("\n\n")
    if not separator:
        raise StoreDamaged(f"{source}: expected an empty line before the checkpoint, found none")
    # Never more pieces than a proof can have, however many lines there are.
    lines = head.split("\n", MAX_HASHES + leading)
    if len(lines) > MAX_HASHES + leading:
        raise StoreDamaged(f"{source}: expected at most {MAX_HASHES} hashes, found more lines than that")
    return lines, checkpoint


def _parse_number(head: list[str], name: str, source: str) -> int:
    line = head.pop(0) if head else ""
    word, _, digits = line.partition(" ")
    if word != name or not _NUMBER.fullmatch(digits):
        raise StoreDamaged(f'{source}: expected "{name}" and a number without leading zeros, found {_quote(line)}')
    return int(digits)


def _parse_hashes(lines: Sequence[str], source: str) -> tuple[bytes, ...]:
    return tuple(_decode(line, source, f"hash {number}") for number, line in enumerate(lines, 1))


def _find_fault(number: int, hashes: Sequence[bytes], checkpoint: str, *, consistency: bool = False) -> str:
    """Return what is wrong with a proof, or "": one definition that formatters and parsers share."""
    if not 0 <= number <= MAX_TREE_SIZE:
        return f"expected a number from 0 to {MAX_TREE_SIZE}, found {number}"
    if len(hashes) > MAX_HASHES:
        return f"expected at most {MAX_HASHES} hashes, found {len(hashes)}"
    for place, each in enumerate(hashes, 1):
        if len(each) != tree.HASH_SIZE:
            return f"expected hash {place} to be {tree.HASH_SIZE} bytes long, found {len(each)}"
    try:
        _, told = _read_checkpoint(checkpoint)
    except StoreDamaged as error:
        return str(error).removeprefix("checkpoint: ")
    if consistency and number > told.size:
        return f"expected an older tree of at most the checkpoint's {told.size} leaves, found {number}"
    if consistency and not number and hashes:
        return f"expected no hashes for the empty tree, found {len(hashes)}"
    return ""


def _refuse_call(fault: str) -> None:
    if fault:
        raise UsageError(f"proof: {fault}")


def _refuse_input(source: str, fault: str) -> None:
    if fault:
        raise StoreDamaged(f"{source}: {fault}")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str, source: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    # Encoding again is what makes it canonical: the decoder takes stray bits before the padding without a word.
    if not data or _encode(data) != text:
        raise StoreDamaged(f"{source}: expected {what} in base64, found {_quote(text)}")
    return data


def _quote(text: str) -> str:
    # Whatever is quoted may be hostile: pure ASCII without control characters, and never long.
    return ascii(text if len(text) <= 60 else text[:57] + "...")
