"""Measurements in memory: the figures of numpy, the last thousand, and a bound."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.measuring import MAX_OPERATIONS, WINDOW, Measurements, PerformanceStats

SECONDS = st.floats(0, 1e6)


@given(st.lists(SECONDS, min_size=1, max_size=300))
def test_the_figures_are_those_of_numpy(durations: list[float]) -> None:
    """Minimum, maximum, mean and the percentiles with linear interpolation are numpy's."""
    measurements = Measurements()
    for seconds in durations:
        measurements.add("op", seconds)
    stats = measurements.summarise("op")
    assert stats is not None
    assert stats.count == len(durations)
    assert (stats.min, stats.max) == (min(durations), max(durations))
    assert stats.mean == pytest.approx(np.mean(durations))
    assert [stats.p50, stats.p95, stats.p99] == pytest.approx(list(np.percentile(durations, [50, 95, 99])))
    assert stats.min <= stats.p50 <= stats.p95 <= stats.p99 <= stats.max


def test_one_measurement_is_all_of_the_figures() -> None:
    """With one measurement every figure is that one."""
    measurements = Measurements()
    measurements.add("op", 0.25)
    assert measurements.summarise("op") == PerformanceStats("op", 1, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25)


def test_only_the_last_thousand_count() -> None:
    """Older measurements leave the window."""
    measurements = Measurements()
    for number in range(3 * WINDOW):
        measurements.add("op", float(number))
    stats = measurements.summarise("op")
    assert stats is not None
    assert (stats.count, stats.min, stats.max) == (WINDOW, 2.0 * WINDOW, 3.0 * WINDOW - 1)


def test_an_operation_that_was_never_measured_has_no_figures() -> None:
    """None, not zeros."""
    assert Measurements().summarise("op") is None


def test_figures_as_a_dictionary() -> None:
    """The dictionary has the attributes in their order."""
    measurements = Measurements()
    measurements.add("op", 1.0)
    stats = measurements.summarise("op")
    assert stats is not None
    assert stats.to_dict() == asdict(stats)
    assert list(stats.to_dict()) == ["operation", "count", "min", "max", "mean", "p50", "p95", "p99"]


@pytest.mark.parametrize("extra", [0, 1, 500])
def test_operations_named_after_ids_do_not_fill_the_memory(extra: int) -> None:
    """At most so many operations are kept, the latest ones."""
    measurements = Measurements()
    for number in range(MAX_OPERATIONS + extra):
        measurements.add(f"op-{number}", 1.0)
    known = [number for number in range(MAX_OPERATIONS + extra) if measurements.summarise(f"op-{number}")]
    assert known == list(range(extra, MAX_OPERATIONS + extra))


def test_threads_lose_no_measurement() -> None:
    """Eight threads measure forty operations at once while another reads; every measurement counts."""
    measurements = Measurements()
    done = threading.Event()

    def measure(thread: int) -> None:
        for number in range(800):
            measurements.add(f"op-{number % 40}", float(thread))

    def read() -> None:
        while not done.is_set():
            for number in range(40):
                measurements.summarise(f"op-{number}")

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(measure, range(8)))
    done.set()
    reader.join()
    for number in range(40):
        stats = measurements.summarise(f"op-{number}")
        assert stats is not None
        assert (stats.count, stats.mean) == (160, 3.5)
