"""The ledger: the store's history as contiguous signed commits, each the next leaves of one Merkle tree.

A commit is one JSON line, a newline, and a signed note (C2SP) with the checkpoint that covers the commit itself::

    {"v":1,"store":…,"n":7,"time":…,"key_n":12,"why":"seal","detail":null,"prev_root":"…","first_leaf":4711,
     "add":[{"path":…,"sha256":…,"bytes":…,"rows":…,"time_min":…,"time_max":…,"leaves":[[first,count,[nodes]]],
             "runs":[[writer,first,last,prev,link,closed]]}],
     "remove":[path],"retired":[{"path":…,"policy":…,"numbers":[…]}],"erased":[],"keys":null,"state":null,"mac":"…"}

Its MAC is HMAC-SHA-256 under C[key_n] over the line without the MAC. The tree takes the leaves of the new events in
the order they were added, then the leaf of the commit's own line. A commit is published by link(2): of several
processes that try the same number one wins, and a published commit is never replaced.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from auditkit import note, tree
from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.event import FORMAT, MAX_INTEGER, MAX_TIME_US, MIN_TIME_US, hash_line, join_line, split_line
from auditkit.keys import derive_commit_key
from auditkit.store import durable
from auditkit.store.description import read_description
from auditkit.store.layout import Layout, is_store_name, read_commit_name, read_segment_name, read_writer_day
from auditkit.store.runs import Head, Run

COMMIT_KEYS: Final = (
    "v", "store", "n", "time", "key_n", "why", "detail", "prev_root", "first_leaf", "add", "remove", "retired",
    "erased", "keys", "state",
)  # fmt: skip
RETIREMENT_KEYS: Final = ("path", "policy", "numbers")
SEGMENT_ENTRY_KEYS: Final = ("path", "sha256", "bytes", "rows", "time_min", "time_max", "leaves", "runs")

_DIGITS: Final = re.compile("[0-9a-f]{64}")

FORGED: Final = "without a valid MAC"
"""How a commit's detail tells that its sealer set lines aside that their writer didn't sign."""

MAX_COMMIT_BYTES: Final = 256 << 20
"""Largest commit that is read."""


@dataclass(frozen=True)
class LeafRange:
    """Consecutive leaves of the tree with the nodes that cover them.

    Attributes:
        first: Index of the first leaf.
        count: How many.
        nodes: Roots of the maximal complete subtrees that cover them, left to right.
    """

    first: int
    count: int
    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class SegmentEntry:
    """A segment as the ledger lists it; times are microseconds since 1970."""

    path: str
    sha256: str
    bytes: int
    rows: int
    time_min: int
    time_max: int
    leaves: tuple[LeafRange, ...]
    runs: tuple[Run, ...]

    def to_fields(self) -> dict[str, Any]:
        """Give the entry as it stands in a commit."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "rows": self.rows,
            "time_min": self.time_min,
            "time_max": self.time_max,
            "leaves": [[r.first, r.count, [node.hex() for node in r.nodes]] for r in self.leaves],
            "runs": [
                [
                    r.writer,
                    r.first,
                    r.last,
                    None if r.prev is None else r.prev.hex(),
                    r.link.hex(),
                    _closed(r),
                ]
                for r in self.runs
            ],
        }


@dataclass(frozen=True)
class Retirement:
    """A segment that was removed with authority, as its removal's commit says.

    Attributes:
        path: The segment.
        policy: Why it was removed, in the words of whoever did it.
        numbers: Which keys its writers signed with, as far as their first events said so: nobody can look any more.
    """

    path: str
    policy: str
    numbers: tuple[int, ...]

    def to_fields(self) -> dict[str, Any]:
        """Give the retirement as it stands in a commit."""
        return {"path": self.path, "policy": self.policy, "numbers": list(self.numbers)}


@dataclass(frozen=True)
class RetiredSegment:
    """What the ledger knows of a segment that it removed.

    Attributes:
        entry: The segment as it was listed.
        commit: Number of the commit that removed it.
        time: When that was made, microseconds since 1970.
        policy: Why it was removed.
        numbers: Which keys its writers signed with.
    """

    entry: SegmentEntry
    commit: int
    time: int
    policy: str
    numbers: tuple[int, ...]


def _closed(run: Run) -> bool | int:
    """Print a run's end: true if its writer signed it, the dropped count behind a gap event, otherwise false."""
    return True if run.closed else (run.next - run.last if run.next != run.last + 1 else False)


@dataclass(frozen=True)
class Commit:
    """One commit of the ledger.

    Attributes:
        number: From 1, without holes.
        time: When it was made, microseconds since 1970.
        key_n: Which key of the ratchet authenticates it.
        why: ``seal``, ``compact``, ``retain``, ``erase`` or ``key``.
        detail: A remark, or None.
        prev_root: Root of the tree before it.
        first_leaf: Size of the tree before it.
        add: Segments that come in.
        remove: Paths of segments that go out.
        keys: The verifier key from here on, if it changes: ``{old, new, old_signature}``.
        retired: Why each of those goes out, in the same order.
        line: The JSON line as published.
        mac: Its MAC.
        checkpoint: The signed note as published.
        store: Id of the store it says it is of, None before it is printed.
    """

    number: int
    time: int
    key_n: int
    why: str
    detail: str | None
    prev_root: bytes
    first_leaf: int
    add: tuple[SegmentEntry, ...]
    remove: tuple[str, ...]
    keys: dict[str, str | None] | None
    retired: tuple[Retirement, ...] = ()
    line: bytes = b""
    mac: bytes = b""
    checkpoint: str = ""
    store: str | None = None

    @property
    def leaf(self) -> bytes:
        """The commit's own leaf."""
        return hash_line(self.line)

    @property
    def events(self) -> int:
        """How many new events it brings."""
        return sum(entry.rows for entry in self.add)


@dataclass(frozen=True)
class LedgerState:
    """What the ledger says up to one commit.

    Attributes:
        store: Id of the store.
        number: The newest commit, 0 for none.
        size: Size of the tree.
        nodes: Nodes that cover it.
        heads: Where each writer's chain has got to.
        segments: The live segments by path.
        retired: The segments that were removed with authority, by path.
        verifier_key: The public key its notes should be signed with, as the ledger says.
        checkpoint: The newest signed note.
        time: When the newest commit was made, microseconds since 1970.
    """

    store: str
    number: int = 0
    size: int = 0
    nodes: tuple[bytes, ...] = ()
    heads: dict[str, Head] = field(default_factory=dict)
    segments: dict[str, SegmentEntry] = field(default_factory=dict)
    retired: dict[str, RetiredSegment] = field(default_factory=dict)
    verifier_key: str | None = None
    checkpoint: str | None = None
    time: int = 0

    @property
    def root(self) -> bytes:
        """Root of the tree."""
        return tree.compute_root(self.size, self.nodes)

    @property
    def origin(self) -> str:
        """Origin of the checkpoints."""
        return name_origin(self.store)


def name_origin(store: str) -> str:
    """Name a store's tree in its checkpoints.

    Example:
        >>> name_origin("k3f9")
        'auditkit/k3f9'
    """
    return f"auditkit/{store}"


def check_commit(state: LedgerState, commit: Commit) -> list[str]:
    """Find what makes a commit not the next one; an empty list if it is.

    Keys are not needed: its MAC and its note's signature are checked by whoever has them.
    """
    faults = []
    if commit.store not in (None, state.store):
        faults.append(f"expected a commit of store {state.store}, found one of store {commit.store}")
    if commit.number != state.number + 1:
        faults.append(f"expected commit {state.number + 1}, found commit {commit.number}")
    if commit.first_leaf != state.size:
        faults.append(f"expected its leaves to begin at {state.size}, found {commit.first_leaf}")
    if commit.prev_root != state.root:
        faults.append(f"expected the root before it to be {state.root.hex()}, found {commit.prev_root.hex()}")
    place = commit.first_leaf
    heads: dict[str, Head] = {}
    for entry in commit.add:
        if entry.path in state.segments or entry.path in state.retired:
            faults.append(f"expected a new segment, found {entry.path}, which was added before")
        if [(r.first, r.count) for r in entry.leaves] != [(place, entry.rows)]:
            faults.append(f"expected {entry.path} to hold the {entry.rows} leaves from {place}")
        place += entry.rows
        for run in entry.runs:
            head = heads.get(run.writer) or state.heads.get(run.writer) or Head(0, bytes(32), closed=False)
            if run.first < head.next or head.closed:
                faults.append(
                    f"expected writer {run.writer} to go on at {head.next}, found {run.first} in {entry.path}"
                )
            elif run.first == head.next and run.prev is None:
                faults.append(f"expected writer {run.writer} to chain to its event {head.next - 1}, found no link")
            elif run.prev is not None and (run.first != head.next or run.prev != head.link):
                faults.append(f"expected writer {run.writer} to chain to its event {head.next - 1}, found another link")
            heads[run.writer] = Head(run.next, run.link, run.closed)
    faults.extend(
        f"expected to remove a live segment, found {path}" for path in commit.remove if path not in state.segments
    )
    if commit.remove != tuple(retirement.path for retirement in commit.retired):
        faults.append(
            f"expected a reason for each of the {len(commit.remove)} segments it removes, found "
            f"{len(commit.retired)} for others"
        )
    faults.extend(_check_keys(state, commit))
    return faults


def _check_keys(state: LedgerState, commit: Commit) -> Iterator[str]:
    """Find what is wrong with the verifier key a commit names; `auditkit.store.keychange` checks its signature."""
    if state.verifier_key is None:
        if commit.number == 1 and (commit.keys is None or commit.keys["old"] or commit.keys["old_signature"]):
            yield "expected the first commit to name the store's public key and no older one, found otherwise"
    elif commit.keys is not None and commit.keys["old"] != state.verifier_key:
        yield f"expected a change of the public key {state.verifier_key}, found one of {commit.keys['old']!s:.200}"
    if commit.number > 1 and commit.keys is not None and commit.why != "key":
        yield f"expected a change of the public key in a commit of its own, found it in one of {commit.why!a:.40}"
    if commit.remove and commit.why != "retain":
        yield f"expected segments to be removed by a retention, found {len(commit.remove)} in one of {commit.why!a:.40}"


def list_verifier_keys(state: LedgerState, commit: Commit) -> list[str]:
    """List the public keys under which a commit's note must hold: the one in force, at a change the new one too."""
    new = commit.keys["new"] if commit.keys is not None else None
    return [key for key in (state.verifier_key, new) if key is not None]


def apply_commit(state: LedgerState, commit: Commit) -> LedgerState:
    """Compute the state after a commit; whether it is the right one is `check_commit`'s matter."""
    copied = replace(state, heads=dict(state.heads), segments=dict(state.segments), retired=dict(state.retired))
    return advance(copied, commit)


def advance(state: LedgerState, commit: Commit) -> LedgerState:
    """Do as `apply_commit`, and use the given state up: the new one takes its dictionaries over and changes them.

    Copying them for each commit would make reading a ledger quadratic in its commits.
    """
    size, nodes = _extend_tree(state, commit)
    reasons = {retirement.path: retirement for retirement in commit.retired}
    for path in commit.remove:
        removed, why = state.segments.pop(path, None), reasons.get(path)
        if removed is not None and why is not None:
            state.retired[path] = RetiredSegment(removed, commit.number, commit.time, why.policy, why.numbers)
    for entry in commit.add:
        state.segments[entry.path] = entry
        for run in entry.runs:
            state.heads[run.writer] = Head(run.next, run.link, run.closed)
    return replace(
        state,
        number=commit.number,
        size=size,
        nodes=tuple(nodes),
        verifier_key=commit.keys["new"] if commit.keys else state.verifier_key,
        checkpoint=commit.checkpoint,
        time=commit.time,
    )


def _extend_tree(state: LedgerState, commit: Commit) -> tuple[int, list[bytes]]:
    size, nodes = state.size, list(state.nodes)
    for entry in commit.add:
        for leaves in entry.leaves:
            nodes = tree.merge_nodes(0, size, nodes, leaves.count, list(leaves.nodes))
            size += leaves.count
    return size + 1, tree.merge_nodes(0, size, nodes, 1, [commit.leaf])


def compute_checkpoint(state: LedgerState, commit: Commit) -> note.Checkpoint:
    """Compute the checkpoint that covers a commit which follows a state.

    Raises:
        UsageError: If the commit's nodes don't fit the tree; `check_commit` says where.
    """
    size, nodes = _extend_tree(state, commit)
    return note.Checkpoint(state.origin, size, tree.compute_root(size, nodes))


def make_commit(state: LedgerState, commit: Commit, key: bytes, seeds: Sequence[bytes]) -> Commit:
    """Print, authenticate and sign a commit that follows a state.

    Args:
        state: What the ledger says before it.
        commit: Its content; ``key_n`` says which key of the ratchet ``key`` is.
        key: K[key_n].
        seeds: Seeds of the keys that sign its note: the one in force, at a change the old and the new one.

    Returns:
        The commit with its line, MAC and note.
    """
    fields = {
        "v": FORMAT,
        "store": state.store,
        "n": commit.number,
        "time": commit.time,
        "key_n": commit.key_n,
        "why": commit.why,
        "detail": commit.detail,
        "prev_root": commit.prev_root.hex(),
        "first_leaf": commit.first_leaf,
        "add": [entry.to_fields() for entry in commit.add],
        "remove": list(commit.remove),
        "retired": [retirement.to_fields() for retirement in commit.retired],
        "erased": [],
        "keys": commit.keys,
        "state": None,
    }
    body = orjson.dumps(fields)
    mac = hmac.digest(derive_commit_key(key, state.store), body, "sha256")
    made = replace(commit, line=join_line(body, mac), mac=mac, store=state.store)
    text = note.format_checkpoint(compute_checkpoint(state, made))
    signatures = [note.sign_text(text, state.origin, seed) for seed in seeds]
    return replace(made, checkpoint=note.format_note(text, signatures))


def verify_mac(line: bytes, store: str, key: bytes) -> bool:
    """Tell whether the MAC in a commit's line, of whatever version, is the one its store's key makes."""
    body, mac = split_line(line)
    expected = hmac.digest(derive_commit_key(key, store), body, "sha256")
    return mac is not None and hmac.compare_digest(mac, expected)


def format_commit(commit: Commit) -> bytes:
    """Print the content of a commit's file."""
    return commit.line + b"\n" + commit.checkpoint.encode()


def parse_commit(data: bytes, source: str = "commit") -> Commit:
    """Read the content of a commit's file, as strictly as it is written.

    Args:
        data: The file's bytes.
        source: What to call it in messages.

    Raises:
        StoreDamaged: Saying what was expected and found.
        FormatUnknown: If a newer auditkit made it, as it says.
    """
    line, newline, rest = data.partition(b"\n")
    try:
        body, mac = split_line(line)
        fields = orjson.loads(body)
        if isinstance(fields, dict) and type(fields.get("v")) is int and fields["v"] > FORMAT:
            raise FormatUnknown(
                f"{source}: expected a commit of version {FORMAT}, found version {fields['v']}: use a newer auditkit"
            )
        if not newline or mac is None:
            raise StoreDamaged("expected a line with a MAC and a signed note behind it")
        if not isinstance(fields, dict) or tuple(fields) != COMMIT_KEYS:
            raise StoreDamaged(f"expected the keys {', '.join(COMMIT_KEYS)}")
        if orjson.dumps(fields) != body:
            raise StoreDamaged("expected canonical JSON, found the same values printed otherwise")
        if fields["v"] != FORMAT:
            raise StoreDamaged(f"expected version {FORMAT}, found {fields['v']!r}")
        checkpoint = rest.decode()
        note.parse_note(checkpoint, source=source)
        _expect(type(fields["why"]) is str, "a word as why")
        _expect(fields["detail"] is None or type(fields["detail"]) is str, "text or null as detail")
        _expect(fields["erased"] == [], "nothing erased in this version")
        keys = fields["keys"]
        _expect(
            keys is None
            or (
                isinstance(keys, dict)
                and tuple(keys) == ("old", "new", "old_signature")
                and type(keys["new"]) is str
                and all(keys[key] is None or type(keys[key]) is str for key in ("old", "old_signature"))
            ),
            "keys or null",
        )
        _expect(fields["state"] is None or bool(_hash(fields["state"])), "a hash or null as state")
        lists = ("add", "remove", "retired")
        _expect(all(isinstance(fields[key], list) for key in lists), f"lists as {', '.join(lists)}")
        return Commit(
            number=_integer(fields["n"]),
            time=_time(fields["time"]),
            key_n=_integer(fields["key_n"]),
            why=fields["why"],
            detail=fields["detail"],
            prev_root=_hash(fields["prev_root"]),
            first_leaf=_integer(fields["first_leaf"]),
            add=tuple(_parse_entry(entry) for entry in fields["add"]),
            remove=tuple(_segment_path(path) for path in fields["remove"]),
            keys=keys,
            retired=tuple(_parse_retirement(retirement) for retirement in fields["retired"]),
            line=line,
            mac=mac,
            checkpoint=checkpoint,
            store=_store_name(fields["store"]),
        )
    except StoreDamaged as error:
        raise StoreDamaged(f"{source}: {error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreDamaged(f"{source}: expected a ledger commit, found {type(error).__name__}: {error}") from error


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise StoreDamaged(f"expected {what}")


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise StoreDamaged(f"expected an integer between 0 and 2^53 - 1, found {str(value)[:80]!r}")
    return value


def _time(value: object) -> int:
    if type(value) is not int or not MIN_TIME_US <= value <= MAX_TIME_US:
        raise StoreDamaged(f"expected a time between the years 1 and 9999, found {str(value)[:80]!r}")
    return value


def _hash(value: object) -> bytes:
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise StoreDamaged(f"expected 64 lower-case hexadecimal digits, found {str(value)[:80]!r}")
    return bytes.fromhex(value)


def _store_name(value: object) -> str:
    if not isinstance(value, str) or not is_store_name(value):
        raise StoreDamaged(f"expected the id of a store, found {str(value)[:80]!r}")
    return value


def _segment_path(value: object) -> str:
    # The path is used to open and to move files: nothing but the one form is taken.
    if not isinstance(value, str) or read_segment_name(value) is None:
        raise StoreDamaged(f"expected a segment's path, found {str(value)[:200]!r}")
    return value


def _parse_retirement(fields: Any) -> Retirement:
    _expect(isinstance(fields, dict) and tuple(fields) == RETIREMENT_KEYS, f"the keys {RETIREMENT_KEYS}")
    _expect(isinstance(fields["policy"], str) and isinstance(fields["numbers"], list), "a policy and numbers")
    return Retirement(_segment_path(fields["path"]), fields["policy"], tuple(map(_integer, fields["numbers"])))


def _parse_entry(fields: Any) -> SegmentEntry:
    _expect(isinstance(fields, dict) and tuple(fields) == SEGMENT_ENTRY_KEYS, f"the keys {SEGMENT_ENTRY_KEYS}")
    leaves = []
    for first, count, nodes in fields["leaves"]:
        hashes = tuple(_hash(node) for node in nodes)
        expected = len(tree.split_range(_integer(first), _integer(count)))
        _expect(len(hashes) == expected, f"{expected} nodes for {count} leaves from {first}")
        leaves.append(LeafRange(first, count, hashes))
    runs = []
    for writer, first, last, prev, link, closed in fields["runs"]:
        _expect(isinstance(writer, str) and read_writer_day(writer) is not None, "a writer's id in a run")
        _expect(isinstance(closed, bool) or _integer(closed) > 1, "true, false or a number of dropped events in a run")
        _expect(_integer(first) <= _integer(last), "a run's first seq before its last")
        runs.append(
            Run(
                writer,
                first,
                last,
                None if prev is None else _hash(prev),
                _hash(link),
                closed=closed is True,
                next=last + (1 if isinstance(closed, bool) else closed),
            )
        )
    return SegmentEntry(
        path=_segment_path(fields["path"]),
        sha256=_hash(fields["sha256"]).hex(),
        bytes=_integer(fields["bytes"]),
        rows=_integer(fields["rows"]),
        time_min=_time(fields["time_min"]),
        time_max=_time(fields["time_max"]),
        leaves=tuple(leaves),
        runs=tuple(runs),
    )


def list_commits(layout: Layout) -> list[int]:
    """List the numbers of the commits that are there, in order."""
    try:
        with os.scandir(layout.ledger) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(number for number in map(read_commit_name, names) if number is not None)


def read_commit(layout: Layout, number: int) -> Commit:
    """Read one commit.

    Raises:
        StoreDamaged: If it isn't there or isn't a commit.
    """
    path = layout.commit(number)
    try:
        data = durable.read_regular(path, "a ledger commit", MAX_COMMIT_BYTES)
    except FileNotFoundError as error:
        raise StoreDamaged(
            f"expected ledger commit {path}, found none: run `auditkit integrity` for the whole damage"
        ) from error
    return parse_commit(data, f"{path.parent.name}/{path.name}")


def read_claim(layout: Layout, number: int) -> tuple[bytes, int]:
    """Read the line of a commit of another version, and the number of the key that it names.

    In every version a commit is a line of JSON with ``v``, ``key_n`` and, at its end, the MAC.

    Raises:
        StoreDamaged: If it isn't that.
        OSError: If it can't be read.
    """
    line = durable.read_regular(layout.commit(number), "a ledger commit", MAX_COMMIT_BYTES).partition(b"\n")[0]
    try:
        return line, _integer(orjson.loads(split_line(line)[0])["key_n"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreDamaged(f"expected a ledger commit of a newer version, found {type(error).__name__}") from error


def read_commits(layout: Layout, after: int = 0) -> Iterator[Commit]:
    """Read the commits behind a number, in order and without holes.

    Raises:
        StoreDamaged: If one is missing or isn't a commit.
    """
    for expected, number in enumerate((n for n in list_commits(layout) if n > after), after + 1):
        yield read_commit(layout, expected if number != expected else number)


Judge = Callable[[LedgerState, Commit], Iterable[str]]
"""Finds more that is wrong with a commit than `check_commit` does."""


def load_state(
    layout: Layout, store: str, state: LedgerState | None = None, *, judge: Judge | None = None
) -> LedgerState:
    """Compute what the ledger says now.

    Args:
        layout: The store's paths.
        store: Id of the store.
        state: An earlier state to go on from.
        judge: What else is checked of each commit.

    Raises:
        StoreDamaged: If a commit is missing, unreadable, doesn't follow the one before, or is judged wrong, or if none
            is left of a store that was sealed.
    """
    state = state or LedgerState(store)
    if not state.number and not list_commits(layout):
        _refuse_lost_ledger(layout)
    follow = apply_commit
    for commit in read_commits(layout, state.number):
        faults = [*check_commit(state, commit), *(judge(state, commit) if judge is not None else ())]
        if faults:
            raise StoreDamaged(
                f"ledger/{layout.commit(commit.number).name}: {faults[0]}: `auditkit integrity` lists all"
            )
        state = follow(state, commit)
        follow = advance  # the caller's state was copied, and the copy is nobody else's
    return state


def _refuse_lost_ledger(layout: Layout) -> None:
    """Refuse a store that has no commit any more.

    Read, it would give what isn't sealed yet as the whole; sealed, it would begin a new ledger over the missing one.

    Raises:
        StoreDamaged: If ``store.json`` has a public key, which it gets behind the first commit.
    """
    # The first commit may be made just now: it is there before the key is.
    if read_description(layout).public_key is not None and not list_commits(layout):
        raise StoreDamaged(
            f"expected the ledger's commits in {layout.ledger}, as the store was sealed before, found none: keep the "
            "store as evidence, and restore ledger/ and events/ from a backup; to record on, begin another store"
        )


def publish_commit(layout: Layout, commit: Commit) -> bool:
    """Publish a commit unless its number is taken; tells whether it was."""
    return durable.create_file(layout.commit(commit.number), format_commit(commit))
