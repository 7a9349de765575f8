"""Verifying with the public key alone, and with keys of which one was rotated away."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from auditkit.errors import UsageError
from auditkit.store.continuation import draft_commit
from auditkit.store.keychange import derive_verifier_key, endorse_key
from auditkit.store.keyring import FORWARD_SECURE, KeyFile
from auditkit.store.ledger import apply_commit, load_state, make_commit, publish_commit, read_commit
from tests.integrity.stores import findings_about, say
from tests.keyed import MODES, Keyed, make_keyed


def find_public(site: Keyed) -> str:
    return str(site.open().verify(pin=False).public_key)


@pytest.fixture(params=MODES)
def rotated(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Keyed, list[str]]:
    """A store whose keys were rotated twice, and its three public keys."""
    site = make_keyed(tmp_path / "site", request.param)
    keys: list[str] = []
    for _ in range(3):
        if keys:
            site.rotate()
        site.record()
        site.seal()
        keys.append(find_public(site))
    assert len(set(keys)) == 3
    return site, keys


def test_each_public_key_of_a_store_verifies_all_of_it(rotated: tuple[Keyed, list[str]]) -> None:
    """Whoever was given the first, one in the middle or the newest needs no other, and no secret."""
    site, keys = rotated
    for key in keys:
        for deep in (True, False):
            verification = site.open().verify(public_key=key, deep=deep, pin=False)
            assert verification.ok, say(verification)
            assert not verification.warnings, say(verification)
            assert (verification.public_key, verification.key_id) == (key, None)
            assert verification.checked_commits == 5


def test_the_secret_key_is_not_looked_for(rotated: tuple[Keyed, list[str]]) -> None:
    """An auditor has none: what isn't sealed yet is warned of, what is sealed is proved."""
    site, keys = rotated
    site.record()
    site.key_file.rename(site.folder / "elsewhere")
    verification = site.open().verify(public_key=keys[0], pin=False)
    assert verification.ok, say(verification)
    assert ["aren't sealed yet" in warning.found for warning in verification.warnings] == [True]


def test_a_key_of_nobody_is_a_finding(rotated: tuple[Keyed, list[str]]) -> None:
    """Everything was signed with a key for which the trusted one doesn't vouch; other stores' keys are refused."""
    site, keys = rotated
    stranger = derive_verifier_key(site.store_id, bytes(32))
    verification = site.open().verify(public_key=stranger, pin=False)
    assert verification.exit_code == 1
    assert any(finding.found.endswith("or all are forged") for finding in verification.findings)
    for wrong in ("", "x", keys[0][:-4], derive_verifier_key("otherotherothers", bytes(32)), "a\x1b[31m" * 500):
        with pytest.raises(UsageError) as caught:
            site.open().verify(public_key=wrong, pin=False)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_spaces_around_a_key_are_nothing(rotated: tuple[Keyed, list[str]]) -> None:
    """As files and shells add them."""
    site, keys = rotated
    assert site.open().verify(public_key=f" {keys[0]}\n", pin=False).public_key == keys[0]


@pytest.mark.parametrize("planted", [None, "stranger", "text"])
def test_another_public_key_in_the_description_is_found(rotated: tuple[Keyed, list[str]], planted: str | None) -> None:
    """With a key of the store and without one; it never becomes the trusted one."""
    site, keys = rotated
    path = site.path / "store.json"
    stranger = derive_verifier_key(site.store_id, bytes(32))
    value = {"stranger": stranger, "text": "<b>\x1b[31m" * 50}.get(str(planted))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "public_key": value}))
    for verification in (site.prove(), site.open().verify(public_key=keys[1], pin=False)):
        assert findings_about(verification, "store.json"), say(verification)
        assert verification.public_key != stranger
        assert "\x1b" not in say(verification)
    assert site.open().checkpoint()


def forge_change(site: Keyed, forger: KeyFile, keys: dict[str, str | None], seeds: list[bytes]) -> None:
    """Append a commit that changes the public key, made with the machine's own ratchet key: its MAC holds."""
    state = load_state(site.layout, site.store_id)
    number, key = site.key.draw()
    commit = replace(
        draft_commit("key", keys=keys),
        number=state.number + 1, key_n=number, prev_root=state.root, first_leaf=state.size,
    )  # fmt: skip
    made = make_commit(state, commit, key, seeds)
    assert publish_commit(site.layout, made)
    assert apply_commit(state, made).verifier_key == forger_key(site, forger)


def forger_key(site: Keyed, forger: KeyFile) -> str:
    return derive_verifier_key(site.store_id, forger.signing_seed)


@pytest.mark.parametrize("how", ["unendorsed", "self-endorsed", "one signature"])
def test_a_change_to_a_thief_s_key_is_found(rotated: tuple[Keyed, list[str]], tmp_path: Path, how: str) -> None:
    """Without the old signing key nobody passes the store's word on, though the MAC and the tree fit."""
    site, keys = rotated
    forger = KeyFile.create(tmp_path / "forger.key", site.store_id)
    new = forger_key(site, forger)
    honest = endorse_key(site.store_id, site.key.signing_seed, new)
    changes = {
        "unendorsed": {**honest, "old_signature": None},
        "self-endorsed": {
            **endorse_key(site.store_id, forger.signing_seed, new), "old": keys[-1],
        },
        "one signature": honest,
    }  # fmt: skip
    seeds = [forger.signing_seed] if how == "one signature" else [site.key.signing_seed, forger.signing_seed]
    forge_change(site, forger, changes[how], seeds)
    for verification in (site.prove(), *(site.open().verify(public_key=key, pin=False) for key in keys)):
        assert findings_about(verification, "ledger/00000006.commit"), say(verification)
    assert not site.open().verify(public_key=new, pin=False).ok


def test_an_endorsement_of_an_earlier_change_does_not_bring_the_old_key_back(
    rotated: tuple[Keyed, list[str]], tmp_path: Path
) -> None:
    """Replayed: the old key's word for the second key says nothing once the third is in force."""
    site, keys = rotated
    forger = KeyFile.create(tmp_path / "forger.key", site.store_id)
    change = read_commit(site.layout, 2).keys
    assert change is not None
    assert change["new"] == keys[1]
    state = load_state(site.layout, site.store_id)
    number, key = site.key.draw()
    draft = replace(
        draft_commit("key", keys=change),
        number=state.number + 1, key_n=number, prev_root=state.root, first_leaf=state.size,
    )  # fmt: skip
    publish_commit(site.layout, make_commit(state, draft, key, [forger.signing_seed, site.key.signing_seed]))
    verification = site.prove()
    assert findings_about(verification, "ledger/00000006.commit"), say(verification)


def test_a_key_file_without_the_store_s_signing_key_proves_no_note(tmp_path: Path) -> None:
    """Its root is the store's, its signing key somebody else's: the notes don't count as the store's."""
    site = make_keyed(tmp_path / "site")
    site.record()
    site.seal()
    state = json.loads(site.key_file.read_bytes())
    site.key_file.write_text(json.dumps({**state, "sign": "07" * 32}))
    verification = site.prove()
    (finding,) = verification.findings
    assert finding.found.endswith("or the signing key in the key file is another's"), say(verification)


@pytest.mark.parametrize("mode", MODES)
def test_a_rotation_that_was_interrupted_accuses_nobody(tmp_path: Path, mode: str) -> None:
    """The key file is ahead of the ledger until the next sealing: the machine's own verification knows both keys."""
    site = make_keyed(tmp_path / "site", mode)
    site.record()
    site.seal()
    before = find_public(site)
    site.key.renew(root=False)
    for verification in (site.open().verify(pin=False), site.prove(), site.open().verify(public_key=before, pin=False)):
        assert verification.ok, say(verification)


def test_the_machine_of_a_forward_secure_store_says_what_it_cannot_prove(tmp_path: Path) -> None:
    """Changed events that aren't sealed yet are found with the offline root; sealed ones by everybody."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)
    site.record()
    journal = site.journals()[0]
    journal.write_bytes(re.sub(rb'\\"n\\":1', rb'\\"n\\":7', journal.read_bytes()))
    machine, offline = site.open().verify(pin=False), site.prove()
    assert machine.ok
    assert any("root key lies offline" in warning.found for warning in machine.warnings)
    assert offline.exit_code == 1, say(offline)
    site.seal()
    assert not site.prove().ok
    segment = site.segments()[0]
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    assert site.open().verify(pin=False).exit_code == 1
