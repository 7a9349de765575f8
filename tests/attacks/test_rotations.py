"""Attacks on a store whose signing key was replaced: whoever trusts the old key or the new one is told the same.

Monday and Tuesday are signed with the old key (commits 1 and 2), commit 3 replaces it, Wednesday and Thursday are
signed with the new one (commits 4 and 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from auditkit.integrity import Verification
from tests.attacks.archive import check_told, name_commit, read_kept
from tests.attacks.forging import Forger
from tests.attacks.recorder import MONDAY, THURSDAY, TUESDAY, WEDNESDAY
from tests.attacks.small import Vault, make_vault, record_day
from tests.integrity.stores import MONDAY as DAY
from tests.integrity.stores import Chain, Site, add_events, make_site, say


@dataclass(frozen=True)
class Rotated:
    """A store with a replaced signing key, both public keys, and the seed of the old one."""

    vault: Vault
    old: str
    new: str
    retired: bytes

    def verify(self, site: Vault, trusted: str) -> Verification:
        keys = {"secret": None, "old public key": self.old, "new public key": self.new}
        return site.open().verify(public_key=keys[trusted])


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Rotated:
    vault = make_vault(tmp_path_factory.mktemp("rotated") / "vault")
    old, retired = vault.public_key, vault.keys.signing_seed
    record_day(vault, MONDAY, ["paid.100", "paid.200"])
    record_day(vault, TUESDAY, ["paid.300"])
    new = vault.open().rotate_keys()
    record_day(vault, WEDNESDAY, ["paid.400"])
    record_day(vault, THURSDAY, ["paid.500"])
    return Rotated(vault, old, new, retired)


each_trust = pytest.mark.parametrize("trusted", ["secret", "old public key", "new public key"])


def remove_commits(*numbers: int) -> Callable[[Vault], set[str]]:
    """Delete commits; gives their names."""

    def attack(vault: Vault) -> set[str]:
        for number in numbers:
            vault.layout.commit(number).unlink()
        return set(map(name_commit, numbers))

    return attack


def cut_commits(vault: Vault) -> set[str]:
    """Delete the newest three commits with their segments, the change of the key among them."""
    for path in vault.segments():
        if str(WEDNESDAY.date()) in str(path) or str(THURSDAY.date()) in str(path):
            path.unlink()
            path.parent.rmdir()
    return remove_commits(3, 4, 5)(vault)


@each_trust
def test_an_untouched_store_with_a_replaced_key_has_no_findings(rotated: Rotated, trusted: str) -> None:
    """The old key vouches for the new one, and the new one signed the tree in which the old one's commits stand."""
    check_told(rotated.verify(rotated.vault, trusted), [])


@each_trust
@pytest.mark.parametrize(
    "attack",
    [remove_commits(1), remove_commits(3), cut_commits],
    ids=["deletes the first", "deletes the change", "cuts off the newest three"],
)
def test_an_attacker_of_commits_around_a_change_of_the_key(
    rotated: Rotated, tmp_path: Path, attack: Callable[[Vault], set[str]], trusted: str
) -> None:
    """What is attacked is accused, and no commit that nobody touched, nor store.json."""
    rotated.verify(rotated.vault, trusted)
    vault = rotated.vault.copy(tmp_path / "copy")
    attacked = attack(vault)
    verification = rotated.verify(vault, trusted)
    accused = {finding.file for finding in verification.findings if finding.severity == "finding"}
    assert accused, say(verification)
    assert accused <= attacked, f"not touched: {sorted(accused - attacked)}\n{say(verification)}"
    assert verification.exit_code == 1


@each_trust
def test_a_thief_of_a_retired_signing_key_cannot_sign_what_comes_after_it(
    rotated: Rotated, tmp_path: Path, trusted: str
) -> None:
    """Made anew and signed with the old key, the commits behind the change are accused: it retired the key."""
    vault = rotated.vault.copy(tmp_path / "copy")
    keys = vault.keys
    thief = Forger(lambda number: keys.find([number])[number], [rotated.retired])
    made = thief.rewrite(vault, lambda commit: replace(commit, detail="rewritten") if commit.number == 4 else commit)
    assert made == [4, 5]
    verification = rotated.verify(vault, trusted)
    accused = {finding.file for finding in verification.findings if finding.severity == "finding"}
    assert accused == {name_commit(4), name_commit(5)}, say(verification)


@pytest.mark.parametrize("newer", ["secret", "new public key"])
def test_a_thief_of_a_retired_key_file_can_only_go_on_from_before_the_rotation(
    rotated: Rotated, tmp_path: Path, newer: str
) -> None:
    """A past of the thief's own, cut off before the change: whoever has the new key finds that nothing leads to it.

    Who has the old public key alone needs a kept checkpoint that it signed, as that of the change itself.
    """
    kept = read_kept(rotated.vault)[3]
    vault = rotated.vault.copy(tmp_path / "copy")
    cut_commits(vault)
    keys = vault.keys
    thief = Forger(lambda number: keys.find([number])[number], [rotated.retired])
    assert thief.rewrite(vault, lambda commit: replace(commit, detail="rewritten")) == [1, 2]
    description = vault.layout.description
    description.write_text(description.read_text().replace(rotated.new, rotated.old))
    assert rotated.verify(vault, newer).exit_code == 1
    check_told(vault.open().verify(public_key=rotated.old, pin=False), [])
    found = vault.open().verify(public_key=rotated.old, pin=False, against=kept)
    assert {finding.kind for finding in found.findings} == {"rolled_back"}, say(found)
    assert found.exit_code == 1


def test_segments_without_a_ledger_accuse_none_of_their_events(tmp_path: Path) -> None:
    """A writer's only row in one segment and its first event in another, whatever names their hashes give them."""
    for attempt in range(40):
        site: Site = make_site(tmp_path / str(attempt))
        chain = Chain(site, DAY, "a")
        add_events(chain, 4)
        chain.add(message=f"attempt {attempt}")
        site.seal()
        (first,) = site.segments()
        chain.rotate()
        chain.close()
        site.seal()
        (second,) = set(site.segments()) - {first}
        if second.name < first.name:
            break
    for path in site.commits():
        path.unlink()
    verification = site.verify()
    accused = [finding for finding in verification.findings if finding.severity == "finding"]
    assert [finding.file for finding in accused] == [name_commit(1)], say(verification)
