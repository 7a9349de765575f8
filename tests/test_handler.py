"""Ordinary log records as signed events."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditkit import AuditHandler, AuditLogger
from tests.recording import independent

SECRET = "a secret that only these tests know"


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLogger]:
    """A logger of a store of its own."""
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as logger:
        yield logger


@pytest.fixture
def log(audit: AuditLogger) -> logging.Logger:
    """A standard logger whose records become events, and go nowhere else."""
    logger = logging.Logger("shop.checkout", logging.DEBUG)  # noqa: LOG001 - one of the tree has pytest's handlers
    logger.addHandler(AuditHandler(audit, level=logging.INFO))
    return logger


def read_events(audit: AuditLogger) -> list[dict[str, Any]]:
    """Give the events of the application, with their details read."""
    events = [
        {**line.fields, "details": json.loads(line.fields["details"] or "null")}
        for lines in independent.read_journal(audit.path).values()
        for line in lines
    ]
    return [event for event in events if not event["type"].startswith("auditkit.")]


def test_a_record_becomes_an_event(audit: AuditLogger, log: logging.Logger) -> None:
    """Message, level, logger and place are kept, below ERROR without an outcome."""
    log.warning("disk at %d %%", 91)
    [event] = read_events(audit)
    assert (event["type"], event["message"], event["outcome"]) == ("log", "disk at 91 %", None)
    details = event["details"]
    assert (details["level"], details["logger"]) == ("WARNING", "shop.checkout")
    assert (details["file"], details["function"]) == (__file__, "test_a_record_becomes_an_event")
    assert Path(details["file"]).read_text().splitlines()[details["line"] - 1].strip().startswith("log.warning")


def test_extra_fills_columns_and_details(audit: AuditLogger, log: logging.Logger) -> None:
    """What names a column fills it, whatever its class; everything else stands under extra."""
    log.info("sold", extra={"lead_id": 42, "actor": "ana", "workflow": "shop", "outcome": "won", "amount": {120}})
    log.info("plain")
    sold, plain = read_events(audit)
    assert (sold["lead_id"], sold["actor"], sold["workflow"], sold["outcome"]) == ("42", "ana", "shop", "won")
    assert sold["details"]["extra"] == {"amount": [120]}
    assert "extra" not in plain["details"]


def test_an_exception_is_a_failure_with_its_traceback(audit: AuditLogger, log: logging.Logger) -> None:
    """Type and traceback come from the exception; from ERROR on the outcome is failure unless it is given."""
    try:
        dict[str, str]()["missing"]
    except KeyError:
        log.exception("no such key")
        log.critical("given", extra={"outcome": "handled"})
    log.error("no exception", exc_info=(None, None, None))
    first, second, third = read_events(audit)
    assert (first["outcome"], first["error_type"], first["message"]) == ("failure", "KeyError", "no such key")
    assert "test_handler.py" in first["traceback"]
    assert first["traceback"].endswith("KeyError: 'missing'\n")
    assert (second["outcome"], second["error_type"]) == ("handled", None)
    assert (third["outcome"], third["error_type"], third["traceback"]) == ("failure", None, None)


def test_an_exceptions_class_is_named_as_log_error_names_it(audit: AuditLogger, log: logging.Logger) -> None:
    """One class of errors has one name, however it was recorded, so that it counts as one."""
    error = json.JSONDecodeError("bad", "{", 0)
    log.error("x", exc_info=error)
    audit.log_error(error)
    first, second = read_events(audit)
    assert first["error_type"] == second["error_type"] == "json.decoder.JSONDecodeError"


def test_the_stack_of_a_record_is_kept(audit: AuditLogger, log: logging.Logger) -> None:
    """``stack_info=True`` asks for the stack, and it is what the traceback column holds."""
    log.warning("who calls this?", stack_info=True)
    [event] = read_events(audit)
    assert event["traceback"].startswith("Stack (most recent call last):")
    assert "test_the_stack_of_a_record_is_kept" in event["traceback"]


def test_levels_and_context_hold(audit: AuditLogger, log: logging.Logger) -> None:
    """Records below the handler's level are left out; the block's lead is taken."""
    log.debug("too low")
    with audit.context(lead_id="L-1"):
        log.info("in a block")
    [event] = read_events(audit)
    assert (event["message"], event["lead_id"]) == ("in a block", "L-1")


class Mute:
    """Says nothing of itself, and means it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error

    __repr__ = __str__


def test_a_record_that_cannot_be_formatted_is_kept(
    audit: AuditLogger, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with every handler, a wrong format is shown on stderr; the event has what the record was made of."""
    log.error("%d leads", "many", extra={"lead_id": "L-1"})
    log.info("next\ud800")
    assert capsys.readouterr().err.count("--- Logging error ---") == 1
    wrong, sound = read_events(audit)
    assert (wrong["message"], wrong["outcome"], wrong["lead_id"]) == ("%d leads", "failure", "L-1")
    unformatted = wrong["details"]["unformatted"]
    assert (unformatted["template"], unformatted["args"]) == ("%d leads", ["many"])
    assert unformatted["error"].startswith("TypeError: %d format")
    assert sound["message"] == "next\ufffd"
    assert "unformatted" not in sound["details"]


@pytest.mark.parametrize("error", [ValueError("mute"), SystemExit(3), RecursionError("deep")])
def test_an_argument_that_says_nothing_costs_neither_record_nor_application(
    audit: AuditLogger, log: logging.Logger, error: BaseException
) -> None:
    """Whatever an argument's own code raises, or a message's that is no text, the event is there with a marker."""
    log.info("from %s to %s", "here", Mute(error))
    log.info(Mute(error))
    log.info("%(name)s", {"name": Mute(error)})
    first, second, third = read_events(audit)
    marker = {"$unconvertible": f"{Mute.__module__}.Mute"}
    assert (first["message"], first["details"]["unformatted"]["args"]) == ("from %s to %s", ["here", marker])
    assert first["details"]["unformatted"]["error"] == f"{type(error).__name__}: {error}"
    assert second["details"]["unformatted"]["template"] == marker
    assert json.loads(second["message"]) == marker
    assert third["details"]["unformatted"]["args"] == {"name": marker}


def test_a_closed_logger_breaks_nothing(
    audit: AuditLogger, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the audit logger's end records are reported on stderr, and nothing is raised."""
    audit.close()
    log.info("too late")
    assert "ClosedError" in capsys.readouterr().err


def test_our_own_warnings_can_be_recorded(audit: AuditLogger) -> None:
    """The handler on the root logger records auditkit's own log records too, without going in circles."""
    handler = AuditHandler(audit)
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("auditkit").warning("sealing failed")
    finally:
        logging.getLogger().removeHandler(handler)
    assert [event["message"] for event in read_events(audit)] == ["sealing failed"]
