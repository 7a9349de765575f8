"""Proofs as files: another implementation's log, formats that come back byte for byte, nothing hostile gets through."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit import event, note, tree
from auditkit.errors import StoreDamaged, UsageError
from auditkit.proof import (
    MAX_EXTRA_BYTES,
    MAX_HASHES,
    MAX_PROOF_BYTES,
    ConsistencyProof,
    TlogProof,
    find_consistency_faults,
    find_proof_faults,
    format_consistency_proof,
    format_proof,
    parse_consistency_proof,
    parse_proof,
    read_verifier_keys,
    verify_consistency_proof,
    verify_proof,
)

# The log in testdata/log of github.com/transparency-dev/tessera at 1811ae1a: its public key, its
# checkpoints of 4 and of 15 leaves, and the inclusion proof of its leaf 5, "six", which was derived from its tiles.
LOG = "example.com/log/testdata"
LOG_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
LOG_4 = (
    "example.com/log/testdata\n4\nzY1lN35vrXYAPixXSd59LsU29xUJtuW4o2dNNg5Y2Co=\n\n— example.com/log/testdata "
    "M9e0lnFuWt0cp60moO4jAkeXvMNLIIOGn4WdyeHQurBt9mBi0tWdfkldiAt9k0FpwuZymvttsVn9uwyouXU3vPpeNAc=\n"
)
LOG_15 = (
    "example.com/log/testdata\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n\n— example.com/log/testdata "
    "M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=\n"
)
LOG_SIX = (
    "c2sp.org/tlog-proof@v1\n"
    "index 5\n"
    "zMKa4OAqd7D0V4wawXST15z0JiEEkprIBPkfxOesWvA=\n"
    "nk9gCR+floFqznAPtqjjcnnV64dge2jQB95D5t164Hg=\n"
    "zY1lN35vrXYAPixXSd59LsU29xUJtuW4o2dNNg5Y2Co=\n"
    "5jLpqTgjsBDSEX6SgZiRnbTMdTuRd8bQ5tSsAOxe0Ks=\n"
    "\n" + LOG_15
)

SEED = bytes(range(32))
NAME = "auditkit/sitesitesitesite"
KEY = note.format_verifier_key(NAME, note.derive_public_key(SEED))
LEAVES = [tree.hash_leaf(bytes([number])) for number in range(21)]


def sign(size: int, root: bytes | None = None, name: str = NAME, seed: bytes = SEED) -> str:
    """Sign a checkpoint, by default that of the first leaves."""
    root = tree.compute_root(size, tree.build_nodes(0, LEAVES[:size])) if root is None else root
    return note.sign_note(note.format_checkpoint(note.Checkpoint(name, size, root)), name, seed)


def prove(index: int, size: int, extra: bytes | None = None) -> TlogProof:
    return TlogProof(index, tuple(tree.prove_inclusion(index, size, tree.serve_nodes(LEAVES))), sign(size), extra)


def prove_growth(old: int, new: int) -> ConsistencyProof:
    hashes = tree.prove_consistency(old, new, tree.serve_nodes(LEAVES)) if old else []
    return ConsistencyProof(old, tuple(hashes), sign(new))


hashes = st.binary(min_size=32, max_size=32)


# -- another implementation's log --------------------------------------------------------------------------------------


def test_the_proof_of_another_implementations_log_verifies() -> None:
    """A leaf of tessera's test log is proved under its key, and comes back byte for byte."""
    proof = parse_proof(LOG_SIX)
    assert (proof.index, proof.extra, proof.checkpoint) == (5, None, LOG_15)
    assert verify_proof(proof, tree.hash_leaf(b"six"), LOG_KEY)
    assert not verify_proof(proof, tree.hash_leaf(b"five"), LOG_KEY)
    assert format_proof(proof) == LOG_SIX


def test_the_growth_of_another_implementations_log_verifies() -> None:
    """Two checkpoints that tessera signed are shown to be of one tree."""
    sibling, pair, first_four, last_seven = parse_proof(LOG_SIX).hashes
    assert first_four == note.parse_checkpoint(note.parse_note(LOG_4).text).root
    second_four = tree.hash_children(tree.hash_children(sibling, tree.hash_leaf(b"six")), pair)
    proof = ConsistencyProof(4, (second_four, last_seven), LOG_15)
    text = format_consistency_proof(proof)
    assert text.startswith("old 4\n")
    assert verify_consistency_proof(parse_consistency_proof(text), LOG_4, LOG_KEY)
    assert not verify_consistency_proof(ConsistencyProof(4, proof.hashes[:-1], LOG_15), LOG_4, LOG_KEY)


# -- formats that come back --------------------------------------------------------------------------------------------


@given(
    st.integers(0, note.MAX_TREE_SIZE),
    st.lists(hashes, max_size=MAX_HASHES),
    st.none() | st.binary(min_size=1, max_size=200),
)
def test_a_proof_comes_back(index: int, path: list[bytes], extra: bytes | None) -> None:
    """What is written is read as the same proof, from text and from bytes."""
    proof = TlogProof(index, tuple(path), LOG_15, extra)
    text = format_proof(proof)
    assert parse_proof(text) == parse_proof(text.encode()) == proof
    assert format_proof(parse_proof(text)) == text


@given(st.integers(0, 15), st.lists(hashes, max_size=MAX_HASHES))
def test_a_consistency_proof_comes_back(old_size: int, path: list[bytes]) -> None:
    """What is written is read as the same proof, from text and from bytes."""
    proof = ConsistencyProof(old_size, tuple(path if old_size else ()), LOG_15)
    text = format_consistency_proof(proof)
    assert parse_consistency_proof(text) == parse_consistency_proof(text.encode()) == proof
    assert format_consistency_proof(parse_consistency_proof(text)) == text


def test_an_events_longest_line_fits() -> None:
    """The longest line that a writer makes is the longest extra data, and such a proof with 63 hashes is read."""
    assert MAX_EXTRA_BYTES == event.MAX_LINE_BYTES
    proof = TlogProof(2**63 - 1, (bytes(32),) * MAX_HASHES, LOG_15, bytes(MAX_EXTRA_BYTES))
    text = format_proof(proof)
    assert len(text) < MAX_PROOF_BYTES
    assert parse_proof(text) == proof


# -- refusals ----------------------------------------------------------------------------------------------------------

GOOD = format_proof(prove(5, 9, b"extra data"))
GROWTH = format_consistency_proof(prove_growth(5, 9))
HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: "", "an empty line before the checkpoint"),
        (lambda text: text.partition("\n\n")[0] + "\n", "an empty line before the checkpoint"),
        (lambda text: text.replace("@v1", "@v2"), "in the first line"),
        (lambda text: "\n" + text, "in the first line"),
        (lambda text: " " + text, "in the first line"),
        (lambda text: "\ufeff" + text, "in the first line"),
        (lambda text: text.replace("\n", "\r\n"), "an empty line"),
        (lambda text: text.replace("\nextra ", "\nExtra "), '"index" and a number'),
        (lambda text: text.replace("\nextra ", "\nextra  "), "extra data in base64"),
        (lambda text: text.replace("\nextra ", "\nextra \nextra "), "extra data in base64"),
        (lambda text: text.replace("ZGF0YQ==", "ZGF0YR=="), "extra data in base64"),
        (lambda text: text.replace("ZGF0YQ==", "ZGF0YQ"), "extra data in base64"),
        (lambda text: text.replace("index 5", "index 05"), "without leading zeros"),
        (lambda text: text.replace("index 5", "index +5"), "without leading zeros"),
        (lambda text: text.replace("index 5", "index ٥"), "without leading zeros"),
        (lambda text: text.replace("index 5", "index  5"), "without leading zeros"),
        (lambda text: text.replace("index 5", "index 5 "), "without leading zeros"),
        (lambda text: text.replace("index 5", f"index {2**63}"), "expected a number from 0 to"),
        (lambda text: text.replace("index 5", "index 5" + "0" * 40), "without leading zeros"),
        (lambda text: text.replace("index 5\n", ""), '"index" and a number'),
        (lambda text: text.replace("index 5\n", "index 5\nindex 5\n"), "hash 1 in base64"),
        (lambda text: text.replace("index 5\n", "index 5\n\n"), "checkpoint|size|origin|three lines|decimal"),
        (lambda text: text.replace("index 5\n", "index 5\nAAAA\n"), "hash 1 to be 32 bytes long"),
        (lambda text: text.replace("index 5\n", f"index 5\n{HASH} \n"), "hash 1 in base64"),
        (lambda text: text.replace("index 5\n", "index 5\n" + f"{HASH}\n" * 60), "at most 63 hashes"),
        (lambda text: text.replace("index 5\n", "index 5\n" + f"{HASH}\n" * 100_000), "at most 63 hashes"),
        (lambda text: text.replace("\n\n", "\n\n\n", 1), "expected"),
        (lambda text: text[:-1], "newline at the end"),
        (lambda text: text + "\n", "expected"),
        (lambda text: text.rpartition("\n\n")[0] + "\n", "an empty line before the signatures"),
        (lambda text: text.replace("\n9\n", "\n09\n"), "tree size in decimal"),
        (lambda text: text.replace(NAME, "\x1b[31m"), "control characters"),
        (lambda text: text + "x" * MAX_PROOF_BYTES, "at most"),
        (lambda text: text.replace("extra data", "\ud800") + "\ud800", "UTF-8"),
    ],
)  # fmt: skip
def test_what_the_formatter_would_not_write_is_refused(change: Callable[[str], str], message: str) -> None:
    """Each departure from the one form is an error that says where, quotes little, and prints nothing raw."""
    with pytest.raises(StoreDamaged, match=message) as caught:
        parse_proof(change(GOOD), source="their.tlog-proof")
    assert str(caught.value).startswith("their.tlog-proof: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace("old 5", "old 05"), "without leading zeros"),
        (lambda text: text.replace("old 5", "new 5"), '"old" and a number'),
        (lambda text: text.replace("old 5", "old 10"), "at most the checkpoint's 9 leaves"),
        (lambda text: text.replace("old 5", "old 0"), "no hashes for the empty tree"),
        (lambda text: text.replace("old 5\n", "old 5\n" + f"{HASH}\n" * 62), "at most 63 hashes"),
        (lambda text: "c2sp.org/tlog-proof@v1\n" + text, '"old" and a number'),
        (lambda text: text.partition("\n\n")[2], '"old" and a number'),
    ],
)  # fmt: skip
def test_what_no_witness_would_take_is_refused(change: Callable[[str], str], message: str) -> None:
    """A consistency proof has one form too."""
    with pytest.raises(StoreDamaged, match=message):
        parse_consistency_proof(change(GROWTH))


@given(st.data())
def test_changed_bytes_are_refused_or_come_back(data: st.DataObject) -> None:
    """Whatever bytes there are: they are refused as damaged, or are exactly what the formatter writes."""
    is_receipt = data.draw(st.booleans())
    good = GOOD if is_receipt else GROWTH
    raw = bytearray(good.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        if is_receipt:
            printed = format_proof(parse_proof(bytes(raw)))
        else:
            printed = format_consistency_proof(parse_consistency_proof(bytes(raw)))
    except StoreDamaged:
        return
    assert printed.encode() == bytes(raw)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_anything_at_all_is_refused(data: bytes | str) -> None:
    """Bytes and text that nobody made as a proof raise nothing but StoreDamaged."""
    for parse in (parse_proof, parse_consistency_proof):
        with pytest.raises(StoreDamaged):
            parse(data)


@pytest.mark.parametrize(
    "proof",
    [
        TlogProof(-1, (), LOG_15),
        TlogProof(2**63, (), LOG_15),
        TlogProof(0, (b"short",), LOG_15),
        TlogProof(0, (bytes(32),) * 64, LOG_15),
        TlogProof(0, (), LOG_15, b""),
        TlogProof(0, (), LOG_15, bytes(MAX_EXTRA_BYTES + 1)),
        TlogProof(0, (), LOG_15.rpartition("\n\n")[0] + "\n"),
        TlogProof(0, (), note.sign_note("no checkpoint\n", NAME, SEED)),
    ],
)
def test_a_proof_that_no_parser_takes_is_not_written(proof: TlogProof) -> None:
    """What can't be read again is a call that can't be meant."""
    with pytest.raises(UsageError, match="proof: "):
        format_proof(proof)


@pytest.mark.parametrize(
    "proof",
    [
        ConsistencyProof(-1, (), LOG_15),
        ConsistencyProof(16, (), LOG_15),
        ConsistencyProof(0, (bytes(32),), LOG_15),
        ConsistencyProof(3, (b"",), LOG_15),
        ConsistencyProof(3, (), "no note"),
    ],
)
def test_a_consistency_proof_that_no_parser_takes_is_not_written(proof: ConsistencyProof) -> None:
    """What can't be read again is a call that can't be meant."""
    with pytest.raises(UsageError, match="proof: "):
        format_consistency_proof(proof)


# -- verifying ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 21).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_a_leaf_is_proved_and_no_other(place: tuple[int, int]) -> None:
    """Each leaf of each tree verifies at its own index alone."""
    index, size = place
    proof = prove(index, size)
    assert [verify_proof(proof, leaf, KEY) for leaf in LEAVES] == [at == index for at in range(len(LEAVES))]
    other = TlogProof((index + 1) % size, proof.hashes, proof.checkpoint)
    assert verify_proof(other, LEAVES[index], KEY) is (size == 1)


@given(st.integers(1, 21).flatmap(lambda new: st.tuples(st.integers(0, new), st.just(new))))
def test_growth_is_proved_for_every_pair_of_trees(sizes: tuple[int, int]) -> None:
    """Each tree is shown to begin with each earlier one, with the empty one too, and not with another of its size."""
    old, new = sizes
    proof = prove_growth(old, new)
    assert verify_consistency_proof(proof, sign(old), KEY)
    assert not verify_consistency_proof(proof, sign(old, root=bytes(32)), KEY)


def test_a_proof_from_another_size_is_refused() -> None:
    """The older checkpoint that the checker has decides, not what the proof says of its size."""
    faults = find_consistency_faults(prove_growth(5, 9), sign(6), KEY)
    assert faults == ["expected a proof from the older checkpoint's 6 leaves, found one from 5"]


def test_an_index_beyond_the_tree_is_refused() -> None:
    """An index that the checkpoint doesn't cover is told as such."""
    assert find_proof_faults(TlogProof(9, (), sign(9)), LEAVES[0], KEY) == [
        "expected the index of one of 9 leaves, found 9"
    ]


def test_a_key_vouches_only_for_the_log_of_its_name() -> None:
    """The signature of a trusted key over another log's checkpoint counts for nothing."""
    other = "auditkit/otherotherotherx"
    text = note.format_checkpoint(note.Checkpoint(other, 1, LEAVES[0]))
    proof = TlogProof(0, (), note.sign_note(text, NAME, SEED))
    assert find_proof_faults(proof, LEAVES[0], KEY) == [f"expected a log of the key's name ('{NAME}'), found '{other}'"]
    assert find_proof_faults(proof, LEAVES[0], note.format_verifier_key(other, note.derive_public_key(SEED))) == [
        f"expected a signature by key {note.parse_verifier_key(_key_of(other)).key_id.hex()}, found none"
    ]


def _key_of(name: str, seed: bytes = SEED) -> str:
    return note.format_verifier_key(name, note.derive_public_key(seed))


def test_another_key_of_the_same_name_is_told_from_a_forgery() -> None:
    """Whoever holds an outdated key learns which one signed; whoever was given a forgery learns that."""
    proof = prove(3, 9)
    (fault,) = find_proof_faults(proof, LEAVES[3], _key_of(NAME, bytes(32)))
    assert fault.endswith(f"found one by {note.parse_verifier_key(KEY).key_id.hex()}")
    assert verify_proof(proof, LEAVES[3], [_key_of(NAME, bytes(32)), KEY])
    forged = TlogProof(3, proof.hashes, proof.checkpoint.replace("\n9\n", "\n8\n"))
    assert "was changed or forged" in find_proof_faults(forged, LEAVES[3], KEY)[0]


def test_both_checkpoints_must_be_signed() -> None:
    """A consistency proof between a forged and a genuine checkpoint says nothing, whichever is forged."""
    proof, forger = prove_growth(5, 9), bytes(32)
    (fault,) = find_consistency_faults(proof, sign(5, seed=forger), KEY)
    assert fault.startswith("older checkpoint: expected a signature by key")
    (fault,) = find_consistency_faults(ConsistencyProof(5, proof.hashes, sign(9, seed=forger)), sign(5), KEY)
    assert fault.startswith("newer checkpoint: expected a signature by key")


def test_two_logs_are_never_one() -> None:
    """Checkpoints of two logs with the same leaves, each well signed, are not taken for one log's."""
    other = "auditkit/otherotherotherx"
    keys = [KEY, _key_of(other)]
    assert find_consistency_faults(prove_growth(5, 9), sign(5, name=other), keys) == [
        f"expected two checkpoints of one log, found '{other}' and '{NAME}'"
    ]


@pytest.mark.parametrize("keys", [[], (), "", "secret", [KEY, "secret"], [3], None])
def test_without_a_readable_key_nothing_is_verified(keys: object) -> None:
    """A missing or mistyped key is the caller's error; the message never repeats what may be a secret."""
    with pytest.raises(UsageError) as caught:
        read_verifier_keys(keys)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value).replace("not the secret key", "")
    with pytest.raises(UsageError):
        verify_proof(prove(0, 1), LEAVES[0], keys)  # type: ignore[arg-type]


def test_a_proof_shows_neither_data_nor_hashes_in_its_repr() -> None:
    """A proof in a traceback is short: what it carries may be 4 MiB of an event."""
    assert repr(prove(3, 9, b"private")) == "TlogProof(index=3)"
    assert repr(prove_growth(5, 9)) == "ConsistencyProof(old_size=5)"
