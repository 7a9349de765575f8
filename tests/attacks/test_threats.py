"""The threat table of docs/trust.md: each row is a test here that does it for real, and says what finds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import auditkit
from auditkit import AuditLogger
from auditkit.anchoring.pins import locate_pin
from auditkit.errors import StoreDamaged
from auditkit.retention import retire_days
from auditkit.store.keyring import KeyFile
from tests.anchoring.witnesses import running_witness
from tests.attacks.archive import NEWER_KEYS, Archive, Told, check_told, name_commit
from tests.attacks.forging import OWN_SEED, Forger, edit_rows
from tests.attacks.recorder import MONDAY, TUESDAY
from tests.attacks.small import FORGED, HONEST, NEXT_DAY, list_types, make_past, record_day, rewrite_past
from tests.integrity.stores import Site, say

COMMIT_1 = Told("tampered", "finding", name_commit(1))
NO_ROOT = Told("unverifiable", "warning", "store.json")
"""What a machine says that has no root to check MACs with."""


def tell_fork(number: int) -> Told:
    """Say what must be told of a store that never had the tree of a kept checkpoint, and from which commit on."""
    return Told("rolled_back", "finding", name_commit(number))


# -- without a key ----------------------------------------------------------------------------------------------------


def test_whoever_has_no_key_cannot_change_what_is_recorded(tmp_path: Path) -> None:
    """A payment is changed and everything fixed up but the keys: the commit and the very event are accused."""
    vault, _ = make_past(tmp_path / "vault")
    rewrite_past(vault, None, [OWN_SEED])
    assert list_types(vault) == FORGED, "whoever reads the Parquet files without verifying believes it"
    verification = vault.verify()
    assert verification.exit_code == 1
    assert [f.file for f in verification.findings if f.file.startswith("ledger/")] == [name_commit(1)] * 2
    (event,) = [f for f in verification.findings if f.kind == "tampered" and f.writer]
    assert (event.first_seq, event.last_seq, event.events) == (2, 2, 1)


def test_whoever_holds_the_public_key_alone_cannot_forge(tmp_path: Path) -> None:
    """It checks signatures and makes none: what its holder signs, with a key of their own, is accused by both keys."""
    vault, kept = make_past(tmp_path / "vault")
    public_key = vault.public_key
    check_told(vault.open().verify(public_key=public_key, pin=False), [])
    rewrite_past(vault, None, [OWN_SEED])
    for key in (None, public_key):
        verification = vault.open().verify(public_key=key, pin=False, against=kept)
        assert verification.exit_code == 1
        assert COMMIT_1.file in {finding.file for finding in verification.findings}, say(verification)


# -- with a stolen key ------------------------------------------------------------------------------------------------


def test_a_thief_of_an_ordinary_key_file_can_forge_past_and_future(tmp_path: Path) -> None:
    """Everything follows from the root in it: nothing but a checkpoint from before the theft tells."""
    vault, kept = make_past(tmp_path / "vault")
    stolen = KeyFile(vault.key_file)
    rewrite_past(vault, stolen, [stolen.signing_seed])
    assert list_types(vault) == FORGED
    check_told(vault.verify(), [])
    check_told(vault.open().verify(public_key=vault.public_key, pin=False), [])
    check_told(vault.open().verify(against=kept, pin=False), [tell_fork(1)])
    check_told(vault.open().verify(against=kept, public_key=vault.public_key, pin=False), [tell_fork(1)])


def test_a_thief_of_a_forward_secure_key_file_cannot_change_yesterday(tmp_path: Path) -> None:
    """The stolen file has no key of the past: with the offline root, the commit and the very event are accused.

    The thief has the seed that signs checkpoints, so whoever checks those alone needs a checkpoint that was kept.
    """
    vault, kept = make_past(tmp_path / "vault", forward_secure=True)
    stolen = KeyFile(vault.key_file)
    assert stolen.list_roots() == []
    assert stolen.find([0, 1, 2]) == {}
    rewrite_past(vault, None, [stolen.signing_seed])
    verification = auditkit.open(vault.path, key_file=vault.root_file).verify(pin=False)
    (commit,) = [f for f in verification.findings if f.file == name_commit(1)]
    assert (commit.kind, commit.severity) == ("tampered", "finding")
    (event,) = [f for f in verification.findings if f.kind == "tampered" and f.writer]
    assert (event.first_seq, event.last_seq, event.events) == (2, 2, 1)
    assert verification.exit_code == 1
    check_told(vault.verify(), [], warnings=[NO_ROOT])
    check_told(vault.open().verify(against=kept, pin=False), [tell_fork(1)], warnings=[NO_ROOT])


def test_a_thief_of_the_key_can_forge_what_comes_after(tmp_path: Path) -> None:
    """From the theft on the thief signs as the machine does, forward-secure or not: no key tells who it was.

    Only a checkpoint of the true history, kept somewhere else after the theft, shows that there was another one.
    """
    vault, before = make_past(tmp_path / "vault", forward_secure=True)
    forged = vault.copy(tmp_path / "thief")
    record_day(vault, NEXT_DAY, ["paid.400"])
    after = vault.open().checkpoint()
    record_day(forged, NEXT_DAY, ["paid.999"])
    record_day(forged, MONDAY, ["paid.998"])
    shutil.rmtree(vault.path)
    shutil.copytree(forged.path, vault.path)
    offline = auditkit.open(vault.path, key_file=vault.root_file)
    for against in ([], [before]):
        check_told(offline.verify(pin=False, against=against), [])
        check_told(vault.open().verify(pin=False, against=against, public_key=vault.public_key), [])
    check_told(offline.verify(pin=False, against=after), [tell_fork(2)])


def test_a_thief_of_the_key_can_retire_the_past_in_plain_sight(tmp_path: Path) -> None:
    """Retention needs a signed commit, and the stolen key signs one: no finding, but a note that stays for ever."""
    vault, kept = make_past(tmp_path / "vault", forward_secure=True)
    record_day(vault, NEXT_DAY, ["paid.400"])
    retire_days(vault.layout, KeyFile(vault.key_file), NEXT_DAY.date(), "tidied up")
    verification = auditkit.open(vault.path, key_file=vault.root_file).verify(pin=False, against=kept)
    check_told(verification, [])
    (retired,) = [note for note in verification.notes if note.kind == "retired"]
    assert (retired.file, retired.events) == (name_commit(3), 5)
    assert "tidied up" in retired.found


def test_a_thief_of_the_signing_seed_alone_cannot_forge_before_the_secret_key(tmp_path: Path) -> None:
    """The notes hold, the MACs don't: the secret key accuses commit and event. The public key needs a checkpoint."""
    vault, kept = make_past(tmp_path / "vault")
    rewrite_past(vault, None, [vault.keys.signing_seed])
    verification = vault.verify()
    told = {(f.kind, f.severity, f.file) for f in verification.findings if f.file.startswith("ledger/")}
    assert told == {("tampered", "finding", name_commit(1))}
    assert [(f.first_seq, f.last_seq) for f in verification.findings if f.writer] == [(2, 2)]
    check_told(vault.open().verify(public_key=vault.public_key, pin=False), [])
    verification = vault.open().verify(public_key=vault.public_key, pin=False, against=kept)
    check_told(verification, [tell_fork(1)])


def test_a_verifier_who_holds_the_hmac_key_can_forge_macs_and_no_signature(tmp_path: Path) -> None:
    """Whoever can check MACs can make them. The notes are another key's, which an offline key file doesn't hold."""
    vault, kept = make_past(tmp_path / "vault", forward_secure=True)
    public_key, verifier = vault.public_key, KeyFile(vault.root_file)
    rewrite_past(vault, verifier, [OWN_SEED])
    assert list_types(vault) == FORGED
    for trail in (vault.open(), auditkit.open(vault.path, key_file=vault.root_file)):
        verification = trail.verify(pin=False)
        assert [(f.kind, f.file, f.writer) for f in verification.findings if f.severity == "finding"] == [
            ("tampered", name_commit(1), None)
        ], say(verification)
    check_public = vault.open().verify(public_key=public_key, pin=False, against=kept)
    assert check_public.exit_code == 1


# -- removals ---------------------------------------------------------------------------------------------------------


def test_whoever_deletes_the_unsealed_tail_is_not_found(archive: Archive, site: Site) -> None:
    """The end of a journal, cut as a crash cuts it: an open end is noted, and that is all."""
    path = site.path / archive.find_journal("hal")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    check_told(site.verify(pin=True), [])


def test_whoever_deletes_the_sealed_tail_is_found_by_what_was_seen_before(sealed: Archive, sealed_site: Site) -> None:
    """The newest commits with their segments: each is told by the user's pin, and by any kept checkpoint how many."""
    sealed.site.verify(pin=True)
    for number in (6, 7):
        sealed_site.layout.commit(number).unlink()
        for path in sealed.list_segments(number):
            (sealed_site.path / path).unlink()
    told = [sealed.tell_commit("rolled_back", number) for number in (6, 7)]
    verification = sealed_site.verify(pin=True)
    assert [f for f in verification.findings if f.kind == "rolled_back"]
    check_told(verification, told, warnings=[NEWER_KEYS])
    assert sealed_site.open().verify(pin=False, against=sealed.kept[7]).exit_code == 1
    check_told(sealed_site.verify(), [], warnings=[NEWER_KEYS])


def test_whoever_rolls_the_whole_store_back_is_found_by_what_was_seen_before(
    sealed: Archive, sealed_site: Site
) -> None:
    """With its key file rolled back too, nothing in the store can tell: only a pin or a kept checkpoint does."""
    sealed.site.verify(pin=True)
    shutil.rmtree(sealed_site.folder)
    shutil.copytree(sealed.copies[6].folder, sealed_site.folder)
    check_told(sealed_site.verify(pin=True), [sealed.tell_commit("rolled_back", 7)])
    assert sealed_site.open().verify(pin=False, against=sealed.kept[7]).exit_code == 1
    check_told(sealed_site.verify(), [])


def test_whoever_drops_one_writer_is_found(tmp_path: Path) -> None:
    """One process's events are taken out everywhere: the ledger lists them, so they are missing by name and number."""
    vault, _ = make_past(tmp_path / "vault")
    with AuditLogger(vault.path, key_file=vault.key_file, enable_rotation=False) as audit:
        dropped = audit.log_event("paid.400", time=TUESDAY).partition(":")[0]
    record_day(vault, TUESDAY, ["paid.500"])
    path = next(path for path in vault.segments() if f"date={TUESDAY:%Y-%m-%d}" in path.parent.name)
    edit_rows(path, lambda rows: [row for row in rows if row["writer"] != dropped])
    verification = vault.verify()
    file, events = verification.findings
    assert (file.kind, file.file) == ("tampered", vault.name(path))
    assert (events.kind, events.writer, events.first_seq, events.last_seq) == ("missing", dropped, 0, 2)
    Forger().rewrite(vault)
    forged = vault.verify()
    assert [f.file for f in forged.findings if f.severity == "finding"] == [name_commit(2)] * 2, say(forged)


def test_an_insider_who_claims_retention_is_found_without_a_signed_commit(tmp_path: Path) -> None:
    """A removal by hand is missing whatever is said of it; one with the key stays in the ledger, with its reason."""
    vault, _ = make_past(tmp_path / "vault")
    record_day(vault, TUESDAY, ["paid.400"])
    by_hand = vault.copy(tmp_path / "by hand")
    retire_days(vault.layout, vault.keys, TUESDAY.date(), "kept for one day")
    verification = vault.verify()
    check_told(verification, [])
    (retired,) = [note for note in verification.notes if note.kind == "retired"]
    assert "kept for one day" in retired.found
    (path,) = [path for path in by_hand.segments() if f"date={MONDAY:%Y-%m-%d}" in path.parent.name]
    path.unlink()
    (missing,) = by_hand.verify().findings
    assert (missing.kind, missing.severity, missing.file) == ("missing", "finding", by_hand.name(path))
    assert (missing.first_seq, missing.last_seq, missing.events) == (0, 4, 5)


# -- the verifier's own side ------------------------------------------------------------------------------------------


def test_whoever_writes_to_the_state_folder_can_remove_the_pin(sealed: Archive, sealed_site: Site) -> None:
    """A pin is the user's own file: without it a rollback passes, and damaged it is warned of. A kept copy finds it."""
    sealed.site.verify(pin=True)
    pin = locate_pin(sealed.site.store_id)
    shutil.rmtree(sealed_site.path)
    shutil.copytree(sealed.copies[6].path, sealed_site.path)
    data = pin.read_bytes()
    pin.write_bytes(data[:-40])
    damaged = sealed_site.verify(pin=True)
    check_told(damaged, [], warnings=[NEWER_KEYS, Told("unanchored", "warning", "ledger")])
    pin.unlink()
    check_told(sealed_site.verify(pin=True), [], warnings=[NEWER_KEYS])
    assert sealed_site.open().verify(against=sealed.kept[7]).exit_code == 1


def test_an_operator_with_everything_cannot_contradict_what_others_kept(tmp_path: Path) -> None:
    """Key, store and clock are theirs: they rewrite all of it. A witness refuses, and a kept checkpoint convicts."""
    vault, _ = make_past(tmp_path / "vault")
    with running_witness([vault.public_key]) as witness:
        place = f"{witness.vkey}={witness.url}"
        honest = vault.open().anchor(witness=place)
        assert honest.ok
        rewrite_past(vault, vault.keys, [vault.keys.signing_seed])
        shutil.rmtree(vault.layout.anchors)
        record_day(vault, NEXT_DAY, ["paid.400"])
        assert [each.conflict for each in vault.open().anchor(witness=place).results] == [True]
    check_told(vault.verify(), [])
    verification = vault.open().verify(public_key=vault.public_key, pin=False, against=honest.checkpoint)
    check_told(verification, [tell_fork(1)])
    with pytest.raises(StoreDamaged, match="another"):
        vault.open().prove(honest.checkpoint)


def test_an_operator_with_everything_can_forge_what_nobody_kept(tmp_path: Path) -> None:
    """Where no checkpoint ever left the machine, a rewritten history is as good as a true one."""
    vault, _ = make_past(tmp_path / "vault")
    rewrite_past(vault, vault.keys, [vault.keys.signing_seed])
    check_told(vault.verify(), [])
    assert list_types(vault) != sorted(HONEST)
