"""Sealing: journals become Parquet segments, and the ledger says so.

Stage, sync, commit to the ledger, rename in, and only then drop the journal. Each step can be repeated after a crash
with the same result: what isn't in the ledger was never sealed and its journal is still there; what is in the ledger
but not in its place lies in staging; what is sealed and still in a journal is passed over by readers and dropped by
the next sealer. One process seals at a time: it holds ``seal.lock``.

Run as ``python -m auditkit.sealing`` with a request on standard input (see `auditkit.spawning`).
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from auditkit import tree
from auditkit.chains import KeyTable, WriterKeys
from auditkit.errors import AuditError, FormatUnknown, StoreDamaged
from auditkit.event import MAX_LINE_BYTES, NEWER, parse_line
from auditkit.keys import Keys
from auditkit.store import continuation, durable, engine, journal, ledger
from auditkit.store.description import read_description
from auditkit.store.journal import MAX_PART_BYTES, Part
from auditkit.store.keyring import read_secret
from auditkit.store.layout import Layout, is_staged_name, name_segment, read_writer_day, today
from auditkit.store.ledger import FORGED, Commit, LeafRange, LedgerState, SegmentEntry
from auditkit.store.openings import Openings
from auditkit.store.runs import Head, Run
from auditkit.store.segment_writer import Reject, SealedSegment, SegmentWriter
from auditkit.store.segments import CHUNK_BYTES

MAX_SEGMENT_ROWS: Final = 1_000_000
"""Rows at which a segment is finished and the next is begun: about 50 MB."""


@dataclass(frozen=True)
class SealResult:
    """What one sealing did.

    Attributes:
        events: How many events it sealed.
        segments: Paths of the new segments, relative to the store.
        commit: Number of its ledger commit, None if there was nothing to say or another process was sealing. One
            without events says that forged lines were set aside.
        quarantined: How many journal lines could not be believed and were set aside.
        busy: Whether another process held the lock.
        seconds: How long it took.
    """

    events: int = 0
    segments: tuple[str, ...] = ()
    commit: int | None = None
    quarantined: int = 0
    busy: bool = False
    seconds: float = 0.0


ENDLESS_KEPT: Final = 64 << 20
"""How many bytes of lines that are too long to be one a sealing keeps."""


@dataclass
class _Plan:
    """What one sealing has read and written so far."""

    layout: Layout
    segments: list[tuple[str, SealedSegment]] = field(default_factory=list)
    sizes: dict[Part, int] = field(default_factory=dict)
    quarantined: int = 0
    forged: int = 0
    news: bool = False
    endless_bytes: int = 0
    _rejects: dict[str, list[Reject]] = field(default_factory=lambda: defaultdict(list))
    _reject_bytes: int = 0

    def set_aside(self, part: Part, rejects: list[Reject]) -> None:
        """Note lines that can't be believed; many of them go to the disk at once, since a journal may be all damage."""
        self._rejects[part.path.name] += rejects
        self._reject_bytes += sum(len(reject.line) for reject in rejects)
        self.quarantined += len(rejects)
        self.forged += sum(_is_event(reject.line) for reject in rejects)
        if self._reject_bytes > MAX_LINE_BYTES:
            self.quarantine()

    def quarantine(self) -> None:
        """Keep what could not be believed, with the reason, before its journal is dropped."""
        for name, rejects in self._rejects.items():
            records = b"".join(
                orjson.dumps(
                    {
                        "journal": name,
                        "line": reject.number,
                        "reason": reject.reason,
                        "bytes": len(reject.line),
                        "text": reject.line.decode(errors="backslashreplace"),
                    }
                )
                + b"\n"
                for reject in rejects
            )
            durable.make_folder(self.layout.quarantine)
            # Named by its content: a sealing that is repeated, or finds the same lines again, adds nothing.
            digest = sha256(records).hexdigest()[:16]
            path = self.layout.quarantine / f"{name.removesuffix('.jsonl')}.{digest}.jsonl"
            self.news |= durable.create_file(path, records)
        self._rejects.clear()
        self._reject_bytes = 0

    def tell_quarantined(self) -> str | None:
        """Say what was set aside, as the commit's detail."""
        if not self.quarantined:
            return None
        return f"{self.quarantined} lines quarantined" + (f", {self.forged} {FORGED}" if self.forged else "")


def _is_event(line: bytes) -> bool:
    """Tell whether a line that was set aside is printed as an event: then it isn't damage, somebody wrote it there."""
    try:
        parse_line(line)
    except (StoreDamaged, FormatUnknown):
        return False
    return True


def seal_store(layout: Layout, keys: Keys, *, live: bool = True, wait: bool = True) -> SealResult:
    """Seal what the journals hold.

    Args:
        layout: The store's paths.
        keys: The store's keys.
        live: Whether complete lines of journals that a process still owns are sealed too; those of an earlier day
            always are, so that a stopped process can't keep a day open.
        wait: Whether to wait for another sealer; otherwise its work is left to it.

    Returns:
        What was done.

    Raises:
        StoreDamaged: If the ledger can't be continued; the journals are untouched.
        ExtraMissing: If the ``seal`` extra isn't installed.
        OSError: If the disk refuses; the journals are untouched.
    """
    start = time.perf_counter()
    description = read_description(layout)
    with durable.hold_lock(layout.seal_lock, wait=wait) as held:
        if not held:
            return SealResult(busy=True)
        _refuse_links(layout)
        state = continuation.load_own_state(layout, description.store, keys)
        if state.number:
            state = continuation.finish_change(layout, state, keys)
            continuation.complete_description(layout, description, state)
        recover(layout, state)
        plan = _write_segments(layout, state, keys, live=live)
        result = SealResult(quarantined=plan.quarantined)
        plan.quarantine()
        if plan.segments or _must_tell(layout, state, plan):
            state, commit = _commit(layout, state, keys, plan)
            if commit.number == 1:
                # Never earlier: a store whose description has a public key has a ledger to miss.
                continuation.complete_description(layout, description, state)
            recover(layout, state)
            result = replace(
                result,
                events=commit.events,
                segments=tuple(entry.path for entry in commit.add),
                commit=commit.number,
            )
        _drop_journals(layout, plan)
    return replace(result, seconds=time.perf_counter() - start)


def _must_tell(layout: Layout, state: LedgerState, plan: _Plan) -> bool:
    """Tell whether forged lines need a commit that adds nothing: their journal goes, and the finding must stay.

    A sealing that finds the same lines again, in a journal that is still open, has nothing to add to the newest commit.
    The quarantine alone doesn't say so: anybody may have put the file there.
    """
    if not plan.forged:
        return False
    said = ledger.read_commit(layout, state.number).detail if state.number else None
    return plan.news or said != plan.tell_quarantined()


def _refuse_links(layout: Layout) -> None:
    """Refuse a store whose folders lead elsewhere: a sealer moves and removes files in them, perhaps as root.

    Raises:
        StoreDamaged: Naming the folder.
    """
    for folder in (layout.journal, layout.staging, layout.quarantine, layout.events, layout.ledger):
        if folder.is_symlink():
            raise StoreDamaged(
                f"expected a folder of the store at {folder}, found a symbolic link: replace it by the folder itself"
            )


def recover(layout: Layout, state: LedgerState) -> None:
    """Finish what an interrupted sealing left: move committed segments in, remove what was never committed.

    Raises:
        StoreDamaged: If a committed segment is neither in its place nor in staging; `auditkit integrity` names it.
    """
    for folder in (layout.ledger, layout.quarantine):
        durable.remove_leftovers(folder)
    if not layout.staging.is_dir():
        return
    staged = {path.name: path for path in layout.staging.iterdir() if is_staged_name(path.name)}
    folders = set()
    for entry in state.segments.values():
        source = staged.pop(layout.staged(entry.path).name, None)
        if source is None:
            continue
        target = layout.segment(entry.path)
        durable.make_folder(target.parent)
        durable.publish_file(source, target)
        folders.add(target.parent)
    for folder in folders:
        durable.sync_folder(folder)
    for leftover in staged.values():
        if leftover.is_symlink() or not leftover.is_dir():
            leftover.unlink()


def _choose_parts(layout: Layout, *, live: bool) -> dict[date, dict[str, list[Part]]]:
    """List the parts to seal, by date and writer."""
    chosen: dict[date, dict[str, list[Part]]] = defaultdict(lambda: defaultdict(list))
    now = today()
    for part in journal.list_parts(layout):
        day = read_writer_day(part.writer)
        if day is not None and (live or day < now or not journal.is_owned(part)):
            chosen[day][part.writer].append(part)
    return chosen


def _write_segments(layout: Layout, state: LedgerState, keys: Keys, *, live: bool) -> _Plan:
    plan = _Plan(layout)
    signers = WriterKeys(state.store, KeyTable(keys, keys.count_drawn(state.store)))
    openings = Openings(layout, state)
    kept: list[Part] = []
    heads = {writer: Head(head.next, head.link, head.closed) for writer, head in state.heads.items()}
    held = _list_held(state)
    durable.make_folder(layout.staging)
    for day, writers in sorted(_choose_parts(layout, live=live).items()):
        segment: SegmentWriter | None = None
        for writer, parts in sorted(writers.items()):
            for part, number, lines, follower in _read_parts(parts, plan):
                if part in kept:
                    continue
                if segment is None:
                    path = layout.staging / f"writing-{os.getpid()}-{len(plan.segments)}.parquet"
                    segment = SegmentWriter(path, state.store, day, heads, held, signers, openings)
                rejects = segment.add(writer, lines, number, follower)
                if rejects and rejects[0].number == 1 and rejects[0].reason.startswith(NEWER):
                    # A newer auditkit's journal is not damaged: it stays for a sealer that knows its version. A
                    # journal is of one version, so a line of another one further down is set aside as any other.
                    kept.append(part)
                    continue
                if rejects:
                    plan.set_aside(part, rejects)
                if segment.rows >= MAX_SEGMENT_ROWS:
                    _finish(layout, plan, segment)
                    segment = None
        if segment is not None:
            _finish(layout, plan, segment)
    for part in kept:
        plan.sizes.pop(part, None)
    return plan


def _list_held(state: LedgerState) -> dict[str, list[Run]]:
    """List the runs that the ledger holds of each writer."""
    held: dict[str, list[Run]] = defaultdict(list)
    for entry in state.segments.values():
        for run in entry.runs:
            held[run.writer].append(run)
    return held


def _read_parts(parts: list[Part], plan: _Plan) -> Iterator[tuple[Part, int, list[bytes], bytes | None]]:
    """Give the chunks of a writer's parts, each with the line behind it, which may be all that proves its last one."""
    before: tuple[Part, int, list[bytes]] | None = None
    for part in parts:
        for number, lines in _read_chunks(part, plan):
            if before is not None:
                yield (*before, lines[0])
            before = (part, number, lines)
    if before is not None:
        yield (*before, None)


class _EndlessLine:
    """Bytes without a newline, more of them than any writer puts into a line; they are kept as far as there is room.

    A sparse file costs whoever makes it nothing, so copying all of it would let him fill the disk.
    """

    def __init__(self, plan: _Plan, part: Part, number: int) -> None:
        self._plan = plan
        self._part = part
        self._number = number
        self._left_out = 0
        self._digest = sha256()
        self.length = 0

    def add(self, data: bytes) -> None:
        self.length += len(data)
        if self._plan.endless_bytes + len(data) <= ENDLESS_KEPT:
            self._plan.endless_bytes += len(data)
            self._set_aside(data, f"found {self.length} without an end")
        else:
            self._left_out += len(data)
            self._digest.update(data)

    def finish(self, *, read: bool = True) -> None:
        """Tell what isn't kept; without ``read`` there is more of it than was read."""
        if not read:
            self._set_aside(b"", f"found more than {self.length} without an end: the rest of the file is not kept")
        elif self._left_out:
            digest = self._digest.hexdigest()
            what = f"found {self.length}: the last {self._left_out} of them, with the SHA-256 {digest}, are not kept"
            self._set_aside(b"", what)

    def _set_aside(self, data: bytes, found: str) -> None:
        reason = f"expected a line of at most {MAX_LINE_BYTES} bytes, {found}"
        self._plan.set_aside(self._part, [Reject(self._number, data, reason)])


def _read_chunks(part: Part, plan: _Plan) -> Iterator[tuple[int, list[bytes]]]:
    """Give a part's complete lines, some megabytes at a time, with the number of the first; notes a torn end."""
    number, rest, size = 1, b"", 0
    endless: _EndlessLine | None = None
    owned = journal.is_owned(part)
    try:
        file = journal.open_for_reading(part)
    except FileNotFoundError:
        return
    with file:
        # A writer that is quicker than the sealer must not keep it for ever: what comes from now on is the next one's.
        whole = os.fstat(file.fileno()).st_size
        while chunk := file.read(min(CHUNK_BYTES, whole - size)):
            size += len(chunk)
            if endless is not None:
                line, ended, chunk = chunk.partition(b"\n")
                endless.add(line)
                if not ended and endless.length <= MAX_PART_BYTES:
                    continue
                endless.finish(read=bool(ended))
                endless = None
                if not ended:
                    size = whole
                    break
                number += 1
            complete, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                lines = complete.split(b"\n")
                yield number, lines
                number += len(lines)
            if len(rest) > MAX_LINE_BYTES:
                endless = _EndlessLine(plan, part, number)
                endless.add(rest)
                rest = b""
    plan.sizes[part] = size
    if endless is not None:
        endless.finish()
    if rest and not owned:
        torn = Reject(number, rest, "expected a complete line, found one whose writing was interrupted")
        plan.set_aside(part, [torn])


def _finish(layout: Layout, plan: _Plan, segment: SegmentWriter) -> None:
    sealed = segment.close()
    if sealed is None:
        return
    name = name_segment(sealed.day, sealed.digest)
    durable.finish_file(segment.path)
    segment.path.rename(layout.staged(name))
    plan.segments.append((name, sealed))


def _commit(layout: Layout, state: LedgerState, keys: Keys, plan: _Plan) -> tuple[LedgerState, Commit]:
    durable.sync_folder(layout.staging)
    entries, place = [], state.size
    for name, sealed in plan.segments:
        leaves = LeafRange(place, sealed.rows, tuple(tree.build_nodes(place, sealed.leaves)))
        place += sealed.rows
        entries.append(
            SegmentEntry(
                name,
                sealed.digest,
                sealed.size,
                sealed.rows,
                sealed.time_min,
                sealed.time_max,
                (leaves,),
                sealed.runs,
            )
        )
    draft = continuation.draft_commit("seal", detail=plan.tell_quarantined(), add=entries)
    return continuation.append_commit(layout, state, keys, draft)


def _drop_journals(layout: Layout, plan: _Plan) -> None:
    """Remove the parts that are sealed whole, unless their owner lives or has written since."""
    removed = [journal.remove_part(part, size) for part, size in plan.sizes.items()]
    if any(removed):
        durable.sync_folder(layout.journal)


def main() -> int:
    """Seal as a child process asked to: a request on standard input, the result on standard output."""
    import pyarrow

    # The application's threads come first: this process keeps to one core of its machine.
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    engine.limit_threads(1)
    request = orjson.loads(sys.stdin.buffer.read())
    try:
        result = seal_store(
            Layout(Path(request["store"])),
            read_secret(request["keys"]),
            live=request["live"],
            wait=request["wait"],
        )
    except (AuditError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
