"""The progress bar of a verification: not for the many that are over at once, and for those that take longer."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from auditkit.cli.commands import integrity
from auditkit.cli.terminal import Terminal


@pytest.fixture
def terminal() -> tuple[Terminal, io.StringIO]:
    """A terminal whose standard error is kept."""
    made, kept = Terminal(), io.StringIO()
    made._err = Console(file=kept, force_terminal=True, width=80)
    return made, kept


def test_a_quick_verification_shows_no_bar(terminal: tuple[Terminal, io.StringIO]) -> None:
    """What is over within a second leaves nothing on the screen."""
    made, kept = terminal
    with integrity._show_progress(made, "checking events") as tell:
        assert tell is not None
        tell(1, 2)
        tell(2, 2)
    assert "checking events" not in kept.getvalue()


def test_a_long_verification_shows_how_far_it_is(
    terminal: tuple[Terminal, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has taken longer than that, the bar has its text, what is done and what there is to do."""
    made, kept = terminal
    monkeypatch.setattr(integrity, "_PATIENCE_S", -1.0)
    with integrity._show_progress(made, "checking events") as tell:
        assert tell is not None
        tell(41, 100)
    assert "checking events" in kept.getvalue()
    assert "41/100" in kept.getvalue()


def test_a_pipe_gets_no_bar() -> None:
    """A script's standard error isn't drawn on."""
    made = Terminal()
    made._err = Console(file=io.StringIO(), force_terminal=False)
    with integrity._show_progress(made, "checking events") as tell:
        assert tell is None
