"""Scanning: whatever is asked, the answer is what the journals' lines said, sealed or not, and never half of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditkit
from auditkit.errors import FormatUnknown, StoreDamaged, StoreIncomplete, StoreMissing, UsageError
from auditkit.scan import COLUMNS, UnreadableWarning, make_query
from auditkit.store import engine
from auditkit.trail import AuditTrail
from tests.integrity.stores import (
    DAY_US,
    MONDAY,
    TEXTS,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    add_events,
    at,
    make_sample,
    make_site,
    read_segment,
)

ROOT = Path(auditkit.__file__).parents[1]

DTYPES = dict.fromkeys(COLUMNS, "str") | {"time": "datetime64[us, UTC]", "duration_us": "Int64", "seq": "int64"}

FILTERS = ("type", "actor", "lead_id", "workflow", "outcome", "operation")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Three UTC dates by seven writers, in three commits and in journals; nothing of it is changed."""
    return make_sample(tmp_path_factory.mktemp("scanned"))


@pytest.fixture
def site(sample: Sample, tmp_path: Path) -> Site:
    """Give a copy of the sample store."""
    return sample.copy(tmp_path / "site")


@pytest.fixture(scope="session")
def whole(sample: Sample) -> pd.DataFrame:
    """Give every event as its writer's line says it, read without the toolkit."""
    return read_lines(line for chain in sample.chains.values() for line in chain.lines)


def read_lines(lines: Any) -> pd.DataFrame:
    """Make the frame that `AuditTrail.events` promises out of journal lines."""
    rows = [json.loads(line) for line in lines]
    frame = pd.DataFrame(rows, columns=[*rows[0]])
    frame["id"] = [f"{row['writer']}:{row['seq']}" for row in rows]
    # Whole numbers from the first to the last: a duration on its way through a float could lose its end.
    frame["duration_us"] = pd.array([row["duration_us"] for row in rows], dtype="Int64")
    frame["time"] = pd.Series(np.array([row["time"] for row in rows], "datetime64[us]")).dt.tz_localize("UTC")
    frame = frame[[*COLUMNS]].astype(DTYPES)
    return frame.sort_values(["time", "writer", "seq"], ignore_index=True)


def select(frame: pd.DataFrame, internal: bool = False, **wanted: Any) -> pd.DataFrame:
    """Filter a frame of all events with pandas as `AuditTrail.events` should."""
    keep = pd.Series(data=True, index=frame.index)
    kinds = wanted.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds or []
    if not internal and not any(kind.startswith("auditkit.") for kind in named):
        keep &= ~frame["type"].str.startswith("auditkit.")
    for column in FILTERS:
        if (values := wanted.get(column)) is not None:
            keep &= frame[column].isin([values] if isinstance(values, str) else list(values))
    if (since := wanted.get("since")) is not None:
        keep &= frame["time"] >= since
    if (until := wanted.get("until")) is not None:
        keep &= frame["time"] < until
    return frame[keep].reset_index(drop=True)


def moment(day: date, seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at(day, seconds))


# -- what is found ----------------------------------------------------------------------------------------------------


def test_every_event_is_given_as_its_writer_printed_it(sample: Sample, whole: pd.DataFrame) -> None:
    """Text with quotes, controls and nulls, whole durations, times to the microsecond; sealed and live ones alike."""
    found = sample.site.open().events(include_internal=True)
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    assert {text for number, text in enumerate(TEXTS) if number % 3} <= {*found["message"].dropna()}


def test_events_are_ordered_by_time_then_writer_then_number(tmp_path: Path) -> None:
    """Two writers whose clocks agree, and one whose clock goes backwards, are always given in the same order."""
    site = make_site(tmp_path)
    back, same = Chain(site, MONDAY, "b", opens=False), Chain(site, MONDAY, "a", opens=False)
    for second in (5, 3, 3, 4):
        back.add(time=at(MONDAY, second))
    for _ in range(3):
        same.add(time=at(MONDAY, 3))
    expected = [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3), ("b", 0)]
    for trail in (site.open(), _sealed(site).open()):
        found = trail.events()
        assert [(writer[-1], seq) for writer, seq in zip(found["writer"], found["seq"], strict=True)] == expected


def _sealed(site: Site) -> Site:
    assert site.seal().events
    return site


def test_an_answer_has_the_same_dtypes_however_little_is_in_it(sample: Sample, tmp_path: Path) -> None:
    """Code that works on a full day works on an empty one, on a single column, and on a store without events."""
    trail, empty = sample.site.open(), make_site(tmp_path).open()
    for frame in (
        trail.events(),
        trail.events(type=[]),
        trail.events(limit=0),
        trail.events(actor="nobody"),
        trail.events(since="2030-01-01"),
        trail.events(lead_id="L-1", limit=1),
        empty.events(),
    ):
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == DTYPES
        assert isinstance(frame.index, pd.RangeIndex)
        assert [*frame] == [*COLUMNS]
    for column in COLUMNS:
        for frame in (
            trail.events(columns=[column]),
            trail.events(columns=[column], type=[]),
            empty.events(columns=[column]),
        ):
            assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {column: DTYPES[column]}
    missing = trail.events(type="kind.0", columns=["actor", "duration_us"])
    assert len(missing) > 1
    assert missing.isna().all(axis=None)
    assert [str(dtype) for dtype in missing.dtypes] == ["str", "Int64"]


VALUES: dict[str, tuple[str, ...]] = {
    "type": ("kind.0", "kind.3", "error", "operation", "auditkit.opened", "auditkit.gap", "unknown", ""),
    "actor": ("ana", "bo", "", "Ana", "a\0b", "'; DROP TABLE journals; --"),
    "lead_id": (*(f"L-{number}" for number in range(7)), "L-", "%", "👩🏽‍🚀"),
    "workflow": ("intake", "renewal", "in*"),
    "outcome": ("failure", "success", "?"),
    "operation": ("score", "sync", "\ufeff"),
}

MOMENTS = st.builds(
    lambda day, us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at(MONDAY) + day * DAY_US + us),
    st.integers(-1, 3),
    st.one_of(st.integers(0, 60).map(lambda second: second * 1_000_000), st.integers(0, 60_000_000)),
)


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """Draw filters of one value, of several, of none, and a range."""
    wanted: dict[str, Any] = {}
    for column in draw(st.sets(st.sampled_from(FILTERS), max_size=3)):
        value = st.sampled_from(VALUES[column])
        wanted[column] = draw(st.one_of(value, st.lists(value, max_size=4), st.lists(value, max_size=3).map(tuple)))
    ends = sorted(draw(st.lists(MOMENTS, min_size=2, max_size=2)))
    wanted |= {name: end for name, end in zip(("since", "until"), ends, strict=True) if draw(st.booleans())}
    return wanted


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    wanted=filters(),
    internal=st.booleans(),
    limit=st.none() | st.integers(0, 200),
    newest=st.booleans(),
    rows=st.integers(1, 70),
    columns=st.none() | st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True),
)
def test_every_way_of_reading_answers_as_pandas_does(
    sample: Sample,
    whole: pd.DataFrame,
    wanted: dict[str, Any],
    internal: bool,
    limit: int | None,
    newest: bool,
    rows: int,
    columns: list[str] | None,
) -> None:
    """Events, pieces and counts are those of a plain filter over all events, whatever is asked together."""
    trail = sample.site.open()
    expected = select(whole, internal, **wanted)
    kept = expected[columns or [*COLUMNS]]
    cut = kept if limit is None else kept.iloc[max(0, len(kept) - limit) :] if newest else kept.iloc[:limit]
    found = trail.events(**wanted, columns=columns, limit=limit, newest=newest, include_internal=internal)
    pd.testing.assert_frame_equal(found, cut.reset_index(drop=True), check_exact=True)
    pieces = list(trail.stream(**wanted, columns=columns, batch_rows=rows, include_internal=internal))
    assert all(0 < len(piece) <= rows for piece in pieces)
    joined = pd.concat(pieces, ignore_index=True) if pieces else trail.events(type=[], columns=columns)
    pd.testing.assert_frame_equal(joined, kept, check_exact=True)
    unordered = [i for piece in trail.stream(**wanted, include_internal=internal, ordered=False) for i in piece["id"]]
    assert Counter(unordered) == Counter(expected["id"])
    assert trail.count(**wanted, include_internal=internal) == len(expected)


def test_a_filter_is_a_value_or_values_and_nothing_else() -> None:
    """What can't be meant is refused at the call, not answered with nothing, or with everything."""
    wrong: list[Any] = [float("nan"), pd.NA, pd.NaT, ["error", None], [float("nan")], [["error"]], [("a",)], [{"a"}]]
    for value in wrong:
        with pytest.raises(UsageError, match="expected a value or a list of values as type"):
            make_query(type=value)
    texts: list[Any] = [("a", "b"), pd.Series(["a", "b"]), np.array(["a", "b"]), iter(["a", "b"]), {"a": 1, "b": 2}]
    for value in texts:
        assert make_query(type=value).equal == (("type", ("a", "b")),)


VALUES_RECORDED: list[Any] = [
    42, 1.5, True, np.int64(7), b"raw", date(2026, 11, 23), uuid.UUID(int=5), Decimal("1.10"), Path("a/b"), "\ud800x",
    HTTPStatus.NOT_FOUND, "plain", "",
]  # fmt: skip


def test_whatever_an_event_was_recorded_with_finds_it(tmp_path: Path) -> None:
    """A number, an enumeration or an id becomes the same text for the reader as for the writer."""
    with auditkit.AuditLogger(tmp_path / "audit", secret_key="a secret of these tests", enable_rotation=False) as audit:
        for value in VALUES_RECORDED:
            audit.log_event("seen", lead_id=value, actor=value)
    trail = open_ours(tmp_path / "audit")
    for number, value in enumerate(VALUES_RECORDED):
        for found in (trail.lead(value), trail.events(actor=value), trail.events(lead_id=[value], actor=(value,))):
            assert [*found["seq"]] == [number + 1], value
    assert trail.count(actor=VALUES_RECORDED) == len(VALUES_RECORDED)


@pytest.mark.parametrize("lead", [None, float("nan"), pd.NA, [], ["L-1"]])
def test_no_lead_is_not_every_lead(sample: Sample, lead: Any) -> None:
    """A lead that somebody's code didn't find must not show them all leads' events."""
    with pytest.raises(UsageError, match="expected a value or a list of values as lead_id"):
        sample.site.open().lead(lead)


def test_pieces_hold_one_date_at_most_and_can_be_left_early(sample: Sample, whole: pd.DataFrame) -> None:
    """A consumer that has seen enough stops, and the next call reads as if nothing had been."""
    trail = sample.site.open()
    pieces = list(trail.stream(include_internal=True))
    assert [{*piece["time"].dt.date} for piece in pieces] == [{MONDAY}, {TUESDAY}, {WEDNESDAY}]
    stream = trail.stream(batch_rows=3)
    first = next(stream)
    del stream
    assert [*first["id"]] == [*select(whole)["id"][:3]]
    assert trail.count() == len(select(whole))


# -- other readers of the same files ----------------------------------------------------------------------------------


def test_duckdb_pandas_and_pyarrow_read_the_partitions_as_they_are(site: Site, whole: pd.DataFrame) -> None:
    """No toolkit is needed to read a sealed store: its files say the same to each engine, nulls included."""
    _sealed(site)
    found = site.open().events(include_internal=True)
    pd.testing.assert_frame_equal(found, whole)
    events = site.path / "events"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        by_duckdb = connection.sql(f"SELECT * FROM '{events}/**/*.parquet'").df()
        days = connection.sql(
            f"SELECT date, count(*) FROM read_parquet('{events}/**/*.parquet', hive_partitioning = true) GROUP BY ALL"
        ).fetchall()
    assert {str(day): n for day, n in days} == {str(d): n for d, n in Counter(found["time"].dt.date).items()}
    by_pandas = pd.read_parquet(events)
    by_pyarrow = ds.dataset(events, partitioning="hive").to_table().to_pandas()
    plain = [column for column in COLUMNS if column != "id"]
    for read in (by_duckdb, by_pandas, by_pyarrow):
        ordered = read.sort_values(["time", "writer", "seq"], ignore_index=True)[plain]
        for column in plain:
            mine, theirs = found[column], ordered[column]
            assert [*mine.isna()] == [*theirs.isna()], column
            here, there = mine[mine.notna()], theirs[theirs.notna()]
            assert [*here] == [*there], column
    assert {*by_pyarrow["mac"].map(len)} == {32}
    assert by_pyarrow["leaf"].isna().all()
    assert found["duration_us"].isna().any()
    assert found["details"].isna().any()


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_segment_of_another_size_is_named_and_nothing_is_given(site: Site) -> None:
    """An incomplete answer is never given as a whole one; other dates can still be read."""
    path = _segment_of(site, MONDAY)
    path.write_bytes(path.read_bytes()[:-1])
    _expect_damage(site, rf"expected \d+ bytes in \S*{path.name}.*found \d+")


def test_a_segment_of_the_same_size_but_other_content_is_named(site: Site) -> None:
    """The message has both digests, so that a backup can be compared with what the ledger lists."""
    path = _segment_of(site, MONDAY)
    expected = sha256(path.read_bytes()).hexdigest()
    path.write_bytes(os.urandom(path.stat().st_size))
    found = sha256(path.read_bytes()).hexdigest()
    _expect_damage(site, rf"expected the SHA-256 {expected} of \S*{path.name}.*found {found}.*auditkit integrity")


def test_no_flipped_bit_is_shown_as_an_event(site: Site, whole: pd.DataFrame) -> None:
    """Wherever a disk or a hand flips a bit of a segment, reading says so, also to who has read it before."""
    path = _segment_of(site, TUESDAY)
    data = path.read_bytes()
    trail = site.open()
    monday = select(whole, until=moment(TUESDAY, 0))
    for place in range(0, len(data), max(1, len(data) // 40)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        for read in (trail.events, trail.count, site.open().events):
            with pytest.raises(StoreDamaged, match=rf"expected the SHA-256 \w+ of \S*{path.name}"):
                read()
        pd.testing.assert_frame_equal(trail.events(until=MONDAY), monday)
    path.write_bytes(data)
    pd.testing.assert_frame_equal(trail.events(include_internal=True), whole)


def test_a_missing_segment_is_named_with_the_number_of_its_events(site: Site) -> None:
    """A day that was deleted is not a day on which nothing happened."""
    path = _segment_of(site, MONDAY)
    rows = read_segment(path).num_rows
    path.unlink()
    _expect_damage(site, rf"expected the segment events/date=2020-03-02/{path.name} with {rows} events .* found none")


def test_a_limit_reads_only_the_days_it_needs(site: Site, whole: pd.DataFrame) -> None:
    """The newest events can be shown although an old day is damaged, and asking for more says that it is."""
    path = _segment_of(site, MONDAY)
    path.write_bytes(os.urandom(path.stat().st_size))
    trail, last = site.open(), select(whole, since=moment(WEDNESDAY, 0))
    for limit in (0, 1, len(last)):
        found = trail.events(limit=limit, newest=True)
        pd.testing.assert_frame_equal(found, last[len(last) - limit :].reset_index(drop=True))
    for limit, newest in ((len(whole), True), (1, False)):
        with pytest.raises(StoreDamaged, match=path.name):
            trail.events(limit=limit, newest=newest)


def test_a_missing_partition_accuses_nobody(site: Site) -> None:
    """A folder that is gone as a whole may just not be mounted, and the integrity check says the same."""
    path = _segment_of(site, MONDAY)
    shutil.rmtree(path.parent)
    _expect_damage(
        site, r"expected the segment events/date=2020-03-02/\w+.parquet .* found no such partition: mount it"
    )
    with pytest.raises(StoreIncomplete):
        site.open().events()
    assert site.verify().verdict == "incomplete"


def _segment_of(site: Site, day: date) -> Path:
    return next(path for path in site.segments() if path.parent.name == f"date={day}")


def _expect_damage(site: Site, message: str) -> None:
    """Demand that every way of reading Monday fails with the message, and that Tuesday is read as ever."""
    trail = site.open()
    ways: list[Callable[[], object]] = [
        trail.events,
        trail.count,
        lambda: list(trail.stream()),
        lambda: trail.events(until="2020-03-02", columns=["id"]),
        trail.statistics,
        trail.errors,
        trail.performance,
        trail.count_statistics,
    ]
    for read in ways:
        with pytest.raises(StoreDamaged, match=f"(?s){message}"):
            read()
    day: dict[str, Any] = {"since": TUESDAY, "until": TUESDAY}
    assert len(trail.events(**day)) == trail.count(**day) == int(trail.statistics(**day).frame["n"].sum()) > 0
    assert len(trail.performance(**day).frame)
    assert trail.errors(**day).frame["n"].sum() > 0
    # A trail prints itself all the same: a debugger shows it wherever it is met.
    assert repr(trail).startswith("AuditTrail(")
    assert "StoreDamaged" not in trail._repr_html_()


def test_a_truncated_commit_is_named(site: Site) -> None:
    """Without its ledger nobody can say which segments make up the store."""
    commit = site.commits()[1]
    commit.write_bytes(commit.read_bytes()[:40])
    trail = site.open()
    with pytest.raises(StoreDamaged, match=r"00000002\.commit"):
        trail.events()
    assert "unreadable: StoreDamaged" in repr(trail)
    assert "00000002.commit" in trail._repr_html_()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda line: line[:-5] + b"00000", id="not a line's end"),
        pytest.param(lambda line: line.replace(b'"writer"', b'"wroter"'), id="another key"),
        pytest.param(lambda line: b"", id="blank"),
        pytest.param(lambda line: os.urandom(40).replace(b"\n", b"x"), id="random"),
        pytest.param(lambda line: line.replace(b'"v":1', b'"v":2'), id="newer format"),
        pytest.param(lambda line: line.replace(b'"time":', b'"time": '), id="printed otherwise"),
        pytest.param(lambda line: line + line, id="two on a line"),
    ],
)
def test_a_damaged_journal_line_is_warned_about_and_the_rest_is_given(
    site: Site, whole: pd.DataFrame, damage: Callable[[bytes], bytes]
) -> None:
    """A line that isn't an event mustn't hide the thousands around it, nor pass in silence."""
    path = next(path for path in site.journals() if path.name.startswith("20200304-g"))
    lines = path.read_bytes().splitlines()
    lines[4] = damage(lines[4])
    path.write_bytes(b"\n".join(lines) + b"\n")
    trail = site.open()
    with pytest.warns(UnreadableWarning, match="1 lines of the journals in .* are not events") as caught:
        found = trail.events(include_internal=True)
    assert caught[0].filename == __file__
    assert [*found["id"]] == [event for event in whole["id"] if event != f"{path.name[:25]}:4"]
    with pytest.warns(UnreadableWarning) as caught:
        assert trail.count(include_internal=True) == len(whole) - 1
    assert caught[0].filename == __file__
    with pytest.warns(UnreadableWarning):
        assert sum(map(len, trail.stream(include_internal=True))) == len(whole) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(trail.events(until=TUESDAY))


def test_a_line_that_is_being_written_is_not_there_yet(site: Site, whole: pd.DataFrame) -> None:
    """Readers pass over a last line without its newline, without a word: its writer may be at it."""
    path = site.journals()[-1]
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines()[-1][:50])
    assert len(site.open().events(include_internal=True)) == len(whole)


def test_a_copied_journal_line_is_given_once(site: Site, whole: pd.DataFrame) -> None:
    """Neither a line that stands twice nor one that is sealed already is a second event."""
    sealed = next(path for path in site.journals() if path.name.startswith("20200304-e"))
    live = site.journals()[-1]
    for path in (sealed, live):
        path.write_bytes(path.read_bytes() + path.read_bytes())
    pd.testing.assert_frame_equal(site.open().events(include_internal=True), whole)


def test_a_store_of_a_newer_format_is_left_alone(site: Site) -> None:
    """What format 2 means nobody knows yet, so nothing of it is guessed."""
    description = json.loads((site.path / "store.json").read_bytes())
    (site.path / "store.json").write_text(json.dumps(description | {"format": 2}))
    with pytest.raises(
        FormatUnknown, match=r"expected format 1 in .*store\.json, found format 2: use a newer auditkit"
    ):
        site.open()


def test_a_store_that_vanished_after_it_was_opened_is_missing_not_empty(site: Site) -> None:
    """A notebook that was left open overnight doesn't report a quiet day."""
    trail = site.open()
    site.path.rename(site.path.with_name("moved"))
    for read in (trail.events, trail.count, trail.days, trail.stream, trail.statistics):
        with pytest.raises(StoreMissing, match=f"expected the store {trail.store_id} at .* found none"):
            read()
    assert "unreadable: StoreMissing" in repr(trail)


# -- paths ------------------------------------------------------------------------------------------------------------

NAMES = (
    "quote ' double \" back ` tick",
    "[a-z]* ?{b,c} $HOME %s ~",
    "spaces  and\ttabs\nand lines",
    "Straße 日本 👩🏽‍🚀",
    "back\\slash; DROP TABLE journals; --",
    "date=2020-03-02",
    "**",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_may_lie_at_any_path(sample: Sample, whole: pd.DataFrame, tmp_path: Path, name: str) -> None:
    """Neither the shell's patterns nor SQL's quotes mean anything in the name of a folder."""
    site = sample.copy(tmp_path / name)
    trail = site.open()
    pd.testing.assert_frame_equal(trail.events(include_internal=True), whole)
    assert trail.count(include_internal=True) == len(whole)
    assert trail.seal().events
    pd.testing.assert_frame_equal(trail.events(include_internal=True), whole)
    assert trail.verify().ok


def test_a_pattern_in_a_path_reads_that_folder_alone(sample: Sample, whole: pd.DataFrame, tmp_path: Path) -> None:
    """A store named as a pattern isn't given its neighbours' events."""
    site = sample.copy(tmp_path / "store[12]*")
    for name in ("store1", "store2x"):
        sample.copy(tmp_path / name)
    assert site.open().count(include_internal=True) == len(whole)


# -- at the same time -------------------------------------------------------------------------------------------------

RECORD = """
import sys
from auditkit import AuditLogger
audit = AuditLogger(sys.argv[1], secret_key="a secret of these tests", enable_rotation=False)
for number in range(3):
    print(audit.log_event("other.process", {"number": number}, lead_id=f"L-{number}"), flush=True)
sys.stdin.read()
"""

RECORD_AND_SEAL = """
import sys
import auditkit
from auditkit import AuditLogger
path, secret = sys.argv[1], "a secret of these tests"
audit = AuditLogger(path, secret_key=secret, enable_rotation=False)
trail = auditkit.open(path, secret_key=secret)
for turn in range(25):
    for number in range(200):
        print(audit.log_event("busy", {"turn": turn, "number": number}), flush=number % 20 == 0)
    sys.stdout.flush()
    trail.seal()
audit.close()
trail.seal()
"""

INTERRUPT = """
import signal, sys, time
import auditkit

class TimeUp(Exception):
    pass

def stop(number, frame):
    raise TimeUp

trail = auditkit.open(sys.argv[1], secret_key="a secret of these tests")
reading = {"events": trail.events, "stream": lambda: list(trail.stream(batch_rows=3)), "verify": trail.verify}
signal.signal(signal.SIGALRM, stop)
for name, read in reading.items():
    read()
    begun = time.perf_counter()
    read()
    seconds = time.perf_counter() - begun
    stopped = 0
    for moment in range(1, 101):
        try:
            signal.setitimer(signal.ITIMER_REAL, moment / 100 * seconds)
            try:
                read()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeUp:
            stopped += 1
    print(name, stopped)
print(trail.verify().ok, *trail.events()["id"])
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    """Start a program of ours in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if program is INTERRUPT:
        # A coverage tracer that is interrupted in its own code hangs, and proves nothing about ours.
        environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def open_ours(path: Path) -> AuditTrail:
    return auditkit.open(path, secret_key="a secret of these tests")


def test_another_process_is_read_while_it_lives_and_before_it_seals(tmp_path: Path) -> None:
    """An event can be read as soon as the call that recorded it has returned."""
    path = tmp_path / "audit"
    with start(RECORD, path) as process:
        try:
            assert process.stdout is not None
            ids = [process.stdout.readline().strip() for _ in range(3)]
            trail = open_ours(path)
            found = trail.events()
            assert [*found["id"]] == ids
            assert [*found["lead_id"]] == ["L-0", "L-1", "L-2"]
            assert not list(path.glob("events/**/*.parquet"))
            assert trail.seal().events
            assert [*trail.events()["id"]] == ids
            assert process.poll() is None
        finally:
            process.kill()


def test_no_event_is_lost_or_doubled_while_another_process_records_and_seals(tmp_path: Path) -> None:
    """Whatever a reader meets on its way from journal to segment, each event is there once."""
    path = tmp_path / "audit"
    acknowledged: list[str] = []
    with start(RECORD_AND_SEAL, path) as process:
        assert process.stdout is not None
        output = process.stdout
        acknowledged.append(output.readline().strip())
        listener = threading.Thread(target=lambda: acknowledged.extend(line.strip() for line in output))
        listener.start()
        trail, looks, sizes = open_ours(path), 0, set[int]()
        while listener.is_alive():
            known = len(acknowledged)
            ids = [*trail.events(type="busy", columns=["id"])["id"]] if looks % 2 else _stream_ids(trail)
            assert len(ids) == len(set(ids))
            assert {*acknowledged[:known]} <= {*ids}
            assert trail.count(type="busy") >= len(ids)
            looks, sizes = looks + 1, sizes | {len(ids)}
        listener.join()
        assert process.wait() == 0
    assert Counter(trail.events(type="busy")["id"]) == Counter(acknowledged)
    assert len(acknowledged) == 5000
    assert len(sizes) > 2
    assert trail.verify().ok


def _stream_ids(trail: AuditTrail) -> list[str]:
    return [event for piece in trail.stream(type="busy", columns=["id"]) for event in piece["id"]]


def test_a_time_limit_at_any_moment_comes_out_as_itself(tmp_path: Path) -> None:
    """Not as a failed query, as damage or as a closed file, whoever was at work; and the next answer is whole again."""
    path = tmp_path / "audit"
    ids = []
    with auditkit.AuditLogger(path, secret_key="a secret of these tests", enable_rotation=False) as audit:
        for turn in range(2):
            ids += [audit.log_event("order.paid", {"number": number}) for number in range(20)]
            if turn == 0:
                audit.rotate()
                open_ours(path).seal()
        with start(INTERRUPT, path) as process:
            out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    *stopped, last = out.splitlines()
    assert last.split() == ["True", *ids]
    assert len(stopped) == 3
    assert all(int(line.split()[1]) > 25 for line in stopped), stopped


def test_several_threads_read_one_trail_at_once(sample: Sample, whole: pd.DataFrame) -> None:
    """A dashboard asks its questions together; each gets its own answer."""
    trail = sample.site.open()
    wrong: list[object] = []

    def read(lead: str) -> None:
        expected = select(whole, lead_id=lead)
        for _ in range(8):
            try:
                pd.testing.assert_frame_equal(trail.events(lead_id=lead), expected)
                assert trail.count(lead_id=lead) == len(expected)
                assert sum(map(len, trail.stream(lead_id=lead, batch_rows=5))) == len(expected)
            except BaseException as error:  # noqa: BLE001 - a thread can't raise to the test
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(f"L-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("leave", ["_exit", "exit"])
@pytest.mark.parametrize("reads", [True, False])
def test_a_forked_child_reads_and_leaves_its_parent_alone(
    sample: Sample, whole: pd.DataFrame, reads: bool, leave: str
) -> None:
    """The parent's engine has threads that the child hasn't: the child must neither use it, nor wait for its end."""
    program = f"""
import os, sys, warnings
import auditkit
from auditkit.store import engine

def count():
    return auditkit.open({str(sample.site.path)!r}).count(include_internal=True)

assert count() == {len(whole)}
with engine.connect() as connection:
    spill = connection.sql("SELECT current_setting('temp_directory')").fetchall()[0][0]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that a process with threads forks is the point of it
    child = os.fork()
if child == 0:
    if {reads}:
        assert count() == {len(whole)}
    os._exit(7) if {leave == "_exit"} else sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert os.path.isdir(spill)
assert count() == {len(whole)}
print(spill)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the child hangs")
    assert process.returncode == 0, err
    assert not Path(out.strip()).exists()


def test_a_reader_keeps_to_its_own_connection(sample: Sample, whole: pd.DataFrame) -> None:
    """Two pieces of two streams taken in turn don't mix, though both look at journals."""
    trail = sample.site.open()
    first, second = (trail.stream(lead_id=lead, batch_rows=2, columns=["id"]) for lead in ("L-1", "L-2"))
    found: tuple[list[str], list[str]] = ([], [])
    for one, other in zip(first, second, strict=False):
        found[0].extend(one["id"])
        found[1].extend(other["id"])
    for ids, lead in zip(found, ("L-1", "L-2"), strict=True):
        expected = [*select(whole, lead_id=lead)["id"]]
        assert ids
        assert ids == expected[: len(ids)]


def test_a_query_too_large_for_the_memory_is_not_called_damage(tmp_path: Path) -> None:
    """Nobody should fetch a backup because a machine is small."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    for number in range(400):
        chain.add(details=json.dumps({"text": f"{number}" + "x" * 20_000}))
    site.seal()
    with engine.connect() as connection:
        connection.execute("SET GLOBAL memory_limit = '1MB'")
    try:
        with pytest.raises(duckdb.OutOfMemoryException):
            site.open().events()
    finally:
        with engine.connect() as connection:
            connection.execute(f"SET GLOBAL memory_limit = '{engine.MEMORY_LIMIT}'")
    assert len(site.open().events()) == 400


def test_days_are_those_of_events_sealed_or_not(sample: Sample, tmp_path: Path) -> None:
    """Each UTC date once, in order; a store without events has none."""
    assert sample.site.open().days() == [MONDAY, TUESDAY, WEDNESDAY]
    site = make_site(tmp_path)
    trail = site.open()
    assert trail.days() == []
    assert list(trail.stream()) == []
    assert trail.count() == 0
    early = Chain(site, date(1969, 12, 31))
    add_events(early, 3)
    assert trail.days() == [date(1969, 12, 31)]
    trail.seal()
    Chain(site, date(2400, 2, 29)).add()
    assert trail.days() == [date(1969, 12, 31), date(2400, 2, 29)]
    assert [*trail.events()["time"].dt.year] == [1969, 1969, 1969, 2400]
