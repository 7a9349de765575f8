"""Proving sound segments: every row printed again from its columns, its MAC, its place in the chain, the tree.

A segment whose file is the one that the ledger lists is nearly always sound inside too. So it is read once, in bounded
memory, and as soon as a row isn't plainly the next one of its run the proof is given up: what is wrong is then found
out the careful way (`auditkit.integrity.sealed`), as if nobody had tried. A proof can only be missing, never wrong.

The work is divided by row groups into *slices*, and a helper process proves some of them. All that a slice needs from
the one before is the leaf of one row, so its first row's MAC is left to the verifier::

    verifier   digest ── slice 0 ─────── slice 2 ─────── slice 5 ── joins all, looks what the keys say, is the judge
    helper          start ── slice 1 ─────── slice 3 ── slice 4 ──┘

Slices are facts about a file and change nothing. Only when all of a segment's slices are there, in the ledger's order
of segments, are they joined, with the same conditions and the same consequences as if the segment had been read in one
go. A helper that dies, hangs or answers nonsense costs time: its slices are proved here.

The helper is started anew and not forked, as the verifier may have threads. It is given the path of a segment, its
runs, and W[n,0] of their writers, over a socket: command lines and environments can be read by others.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from auditkit import tree
from auditkit.chains import prove_lines, read_number
from auditkit.errors import StoreDamaged, UsageError
from auditkit.integrity.helpers import Helper
from auditkit.integrity.walks import Piece, Proof, Slice, adopt_keys, find_start, prove_segment, prove_slice
from auditkit.interpreter import find_python
from auditkit.keys import derive_writer_key
from auditkit.store import segments
from auditkit.store.runs import Run
from auditkit.store.segments import ROW_GROUP_ROWS

if TYPE_CHECKING:
    from auditkit.integrity.inspection import Inspection
    from auditkit.store.ledger import LedgerState, SegmentEntry

PROCESSES: Final = 2
"""How many processes prove, this one included; fewer where fewer cores may be used."""

MIN_EVENTS: Final = 300_000
"""From how many events on a helper is started: its start takes as long as proving 150,000."""

AHEAD_ROWS: Final = 2 * ROW_GROUP_ROWS
"""How many rows lie ready for whoever is free: so that nobody waits for the end of a segment."""

MAX_RUNS: Final = 10_000
"""A segment of more runs is one slice, as all of them are told with every slice."""

PATIENCE_SECONDS: Final = 10.0
"""How long a helper's answer is waited for when there is nothing else left to do; a slice takes about half a second."""

SLICE_ROWS: Final = ROW_GROUP_ROWS // 2
"""Smaller row groups are joined to a slice of about this many rows."""


@dataclass
class _Plan:
    """A segment that is proved slice by slice."""

    entry: SegmentEntry
    numbers: dict[str, int]
    slices: list[Slice]
    proofs: dict[int, Proof | None] = field(default_factory=dict)
    told: int = 0

    @property
    def failed(self) -> bool:
        return None in self.proofs.values()


@dataclass(frozen=True)
class _Task:
    """One slice of a plan."""

    plan: _Plan
    place: int

    @property
    def slice(self) -> Slice:
        return self.plan.slices[self.place]

    @property
    def open(self) -> bool:
        return self.place not in self.plan.proofs and not self.plan.failed


class Prover:
    """Proves the sound segments of a verification, with the help of other processes where that pays.

    Args:
        check: The verification.
        state: The ledger's state.
        chosen: The segments, in the order in which they will be asked for.
    """

    def __init__(self, check: Inspection, state: LedgerState, chosen: Sequence[SegmentEntry]) -> None:
        self._check = check
        self._state = state
        self._entries = chosen
        self._places = {entry.path: place for place, entry in enumerate(chosen)}
        self._next = 0
        self._plans: dict[str, _Plan] = {}
        self._ready: deque[_Task] = deque()
        self._numbers: dict[str, int] = {}
        self._helpers: list[Helper[_Task]] = []
        events = sum(entry.rows for entry in chosen)
        self._helped = check.deep and check.writer_keys is not None and events >= MIN_EVENTS and _count_cores() > 1

    def __enter__(self) -> Prover:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the helpers go."""
        for helper in self._helpers:
            helper.close()

    def prove(self, entry: SegmentEntry, path: Path) -> bool:
        """Prove a segment whose file is the one that the ledger lists.

        Returns:
            False if something isn't plainly right; the careful way then finds out what.
        """
        if self._helped:
            self._start()
        if self._helpers:
            self._plan_up_to(self._places[entry.path])
            plan = self._plans.get(entry.path)
            if plan is not None and self._finish(plan) and self._accept(plan):
                return True
        return prove_segment(self._check, self._state, entry, path)

    def finish(self, entry: SegmentEntry) -> None:
        """Tell the progress of a segment that is checked, as far as it wasn't told when its slices were."""
        plan = self._plans.pop(entry.path, None)
        left = entry.rows - (plan.told if plan else 0)
        if left:
            self._check.advance(left)

    def _start(self) -> None:
        self._helped = False
        python = find_python()
        for _ in range(min(PROCESSES, _count_cores()) - 1 if python else 0):
            helper = Helper[_Task]()
            # Known before it is started: whatever interrupts its start finds it here.
            self._helpers.append(helper)
            helper.start(str(python))
        self._helpers = [helper for helper in self._helpers if not helper.lost]

    # -- planning

    def _plan_up_to(self, place: int) -> None:
        while self._next <= place:
            self._plan_next()

    def _plan_ahead(self) -> None:
        while self._next < len(self._entries) and sum(t.slice.rows for t in self._ready if t.open) < AHEAD_ROWS:
            self._plan_next()

    def _plan_next(self) -> None:
        entry = self._entries[self._next]
        self._next += 1
        try:
            plan = self._plan(entry)
        except (StoreDamaged, OSError):
            return  # told where the segment itself is checked
        if plan is not None:
            self._plans[entry.path] = plan
            self._ready.extend(_Task(plan, place) for place in range(len(plan.slices)))

    def _plan(self, entry: SegmentEntry) -> _Plan | None:
        """Divide a segment into slices; None if it is better read in one go."""
        check = self._check
        start_us, path = find_start(check, entry), segments.locate_segment(check.layout, entry.path)
        if start_us is None or path is None or check.table is None or segments.digest_file(path) != entry.sha256:
            return None
        outline = segments.read_outline(path)
        numbers, keys = dict[str, int](), dict[str, bytes]()
        for writer in {run.writer for run in entry.runs}:
            number = check.numbers.get(writer, self._numbers.get(writer))
            if number is None and writer in outline.opened:
                number = read_number(outline.opened[writer])
            key = None if number is None else check.table.get(number)
            if number is None or key is None:
                return None
            numbers[writer] = self._numbers[writer] = number
            keys[writer] = derive_writer_key(key, check.description.store, writer)
        if sum(outline.groups) != entry.rows:
            return None
        whole = Slice(
            str(path.absolute()), check.description.store, start_us, (0, 0), 0, entry.leaves[0].first, entry.runs, keys
        )
        return _Plan(entry, numbers, list(_divide(whole, outline.groups)))

    # -- proving

    def _finish(self, plan: _Plan) -> bool:
        """Have all slices of a plan proved, by whoever is free; tells whether they are."""
        waited_since = time.monotonic()
        while len(plan.proofs) < len(plan.slices) and not plan.failed:
            self._pause()
            task = self._take() or self._take_back(plan)
            if task is not None:
                self._note(task, prove_slice(task.slice, self._check.connection, self._pause))
                waited_since = time.monotonic()
            elif not self._wait(waited_since + PATIENCE_SECONDS - time.monotonic()):
                self._dismiss_all()
        return not plan.failed

    def _take(self) -> _Task | None:
        while self._ready:
            task = self._ready.popleft()
            if task.open:
                return task
        return None

    def _take_back(self, plan: _Plan) -> _Task | None:
        """Take a slice that a helper hasn't begun: it may answer all the same, and too late."""
        for helper in self._helpers:
            for number in reversed([*helper.tasks][1:]):
                task = helper.tasks[number]
                if task.plan is plan:
                    del helper.tasks[number]
                    if task.open:
                        return task
        return None

    def _pause(self) -> None:
        """Look what the helpers have, and give them more."""
        for helper in self._helpers:
            for task, proof in helper.collect():
                self._note(task, proof)
            if helper.lost:
                self._recover(helper)
            while helper.hungry:
                self._plan_ahead()
                given = self._take()
                if given is None:
                    break
                helper.give(given)
            if not helper.tasks and self._next == len(self._entries) and not any(task.open for task in self._ready):
                helper.leave()

    def _wait(self, seconds: float) -> bool:
        """Wait for a helper's answer; tells whether one came in time."""
        busy = [helper for helper in self._helpers if helper.tasks]
        return bool(busy) and seconds > 0 and any(helper.wait(seconds / len(busy)) for helper in busy)

    def _dismiss_all(self) -> None:
        for helper in self._helpers:
            helper.dismiss()
            self._recover(helper)

    def _recover(self, helper: Helper[_Task]) -> None:
        """Take over what a helper leaves behind."""
        self._ready.extendleft(reversed([task for task in helper.tasks.values() if task.open]))
        helper.tasks.clear()

    def _note(self, task: _Task, proof: Proof | None) -> None:
        plan = task.plan
        if task.open:
            plan.proofs[task.place] = proof
            plan.told += task.slice.rows
            if task.slice.rows:
                self._check.advance(task.slice.rows)

    # -- judging

    def _accept(self, plan: _Plan) -> bool:
        """Join a segment's slices; if they are all that is to be proved of it, it is taken note of.

        Until that is sure nothing is changed: whoever reads it in one go must find everything as it was.
        """
        check, keys = self._check, self._check.writer_keys
        entry, proofs = plan.entry, [plan.proofs[place] for place in range(len(plan.slices))]
        assert keys is not None
        join = _Join(plan, check)
        for task, proof in zip(plan.slices, proofs, strict=True):
            if proof is None or not join.add(task, proof):
                return False
        if not join.finish() or tuple(join.nodes) != entry.leaves[0].nodes or not keys.affords(join.places):
            return False
        for run, details, epochs in join.entered:
            if run.first == 0:
                check.learn_number(run.writer, details)
            check.learn_writer(self._state, run.writer)
            for epoch in epochs:
                keys.find_states(run.writer, epoch)
        check.signers.update(run.writer for run in entry.runs)
        check.epochs.update(join.reached)
        return True


class _Join:
    """Joins the proofs of a segment's slices, one after the other."""

    def __init__(self, plan: _Plan, check: Inspection) -> None:
        self._runs = plan.entry.runs
        self._used = plan.numbers
        self._known = check.numbers
        self._heard: dict[str, int] = {}
        self._before = check.epochs
        self._keys = adopt_keys(check.description.store, plan.slices[0].keys)
        self._first_leaf = plan.entry.leaves[0].first
        self._rows = 0
        self._at, self._wanted, self._link = -1, 0, b""
        self.nodes: list[bytes] = []
        self.reached: dict[str, tuple[int, int]] = {}
        self.places: list[tuple[str, int | None]] = []
        self.entered: list[tuple[Run, str | None, list[int]]] = []

    def add(self, task: Slice, proof: Proof) -> bool:
        """Tell whether a slice goes on where the one before it ended."""
        if proof.rows != task.rows or not proof.pieces:
            return False
        for place, piece in enumerate(proof.pieces):
            opening = proof.opening if place == 0 else None
            begins = self._at < 0 or self._wanted > self._runs[self._at].last
            if begins is (opening is not None) or not (self._begin(piece) if begins else self._go_on(piece, opening)):
                return False
            if not self._reach(piece):
                return False
            self._wanted, self._link = piece.next, piece.link
        try:
            nodes = proof.nodes
            if self._rows:
                nodes = tree.merge_nodes(self._first_leaf, self._rows, self.nodes, proof.rows, nodes)
        except UsageError:
            return False
        self.nodes = nodes
        self._rows += proof.rows
        return True

    def _begin(self, piece: Piece) -> bool:
        if self._at >= 0 and not self._ended():
            return False
        self._at += 1
        if self._at >= len(self._runs):
            return False
        run = self._runs[self._at]
        if piece.run != self._at or piece.first != run.first or run.prev is None:
            return False
        number = self._known.get(run.writer, self._heard.get(run.writer))
        if number is None and run.first == 0:
            number = read_number(piece.details)
            if number is not None:
                self._heard[run.writer] = number
                self.places.append((run.writer, None))
        if number is None or number != self._used[run.writer]:
            return False  # which key it is would be found out otherwise
        self.entered.append((run, piece.details, []))
        return True

    def _go_on(self, piece: Piece, opening: tuple[bytes, int] | None) -> bool:
        """Tell whether a slice's first row, which was left to us, goes on where the slice before it ended."""
        if opening is None or piece.run != self._at or piece.first != self._wanted:
            return False
        line, epoch = opening
        proved = prove_lines(self._keys, self._runs[self._at].writer, [line], [epoch], self._link)
        return bool(proved) and epoch == piece.epochs[0]

    def _reach(self, piece: Piece) -> bool:
        run = self._runs[self._at]
        before = self.reached.get(run.writer) or self._before.get(run.writer, (-1, 0))
        if before[0] < piece.first and piece.epochs[0] < before[1]:
            return False
        self.reached[run.writer] = max(before, (piece.last, piece.epochs[-1]))
        self.places += [(run.writer, epoch) for epoch in piece.epochs]
        self.entered[-1][2].extend(piece.epochs)
        return True

    def _ended(self) -> bool:
        run = self._runs[self._at]
        return self._link == run.link and self._wanted == run.next

    def finish(self) -> bool:
        """Tell whether all runs were there to their ends."""
        return self._at == len(self._runs) - 1 and self._at >= 0 and self._ended()


def _divide(whole: Slice, groups: list[int]) -> Iterator[Slice]:
    """Divide a segment by its row groups."""
    start = rows = before = 0
    for number, count in enumerate(groups):
        rows += count
        last = number == len(groups) - 1
        if last or (rows >= SLICE_ROWS and len(whole.runs) <= MAX_RUNS):
            yield replace(whole, groups=(start, number + 1), rows=rows, first_leaf=whole.first_leaf + before)
            start, before, rows = number + 1, before + rows, 0


def _count_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells which cores may be used
        return os.cpu_count() or 1
