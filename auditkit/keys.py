"""Keys: how they are derived and ratcheted. Pure; `auditkit.store.keyring` keeps them, outside the store.

::

    K[0]     root of the store, 32 random bytes, or derived from a secret the application gives
    K[n+1] = HMAC(K[n], "auditkit/1 next")                       one n for each writer and each commit
    K[m]     another root, 32 random bytes, where the key was rotated
    W[n,0] = HMAC(K[n], "auditkit/1 writer" 0x00 store 0x00 writer)
    W[n,e+1] = HMAC(W[n,e], "auditkit/1 epoch")
    C[n]   = HMAC(K[n], "auditkit/1 commit" 0x00 store)

HMAC is HMAC-SHA-256 (RFC 2104). `n` is drawn from the key file under a lock, so that two processes never share a
writer's key. A given secret has no file to count in, and whoever holds the environment holds the root anyway: there n
stays 0 and writers are told apart by their names alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final, Protocol

from auditkit.errors import UsageError

MIN_SECRET_BYTES: Final = 16
"""Shortest secret that is taken: shorter ones can be guessed from one signed event."""

MAX_NUMBER: Final = 1 << 20
"""Largest key number that is believed if fewer were drawn: reaching a key costs a microsecond a number."""

_NEXT = b"auditkit/1 next"
_EPOCH = b"auditkit/1 epoch"
_WRITER = b"auditkit/1 writer"
_COMMIT = b"auditkit/1 commit"
_ROOT = b"auditkit/1 root"
_SIGN = b"auditkit/1 sign"
_ID = b"auditkit/1 id"
_SURROGATE = re.compile("[\ud800-\udfff]")


def _derive(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, label, "sha256")


def ratchet_key(key: bytes) -> bytes:
    """Compute K[n+1] from K[n].

    Example:
        >>> ratchet_key(bytes(32)).hex()[:16]
        '6821ddb1ca130cac'
    """
    return _derive(key, _NEXT)


def derive_writer_key(key: bytes, store: str, writer: str) -> bytes:
    """Derive W[n,0], the first key of a writer, from K[n]."""
    return _derive(key, b"\0".join((_WRITER, store.encode(), writer.encode())))


def ratchet_epoch(key: bytes) -> bytes:
    """Compute W[n,e+1] from W[n,e]."""
    return _derive(key, _EPOCH)


def derive_commit_key(key: bytes, store: str) -> bytes:
    """Derive C[n], the key of one ledger commit, from K[n]."""
    return _derive(key, b"\0".join((_COMMIT, store.encode())))


def identify_key(root: bytes) -> str:
    """Name a root key without giving it away: 16 hexadecimal digits that the store may show.

    Example:
        >>> identify_key(bytes(32))
        'e3c575d469f1a5a6'
    """
    return _derive(root, _ID)[:8].hex()


def prepare_hmac(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Prepare HMAC-SHA-256 under one key as two keyed hash states to copy (RFC 2104, section 4).

    Copying the states costs 1.2 µs a MAC where `hmac.digest` costs 2.8.

    Args:
        key: At most 64 bytes.

    Returns:
        The inner and the outer state. ``MAC = outer(inner(message))``.

    Example:
        >>> inner, outer = prepare_hmac(b"k" * 32)
        >>> inner.update(b"message")
        >>> outer.update(inner.digest())
        >>> outer.digest() == hmac.digest(b"k" * 32, b"message", "sha256")
        True
    """
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block))
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block))
    return inner, outer


def _encode_secret(secret: object) -> bytes:
    # What is wrong is never shown, nor carried by an exception: those of an encoding hold the text they failed at.
    if isinstance(secret, bytes):
        return secret
    if not isinstance(secret, str):
        raise UsageError(f"expected a secret key as text or bytes, found a value of type {type(secret).__name__}")
    if _SURROGATE.search(secret):
        raise UsageError("expected a secret key in text that UTF-8 can hold, found a lone surrogate: give bytes")
    return secret.encode()


class Keys(Protocol):
    """Where a store's keys come from."""

    @property
    def key_id(self) -> str:
        """Public name of the root key."""

    def draw(self) -> tuple[int, bytes]:
        """Take the next ``n`` and K[n]; no other process gets the same ``n`` from a key file."""

    def find(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Give K[n] for each number that can be given."""

    def count_drawn(self, store: str) -> int | None:
        """Say how many keys were drawn for a store, None if they aren't counted for it alone."""

    def list_roots(self) -> list[tuple[int, bytes]]:
        """List the roots as ``(n, K[n])``, from which the keys up to the next root follow; none without the past."""

    def list_skipped(self) -> list[int]:
        """List the numbers that nobody signs with, though later ones were drawn."""

    @property
    def signing_seed(self) -> bytes:
        """Seed of the Ed25519 key that signs checkpoints, 32 bytes."""

    @property
    def retiring_seed(self) -> bytes | None:
        """Seed of the key that signed them before, while the ledger doesn't say yet that it was replaced."""

    def to_secret(self) -> dict[str, str]:
        """Describe the source to a child process over a pipe; holds secrets."""


class GivenKey:
    """The keys of a secret that the application gives (``secret_key=`` or ``$AUDITKIT_KEY``).

    Without a ``__dict__``, so that whatever prints an object's variables prints no secret.

    Args:
        secret: At least 16 bytes; text is taken as UTF-8.

    Raises:
        UsageError: If the secret is neither text nor bytes, or is too short.

    Example:
        >>> keys = GivenKey("correct horse battery staple")
        >>> keys
        GivenKey(key_id='26889c6296e06b70')
        >>> keys.draw()[0]
        0
    """

    __slots__ = ("_root", "_secret", "key_id")

    def __init__(self, secret: str | bytes) -> None:
        raw = _encode_secret(secret)
        if len(raw) < MIN_SECRET_BYTES:
            raise UsageError(
                f"expected a secret key of at least {MIN_SECRET_BYTES} bytes, found {len(raw)}: "
                "make one with `python -c 'import secrets; print(secrets.token_hex(32))'`"
            )
        self._secret = raw
        self._root = _derive(raw, _ROOT)
        self.key_id = identify_key(self._root)

    def __repr__(self) -> str:
        return f"GivenKey(key_id={self.key_id!r})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")

    def draw(self) -> tuple[int, bytes]:
        """Give ``(0, K[0])``: a given secret isn't ratcheted."""
        return 0, self._root

    def find(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Give K[0] if it is asked for."""
        return {0: self._root} if 0 in numbers else {}

    def count_drawn(self, store: str) -> int | None:
        """Give None: a given secret isn't counted."""
        return None

    def list_roots(self) -> list[tuple[int, bytes]]:
        """Give K[0], the only root."""
        return [(0, self._root)]

    def list_skipped(self) -> list[int]:
        """Give nothing: no number but 0 is drawn."""
        return []

    @property
    def signing_seed(self) -> bytes:
        """Seed of the Ed25519 key that signs checkpoints, 32 bytes."""
        return _derive(self._root, _SIGN)

    @property
    def retiring_seed(self) -> None:
        """Give None: another seed would need another secret."""

    def to_secret(self) -> dict[str, str]:
        """Describe the source to a child process over a pipe; holds the secret."""
        return {"secret": self._secret.hex()}
