"""One process of the demo: plays its part of the scenario against the services, and records what happens.

``python -m auditkit.demo.worker`` reads what it is to do from standard input, as JSON.
"""

from __future__ import annotations

import smtplib
import sys
from datetime import datetime
from pathlib import Path
from traceback import format_exception

import orjson

from auditkit.demo.scenario import Step, compose_week
from auditkit.demo.services import CrmClient, MailServer, score_lead
from auditkit.logger import FAILURE, SUCCESS, AuditLogger


def play_part(store: Path, key_file: Path, worker: int, seed: int, now: datetime, events: int) -> None:
    """Record one worker's steps. Runs in a process of its own.

    Args:
        store: Folder of the store.
        key_file: Its key.
        worker: Number of the worker.
        seed: Seed of the scenario.
        now: End of the week.
        events: About how many events the whole week has.
    """
    steps = [step for step in compose_week(seed, now, events) if step.worker == worker]
    with AuditLogger(store, key_file=key_file, enable_rotation=False) as audit:
        for step in steps:
            record_step(audit, step)


def record_step(audit: AuditLogger, step: Step) -> None:
    """Do what a step says, and record it with what came of it."""
    error = _try(step)
    outcome = step.outcome
    if step.operation is not None:
        outcome = SUCCESS if error is None else FAILURE
    elif error is not None:
        outcome = FAILURE
    audit.log_event(
        step.type,
        step.details,
        actor=step.actor,
        lead_id=step.lead_id,
        workflow=step.workflow,
        time=step.time,
        outcome=outcome,
        operation=step.operation,
        duration=step.duration,
        error_type=None if error is None else name_error(error),
        message=step.message if error is None else str(error),
        traceback=None if error is None else "".join(format_exception(error)),
    )


def name_error(error: BaseException) -> str:
    """Name an error's class as `AuditLogger.log_error` does.

    Example:
        >>> name_error(KeyError("x"))
        'KeyError'
    """
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _try(step: Step) -> Exception | None:
    try:
        _call(step)
    except (OSError, ValueError, KeyError, smtplib.SMTPException, RuntimeError) as error:
        return error
    except Exception as error:
        if type(error).__module__.startswith("auditkit.demo"):
            return error
        raise
    return None


def _call(step: Step) -> None:
    """Call the service that the step needs; it raises what goes wrong."""
    given = step.arguments or {}
    match step.call:
        case "crm.create":
            CrmClient(given["trouble"]).create_contact(given["lead_id"], given["data"])
        case "crm.sync":
            CrmClient(given["trouble"]).sync(given["seconds"])
        case "mail.send":
            unknown = frozenset([given["recipient"]] if given["unknown"] else [])
            MailServer(unknown, given["busy"]).send(given["recipient"], given["subject"])
        case "lead.score":
            score_lead(given["data"])
        case _:
            pass


def main() -> None:
    """Do what standard input says."""
    order = orjson.loads(sys.stdin.buffer.read())
    play_part(
        Path(order["store"]),
        Path(order["key_file"]),
        order["worker"],
        order["seed"],
        datetime.fromisoformat(order["now"]),
        order["events"],
    )


if __name__ == "__main__":
    main()
