"""The nodes of a store's tree, from the commits alone: what proofs are made of without hashing an event again.

Every commit lists the nodes of its segments' leaves and is itself one leaf. Joined left to right, they give the hash of
every complete subtree that is a union of them: for the ledger of two commits in ``docs/format.md``, whose segments hold
three leaves and two, these are marked with ``•``. The leaves 0, 1, 4 and 5 are known to their segments only::

                ┌───────────•───┐ size 4      leaves    0  1  2  3    4  5  6
            ┌───•───┐       ┌───•───┐                   events   commit
            0       1       2•      3•    …

A later commit may take a segment out of the store. Its nodes still stand in the commit that brought it, so the tree
loses nothing by it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from auditkit import tree
from auditkit.errors import StoreDamaged, UsageError
from auditkit.store.ledger import Commit


class TreeNodes:
    """The nodes that the commits of a ledger give, added commit by commit.

    Takes about 80 bytes for each node that a commit lists: 20 to 40 nodes for a large segment.

    Example:
        >>> nodes = TreeNodes()
        >>> nodes.size, nodes.sizes, nodes.find_root(0) == tree.EMPTY_ROOT
        (0, (0,), True)
    """

    def __init__(self) -> None:
        # Every known subtree, parents behind their children: so it is sorted by where it ends and then by its size.
        # Arrays, as a ledger of many commits has hundreds of thousands.
        self._ends = array("Q")
        self._levels = array("B")
        self._hashes = bytearray()
        # The subtrees that cover the tree as it is now, and the sizes and roots it had behind each commit.
        self._edge: list[tuple[int, bytes]] = []
        self._sizes = array("Q", [0])
        self._roots = bytearray(tree.EMPTY_ROOT)

    def __repr__(self) -> str:
        return f"TreeNodes(commits={len(self._sizes) - 1}, size={self.size})"

    @property
    def size(self) -> int:
        """Leaves of the tree behind the newest commit."""
        return self._sizes[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that the tree had: 0, and one behind each commit."""
        return tuple(self._sizes)

    @property
    def root(self) -> bytes:
        """Root of the tree behind the newest commit."""
        return bytes(self._roots[-tree.HASH_SIZE :])

    def add(self, commit: Commit) -> None:
        """Add the leaves of the next commit, in the order of the ledger.

        Args:
            commit: The commit behind those that were added. Its leaf ranges and nodes are taken; whether it is
                authentic is for others to say.

        Raises:
            StoreDamaged: If its leaves don't begin where the tree ends, or don't adjoin one another; nothing is added
                then.
        """
        place = self.size
        found: list[tuple[int, int, bytes]] = []
        for leaves in [each for entry in commit.add for each in entry.leaves]:
            ranges = tree.split_range(leaves.first, leaves.count)
            if leaves.first != place or len(leaves.nodes) != len(ranges):
                raise StoreDamaged(
                    f"expected commit {commit.number} to list {leaves.count} leaves from {place} with {len(ranges)} "
                    f"nodes, found {len(leaves.nodes)} nodes for leaves from {leaves.first}"
                )
            found += [(start, size, node) for (start, size), node in zip(ranges, leaves.nodes, strict=True)]
            place += leaves.count
        if commit.first_leaf != self.size:
            raise StoreDamaged(
                f"expected the leaves of commit {commit.number} to begin at {self.size}, found {commit.first_leaf}: "
                "add every commit once, in the order of the ledger"
            )
        for start, size, node in [*found, (place, 1, commit.leaf)]:
            self._append(start, size, node)
        self._sizes.append(place + 1)
        self._roots += tree.compute_root(place + 1, [node for _, node in self._edge])

    def _append(self, start: int, size: int, node: bytes) -> None:
        end = start + size
        self._keep(end, size, node)
        # A subtree completes its parent exactly when its left sibling is the newest on the edge.
        while self._edge and self._edge[-1][0] == size and start & size:
            node = tree.hash_children(self._edge.pop()[1], node)
            start, size = start - size, 2 * size
            self._keep(end, size, node)
        self._edge.append((size, node))

    def _keep(self, end: int, size: int, node: bytes) -> None:
        self._ends.append(end)
        self._levels.append(size.bit_length() - 1)
        self._hashes += node

    def find_root(self, size: int) -> bytes | None:
        """Find the root that the tree had at a size.

        Args:
            size: Number of leaves.

        Returns:
            The root, 32 bytes; None if the tree had that size behind no commit, and so never in a checkpoint.
        """
        # The array refuses to compare itself with what it can't hold.
        if not 0 <= size <= self.size:
            return None
        place = bisect_left(self._sizes, size)
        if self._sizes[place] != size:
            return None
        return bytes(self._roots[place * tree.HASH_SIZE : (place + 1) * tree.HASH_SIZE])

    def get_node(self, start: int, size: int) -> bytes:
        """Give the hash of a complete subtree; a `tree.NodeGetter`.

        Args:
            start: Its first leaf, a multiple of its size.
            size: How many leaves, a power of two.

        Raises:
            UsageError: If it isn't a union of subtrees that the commits list: it lies within a segment.
        """
        end = start + size
        if start >= 0 and size > 0 and end <= self.size:
            place = bisect_left(self._ends, end)
            while place < len(self._ends) and self._ends[place] == end:
                if 1 << self._levels[place] == size:
                    return bytes(self._hashes[place * tree.HASH_SIZE : (place + 1) * tree.HASH_SIZE])
                place += 1
        raise UsageError(
            f"expected a complete subtree that the commits' nodes make up, within {self.size} leaves, found start "
            f"{start}, size {size}: what lies within a segment has to be hashed from its events"
        )

    def prove_consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Prove that the tree of one commit grew from that of an earlier one (RFC 6962, section 2.1.2).

        Args:
            old_size: Leaves of the earlier tree, behind one of the commits; for 0 the proof is empty.
            new_size: Leaves of the later tree; None for the newest.

        Returns:
            The hashes for `tree.verify_consistency`.

        Raises:
            UsageError: If the tree never had one of the sizes behind a commit, or the earlier is the larger.
        """
        new_size = self.size if new_size is None else new_size
        for size in (old_size, new_size):
            if self.find_root(size) is None:
                raise UsageError(f"expected a size that the tree had behind a commit, found {size}: {self._say(size)}")
        return tree.prove_consistency(old_size, new_size, self.get_node) if old_size else []

    def _say(self, size: int) -> str:
        """Say which sizes there are near one that isn't there."""
        if not 0 <= size <= self.size:
            return f"the {len(self._sizes) - 1} commits give it {self.size} leaves at most"
        place = bisect_left(self._sizes, size)
        return f"the nearest are {self._sizes[place - 1]} and {self._sizes[place]}"
