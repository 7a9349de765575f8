"""``auditkit report``: reports as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from auditkit.cli.declarations import AuditGroup, Exit, Settings, command, option


@click.group("report", cls=AuditGroup, no_args_is_help=True)
def run() -> None:
    """Write a report as one self-contained HTML file, which opens without a network."""


run.examples = (
    ("auditkit report daily", "today, or the newest day that has events"),
    ("auditkit report daily --day 2026-11-23 --output monday.html", "a given day"),
)


@command(
    "daily",
    examples=(
        ("auditkit report daily", "today, or the newest day that has events"),
        ("auditkit report daily --day yesterday --tz Europe/Berlin", "a day of another zone"),
        ("auditkit report daily --day 2026-11-23 --output monday.html", "into a file of your own"),
        ("firefox $(auditkit report daily)", "the path is all that goes to standard output"),
    ),
)
@option(
    "--day",
    metavar="DAY",
    help="2026-11-23, today or yesterday [default: today, or the newest day with events].",
)
@option("--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: reports/daily-<date>.html]")
@option("--tz", default="UTC", metavar="ZONE", help="Time zone of the day [default: UTC].")
def daily(settings: Settings, day: str | None, output: Path | None, tz: str) -> int:
    """Render one day: activity, errors, latencies, workflows, recent events, and whether the record is sound.

    Exits with 1 or 3, with the report written, if the integrity check says so.
    """
    from auditkit import report
    from auditkit.times import find_zone

    find_zone(tz)
    trail = settings.open_trail(frames=True)
    with settings.terminal.show_status("rendering the report"):
        made = report.daily(day, output=output, tz=tz, trail=trail)
    click.echo(str(made.path))
    settings.terminal.note(f"day {made.day}, {made.extent}: {made.verdict.headline}")
    code = Exit.INCOMPLETE if made.verification is None else made.verification.exit_code
    if code != Exit.SOUND:
        settings.terminal.warn(made.verdict.sentence)
    return code


daily.short_help = "A day's activity, errors and latencies, and whether it's sound."
run.add_command(daily)
