"""A real store for the command line: a sales automation's two days, and events as hostile as they come."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import auditkit
from tests.cli.test_terminal import HOSTILE

START = datetime(2026, 11, 22, 22, tzinfo=UTC)


@dataclass(frozen=True)
class Store:
    """A store with its key outside it."""

    path: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """How the command line is told about it."""
        return ["--store", str(self.path), "--key-file", str(self.key)]


def record(path: Path, key: Path) -> None:
    """Record the events: 40 in order, ten failures with tracebacks, and one for each hostile text."""
    with auditkit.AuditLogger(path, key_file=key, enable_rotation=False) as audit:
        for number in range(40):
            time = START + timedelta(minutes=10 * number, microseconds=number)
            fields: dict[str, Any] = {"time": time, "lead_id": f"L-{number % 5}", "workflow": "inbound"}
            if number % 4 == 3:
                try:
                    raise TimeoutError(f"no answer from host {number}")
                except TimeoutError as error:
                    audit.log_event(
                        "operation",
                        operation="crm.sync",
                        duration=0.25 * number,
                        outcome="failure",
                        error_type="TimeoutError",
                        message=str(error),
                        traceback=f"Traceback (most recent call last):\n  ...\nTimeoutError: {error}\n",
                        actor="crm-bot",
                        **fields,
                    )
            else:
                audit.log_event("lead.ingested", {"source": "web", "n": number}, actor="webform", **fields)
        audit.rotate()
        for number, text in enumerate(HOSTILE):
            audit.log_event(
                "form.sent",
                {text: text, "number": 0.1},
                actor=text,
                lead_id=text,
                workflow=text,
                time=START + timedelta(hours=10, minutes=number),
                outcome="failure",
                operation=text,
                duration=0.001,
                error_type=text,
                message=text,
                traceback=f"Traceback:\n{text}",
            )


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store as it was recorded; nobody changes it."""
    folder = tmp_path_factory.mktemp("cli")
    store = Store(folder / "audit", folder / "key" / "audit.key")
    record(store.path, store.key)
    return store


@pytest.fixture
def store(recorded: Store, tmp_path: Path) -> Store:
    """A copy of the store to work on, in a folder where nothing else is.

    It has a key file of its own: one that other copies draw from would rightly call this one an older copy.
    """
    copy = Store(tmp_path / "audit", recorded.key.with_name(f"{tmp_path.name}.key"))
    shutil.copy(recorded.key, copy.key)
    shutil.copytree(recorded.path, copy.path)
    os.sync()
    return copy
