"""``auditkit demo``: a week of a sales automation, recorded before your eyes."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auditkit.cli.declarations import Exit, Settings, command, option
from auditkit.cli.interrupts import raise_from_now_on

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from auditkit.cli.terminal import Terminal
    from auditkit.demo.recorder import Demo


@command(
    "demo",
    examples=(
        ("auditkit demo", "into ./demo-audit"),
        ("auditkit demo --output tour --seed 7", "elsewhere, and another week"),
        ("auditkit demo --events 200000", "more of it"),
    ),
    stored=False,
)
@option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-audit"),
    metavar="DIR",
    help="Folder of the demo; an older demo in it is replaced, nothing else is touched [default: ./demo-audit].",
)
@option(
    "--events",
    type=click.IntRange(min=100, max=1_000_000),
    default=12_000,
    metavar="N",
    help="About how many events [default: 12000].",
)
@option("--seed", type=int, default=2026, metavar="N", help="Another seed is another week [default: 2026].")
def run(settings: Settings, output: Path, events: int, seed: int) -> int:
    """Record a week of a sales automation with several processes, seal it, verify it, and render a report.

    The events are made up; everything else is real: the processes that write at the same time, the exceptions
    and their tracebacks, the signatures. The store's key is put beside it, so that nothing is left anywhere
    else; a store of your own has its key in your user folder, away from the data it vouches for.
    """
    from auditkit.demo.recorder import record_demo

    raise_from_now_on()
    stages = _Stages(settings.terminal)
    try:
        demo = record_demo(output, events=events, seed=seed, begin=stages.begin, tell=stages.tell)
    finally:
        stages.stop()
    _print_demo(settings.terminal, demo)
    return Exit.SOUND if demo.verification.ok else demo.verification.exit_code


class _Stages:
    """Shows each stage while it runs, and what came of it when it's done."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._status: AbstractContextManager[None] | None = None

    def begin(self, stage: str) -> None:
        self.stop()
        self._status = self._terminal.show_status(stage)
        self._status.__enter__()

    def tell(self, stage: str, result: str, seconds: float) -> None:
        from auditkit.cli.terminal import make_text, printable

        self.stop()
        line = make_text(f"  {stage:<11}", "bold")
        line.append(f"{printable(result):<56}", "default not bold")
        line.append(f"{seconds:5.1f} s", "dim")
        self._terminal.err.print(line, soft_wrap=True)

    def stop(self) -> None:
        if self._status is not None:
            self._status.__exit__(None, None, None)
            self._status = None


def _print_demo(terminal: Terminal, demo: Demo) -> None:
    from auditkit.cli.commands.performance import print_performance
    from auditkit.cli.commands.stats import print_statistics
    from auditkit.cli.terminal import make_text, printable, shorten_path

    terminal.out.print()
    print_statistics(terminal, demo.trail, brief=True)
    terminal.out.print()
    print_performance(terminal, demo.trail)
    terminal.out.print()
    key = f"{shorten_path(demo.root / 'demo.key')}  (only a demo keeps it beside the store)"
    rows = (("store", shorten_path(demo.trail.path)), ("key", key), ("report", shorten_path(demo.report)))
    for name, text in rows:
        line = make_text(f"  {name:<8}", "bold")
        line.append(printable(text), "default not bold")
        terminal.out.print(line, soft_wrap=True)
    program = find_program(demo.root)
    lines = (
        f"cd {shorten_path(demo.root)}",
        f"{program} query --lead {demo.lead}",
        f"{program} performance --operation crm.sync --by day",
        f"{program} integrity --key-file demo.key",
    )
    terminal.out.print()
    terminal.out.print(make_text("Next, try", "bold"))
    for text in lines:
        terminal.out.print(make_text(f"  {printable(text)}"), soft_wrap=True)


def find_program(folder: Path) -> str:
    """Find out how this program is called from a folder.

    Example:
        >>> "auditkit" in find_program(Path("demo-audit"))
        True
    """
    if shutil.which("auditkit"):
        return "auditkit"
    script = Path(sys.executable).parent / "auditkit"
    called = str(script if script.exists() else sys.executable)
    near = min(os.path.relpath(called, folder), called, key=len)
    return shlex.quote(near) + ("" if script.exists() else " -m auditkit")
