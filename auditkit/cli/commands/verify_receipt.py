"""``auditkit verify-receipt``: whether a receipt is valid, without the store."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from auditkit.cli.declarations import Exit, Settings, command, option
from auditkit.errors import UsageError

if TYPE_CHECKING:
    from auditkit.cli.terminal import Terminal
    from auditkit.receipts import ReceiptCheck

MAX_KEYS_BYTES: Final = 64 << 10
"""Most of a file of keys that is read."""

MAX_SHOWN: Final = 2000
"""Characters of a text of the event that the table shows; JSON has all of it."""

_KEY = re.compile(r"[^+\s]+\+[0-9a-f]{8}\+\S+")


@command(
    "verify-receipt",
    formats=("table", "json"),
    stored=False,
    examples=(
        ("auditkit verify-receipt order-4711.tlog-proof --public-key crm.pub", "with a key in a file"),
        ("auditkit verify-receipt - --public-key crm.pub < order-4711.tlog-proof", "from a pipe"),
    ),
)
@click.argument("file", metavar="FILE")
@option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="KEY|FILE",
    help="The store's verifier key, or a file that holds it. Given more than once: any of them.",
)
@option(
    "--cosigner",
    "cosigners",
    multiple=True,
    metavar="KEY|FILE",
    help="A witness's verifier key, or a file of such; all of them must have cosigned.",
)
def run(settings: Settings, file: str, public_keys: Sequence[str], cosigners: Sequence[str]) -> int:
    """Check a receipt, offline: that the event in it is in the store of that public key.

    Needs neither the store nor its secret key. The public key (public_key in store.json) must come from elsewhere than
    the receipt: from a contract, a mail, a web page of the store's owner. Exits with 0 if the receipt is valid, with 1
    if it isn't.
    """
    from auditkit.proof import MAX_PROOF_BYTES
    from auditkit.receipts import verify_receipt

    keys = read_keys(public_keys)
    check = verify_receipt(read_input(file, MAX_PROOF_BYTES), keys, cosigners=_read_cosigners(cosigners))
    if settings.format == "json":
        _write_json(check)
    else:
        print_check(settings.terminal, check)
    return Exit.SOUND if check.ok else Exit.FINDINGS


def read_keys(given: Sequence[str]) -> list[str]:
    """Read the public keys that ``--public-key`` gives, at least one: each is a key, or a file that holds it.

    Raises:
        UsageError: If there is none, or something else.
    """
    from auditkit.cli.inputs import read_public_key

    if not given:
        raise click.UsageError(
            "expected --public-key KEY or FILE, found none: a key out of the receipt or the store would prove nothing, "
            "as whoever forges one can put a key of their own beside it; ask the store's owner for it"
        )
    return [read_public_key(each) for each in given]


def _read_cosigners(given: Sequence[str]) -> list[str]:
    """Read the verifier keys of witnesses: each is a key, or a file with one on each line."""
    keys = []
    for each in given:
        lines = [each]
        if not _KEY.fullmatch(each):
            if "+" in each and not Path(each).exists():
                # A mistyped key may be a secret one, so it isn't repeated.
                raise UsageError(f"--cosigner: expected a verifier key or a file, found {len(each)} other characters")
            text = read_input(each, MAX_KEYS_BYTES).decode("utf-8", "replace")
            lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not lines or not all(map(_KEY.fullmatch, lines)):
            raise UsageError(
                f"--cosigner: expected a witness's verifier key on each line of {each!a:.200}, found others"
            )
        keys += lines
    return keys


def read_input(file: str, limit: int) -> bytes:
    """Read a file, or standard input for ``-``, but no more than a byte beyond a limit."""
    if file == "-":
        return sys.stdin.buffer.read(limit + 1)
    with Path(file).open("rb") as stream:
        return stream.read(limit + 1)


def print_check(terminal: Terminal, check: ReceiptCheck) -> None:
    """Print a verdict: one line that says it, what was checked, the event."""
    from auditkit.cli.terminal import make_text, printable

    if check.ok:
        print_verdict(terminal, [f"event {printable(check.event_id or '')}"], valid=True)
    else:
        print_verdict(terminal, check.problems, valid=False)
    _print_pairs(terminal, _list_facts(check))
    if check.event is not None:
        terminal.out.print()
        terminal.out.print(make_text("Event" if check.ok else "What it claims, and nothing vouches for", "bold"))
        _print_pairs(terminal, _list_fields(check.event))
    if check.ok:
        terminal.note(
            "shown: the event was in the store when the checkpoint was signed. Not shown: that what it says is true, "
            "its time included, or that it is all that happened"
        )


def print_verdict(terminal: Terminal, sentences: Sequence[str], *, valid: bool) -> None:
    """Print whether a proof is valid, and why, a line each; the sentences are printable."""
    from auditkit.cli.terminal import make_text

    line = make_text(*(("VALID", "bold green") if valid else ("NOT VALID", "bold red")), wrap=True)
    line.append(f": {sentences[0]}", "default not bold")
    terminal.out.print(line)
    for sentence in sentences[1:]:
        terminal.out.print(make_text(f"  and {sentence}", wrap=True))


def _list_facts(check: ReceiptCheck) -> Iterator[tuple[str, str]]:
    from auditkit.cli.terminal import printable
    from auditkit.times import from_us

    if check.checkpoint is None:
        return
    yield "tree", printable(check.checkpoint.origin)
    yield "leaf", f"{check.index}, counted from 0, of {check.size}"
    yield "root", check.checkpoint.root.hex()
    yield "signed by", "none of the keys given" if check.key is None else f"key {_name_key(check.key)}"
    for name, time in check.cosigned.items():
        try:
            moment = f"{from_us(time * 1_000_000):%Y-%m-%d %H:%M:%S} UTC"
        except UsageError:
            moment = f"{time} seconds since 1970"
        yield "cosigned", f"by {printable(name)} at {moment}"
    if check.event is not None:
        yield "MAC", "there; checking it takes the store's secret key" if check.signed else "none: recorded unsigned"


def _name_key(key: str) -> str:
    from auditkit.note import parse_verifier_key

    return parse_verifier_key(key).key_id.hex()


def _list_fields(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from auditkit.cli.terminal import printable_lines
    from auditkit.times import format_duration, from_us

    for name, value in event.items():
        if name == "v" or value is None:
            continue
        if name == "time":
            text = f"{from_us(value):%Y-%m-%d %H:%M:%S.%f} UTC, as the process said"
        elif name == "duration_us":
            text = format_duration(value / 1e6)
        else:
            text = str(value)
        if len(text) > MAX_SHOWN:
            text = f"{text[:MAX_SHOWN]}… ({len(text) - MAX_SHOWN:,} more characters: --format json has them)"
        yield {"duration_us": "duration"}.get(name, name), printable_lines(text)


def _print_pairs(terminal: Terminal, pairs: Iterator[tuple[str, str]]) -> None:
    """Print names and printable texts in two columns; the texts are whole, in as many lines as they take."""
    from auditkit.cli.terminal import make_text

    width = 12
    for name, text in pairs:
        head = make_text(f"  {name:<{width}}", "dim")
        for line in make_text(text, wrap=True).wrap(terminal.out, max(20, terminal.out.width - width - 2)):
            line.rstrip()
            terminal.out.print(head + line, soft_wrap=True)
            head = make_text(" " * (width + 2))


def _write_json(check: ReceiptCheck) -> None:
    from auditkit.cli.cells import write_json
    from auditkit.times import from_us

    event = None if check.event is None else {"id": check.event_id, **check.event}
    if event is not None:
        event["time"] = from_us(event["time"])
        event["details"] = _embed(event["details"])
    write_json(
        {
            "valid": check.ok,
            "problems": check.problems,
            "origin": None if check.checkpoint is None else check.checkpoint.origin,
            "index": check.index,
            "size": check.size,
            "root": None if check.root is None else check.root.hex(),
            "public_key": check.key,
            "cosigned": check.cosigned,
            "mac": check.signed,
            "event": event,
        }
    )


def _embed(details: str | None) -> Any:
    """Give details as the JSON they are; as text where they aren't, as nothing makes a recorder write JSON."""
    import orjson

    try:
        return None if details is None else orjson.loads(details)
    except orjson.JSONDecodeError:
        return details
