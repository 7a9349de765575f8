"""Keys: every derivation recomputed from its description, and nothing that shows a secret."""

from __future__ import annotations

import copy
import hmac
import pickle
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.keys import (
    MIN_SECRET_BYTES,
    GivenKey,
    Keys,
    derive_commit_key,
    derive_writer_key,
    identify_key,
    prepare_hmac,
    ratchet_epoch,
    ratchet_key,
)
from auditkit.store.keyring import KeyFile
from tests.recording import independent

KEY = bytes(range(32))


def test_every_key_is_derived_as_the_format_says() -> None:
    """K, W and C are HMAC-SHA-256 with the labels of the format, recomputed with the standard library."""
    assert ratchet_key(KEY) == hmac.new(KEY, b"auditkit/1 next", sha256).digest()
    assert ratchet_epoch(KEY) == hmac.new(KEY, b"auditkit/1 epoch", sha256).digest()
    assert derive_commit_key(KEY, "store") == hmac.new(KEY, b"auditkit/1 commit\0store", sha256).digest()
    assert (
        derive_writer_key(KEY, "store", "writer") == hmac.new(KEY, b"auditkit/1 writer\0store\0writer", sha256).digest()
    )
    assert identify_key(KEY) == hmac.new(KEY, b"auditkit/1 id", sha256).hexdigest()[:16]
    assert derive_writer_key(KEY, "store", "writer") == independent.make_key(KEY, 0, "store", "writer", 0)


@given(key=st.binary(min_size=1, max_size=64), message=st.binary(max_size=500))
def test_prepared_states_make_the_same_mac(key: bytes, message: bytes) -> None:
    """Copying two prepared hash states is HMAC-SHA-256, for every key and message."""
    states = prepare_hmac(key)
    for _ in range(2):
        inner, outer = (state.copy() for state in states)
        inner.update(message)
        outer.update(inner.digest())
        assert outer.digest() == hmac.new(key, message, sha256).digest()


def test_a_short_secret_is_refused_without_being_shown() -> None:
    """A secret that can be guessed from one signed event raises, and the message doesn't repeat it."""
    short = "x7" * (MIN_SECRET_BYTES // 2 - 1)
    with pytest.raises(UsageError, match="at least 16 bytes, found 14") as caught:
        GivenKey(short)
    assert short not in str(caught.value)
    GivenKey("y" * MIN_SECRET_BYTES)


def test_a_secret_is_the_same_as_text_and_as_bytes() -> None:
    """Text is taken as UTF-8."""
    assert GivenKey("ein Schlüssel mit ü").key_id == GivenKey("ein Schlüssel mit ü".encode()).key_id


def test_a_given_secret_is_not_counted() -> None:
    """Whoever holds the environment holds the root, so n stays 0."""
    keys = GivenKey("a secret that is long enough")
    assert keys.draw() == keys.draw() == (0, independent.root_of_secret("a secret that is long enough"))
    assert keys.find([0, 1, 7]) == {0: keys.draw()[1]}
    assert keys.find([1]) == {}
    assert keys.count_drawn("store") is None
    assert keys.signing_seed != keys.draw()[1]


@pytest.fixture(params=["secret", "file"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Keys, set[bytes]]:
    """Keys of either kind, with the byte strings that must never be shown."""
    if request.param == "secret":
        given = GivenKey("a secret that is long enough")
        return given, {b"a secret that is long enough", given.draw()[1], given.signing_seed}
    file = KeyFile.create(tmp_path / "keys" / "store.key", "store")
    return file, {independent.root_of_file(file.path), file.signing_seed, file.draw()[1]}


def test_keys_are_not_shown_or_pickled(keys: tuple[Keys, set[bytes]]) -> None:
    """Neither repr nor str nor format shows a secret, and keys don't travel in pickles or copies."""
    subject, secrets = keys
    shown = f"{subject!r} {subject} {vars(type(subject))}"
    for secret in secrets:
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert subject.key_id in repr(subject)
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            act(subject)
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy({"settings": [subject]})


def test_keys_have_no_variables_to_print(keys: tuple[Keys, set[bytes]]) -> None:
    """What prints every variable of every object, as debuggers and loggers of crashes do, finds none in keys."""
    subject, _ = keys
    with pytest.raises(TypeError, match="__dict__"):
        vars(subject)
