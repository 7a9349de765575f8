"""AuditLogger: the writing face of auditkit. Light: pandas and pyarrow are imported only where they are used."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
import traceback as traceback_module
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from time import perf_counter, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from auditkit import spawning, times
from auditkit.context import EMPTY, Context, get_context, use_context
from auditkit.conversion import OWN_ERRORS, clean_text, encode_details, is_interruption, make_text
from auditkit.errors import AuditError, UsageError
from auditkit.event import (
    CLOSED,
    GAP,
    INTERNAL_PREFIX,
    MAX_INTEGER,
    MAX_TIME_US,
    MIN_TIME_US,
    OPENED,
    RESULT_KEYS,
)
from auditkit.measuring import Measurements, PerformanceStats
from auditkit.recording import OnFailure, Recorder, UnencodableText
from auditkit.store.description import choose_path, open_or_create
from auditkit.store.layout import Layout

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.trail import AuditTrail

_log = logging.getLogger("auditkit")

_class_of: Final = type
"""Not ``value.__class__``, which a proxy answers with its own code; parameters hide the name ``type``."""

P = ParamSpec("P")
R = TypeVar("R")

FAILURE: Final = "failure"
"""Outcome of an event that counts as an error."""

SUCCESS: Final = "success"
"""Outcome of an operation that ended without an exception."""

MAX_TYPE: Final = 200
"""Longest event type, in characters."""

MAX_KNOWN_TYPES: Final = 10_000
"""How many checked types are remembered: types made of ids mustn't grow without end."""


class AuditLogger:
    """Records signed events of one store.

    Any number of threads may share one; any number of processes may each have one on the same store; a forked child
    goes on with a chain of its own. The logger closes itself at interpreter exit, and an event whose call has returned
    is on record even if the process is killed.

    Args:
        path: The store's folder, made if it isn't there; default ``$AUDITKIT_STORE``, else ``./audit``.
        max_file_size_mb: Size of a journal, in MiB, at which it is sealed into Parquet.
        retention_days: How many days you mean to keep events, as ``audit.retention_days``. Nothing acts on it: this
            version deletes no event.
        enable_rotation: Whether the logger seals by itself: at the size limit, when the UTC day ends (a daemon thread
            waits for that), and at its start for what dead processes left. Without it `rotate` and ``auditkit seal``
            do.
        enable_integrity: Whether events are signed. Unsigned events are reported as ``unverifiable``, and in a store
            that also has signed ones as a finding: give an application that doesn't sign a store of its own.
        secret_key: The application's own secret (at least 16 bytes), instead of a key file.
        key_file: Where the key file lies; default ``$AUDITKIT_KEY_FILE``, else the platform's place for user data.
        actor: Actor of events whose call names none.
        workflow: Workflow of events whose call names none.
        on_failure: What happens when the disk refuses: ``"drop"`` keeps the application going (events wait in bounded
            memory; what must be dropped is counted in a signed gap event), ``"raise"`` raises the OSError.

    Raises:
        UsageError: If an argument can't be meant.
        KeyMissing: If the store exists and its key isn't found.
        KeyMismatch: If the key isn't the store's.
        StoreError: If there can't be a folder at the path.
        StoreDamaged: If ``store.json`` can't be believed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with AuditLogger(f"{folder.name}/audit", secret_key="an example's secret") as audit:
        ...     event_id = audit.log_event("invoice.paid", {"amount": 120}, actor="ana")
        >>> event_id.endswith(":1")
        True
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        max_file_size_mb: float = 50,
        retention_days: int = 90,
        enable_rotation: bool = True,
        enable_integrity: bool = True,
        secret_key: str | bytes | None = None,
        *,
        key_file: str | os.PathLike[str] | None = None,
        actor: str | None = None,
        workflow: str | None = None,
        on_failure: OnFailure = "drop",
    ) -> None:
        if path is not None:
            _check_path("path", path)
        if key_file is not None:
            _check_path("key_file", key_file)
        if not _is_number(max_file_size_mb, Real) or not 0 < max_file_size_mb < float("inf"):
            raise UsageError(
                f"expected max_file_size_mb above 0, found {_show(max_file_size_mb)}: enable_rotation=False is for "
                "no limit"
            )
        if not _is_number(retention_days, Integral) or retention_days < 1:
            raise UsageError(f"expected whole retention_days of at least 1, found {_show(retention_days)}")
        _check_switch("enable_rotation", enable_rotation)
        _check_switch("enable_integrity", enable_integrity)
        if on_failure not in ("drop", "raise"):
            raise UsageError(f"expected on_failure 'drop' or 'raise', found {_show(on_failure)}")
        # Absolute: a daemon changes its working directory after it has opened its log.
        self.path = choose_path(path).absolute()
        self.retention_days = retention_days
        self.enable_rotation = enable_rotation
        self._layout = Layout(self.path)
        description, self._keys = open_or_create(self._layout, secret_key, key_file)
        self.store_id = description.store
        self._actor = _text(actor)
        self._workflow = _text(workflow)
        self._types: set[str] = set()
        self._measurements = Measurements()
        self._trail: AuditTrail | None = None
        self._housekeeper: spawning.Housekeeper | None = None
        if enable_rotation and spawning.can_seal():
            self._housekeeper = spawning.Housekeeper(self._layout, self._keys)
        # Neither of the two knows the logger: it would never be collected, and so never be closed.
        self._recorder = Recorder(
            self._layout,
            self.store_id,
            self._keys,
            max_part_bytes=max(int(max_file_size_mb * (1 << 20)), 1) if enable_rotation else None,
            signs=enable_integrity,
            on_failure=on_failure,
            on_part=self._housekeeper.request if self._housekeeper is not None else _do_nothing,
            on_writer=self._housekeeper.watch if self._housekeeper is not None else _do_nothing,
        )
        if self._housekeeper is not None:
            self._housekeeper.close_past = self._recorder.close_past
        self._record = self._recorder.record
        self._finalizer = weakref.finalize(self, _close_quietly, self._recorder, self._housekeeper)
        if self._housekeeper is not None and spawning.needs_sealing(self._layout):
            self._housekeeper.request()

    def __repr__(self) -> str:
        return f"AuditLogger({str(self.path)!r}, store_id={self.store_id!r}, key_id={self._keys.key_id!r})"

    def __reduce__(self) -> str:
        raise TypeError("an AuditLogger is not pickled: make one in each process, or call get_audit_logger() there")

    def __enter__(self) -> AuditLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- recording ----------------------------------------------------------------------------------------------------

    def log_event(
        self,
        type: str,
        details: Any = None,
        actor: str | None = None,
        lead_id: str | None = None,
        workflow: str | None = None,
        *,
        time: datetime | None = None,
        outcome: str | None = None,
        operation: str | None = None,
        duration: float | None = None,
        error_type: str | None = None,
        message: str | None = None,
        traceback: str | None = None,
    ) -> str:
        """Record one event.

        Args:
            type: What happened, for instance ``"lead.ingested"``; not empty, not beginning with ``auditkit.``.
            details: Anything; `auditkit.conversion` says what becomes of values that JSON can't hold.
            actor: Who or what did it; default: the context's, else the logger's.
            lead_id: The lead it concerns; default: the context's.
            workflow: The workflow it belongs to; default: the context's, else the logger's.
            time: When it happened, with a time zone; default: now. An event of another day lands in that day.
            outcome: ``"success"``, ``"failure"`` or a word of your own; failures count as errors.
            operation: Name of the operation that was measured.
            duration: How long it took, in seconds.
            error_type: Class of the error.
            message: Message of the error.
            traceback: The traceback as text.

        Returns:
            The event's id, ``writer:seq``; empty if the disk refuses and the event had to be dropped.

        Raises:
            UsageError: If the call can't be meant: an empty type, a naive datetime, a negative duration.
            ClosedError: If the logger was closed.
            OSError: Only with ``on_failure="raise"``.

        Example:
            >>> import tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> audit = AuditLogger(f"{folder.name}/audit", secret_key="an example's secret")
            >>> audit.log_event("")
            Traceback (most recent call last):
            ...
            auditkit.errors.UsageError: expected an event type like 'lead.ingested', found ''
            >>> audit.close(); folder.cleanup()
        """
        now_us = time_ns() // 1000
        try:
            # Of a value of another class its own code would say what it equals.
            if _class_of(type) is not str or type not in self._types:
                type = self._check_type(type)  # noqa: A001
            if actor is None or workflow is None or lead_id is None:
                context = get_context()
                if context is not EMPTY:
                    actor = context.actor if actor is None else actor
                    workflow = context.workflow if workflow is None else workflow
                    lead_id = context.lead_id if lead_id is None else lead_id
                if actor is None:
                    actor = self._actor
                if workflow is None:
                    workflow = self._workflow
            time_us = now_us if time is None else _read_time(time)
            if actor is not None and _class_of(actor) is not str:
                raise TypeError
            if lead_id is not None and _class_of(lead_id) is not str:
                raise TypeError
            if workflow is not None and _class_of(workflow) is not str:
                raise TypeError
            if (
                outcome is None
                and operation is None
                and duration is None
                and error_type is None
                and message is None
                and traceback is None
            ):
                result = None
            else:
                result = _make_result(outcome, operation, duration, error_type, message, traceback)
            text = None if details is None else encode_details(details)
        except (TypeError, ValueError) as error:
            if isinstance(error, AuditError) or is_interruption(error):
                raise
        else:
            try:
                return self._record(now_us, type, time_us, text, actor, lead_id, workflow, result)
            except UnencodableText:
                pass
        # A value that isn't text, or a lone surrogate in one: clean every text and sign again.
        return self._record(
            now_us,
            clean_text(self._check_type(type)),
            now_us if time is None else _read_time(time),
            None if details is None else encode_details(details),
            _text(actor),
            _text(lead_id),
            _text(workflow),
            _make_result(
                _text(outcome), _text(operation), duration, _text(error_type), _text(message), _text(traceback)
            ),
        )

    def _check_type(self, kind: object) -> str:
        if not issubclass(type(kind), str) or not (kind := str.__str__(cast("str", kind))):
            raise UsageError(f"expected an event type like 'lead.ingested', found {_show(kind)}")
        if len(kind) > MAX_TYPE:
            raise UsageError(f"expected an event type of at most {MAX_TYPE} characters, found {len(kind)}")
        if kind.startswith(INTERNAL_PREFIX):
            raise UsageError(f"expected a type of the application, found {kind!r}: {INTERNAL_PREFIX} is reserved")
        if len(self._types) < MAX_KNOWN_TYPES:
            self._types.add(kind)
        return kind

    def log_internal(self, kind: str, details: Any = None) -> str:
        """Record one of the toolkit's own events, as imports, exports and alerts do.

        Args:
            kind: A type that begins with ``auditkit.``; queries leave such events out unless they are asked for.
            details: Anything, as in `log_event`.

        Returns:
            The event's id.

        Raises:
            UsageError: If the type isn't one of the toolkit's own.
        """
        given: object = kind
        own = isinstance(given, str) and given.startswith(INTERNAL_PREFIX)
        if not own or kind in (OPENED, CLOSED, GAP):
            raise UsageError(f"expected a type that begins with {INTERNAL_PREFIX}, found {_show(kind)}")
        now_us = time_ns() // 1000
        return self._record(
            now_us, kind, now_us, None if details is None else encode_details(details), self._actor, None, None, None
        )

    def log_lead_ingested(
        self, lead_id: str, source: str | None = None, data: Any = None, workflow: str | None = None
    ) -> str:
        """Record that a lead came in (``lead.ingested``), from which source and with which data."""
        return self.log_event("lead.ingested", {"source": source, "data": data}, lead_id=lead_id, workflow=workflow)

    def log_lead_qualified(
        self, lead_id: str, qualified: bool, reason: str | None = None, workflow: str | None = None
    ) -> str:
        """Record whether a lead was qualified (``lead.qualified``; outcome ``qualified`` or ``rejected``), and why."""
        return self.log_event(
            "lead.qualified",
            {"qualified": bool(qualified), "reason": reason},
            lead_id=lead_id,
            workflow=workflow,
            outcome="qualified" if qualified else "rejected",
        )

    def log_lead_routed(
        self, lead_id: str, destination: str, condition: str | None = None, workflow: str | None = None
    ) -> str:
        """Record where a lead was sent (``lead.routed``), and on which condition."""
        details = {"destination": destination, "condition": condition}
        return self.log_event("lead.routed", details, lead_id=lead_id, workflow=workflow)

    def log_crm_create(
        self, lead_id: str, crm_id: str, crm_type: str | None = None, workflow: str | None = None
    ) -> str:
        """Record that a CRM record was made for a lead (``crm.created``)."""
        return self.log_event(
            "crm.created", {"crm_id": crm_id, "crm_type": crm_type}, lead_id=lead_id, workflow=workflow
        )

    def log_crm_update(self, lead_id: str, crm_id: str, fields: Any = None, workflow: str | None = None) -> str:
        """Record which fields of a CRM record changed (``crm.updated``)."""
        return self.log_event("crm.updated", {"crm_id": crm_id, "fields": fields}, lead_id=lead_id, workflow=workflow)

    def log_email_sent(
        self,
        lead_id: str,
        recipient: str,
        subject: str | None = None,
        step: str | int | None = None,
        workflow: str | None = None,
    ) -> str:
        """Record that a mail was sent (``email.sent``), to whom and as which step of a sequence."""
        details = {"recipient": recipient, "subject": subject, "step": step}
        return self.log_event("email.sent", details, lead_id=lead_id, workflow=workflow)

    def log_email_scheduled(
        self, lead_id: str, recipient: str, length: int | None = None, workflow: str | None = None
    ) -> str:
        """Record that a sequence of ``length`` mails was scheduled (``email.scheduled``)."""
        return self.log_event(
            "email.scheduled", {"recipient": recipient, "length": length}, lead_id=lead_id, workflow=workflow
        )

    def log_email_cancelled(
        self, lead_id: str, recipient: str, reason: str | None = None, workflow: str | None = None
    ) -> str:
        """Record that scheduled mails were called off (``email.cancelled``), and why."""
        details = {"recipient": recipient, "reason": reason}
        return self.log_event("email.cancelled", details, lead_id=lead_id, workflow=workflow, outcome="cancelled")

    def log_workflow_started(self, workflow: str, details: Any = None) -> str:
        """Record that a workflow started (``workflow.started``)."""
        return self.log_event("workflow.started", details, workflow=workflow)

    def log_workflow_stopped(self, workflow: str, reason: str | None = None) -> str:
        """Record that a workflow stopped (``workflow.stopped``), and why."""
        return self.log_event("workflow.stopped", {"reason": reason}, workflow=workflow)

    def log_error(
        self,
        type: str | BaseException,
        message: str | None = None,
        lead_id: str | None = None,
        workflow: str | None = None,
        traceback: str | None = None,
        *,
        details: Any = None,
        actor: str | None = None,
        operation: str | None = None,
    ) -> str:
        """Record an error (type ``error``, outcome ``failure``).

        Args:
            type: Class of the error as text, or the exception itself, which brings type, message and traceback.
            message: Its message; default: the exception's.
            lead_id: The lead it concerns.
            workflow: The workflow it happened in.
            traceback: The traceback as text; default: the exception's.
            details: Anything else worth keeping.
            actor: Who or what was acting.
            operation: What was being done.

        Returns:
            The event's id.

        Example:
            >>> import tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> audit = AuditLogger(f"{folder.name}/audit", secret_key="an example's secret")
            >>> try:
            ...     {}["missing"]
            ... except KeyError as error:
            ...     event_id = audit.log_error(error, lead_id="L-1")
            >>> audit.close(); folder.cleanup()
        """
        if isinstance(type, BaseException):
            described = describe_exception(type)
            type = described[0]  # noqa: A001
            message = described[1] if message is None else message
            traceback = described[2] if traceback is None else traceback
        elif not issubclass(_class_of(type), str) or not type:
            raise UsageError(f"expected the error's class as text or the exception itself, found {_show(type)}")
        return self.log_event(
            "error",
            details,
            actor,
            lead_id,
            workflow,
            outcome=FAILURE,
            operation=operation,
            error_type=type,
            message=message,
            traceback=traceback,
        )

    # -- measuring ----------------------------------------------------------------------------------------------------

    def track(self, operation: str, *, details: Any = None, lead_id: str | None = None) -> Tracker:
        """Measure an operation, as a context manager or a decorator of a function or a coroutine function.

        An exception inside is recorded as a failure with its type, message and traceback, and goes on its way.

        Args:
            operation: Name of the operation.
            details: Anything worth keeping with each measurement.
            lead_id: The lead it concerns; default: the context's.

        Returns:
            The context manager and decorator.

        Example:
            >>> import tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> audit = AuditLogger(f"{folder.name}/audit", secret_key="an example's secret")
            >>> with audit.track("crm.sync"):
            ...     pass
            >>> @audit.track("score")
            ... def score(lead):
            ...     return 0.5
            >>> score("L-1"), audit.get_performance_stats("score").count
            (0.5, 1)
            >>> audit.close(); folder.cleanup()
        """
        return Tracker(self, _check_operation(operation), details, lead_id)

    def track_performance(
        self,
        operation: str,
        duration: float,
        *,
        details: Any = None,
        outcome: str = SUCCESS,
        lead_id: str | None = None,
    ) -> str:
        """Record a measurement made elsewhere.

        Args:
            operation: Name of the operation.
            duration: How long it took, in seconds.
            details: Anything worth keeping with it.
            outcome: ``"success"`` or ``"failure"``.
            lead_id: The lead it concerns.

        Returns:
            The event's id.

        Raises:
            UsageError: If the operation has no name, or the duration is missing, negative or not finite.
        """
        operation = _check_operation(operation)
        _read_duration(duration)  # before anything is recorded: to `log_event`, None is no duration
        event_id = self.log_event(
            "operation", details, lead_id=lead_id, operation=operation, duration=duration, outcome=outcome
        )
        self._measurements.add(operation, float(duration))
        return event_id

    def get_performance_stats(self, operation: str) -> PerformanceStats | None:
        """Summarise the last 1,000 measurements of an operation in this process.

        Returns:
            The figures in seconds, or None if it was never measured here. ``auditkit.open().performance()`` has those
            of every process and of the past.
        """
        return self._measurements.summarise(operation)

    # -- reading ------------------------------------------------------------------------------------------------------

    def query_events(
        self,
        type: str | list[str] | None = None,
        lead_id: str | list[str] | None = None,
        workflow: str | list[str] | None = None,
        start_time: datetime | str | None = None,
        end_time: datetime | str | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Give the events that match, of all processes, ordered by time: `AuditTrail.events` with other names.

        A ``limit`` keeps the earliest events; `auditkit query --limit` keeps the latest.
        """
        return self._open_trail().events(
            type=type, lead_id=lead_id, workflow=workflow, since=start_time, until=end_time, limit=limit
        )

    def get_lead_history(self, lead_id: str) -> pd.DataFrame:
        """Give everything that happened to a lead, ordered by time."""
        return self._open_trail().lead(lead_id)

    def get_statistics(self, workflow: str | None = None) -> dict[str, Any]:
        """Count the events of the store, or of one workflow.

        Returns:
            ``total_events``, ``events_by_type``, ``events_by_workflow``, ``unique_leads``, ``unique_actors``,
            ``errors``, ``error_rate`` (0 to 1), ``first_event`` and ``last_event`` (UTC, None if there is none).
        """
        return self._open_trail().count_statistics(workflow=workflow)

    def _open_trail(self) -> AuditTrail:
        if self._trail is None:
            from auditkit.trail import AuditTrail

            # Kept, since it goes on from where it had read the ledger to.
            self._trail = AuditTrail(self._layout, keys=self._keys)
        return self._trail

    # -- the logger itself --------------------------------------------------------------------------------------------

    def context(
        self, *, actor: str | None = None, workflow: str | None = None, lead_id: str | None = None
    ) -> AbstractContextManager[Context]:
        """Set actor, workflow and lead for a block of code; see `auditkit.context.use_context`."""
        return use_context(_text(actor), _text(workflow), _text(lead_id))

    def flush(self) -> None:
        """Write what waits, and make everything recorded so far survive a power loss.

        Raises:
            OSError: If the disk refuses.
        """
        self._recorder.flush()

    def rotate(self) -> None:
        """Seal everything recorded so far into Parquet, in a child process, and wait for it.

        Without the ``seal`` extra the journals are only finished: another process or ``auditkit seal`` seals them.

        Journal lines that can't be believed are set aside, and told to the logger ``auditkit`` of `logging`.

        Raises:
            AuditError: If the sealer can't be run or reports a failure; nothing is lost, the journals are still there.
        """
        self._recorder.rotate()
        if spawning.can_seal():
            spawning.run_sealer(self._layout, self._keys, live=True, wait=True, low_priority=False)

    def close(self) -> None:
        """Sign the end of this process's chain and let go of the journal; a second call does nothing."""
        self._finalizer()


class Tracker:
    """Measures one operation: ``with tracker:``, ``@tracker``, sync or async; see `AuditLogger.track`.

    One tracker may be entered many times over, also by several threads and tasks at once.
    """

    def __init__(self, audit: AuditLogger, operation: str, details: Any, lead_id: str | None) -> None:
        self._audit = audit
        self._operation = operation
        self._details = details
        self._lead_id = lead_id
        self._latest = 0.0

    def __enter__(self) -> Tracker:
        self._latest = start = perf_counter()
        _starts.set((*_starts.get(), (self, start)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(self._take_start(), error)

    def _take_start(self) -> float:
        """Take back when this thread or task entered last."""
        starts = _starts.get()
        for place in reversed(range(len(starts))):
            if starts[place][0] is self:
                _starts.set(starts[:place] + starts[place + 1 :])
                return starts[place][1]
        # Left in another context than entered, as the finalisation of an asynchronous generator does.
        return self._latest

    async def __aenter__(self) -> Tracker:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, a coroutine function, or a generator function, sync or async.

        A generator is measured from its first step to its end, the time between the steps included; a consumer that
        stops early is no failure.
        """
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", self._decorate_generator(function))
        if inspect.isasyncgenfunction(function):
            return cast("Callable[P, R]", self._decorate_async_generator(function))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._measure():
                    return await cast("Awaitable[Any]", function(*args, **kwargs))

            return cast("Callable[P, R]", measured_coroutine)

        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._measure():
                return function(*args, **kwargs)

        return measured

    def _decorate_generator(self, function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(function)
        def measured_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self._measure():
                return (yield from function(*args, **kwargs))

        return measured_generator

    def _decorate_async_generator(self, function: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def measured_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            generator = function(*args, **kwargs)
            with self._measure():
                try:
                    item = await anext(generator)
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001 - what is thrown in is the inner generator's
                            item = await generator.athrow(error)
                        else:
                            item = await generator.asend(sent)
                except StopAsyncIteration:
                    return
                finally:
                    await generator.aclose()

        return measured_generator

    @contextmanager
    def _measure(self) -> Iterator[None]:
        # One start for each call: a decorated function runs in many threads and tasks at once.
        start = perf_counter()
        try:
            yield
        except GeneratorExit:
            self._finish(start, None)
            raise
        except BaseException as error:
            self._finish(start, error)
            raise
        self._finish(start, None)

    def _finish(self, start: float, error: BaseException | None) -> None:
        seconds = perf_counter() - start
        self._audit._measurements.add(self._operation, seconds)
        described = (None, None, None) if error is None else describe_exception(error)
        try:
            self._audit.log_event(
                "operation",
                self._details,
                lead_id=self._lead_id,
                operation=self._operation,
                duration=seconds,
                outcome=SUCCESS if error is None else FAILURE,
                error_type=described[0],
                message=described[1],
                traceback=described[2],
            )
        except (AuditError, OSError) as problem:
            if error is None:
                raise
            # The application waits for its own exception, not for ours.
            error.add_note(f"auditkit could not record this failure: {problem}")


_starts: ContextVar[tuple[tuple[Tracker, float], ...]] = ContextVar("auditkit.starts", default=())
"""Which trackers this thread or task is inside of, and since when."""

_loggers: dict[Path, AuditLogger] = {}
_loggers_lock = threading.Lock()


def get_audit_logger(path: str | os.PathLike[str] | None = None) -> AuditLogger:
    """Give the process's one logger of a store, made at the first call.

    Args:
        path: The store's folder; default ``$AUDITKIT_STORE``, else ``./audit``.

    Returns:
        The same logger for the same folder, however it is spelled, until it is closed.

    Raises:
        UsageError: If the path can't be meant.
        KeyProblem: If the store exists and its key isn't found, or isn't the store's.
    """
    if path is not None:
        _check_path("path", path)
    resolved = choose_path(path).resolve()
    with _loggers_lock:
        audit = _loggers.get(resolved)
        if audit is None or not audit._finalizer.alive:
            audit = _loggers[resolved] = AuditLogger(resolved)
        return audit


def _do_nothing() -> None:
    pass


def _close_quietly(recorder: Recorder, housekeeper: spawning.Housekeeper | None) -> None:
    """Close at interpreter exit or when the logger is collected; there is nobody left to raise to."""
    if housekeeper is not None:
        housekeeper.stop()
    try:
        recorder.close()
    except (OSError, AuditError) as error:
        _log.warning("the audit journal in %s could not be closed: %s", recorder.layout.journal, error)


def _renew_lock() -> None:
    global _loggers_lock
    _loggers_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def describe_exception(error: BaseException) -> tuple[str, str, str]:
    """Give an exception's class, message and traceback as an event names them, whatever its own code does."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except OWN_ERRORS as problem:  # an exception's own __str__ may fail, and must not hide the exception
        if is_interruption(problem):
            raise
        message = f"<the message of {name} can't be printed>"
    try:
        trace = "".join(traceback_module.format_exception(error))
    except OWN_ERRORS as problem:  # it prints the message too
        if is_interruption(problem):
            raise
        trace = "".join(traceback_module.format_tb(error.__traceback__))
    return name, message, trace


def _check_path(name: str, path: object) -> None:
    """Refuse what is no path, and the empty one: it would be the working directory."""
    try:
        text = os.fspath(cast("os.PathLike[Any]", path))
    except TypeError:
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise UsageError(f"expected {name} as text or a pathlib.Path, found {_show(path)}")


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"expected {name} True or False, found {_show(value)}")


def _is_number(value: object, kind: type) -> bool:
    # True counts as 1 in Python, and nobody means it.
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_operation(operation: object) -> str:
    if not isinstance(operation, str) or not operation:
        raise UsageError(f"expected an operation's name, found {_show(operation)}")
    return operation


def _text(value: object) -> str | None:
    return None if value is None else make_text(value)


def _make_result(
    outcome: str | None,
    operation: str | None,
    duration: float | None,
    error_type: str | None,
    message: str | None,
    traceback: str | None,
) -> dict[str, Any]:
    """Make the fields that most events leave empty, in their order; raises TypeError for what isn't text."""
    for text in (outcome, operation, error_type, message, traceback):
        if text is not None and type(text) is not str:
            raise TypeError
    duration_us = None if duration is None else _read_duration(duration)
    return dict(zip(RESULT_KEYS, (outcome, operation, duration_us, error_type, message, traceback), strict=True))


def _show(value: object) -> str:
    """Show what a wrong call gave, whose own code may fail."""
    try:
        return repr(value)[:200]
    except OWN_ERRORS as problem:
        if is_interruption(problem):
            raise
        return f"a {type(value).__name__}"


def _read_time(moment: datetime) -> int:
    if not isinstance(moment, datetime):
        raise UsageError(f"expected a datetime with a time zone as time, found {type(moment).__name__}")
    if moment.tzinfo is None:
        raise UsageError(
            f"expected a datetime with a time zone as time, found {moment!r}: add one, for instance tzinfo=UTC"
        )
    us = times.to_us(moment)
    if not MIN_TIME_US <= us <= MAX_TIME_US:
        raise UsageError(f"expected a time between the years 1 and 9999 in UTC, found {moment!r}")
    return us


def _read_duration(seconds: float) -> int:
    try:
        us = round(float(seconds) * 1e6) if isfinite(seconds) else -1
    except (TypeError, ValueError, OverflowError):
        us = -1
    if not 0 <= us <= MAX_INTEGER:
        raise UsageError(f"expected a duration in seconds, 0 or more, found {_show(seconds)}")
    return us
