"""What a sealing takes, leaves and sets aside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

import auditkit
from auditkit import sealing
from auditkit.sealing import seal_store
from auditkit.store import durable
from tests.integrity.stores import (
    CHECKOUT,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Site,
    accused_events,
    add_events,
    list_rows,
    make_site,
    print_body,
    say,
)
from tests.sealing.sealers import run_sealer, start_sealer


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site")


def read_ids(site: Site) -> list[tuple[str, int]]:
    frame = site.open().events(include_internal=True)
    return sorted(zip(frame["writer"], frame["seq"], strict=True))


def read_quarantine(site: Site) -> list[dict[str, object]]:
    paths = sorted((site.path / "quarantine").iterdir())
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def list_set_aside(site: Site) -> set[int]:
    return {json.loads(str(record["text"]))["seq"] for record in read_quarantine(site)}


def test_each_date_gets_a_partition_of_its_own(site: Site) -> None:
    """One sealing of three dates makes three segments, by writer and number, in one commit."""
    for day, names in ((MONDAY, "ba"), (TUESDAY, "c"), (WEDNESDAY, "ed")):
        for name in names:
            chain = Chain(site, day, name)
            add_events(chain, 3)
            chain.close()
    result = site.seal()
    assert (result.events, result.commit, result.quarantined) == (25, 1, 0)
    assert [Path(name).parent.name for name in result.segments] == [
        "date=2020-03-02", "date=2020-03-03", "date=2020-03-04",
    ]  # fmt: skip
    for path in site.segments():
        assert list_rows(site, path) == sorted(list_rows(site, path))
        assert path.stat().st_mode & 0o777 == 0o600
    assert not site.journals()


def test_nothing_to_seal_makes_no_commit(site: Site) -> None:
    """Sealing again, and sealing an empty store, changes nothing."""
    assert site.seal().commit is None
    chain = Chain(site, MONDAY)
    chain.close()
    assert site.seal().commit == 1
    before = sorted(path for path in site.path.rglob("*") if path.is_file())
    result = site.seal()
    assert (result.events, result.commit, result.segments) == (0, None, ())
    assert sorted(path for path in site.path.rglob("*") if path.is_file()) == before


def test_the_parts_of_a_writer_are_sealed_in_several_commits(site: Site) -> None:
    """A living writer is sealed as it goes on; each commit goes on where the one before ended, in one chain."""
    chain = Chain(site, MONDAY, owned=True)
    for number in range(1, 6):
        add_events(chain, 7)
        assert site.seal().commit == number
        if number % 2:
            chain.rotate()
            site.seal()
    assert len(site.journals()) == 1, "the open part stays, whatever of it is sealed"
    chain.close()
    site.seal()
    assert not site.journals()
    assert read_ids(site) == [(chain.writer, seq) for seq in range(37)]
    verification = site.verify()
    assert verification.ok, say(verification)
    assert (verification.checked_commits, verification.checked_segments) == (6, 6)


def test_an_owned_journal_of_today_is_left_to_its_owner(site: Site) -> None:
    """Without ``live`` a journal that a process still writes waits, unless its day is over."""
    today = Chain(site, datetime.now(UTC).date(), "t", owned=True)
    past = Chain(site, MONDAY, "p", owned=True)
    add_events(today, 2)
    add_events(past, 2)
    result = seal_store(site.layout, site.keys, live=False)
    assert result.events == 3
    assert [path.name.split(".")[0] for path in site.journals()] == sorted([today.writer, past.writer])
    add_events(past, 2)
    past.leave()
    today.leave()
    assert seal_store(site.layout, site.keys, live=False).events == 5
    assert len(read_ids(site)) == 8
    assert site.verify().ok


STOPPED = """
import sys, datetime, auditkit
path, key = sys.argv[1:3]
audit = auditkit.AuditLogger(path, key_file=key, enable_rotation=False)
yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
for number in range(5):
    audit.log_event("before", {"number": number}, time=yesterday)
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    audit.log_event("after", {"number": number}, time=yesterday)
audit.close()
"""


def test_a_stopped_process_doesn_t_keep_its_day_open(tmp_path: Path) -> None:
    """A process that was stopped with its journal locked is sealed when its day is over, and goes on afterwards."""
    site = Site(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(site.path), str(site.key_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        assert seal_store(site.layout, site.keys, live=False).events == 6
        assert site.open().count(type="before") == 5
        process.send_signal(signal.SIGCONT)
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
    assert seal_store(site.layout, site.keys, live=False).events == 6
    assert not site.journals()
    assert site.open().count(type=["before", "after"]) == 10
    assert site.verify().ok


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a damaged line": lambda line: line[:40] + b"\x00" + line[41:],
    "two objects": lambda line: b"{}{}",
    "an empty line": lambda line: b"",
    "zeros": lambda line: b"\0" * 300,
    "another writer's event": lambda line: line.replace(b"20200302-a", b"20200302-b"),
    "half a line": lambda line: line[: len(line) // 2],
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_middle_line_is_set_aside_and_the_rest_is_sealed(site: Site, what: str) -> None:
    """What can't be believed is kept with its reason; what stands before and behind it is sealed and proved."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 9)
    chain.close()
    lines = chain.path.read_bytes().splitlines(keepends=True)
    lines[4] = DAMAGE[what](lines[4][:-1]) + b"\n"
    chain.path.write_bytes(b"".join(lines))
    assert not site.verify().ok
    result = site.seal()
    assert (result.events, result.quarantined) == (10, 1)
    (record,) = read_quarantine(site)
    assert record["journal"] == chain.path.name
    assert record["line"] == 5
    assert str(record["reason"]).startswith("expected")
    assert read_ids(site) == [(chain.writer, seq) for seq in range(11) if seq != 4]
    verification = site.verify()
    assert accused_events(verification) == {(chain.writer, 4)}, say(verification)
    told = [finding for finding in verification.findings if finding.file.startswith("ledger/")]
    assert len(told) == (what == "another writer's event"), "the others are damage: nothing that somebody wrote"
    (finding,) = (finding for finding in verification.findings if finding not in told)
    assert (finding.kind, finding.events, finding.file) == ("missing", 1, result.segments[0])
    assert [note.kind for note in verification.notes].count("quarantined") == 1


@pytest.mark.parametrize("tail", [b'{"v":1,"sto', b"\0" * 4096, b"{}{}", b"\xff\xfe"])
def test_a_torn_tail_is_set_aside_and_accuses_nobody(site: Site, tail: bytes) -> None:
    """What a killed process was writing, or the disk had reserved, never was an event: its call had not returned."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    chain.write(tail)
    assert site.verify().ok
    result = site.seal()
    assert (result.events, result.quarantined) == (4, 1)
    assert read_quarantine(site)[0]["bytes"] == len(tail)
    verification = site.verify()
    assert verification.ok, say(verification)
    assert {note.kind for note in verification.notes} == {"unanchored", "quarantined"}


def test_a_line_that_is_being_written_waits(site: Site) -> None:
    """The last bytes of a journal that a process holds may become a line at any moment: they aren't torn."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 3)
    line = chain.sign() + b"\n"
    chain.write(line[:50])
    assert site.seal().quarantined == 0
    chain.write(line[50:])
    chain.leave()
    result = site.seal()
    assert (result.events, result.quarantined) == (1, 0)
    assert site.verify().ok


def test_the_largest_lines_are_sealed(site: Site) -> None:
    """Lines of nearly 4 MiB, among small ones and across the sealer's chunks."""
    chain = Chain(site, MONDAY, "a")
    for number in range(5):
        chain.add(message="ä" * 2_000_000, details=json.dumps({"number": number}))
        add_events(chain, 2)
    chain.close()
    assert max(map(len, chain.lines)) > 3_900_000
    assert site.seal().events == len(chain.lines)
    assert site.verify().ok
    assert sorted(site.open().events(columns=["message"])["message"].str.len().dropna())[-5:] == [2e6] * 5


def test_a_damaged_line_at_a_chunk_s_end_costs_no_other(site: Site) -> None:
    """The line behind a damaged one is proved by the line behind itself, also where a new chunk begins in between."""
    chain = Chain(site, MONDAY, "a")
    for _ in range(9):
        chain.add(message="x" * 1_150_000)
    chain.close()
    lines = chain.path.read_bytes().splitlines(keepends=True)
    for damaged in (6, 7, 8):
        copy = site.copy(site.folder.with_name("copy"))
        kept = [b"damage\n" if place == damaged else line for place, line in enumerate(lines)]
        (copy.path / "journal" / chain.path.name).write_bytes(b"".join(kept))
        copy.seal()
        assert [seq for _, seq in read_ids(copy)] == [seq for seq in range(11) if seq != damaged]


def test_megabytes_without_an_end_are_kept_in_pieces(site: Site) -> None:
    """Thirty megabytes that hold no newline are no line: every byte is kept, and the events around them are sealed."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 9)
    chain.close()
    lines = chain.path.read_bytes().splitlines(keepends=True)
    garbage = b"\0garbage" * (30 * (1 << 20) // 8) + b"\n"
    chain.path.write_bytes(b"".join([*lines[:5], garbage, *lines[5:]]))
    result = site.seal()
    assert result.events == len(lines)
    pieces = read_quarantine(site)
    assert len(pieces) == result.quarantined > 1
    assert sum(int(str(piece["bytes"])) for piece in pieces) == len(garbage) - 1
    assert {piece["line"] for piece in pieces} == {6}
    verification = site.verify()
    assert verification.ok, say(verification)


def test_a_file_of_nothing_but_its_length_fills_no_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse journal costs an attacker nothing: its beginning is kept, and the honest ones beside it are sealed."""
    chain = Chain(site, MONDAY, "b")
    add_events(chain, 9)
    chain.close()
    lines = chain.path.read_bytes()
    sparse = Chain(site, MONDAY, "a").path
    first = sparse.stat().st_size
    os.truncate(sparse, 300 << 20)
    huge = Chain(site, MONDAY, "c").path
    os.truncate(huge, 500 << 20)
    behind = Chain(site, MONDAY, "d")
    add_events(behind, 9)
    behind.close()
    with behind.path.open("r+b") as file:
        genuine = file.read()
        file.seek(0)
        file.truncate()
        file.write(bytes(100 << 20) + b"\n" + genuine)
    monkeypatch.setattr(sealing, "MAX_PART_BYTES", 400 << 20)
    result = site.seal()
    assert result.events == lines.count(b"\n") + genuine.count(b"\n") + 2
    assert not site.journals()
    records = read_quarantine(site)
    assert sum(int(str(record["bytes"])) for record in records) <= 64 << 20
    untold = [str(record["reason"]) for record in records if record["bytes"] == 0]
    assert any(f"found {(300 << 20) - first}: the last " in reason for reason in untold)
    assert any("more than" in reason and "the rest of the file is not kept" in reason for reason in untold)
    assert any(f"found {100 << 20}: the last {100 << 20} of them" in reason for reason in untold)
    assert any(sha256(bytes(100 << 20)).hexdigest() in reason for reason in untold)
    assert site.verify().ok, say(site.verify())


def test_lines_out_of_their_order_are_kept_in_quarantine(site: Site) -> None:
    """A line that comes again or too late isn't dropped with its journal: it may be the one that was meant."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 9)
    lines = chain.path.read_bytes().splitlines(keepends=True)
    lines[3], lines[6] = lines[6], lines[3]
    lines.append(lines[1])
    chain.path.write_bytes(b"".join(lines))
    result = site.seal()
    assert {seq for _, seq in read_ids(site)} | list_set_aside(site) == set(range(10))
    assert result.quarantined == 10 + 1 - result.events
    assert not site.journals()


def test_a_forged_number_far_ahead_doesn_t_lose_the_real_events(site: Site) -> None:
    """Whoever may append to a living journal can't make the sealer drop what comes after."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 3)
    chain.write(print_body(json.loads(chain.sign()) | {"seq": 1_000_000}) + b"\n")
    site.seal()
    add_events(chain, 4)
    site.seal()
    chain.close()
    site.seal()
    assert {seq for _, seq in read_ids(site)} | list_set_aside(site) >= set(range(9))
    assert not site.verify().ok


def test_the_same_damage_is_quarantined_once(site: Site) -> None:
    """A living journal is read again by every sealing, and its bad line is set aside by the first alone."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 2)
    chain.write(b"nonsense\n")
    for _ in range(3):
        add_events(chain, 2)
        site.seal()
    assert len(read_quarantine(site)) == 1
    chain.leave()
    site.seal()
    assert len(read_quarantine(site)) == 1
    assert len(read_ids(site)) == 9


def test_hostile_text_in_a_quarantined_line_stays_text(site: Site) -> None:
    """The quarantine is JSON lines that any tool reads, whatever bytes were set aside."""
    chain = Chain(site, MONDAY, "a")
    for attack in (b"\x1b]0;owned\x07", b'"},{"reason":"forged', b"\xff\xfe\x80", b"\xe2\x80\xa8"):
        chain.write(attack + b"\n")
    assert site.seal().quarantined == 4
    assert [record["line"] for record in read_quarantine(site)] == [2, 3, 4, 5]
    assert all(b"\x1b" not in path.read_bytes() for path in (site.path / "quarantine").iterdir())


def test_of_two_sealers_one_works_and_the_other_needn_t_wait(site: Site) -> None:
    """While one holds the lock, another that doesn't want to wait says so and leaves the journals."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    with durable.hold_lock(site.layout.seal_lock):
        code, out, complaint = run_sealer(site, wait=False)
        assert code == 0, complaint
        assert json.loads(out)["busy"] is True
        waiting = start_sealer(site)
        time.sleep(0.2)
        assert site.journals()
    out, _ = waiting.communicate(timeout=60)
    assert json.loads(out)["events"] == 4


def test_racing_sealers_seal_every_event_once(site: Site) -> None:
    """Several processes that seal at once, while another writes, lose nothing and repeat nothing."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 50)
    sealers = [start_sealer(site) for _ in range(4)]
    while any(sealer.poll() is None for sealer in sealers):
        add_events(chain, 3)
        time.sleep(0.01)
    results = [json.loads(sealer.communicate()[0]) for sealer in sealers]
    chain.close()
    results.append({"events": site.seal().events})
    assert sum(result["events"] for result in results) == len(chain.lines)
    assert read_ids(site) == [(chain.writer, seq) for seq in range(len(chain.lines))]
    assert site.verify().ok


def test_a_sealer_without_the_right_key_touches_nothing(site: Site, tmp_path: Path) -> None:
    """The key is looked at before a journal is."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    other = make_site(tmp_path / "other", "otherotherothers")
    with pytest.raises(auditkit.errors.KeyMismatch):
        auditkit.open(site.path, key_file=other.key_file).seal()
    assert site.journals()
    assert not site.commits()


def test_a_key_file_that_counts_too_far_stops_the_sealer(site: Site) -> None:
    """Beyond what the format can say nothing could be sealed behind its commit; the journals stay."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    state = json.loads(site.key_file.read_bytes())
    site.key_file.write_text(json.dumps(state | {"n": 1 << 60}))
    with pytest.raises(auditkit.errors.KeyMismatch):
        site.seal()
    assert not site.commits()
    assert site.journals()
    site.key_file.write_text(json.dumps(state))
    assert site.seal().events == 4
    assert site.verify().ok


def test_what_lies_in_staging_without_a_commit_is_removed(site: Site) -> None:
    """A segment that was never committed is still in its journal, so its file is only waste; the rest is not ours."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 3)
    staging = site.path / "staging"
    (staging / "folder").mkdir(parents=True)
    (staging / "0123456789abcdef.parquet").write_bytes(b"half")
    (staging / "writing-1-0.parquet").symlink_to(site.path / "store.json")
    assert site.seal().events == 4
    assert [path.name for path in staging.iterdir()] == ["folder"]
    assert (site.path / "store.json").exists()


def test_a_past_event_lands_in_its_own_date(tmp_path: Path) -> None:
    """Events of any date may be recorded today, in any order, and each is sealed into its own partition."""
    site = Site(tmp_path)
    start = datetime(2019, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    with auditkit.AuditLogger(site.path, key_file=site.key_file, enable_rotation=False) as audit:
        for number in range(40):
            moment = start + timedelta(days=number * 7 % 5, microseconds=number % 2)
            audit.log_event("past", {"number": number}, time=moment)
    site.seal()
    assert site.open().count(type="past") == 40
    for path in site.segments():
        day = path.parent.name.removeprefix("date=")
        times = site.open().events(since=day, until=day)["time"]
        assert len(times)
        assert set(times.dt.date.astype(str)) == {day}
    assert site.verify().ok


def test_the_first_event_changed_costs_no_other(site: Site) -> None:
    """The first event says which key its writer has; changed, it must not have the whole journal set aside."""
    chain = Chain(site, MONDAY, "a")
    add_events(chain, 6)
    chain.close()
    content = chain.path.read_bytes()
    chain.path.write_bytes(content.replace(rb"{\"n\":0", rb"{\"n\":3", 1))
    site.seal()
    assert {seq for _, seq in read_ids(site)} >= set(range(1, 8))
    assert accused_events(site.verify()) == {(chain.writer, 0)}
