"""Checking the ledger: every commit, and what follows a damaged one as well as can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from auditkit import note
from auditkit.anchoring.pins import PinnedCommit
from auditkit.errors import FormatUnknown, StoreDamaged, StoreError
from auditkit.integrity.findings import Kind
from auditkit.integrity.inspection import Inspection
from auditkit.integrity.signers import judge_note, read_history
from auditkit.store import keychange, ledger
from auditkit.store.description import read_description
from auditkit.store.ledger import FORGED, Commit, LedgerState, RetiredSegment
from auditkit.store.runs import Head

_NAMED: Final = 100
"""From how many commits on a hole is one finding: whoever names a file 99999999 mustn't keep a verifier busy."""


def find_store(check: Inspection) -> str:
    """Find out which store this is: the one whose commits the key proves, if ``store.json`` says another."""
    said = check.description.store
    for number in check.list_commits():
        try:
            commit = ledger.read_commit(check.layout, number)
        except (StoreDamaged, FormatUnknown, OSError):
            continue
        key = check.table.get(commit.key_n) if check.table is not None else None
        if commit.store is None or commit.store == said or key is None:
            return said
        if not ledger.verify_mac(commit.line, commit.store, key):
            continue
        check.report("tampered", "finding", "store.json", f"the store id {commit.store}", said)
        return commit.store
    return said


def check_ledger(check: Inspection) -> LedgerState:
    """Check every commit, and go on behind a damaged one as well as can be."""
    state = LedgerState(check.description.store)
    expected = 1
    for number in check.list_commits():
        file = f"ledger/{check.layout.commit(number).name}"
        if number > expected:
            _report_gap(check, expected, number - 1)
        expected = max(expected, number + 1)
        try:
            commit = ledger.read_commit(check.layout, number)
        except StoreDamaged as error:
            wanted, found = _split_fault(str(error).removeprefix(f"{file}: "), "a ledger commit")
            check.report("tampered", "finding", file, wanted, found)
            state = _pass_over(check, state, number)
            continue
        except FormatUnknown as error:
            _report_newer(check, file, number, str(error).removeprefix(f"{file}: "))
            state = _pass_over(check, state, number)
            continue
        except OSError as error:
            check.report(
                "missing",
                "incomplete",
                file,
                "a readable ledger commit",
                str(error),
                advice="check its permissions",
            )
            state = _pass_over(check, state, number)
            continue
        check.checked_commits += 1
        if commit.detail is not None and commit.detail.endswith(FORGED):
            check.report(
                "tampered",
                "finding",
                file,
                "journals that held only what their writers signed",
                f"{commit.detail}: its sealer set them aside",
                advice="look at the reasons in quarantine/; the lines are kept there",
            )
        sound, authentic = _check_commit(check, state, commit, number)
        if sound and check.ledger_whole:
            _report_holes(check, state, commit)
            state = ledger.advance(state, commit)
            _note_commit(check, state, commit)
        elif authentic:
            check.ledger_whole = False
            state = _skip_to(state, commit, number)
            if commit.keys is not None:
                check.changes.append(commit.keys)
        else:
            # What it says of segments would accuse the wrong ones.
            state = _pass_over(check, state, number)
    if not state.number and not check.unreadable:
        _report_lost_ledger(check)
    return state


def _report_newer(check: Inspection, file: str, number: int, told: str) -> None:
    """Report a commit of a version that isn't known: it accuses nobody if the store's key made it, or none is there."""
    expected, _, found = told.removeprefix("expected ").partition(", found ")
    # What was read before was of a version that is known.
    known = check.table is None and number not in {commit.number for commit in check.seen}
    if check.table is not None:
        try:
            line, number = ledger.read_claim(check.layout, number)
            key = check.table.get(number)
            known = key is not None and ledger.verify_mac(line, check.description.store, key)
        except (StoreDamaged, OSError):
            known = False
    if known:
        advice = "verify with a newer auditkit: what this commit says, and what follows it, can't be judged by this one"
        check.report("unverifiable", "incomplete", file, expected, found, advice=advice)
    else:
        check.report("tampered", "finding", file, expected, f"{found}, and no MAC of the store's key: it was changed")


def _note_commit(check: Inspection, state: LedgerState, commit: Commit) -> None:
    """Remember a sound commit: its place in the tree, and what it says of the public key."""
    check.nodes.add(commit)
    times = [(entry.time_min, entry.time_max) for entry in commit.add]
    check.commits.append(
        PinnedCommit(
            commit.number,
            state.size,
            check.nodes.root,
            commit.time,
            commit.events,
            min((first for first, _ in times), default=None),
            max((last for _, last in times), default=None),
        )
    )
    if commit.keys is not None:
        check.changes.append(commit.keys)


def check_public_keys(check: Inspection, state: LedgerState) -> None:
    """Compare the public keys that the commits name with those from elsewhere: the trusted one, and store.json's.

    Behind the anchors: of a ledger that is known to be cut, or has holes, nobody can say what it named.
    """
    known = {key for change in check.changes for key in (change["old"], change["new"]) if key is not None}
    trusted, said = check.public_key, check.description.public_key
    cut = not check.ledger_whole or any(found.kind in ("truncated", "rolled_back") for found in check.findings)
    if known and trusted is not None and trusted not in known and check.retiring_key not in known:
        _report_unnamed_key(check, state, trusted, cut=cut)
        cut = True
    known |= {trusted} if trusted is not None else set()
    if known and said is not None and said not in known and not cut:
        check.report("tampered", "finding", "store.json", f"the public key {trusted or state.verifier_key}", _cut(said))
    # A sealer completes store.json behind the first commit, and may have been killed in between.
    if known and state.number > 1 and _lost_public_key(check):
        check.report("tampered", "finding", "store.json", f"the public key {trusted or state.verifier_key}", "none")


def _report_unnamed_key(check: Inspection, state: LedgerState, trusted: str, *, cut: bool) -> None:
    """Report that no commit names the trusted key: its change is gone, or the commits are somebody else's."""
    file = f"ledger/{check.layout.commit(state.number + 1).name}"
    expected = f"a commit that leads to the store's key {trusted}"
    advice = "compare the public key with the one you were given, and the store with a checkpoint kept elsewhere"
    if cut:
        found = "none: it may be one of those that are gone"
        check.report("unverifiable", "note", file, expected, found, advice=advice)
    elif check.keys is not None:
        kind = tell_kind(check)
        found = (
            f"none, though the secret key proves all {state.number} that are there: newer ones were removed, or the "
        )
        found += "signing key in the key file is another's"
        check.report(kind, "finding", file, expected, found, advice=advice)
    else:
        found = f"only commits signed with {state.verifier_key!s:.200}: newer ones were removed, or all are forged"
        events = sum(commit.events for commit in check.commits)
        check.report("tampered", "finding", file, expected, found, advice=advice, events=events)


def tell_kind(check: Inspection) -> Kind:
    """Tell ``truncated`` from ``rolled_back``: whether something is left of what was cut off.

    That is a segment of genuine events that no commit lists, or a hole between the ledger and a journal.
    """
    journal = any(found.kind == "missing" and found.file.startswith("journal/") for found in check.findings)
    return "truncated" if check.orphans or journal else "rolled_back"


def _cut(text: object) -> str:
    return f"{text!r:.200}"


def _split_fault(text: str, expected: str) -> tuple[str, str]:
    """Split an error's message into what was expected and what was found."""
    if not text.startswith("expected "):
        return expected, text
    said, _, found = text.removeprefix("expected ").partition(", found ")
    return (said, found) if found else (expected, f"one without {said}")


def _lost_public_key(check: Inspection) -> bool:
    """Tell whether ``store.json`` names no key although a sealer completed it before its first commit."""
    if check.description.public_key is not None:
        return False
    try:
        # It may have been read before the first sealing.
        return read_description(check.layout).public_key is None
    except StoreError:
        return False  # opening the store again will tell what it is


def _report_lost_ledger(check: Inspection) -> None:
    """Report that the whole ledger is gone: ``store.json`` gets its public key behind the first commit only."""
    try:
        sealed = read_description(check.layout).public_key is not None
    except StoreError:
        return  # opening the store again will tell what it is
    if not sealed or check.list_commits():
        return  # never sealed, or for the first time just now
    check.ledger_whole = False
    check.report(
        "missing",
        "finding",
        f"ledger/{check.layout.commit(1).name}",
        "the commits of a store that was sealed, as store.json says",
        "no commit at all: the ledger was removed, and what it listed can't be told",
        advice="keep the store as evidence, and restore ledger/ and events/ from a backup",
    )


def _report_gap(check: Inspection, first: int, last: int) -> None:
    """Report commits that aren't there, each by itself; what was seen of them before says what they held."""
    check.ledger_whole = False
    if last - first >= _NAMED:
        named = f"the ledger commits {first} to {last}"
        check.report("missing", "finding", f"ledger/{check.layout.commit(first).name}", named, "none of them")
        check.holes.add(first)
        check.absent.add(first)
        return
    seen = {commit.number: commit for commit in check.seen}
    check.holes.update(range(first, last + 1))
    check.absent.update(range(first, last + 1))
    for number in range(first, last + 1):
        commit = seen.get(number)
        times = None
        if commit is not None and commit.time_min is not None and commit.time_max is not None:
            times = (commit.time_min, commit.time_max)
        check.report(
            "missing",
            "finding",
            f"ledger/{check.layout.commit(number).name}",
            "a ledger commit" if commit is None else f"a ledger commit with {commit.events:,} events, as seen before",
            "no file",
            times=times,
            events=None if commit is None else commit.events,
        )


def _report_holes(check: Inspection, state: LedgerState, commit: Commit) -> None:
    """Report the events that a commit passes over: those before them and behind them are sealed, they aren't."""
    nexts: dict[str, int] = {}
    for entry in commit.add:
        for run in entry.runs:
            head = state.heads.get(run.writer)
            wanted = nexts.get(run.writer, head.next if head else 0)
            nexts[run.writer] = run.next
            if run.first > wanted and check.overlaps(entry.time_min, entry.time_max):
                check.report(
                    "missing",
                    "finding",
                    entry.path,
                    f"{run.first - wanted} events from seq {wanted} to {run.first - 1}",
                    "none of them: they weren't in the journal, or not as events, when it was sealed",
                    advice="look for their lines in quarantine/, or for the journal in a backup",
                    writer=run.writer,
                    seqs=(wanted, run.first - 1),
                    times=(entry.time_min, entry.time_max),
                    events=run.first - wanted,
                )


def _skip_to(state: LedgerState, commit: Commit, number: int) -> LedgerState:
    """Take over what a commit behind a hole says of segments and heads; the tree can't be continued."""
    live = {path: entry for path, entry in state.segments.items() if path not in commit.remove}
    retired = dict(state.retired)
    for reason in commit.retired:
        if reason.path in state.segments:
            entry = state.segments[reason.path]
            retired[reason.path] = RetiredSegment(entry, number, commit.time, reason.policy, reason.numbers)
    live.update({entry.path: entry for entry in commit.add})
    heads = dict(state.heads)
    for entry in commit.add:
        for run in entry.runs:
            heads[run.writer] = Head(run.next, run.link, run.closed)
    return replace(
        state,
        number=number,
        segments=live,
        retired=retired,
        heads=heads,
        verifier_key=commit.keys["new"] if commit.keys else state.verifier_key,
        checkpoint=commit.checkpoint,
        time=commit.time,
    )


def _pass_over(check: Inspection, state: LedgerState, number: int) -> LedgerState:
    """Go on behind a commit that nothing can be taken from."""
    check.ledger_whole = False
    check.holes.add(number)
    return replace(state, number=number)


def _check_commit(check: Inspection, state: LedgerState, commit: Commit, number: int) -> tuple[bool, bool]:
    """Check a commit; its place in the tree only if everything before it was sound.

    Returns:
        Whether it is sound, and whether its content is what a sealer with the key wrote.
    """
    sound = True
    file = f"ledger/{check.layout.commit(number).name}"

    def accuse(expected: str, found: str) -> None:
        nonlocal sound
        sound = False
        check.report("tampered", "finding", file, expected, found)

    if check.ledger_whole:
        for fault in ledger.check_commit(state, commit):
            expected, _, found = fault.removeprefix("expected ").partition(", found ")
            accuse(expected, found or "otherwise")
        try:
            told = ledger.compute_checkpoint(state, commit)
            checkpoint = note.parse_checkpoint(note.parse_note(commit.checkpoint).text)
            if checkpoint != told:
                accuse(
                    f"a checkpoint of size {told.size}, root {told.root.hex()}",
                    f"one of size {checkpoint.size}",
                )
        except (ValueError, StoreDamaged) as error:
            accuse("a checkpoint over the tree", str(error))
    elif commit.number != number:
        accuse(f"commit {number}", f"commit {commit.number}")
    key = None if check.table is None else check.table.get(commit.key_n)
    authentic = key is not None and ledger.verify_mac(commit.line, check.description.store, key)
    signed = _judge_note(check, state, commit, number)
    if signed == "unsigned" or (signed == "unknown" and check.table is not None and not authentic):
        accuse("a note signed with the store's key", "no valid signature of it")
    elif signed == "unknown":
        sound = False
        check.report(
            "unverifiable",
            "incomplete",
            file,
            "a note signed with a key that the ledger names",
            "one by another key: the commit that names it may be one of those that are gone",
        )
    if check.keys is None or check.table is None:
        return sound, sound
    if not authentic:
        accuse(f"the MAC of key {check.keys.key_id}, number {commit.key_n}", "another MAC")
    else:
        check.commit_numbers.append(commit.key_n)
    return sound, authentic


def _judge_note(
    check: Inspection, state: LedgerState, commit: Commit, number: int
) -> Literal["signed", "unsigned", "unknown"]:
    """Judge whether a commit's note holds under the key in force, and under both where it changes.

    Which key that is, the commits themselves say; `check_public_keys` compares with those from elsewhere.
    """
    if not check.ledger_whole:
        if check.signers_known is None:
            check.signers_known = read_history(check)
        return judge_note(check, check.signers_known, commit, number, check.holes)
    changed = commit.keys is not None and commit.number > 1 and not keychange.verify_change(state.store, commit.keys)
    keys = ledger.list_verifier_keys(state, commit)
    return "signed" if not changed and keychange.verify_note_in(state, commit.checkpoint, keys) else "unsigned"
