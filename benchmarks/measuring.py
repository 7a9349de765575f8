"""What the benchmarks share: a figure, its target, and loops that are timed in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Figure:
    """One measured figure and what it must keep to.

    Attributes:
        name: What was measured.
        value: The figure in ``unit``.
        unit: Its unit.
        at_least: Smallest value that is good enough, None without a lower bound.
        at_most: Largest value that is good enough, None without an upper bound.
        note: What else there is to know.
    """

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g} {self.unit}"
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}"
        return ""


def time_in_turns(loops: dict[str, Callable[[int], None]], calls: int, turns: int) -> dict[str, list[float]]:
    """Time loops in turns: each turn runs every one once, so that what disturbs the machine disturbs all.

    Returns:
        For each loop the microseconds a call of every turn.
    """
    for run in loops.values():
        run(calls // 10)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, run in loops.items():
            start = perf_counter()
            run(calls)
            times[name].append((perf_counter() - start) / calls * 1e6)
    return times


def compare(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Give the median over the turns of how many times as long ``slow`` took."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """Run code in a fresh interpreter, with some variables set, and give what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    return done.stdout


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
