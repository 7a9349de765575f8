"""Journals as columns: what was parsed is kept, and never given for what the file doesn't say."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditkit
from auditkit.store import journal, parsed, segments
from auditkit.store.parsed import ParsedPart, read_parsed
from tests.integrity.stores import MONDAY, Chain, Site, add_events, make_site

ROOT = Path(auditkit.__file__).parents[1]


def look(site: Site) -> list[ParsedPart]:
    return read_parsed(journal.list_parts(site.layout), site.store_id)


def compare(site: Site) -> list[ParsedPart]:
    """Demand that each part is given as it would be if it were parsed for the first time."""
    found = look(site)
    for part, mine in zip(journal.list_parts(site.layout), found, strict=True):
        data = journal.read_part(part).data
        table, good, _ = segments.parse_lines(list(journal.split_lines(data)), site.store_id)
        assert mine.table.equals(table)
        assert (mine.unreadable, mine.size) == (good.count(False), len(data))
    return found


def address(part: ParsedPart) -> int:
    """Say where in memory the first numbers of a part lie."""
    return int(part.table.column("seq").chunk(0).buffers()[1].address)


def test_a_journal_that_has_not_changed_is_not_parsed_again(tmp_path: Path) -> None:
    """Each look gives what the first one made, whatever else is read between."""
    site = make_site(tmp_path)
    for name in "ab":
        add_events(Chain(site, MONDAY, name), 20)
    first, again = compare(site), compare(site)
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_of_a_journal_that_has_grown_only_the_new_lines_are_parsed(tmp_path: Path) -> None:
    """What was there stays where it lies in memory; after many looks its pieces are joined."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    add_events(chain, 20)
    (first,) = compare(site)
    add_events(chain, 5)
    (grown,) = compare(site)
    assert grown.table.num_rows == first.table.num_rows + 5
    assert address(grown) == address(first)
    for _ in range(80):
        add_events(chain, 1)
        (grown,) = compare(site)
    assert grown.table.column("seq").num_chunks < 40


def test_a_line_that_was_half_there_is_whole_later(tmp_path: Path) -> None:
    """A writer that is looked at in the middle of a line is heard to its end."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    line = chain.sign(type="late") + b"\n"
    chain.write(line[:30])
    assert compare(site)[0].table.num_rows == 1
    chain.write(line[30:])
    assert compare(site)[0].table.column("type").to_pylist() == ["auditkit.opened", "late"]


@pytest.mark.parametrize("change", ["shorter", "edited in place", "replaced by another", "replaced and longer", "gone"])
def test_a_journal_that_did_more_than_grow_is_parsed_anew(tmp_path: Path, change: str) -> None:
    """What stands in the file is what is given: the toolkit only appends, but somebody else may not."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    add_events(chain, 30)
    (first,) = compare(site)
    path, lines = chain.path, chain.path.read_bytes().splitlines(keepends=True)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    if change == "shorter":
        os.truncate(path, sum(map(len, lines[:9])))
    elif change == "edited in place":
        with path.open("r+b") as file:
            file.write(b"".join(lines).replace(b'"kind.3"', b'"kind.8"'))
        os.utime(path, ns=times)
    elif change == "gone":
        path.unlink()
    else:
        path.with_suffix(".new").write_bytes(b"".join(lines[3:] + lines[:3] * (3 if change.endswith("longer") else 1)))
        path.with_suffix(".new").replace(path)
    for later in compare(site):
        assert not later.table.slice(0, 30).equals(first.table.slice(0, 30)) or change == "shorter"
        assert later is not first


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_happens_to_journals_each_look_gives_what_they_say(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Appends, torn ends, rubbish, cuts and new parts in any order: as if every look were the first."""
    chance = random.Random(seed)
    site = make_site(tmp_path_factory.mktemp("parts"))
    chains = [Chain(site, MONDAY, "a")]
    for _ in range(12):
        chain = chance.choice(chains)
        match chance.randrange(7):
            case 0 | 1 | 2:
                add_events(chain, chance.randrange(1, 9))
            case 3:
                chain.write(chance.choice([b"rubbish\n", b"\n", b"{}\n", chain.sign()[: chance.randrange(1, 60)]]))
            case 4:
                os.truncate(chain.path, chance.randrange(chain.path.stat().st_size + 1))
            case 5 if len(chains) < 5:
                chains.append(Chain(site, MONDAY, "abcde"[len(chains)]))
            case _:
                chain.rotate()
        compare(site)


def test_small_parts_are_told_apart_though_they_are_parsed_together(tmp_path: Path) -> None:
    """A part with bad lines has them counted as its own, and its neighbours keep all of theirs."""
    site = make_site(tmp_path)
    for number in range(6):
        chain = Chain(site, MONDAY, "abcdef"[number])
        for count in range(number):
            chain.write(b"no event\n" if number % 2 else b"")
            add_events(chain, count)
    assert [part.unreadable for part in compare(site)] == [0, 1, 0, 3, 0, 5]


def test_only_so_much_is_kept_and_what_was_used_last_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads many stores doesn't hold them all; a part that is too long is read all the same."""
    site = make_site(tmp_path)
    chains = [Chain(site, MONDAY, name) for name in "abc"]
    for chain in chains:
        for _ in range(40):
            chain.add(details=json.dumps({"text": "x" * 2000}))
    size = chains[0].path.stat().st_size
    monkeypatch.setattr(parsed, "KEPT_BYTES", round(2.9 * size))
    parts = journal.list_parts(site.layout)

    def take(*names: str) -> list[ParsedPart]:
        return read_parsed([part for part in parts if part.writer[-1] in names], site.store_id)

    (a,), (b,) = take("a"), take("b")
    assert take("a") == [a]
    (c,) = take("c")
    assert take("a")[0] is a
    assert take("c")[0] is c
    assert take("b")[0] is not b
    monkeypatch.setattr(parsed, "KEPT_BYTES", size // 2)
    chains[2].add()
    assert take("c")[0] is not take("c")[0]
    compare(site)


def test_threads_that_read_a_growing_journal_each_see_a_prefix_of_it(tmp_path: Path) -> None:
    """No thread is given half of another's work."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while not done.is_set():
            seqs = look(site)[0].table.column("seq").to_pylist()
            if seqs != [*range(len(seqs))] or len(seqs) < last:
                wrong.append(seqs)
            last = len(seqs)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        add_events(chain, 3)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    compare(site)


def test_a_child_forked_while_a_thread_reads_can_read_too(tmp_path: Path) -> None:
    """Whatever the other thread held at that moment, the child doesn't wait for it."""
    site = make_site(tmp_path)
    add_events(Chain(site, MONDAY), 50)
    program = f"""
import os, threading, warnings
from pathlib import Path
from auditkit.store import journal, parsed
from auditkit.store.layout import Layout
warnings.simplefilter("ignore")  # that a process with threads forks is the point of it
parts = journal.list_parts(Layout(Path({str(site.path)!r})))

def read():
    return parsed.read_parsed(parts, {site.store_id!r})[0].table.num_rows

stop = threading.Event()
assert read() == 51
def hold():
    while not stop.is_set():
        with parsed._kept._lock:
            stop.wait(0.01)
thread = threading.Thread(target=hold)
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(7 if read() == 51 else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
stop.set()
thread.join()
assert read() == 51
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("a child hangs")
    assert process.returncode == 0, err
