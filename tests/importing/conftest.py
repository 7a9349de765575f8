"""What the tests of importing share: a sink that keeps events in memory, and the folder of the real data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Memory:
    """A sink that keeps what it is given; the marks of imports apart from the rows' events."""

    events: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)

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
        if type.startswith("auditkit."):
            self.marks.append(details)
            return f"marks:{len(self.marks)}"
        given = {
            "type": type,
            "details": details,
            "actor": actor,
            "lead_id": lead_id,
            "workflow": workflow,
            "time": time,
            "outcome": outcome,
            "operation": operation,
            "duration": duration,
            "error_type": error_type,
            "message": message,
            "traceback": traceback,
        }
        self.events.append({name: value for name, value in given.items() if value is not None})
        return f"memory:{len(self.events)}"


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejects are written to the current folder, which is each test's own."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data beside the checkout, which a fresh clone doesn't have."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data isn't beside this checkout (../shared/data)")
    return folder
