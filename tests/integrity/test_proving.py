"""Proving with helpers: whatever they do, die, hang or answer, the verdict is the one that a single process reaches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit import sealing, tree
from auditkit.chains import KeyTable, WriterKeys
from auditkit.errors import StoreDamaged
from auditkit.event import BODY_KEYS, MAX_INTEGER, STRING_KEYS, encode_body, join_line, make_schema
from auditkit.integrity import Verification, helpers, proving, walks
from auditkit.keys import GivenKey
from auditkit.store import engine, ledger, segment_writer, segments
from auditkit.store.ledger import LedgerState, SegmentEntry
from auditkit.store.runs import Run
from tests.integrity.stores import (
    CHECKOUT,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    add_events,
    make_sample,
    make_site,
    say,
)
from tests.integrity.tampering import damage_segment, tamper_with_segment

# -- stores and processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make row groups of some events, so that a small store is divided as a large one is."""
    monkeypatch.setattr(segment_writer, "ROW_GROUP_ROWS", 16)
    monkeypatch.setattr(sealing, "CHUNK_BYTES", 4000)
    monkeypatch.setattr(proving, "SLICE_ROWS", 8)
    monkeypatch.setattr(helpers, "READY_ROWS", 20)
    return monkeypatch


@pytest.fixture
def helped(small: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have every store verified with the help of another process, which is there from the beginning."""
    small.setattr(proving, "MIN_EVENTS", 1)
    small.setattr(proving, "_count_cores", lambda: 2)
    small.setattr(proving.Prover, "_start", start_and_await)
    return small


start = proving.Prover._start


def start_and_await(prover: proving.Prover) -> None:
    """Start the helpers, and wait for them; they would come too late for a small store."""
    start(prover)
    for helper in prover._helpers:
        helper.wait(30)
        helper.collect()


@pytest.fixture
def answered(helped: pytest.MonkeyPatch) -> list[int]:
    """Count the rows of the slices that helpers proved, and of those that they gave up."""
    counts = [0, 0]
    collect = helpers.Helper.collect

    def count(helper: helpers.Helper[Any]) -> Any:
        answers = collect(helper)
        for task, proof in answers:
            counts[proof is None] += task.slice.rows
        return answers

    helped.setattr(helpers.Helper, "collect", count)
    return counts


_stores: list[Site] = []


def make_store(folder: Path) -> Site:
    """Give a copy of a store of several dates, writers, epochs, gaps and commits, whose runs go on through them."""
    if not _stores:
        _stores.append(_make_store(Path(tempfile.mkdtemp(prefix="auditkit-tests-")) / "site"))
    return _stores[0].copy(folder)


@pytest.fixture(scope="module", autouse=True)
def _clear() -> Iterator[None]:
    """Remove the store that the tests here copy."""
    yield
    while _stores:
        shutil.rmtree(_stores.pop().folder.parent)


def _make_store(folder: Path) -> Site:
    site = make_site(folder)
    for day in (MONDAY, TUESDAY):
        first, second, third = (Chain(site, day, name) for name in "abc")
        add_events(first, 70)
        first.add_gap(5)
        add_events(first, 40)
        for _ in range(3):
            second.ratchet()
            add_events(second, 25)
        add_events(third, 3)
        third.add_gap(2)
        third.close()
        site.seal()
        first.rotate()
        add_events(first, 50)
        first.close()
        add_events(second, 20)
        second.leave()
        site.seal()
    return site


def list_children(pid: int | None = None) -> list[int]:
    """List the helpers of a process that live."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == (pid or os.getpid()) and state != "Z" and b"help_proving" in command:
            found.append(int(folder.name))
    return found


def tell(verification: Verification) -> dict[str, Any]:
    """Give everything that a verification says but how long it took."""
    return vars(replace(verification, duration=0.0))


def verify_both(site: Site, helped: pytest.MonkeyPatch) -> Verification:
    """Verify with helpers, and without; they must say the same."""
    with_help = site.open().verify(pin=False)
    with helped.context() as alone:
        alone.setattr(proving, "PROCESSES", 1)
        without = site.open().verify(pin=False)
    assert tell(with_help) == tell(without), f"with helpers:\n{say(with_help)}\nwithout:\n{say(without)}"
    assert not list_children()
    return with_help


# -- the same verdict -------------------------------------------------------------------------------------------------


def test_helpers_prove_a_sound_store(tmp_path: Path, helped: pytest.MonkeyPatch, answered: list[int]) -> None:
    """Runs, gaps and epochs that go on from slice to slice and from segment to segment are joined."""
    site = make_store(tmp_path / "site")
    groups = sum(pq.ParquetFile(path).num_row_groups for path in site.segments())
    assert groups > 3 * len(site.segments())
    calls: list[bool] = []
    helped.setattr(proving, "prove_segment", lambda *_: calls.append(True))
    verification = site.open().verify(pin=False)
    assert verification.ok, say(verification)
    assert not calls
    assert answered[0] > 0
    assert answered[1] == 0


def test_it_says_the_same_of_a_sound_store(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """Findings, notes, counts and times are those of a single process."""
    assert verify_both(make_store(tmp_path / "site"), helped).ok


@settings(max_examples=20, database=None)
@given(data=st.data())
def test_it_says_the_same_of_a_tampered_store(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever was changed, damaged, exchanged or deleted, helpers find neither more nor less."""
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        sample = get_sample(tmp_path_factory)
        site = sample.copy(tmp_path_factory.mktemp("tampered") / "site")
        change = data.draw(st.sampled_from([tamper_with_segment, damage_segment]))
        for _ in range(data.draw(st.integers(1, 2))):
            present = [path for path in site.segments() if is_readable(path)]
            change(site, data.draw(st.sampled_from(present)), data.draw)
        verify_both(site, patch)


def prepare(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segment_writer, "ROW_GROUP_ROWS", 16)
    patch.setattr(sealing, "CHUNK_BYTES", 4000)
    patch.setattr(proving, "SLICE_ROWS", 8)
    patch.setattr(helpers, "READY_ROWS", 20)
    patch.setattr(proving, "MIN_EVENTS", 1)
    patch.setattr(proving, "_count_cores", lambda: 2)
    patch.setattr(proving.Prover, "_start", start_and_await)


_samples: list[Sample] = []


def get_sample(factory: pytest.TempPathFactory) -> Sample:
    """Give a sample store of small row groups, made once."""
    if not _samples:
        _samples.append(make_sample(factory.mktemp("divided")))
    return _samples[0]


def is_readable(path: Path) -> bool:
    try:
        return int(pq.ParquetFile(path).metadata.num_rows) > 1
    except (pa.ArrowException, OSError):
        return False


def change_entries(site: Site, number: int, change: Callable[[SegmentEntry], SegmentEntry]) -> None:
    """Make a commit again with the store's key, over changed entries, and drop those behind it."""
    for path in site.commits()[number:]:
        path.unlink()
    state = LedgerState(site.store_id)
    for earlier in range(1, number):
        state = ledger.apply_commit(state, ledger.read_commit(site.layout, earlier))
    commit = ledger.read_commit(site.layout, number)
    key = site.keys.find([commit.key_n])[commit.key_n]
    changed = ledger.make_commit(
        state, replace(commit, add=tuple(map(change, commit.add))), key, [site.keys.signing_seed]
    )
    site.commits()[number - 1].write_bytes(ledger.format_commit(changed))


def change_run(entry: SegmentEntry, place: int, **fields: Any) -> SegmentEntry:
    return replace(entry, runs=tuple(replace(r, **fields) if i == place else r for i, r in enumerate(entry.runs)))


CHANGES: dict[str, Callable[[SegmentEntry], SegmentEntry]] = {
    "link": lambda entry: change_run(entry, 0, link=bytes(32)),
    "next": lambda entry: change_run(entry, 1, next=entry.runs[1].next + 3, closed=False),
    "prev": lambda entry: change_run(entry, 0, prev=bytes(31) + b"\1"),
    "no prev": lambda entry: change_run(entry, 0, prev=None),
    "node": lambda entry: replace(
        entry, leaves=(replace(entry.leaves[0], nodes=(bytes(32), *entry.leaves[0].nodes[1:])),)
    ),
    "order": lambda entry: replace(entry, runs=entry.runs[::-1]),
    "less": lambda entry: replace(entry, runs=entry.runs[:-1]),
    "more": lambda entry: replace(
        entry, runs=(*entry.runs, replace(entry.runs[0], writer=entry.runs[0].writer[:9] + "z" * 16))
    ),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("number", [1, 2])
def test_it_says_the_same_of_a_commit_that_lies(
    tmp_path: Path, helped: pytest.MonkeyPatch, what: str, number: int
) -> None:
    """A sound file under a commit that the key made and that doesn't fit it is never passed by joining slices."""
    site = make_store(tmp_path / "site")
    change_entries(site, number, CHANGES[what])
    verification = verify_both(site, helped)
    assert not verification.ok


@pytest.mark.parametrize("steps", [3, 40, 3000])
def test_it_says_the_same_of_epochs_that_jump(tmp_path: Path, helped: pytest.MonkeyPatch, steps: int) -> None:
    """Epochs that cost steps are charged where the verdict is made, however often they were proved before."""
    site = make_site(tmp_path / "site")
    for name in "abc":
        chain = Chain(site, MONDAY, name)
        add_events(chain, 30)
        for _ in range(steps):
            chain.ratchet()
        add_events(chain, 30)
        chain.go_back() if name == "b" else None
        add_events(chain, 20)
        chain.close()
    site.seal()
    for limit in (1 << 20, 2500, 10):
        helped.setattr("auditkit.integrity.verification.MAX_STEPS", limit)
        verify_both(site, helped)


def test_a_key_that_was_searched_is_used(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """Writers whose first event doesn't name their key are left to the verifier."""
    site = make_site(tmp_path / "site")
    first, second = Chain(site, MONDAY, "a", opens=False), Chain(site, MONDAY, "b")
    for _ in range(3):
        add_events(first, 40)
        add_events(second, 40)
        site.seal()
    assert verify_both(site, helped).ok


def test_a_part_of_a_store_is_proved_with_helpers_too(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """A date that is verified alone is divided like a whole store."""
    site = make_store(tmp_path / "site")
    trail = site.open()
    with_help = trail.verify(pin=False, since=TUESDAY, until=WEDNESDAY)
    helped.setattr(proving, "PROCESSES", 1)
    assert tell(with_help) == tell(trail.verify(pin=False, since=TUESDAY, until=WEDNESDAY))
    assert 0 < with_help.checked_events < trail.verify(pin=False).checked_events


def test_the_progress_goes_up_to_the_whole(tmp_path: Path, helped: pytest.MonkeyPatch, answered: list[int]) -> None:
    """It is told slice by slice, never goes back, and ends with all events."""
    site = make_store(tmp_path / "site")
    calls: list[tuple[int, int]] = []
    verification = site.open().verify(pin=False, progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {verification.checked_events}
    assert calls[-1][0] == verification.checked_events
    assert len(calls) > len(site.segments())


def test_a_small_store_starts_no_process(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """A helper pays from some hundred thousand events on."""
    site = make_store(tmp_path / "site")
    small.setattr(proving, "_count_cores", lambda: 2)
    small.setattr(helpers.Helper, "start", lambda *_: pytest.fail("a helper was started"))
    assert site.open().verify(pin=False).ok


# -- helpers that fail ------------------------------------------------------------------------------------------------


def pretend(folder: Path, patch: pytest.MonkeyPatch, program: str) -> None:
    """Have another program started in a helper's place."""
    python = folder / "python3"
    python.write_text(f"#!{sys.executable}\n{program}")
    python.chmod(0o755)
    patch.setenv("AUDITKIT_PYTHON", str(python))


HELLO = f"""
import os, socket, sys, time
channel = socket.socket(fileno=os.dup(0))
def send(data):
    channel.sendall(len(data).to_bytes(4, "big") + data)
send({helpers._HELLO!r})
"""

PROGRAMS = {
    "is no Python": "raise SystemExit(3)",
    "says nothing": "import time; time.sleep(600)",
    "says something else": "import os; os.write(0, b'welcome to the machine')",
    "says too much": "import os; os.write(0, b'\\xff' * 100_000)",
    "dies at once": HELLO,
    "dies when asked": HELLO + "channel.recv(1)",
    "hangs when asked": HELLO + "channel.recv(1); time.sleep(600)",
    "answers half": HELLO + "channel.recv(1); channel.sendall(b'\\0\\0\\1\\0[1,'); sys.exit()",
    "answers no JSON": HELLO + "channel.recv(1); send(b'yes'); time.sleep(600)",
    "answers another shape": HELLO + "channel.recv(1); send(b'[1,[5,[],[[0,0]],null]]'); time.sleep(600)",
    "proves nothing": HELLO + "channel.recv(1); send(b'[1,null]'); send(b'[2,null]'); time.sleep(600)",
    "proves too little": HELLO + "channel.recv(1); send(b'[1,[0,[],[],null]]'); time.sleep(600)",
    "answers what nobody asked": HELLO + "channel.recv(1); send(b'[77,[0,[],[],null]]'); time.sleep(600)",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_helper_that_fails_changes_nothing(tmp_path: Path, helped: pytest.MonkeyPatch, what: str) -> None:
    """What it was given is proved by the verifier, in a sound store and in one that a commit lies about."""
    helped.setattr(proving, "PATIENCE_SECONDS", 0.3)
    helped.setattr(helpers, "FAREWELL_SECONDS", 0.3)
    if what == "says nothing":
        helped.setattr(proving.Prover, "_start", start)
    site = make_store(tmp_path / "site")
    pretend(tmp_path, helped, PROGRAMS[what])
    assert verify_both(site, helped).ok
    change_entries(site, 2, CHANGES["link"])
    assert not verify_both(site, helped).ok


def test_a_python_that_is_not_there_is_done_without(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """Where no child can be started, one process proves all."""
    site = make_store(tmp_path / "site")
    helped.setenv("AUDITKIT_PYTHON", str(tmp_path / "nothing"))
    assert verify_both(site, helped).ok
    helped.setattr(proving, "find_python", lambda: None)
    assert verify_both(site, helped).ok


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
@pytest.mark.parametrize("sound", [True, False])
def test_a_helper_that_is_killed_at_work_changes_nothing(
    tmp_path: Path, helped: pytest.MonkeyPatch, with_signal: signal.Signals, sound: bool
) -> None:
    """A real one, in the middle of it: its slices are proved by the verifier, and a bad segment doesn't pass."""
    site = make_store(tmp_path / "site")
    if not sound:
        change_entries(site, 4, CHANGES["node"])
    killed: list[int] = []
    give = helpers.Helper.give

    def give_and_kill(helper: helpers.Helper[Any], task: Any) -> None:
        give(helper, task)
        if not killed and helper._given > 1:
            (child,) = list_children()
            killed.append(child)
            os.kill(child, with_signal)

    helped.setattr(proving, "PATIENCE_SECONDS", 1)
    helped.setattr(helpers.Helper, "give", give_and_kill)
    verification = site.open().verify(pin=False)
    assert killed
    helped.setattr(proving, "PROCESSES", 1)
    assert tell(verification) == tell(site.open().verify(pin=False))
    assert verification.ok is sound
    assert not list_children()


# -- what is left behind ----------------------------------------------------------------------------------------------

VERIFY = """
import signal, sys
import auditkit
from auditkit.integrity import helpers, proving
proving.MIN_EVENTS, proving.SLICE_ROWS, helpers.READY_ROWS = 1, 8, 20
proving._count_cores = lambda: 2
def wait(prover, start=proving.Prover._start):
    start(prover)
    for helper in prover._helpers:
        helper.wait(30)
        helper.collect()
proving.Prover._start = wait
trail = auditkit.open(sys.argv[1], key_file=sys.argv[2])
"""


def start_program(program: str, site: Site) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
    return subprocess.Popen(
        [sys.executable, "-c", VERIFY + program, str(site.path), str(site.key_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def await_helper(pid: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if children := list_children(pid):
            return children[0]
        time.sleep(0.01)
    raise AssertionError("no helper was started")


def is_gone(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


SLOWLY = """
import time
def pause(done, total):
    print("going on", flush=True)
    time.sleep(0.5)
try:
    trail.verify(pin=False, progress=pause)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(60)
"""


def test_ctrl_c_leaves_no_helper(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """A real interruption of a real process comes out as itself, and the helper is gone before."""
    site = make_store(tmp_path / "site")
    with start_program(SLOWLY, site) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "going on\n"
            child = await_helper(process.pid)
            os.killpg(process.pid, signal.SIGINT)
            said = process.stdout.readline()
            while said == "going on\n":
                said = process.stdout.readline()
            assert said == "interrupted\n"
            assert is_gone(child, 0.5)
        finally:
            process.kill()


def test_a_verifier_that_is_killed_leaves_no_helper(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """A helper that nobody listens to any more ends by itself."""
    site = make_store(tmp_path / "site")
    with start_program(SLOWLY, site) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going on\n"
        child = await_helper(process.pid)
        process.kill()
        assert is_gone(child)


def test_a_progress_that_fails_leaves_no_helper(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """What the caller's own code raises comes out as itself."""
    site = make_store(tmp_path / "site")

    def fail(done: int, total: int) -> None:
        assert list_children()
        raise LookupError("not mine")

    with pytest.raises(LookupError, match="not mine"):
        site.open().verify(pin=False, progress=fail)
    assert not list_children()


LIMITED = """
import time
class TimeUp(Exception):
    pass
def stop(number, frame):
    raise TimeUp
signal.signal(signal.SIGALRM, stop)
begun = time.perf_counter()
trail.verify(pin=False)
seconds = time.perf_counter() - begun
stopped = 0
for moment in range(1, 21):
    try:
        signal.setitimer(signal.ITIMER_REAL, moment / 20 * seconds)
        try:
            trail.verify(pin=False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:
        stopped += 1
print(stopped, trail.verify(pin=False).ok, flush=True)
"""


def test_a_time_limit_at_any_moment_comes_out_as_itself(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """While a helper starts, works or leaves; and none is left when all is over."""
    site = make_store(tmp_path / "site")
    with start_program(LIMITED, site) as process:
        out, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    stopped, sound = out.split()
    assert int(stopped) > 5, out
    assert sound == "True"
    assert complaint == ""


def test_secrets_are_told_to_nobody_else(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """A helper's command line and environment show no key, also where the verifier's environment holds one."""
    site = make_store(tmp_path / "site")
    small.setenv("AUDITKIT_KEY", "a secret in the environment")
    secrets = [json.loads(site.key_file.read_text())[name].encode() for name in ("root", "sign", "current")]
    keys = [KeyTable(site.keys, None).get(number) or pytest.fail("no key") for number in range(2)]  # K[0] and K[1]
    with start_program(SLOWLY, site) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "going on\n"
            child = Path(f"/proc/{await_helper(process.pid)}")
            shown = (child / "cmdline").read_bytes() + (child / "environ").read_bytes()
            assert b"help_proving" in shown
            assert b"PATH=" in shown
            for secret in (*secrets, *(key.hex().encode() for key in keys), b"a secret in the environment"):
                assert secret not in shown
        finally:
            process.kill()


def test_a_helper_is_given_no_more_than_it_needs(tmp_path: Path, helped: pytest.MonkeyPatch) -> None:
    """It gets the keys of the writers in its segment: none of another date's, and nothing they are derived from."""
    site = make_store(tmp_path / "site")
    sent: list[bytes] = []
    frame = helpers._frame

    def keep(data: bytes) -> bytes:
        sent.append(data)
        return frame(data)

    helped.setattr(helpers, "_frame", keep)
    assert site.open().verify(pin=False).ok
    assert sent
    root = json.loads(site.key_file.read_text())["root"].encode()
    for data in sent:
        assert root not in data
        _, _, _, _, _, _, _, runs, keys = json.loads(data)
        assert set(keys) == {run[0] for run in runs}


def test_a_slice_shows_no_key() -> None:
    """Not in a log, nor in the message of an error that holds one."""
    task = walks.Slice("path", "store", 0, (0, 1), 1, 0, (), {"writer": b"secret"})
    assert "secret" not in repr(task)


# -- the parts --------------------------------------------------------------------------------------------------------


def test_frames_come_through_however_they_are_cut() -> None:
    """What is told of a slice and of its proof is what was meant."""
    run = Run("20200302-aaaaaaaaaaaaaaaa", 0, 9, None, bytes(range(32)), closed=True, next=12)
    task = walks.Slice("/päth", "store", 5, (1, 3), 7, 11, (run, replace(run, prev=bytes(32))), {run.writer: bytes(32)})
    assert helpers._parse_task(helpers._format_task(3, task)) == (3, task)
    piece = walks.Piece(0, 0, 9, 12, [0, 3], bytes(range(32)), '{"n":7}')
    for proof in (
        walks.Proof(7, [bytes(32)], [piece, piece._replace(details=None)], ('{"ü"}'.encode(), 4)),
        walks.Proof(7, [], [piece], None),
        None,
    ):
        frame = helpers._frame(helpers._format_answer(9, proof))
        data = bytearray()
        for byte in frame[:-1]:
            data.append(byte)
            assert helpers._cut_frame(data) is None
        data += frame[-1:] + b"rest"
        assert helpers._parse_answer(helpers._cut_frame(data) or b"") == (9, proof)
        assert data == b"rest"


@settings(max_examples=300)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=8)))
def test_an_answer_of_any_other_shape_is_none(value: Any) -> None:
    """Nonsense is told from an answer, whatever it looks like."""
    answer = helpers._parse_answer(json.dumps(value).encode())
    assert answer is None or isinstance(answer[0], int)


class Text:
    """Texts for the property that follows."""

    any = st.none() | st.text(max_size=12) | st.sampled_from(["'", "\x1f\x0b", '"\\', "\u2028", "\x7f", "?", "$1"])


@settings(max_examples=200)
@given(data=st.data())
def test_lines_are_printed_as_their_writers_print_them(data: st.DataObject) -> None:
    """Whether columns are constant, empty, packed or cut, whatever is in them, the bytes are those of the format."""
    count = data.draw(st.integers(1, 6))
    values = {key: data.draw(st.lists(Text.any, min_size=1, max_size=2), label=key) for key in STRING_KEYS}
    rows = []
    for number in range(count):
        fields: dict[str, Any] = {key: data.draw(st.sampled_from(values.get(key, [None]))) for key in BODY_KEYS}
        fields |= {key: fields[key] or "" for key in ("writer", "type")}
        fields |= {"v": 1, "store": "store", "seq": number, "epoch": data.draw(st.sampled_from([0, MAX_INTEGER]))}
        fields |= {"time": data.draw(st.integers(-(10**15), 10**15)), "duration_us": data.draw(st.none() | st.just(5))}
        rows.append((fields, data.draw(st.none() | st.just(bytes(32)) | st.binary(min_size=32, max_size=32))))
    expected = [join_line(encode_body(fields), mac) for fields, mac in rows]
    table = segments._make_table(rows).combine_chunks()
    packed = table
    for name in segments.PACKED:
        place = table.schema.get_field_index(name)
        packed = packed.set_column(place, name, table.column(name).dictionary_encode())
    start = data.draw(st.integers(0, count - 1))
    with engine.connect() as connection:
        for each in (table, packed.combine_chunks()):
            assert segments.rebuild_lines(each, "store", connection) == expected
            assert segments.rebuild_lines(each.slice(start), "store", connection) == expected[start:]


def test_lines_that_are_not_read_to_their_end_leave_the_connection_free() -> None:
    """A proof that is given up in the middle doesn't keep the careful way from printing."""
    fields: dict[str, Any] = dict.fromkeys(BODY_KEYS)
    fields |= {"v": 1, "store": "store", "writer": "w", "seq": 0, "epoch": 0, "time": 0, "type": "t"}
    table = segments._make_table([({**fields, "seq": number}, bytes(32)) for number in range(50_000)])
    with engine.connect() as connection:
        lines = segments.print_lines(table, "store", connection)
        first = next(lines)
        assert len(first) < 50_000
        lines.close()  # type: ignore[attr-defined]
        assert segments.rebuild_lines(table.slice(0, 10), "store", connection) == first[:10]


def test_a_dictionary_that_stands_for_gigabytes_is_printed_piece_by_piece() -> None:
    """Text that is stored once and meant often is measured as what it stands for."""
    long = "x" * 1_000_000
    fields: dict[str, Any] = dict.fromkeys(BODY_KEYS)
    fields |= {"v": 1, "store": "store", "writer": "w", "seq": 0, "epoch": 0, "time": 0, "type": "t"}
    rows: list[tuple[dict[str, Any], bytes | None]]
    rows = [({**fields, "seq": number, "traceback": long if number % 2 else None}, None) for number in range(100)]
    table = segments._make_table(rows)
    place = table.schema.get_field_index("traceback")
    packed = table.set_column(place, "traceback", table.column("traceback").dictionary_encode()).combine_chunks()
    assert segments._measure_table(packed) > 50_000_000
    chunks = list(segments.print_lines(packed, "store"))
    assert len(chunks) > 1
    assert [line for lines in chunks for line in lines] == [join_line(encode_body(f), mac) for f, mac in rows]


def test_packed_columns_hide_no_text_that_is_not_unicode(tmp_path: Path) -> None:
    """A dictionary is looked at as closely as a column."""
    sound = segments._make_table([({**dict.fromkeys(BODY_KEYS), "v": 1, "store": "s", "writer": "w", "seq": 0,
                                    "epoch": 0, "time": 0, "type": "type"}, bytes(32))])  # fmt: skip
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x04\0\0\0"), pa.py_buffer(b"\xff\xfe\xff\xfe")]
    )
    place = sound.schema.get_field_index("type")
    table = sound.set_column(place, sound.schema.field(place), bad).cast(make_schema("s"))
    pq.write_table(table, tmp_path / "bad.parquet", write_page_checksum=True)
    for packed in (False, True):
        with pytest.raises(StoreDamaged):
            list(segments.read_tables(tmp_path / "bad.parquet", packed=packed))


@settings(max_examples=300)
@given(
    limit=st.none() | st.integers(0, 200),
    before=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 90)), max_size=6),
    places=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 90) | st.just(1 << 20)), max_size=12),
    prepared=st.booleans(),
)
def test_what_is_afforded_can_be_derived(
    limit: int | None, before: list[tuple[str, int]], places: list[tuple[str, int]], prepared: bool
) -> None:
    """It is told beforehand whether the steps suffice, exactly, and asking costs none."""
    keys = WriterKeys("store", KeyTable(GivenKey("a secret of these tests"), None), limit)
    keys.prepare("a", 0)
    keys.prepare("b", 0)
    for writer, epoch in before:
        keys.find_states(writer, epoch)
    asked: list[tuple[str, int | None]] = [("c", None), *places] if prepared else [*places]
    afforded = keys.affords(asked)
    assert keys.affords(asked) is afforded
    if prepared:
        keys.prepare("c", 0)
    assert all(keys.find_states(writer, epoch) is not None for writer, epoch in places) is afforded


def test_slices_of_a_tree_are_joined_at_their_places(tmp_path: Path, small: pytest.MonkeyPatch) -> None:
    """Each slice is proved by itself, and hashes its rows into the places that they have in the store's tree."""
    site = make_store(tmp_path / "site")
    entry = ledger.read_commit(site.layout, 2).add[0]
    path = site.path / entry.path
    outline = segments.read_outline(path)
    assert sum(outline.groups) == entry.rows
    lines = [line for table in segments.read_tables(path) for line in segments.rebuild_lines(table, site.store_id)]
    whole = walks.Slice(str(path), site.store_id, 0, (0, 0), 0, entry.leaves[0].first, entry.runs, {})
    slices = list(proving._divide(whole, outline.groups))
    assert len(slices) > 3
    assert [each.groups[0] for each in slices[1:]] == [each.groups[1] for each in slices[:-1]]
    assert sum(each.rows for each in slices) == entry.rows
    for each in slices:
        place = each.first_leaf - entry.leaves[0].first
        leaves = [tree.hash_leaf(line) for line in lines[place : place + each.rows]]
        assert len(tree.build_nodes(each.first_leaf, leaves)) == len(tree.split_range(each.first_leaf, each.rows))


def test_a_socket_that_is_full_is_written_later(helped: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A helper is told of a segment of many runs in as many pieces as its socket takes."""
    small_pair = socket.socketpair

    def make_small() -> tuple[socket.socket, socket.socket]:
        ours, theirs = small_pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024)
        return ours, theirs

    helped.setattr("auditkit.integrity.helpers.socket.socketpair", make_small)
    site = make_site(tmp_path / "site")
    for name in "abcdefghijklmnopqrstuvwxyz234567":
        chain = Chain(site, MONDAY, name)
        add_events(chain, 5)
        chain.close()
    site.seal()
    assert verify_both(site, helped).ok
