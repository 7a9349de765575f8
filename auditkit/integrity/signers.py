"""Which key must have signed a commit, where the ledger has a hole.

In a whole ledger each commit says which key is in force. Behind a missing or damaged commit that may have changed, so
the changes on both sides of the hole are asked: a key that two of them agree on is the one, a key that was retired
before can't come back, and of one that nobody knows nothing can be told.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.integrity.inspection import Inspection
from auditkit.store import keychange, ledger
from auditkit.store.ledger import Commit, LedgerState


@dataclass
class SignerHistory:
    """The changes of the public key that can be believed, by the numbers of their commits."""

    numbers: list[int] = field(default_factory=list)
    changes: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def known(self) -> set[str]:
        """Every key that one of them names."""
        named = {key for change in self.changes for key in (change["old"], change["new"])}
        return {key for key in named if key is not None}

    def find_keys(self, number: int, trusted: str | None, holes: set[int]) -> tuple[set[str], bool]:
        """Find the keys that may be in force at a commit.

        Args:
            number: Number of the commit.
            trusted: The key from outside the store.
            holes: Numbers of the commits of which nothing is known.

        Returns:
            The keys, and whether there can be no other.
        """
        place = bisect_right(self.numbers, number)
        before = self.changes[place - 1]["new"] if place else None
        after = self.changes[place]["old"] if place < len(self.changes) else None
        first = self.numbers[place - 1] if place else 0
        last = self.numbers[place] if place < len(self.numbers) else None
        if before is not None and not any(first < hole < number for hole in holes):
            return {before}, True
        if last is not None and after is not None and not any(number < hole < last for hole in holes):
            return {after}, True
        keys = {before, after} | ({trusted} if trusted not in self.known else set())
        return {key for key in keys if key is not None}, before is not None and before == after


def read_history(check: Inspection) -> SignerHistory:
    """Read the changes of the public key from all commits that are there, each believed for itself.

    With the secret key its MAC must hold, otherwise its note under the keys it names, the old one vouching for the new.
    """
    history = SignerHistory()
    for number in check.list_commits():
        try:
            commit = ledger.read_commit(check.layout, number)
        except (StoreDamaged, FormatUnknown, OSError):
            continue  # told where it is checked
        if commit.keys is not None and commit.number == number and _is_believed(check, commit):
            history.numbers.append(number)
            history.changes.append(commit.keys)
    return history


def _is_believed(check: Inspection, commit: Commit) -> bool:
    store = check.description.store
    if check.table is not None:
        key = check.table.get(commit.key_n)
        return key is not None and ledger.verify_mac(commit.line, store, key)
    if commit.keys is None or (commit.keys["old"] is not None and not keychange.verify_change(store, commit.keys)):
        return False
    named = [key for key in (commit.keys["old"], commit.keys["new"]) if key is not None]
    return keychange.verify_note_in(LedgerState(store), commit.checkpoint, named)


def judge_note(
    check: Inspection, history: SignerHistory, commit: Commit, number: int, holes: set[int]
) -> Literal["signed", "unsigned", "unknown"]:
    """Judge the note of a commit behind a hole.

    Returns:
        ``signed`` if it holds under a key that may be in force there, ``unknown`` if a key may have signed it of which
        the ledger says nothing any more, otherwise ``unsigned``.
    """
    state = LedgerState(check.description.store)
    keys, only = history.find_keys(number, check.public_key, holes)
    if commit.keys is not None:
        new = commit.keys["new"]
        named = [key for key in (commit.keys["old"], new) if key is not None]
        signed = keychange.verify_note_in(state, commit.checkpoint, named)
        return "signed" if signed and number in history.numbers else "unsigned"
    if any(keychange.verify_note_in(state, commit.checkpoint, [key]) for key in keys):
        return "signed"
    # A key that was retired, or isn't in force yet, signs nothing here.
    known = any(keychange.verify_note_in(state, commit.checkpoint, [key]) for key in history.known - keys)
    said = check.description.public_key
    unseen = bool(check.absent) or (said is not None and said not in history.known | {check.public_key})
    return "unknown" if unseen and not only and not known else "unsigned"
