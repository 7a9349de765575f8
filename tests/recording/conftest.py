"""A store for each test, and no process left behind by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recording import running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made; nothing is there yet."""
    return tmp_path / "audit"


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """End the programs that a failed test has left running."""
    yield
    while running.started:
        process = running.started.pop()
        if process.returncode is None:
            process.kill()
            process.communicate()
