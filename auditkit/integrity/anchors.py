"""Comparing the store with checkpoints that were kept outside it: the only proof that nothing newest is gone.

A ledger that was cut, or replaced by an older copy, is sound in itself. What tells is a checkpoint that somebody else
kept: the tree must have had that size and that root. Three things can be found, and the kinds name them:

- the tree ends before it: ``truncated`` if traces of what was cut are left (a segment no commit lists, a hole between
  the ledger and a journal), ``rolled_back`` if all of the store is as it was then;
- the tree is at least as large and had another root at that size, or never that size: ``rolled_back``, and gone on
  otherwise from there;
- the tree had that root at that size: nothing up to there was removed or changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditkit import note
from auditkit.anchoring import pins
from auditkit.anchoring.copies import find_checkpoints, read_checkpoints
from auditkit.anchoring.pins import Pin, PinnedCommit
from auditkit.errors import StoreDamaged, UsageError
from auditkit.integrity.findings import AnchorResult
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.ledgers import tell_kind
from auditkit.store import durable
from auditkit.store.ledger import LedgerState, name_origin
from auditkit.times import from_us

_ADVICE: Final = (
    "find out who removed it, and restore the newest backup; if you restored an older one yourself, verify once with "
    "repin (--repin)"
)


_INNER_ADVICE: Final = (
    "find out who removed it, and restore the newest backup; if you restored an older one yourself, remove the newer "
    "files from anchors/"
)


@dataclass(frozen=True)
class Anchor:
    """A checkpoint from outside the store.

    Attributes:
        source: Where it was kept, for people.
        size: Leaves of the tree it vouches for.
        root: The tree's root, 32 bytes.
        note: The signed note; None for a pin, which is believed as this user's own.
        commits: What else is known of the newest commits it covers.
    """

    source: str
    size: int
    root: bytes
    note: note.Note | None = None
    commits: tuple[PinnedCommit, ...] = ()


def check_public_key(text: str, store: str) -> str:
    """Take a public key from outside the store.

    Args:
        text: The verifier key, as `auditkit keys export-public` prints it.
        store: Id of the store.

    Returns:
        The verifier key.

    Raises:
        UsageError: If it isn't one, or is another store's.
    """
    stripped = text.strip()
    try:
        key = note.parse_verifier_key(stripped, source="public key")
    except StoreDamaged as error:
        raise UsageError(str(error)) from None
    if key.name != name_origin(store):
        raise UsageError(
            f"expected the public key of {name_origin(store)}, found that of {key.name!a:.100}: "
            "name the right store, or give its own key"
        )
    return stripped


def read_anchors(kept: str | os.PathLike[str], store: str) -> list[Anchor]:
    """Read checkpoints that were kept outside a store.

    Args:
        kept: A signed note, or any text of several lines that holds some, or the path of a file that does: notes that
            were appended, a report, a mail, a receipt.
        store: Id of the store.

    Raises:
        UsageError: If there is no checkpoint of this store in it, or the file can't be read.
    """
    origin = name_origin(store)
    if isinstance(kept, str) and "\n" in kept:
        found, source = find_checkpoints(kept, origin), "the given checkpoint"
        if not found:
            raise UsageError(
                f"expected a signed checkpoint of {origin}, found a text of {len(kept)} characters with none"
            )
    else:
        found, source = read_checkpoints(Path(kept), origin), Path(kept).name
    # Each counts by itself: a copy with a false signature, put in front of the true one, mustn't take its place.
    told = [(note.parse_checkpoint(each.text), each) for each in found]
    return [Anchor(source, checkpoint.size, checkpoint.root, each) for checkpoint, each in told]


def check_anchors(
    check: Inspection, state: LedgerState, anchors: list[Anchor], *, pin: bool, repin: bool
) -> list[AnchorResult]:
    """Compare the ledger with checkpoints from outside, report what they prove to be gone, and pin what was seen.

    Args:
        check: The verification.
        state: What the ledger says.
        anchors: The checkpoints that were given.
        pin: Whether the user's own pin is compared and renewed.
        repin: Whether what is seen is pinned without comparing, in the place of whatever was.
    """
    known = check.pin if pin and not repin else None
    if known is not None:
        told = note.parse_checkpoint(note.parse_note(known.checkpoint).text)
        seen = f"the checkpoint seen by this user on {from_us(known.seen):%Y-%m-%d %H:%M} UTC"
        anchors = [*anchors, Anchor(seen, told.size, told.root, commits=known.commits)]
    end = _find_end(check, state)
    if not repin and all(_judge(check, end, anchor) in ("ok", "unverifiable") for anchor in anchors):
        anchors = [*anchors, *_choose_inner(check, state, end)]
    results = [AnchorResult(anchor.source, anchor.size, _judge(check, end, anchor)) for anchor in anchors]
    judged = list(zip(anchors, results, strict=True))
    _report_cut(check, end, [anchor for anchor, result in judged if result.status == "truncated"])
    if tell_kind(check) == "rolled_back":
        results = [_rename(result) for result in results]
    for anchor, result in judged:
        if result.status == "rolled_back":
            _report_fork(check, anchor)
        elif result.status == "unverifiable":
            _report_unproved(check, anchor)
    anchored = max((result.size for result in results if result.status == "ok"), default=0)
    if all(result.status in ("ok", "unverifiable") for result in results):
        _tell_unanchored(check, state, anchored, [result for result in results if result.size == anchored])
    return results


def pin_checkpoint(check: Inspection, state: LedgerState, results: list[AnchorResult], *, repin: bool) -> None:
    """Remember the newest checkpoint outside the store, unless something contradicts it or nothing vouches for it.

    Args:
        check: The verification, at its end.
        state: What the ledger says.
        results: What came of the comparison with others.
        repin: Whether it takes the place of whatever was pinned.
    """
    agreed = repin or all(result.status in ("ok", "unverifiable") for result in results)
    vouched = check.table is not None or check.public_key is not None
    accused = any(f.severity == "finding" and f.file.startswith(("ledger/", "store.json")) for f in check.findings)
    if check.ledger_whole and check.commits and agreed and vouched and (repin or not accused):
        _pin(check, state, pins.replace_pin if repin else pins.write_pin)


def _rename(result: AnchorResult) -> AnchorResult:
    return AnchorResult(result.source, result.size, "rolled_back") if result.status == "truncated" else result


@dataclass(frozen=True)
class _End:
    """Where the ledger ends: the number of its last file, and the size of the tree there, None if nobody can tell."""

    number: int
    size: int | None


def _find_end(check: Inspection, state: LedgerState) -> _End:
    """Find where the ledger ends; in one with holes its last commit may be sound, and says how large the tree is."""
    if check.ledger_whole:
        return _End(state.number, check.nodes.size)
    number = max(check.list_commits(), default=0)
    if state.number != number or number in check.holes or state.checkpoint is None:
        return _End(number, None)
    return _End(number, note.parse_checkpoint(note.parse_note(state.checkpoint).text).size)


def _choose_inner(check: Inspection, state: LedgerState, end: _End) -> list[Anchor]:
    """Choose the checkpoints in the store itself that contradict it; there they vouch for nothing.

    Who cuts the ledger and forgets them leaves the proof. It counts only if the key signed it that is in force: who
    has stolen one that was retired could put anything there.
    """
    trusted = {check.public_key, state.verifier_key if check.table is not None else None} - {None}
    anchors = []
    for name, signed in check.inner.items():
        told = note.parse_checkpoint(signed.text)
        anchor = Anchor(f"anchors/{name}", told.size, told.root, signed)
        own = any(key is not None and _is_key(key) and note.verify_note(signed, key) for key in trusted)
        if own and _judge(check, end, anchor) in ("truncated", "rolled_back"):
            anchors.append(anchor)
    return anchors


def read_inner(check: Inspection) -> None:
    """Read the cosigned checkpoints that lie in the store itself, before the ledger: that may have grown meanwhile."""
    if check.layout.anchors.is_symlink():
        return
    for path in sorted(check.layout.anchors.glob("*.note")):
        try:
            signed = note.parse_note(durable.read_regular(path, "a cosigned checkpoint", note.MAX_NOTE_BYTES))
            told = note.parse_checkpoint(signed.text)
        except (StoreDamaged, OSError):
            continue  # nothing authenticates that folder: what isn't a checkpoint says nothing
        if told.origin == name_origin(check.description.store):
            check.inner[path.name] = signed


def read_seen(check: Inspection) -> None:
    """Read what this user saw of the store before; what it knows of commits helps to say what is gone."""
    try:
        check.pin = pins.read_pin(check.description.store)
        check.seen = () if check.pin is None else check.pin.commits
    except (StoreDamaged, OSError) as error:
        check.report(
            "unanchored",
            "warning",
            "ledger",
            "the checkpoint that this user saw last",
            f"one that can't be read: {error}",
            advice="compare with a checkpoint that was kept elsewhere (--against)",
        )


def _judge(check: Inspection, end: _End, anchor: Anchor) -> str:
    if anchor.note is not None and not _is_own(check, anchor.note):
        return "unverifiable"
    if anchor.size > check.nodes.size:
        gone = any(commit.number > end.number for commit in anchor.commits)
        return "truncated" if gone or (end.size is not None and anchor.size > end.size) else "unverifiable"
    return "ok" if check.nodes.find_root(anchor.size) == anchor.root else "rolled_back"


def _is_own(check: Inspection, signed: note.Note) -> bool:
    """Tell whether the store's key signed a checkpoint: the one it has, or one it had.

    Where no key from outside says which that is, the ledger's own word proves nothing, and whoever kept the checkpoint
    is believed.
    """
    if check.keys is None and check.public_key is None:
        return True
    keys = {change["new"] for change in check.changes} | {check.public_key}
    return any(note.verify_note(signed, key) for key in keys if key is not None and _is_key(key))


def _is_key(text: str) -> bool:
    try:
        note.parse_verifier_key(text)
    except StoreDamaged:
        return False
    return True


def _report_cut(check: Inspection, end: _End, anchors: list[Anchor]) -> None:
    """Report the commits that are gone, each by itself as far as a pin names them."""
    if not anchors:
        return
    kind = tell_kind(check)
    how = "its newest commits were removed" if kind == "truncated" else "an older copy, or cut with all that was newer"
    last = end.number
    told: dict[int, PinnedCommit] = {}
    for anchor in anchors:
        told.update({commit.number: commit for commit in anchor.commits if commit.number > last})
    for number, commit in sorted(told.items()):
        times = None if commit.time_min is None or commit.time_max is None else (commit.time_min, commit.time_max)
        check.report(
            kind,
            "finding",
            f"ledger/{check.layout.commit(number).name}",
            f"commit {number} of {from_us(commit.time):%Y-%m-%d %H:%M:%S} UTC with {commit.events:,} events, as seen",
            f"no such commit: the ledger ends with commit {last}; {how}",
            advice=_ADVICE,
            times=times,
            events=commit.events,
        )
    farthest = max(anchors, key=lambda anchor: anchor.size)
    if end.size is not None and farthest.size > max((commit.size for commit in told.values()), default=0):
        gone = farthest.size - end.size
        check.report(
            kind,
            "finding",
            f"ledger/{check.layout.commit(max(told, default=last) + 1).name}",
            f"a tree of {farthest.size:,} leaves, as {farthest.source} says",
            f"one of {end.size:,}, which ends with commit {last}: {gone:,} events and commits are gone; {how}",
            advice=_ADVICE if not farthest.source.startswith("anchors/") else _INNER_ADVICE,
            events=gone if not told else None,
        )


def _report_fork(check: Inspection, anchor: Anchor) -> None:
    """Report that the store went on otherwise, from the newest state that both histories have."""
    common = [
        commit.number
        for commit in anchor.commits
        if commit.size <= check.nodes.size and check.nodes.find_root(commit.size) == commit.root
    ]
    after = max(common, default=0)
    first = next((commit.number for commit in check.commits if commit.size >= anchor.size), len(check.commits))
    place = after + 1 if common else first
    lost = [commit for commit in anchor.commits if commit.number > after] if common else []
    check.report(
        "rolled_back",
        "finding",
        f"ledger/{check.layout.commit(place).name}",
        f"a tree that had the root {anchor.root.hex()} at {anchor.size:,} leaves, as {anchor.source} says",
        "another history" + (f" since commit {after}" if common else "") + ": the store went back and on otherwise",
        advice=_ADVICE,
        events=sum(commit.events for commit in lost) if lost else None,
        times=_span(lost),
    )


def _span(commits: list[PinnedCommit]) -> tuple[int, int] | None:
    first = [commit.time_min for commit in commits if commit.time_min is not None]
    last = [commit.time_max for commit in commits if commit.time_max is not None]
    return (min(first), max(last)) if first and last else None


def _report_unproved(check: Inspection, anchor: Anchor) -> None:
    signed = anchor.note is None or _is_own(check, anchor.note)
    check.report(
        "unverifiable",
        "note" if signed else "warning",
        "ledger",
        f"the tree of {anchor.size:,} leaves that {anchor.source} says",
        "a ledger too damaged to tell"
        if signed
        else f"{anchor.source} is signed by a key that isn't known as the store's, and so says nothing",
        advice="restore the ledger from a backup" if signed else "look where it comes from",
    )


def _tell_unanchored(check: Inspection, state: LedgerState, anchored: int, by: list[AnchorResult]) -> None:
    """Note what nothing outside the store vouches for."""
    if not state.number or (anchored and anchored == check.nodes.size):
        return
    newer = [commit for commit in check.commits if commit.size > anchored]
    events = sum(commit.events for commit in newer)
    many = f"{len(newer)} commit{'s' if len(newer) > 1 else ''} with {events:,} event{'' if events == 1 else 's'}"
    since = f"{many} newer than {by[0].source}" if anchored and by else "none"
    check.report(
        "unanchored",
        "note",
        f"ledger/{check.layout.commit(state.number).name}",
        "a checkpoint kept outside the store",
        f"{since}: a removal of the newest commits, or an older copy of the whole store, couldn't be seen",
        advice="keep the checkpoint below somewhere else (auditkit anchor, or in a mail or a report)",
        events=events,
        times=_span(newer),
    )


def _pin(check: Inspection, state: LedgerState, put: Callable[[Pin], None]) -> None:
    """Remember the newest checkpoint outside the store, for the next verification."""
    if state.checkpoint is None:
        return
    try:
        put(pins.make_pin(check.description.store, state.checkpoint, check.commits))
    except (StoreDamaged, OSError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        check.report(
            "unanchored",
            "note",
            "ledger",
            "a checkpoint pinned in the user's state folder",
            f"it couldn't be written: {told}",
            advice="make the folder writable ($XDG_STATE_HOME), or compare with checkpoints kept elsewhere (--against)",
        )
