"""``auditkit rotate``: seal everything up to this moment."""

from __future__ import annotations

from auditkit.cli.declarations import Settings, command
from auditkit.cli.sealed import seal_trail


@command(
    "rotate",
    formats=("table", "json"),
    examples=(
        ("auditkit rotate", "seal everything up to this moment"),
        ("auditkit rotate --store /srv/app/audit && tar cf audit.tar /srv/app/audit", "before a backup"),
    ),
)
def run(settings: Settings) -> int:
    """Seal everything recorded so far, also what processes have written that still run.

    They go on undisturbed. It's what a logger's rotate() does, from outside.
    """
    return seal_trail(settings)
