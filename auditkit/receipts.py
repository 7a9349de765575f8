"""Receipts: proofs of single events that anybody can check offline, and proofs that a store's tree only grew.

A receipt is a C2SP tlog-proof (`auditkit.proof`) whose extra data is the event's line. The line's hash is a leaf of the
store's tree, the proof leads from there to the root of a checkpoint, and the store's Ed25519 key has signed that. So
whoever has the public key needs neither the store nor a secret. ``docs/receipts.md`` says what it proves and what not.

Making one reads the commits, which list the tree's nodes, and hashes the one segment in which the event lies.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from auditkit import note, tree
from auditkit.cosignature import CosignerKey, parse_cosigner_key, verify_cosignature
from auditkit.errors import FormatUnknown, StoreDamaged, StoreIncomplete, UsageError
from auditkit.event import hash_line, name_id, parse_line
from auditkit.note import Checkpoint, Note
from auditkit.proof import (
    MAX_PROOF_BYTES,
    ConsistencyProof,
    TlogProof,
    VerifierKeys,
    find_proof_faults,
    find_signer,
    format_proof,
    parse_proof,
    read_verifier_keys,
)
from auditkit.store import durable, journal, ledger
from auditkit.store.layout import Layout, read_writer_day
from auditkit.store.ledger import LedgerState, SegmentEntry, name_origin
from auditkit.store.nodes import TreeNodes
from auditkit.store.outputs import choose_output
from auditkit.times import from_us

_ID = re.compile(r"(\d{8}-[a-z2-7]{16}):(0|[1-9]\d{0,15})", re.ASCII)
_EXAMPLE: Final = "20261123-k3f9wq2mzr7ta5xd:7"
_ADVICE: Final = "run `auditkit integrity` for the whole damage"


@dataclass(frozen=True, repr=False)
class Receipt:
    """A proof that one event is in a store's tree, for anybody who has the store's public key.

    Attributes:
        text: The receipt, a tlog-proof; encoded as UTF-8 these are the bytes of its file.
        event: The event's fields, in the order of the format.
        index: Index of its leaf in the tree.
        size: Leaves of the tree that the checkpoint covers.
    """

    text: str
    event: dict[str, Any]
    index: int
    size: int

    @property
    def event_id(self) -> str:
        """Id of the event, ``writer:seq``."""
        return name_id(self.event["writer"], self.event["seq"])

    @property
    def file_name(self) -> str:
        """The name under which `save` puts it into a folder."""
        return f"{self.event['writer']}-{self.event['seq']}.tlog-proof"

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the receipt to a file, which appears whole or not at all; one that is there is replaced.

        Args:
            path: The file, or a folder that is there; default is ``<writer>-<seq>.tlog-proof`` in the current folder.

        Returns:
            The file.

        Raises:
            UsageError: If it lies in a store or is a key file.
            OSError: If it can't be written.
        """
        target = Path(path) if path is not None else Path()
        return write_proof(target / self.file_name if target.is_dir() else target, self.text)

    def __str__(self) -> str:
        return (
            f"receipt of {self.event_id}: {_show(self.event['type'])} at {from_us(self.event['time']).isoformat()}, "
            f"leaf {self.index} of {self.size} in {name_origin(self.event['store'])}"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def _repr_html_(self) -> str:
        head, _, rest = str(self).partition(": ")
        return (
            f"<div><b>{html.escape(head)}</b><br>{html.escape(rest)}<details><summary>{len(self.text):,} characters"
            f"</summary><pre>{html.escape(_show_lines(self.text))}</pre></details></div>"
        )


@dataclass(frozen=True, repr=False)
class ReceiptCheck:
    """What the check of a receipt found. It is true in a condition exactly if the receipt is valid.

    Attributes:
        problems: What was expected and found, printable text; none if the receipt is valid.
        event: The event's fields, None if the receipt holds no event. Without ``ok`` they are only claimed.
        index: Index of its leaf, None if the receipt can't be read.
        checkpoint: The checkpoint that the proof leads to, None if the receipt can't be read.
        key: The verifier key of those given that signed the checkpoint, None if none did.
        cosigned: For each cosigner asked for whose cosignature holds, by name, the time it states (seconds since 1970).
        signed: Whether the event carries a MAC. It isn't checked: that takes the store's secret key.
    """

    problems: tuple[str, ...]
    event: dict[str, Any] | None = None
    index: int | None = None
    checkpoint: Checkpoint | None = None
    key: str | None = None
    cosigned: Mapping[str, int] = field(default_factory=dict)
    signed: bool = False

    @property
    def ok(self) -> bool:
        """Whether the receipt is valid."""
        return not self.problems

    @property
    def event_id(self) -> str | None:
        """Id of the event, ``writer:seq``."""
        return None if self.event is None else name_id(self.event["writer"], self.event["seq"])

    @property
    def store(self) -> str | None:
        """Id of the store that the event says it is from."""
        return None if self.event is None else self.event["store"]

    @property
    def size(self) -> int | None:
        """Leaves of the tree that the checkpoint covers."""
        return None if self.checkpoint is None else self.checkpoint.size

    @property
    def root(self) -> bytes | None:
        """Root of that tree, 32 bytes."""
        return None if self.checkpoint is None else self.checkpoint.root

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        of = "" if self.event_id is None else f" of {_show(self.event_id)}"
        if self.event is None or not self.ok:
            return "\n  ".join([f"not a valid receipt{of}", *self.problems])
        return (
            f"valid receipt{of}: {_show(self.event['type'])} at {from_us(self.event['time']).isoformat()}, leaf "
            f"{self.index} of {self.size} in {name_origin(self.event['store'])}"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def _repr_html_(self) -> str:
        head, *rest = str(self).splitlines()
        items = "".join(f"<li>{html.escape(line.strip())}</li>" for line in rest)
        colour = "#1a7f37" if self.ok else "#b42318"
        return f'<div><b style="color:{colour}">{html.escape(head)}</b><ul>{items}</ul></div>'


class History(NamedTuple):
    """What the whole ledger says.

    Attributes:
        state: Its state now.
        nodes: The nodes of its tree.
        verifier_keys: The public keys that it named, the newest last.
    """

    state: LedgerState
    nodes: TreeNodes
    verifier_keys: tuple[str, ...]


@dataclass
class _HashedSegment:
    """The leaves of one segment, and the event that was looked for in it."""

    leaves: bytearray = field(default_factory=bytearray)
    row: int | None = None
    line: bytes = b""
    before: int | None = None
    """The writer's last event before it, if it isn't there itself."""


def make_receipt(layout: Layout, store: str, event_id: str, *, checkpoint: str | None = None) -> Receipt:
    """Make the receipt of one event from its store.

    Reads all commits and hashes the one segment in which the event lies; no other segment is opened.

    Args:
        layout: The store's paths.
        store: Id of the store.
        event_id: Id of the event, ``writer:seq``: the column ``id`` of `AuditTrail.events`.
        checkpoint: A signed note to lead to, for instance the newest with cosignatures; its text must be that of a
            checkpoint of this store which covers the event. Default is the newest of the ledger.

    Returns:
        The receipt.

    Raises:
        UsageError: If there is no such event; if it isn't sealed yet, or its segment was retired; if the checkpoint is
            none of this store, or doesn't cover it.
        StoreDamaged: If the ledger or the segment can't be believed.
        StoreIncomplete: If the whole partition isn't there.
        ExtraMissing: If the extra ``seal`` isn't installed.
    """
    writer, seq = _read_id(event_id)
    history = read_history(layout, store)
    entry = _find_entry(layout, history.state, writer, seq)
    if entry is None and ledger.list_commits(layout)[-1:] != [history.state.number]:
        # It left its journal for the ledger between the two looks.
        history = read_history(layout, store)
        entry = _find_entry(layout, history.state, writer, seq)
    if entry is None:
        known = _say_known(history.state, writer)
        raise UsageError(f"expected the id of an event of store {store}, found {event_id}: {known}")
    signed, told = _choose_checkpoint(history, checkpoint)
    hashed = _hash_entry(layout, store, entry, writer, seq)
    if hashed.row is None:
        raise UsageError(_explain_gap(writer, seq, hashed.before))
    (leaves,) = entry.leaves
    index = leaves.first + hashed.row
    if index >= told.size:
        raise UsageError(
            f"expected a checkpoint that covers {event_id}, leaf {index}, found one over {told.size} leaves: give a "
            "newer one, or none for the ledger's newest"
        )
    end = leaves.first + leaves.count
    view = memoryview(hashed.leaves)

    def get_node(start: int, size: int) -> bytes:
        if not leaves.first <= start < start + size <= end:
            return history.nodes.get_node(start, size)
        first = (start - leaves.first) * tree.HASH_SIZE
        return tree.build_nodes(start, view[first : first + size * tree.HASH_SIZE])[0]

    hashes = tree.prove_inclusion(index, told.size, get_node)
    if not tree.verify_inclusion(index, told.size, hash_line(hashed.line), hashes, told.root):
        raise StoreDamaged(
            f"expected the events of {entry.path} to give the nodes that the ledger lists, found others: {_ADVICE}"
        )
    fields, _ = parse_line(hashed.line)
    text = format_proof(TlogProof(index, tuple(hashes), signed, hashed.line))
    return Receipt(text, fields, index, told.size)


def verify_receipt(
    data: bytes | str | os.PathLike[str],
    public_key: VerifierKeys,
    *,
    cosigners: CosignerKey | str | Sequence[CosignerKey | str] = (),
) -> ReceiptCheck:
    """Check a receipt, offline: with nothing but the public key of its store.

    Whatever the receipt holds, nothing is raised for it: what can't be read is a problem like any other.

    Args:
        data: The receipt: its bytes, the same as text, or a `pathlib.Path` of its file.
        public_key: The store's verifier key, or several of which one must have signed, as after a key change. It must
            come from somebody else than the receipt: a key that comes with it shows only that the two fit.
        cosigners: Verifier keys of witnesses, all of which must have cosigned the checkpoint.

    Returns:
        Whether it is valid, the event, and what is wrong with it.

    Raises:
        UsageError: If there is no key, or one can't be read.
        OSError: If the file can't be read.
        ExtraMissing: If ``cryptography`` isn't installed.
    """
    keys = read_verifier_keys(public_key)
    witnesses = _read_cosigners(cosigners)
    if isinstance(data, os.PathLike):
        with Path(data).open("rb") as file:
            data = file.read(MAX_PROOF_BYTES + 1)
    try:
        proof = parse_proof(data)
    except StoreDamaged as error:
        return ReceiptCheck((_show(str(error).removeprefix("receipt: ")),))
    signed = note.parse_note(proof.checkpoint)
    checkpoint = note.parse_checkpoint(signed.text)
    key = find_signer(signed, checkpoint.origin, keys)
    times = {witness: verify_cosignature(signed, witness) for witness in witnesses}
    known: dict[str, Any] = {
        "index": proof.index,
        "checkpoint": checkpoint,
        "key": None if key is None else str(key),
        "cosigned": {witness.name: time for witness, time in times.items() if time is not None},
    }
    missing = [
        f"expected a cosignature of the checkpoint by {_show(witness.name)}, key {witness.key_id.hex()}, found none "
        "that holds"
        for witness, time in times.items()
        if time is None
    ]
    if proof.extra is None:
        problem = "expected the event's line as extra data, found none: what the receipt is of can't be told"
        return ReceiptCheck((problem, *missing), **known)
    problems = [*find_proof_faults(proof, hash_line(proof.extra), keys), *missing]
    try:
        fields, mac = parse_line(proof.extra)
    except (StoreDamaged, FormatUnknown) as error:
        return ReceiptCheck((_show(f"extra data: {error}"), *problems), **known)
    if checkpoint.origin != name_origin(fields["store"]):
        problems.append(
            f"expected the event of store {_quote(fields['store'])} in the tree of that store, found it in the tree "
            f"{_quote(checkpoint.origin)}"
        )
    return ReceiptCheck(tuple(problems), event=fields, signed=mac is not None, **known)


def _read_cosigners(cosigners: CosignerKey | str | Sequence[CosignerKey | str]) -> list[CosignerKey]:
    given = [cosigners] if isinstance(cosigners, str | CosignerKey) else cosigners
    try:
        return [parse_cosigner_key(each) if isinstance(each, str) else each for each in given]
    except StoreDamaged as error:
        raise UsageError(str(error)) from None


def make_consistency_proof(
    layout: Layout, store: str, old: str | Note, *, new: str | Note | None = None
) -> ConsistencyProof:
    """Prove that a store's tree only grew from a checkpoint that somebody kept; reads the commits alone.

    Args:
        layout: The store's paths.
        store: Id of the store.
        old: The signed note of the checkpoint that was kept. Its signature is for the proof's checker to check.
        new: The signed note of the checkpoint to lead to; default is the newest of the ledger.

    Returns:
        The proof, for `auditkit.proof.format_consistency_proof`.

    Raises:
        StoreDamaged: If one of the checkpoints is no state of this store's tree: the store was rolled back and went on
            otherwise, or the checkpoint is another store's. Also if the ledger can't be believed.
        UsageError: If the new checkpoint is older than the old one.
    """
    history = read_history(layout, store)
    older = _read_checkpoint(old, "older checkpoint")
    _refuse_foreign(history, older, "older checkpoint", StoreDamaged)
    signed, newer = _choose_checkpoint(history, new, error=StoreDamaged)
    if newer.size < older.size:
        raise UsageError(
            f"expected to prove from an older checkpoint to a newer one, found {older.size} leaves and {newer.size}: "
            "exchange the two"
        )
    return ConsistencyProof(older.size, tuple(history.nodes.prove_consistency(older.size, newer.size)), signed)


def read_history(layout: Layout, store: str) -> History:
    """Read the whole ledger.

    Args:
        layout: The store's paths.
        store: Id of the store.

    Raises:
        StoreDamaged: If a commit is missing, unreadable or doesn't follow the one before, or if none is left of a store
            that was sealed.
    """
    state, nodes = LedgerState(store), TreeNodes()
    keys: list[str] = []
    for commit in ledger.read_commits(layout):
        faults = ledger.check_commit(state, commit)
        if faults:
            name = layout.commit(commit.number).name
            raise StoreDamaged(f"ledger/{name}: {faults[0]}: `auditkit integrity` lists all")
        nodes.add(commit)
        state = ledger.advance(state, commit)
        if commit.keys is not None and commit.keys["new"] is not None:
            keys.append(commit.keys["new"])
    # Without a commit, it tells a store that was never sealed from one whose ledger is gone.
    return History(state if state.number else ledger.load_state(layout, store), nodes, tuple(keys))


def write_proof(path: Path, text: str) -> Path:
    """Write a proof to a file, which appears whole or not at all; one that is there is replaced.

    Args:
        path: The file; a pipe or a device is written to.
        text: The proof.

    Returns:
        The file, behind all links.

    Raises:
        UsageError: If it lies in a store or is a key file.
        OSError: If it can't be written.
    """
    target = choose_output(path, "a proof")
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(text.encode())
    else:
        # A proof is for others to read: it gets the mode that any new file of this user would get.
        durable.replace_file(target, text.encode(), mode=0o666)
    return target


def _read_id(event_id: object) -> tuple[str, int]:
    match = _ID.fullmatch(event_id) if isinstance(event_id, str) else None
    if match is None or read_writer_day(match[1]) is None:
        raise UsageError(
            f"expected the id of an event, <writer>:<seq> as in {_EXAMPLE} (the column id of `auditkit query --format "
            f"json` and of events()), found {_quote(event_id)}"
        )
    return match[1], int(match[2])


def _find_entry(layout: Layout, state: LedgerState, writer: str, seq: int) -> SegmentEntry | None:
    """Find the segment that holds an event, or say where the event is instead; None if it is nowhere."""
    for entry in state.segments.values():
        for run in entry.runs:
            if run.writer == writer and run.first <= seq <= run.last:
                return entry
            if run.writer == writer and run.last < seq < run.next:
                raise UsageError(_explain_gap(writer, seq, run.last))
    wanted = name_id(writer, seq)
    for retired in state.retired.values():
        if any(run.writer == writer and run.first <= seq < run.next for run in retired.entry.runs):
            raise UsageError(
                f"expected {wanted} in the store, found that its segment {retired.entry.path} was retired by commit "
                f"{retired.commit} at {from_us(retired.time).isoformat(timespec='seconds')} ({_show(retired.policy)}): "
                "a receipt can't be made any more; one that was made before stays valid"
            )
    head = state.heads.get(writer)
    if (head is None or seq >= head.next) and _is_journalled(layout, state.store, writer, seq):
        raise UsageError(
            f"expected {wanted} in the ledger, found it in a journal only: it isn't sealed yet, and no checkpoint "
            "covers it; run `auditkit seal`, or `auditkit rotate` while its process lives, and ask again"
        )
    return None


def _is_journalled(layout: Layout, store: str, writer: str, seq: int) -> bool:
    head = b'{"v":1,"store":"%b","writer":"%b","seq":%d,' % (store.encode(), writer.encode(), seq)
    for part in journal.list_parts(layout):
        if part.writer == writer:
            data = journal.read_part(part).data
            if data.startswith(head) or b"\n" + head in data:
                return True
    return False


def _say_known(state: LedgerState, writer: str) -> str:
    head = state.heads.get(writer)
    if head is not None:
        return (
            f"of this writer the events up to {name_id(writer, head.next - 1)} are sealed, but for those that were "
            "lost before"
        )
    day = writer[:9]
    known = sorted(name for name in state.heads if name.startswith(day))
    if known:
        more = f" and {len(known) - 3} more" if len(known) > 3 else ""
        return f"there is no such writer; of this date there are {', '.join(known[:3])}{more}"
    return f"there is no such writer, and none of this date, among {len(state.heads)} that are sealed"


def _explain_gap(writer: str, seq: int, before: int | None) -> str:
    holder = "an earlier event of its writer" if before is None else name_id(writer, before)
    return (
        f"expected {name_id(writer, seq)} in the store, found that {holder} holds its place: a gap event, which says "
        "that events could not be written; ask for the receipt of that one"
    )


def _choose_checkpoint(
    history: History, given: str | Note | None, error: type[StoreDamaged | UsageError] = UsageError
) -> tuple[str, Checkpoint]:
    """Choose the checkpoint that a proof leads to, and make sure that it is one of this tree and signed."""
    state = history.state
    if given is None:
        if state.checkpoint is None:
            raise UsageError(
                f"expected a checkpoint of store {state.store}, found none: nothing is sealed yet; run `auditkit seal`"
            )
        given, what, error = state.checkpoint, f"the note of commit {state.number}", StoreDamaged
        newest = True
    else:
        what, newest = "checkpoint", False
    signed = _read_note(given, what, error)
    told = _read_checkpoint(signed, what, error)
    _refuse_foreign(history, told, what, error)
    if newest and told.size != history.nodes.size:
        raise error(f"{what}: expected the tree of {history.nodes.size} leaves, found one of {told.size}: {_ADVICE}")
    if not any(note.verify_note(signed, key) for key in history.verifier_keys):
        # A proof that leads to it would be refused by whoever is given it.
        raise error(f"{what}: expected a signature by a key that the ledger names, found none that holds: {_ADVICE}")
    return note.format_note(signed.text, signed.signatures), told


def _read_note(given: str | Note, source: str, error: type[StoreDamaged | UsageError]) -> Note:
    try:
        return given if isinstance(given, Note) else note.parse_note(given, source=source)
    except StoreDamaged as fault:
        raise error(str(fault)) from None


def _read_checkpoint(
    given: str | Note, source: str, error: type[StoreDamaged | UsageError] = StoreDamaged
) -> Checkpoint:
    signed = _read_note(given, source, error)
    try:
        return note.parse_checkpoint(signed.text, source=source)
    except StoreDamaged as fault:
        raise error(str(fault)) from None


def _refuse_foreign(history: History, told: Checkpoint, what: str, error: type[StoreDamaged | UsageError]) -> None:
    """Refuse a checkpoint that isn't one of this store's tree."""
    state, nodes, _ = history
    if told.origin != state.origin:
        raise error(f"{what}: expected one of {state.origin}, found another store's, of {_quote(told.origin)}")
    root = nodes.find_root(told.size)
    if root == told.root:
        return
    if told.size > nodes.size:
        found = f"found a tree of {nodes.size} leaves: the newest commits are gone, or the store was rolled back"
    elif root is None:
        found = (
            "found that this tree never had that size at a commit: the store was rolled back and went on otherwise, or "
            "the checkpoint is another store's"
        )
    else:
        found = (
            f"found root {root.hex()} at that size: the store was rolled back and went on otherwise, or the checkpoint "
            "is another store's"
        )
    raise error(f"{what}: expected a state of this store's tree ({told.size} leaves, root {told.root.hex()}), {found}")


def _hash_entry(layout: Layout, store: str, entry: SegmentEntry, writer: str, seq: int) -> _HashedSegment:
    """Hash the events of one segment, whose file must be the one that the ledger lists."""
    from auditkit.store import segments

    for _ in range(3):
        path = segments.locate_segment(layout, entry.path)
        if path is None:
            break
        with contextlib.suppress(FileNotFoundError):  # a sealer moves it out of staging
            return _hash_file(path, store, entry, writer, seq)
    missing = f"expected the segment {entry.path} with {entry.rows} events in {layout.root}, as the ledger says"
    if not layout.segment(entry.path).parent.is_dir():
        raise StoreIncomplete(f"{missing}, found no such partition: mount it or restore it from a backup")
    raise StoreDamaged(f"{missing}, found none: {_ADVICE}")


def _hash_file(path: Path, store: str, entry: SegmentEntry, writer: str, seq: int) -> _HashedSegment:
    import pyarrow.compute as pc

    from auditkit.store import engine, segments

    digest = segments.digest_file(path)
    if digest != entry.sha256:
        raise StoreDamaged(f"expected SHA-256 {entry.sha256} of {path}, as the ledger says, found {digest}: {_ADVICE}")
    hashed, rows = _HashedSegment(), 0
    with contextlib.closing(engine.connect()) as connection:
        for table in segments.read_tables(path):
            lines = segments.rebuild_lines(table, store, connection)
            hashed.leaves += b"".join(map(hash_line, lines))
            # The rows of one writer stand together, by seq.
            mine = pc.indices_nonzero(pc.equal(table.column("writer"), writer))
            seqs = table.column("seq").take(mine).to_pylist()
            place = bisect_left(seqs, seq)
            if place < len(seqs) and seqs[place] == seq:
                row = mine[place].as_py()
                hashed.row, hashed.line = rows + row, lines[row]
            elif place:
                hashed.before = seqs[place - 1]
            rows += table.num_rows
    if rows != entry.rows:
        raise StoreDamaged(f"expected {entry.rows} events in {path}, as the ledger says, found {rows}: {_ADVICE}")
    return hashed


def _quote(value: object) -> str:
    """Quote what may be hostile: pure ASCII without control characters, and never long."""
    text = value if isinstance(value, str) else type(value).__name__
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _show(text: str, limit: int = 500) -> str:
    """Give text that is printable and not long; what isn't printable is shown as its escape."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _show_lines(text: str) -> str:
    return "\n".join(_show(line) for line in text.split("\n"))
