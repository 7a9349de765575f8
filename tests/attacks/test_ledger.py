"""Attacks on whole files: segments, dates, commits, the newest part of the store, and the store as a whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from auditkit import AuditLogger
from auditkit.retention import retire_days
from auditkit.store import continuation, ledger
from auditkit.store.ledger import LedgerState, Retirement
from tests.attacks.archive import (
    NEWER_KEYS,
    UNUSED_KEYS,
    Archive,
    Told,
    check_told,
    name_commit,
    read_told,
    to_moment,
)
from tests.attacks.forging import OWN_KEY, OWN_SEED, Forger, drop_writer
from tests.attacks.recorder import MONDAY, THURSDAY, TUESDAY, WEDNESDAY
from tests.integrity.stores import Site, say


def remove(site: Site, *names: str) -> None:
    for name in names:
        (site.path / name).unlink()


def look(archive: Archive) -> None:
    """Verify the untouched store once, as its user did: so the newest checkpoint is pinned."""
    verification = archive.site.verify(pin=True)
    check_told(verification, [])


def cut(site: Site, archive: Archive, newest: int, *, segments: bool) -> list[int]:
    """Delete the newest commits, and their segments or not; gives their numbers."""
    gone = sorted(archive.commits)[-newest:]
    remove(site, *map(name_commit, gone))
    if segments:
        remove(site, *archive.list_segments(*gone))
        for folder in site.layout.events.iterdir():
            if not any(folder.iterdir()):
                folder.rmdir()
    return gone


# -- nothing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [True, False])
def test_an_untouched_archive_has_no_findings(archive: Archive, sealed: Archive, deep: bool) -> None:
    """Several dates, processes, forks, a gap, a renewed root and killed writers: sound, with what can't be known."""
    for each in (archive, sealed):
        verification = each.site.verify(deep=deep)
        check_told(verification, [])
        assert {note.kind for note in verification.notes} == {"unanchored"}
        assert verification.commit == len(each.commits)
        check_told(each.site.open().verify(deep=deep, pin=False, against=each.kept[6]), [])
        check_told(each.site.open().verify(deep=deep, pin=False, against=each.cosigned), [])
    check_told(sealed.site.open().verify(deep=deep, pin=False, public_key=sealed.public_key), [])
    told = archive.tell_unsealed()
    check_told(archive.site.open().verify(deep=deep, pin=False, public_key=archive.public_key), [], warnings=[told])


# -- segments and dates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("public", [False, True], ids=["key", "public key"])
@pytest.mark.parametrize("deep", [True, False], ids=["deep", "fast"])
@pytest.mark.parametrize("place", range(7))
def test_an_attacker_deletes_a_segment(archive: Archive, site: Site, place: int, deep: bool, public: bool) -> None:
    """The finding says which file, whose events, from when to when, and how many they were."""
    path = archive.list_segments()[place]
    remove(site, path)
    key = archive.public_key if public else None
    verification = site.open().verify(deep=deep, pin=False, public_key=key)
    check_told(verification, [archive.tell_gone(path)], warnings=[archive.tell_unsealed()] if public else [])


@pytest.mark.parametrize("day", [MONDAY, TUESDAY, WEDNESDAY, THURSDAY])
def test_an_attacker_deletes_a_date(archive: Archive, site: Site, day: datetime) -> None:
    """A folder that is gone may just not be mounted: incomplete, exit code 3, with every segment and its events."""
    folder = site.layout.events / f"date={day:%Y-%m-%d}"
    shutil.rmtree(folder)
    paths = [path for path in archive.list_segments() if path.startswith(f"events/{folder.name}/")]
    gone = [archive.tell_gone(path, "incomplete") for path in paths]
    for deep in (True, False):
        verification = site.verify(deep=deep)
        check_told(verification, gone)
        assert verification.exit_code == 3
    verification = site.open().verify(pin=False, public_key=archive.public_key)
    check_told(verification, gone, warnings=[archive.tell_unsealed()])


def test_an_attacker_replaces_a_segment_by_another_one(archive: Archive, site: Site) -> None:
    """A genuine segment under another one's name has another hash, other events, and lacks those that belong there."""
    path, other = archive.list_segments(5)[0], archive.list_segments(6)[0]
    shutil.copyfile(site.path / other, site.path / path)
    verification = site.verify(deep=False)
    check_told(verification, [archive.tell_segment("tampered", path)])
    found = site.verify()
    missing = {(f.writer, f.first_seq, f.last_seq) for f in found.findings if f.kind == "missing"}
    assert missing == {(run[0], run[1], run[2]) for run in archive.entries[path]["runs"]}, say(found)
    strangers = {(f.writer, f.first_seq, f.last_seq) for f in found.findings if f.kind == "tampered" and f.writer}
    assert strangers == {(run[0], run[1], run[2]) for run in archive.entries[other]["runs"]}, say(found)
    assert {f.file for f in found.findings} == {path}


def test_an_attacker_plants_a_segment(archive: Archive, site: Site) -> None:
    """A copy of a segment under a name that no commit lists is named; readers of plain Parquet would count it twice."""
    path = site.path / archive.list_segments(5)[0]
    planted = path.with_name("0123456789abcdef.parquet")
    shutil.copyfile(path, planted)
    for deep in (True, False):
        check_told(site.verify(deep=deep), [Told("tampered", "finding", site.name(planted))])


# -- commits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 6))
def test_an_attacker_deletes_a_commit(archive: Archive, site: Site, number: int) -> None:
    """The hole is named by its number; of the segments it listed it is said that nothing lists them any more.

    Who has looked before is told how many events it held, and when they were.
    """
    look(archive)
    remove(site, name_commit(number))
    orphans = [Told("unverifiable", "incomplete", path) for path in archive.list_segments(number)]
    check_told(site.verify(), [Told("missing", "finding", name_commit(number)), *orphans], warnings=[UNUSED_KEYS])
    missing = archive.tell_commit("missing", number)
    check_told(site.verify(pin=True), [missing, *orphans], warnings=[UNUSED_KEYS])
    verification = site.open().verify(public_key=archive.public_key)
    check_told(verification, [missing, *orphans], warnings=[archive.tell_unsealed()])


@pytest.mark.parametrize("number", range(1, 6))
def test_an_attacker_deletes_a_commit_with_its_segments(archive: Archive, site: Site, number: int) -> None:
    """Nothing is left that says which events they were, but that a commit is missing can't be hidden."""
    remove(site, name_commit(number), *archive.list_segments(number))
    missing = Told("missing", "finding", name_commit(number))
    check_told(site.verify(), [missing], warnings=[UNUSED_KEYS])
    verification = site.open().verify(pin=False, public_key=archive.public_key)
    check_told(verification, [missing], warnings=[archive.tell_unsealed()])


def test_an_attacker_deletes_four_commits_in_the_middle(sealed: Archive, sealed_site: Site) -> None:
    """Four findings name the four, each with its events where somebody has looked before."""
    look(sealed)
    remove(sealed_site, *map(name_commit, range(2, 6)))
    orphans = [Told("unverifiable", "incomplete", path) for path in sealed.list_segments(2, 3, 4, 5)]
    units = [Told("missing", "finding", name_commit(number)) for number in range(2, 6)]
    check_told(sealed_site.verify(), [*units, *orphans], warnings=[UNUSED_KEYS])
    units = [sealed.tell_commit("missing", number) for number in range(2, 6)]
    check_told(sealed_site.verify(pin=True), [*units, *orphans], warnings=[UNUSED_KEYS])


@pytest.mark.parametrize("public", [False, True], ids=["key", "public key"])
@pytest.mark.parametrize("segments", [False, True], ids=["commits alone", "with their segments"])
@pytest.mark.parametrize("newest", range(1, 7))
def test_an_attacker_deletes_the_newest_commits(
    sealed: Archive, sealed_site: Site, newest: int, segments: bool, public: bool
) -> None:
    """Who has verified before is told each commit by itself, with its events and their times.

    Segments that were left are told as genuine ones whose commit is gone, by whoever has the secret key. It is called
    truncated if something of it is left, and rolled back if all of the store is as it was then.
    """
    look(sealed)
    gone = cut(sealed_site, sealed, newest, segments=segments)
    left = [] if segments else sealed.list_segments(*gone)
    kind = "truncated" if left else "rolled_back"
    units = [sealed.tell_commit(kind, number) for number in gone]
    orphans = [Told("tampered", "finding", path) if public else sealed.tell_orphan(path) for path in left]
    verification = sealed_site.open().verify(public_key=sealed.public_key if public else None)
    check_told(verification, [*units, *orphans], warnings=[] if public else [NEWER_KEYS])
    assert [anchor.status for anchor in verification.anchors] == [kind]
    assert len(units) == newest


def test_an_attacker_deletes_the_newest_three_commits(sealed: Archive, sealed_site: Site) -> None:
    """Three units are told, one for each; and with a kept checkpoint instead of a pin, how many leaves are gone."""
    look(sealed)
    gone = cut(sealed_site, sealed, 3, segments=True)
    verification = sealed_site.verify(pin=True)
    assert [finding.file for finding in verification.findings] == [name_commit(number) for number in (5, 6, 7)]
    check_told(verification, [sealed.tell_commit("rolled_back", n) for n in gone], warnings=[NEWER_KEYS])
    leaves = 3 + sum(sealed.entries[path]["rows"] for path in sealed.list_segments(*gone))
    kept = sealed_site.open().verify(pin=False, against=sealed.kept[7])
    check_told(kept, [Told("rolled_back", "finding", name_commit(5), events=leaves)], warnings=[NEWER_KEYS])
    assert f"{leaves} events and commits are gone" in kept.findings[0].found


def test_an_attacker_deletes_the_newest_commits_before_anybody_has_looked(sealed: Archive, sealed_site: Site) -> None:
    """Without a pin or a kept checkpoint the cut ledger is sound in itself: a warning by the key file is all there is.

    A checkpoint from before the cut doesn't help either.
    """
    cut(sealed_site, sealed, 2, segments=True)
    for against in ([], [sealed.kept[5]]):
        verification = sealed_site.open().verify(pin=False, against=against)
        check_told(verification, [], warnings=[NEWER_KEYS])
        assert verification.exit_code == 0
    check_told(sealed_site.open().verify(pin=False, public_key=sealed.public_key), [])


def test_an_attacker_deletes_the_newest_commit_and_leaves_a_journal_that_went_on(archive: Archive, site: Site) -> None:
    """The journal's events follow those that the commit held: the hole before them is a trace, also without a pin."""
    journal = archive.find_journal("fay")
    cut(site, archive, 1, segments=True)
    sealed_events = archive.events[archive.list_segments(6)[0]]
    first = archive.events[journal][0]
    verification = site.verify()
    check_told(
        verification,
        [
            Told(
                "missing",
                "finding",
                journal,
                first.writer,
                (sealed_events[0].seq, sealed_events[-1].seq),
                (to_moment(first.us), to_moment(first.us)),
                len(sealed_events),
            )
        ],
        warnings=[UNUSED_KEYS],
    )


@pytest.mark.parametrize("segments", [False, True], ids=["commits alone", "with their segments"])
def test_an_attacker_deletes_all_commits(sealed: Archive, sealed_site: Site, segments: bool) -> None:
    """The description says that there was a ledger: it is missing, and who has looked before is told what it held."""
    look(sealed)
    gone = cut(sealed_site, sealed, 7, segments=segments)
    missing = Told("missing", "finding", name_commit(1))
    orphans = [] if segments else [Told("unverifiable", "incomplete", path) for path in sealed.list_segments()]
    units = [sealed.tell_commit("rolled_back" if segments else "truncated", number) for number in gone]
    for key in (None, sealed.public_key):
        warnings = list_lost(sealed_site, segments, key)
        check_told(sealed_site.open().verify(public_key=key, pin=False), [missing, *orphans], warnings=warnings)
        verification = sealed_site.open().verify(public_key=key)
        assert verification.exit_code == 1
        check_told(verification, [missing, *units, *orphans], warnings=warnings)


def list_lost(site: Site, segments: bool, key: str | None) -> list[Told]:
    """Say what is warned of where no commit is left: the keys, and that nothing is there if nothing is."""
    nothing = Told("unanchored", "warning", "journal")
    if key is not None:
        return [nothing]
    return [NEWER_KEYS, nothing] if segments else [UNUSED_KEYS, NEWER_KEYS, nothing]


# -- the whole store --------------------------------------------------------------------------------------------------


def roll_back(site: Site, copy: Site, *, key_file: bool) -> None:
    """Put an older copy of the store in its place, and of its key file too or not."""
    shutil.rmtree(site.path)
    shutil.copytree(copy.path, site.path)
    if key_file:
        shutil.copyfile(copy.key_file, site.key_file)


@pytest.mark.parametrize("key_file", [False, True], ids=["store alone", "with its key file"])
@pytest.mark.parametrize("to", [3, 5, 6])
def test_an_attacker_rolls_the_whole_store_back(sealed: Archive, sealed_site: Site, to: int, key_file: bool) -> None:
    """Everything since is told commit by commit to whoever has looked before, and by a kept checkpoint to others."""
    look(sealed)
    roll_back(sealed_site, sealed.copies[to], key_file=key_file)
    units = [sealed.tell_commit("rolled_back", number) for number in range(to + 1, 8)]
    warnings = [] if key_file else [NEWER_KEYS]
    check_told(sealed_site.verify(pin=True), units, warnings=warnings)
    leaves = 7 - to + sum(sealed.entries[path]["rows"] for path in sealed.list_segments(*range(to + 1, 8)))
    kept = sealed_site.open().verify(pin=False, against=sealed.kept[7])
    told = Told("rolled_back", "finding", name_commit(to + 1), events=leaves)
    check_told(kept, [told], warnings=warnings)


@pytest.mark.parametrize("key_file", [False, True], ids=["store alone", "with its key file"])
def test_an_attacker_rolls_the_store_back_and_goes_on(sealed: Archive, sealed_site: Site, key_file: bool) -> None:
    """As long or longer than before, and of another history: what was recorded since the older copy is counted."""
    look(sealed)
    roll_back(sealed_site, sealed.copies[6], key_file=key_file)
    with AuditLogger(sealed_site.path, key_file=sealed_site.key_file, enable_rotation=False) as audit:
        for number in range(40):
            audit.log_event("another.history", {"n": number}, time=THURSDAY)
    sealed_site.seal()
    warnings = [] if key_file else [UNUSED_KEYS]
    verification = sealed_site.verify(pin=True)
    check_told(verification, [sealed.tell_commit("rolled_back", 7)], warnings=warnings)
    assert "another history since commit 6" in verification.findings[0].found
    kept = sealed_site.open().verify(pin=False, against=sealed.kept[7])
    check_told(kept, [Told("rolled_back", "finding", name_commit(7))], warnings=warnings)
    assert not verification.anchored
    check_told(sealed_site.open().verify(pin=False, against=sealed.kept[6]), [], warnings=warnings)


def test_the_next_verification_finds_a_rollback_again(sealed: Archive, sealed_site: Site) -> None:
    """What was found isn't pinned over: the accusation stays until somebody says that the store was restored."""
    look(sealed)
    roll_back(sealed_site, sealed.copies[6], key_file=True)
    for _ in range(2):
        check_told(sealed_site.verify(pin=True), [sealed.tell_commit("rolled_back", 7)])
    check_told(sealed_site.open().verify(repin=True), [])
    check_told(sealed_site.verify(pin=True), [])


# -- one writer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["ana", "bo", "ed"])
def test_an_attacker_drops_one_writer_everywhere(sealed: Archive, sealed_site: Site, who: str) -> None:
    """All its rows, and everything fixed up that needs no key: each commit from the first it stood in is accused."""
    writers = {"ana": (1, MONDAY, 0), "bo": (1, MONDAY, 1), "ed": (5, WEDNESDAY, 1)}
    commit, day, place = writers[who]
    path = sealed.find_segment(commit, day)
    by_size = sorted(sealed.entries[path]["runs"], key=lambda run: run[1] - run[2])
    drop_writer(sealed_site, by_size[place][0])
    made = Forger().rewrite(sealed_site)
    assert made == list(range(commit, 8))
    forged = [Told("tampered", "finding", name_commit(number)) for number in made]
    listed = {path for path in sealed.list_segments() if sealed.find_commit(path) < commit}
    left = {sealed_site.name(each) for each in sealed_site.segments()} - listed
    orphans = [Told("unverifiable", "incomplete", each) for each in left]
    # From the first commit on: then no commit lists any event, which is warned of.
    nothing = [Told("unanchored", "warning", "journal")] if commit == 1 else []
    warnings = [UNUSED_KEYS, NEWER_KEYS, *nothing]
    check_told(sealed_site.verify(), [*forged, *forged, *orphans], warnings=warnings)
    verification = sealed_site.open().verify(pin=False, public_key=sealed.public_key)
    check_told(verification, [*forged, *orphans], warnings=nothing)


# -- retention --------------------------------------------------------------------------------------------------------


def tell_retired(sealed: Archive, commit: int, day: datetime) -> Told:
    """Say what must be noted of a date that was removed with authority."""
    paths = [path for path in sealed.list_segments() if f"date={day:%Y-%m-%d}/" in path]
    entries = [sealed.entries[path] for path in paths]
    times = (min(e["time_min"] for e in entries), max(e["time_max"] for e in entries))
    span = (to_moment(times[0]), to_moment(times[1]))
    return Told("retired", "note", name_commit(commit), times=span, events=sum(e["rows"] for e in entries))


def test_authorised_retention_is_sound_and_the_same_removal_by_hand_is_found(
    sealed: Archive, sealed_site: Site, tmp_path: Path
) -> None:
    """The ledger says what was removed and why, for ever: noted, exit code 0. Without it the files are missing."""
    by_hand = sealed_site.copy(tmp_path / "by hand")
    look(sealed)
    retired = retire_days(sealed_site.layout, sealed_site.keys, TUESDAY.date(), "kept for one day")
    assert retired.commit == 8
    gone = sorted(path for path in sealed.list_segments() if f"date={MONDAY:%Y-%m-%d}/" in path)
    assert sorted(retired.paths) == gone
    for key in (None, sealed.public_key):
        verification = sealed_site.open().verify(public_key=key)
        check_told(verification, [])
        notes = [told for told in read_told(verification.notes) if told.kind != "unanchored"]
        assert notes == [tell_retired(sealed, 8, MONDAY)]
    remove(by_hand, *gone)
    told = [sealed.tell_gone(path) for path in gone]
    check_told(by_hand.verify(), told)
    check_told(by_hand.open().verify(pin=False, public_key=sealed.public_key), told)
    (by_hand.layout.events / f"date={MONDAY:%Y-%m-%d}").rmdir()
    verification = by_hand.verify()
    check_told(verification, [sealed.tell_gone(path, "incomplete") for path in gone])
    assert verification.exit_code == 3


def test_an_insider_removes_more_than_retention_allowed(sealed: Archive, sealed_site: Site) -> None:
    """Beside what the signed commit removed, what is gone by hand is missing, and the note covers none of it."""
    retire_days(sealed_site.layout, sealed_site.keys, TUESDAY.date(), "kept for one day")
    path = sealed.find_segment(5, WEDNESDAY)
    remove(sealed_site, path)
    verification = sealed_site.verify()
    check_told(verification, [sealed.tell_gone(path)])
    retired = [told for told in read_told(verification.notes) if told.kind == "retired"]
    assert retired == [tell_retired(sealed, 8, MONDAY)]


def test_an_attacker_plants_rows_under_the_name_of_a_retired_segment(sealed: Archive, sealed_site: Site) -> None:
    """A name that was removed with authority excuses no other content: tools would read it as events."""
    path, other = sealed.find_segment(1, MONDAY), sealed.find_segment(5, WEDNESDAY)
    retire_days(sealed_site.layout, sealed_site.keys, TUESDAY.date(), "kept for one day")
    (sealed_site.path / path).parent.mkdir()
    shutil.copyfile(sealed_site.path / other, sealed_site.path / path)
    for deep in (True, False):
        verification = sealed_site.verify(deep=deep)
        assert {(f.kind, f.severity, f.file) for f in verification.findings} == {("tampered", "finding", path)}


def test_an_attacker_forges_a_retention_commit(sealed: Archive, sealed_site: Site) -> None:
    """A commit that removes a date, made without the keys: it is accused, and what it removed is missing as ever."""
    gone = [sealed.find_segment(1, MONDAY), sealed.find_segment(2, MONDAY)]
    state = ledger.load_state(sealed_site.layout, sealed_site.store_id)
    draft = continuation.draft_commit("retain", retired=[Retirement(path, "kept for one day", ()) for path in gone])
    publish_forged(sealed_site, state, draft)
    remove(sealed_site, *gone)
    forged = Told("tampered", "finding", name_commit(8))
    missing = [sealed.tell_gone(path) for path in gone]
    check_told(sealed_site.verify(), [forged, forged, *missing])
    verification = sealed_site.open().verify(pin=False, public_key=sealed.public_key)
    check_told(verification, [forged, *missing])


def publish_forged(site: Site, state: LedgerState, draft: ledger.Commit) -> None:
    """Publish a commit behind the newest, made with an attacker's own keys."""
    commit = replace(draft, number=state.number + 1, key_n=1000, prev_root=state.root, first_leaf=state.size)
    commit = ledger.make_commit(state, commit, OWN_KEY, [OWN_SEED])
    assert not ledger.check_commit(state, commit)
    assert ledger.publish_commit(site.layout, commit)
