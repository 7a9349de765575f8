"""Who acts, in which workflow, for which lead: set for a block of code, right across tasks and copied contexts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple


class Context(NamedTuple):
    """What an event takes over when its call doesn't say."""

    actor: str | None = None
    workflow: str | None = None
    lead_id: str | None = None


EMPTY: Final = Context()

# One variable that holds a tuple: three variables would cost three look-ups an event.
_current: ContextVar[Context] = ContextVar("auditkit", default=EMPTY)

get_context = _current.get
"""Give the context of the running code."""


@contextmanager
def use_context(actor: str | None = None, workflow: str | None = None, lead_id: str | None = None) -> Iterator[Context]:
    """Set actor, workflow and lead for a block; what isn't given stays as it was around it.

    It holds for the asyncio tasks that the block starts, and for threads started with `contextvars.copy_context`.

    Example:
        >>> with use_context(actor="ana"), use_context(workflow="intake"):
        ...     get_context()
        Context(actor='ana', workflow='intake', lead_id=None)
        >>> get_context()
        Context(actor=None, workflow=None, lead_id=None)
    """
    around = _current.get()
    inside = Context(
        around.actor if actor is None else actor,
        around.workflow if workflow is None else workflow,
        around.lead_id if lead_id is None else lead_id,
    )
    token = _current.set(inside)
    try:
        yield inside
    finally:
        _current.reset(token)
