"""Changes of the public key: who vouches for whom, and what is no proof of it."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit import note
from auditkit.store.keychange import (
    derive_verifier_key,
    endorse_key,
    follow_keys,
    verify_change,
    verify_note_in,
)
from auditkit.store.ledger import LedgerState, name_origin

STORE, OTHER = "sitesitesitesite", "otherotherothers"
SEEDS = [bytes([number]) * 32 for number in range(1, 7)]
KEYS = [derive_verifier_key(STORE, seed) for seed in SEEDS]

Change = dict[str, str | None]


def make_changes(count: int = len(SEEDS)) -> list[Change]:
    """Say what the commits of a store say whose key was changed so often, the first one's included."""
    first: Change = {"old": None, "new": KEYS[0], "old_signature": None}
    return [first, *(endorse_key(STORE, old, new) for old, new in pairwise_keys(count))]


def pairwise_keys(count: int) -> list[tuple[bytes, str]]:
    return [(SEEDS[number], KEYS[number + 1]) for number in range(count - 1)]


def test_the_old_key_signs_four_lines() -> None:
    """Anybody with an Ed25519 library can check it: the lines are those that the format names."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    change = endorse_key(STORE, SEEDS[0], KEYS[1])
    assert (change["old"], change["new"]) == (KEYS[0], KEYS[1])
    text = f"auditkit/1 key change\nauditkit/{STORE}\n{KEYS[0]}\n{KEYS[1]}\n".encode()
    public = Ed25519PrivateKey.from_private_bytes(SEEDS[0]).public_key()
    public.verify(base64.b64decode(str(change["old_signature"])), text)


def test_an_honest_chain_is_followed_from_each_of_its_keys() -> None:
    """The first, one in the middle and the newest lead to the newest; one that the store never had leads nowhere."""
    changes = make_changes()
    for old, new in pairwise(changes):
        assert verify_change(STORE, new)
        assert new["old"] == old["new"]
    assert {follow_keys(changes, STORE, key) for key in KEYS} == {KEYS[-1]}
    assert follow_keys(changes[:1], STORE, KEYS[0]) == KEYS[0]
    assert follow_keys(changes, STORE, derive_verifier_key(STORE, bytes([99]) * 32)) is None
    assert follow_keys([], STORE, KEYS[0]) is None


@pytest.mark.parametrize("broken", range(1, len(SEEDS)))
def test_a_broken_link_ends_the_way(broken: int) -> None:
    """Who trusts a key before it isn't led past it; who trusts one behind it is."""
    changes = make_changes()
    forged = endorse_key(STORE, bytes([99]) * 32, KEYS[broken])
    changes[broken] = {**changes[broken], "old_signature": forged["old_signature"]}
    for place, key in enumerate(KEYS):
        expected = KEYS[broken - 1] if place < broken else KEYS[-1]
        assert follow_keys(changes, STORE, key) == expected


def test_a_link_that_is_left_out_ends_the_way() -> None:
    """A key that nobody vouched for isn't reached by the ones behind it."""
    changes = make_changes()
    del changes[3]
    assert follow_keys(changes, STORE, KEYS[0]) == KEYS[2]
    assert follow_keys(changes, STORE, KEYS[3]) == KEYS[-1]


def test_an_endorsement_holds_for_its_own_store_and_keys() -> None:
    """Moved to another store, turned round, put under another key, or said again of another pair, it proves nothing."""
    change = endorse_key(STORE, SEEDS[0], KEYS[1])
    elsewhere = [derive_verifier_key(OTHER, seed) for seed in SEEDS]
    assert verify_change(STORE, change)
    assert not verify_change(OTHER, change)
    assert not verify_change(OTHER, {**change, "old": elsewhere[0], "new": elsewhere[1]})
    assert not verify_change(STORE, {**change, "old": elsewhere[0], "new": elsewhere[1]})
    assert not verify_change(STORE, {**change, "old": KEYS[1], "new": KEYS[0]})
    assert not verify_change(STORE, {**change, "new": KEYS[2]})
    assert not verify_change(STORE, {**change, "old": KEYS[2]})
    assert not verify_change(STORE, endorse_key(STORE, SEEDS[0], elsewhere[1]))
    for name in ("old", "new", "old_signature"):
        assert not verify_change(STORE, {**change, name: None})


def test_a_checkpoint_is_no_endorsement() -> None:
    """The old key signs every checkpoint: none of those signatures is one over a change."""
    text = note.format_checkpoint(note.Checkpoint(name_origin(STORE), 1, bytes(32)))
    signature = base64.b64encode(note.sign_text(text, name_origin(STORE), SEEDS[0]).signature).decode()
    assert not verify_change(STORE, {"old": KEYS[0], "new": KEYS[1], "old_signature": signature})


@given(
    old=st.one_of(st.sampled_from(KEYS), st.text(max_size=80)),
    new=st.one_of(st.sampled_from(KEYS), st.text(max_size=80)),
    signature=st.one_of(
        st.text(max_size=100), st.binary(max_size=80).map(lambda data: base64.b64encode(data).decode())
    ),
)
def test_no_text_is_an_endorsement(old: str, new: str, signature: str) -> None:
    """Whatever a commit says, the answer is no, and nothing else is raised."""
    assert not verify_change(STORE, {"old": old, "new": new, "old_signature": signature})


@pytest.mark.parametrize("form", ["=", "\n", " ", "urlsafe", "bits"])
def test_only_one_form_of_a_signature_is_taken(form: str) -> None:
    """Other base64 of the same bytes would let a commit be changed under its signature."""
    change = endorse_key(STORE, SEEDS[1], KEYS[2])
    plain = str(change["old_signature"])
    assert plain.endswith("==")
    last = plain[-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = {
        "urlsafe": plain.replace("+", "-").replace("/", "_") + "-",
        "bits": plain[:-3] + alphabet[alphabet.index(last) + 1] + "==",
    }.get(form, plain + form)
    assert not verify_change(STORE, {**change, "old_signature": other})


def test_a_note_must_hold_under_each_key_that_must_have_signed_it() -> None:
    """At a change both sign; with no key, and with a key of another name, nothing holds."""
    state = LedgerState(STORE)
    text = note.format_checkpoint(note.Checkpoint(state.origin, 1, bytes(32)))
    both = note.format_note(text, [note.sign_text(text, state.origin, seed) for seed in SEEDS[:2]])
    one = note.sign_note(text, state.origin, SEEDS[0])
    assert verify_note_in(state, both, KEYS[:2])
    assert verify_note_in(state, one, KEYS[:1])
    assert not verify_note_in(state, one, KEYS[:2])
    assert not verify_note_in(state, one, [])
    assert not verify_note_in(state, one, [derive_verifier_key(OTHER, SEEDS[0])])
    assert not verify_note_in(state, one, ["no key"])
    assert not verify_note_in(state, "no note", KEYS[:1])
