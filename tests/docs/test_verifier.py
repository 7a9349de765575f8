"""Real stores with every mode of keys: a verifier that knows only the page and auditkit itself say the same of them."""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import auditkit
from auditkit.integrity import Verification
from auditkit.logger import AuditLogger
from auditkit.proof import format_consistency_proof
from auditkit.retention import retire_days
from auditkit.store.keyring import KeyFile, keep_offline
from auditkit.store.layout import Layout
from auditkit.trail import AuditTrail
from tests.docs import verifier
from tests.docs.verifier import Fault, Key, Report, Unverifiable

ROOT = Path(__file__).parents[2]
FORMAT = (ROOT / "docs" / "format.md").read_text()
MODES = ("ordinary", "forward-secure")
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """A store with its key files and what somebody kept of it, side by side in one folder.

    A way to verify it is the name of a key file, or `public` for the public key alone.
    """

    folder: Path
    mode: str

    @property
    def store(self) -> Path:
        return self.folder / "audit"

    @property
    def machine(self) -> Path:
        return self.folder / "machine.key"

    @property
    def offline(self) -> Path:
        return self.folder / "offline.key"

    @property
    def root_file(self) -> Path | None:
        return self.offline if self.mode == "forward-secure" else None

    @property
    def anchors(self) -> Path:
        return self.folder / "anchors.txt"

    @property
    def whole(self) -> str:
        """The way that proves everything."""
        return "machine" if self.mode == "ordinary" else "offline"

    @property
    def ways(self) -> tuple[str, ...]:
        return ("machine", "public") if self.mode == "ordinary" else ("offline", "machine", "public")

    @property
    def public_keys(self) -> list[str]:
        return (self.folder / "public.txt").read_text().splitlines()

    def open(self, way: str = "machine") -> AuditTrail:
        return auditkit.open(self.store, key_file=self.folder / f"{'machine' if way == 'public' else way}.key")

    def record(self, count: int, when: datetime.datetime | None = None) -> None:
        with AuditLogger(self.store, key_file=self.machine, enable_rotation=False) as audit:
            for number in range(count):
                audit.log_event("step", {"number": number}, time=when, message='a "quoted" Zoë\x1f')

    def commits(self) -> list[Path]:
        return sorted((self.store / "ledger").glob("*.commit"))

    def read(self, number: int) -> dict[str, Any]:
        return dict(json.loads(self.commits()[number - 1].read_bytes().partition(b"\n")[0]))

    def examine(self, way: str, *, kept: bool = False, pin: Path | None = None) -> Report:
        """Verify it with nothing but the page."""
        key = Key.from_public(self.public_keys[-1]) if way == "public" else Key.from_file(self.folder / f"{way}.key")
        return verifier.examine_store(self.store, key, self.anchors.read_text() if kept else None, pin)

    def verify(self, way: str, *, kept: bool = False, pin: bool = False) -> Verification:
        """Verify it with auditkit."""
        public_key = self.public_keys[-1] if way == "public" else None
        against = [self.anchors] if kept else []
        return self.open(way).verify(pin=pin, against=against, public_key=public_key)

    def judge(self, way: str, *, kept: bool = False) -> tuple[str, str]:
        """Give the verdict of the page's verifier, and that of auditkit."""
        try:
            self.examine(way, kept=kept)
            independent = "sound"
        except Fault:
            independent = "fault"
        except Unverifiable:
            independent = "unverifiable"
        return independent, {0: "sound", 1: "fault", 3: "unverifiable"}[self.verify(way, kept=kept).exit_code]


def init_store(folder: Path, mode: str) -> Kept:
    """Make an empty store as the page on the command line says."""
    kept = Kept(folder, mode)
    options = [] if kept.root_file is None else ["--forward-secure", "--root-file", str(kept.root_file)]
    command = [sys.executable, "-m", "auditkit", "keys", "init", "--store", str(kept.store)]
    command += ["--key-file", str(kept.machine), *options]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    return kept


def note_public_key(kept: Kept, public_key: str | None) -> None:
    with (kept.folder / "public.txt").open("a") as file:
        file.write(f"{public_key}\n")


@pytest.fixture(scope="module", params=MODES)
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A store of each mode without an event."""
    return init_store(tmp_path_factory.mktemp("empty"), request.param)


@pytest.fixture
def fresh(empty: Kept, tmp_path: Path) -> Kept:
    """Give a copy of the empty store, to do with what one likes."""
    shutil.copytree(empty.folder, tmp_path / "fresh")
    return replace(empty, folder=tmp_path / "fresh")


@pytest.fixture(scope="module")
def told(empty: Kept, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A store with a long story: keys renewed together and apart, a date retired, anchors, and a tail not sealed.

    Its commits: 1 seal, 2 key (both), 3 seal, 4 retain, 5 seal, 6 key (the signing key), 7 key (the root). Of the
    retired segments a copy is kept in `retired/`, and of the first signing key its seed.
    """
    kept = replace(empty, folder=tmp_path_factory.mktemp("told") / "kept")
    shutil.copytree(empty.folder, kept.folder)
    now = datetime.datetime.now(UTC)
    trail = kept.open()
    kept.record(3, now - DAY)
    kept.record(3, now)
    trail.seal()
    trail.anchor(file=kept.anchors)
    note_public_key(kept, json.loads((kept.store / "store.json").read_bytes())["public_key"])
    (kept.folder / "first.seed").write_text(json.loads(kept.machine.read_bytes())["sign"])
    note_public_key(kept, trail.rotate_keys(kept.root_file))
    kept.record(2, now - DAY)
    kept.record(2, now)
    trail.seal()
    shutil.copytree(kept.store / "events", kept.folder / "retired")
    retired = retire_days(Layout(kept.store), trail.find_keys(), now.date(), "a day")
    assert len(retired.paths) == 2
    trail.anchor(file=kept.anchors)
    kept.record(2, now - DAY)
    kept.record(2, now)
    trail.seal()
    note_public_key(kept, trail.rotate_keys(root=False))
    trail.rotate_keys(kept.root_file, sign=False)
    kept.record(2, now)
    trail.anchor(file=kept.anchors)
    assert [kept.read(n)["why"] for n in range(1, 8)] == ["seal", "key", "seal", "retain", "seal", "key", "key"]
    return kept


@pytest.fixture
def kept(told: Kept, tmp_path: Path) -> Kept:
    """Give a copy to tamper with."""
    shutil.copytree(told.folder, tmp_path / "kept")
    return replace(told, folder=tmp_path / "kept")


# -- what is sound -----------------------------------------------------------------------------------------------------


def test_a_long_story_is_sound_with_every_key(told: Kept) -> None:
    """Whoever has the page and any of the keys finds every event, follows every change, and misses no number."""
    events = told.open().count(include_internal=True)
    for way in told.ways:
        report = told.examine(way, kept=True)
        assert (report.events, report.unused, report.beyond) == (events, set(), set()), way
        assert report.keys == told.public_keys
        verification = told.verify(way, kept=True)
        assert verification.ok, way
        assert {warning.kind for warning in verification.warnings} == (set() if way == told.whole else {"unverifiable"})


def test_every_public_key_a_store_had_leads_to_the_one_in_force(told: Kept) -> None:
    """Who was given the first key trusts what the second and the third signed; who was given a stranger's, nothing."""
    for public_key in told.public_keys:
        assert verifier.examine_store(told.store, Key.from_public(public_key)).keys == told.public_keys
        assert told.open().verify(pin=False, public_key=public_key).ok
    stranger = verifier.name_key(bytes(32), told.open().store_id)
    with pytest.raises(Fault, match="trusted"):
        verifier.examine_store(told.store, Key.from_public(stranger))
    assert told.open().verify(pin=False, public_key=stranger).exit_code == 1


def test_one_key_vouches_for_the_next_without_the_ledger(told: Kept) -> None:
    """Three values of a commit are enough to trust the new key, and none of them can be another."""
    store = told.open().store_id
    change = told.read(2)["keys"]
    assert [change["old"], change["new"]] == told.public_keys[:2]
    verifier.check_endorsement(store, change["old"], change["new"], change["old_signature"])
    later = told.read(6)["keys"]
    for name, other in (("old", later["new"]), ("new", later["new"]), ("old_signature", later["old_signature"])):
        forged = {**change, name: other}
        with pytest.raises(Fault, match="vouch"):
            verifier.check_endorsement(store, forged["old"], forged["new"], forged["old_signature"])
    with pytest.raises(Fault, match="no key of this store"):
        verifier.check_endorsement("b" * 16, change["old"], change["new"], change["old_signature"])


def test_receipts_and_growth_across_a_change_of_keys(told: Kept) -> None:
    """A receipt is proved by the key that signed its checkpoint, and the tree grew through rotation and retention."""
    trail = told.open()
    event_id = str(trail.events(columns=["id"])["id"].iloc[0])
    receipt = trail.receipt(event_id).text
    fields = verifier.check_receipt(receipt, told.public_keys)
    assert f"{fields['writer']}:{fields['seq']}" == event_id
    for keys in (told.public_keys[:1], []):
        with pytest.raises(Fault, match="no given key signed"):
            verifier.check_receipt(receipt, keys)
    with pytest.raises(Fault):
        verifier.check_receipt(receipt.replace("extra ey", "extra ez", 1), told.public_keys)
    notes = verifier.find_notes(told.anchors.read_text())
    for note in notes:
        proof = format_consistency_proof(trail.prove(note))
        sizes = (int(note.split("\n")[1]), int(notes[-1].split("\n")[1]))
        assert verifier.check_growth(note, proof, told.public_keys) == sizes
    with pytest.raises(Fault):
        verifier.check_growth(notes[1], format_consistency_proof(trail.prove(notes[0])), told.public_keys)


def test_keys_renewed_before_the_first_sealing(fresh: Kept) -> None:
    """The first commit then is one of a change, and names a first key all the same."""
    fresh.record(2)
    note_public_key(fresh, fresh.open().rotate_keys(fresh.root_file))
    assert (fresh.read(1)["why"], fresh.read(1)["keys"]["old"]) == ("key", None)
    fresh.record(1)
    for seal in (False, True):
        if seal:
            fresh.open().seal()
        for way in fresh.ways:
            assert fresh.judge(way) == ("sound", "sound"), (seal, way)


def test_an_interrupted_rotation_accuses_nobody(fresh: Kept) -> None:
    """Between the key file and the commit `retiring` is the key in force, and the next sealing finishes it."""
    fresh.record(2)
    trail = fresh.open()
    trail.seal()
    note_public_key(fresh, json.loads((fresh.store / "store.json").read_bytes())["public_key"])
    KeyFile(fresh.machine).renew(None if fresh.root_file is None else keep_offline(fresh.root_file, trail.store_id))
    fresh.record(1)
    assert "retiring" in json.loads(fresh.machine.read_bytes())
    assert {way: fresh.judge(way) for way in fresh.ways} == dict.fromkeys(fresh.ways, ("sound", "sound"))
    trail.seal()
    assert "retiring" not in json.loads(fresh.machine.read_bytes())
    assert [fresh.read(n)["why"] for n in (1, 2, 3)] == ["seal", "key", "seal"]
    note_public_key(fresh, fresh.read(2)["keys"]["new"])
    assert {way: fresh.judge(way) for way in fresh.ways} == dict.fromkeys(fresh.ways, ("sound", "sound"))


def test_key_files_of_every_mode_are_as_the_page_says(told: Kept, fresh: Kept) -> None:
    """Each mode's file has the keys that its column of the table has a mark for, before a renewal and behind one."""
    table = re.findall(r"^\| (.+?) \|.*\| (✓?) ?\| (✓?) ?\| (✓?) ?\|$", FORMAT, re.MULTILINE)
    for mode, column in (("ordinary", 1), ("forward-secure", 2), ("offline", 3)):
        listed = {name for row in table if row[column] for name in re.findall(r"`(\w+)`", row[0])}
        assert listed == set(verifier.KEY_FILES[mode]), mode
    at_first = {"renewed"} if fresh.mode == "ordinary" else set()
    for kept, absent in ((fresh, {"retiring"} | at_first), (told, {"retiring"})):
        files = [kept.machine, *([kept.offline] if kept.root_file else [])]
        for file in files:
            state = json.loads(file.read_bytes())
            assert set(state) == set(verifier.KEY_FILES[state["mode"]]) - absent
            Key.from_file(file)
    if told.root_file:
        roots = json.loads(told.offline.read_bytes())["roots"]
        assert [n for n, _ in roots] == json.loads(told.machine.read_bytes())["skipped"]


# -- what is tampered with: both find it, or neither -------------------------------------------------------------------


def edit_line(kept: Kept, number: int, change: Callable[[bytes], bytes]) -> None:
    path = kept.commits()[number - 1]
    line, end, note = path.read_bytes().partition(b"\n")
    changed = change(line)
    assert changed != line
    path.write_bytes(changed + end + note)


def edit_signatures(kept: Kept, number: int, change: Callable[[list[str]], list[str]]) -> None:
    path = kept.commits()[number - 1]
    head, _, signatures = path.read_text().rpartition("\n\n")
    path.write_text(f"{head}\n\n" + "".join(f"{line}\n" for line in change(signatures.splitlines())))


def edit_store(kept: Kept, public_key: str | None) -> None:
    path = kept.store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "public_key": public_key}, indent=2) + "\n")


def find_journal(kept: Kept) -> Path:
    return max((kept.store / "journal").glob("*.jsonl"), key=lambda path: path.stat().st_size)


def edit_journal(kept: Kept, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = find_journal(kept)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def find_live(kept: Kept) -> Path:
    return kept.store / str(kept.read(1)["add"][1]["path"])


def bring_back(kept: Kept, path: str, data: bytes | None = None) -> None:
    target = kept.store / path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data or (kept.folder / "retired" / Path(path).relative_to("events")).read_bytes())


def sign_note(kept: Kept, size: int, root: bytes, seed: bytes) -> str:
    """Sign a checkpoint as the page says."""
    name = f"auditkit/{kept.open().store_id}"
    key_hash = bytes.fromhex(verifier.name_key(seed, kept.open().store_id).split("+")[1])
    text = f"{name}\n{size}\n{base64.b64encode(root).decode()}\n"
    blob = key_hash + Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(blob).decode()}\n"


def append_commit(kept: Kept, seed: bytes, keys: dict[str, str] | None = None) -> None:
    """Let somebody who holds an Ed25519 key and no root add a commit that fits the tree."""
    ledger = verifier.Ledger(kept.open().store_id)
    for path in kept.commits():
        ledger.take(Key.from_public(kept.public_keys[-1]), path)
    place = {"prev_root": ledger.tree.root.hex(), "first_leaf": ledger.tree.size}
    fields = {**kept.read(7), "n": 8, "key_n": 1, "why": "key" if keys else "seal", "keys": keys, **place}
    del fields["mac"]
    line = verifier.join_line(verifier.canonical(fields), bytes(32))
    ledger.tree.add(1, verifier.sha(b"\0" + line))
    note = sign_note(kept, ledger.tree.size, ledger.tree.root, seed)
    (kept.store / "ledger" / "00000008.commit").write_bytes(line + b"\n" + note.encode())


def append_newer(kept: Kept, *, genuine: bool) -> None:
    """Add a commit of a later version, which begins as this page says."""
    key, n = Key.from_file(kept.folder / f"{kept.whole}.key"), json.loads(kept.machine.read_bytes())["n"]
    body = verifier.canonical({"v": 2, "key_n": n, "unheard": [1.5]})
    code = verifier.mac(key.derive(n, "auditkit/1 commit", kept.open().store_id), body) if genuine else bytes(32)
    path = kept.store / "ledger" / "00000008.commit"
    path.write_bytes(verifier.join_line(body, code) + b"\nand what follows\n")


SEED = bytes(range(96, 128))


def flip_a_byte_of_a_segment(kept: Kept) -> None:
    data = bytearray(find_live(kept).read_bytes())
    data[len(data) // 2] ^= 1
    find_live(kept).write_bytes(data)


def remove_a_segment(kept: Kept) -> None:
    find_live(kept).unlink()


def plant_a_segment(kept: Kept) -> None:
    (find_live(kept).parent / f"{'0' * 16}.parquet").write_bytes(find_live(kept).read_bytes())


def leave_a_retired_segment(kept: Kept) -> None:
    bring_back(kept, kept.read(4)["remove"][0])


def fill_a_retired_segment(kept: Kept) -> None:
    bring_back(kept, kept.read(4)["remove"][0], find_live(kept).read_bytes())


def take_the_retention_back(kept: Kept) -> None:
    for path in kept.read(4)["remove"]:
        bring_back(kept, path)
    kept.commits()[3].unlink()


def cut_the_newest_commit(kept: Kept) -> None:
    kept.commits()[-1].unlink()


def retire_something_else(kept: Kept) -> None:
    live = str(find_live(kept).relative_to(kept.store))
    edit_line(kept, 4, lambda line: line.replace(kept.read(4)["remove"][0].encode(), live.encode()))


def change_the_numbers_of_what_is_retired(kept: Kept) -> None:
    edit_line(kept, 4, lambda line: re.sub(rb'"numbers":\[(\d+)\]', rb'"numbers":[\g<1>1]', line))


def change_the_endorsement(kept: Kept) -> None:
    signature = kept.read(2)["keys"]["old_signature"].encode()
    edit_line(kept, 2, lambda line: line.replace(signature, signature[::-1].lstrip(b"=") + b"=="))


def change_the_new_key(kept: Kept) -> None:
    stranger = verifier.name_key(SEED, kept.open().store_id)
    edit_line(kept, 2, lambda line: line.replace(kept.public_keys[1].encode(), stranger.encode()))


def leave_the_new_signature_only(kept: Kept) -> None:
    edit_signatures(kept, 2, lambda lines: lines[1:])


def leave_the_old_signature_only(kept: Kept) -> None:
    edit_signatures(kept, 2, lambda lines: lines[:1])


def exchange_the_signatures(kept: Kept) -> None:
    edit_signatures(kept, 2, lambda lines: lines[::-1])


def sign_as_a_stranger(kept: Kept) -> None:
    note = kept.commits()[4].read_text().partition("\n")[2]
    line = f"— {note.partition(chr(10))[0]} {base64.b64encode(bytes(68)).decode()}"
    edit_signatures(kept, 5, lambda lines: [*lines, line])


def break_a_signature(kept: Kept) -> None:
    edit_signatures(kept, 5, lambda lines: [lines[0][:-8] + "AAAAAAA="])


def append_as_a_stranger(kept: Kept) -> None:
    append_commit(kept, SEED)


def append_with_the_replaced_key(kept: Kept) -> None:
    append_commit(kept, bytes.fromhex((kept.folder / "first.seed").read_text()))


def take_over_the_key(kept: Kept) -> None:
    store = kept.open().store_id
    signature = base64.b64encode(Ed25519PrivateKey.from_private_bytes(SEED).sign(b"anything")).decode()
    append_commit(
        kept, SEED, {"old": kept.public_keys[-1], "new": verifier.name_key(SEED, store), "old_signature": signature}
    )


def append_a_newer_commit(kept: Kept) -> None:
    append_newer(kept, genuine=True)


def forge_a_newer_commit(kept: Kept) -> None:
    append_newer(kept, genuine=False)


def name_an_older_public_key(kept: Kept) -> None:
    edit_store(kept, kept.public_keys[0])


def name_a_strange_public_key(kept: Kept) -> None:
    edit_store(kept, verifier.name_key(SEED, kept.open().store_id))


def name_no_public_key(kept: Kept) -> None:
    edit_store(kept, None)


def change_a_line(kept: Kept) -> None:
    edit_journal(kept, lambda lines: [lines[0], lines[1].replace(b'"step"', b'"stop"'), *lines[2:]])


def drop_a_line(kept: Kept) -> None:
    edit_journal(kept, lambda lines: [lines[0], *lines[2:]])


def exchange_two_lines(kept: Kept) -> None:
    edit_journal(kept, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])


def add_a_line_that_is_none(kept: Kept) -> None:
    edit_journal(kept, lambda lines: [*lines[:-1], b'{"v":1}\n', lines[-1]])


def tear_the_last_line(kept: Kept) -> None:
    edit_journal(kept, lambda lines: [*lines[:-1], lines[-1][:-9]])


def plant_a_journal(kept: Kept) -> None:
    path = find_journal(kept)
    writer, name = path.name[:25], f"{path.name[:9]}{'a' * 16}"
    planted = path.read_bytes().replace(writer.encode(), name.encode())
    (path.parent / f"{name}.000000.jsonl").write_bytes(planted)


def lay_a_pipe(kept: Kept) -> None:
    os.mkfifo(kept.store / "journal" / f"20261123-{'a' * 16}.000000.jsonl")


def put_anchors(kept: Kept) -> None:
    """Notes in `anchors/` are believed for what is signed: one is right, one is of another commit, one is none."""
    (kept.store / "anchors").mkdir(mode=0o700)
    note = kept.commits()[6].read_text().partition("\n")[2]
    for n in (7, 3):
        (kept.store / "anchors" / f"{n:08d}.note").write_text(note)
    (kept.store / "anchors" / "00000002.note").write_text("nothing")


S, F, U = "sound", "fault", "unverifiable"
# What is found with everything, with the machine's own key file of a forward-secure store, and with the public key.
TAMPERINGS: list[tuple[Callable[[Kept], None], str, str, str]] = [
    (flip_a_byte_of_a_segment, F, F, F),
    (remove_a_segment, F, F, F),
    (plant_a_segment, F, F, F),
    (leave_a_retired_segment, S, S, S),
    (fill_a_retired_segment, F, F, F),
    (take_the_retention_back, F, F, F),
    (retire_something_else, F, F, F),
    (change_the_numbers_of_what_is_retired, F, F, F),
    (cut_the_newest_commit, S, S, S),
    (change_the_endorsement, F, F, F),
    (change_the_new_key, F, F, F),
    (leave_the_new_signature_only, F, F, F),
    (leave_the_old_signature_only, F, F, F),
    (exchange_the_signatures, S, S, S),
    (sign_as_a_stranger, S, S, S),
    (break_a_signature, F, F, F),
    (append_as_a_stranger, F, F, F),
    (append_with_the_replaced_key, F, F, F),
    (take_over_the_key, F, F, F),
    (append_a_newer_commit, U, U, U),
    (forge_a_newer_commit, F, U, U),
    (name_an_older_public_key, S, S, S),
    (name_a_strange_public_key, F, F, F),
    (name_no_public_key, F, F, F),
    (change_a_line, F, S, S),
    (drop_a_line, F, F, F),
    (exchange_two_lines, F, F, F),
    (add_a_line_that_is_none, F, F, F),
    (tear_the_last_line, S, S, S),
    (plant_a_journal, F, S, S),
    (lay_a_pipe, F, F, F),
    (put_anchors, S, S, S),
]


@pytest.mark.parametrize(
    "tamper, with_all, on_the_machine, in_public", TAMPERINGS, ids=[tampering[0].__name__ for tampering in TAMPERINGS]
)
def test_both_verifiers_say_the_same(
    kept: Kept, tamper: Callable[[Kept], None], with_all: str, on_the_machine: str, in_public: str
) -> None:
    """Whatever is done to a store, who has only the page says of it what auditkit says, whichever key they have."""
    tamper(kept)
    expected = {"machine": on_the_machine, "public": in_public, kept.whole: with_all}
    assert {way: kept.judge(way) for way in kept.ways} == {way: (expected[way],) * 2 for way in kept.ways}


# -- anchors and pins --------------------------------------------------------------------------------------------------


def name_cut(kept: Kept, way: str, pin: Path | None = None) -> tuple[str, set[str]]:
    """Give how each verifier calls what happened to a store since it was anchored, or pinned."""
    with pytest.raises(Fault) as fault:
        kept.examine(way, kept=pin is None, pin=pin)
    findings = kept.verify(way, kept=pin is None, pin=pin is not None).findings
    found = {str(finding.kind) for finding in findings if finding.kind in ("truncated", "rolled_back")}
    return str(fault.value).partition(":")[0], found


def test_commits_that_are_cut_leave_traces_or_a_store_as_it_was(kept: Kept) -> None:
    """A lost end is called truncated as long as a segment of it is left, and rolled back when nothing is.

    Who has the secret key isn't misled by a copy that somebody planted.
    """
    trail = kept.open()
    trail.seal()
    trail.anchor(file=kept.anchors)
    (entry,) = kept.read(8)["add"]
    kept.commits()[-1].unlink()
    for way in kept.ways:
        assert name_cut(kept, way) == ("truncated", {"truncated"}), way
    (kept.store / entry["path"]).unlink()
    for way in kept.ways:
        assert kept.judge(way) == ("sound", "sound"), way
        assert name_cut(kept, way) == ("rolled back", {"rolled_back"}), way
    bring_back(kept, f"events/date=2026-01-01/{find_live(kept).name}", find_live(kept).read_bytes())
    for way in kept.ways:
        expected = "rolled_back" if way == kept.whole else "truncated"
        assert name_cut(kept, way) == (expected.replace("_", " "), {expected}), way


def test_a_hole_before_a_journal_is_a_trace_too(kept: Kept) -> None:
    """A writer that lives on in its journal tells that what was sealed of it is gone."""
    trail = kept.open()
    with AuditLogger(kept.store, key_file=kept.machine, enable_rotation=False) as audit:
        audit.log_event("sealed")
        audit.rotate()
        trail.seal()
        trail.anchor(file=kept.anchors)
        audit.log_event("in the journal")
    for commit in kept.commits()[7:]:
        for entry in json.loads(commit.read_bytes().partition(b"\n")[0])["add"]:
            (kept.store / entry["path"]).unlink()
        commit.unlink()
    for way in kept.ways:
        assert name_cut(kept, way) == ("truncated", {"truncated"}), way


def test_a_store_that_went_back_and_on_otherwise(kept: Kept) -> None:
    """A ledger that is sound in itself, and larger, isn't the one that was anchored."""
    shutil.copytree(kept.store, kept.folder / "older")
    kept.open().seal()
    kept.open().anchor(file=kept.anchors)
    shutil.rmtree(kept.store)
    (kept.folder / "older").rename(kept.store)
    kept.record(3)
    kept.open().seal()
    for way in kept.ways:
        assert kept.judge(way) == ("sound", "sound"), way
        assert name_cut(kept, way) == ("rolled back, and went on otherwise", {"rolled_back"}), way


def test_a_checkpoint_that_the_key_did_not_sign_says_nothing(kept: Kept) -> None:
    """Whoever can write to the place where anchors are kept accuses nobody by it."""
    forged = sign_note(kept, 4711, bytes(32), SEED)
    true = verifier.find_notes(kept.anchors.read_text())[-1]
    other = true.replace(f"\n{true.split(chr(10))[1]}\n", "\n4711\n")
    kept.anchors.write_text(f"From: mallory\n\n{forged}\n\n{other}")
    assert len(verifier.find_notes(kept.anchors.read_text())) == 2
    for way in kept.ways:
        assert kept.judge(way, kept=True) == ("sound", "sound"), way


def test_the_pin_is_as_the_page_says(kept: Kept, isolated_user: Path) -> None:
    """What auditkit keeps of a verification is enough for another verifier to see a rollback."""
    kept.open().seal()
    assert kept.verify(kept.whole, pin=True).ok
    pin = isolated_user / ".local" / "state" / "auditkit" / "checkpoints" / f"{kept.open().store_id}.json"
    fields = json.loads(pin.read_bytes())
    assert list(fields) == verifier.PIN
    assert [commit[0] for commit in fields["commits"]] == list(range(1, 9))
    for way in kept.ways:
        assert kept.examine(way, pin=pin).events
    for entry in kept.read(8)["add"]:
        (kept.store / entry["path"]).unlink()
    kept.commits()[-1].unlink()
    for way in kept.ways:
        assert name_cut(kept, way, pin) == ("rolled back", {"rolled_back"}), way


# -- numbers -----------------------------------------------------------------------------------------------------------


def list_warned(kept: Kept, way: str) -> set[int]:
    """Read from auditkit's warnings under which numbers nothing was found."""
    found = " ".join(warning.found for warning in kept.verify(way).warnings)
    return {int(n) for numbers in re.findall(r"\(number ([\d, ]+)\)", found) for n in numbers.split(",")}


def remove_a_journal(kept: Kept) -> int:
    path = find_journal(kept)
    first = json.loads(path.read_bytes().partition(b"\n")[0])
    for part in path.parent.glob(f"{first['writer']}.*"):
        part.unlink()
    return int(json.loads(first["details"])["n"])


def test_a_deleted_journal_leaves_its_number(fresh: Kept) -> None:
    """Under a renewed root too, a number that nobody used tells both verifiers of a journal that was deleted."""
    fresh.record(1)
    fresh.open().rotate_keys(fresh.root_file)
    fresh.record(3)
    number = remove_a_journal(fresh)
    fresh.record(1)
    assert fresh.examine(fresh.whole).unused == {number} == list_warned(fresh, fresh.whole)
    if fresh.mode == "forward-secure":
        assert fresh.examine("machine").unused == {number}


def test_a_retired_date_excuses_no_missing_number(kept: Kept) -> None:
    """The numbers of retired writers are known from their commit, so another's is missed as if nothing were retired."""
    number = kept.read(7)["key_n"]
    cut_the_newest_commit(kept)
    assert kept.examine(kept.whole).unused == {number}
    assert list_warned(kept, kept.whole) == {number}


def test_an_older_key_file_is_told(kept: Kept) -> None:
    """A number that was used and that the file didn't count says that the file is a restored copy."""
    state = json.loads(kept.machine.read_bytes())
    last = state["n"] - 1
    kept.machine.write_text(json.dumps({**state, "n": last}, indent=2) + "\n")
    assert kept.examine("machine").beyond == {last}
    if kept.mode == "ordinary":
        assert any("older copy of the key file" in warning.found for warning in kept.verify("machine").warnings)
