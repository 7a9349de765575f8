"""Checking the ledger: every commit, and what follows a damaged one as well as can be."""

from __future__ import annotations

from dataclasses import replace

from auditkit import note
from auditkit.errors import StoreDamaged
from auditkit.integrity.inspection import Inspection
from auditkit.store import ledger
from auditkit.store.ledger import Commit, LedgerState
from auditkit.store.segments import Head


def check_ledger(check: Inspection) -> LedgerState:
    """Check every commit, and go on behind a damaged one as well as can be."""
    state = LedgerState(check.description.store)
    verifier_key = None
    if check.keys is not None:
        verifier_key = note.format_verifier_key(state.origin, note.derive_public_key(check.keys.signing_seed))
    if verifier_key is not None and check.description.public_key not in (None, verifier_key):
        check.report(
            "tampered",
            "finding",
            "store.json",
            f"the public key {verifier_key}",
            f"{check.description.public_key!r:.200}",
        )
    numbers = ledger.list_commits(check.layout)
    whole = True
    for number in range(1, (numbers[-1] if numbers else 0) + 1):
        file = f"ledger/{check.layout.commit(number).name}"
        try:
            commit = ledger.read_commit(check.layout, number)
        except StoreDamaged as error:
            there = number in numbers
            check.report(
                "tampered" if there else "missing",
                "finding",
                file,
                "a ledger commit",
                str(error).removeprefix(f"{file}: ") if there else "no file",
            )
            whole = False
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
            whole = False
            continue
        _check_commit(check, state, commit, file, verifier_key, whole=whole)
        try:
            state = ledger.apply_commit(state, commit) if whole else _skip_to(state, commit)
        except (ValueError, StoreDamaged):
            # Its leaves don't fit the tree, which check_commit has just reported.
            whole = False
            state = _skip_to(state, commit)
        check.checked_commits += 1
    if state.number:
        check.report(
            "unanchored",
            "note",
            f"ledger/{check.layout.commit(state.number).name}",
            "a checkpoint kept outside the store",
            "none: a removal of the newest commits, or an older copy of the whole store, couldn't be seen",
            advice="keep the checkpoint below somewhere else, for instance in a mail or a report",
        )
    return state


def _skip_to(state: LedgerState, commit: Commit) -> LedgerState:
    """Take over what a commit behind a hole says of segments and heads; the tree can't be continued."""
    live = {path: entry for path, entry in state.segments.items() if path not in commit.remove}
    live.update({entry.path: entry for entry in commit.add})
    heads = dict(state.heads)
    for entry in commit.add:
        for run in entry.runs:
            heads[run.writer] = Head(run.next, run.link, run.closed)
    return replace(
        state,
        number=commit.number,
        segments=live,
        heads=heads,
        checkpoint=commit.checkpoint,
        time=commit.time,
    )


def _check_commit(
    check: Inspection, state: LedgerState, commit: Commit, file: str, verifier_key: str | None, *, whole: bool
) -> None:
    def accuse(expected: str, found: str) -> None:
        check.report("tampered", "finding", file, expected, found)

    if whole:
        for fault in ledger.check_commit(state, commit):
            expected, _, found = fault.removeprefix("expected ").partition(", found ")
            accuse(expected, found or "otherwise")
        try:
            after = ledger.apply_commit(state, commit)
            checkpoint = note.parse_checkpoint(note.parse_note(commit.checkpoint).text)
            told = note.Checkpoint(state.origin, after.size, after.root)
            if checkpoint != told:
                accuse(
                    f"a checkpoint of size {told.size}, root {told.root.hex()}",
                    f"one of size {checkpoint.size}",
                )
        except (ValueError, StoreDamaged) as error:
            accuse("a checkpoint over the tree", str(error))
    if check.keys is None:
        return
    key = check.keys.find([commit.key_n]).get(commit.key_n)
    if key is None or not ledger.verify_mac(commit, check.description.store, key):
        accuse(f"the MAC of key {check.keys.key_id}, number {commit.key_n}", "another MAC")
    else:
        check.used[commit.key_n] += 1
    if verifier_key is not None and not note.verify_note(note.parse_note(commit.checkpoint), verifier_key):
        accuse("a note signed with the store's key", "no valid signature of it")
