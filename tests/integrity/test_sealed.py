"""Sealed segments under commits that the key made and that don't fit them: the page says what must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auditkit.integrity import Verification
from auditkit.store import ledger
from auditkit.store.ledger import LedgerState, SegmentEntry
from tests.docs import verifier
from tests.integrity.stores import MONDAY, Chain, Site, add_events, make_site, say


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
    changed = ledger.make_commit(LedgerState(site.store_id), replace(commit, add=(change(entry),)), site.keys, key)
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
