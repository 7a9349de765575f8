"""What should be there and is gone: no verdict reads plain sound, and whoever was only killed isn't accused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import auditkit
from auditkit import AuditLogger
from auditkit.errors import StoreDamaged
from auditkit.integrity import Verification
from tests.integrity.stores import (
    CHECKOUT,
    MONDAY,
    TUESDAY,
    Chain,
    Sample,
    Site,
    add_events,
    findings_about,
    make_site,
    say,
)

SECRET = "a secret that only these tests know"


def empty(site: Site, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(site.path / folder)
        (site.path / folder).mkdir()


def is_plain(verification: Verification) -> bool:
    """Tell whether a verification reads as if there were nothing to say but what is said of every store."""
    return verification.ok and not verification.warnings


# -- everything -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("folders", [("events", "ledger", "journal"), ("events", "ledger"), ("ledger",)])
def test_a_removed_ledger_is_found(site: Site, folders: tuple[str, ...], deep: bool) -> None:
    """A sealed store says in its description that it has commits, so that removing all of them is a finding."""
    empty(site, *folders)
    verification = site.verify(deep=deep)
    assert verification.exit_code == 1
    (finding,) = findings_about(verification, "ledger/00000001.commit")
    assert (finding.kind, finding.severity) == ("missing", "finding")
    if "events" in folders:
        assert len(verification.findings) == 1, say(verification)
    else:
        orphans = {site.name(path) for path in site.segments()}
        assert {f.file for f in verification.findings} == {finding.file, *orphans}, say(verification)


@pytest.mark.parametrize("folder_too", [True, False])
def test_no_sealing_and_no_reading_covers_a_removed_ledger(site: Site, folder_too: bool) -> None:
    """What isn't sealed yet is not given as the whole, and no new ledger takes the missing one's place."""
    with AuditLogger(site.path, key_file=site.key_file, enable_rotation=False) as audit:
        audit.log_event("innocent")
    empty(site, "ledger")
    if folder_too:
        (site.path / "ledger").rmdir()
    journals = [path.read_bytes() for path in site.journals()]
    trail = site.open()
    for use in (site.seal, trail.events, trail.count, trail.statistics, trail.days, lambda: list(trail.stream())):
        with pytest.raises(StoreDamaged, match=r"expected the ledger's commits .* restore ledger/ and events/"):
            use()
    verification = site.verify()
    assert not verification.ok
    assert [finding.kind for finding in verification.findings if finding.file.startswith("ledger/")] == ["missing"]
    assert [path.read_bytes() for path in site.journals()] == journals
    assert not list((site.path / "ledger").glob("*"))


def test_a_removed_ledger_is_found_without_the_key_and_with_a_given_secret(site: Site, tmp_path: Path) -> None:
    """The description needs no key to be compared with the ledger, and no count of keys."""
    empty(site, "events", "ledger", "journal")
    verification = auditkit.open(site.path, key_file=tmp_path / "nowhere").verify()
    assert findings_about(verification, "ledger/00000001.commit"), say(verification)
    path = tmp_path / "audit"
    with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        audit.log_event("sealed")
    trail = auditkit.open(path, secret_key=SECRET)
    trail.seal()
    assert is_plain(trail.verify())
    for folder in ("events", "ledger", "journal"):
        shutil.rmtree(path / folder)
    assert [f.file for f in trail.verify(pin=False).findings] == ["ledger/00000001.commit"]
    told = trail.verify().findings
    assert [(f.kind, f.events) for f in told] == [("missing", None), ("rolled_back", 3)], "who has looked before knows"


def test_an_emptied_store_that_was_never_sealed_reads_as_one(sample: Sample, tmp_path: Path) -> None:
    """Nothing in such a store tells of what was there; that nothing is, and how many keys were drawn, is said first."""
    site = make_site(tmp_path / "site")
    assert [warning.found for warning in site.verify().warnings] == ["no event is on record"]
    for day in (MONDAY, TUESDAY):
        add_events(Chain(site, day, "a"), 3)
    assert is_plain(site.verify())
    empty(site, "journal")
    verification = site.verify()
    assert verification.ok
    drawn, nothing = verification.warnings
    assert drawn.found.startswith("2 keys (number 0, 1) drawn after the newest event on record")
    assert nothing.found == "no event is on record"
    assert str(verification).startswith(f"ok, but {drawn.found}; {nothing.found}: 0 events")
    assert "#1a7f37" not in verification._repr_html_(), "it isn't green"


# -- some of it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ed", "fay", "gus"])
def test_every_journal_that_is_deleted_is_said_in_the_headline(sample: Sample, site: Site, name: str) -> None:
    """Whatever a deleted journal's number is, and whether part of it was sealed, the verdict isn't plain any more."""
    chain = sample.chains[name]
    for path in site.journals():
        if chain.writer in path.name:
            path.unlink()
    verification = site.verify()
    assert verification.ok
    if name == "ed":
        # Its key is in use: the lines behind the sealed ones were cut off, as by a crash.
        assert any(chain.writer in str(note) for note in verification.notes)
    else:
        (warning,) = verification.warnings
        assert f"number {chain.number}" in warning.found
        assert warning.kind == ("rolled_back" if name == "gus" else "missing")
        assert warning.advice


@pytest.mark.parametrize("how", ["fast", "since"])
def test_a_deleted_journal_is_missed_where_not_every_key_is_looked_at(sample: Sample, site: Site, how: str) -> None:
    """The fast mode, and a range of dates, count writers and commits, and warn if more keys were drawn."""

    def verify() -> Verification:
        return site.verify(deep=False) if how == "fast" else site.open().verify(since="2020-03-04")

    assert is_plain(verify()), say(verify())
    (site.path / "journal" / sample.chains["gus"].path.name).unlink()
    (warning,) = verify().warnings
    assert warning.found.startswith("at least 1 key drawn and used by nothing")


def test_keys_that_the_findings_account_for_aren_t_warned_of(sample: Sample, site: Site) -> None:
    """A partition that is gone has used its writers' keys; only what goes beyond that is a warning."""
    shutil.rmtree(site.path / "events" / "date=2020-03-02")
    verification = site.verify()
    assert verification.verdict == "incomplete"
    assert not verification.warnings
    for path in site.journals():
        if sample.chains["fay"].writer in path.name:
            path.unlink()
    (warning,) = site.verify().warnings
    assert f", {sample.chains['fay'].number}) drawn and used by nothing" in warning.found
    assert "a writer that the findings name" in warning.found


def test_a_cut_ledger_is_said_in_the_headline(site: Site) -> None:
    """The newest commit removed together with its segments leaves a ledger that is sound in itself, and spare keys."""
    site.commits()[-1].unlink()
    shutil.rmtree(site.path / "events" / "date=2020-03-04")
    for deep in (True, False):
        verification = site.verify(deep=deep)
        (warning,) = verification.warnings
        assert verification.ok
        assert "a deleted journal or commit" in warning.found


def test_an_unsigned_writer_doesn_t_stand_for_a_key(tmp_path: Path) -> None:
    """Its first event says number 0, which it never drew: the journal that did is missed all the same."""
    site = make_site(tmp_path / "site")
    first = Chain(site, MONDAY, "a")
    add_events(first, 2)
    second = Chain(site, MONDAY, "b")
    add_events(second, 2)
    first.path.unlink()
    plant(second.lines, site, "20200302-cccccccccccccccc")
    (warning,) = site.verify().warnings
    assert "(number 0)" in warning.found


def test_an_older_key_file_is_said_to_count_nothing(sample: Sample, site: Site) -> None:
    """A restored key file has forgotten numbers, so that a deleted journal couldn't be missed."""
    state = json.loads(site.key_file.read_text())
    site.key_file.write_text(json.dumps(state | {"n": 0, "current": state["root"]}))
    (warning,) = site.verify().warnings
    assert "an older copy of the key file" in warning.found


def test_a_writer_that_another_one_followed_is_missed_by_its_name(tmp_path: Path) -> None:
    """A process's next writer names the one before it, in a signed event: also with a secret that counts nothing."""
    path, now = tmp_path / "audit", datetime.now(UTC)
    with AuditLogger(path, secret_key=SECRET, enable_rotation=False) as audit:
        first = audit.log_event("one", time=now - timedelta(days=2)).split(":")[0]
        second = audit.log_event("two", time=now).split(":")[0]
    trail = auditkit.open(path, secret_key=SECRET)
    assert is_plain(trail.verify())
    [journal] = (path / "journal").glob(f"{first}.*")
    journal.unlink()
    for _ in range(2):
        verification = trail.verify()
        (warning,) = verification.warnings
        assert verification.ok
        assert (warning.kind, warning.writer) == ("missing", first)
        assert second in warning.expected
        trail.seal()


# -- what is only a crash ---------------------------------------------------------------------------------------------

KILLED_BEHIND_DRAW = """
import os, signal, sys
from pathlib import Path
from auditkit.recording import Recorder
from auditkit.sealing import seal_store
from auditkit.store.description import read_description
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout

class KilledBehindDraw(KeyFile):
    def draw(self):
        super().draw()
        os.kill(os.getpid(), signal.SIGKILL)

layout = Layout(Path(sys.argv[1]))
keys = KilledBehindDraw(Path(sys.argv[2]))
if sys.argv[3] == "record":
    Recorder(layout, read_description(layout).store, keys, max_part_bytes=None).record(0, "x", 0)
else:
    seal_store(layout, keys)
"""


@pytest.mark.parametrize("work", ["record", "seal"])
def test_who_is_killed_behind_drawing_a_key_is_not_accused(site: Site, work: str) -> None:
    """A process between key and first line, a sealing between key and commit: sound, and the unused key is said."""
    drawn = site.keys.count_drawn(site.store_id)
    command = [sys.executable, "-c", KILLED_BEHIND_DRAW, str(site.path), str(site.key_file), work]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(2):
        verification = site.verify()
        assert (verification.verdict, verification.exit_code) == ("ok", 0), say(verification)
        (warning,) = verification.warnings
        assert f"(number {drawn})" in warning.found
        site.seal()


def test_who_is_killed_behind_the_first_commit_is_not_accused(tmp_path: Path) -> None:
    """The description is completed behind the first commit: without a public key one commit is sound, two aren't."""
    site = make_site(tmp_path / "site")
    description = site.path / "store.json"
    before = description.read_bytes()
    add_events(Chain(site, MONDAY, "a"), 3)
    site.seal()
    completed = description.read_bytes()
    description.write_bytes(before)
    assert is_plain(site.verify())
    add_events(Chain(site, MONDAY, "b"), 3)
    site.seal()
    assert json.loads(description.read_bytes()) == json.loads(completed)
    description.write_bytes(before)
    assert [finding.file for finding in site.verify().findings] == ["store.json"]


def test_a_sealing_that_finds_nothing_claims_no_ledger(tmp_path: Path) -> None:
    """A store without events may be sealed: it says nothing of commits that it hasn't."""
    site = make_site(tmp_path / "site")
    assert site.seal().commit is None
    assert site.verify().ok


# -- what is there and isn't judged by others -------------------------------------------------------------------------


def test_the_fast_mode_checks_the_events_of_journals(sample: Sample, site: Site) -> None:
    """No hash of a file stands for what isn't sealed, so the fast mode checks it event by event."""
    path = site.path / "journal" / sample.chains["gus"].path.name
    path.write_bytes(path.read_bytes().replace(b'"type":"kind.3"', b'"type":"kind.4"', 1))
    (finding,) = site.verify(deep=False).findings
    assert (finding.kind, finding.file) == ("tampered", site.name(path))


def test_a_forged_line_that_nothing_stands_beside_isn_t_sealed(sample: Sample, site: Site) -> None:
    """All lines but a forged last one are removed before the sealing, which knows the writer's key all the same."""
    path = site.path / "journal" / sample.chains["ed"].path.name
    last = json.loads(path.read_bytes().splitlines()[-1]) | {"actor": "mallory"}
    path.write_bytes(json.dumps(last, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    result = site.seal()
    assert result.quarantined == 1
    (finding,) = site.verify().findings
    assert (finding.kind, finding.file) == ("tampered", f"ledger/{result.commit:08}.commit")
    assert "mallory" not in site.open().events()["actor"].tolist()


@pytest.mark.parametrize("folder", ["journal", "ledger"])
def test_a_folder_that_is_a_file_is_found(site: Site, folder: str) -> None:
    """Verification says so and goes on with the rest."""
    shutil.rmtree(site.path / folder)
    (site.path / folder).write_text("nothing")
    verification = site.verify()
    assert verification.verdict == "findings"
    assert [finding.kind for finding in findings_about(verification, folder)] == ["tampered"]


# -- what nobody signed -----------------------------------------------------------------------------------------------


def plant(lines: list[bytes], site: Site, writer: str) -> Path:
    """Plant a journal of a writer of its own, made of another one's lines without their MACs."""
    path = site.layout.part(writer, 0)
    for line in lines:
        fields = json.loads(line) | {"writer": writer, "mac": None}
        with path.open("ab") as file:
            file.write(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return path


def test_an_unsigned_writer_among_signed_ones_is_found(sample: Sample, site: Site) -> None:
    """Whoever can write to the store can add a journal without MACs: in a store that signs it is a finding."""
    path = plant(sample.chains["gus"].lines, site, "20200304-mmmmmmmmmmmmmmmm")
    for name in (site.name(path), "events/date=2020-03-04/*.parquet"):
        verification = site.verify()
        assert verification.exit_code == 1
        (finding,) = verification.findings
        assert (finding.kind, finding.severity) == ("unverifiable", "finding")
        assert Path(finding.file).match(name)
        assert (finding.first_seq, finding.last_seq, finding.events) == (0, 11, 12)
        assert finding.time_min is not None
        assert "a store of its own" in finding.advice
        site.seal()


def test_a_store_that_never_signs_is_incomplete_not_accused(tmp_path: Path) -> None:
    """An application that doesn't sign has a store of its own: nothing there is proved, and nothing is accused."""
    for _ in range(2):
        with AuditLogger(
            tmp_path / "audit", key_file=tmp_path / "key", enable_integrity=False, enable_rotation=False
        ) as audit:
            audit.log_event("unsigned")
        trail = auditkit.open(tmp_path / "audit", key_file=tmp_path / "key")
        assert trail.verify().exit_code == 3
        trail.seal()
    with AuditLogger(tmp_path / "audit", key_file=tmp_path / "key", enable_rotation=False) as audit:
        audit.log_event("signed")
    verification = trail.verify()
    assert verification.exit_code == 1, say(verification)
    assert {f.kind for f in verification.findings} == {"unverifiable"}
