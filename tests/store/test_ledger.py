"""The ledger's commits: printed and read as a pair, published once, and under one Merkle tree with the events."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit import note, tree
from auditkit.errors import FormatUnknown, StoreDamaged
from auditkit.keys import GivenKey
from auditkit.store import ledger
from auditkit.store.layout import Layout, name_segment
from auditkit.store.ledger import Commit, LeafRange, LedgerState, Retirement, SegmentEntry
from auditkit.store.runs import Run
from auditkit.store.segments import read_tables, rebuild_lines
from tests.integrity.stores import MONDAY, TUESDAY, Chain, Sample, Site, add_events, hash_leaf, make_sample, make_site

STORE = "sitesitesitesite"
KEYS = GivenKey("a secret that only these tests know")
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
HASHES = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**53 - 1)


@st.composite
def make_entries(draw: st.DrawFn, first: int) -> SegmentEntry:
    rows = draw(st.integers(1, 2**40))
    runs = []
    for _ in range(draw(st.integers(0, 3))):
        seq = draw(st.integers(0, 2**40))
        last = seq + draw(st.integers(0, 2**40))
        dropped = draw(st.sampled_from([1, 1, 2, 2**40]))
        closed = dropped == 1 and draw(st.booleans())
        writer = f"20200302-{draw(st.sampled_from('abc')) * 16}"
        runs.append(Run(writer, seq, last, draw(st.none() | HASHES), draw(HASHES), closed, last + dropped))
    count = len(tree.split_range(first, rows))
    nodes = tuple(draw(st.lists(HASHES, min_size=count, max_size=count)))
    digest = draw(HASHES).hex()
    path = name_segment(draw(st.dates()), digest)
    return SegmentEntry(
        path, digest, draw(NUMBERS), rows, draw(TIMES), draw(TIMES), (LeafRange(first, rows, nodes),), tuple(runs)
    )


@st.composite
def make_commits(draw: st.DrawFn) -> Commit:
    """Commits as a sealer could write them, with any numbers and texts."""
    entries, place = [], draw(st.integers(0, 2**40))
    state = LedgerState(STORE, size=place, nodes=tuple(bytes(32) for _ in tree.split_range(0, place)))
    for _ in range(draw(st.integers(0, 3))):
        entry = draw(make_entries(place))
        place += entry.rows
        entries.append(entry)
    commit = Commit(
        number=draw(NUMBERS),
        time=draw(TIMES),
        key_n=draw(NUMBERS),
        why=draw(st.sampled_from(["seal", "compact", "retain", "erase", "key"])),
        detail=draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
        prev_root=draw(HASHES),
        first_leaf=state.size,
        add=tuple(entries),
        remove=tuple(name_segment(draw(st.dates()), draw(HASHES).hex()) for _ in range(draw(st.integers(0, 2)))),
        keys=draw(st.none() | st.just({"old": None, "new": "auditkit/x+00000000+AA==", "old_signature": None})),
    )
    return ledger.make_commit(state, commit, KEYS.draw()[1], [KEYS.signing_seed])


@settings(max_examples=150)
@given(commit=make_commits())
def test_what_is_printed_is_read_back(commit: Commit) -> None:
    """Parsing gives the very commit, and printing that gives the very bytes."""
    data = ledger.format_commit(commit)
    assert ledger.parse_commit(data) == commit
    assert ledger.format_commit(ledger.parse_commit(data)) == data
    assert ledger.verify_mac(commit.line, STORE, KEYS.draw()[1])
    assert not ledger.verify_mac(commit.line, STORE[::-1], KEYS.draw()[1])
    assert not ledger.verify_mac(commit.line, STORE, bytes(32))


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("published") / "site")


@settings(max_examples=300)
@given(data=st.data())
def test_nothing_is_read_that_isn_t_printed(published: Sample, data: st.DataObject) -> None:
    """Whatever bytes are changed, put in or cut out: a parser that accepts them prints the same bytes again."""
    content = bytearray(data.draw(st.sampled_from(published.site.commits())).read_bytes())
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 2, len(content))))
    content[start:end] = data.draw(st.binary(max_size=2) | st.sampled_from([b" ", b"\n", b"0", b"-", b"null", b"[]"]))
    try:
        commit = ledger.parse_commit(bytes(content))
    except StoreDamaged as error:
        assert str(error).startswith("commit: ")  # noqa: PT017 - most of the changed files are refused, not all
    else:
        assert ledger.format_commit(commit) == bytes(content)


def edit(content: bytes, change: Any) -> bytes:
    line, _, rest = content.partition(b"\n")
    fields = json.loads(line)
    change(fields)
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" + rest


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(v=0),
        lambda f: f.update(extra=1),
        lambda f: f.pop("state"),
        lambda f: f.update(n=-1),
        lambda f: f.update(n=True),
        lambda f: f.update(n=1.0),
        lambda f: f.update(n="1"),
        lambda f: f.update(first_leaf=2**53),
        lambda f: f.update(time=253_402_300_800_000_000),
        lambda f: f.update(why=None),
        lambda f: f.update(detail=3),
        lambda f: f.update(store="../../etc"),
        lambda f: f.update(prev_root=f["prev_root"].upper()),
        lambda f: f.update(prev_root="ab " * 21 + "a"),
        lambda f: f.update(retired=[1]),
        lambda f: f.update(state="x"),
        lambda f: f.update(keys={"new": "x", "old": None, "old_signature": None}),
        lambda f: f.update(add={}),
        lambda f: f.update(remove=["events/date=2020-03-02/../x.parquet"]),
        lambda f: f.update(mac=f["mac"].upper()),
        lambda f: f["add"][0].update(path="/etc/passwd"),
        lambda f: f["add"][0].update(path="events/date=2020-02-30/0123456789abcdef.parquet"),
        lambda f: f["add"][0].update(rows=-1),
        lambda f: f["add"][0].update(time_min=2**63),
        lambda f: f["add"][0]["leaves"][0][2].append("00" * 32),
        lambda f: f["add"][0]["leaves"][0].__setitem__(1, 2**60),
        lambda f: f["add"][0]["runs"][0].__setitem__(0, "20209999-aaaaaaaaaaaaaaaa"),
        lambda f: f["add"][0]["runs"][0].__setitem__(2, -1),
        lambda f: f["add"][0]["runs"][0].__setitem__(5, 1),
        lambda f: f["add"][0]["runs"][0].__setitem__(5, None),
        lambda f: f["add"][0]["runs"][0].append(0),
    ],
)
def test_a_field_that_no_sealer_writes_is_refused(published: Sample, change: Any) -> None:
    """Numbers, paths, hashes and names are taken in their one form, and nothing else."""
    content = published.site.commits()[0].read_bytes()
    with pytest.raises(StoreDamaged):
        ledger.parse_commit(edit(content, change))


def test_a_commit_of_a_newer_version_is_not_judged(published: Sample, tmp_path: Path) -> None:
    """Its form may be another; what stays is where its key's number and its MAC stand."""
    site = published.site.copy(tmp_path / "copy")
    path = site.commits()[0]
    path.write_bytes(edit(path.read_bytes(), lambda f: f.update(v=2)))
    with pytest.raises(FormatUnknown, match="use a newer auditkit"):
        ledger.read_commit(site.layout, 1)
    line, number = ledger.read_claim(site.layout, 1)
    assert (line, number) == (path.read_bytes().partition(b"\n")[0], json.loads(line)["key_n"])


def hash_tree(leaves: list[bytes]) -> bytes:
    """Compute RFC 6962's root as its section 2.1 defines it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + hash_tree(leaves[:split]) + hash_tree(leaves[split:])).digest()


def test_every_checkpoint_is_the_root_over_the_rows_as_they_are_stored(published: Sample) -> None:
    """The tree of each commit, computed anew from the Parquet files and the commits' lines, is the signed one."""
    site = published.site
    public = note.format_verifier_key(f"auditkit/{STORE}", note.derive_public_key(site.keys.signing_seed))
    assert json.loads((site.path / "store.json").read_text())["public_key"] == public
    leaves: list[bytes] = []
    for path in site.commits():
        line, _, text = path.read_bytes().partition(b"\n")
        fields = json.loads(line)
        assert fields["first_leaf"] == len(leaves)
        assert fields["prev_root"] == hash_tree(leaves).hex()
        for entry in fields["add"]:
            assert sha256((site.path / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
            for table in read_tables(site.path / entry["path"]):
                leaves.extend(map(hash_leaf, rebuild_lines(table, STORE)))
        leaves.append(hash_leaf(line))
        signed = note.parse_note(text)
        assert note.verify_note(signed, public)
        checkpoint = note.parse_checkpoint(signed.text)
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (
            f"auditkit/{STORE}", len(leaves), hash_tree(leaves),
        )  # fmt: skip
    assert len(leaves) == 145 + 3


def test_the_runs_say_where_each_chain_stands(published: Sample) -> None:
    """Every run begins where its writer's last one ended; the heads are those of the chains as they were written."""
    state = ledger.load_state(published.site.layout, STORE)
    heads = {name: state.heads[chain.writer] for name, chain in published.chains.items() if chain.writer in state.heads}
    assert {name: (head.next, head.closed) for name, head in heads.items()} == {
        "ana": (62, True), "bo": (26, False), "cy": (32, True), "di": (17, True), "ed": (11, False),
    }  # fmt: skip
    for name in ("ana", "bo", "cy", "di"):
        assert heads[name].link == published.chains[name].prev


def test_a_number_is_published_once(published: Sample, tmp_path: Path) -> None:
    """Of many that try the same number one wins, and what it wrote stays."""
    layout = Layout(tmp_path)
    layout.ledger.mkdir()
    state = LedgerState(STORE)
    commits = [
        ledger.make_commit(
            state, Commit(1, number, 0, "seal", None, state.root, 0, (), (), None), KEYS.draw()[1], [KEYS.signing_seed]
        )
        for number in range(16)
    ]
    won: list[int] = []
    barrier = threading.Barrier(len(commits))

    def publish(commit: Commit) -> None:
        barrier.wait()
        if ledger.publish_commit(layout, commit):
            won.append(commit.time)

    threads = [threading.Thread(target=publish, args=(commit,)) for commit in commits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert ledger.read_commit(layout, 1) == commits[won[0]]
    assert [path.name for path in layout.ledger.iterdir()] == ["00000001.commit"]


def test_a_state_goes_on_from_an_earlier_one(published: Sample) -> None:
    """A reader that knows the first commits reads only those that came since, and gets the same."""
    layout = published.site.layout
    whole = ledger.load_state(layout, STORE)
    empty = LedgerState(STORE)
    earlier = ledger.apply_commit(empty, ledger.read_commit(layout, 1))
    assert empty == LedgerState(STORE)
    heads, segments = dict(earlier.heads), dict(earlier.segments)
    assert ledger.load_state(layout, STORE, earlier) == whole
    assert (earlier.heads, earlier.segments) == (heads, segments)
    assert ledger.load_state(layout, STORE, whole) == whole
    assert (whole.number, whole.size) == (3, 148)


def test_advancing_gives_what_applying_gives_and_copies_nothing(published: Sample) -> None:
    """A ledger is read in one pass: each commit changes the heads and segments of the one before in their place."""
    state = followed = LedgerState(STORE)
    for commit in ledger.read_commits(published.site.layout):
        checkpoint = ledger.compute_checkpoint(state, commit)
        state = ledger.apply_commit(state, commit)
        before, followed = followed, ledger.advance(followed, commit)
        assert followed == state
        assert followed.heads is before.heads
        assert followed.segments is before.segments
        assert (checkpoint.size, checkpoint.root) == (state.size, state.root)
        assert checkpoint == note.parse_checkpoint(note.parse_note(commit.checkpoint).text)


GONE = Retirement("events/date=2020-03-02/0123456789abcdef.parquet", "two days", ())


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"number": 9}, "expected commit 4, found commit 9"),
        ({"first_leaf": 1}, "expected its leaves to begin at 148"),
        ({"prev_root": bytes(32)}, "expected the root before it"),
        ({"why": "retain", "remove": (GONE.path,), "retired": (GONE,)}, "expected to remove a live segment"),
        ({"store": "otherotherothers"}, "expected a commit of store"),
    ],
)
def test_what_doesn_t_follow_is_told(published: Sample, change: dict[str, Any], fault: str) -> None:
    """Each way in which a commit can fail to be the next one has its own words."""
    state = ledger.load_state(published.site.layout, STORE)
    following = Commit(4, 0, 0, "seal", None, state.root, state.size, (), (), None, store=STORE)
    assert ledger.check_commit(state, following) == []
    (found,) = ledger.check_commit(state, replace(following, **change))
    assert found.startswith(fault)


@pytest.mark.parametrize("reasons", [[], [1], [0, 0], [1, 0], [0, 1, 0]])
def test_each_segment_that_goes_has_its_reason(published: Sample, reasons: list[int]) -> None:
    """In the same order, neither fewer nor more nor for others; with them a live segment may go."""
    state = ledger.load_state(published.site.layout, STORE)
    paths = sorted(state.segments)[:2]
    removal = Commit(4, 0, 0, "retain", None, state.root, state.size, (), tuple(paths), None, store=STORE)
    given = tuple(Retirement(paths[place], "two days", (3,)) for place in reasons)
    (found,) = ledger.check_commit(state, replace(removal, retired=given))
    assert found.startswith("expected a reason for each of the 2 segments")
    told = tuple(Retirement(path, "two days", (3,)) for path in paths)
    whole = replace(removal, retired=told)
    assert ledger.check_commit(state, whole) == []
    after = ledger.apply_commit(state, whole)
    assert sorted(after.retired) == paths
    assert not set(paths) & set(after.segments)
    assert (after.size, sorted(state.segments)[:2]) == (state.size + 1, paths)
    back = replace(whole, number=5, add=(state.segments[paths[0]],), remove=(), retired=())
    assert any("which was added before" in fault for fault in ledger.check_commit(after, back))


@pytest.mark.parametrize(
    "run, fault",
    [
        (("a", 61, 61, None), "to go on at 62, found 61"),
        (("a", 62, 62, None), "to go on at 62, found 62"),
        (("b", 25, 30, None), "to go on at 26, found 25"),
        (("b", 26, 30, bytes(32)), "found another link"),
        (("e", 12, 30, bytes(32)), "found another link"),
    ],
)
def test_a_run_that_overlaps_reopens_or_chains_elsewhere_is_told(
    published: Sample, run: tuple[str, int, int, bytes | None], fault: str
) -> None:
    """A chain isn't sealed twice, doesn't go on behind its signed end, and doesn't change its past."""
    state = ledger.load_state(published.site.layout, STORE)
    letter, first, last, prev = run
    writer = next(writer for writer in state.heads if writer.endswith(letter * 16))
    entry = SegmentEntry(
        "events/date=2020-03-02/0123456789abcdef.parquet", "00" * 32, 1, 1, 0, 0,
        (LeafRange(state.size, 1, (bytes(32),)),), (Run(writer, first, last, prev, bytes(32), False, last + 1),),
    )  # fmt: skip
    commit = Commit(4, 0, 0, "seal", None, state.root, state.size, (entry,), (), None)
    (found,) = ledger.check_commit(state, commit)
    assert found.endswith(fault) or fault in found


def test_files_of_other_names_are_no_commits(tmp_path: Path) -> None:
    """What a killed process was writing, and what somebody put there, is passed over."""
    site = make_site(tmp_path / "site", STORE)
    for day, name in ((MONDAY, "a"), (TUESDAY, "b")):
        chain = Chain(site, day, name)
        add_events(chain, 2)
        chain.close()
        site.seal()
    for name in (".00000003.commit.0123456789ab", "00000003.commit~", "3.commit", "README"):
        (site.path / "ledger" / name).write_text("x")
    assert ledger.list_commits(site.layout) == [1, 2]
    assert ledger.list_commits(Layout(tmp_path / "nowhere")) == []
    assert site.verify().ok


def test_a_hole_is_told_by_its_number(site_of_three: Site) -> None:
    """A reader names the commit that isn't there, and reads nothing behind it."""
    site_of_three.layout.commit(2).unlink()
    with pytest.raises(StoreDamaged, match=r"00000002\.commit"):
        ledger.load_state(site_of_three.layout, STORE)
    assert ledger.list_commits(site_of_three.layout) == [1, 3]


@pytest.fixture
def site_of_three(published: Sample, tmp_path: Path) -> Site:
    return published.copy(tmp_path / "three")
