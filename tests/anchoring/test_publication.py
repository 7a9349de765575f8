"""Publishing checkpoints: every place gets it or says why not, and what lies beside the ledger is never believed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from auditkit import note
from auditkit.anchoring.copies import read_checkpoints
from auditkit.anchoring.publication import Publication, publish_checkpoint, verify_timestamps
from auditkit.anchoring.witness import parse_witness
from auditkit.cosignature import verify_cosignature
from auditkit.errors import StoreDamaged, UsageError
from auditkit.store.keyring import FORWARD_SECURE
from tests.anchoring.authorities import make_authority, running_authority
from tests.anchoring.logs import make_certificate
from tests.anchoring.servers import SECRET_PATH, Reply, closed_port, serve
from tests.anchoring.witnesses import RunningWitness, running_witness
from tests.keyed import Keyed, make_keyed


@pytest.fixture
def site(tmp_path: Path) -> Keyed:
    """A store that was sealed once."""
    site = make_keyed(tmp_path / "site")
    site.record()
    site.seal()
    return site


def list_keys(site: Keyed) -> list[str]:
    """List the public keys that a witness is told of."""
    return [str(site.open().verify(pin=False).public_key)]


@pytest.fixture
def witness(site: Keyed) -> Iterator[RunningWitness]:
    """A witness of the store."""
    with running_witness(list_keys(site)) as witness:
        yield witness


def name(witness: RunningWitness) -> str:
    return f"{witness.vkey}={witness.url}"


def anchor(site: Keyed, **places: object) -> Publication:
    return site.open().anchor(**places)  # type: ignore[arg-type]


def is_cosigned(text: str, witness: RunningWitness) -> bool:
    return verify_cosignature(note.parse_note(text), parse_witness(name(witness)).key) is not None


def test_a_cosigned_checkpoint_is_kept_and_given_out(site: Keyed, witness: RunningWitness) -> None:
    """The store's note with the witness's line: in the result, the checkpoint and the receipts, up to the next seal."""
    plain = site.open().checkpoint()
    published = anchor(site, witness=name(witness))
    assert published.ok
    assert published.checkpoint == site.open().checkpoint() != plain
    assert published.checkpoint.startswith(plain)
    assert is_cosigned(published.checkpoint, witness)
    event_id = sorted(site.read_ids())[0]
    assert is_cosigned(site.open().receipt(event_id).text.partition("\n\n")[2], witness)
    assert anchor(site, witness=name(witness)).ok
    assert len(site.open().checkpoint().splitlines()) == len(published.checkpoint.splitlines())
    assert site.prove().ok
    site.record()
    site.seal()
    assert not is_cosigned(site.open().checkpoint(), witness)
    assert anchor(site, witness=name(witness)).ok
    assert is_cosigned(site.open().checkpoint(), witness)
    assert witness.statuses.count(200) == 3


def test_a_witness_follows_a_rotation(tmp_path: Path) -> None:
    """The note of a change is signed by both keys: a witness that knows the old one, or the new one, cosigns it."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)
    site.record()
    site.seal()
    old = list_keys(site)
    with running_witness(old) as witness:
        assert anchor(site, witness=name(witness)).ok
        site.rotate()
        assert anchor(site, witness=name(witness)).ok
        site.record()
        site.seal()
        refused = anchor(site, witness=name(witness))
        assert [(result.kind, result.conflict) for result in refused.results] == [("witness", False)]
        assert not refused.ok
    with running_witness(list_keys(site)) as witness:
        assert anchor(site, witness=name(witness)).ok


def test_a_witness_that_knows_a_longer_history_says_so(site: Keyed, witness: RunningWitness, tmp_path: Path) -> None:
    """Rolled back, or gone on otherwise: evidence, and no other place is kept from the checkpoint."""
    older = site.copy(tmp_path / "older")
    site.record()
    site.seal()
    assert anchor(site, witness=name(witness)).ok
    for record in (False, True):
        if record:
            older.record()
            older.seal()
        published = anchor(older, witness=name(witness), file=tmp_path / "copies.txt")
        assert [(result.kind, result.conflict) for result in published.results] == [("witness", True), ("file", False)]
        assert published.conflicts[0].problem is not None
        assert "rolled back" in published.conflicts[0].problem or "rewritten" in published.conflicts[0].problem
        assert not (older.path / "anchors").exists()
    assert len(read_checkpoints(tmp_path / "copies.txt", f"auditkit/{older.store_id}")) == 2


def test_places_that_fail_keep_no_other_from_it(site: Keyed, witness: RunningWitness, tmp_path: Path) -> None:
    """Each result says what came of its place, in the order of the kinds, and no secret of a URL."""
    os.mkfifo(tmp_path / "pipe")
    with ExitStack() as stack:
        dead = stack.enter_context(closed_port())
        other = stack.enter_context(running_witness([], name="stranger.example"))
        hook = stack.enter_context(serve(lambda _request: Reply(204)))
        refusing = stack.enter_context(serve(lambda _request: Reply(410)))
        published = anchor(
            site,
            witness=[name(other), f"{witness.vkey}={dead}", name(witness)],
            file=[tmp_path / "pipe", tmp_path / "none" / "c.txt", tmp_path / "c.txt"],
            webhook=[refusing.url + SECRET_PATH, hook.url + SECRET_PATH],
        )
    assert [(result.kind, result.problem is None) for result in published.results] == [
        ("witness", False), ("witness", False), ("witness", True),
        ("file", False), ("file", False), ("file", True), ("webhook", False), ("webhook", True),
    ]  # fmt: skip
    assert not published.ok
    assert not published.conflicts
    assert "T0PSECRET" not in repr(published)
    assert "hunter2" not in repr(published)
    body = json.loads(hook.requests[0].body)
    assert (body["store"], body["size"], body["checkpoint"]) == (site.store_id, published.size, published.checkpoint)
    assert is_cosigned(body["checkpoint"], witness)
    [kept] = read_checkpoints(tmp_path / "c.txt", f"auditkit/{site.store_id}")
    assert note.format_note(kept.text, kept.signatures) == published.checkpoint


def test_a_place_that_cannot_be_meant_is_refused_before_any_has_it(site: Keyed, tmp_path: Path) -> None:
    """A file in the store, a key file, a wrong URL, a witness without a key: nothing is published at all."""
    with serve(lambda _request: Reply(204)) as hook:
        for places in (
            {"file": site.path / "c.txt"},
            {"file": site.key_file},
            {"webhook": "http://example.org/x"},
            {"witness": "https://w.example"},
            {"timestamp": "ftp://tsa.example"},
        ):
            with pytest.raises(UsageError):
                anchor(site, **{"webhook": hook.url, **places})
    assert hook.requests == []
    unsealed = make_keyed(tmp_path / "unsealed")
    with pytest.raises(UsageError, match="auditkit seal"):
        anchor(unsealed, file=tmp_path / "c.txt")


def test_a_folder_that_takes_nothing_keeps_no_place_from_it(
    site: Keyed, witness: RunningWitness, tmp_path: Path
) -> None:
    """The witness has signed and its line can't be kept: that is said, and the files have it all the same."""
    (site.path / "anchors").write_text("a file")
    published = anchor(site, witness=name(witness), file=tmp_path / "c.txt")
    told = published.results[0].problem
    assert told is not None
    assert "has cosigned" in told
    assert "anchors" in told
    assert is_cosigned((tmp_path / "c.txt").read_text().strip() + "\n", witness)
    assert site.open().checkpoint() in published.checkpoint


def test_a_folder_that_leads_elsewhere_is_refused(site: Keyed, witness: RunningWitness, tmp_path: Path) -> None:
    """Root would write where a link leads to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (site.path / "anchors").symlink_to(elsewhere)
    with pytest.raises(StoreDamaged, match="symbolic link"):
        anchor(site, witness=name(witness))
    assert not list(elsewhere.iterdir())
    assert witness.statuses == []


def test_cosignatures_that_came_meanwhile_are_kept(site: Keyed, witness: RunningWitness) -> None:
    """Two publications at once, each with its own witness: neither takes the other's line away."""
    layout, store = site.layout, site.store_id
    with running_witness(list_keys(site), name="second.example", seed=bytes([9]) * 32) as second:

        def respond(request: object) -> Reply:
            publish_checkpoint(layout, store, witnesses=[parse_witness(name(witness))])
            return second.respond(request)  # type: ignore[arg-type]

        with serve(respond) as slow:
            publish_checkpoint(layout, store, witnesses=[parse_witness(f"{second.vkey}={slow.url}/w1")])
        newest = site.open().checkpoint()
        assert is_cosigned(newest, witness)
        assert is_cosigned(newest, second)


def forge_lines(site: Keyed, count: int = 99) -> bytes:
    """Put signature lines that nobody made behind the store's own note, some of them in the store's own name."""
    own = note.parse_note(site.open().checkpoint())
    names = [own.signatures[0].name, *(f"w{number}.example" for number in range(count - 1))]
    forged = [note.Signature(each, bytes([7, 7, 7, number]), bytes(64)) for number, each in enumerate(names)]
    return note.format_note(own.text, [own.signatures[0], *forged]).encode()


def plant(site: Keyed, kind: str) -> None:
    """Put something hostile into the place of the cosigned checkpoint."""
    folder = site.path / "anchors"
    path = folder / "00000001.note"
    if kind == "loop":
        folder.symlink_to("anchors")
        return
    if kind == "file":
        folder.write_text("x")
        return
    folder.mkdir()
    own = site.open().checkpoint()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    else:
        other = note.format_checkpoint(note.Checkpoint(f"auditkit/{site.store_id}", 99, bytes(32)))
        data = {
            "garbage": b"\xff\0" * 100,
            "empty": b"",
            "long": b"x" * (note.MAX_NOTE_BYTES + 1),
            "other text": note.sign_note(other, f"auditkit/{site.store_id}", bytes(32)).encode(),
            "other store": own.replace(site.store_id, "otherotherothers").encode(),
            "broken": own.encode()[:-20],
            "forged": own.replace(own[-20:-10], "AAAAAAAAAA").encode(),
            "many": forge_lines(site),
            "only others": (own.partition("\n\n")[0] + "\n\n").encode()
            + b"\n".join(forge_lines(site).split(b"\n")[5:]),
        }
        path.write_bytes(data[kind])


KINDS = (
    "loop", "file", "pipe", "link", "link to itself", "folder", "garbage", "empty", "long", "other text", "other store",
    "broken", "forged", "many", "only others",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_the_ledger_never_makes_a_checkpoint_lie(site: Keyed, kind: str, tmp_path: Path) -> None:
    """Whatever is put there, the checkpoint is the ledger's, signed by its key, and no verdict changes."""
    own, public = site.open().checkpoint(), list_keys(site)[0]
    plant(site, kind)
    given = site.open().checkpoint()
    signed = note.parse_note(given)
    assert given.startswith(own)
    assert note.verify_note(signed, public)
    assert [each.name for each in signed.signatures].count(f"auditkit/{site.store_id}") == 1
    assert len(signed.signatures) <= note.MAX_SIGNATURES
    verification = site.prove()
    # A file in the place of one of the store's folders is a finding by itself.
    assert {finding.file for finding in verification.findings} == ({"anchors"} if kind == "file" else set())
    assert verification.checkpoint == own
    site.open().receipt(sorted(site.read_ids())[0])
    if kind != "loop":
        assert anchor(site, file=tmp_path / "c.txt").ok
        (result,) = site.open().verify(against=tmp_path / "c.txt", pin=False).anchors
        assert result.status == "ok"


@pytest.mark.parametrize("kind", ["many", "only others", "forged", "garbage", "other text"])
def test_a_true_cosignature_takes_the_place_of_what_was_planted(
    site: Keyed, witness: RunningWitness, kind: str
) -> None:
    """The note's room is limited: planted lines give way to one that was just given."""
    plant(site, kind)
    assert anchor(site, witness=name(witness)).ok
    assert is_cosigned(site.open().checkpoint(), witness)
    assert anchor(site, witness=name(witness)).ok
    assert is_cosigned(site.open().checkpoint(), witness)


def test_time_stamps_are_kept_and_verified(site: Keyed, openssl: str, tmp_path: Path) -> None:
    """One for each commit that was stamped; strangers beside them are passed over, changed ones are told."""
    root = make_certificate("root", authority=True)
    (tmp_path / "tsa").mkdir()
    with running_authority(openssl, tmp_path / "tsa", make_authority("tsa", root)) as authority:
        for _ in range(2):
            assert anchor(site, timestamp=authority.url).ok
            site.record()
            site.seal()
    found = verify_timestamps(site.layout, site.store_id, root.pem)
    assert [number for number, _ in found] == [1, 2]
    anchors = site.path / "anchors"
    for stranger in ("x.tsr", "00000001.tsr", "²²²²²²²².0123456789abcdef.tsr"):
        (anchors / stranger).write_text("x")
    assert verify_timestamps(site.layout, site.store_id, root.pem) == found
    assert site.prove().ok
    (anchors / "00000002.0123456789abcdef.tsr").write_bytes(b"x" * 100)
    with pytest.raises(StoreDamaged):
        verify_timestamps(site.layout, site.store_id, root.pem)
    assert site.prove().ok


def test_a_full_disk_is_told_and_the_other_places_have_it(site: Keyed, witness: RunningWitness, tmp_path: Path) -> None:
    """A store on a disk without room can still publish its checkpoint elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    anchors = site.path / "anchors"
    anchors.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", anchors], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        (anchors / "ballast").write_bytes(b"x" * 4096)
        published = anchor(site, witness=name(witness), file=tmp_path / "c.txt")
    finally:
        subprocess.run(["umount", anchors], check=True)
    assert [result.problem is None for result in published.results] == [False, True]
    assert is_cosigned(published.checkpoint, witness)
