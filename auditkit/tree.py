"""The Merkle tree of RFC 6962 (and RFC 9162, section 2.1) as pure functions over bytes.

The tree is a list of leaves with one hash over all of them. Appending never changes what was there, so that
two short proofs can be given: that a leaf is in the tree (inclusion), and that a tree only grew
(consistency).

```
leaf hash      SHA-256(0x00 ‖ data)
node hash      SHA-256(0x01 ‖ left ‖ right)
root           of 0 leaves: SHA-256 of nothing; of 1 leaf: its leaf hash;
               of n > 1:    node(root of the first k, root of the other n - k),
                            k the largest power of two below n
```

Most of the work is done on *ranges*: the leaves ``[first, first + count)``, wherever they lie in the tree,
are covered by a few complete subtrees, each a power of two in size and starting at a multiple of its size.
Their hashes, left to right, are the *nodes* of the range (``compact`` in transparency-dev/merkle calls the
same thing a compact range). A file of the store knows the nodes of its own leaves; joining the nodes of
adjacent ranges costs a few hashes, not a pass over the leaves; and the nodes of ``[0, size)`` give the root.

Ten leaves, of which a first file holds three and a second seven:

```
            ┌───────────────┴───────────────┐                  nodes of [0, 3)    (0,2) (2,1)
        ┌───┴───────────────┐               │                  nodes of [3, 10)   (3,1) (4,4) (8,2)
    ┌───┴───┐           ┌───┴───┐           │                  joined [0, 10)     (0,8) (8,2)
  ┌─┴─┐   ┌─┴─┐       ┌─┴─┐   ┌─┴─┐       ┌─┴─┐
  0   1   2   3       4   5   6   7       8   9
```

>>> leaves = [hash_leaf(bytes([n])) for n in range(10)]
>>> split_range(0, 3), split_range(3, 7), split_range(0, 10)
([(0, 2), (2, 1)], [(3, 1), (4, 4), (8, 2)], [(0, 8), (8, 2)])
>>> nodes = merge_nodes(0, 3, build_nodes(0, leaves[:3]), 7, build_nodes(3, leaves[3:]))
>>> nodes == build_nodes(0, leaves)
True
>>> root = compute_root(10, nodes)
>>> root.hex()
'487540cba07f8eee7688295955ee3b4c04003e8ca2de94426237cd44491108a7'
>>> proof = prove_inclusion(8, 10, serve_nodes(leaves))
>>> verify_inclusion(8, 10, leaves[8], proof, root)
True
>>> verify_inclusion(7, 10, leaves[8], proof, root)
False

Verifying functions return a bool and accept anything; everything else raises ``UsageError`` on a call that
can't be meant. Source: RFC 6962 section 2.1, RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias

from auditkit.errors import UsageError

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "NodeGetter",
    "build_nodes",
    "compute_root",
    "hash_children",
    "hash_leaf",
    "merge_nodes",
    "prove_consistency",
    "prove_inclusion",
    "serve_nodes",
    "split_range",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32
"""Length of a hash in bytes."""

EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves."""

NodeGetter: TypeAlias = Callable[[int, int], bytes]
"""``get_node(start, size)``: hash of the complete subtree over leaves ``[start, start + size)``."""

_PAIR = struct.Struct("64s")
_copy_node = sha256(b"\x01").copy


def hash_leaf(data: bytes) -> bytes:
    """Hash the data of one leaf: SHA-256(0x00 ‖ data).

    Args:
        data: The leaf's bytes, of any length.

    Returns:
        The leaf hash, 32 bytes.

    Example:
        >>> hash_leaf(b"").hex()
        '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'
    """
    return sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    r"""Hash two subtrees into the one above them: SHA-256(0x01 ‖ left ‖ right).

    Args:
        left: Hash of the left subtree, 32 bytes.
        right: Hash of the right subtree, 32 bytes.

    Returns:
        The node hash, 32 bytes.

    Example:
        >>> hash_children(hash_leaf(b""), hash_leaf(b"\x00")).hex()
        'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'
    """
    return sha256(b"\x01" + left + right).digest()


def split_range(first: int, count: int) -> list[tuple[int, int]]:
    """Split a range of leaves into the largest complete subtrees that cover it.

    Args:
        first: Index of the range's first leaf.
        count: Number of leaves.

    Returns:
        ``(start, size)`` of each subtree, left to right; their sizes grow and then shrink.

    Raises:
        UsageError: If an argument is negative.

    Example:
        >>> split_range(5, 9)
        [(5, 1), (6, 2), (8, 4), (12, 2)]
    """
    _check_range(first, count)
    ranges = []
    end = first + count
    while first < end:
        size = 1 << (end - first).bit_length() - 1
        # The lowest set bit of the start is the largest size it is a multiple of; 0 is a multiple of all.
        size = min(size, first & -first) if first else size
        ranges.append((first, size))
        first += size
    return ranges


def build_nodes(first: int, leaves: Iterable[bytes] | bytes | bytearray | memoryview) -> list[bytes]:
    """Hash a range of leaves into its nodes.

    Costs one hash a leaf (about 0.4 s for a million). A list of hashes and one buffer are equally fast; a
    list is read in place and never changed, any other iterable is copied.

    Args:
        first: Index in the tree of the first of these leaves.
        leaves: The leaf hashes in order: a sequence or other iterable of 32-byte values, or one buffer that
            holds them one after another (the data of an Arrow column of 32 fixed bytes, for instance).

    Returns:
        The hashes of the subtrees that ``split_range(first, count)`` names, in that order.

    Raises:
        UsageError: If ``first`` is negative or a leaf isn't 32 bytes long.

    Example:
        >>> leaves = [hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")]
        >>> build_nodes(4, leaves) == [hash_children(leaves[0], leaves[1]), leaves[2]]
        True
        >>> build_nodes(4, b"".join(leaves)) == build_nodes(4, leaves)
        True
    """
    _check_range(first, 0)
    # Each pass takes the level's hashes to the level above. A hash that has no sibling in the range is
    # complete: at the left edge when its index is odd, at the right edge when the level then holds an odd
    # number.
    left: list[bytes] = []
    right: list[bytes] = []
    index = first
    level: Sequence[bytes]
    if isinstance(leaves, (bytes, bytearray, memoryview)):
        buffer = memoryview(leaves).cast("B")
        if len(buffer) % HASH_SIZE:
            raise UsageError(
                f"expected leaf hashes of {HASH_SIZE} bytes one after another, found {len(buffer)} bytes, "
                f"which is no multiple of {HASH_SIZE}: pass hashes made by hash_leaf"
            )
        if index & 1 and buffer:
            left.append(bytes(buffer[:HASH_SIZE]))
            buffer = buffer[HASH_SIZE:]
            index += 1
        if len(buffer) % (2 * HASH_SIZE):
            right.append(bytes(buffer[-HASH_SIZE:]))
            buffer = buffer[:-HASH_SIZE]
        level = _hash_pairs(pair for (pair,) in _PAIR.iter_unpack(buffer))
        index >>= 1
    else:
        level = leaves if isinstance(leaves, (list, tuple)) else list(leaves)
        _check_hashes("leaf", level)
    while level:
        start = index & 1
        if start:
            left.append(level[0])
            index += 1
        stop = len(level)
        if (stop - start) & 1:
            stop -= 1
            right.append(level[stop])
        pairs = iter(level if stop - start == len(level) else level[start:stop])
        level = _hash_pairs(one + two for one, two in zip(pairs, pairs, strict=True))
        index >>= 1
    right.reverse()
    return left + right


def _hash_pairs(pairs: Iterable[bytes]) -> list[bytes]:
    """Hash the nodes above pairs of 64 bytes; copying a state that has the prefix costs less than putting it before."""
    nodes = []
    for pair in pairs:
        node = _copy_node()
        node.update(pair)
        nodes.append(node.digest())
    return nodes


def merge_nodes(
    first: int, count: int, nodes: Sequence[bytes], next_count: int, next_nodes: Sequence[bytes]
) -> list[bytes]:
    """Join the nodes of two adjacent ranges.

    Args:
        first: Index of the left range's first leaf.
        count: Number of leaves in the left range; the right range starts at ``first + count``.
        nodes: Nodes of the left range.
        next_count: Number of leaves in the right range.
        next_nodes: Nodes of the right range.

    Returns:
        The nodes of ``[first, first + count + next_count)``.

    Raises:
        UsageError: If a range is negative, or its nodes are too many, too few or not 32 bytes long.

    Example:
        >>> leaves = [hash_leaf(bytes([n])) for n in range(7)]
        >>> joined = merge_nodes(2, 1, build_nodes(2, leaves[2:3]), 4, build_nodes(3, leaves[3:]))
        >>> joined == build_nodes(2, leaves[2:])
        True
    """
    merged: list[tuple[int, int, bytes]] = []
    for start, size, node in [
        *_pair_nodes(first, count, nodes),
        *_pair_nodes(first + count, next_count, next_nodes),
    ]:
        # A subtree completes its parent exactly when its left sibling is the newest on the stack.
        while merged and merged[-1][1] == size and start & size:
            start, _, sibling = merged.pop()
            node = hash_children(sibling, node)
            size *= 2
        merged.append((start, size, node))
    return [node for _, _, node in merged]


def compute_root(size: int, nodes: Sequence[bytes]) -> bytes:
    """Compute the root of a tree from the nodes of all its leaves.

    Args:
        size: Number of leaves in the tree.
        nodes: Nodes of the range ``[0, size)``.

    Returns:
        The root, 32 bytes; ``EMPTY_ROOT`` when ``size`` is 0.

    Raises:
        UsageError: If ``size`` is negative, or the nodes are too many, too few or not 32 bytes long.

    Example:
        >>> compute_root(0, []) == EMPTY_ROOT
        True
        >>> leaves = [hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")]
        >>> root = compute_root(3, build_nodes(0, leaves))
        >>> root == hash_children(hash_children(leaves[0], leaves[1]), leaves[2])
        True
    """
    _pair_nodes(0, size, nodes)
    return _bag_nodes(nodes) if nodes else EMPTY_ROOT


def serve_nodes(leaves: Sequence[bytes]) -> NodeGetter:
    """Make the node getter of the proving functions from plain leaf hashes.

    A store that keeps nodes of whole files gives its own getter instead, which hashes only the file it needs.

    Args:
        leaves: All leaf hashes of the tree, from leaf 0 on.

    Returns:
        A function of ``(start, size)`` that returns the hash of that complete subtree.

    Example:
        >>> get_node = serve_nodes([hash_leaf(b"a"), hash_leaf(b"b")])
        >>> get_node(0, 2) == hash_children(get_node(0, 1), get_node(1, 1))
        True
        >>> get_node(1, 2)
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected a complete subtree within 2 leaves, found start 1, size 2
    """

    def get_node(start: int, size: int) -> bytes:
        if size < 1 or size & (size - 1) or start % size or not 0 <= start <= len(leaves) - size:
            raise UsageError(
                f"expected a complete subtree within {len(leaves)} leaves, found start {start}, size {size}"
            )
        return build_nodes(start, leaves[start : start + size])[0]

    return get_node


def prove_inclusion(index: int, size: int, get_node: NodeGetter) -> list[bytes]:
    """Prove that a leaf is in the tree (PATH of RFC 6962, section 2.1.1).

    Args:
        index: Index of the leaf.
        size: Number of leaves in the tree.
        get_node: Gives the hash of a complete subtree, see ``serve_nodes``.

    Returns:
        The hashes for ``verify_inclusion``, from the leaf's sibling up to the root's child.

    Raises:
        UsageError: If the tree has no such leaf.

    Example:
        >>> leaves = [hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")]
        >>> prove_inclusion(1, 3, serve_nodes(leaves)) == [leaves[0], leaves[2]]
        True
    """
    if not 0 <= index < size:
        raise UsageError(f"expected the index of one of {size} leaves, found {index}")
    proof = []
    start = 0
    while size > 1:
        half = 1 << (size - 1).bit_length() - 1
        if index < start + half:
            proof.append(_hash_range(start + half, size - half, get_node))
            size = half
        else:
            proof.append(_hash_range(start, half, get_node))
            start += half
            size -= half
    proof.reverse()
    return proof


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether a proof shows that a leaf is in the tree (RFC 9162, section 2.1.3.2).

    Args:
        index: Index of the leaf.
        size: Number of leaves in the tree.
        leaf: The leaf hash (not the leaf's data).
        proof: The hashes that ``prove_inclusion`` gave.
        root: Root of the tree, from a source that is trusted, such as a signed checkpoint.

    Returns:
        True if the proof holds, False for anything else.

    Example:
        >>> one, two = hash_leaf(b"a"), hash_leaf(b"b")
        >>> verify_inclusion(0, 2, one, [two], hash_children(one, two))
        True
    """
    if not 0 <= index < size or not _are_hashes([leaf, root, *proof]):
        return False
    last = size - 1
    node = leaf
    for sibling in proof:
        if not last:
            return False
        if index & 1 or index == last:
            node = hash_children(sibling, node)
            # At the right edge of the tree a subtree without a right sibling moves up unchanged.
            while index and not index & 1:
                index >>= 1
                last >>= 1
        else:
            node = hash_children(node, sibling)
        index >>= 1
        last >>= 1
    return not last and node == root


def prove_consistency(old_size: int, new_size: int, get_node: NodeGetter) -> list[bytes]:
    """Prove that a tree is an earlier state of another (PROOF of RFC 6962, section 2.1.2).

    Args:
        old_size: Number of leaves in the earlier tree.
        new_size: Number of leaves in the later tree.
        get_node: Gives the hash of a complete subtree of the later tree, see ``serve_nodes``.

    Returns:
        The hashes for ``verify_consistency``; none when the sizes are equal.

    Raises:
        UsageError: If the earlier tree is the larger one, or empty: every tree grew from that, so there is
            nothing to prove.

    Example:
        >>> leaves = [hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")]
        >>> prove_consistency(2, 3, serve_nodes(leaves)) == [leaves[2]]
        True
    """
    if not 0 < old_size <= new_size:
        raise UsageError(
            "expected an earlier tree of one leaf or more and no larger than the later, "
            f"found {old_size} and {new_size} leaves"
        )
    if old_size == new_size:
        return []
    proof = []
    start = 0
    size = new_size
    while start + size != old_size:
        half = 1 << (size - 1).bit_length() - 1
        if old_size <= start + half:
            proof.append(_hash_range(start + half, size - half, get_node))
            size = half
        else:
            proof.append(_hash_range(start, half, get_node))
            start += half
            size -= half
    # The verifier knows the old root, so the subtree that is the whole old tree needn't be sent.
    if start:
        proof.append(_hash_range(start, size, get_node))
    proof.reverse()
    return proof


def verify_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Say whether a proof shows that a tree is an earlier state of another (RFC 9162, section 2.1.4.2).

    Args:
        old_size: Number of leaves in the earlier tree.
        new_size: Number of leaves in the later tree.
        proof: The hashes that ``prove_consistency`` gave.
        old_root: Root of the earlier tree.
        new_root: Root of the later tree.

    Returns:
        True if the proof holds, False for anything else; also for an empty earlier tree, which says nothing.

    Example:
        >>> one, two, three = hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")
        >>> old = hash_children(one, two)
        >>> verify_consistency(2, 3, [three], old, hash_children(old, three))
        True
    """
    if not 0 < old_size <= new_size or not _are_hashes([old_root, new_root, *proof]):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    steps = list(proof)
    if not old_size & (old_size - 1):
        steps.insert(0, old_root)
    if not steps:
        return False
    old_last = old_size - 1
    new_last = new_size - 1
    while old_last & 1:
        old_last >>= 1
        new_last >>= 1
    old_node = new_node = steps[0]
    for sibling in steps[1:]:
        if not new_last:
            return False
        if old_last & 1 or old_last == new_last:
            old_node = hash_children(sibling, old_node)
            new_node = hash_children(sibling, new_node)
            while old_last and not old_last & 1:
                old_last >>= 1
                new_last >>= 1
        else:
            new_node = hash_children(new_node, sibling)
        old_last >>= 1
        new_last >>= 1
    return not new_last and old_node == old_root and new_node == new_root


def _hash_range(start: int, size: int, get_node: NodeGetter) -> bytes:
    return _bag_nodes([get_node(*subtree) for subtree in split_range(start, size)])


def _bag_nodes(nodes: Sequence[bytes]) -> bytes:
    root = nodes[-1]
    for node in reversed(nodes[:-1]):
        root = hash_children(node, root)
    return root


def _pair_nodes(first: int, count: int, nodes: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    ranges = split_range(first, count)
    if len(nodes) != len(ranges):
        raise UsageError(
            f"expected {len(ranges)} nodes for leaves [{first}, {first + count}), found {len(nodes)}: "
            "nodes belong to the range they were built for"
        )
    _check_hashes("node", nodes)
    return [(start, size, node) for (start, size), node in zip(ranges, nodes, strict=True)]


def _check_range(first: int, count: int) -> None:
    if first < 0 or count < 0:
        raise UsageError(f"expected a first leaf and a count of 0 or more, found {first} and {count}")


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    # One pass in C: a loop over a million leaves here would cost a tenth of hashing them.
    wrong = set(map(len, hashes)) - {HASH_SIZE}
    if wrong:
        raise UsageError(
            f"expected every {what} hash to be {HASH_SIZE} bytes long, found lengths {sorted(wrong)[:5]}: "
            "pass hashes made by hash_leaf"
        )


def _are_hashes(values: Iterable[object]) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_SIZE for value in values)
