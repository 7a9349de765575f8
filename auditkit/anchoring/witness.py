"""Witnesses: others who sign a checkpoint once they have seen that its tree only grew.

A witness remembers the newest checkpoint of a log that it has cosigned, and cosigns another one only if it was shown
that its tree is a continuation. So its cosignature says more than a copy that somebody keeps: whoever rolls the store
back or rewrites it gets none for the new history. The client sends, as ``POST <URL of the witness>/add-checkpoint``:

```
old <size that the witness knows>
<base64 of a hash of the consistency proof>      none if that size is 0 or the checkpoint's own
…
(an empty line)
<the checkpoint, as a signed note>
```

| answer | meaning |
|---|---|
| 200 | cosignature lines over the checkpoint |
| 409, ``text/x.tlog.size`` | the size that the witness really knows: asked again once, with a proof from there |
| 409 for the size that it knows | it knows another tree of the same size: `WitnessConflict` |
| 422 | it knows another tree of the size that it named: `WitnessConflict` |
| a known size beyond the checkpoint's | it knows a larger tree: `WitnessConflict` |
| anything else | `AnchorFailed`, which accuses nobody |

Source: c2sp.org/tlog-witness. The cosignature's own form is in ``auditkit.cosignature``, the rules of the network in
``auditkit.anchoring.transport``.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from auditkit import note
from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.transport import Answer, Endpoint, parse_endpoint, post_body
from auditkit.cosignature import CosignerKey, parse_cosigner_key, read_cosignature_time, verify_cosignature
from auditkit.errors import StoreDamaged, UsageError

__all__ = ["Witness", "WitnessConflict", "parse_witness", "request_cosignature"]

MAX_AHEAD_S: Final = 86_400
"""How far in the future a cosignature's time may lie, in seconds: clocks differ, but not by days."""

_ARGUMENT = re.compile(r"([^+]*\+[^+]*\+[^=]*)=(.*)", re.DOTALL)
_KNOWN_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class WitnessConflict(StoreDamaged):
    """A witness knows another history of this store than the store itself.

    The store was rolled back to an older copy, or rewritten; or the witness was given checkpoints of a copy of it that
    went on elsewhere. Another process may also have shown the witness a newer checkpoint in the meantime: who sees a
    larger ``size`` reads the ledger again, and is accused of nothing if it has that size by now.

    Attributes:
        size: Number of leaves of the tree that the witness knows.
    """

    def __init__(self, message: str, size: int = 0) -> None:
        super().__init__(message)
        self.size = size


@dataclass(frozen=True)
class Witness:
    """A witness, and the key by which its cosignatures are known.

    Attributes:
        url: Its submission prefix, without ``/add-checkpoint``; not shown by ``repr()``, as it may hold a password.
        key: Its key, from a source that is trusted.

    Raises:
        UsageError: If the URL isn't one of https (or of http to this machine), or has a query.
    """

    url: str = field(repr=False)
    key: CosignerKey

    def __post_init__(self) -> None:
        """Refuse an URL that no request could go to."""
        self.find_endpoint()

    def find_endpoint(self) -> Endpoint:
        """Give where checkpoints are submitted to."""
        if "?" in self.url:
            raise UsageError("witness: expected the URL that /add-checkpoint is appended to, found one with a query")
        return parse_endpoint(self.url, "witness", suffix="/add-checkpoint")


def parse_witness(text: str) -> Witness:
    """Read a witness from one argument, ``<verifier key>=<URL>``.

    The base64 of a verifier key has no ``=``, so the first one behind the key's second ``+`` ends it, whatever the
    URL holds.

    Args:
        text: The cosigner's verifier key, an equals sign, and the URL of its submission prefix.

    Returns:
        The witness.

    Raises:
        UsageError: If it isn't of this form. The message shows nothing of the URL.

    Example:
        >>> key = "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN"
        >>> witness = parse_witness(f"{key}=https://witness.example.org/submit")
        >>> witness.key.name, witness.url
        ('witness.example.org', 'https://witness.example.org/submit')
        >>> parse_witness("https://witness.example.org/submit")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: witness: expected <verifier key>=<URL>, found 34 characters of another form: ...
    """
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        raise UsageError(
            f"witness: expected <verifier key>=<URL>, found {len(text)} characters of another form: give the line "
            "<name>+<key id>+<base64> that the witness publishes, an equals sign, and its URL"
        )
    try:
        key = parse_cosigner_key(match[1], source="witness")
    except StoreDamaged as fault:
        raise UsageError(str(fault)) from None
    return Witness(match[2], key)


def request_cosignature(
    witness: Witness,
    signed_note: str,
    prove: Callable[[int], Sequence[bytes]],
    *,
    known_size: int = 0,
    timeout_s: float = 10.0,
) -> note.Signature:
    """Have a witness cosign a checkpoint.

    Args:
        witness: Who is asked.
        signed_note: The checkpoint, as a signed note.
        prove: Gives the consistency proof from a tree of so many leaves to the checkpoint's, as
            ``auditkit.tree.prove_consistency`` does. It is asked for sizes above 0 and below the checkpoint's only, and
            raises ``UsageError`` for one that the store never had.
        known_size: Size of the checkpoint that this witness cosigned last, if somebody remembers; it saves a request.
            Nothing depends on it: what the witness says itself counts.
        timeout_s: Longest time for each of at most two requests, in seconds.

    Returns:
        The witness's signature line over this checkpoint, verified; the latest, if it gave several.

    Raises:
        WitnessConflict: If the witness knows a tree that this checkpoint isn't a continuation of.
        AnchorFailed: If it can't be reached, refuses, or gives no valid cosignature.
        StoreDamaged: If the note isn't a signed checkpoint.
        UsageError: If the known size is negative or the timeout isn't above 0.
    """
    text = note.parse_note(signed_note).text
    checkpoint = note.parse_checkpoint(text)
    if known_size < 0:
        raise UsageError(f"witness: expected a known size of 0 leaves or more, found {known_size}")
    try:
        proof = _choose_proof(prove, known_size, checkpoint.size)
    except UsageError:
        # What somebody remembers may be wrong; the witness says itself what it knows.
        known_size, proof = 0, ()
    answer = _submit(witness, signed_note, known_size, proof, timeout_s)
    told = _read_size(answer)
    if told is not None and told != known_size:
        known_size = told
        try:
            proof = _choose_proof(prove, known_size, checkpoint.size)
        except UsageError as fault:
            raise _make_conflict(witness, checkpoint, known_size) from fault
        answer = _submit(witness, signed_note, known_size, proof, timeout_s)
    if answer.status == 200:
        return _take_cosignature(witness, answer.body, text)
    told = _read_size(answer)
    if told is not None and told != known_size:
        if told > checkpoint.size:
            raise _make_conflict(witness, checkpoint, told)
        raise AnchorFailed(
            f"{_name(witness)}: expected it to know {known_size:,} leaves, as it said, found that it says {told:,} "
            "now: somebody else shows it checkpoints at the same time, so try again",
            transient=True,
        )
    if (answer.status == 409 and known_size == checkpoint.size) or (answer.status == 422 and proof):
        raise _make_conflict(witness, checkpoint, known_size)
    raise _explain_refusal(witness, answer, checkpoint)


def _choose_proof(prove: Callable[[int], Sequence[bytes]], known_size: int, size: int) -> Sequence[bytes]:
    if known_size > size:
        raise UsageError(f"expected a known size of at most {size} leaves, found {known_size}")
    return () if known_size in (0, size) else prove(known_size)


def _submit(witness: Witness, signed_note: str, known_size: int, proof: Sequence[bytes], timeout_s: float) -> Answer:
    lines = [f"old {known_size}", *(base64.b64encode(each).decode("ascii") for each in proof), "", signed_note]
    body = "\n".join(lines).encode()
    # The specification names no media type for the request.
    return post_body(witness.find_endpoint(), body, "text/plain; charset=utf-8", _name(witness), timeout_s=timeout_s)


def _read_size(answer: Answer) -> int | None:
    """Read the size that the witness says it knows; None if the answer isn't one that says so."""
    if answer.status != 409 or answer.content_type != "text/x.tlog.size":
        return None
    match = _KNOWN_SIZE.fullmatch(answer.body)
    return int(match[1]) if match else None


def _take_cosignature(witness: Witness, body: bytes, text: str) -> note.Signature:
    try:
        signed = note.parse_note(text.encode() + b"\n" + body, source=_name(witness))
    except StoreDamaged as fault:
        raise AnchorFailed(f"{fault}: the witness answered with something else than cosignature lines") from None
    time_s = verify_cosignature(signed, witness.key) if signed.text == text else None
    if time_s is None:
        raise AnchorFailed(
            f"{_name(witness)}: expected a cosignature of this checkpoint by key {witness.key.key_id.hex()}, found "
            "none that holds: see whether the witness has another verifier key by now"
        )
    if time_s > time.time() + MAX_AHEAD_S:
        raise AnchorFailed(
            f"{_name(witness)}: expected a cosignature of now, found the time {_say_time(time_s)}: see which of "
            "the two clocks is wrong"
        )
    own = (each for each in signed.signatures if (each.name, each.key_id) == (witness.key.name, witness.key.key_id))
    return next(each for each in own if read_cosignature_time(each) == time_s)


def _make_conflict(witness: Witness, checkpoint: note.Checkpoint, known_size: int) -> WitnessConflict:
    origin = _quote(checkpoint.origin)
    if known_size > checkpoint.size:
        found = f"that it has cosigned a larger one of {known_size:,}: the store was rolled back to an older copy"
    elif known_size == checkpoint.size:
        found = "that it has cosigned another one of the same size: the store was rewritten"
    else:
        found = f"that it has cosigned one of {known_size:,} that is no beginning of it: the store was rewritten"
    return WitnessConflict(
        f"{_name(witness)}: expected it to know no other tree of {origin} than beginnings of this one of "
        f"{checkpoint.size:,} leaves, found {found}, or the witness was shown another copy of it that went on: compare "
        "the store with a checkpoint that is kept elsewhere",
        known_size,
    )


def _explain_refusal(witness: Witness, answer: Answer, checkpoint: note.Checkpoint) -> AnchorFailed:
    status = answer.status
    transient = status == 429 or status >= 500
    if status == 403:
        advice = "it doesn't accept this log's key: give it the verifier key in store.json (public_key)"
    elif status == 404:
        advice = f"it doesn't know the log {_quote(checkpoint.origin)}, or the URL is wrong: ask for it to be added"
    elif 300 <= status < 400:
        advice = "redirects aren't followed: give the URL that it leads to"
    elif transient:
        advice = "it can't answer now: try again later"
    else:
        advice = "see whether the URL is right and the server is a witness as c2sp.org/tlog-witness describes them"
    return AnchorFailed(
        f"{_name(witness)}: expected status 200 of {witness.find_endpoint()}, found {status}: {advice}",
        transient=transient,
    )


def _say_time(time_s: int) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{time_s} seconds after 1970"


def _name(witness: Witness) -> str:
    return f"witness {_quote(witness.key.name)}"


def _quote(text: str) -> str:
    plain = text if text.isascii() and text.isprintable() else ascii(text)
    return plain if len(plain) <= 100 else plain[:97] + "..."
