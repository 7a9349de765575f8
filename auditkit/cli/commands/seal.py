"""``auditkit seal``: seal journals into Parquet partitions."""

from __future__ import annotations

from auditkit.cli.declarations import Settings, command
from auditkit.cli.sealed import seal_trail


@command(
    "seal",
    formats=("table", "json"),
    examples=(
        ("auditkit seal", "what the journals hold"),
        ("*/15 * * * *  auditkit seal --store /srv/app/audit", "a line for crontab"),
    ),
)
def run(settings: Settings) -> int:
    """Seal what the journals hold into signed daily Parquet partitions.

    An application seals by itself. This is for applications that can't, because they run without the seal
    extra or with enable_rotation=False.
    """
    return seal_trail(settings)
