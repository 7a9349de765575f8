"""Verification never raises and never hangs, whatever lies in the store; reading refuses with a clear error."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auditkit
from auditkit import AuditLogger
from auditkit.errors import AuditError, StoreDamaged
from auditkit.event import make_schema
from auditkit.integrity import Verification
from auditkit.store import engine
from tests.integrity.stores import (
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    accused_events,
    add_events,
    at,
    findings_about,
    make_site,
    print_body,
    read_segment,
    say,
    write_segment,
)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def read_everything(site: Site) -> None:
    """Read as a user would: an answer or an error of ours, and nothing else."""
    with warnings.catch_warnings(), suppress(AuditError):
        warnings.simplefilter("ignore")
        site.open().events(include_internal=True)


@settings(max_examples=80, database=None)
@given(data=st.data())
def test_random_bytes_anywhere_are_survived(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """Any file of a store, its key included, may hold anything from some byte on."""
    site = sample.copy(workplace / "site")
    files = [site.path / "store.json", site.key_file, *site.journals(), *site.commits(), *site.segments()]
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 64)))
    noise = data.draw(
        st.binary(max_size=64)
        | st.sampled_from([b"\0" * 4096, b"[" * 100_000, b"\xff\xfe", b"\n\n", b"{}{}\n", b"null\n", b"PAR1"])
    )
    path.write_bytes(content[:start] + noise + content[end:])
    try:
        trail = site.open()
    except AuditError:
        assert path.name == "store.json"
        return
    assert isinstance(trail.verify(), Verification)
    read_everything(site)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("place", ["journal", "ledger", "events"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling"])
def test_what_is_no_file_is_found(site: Site, kind: str, place: str, deep: bool) -> None:
    """A pipe, a folder or a link with the name of a journal, a commit or a segment neither blocks nor hides."""
    path = {
        "journal": site.path / "journal" / "20200304-xxxxxxxxxxxxxxxx.000000.jsonl",
        "ledger": site.path / "ledger" / "00000004.commit",
        "events": site.path / "events" / "date=2020-03-09",
    }[place]
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        if place == "events":
            (path / "foreign.parquet").write_bytes(b"PAR1")
            path = path / "foreign.parquet"
    elif kind == "link":
        target = site.segments()[0].parent if place == "events" else site.path / "store.json"
        path.symlink_to(target)
    else:
        path.symlink_to("nowhere")
    verification = site.verify(deep=deep)
    assert not verification.ok
    assert findings_about(verification, site.name(path)), say(verification)
    assert not accused_events(verification)
    if place == "journal":
        assert len(site.open().events()) > 0
        assert site.seal().events == 45


@pytest.mark.parametrize("place", ["journal/20200304-xxxxxxxxxxxxxxxx.000000.jsonl", "ledger/00000004.commit"])
def test_a_file_of_a_terabyte_is_told_and_not_read(site: Site, place: str) -> None:
    """A sparse file costs whoever plants it nothing; a reader refuses to give an answer without what it may hold."""
    with (site.path / place).open("wb") as file:
        file.truncate(1 << 40)
    verification = site.verify()
    (finding,) = findings_about(verification, place)
    assert "1,099,511,627,776" in finding.found
    assert verification.checked_events == 145
    with pytest.raises(StoreDamaged, match="1,099,511,627,776"):
        site.open().events()


def test_an_events_folder_that_is_a_file_is_survived(site: Site) -> None:
    """The partitions are gone, and that is what is said."""
    shutil.rmtree(site.path / "events")
    (site.path / "events").write_text("nothing")
    verification = site.verify()
    assert verification.verdict != "ok"
    assert sum(finding.events or 0 for finding in verification.findings if finding.kind == "missing") == 145


def make_constant_rows(rows: int, text: str) -> pa.Table:
    """Make rows that are all the same, as a dictionary and a count: what they stand for is never laid out here."""
    columns = []
    for field in make_schema():
        if field.type == pa.int64():
            columns.append(pa.repeat(pa.scalar(1, pa.int64()), rows))
        elif field.type == pa.string():
            columns.append(pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([text])))
        elif pa.types.is_timestamp(field.type):
            columns.append(pa.repeat(pa.scalar(at(WEDNESDAY), field.type), rows))
        else:
            columns.append(pa.nulls(rows, field.type))
    fields = [pa.field(f.name, c.type, f.nullable) for f, c in zip(make_schema(), columns, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


@pytest.mark.parametrize("rows, length", [(2_000_000, 1), (3000, 100_000)])
def test_a_small_file_that_stands_for_gigabytes_is_refused(site: Site, rows: int, length: int) -> None:
    """Repeated values cost a Parquet file nothing, so what it holds is measured before it is laid out."""
    path, table = site.segments()[0], make_constant_rows(rows, "x" * length)
    # Without Arrow's own schema in the footer, a reader sees plain text columns.
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"format": "1", "store": "sitesitesitesite"})
    assert path.stat().st_size < 300_000
    assert pq.ParquetFile(path).schema_arrow.equals(make_schema())
    verification = site.verify()
    about = findings_about(verification, site.name(path))
    assert any("expected at most" in finding.found for finding in about), say(verification)


def test_a_segment_with_other_columns_is_refused(site: Site) -> None:
    """A Parquet file of another shape is named, and its rows are counted as missing from nothing else."""
    path = site.segments()[0]
    write_segment(path, pa.table({"id": [1, 2], "time": ["now", "then"]}))
    verification = site.verify()
    assert len(findings_about(verification, site.name(path))) == 2, say(verification)
    assert {finding.file for finding in verification.findings} == {site.name(path)}
    read_everything(site)


def test_text_that_is_no_utf_8_is_survived(site: Site) -> None:
    """Parquet doesn't check its texts, so a verifier must."""
    path = site.segments()[0]
    table = read_segment(path)
    place = table.schema.get_field_index("message")
    bad = pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string())
    write_segment(path, table.set_column(place, table.schema.field("message"), bad))
    verification = site.verify()
    assert findings_about(verification, site.name(path)), say(verification)
    read_everything(site)


@pytest.mark.parametrize("us", [-(2**63), 2**63 - 1, 2**62, -62_135_596_800_000_001])
def test_times_beyond_every_calendar_are_survived(site: Site, us: int) -> None:
    """A time that no datetime can hold is no reason to stop."""
    path = site.segments()[0]
    table = read_segment(path)
    times = table.column("time").combine_chunks().view(pa.int64()).to_pylist()
    times[3] = us
    place = table.schema.get_field_index("time")
    field = table.schema.field("time")
    write_segment(path, table.set_column(place, field, pa.array(times, pa.int64()).view(field.type)))
    verification = site.verify()
    assert findings_about(verification, site.name(path)), say(verification)
    read_everything(site)


def forge(line: bytes, **fields: object) -> bytes:
    return print_body(json.loads(line) | fields)


def test_forged_epochs_and_key_numbers_don_t_keep_the_verifier_busy(tmp_path: Path) -> None:
    """Ratcheting costs time, so what a forged event asks for is bounded, and done once."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    add_events(chain, 200)
    lines = chain.path.read_bytes().splitlines()
    for place in range(1, 200, 2):
        lines[place] = forge(lines[place], epoch=[2**53 - 1, 100_000, 131_072, 1][place // 2 % 4])
    lines[0] = lines[0].replace(rb"\"n\":0", rb"\"n\":1048575")
    chain.path.write_bytes(b"\n".join(lines) + b"\n")
    verification = site.verify()
    assert not verification.ok
    assert {seq for _, seq in accused_events(verification)} >= set(range(1, 200, 2))


@pytest.mark.slow
def test_many_writers_with_forged_epochs_share_one_budget(tmp_path: Path) -> None:
    """Each asks for the last epoch that is believed: what the budget doesn't cover is unverifiable, and never passed.

    The honest writer beside them, whose epochs go up by one, is proved to its end.
    """
    site = make_site(tmp_path / "site")
    honest = Chain(site, WEDNESDAY, "z")
    for _ in range(30):
        honest.ratchet()
        add_events(honest, 2)
    forged = [f"20200304-{letter * 16}" for letter in "abcdefghijkl"]
    for writer in forged:
        lines = [forge(honest.lines[0], writer=writer), forge(honest.lines[1], writer=writer, epoch=1 << 17)]
        site.layout.part(writer, 0).write_bytes(b"\n".join(lines) + b"\n")
    verification = site.verify()
    assert verification.verdict == "findings"
    assert {writer for writer, _ in accused_events(verification)} == set(forged), say(verification)
    beyond = [f for f in verification.findings if "steps of a verification" in f.found]
    assert {(f.kind, f.severity, f.events) for f in beyond} == {("unverifiable", "incomplete", 2)}
    assert 0 < len(beyond) < len(forged)


def test_a_reversed_journal_is_one_finding(tmp_path: Path) -> None:
    """Twenty thousand lines in reverse are told in one finding, and found in less than quadratic time."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    lines = []
    for _ in range(20_000):
        lines.append(chain.sign())
        chain.prev = sha256(b"\0" + lines[-1]).digest()
        chain.seq += 1
    chain.path.write_bytes(chain.lines[0] + b"\n" + b"\n".join(reversed(lines)) + b"\n")
    verification = site.verify()
    assert [finding.events for finding in verification.findings] == [19_999], say(verification)


def test_a_deep_line_is_survived(tmp_path: Path) -> None:
    """Three megabytes of brackets overflow no parser's stack."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    add_events(chain, 3)
    for bracket in (b"[", b'{"a":'):
        chain.write(bracket * ((3 << 20) // len(bracket)) + b',"mac":"' + b"0" * 64 + b'"}\n')
    verification = site.verify()
    assert len(verification.findings) == 2, say(verification)
    assert site.seal().quarantined == 2


def test_a_forged_event_stays_a_forged_event_behind_its_seal(tmp_path: Path) -> None:
    """A sealer that takes a forged line signs a commit over it, and the event is accused all the same."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    add_events(chain, 6)
    lines = chain.path.read_bytes().splitlines()
    lines[4] = forge(lines[4], actor="mallory")
    chain.path.write_bytes(b"\n".join(lines) + b"\n")
    assert accused_events(site.verify()) == {(chain.writer, 4)}
    site.seal()
    assert accused_events(site.verify()) == {(chain.writer, 4)}


def test_every_kind_of_unreadable_line_is_named_by_its_number(tmp_path: Path) -> None:
    """A finding says which line of which file, and what it isn't."""
    site = make_site(tmp_path / "site")
    chain = Chain(site, WEDNESDAY, "w")
    add_events(chain, 2)
    good = chain.sign()
    attacks: dict[str, Callable[[bytes], bytes]] = {
        "nothing": lambda line: b"",
        "two objects": lambda line: b"{}{}",
        "zeros": lambda line: b"\0" * 100,
        "carriage return": lambda line: line + b"\r",
        "no MAC": lambda line: line[:-75] + b"}",
        "upper-case MAC": lambda line: line[:-66] + line[-66:-2].upper() + line[-2:],
        "another version": lambda line: forge(line, v=2),
        "a null type": lambda line: forge(line, type=None),
        "a text seq": lambda line: forge(line, seq="3"),
        "a negative seq": lambda line: forge(line, seq=-3),
        "a fraction": lambda line: forge(line, duration_us=1.5),
        "a late time": lambda line: forge(line, time=2**62),
        "a large number": lambda line: forge(line, epoch=2**53),
        "another order": lambda line: print_body(dict(reversed(json.loads(line).items()))),
        "a space": lambda line: line.replace(b":", b": ", 1),
        "a key twice": lambda line: line.replace(b'{"v":1', b'{"v":1,"v":1', 1),
        "another store": lambda line: forge(line, store="zzzzzzzzzzzzzzzz"),
        "an escaped slash": lambda line: line.replace(b'"test"', rb'"te\/st"'),
    }
    for attack in attacks.values():
        chain.write(attack(good) + b"\n")
    verification = site.verify()
    assert [f.found.partition(" isn't")[0] for f in verification.findings] == [
        f"line {number}" for number in range(4, 4 + len(attacks))
    ], say(verification)
    assert site.seal().quarantined == len(attacks)
    assert len(site.open().events(include_internal=True)) == 3


def test_events_of_megabytes_need_no_more_memory_than_the_engine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many megabytes of text are sealed and verified with little more memory than they are, and accuse nobody."""
    monkeypatch.setattr(engine, "MEMORY_LIMIT", "512MB")
    details = {name: name * 900_000 for name in ("prompt", "answer", "context")}
    with AuditLogger(tmp_path / "audit", secret_key="a secret for big events", enable_rotation=False) as audit:
        for number in range(60):
            audit.log_event("llm.call", {**details, "number": number})
    trail = auditkit.open(tmp_path / "audit", secret_key="a secret for big events")
    for seal in (False, True):
        if seal:
            trail.seal()
        verification = trail.verify()
        assert verification.ok, verification
        assert verification.checked_events + verification.journal_events == 62
