"""Threads, processes, forks and ends: however events are recorded, each is there once and every chain is sound."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import auditkit
from auditkit import AuditLogger
from auditkit.store.keyring import locate_key_file
from tests.recording import independent
from tests.recording.running import SECRET, check_sound, finish, open_trail, read_ids, run, start

ROOT_KEY = independent.root_of_secret(SECRET)


def test_threads_share_one_chain(store: Path) -> None:
    """Eight threads record two thousand events each: sixteen thousand different ids, one chain without a gap."""
    with AuditLogger(store, secret_key=SECRET, enable_rotation=False) as audit, ThreadPoolExecutor(8) as pool:

        def work(thread: int) -> list[str]:
            return [audit.log_event("x", {"n": number}, actor=f"t{thread}") for number in range(2000)]

        ids = [event_id for found in pool.map(work, range(8)) for event_id in found]
    [(writer, lines)] = independent.check_journal(store, ROOT_KEY).items()
    assert sorted(ids) == sorted(f"{writer}:{seq}" for seq in range(1, 16_001))
    assert [line.fields["seq"] for line in lines] == list(range(16_002))
    for thread in range(8):
        own = [line.fields["details"] for line in lines if line.fields["actor"] == f"t{thread}"]
        assert own == [f'{{"n":{number}}}' for number in range(2000)]
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)
    assert trail.seal().events == 16_002
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def test_threads_that_leave_by_sys_exit(store: Path) -> None:
    """A thread's end, however it comes, is no end of the chain; the process's end is."""
    ids, _ = run("record_in_threads", store, 6, 100)
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert lines[-1].fields["type"] == "auditkit.closed"
    assert len(ids) == len(set(ids)) == 600
    assert set(read_ids(open_trail(store))) == set(ids)


def test_processes_that_start_a_store_together_share_it(store: Path) -> None:
    """Twenty processes find no store: one is made, with one key in its default place, and all their events verify."""
    processes = [start("record_default", store, 5) for _ in range(20)]
    ids = [event_id for process in processes for event_id in finish(process)[0]]
    assert len(set(ids)) == 100
    trail = auditkit.open(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    key = locate_key_file(trail.store_id)
    assert [path for path in key.parent.iterdir() if path.suffix == ".key"] == [key]
    writers = independent.check_journal(store, independent.root_of_file(key))
    assert len(writers) == 20
    check_sound(trail)
    assert len(trail.seal().segments) == 1
    check_sound(trail)


def test_processes_and_threads_on_one_store(store: Path) -> None:
    """Four processes of four threads each: nothing is lost, nothing is twice, before and after sealing."""
    processes = [start("record_in_threads", store, 4, 200) for _ in range(4)]
    ids = [event_id for process in processes for event_id in finish(process)[0]]
    assert len(set(ids)) == 3200
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    independent.check_journal(store, ROOT_KEY)
    trail.seal()
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def test_forks_while_threads_record(store: Path) -> None:
    """Sixteen forks of a process whose threads record: no deadlock, and children have chains of their own."""
    ids, _ = run("fork", store, 16)
    writers = independent.check_journal(store, ROOT_KEY)
    recorded = [
        f"{writer}:{line.fields['seq']}"
        for writer, lines in writers.items()
        for line in lines
        if not line.fields["type"].startswith("auditkit.")
    ]
    assert sorted(recorded) == sorted(ids)
    kinds = {
        writer: {line.fields["type"] for line in lines if not line.fields["type"].startswith("auditkit.")}
        for writer, lines in writers.items()
    }
    assert Counter(len(found) for found in kinds.values()) == {1: 20, 2: 1}
    assert Counter(kind for found in kinds.values() if len(found) == 1 for kind in found) == {
        "child": 16,
        "grandchild": 4,
    }
    trail = open_trail(store)
    trail.seal()
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


def test_parent_and_child_both_end_their_chains(store: Path) -> None:
    """A forked child that leaves by sys.exit signs the end of its own chain, and not its parent's."""
    ids, _ = run("fork_and_exit", store)
    writers = independent.check_journal(store, ROOT_KEY)
    kinds = sorted([line.fields["type"] for line in lines] for lines in writers.values())
    assert kinds == [
        ["auditkit.opened", "before", "parent", "auditkit.closed"],
        ["auditkit.opened", "child", "auditkit.closed"],
    ]
    assert len(ids) == 3
    check_sound(open_trail(store))


def test_a_childs_chain_names_its_parents(store: Path) -> None:
    """The first event of a forked child's chain says from which chain it comes, and in which process it is."""
    run("fork_and_exit", store)
    opened = {
        lines[1].fields["type"]: (writer, lines[0].fields["details"])
        for writer, lines in independent.read_journal(store).items()
    }
    assert f'"parent":"{opened["before"][0]}"' in opened["child"][1]
    assert '"parent":null' in opened["before"][1]


def test_a_pool_of_forked_workers(store: Path) -> None:
    """Workers of multiprocessing, which leave without exit handlers, lose nothing."""
    ids, _ = run("pool", store)
    assert len(set(ids)) == 42
    independent.check_journal(store, ROOT_KEY)
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(ids)
    check_sound(trail)


@pytest.mark.parametrize(
    "how, code, closed",
    [
        ("end", 0, True),
        ("exit", 0, True),
        ("close", 0, True),
        ("exception", 1, True),
        ("collected", 0, True),
        ("late", 0, True),
        ("_exit", 0, False),
        ("terminate", -15, False),
    ],
)
def test_every_way_to_leave(store: Path, how: str, code: int, closed: bool) -> None:
    """What was recorded is there; the end is signed wherever Python gets to say goodbye."""
    ids, _ = run("leave", store, how, code=code)
    ids = [line for line in ids if line != "collected"]
    [lines] = independent.check_journal(store, ROOT_KEY).values()
    assert (lines[-1].fields["type"] == "auditkit.closed") is closed
    trail = open_trail(store)
    assert read_ids(trail) == ids
    assert len(ids) == (6 if how == "late" else 5)
    check_sound(trail)


def test_a_daemon_that_changes_its_folder(tmp_path: Path) -> None:
    """Store and key file are found by relative paths also after the process has gone to another folder."""
    out, _ = run("run_as_daemon", tmp_path)
    assert out[-1] == "3"
    trail = auditkit.open(tmp_path / "audit", key_file=tmp_path / "audit.key")
    assert sorted(read_ids(trail)) == sorted(out[:-1])
    check_sound(trail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit", "audit.key", "audit.key.lock"]


def test_a_process_that_can_start_no_thread_records_on(store: Path) -> None:
    """Without a thread to start the sealer, journals wait for the next sealer, and the application goes on."""
    out, _ = run("exhaust_threads", store)
    assert out[0] == "no more threads"
    trail = open_trail(store)
    assert sorted(read_ids(trail)) == sorted(line for line in out if line != "no more threads")
    assert len(list((store / "journal").iterdir())) > 1
    independent.check_journal(store, ROOT_KEY)
    check_sound(trail)
