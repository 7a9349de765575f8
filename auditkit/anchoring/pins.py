"""Pins: the newest checkpoint that this user has seen of a store, kept in the user's own folder, outside the store.

Each verification compares the store with the pin and then pins what it has seen. So the next one finds that the store
was cut or replaced by an older copy, without anybody having done anything for it. Whoever can write to the user's state
folder can remove the pin; what nobody there can reach is a checkpoint kept elsewhere.

A pin is a JSON file ``<state folder>/auditkit/checkpoints/<store>.json``::

    {"auditkit":"pin","v":1,"store":…,"seen":…,"checkpoint":"<signed note>",
     "commits":[[n,size,"<root>",time,events,time_min,time_max], …]}

with the newest hundred commits, so that what is gone can be named. Times are microseconds since 1970.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from auditkit import note
from auditkit.errors import StoreDamaged
from auditkit.store import durable
from auditkit.store.ledger import name_origin
from auditkit.times import MAX_US, MIN_US

MAX_COMMITS: Final = 100
"""How many commits a pin names."""

_TRIES: Final = 40
_PAUSE_S: Final = 0.05

_MAX_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class PinnedCommit:
    """A commit as it was seen.

    Attributes:
        number: Its number.
        size: Size of the tree with it.
        root: Root of the tree with it, 32 bytes.
        time: When it was made, microseconds since 1970.
        events: How many events it added.
        time_min: Earliest time of those, None without events.
        time_max: Latest time of those.
    """

    number: int
    size: int
    root: bytes
    time: int
    events: int
    time_min: int | None = None
    time_max: int | None = None


@dataclass(frozen=True)
class Pin:
    """What a user has seen of a store.

    Attributes:
        store: Id of the store.
        seen: When, microseconds since 1970.
        checkpoint: The newest signed note.
        commits: The newest commits, the last of which is the one the checkpoint covers.
    """

    store: str
    seen: int
    checkpoint: str
    commits: tuple[PinnedCommit, ...]

    @property
    def newest(self) -> PinnedCommit:
        """The newest commit that was seen."""
        return self.commits[-1]


def locate_pin(store: str) -> Path:
    """Say where a user's pin of a store lies.

    Args:
        store: Id of the store.

    Raises:
        FileNotFoundError: If this user has no home folder, and nothing else names a state folder.

    Example:
        >>> locate_pin("k3f9").name
        'k3f9.json'
    """
    import platformdirs  # 6 ms that a process which only records needn't pay

    try:
        folder = Path(platformdirs.user_state_dir("auditkit", appauthor=False))
    except RuntimeError:  # as Path.home() does
        raise FileNotFoundError(errno.ENOENT, "This user has no home folder ($HOME, $XDG_STATE_HOME)") from None
    return folder / "checkpoints" / f"{store}.json"


def read_pin(store: str) -> Pin | None:
    """Read what this user has seen of a store; None if nothing is pinned.

    Args:
        store: Id of the store.

    Raises:
        StoreDamaged: If the file is there and isn't a pin of this store: it isn't passed over, as it may have been
            damaged to hide a removal.
        OSError: If it can't be read.
    """
    try:
        path = locate_pin(store)
        data = durable.read_regular(path, "a pinned checkpoint", _MAX_BYTES, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fields = orjson.loads(data)
        if fields["auditkit"] != "pin" or fields["v"] != 1 or fields["store"] != store:
            raise ValueError("another kind of file")
        pin = Pin(store, _time(fields["seen"]), fields["checkpoint"], tuple(map(_read_commit, fields["commits"])))
        told = note.parse_checkpoint(note.parse_note(pin.checkpoint).text)
        if told != note.Checkpoint(name_origin(store), pin.newest.size, pin.newest.root):
            raise ValueError("a checkpoint of another commit")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, StoreDamaged) as error:
        raise StoreDamaged(
            f"expected the pinned checkpoint of store {store} at {path}, found something else "
            f"({type(error).__name__}): find out who changed it, and compare the store with a checkpoint kept "
            "elsewhere; then remove the file"
        ) from error
    return pin


def write_pin(pin: Pin) -> None:
    """Pin what was seen, unless more of the same store was pinned meanwhile.

    Args:
        pin: What was seen.

    Raises:
        OSError: If it can't be written.
        StoreDamaged: If what lies there isn't a pin.
    """
    path = locate_pin(pin.store)
    durable.make_folder(path.parent)
    with _hold_pin(path):
        durable.remove_leftovers(path.parent, path.name)
        known = read_pin(pin.store)
        if known is None or known.newest.size < pin.newest.size:
            durable.replace_file(path, _dump(pin))


def replace_pin(pin: Pin) -> None:
    """Pin what was seen in the place of whatever was pinned: for a store that was restored from a backup.

    Args:
        pin: What was seen.

    Raises:
        OSError: If it can't be written.
    """
    path = locate_pin(pin.store)
    durable.make_folder(path.parent)
    with _hold_pin(path):
        durable.remove_leftovers(path.parent, path.name)
        durable.replace_file(path, _dump(pin))


def _hold_pin(path: Path) -> durable.FileLock:
    """Take a pin's lock; a verdict that is ready doesn't wait for ever for whoever holds it.

    Raises:
        TimeoutError: If another process keeps it.
    """
    for _ in range(_TRIES):
        lock = durable.hold_lock(path.with_name(f"{path.name}.lock"), wait=False)
        if lock:
            return lock
        lock.close()
        time.sleep(_PAUSE_S)
    raise TimeoutError(f"another process has held the lock of {path} for {_TRIES * _PAUSE_S:.0f} s")


def make_pin(store: str, checkpoint: str, commits: Sequence[PinnedCommit]) -> Pin:
    """Make the pin of what was just seen.

    Args:
        store: Id of the store.
        checkpoint: The newest signed note.
        commits: The commits, of which the newest are kept; the last is the one the checkpoint covers.
    """
    return Pin(store, time.time_ns() // 1000, checkpoint, tuple(commits[-MAX_COMMITS:]))


def _dump(pin: Pin) -> bytes:
    commits = [[c.number, c.size, c.root.hex(), c.time, c.events, c.time_min, c.time_max] for c in pin.commits]
    fields = {"auditkit": "pin", "v": 1, "store": pin.store, "seen": pin.seen, "checkpoint": pin.checkpoint}
    return orjson.dumps({**fields, "commits": commits}) + b"\n"


def _read_commit(fields: list[Any]) -> PinnedCommit:
    number, size, root, moment, events, time_min, time_max = fields
    times = (None if value is None else _time(value) for value in (time_min, time_max))
    return PinnedCommit(_count(number), _count(size), bytes.fromhex(root), _time(moment), _count(events), *times)


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(type(value).__name__)
    return value


def _time(value: object) -> int:
    if type(value) is not int or not MIN_US <= value <= MAX_US:
        raise TypeError(type(value).__name__)
    return value
