"""The engine: whoever is interrupted while it works is told so, and it works on for nobody."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import duckdb
import pytest

from auditkit.store import engine

ENDLESS = "SELECT max(hash(a.range + b.range)) FROM range(10_000_000) a, range(10_000_000) b"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_while_the_work_is_started_stops_it(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The thread runs already when Ctrl-C or a timeout comes: the caller has it when the connection is free again."""
    start = _thread.start_new_thread
    stopped: list[bool] = []
    began = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise error

    def start_and_interrupt(run: Callable[[], None], arguments: tuple[()]) -> None:
        start(run, arguments)
        began.wait()
        signal.raise_signal(signal.SIGUSR1)

    def work() -> None:
        began.set()
        try:
            connection.execute(ENDLESS)
        finally:
            stopped.append(True)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with engine.connect() as connection:
            with monkeypatch.context() as patch:
                patch.setattr(_thread, "start_new_thread", start_and_interrupt)
                with pytest.raises(error):
                    engine.run(connection, work)
            assert stopped == [True]
            assert connection.execute("SELECT 7").fetchone() == (7,)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_work_that_was_interrupted_before_it_began_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may be started a moment later all the same."""
    begun: list[Callable[[], None]] = []
    done: list[bool] = []

    def interrupt(run: Callable[[], None], _arguments: tuple[()]) -> None:
        begun.append(run)
        raise KeyboardInterrupt

    with engine.connect() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", interrupt)
            with pytest.raises(KeyboardInterrupt):
                engine.run(connection, lambda: done.append(True))
        late = threading.Thread(target=begun[0])
        late.start()
        late.join()
    assert done == []


def test_an_interruption_while_the_work_is_done_stops_it() -> None:
    """Ctrl-C in the middle of a long query comes out as what it is, and soon."""
    with engine.connect() as connection:
        timer = threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
        begun = time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            engine.run(connection, lambda: connection.execute(ENDLESS))
        timer.join()
        assert time.monotonic() - begun < 30
        assert connection.execute("SELECT 7").fetchone() == (7,)


def test_where_no_thread_can_be_started_the_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the interpreter's end; what the work raises is raised."""

    def refuse(_run: Callable[[], None], _arguments: tuple[()]) -> None:
        raise RuntimeError("can't start new thread")

    with engine.connect() as connection, monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        assert engine.run(connection, lambda: connection.execute("SELECT 7").fetchone()) == (7,)
        with pytest.raises(duckdb.Error):
            engine.run(connection, lambda: connection.execute("SELECT nothing"))
