"""The Merkle tree: everybody else's bytes, and ranges that join without a pass over the leaves."""

from __future__ import annotations

import base64
import json
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit import tree
from auditkit.errors import UsageError

# Leaves and roots of transparency-dev/merkle, testonly/constants.go (first published with Certificate
# Transparency): root n is that of the first n leaves.
LEAVES = [
    tree.hash_leaf(bytes.fromhex(data))
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

VECTORS = Path(__file__).parents[2] / "shared" / "data" / "vectors"

sizes = st.integers(0, 70)
starts = st.one_of(st.integers(0, 70), st.integers(2**40, 2**40 + 70))


@cache
def make_leaves(count: int) -> list[bytes]:
    return [tree.hash_leaf(str(number).encode()) for number in range(count)]


def hash_naively(leaves: list[bytes]) -> bytes:
    """Compute a root by the recursive definition of RFC 6962, section 2.1, and nothing else."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\x01" + hash_naively(leaves[:half]) + hash_naively(leaves[half:])).digest()


def read_vectors(name: str) -> dict[str, Any]:
    if not VECTORS.exists():
        pytest.skip("the shared vectors aren't beside this checkout (../shared/data/vectors)")
    vectors: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


@pytest.mark.parametrize("size", range(9))
def test_roots_equal_the_published_ones(size: int) -> None:
    """The reference leaves give the reference roots at every size."""
    assert tree.compute_root(size, tree.build_nodes(0, LEAVES[:size])).hex() == ROOTS[size]


def test_empty_root_is_the_hash_of_nothing() -> None:
    """A tree without leaves has a root, too."""
    assert tree.EMPTY_ROOT.hex() == ROOTS[0]


@given(first=starts, count=sizes)
def test_ranges_are_the_largest_complete_subtrees(first: int, count: int) -> None:
    """A range is covered without gaps by aligned powers of two, of which no two could be one."""
    ranges = tree.split_range(first, count)
    position = first
    for start, size in ranges:
        assert start == position
        assert size.bit_count() == 1
        assert start % size == 0
        position += size
    assert position == first + count
    for (start, size), (_, next_size) in pairwise(ranges):
        assert size != next_size or start % (2 * size) != 0


@given(first=starts, count=sizes)
def test_nodes_are_the_roots_of_their_subtrees(first: int, count: int) -> None:
    """Each node is what the recursive definition gives for its leaves."""
    leaves = make_leaves(count)
    expected = [
        hash_naively(leaves[start - first : start - first + size]) for start, size in tree.split_range(first, count)
    ]
    assert tree.build_nodes(first, leaves) == expected


@given(first=starts, count=sizes)
def test_every_form_of_leaves_gives_the_same_nodes(first: int, count: int) -> None:
    """A list, a generator, one buffer and a view of it are the same leaves, and none is changed."""
    leaves = list(make_leaves(count))
    expected = tree.build_nodes(first, leaves)
    assert leaves == make_leaves(count)
    joined = b"".join(leaves)
    for form in (tuple(leaves), iter(leaves), joined, bytearray(joined), memoryview(b"x" + joined)[1:]):
        nodes = tree.build_nodes(first, form)
        assert nodes == expected
        assert all(type(node) is bytes for node in nodes)


@given(first=starts, counts=st.lists(st.integers(0, 20), max_size=6))
def test_joined_ranges_equal_the_range_built_at_once(first: int, counts: list[int]) -> None:
    """However a range is cut into files, joining their nodes gives the nodes of the whole."""
    leaves = make_leaves(sum(counts))
    nodes: list[bytes] = []
    done = 0
    for count in counts:
        part = tree.build_nodes(first + done, leaves[done : done + count])
        nodes = tree.merge_nodes(first, done, nodes, count, part)
        done += count
    assert nodes == tree.build_nodes(first, leaves)


@given(first=starts, counts=st.tuples(sizes, sizes, sizes))
def test_joining_is_associative(first: int, counts: tuple[int, int, int]) -> None:
    """The order in which neighbours are joined doesn't matter."""
    one, two, three = counts
    leaves = make_leaves(sum(counts))
    a = tree.build_nodes(first, leaves[:one])
    b = tree.build_nodes(first + one, leaves[one : one + two])
    c = tree.build_nodes(first + one + two, leaves[one + two :])
    left = tree.merge_nodes(first, one + two, tree.merge_nodes(first, one, a, two, b), three, c)
    right = tree.merge_nodes(first, one, a, two + three, tree.merge_nodes(first + one, two, b, three, c))
    assert left == right


@given(size=sizes)
def test_root_equals_the_recursive_definition(size: int) -> None:
    """Bagging the nodes of all leaves gives the root."""
    leaves = make_leaves(size)
    assert tree.compute_root(size, tree.build_nodes(0, leaves)) == hash_naively(leaves)


@given(size=st.integers(1, 70), data=st.data())
def test_every_leaf_can_be_proved(size: int, data: st.DataObject) -> None:
    """An inclusion proof holds for its leaf, and for no other index, size, leaf or root."""
    index = data.draw(st.integers(0, size - 1))
    leaves = make_leaves(size)
    root = hash_naively(leaves)
    proof = tree.prove_inclusion(index, size, tree.serve_nodes(leaves))
    assert tree.verify_inclusion(index, size, leaves[index], proof, root)
    assert not tree.verify_inclusion(index, size, tree.hash_leaf(b"other"), proof, root)
    assert not tree.verify_inclusion(index, size, leaves[index], proof, tree.hash_leaf(b"other"))
    assert not tree.verify_inclusion(index, size, leaves[index], [*proof, root], root)
    other = data.draw(st.integers(-2, size + 2).filter(lambda number: number != index))
    assert not tree.verify_inclusion(other, size, leaves[index], proof, root)
    if proof:
        cut = data.draw(st.integers(0, len(proof) - 1))
        assert not tree.verify_inclusion(index, size, leaves[index], proof[:cut] + proof[cut + 1 :], root)
        swapped = [*proof]
        swapped[cut] = tree.hash_leaf(b"other")
        assert not tree.verify_inclusion(index, size, leaves[index], swapped, root)


@given(data=st.data(), new_size=st.integers(1, 70))
def test_growth_can_be_proved(new_size: int, data: st.DataObject) -> None:
    """A consistency proof holds between a tree and its earlier state, and not after a leaf was changed."""
    old_size = data.draw(st.integers(1, new_size))
    leaves = make_leaves(new_size)
    old_root, new_root = hash_naively(leaves[:old_size]), hash_naively(leaves)
    proof = tree.prove_consistency(old_size, new_size, tree.serve_nodes(leaves))
    assert tree.verify_consistency(old_size, new_size, proof, old_root, new_root)

    forged = [*leaves]
    forged[data.draw(st.integers(0, old_size - 1))] = tree.hash_leaf(b"forged")
    forged_root = hash_naively(forged)
    forged_proof = tree.prove_consistency(old_size, new_size, tree.serve_nodes(forged))
    assert not tree.verify_consistency(old_size, new_size, forged_proof, old_root, forged_root)
    assert not tree.verify_consistency(old_size, new_size, proof, old_root, forged_root)
    assert not tree.verify_consistency(old_size, new_size, [*proof, new_root], old_root, new_root)
    if proof:
        assert not tree.verify_consistency(old_size, new_size, proof[:-1], old_root, new_root)


@given(
    sizes=st.tuples(st.integers(-1, 2**70), st.integers(-1, 2**70)),
    proof=st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32)), max_size=80),
    root=st.binary(max_size=40),
)
def test_verifiers_take_anything(sizes: tuple[int, int], proof: list[bytes], root: bytes) -> None:
    """Hostile proofs are refused with False, whatever their sizes and lengths, never with an exception."""
    assert tree.verify_inclusion(*sizes, leaf=LEAVES[0], proof=proof, root=root) is False
    assert tree.verify_consistency(*sizes, proof=proof, old_root=LEAVES[0], new_root=root) is False


def test_receipts_ask_only_for_complete_subtrees() -> None:
    """A proof asks for a few complete subtrees, so that a store can answer from the nodes it keeps."""
    asked = []
    serve = tree.serve_nodes(make_leaves(70))

    def get_node(start: int, size: int) -> bytes:
        asked.append((start, size))
        return serve(start, size)

    proof = tree.prove_inclusion(37, 70, get_node)
    assert tree.verify_inclusion(37, 70, make_leaves(70)[37], proof, hash_naively(make_leaves(70)))
    assert sorted(asked) == [(0, 32), (32, 4), (36, 1), (38, 2), (40, 8), (48, 16), (64, 4), (68, 2)]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tree.split_range(-1, 2), "expected a first leaf and a count of 0 or more, found -1 and 2"),
        (lambda: tree.build_nodes(-1, []), "found -1 and 0"),
        (
            lambda: tree.build_nodes(0, [b"short"]),
            "every leaf hash to be 32 bytes long, found lengths \\[5\\]",
        ),
        (lambda: tree.build_nodes(0, b"x" * 33), "found 33 bytes, which is no multiple of 32"),
        (lambda: tree.compute_root(3, [LEAVES[0]]), "expected 2 nodes for leaves \\[0, 3\\), found 1"),
        (lambda: tree.compute_root(0, [LEAVES[0]]), "expected 0 nodes"),
        (lambda: tree.compute_root(1, [b""]), "every node hash to be 32 bytes long"),
        (
            lambda: tree.merge_nodes(0, 1, [], 1, [LEAVES[0]]),
            "expected 1 nodes for leaves \\[0, 1\\), found 0",
        ),
        (lambda: tree.prove_inclusion(3, 3, tree.serve_nodes(LEAVES)), "index of one of 3 leaves, found 3"),
        (lambda: tree.prove_consistency(4, 3, tree.serve_nodes(LEAVES)), "found 4 and 3 leaves"),
        (lambda: tree.prove_consistency(0, 3, tree.serve_nodes(LEAVES)), "found 0 and 3 leaves"),
        (lambda: tree.serve_nodes(LEAVES)(1, 2), "complete subtree within 8 leaves, found start 1, size 2"),
        (lambda: tree.serve_nodes(LEAVES)(0, 16), "found start 0, size 16"),
    ],
)
def test_misuse_says_what_was_expected(call: Any, message: str) -> None:
    """A call that can't be meant is refused at once, with what was expected and found."""
    with pytest.raises(UsageError, match=message):
        call()


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_inclusion_probes_of_transparency_dev() -> None:
    """Every inclusion probe of transparency-dev/merkle, good or bad, is judged as its authors say."""
    probes = read_vectors("merkle_probes.json")["inclusion"]
    assert len(probes) == 98
    for name, probe in probes.items():
        held = tree.verify_inclusion(
            probe["leafIdx"],
            probe["treeSize"],
            decode(probe["leafHash"]),
            [decode(step) for step in probe["proof"] or []],
            decode(probe["root"]),
        )
        assert held is not probe["wantErr"], name


def test_consistency_probes_of_transparency_dev() -> None:
    """Every consistency probe is judged as its authors say, but for one whose roots aren't hashes."""
    probes = read_vectors("merkle_probes.json")["consistency"]
    assert len(probes) == 98
    stricter = []
    for name, probe in probes.items():
        roots = decode(probe["root1"]), decode(probe["root2"])
        proof = [decode(step) for step in probe["proof"] or []]
        held = tree.verify_consistency(probe["size1"], probe["size2"], proof, *roots)
        if held is probe["wantErr"]:
            assert not held
            assert roots[0] == b"don't care 2"
            stricter.append(name)
    assert stricter == ["additional/sizes-are-equal-one-and-proof-is-empty.json"]


def test_log_of_tessera() -> None:
    """Tessera's entries give its leaf hashes and, at each size, the root that its checkpoint states."""
    log = read_vectors("tessera_testdata_log.json")
    files = {name.removeprefix("testdata/log/tile/"): bytes.fromhex(text) for name, text in log["files_hex"].items()}
    bundle = files["entries/000.p/15"]
    leaves = []
    while bundle:
        length = int.from_bytes(bundle[:2])
        leaves.append(tree.hash_leaf(bundle[2 : 2 + length]))
        bundle = bundle[2 + length :]
    assert b"".join(leaves) == files["0/000.p/15"]
    roots = {size: text.split("\n")[2] for size, text in log["checkpoints"].items()}
    assert len(roots) == 16
    for size in range(16):
        nodes = tree.build_nodes(0, leaves[:size])
        assert tree.compute_root(size, nodes) == base64.b64decode(roots[str(size)])
        if size:
            proof = tree.prove_consistency(size, 15, tree.serve_nodes(leaves))
            assert tree.verify_consistency(
                size, 15, proof, base64.b64decode(roots[str(size)]), base64.b64decode(roots["15"])
            )
