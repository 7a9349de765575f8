"""The archive that is attacked: a realistic store, made by the toolkit's own processes, and what is known of it.

Whatever a test expects of a verification is computed here from the untouched store, by reading its files without the
toolkit's verifier.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from auditkit.integrity import Finding, Verification
from auditkit.store.keychange import derive_verifier_key
from tests.anchoring.witnesses import running_witness
from tests.integrity.stores import CHECKOUT, Site, read_segment, say

RECORDER = Path(__file__).with_name("recorder.py")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def run_recorder(phase: str, site: Site) -> None:
    """Run one of the recording processes to its end."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, str(RECORDER), phase, str(site.path), str(site.key_file)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@dataclass(frozen=True, order=True)
class Stored:
    """One event as it stands in a file.

    Attributes:
        writer: Its writer.
        seq: Its number.
        us: Its time, microseconds since 1970.
        places: How many numbers it holds: those of a gap event's dropped ones, otherwise one.
    """

    writer: str
    seq: int
    us: int
    places: int = 1


def read_events(path: Path) -> list[Stored]:
    """List the events of a segment or a journal in their order."""
    if path.suffix == ".parquet":
        rows = read_segment(path).to_pylist()
        rows = [{**row, "time": round((row["time"] - EPOCH) / timedelta(microseconds=1))} for row in rows]
    else:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [Stored(row["writer"], row["seq"], row["time"], _count_places(row)) for row in rows]


def _count_places(row: dict[str, Any]) -> int:
    return int(json.loads(row["details"])["dropped"]) if row["type"] == "auditkit.gap" else 1


@dataclass(frozen=True, order=True)
class Told:
    """What a finding says, without its prose: everything that locates it."""

    kind: str
    severity: str
    file: str
    writer: str | None = None
    seqs: tuple[int, int] | None = None
    times: tuple[datetime, datetime] | None = None
    events: int | None = None


def read_told(items: Iterable[Finding]) -> list[Told]:
    """Reduce findings to what locates them, in an order that can be compared."""
    return sorted(
        (
            Told(
                item.kind,
                item.severity,
                item.file,
                item.writer,
                None if item.first_seq is None or item.last_seq is None else (item.first_seq, item.last_seq),
                None if item.time_min is None or item.time_max is None else (item.time_min, item.time_max),
                item.events,
            )
            for item in items
        ),
        key=repr,
    )


def tell_events(kind: str, file: str, events: Sequence[Stored], severity: str = "finding") -> Told:
    """Say what must be told of consecutive events of one writer."""
    times = [event.us for event in events]
    return Told(
        kind,
        severity,
        file,
        events[0].writer,
        (events[0].seq, events[-1].seq),
        (to_moment(min(times)), to_moment(max(times))),
        len(events),
    )


def name_commit(number: int) -> str:
    """Name a commit's file as findings name it."""
    return f"ledger/{number:08}.commit"


UNUSED_KEYS = Told("missing", "warning", "journal")
"""The warning that keys were drawn which nothing on record was signed with, older than the newest event."""

NEWER_KEYS = Told("rolled_back", "warning", "journal")
"""The warning that keys were drawn after the newest event on record."""


@dataclass(frozen=True)
class Archive:
    """The untouched store, and what was kept outside it.

    Attributes:
        site: The store and its key file.
        kept: The checkpoints as they were kept after each commit, by its number.
        cosigned: The checkpoint that a witness has cosigned.
        public_key: The store's public key, as it was given to auditors.
        copies: Copies of the store as it was behind a commit, by its number.
    """

    site: Site
    kept: dict[int, str]
    cosigned: str
    public_key: str
    copies: dict[int, Site] = field(default_factory=dict)

    @cached_property
    def commits(self) -> dict[int, dict[str, Any]]:
        """The commits' lines, by number."""
        return {int(path.stem): json.loads(path.read_bytes().split(b"\n")[0]) for path in self.site.commits()}

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """What the commits say of each segment, by its path."""
        return {entry["path"]: entry for commit in self.commits.values() for entry in commit["add"]}

    @cached_property
    def events(self) -> dict[str, list[Stored]]:
        """The events of each segment and journal, by the file's name."""
        return {self.site.name(path): read_events(path) for path in (*self.site.segments(), *self.site.journals())}

    def find_commit(self, path: str) -> int:
        """Say which commit added a segment."""
        return next(n for n, commit in self.commits.items() if any(entry["path"] == path for entry in commit["add"]))

    def list_unsealed(self, name: str) -> list[Stored]:
        """List a journal's events that no commit holds."""
        sealed = {(event.writer, event.seq) for path in self.entries for event in self.events[path]}
        return [event for event in self.events[name] if (event.writer, event.seq) not in sealed]

    def list_segments(self, *commits: int) -> list[str]:
        """List the segments that these commits added, all by default."""
        return [entry["path"] for n in commits or self.commits for entry in self.commits[n]["add"]]

    def find_segment(self, commit: int, day: datetime) -> str:
        """Give the segment of a date that a commit added."""
        return next(path for path in self.list_segments(commit) if f"date={day:%Y-%m-%d}/" in path)

    def find_journal(self, who: str) -> str:
        """Give the journal of a person's events."""
        named = f'"actor":"{who}"'.encode()
        return next(self.site.name(path) for path in self.site.journals() if named in path.read_bytes())

    def tell_unsealed(self) -> Told:
        """Say what must be told to whoever has no secret: these events nothing vouches for."""
        journals = (self.site.name(path) for path in self.site.journals())
        unsealed = sum(len(self.list_unsealed(name)) for name in journals)
        return Told("unverifiable", "warning", "journal", events=unsealed)

    def tell_segment(self, kind: str, path: str, severity: str = "finding") -> Told:
        """Say what must be told of a segment as a whole."""
        entry = self.entries[path]
        times = (to_moment(entry["time_min"]), to_moment(entry["time_max"]))
        return Told(kind, severity, path, times=times, events=entry["rows"])

    def tell_gone(self, path: str, severity: str = "finding") -> Told:
        """Say what must be told of a segment whose file is gone: of one writer's alone, which."""
        told, runs = self.tell_segment("missing", path, severity), self.entries[path]["runs"]
        return replace(told, writer=runs[0][0], seqs=(runs[0][1], runs[0][2])) if len(runs) == 1 else told

    def tell_orphan(self, path: str) -> Told:
        """Say that a segment of genuine events is there, and the commit that listed it isn't any more."""
        return replace(self.tell_gone(path), kind="truncated")

    def tell_commit(self, kind: str, number: int) -> Told:
        """Say what must be told of a commit that somebody outside the store had seen."""
        add = self.commits[number]["add"]
        times = [to_moment(us) for entry in add for us in (entry["time_min"], entry["time_max"])]
        span = (min(times), max(times)) if times else None
        return Told(kind, "finding", name_commit(number), times=span, events=sum(entry["rows"] for entry in add))


def make_archive(folder: Path) -> Archive:
    """Record and seal the archive: six commits over four dates, and journals that aren't sealed."""
    site = Site(folder / "site")
    site.folder.mkdir(parents=True)
    copies: dict[int, Site] = {}
    run_recorder("work_week", site)
    trail = site.open()
    trail.seal()
    copies[3] = site.copy(folder / "after-3")
    trail.rotate_keys(sign=False)
    run_recorder("work_wednesday", site)
    trail.seal()
    copies[5] = site.copy(folder / "after-5")
    public_key = derive_verifier_key(site.store_id, site.keys.signing_seed)
    with running_witness([public_key]) as witness:
        published = trail.anchor(witness=f"{witness.vkey}={witness.url}")
    assert published.ok, published
    run_recorder("begin_thursday", site)
    run_recorder("end_thursday", site)
    return Archive(site, read_kept(site), published.checkpoint, public_key, copies)


def seal_archive(archive: Archive, folder: Path) -> Archive:
    """Seal what the archive's journals hold, in a copy: a seventh commit, and nothing that isn't sealed."""
    site = archive.site.copy(folder)
    assert site.seal().commit == 7
    copies = {**archive.copies, 6: archive.site}
    return Archive(site, read_kept(site), archive.cosigned, archive.public_key, copies)


def read_kept(site: Site) -> dict[int, str]:
    """Read the checkpoint of each commit, as somebody may have kept it."""
    return {int(path.stem): path.read_text().partition("\n")[2] for path in site.commits()}


def check_told(verification: Verification, findings: Iterable[Told], *, warnings: Iterable[Told] = ()) -> None:
    """Assert that exactly these findings are told, exactly these warnings, and the exit code that follows."""
    expected = sorted(findings, key=repr)
    text = say(verification)
    assert read_told(verification.findings) == expected, text
    assert read_told(verification.warnings) == sorted(warnings, key=repr), text
    severities = {told.severity for told in expected}
    assert verification.exit_code == (1 if "finding" in severities else 3 if severities else 0), text
    assert verification.ok == (not expected), text
