"""Chains: which of a writer's stored events are the ones it signed.

Each MAC covers the leaf of the event before. So one valid MAC proves two things: its own event, and that the event
before it is unchanged. A changed event therefore has neighbours that can still be proved: the one behind it by the MAC
that follows. Only what neither its own MAC, nor the next one, nor the ledger's link vouches for is accused.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from auditkit.event import LINE_TAIL_BYTES, MAC_HEAD, MAC_TAIL
from auditkit.keys import MAX_NUMBER, GivenKey, Keys, derive_writer_key, prepare_hmac, ratchet_epoch, ratchet_key

MAX_EPOCH: Final = 1 << 17
"""Largest epoch that is believed. A writer lives for one date, so this is more than one rotation a second; a forged
epoch mustn't keep a verifier busy."""

MAX_TRIALS: Final = 1 << 20
"""How many keys are tried in one verification for writers whose first event doesn't say which is theirs."""

MAX_STEPS: Final = 1 << 20
"""How many steps of ratchets one verification spends on epochs that jump: some seconds. Who forges a store of a
thousand writers in the last believed epoch mustn't keep a verifier busy for minutes."""

FREE_STEPS: Final = 16
"""How far an epoch may jump without being charged: honest epochs go up by one or two, however many events there are."""

_RUNG: Final = 64
_copy_leaf: Final = hashlib.sha256(b"\0").copy


class KeyTable:
    """K[n] by its number: every 64th behind a root is kept, and the others are a few steps from one.

    Args:
        keys: Where K[n] comes from.
        drawn: How many were drawn, None if that isn't counted.
        roots: The roots to take, if not those of the keys.
    """

    def __init__(self, keys: Keys, drawn: int | None, roots: Sequence[tuple[int, bytes]] | None = None) -> None:
        roots = keys.list_roots() if roots is None else roots
        self._starts = [start for start, _ in roots]
        self._rungs = [[root] for _, root in roots]
        newest = self._starts[-1] if self._starts else 0
        self._limit = 1 if isinstance(keys, GivenKey) else max(drawn or 0, newest + MAX_NUMBER)

    def get(self, number: int) -> bytes | None:
        """Give K[number], None for a number that can't have been drawn, or whose key is gone for good."""
        place = bisect_right(self._starts, number) - 1
        if place < 0 or number >= self._limit:
            return None
        rungs = self._rungs[place]
        wanted, rest = divmod(number - self._starts[place], _RUNG)
        while len(rungs) <= wanted:
            rungs.append(_ratchet(rungs[-1], _RUNG))
        return _ratchet(rungs[wanted], rest)


def _ratchet(key: bytes, steps: int) -> bytes:
    for _ in range(steps):
        key = ratchet_key(key)
    return key


class WriterKeys:
    """The signing keys of a store's writers, derived when they are needed.

    Args:
        store: Id of the store.
        table: Where K[n] comes from, None if all keys are adopted.
        max_steps: How many steps of ratchets are spent on epochs that jump; None for any number. A sealer needs them
            all: it sets aside what it can't prove.

    Attributes:
        proved: The writers of which a MAC has held under their key.
        unreached: For each writer that asked for more than was left, the lowest epoch whose key wasn't derived.
    """

    def __init__(self, store: str, table: KeyTable | None, max_steps: int | None = None) -> None:
        self._store = store
        self._table = table
        self._steps_left = max_steps
        self.unreached: dict[str, int] = {}
        self.proved: set[str] = set()
        self._first: dict[str, bytes] = {}
        self._reached: dict[str, tuple[int, bytes]] = {}
        self._epochs: tuple[str, int, list[bytes]] = ("", 0, [])
        self._prepared: tuple[str, int, tuple[hashlib._Hash, hashlib._Hash]] | None = None
        self._trials_left = MAX_TRIALS

    def prepare(self, writer: str, number: int) -> None:
        """Derive W[n,0] of a writer; a later call for the same writer replaces it."""
        key = None if self._table is None else self._table.get(number)
        if key is not None:
            self._first[writer] = derive_writer_key(key, self._store, writer)
            self._reached.pop(writer, None)
            self._epochs, self._prepared = ("", 0, []), None

    def adopt(self, writer: str, key: bytes) -> None:
        """Take W[n,0] of a writer from whoever derived it; a helper isn't given the keys it is derived from."""
        self._first[writer] = key
        self._reached.pop(writer, None)
        self._epochs, self._prepared = ("", 0, []), None

    def affords(self, places: Iterable[tuple[str, int | None]]) -> bool:
        """Tell whether the steps that are left suffice to derive keys in this order; nothing is derived or spent.

        Args:
            places: Writers and epochs as `find_states` would be asked for them; None as the epoch stands for a
                `prepare` of the writer's key, after which it is known.
        """
        left, reached, known = self._steps_left, dict[str, int](), set[str]()
        current, start, end = self._epochs[0], self._epochs[1], self._epochs[1] + len(self._epochs[2]) - 1
        last = None if self._prepared is None else self._prepared[:2]
        for writer, epoch in places:
            if epoch is None:
                known.add(writer)
                reached[writer], current, last = 0, "", None
                continue
            if (writer, epoch) == last:
                continue
            if (writer not in self._first and writer not in known) or not 0 <= epoch <= MAX_EPOCH:
                return False
            if current != writer or epoch < start:
                start = reached.get(writer, self._reached.get(writer, (0, b""))[0])
                start = end = start if start <= epoch else 0
                current = writer
            cost = epoch - end - FREE_STEPS
            if cost > 0 and left is not None:
                left -= cost
                if left < 0:
                    return False
            end = max(end, epoch)
            reached[writer], last = epoch, (writer, epoch)
        return True

    def find_number(
        self, writer: str, numbers: Iterable[int], witnesses: Sequence[tuple[int, bytes, bytes]]
    ) -> int | None:
        """Find the number of a writer's key by trying: the one under which an event that is stored proves true.

        Args:
            writer: Id of the writer.
            numbers: Which numbers may be the one.
            witnesses: Epoch, message (leaf of the event before and the body) and MAC of some of its events, by epoch.

        Returns:
            The number, None if none of them fits.
        """
        for number in numbers:
            if self._trials_left <= 0:
                return None
            self._trials_left -= 1
            key = None if self._table is None else self._table.get(number)
            if key is None:
                continue
            at, key = 0, derive_writer_key(key, self._store, writer)
            for epoch, message, mac in witnesses:
                self._trials_left -= (epoch - at) >> 3
                while at < epoch:
                    at, key = at + 1, ratchet_epoch(key)
                if hmac.compare_digest(hmac.digest(key, message, "sha256"), mac):
                    return number
        return None

    def forget(self, writer: str) -> None:
        """Forget a writer's key, which turned out to prove nothing."""
        self._first.pop(writer, None)

    def knows(self, writer: str) -> bool:
        """Tell whether a writer's key is at hand."""
        return writer in self._first

    def find_states(self, writer: str, epoch: int) -> tuple[hashlib._Hash, hashlib._Hash] | None:
        """Give the prepared HMAC states of a writer's epoch, None if they can't be derived."""
        if self._prepared is not None and self._prepared[0] == writer and self._prepared[1] == epoch:
            return self._prepared[2]
        if writer not in self._first or not 0 <= epoch <= MAX_EPOCH:
            return None
        key = self._reach(writer, epoch)
        if key is None:
            self.unreached[writer] = min(epoch, self.unreached.get(writer, epoch))
            return None
        self._prepared = (writer, epoch, prepare_hmac(key))
        return self._prepared[2]

    def _reach(self, writer: str, epoch: int) -> bytes | None:
        """Ratchet to a writer's epoch from the last one that was asked for; None if it would cost more than is left."""
        if self._epochs[0] != writer or epoch < self._epochs[1]:
            start, key = self._reached.get(writer, (0, self._first[writer]))
            if epoch < start:
                start, key = 0, self._first[writer]
            self._epochs = (writer, start, [key])
        _, start, keys = self._epochs
        cost = epoch - start - len(keys) + 1 - FREE_STEPS
        if cost > 0 and self._steps_left is not None:
            if cost > self._steps_left:
                return None
            self._steps_left -= cost
        while len(keys) <= epoch - start:
            keys.append(ratchet_epoch(keys[-1]))
        self._reached[writer] = (epoch, keys[epoch - start])
        return keys[epoch - start]


def read_number(details: str | None) -> int | None:
    """Read which key a writer signs with from the details of its first event; None if they don't say.

    Example:
        >>> read_number('{"n":7}')
        7
    """
    try:
        number = orjson.loads(details or "{}").get("n")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


@dataclass(frozen=True, slots=True)
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


def prove_lines(
    writer_keys: WriterKeys,
    writer: str,
    lines: Sequence[bytes],
    epochs: Sequence[int],
    prev: bytes,
    macs: bytes | None = None,
) -> list[bytes] | None:
    """Prove in one pass that each of a writer's lines has a MAC that holds over the one before it.

    It tells nothing about a line that doesn't; `check_macs` and `find_unproved` do.

    Args:
        writer_keys: The signing keys.
        writer: Id of the writer.
        lines: Its lines, without newlines, one following the other in the chain.
        epochs: Their epochs.
        prev: Leaf that the first line chains to.
        macs: The MACs with which the lines end, 32 bytes each, one after the other: where they are known from a column,
            the lines needn't be read for them.

    Returns:
        The lines' leaves; None if one of them isn't proved, an epoch goes down, or the key isn't known.
    """
    leaves: list[bytes] = []
    signed: list[bytes] = []
    current, agreed = -1, 0
    for line, epoch in zip(lines, epochs, strict=True):
        if epoch < current:
            return None
        if epoch != current:
            # No step is spent on a key before all that comes earlier is proved.
            if not _agree(signed, lines, macs, agreed):
                return None
            agreed = len(signed)
            states = writer_keys.find_states(writer, epoch)
            if states is None:
                return None
            current, copy_inner, copy_outer = epoch, states[0].copy, states[1].copy
        inner = copy_inner()
        inner.update(prev + line[:-LINE_TAIL_BYTES] + b"}")
        outer = copy_outer()
        outer.update(inner.digest())
        signed.append(outer.digest())
        leaf = _copy_leaf()
        leaf.update(line)
        prev = leaf.digest()
        leaves.append(prev)
    return leaves if _agree(signed, lines, macs, agreed) else None


def _agree(signed: Sequence[bytes], lines: Sequence[bytes], macs: bytes | None, start: int) -> bool:
    """Tell whether the MACs that were computed so far are those of their lines, from one line on."""
    found = signed[start:]
    if macs is not None:
        return b"".join(found) == macs[32 * start : 32 * len(signed)]
    tails = (MAC_HEAD + mac.hex().encode() + MAC_TAIL for mac in found)
    return all(line.endswith(tail) for line, tail in zip(lines[start:], tails, strict=False))


def find_unproved(valid: Sequence[bool], follows: Sequence[bool], last_proved: bool) -> list[int]:
    """List the places of the rows that nothing vouches for.

    The ledger's link vouches for a last row only where its own MAC can't be judged, because the row before it is
    changed or gone. A sealer copies the link from the journal it finds: where the row before is sound, a MAC that fails
    says that the row was changed before it was sealed.

    Args:
        valid: Whether each row's own MAC holds.
        follows: Whether each row's predecessor in the chain is known: the row before it, or for the first the leaf that
            the ledger says it chains to.
        last_proved: Whether the last row's leaf is the ledger's link.

    Example:
        The second of five was changed: its own MAC fails, and so does the next one, but the third is proved by the
        fourth.

        >>> find_unproved([True, False, False, True, True], [True] * 5, last_proved=False)
        [1]
    """
    unproved = []
    end = len(valid) - 1
    for place, holds in enumerate(valid):
        if holds:
            continue
        # A MAC that holds was made over the row stored before it.
        follower = place < end and valid[place + 1]
        blind = not follows[place] or (place > 0 and not valid[place - 1])
        if not follower and not (place == end and last_proved and blind):
            unproved.append(place)
    return unproved


def find_moved(seqs: Sequence[int]) -> list[int]:
    """List the places of the fewest rows whose removal leaves the others in strictly rising order.

    What stays is a longest increasing subsequence: the rows that nobody need have moved.

    Example:
        >>> find_moved([0, 1, 7, 3, 4, 5, 6, 2, 8])
        [2, 7]
        >>> find_moved([0, 1, 1, 2])
        [1]
    """
    tails: list[int] = []
    ends: list[int] = []
    before: list[int | None] = []
    for place, seq in enumerate(seqs):
        length = bisect_left(tails, seq)
        tails[length : length + 1] = [seq]
        ends[length : length + 1] = [place]
        before.append(ends[length - 1] if length else None)
    kept = set()
    at = ends[-1] if ends else None
    while at is not None:
        kept.add(at)
        at = before[at]
    return [place for place in range(len(seqs)) if place not in kept]


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
