"""Key files: who gets which number, what is refused, and that nothing is shown."""

from __future__ import annotations

import dis
import gc
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditkit.errors import KeyMismatch, KeyMissing, KeyProblem, UsageError
from auditkit.keys import GivenKey, identify_key, ratchet_key
from auditkit.store import durable, keyring
from auditkit.store.keyring import (
    KeyFile,
    KeyWarning,
    choose_given,
    find_keys,
    format_offline,
    keep_offline,
    locate_key_file,
    read_secret,
)
from tests.sealing.sealers import find_strace

SECRET = "a secret that only these tests know"

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a key file may be made; the folders aren't there yet."""
    return tmp_path / "home" / "keys" / "store.key"


def test_a_new_key_file_is_its_owners_alone(path: Path) -> None:
    """Mode 0600 in a folder of mode 0700, whatever the umask, and the folder above it too."""
    before = os.umask(0)
    try:
        KeyFile.create(path, "store")
        KeyFile(path).draw()
    finally:
        os.umask(before)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_each_number_is_drawn_once_with_its_key(path: Path) -> None:
    """K[n+1] follows K[n]; the numbers go on in another process, and the root gives each key again."""
    keys = KeyFile.create(path, "store")
    root = bytes.fromhex(json.loads(path.read_text())["root"])
    drawn = [keys.draw() for _ in range(3)] + [KeyFile(path).draw()]
    expected = [root]
    for _ in range(3):
        expected.append(ratchet_key(expected[-1]))
    assert drawn == list(enumerate(expected))
    assert keys.find([3, 0, 1, 2, 0]) == dict(enumerate(expected))
    assert keys.count_drawn("store") == 4
    assert keys.count_drawn("another store") is None
    assert keys.key_id == identify_key(root)


def test_two_key_files_have_nothing_in_common(tmp_path: Path) -> None:
    """Each is drawn at random."""
    first, second = (KeyFile.create(tmp_path / name, "store") for name in ("a", "b"))
    assert first.key_id != second.key_id
    assert first.draw()[1] != second.draw()[1]
    assert first.signing_seed != second.signing_seed


def test_the_first_of_several_creators_makes_the_key(path: Path) -> None:
    """Threads that create the same key file at once all have the same key."""
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: KeyFile.create(path, "store").key_id, range(16)))
    assert len(set(made)) == 1


DRAW = """
import pathlib, sys
from auditkit.store import durable, keyring
from auditkit.store.keyring import KeyFile
keys = KeyFile(pathlib.Path(sys.argv[1]))
print(*(keys.draw()[0] for _ in range(20)))
"""


def test_processes_never_draw_the_same_number(path: Path) -> None:
    """Eight processes draw twenty numbers each; all are different and none is left out."""
    KeyFile.create(path, "store")
    processes = [
        subprocess.Popen([sys.executable, "-c", DRAW, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    numbers = [int(number) for process in processes for number in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(numbers) == list(range(160))


def test_a_killed_process_leaves_a_whole_key_file(path: Path) -> None:
    """Whenever the process that draws is killed, the file can be read and goes on counting."""
    KeyFile.create(path, "store")
    endless = DRAW.replace(
        "print(*(keys.draw()[0] for _ in range(20)))", "while True: print(keys.draw()[0], flush=True)"
    )
    last = -1
    for _ in range(6):
        command = [sys.executable, "-c", endless, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
            lines = process.stdout.read().split("\n")
        number, key = KeyFile(path).draw()
        assert number > last
        assert number >= max((int(line) for line in lines[:-1]), default=-1) + 1
        assert KeyFile(path).find([number]) == {number: key}
        last = number


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"mode": "forward"},
        {"auditkit": "store"},
        {"root": "00"},
        {"root": None},
        {"sign": "zz" * 32},
        {"current": ""},
        {"n": -1},
        {"n": "0"},
        {"n": True},
        {"store": 7},
    ],
)
def test_a_file_that_is_no_key_file_is_refused_without_being_shown(path: Path, change: dict[str, object]) -> None:
    """The message names the file and what to do, and shows nothing of what may still be a key."""
    KeyFile.create(path, "store")
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | change))
    with pytest.raises(KeyMismatch, match=r"restore it from its backup") as caught:
        KeyFile(path)
    assert str(path) in str(caught.value)
    assert not any(state[name] in str(caught.value) for name in ("root", "sign", "current"))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'"key"', b"7"])
def test_other_content_is_refused(path: Path, content: bytes) -> None:
    """Whatever stands in the file, the error is ours."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(KeyMismatch, match="expected an auditkit key file"):
        KeyFile(path)


def test_a_missing_key_file_says_what_to_do(path: Path) -> None:
    """The error names every way to give a key."""
    with pytest.raises(KeyMissing, match=r"key_file=.*secret_key=.*AUDITKIT_KEY_FILE.*AUDITKIT_KEY"):
        KeyFile(path)


def test_a_key_file_that_vanishes_is_missed_at_the_next_draw(path: Path) -> None:
    """Removed under a running process, it's an error of ours and no new key is made."""
    keys = KeyFile.create(path, "store")
    path.unlink()
    with pytest.raises(KeyMissing):
        keys.draw()
    assert not path.exists()


def test_a_key_file_may_be_reached_through_links(tmp_path: Path) -> None:
    """As Kubernetes mounts its secrets; the file that the links lead to is locked and counts, and they stay links."""
    real = tmp_path / "..2026_11_23" / "store.key"
    keys = KeyFile.create(real, "store")
    (tmp_path / "..data").symlink_to(real.parent.name)
    link = tmp_path / "store.key"
    link.symlink_to("..data/store.key")
    assert KeyFile(link).key_id == keys.key_id
    KeyFile(link).check_drawing()
    assert [KeyFile(link).draw()[0], keys.draw()[0], KeyFile(link).draw()[0]] == [0, 1, 2]
    assert link.is_symlink()
    assert sorted(file.name for file in real.parent.iterdir()) == ["store.key", "store.key.lock"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["..2026_11_23", "..data", "store.key"]


KILLED = """
import pathlib, resource, signal, sys
from auditkit.store import durable, keyring
from auditkit.store.keyring import KeyFile
keys = KeyFile(pathlib.Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
keys.draw()
"""


def list_leftovers(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name.startswith("."))


@pytest.mark.parametrize("act", ["draw", "check_drawing", "create"])
def test_what_a_killed_process_left_beside_the_key_is_removed(path: Path, act: str) -> None:
    """A half-written copy of the key doesn't lie there for ever: the next that holds the lock removes it."""
    keys = KeyFile.create(path, "store")
    finished = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert finished.returncode == -signal.SIGXFSZ
    (leftover,) = list_leftovers(path.parent)
    # Another key's belongs to the holders of another lock, and what can't be removed stops nobody.
    (path.parent / ".other.key.0123456789ab").write_text("another's")
    (path.parent / ".store.key.0123456789ab").mkdir()
    if act == "create":
        KeyFile.create(path, "store")
    else:
        getattr(keys, act)()
    assert leftover.startswith(".store.key.")
    assert list_leftovers(path.parent) == [".other.key.0123456789ab", ".store.key.0123456789ab"]
    assert keys.draw()[0] == (1 if act == "draw" else 0)


def test_a_check_draws_nothing(path: Path) -> None:
    """Whoever makes sure that a key file can be written leaves its numbers as they are."""
    keys = KeyFile.create(path, "store")
    keys.draw()
    before = path.read_bytes()
    keys.check_drawing()
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["audit/store.key", "audit/keys/deep/store.key", "link", "audit/../audit/store.key"])
def test_a_key_in_its_store_is_refused(tmp_path: Path, place: str) -> None:
    """Whoever has the store would have the key, whichever way leads to it; the message doesn't only forbid."""
    (tmp_path / "audit").mkdir()
    path = tmp_path / place
    keys = KeyFile.create(tmp_path / "audit" / "store.key" if place == "link" else path, "store")
    if place == "link":
        path.symlink_to("audit/store.key")
    with pytest.raises(KeyProblem, match=r"expected a key file outside the store.*Move it elsewhere"):
        find_keys("store", keys.key_id, key_file=path, root=tmp_path / "audit")


def test_a_link_in_the_store_to_a_key_outside_is_no_key(tmp_path: Path) -> None:
    """What counts is where the key itself lies."""
    keys = KeyFile.create(tmp_path / "store.key", "store")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "link").symlink_to("../store.key")
    found = find_keys("store", keys.key_id, key_file=tmp_path / "audit" / "link", root=tmp_path / "audit")
    assert found.key_id == keys.key_id


@pytest.mark.parametrize("mode, readers", [(0o644, "every user"), (0o604, "every user"), (0o640, "its group")])
def test_a_key_that_others_can_read_is_warned_of(path: Path, mode: int, readers: str) -> None:
    """Everything works, and the one who opens it is told once who can read it and what to do."""
    keys = KeyFile.create(path, "store")
    path.chmod(mode)
    with pytest.warns(KeyWarning, match=rf"{readers} can \(mode {mode:04o}\).*chmod 600") as caught:
        find_keys("store", keys.key_id, key_file=path, root=path.with_name("audit"))
    assert len(caught) == 1
    path.chmod(0o600)
    find_keys("store", keys.key_id, key_file=path, root=path.with_name("audit"))


def test_a_key_that_a_group_lends_is_not_warned_of(path: Path) -> None:
    """A secret of root that a container's process reads through its group is as closed as it can be."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user needs root")
    keys = KeyFile.create(path, "store")
    os.chown(path, 12345, -1)
    path.chmod(0o440)
    find_keys("store", keys.key_id, key_file=path, root=path.with_name("audit"))


def test_a_relative_path_holds_after_the_folder_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that goes to another folder still draws from its key file."""
    monkeypatch.chdir(tmp_path)
    keys = KeyFile.create(Path("k.key"), "store")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys.draw()[0] == 0
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_child_gets_the_same_keys(path: Path) -> None:
    """What is described over a pipe makes the same keys again; a file's description is only its path."""
    for keys in (KeyFile.create(path, "store"), GivenKey(SECRET)):
        again = read_secret(json.loads(json.dumps(keys.to_secret())))
        assert again.key_id == keys.key_id
        assert again.signing_seed == keys.signing_seed
    assert KeyFile(path).to_secret() == {"key_file": str(path)}


def test_arguments_go_before_variables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret, a file, $AUDITKIT_KEY, $AUDITKIT_KEY_FILE, in this order, else the store's own."""
    assert choose_given(None, None) is None
    monkeypatch.setenv("AUDITKIT_KEY_FILE", str(path))
    assert choose_given(None, None) == path
    monkeypatch.setenv("AUDITKIT_KEY", "from the environment")
    given = choose_given(None, None)
    assert isinstance(given, GivenKey)
    assert given.key_id == GivenKey("from the environment").key_id
    assert choose_given(None, "named") == Path("named")
    chosen = choose_given(SECRET, None)
    assert isinstance(chosen, GivenKey)
    assert chosen.key_id == GivenKey(SECRET).key_id
    with pytest.raises(UsageError, match="found both") as caught:
        choose_given(SECRET, "named")
    assert SECRET not in str(caught.value)


def test_the_wrong_key_is_refused(path: Path) -> None:
    """Both keys are named, neither is shown."""
    keys = KeyFile.create(path, "store")
    elsewhere = path.with_name("audit")
    assert find_keys("store", keys.key_id, key_file=path, root=elsewhere).key_id == keys.key_id
    with pytest.raises(KeyMismatch, match=keys.key_id) as caught:
        find_keys("store", keys.key_id, secret_key=SECRET, root=elsewhere)
    assert SECRET not in str(caught.value)
    assert GivenKey(SECRET).key_id in str(caught.value)


def test_a_stores_own_key_lies_with_the_users_data(isolated_user: Path) -> None:
    """By the platform's convention, named after the store and outside of it."""
    path = locate_key_file("k3f9")
    assert path == isolated_user / ".local" / "share" / "auditkit" / "keys" / "k3f9.key"


@cache
def find_interruptible(code: CodeType) -> set[int]:
    """Find where Python looks for signals: behind a call, where a function begins, and where a loop begins again."""
    offsets, before = set(), ""
    for step in dis.get_instructions(code):
        if before in ("CALL", "CALL_FUNCTION_EX", "RESUME"):
            offsets.add(step.offset)
        if step.opname == "JUMP_BACKWARD":
            offsets.add(step.argval)
        before = step.opname
    return offsets


# A file that was just being opened has nobody yet who closes it but Python, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_is_kept_keeps_no_lock(path: Path) -> None:
    """Ctrl-C may end a draw at any of its calls, and Jupyter keeps the exception: the next draw finds the lock free.

    A debugger's trace function raises at the first place where Python looks for signals, then at the second, and so on
    until a draw comes to its end.
    """
    KeyFile.create(path, "store")
    keys = KeyFile(path)
    own = {keyring.__file__, durable.__file__}
    kept: list[KeyboardInterrupt] = []
    drawn: list[int] = []
    while not drawn:
        places = count()

        def trace(frame: FrameType, event: str, _argument: object, places: Iterator[int] = places) -> Any:
            if frame.f_code.co_filename not in own:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and frame.f_lasti in find_interruptible(frame.f_code) and next(places) == len(kept):
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            drawn.append(keys.draw()[0])
        except KeyboardInterrupt as interruption:
            kept.append(interruption)
        finally:
            sys.settrace(before)
        with durable.hold_lock(path.with_name(path.name + ".lock"), wait=False) as held:
            assert held, f"place {len(kept)}"
    assert len(kept) > 100
    kept.clear()
    gc.collect()  # what Python has to say of files that were being opened, it says here and not in another test
    assert keys.draw()[0] == drawn[0] + 1


@pytest.fixture
def secure(tmp_path: Path) -> tuple[KeyFile, Path]:
    """A forward-secure key file, and where its root lies."""
    offline = tmp_path / "usb" / "root.key"
    offline.parent.mkdir()
    keep = keep_offline(offline, "store")
    return KeyFile.create(tmp_path / "machine" / "store.key", "store", keep_root=keep), offline


def read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(path.read_bytes())
    return state


def test_a_forward_secure_file_never_held_its_root(secure: tuple[KeyFile, Path]) -> None:
    """The first number is the root's own and isn't drawn; the offline file gives every key, the machine's none."""
    keys, offline = secure
    state = read_state(keys.path)
    root = KeyFile(offline).list_roots()[0][1]
    assert (state["mode"], state["n"], state["skipped"]) == ("forward-secure", 1, [0])
    assert root.hex() not in keys.path.read_text()
    assert keys.key_id == KeyFile(offline).key_id == identify_key(root)
    drawn = [keys.draw() for _ in range(3)]
    assert [n for n, _ in drawn] == [1, 2, 3]
    assert KeyFile(offline).find([1, 2, 3]) == dict(drawn)
    assert keys.find([0, 1, 2, 3, 4]) == {}
    assert keys.list_roots() == []
    assert (keys.list_skipped(), KeyFile(offline).list_skipped()) == ([0], [0])
    assert (keys.count_drawn("store"), KeyFile(offline).count_drawn("store")) == (4, None)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["draw", "root", "sign", "both"]), max_size=10), mode=st.sampled_from(["o", "f"]))
def test_each_number_has_one_key_however_roots_are_renewed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], mode: str
) -> None:
    """Numbers only go up, none is drawn twice, and the roots give again what was drawn."""
    folder = tmp_path_factory.mktemp("keys")
    keep = keep_offline(folder / "root.key", "store") if mode == "f" else None
    keys = KeyFile.create(folder / "store.key", "store", keep_root=keep)
    drawn: list[tuple[int, bytes]] = []
    seeds = [keys.signing_seed]
    for step in steps:
        if step == "draw":
            drawn.append(keys.draw())
            continue
        keys.renew(keep if step != "sign" else None, root=step != "sign", sign=step != "root")
        if step != "root":
            assert keys.retiring_seed == seeds[-1]
            seeds.append(keys.signing_seed)
            keys.retire()
            assert keys.retiring_seed is None
    drawn.append(keys.draw())
    roots = KeyFile(folder / "root.key") if mode == "f" else keys
    numbers = [n for n, _ in drawn]
    assert numbers == sorted(set(numbers))
    assert roots.find(numbers) == dict(drawn)
    assert len(set(seeds)) == len(seeds)
    assert KeyFile(keys.path).key_id == keys.key_id == roots.key_id
    starts = [n for n, _ in roots.list_roots()]
    assert not set(numbers) & set(keys.list_skipped())
    if mode == "f":
        assert starts == keys.list_skipped()
        assert not set(keys.path.read_text().split('"')) & {
            key.hex() for key in roots.find(range(numbers[-1])).values()
        }


def test_a_renewal_that_the_ledger_does_not_have_yet_keeps_others_out(path: Path) -> None:
    """The old signing key would be lost with the second renewal; the message says what finishes the first."""
    keys = KeyFile.create(path, "store")
    keys.renew(root=False)
    before = path.read_bytes()
    with pytest.raises(KeyProblem, match="auditkit seal"):
        keys.renew()
    assert path.read_bytes() == before
    keys.retire()
    keys.retire()
    keys.renew()


def test_an_offline_root_draws_and_signs_nothing(secure: tuple[KeyFile, Path]) -> None:
    """It verifies; on the machine it would give the past away, so whoever would use it so is told."""
    offline = KeyFile(secure[1])
    secure[1].chmod(0o400)
    for act in (
        offline.draw,
        offline.check_drawing,
        offline.renew,
        offline.retire,
        lambda: offline.signing_seed,
    ):
        with pytest.raises(KeyProblem, match="offline root"):
            act()
    before = sorted(secure[1].parent.iterdir())
    with pytest.raises(KeyProblem, match="offline root"):
        offline.check_drawing()
    assert sorted(secure[1].parent.iterdir()) == before
    assert offline.retiring_seed is None


def test_the_offline_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    """Mode 0600; a file that is there, a link and a folder stay, and no key file is made then."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("file", "link", "folder"):
        with pytest.raises(KeyProblem, match="expected no file"):
            KeyFile.create(tmp_path / "store.key", "store", keep_root=keep_offline(tmp_path / name, "store"))
        assert not (tmp_path / "store.key").exists()
    assert (tmp_path / "file").read_text() == "mine"
    KeyFile.create(tmp_path / "store.key", "store", keep_root=keep_offline(tmp_path / "root.key", "store"))
    assert stat.S_IMODE((tmp_path / "root.key").stat().st_mode) == 0o600


def test_a_root_is_not_put_where_its_medium_should_be(tmp_path: Path) -> None:
    """A stick that isn't mounted: a folder made in its place would lie on the machine."""
    keep = keep_offline(tmp_path / "media" / "usb" / "root.key", "store")
    with pytest.raises(KeyProblem, match=r"offline key file.*No such file.*mounted"):
        KeyFile.create(tmp_path / "store.key", "store", keep_root=keep)
    assert not (tmp_path / "media").exists()
    assert not (tmp_path / "store.key").exists()


def test_a_root_beside_itself_is_no_offline_root(tmp_path: Path) -> None:
    """The key file's own name for the root: the store would have a key that only verifies."""
    with pytest.raises(KeyProblem, match="away from the key file"):
        KeyFile.create(tmp_path / "k", "store", keep_root=keep_offline(tmp_path / "k", "store"))


LINKLESS = """
import pathlib, sys
from auditkit.store.keyring import KeyFile, keep_offline
folder = pathlib.Path(sys.argv[1])
keep = keep_offline(folder / "root.key", "store")
keep(0, bytes(32), ())
keep(4, bytes([1] * 32), (0,))
print([n for n, _ in KeyFile(folder / "root.key").list_roots()])
"""


def test_a_root_can_lie_on_a_stick_that_knows_no_links(tmp_path: Path) -> None:
    """The FAT of USB sticks refuses link(2), by which other files are made: here strace refuses it."""
    command = [find_strace(), "-f", "-qq", "-o", "/dev/null", "-e", "trace=link,linkat"]
    command += ["-e", "inject=link,linkat:error=EPERM", sys.executable, "-c", LINKLESS, str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.stdout, finished.stderr) == ("[0, 4]\n", "")
    assert [file.name for file in tmp_path.iterdir()] == ["root.key"]


def test_only_the_stores_newest_offline_file_takes_a_root(secure: tuple[KeyFile, Path], tmp_path: Path) -> None:
    """Another store's, a machine's own, an older copy and none are refused, and no key is changed."""
    keys, offline = secure
    keys.draw()
    older = tmp_path / "older.key"
    older.write_bytes(offline.read_bytes())
    keys.renew(keep_offline(offline, "store"), sign=False)
    other = tmp_path / "other.key"
    other.write_bytes(format_offline("other\x1b[31m" * 100, [(0, bytes(32))]))
    before = {path: path.read_bytes() for path in (keys.path, offline, older, other)}
    for name, expected in {
        older: "an older copy",
        other: r"a offline one of store 'other\\x1b\[31m.{0,100}:",
        keys.path: "a forward-secure one",
        tmp_path / "none": "expected a key file",
    }.items():
        with pytest.raises((KeyMismatch, KeyMissing), match=expected) as caught:
            keys.renew(keep_offline(name, "store"))
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert {path: path.read_bytes() for path in before} == before


def test_a_root_that_was_put_away_and_never_used_is_dropped(secure: tuple[KeyFile, Path]) -> None:
    """A renewal that ended between its two files: what was drawn since is the old root's, and the next one says so."""
    keys, offline = secure
    keys.draw()
    keep = keep_offline(offline, "store")

    def keep_and_die(n: int, root: bytes, earlier: Sequence[int]) -> None:
        keep(n, root, earlier)
        raise KeyboardInterrupt

    for _ in range(2):
        before = keys.path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            keys.renew(keep_and_die)
        assert keys.path.read_bytes() == before
        assert len(KeyFile(offline).list_roots()) == 2
    drawn = [keys.draw(), keys.draw()]
    keys.renew(keep)
    drawn.append(keys.draw())
    assert KeyFile(offline).find(n for n, _ in drawn) == dict(drawn)
    assert [n for n, _ in KeyFile(offline).list_roots()] == keys.list_skipped() == [0, 4]


def test_a_full_disk_keeps_the_old_key(secure: tuple[KeyFile, Path], tmp_path: Path) -> None:
    """A stick without room takes no root: the machine's key and the roots that are there stay as they were."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    keys, offline = secure
    stick = tmp_path / "stick"
    stick.mkdir()
    options = ["-o", "size=16k,nr_inodes=20", "tmpfs"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, stick], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        moved = stick / "root.key"
        moved.write_bytes(offline.read_bytes())
        with (stick / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(b"x" * 512):
                pass
        before = keys.path.read_bytes(), moved.read_bytes()
        with pytest.raises(OSError, match="No space left") as caught:
            keys.renew(keep_offline(moved, "store"))
        assert caught.value.filename == str(moved)
        with pytest.raises(OSError, match="No space left"):
            KeyFile.create(tmp_path / "new.key", "store", keep_root=keep_offline(stick / "new.key", "store"))
        assert (keys.path.read_bytes(), moved.read_bytes()) == before
        assert sorted(file.name for file in stick.iterdir()) == ["ballast", "root.key"]
        assert not (tmp_path / "new.key").exists()
        (stick / "ballast").unlink()
        keys.renew(keep_offline(moved, "store"))
    finally:
        subprocess.run(["umount", stick], check=True)


HOSTILE: list[dict[str, object]] = [
    {"n": 1 << 63},
    {"n": (1 << 64) - 1},
    {"n": 1 << 33},
    {"n": 1.0},
    {"n": None},
    {"renewed": [[3, "00" * 32], [3, "11" * 32]]},
    {"renewed": [[5, "00" * 32], [3, "11" * 32]]},
    {"renewed": [[0, "00" * 32]]},
    {"renewed": [[3, "00" * 31]]},
    {"renewed": [[3, "zz" * 32]]},
    {"renewed": [[3.5, "00" * 32]]},
    {"renewed": [[-3, "00" * 32]]},
    {"renewed": [[True, "00" * 32]]},
    {"renewed": [[3]]},
    {"renewed": [3]},
    {"renewed": 3},
    {"renewed": {"3": "00" * 32}},
    {"skipped": [-1]},
    {"skipped": 7},
    {"skipped": ["0"]},
    {"retiring": "00"},
    {"retiring": None},
    {"retiring": 7},
    {"mode": ["ordinary"]},
    {"mode": None},
    {"mode": "forward-secure"},
    {"mode": "forward-secure", "key_id": "\x1b[31m" * 4, "skipped": []},
    {"mode": "forward-secure", "key_id": 7, "skipped": []},
    {"mode": "forward-secure", "key_id": "0" * 16},
    {"mode": "offline"},
    {"mode": "offline", "roots": []},
    {"mode": "offline", "roots": [[0, "00" * 32], [0, "00" * 32]]},
    {"mode": "offline", "roots": "0" * 64},
]


@pytest.mark.parametrize("change", HOSTILE)
def test_a_key_file_with_hostile_values_is_none(path: Path, change: dict[str, object]) -> None:
    """Whatever stands in it, the error is ours, shows no key, and nothing is computed without end."""
    KeyFile.create(path, "store")
    state = read_state(path)
    path.write_text(json.dumps(state | change))
    with pytest.raises(KeyMismatch, match="restore it from its backup") as caught:
        KeyFile(path)
    assert not any(state[name] in str(caught.value) for name in ("root", "sign", "current"))


@pytest.mark.parametrize("data", [b"\0" * 100, b" " * (10 << 20), b'{"auditkit":"key","v":1,' * 10000, b"[" * 100000])
def test_a_key_file_of_anything_is_refused_quickly(path: Path, data: bytes) -> None:
    """Null bytes, ten megabytes, and brackets that nobody closes."""
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(KeyMismatch) as caught:
        KeyFile(path)
    assert len(str(caught.value)) < 500


def test_a_key_file_takes_roots_for_a_lifetime(path: Path) -> None:
    """One more than can be read is never written: the message says so, and the file stays."""
    KeyFile.create(path, "store").draw()
    state = read_state(path)
    state["renewed"] = [[n, f"{n:064x}"] for n in range(1, 5000)]
    path.write_text(json.dumps(state | {"n": 5000}))
    keys = KeyFile(path)
    keys.renew()
    keys.retire()
    keys.draw()
    state["renewed"] = [[n, f"{n:064x}"] for n in range(1, 12000)]
    path.write_text(json.dumps(state | {"n": 12000}, separators=(",", ":")))
    before = path.read_bytes()
    with pytest.raises(KeyProblem, match="begin a new store"):
        keys.renew()
    assert path.read_bytes() == before
    assert KeyFile(path).list_roots()


def test_all_kinds_of_key_files_show_nothing(secure: tuple[KeyFile, Path], path: Path) -> None:
    """Neither printed nor pickled, nor as variables, nor in what a child process gets."""
    for keys in (*(KeyFile(each) for each in (secure[0].path, secure[1])), KeyFile.create(path, "store")):
        hidden = [word for word in keys.path.read_text().split('"') if len(word) == 64]
        assert hidden
        shown = f"{keys!r} {keys} {keys.to_secret()} {[getattr(keys, name) for name in KeyFile.__slots__]}"
        assert not any(word in shown for word in hidden)
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(keys)
        with pytest.raises(TypeError, match="__dict__"):
            vars(keys)
        assert json.loads(json.dumps(keys.to_secret())) == {"key_file": str(keys.path)}


def test_without_a_home_folder_a_key_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have none: the message says what to set, and nothing is made in the working directory."""
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable)
    child = os.fork()
    if not child:
        os.setuid(54321)
        try:
            locate_key_file("k3f9")
        except KeyMissing as error:
            os._exit(0 if "$XDG_DATA_HOME" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
