"""Publishing the newest checkpoint: to files, webhooks, witnesses and time stamp authorities.

What witnesses and authorities answer is kept beside the ledger, in ``anchors/``: it proves to others when the
checkpoint was seen, and receipts carry the witnesses' signatures. What makes a removal detectable is what they keep
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from auditkit import note
from auditkit.anchoring.copies import append_checkpoint
from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.timestamps import Timestamp, request_timestamp, verify_timestamp
from auditkit.anchoring.transport import MAX_ANSWER_BYTES, parse_endpoint
from auditkit.anchoring.webhook import post_checkpoint
from auditkit.anchoring.witness import Witness, WitnessConflict, request_cosignature
from auditkit.errors import StoreDamaged, UsageError, require
from auditkit.store import durable, ledger
from auditkit.store.layout import Layout, is_known_name
from auditkit.store.ledger import LedgerState
from auditkit.store.nodes import TreeNodes


@dataclass(frozen=True)
class Published:
    """What came of publishing a checkpoint to one place.

    Attributes:
        kind: ``file``, ``webhook``, ``witness`` or ``timestamp``.
        place: Where, without secrets: a path, a host, a witness's name.
        problem: Why it failed, None if it is published.
        conflict: Whether the place knows another history of the store: evidence that it was rolled back or rewritten.
    """

    kind: str
    place: str
    problem: str | None = None
    conflict: bool = False


@dataclass(frozen=True)
class Publication:
    """What came of publishing a checkpoint.

    Attributes:
        checkpoint: The signed note, with the cosignatures that were given.
        commit: Number of the commit it covers.
        size: Leaves of the tree.
        results: Each place, in the order in which they were named.
    """

    checkpoint: str
    commit: int
    size: int
    results: tuple[Published, ...]

    @property
    def ok(self) -> bool:
        """Whether every place has it."""
        return all(result.problem is None for result in self.results)

    @property
    def conflicts(self) -> tuple[Published, ...]:
        """The places that know another history of the store."""
        return tuple(result for result in self.results if result.conflict)


def read_checkpoint(layout: Layout, state: LedgerState) -> str:
    """Read the newest checkpoint, with what witnesses have added to it.

    Args:
        layout: The store's paths.
        state: What the ledger says.

    Raises:
        UsageError: If nothing was sealed yet.
    """
    if state.checkpoint is None:
        raise UsageError(
            f"expected a sealed store at {layout.root}, found no commit yet: `auditkit seal` makes the first checkpoint"
        )
    own = note.parse_note(state.checkpoint)
    try:
        data = durable.read_regular(layout.cosigned(state.number), "a cosigned checkpoint", note.MAX_NOTE_BYTES)
        cosigned = note.parse_note(data)
    except (OSError, StoreDamaged):
        return state.checkpoint  # nothing authenticates that folder: what isn't a note of this text adds nothing
    return _join(own, cosigned.signatures) if cosigned.text == own.text else state.checkpoint


def _join(signed: note.Note, signatures: Sequence[note.Signature]) -> str:
    """Add cosignatures to the store's own note, as many as it takes, the newest of each key.

    A line in the store's own name is none: whoever writes to the store could make the note fail with it.
    """
    names = {each.name for each in signed.signatures}
    added: dict[tuple[str, bytes], note.Signature] = {}
    for each in signatures:
        if each.name not in names:
            added.pop((each.name, each.key_id), None)
            added[each.name, each.key_id] = each
    room = note.MAX_SIGNATURES - len(signed.signatures)
    joined = [*signed.signatures, *list(added.values())[-room:]]
    try:
        return note.format_note(signed.text, joined)
    except UsageError:  # too long
        return note.format_note(signed.text, signed.signatures)


def publish_checkpoint(
    layout: Layout,
    store: str,
    *,
    files: Sequence[Path] = (),
    webhooks: Sequence[str] = (),
    witnesses: Sequence[Witness] = (),
    timestamps: Sequence[str] = (),
    timeout_s: float = 10.0,
) -> Publication:
    """Publish the newest checkpoint of a store. One place that fails keeps none of the others from it.

    Args:
        layout: The store's paths.
        store: Id of the store.
        files: Files elsewhere that it is appended to.
        webhooks: URLs that it is posted to.
        witnesses: C2SP witnesses that cosign it (c2sp.org/tlog-witness).
        timestamps: URLs of time stamp authorities (RFC 3161).
        timeout_s: Longest time for each request, in seconds.

    Returns:
        What came of each.

    Raises:
        UsageError: If nothing was sealed yet.
        StoreDamaged: If the ledger can't be read.
    """
    # A place that can't be meant is refused before any of them has it.
    for what, urls, plain in (("webhook", webhooks, False), ("time stamp", timestamps, True)):
        for url in urls:
            parse_endpoint(url, what, plain=plain)
    if timestamps:
        require("rfc3161_client", "timestamp")
    _refuse_link(layout)
    nodes = TreeNodes()

    def collect(_state: LedgerState, commit: ledger.Commit) -> tuple[()]:
        nodes.add(commit)
        return ()

    state = ledger.load_state(layout, store, judge=collect)
    signed = read_checkpoint(layout, state)
    own = note.parse_note(state.checkpoint or signed)
    results: list[Published] = []
    for witness in witnesses:
        try:
            signature = request_cosignature(witness, signed, nodes.prove_consistency, timeout_s=timeout_s)
        except (AnchorFailed, WitnessConflict) as error:
            conflict = isinstance(error, WitnessConflict)
            results.append(Published("witness", witness.key.name, str(error), conflict))
            continue
        signed = _join(own, [*note.parse_note(signed).signatures, signature])
        results.append(_try("witness", witness.key.name, partial(_keep_cosignature, layout, state, signature)))
    results += [_try("file", str(path), partial(append_checkpoint, path, signed)) for path in files]
    for url in webhooks:
        place = str(parse_endpoint(url, "webhook"))
        results.append(_try("webhook", place, partial(post_checkpoint, url, signed, store=store, timeout_s=timeout_s)))
    for url in timestamps:
        place = str(parse_endpoint(url, "time stamp", plain=True))
        results.append(_try("timestamp", place, partial(_keep_timestamp, layout, state, url, timeout_s)))
    return Publication(signed, state.number, state.size, tuple(results))


def _refuse_link(layout: Layout) -> None:
    """Refuse a folder that leads elsewhere: files are written to it, perhaps by root.

    Raises:
        StoreDamaged: Naming the folder.
    """
    if layout.anchors.is_symlink():
        raise StoreDamaged(
            f"expected a folder of the store at {layout.anchors}, found a symbolic link: replace it by the folder "
            "itself, or remove it"
        )


def _try(kind: str, place: str, publish: Callable[[], None]) -> Published:
    try:
        publish()
    except (AnchorFailed, UsageError) as error:
        return Published(kind, place, str(error))
    except OSError as error:
        return Published(kind, place, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or "")
    return Published(kind, place)


def _keep_cosignature(layout: Layout, state: LedgerState, signature: note.Signature) -> None:
    """Keep a cosignature beside the ledger, with those that were added meanwhile."""
    known = note.parse_note(read_checkpoint(layout, state))
    own = note.parse_note(state.checkpoint or "")
    try:
        durable.make_folder(layout.anchors)
        durable.replace_file(layout.cosigned(state.number), _join(own, [*known.signatures, signature]).encode())
    except OSError as error:
        raise AnchorFailed(
            f"the witness has cosigned the checkpoint, but its cosignature couldn't be kept in {layout.anchors} "
            f"({error.strerror}): make the folder writable, and ask again"
        ) from error


def _keep_timestamp(layout: Layout, state: LedgerState, url: str, timeout_s: float) -> None:
    """Have a checkpoint stamped and keep the stamp: it covers the note as the ledger has it, without cosignatures."""
    stamp = request_timestamp(url, state.checkpoint or "", timeout_s=timeout_s)
    durable.make_folder(layout.anchors)
    durable.create_file(layout.timestamp(state.number, sha256(stamp).hexdigest()), stamp)


def verify_timestamps(layout: Layout, store: str, roots: bytes) -> list[tuple[int, Timestamp]]:
    """Verify the time stamps that are kept beside the ledger.

    Args:
        layout: The store's paths.
        store: Id of the store.
        roots: Certificates of the authorities that are trusted, in PEM.

    Returns:
        For each stamp that holds, the number of the commit and what the stamp says, in the order of the commits.

    Raises:
        StoreDamaged: If one of them doesn't hold, or the ledger can't be read.
    """
    found: list[tuple[int, Timestamp]] = []
    notes: dict[int, str] = {}
    for path in sorted(layout.anchors.glob("*.tsr")):
        if not is_known_name(layout.anchors.name, path.name):
            continue  # strangers are noted by every verification of the store
        number = int(path.name.partition(".")[0])
        if number not in notes:
            notes[number] = ledger.read_commit(layout, number).checkpoint
        data = durable.read_regular(path, "a time stamp", MAX_ANSWER_BYTES)
        found.append((number, verify_timestamp(data, notes[number], roots)))
    return found
