"""Measuring operations: the last measurements of each, in the process that made them."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Final

WINDOW: Final = 1000
"""How many measurements of an operation the statistics in memory look back on."""

MAX_OPERATIONS: Final = 10_000
"""How many operations are kept in memory: names made of ids mustn't grow without end."""


@dataclass(frozen=True)
class PerformanceStats:
    """Durations of one operation over its last measurements, in seconds.

    Attributes:
        operation: Name of the operation.
        count: How many measurements the figures are made of, at most `WINDOW`.
        min: Shortest.
        max: Longest.
        mean: Arithmetic mean.
        p50: Median; percentiles interpolate linearly (NumPy's default).
        p95: 95th percentile.
        p99: 99th percentile; with fewer than 100 measurements it says little more than the maximum.
    """

    operation: str
    count: int
    min: float
    max: float
    mean: float
    p50: float
    p95: float
    p99: float

    def to_dict(self) -> dict[str, str | int | float]:
        """Give the figures as a dictionary."""
        return asdict(self)


class Measurements:
    """The last measurements of each operation.

    Example:
        >>> measurements = Measurements()
        >>> for milliseconds in (1, 2, 3):
        ...     measurements.add("crm.sync", milliseconds / 1000)
        >>> measurements.summarise("crm.sync").p50
        0.002
    """

    def __init__(self) -> None:
        # No lock: one that another thread holds at a fork would stay locked in the child for ever.
        self._windows: dict[str, deque[float]] = {}

    def add(self, operation: str, seconds: float) -> None:
        """Add one measurement."""
        window = self._windows.get(operation)
        if window is None:
            for oldest in list(islice(self._windows, max(len(self._windows) - MAX_OPERATIONS + 1, 0))):
                self._windows.pop(oldest, None)
            window = self._windows.setdefault(operation, deque(maxlen=WINDOW))
        window.append(seconds)

    def summarise(self, operation: str) -> PerformanceStats | None:
        """Summarise an operation; None if it was never measured here."""
        window = self._windows.get(operation)
        if not window:
            return None
        durations = sorted(window.copy())
        return PerformanceStats(
            operation,
            count=len(durations),
            min=durations[0],
            max=durations[-1],
            mean=sum(durations) / len(durations),
            p50=_interpolate(durations, 0.50),
            p95=_interpolate(durations, 0.95),
            p99=_interpolate(durations, 0.99),
        )


def _interpolate(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
