"""Continuing the ledger: who holds the store's keys reads it as its own, and publishes the commit that follows.

The caller holds ``seal.lock``. A change of the public key that was begun and isn't in the ledger yet is told there
first, before any other commit: the key file keeps the old signing key until then.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from auditkit.chains import KeyTable
from auditkit.errors import KeyMismatch, StoreDamaged
from auditkit.keys import Keys
from auditkit.store import keychange, ledger
from auditkit.store.description import StoreDescription, set_public_key
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout
from auditkit.store.ledger import Commit, LedgerState, Retirement, SegmentEntry

ROTATION: Final = "key"
"""What a commit says as ``why`` when it tells that keys were replaced."""


def load_own_state(layout: Layout, store: str, keys: Keys) -> LedgerState:
    """Compute what the ledger says now, and make sure that each commit was made with the store's keys.

    Nobody continues a ledger that somebody else made. With the roots at hand each commit's MAC is checked; a
    forward-secure key file hasn't got them, and its own signatures must do.

    Args:
        layout: The store's paths.
        store: Id of the store.
        keys: The store's keys.

    Raises:
        StoreDamaged: If a commit is missing, unreadable, doesn't follow the one before, or isn't authentic, or if none
            is left of a store that was sealed.
        KeyMismatch: If the keys aren't the newest: those of an older copy of the key file.
    """
    drawn = keys.count_drawn(store)
    table = KeyTable(keys, drawn) if keys.list_roots() else None

    def judge(state: LedgerState, commit: Commit) -> Iterator[str]:
        if commit.why == ROTATION and drawn is not None and commit.key_n >= drawn:
            raise KeyMismatch(
                f"expected the keys with which commit {commit.number} of store {store} was made, when they were "
                f"rotated, found older ones in {keys!r}: restore the newest copy of the key file"
            )
        if table is not None:
            key = table.get(commit.key_n)
            if key is None or not ledger.verify_mac(commit.line, store, key):
                yield "expected the MAC of the store's key, found another"
        elif not _is_signed(state, commit):
            yield "expected a note signed with the store's key, found none"

    state = ledger.load_state(layout, store, judge=judge)
    _find_pending(state, keys)
    return state


def _is_signed(state: LedgerState, commit: Commit) -> bool:
    signed = keychange.verify_note_in(state, commit.checkpoint, ledger.list_verifier_keys(state, commit))
    changed = commit.keys is not None and state.verifier_key is not None
    return signed and not (changed and not keychange.verify_change(state.store, commit.keys or {}))


def _find_pending(state: LedgerState, keys: Keys) -> bytes | None:
    """Give the seed of the old signing key if the ledger doesn't say yet that it was replaced.

    Raises:
        KeyMismatch: If the ledger's public key is neither that of the keys nor the one they had before.
    """
    if state.verifier_key in (None, keychange.derive_verifier_key(state.store, keys.signing_seed)):
        return None
    retiring = keys.retiring_seed
    if retiring is None or state.verifier_key != keychange.derive_verifier_key(state.store, retiring):
        raise KeyMismatch(
            f"expected the key that signs the checkpoints of store {state.store} ({state.verifier_key}), found another "
            f"in {keys!r}: an older copy of the key file, or another's ledger"
        )
    return retiring


def finish_change(layout: Layout, state: LedgerState, keys: Keys) -> LedgerState:
    """Finish what a killed process began: tell of a new signing key and forget the old one, remove what was retired.

    Args:
        layout: The store's paths.
        state: What the ledger says, as `load_own_state` gave it.
        keys: The store's keys.

    Returns:
        The state from which the next commit is made.
    """
    retiring = _find_pending(state, keys)
    if retiring is not None:
        new = keychange.derive_verifier_key(state.store, keys.signing_seed)
        draft = draft_commit(ROTATION, detail=tell_roots(keys), keys=keychange.endorse_key(state.store, retiring, new))
        state, _ = append_commit(layout, state, keys, draft, [retiring, keys.signing_seed])
    if isinstance(keys, KeyFile) and keys.retiring_seed is not None:
        keys.retire()
    remove_retired(layout, state)
    return state


def remove_retired(layout: Layout, state: LedgerState) -> None:
    """Remove the files of segments that the ledger has retired; repeating it after a crash gives the same result.

    Args:
        layout: The store's paths.
        state: What the ledger says.

    Raises:
        StoreDamaged: If their folder leads out of the store.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in state.retired:
        layout.staged(path).unlink(missing_ok=True)
        file = layout.segment(path)
        folders[file.parent].append(file)
    for folder, files in folders.items():
        if not folder.is_dir():
            continue
        for each in (layout.events, folder):
            if each.is_symlink():
                raise StoreDamaged(
                    f"expected a folder of the store at {each}, found a symbolic link: replace it by the folder itself"
                )
        for file in files:
            file.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def tell_roots(keys: Keys) -> str | None:
    """Say where the newest root begins, for people: a verifier has the roots themselves."""
    starts = [n for n, _ in keys.list_roots()][1:] or keys.list_skipped()[1:]
    return f"the newest root begins at number {starts[-1]}" if starts else None


def draft_commit(
    why: str,
    *,
    detail: str | None = None,
    add: Iterable[SegmentEntry] = (),
    retired: Iterable[Retirement] = (),
    keys: dict[str, str | None] | None = None,
) -> Commit:
    """Draft a commit: its place in the ledger, its key and its signature come when it is appended.

    Args:
        why: ``seal``, ``retain`` or ``key``.
        detail: A remark.
        add: Segments that come in.
        retired: Segments that go out, each with the reason.
        keys: A change of the public key.
    """
    retired = tuple(retired)
    return Commit(
        number=0,
        time=time.time_ns() // 1000,
        key_n=0,
        why=why,
        detail=detail,
        prev_root=b"",
        first_leaf=0,
        add=tuple(add),
        remove=tuple(retirement.path for retirement in retired),
        keys=keys,
        retired=retired,
    )


def append_commit(
    layout: Layout, state: LedgerState, keys: Keys, draft: Commit, seeds: Sequence[bytes] | None = None
) -> tuple[LedgerState, Commit]:
    """Publish the commit that follows a state.

    Args:
        layout: The store's paths.
        state: What the ledger says, as `finish_change` gave it.
        keys: The store's keys; one number is drawn.
        draft: Its content, from `draft_commit`.
        seeds: Seeds of the keys that sign its note, if not the signing key alone.

    Returns:
        The state with it, and the commit.

    Raises:
        StoreDamaged: If it doesn't follow the ledger, or its number was taken meanwhile.
    """
    number, key = keys.draw()
    seeds = seeds or [keys.signing_seed]
    change = draft.keys
    if state.verifier_key is None:
        change = {"old": None, "new": keychange.derive_verifier_key(state.store, seeds[-1]), "old_signature": None}
    commit = replace(
        draft, number=state.number + 1, key_n=number, prev_root=state.root, first_leaf=state.size, keys=change
    )
    commit = ledger.make_commit(state, commit, key, seeds)
    # What every reader will refuse must never be published: nothing can be sealed behind it.
    ledger.parse_commit(ledger.format_commit(commit))
    faults = ledger.check_commit(state, commit)
    if faults:
        raise StoreDamaged(f"expected a commit that follows the ledger, found one that doesn't: {faults[0]}")
    if not ledger.publish_commit(layout, commit):
        raise StoreDamaged(
            f"expected ledger commit {commit.number} of {layout.root} to be free, found it taken: another process "
            "seals without the lock; seal again"
        )
    return ledger.apply_commit(state, commit), commit


def complete_description(layout: Layout, description: StoreDescription, state: LedgerState) -> None:
    """Fill in the public key in ``store.json``: behind the first commit, and where it has changed.

    Another than one that the ledger names stays, as evidence that somebody put it there.
    """
    if state.verifier_key is None or description.public_key == state.verifier_key:
        return
    changes = (commit.keys for commit in ledger.read_commits(layout) if commit.keys is not None)
    if description.public_key is None or any(change["new"] == description.public_key for change in changes):
        set_public_key(layout, description, state.verifier_key)
