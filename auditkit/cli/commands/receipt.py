"""``auditkit receipt``: a proof of one event, to be checked by anybody."""

from __future__ import annotations

import sys

import click

from auditkit.cli.declarations import Settings, command, option


@command(
    "receipt",
    examples=(
        ("auditkit receipt 20261123-k3f9wq2mzr7ta5xd:7", "into 20261123-k3f9wq2mzr7ta5xd-7.tlog-proof"),
        ("auditkit receipt 20261123-k3f9wq2mzr7ta5xd:7 --output order-4711.tlog-proof", "into a file of your own"),
        ("auditkit receipt 20261123-k3f9wq2mzr7ta5xd:7 --output - | gzip > order-4711.gz", "to a pipe"),
    ),
)
@click.argument("event_id", metavar="EVENT_ID")
@option(
    "--output",
    metavar="FILE",
    help="File or folder to write to, or - for standard output [default: <writer>-<seq>.tlog-proof].",
)
def run(settings: Settings, event_id: str, output: str | None) -> None:
    """Write a receipt: a proof that one event is in the store, which needs no store to be checked.

    Whoever gets it checks it with auditkit verify-receipt and the store's public key, offline. The ids of events are in
    auditkit query --format json; the event has to be sealed. The receipt holds the whole event, in base64: give it only
    to people who may read that.
    """
    from auditkit.cli.terminal import shorten_path

    trail = settings.open_trail()
    with settings.terminal.show_status("hashing the event's segment"):
        receipt = trail.receipt(event_id)
    if output == "-":
        write_text(receipt.text)
        return
    path = receipt.save(output)
    settings.terminal.note(f"{receipt}\nto {shorten_path(path)}")


def write_text(text: str) -> None:
    """Write a proof to standard output: its exact bytes to a pipe, and nothing to act on to a terminal."""
    from auditkit.cli.terminal import printable_lines

    sys.stdout.buffer.write((printable_lines(text) if sys.stdout.isatty() else text).encode())
    sys.stdout.buffer.flush()
