"""Sealed segments under commits that the key made and that don't fit them: the page says what must agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from auditkit import note, tree
from auditkit.integrity import Verification
from auditkit.store import ledger, segments
from auditkit.store.layout import name_segment
from auditkit.store.ledger import Commit, LeafRange, LedgerState, SegmentEntry
from auditkit.store.runs import Run
from tests.docs import verifier
from tests.integrity.stores import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Site,
    accused_events,
    add_events,
    at,
    hash_leaf,
    make_site,
    say,
    write_segment,
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store with one segment of two writers, the first one closed, the other one's process gone."""
    site = make_site(tmp_path / "site")
    first, second = Chain(site, MONDAY, "a"), Chain(site, MONDAY, "b")
    for chain in (first, second):
        add_events(chain, 5)
    first.close()
    site.seal()
    return site


def change_entry(site: Site, change: Callable[[SegmentEntry], SegmentEntry]) -> None:
    """Make the first commit again with the store's key, over a changed entry of its segment."""
    commit = ledger.read_commit(site.layout, 1)
    (entry,) = commit.add
    key = site.keys.find([commit.key_n])[commit.key_n]
    changed = ledger.make_commit(
        LedgerState(site.store_id), replace(commit, add=(change(entry),)), key, [site.keys.signing_seed]
    )
    site.commits()[0].write_bytes(ledger.format_commit(changed))


def check_independently(site: Site) -> str:
    """What the independent verifier says."""
    with pytest.raises(verifier.Fault) as fault:
        verifier.verify_store(site.path, verifier.Key.from_file(site.key_file))
    return str(fault.value)


def find_one(site: Site) -> tuple[str, Verification]:
    verification = site.verify()
    (finding,) = verification.findings
    assert (finding.kind, finding.file) == ("tampered", site.name(site.segments()[0])), say(verification)
    return finding.expected, verification


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("what", ["link", "next"])
def test_a_run_must_end_as_its_commit_says(site: Site, place: int, what: str) -> None:
    """The link and the next number of each run are those of the last row that is stored of it."""

    def change(entry: SegmentEntry) -> SegmentEntry:
        run = entry.runs[place]
        other = replace(run, link=bytes(32)) if what == "link" else replace(run, next=run.next + 7, closed=False)
        return replace(entry, runs=tuple(other if run is old else old for old in entry.runs))

    change_entry(site, change)
    expected, verification = find_one(site)
    assert expected.startswith("the ledger's link"), say(verification)
    assert verification.findings[0].writer == ledger.read_commit(site.layout, 1).add[0].runs[place].writer
    assert "end of" in check_independently(site)


def test_the_nodes_must_be_those_of_the_rows(site: Site) -> None:
    """A tree that was built over other events is found although the file, the runs and every MAC are sound."""

    def change(entry: SegmentEntry) -> SegmentEntry:
        (leaves,) = entry.leaves
        return replace(entry, leaves=(replace(leaves, nodes=(bytes(32), *leaves.nodes[1:])),))

    change_entry(site, change)
    expected, verification = find_one(site)
    assert expected.startswith("the events under the nodes"), say(verification)
    assert "nodes" in check_independently(site)


def test_a_run_without_rows_is_missed(site: Site) -> None:
    """Events that a commit lists and its segment doesn't hold are missing, however sound the rows are."""

    def change(entry: SegmentEntry) -> SegmentEntry:
        run = replace(entry.runs[0], writer="20200302-zzzzzzzzzzzzzzzz")
        return replace(entry, runs=(*entry.runs, run))

    change_entry(site, change)
    (finding,) = site.verify().findings
    assert (finding.kind, finding.writer, finding.events) == ("missing", "20200302-zzzzzzzzzzzzzzzz", 7)
    assert "not a row of" in check_independently(site)


def make_past(folder: Path) -> tuple[Site, Chain]:
    """A store whose one writer is in its third epoch."""
    site = make_site(folder)
    chain = Chain(site, MONDAY, owned=True)
    for _ in range(2):
        chain.ratchet()
        add_events(chain, 3)
    return site, chain


@pytest.mark.parametrize("sealed_before", [True, False])
@pytest.mark.parametrize("sealed_after", [True, False])
def test_an_epoch_that_goes_down_is_found(tmp_path: Path, sealed_before: bool, sealed_after: bool) -> None:
    """A key that a writer has left behind may be known to others: what it signs from then on isn't its writer's.

    In the journal, behind what is sealed, within one segment, and in a segment of its own.
    """
    site, chain = make_past(tmp_path / "site")
    if sealed_before:
        site.seal()
    assert site.verify().ok
    chain.go_back()
    seqs = [chain.add(), chain.add()]
    if sealed_after:
        site.seal()
    (finding,) = site.verify().findings
    assert (finding.kind, finding.expected) == ("tampered", "epochs that never go down")
    assert accused_events(site.verify()) == {(chain.writer, seq) for seq in seqs}
    assert "epoch" in check_independently(site)


def test_an_epoch_that_goes_down_behind_a_hole_is_found(tmp_path: Path) -> None:
    """Lost events between two runs hide nothing of what goes on behind them."""
    site, chain = make_past(tmp_path / "site")
    chain.go_back()
    seqs = [chain.add() for _ in range(4)]
    chain.leave()
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(lines[: seqs[0]] + lines[seqs[1] :]))
    assert site.seal().events == chain.seq - 1
    found = {finding.kind: (finding.first_seq, finding.last_seq) for finding in site.verify().findings}
    # The event behind the hole is proved by the next one, and its own MAC covers what is gone.
    assert found == {"missing": (seqs[0], seqs[0]), "tampered": (seqs[2], seqs[3])}


def test_segments_without_their_commits_accuse_no_epoch(tmp_path: Path) -> None:
    """Where the ledger is gone, segments are read by name and not by age, and their epochs went up all the same."""
    site, chain = make_past(tmp_path / "site")
    for _ in range(5):
        chain.ratchet()
        add_events(chain, 4)
        site.seal()
    chain.leave()
    for commit in site.commits():
        commit.write_bytes(b"damaged")
    verification = site.verify()
    # The first event of each covers one that can't be told to be before it.
    assert {finding.kind for finding in verification.findings} == {"tampered", "unverifiable"}
    assert {f.file.partition("/")[0] for f in verification.findings if f.kind == "tampered"} == {"ledger"}, say(
        verification
    )


def test_an_event_of_another_date_in_a_journal_is_found(tmp_path: Path) -> None:
    """A time that isn't on its writer's date is no writer's, with a valid MAC too, and no sealer takes it."""
    site, chain = make_past(tmp_path / "site")
    seq = chain.add(time=at(TUESDAY))
    add_events(chain, 2)
    (finding,) = site.verify().findings
    assert finding.expected == f"events of the date of writer {chain.writer}"
    assert accused_events(site.verify()) == {(chain.writer, seq)}
    assert site.seal().quarantined == 1
    assert not site.verify().ok


def seal_by_hand(site: Site, chain: Chain, day: date) -> None:
    """Seal a writer's lines as they are under a date, as somebody with the key and another sealer can."""
    table, good, _ = segments.parse_lines(chain.lines, site.store_id)
    assert all(good)
    write_segment(site.path / "made.parquet", table)
    digest, size = segments.digest_file(site.path / "made.parquet"), (site.path / "made.parquet").stat().st_size
    name = name_segment(day, digest)
    (site.path / name).parent.mkdir()
    (site.path / "made.parquet").rename(site.path / name)
    leaves = [hash_leaf(line) for line in chain.lines]
    times = [json.loads(line)["time"] for line in chain.lines]
    run = Run(chain.writer, 0, chain.seq - 1, bytes(32), leaves[-1], closed=False, next=chain.seq)
    place = LeafRange(0, len(leaves), tuple(tree.build_nodes(0, leaves)))
    entry = SegmentEntry(name, digest, size, len(leaves), min(times), max(times), (place,), (run,))
    number, key = site.keys.draw()
    public = note.derive_public_key(site.keys.signing_seed)
    keys = {"old": None, "new": note.format_verifier_key(f"auditkit/{site.store_id}", public), "old_signature": None}
    state = LedgerState(site.store_id)
    commit = Commit(1, at(WEDNESDAY), number, "seal", None, state.root, 0, (entry,), (), keys)
    ledger.publish_commit(site.layout, ledger.make_commit(state, commit, key, [site.keys.signing_seed]))
    chain.path.unlink()


def test_what_is_sealed_by_hand_as_it_should_be_is_sound(tmp_path: Path) -> None:
    """The two tests that follow change nothing but dates."""
    site, chain = make_past(tmp_path / "site")
    seal_by_hand(site, chain, MONDAY)
    verification = site.verify()
    assert verification.ok, say(verification)
    verifier.verify_store(site.path, verifier.Key.from_file(site.key_file))


@pytest.mark.parametrize("us", [at(TUESDAY), at(MONDAY) - 1])
def test_a_sealed_event_of_another_date_is_found(tmp_path: Path, us: int) -> None:
    """In the ledger and the tree, and with a valid MAC, an event whose time isn't on its writer's date is accused."""
    site, chain = make_past(tmp_path / "site")
    seq = chain.add(time=us)
    add_events(chain, 2)
    seal_by_hand(site, chain, MONDAY)
    assert accused_events(site.verify()) == {(chain.writer, seq)}
    assert "its date" in check_independently(site)


@pytest.mark.parametrize("day", [MONDAY, TUESDAY])
def test_a_segment_in_another_date_s_partition_is_found(tmp_path: Path, day: date) -> None:
    """A date's folder holds its own writers and their events, whatever the ledger says of a segment's path."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, MONDAY, opens=False)
    chain.add(type="auditkit.opened", details=json.dumps({"n": chain.number}), time=at(day))
    for _ in range(3):
        chain.add(time=at(day))
    seal_by_hand(site, chain, TUESDAY)
    assert accused_events(site.verify()) == {(chain.writer, seq) for seq in range(chain.seq)}
    assert "not a row of" in check_independently(site)
