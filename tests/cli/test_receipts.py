"""Receipts and proofs on the command line: made from a store, checked without one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import auditkit
from auditkit import note
from auditkit.cosignature import CosignerKey, cosign_text
from auditkit.proof import format_proof, parse_proof
from auditkit.receipts import Receipt, make_receipt
from auditkit.store.layout import Layout
from tests.cli.conftest import Store
from tests.cli.running import (
    COMMAND,
    find_unprintable,
    find_wide_lines,
    run_cli,
    run_on_terminal,
    strip_styles,
)


@dataclass(frozen=True)
class Office:
    """A folder with what somebody has who has neither the store nor its secret key."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "crm.pub"

    @property
    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("*.note"))


@pytest.fixture
def office(store: Store, tmp_path: Path) -> Office:
    """The public key and each checkpoint, as they were handed out; the newest covers the hostile events."""
    folder = tmp_path / "office"
    folder.mkdir()
    auditkit.open(store.path, key_file=store.key).seal()
    description = json.loads((store.path / "store.json").read_bytes())
    (folder / "crm.pub").write_text(f"# the CRM's audit trail\n{description['public_key']}\n")
    for path in (store.path / "ledger").glob("*.commit"):
        (folder / f"{path.stem}.note").write_bytes(path.read_bytes().partition(b"\n")[2])
    return Office(folder)


def list_ids(store: Store, kind: str) -> list[str]:
    return auditkit.open(store.path).events(type=kind)["id"].tolist()


def make(store: Store, event_id: str) -> Receipt:
    return make_receipt(Layout(store.path), auditkit.open(store.path).store_id, event_id)


def test_a_receipt_is_made_and_checked_without_the_store(store: Store, office: Office) -> None:
    """One person writes a receipt, another checks it with nothing but the public key, and sees the event."""
    event_id = list_ids(store, "operation")[0]
    made = run_cli("receipt", event_id, *store.options, cwd=office.folder)
    assert (made.code, made.out) == (0, "")
    name = event_id.replace(":", "-") + ".tlog-proof"
    assert made.err.startswith(f"receipt of {event_id}: operation at 2026-11-22T22:30:00.000003+00:00, leaf ")
    assert made.err.endswith(f"\nto {name}\n")

    store.path.rename(store.path.with_name("gone"))
    checked = run_cli("verify-receipt", name, "--public-key", "crm.pub", cwd=office.folder)
    assert checked.code == 0, checked.err
    assert checked.out.startswith(f"VALID: event {event_id}\n")
    assert "time        2026-11-22 22:30:00.000003 UTC, as the process said\n" in checked.out
    assert "duration    750 ms\n" in checked.out
    assert "message     no answer from host 3\n" in checked.out
    assert "TimeoutError: no answer from host 3\n" in checked.out
    assert "Not shown" in checked.err

    exact = run_cli("verify-receipt", name, "--public-key", "crm.pub", "--format", "json", cwd=office.folder)
    told = json.loads(exact.out)
    assert (exact.code, told["valid"], told["problems"]) == (0, True, [])
    assert told["event"]["id"] == event_id
    assert told["event"]["time"] == "2026-11-22T22:30:00.000003Z"
    assert (told["event"]["details"], told["event"]["duration_us"], told["mac"]) == (None, 750_000, True)


def test_a_receipt_goes_where_it_is_sent(store: Store, office: Office) -> None:
    """To a file, a folder or a pipe go the same bytes; never into the store."""
    event_id = list_ids(store, "lead.ingested")[0]
    target, folder = office.folder / "order.tlog-proof", office.folder / "receipts"
    folder.mkdir()
    piped = run_cli("receipt", event_id, "--output", "-", *store.options)
    assert (piped.code, piped.err) == (0, "")
    for output in (target, folder):
        assert run_cli("receipt", event_id, "--output", output, *store.options).code == 0
    (inside,) = folder.iterdir()
    assert target.read_text() == inside.read_text() == piped.out
    refused = run_cli("receipt", event_id, "--output", store.path / "r.tlog-proof", *store.options)
    assert refused.code == 2
    assert "outside the store" in refused.err


def test_a_receipt_is_checked_from_a_pipe_with_the_key_itself(store: Store, office: Office) -> None:
    """The key can be given as text, as a file, or as a store.json that somebody handed out."""
    text = make(store, list_ids(store, "lead.ingested")[0]).text
    for key in (office.key.read_text().splitlines()[1], str(office.key), str(store.path / "store.json")):
        arguments = [*COMMAND, "verify-receipt", "-", "--public-key", key]
        finished = subprocess.run(arguments, input=text.encode(), capture_output=True, check=False)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout.startswith(b"VALID: ")


def test_a_forged_receipt_is_refused_and_its_claim_is_marked(store: Store, office: Office) -> None:
    """What a forged receipt says is shown as a claim, and the exit code is 1."""
    path = office.folder / "forged.tlog-proof"
    proof = parse_proof(make(store, list_ids(store, "operation")[0]).text)
    assert proof.extra is not None
    changed = proof.extra.replace(b'"outcome":"failure"', b'"outcome":"success"')
    path.write_text(format_proof(type(proof)(proof.index, proof.hashes, proof.checkpoint, changed)))
    checked = run_cli("verify-receipt", path, "--public-key", office.key)
    assert checked.code == 1
    assert checked.out.startswith("NOT VALID: expected a path from leaf ")
    assert "\nWhat it claims, and nothing vouches for\n" in checked.out
    assert find_wide_lines(checked.out) == []
    told = json.loads(run_cli("verify-receipt", path, "--public-key", office.key, "--format", "json").out)
    assert (told["valid"], len(told["problems"])) == (False, 1)

    path.write_bytes(b"\x1b[31m\xff")
    checked = run_cli("verify-receipt", path, "--public-key", office.key)
    assert (checked.code, checked.err) == (1, "")
    assert checked.out.startswith("NOT VALID: expected UTF-8")


def test_no_receipt_acts_on_the_terminal(store: Store, office: Office) -> None:
    """Every hostile event's receipt is shown in 80 columns of printable text, and its JSON holds nothing to act on."""
    for number, event_id in enumerate(list_ids(store, "form.sent")):
        path = make(store, event_id).save(office.folder / f"{number}.tlog-proof")
        shown = run_on_terminal("verify-receipt", path, "--public-key", office.key)
        assert shown.code == 0, shown.err
        assert "\x1b[" in shown.out
        assert find_unprintable(strip_styles(shown.out)) == []
        assert find_wide_lines(strip_styles(shown.out)) == []
    exact = run_on_terminal("verify-receipt", path, "--public-key", office.key, "--format", "json")
    assert find_unprintable(exact.out) == []
    assert json.loads(exact.out)["event"]["id"] == event_id


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["r.tlog-proof"], 2, "would prove nothing"),
        ([], 2, "FILE"),
        (["nothing.tlog-proof", "--public-key", "crm.pub"], 4, "No such file"),
        (["r.tlog-proof", "--public-key", "nothing.pub"], 4, "nothing.pub"),
        (["r.tlog-proof", "--public-key", "r.tlog-proof"], 2, "public key"),
        (["r.tlog-proof", "--public-key", "crm.pub", "--cosigner", "PRIVATE+KEY+s3cret"], 2, "18 other characters"),
        (["r.tlog-proof", "--public-key", "crm.pub", "--cosigner", "r.tlog-proof"], 2, "found others"),
    ],
)
def test_a_call_that_cannot_be_meant_is_told(
    store: Store, office: Office, arguments: list[str], code: int, message: str
) -> None:
    """A missing key, a missing file and a wrong file are told apart from a receipt that isn't valid."""
    make(store, list_ids(store, "lead.ingested")[0]).save(office.folder / "r.tlog-proof")
    finished = run_cli("verify-receipt", *arguments, cwd=office.folder)
    assert (finished.code, finished.out) == (code, "")
    assert message in finished.err
    assert "s3cret" not in finished.err


def test_an_unknown_or_unsealed_event_has_no_receipt(store: Store) -> None:
    """The id is looked for in the ledger and in the journals, and the answer says where it is."""
    finished = run_cli("receipt", "L-1042", *store.options)
    assert finished.code == 2
    assert "expected the id of an event" in finished.err
    finished = run_cli("receipt", list_ids(store, "form.sent")[-1], *store.options)
    assert finished.code == 2
    assert "run `auditkit seal`" in finished.err


def test_a_witness_can_be_asked_for(store: Store, office: Office) -> None:
    """With --cosigner only a cosigned receipt is valid, and the cosignature's time is shown."""
    path, witness = office.folder / "r.tlog-proof", CosignerKey("witness.example", note.derive_public_key(bytes(32)))
    make(store, list_ids(store, "lead.ingested")[0]).save(path)
    keys = office.folder / "witnesses"
    keys.write_text(f"# ours\n{witness}\n")
    arguments = ("verify-receipt", path, "--public-key", office.key, "--cosigner")
    alone = run_cli(*arguments, str(witness))
    assert alone.code == 1
    assert "NOT VALID: expected a cosignature of the checkpoint by witness.example" in alone.out
    proof = parse_proof(path.read_bytes())
    signed = note.parse_note(proof.checkpoint)
    cosigned = note.format_note(
        signed.text, [*signed.signatures, cosign_text(signed.text, witness.name, bytes(32), 60)]
    )
    path.write_text(format_proof(type(proof)(proof.index, proof.hashes, cosigned, proof.extra)))
    for given in (str(witness), keys):
        checked = run_cli(*arguments, given)
        assert checked.code == 0, checked.out
        assert "cosigned    by witness.example at 1970-01-01 00:01:00 UTC\n" in checked.out


# -- growth ------------------------------------------------------------------------------------------------------------


def test_growth_is_proved_and_checked_without_the_store(store: Store, office: Office) -> None:
    """Somebody who kept a checkpoint gets a proof to the newest, and checks it with the public key alone."""
    old, new = office.checkpoints
    made = run_cli("prove", "--from", old, "--output", office.folder / "growth.proof", *store.options)
    assert (made.code, made.out) == (0, "")
    assert made.err.startswith("the tree only grew, from ")
    piped = run_cli("prove", "--from", old, "--to", new, *store.options)
    assert piped.out == (office.folder / "growth.proof").read_text()
    assert piped.out.endswith(f"\n\n{new.read_text()}")

    store.path.rename(store.path.with_name("gone"))
    arguments = ("prove", "--check", "growth.proof", "--public-key", "crm.pub", "--from")
    checked = run_cli(*arguments, old.name, cwd=office.folder)
    assert checked.code == 0, checked.err
    assert checked.out.startswith("VALID: the tree auditkit/")
    other = run_cli(*arguments, new.name, cwd=office.folder)
    assert other.code == 1
    assert other.out.startswith("NOT VALID: expected a proof from the older checkpoint's ")
    assert find_wide_lines(other.out) == []


def test_a_checkpoint_is_found_in_a_mail_and_the_last_one_counts(store: Store, office: Office) -> None:
    """A file may hold text and several checkpoints, as a mail folder or a log of webhooks does."""
    old, new = (path.read_text() for path in office.checkpoints)
    mail = office.folder / "mail.txt"
    mail.write_text(f"Hello Ana,\n\nthe checkpoint of Monday:\n\n{old}\nand of Tuesday:\n\n{new}\nYours, Bo\n")
    made = run_cli("prove", "--from", mail, *store.options)
    assert made.code == 0, made.err
    size = note.parse_checkpoint(note.parse_note(new).text).size
    assert made.out == f"old {size}\n\n{new}"
    signed = note.parse_note(new)
    forged = note.sign_note(signed.text, signed.signatures[0].name, bytes(32))
    mail.write_text(f"{old}\n{forged}")
    made = run_cli("prove", "--from", mail, "--public-key", office.key, *store.options)
    assert made.out.startswith(f"old {note.parse_checkpoint(note.parse_note(old).text).size}\n")
    mail.write_text(forged)
    made = run_cli("prove", "--from", mail, "--public-key", office.key, *store.options)
    assert made.code == 1
    assert "that the public key signed, found 1 that it didn't" in made.err


def test_a_rolled_back_store_is_told(store: Store, office: Office) -> None:
    """If the kept checkpoint is no state of the tree, there is no proof, and the exit code is 1."""
    *_, newest = sorted((store.path / "ledger").glob("*.commit"))
    newest.unlink()
    finished = run_cli("prove", "--from", office.checkpoints[-1], *store.options)
    assert (finished.code, finished.out) == (1, "")
    assert "the newest commits are gone, or the store was rolled back" in finished.err
    other = office.folder / "other.note"
    text = note.format_checkpoint(note.Checkpoint("auditkit/otherotherotherx", 3, bytes(32)))
    other.write_text(note.sign_note(text, "auditkit/otherotherotherx", bytes(32)))
    finished = run_cli("prove", "--from", other, *store.options)
    assert finished.code == 1
    assert "found another store's" in finished.err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "--from FILE"),
        (["--from", "nothing.note"], 4, "No such file"),
        (["--from", "crm.pub"], 2, "expected a signed checkpoint"),
        (["--from", "-", "--to", "-"], 2, "standard input for both"),
        (["--from", "-", "--check", "-", "--public-key", "crm.pub"], 2, "standard input for both"),
        (["--from", "00000001.note", "--check", "crm.pub"], 2, "would prove nothing"),
        (
            ["--from", "00000001.note", "--check", "crm.pub", "--public-key", "crm.pub"],
            1,
            "consistency proof: expected",
        ),
        (["--from", "00000002.note", "--to", "00000001.note"], 2, "exchange the two"),
    ],
)
def test_a_proof_that_cannot_be_meant_is_told(
    store: Store, office: Office, arguments: list[str], code: int, message: str
) -> None:
    """What is missing or exchanged is said, with an exit code of its own."""
    finished = run_cli("prove", *arguments, *store.options, cwd=office.folder)
    assert (finished.code, finished.out) == (code, "")
    assert message in finished.err


def test_nothing_of_a_proof_acts_on_the_terminal(store: Store, office: Office) -> None:
    """A proof printed on a terminal is text; to a pipe go its exact bytes."""
    shown = run_on_terminal("prove", "--from", office.checkpoints[0], *store.options)
    assert shown.code == 0, shown.err
    assert find_unprintable(shown.out) == []
    shown = run_on_terminal("receipt", list_ids(store, "lead.ingested")[0], "--output", "-", *store.options)
    assert shown.code == 0, shown.err
    assert find_unprintable(shown.out) == []
