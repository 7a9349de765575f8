"""Checkpoints from outside: a truncated or rolled-back store is found by default, and nothing else is accused."""

from __future__ import annotations

import base64
import email.message
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import auditkit
from auditkit import note
from auditkit.anchoring.copies import append_checkpoint
from auditkit.anchoring.pins import locate_pin, read_pin
from auditkit.errors import UsageError
from auditkit.integrity import Verification
from auditkit.store.keyring import FORWARD_SECURE
from auditkit.store.ledger import read_commit
from tests.cli.running import run_cli
from tests.integrity.stores import say
from tests.keyed import MODES, Keyed, make_keyed


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Keyed:
    """A store of three commits."""
    site = make_keyed(tmp_path / "site", request.param)
    for _ in range(3):
        site.record()
        site.seal()
    return site


def go_on(site: Keyed, times: int = 1) -> None:
    for _ in range(times):
        site.record()
        site.seal()


def cut(site: Keyed, commits: int = 1, *, segments: bool = True) -> None:
    """Cut off the newest commits, with their segments or without."""
    for path in site.commits()[-commits:]:
        if segments:
            for entry in read_commit(site.layout, int(path.stem)).add:
                (site.path / entry.path).unlink()
        path.unlink()


def verify(site: Keyed, *against: object, pin: bool = False, **more: object) -> Verification:
    return site.open().verify(against=list(against), pin=pin, **more)  # type: ignore[arg-type]


def statuses(verification: Verification) -> list[str]:
    return [anchor.status for anchor in verification.anchors]


def kinds(verification: Verification) -> set[str]:
    return {finding.kind for finding in verification.findings}


def test_each_verification_pins_what_it_saw(site: Keyed) -> None:
    """Nothing to do for it: the second verification has its tail anchored by what the first one saw."""
    first, second = verify(site, pin=True), verify(site, pin=True)
    assert (first.anchored, second.anchored) == (False, True)
    pin = read_pin(site.store_id)
    assert pin is not None
    assert (pin.newest.number, pin.newest.size, pin.checkpoint) == (3, second.tree_size, second.checkpoint)
    assert [commit.number for commit in pin.commits] == [1, 2, 3]
    go_on(site)
    grown = verify(site, pin=True)
    assert statuses(grown) == ["ok"]
    assert not grown.anchored
    assert verify(site, pin=True).anchored


def test_without_a_pin_nothing_is_written(site: Keyed, isolated_user: Path) -> None:
    """Neither compared nor remembered."""
    assert verify(site).anchors == ()
    assert not list(isolated_user.rglob("*.json"))


@pytest.mark.parametrize("how", [{"deep": False}, {"since": "2000-01-01", "until": "2000-01-02"}, {"since": "1h"}])
def test_partial_verifications_pin_and_compare_too(site: Keyed, how: dict[str, object]) -> None:
    """The ledger is read as a whole whatever else is: fast, or of a range without events."""
    verify(site, pin=True, **how)
    assert verify(site, pin=True, **how).anchored
    cut(site)
    found = verify(site, pin=True, **how)
    assert kinds(found) == {"rolled_back"}, say(found)


@pytest.mark.parametrize("segments, kind", [(True, "rolled_back"), (False, "truncated")])
def test_a_cut_ledger_is_found_commit_by_commit(site: Keyed, segments: bool, kind: str) -> None:
    """Each commit that is gone is named with its time and events; what is left of them tells how it was done."""
    verify(site, pin=True)
    cut(site, 2, segments=segments)
    found = verify(site, pin=True)
    told = [finding for finding in found.findings if finding.kind == kind and finding.file.startswith("ledger/")]
    assert [finding.file for finding in told] == ["ledger/00000002.commit", "ledger/00000003.commit"], say(found)
    assert [finding.events for finding in told] == [4, 4]
    assert all(finding.time_min is not None for finding in told)
    assert found.exit_code == 1
    again = verify(site, pin=True)
    assert kinds(again) == kinds(found)
    pin = read_pin(site.store_id)
    assert pin is not None
    assert pin.newest.number == 3


def test_an_older_copy_is_found_and_a_restore_is_pinned_once(site: Keyed, tmp_path: Path) -> None:
    """As it is, and gone on otherwise; who restored it knows why, and says so with repin."""
    older = site.copy(tmp_path / "older")
    go_on(site)
    verify(site, pin=True)
    assert kinds(verify(older, pin=True)) == {"rolled_back"}
    go_on(older, 2)
    forked = verify(older, pin=True)
    assert kinds(forked) == {"rolled_back"}, say(forked)
    assert any("since commit 3" in finding.found for finding in forked.findings)
    assert verify(older, pin=True, repin=True).ok
    assert verify(older, pin=True).anchored
    # The user's other copy is now the one that was left behind.
    assert kinds(verify(site, pin=True)) == {"rolled_back"}


def test_two_copies_of_a_store_are_one_history_while_they_are(site: Keyed, tmp_path: Path) -> None:
    """A backup is behind, which is told; verified without the pin it is sound."""
    backup = site.copy(tmp_path / "backup")
    verify(site, pin=True)
    assert verify(backup, pin=True).anchored
    go_on(site)
    verify(site, pin=True)
    assert not verify(backup, pin=True).ok
    assert verify(backup).ok


def test_a_damaged_pin_is_warned_of_and_stays(site: Keyed) -> None:
    """Whoever damages it hides a removal no better than whoever removes it: it is told, and not replaced."""
    verify(site, pin=True)
    path = locate_pin(site.store_id)
    path.write_bytes(path.read_bytes()[:-30])
    before = path.read_bytes()
    found = verify(site, pin=True)
    assert found.ok
    assert any("can't be read" in warning.found for warning in found.warnings)
    assert path.read_bytes() == before
    assert not verify(site, pin=True, repin=True).warnings or site.key.mode == FORWARD_SECURE
    assert verify(site, pin=True).anchored


def test_a_state_folder_that_takes_nothing_is_noted(site: Keyed, isolated_user: Path) -> None:
    """The verdict doesn't depend on it."""
    folder = isolated_user / ".local" / "state"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("x")
    found = verify(site, pin=True)
    assert found.ok
    assert any("couldn't be written" in item.found for item in found.notes)
    assert not any("can't be read" in item.found for item in found.notes)


def test_a_damaged_ledger_is_not_pinned(site: Keyed) -> None:
    """What nobody can believe doesn't become what was seen."""
    path = site.layout.commit(2)
    path.write_bytes(path.read_bytes().replace(b'"why":"seal"', b'"why":"sael"'))
    assert not verify(site, pin=True).ok
    assert read_pin(site.store_id) is None


def quote(text: str) -> str:
    return "".join(f"> {line}\r\n" for line in text.splitlines())


def write_mail(text: str, encoding: str) -> bytes:
    mail = email.message.EmailMessage()
    mail["Subject"] = "checkpoint"
    mail.set_content(text, cte=encoding)
    return mail.as_bytes().replace(b"\n", b"\r\n")


def test_a_checkpoint_is_taken_from_wherever_it_was_kept(site: Keyed, tmp_path: Path) -> None:
    """The note, a file with several, a mail, its quotation, JSON, a receipt, a proof, a page, a commit."""
    trail = site.open()
    text = trail.checkpoint()
    event_id = sorted(site.read_ids())[0]
    receipt = trail.receipt(event_id).save(tmp_path / "r.tlog-proof")
    commit = tmp_path / "commit"
    shutil.copy(site.commits()[-1], commit)
    append_checkpoint(tmp_path / "many", text)
    go_on(site)
    append_checkpoint(tmp_path / "many", site.open().checkpoint())
    files = {
        "quoted": quote(text).encode(),
        "mail": write_mail(f"Hello,\n\n{text}\nbye", "8bit"),
        "encoded": write_mail(text, "quoted-printable"),
        "page.html": f"<footer><pre>{text}</pre></footer>".encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for kept in (text, str(receipt), receipt, commit, *(tmp_path / name for name in files)):
        verification = verify(site, kept)
        assert verification.ok, f"{kept}\n{say(verification)}"
        assert statuses(verification) == ["ok"], kept
    assert statuses(verify(site, tmp_path / "many")) == ["ok", "ok"]
    assert verify(site, text, tmp_path / "many").anchored
    assert statuses(site.open().verify(against=text, pin=False)) == ["ok"]
    cut(site)
    gone = verify(site, text, tmp_path / "many", receipt)
    assert sorted(statuses(gone)) == ["ok", "ok", "ok", "rolled_back"]
    assert kinds(gone) == {"rolled_back"}


def test_a_report_s_footer_is_a_checkpoint(site: Keyed, tmp_path: Path) -> None:
    """`auditkit integrity --against report.html`: what the report knew of is there, or is missed."""
    made = run_cli(
        "report", "daily", "--store", site.path, "--key-file", site.key_file, "--output", tmp_path / "report.html"
    )
    assert made.code == 0, made.err
    assert statuses(verify(site, tmp_path / "report.html")) == ["ok"]
    cut(site)
    assert kinds(verify(site, tmp_path / "report.html")) == {"rolled_back"}


def test_another_store_s_checkpoint_is_refused(site: Keyed, tmp_path: Path) -> None:
    """And what holds none, isn't there, or is no file."""
    other = make_keyed(tmp_path / "other")
    other.record()
    other.seal()
    (tmp_path / "other.txt").write_text(other.open().checkpoint())
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for kept in (
        other.open().checkpoint(), tmp_path / "other.txt", tmp_path / "empty", tmp_path / "none", tmp_path / "pipe",
        tmp_path, "two\nlines", site.open().checkpoint()[:-30] + "\n",
    ):  # fmt: skip
        with pytest.raises(UsageError):
            verify(site, kept)


def forge(site: Keyed, size: int, root: bytes, seed: bytes = bytes(32)) -> str:
    origin = f"auditkit/{site.store_id}"
    return note.sign_note(note.format_checkpoint(note.Checkpoint(origin, size, root)), origin, seed)


def list_forgeries(site: Keyed) -> Iterable[str]:
    text = site.open().checkpoint()
    signed = note.parse_checkpoint(note.parse_note(text).text)
    yield forge(site, signed.size, bytes(32))
    yield forge(site, signed.size + 1000, bytes(32))
    yield forge(site, 1, signed.root)
    for size in (signed.size + 7, 3):
        yield text.replace(f"\n{signed.size}\n", f"\n{size}\n")
    yield text.replace(base64.b64encode(signed.root).decode(), base64.b64encode(bytes(32)).decode())


def test_a_forged_checkpoint_says_nothing(site: Keyed) -> None:
    """Whatever it claims, nobody is accused by a signature that isn't the store's."""
    public = str(site.open().verify(pin=False).public_key)
    for text in list_forgeries(site):
        for key in (None, public):
            verification = site.open().verify(against=text, public_key=key, pin=False)
            assert verification.ok, say(verification)
            assert statuses(verification) == ["unverifiable"]
            assert not verification.anchored
    offline = auditkit.open(site.path, key_file=site.roots.path)
    assert all(offline.verify(against=text, pin=False).ok for text in list_forgeries(site))


def test_a_forgery_beside_the_true_one_hides_nothing(site: Keyed, tmp_path: Path) -> None:
    """The same words with a signature that doesn't hold, in front of it or behind it, in one file or another."""
    text = site.open().checkpoint()
    forged = forge(site, *_size_and_root(text))
    cut(site)
    for kept in ([f"{forged}\n{text}"], [f"{text}\n{forged}"], [forged, text]):
        verification = verify(site, *kept)
        assert kinds(verification) == {"rolled_back"}, say(verification)


def _size_and_root(text: str) -> tuple[int, bytes]:
    told = note.parse_checkpoint(note.parse_note(text).text)
    return told.size, told.root


def test_a_true_checkpoint_that_the_tree_never_had_is_a_finding(site: Keyed) -> None:
    """Signed by the store's key: of the future, of another history of a size it had, of a size it never had."""
    seed, size = site.key.signing_seed, site.prove().tree_size
    for other in (size + 50, size, size - 1, 1):
        verification = verify(site, forge(site, other, bytes([1]) * 32, seed))
        assert statuses(verification) == ["rolled_back"], say(verification)
        assert kinds(verification) == {"rolled_back"}


def test_a_note_that_a_retired_key_signed_still_counts(site: Keyed) -> None:
    """It was kept before the rotation; the ledger says which keys were the store's."""
    text = site.open().checkpoint()
    public = str(site.open().verify(pin=False).public_key)
    site.rotate()
    between = site.open().checkpoint()
    site.rotate()
    newest = site.open().checkpoint()
    for key in (None, public):
        verification = site.open().verify(against=[text, between, newest], public_key=key, pin=False)
        assert statuses(verification) == ["ok"] * 3, say(verification)
        assert verification.anchored
    verify(site, pin=True)
    cut(site, 2)
    found = verify(site, text, between, newest, pin=True)
    assert kinds(found) >= {"rolled_back"}, say(found)


def test_a_pinned_store_that_is_rotated_and_retired_stays_sound(site: Keyed) -> None:
    """What is said in the ledger is no rollback."""
    verify(site, pin=True)
    site.rotate()
    assert verify(site, pin=True).ok
    go_on(site)
    found = verify(site, pin=True)
    assert found.ok, say(found)
    assert verify(site, pin=True).anchored
