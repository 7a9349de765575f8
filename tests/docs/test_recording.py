"""docs/recording.md names every call of the logger, with the signature and the event that it really has."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditkit import AuditHandler, AuditLogger
from auditkit.measuring import PerformanceStats
from tests.recording import independent

PAGE = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
SECRET = "a secret that only these tests know"
CALL = re.compile(r"`(\w+)(\(.*?\))`")

VALUES: dict[str, Any] = {
    "type": "KeyError",
    "kind": "auditkit.example",
    "qualified": True,
    "duration": 0.5,
    "length": 3,
    "details": {"as": "given"},
}
"""What a parameter gets that isn't any text."""


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLogger]:
    """A logger of a store of its own."""
    with AuditLogger(tmp_path / "audit", secret_key=SECRET, enable_rotation=False) as logger:
        yield logger


def read_rows(heading: str) -> list[list[str]]:
    """Give the rows of the first table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def show_signature(function: Any) -> str:
    """Print a signature as the page does: without self and types."""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_every_public_method_of_the_logger_is_on_the_page() -> None:
    """Nobody has to read the code to find a call."""
    methods = {name for name, value in vars(AuditLogger).items() if callable(value) and not name.startswith("_")}
    assert len(methods) > 20
    assert {name for name in methods if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_the_catalogue_is_the_loggers() -> None:
    """Each ``log_…`` but log_event, which the rest of the page is about, has a row."""
    named = {found[1] for row in read_rows("The catalogue") if (found := CALL.match(row[0]))}
    calls = {name for name in vars(AuditLogger) if name.startswith("log_")} - {"log_event"}
    assert named == calls | {"track_performance"}


def test_signatures_on_the_page_are_those_of_the_code() -> None:
    """Names, order, defaults and what is by keyword only, wherever the page shows a whole call."""
    shown = dict[str, str](CALL.findall(PAGE.partition("\n## The catalogue\n")[2].partition("\n## What becomes")[0]))
    assert len(shown) > 15
    for name, signature in shown.items():
        function = AuditHandler if name == "AuditHandler" else getattr(AuditLogger, name)
        assert signature.replace("logging.NOTSET", "0") == show_signature(function), name


@pytest.mark.parametrize("row", read_rows("The catalogue"), ids=lambda row: row[0].partition("(")[0].strip("`"))
def test_the_catalogue_holds(audit: AuditLogger, row: list[str]) -> None:
    """A call with every argument given has the type, columns, details and outcome of its row."""
    call, kind, columns, details, outcome = row
    found = CALL.match(call)
    assert found
    method = getattr(audit, found[1])
    given = {name: VALUES.get(name, f"a {name}") for name in inspect.signature(method).parameters}
    given.pop("outcome", None)
    method(**given)
    (event,) = (
        line.fields
        for lines in independent.read_journal(audit.path).values()
        for line in lines
        if line.fields["type"] not in ("auditkit.opened", "auditkit.closed")
    )
    assert re.fullmatch(kind.strip("`").replace(".", r"\.").replace("…", ".*"), event["type"])
    texts = ("actor", "lead_id", "workflow", "operation", "duration_us", "error_type", "message", "traceback")
    assert {name for name in texts if event[name] is not None} == set(re.findall(r"`(\w+)`", columns))
    expected = given["details"] if details == "as given" else dict.fromkeys(re.findall(r"`(\w+)`", details))
    assert json.loads(event["details"]).keys() == expected.keys()
    assert event["outcome"] == (re.findall(r"`(\w+)`", outcome) or [None])[0]


def test_the_statistics_on_the_page_are_those_of_the_code(audit: AuditLogger) -> None:
    """The keys of the counts and the figures of a measurement are listed in full."""
    (row,) = (row for row in read_rows("Reading on the logger") if row[0].startswith("`get_statistics"))
    listed = re.findall(r"`(\w+)`", row[1])
    assert listed[: listed.index("last_event") + 1] == list(audit.get_statistics())
    measuring = PAGE.partition("\n## Measuring\n")[2].partition("\n## ")[0]
    assert {name for name in PerformanceStats.__annotations__ if f"`{name}`" not in measuring} == set()
