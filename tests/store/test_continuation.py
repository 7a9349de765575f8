"""Going on with a ledger: nobody continues what somebody else made, and what was begun is finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from auditkit.errors import KeyMismatch, StoreDamaged
from auditkit.store import keychange, ledger
from auditkit.store.continuation import append_commit, draft_commit, finish_change, load_own_state
from auditkit.store.description import read_description
from auditkit.store.keyring import FORWARD_SECURE, KeyFile
from auditkit.store.ledger import LedgerState
from tests.integrity.stores import say
from tests.keyed import MODES, Keyed, make_keyed


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Keyed:
    """A store of either kind, sealed once."""
    site = make_keyed(tmp_path / "site", request.param)
    site.record()
    site.seal()
    return site


def test_the_keys_of_another_store_go_on_with_nothing(site: Keyed, tmp_path: Path) -> None:
    """Whoever signs with other keys is told so, and no number is drawn."""
    other = make_keyed(tmp_path / "other")
    before = other.key_file.read_bytes()
    with pytest.raises((KeyMismatch, StoreDamaged)):
        load_own_state(site.layout, site.store_id, other.key)
    assert other.key_file.read_bytes() == before


@pytest.mark.parametrize("mode", MODES)
def test_a_forged_ledger_is_not_continued(tmp_path: Path, mode: str) -> None:
    """Made with the thief's own keys from the first commit on, it is sound in itself and not ours."""
    site = make_keyed(tmp_path / "site", mode)
    site.record()
    forger = KeyFile.create(tmp_path / "forger.key", site.store_id)
    append_commit(site.layout, LedgerState(site.store_id), forger, draft_commit("seal"))
    with pytest.raises((KeyMismatch, StoreDamaged)):
        site.seal()
    assert len(site.commits()) == 1
    assert len(site.journals()) == 1


def test_a_commit_that_another_key_signed_is_not_continued(site: Keyed, tmp_path: Path) -> None:
    """A planted newest commit, with a change to the planter's own key or without."""
    planter = KeyFile.create(tmp_path / "planter.key", site.store_id)
    state = ledger.load_state(site.layout, site.store_id)
    new = keychange.derive_verifier_key(site.store_id, planter.signing_seed)
    change = keychange.endorse_key(site.store_id, planter.signing_seed, new)
    for keys in (None, {**change, "old": state.verifier_key}):
        copy = site.copy(tmp_path / "copy")
        append_commit(copy.layout, state, planter, draft_commit("key", keys=keys))
        with pytest.raises(StoreDamaged, match="00000002"):
            copy.seal()
        assert not copy.prove().ok


def test_a_change_that_was_begun_is_told_before_anything_else(site: Keyed) -> None:
    """The next sealing says first that the key was replaced, signed by both, and forgets the old one."""
    old = site.key.signing_seed
    site.key.renew(root=False)
    site.record()
    state = load_own_state(site.layout, site.store_id, site.key)
    assert state.number == 1
    site.seal()
    change, seal = (ledger.read_commit(site.layout, number) for number in (2, 3))
    assert (change.why, seal.why) == ("key", "seal")
    assert change.keys is not None
    assert change.keys["old"] == keychange.derive_verifier_key(site.store_id, old)
    assert site.key.retiring_seed is None
    assert old.hex() not in site.key_file.read_text()
    assert site.prove().ok, say(site.prove())


def test_finishing_again_does_nothing(site: Keyed) -> None:
    """Whoever finds nothing begun leaves ledger and keys as they are."""
    site.key.renew(root=False)
    finish_change(site.layout, load_own_state(site.layout, site.store_id, site.key), site.key)
    before = site.key_file.read_bytes()
    state = load_own_state(site.layout, site.store_id, site.key)
    assert finish_change(site.layout, state, site.key) == state
    assert site.key_file.read_bytes() == before
    assert len(site.commits()) == 2


def test_what_cannot_be_followed_is_not_published(site: Keyed) -> None:
    """A commit of an older state finds its number taken, and one that doesn't fit is refused before it is there."""
    state = load_own_state(site.layout, site.store_id, site.key)
    append_commit(site.layout, state, site.key, draft_commit("seal"))
    with pytest.raises(StoreDamaged, match="found it taken"):
        append_commit(site.layout, state, site.key, draft_commit("seal"))
    newest = load_own_state(site.layout, site.store_id, site.key)
    gone = ledger.Retirement("events/date=2020-03-02/0123456789abcdef.parquet", "policy", ())
    with pytest.raises(StoreDamaged, match="live segment"):
        append_commit(site.layout, newest, site.key, draft_commit("retain", retired=[gone]))
    assert len(site.commits()) == 2
    assert site.prove().ok


def test_another_public_key_in_the_description_stays_as_evidence(site: Keyed) -> None:
    """A sealing fills in what is missing or was replaced by a rotation, and hides nothing that somebody put there."""
    path = site.path / "store.json"
    planted = keychange.derive_verifier_key(site.store_id, bytes(32))
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps({**fields, "public_key": planted}))
    for act in (site.record, site.seal, site.rotate):
        act()
    assert read_description(site.layout).public_key == planted
    assert [finding.file for finding in site.prove().findings] == ["store.json"]
    for stale in (fields["public_key"], None):
        path.write_text(json.dumps({**fields, "public_key": stale}))
        site.seal()
        assert read_description(site.layout).public_key == site.open().verify(pin=False).public_key
    assert site.prove().ok


def test_the_store_of_another_machine_is_not_continued_with_its_copy_of_the_key(tmp_path: Path) -> None:
    """Two machines with copies of one forward-secure key: the one that didn't rotate is told that it is the older."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)
    site.record()
    site.seal()
    copy = site.copy(tmp_path / "copy")
    site.rotate(sign=False)
    shutil.rmtree(copy.path)
    shutil.copytree(site.path, copy.path)
    with pytest.raises(KeyMismatch, match="newest copy"):
        copy.seal()
