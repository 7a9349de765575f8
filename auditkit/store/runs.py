"""Runs: consecutive events of one writer, and how far each writer's chain has got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

MAX_DROPPED: Final = 1 << 40
"""Most events that one gap event is believed to stand for: more than a process can have recorded in a day."""


@dataclass
class Run:
    """Consecutive events of one writer in one segment.

    Attributes:
        writer: Id of the writer.
        first: Its first sequence number.
        last: Its last one.
        prev: Leaf of the event before the first, None if that event is lost.
        link: Leaf of the last event.
        closed: Whether the writer signed its end with it.
        next: The sequence number that must come next; larger than ``last + 1`` behind a gap event.
    """

    writer: str
    first: int
    last: int
    prev: bytes | None
    link: bytes
    closed: bool
    next: int


@dataclass
class Head:
    """Where a writer's chain has got to.

    Attributes:
        next: The sequence number that must come next.
        link: Leaf of its last event.
        closed: Whether the writer signed its end.
    """

    next: int
    link: bytes | None
    closed: bool


def read_dropped(details: str | None) -> int:
    """Read how many events a gap event stands for; 1 if it doesn't say."""
    try:
        dropped = orjson.loads(details or "{}").get("dropped", 1)
    except (orjson.JSONDecodeError, AttributeError):
        return 1
    return dropped if type(dropped) is int and 1 <= dropped <= MAX_DROPPED else 1
