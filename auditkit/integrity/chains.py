"""Chains: which of a writer's stored events are the ones it signed.

Each MAC covers the leaf of the event before. So one valid MAC proves two things: its own event, and that the event
before it is unchanged. A changed event therefore has neighbours that can still be proved: the one behind it by the MAC
that follows. Only what neither its own MAC, nor the next one, nor the ledger's link vouches for is accused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditkit.event import LINE_TAIL_BYTES
from auditkit.keys import Keys, derive_writer_key, prepare_hmac, ratchet_epoch

MAX_EPOCH_STEPS = 1_000_000
"""Most ratchet steps that are taken for one event: a forged epoch mustn't keep a verifier busy."""


class WriterKeys:
    """The signing keys of a store's writers, derived when they are needed.

    Args:
        store: Id of the store.
        keys: Where K[n] comes from.
    """

    def __init__(self, store: str, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._first: dict[str, bytes] = {}
        self._latest: dict[str, tuple[int, bytes]] = {}
        self._prepared: tuple[str, int, tuple[hashlib._Hash, hashlib._Hash]] | None = None

    def prepare(self, numbers: dict[str, int]) -> None:
        """Derive W[n,0] for writers whose n is known."""
        new = {writer: n for writer, n in numbers.items() if writer not in self._first}
        found = self._keys.find(set(new.values()))
        for writer, n in new.items():
            if n in found:
                self._first[writer] = derive_writer_key(found[n], self._store, writer)

    def knows(self, writer: str) -> bool:
        """Tell whether a writer's key is at hand."""
        return writer in self._first

    def find_states(self, writer: str, epoch: int) -> tuple[hashlib._Hash, hashlib._Hash] | None:
        """Give the prepared HMAC states of a writer's epoch, None if they can't be derived."""
        if self._prepared is not None and self._prepared[0] == writer and self._prepared[1] == epoch:
            return self._prepared[2]
        if writer not in self._first:
            return None
        at, key = self._latest.get(writer, (0, self._first[writer]))
        if epoch < at:
            at, key = 0, self._first[writer]
        if epoch - at > MAX_EPOCH_STEPS:
            return None
        while at < epoch:
            key = ratchet_epoch(key)
            at += 1
        self._latest[writer] = (at, key)
        self._prepared = (writer, epoch, prepare_hmac(key))
        return self._prepared[2]


@dataclass(frozen=True)
class Row:
    """One stored event as the chain sees it."""

    seq: int
    epoch: int
    mac: bytes | None
    line: bytes
    time_us: int


def check_macs(
    writer_keys: WriterKeys, writer: str, rows: Sequence[Row], leaves: Sequence[bytes], prev: bytes | None
) -> list[bool]:
    """Tell for each of a writer's rows whether its MAC holds over the row before and itself.

    Args:
        writer_keys: The signing keys; they know the writer.
        writer: Id of the writer.
        rows: Its rows in stored order.
        leaves: Their leaves, computed from what is stored.
        prev: Leaf that the first row chains to, None if unknown.
    """
    valid = []
    for row, before in zip(rows, [prev, *leaves], strict=False):
        states = None if before is None or row.mac is None else writer_keys.find_states(writer, row.epoch)
        if states is None or before is None or row.mac is None:
            valid.append(False)
            continue
        inner, outer = states[0].copy(), states[1].copy()
        inner.update(before + row.line[:-LINE_TAIL_BYTES] + b"}")
        outer.update(inner.digest())
        valid.append(hmac.compare_digest(outer.digest(), row.mac))
    return valid


def find_unproved(valid: Sequence[bool], seqs: Sequence[int], last_proved: bool) -> list[int]:
    """List the places of the rows that nothing vouches for.

    Args:
        valid: Whether each row's own MAC holds.
        seqs: The rows' sequence numbers.
        last_proved: Whether something else vouches for the last row's leaf: the ledger's link.

    Example:
        The event with seq 2 was changed: its own MAC fails, and so does the next one, but seq 3 is proved by seq 4.

        >>> find_unproved([True, True, False, False, True], [0, 1, 2, 3, 4], last_proved=False)
        [2]
    """
    unproved = []
    end = len(valid) - 1
    for place, holds in enumerate(valid):
        if holds:
            continue
        # A MAC that holds was made over the row stored before it, whatever its number: behind a gap event it isn't + 1.
        follower = place < end and valid[place + 1] and seqs[place + 1] > seqs[place]
        if not follower and not (place == end and last_proved):
            unproved.append(place)
    return unproved


def group_ranges(places: Iterable[int]) -> list[tuple[int, int]]:
    """Join neighbouring places to ranges, both ends included.

    Example:
        >>> group_ranges([1, 2, 3, 7])
        [(1, 3), (7, 7)]
    """
    ranges: list[tuple[int, int]] = []
    for place in places:
        if ranges and place == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], place)
        else:
            ranges.append((place, place))
    return ranges
