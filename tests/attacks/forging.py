"""What attackers do to a store: everything that can be done without its keys, and what a stolen key adds.

They have the format's description and the toolkit: they rewrite Parquet files, compute hashes and trees, and list in
the ledger what they wrote. What they lack they replace by keys of their own.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from auditkit import tree
from auditkit.keys import derive_writer_key, ratchet_epoch
from auditkit.store import ledger
from auditkit.store.ledger import Commit, LeafRange, LedgerState, SegmentEntry
from auditkit.store.runs import Head, Run
from tests.attacks.archive import EPOCH
from tests.integrity.stores import COLUMNS, Site, hash_leaf, print_body, read_segment, write_segment

OWN_KEY: Final = b"an attacker's own key, 32 bytes "
OWN_SEED: Final = b"an attacker's own signing seed. "

Row = dict[str, Any]
Edit = Callable[[list[Row]], list[Row]]


# -- rows -------------------------------------------------------------------------------------------------------------


def print_row(row: Row, store: str) -> bytes:
    """Print the body of a segment's row, as the specification says."""
    fields = {"v": row["v"], "store": store, **{column: row[column] for column in COLUMNS[1:]}}
    fields["time"] = round((row["time"] - EPOCH) / timedelta(microseconds=1))
    return print_body(fields)


def hash_row(row: Row, store: str) -> bytes:
    """Compute the leaf of a row."""
    return hash_leaf(print_row(row, store)[:-1] + b',"mac":"' + row["mac"].hex().encode() + b'"}')


def edit_rows(path: Path, edit: Edit) -> None:
    """Rewrite a segment with other rows, under its old name and with its old columns and footer."""
    table = read_segment(path)
    write_segment(path, pa.Table.from_pylist(edit(table.to_pylist()), schema=table.schema))


def sign_rows(rows: list[Row], store: str, first: int, key: bytes, prev: bytes | None = None) -> list[Row]:
    """Sign the rows of one writer from one on anew, each over the one before it.

    Args:
        rows: All of them, of one writer.
        store: Id of the store.
        first: Place of the first that is signed.
        key: What it is signed with.
        prev: Leaf of the event before the first row; 32 zero bytes by default.
    """
    before = prev or bytes(32)
    signed: list[Row] = []
    for place, row in enumerate(rows):
        mac = hmac.digest(key, before + print_row(row, store), "sha256")
        signed.append({**row, "mac": mac} if place >= first else row)
        before = hash_row(signed[-1], store)
    return signed


def sign_as_writer(rows: list[Row], store: str, first: int, root_key: bytes) -> list[Row]:
    """Sign the rows of one writer from one on anew with its own keys, as whoever holds K[n] can.

    Args:
        rows: All of them, from its first event on.
        store: Id of the store.
        first: Place of the first that is signed.
        root_key: K[n] of the number that the writer drew.
    """
    key, epoch, before = derive_writer_key(root_key, store, rows[0]["writer"]), 0, bytes(32)
    signed: list[Row] = []
    for place, row in enumerate(rows):
        while epoch < row["epoch"]:
            key, epoch = ratchet_epoch(key), epoch + 1
        mac = hmac.digest(key, before + print_row(row, store), "sha256")
        signed.append({**row, "mac": mac} if place >= first else row)
        before = hash_row(signed[-1], store)
    return signed


# -- the ledger -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forger:
    """What a forger signs commits with.

    Attributes:
        find_key: Gives the ratcheted key of a commit's number.
        seeds: Seeds of the keys that sign its note.
    """

    find_key: Callable[[int], bytes] = lambda _number: OWN_KEY
    seeds: Sequence[bytes] = (OWN_SEED,)

    def rewrite(self, site: Site, change: Callable[[Commit], Commit] = lambda commit: commit) -> list[int]:
        """Make a ledger anew that fits the segments as they now are, and every commit the one before it.

        Files whose content changed get the name that fits it; what a commit lists of them is computed again: hash,
        length, rows, times, leaves, nodes, runs, and then the roots of all commits behind it.

        Args:
            site: The store.
            change: What else is done to each commit.

        Returns:
            The numbers of the commits that were made anew: those that fit as they were stay.
        """
        state = LedgerState(site.store_id)
        made = []
        for number in ledger.list_commits(site.layout):
            old = ledger.read_commit(site.layout, number)
            add, place, heads = [], state.size, dict(state.heads)
            for entry in old.add:
                listed = list_segment(site, entry, place, heads)
                if listed is not None:
                    place += listed.rows
                    add.append(listed)
            commit = change(replace(old, add=tuple(add), prev_root=state.root, first_leaf=state.size))
            if commit != old:
                commit = ledger.make_commit(state, commit, self.find_key(commit.key_n), self.seeds)
                site.layout.commit(number).write_bytes(ledger.format_commit(commit))
                made.append(number)
            state = ledger.apply_commit(state, commit)
        return made


def list_segment(site: Site, entry: SegmentEntry, place: int, heads: dict[str, Head]) -> SegmentEntry | None:
    """List a segment as it now is, and give it the name that fits; moves the writers' heads on.

    Returns:
        Its entry; None, and no file any more, if no row is left in it.
    """
    path = site.path / entry.path
    store = site.store_id
    rows = read_segment(path).to_pylist()
    if not rows:
        path.unlink()
        return None
    leaves = [hash_row(row, store) for row in rows]
    runs: list[Run] = []
    for row, leaf in zip(rows, leaves, strict=True):
        dropped = int(row["details"].partition(":")[2].rstrip("}")) if row["type"] == "auditkit.gap" else 1
        closed, following = row["type"] == "auditkit.closed", row["seq"] + dropped
        if runs and runs[-1].writer == row["writer"] and runs[-1].next == row["seq"]:
            runs[-1] = replace(runs[-1], last=row["seq"], link=leaf, closed=closed, next=following)
        else:
            head = heads.get(row["writer"]) or Head(0, bytes(32), closed=False)
            prev = head.link if head.next == row["seq"] else None
            runs.append(Run(row["writer"], row["seq"], row["seq"], prev, leaf, closed, following))
        heads[row["writer"]] = Head(following, leaf, closed)
    data = path.read_bytes()
    digest = sha256(data).hexdigest()
    fitting = path.with_name(f"{digest[:16]}.parquet")
    path.rename(fitting)
    times = [round((row["time"] - EPOCH) / timedelta(microseconds=1)) for row in rows]
    nodes = LeafRange(place, len(rows), tuple(tree.build_nodes(place, leaves)))
    name = site.name(fitting)
    return SegmentEntry(name, digest, len(data), len(rows), min(times), max(times), (nodes,), tuple(runs))


def drop_writer(site: Site, writer: str) -> None:
    """Take all events of a writer out of the segments and the journals."""
    for path in site.segments():
        if writer in read_segment(path).column("writer").to_pylist():
            edit_rows(path, lambda rows: [row for row in rows if row["writer"] != writer])
    for path in site.journals():
        if path.name.startswith(writer):
            path.unlink()
