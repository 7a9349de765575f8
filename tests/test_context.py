"""Actor, workflow and lead of a block of code: in tasks, in threads, and nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from auditkit import AuditLogger
from auditkit.context import EMPTY, Context, get_context, use_context
from tests.recording import independent

SECRET = "a secret that only these tests know"


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLogger]:
    """A logger with an actor and a workflow of its own."""
    with AuditLogger(
        tmp_path / "audit", secret_key=SECRET, actor="service", workflow="intake", enable_rotation=False
    ) as logger:
        yield logger


def read_events(audit: AuditLogger) -> dict[str, tuple[Any, Any, Any]]:
    """Give actor, workflow and lead of each event by its type."""
    return {
        line.fields["type"]: (line.fields["actor"], line.fields["workflow"], line.fields["lead_id"])
        for lines in independent.read_journal(audit.path).values()
        for line in lines
        if not line.fields["type"].startswith("auditkit.")
    }


def test_what_a_call_says_goes_before_the_block_and_the_block_before_the_logger(audit: AuditLogger) -> None:
    """Each of the three is looked for in the call, then in the block, then in the logger."""
    audit.log_event("plain")
    with audit.context(actor="ana", lead_id="L-1"):
        audit.log_event("block")
        audit.log_event("call", actor="bob", lead_id="L-2", workflow="night")
        with audit.context(workflow="inner", lead_id="L-3"):
            audit.log_event("inner")
        audit.log_event("outer")
    audit.log_event("after")
    assert read_events(audit) == {
        "plain": ("service", "intake", None),
        "block": ("ana", "intake", "L-1"),
        "call": ("bob", "night", "L-2"),
        "inner": ("ana", "inner", "L-3"),
        "outer": ("ana", "intake", "L-1"),
        "after": ("service", "intake", None),
    }


def test_a_block_that_raises_ends_like_any_other() -> None:
    """The context is what it was before, also after an exception."""

    def fail() -> None:
        with use_context(actor="ana"), use_context(lead_id="L-1"):
            assert get_context() == Context("ana", None, "L-1")
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert get_context() is EMPTY


def test_values_that_are_not_text_become_text(audit: AuditLogger) -> None:
    """A lead's number and a name with a lone surrogate are taken as they are in a call."""
    with audit.context(actor=7, workflow="a\ud800", lead_id=42):  # type: ignore[arg-type]
        audit.log_event("x")
    assert read_events(audit) == {"x": ("7", "a\ufffd", "42")}


def test_tasks_keep_their_own_context(audit: AuditLogger) -> None:
    """A hundred interleaved tasks each record their own lead; a task starts with the context of who made it."""

    async def handle(lead: int) -> None:
        with audit.context(lead_id=f"L-{lead}"):
            await asyncio.sleep(0.001 * (lead % 3))
            audit.log_event(f"first.{lead}")
            await asyncio.create_task(follow(lead))
            audit.log_event(f"last.{lead}")

    async def follow(lead: int) -> None:
        await asyncio.sleep(0)
        audit.log_event(f"child.{lead}")

    async def serve() -> None:
        with audit.context(actor="server"):
            await asyncio.gather(*(handle(lead) for lead in range(100)))
        audit.log_event("end")

    asyncio.run(serve())
    events = read_events(audit)
    assert events.pop("end") == ("service", "intake", None)
    assert len(events) == 300
    for kind, found in events.items():
        assert found == ("server", "intake", f"L-{kind.partition('.')[2]}")


def test_threads_take_a_context_that_is_copied_for_them(audit: AuditLogger) -> None:
    """A thread begins with nothing, one that runs in a copied context with what was set, and neither changes ours."""

    def record(kind: str) -> None:
        audit.log_event(kind)
        with audit.context(actor="thread"):
            audit.log_event(f"{kind}.inside")

    with audit.context(actor="ana", lead_id="L-1"):
        bare = threading.Thread(target=record, args=("bare",))
        copied = threading.Thread(target=contextvars.copy_context().run, args=(record, "copied"))
        bare.start()
        copied.start()
        bare.join()
        copied.join()
        audit.log_event("own")
    assert read_events(audit) == {
        "bare": ("service", "intake", None),
        "bare.inside": ("thread", "intake", None),
        "copied": ("ana", "intake", "L-1"),
        "copied.inside": ("thread", "intake", "L-1"),
        "own": ("ana", "intake", "L-1"),
    }


def test_asyncio_carries_the_context_into_worker_threads(audit: AuditLogger) -> None:
    """`asyncio.to_thread` copies the context, an executor of one's own doesn't."""

    async def work() -> None:
        with audit.context(lead_id="L-1"):
            await asyncio.to_thread(audit.log_event, "to_thread")
            with ThreadPoolExecutor() as pool:
                await asyncio.get_running_loop().run_in_executor(pool, audit.log_event, "executor")

    asyncio.run(work())
    assert read_events(audit) == {
        "to_thread": ("service", "intake", "L-1"),
        "executor": ("service", "intake", None),
    }


def test_a_block_can_decorate_a_function() -> None:
    """A context manager of this kind is a decorator too, and a new block for each call."""

    @use_context(actor="ana")
    def act(depth: int) -> Context:
        return get_context() if depth == 0 else act(depth - 1)

    assert act(3) == Context("ana")
    assert get_context() is EMPTY
