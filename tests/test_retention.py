"""Retention: what was removed with authority is gone, said for ever, and accuses nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

import auditkit
from auditkit.errors import StoreDamaged, UsageError
from auditkit.proof import verify_consistency_proof
from auditkit.retention import MAX_POLICY, retire_days
from auditkit.store.ledger import load_state
from tests.cli.running import find_unprintable, run_on_terminal, strip_styles
from tests.integrity.stores import CHECKOUT, MONDAY, TUESDAY, WEDNESDAY, Chain, Site, add_events, make_site, say
from tests.keyed import MODES, make_keyed

LATER = WEDNESDAY + timedelta(days=7)


def fill(site: Site) -> dict[date, list[Chain]]:
    """Record on three dates, two writers each, the first of them sealed in two commits."""
    chains: dict[date, list[Chain]] = {}
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        chains[day] = [Chain(site, day, name) for name in "ab"]
        add_events(chains[day][0], 4)
        site.seal()
        for chain in chains[day]:
            add_events(chain, 3)
            chain.close()
        site.seal()
    return chains


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store of three sealed dates."""
    site = make_site(tmp_path / "site")
    fill(site)
    return site


def retire(site: Site, before: date, policy: str = "two days") -> int:
    return retire_days(site.layout, site.keys, before, policy).events


def check_sound(site: Site, *, deep: bool = True) -> None:
    """Assert that nothing is accused and nothing warned of."""
    verification = site.verify(deep=deep)
    assert verification.ok, say(verification)
    assert not verification.warnings, say(verification)


def test_what_is_retired_is_gone_and_said(site: Site) -> None:
    """The files and events are gone, one note for each date says why, and neither finding nor warning comes of it."""
    before = site.open().events(include_internal=True)
    result = retire_days(site.layout, site.keys, WEDNESDAY, "two days")
    days = before["time"].dt.date
    assert (result.days, result.events) == ((MONDAY, TUESDAY), int((days < WEDNESDAY).sum()))
    assert result.commit == len(site.commits())
    assert not any((site.path / path).exists() for path in result.paths)
    assert sorted(path.name for path in (site.path / "events").iterdir()) == ["date=2020-03-04"]
    events = site.open().events(include_internal=True)
    assert list(events["id"]) == list(before[days >= WEDNESDAY]["id"])
    for deep in (True, False):
        check_sound(site, deep=deep)
    notes = [note for note in site.verify().notes if note.kind == "retired"]
    assert [(note.severity, note.events) for note in notes] == [("note", 14), ("note", 14)]
    assert all("two days" in note.found for note in notes)
    assert [(p.date, p.status) for p in site.verify().partitions] == [
        (MONDAY, "retired"), (TUESDAY, "retired"), (WEDNESDAY, "ok"),
    ]  # fmt: skip
    assert [day for day in site.open().days() if day < WEDNESDAY] == []


def test_retiring_again_finds_nothing(site: Site) -> None:
    """No commit says that nothing was removed."""
    retire(site, TUESDAY)
    commits = len(site.commits())
    assert retire_days(site.layout, site.keys, TUESDAY, "again").commit is None
    assert len(site.commits()) == commits
    assert retire(site, LATER, "all of it") == 28
    assert not site.segments()
    check_sound(site)
    chain = Chain(site, MONDAY, "c")
    add_events(chain, 2)
    chain.close()
    site.seal()
    check_sound(site)
    assert [p.status for p in site.verify().partitions] == ["ok", "retired", "retired"]


def test_proofs_over_a_retirement_hold(site: Site) -> None:
    """Receipts that were made before stay valid, none can be made after, and the tree only grew."""
    trail = site.open()
    event_id = str(trail.events(columns=["id"])["id"].iloc[0])
    receipt, old = trail.receipt(event_id), trail.checkpoint()
    retire(site, WEDNESDAY)
    public = str(site.verify().public_key)
    assert auditkit.verify_receipt(receipt.text, public).ok
    with pytest.raises(UsageError, match="retired by commit"):
        site.open().receipt(event_id)
    assert verify_consistency_proof(site.open().prove(old), old, public)
    assert site.open().verify(against=old, pin=False).ok
    left = str(site.open().events(columns=["id"])["id"].iloc[0])
    assert auditkit.verify_receipt(site.open().receipt(left).text, public).ok


def test_a_date_with_a_journal_stays_as_a_whole(site: Site) -> None:
    """Its writer may have more to say; without the first event nobody could prove it."""
    late = Chain(site, MONDAY, "z", owned=True)
    add_events(late, 2)
    assert retire(site, WEDNESDAY) == 14
    assert len([path for path in site.segments() if "2020-03-02" in str(path)]) == 2
    late.close()
    site.seal()
    assert retire(site, WEDNESDAY) == 14 + 4
    check_sound(site)


@pytest.mark.parametrize("mode", MODES)
def test_a_store_of_either_kind_is_retired_and_verified_with_its_root(tmp_path: Path, mode: str) -> None:
    """The numbers of what was removed count as used, though nobody can look any more; rotations don't change that."""
    site = make_keyed(tmp_path / "site", mode)
    chain = Chain(site, MONDAY)
    add_events(chain, 3)
    chain.close()
    site.seal()
    site.rotate()
    site.record()
    site.seal()
    assert retire(site, TUESDAY) == 5
    site.rotate()
    for deep in (True, False):
        verification = site.prove(deep=deep)
        assert verification.ok, say(verification)
        assert not verification.warnings, say(verification)
    assert site.open().verify(public_key=verification.public_key, pin=False).ok


def test_the_same_removal_by_hand_is_found(site: Site) -> None:
    """Authority makes the difference: without a commit it is a finding, or incomplete for a date as a whole."""
    other = site.copy(site.folder.with_name("other"))
    for path in other.segments()[:1]:
        path.unlink()
    assert [finding.kind for finding in other.verify().findings] == ["missing"]
    retire(site, TUESDAY)
    site.layout.commit(len(site.commits())).unlink()
    assert not site.verify().ok


KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from tests.integrity.stores import Site
from auditkit.retention import retire_days
site = Site(Path(sys.argv[1]))
left = int(sys.argv[2])
def watch(event, arguments):
    global left
    if event == "os.remove" and str(arguments[0]).endswith(".parquet") and Path(arguments[0]).exists():
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
retire_days(site.layout, site.keys, date.fromisoformat(sys.argv[3]), "two days")
"""


@pytest.mark.parametrize("act", ["seal", "retire"])
@pytest.mark.parametrize("place", [1, 3])
def test_a_removal_that_was_killed_is_finished_by_the_next_act(site: Site, act: str, place: int) -> None:
    """Between its commit and the last file: what is said to be gone is gone at the latest with the next sealing."""
    finished = subprocess.run(
        [sys.executable, "-c", KILLED, site.folder, str(place), str(WEDNESDAY)], cwd=CHECKOUT, check=False
    )
    assert finished.returncode == -signal.SIGKILL
    retired = load_state(site.layout, site.store_id).retired
    assert len(retired) == 4
    assert len([path for path in site.segments() if site.name(path) in retired]) == 4 - place + 1
    assert {e.date() for e in site.open().events()["time"]} == {WEDNESDAY}
    if act == "seal":
        site.seal()
    else:
        assert retire(site, WEDNESDAY) == 0
    assert not any((site.path / path).exists() for path in retired)
    check_sound(site)


def test_a_removal_that_is_under_way_accuses_nobody(site: Site) -> None:
    """A verification between the commit and the last file: a segment that was retired isn't a stranger's file."""
    copy = site.copy(site.folder.with_name("copy"))
    retire(site, WEDNESDAY)
    for path in load_state(site.layout, site.store_id).retired:
        (site.path / path).parent.mkdir(exist_ok=True)
        (site.path / path).write_bytes((copy.path / path).read_bytes())
    assert site.verify().ok, say(site.verify())


def test_what_was_retired_and_put_back_is_removed_again(site: Site) -> None:
    """A backup that was restored over the store: nobody reads it, and the next sealing removes it."""
    copy = site.copy(site.folder.with_name("copy"))
    retire(site, WEDNESDAY)
    subprocess.run(["cp", "-r", f"{copy.path}/events", site.path], check=True)
    assert len(site.segments()) == 6
    assert {e.date() for e in site.open().events()["time"]} == {WEDNESDAY}
    site.seal()
    assert len(site.segments()) == 2
    check_sound(site)


def test_a_folder_that_leads_elsewhere_loses_nothing(site: Site, tmp_path: Path) -> None:
    """A link in a date's place: nothing is removed where it leads to, even if root retires."""
    elsewhere = tmp_path / "elsewhere"
    (site.path / "events" / "date=2020-03-02").rename(elsewhere)
    (site.path / "events" / "date=2020-03-02").symlink_to(elsewhere)
    with pytest.raises(StoreDamaged, match="symbolic link"):
        retire(site, TUESDAY)
    assert len(list(elsewhere.iterdir())) == 2


@pytest.mark.parametrize("policy", ["", " \n", "x" * (MAX_POLICY + 1), "lone \ud800"])
def test_a_policy_that_cannot_be_kept_is_refused(site: Site, policy: str) -> None:
    """Before a number is drawn; nothing is removed."""
    before = site.key_file.read_bytes()
    with pytest.raises(UsageError, match="policy"):
        retire(site, LATER, policy)
    assert site.key_file.read_bytes() == before
    assert len(site.segments()) == 6


def test_a_hostile_policy_does_nothing_to_a_terminal_or_a_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is text that somebody wrote: it is shown as such wherever a verification is."""
    retire(site, TUESDAY, "<script>alert(1)</script>\x1b[31m\u202e" + "long " * 100)
    verification = site.verify()
    assert "<script" not in verification._repr_html_()
    assert not find_unprintable(str(verification))
    shown = run_on_terminal("integrity", "--no-pin", "--store", site.path, "--key-file", site.key_file)
    assert shown.code == 0, shown.err
    assert not find_unprintable(strip_styles(shown.out))
    assert "\u202e" not in shown.out
    with pytest.raises(UsageError, match="retired") as caught:
        site.open().receipt(f"20200302-{'a' * 16}:1")
    assert not find_unprintable(str(caught.value))


def test_nothing_is_removed_that_the_ledger_cannot_say(site: Site) -> None:
    """A ledger that can't be continued: every file stays."""
    commit = site.layout.commit(2)
    commit.write_bytes(commit.read_bytes().replace(b'"why":"seal"', b'"why":"sael"'))
    with pytest.raises(StoreDamaged):
        retire(site, LATER)
    assert len(site.segments()) == 6
