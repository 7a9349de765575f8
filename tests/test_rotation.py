"""Rotated keys: what was recorded and signed before stays valid, whoever is killed in between, and however often."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditkit
from auditkit.errors import AuditError, KeyMismatch, KeyProblem, UsageError
from auditkit.keys import GivenKey, ratchet_key
from auditkit.rotation import rotate_keys
from auditkit.store.keyring import FORWARD_SECURE, ORDINARY, KeyFile, keep_offline
from auditkit.store.ledger import read_commit
from tests.integrity.stores import CHECKOUT, say
from tests.keyed import MODES, Keyed, make_keyed

STEPS = ("record", "seal", "both", "root", "sign")


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Keyed:
    """A store of either kind, in which nothing was recorded yet."""
    return make_keyed(tmp_path / "site", request.param)


def check(site: Keyed, ids: set[str], message: str = "") -> None:
    """Assert that every event is there and proved, and that there is nothing to warn of."""
    verification = site.prove()
    told = f"{message}\n{say(verification)}"
    assert verification.ok, told
    assert not verification.warnings, told
    assert site.read_ids() == ids, told
    assert site.open().verify(pin=False).ok, told
    if verification.commit:
        public = site.open().verify(public_key=verification.public_key, pin=False)
        assert public.ok, f"{message}\n{say(public)}"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(STEPS), max_size=8), mode=st.sampled_from(MODES))
def test_every_order_of_recording_sealing_and_rotating_stays_sound(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], mode: str
) -> None:
    """Rotated before the first event or the first sealing, twice in a row, or late: everything is proved."""
    site = make_keyed(tmp_path_factory.mktemp("order") / "site", mode)
    ids: set[str] = set()
    rotations = 0
    for step in steps:
        if step == "record":
            ids.update(site.record())
        elif step == "seal":
            site.seal()
        else:
            site.rotate(root=step != "sign", sign=step != "root")
            rotations += 1
    if ids or rotations:
        site.seal()
    verification = site.prove()
    assert verification.ok, say(verification)
    assert {note.file for note in verification.warnings if ids or note.found != "no event is on record"} == set()
    assert site.read_ids() == ids
    assert verification.commit == len(site.commits())
    if verification.commit:
        assert json.loads((site.path / "store.json").read_bytes())["public_key"] is not None
        assert site.open().verify(public_key=verification.public_key, pin=False).ok


def test_a_rotation_before_anything_was_drawn_leaves_a_key_file(tmp_path: Path) -> None:
    """The first number of an ordinary store is 0 for both roots: the store is named by the first, and uses none of it.

    The key file must be one afterwards.
    """
    site = make_keyed(tmp_path / "site")
    site.rotate(sign=False)
    assert [n for n, _ in site.key.list_roots()] == [0, 1]
    ids = set(site.record())
    site.seal()
    check(site, ids)


def test_a_rotation_that_fails_before_a_number_is_drawn_can_be_repeated(site: Keyed) -> None:
    """Two roots that begin at the same number would make a file that nobody can read any more."""
    ids = set(site.record())
    site.seal()
    for _ in range(3):  # the ledger's folder takes nothing: a rotation ends between the key file and the commit
        site.key.renew(None if site.key.mode == ORDINARY else keep_offline(site.offline, site.store_id), sign=False)
    numbers = [n for n, _ in site.roots.list_roots()]
    assert numbers == sorted(set(numbers))
    site.rotate()
    ids.update(site.record())
    site.seal()
    check(site, ids)


def test_the_commit_says_it_and_the_old_key_vouches(site: Keyed) -> None:
    """Both keys sign the note of the commit that changes them; a rotation of the root alone changes no public key."""
    site.record()
    site.seal()
    first = site.open().verify(pin=False).public_key
    result = site.rotate()
    commit = read_commit(site.layout, result.commit)
    assert commit.why == "key"
    assert commit.keys is not None
    assert (
        (commit.keys["old"], commit.keys["new"])
        == (first, result.public_key)
        == (
            result.old_public_key,
            site.open().verify(pin=False).public_key,
        )
    )
    assert len(commit.checkpoint.split("\n\n")[1].splitlines()) == 2
    assert f"number {result.first_number}" in str(commit.detail) or site.key.mode == FORWARD_SECURE
    assert json.loads((site.path / "store.json").read_bytes())["public_key"] == result.public_key
    second = site.rotate(sign=False)
    assert second.old_public_key == second.public_key == result.public_key
    assert read_commit(site.layout, second.commit).keys is None
    assert site.rotate(root=False).first_number is None


def test_what_recorded_before_goes_on(site: Keyed) -> None:
    """A process that drew its number before goes on under the old root while others begin under the new one."""
    with auditkit.AuditLogger(site.path, key_file=site.key_file, enable_rotation=False) as audit:
        ids = {audit.log_event("before")}
        site.rotate()
        ids.add(audit.log_event("between"))
        ids.update(site.record())
        site.seal()
        ids.add(audit.log_event("after"))
        site.rotate()
        ids.add(audit.log_event("at last"))
    site.seal()
    check(site, ids)


RECORDING = """
import sys, auditkit
with auditkit.AuditLogger(sys.argv[1], key_file=sys.argv[2]) as audit:
    for line in sys.stdin:
        print(audit.log_event(line.strip()), flush=True)
        if line.strip() == "seal":
            audit.rotate()
"""


def test_another_process_records_through_rotations(site: Keyed) -> None:
    """A real process with its background sealer isn't disturbed by rotations, and all it recorded is proved."""
    ids = set()
    with subprocess.Popen(
        [sys.executable, "-c", RECORDING, site.path, site.key_file],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, line in enumerate(("a", "b", "seal", "c", "d")):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            ids.add(process.stdout.readline().strip())
            if number % 2:
                site.rotate()
        process.stdin.close()
        process.wait()
    site.seal()
    assert process.returncode == 0
    check(site, ids)


def test_the_thief_of_a_forward_secure_key_has_no_past(tmp_path: Path) -> None:
    """No root and no K[n] of a number that was drawn is in the machine's folder, from the beginning on."""
    site = make_keyed(tmp_path / "site", FORWARD_SECURE)

    def read_machine() -> str:
        files = [path for path in site.folder.rglob("*") if path.is_file() and path != site.offline]
        return "".join(path.read_bytes().hex() + path.read_bytes().decode(errors="replace") for path in files)

    def list_past() -> list[str]:
        drawn = int(json.loads(site.key_file.read_bytes())["n"])
        return [key.hex() for key in KeyFile(site.offline).find(range(drawn)).values()]

    assert KeyFile(site.offline).list_roots()[0][1].hex() not in read_machine()
    for act in (site.record, site.seal, site.rotate, site.record, site.rotate, site.seal):
        act()
        past = list_past()
        assert len(past) == json.loads(site.key_file.read_bytes())["n"]
        machine = read_machine()
        assert not any(key in machine for key in past)
        assert all(bytes.fromhex(key).hex() not in machine for key in past)
    current = bytes.fromhex(json.loads(site.key_file.read_bytes())["current"])
    n = json.loads(site.key_file.read_bytes())["n"]
    assert KeyFile(site.offline).find([n]) == {n: current}
    # Ratcheted on, the current key gives what comes and nothing that was.
    assert not {ratchet_key(current).hex(), current.hex()} & set(list_past())
    assert site.key.find(range(n + 3)) == {}


ROTATING = """
import os, signal, sys
from pathlib import Path
import auditkit.sealing
from tests.keyed import Keyed

template, work = Keyed(Path(sys.argv[1])), Path(sys.argv[2])
acts = {"root": {"sign": False}, "sign": {"root": False}, "both": {}}[sys.argv[3]]
number = 0
while True:
    number += 1
    site = template.copy(work / f"{number:03}")
    child = os.fork()
    if not child:
        left = number
        def watch(event, arguments):
            global left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_WRONLY)
            if writes or event in ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir"):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        site.rotate(**acts)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not status:
        break
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def list_killed(site: Keyed, work: Path, what: str) -> Iterator[Keyed]:
    """Rotate copies of a store in real processes, each killed one step later than the one before."""
    finished = subprocess.run(
        [sys.executable, "-c", ROTATING, site.folder, work, what],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    codes = finished.stdout.split()
    assert len(codes) > 10
    assert set(codes) == {str(-signal.SIGKILL)}
    for number in range(1, len(codes) + 2):
        yield Keyed(work / f"{number:03}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, what, sealed",
    [
        (ORDINARY, "both", True),
        (ORDINARY, "both", False),
        (ORDINARY, "root", True),
        (FORWARD_SECURE, "both", True),
        (FORWARD_SECURE, "root", False),
        (FORWARD_SECURE, "sign", True),
    ],
)
def test_a_rotation_killed_at_any_step_is_finished_by_the_next_act(
    tmp_path: Path, mode: str, what: str, sealed: bool
) -> None:
    """SIGKILL before each change of a file: a sealing, or another rotation, goes on, and everything is proved."""
    site = make_keyed(tmp_path / "site", mode)
    ids = set(site.record())
    if sealed:
        site.seal()
    for number, killed in enumerate(list_killed(site, tmp_path / "killed", what)):
        message = f"{mode}, {what}, killed at {number + 1}"
        mine = {*ids, *killed.record(1)}
        before = killed.open().verify(pin=False)
        assert before.ok, f"{message}\n{say(before)}"
        # A root that was put away without being used is dropped by the next rotation, so that one comes first here.
        if number % 2 and not (mode == FORWARD_SECURE and what != "sign"):
            killed.seal()
        killed.rotate(root=what != "sign", sign=what != "root")
        mine.update(killed.record(1))
        killed.seal()
        verification = killed.prove()
        assert verification.ok, f"{message}\n{say(verification)}"
        assert killed.read_ids() == mine, message
        assert "retiring" not in json.loads(killed.key_file.read_bytes()), message
        public = killed.open().verify(public_key=verification.public_key, pin=False)
        assert public.ok, f"{message}\n{say(public)}"
        assert not [path.name for path in killed.folder.iterdir() if path.name.startswith(".")], message
        shutil.rmtree(killed.folder)


RACING = """
import sys
from pathlib import Path
from tests.keyed import Keyed
for _ in range(3):
    Keyed(Path(sys.argv[1])).rotate()
"""


def test_rotations_of_several_processes_take_turns(site: Keyed) -> None:
    """Each of them is in the ledger, in some order, and none is lost."""
    ids = set(site.record())
    racing = [subprocess.Popen([sys.executable, "-c", RACING, site.folder], cwd=CHECKOUT) for _ in range(2)]
    site.seal()
    assert [process.wait() for process in racing] == [0, 0]
    ids.update(site.record())
    site.seal()
    assert len(site.commits()) == 6 + 2
    assert len(site.roots.list_roots()) == 1 + 6
    check(site, ids)


@pytest.mark.parametrize("what", [{}, {"root": False}, {"sign": False}])
def test_an_older_copy_of_the_key_file_is_refused(site: Keyed, what: dict[str, bool]) -> None:
    """Restored behind a rotation it would sign what nobody can prove: the error says so, and nothing is overwritten."""
    site.record()
    site.seal()
    older = site.key_file.read_bytes()
    site.rotate(**what)
    site.record()
    newest = site.key_file.read_bytes()
    site.key_file.write_bytes(older)
    commits = [path.read_bytes() for path in site.commits()]
    for act in (site.seal, site.rotate):
        with pytest.raises(KeyMismatch, match=r"older"):
            act()
    assert site.key_file.read_bytes() == older
    assert [path.read_bytes() for path in site.commits()] == commits
    site.key_file.write_bytes(newest)
    site.seal()
    assert site.prove().ok


def test_a_key_folder_that_takes_nothing_changes_nothing(site: Keyed, tmp_path: Path) -> None:
    """Neither the machine's key nor the offline one is touched, and the message names the file."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    site.record()
    site.seal()
    keys = tmp_path / "keys"
    keys.mkdir()
    moved = keys / "audit.key"
    shutil.copy(site.key_file, moved)
    offline = site.offline.read_bytes() if site.offline.exists() else b""
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", keys, keys], capture_output=True, check=False)
    if mounted.returncode or subprocess.run(["mount", "-o", "remount,ro,bind", keys], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        keep = keep_offline(site.offline, site.store_id) if offline else None
        with pytest.raises(KeyProblem, match=r"can be written at .*audit\.key"):
            rotate_keys(site.layout, KeyFile(moved), keep)
    finally:
        subprocess.run(["umount", keys], check=True)
    assert moved.read_bytes() == site.key_file.read_bytes()
    assert not offline or site.offline.read_bytes() == offline
    assert len(site.commits()) == 1


def test_a_given_secret_is_not_rotated(tmp_path: Path) -> None:
    """Whoever holds it has everything: the message says what to do instead, and doesn't show it."""
    secret = "a secret that only this test knows"
    with auditkit.AuditLogger(tmp_path / "audit", secret_key=secret, enable_rotation=False) as audit:
        audit.log_event("x")
    with pytest.raises(UsageError, match="new store with a new secret") as caught:
        auditkit.open(tmp_path / "audit", secret_key=secret).rotate_keys()
    assert secret not in str(caught.value)
    with pytest.raises(UsageError, match="key file"):
        rotate_keys(make_keyed(tmp_path / "site").layout, GivenKey(secret))


def test_a_rotation_of_nothing_is_refused(site: Keyed) -> None:
    """Neither of the two keys."""
    with pytest.raises(UsageError, match="found neither"):
        site.rotate(root=False, sign=False)


def test_a_root_goes_where_it_belongs(tmp_path: Path) -> None:
    """A forward-secure store needs the offline file, an ordinary one has none; nothing is changed by the error."""
    ordinary, secure = make_keyed(tmp_path / "a"), make_keyed(tmp_path / "b", FORWARD_SECURE)
    for site, keep in ((ordinary, keep_offline(secure.offline, ordinary.store_id)), (secure, None)):
        before = site.key_file.read_bytes()
        with pytest.raises(UsageError, match="--root-file"):
            rotate_keys(site.layout, site.key, keep)
        assert site.key_file.read_bytes() == before
        assert not site.commits()
    with pytest.raises(KeyProblem, match="offline root"):
        rotate_keys(secure.layout, KeyFile(secure.offline), keep_offline(secure.offline, secure.store_id))


@pytest.mark.parametrize("mode", MODES)
def test_no_error_and_no_result_shows_a_secret(tmp_path: Path, mode: str) -> None:
    """Whatever is printed of rotations, results, trails, loggers and their errors."""
    site = make_keyed(tmp_path / "site", mode)
    site.record()
    secrets: set[str] = set()

    def collect() -> None:
        for path in (site.key_file, site.offline):
            if path.exists():
                secrets.update(word for word in path.read_text().replace('"', " ").split() if len(word) == 64)

    collect()
    shown = [repr(site.rotate()), str(site.seal()), repr(site.open()), str(site.prove()), repr(site.roots)]
    collect()
    trail = site.open()
    trail.find_keys()
    shown += [repr(vars(trail)), str(site.prove().to_frame())]
    older = site.key_file.read_bytes()
    site.rotate()
    collect()
    site.key_file.write_bytes(older)
    for act in (site.seal, site.rotate, lambda: site.rotate(root=False, sign=False)):
        with pytest.raises(AuditError) as caught:
            act()
        error: BaseException | None = caught.value
        while error is not None:
            shown += [repr(error), str(error), repr(vars(error))]
            error = error.__cause__ or error.__context__
    for path in (*site.commits(), site.path / "store.json"):
        shown.append(path.read_text())
    assert len(secrets) >= (5 if mode == ORDINARY else 4)
    text = "\n".join(shown)
    assert not [secret for secret in secrets if secret in text]
