"""Measuring operations: blocks, functions, coroutines and generators, in one thread or in many."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditkit import AuditLogger
from tests.recording import independent
from tests.recording.running import SECRET


@pytest.fixture
def audit(store: Path) -> Iterator[AuditLogger]:
    """A logger that seals nothing by itself."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as logger:
        yield logger


def read_events(audit: AuditLogger) -> list[dict[str, Any]]:
    return [
        line.fields
        for lines in independent.read_journal(audit.path).values()
        for line in lines
        if not line.fields["type"].startswith("auditkit.")
    ]


def outcomes(audit: AuditLogger) -> list[tuple[str, str, str | None]]:
    return [(event["operation"], event["outcome"], event["error_type"]) for event in read_events(audit)]


def test_a_block_is_measured(audit: AuditLogger) -> None:
    """The event has the operation, its duration, what was given, and what the context says."""
    with audit.context(actor="ana", workflow="intake"), audit.track("crm.sync", details={"try": 1}, lead_id="L-1"):
        time.sleep(0.02)
    [event] = read_events(audit)
    assert (event["type"], event["operation"], event["outcome"]) == ("operation", "crm.sync", "success")
    assert (event["actor"], event["workflow"], event["lead_id"]) == ("ana", "intake", "L-1")
    assert json.loads(event["details"]) == {"try": 1}
    assert event["duration_us"] >= 20_000
    assert (event["error_type"], event["message"], event["traceback"]) == (None, None, None)


def test_an_exception_is_a_failure_and_goes_its_way(audit: AuditLogger) -> None:
    """The very exception arrives outside; class, message and traceback are recorded."""
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, audit.track("op"):
        raise error
    assert caught.value is error
    [event] = read_events(audit)
    assert (event["outcome"], event["error_type"], event["message"]) == ("failure", "KeyError", "'x'")
    assert event["traceback"].endswith("KeyError: 'x'\n")
    assert "raise error" in event["traceback"]
    assert audit.get_performance_stats("op") is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration, RuntimeError])
def test_every_kind_of_exception_passes(audit: AuditLogger, error: type[BaseException]) -> None:
    """Those that end a program and those that mean something to Python too, in a block and in a function."""

    @audit.track("function")
    def fail() -> None:
        raise error

    with pytest.raises(error), audit.track("block"):
        raise error
    with pytest.raises(error):
        fail()
    assert outcomes(audit) == [("block", "failure", error.__name__), ("function", "failure", error.__name__)]


def test_nested_blocks_and_one_tracker_in_itself(audit: AuditLogger) -> None:
    """Each end belongs to its own beginning, also when one tracker is entered again inside of itself."""
    tracker = audit.track("again")
    with audit.track("outer"):
        with tracker:
            time.sleep(0.01)
            with tracker:
                pass
        with audit.track("inner"):
            pass
    events = {(event["operation"], event["seq"]): event["duration_us"] for event in read_events(audit)}
    inner_again, outer_again = events["again", 1], events["again", 2]
    assert inner_again < 10_000 <= outer_again
    assert events["outer", 4] >= outer_again + events["inner", 3]


def test_threads_share_a_tracker(audit: AuditLogger) -> None:
    """A long and a short block of two threads in one tracker are measured as long and short, whoever leaves first."""
    tracker = audit.track("shared")
    entered, leave = threading.Event(), threading.Event()

    def run_long() -> None:
        with tracker:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=run_long)
    thread.start()
    entered.wait()
    time.sleep(0.05)
    with tracker:
        pass
    leave.set()
    thread.join()
    short, long = (event["duration_us"] for event in read_events(audit))
    assert short < 50_000 <= long


def test_tasks_share_a_tracker(audit: AuditLogger) -> None:
    """Interleaved tasks in one tracker, entered with ``async with`` or ``with``, keep their own beginnings."""
    tracker = audit.track("shared")

    async def work(milliseconds: int) -> int:
        if milliseconds % 20:
            async with tracker:
                await asyncio.sleep(milliseconds / 1000)
        else:
            with tracker:
                await asyncio.sleep(milliseconds / 1000)
        return milliseconds

    async def serve() -> None:
        await asyncio.gather(*(work(milliseconds) for milliseconds in (60, 50, 40, 30, 20, 10)))

    asyncio.run(serve())
    durations = [event["duration_us"] for event in read_events(audit)]
    assert len(durations) == 6
    assert sorted(durations) == durations
    for duration, milliseconds in zip(durations, (10, 20, 30, 40, 50, 60), strict=True):
        assert duration >= milliseconds * 990


def test_a_block_that_is_left_in_another_context(audit: AuditLogger) -> None:
    """What enters in one context and leaves in another, as some frameworks' fixtures do, is still measured."""
    tracker = audit.track("op")
    contextvars.copy_context().run(tracker.__enter__)
    time.sleep(0.01)
    contextvars.copy_context().run(tracker.__exit__, None, None, None)
    [event] = read_events(audit)
    assert 10_000 <= event["duration_us"] < 60_000_000


def test_a_function_stays_what_it_was(audit: AuditLogger) -> None:
    """Name, documentation, signature, arguments and result pass through, and each call is one event."""

    @audit.track("score")
    def score(lead: str, *, weight: float = 1.0) -> float:
        """Score a lead."""
        return len(lead) * weight

    assert score("abc", weight=2) == 6.0
    assert score("abc") == 3.0
    assert (score.__name__, score.__doc__) == ("score", "Score a lead.")
    assert str(inspect.signature(score)) == "(lead: 'str', *, weight: 'float' = 1.0) -> 'float'"
    with pytest.raises(TypeError):
        score()  # type: ignore[call-arg]
    assert outcomes(audit) == [("score", "success", None)] * 2 + [("score", "failure", "TypeError")]


def test_a_recursive_function_in_many_threads(audit: AuditLogger) -> None:
    """Each of the calls is one measurement."""

    @audit.track("fib")
    def fib(number: int) -> int:
        return number if number < 2 else fib(number - 1) + fib(number - 2)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fib, [7] * 4)) == [13] * 4
    assert len(read_events(audit)) == 4 * 41


def test_a_method_and_a_static_method(audit: AuditLogger) -> None:
    """A decorated method is bound as any other."""

    class Sync:
        def __init__(self) -> None:
            self.calls = 0

        @audit.track("method")
        def run(self) -> Sync:
            self.calls += 1
            return self

        @staticmethod
        @audit.track("static")
        def ping() -> str:
            return "pong"

    sync = Sync()
    assert sync.run() is sync
    assert (sync.calls, Sync.ping()) == (1, "pong")
    assert outcomes(audit) == [("method", "success", None), ("static", "success", None)]


def test_a_coroutine_is_measured_until_its_end(audit: AuditLogger) -> None:
    """Not its making but its running counts; failures and cancellations are failures."""

    @audit.track("fetch")
    async def fetch(seconds: float) -> str:
        await asyncio.sleep(seconds)
        if seconds == 0:
            raise ConnectionError("refused")
        return "answer"

    async def serve() -> None:
        assert await fetch(0.02) == "answer"
        with pytest.raises(ConnectionError):
            await fetch(0)
        task = asyncio.create_task(fetch(60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert inspect.iscoroutinefunction(fetch)
    asyncio.run(serve())
    events = read_events(audit)
    assert [event["outcome"] for event in events] == ["success", "failure", "failure"]
    assert events[0]["duration_us"] >= 20_000
    assert [event["error_type"] for event in events[1:]] == ["ConnectionError", "asyncio.exceptions.CancelledError"]


def test_a_generator_is_measured_until_its_end(audit: AuditLogger) -> None:
    """From the first step to the last; what is sent, thrown and returned passes; stopping early is no failure."""

    @audit.track("rows")
    def rows(count: int) -> Generator[int, int | None, str]:
        total = 0
        for number in range(count):
            try:
                total += (yield number) or 0
            except KeyError:
                yield -1
        return f"total {total}"

    generator = rows(3)
    assert read_events(audit) == []
    assert next(generator) == 0
    time.sleep(0.02)
    assert generator.send(5) == 1
    assert generator.throw(KeyError()) == -1
    assert next(generator) == 2
    with pytest.raises(StopIteration, match="total 5"):
        next(generator)
    assert read_events(audit)[0]["duration_us"] >= 20_000

    early = rows(3)
    next(early)
    early.close()
    failing = rows(3)
    next(failing)
    with pytest.raises(ValueError, match="mine"):
        failing.throw(ValueError("mine"))
    assert inspect.isgeneratorfunction(rows)
    assert [outcome for _, outcome, _ in outcomes(audit)] == ["success", "success", "failure"]


def test_an_asynchronous_generator_is_measured_until_its_end(audit: AuditLogger) -> None:
    """Sending, throwing and closing pass through to the one that is decorated."""
    closed = []

    @audit.track("pages")
    async def pages(count: int) -> AsyncGenerator[int, int | None]:
        try:
            for number in range(count):
                await asyncio.sleep(0.005)
                try:
                    sent = yield number
                    if sent is not None:
                        yield sent
                except KeyError:
                    yield -1
        finally:
            closed.append(count)

    async def serve() -> None:
        assert [page async for page in pages(3)] == [0, 1, 2]
        generator = pages(4)
        assert await anext(generator) == 0
        assert await generator.asend(7) == 7
        assert await anext(generator) == 1
        assert await generator.athrow(KeyError()) == -1
        await generator.aclose()
        failing = pages(5)
        await anext(failing)
        with pytest.raises(ValueError, match="mine"):
            await failing.athrow(ValueError("mine"))

    asyncio.run(serve())
    assert closed == [3, 4, 5]
    assert inspect.isasyncgenfunction(pages)
    events = read_events(audit)
    assert [event["outcome"] for event in events] == ["success", "success", "failure"]
    assert events[0]["duration_us"] >= 15_000


def test_an_asynchronous_generator_that_is_left_to_the_loop(audit: AuditLogger) -> None:
    """One that nobody finishes is closed by the loop, in a task and a context of the loop's, and measured then."""

    async def serve() -> None:
        @audit.track("pages")
        async def pages() -> AsyncIterator[int]:
            yield 1
            yield 2

        async for _ in pages():
            break
        await asyncio.sleep(0.02)

    asyncio.run(serve())
    assert [outcome for _, outcome, _ in outcomes(audit)] == ["success"]


def test_statistics_are_those_of_the_events(audit: AuditLogger) -> None:
    """What is kept in memory is what was recorded, so that percentiles outlive the process."""
    durations = [number / 1000 for number in range(1, 301)]
    for seconds in durations:
        audit.track_performance("op", seconds)
    stats = audit.get_performance_stats("op")
    assert stats is not None
    assert (stats.count, stats.min, stats.max) == (300, 0.001, 0.3)
    assert [stats.p50, stats.p95, stats.p99] == pytest.approx(list(np.percentile(durations, [50, 95, 99])))
    assert [event["duration_us"] for event in read_events(audit)] == [number * 1000 for number in range(1, 301)]
    frame = audit._open_trail().performance().frame
    assert frame["p95_s"].tolist() == pytest.approx([stats.p95])
    assert audit.get_performance_stats("another") is None
