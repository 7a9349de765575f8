"""The keys of chains: reached from wherever a writer was last, and never at any price."""

from __future__ import annotations

import hmac

import pytest

from auditkit.chains import FREE_STEPS, MAX_EPOCH, KeyTable, WriterKeys, find_unproved
from auditkit.keys import GivenKey, derive_writer_key, ratchet_epoch

STORE = "storestorestores"
SECRET = GivenKey("a secret that only these tests know")


def make_keys(*writers: str, max_steps: int | None = None) -> WriterKeys:
    keys = WriterKeys(STORE, KeyTable(SECRET, None), max_steps)
    for writer in writers:
        keys.prepare(writer, 0)
    return keys


def sign(writer: str, epoch: int) -> bytes:
    """Sign as the specification says, from the root on."""
    key = derive_writer_key(SECRET.draw()[1], STORE, writer)
    for _ in range(epoch):
        key = ratchet_epoch(key)
    return hmac.digest(key, b"message", "sha256")


def sign_with(keys: WriterKeys, writer: str, epoch: int) -> bytes | None:
    states = keys.find_states(writer, epoch)
    if states is None:
        return None
    inner, outer = (state.copy() for state in states)
    inner.update(b"message")
    outer.update(inner.digest())
    return outer.digest()


@pytest.mark.parametrize("max_steps", [None, 1000])
def test_every_epoch_has_its_key_in_whatever_order_it_is_asked_for(max_steps: int | None) -> None:
    """Going on, going back, and turning to another writer in between give the keys of the specification."""
    keys = make_keys("a", "b", max_steps=max_steps)
    for writer, epoch in [("a", 0), ("a", 3), ("b", 2), ("a", 5), ("b", 9), ("a", 4), ("a", 0), ("b", 1), ("a", 30)]:
        assert sign_with(keys, writer, epoch) == sign(writer, epoch), (writer, epoch)
    assert not keys.unreached


def test_the_steps_of_all_writers_together_are_bounded() -> None:
    """Each writer's jump is charged to one account; what it doesn't cover is refused and remembered by its epoch."""
    keys = make_keys("a", "b", "c", max_steps=1000)
    assert sign_with(keys, "a", 600 + FREE_STEPS) == sign("a", 600 + FREE_STEPS)
    assert sign_with(keys, "b", 401 + FREE_STEPS) is None
    assert sign_with(keys, "b", 700) is None
    assert keys.unreached == {"b": 401 + FREE_STEPS}
    assert sign_with(keys, "b", 400 + FREE_STEPS) == sign("b", 400 + FREE_STEPS)
    assert sign_with(keys, "c", FREE_STEPS + 1) is None


def test_a_writer_that_goes_up_step_by_step_costs_nothing() -> None:
    """Honest epochs go up by one or two from event to event, also when runs of other writers lie between them."""
    keys = make_keys("a", "b", max_steps=0)
    for epoch in range(0, 300, 2):
        for writer in ("a", "b"):
            assert keys.find_states(writer, epoch) is not None
    assert sign_with(keys, "a", 299) == sign("a", 299)
    assert not keys.unreached


def test_without_a_budget_every_epoch_that_is_believed_is_reached() -> None:
    """A sealer sets aside what it can't prove, so it takes the time."""
    keys = make_keys("a", "b")
    assert keys.find_states("a", MAX_EPOCH) is not None
    assert keys.find_states("b", MAX_EPOCH) is not None
    assert keys.find_states("a", MAX_EPOCH + 1) is None
    assert not keys.unreached


@pytest.mark.parametrize(
    "valid, follows, unproved",
    [
        ([True, False], [True, True], [1]),
        ([False], [True], [0]),
        ([True, False], [True, False], []),
        ([False, False], [True, True], [0]),
        ([False], [False], []),
    ],
)
def test_the_ledger_s_link_stands_for_a_last_mac_that_can_t_be_judged_and_for_no_other(
    valid: list[bool], follows: list[bool], unproved: list[int]
) -> None:
    """Where the row before is there and sound, a MAC that fails accuses its row, whatever its sealer copied."""
    assert find_unproved(valid, follows, last_proved=True) == unproved
    assert find_unproved(valid, follows, last_proved=False) == sorted({*unproved, len(valid) - 1})
