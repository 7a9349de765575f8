"""What a verification says of itself: where, who, when and how many; and what nobody can tell, in its notes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import auditkit
from auditkit import AuditLogger
from auditkit.integrity import Verification
from auditkit.times import from_us
from tests.integrity.stores import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    accused_events,
    add_events,
    at,
    findings_about,
    make_site,
    read_segment,
    say,
    write_segment,
)
from tests.integrity.tampering import change_cell

# -- where, who, when, how many ---------------------------------------------------------------------------------------


def drop_lines(path: Path, *places: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for place, line in enumerate(lines) if place not in places))


def test_a_changed_event_is_placed_in_file_writer_sequence_and_time(sample: Sample, site: Site) -> None:
    """The finding says which file, which writer, which number, and when the event happened."""
    path = site.segments()[2]
    cy = sample.chains["cy"]
    write_segment(path, change_cell(read_segment(path), 7, "actor", "mallory"))
    verification = site.verify()
    about_file, about_event = verification.findings
    assert (about_file.kind, about_file.file, about_file.events) == ("tampered", site.name(path), 32)
    assert about_file.time_min == from_us(at(TUESDAY))
    assert about_file.time_max == from_us(at(TUESDAY, 31))
    assert (about_event.kind, about_event.file, about_event.writer) == ("tampered", site.name(path), cy.writer)
    assert (about_event.first_seq, about_event.last_seq, about_event.events) == (7, 7, 1)
    assert about_event.time_min == about_event.time_max == from_us(at(TUESDAY, 7))


def test_missing_events_are_placed_between_their_neighbours(sample: Sample, site: Site) -> None:
    """Lines that are gone from a journal are told as one range, between the times of what stands around it."""
    gus = sample.chains["gus"]
    drop_lines(gus_path(site, sample), 4, 5, 6)
    (finding,) = site.verify().findings
    assert (finding.kind, finding.writer) == ("missing", gus.writer)
    assert (finding.first_seq, finding.last_seq, finding.events) == (4, 6, 3)
    assert (finding.time_min, finding.time_max) == (from_us(at(WEDNESDAY, 3)), from_us(at(WEDNESDAY, 7)))


def gus_path(site: Site, sample: Sample) -> Path:
    return site.path / "journal" / sample.chains["gus"].path.name


def test_a_deleted_partition_is_incomplete_not_an_accusation(site: Site) -> None:
    """A whole date that isn't there may not have been copied: exit code 3, with every segment and its events named."""
    shutil.rmtree(site.path / "events" / "date=2020-03-02")
    verification = site.verify()
    assert (verification.verdict, verification.exit_code) == ("incomplete", 3)
    assert {(f.kind, f.severity) for f in verification.findings} == {("missing", "incomplete")}
    assert sum(f.events or 0 for f in verification.findings) == 85
    statuses = {p.date: (p.status, p.segments, p.findings) for p in verification.partitions}
    assert statuses == {
        MONDAY: ("incomplete", 2, 2),
        TUESDAY: ("ok", 1, 0),
        WEDNESDAY: ("ok", 1, 0),
    }


def test_a_foreign_file_is_named_and_nothing_else(site: Site) -> None:
    """What a commit doesn't list is found by its name alone, in the fast mode too; other tools would read it."""
    foreign = site.path / "events" / "date=2020-03-02" / "extra.parquet"
    shutil.copy(site.segments()[0], foreign)
    hidden = site.path / "events" / ".hidden.parquet"
    shutil.copy(site.segments()[0], hidden)
    for deep in (True, False):
        verification = site.verify(deep=deep)
        assert {f.file for f in verification.findings} == {site.name(foreign), site.name(hidden)}, say(verification)
        assert not accused_events(verification)


def test_the_first_event_gone_leaves_the_others_proved(sample: Sample, site: Site) -> None:
    """The first event says which key a writer has; without it the key is found by trying."""
    gus = sample.chains["gus"]
    drop_lines(gus_path(site, sample), 0)
    verification = site.verify()
    assert accused_events(verification) == {(gus.writer, 0)}, say(verification)
    path = site.segments()[2]
    table = read_segment(path)
    details = json.loads(table.column("details")[0].as_py()) | {"n": 7}
    write_segment(path, change_cell(table, 0, "details", json.dumps(details)))
    assert accused_events(site.verify()) == {(gus.writer, 0), (sample.chains["cy"].writer, 0)}


def test_a_range_of_dates_checks_the_content_of_those_dates_only(site: Site) -> None:
    """``since`` and ``until`` leave other segments and journals unread, and say so by date."""
    path = site.segments()[2]
    write_segment(path, change_cell(read_segment(path), 7, "actor", "mallory"))
    trail = site.open()
    assert trail.verify(since="2020-03-04").ok
    assert trail.verify(until="2020-03-02").ok
    verification = trail.verify(since="2020-03-03", until="2020-03-03")
    assert {f.file for f in verification.findings} == {site.name(path)}
    assert (verification.checked_events, verification.journal_events) == (32, 0)
    assert [p.status for p in verification.partitions] == ["not checked", "findings", "not checked"]


def test_progress_goes_up_to_the_whole(site: Site) -> None:
    """The progress is called with events done of events to do, and ends where they are equal."""
    calls: list[tuple[int, int]] = []
    verification = site.open().verify(progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (145, 145)
    assert verification.checked_events == 145


def test_a_verification_shows_itself_as_text_html_and_frame(site: Site) -> None:
    """The three forms have every finding and note, and no markup of an event gets into the HTML."""
    hostile = site.path / "events" / "<script>alert(1)</script>.parquet"
    hostile.parent.mkdir(exist_ok=True)
    (site.path / "events" / "<b>x").write_text("x")
    verification = site.verify()
    frame = verification.to_frame()
    assert list(frame["severity"]) == ["finding"] * len(verification.findings) + ["note"] * len(verification.notes)
    assert frame["file"].iloc[0] == "events/<b>x"
    assert "events/<b>x" in str(verification)
    assert "&lt;b&gt;x" in verification._repr_html_()
    assert "<b>x" not in verification._repr_html_()
    empty = Verification("s", True, (), ()).to_frame()
    assert list(empty.dtypes) == list(frame.dtypes)
    assert isinstance(frame["time_min"].dtype, pd.DatetimeTZDtype)


# -- what nobody can tell, and is said ---------------------------------------------------------------------------------


def notes(verification: Verification, text: str) -> list[str]:
    return [str(note) for note in verification.notes if text in str(note)]


def test_a_cut_tail_is_said_to_look_like_a_crash(sample: Sample, site: Site) -> None:
    """Cut at every byte: of a journal without a signed end, nothing is accused and the open end is said."""
    path = gus_path(site, sample)
    content = path.read_bytes()
    for cut in {0, 1, 5, len(content) // 2, len(content) - 1, len(content) - 2, *range(30, len(content), 397)}:
        path.write_bytes(content[:cut])
        verification = site.verify()
        assert verification.ok, say(verification)
        assert notes(verification, sample.chains["gus"].writer), say(verification)
        whole = content[:cut].endswith(b"\n") or not cut
        assert bool([n for n in verification.notes if n.kind == "torn"]) != whole


def test_a_closed_journal_that_lost_its_end_is_no_longer_closed(sample: Sample, site: Site) -> None:
    """The signed end was there; without it the writer is listed among the open ones."""
    fay = sample.chains["fay"]
    assert not notes(site.verify(), fay.writer)
    drop_lines(site.path / "journal" / fay.path.name, 9)
    verification = site.verify()
    assert verification.ok
    assert notes(verification, fay.writer)


def test_a_lost_middle_of_a_closed_journal_is_a_finding(sample: Sample, site: Site) -> None:
    """With the signed end in its place, what is missing before it is missing."""
    fay = sample.chains["fay"]
    drop_lines(site.path / "journal" / fay.path.name, 7, 8)
    assert accused_events(site.verify()) >= {(fay.writer, 22), (fay.writer, 23)}


def test_a_deleted_journal_leaves_an_unused_key(sample: Sample, site: Site) -> None:
    """A journal that never was sealed is gone without a trace in the store, but not from the count of the keys."""
    gus_path(site, sample).unlink()
    verification = site.verify()
    assert verification.ok
    (warning,) = verification.warnings
    assert warning.found.startswith(f"1 key (number {sample.chains['gus'].number}) drawn after"), say(verification)
    assert str(verification).startswith(f"ok (the tail is unanchored), but {warning.found}"), (
        "the verdict isn't said without it"
    )
    path = site.segments()[0]
    path.write_bytes(path.read_bytes()[:-1])
    damaged = site.verify()
    assert damaged.warnings == (warning,), "a finding elsewhere doesn't hide it"
    assert str(damaged).startswith(f"findings (the tail is unanchored), and {warning.found}")


def test_with_a_given_secret_a_deleted_journal_can_t_be_seen_and_that_is_said(tmp_path: Path) -> None:
    """A secret has no file to count in, so the verification says what it can't know."""
    with AuditLogger(tmp_path / "audit", secret_key="a secret of sixteen", enable_rotation=False) as audit:
        audit.log_event("kept")
    verification = auditkit.open(tmp_path / "audit", secret_key="a secret of sixteen").verify()
    assert verification.ok
    assert notes(verification, "a whole journal that was deleted")
    assert notes(verification, "an older copy of the store")
    assert not verification.warnings


def test_a_removed_newest_commit_is_found_by_its_segment(site: Site) -> None:
    """The segments that only the newest commit listed stay behind, and nothing lists them."""
    site.layout.commit(3).unlink()
    verification = site.verify()
    (segment,) = (site.path / "events" / "date=2020-03-04").iterdir()
    assert verification.verdict == "findings"
    assert findings_about(verification, site.name(segment)), say(verification)


def test_a_store_rolled_back_whole_is_unanchored_and_leaves_unused_keys(sample: Sample, tmp_path: Path) -> None:
    """An older copy of the whole store verifies: the notes say so, and the key file remembers what was drawn since."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 5)
    chain.close()
    site.seal()
    older = site.copy(tmp_path / "older")
    later = Chain(site, TUESDAY, "b")
    add_events(later, 5)
    later.close()
    site.seal()
    shutil.rmtree(site.path)
    shutil.copytree(older.path, site.path)
    verification = site.verify()
    assert verification.ok
    assert notes(verification, "an older copy of the whole store")
    (warning,) = verification.warnings
    assert warning.kind == "rolled_back"
    assert warning.found.startswith("2 keys (number 2, 3) drawn after the newest event on record: an older copy")


def test_lines_of_a_journal_that_are_sealed_already_are_no_evidence(sample: Sample, site: Site) -> None:
    """What the ledger holds stands in the segment; a journal that is still there can't contradict it."""
    ed = sample.chains["ed"]
    path = site.path / "journal" / ed.path.name
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"type":"', b'"type":"x')
    path.write_bytes(b"".join(lines))
    assert site.verify().ok
    frame = site.open().events(include_internal=True)
    assert not frame["type"].str.startswith("x").any()


def test_unsigned_events_are_said_to_be_unverifiable(tmp_path: Path) -> None:
    """Events of a logger that doesn't sign aren't accused and aren't passed as proved: the verdict is incomplete."""
    with AuditLogger(
        tmp_path / "audit", key_file=tmp_path / "key", enable_integrity=False, enable_rotation=False
    ) as audit:
        audit.log_event("unsigned")
    trail = auditkit.open(tmp_path / "audit", key_file=tmp_path / "key")
    for _ in range(2):
        verification = trail.verify()
        assert verification.exit_code == 3, say(verification)
        assert {f.kind for f in verification.findings} == {"unverifiable"}
        trail.seal()


def test_a_verification_while_a_writer_writes_and_a_sealer_seals_accuses_nobody(tmp_path: Path) -> None:
    """An event that is sealed meanwhile is checked once, and a segment that comes in meanwhile is no foreign file."""
    import threading

    with AuditLogger(tmp_path / "audit", key_file=tmp_path / "key", enable_rotation=False) as audit:
        trail = auditkit.open(tmp_path / "audit", key_file=tmp_path / "key")
        sealer = auditkit.open(tmp_path / "audit", key_file=tmp_path / "key")
        done = threading.Event()

        def work() -> None:
            for number in range(25):
                for _ in range(40):
                    audit.log_event("busy", {"number": number})
                sealer.seal()
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        rounds = 0
        while not done.is_set() or rounds < 3:
            verification = trail.verify()
            assert verification.ok, say(verification)
            rounds += 1
        worker.join()
    verification = trail.verify()
    assert verification.ok
    assert verification.checked_events + verification.journal_events == 25 * 40 + 2


def test_verifying_the_same_store_twice_says_the_same(site: Site) -> None:
    """Verification changes nothing, so it can be repeated."""
    before = sorted((path, path.stat().st_mtime_ns) for path in site.path.rglob("*"))
    first, second = site.verify(), site.verify()
    assert first.findings == second.findings
    assert first.notes == second.notes
    assert sorted((path, path.stat().st_mtime_ns) for path in site.path.rglob("*")) == before


def test_a_missing_store_and_a_newer_one_say_what_to_do(tmp_path: Path, site: Site) -> None:
    """Opening tells a wrong folder from a damaged description and from a newer format."""
    with pytest.raises(auditkit.errors.StoreMissing, match="name the right folder"):
        auditkit.open(tmp_path / "nowhere")
    path = site.path / "store.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(auditkit.errors.FormatUnknown, match="newer auditkit"):
        site.open()
    path.write_text("{")
    with pytest.raises(auditkit.errors.StoreDamaged, match="restore"):
        site.open()
