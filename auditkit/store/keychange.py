"""Changes of the public key: the old key vouches for the new one, in a signature that stands by itself.

The commit that changes the key holds ``{"old": …, "new": …, "old_signature": …}``; the signature is base64 of Ed25519
(RFC 8032) by the old key over four lines, each with its newline::

    auditkit/1 key change
    auditkit/<store>
    <old verifier key>
    <new verifier key>

So whoever trusts the old key and is given these three values may trust the new one, without seeing the ledger.
"""

from __future__ import annotations

import base64

from auditkit import note
from auditkit.errors import StoreDamaged
from auditkit.store.ledger import LedgerState, name_origin

_HEAD = "auditkit/1 key change"


def derive_verifier_key(store: str, seed: bytes) -> str:
    """Derive the verifier key of a store from the seed of its signing key.

    Args:
        store: Id of the store.
        seed: 32 bytes.

    Raises:
        ExtraMissing: If ``cryptography`` isn't installed.

    Example:
        >>> derive_verifier_key("k3f9", bytes(32))
        'auditkit/k3f9+ace70478+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop'
    """
    return note.format_verifier_key(name_origin(store), note.derive_public_key(seed))


def endorse_key(store: str, old_seed: bytes, new: str) -> dict[str, str | None]:
    """Let the old key vouch for the new one.

    Args:
        store: Id of the store.
        old_seed: Seed of the key that retires, 32 bytes.
        new: The verifier key from here on.

    Returns:
        What a commit says as ``keys``.

    Example:
        >>> verify_change("k3f9", endorse_key("k3f9", bytes(32), derive_verifier_key("k3f9", bytes([1] * 32))))
        True
    """
    old = derive_verifier_key(store, old_seed)
    signature = note.sign_text(_format_change(store, old, new), name_origin(store), old_seed)
    return {"old": old, "new": new, "old_signature": base64.b64encode(signature.signature).decode("ascii")}


def verify_change(store: str, change: dict[str, str | None]) -> bool:
    """Tell whether the old key vouches for the new one.

    Args:
        store: Id of the store.
        change: What a commit says as ``keys``; may be hostile.

    Raises:
        ExtraMissing: If ``cryptography`` isn't installed.
    """
    old, new, encoded = change["old"], change["new"], change["old_signature"]
    if old is None or new is None or encoded is None:
        return False
    try:
        key = note.parse_verifier_key(old)
        if key.name != name_origin(store) or note.parse_verifier_key(new).name != name_origin(store):
            return False
        raw = base64.b64decode(encoded, validate=True)
    except (StoreDamaged, ValueError):
        return False
    signed = note.Note(_format_change(store, old, new), (note.Signature(key.name, key.key_id, raw),))
    return base64.b64encode(raw).decode("ascii") == encoded and note.verify_note(signed, key)


def _format_change(store: str, old: str, new: str) -> str:
    return "".join(f"{line}\n" for line in (_HEAD, name_origin(store), old, new))


def follow_keys(changes: list[dict[str, str | None]], store: str, trusted: str) -> str | None:
    """Follow the changes of a store's key from the one that is trusted to the newest.

    A key that was in force before the trusted one needs nobody to vouch for it: the trusted one signed the tree in
    which everything before it stands.

    Args:
        changes: What the commits say as ``keys``, in their order, the first one's included.
        store: Id of the store.
        trusted: The verifier key from a source outside the store.

    Returns:
        The newest key that the trusted one vouches for; None if no commit names the trusted one.
    """
    newest: str | None = None
    for change in changes:
        if newest is None:
            newest = trusted if trusted in (change["old"], change["new"]) else None
        if newest is not None and change["old"] == newest:
            if not verify_change(store, change):
                return newest
            newest = change["new"]
    return newest


def verify_note_in(state: LedgerState, checkpoint: str, verifier_keys: list[str]) -> bool:
    """Tell whether a commit's note holds under each of the keys that must have signed it.

    Args:
        state: What the ledger says before the commit.
        checkpoint: The note.
        verifier_keys: Those of `auditkit.store.ledger.list_verifier_keys`; with none, nothing holds.
    """
    try:
        parsed = note.parse_note(checkpoint)
        return bool(verifier_keys) and all(
            note.parse_verifier_key(key).name == state.origin and note.verify_note(parsed, key) for key in verifier_keys
        )
    except StoreDamaged:
        return False
