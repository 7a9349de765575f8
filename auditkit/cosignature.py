r"""Cosignatures: what a witness says of a checkpoint, byte for byte as C2SP specifies it.

A *cosigner* (a witness, for instance) adds its own signature line to a checkpoint. With it, it says that at some time
the checkpoint was the largest of its log that it knew, and that the log had only grown until then. The line is one of a
signed note (see ``auditkit.note``); its signature holds the time, in seconds since 1970 as POSIX counts them:

```
— <cosigner name> <base64(key id ‖ time as 8 bytes, most significant first ‖ Ed25519 signature)>
```

What is signed with Ed25519 is two lines and the text of the checkpoint:

```
cosignature/v1
time 1767139200
auditkit/3f9a1c
3
Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=
```

A cosigner's verifier key has another type than a log's, so that neither can be taken for the other's:

```
key id       = first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key)
verifier key = name ‖ "+" ‖ key id in hex ‖ "+" ‖ base64(0x04 ‖ public key)
```

The signature doesn't cover the cosigner's name: one key belongs to one cosigner. The newer kind of cosignature, with
ML-DSA-44, isn't known here, and is ignored as a signature of an unknown key.

>>> from auditkit import note
>>> text = note.format_checkpoint(note.Checkpoint("example.com/log", 3, bytes(32)))
>>> signature = cosign_text(text, "witness.example/w1", bytes(32), 1767139200)
>>> signed = note.parse_note(note.format_note(text, [note.sign_text(text, "example.com/log", bytes(32)), signature]))
>>> key = CosignerKey("witness.example/w1", note.derive_public_key(bytes(32)))
>>> verify_cosignature(signed, key)
1767139200

Source: c2sp.org/tlog-cosignature, c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256

from auditkit import note
from auditkit.errors import StoreDamaged, UsageError

__all__ = [
    "MAX_TIME",
    "CosignerKey",
    "cosign_text",
    "parse_cosigner_key",
    "read_cosignature_time",
    "verify_cosignature",
]

MAX_TIME = 2**63 - 1
"""Latest time that a cosignature may state, in seconds since 1970."""

_COSIGNATURE_V1 = b"\x04"
_KEY_ID_SIZE = 4
_KEY_SIZE = 32
_TIME_SIZE = 8
_SIGNATURE_SIZE = _TIME_SIZE + 64
_FORM = re.compile(r"([^+]*)\+([0-9a-f]{8})\+(.*)", re.DOTALL)


@dataclass(frozen=True)
class CosignerKey:
    """The public half of a key that cosigns checkpoints; ``str()`` writes its verifier key.

    Attributes:
        name: Name of the cosigner, by custom an URL without its scheme.
        public_key: The Ed25519 public key, 32 bytes.

    Raises:
        UsageError: If the name can't be a key's name, or the key isn't 32 bytes long.

    Example:
        >>> str(CosignerKey("witness.example/w1", bytes(32)))
        'witness.example/w1+490ca8b1+BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse what a verifier key can't hold."""
        self._as_log_key()

    @property
    def key_id(self) -> bytes:
        """The key's id, 4 bytes."""
        return sha256(self.name.encode() + b"\n" + _COSIGNATURE_V1 + self.public_key).digest()[:_KEY_ID_SIZE]

    def __str__(self) -> str:
        """Return the line that ``parse_cosigner_key`` reads."""
        encoded = base64.b64encode(_COSIGNATURE_V1 + self.public_key).decode("ascii")
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def _as_log_key(self) -> note.VerifierKey:
        """The same name and key as one that signs notes, which also has the same rules."""
        return note.VerifierKey(self.name, self.public_key)


def parse_cosigner_key(text: str, *, source: str = "cosigner key") -> CosignerKey:
    """Read the verifier key of a cosigner.

    Args:
        text: The line, without a newline.
        source: Where the key came from, for the error message.

    Returns:
        The key, which ``str()`` writes back to the same text.

    Raises:
        StoreDamaged: If ``str()`` wouldn't have written this text. The message doesn't repeat the text, because the
            commonest mistake is to give the secret key.

    Example:
        >>> key = parse_cosigner_key("witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN")
        >>> key.name, key.key_id.hex()
        ('witness.example.org', 'b8a2cf20')
    """
    # The base64 may hold a "+" too, so it is the first two that separate.
    form = _FORM.fullmatch(text)
    if form is None:
        raise StoreDamaged(
            f"{source}: expected <name>+<8 lower-case hex digits>+<base64>, found {len(text)} characters of another "
            "form: give the verifier key as the cosigner publishes it, not a secret key"
        )
    name, key_id, encoded = form.groups()
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    # Encoding again is what makes it canonical, whatever the decoder lets pass.
    if not key or base64.b64encode(key).decode("ascii") != encoded:
        raise StoreDamaged(f"{source}: expected the public key in base64, found {len(encoded)} other characters")
    if len(key) != len(_COSIGNATURE_V1) + _KEY_SIZE or not key.startswith(_COSIGNATURE_V1):
        raise StoreDamaged(
            f"{source}: expected a cosigner's Ed25519 key (4, then {_KEY_SIZE} bytes), found type {key[0]} and "
            f"{len(key) - 1} bytes: {_say_type(key[0])}"
        )
    try:
        cosigner = CosignerKey(name, key[1:])
    except UsageError as fault:
        raise StoreDamaged(f"{source}: {fault}") from None
    if cosigner.key_id.hex() != key_id:
        raise StoreDamaged(
            f"{source}: expected key id {cosigner.key_id.hex()} for this name and key, found {key_id}: "
            "the line was changed or mistyped"
        )
    return cosigner


def cosign_text(text: str, name: str, private_seed: bytes, time_s: int) -> note.Signature:
    r"""Cosign the text of a checkpoint, as a witness does.

    Args:
        text: The text of the checkpoint, with its last newline.
        name: Name of the cosigner.
        private_seed: The secret key, 32 bytes; it must sign for no other cosigner.
        time_s: The time to state, in seconds since 1970 (POSIX).

    Returns:
        The signature, to be written by ``auditkit.note.format_note`` among others.

    Raises:
        UsageError: If the text isn't that of a checkpoint, or the name, the seed or the time can't be used.
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> text = "example.com/log\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        >>> len(cosign_text(text, "witness.example/w1", bytes(32), 1767139200).signature)
        72
    """
    if not 0 <= time_s <= MAX_TIME:
        raise UsageError(f"cosignature: expected a time from 0 to {MAX_TIME} seconds, found {time_s}")
    try:
        note.parse_checkpoint(text)
    except StoreDamaged as fault:
        raise UsageError(f"cosignature: only a checkpoint can be cosigned: {fault}") from None
    signed = note.sign_text(_frame_text(text, time_s), name, private_seed)
    key = CosignerKey(name, note.derive_public_key(private_seed))
    return note.Signature(name, key.key_id, time_s.to_bytes(_TIME_SIZE, "big") + signed.signature)


def verify_cosignature(signed: note.Note, key: CosignerKey) -> int | None:
    r"""Say as of when a cosigner vouches for a checkpoint.

    Signatures by other keys are ignored; but if the cosigner signed more than once, all of its signatures must hold, as
    with ``auditkit.note.verify_note``.

    Args:
        signed: The note, from ``auditkit.note.parse_note``.
        key: The cosigner's key, from a source outside the store.

    Returns:
        The time that the cosigner states, in seconds since 1970 (POSIX), the latest if there are several; None if it
        didn't sign this text. It is the cosigner's word: nothing is said of times in the future.

    Raises:
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> text = "example.com/log\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        >>> signed = note.Note(text, (cosign_text(text, "witness.example/w1", bytes(32), 1767139200),))
        >>> verify_cosignature(signed, CosignerKey("witness.example/w1", note.derive_public_key(bytes(32))))
        1767139200
        >>> verify_cosignature(signed, CosignerKey("witness.example/w1", note.derive_public_key(bytes([1] * 32))))
    """
    log_key = key._as_log_key()
    latest: int | None = None
    for each in signed.signatures:
        if (each.name, each.key_id) != (key.name, key.key_id):
            continue
        time_s = read_cosignature_time(each)
        if time_s is None:
            return None
        proper = note.Signature(log_key.name, log_key.key_id, each.signature[_TIME_SIZE:])
        if not note.verify_note(note.Note(_frame_text(signed.text, time_s), (proper,)), log_key):
            return None
        latest = time_s if latest is None else max(latest, time_s)
    return latest


def read_cosignature_time(signature: note.Signature) -> int | None:
    """Read the time in a cosignature, without believing it.

    Args:
        signature: A signature line whose name and key id are a cosigner's.

    Returns:
        The time in seconds since 1970 (POSIX); None if the signature hasn't the form of a cosignature.

    Example:
        >>> read_cosignature_time(note.Signature("witness.example/w1", bytes(4), bytes([0] * 7 + [9] + [0] * 64)))
        9
    """
    if len(signature.signature) != _SIGNATURE_SIZE:
        return None
    time_s = int.from_bytes(signature.signature[:_TIME_SIZE], "big")
    return time_s if time_s <= MAX_TIME else None


def _frame_text(text: str, time_s: int) -> str:
    return f"cosignature/v1\ntime {time_s}\n{text}"


def _say_type(kind: int) -> str:
    if kind == 1:
        return "this is the key of a log, not of a witness"
    if kind == 6:
        return "cosignatures with ML-DSA-44 aren't known to this version"
    return "give the key of kind cosignature/v1"
