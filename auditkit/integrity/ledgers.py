"""Checking the ledger: every commit, and what follows a damaged one as well as can be."""

from __future__ import annotations

from dataclasses import replace

from auditkit import note
from auditkit.anchoring.pins import PinnedCommit
from auditkit.errors import FormatUnknown, StoreDamaged, StoreError
from auditkit.integrity.inspection import Inspection
from auditkit.store import keychange, ledger
from auditkit.store.description import read_description
from auditkit.store.ledger import FORGED, Commit, LedgerState, RetiredSegment
from auditkit.store.runs import Head


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
            check.report("tampered", "finding", file, "a ledger commit", str(error).removeprefix(f"{file}: "))
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
        else:
            # What it says of segments would accuse the wrong ones.
            state = _pass_over(check, state, number)
    _check_public_keys(check, state)
    if not state.number and not check.unreadable:
        _report_lost_ledger(check)
    return state


def _report_newer(check: Inspection, file: str, number: int, told: str) -> None:
    """Report a commit of a version that isn't known: it accuses nobody if the store's key made it, or none is there."""
    expected, _, found = told.removeprefix("expected ").partition(", found ")
    known = check.table is None
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


def _check_public_keys(check: Inspection, state: LedgerState) -> None:
    """Compare the public keys that the commits name with those from elsewhere: the trusted one, and store.json's."""
    named = {change["new"] for change in check.changes}
    trusted, said = check.public_key, check.description.public_key
    if check.changes and trusted is not None:
        vouched = keychange.follow_keys(check.changes, check.description.store, trusted)
        pending = _derive_retiring(check)
        if vouched is None and pending is not None:
            vouched = keychange.follow_keys(check.changes, check.description.store, pending)
        if vouched is None:
            check.report(
                "tampered",
                "finding",
                f"ledger/{check.layout.commit(check.commits[0].number).name}",
                f"commits signed with the store's key {trusted}",
                f"commits signed with {state.verifier_key!s:.200}, for which it doesn't vouch",
                advice="compare the public key with the one you were given when the store was made",
                events=sum(commit.events for commit in check.commits),
            )
    known = named | {trusted} - {None}
    if known and said is not None and said not in known:
        check.report("tampered", "finding", "store.json", f"the public key {trusted or state.verifier_key}", _cut(said))
    # A sealer completes store.json behind the first commit, and may have been killed in between.
    if known and state.number > 1 and _lost_public_key(check):
        check.report("tampered", "finding", "store.json", f"the public key {trusted or state.verifier_key}", "none")


def _derive_retiring(check: Inspection) -> str | None:
    seed = check.keys.retiring_seed if check.keys is not None else None
    return None if seed is None else keychange.derive_verifier_key(check.description.store, seed)


def _cut(text: object) -> str:
    return f"{text!r:.200}"


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
    check.ledger_whole = False
    check.report(
        "missing",
        "finding",
        f"ledger/{check.layout.commit(first).name}",
        "a ledger commit" if first == last else f"the ledger commits {first} to {last}",
        "no file" if first == last else "none of them",
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
    signed = _is_signed(check, state, commit)
    if not signed:
        accuse("a note signed with the store's key", "no valid signature of it")
    if check.keys is None or check.table is None:
        return sound, sound
    key = check.table.get(commit.key_n)
    authentic = key is not None and ledger.verify_mac(commit.line, check.description.store, key)
    if not authentic:
        accuse(f"the MAC of key {check.keys.key_id}, number {commit.key_n}", "another MAC")
    else:
        check.commit_numbers.append(commit.key_n)
    return sound, authentic


def _is_signed(check: Inspection, state: LedgerState, commit: Commit) -> bool:
    """Tell whether a commit's note holds under the key in force, and under both where it changes.

    Which key that is, the commits themselves say; `_check_public_keys` compares with those from elsewhere.
    """
    keys = ledger.list_verifier_keys(state, commit)
    if keychange.verify_note_in(state, commit.checkpoint, keys):
        return commit.keys is None or commit.number == 1 or keychange.verify_change(state.store, commit.keys)
    # Behind a hole nothing says which key is in force.
    known = {check.public_key, _derive_retiring(check)} - {None}
    return not check.ledger_whole and any(
        keychange.verify_note_in(state, commit.checkpoint, [key]) for key in known if key is not None
    )
