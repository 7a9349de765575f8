"""Rotation of a store's keys: a new root, a new signing key, and a signed commit that says so.

The old signing key vouches for the new one in that commit (`auditkit.store.keychange`), and both sign its checkpoint.
The key file is changed first and keeps the old signing key until the commit is published; a rotation that is
interrupted in between is finished by the next sealing.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditkit.errors import UsageError
from auditkit.keys import Keys
from auditkit.store import continuation, durable
from auditkit.store.description import read_description
from auditkit.store.keyring import KeepRoot, KeyFile
from auditkit.store.layout import Layout


@dataclass(frozen=True)
class RotationResult:
    """What one rotation did.

    Attributes:
        commit: Number of the commit that says so.
        old_public_key: The verifier key before, None if the store had never been sealed.
        public_key: The verifier key from here on.
        first_number: The first number that is drawn under the new root, None if the root stayed.
    """

    commit: int
    old_public_key: str | None
    public_key: str
    first_number: int | None


def rotate_keys(
    layout: Layout, keys: Keys, keep_root: KeepRoot | None = None, *, root: bool = True, sign: bool = True
) -> RotationResult:
    """Replace a store's keys. What was recorded and signed before stays valid.

    A process that records goes on under the key it drew until its next writer begins: at midnight (UTC), or when it is
    started again.

    Args:
        layout: The store's paths.
        keys: The store's keys, in a key file.
        keep_root: For a forward-secure key file: what puts the new root away.
        root: Whether the root is replaced, from which the keys of writers and commits follow.
        sign: Whether the signing key is replaced.

    Returns:
        What was done.

    Raises:
        UsageError: If there is nothing to replace, or the keys come from a given secret.
        KeyProblem: If the key file can't be written, is an offline one or an older copy.
        StoreDamaged: If the ledger can't be continued.
    """
    if not isinstance(keys, KeyFile):
        raise UsageError(
            "expected a store with a key file, found one with a given secret: whoever holds that secret has every key "
            "of the store, past and future. Begin a new store with a new secret, and keep the old one to verify"
        )
    if not root and not sign:
        raise UsageError("expected the root, the signing key or both to be replaced, found neither")
    description = read_description(layout)
    with durable.hold_lock(layout.seal_lock):
        state = continuation.load_own_state(layout, description.store, keys)
        before = state = continuation.finish_change(layout, state, keys)
        keys.renew(keep_root, root=root, sign=sign)
        first = keys.count_drawn(description.store) if root else None
        state = continuation.finish_change(layout, state, keys)
        if state is before:
            draft = continuation.draft_commit(continuation.ROTATION, detail=continuation.tell_roots(keys))
            state, _ = continuation.append_commit(layout, state, keys, draft)
        continuation.complete_description(layout, description, state)
    return RotationResult(state.number, before.verifier_key, str(state.verifier_key), first)
