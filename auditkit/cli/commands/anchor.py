"""``auditkit anchor``: the newest checkpoint, published where whoever may change the store can't reach it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auditkit.cli.declarations import Exit, Settings, command, option

if TYPE_CHECKING:
    from auditkit.anchoring.publication import Publication
    from auditkit.trail import AuditTrail


@command(
    "anchor",
    formats=("table", "json"),
    examples=(
        ("auditkit anchor", "print the newest checkpoint, to be kept elsewhere"),
        ("auditkit anchor --file /mnt/auditor/checkpoints.txt", "append it to a file elsewhere"),
        ("auditkit anchor --witness w.example+b8a2cf20+BFLN…=https://w.example", "have a witness cosign it"),
        ("auditkit anchor --webhook https://h.example/T1 --timestamp http://t.example", "both at once"),
        ("auditkit integrity --against /mnt/auditor/checkpoints.txt", "compare with it later"),
    ),
)
@option(
    "--file",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append it to this file, outside the store. Can be given more than once, like the others.",
)
@option("--webhook", multiple=True, metavar="URL", help="Post it there as JSON.")
@option(
    "--witness",
    multiple=True,
    metavar="KEY=URL",
    help="Have this witness cosign it: its verifier key and URL (c2sp.org/tlog-witness).",
)
@option("--timestamp", multiple=True, metavar="URL", help="Have this authority stamp it (RFC 3161).")
@option(
    "--check-timestamps",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check the stamps that are kept, under these certificates of authorities (PEM), and publish nothing.",
)
def run(
    settings: Settings,
    file: tuple[Path, ...],
    webhook: tuple[str, ...],
    witness: tuple[str, ...],
    timestamp: tuple[str, ...],
    check_timestamps: Path | None,
) -> int:
    """Publish the newest checkpoint where nobody who may change the store can reach it.

    It is the signed statement of all that is sealed: with it, nobody cuts that off unseen. Without options it is
    printed. Exits with 1 if a witness knows another history of this store, which is evidence that it was rolled back or
    rewritten, and with 4 if a place couldn't be reached.
    """
    trail = settings.open_trail()
    if check_timestamps is not None:
        return _check_timestamps(settings, trail, check_timestamps)
    if not (file or webhook or witness or timestamp):
        click.echo(trail.checkpoint(), nl=False)
        return Exit.SOUND
    with settings.terminal.show_status("publishing the checkpoint"):
        published = trail.anchor(file, webhook, witness, timestamp)
    if settings.format == "json":
        _write_json(published)
    else:
        _print(settings, published)
    if published.conflicts:
        return Exit.FINDINGS
    return Exit.SOUND if published.ok else Exit.INPUT_OUTPUT


def _check_timestamps(settings: Settings, trail: AuditTrail, roots: Path) -> int:
    from auditkit.cli.cells import show_text, write_json
    from auditkit.cli.terminal import make_text

    stamps = trail.verify_timestamps(roots.read_bytes())
    if settings.format == "json":
        write_json([{"commit": number, **asdict(stamp)} for number, stamp in stamps])
        return Exit.SOUND
    for number, stamp in stamps:
        line = f"commit {number:,} was there on {stamp.time:%Y-%m-%d %H:%M:%S} UTC, says {show_text(stamp.authority)}"
        settings.terminal.out.print(make_text(line), soft_wrap=True)
    if not stamps:
        settings.terminal.note("no time stamp is kept in anchors/: `auditkit anchor --timestamp URL` gets one")
    return Exit.SOUND


def _print(settings: Settings, published: Publication) -> None:
    from auditkit.cli.cells import show_text
    from auditkit.cli.terminal import make_text

    out = settings.terminal.out
    out.print(make_text(f"checkpoint of commit {published.commit:,}, {published.size:,} leaves"), soft_wrap=True)
    for result in published.results:
        word, style = ("published", "bold green") if result.problem is None else ("FAILED", "bold red")
        word = "CONFLICT" if result.conflict else word
        line = make_text(f"  {result.kind:<9} ", "dim")
        line.append(f"{word:<9} ", style)
        line.append(show_text(result.place), "default")
        out.print(line, soft_wrap=True)
        if result.problem is not None:
            settings.terminal.warn(show_text(result.problem))


def _write_json(published: Publication) -> None:
    from auditkit.cli.cells import write_json

    write_json({"ok": published.ok, **asdict(published)})
