"""``auditkit keys``: the keys of a store, which never lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auditkit.cli.declarations import AuditGroup, Exit, Settings, command, option

if TYPE_CHECKING:
    from auditkit.keys import Keys
    from auditkit.store.keyring import KeepRoot


@click.group("keys", cls=AuditGroup, no_args_is_help=True)
def run() -> None:
    """Make, show and rotate the keys of a store, and give out the public one.

    No secret is ever shown, but for the root of a forward-secure store: once, when it is made.
    """


run.examples = (
    ("auditkit keys init --forward-secure --root-file /media/usb/root.key", "a new store"),
    ("auditkit keys show", "which key, of what kind, and how often it was used"),
    ("auditkit keys export-public --output audit.pub", "for auditors: it checks and can't forge"),
    ("auditkit keys rotate", "new keys from here on; the old ones stay valid for what they signed"),
)


@command(
    "init",
    examples=(
        ("auditkit keys init --store ./audit", "a store with a key file in the user's key folder"),
        ("auditkit keys init --forward-secure --root-file /media/usb/root.key", "the root is kept offline"),
        ("auditkit keys init --forward-secure > /media/usb/root.key", "the same"),
    ),
)
@option(
    "--forward-secure", is_flag=True, help="The machine keeps only the current key, so its thief can't forge the past."
)
@option(
    "--root-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the root of a forward-secure store goes [default: standard output, once].",
)
def init(settings: Settings, forward_secure: bool, root_file: Path | None) -> int:
    """Make a new store and its key.

    With --forward-secure the root key is written once, to be kept away from this machine: everything can be verified
    with it, and nothing without it but by the public key. Whoever steals this machine's key file later can't forge what
    was recorded before.
    """
    from auditkit.errors import UsageError
    from auditkit.store.description import choose_path, create_store
    from auditkit.store.keyring import KeyFile, refuse_inside
    from auditkit.store.layout import Layout

    if root_file is not None and not forward_secure:
        raise UsageError("expected --root-file with --forward-secure only: an ordinary key file holds its root")
    layout = Layout(choose_path(settings.store).absolute())
    if root_file is not None:
        refuse_inside(root_file, layout.root)
    make_keep = (lambda store: _choose_keep(root_file, store)) if forward_secure else None
    description, keys = create_store(layout, settings.key_file, make_keep)
    settings.terminal.note(f"store {description.store} at {layout.root}")
    if isinstance(keys, KeyFile):
        settings.terminal.note(f"key {keys.key_id} ({keys.mode}) at {keys.path}")
    if forward_secure:
        where = "what was written to standard output" if root_file is None else str(root_file)
        settings.terminal.note(f"keep {where} offline: it is shown only now, and verifies everything (--key-file)")
    else:
        settings.terminal.note("back up the key file, apart from the store: without it only hashes can be checked")
    return Exit.SOUND


def _choose_keep(root_file: Path | None, store: str) -> KeepRoot:
    from auditkit.errors import KeyProblem
    from auditkit.store.keyring import format_offline, keep_offline

    if root_file is not None:
        return keep_offline(root_file, store)

    def show(n: int, root: bytes, _earlier: Sequence[int]) -> None:
        try:
            click.echo(format_offline(store, [(n, root)]), nl=False)
        except OSError as error:
            raise KeyProblem(
                f"expected standard output to take the root key, found that it can't ({error.strerror}): no store was "
                "made. Name a file with --root-file"
            ) from error

    return show


@command(
    "show",
    formats=("table", "json"),
    examples=(("auditkit keys show", "which key, of what kind, and how often it was used"),),
)
def show(settings: Settings) -> int:
    """Show which keys a store has, and no secret."""
    trail = settings.open_trail()
    facts = _describe(trail.find_keys(), trail.store_id)
    if settings.format == "json":
        from auditkit.cli.cells import write_json

        write_json(facts)
        return Exit.SOUND
    from auditkit.cli.cells import show_text
    from auditkit.cli.terminal import make_text

    for name, value in facts.items():
        if value is not None:
            row = make_text(f"  {name.replace('_', ' '):<13}", "dim")
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            row.append(show_text(text), "default")
            settings.terminal.out.print(row, soft_wrap=True)
    return Exit.SOUND


def _describe(keys: Keys, store: str) -> dict[str, Any]:
    from auditkit.errors import ExtraMissing
    from auditkit.store.keychange import derive_verifier_key
    from auditkit.store.keyring import OFFLINE, KeyFile

    file = keys if isinstance(keys, KeyFile) else None
    try:
        offline = file is not None and file.mode == OFFLINE
        public = None if offline else derive_verifier_key(store, keys.signing_seed)
    except ExtraMissing:
        public = None
    roots = [n for n, _ in keys.list_roots()] or keys.list_skipped()
    return {
        "store": store,
        "key": keys.key_id,
        "kind": "given secret" if file is None else file.mode,
        "file": None if file is None else str(file.path),
        "drawn": keys.count_drawn(store),
        "renewed_at": roots[1:] or None,
        "public_key": public,
    }


@command(
    "rotate",
    examples=(
        ("auditkit keys rotate", "a new root and a new signing key"),
        ("auditkit keys rotate --only signing", "the key that signs checkpoints alone"),
        ("auditkit keys rotate --root-file /media/usb/root.key", "a forward-secure store"),
    ),
)
@option("--only", type=click.Choice(["root", "signing"]), help="Replace only one of them [default: both].")
@option(
    "--root-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The offline key file of a forward-secure store, to which the new root is added.",
)
def rotate(settings: Settings, only: str | None, root_file: Path | None) -> int:
    """Replace the keys by new random ones, from here on.

    A signed commit says so, in which the old public key vouches for the new one; what was recorded and signed before
    stays valid. Restart the processes that record: until then they go on under the keys they drew.
    """
    from auditkit.errors import UsageError

    if root_file is not None and only == "signing":
        raise UsageError("expected --root-file where the root is renewed, found --only signing: leave it out")
    trail = settings.open_trail()
    public = trail.rotate_keys(root_file, root=only != "signing", sign=only != "root")
    click.echo(public)
    if only == "root":
        settings.terminal.note("the root is renewed; that is the public key, which stays as it was")
    else:
        settings.terminal.note("that is the public key from here on, for which the old one vouches in the ledger")
    if root_file is not None and only != "signing":
        settings.terminal.note(
            f"copy {root_file} again: older copies of it lack the new root, and would accuse what is honest"
        )
    settings.terminal.note("back up the key file again, and restart the processes that record")
    return Exit.SOUND


@command(
    "export-public",
    examples=(
        ("auditkit keys export-public", "one line, to be given to auditors"),
        ("auditkit keys export-public --output audit.pub", "into a file"),
        ("auditkit integrity --public-key audit.pub", "what they do with it"),
    ),
)
@option("--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: standard output]")
def export_public(settings: Settings, output: Path | None) -> int:
    """Give out the public key, a line of text.

    Whoever has it checks checkpoints, receipts and the sealed record, and can forge nothing. Hand it over yourself:
    one that is read from the store proves nothing.
    """
    from auditkit.store.keychange import derive_verifier_key

    trail = settings.open_trail()
    line = derive_verifier_key(trail.store_id, trail.find_keys().signing_seed)
    if output is None:
        click.echo(line)
        return Exit.SOUND
    from auditkit.receipts import write_proof
    from auditkit.store.outputs import choose_output

    click.echo(str(write_proof(choose_output(output, "the public key", trail.path), f"{line}\n")))
    return Exit.SOUND


init.short_help = "Make a new store and its key."
show.short_help = "Which keys a store has; no secret."
rotate.short_help = "New keys from here on."
export_public.short_help = "The public key, for auditors."
for _command in (init, show, rotate, export_public):
    run.add_command(_command)
