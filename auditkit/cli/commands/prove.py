"""``auditkit prove``: that the store only grew since a checkpoint that somebody kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auditkit.cli.commands.receipt import write_text
from auditkit.cli.commands.verify_receipt import print_verdict, read_input, read_keys
from auditkit.cli.declarations import Exit, Settings, command, option
from auditkit.errors import StoreDamaged, UsageError

if TYPE_CHECKING:
    from auditkit.note import Note


@command(
    "prove",
    examples=(
        ("auditkit prove --from monday.note --output growth.proof", "to the newest checkpoint"),
        ("auditkit prove --from monday.note --to tuesday.note", "to another one"),
        ("auditkit prove --check growth.proof --from monday.note --public-key crm.pub", "without the store"),
    ),
)
@option("--from", "old", metavar="FILE", help="The older checkpoint, as a signed note; - for standard input.")
@option("--to", "new", metavar="FILE", help="The newer checkpoint [default: the store's newest].")
@option("--output", default="-", metavar="FILE", help="File to write, or - for standard output [default: -].")
@option("--check", metavar="PROOF", help="Check this proof instead of making one; no store is needed.")
@option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="KEY|FILE",
    help="The store's verifier key, or a file that holds it; needed for --check. Only what it signed counts then.",
)
def run(
    settings: Settings, old: str | None, new: str | None, output: str, check: str | None, public_keys: Sequence[str]
) -> int:
    """Prove that the store only grew since a checkpoint: nothing that it covers was changed or removed.

    A checkpoint is found in any text: a signed note, a mail, a report; of several the last counts. The proof ends in
    the newer one, and is what a C2SP witness takes for add-checkpoint. Exits with 1 if the older checkpoint is no state
    of this store's tree, or if --check finds that a proof doesn't hold.
    """
    if old is None:
        raise click.UsageError("expected --from FILE with the older checkpoint, found none")
    if check is not None:
        return _check(settings, check, old, read_keys(public_keys))
    keys = read_keys(public_keys) if public_keys else []
    return _prove(settings, old, new, output, keys)


def _prove(settings: Settings, old: str, new: str | None, output: str, keys: list[str]) -> int:
    from auditkit import note
    from auditkit.cli.terminal import shorten_path
    from auditkit.proof import format_consistency_proof
    from auditkit.receipts import write_proof
    from auditkit.store.ledger import name_origin

    if old == new == "-":
        raise click.UsageError("expected one of the checkpoints in a file, found standard input for both")
    trail = settings.open_trail()
    origin = name_origin(trail.store_id)
    older = _read_checkpoint(old, origin, keys)
    newer = None if new is None else _read_checkpoint(new, origin, keys)
    proof = trail.prove(_print_note(older), None if newer is None else _print_note(newer))
    size = note.parse_checkpoint(note.parse_note(proof.checkpoint).text).size
    text = format_consistency_proof(proof)
    where = ""
    if output == "-":
        write_text(text)
    else:
        where = f"\nto {shorten_path(write_proof(Path(output), text))}"
    settings.terminal.note(f"the tree only grew, from {proof.old_size} leaves to {size}{where}")
    return Exit.SOUND


def _check(settings: Settings, file: str, old: str, keys: list[str]) -> int:
    from auditkit import note
    from auditkit.cli.terminal import printable
    from auditkit.proof import MAX_PROOF_BYTES, find_consistency_faults, parse_consistency_proof

    if file == old == "-":
        raise click.UsageError("expected the proof or the checkpoint in a file, found standard input for both")
    proof = parse_consistency_proof(read_input(file, MAX_PROOF_BYTES))
    told = note.parse_checkpoint(note.parse_note(proof.checkpoint).text)
    older = _read_checkpoint(old, told.origin, keys)
    faults = find_consistency_faults(proof, _print_note(older), keys)
    grew = f"the tree {printable(told.origin)} only grew, from {proof.old_size} leaves to {told.size}"
    print_verdict(settings.terminal, faults or [grew], valid=not faults)
    return Exit.FINDINGS if faults else Exit.SOUND


def _print_note(signed: Note) -> str:
    from auditkit import note

    return note.format_note(signed.text, signed.signatures)


def _read_checkpoint(file: str, origin: str, keys: list[str]) -> Note:
    """Read the checkpoint of a log that a file holds; of several the last one, with keys the last they signed."""
    from auditkit import note
    from auditkit.anchoring.copies import MAX_BYTES, find_checkpoints
    from auditkit.proof import find_signer, read_verifier_keys

    data = read_input(file, MAX_BYTES)
    where = "standard input" if file == "-" else ascii(file[:200])
    found = find_checkpoints(data, origin, source=where)
    trusted = read_verifier_keys(keys) if keys else ()
    chosen = [each for each in found if not trusted or find_signer(each, origin, trusted)]
    if chosen:
        return chosen[-1]
    if found:
        raise StoreDamaged(
            f"expected a checkpoint of {origin!a} in {where} that the public key signed, found {len(found)} that "
            "it didn't"
        )
    try:
        # Another log's, which is for the caller to say.
        signed = note.parse_note(data)
        note.parse_checkpoint(signed.text)
    except StoreDamaged:
        raise UsageError(
            f"expected a signed checkpoint of {origin!a} in {where}, found none: give the whole note, from its "
            "first line to its signature"
        ) from None
    return signed
