"""A sealer that is killed between any two steps loses nothing and repeats nothing: the next one finishes its work."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integrity.stores import MONDAY, TUESDAY, Chain, Site, add_events, list_rows, make_site, say
from tests.sealing.sealers import SYSTEM_CALLS, count_calls, find_strace, kill_at, run_sealer


@pytest.fixture(scope="session")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A store that was never sealed: two dates, a closed writer of two parts, one that was killed in a line."""
    site = make_site(tmp_path_factory.mktemp("unsealed") / "site")
    closed, other, killed = Chain(site, MONDAY, "a"), Chain(site, TUESDAY, "b"), Chain(site, MONDAY, "c")
    add_events(closed, 9)
    closed.rotate()
    add_events(closed, 4)
    closed.close()
    add_events(other, 7)
    other.close()
    add_events(killed, 5)
    killed.write(b'{"v":1,"store"')
    return site


def check_once(site: Site, expected: set[tuple[str, int]], moment: str) -> None:
    """Assert that every event is there exactly once, whoever reads it, and that nothing is accused."""
    frame = site.open().events(include_internal=True)
    assert len(frame) == len(expected), moment
    assert set(zip(frame["writer"], frame["seq"], strict=True)) == expected, moment
    verification = site.verify()
    assert verification.ok, f"{moment}\n{say(verification)}"
    assert verification.checked_events + verification.journal_events == len(expected), moment


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(SYSTEM_CALLS))
def test_a_sealer_killed_at_any_step_is_finished_by_the_next(unsealed: Site, tmp_path: Path, kind: str) -> None:
    """Before each system call that changes the store: readers see every event once, then and after the next seal."""
    strace = find_strace()
    expected = {event for path in unsealed.journals() for event in list_rows_of(path)}
    calls = count_calls(unsealed.copy(tmp_path / "counted"), strace, tmp_path / "log")[kind]
    assert calls > 0
    for number in range(1, calls + 1):
        site = unsealed.copy(tmp_path / "site")
        code, _, complaint = run_sealer(site, under=kill_at(kind, number, strace))
        moment = f"killed at {kind} {number} of {calls}"
        assert code != 0, f"{moment}: it wasn't\n{complaint}"
        check_once(site, expected, moment)
        site.seal()
        check_once(site, expected, f"{moment}, sealed again")
        assert not site.journals(), moment
        assert not list((site.path / "staging").iterdir()), moment
        rows = [event for path in site.segments() for event in list_rows(site, path)]
        assert len(rows) == len(expected), moment
        assert pq.read_table(site.path / "events").num_rows == len(expected), moment
        assert len(list((site.path / "quarantine").iterdir())) == 1, f"{moment}: the torn line is kept once"


@pytest.mark.slow
def test_each_step_is_durable_before_the_next_one_relies_on_it(unsealed: Site, tmp_path: Path) -> None:
    """Synced file, then its name, then the commit and its name, then the partition, and the journals go last.

    A killed process can't show this, as the system still has what wasn't synced; a power cut could.
    """
    site, log = unsealed.copy(tmp_path / "site"), tmp_path / "log"
    wanted = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
    code, _, complaint = run_sealer(
        site, under=[find_strace(), "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={wanted}"]
    )
    assert code == 0, complaint
    calls = [line.replace(str(site.path), "") for line in log.read_text().splitlines()]
    expected = [
        r"f(data)?sync\(\d+</staging/writing-",
        r"rename\(.*/staging/writing-.*/staging/[0-9a-f]{16}\.parquet",
        r"f(data)?sync\(\d+</staging>",
        r"f(data)?sync\(\d+</ledger/\.00000001\.commit",
        r"link\(.*/ledger/00000001\.commit\"",
        r"f(data)?sync\(\d+</ledger>",
        r"link\(.*/events/date=",
        r"f(data)?sync\(\d+</events/date=",
        r"unlink\(.*/journal/",
        r"f(data)?sync\(\d+</journal>",
    ]
    places = [[at for at, call in enumerate(calls) if re.search(pattern, call)] for pattern in expected]
    assert all(places), f"never done: {[p for p, at in zip(expected, places, strict=True) if not at]}"
    for (before, earlier), (after, later) in pairwise(zip(expected, places, strict=True)):
        assert max(earlier) < max(later), f"{after} was done before {before}"
        if "unlink" in after:
            assert max(earlier) < min(later), f"{after} was done before {before}"


def list_rows_of(path: Path) -> list[tuple[str, int]]:
    import json

    return [(row["writer"], row["seq"]) for row in map(json.loads, path.read_bytes().split(b"\n")[:-1])]


@pytest.mark.slow
@pytest.mark.parametrize(
    "calls, error",
    [("link,linkat", "EIO"), ("rename,renameat,renameat2", "EXDEV"), ("fsync,fdatasync", "EIO"), ("unlink", "EACCES")],
)
def test_a_sealer_whose_disk_refuses_leaves_everything_readable(
    unsealed: Site, tmp_path: Path, calls: str, error: str
) -> None:
    """Each of the first calls fails once: the sealer says so or goes on, and nothing is lost."""
    strace = find_strace()
    expected = {event for path in unsealed.journals() for event in list_rows_of(path)}
    for number in (1, 2, 4):
        site = unsealed.copy(tmp_path / "site")
        inject = f"inject={calls}:error={error}:when={number}"
        code, _, complaint = run_sealer(
            site, under=[strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]
        )
        assert "Traceback" not in complaint, complaint
        assert code in (0, 1)
        check_once(site, expected, f"{error} at call {number} of {calls}")
        site.seal()
        check_once(site, expected, f"{error} at call {number} of {calls}, sealed again")
