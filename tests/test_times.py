"""What people write for times: one meaning each, right across changes of the clocks, and never a guess."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.times import (
    MAX_US,
    MIN_US,
    TimeRange,
    find_zone,
    format_duration,
    from_us,
    parse_duration,
    parse_moment,
    parse_range,
    resolve_day,
    to_us,
)

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Toronto",
    "America/St_Johns",
]
ZONES += ["Asia/Kathmandu", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati"]

zones = st.sampled_from(ZONES)
days = st.dates(date(1900, 1, 1), date(2100, 12, 31))
microseconds = st.integers(MIN_US, MAX_US)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("now", NOW),
        ("90s", utc(2026, 11, 24, 12, 28, 30)),
        ("30m", utc(2026, 11, 24, 12, 0)),
        ("24h", utc(2026, 11, 23, 12, 30)),
        ("7d", utc(2026, 11, 17, 12, 30)),
        ("1w", utc(2026, 11, 17, 12, 30)),
        ("1d12h", utc(2026, 11, 23, 0, 30)),
        ("1w1d1h1m1s", utc(2026, 11, 16, 11, 28, 59)),
        ("0s", NOW),
        ("today", utc(2026, 11, 24)),
        ("Yesterday", utc(2026, 11, 23)),
        (" 2026-11-23 ", utc(2026, 11, 23)),
        ("2026-11-23T10:00:00Z", utc(2026, 11, 23, 10)),
        ("2026-11-23T10:00Z", utc(2026, 11, 23, 10)),
        ("2026-11-23 10:00", utc(2026, 11, 23, 10)),
        ("2026-11-23T10:00:00.5+01:00", utc(2026, 11, 23, 9, 0, 0, 500000)),
        ("2026-11-23T10:00:00.000001-05:30", utc(2026, 11, 23, 15, 30, 0, 1)),
        (date(2026, 11, 23), utc(2026, 11, 23)),
        (datetime(2026, 11, 23, 10, tzinfo=timezone(timedelta(hours=1))), utc(2026, 11, 23, 9)),
    ],
)
def test_each_form_has_one_meaning(text: Any, expected: datetime) -> None:
    """Every documented form is read, and comes out in UTC."""
    moment = parse_moment(text, now=NOW)
    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-11-23", date(2026, 11, 23), "yesterday"])
def test_a_day_as_the_end_is_in_the_range(text: Any) -> None:
    """The end of a day is the beginning of the next, which itself isn't in the range; instants don't move."""
    assert parse_moment(text, now=NOW, end=True) == utc(2026, 11, 24)
    assert parse_moment("2026-11-23T00:00Z", end=True) == utc(2026, 11, 23)
    assert str(parse_range(text, text, now=NOW)) == "from 2026-11-23 00:00 UTC to before 2026-11-24 00:00 UTC"


@pytest.mark.parametrize(
    "since, until, words",
    [
        (None, None, "all time"),
        ("24h", None, "from 2026-11-23 12:30 UTC on"),
        (None, "2026-11-23", "before 2026-11-24 00:00 UTC"),
        ("7d", "now", "from 2026-11-17 12:30 UTC to before 2026-11-24 12:30 UTC"),
        ("90s", "1s", "from 2026-11-24 12:28:30 UTC to before 2026-11-24 12:29:59 UTC"),
        ("2026-11-23T10:00:00.000001Z", None, "from 2026-11-23 10:00:00.000001 UTC on"),
        ("0999-01-01", None, "from 0999-01-01 00:00 UTC on"),
        ("now", "now", "from 2026-11-24 12:30 UTC to before 2026-11-24 12:30 UTC"),
    ],
)
def test_a_range_says_what_was_understood(since: str | None, until: str | None, words: str) -> None:
    """The text of a range is what the reader of a table or chart is shown."""
    assert str(parse_range(since, until, now=NOW)) == words


def test_a_range_in_microseconds() -> None:
    """The ends are at hand in the unit that events carry."""
    whole = parse_range("2026-11-23", "2026-11-23")
    assert whole.since_us == 1_795_392_000_000_000
    assert whole.until_us == 1_795_392_000_000_000 + 86_400_000_000
    assert parse_range(None, None).since_us is None
    assert parse_range(None, None).until_us is None


def test_a_range_looks_at_the_clock_once() -> None:
    """Without an injected now, both ends still see the same one."""
    both = parse_range("1h", "1h")
    assert both.since == both.until
    assert abs(datetime.now(UTC) - timedelta(hours=1) - both.since) < timedelta(minutes=5)  # type: ignore[operator]


@pytest.mark.parametrize(
    "zone, day, begins, hours",
    [
        ("Europe/Berlin", "2026-03-29", utc(2026, 3, 28, 23), 23),
        ("Europe/Berlin", "2026-10-25", utc(2026, 10, 24, 22), 25),
        ("America/New_York", "2026-03-08", utc(2026, 3, 8, 5), 23),
        ("Australia/Lord_Howe", "2026-04-05", utc(2026, 4, 4, 13), 24.5),
        # The clocks skip midnight itself: the day begins at 01:00.
        ("America/Sao_Paulo", "2018-11-04", utc(2018, 11, 4, 3), 23),
        # From 23:30 to 00:30: midnight lies inside what is skipped.
        ("America/Toronto", "1919-03-31", utc(1919, 3, 31, 4, 30), 23.5),
        # Samoa crossed the date line: there was no such day.
        ("Pacific/Apia", "2011-12-30", utc(2011, 12, 30, 10), 0),
        ("Asia/Kathmandu", "2026-11-23", utc(2026, 11, 22, 18, 15), 24),
    ],
)
def test_days_follow_the_clocks(zone: str, day: str, begins: datetime, hours: float) -> None:
    """A day begins when its date does in the zone, and lasts as long as the clocks make it."""
    whole = parse_range(day, day, tz=zone)
    assert whole.since == begins
    assert whole.until == begins + timedelta(hours=hours)


@given(day=days, zone=zones)
def test_days_follow_each_other_without_a_gap(day: date, zone: str) -> None:
    """Where one day ends the next begins, so that a week of days holds every event once."""
    assert parse_moment(day, tz=zone, end=True) == parse_moment(day + timedelta(days=1), tz=zone)


@given(day=days, zone=zones)
def test_a_day_begins_with_its_date(day: date, zone: str) -> None:
    """In the zone the first instant of a day carries its date (or a later, where there was none)."""
    begin = parse_moment(day, tz=zone)
    assert begin.astimezone(ZoneInfo(zone)).date() >= day
    assert (begin - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < day


@given(moment=st.datetimes(NAIVE.replace(year=1900), NAIVE.replace(year=2100)), zone=zones)
def test_times_without_an_offset_are_exact_or_refused(moment: datetime, zone: str) -> None:
    """A wall-clock time is read back as written, or refused: the clocks skip it or show it twice."""
    local = moment.replace(tzinfo=ZoneInfo(zone))
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        with pytest.raises(UsageError, match="add an offset"):
            parse_moment(moment.isoformat(), tz=zone)
    else:
        read = parse_moment(moment.isoformat(), tz=zone)
        assert read.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == moment


@pytest.mark.parametrize("text, how", [("2026-03-29T02:30", "skip"), ("2026-10-25 02:30:00", "show twice")])
def test_a_doubtful_time_is_never_guessed(text: str, how: str) -> None:
    """Berlin's clocks skip half past two in March and show it twice in October: an offset settles it."""
    with pytest.raises(UsageError, match=f"the clocks of Europe/Berlin {how}: add an offset"):
        parse_moment(text, tz="Europe/Berlin")
    assert parse_moment(text.replace(" ", "T") + "+01:00", tz="Europe/Berlin").minute == 30


@given(us=microseconds)
def test_microseconds_are_exact(us: int) -> None:
    """The integer survives, to the microsecond, over all years that events can have."""
    assert to_us(from_us(us)) == us


@given(moment=st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_moments_are_exact(moment: datetime) -> None:
    """A datetime of any zone is the same instant afterwards, or outside the years of UTC."""
    # Through UTC: datetimes of one zone are compared by the clock on the wall, whatever their fold.
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(UsageError, match="years 1 to 9999"):
            to_us(moment)
    else:
        assert from_us(to_us(moment)) == expected
        assert parse_moment(moment) == expected


@given(us=microseconds)
def test_iso_text_is_read_back(us: int) -> None:
    """What Python prints for a moment in UTC is read as that moment."""
    moment = from_us(us)
    assert parse_moment(moment.isoformat()) == moment
    assert parse_moment(str(moment)) == moment


@given(text=st.text(max_size=30))
def test_any_other_text_is_refused_politely(text: str) -> None:
    """Text of any kind is read or refused with UsageError, in a message that any terminal can show."""
    for read in (parse_moment, resolve_day, parse_duration, find_zone):
        try:
            read(text)
        except UsageError as error:
            message = str(error)
        else:
            continue
        assert message.isascii()
        assert message.isprintable()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "tomorrow",
        "last tuesday",
        "7 days",
        "24H",
        "-24h",
        "1.5h",
        "12h1d",
        "1h1h",
        "h",
        "24",
        "1y",
        "1M",
        "٧d",
        "2026",
        "2026-11",
        "20261123",
        "23.11.2026",
        "11/23/2026",
        "2026-W48-1",
        "2026-11-23T10",
        "2026-11-23T10:00:00,5Z",
        "2026-11-23T10:00:00.1234567Z",
        "2026-11-23T10:00z",
        "1795392000",
        1795392000,
        1.5,
        None,
        ["24h"],
    ],
)
def test_what_is_not_a_form_gets_the_list_of_forms(value: Any) -> None:
    """Nothing is guessed: every other value is refused with the forms that are accepted."""
    with pytest.raises(UsageError, match=r"^expected a moment, found .*Accepted: now, today, .* 24h, 7d, 1w "):
        parse_moment(value, now=NOW)


@pytest.mark.parametrize(
    "value, message",
    [
        ("2026-02-30", "expected a day of the calendar, found '2026-02-30'"),
        ("0000-01-01", "expected a day of the calendar"),
        ("2026-11-23T24:30Z", "expected a time of the calendar and the clock"),
        ("2026-11-23T10:00:60Z", "expected a time of the calendar and the clock"),
        ("2026-11-23T10:00+24:00", "expected a time of the calendar and the clock"),
        ("0001-01-01T00:00+14:00", "years 1 to 9999"),
        ("9999-12-31T23:00-14:00", "years 1 to 9999"),
        ("999999999w", "expected a moment from the year 1 on"),
        ("999999d", "expected a moment from the year 1 on"),
        (
            NAIVE,
            "with a time zone, found datetime.datetime\\(2026.*tzinfo=UTC or moment.astimez",
        ),
    ],
)
def test_what_cannot_be_meant_says_why(value: Any, message: str) -> None:
    """A form with an impossible value has its own message."""
    with pytest.raises(UsageError, match=message):
        parse_moment(value, now=NOW)


def test_the_ends_of_time() -> None:
    """The first and last days that events can have are days, as far as UTC reaches."""
    assert to_us(parse_moment("0001-01-01")) == MIN_US
    assert parse_moment("9999-12-31") == utc(9999, 12, 31)
    with pytest.raises(UsageError, match=r"whose end is in the years 1 to 9999.*leave that end open"):
        parse_moment("9999-12-31", end=True)
    with pytest.raises(UsageError, match="whose beginning is in the years 1 to 9999"):
        parse_moment("0001-01-01", tz=timezone(timedelta(hours=14)))
    with pytest.raises(UsageError, match=r"expected a day in the years 1 to 9999 in UTC.14:00"):
        resolve_day(None, now=utc(9999, 12, 31, 23), tz=timezone(timedelta(hours=14)))
    for us in (MIN_US - 1, MAX_US + 1, 2**63):
        with pytest.raises(UsageError, match="expected microseconds from"):
            from_us(us)


def test_a_range_is_never_backwards() -> None:
    """A range that ends before it begins is a mistake, and the message shows both ends."""
    with pytest.raises(UsageError, match=r"since 2026-11-24 00:00 UTC and until 2026-11-23 00:00 UTC: exchange them"):
        parse_range("today", "2026-11-22", now=NOW)
    with pytest.raises(UsageError, match=r"since 2026-11-24 00:00 UTC and until 2026-11-23 00:00 UTC: exchange them"):
        parse_range("2026-11-24", "2026-11-23", now=NOW)
    with pytest.raises(UsageError, match="Nope"):
        parse_range(None, None, now=NOW, tz="Nope")
    empty = parse_range("2026-11-24T00:00Z", "2026-11-24T00:00Z", now=NOW)
    assert empty.since == empty.until == utc(2026, 11, 24)
    with pytest.raises(UsageError, match="expected a datetime with a time zone"):
        TimeRange(since=NAIVE)


def test_now_needs_a_zone_as_well() -> None:
    """An injected now is checked like any other moment."""
    with pytest.raises(UsageError, match="expected a datetime with a time zone"):
        parse_moment("24h", now=NAIVE)


@pytest.mark.parametrize(
    "value, zone, expected",
    [
        (None, "UTC", date(2026, 11, 24)),
        ("today", "UTC", date(2026, 11, 24)),
        ("today", "Pacific/Kiritimati", date(2026, 11, 25)),
        ("yesterday", "UTC", date(2026, 11, 23)),
        ("2026-11-20", "UTC", date(2026, 11, 20)),
        (date(2026, 11, 20), "UTC", date(2026, 11, 20)),
        (datetime(2026, 11, 20, 23, 30, tzinfo=UTC), "UTC", date(2026, 11, 20)),
        (datetime(2026, 11, 20, 23, 30, tzinfo=UTC), "Europe/Berlin", date(2026, 11, 21)),
    ],
)
def test_days_are_resolved_in_their_zone(value: Any, zone: str, expected: date) -> None:
    """Today depends on where one asks; a plain date doesn't."""
    day = resolve_day(value, now=NOW, tz=zone)
    assert day == expected
    assert type(day) is date


@pytest.mark.parametrize("value", ["24h", "now", "2026-11-23T10:00Z", "", 5])
def test_what_is_not_a_day_is_refused(value: Any) -> None:
    """A moment isn't a day, and the message says what is."""
    with pytest.raises(UsageError, match=r"^expected a day, found .*Accepted: today, yesterday, 2026-11-23 or a date"):
        resolve_day(value, now=NOW)


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "a\x00b", None, 5])
def test_unknown_zones_are_refused(name: Any) -> None:
    """A zone's name that isn't one is a mistake of the caller, whatever it would do to a file system."""
    with pytest.raises(UsageError, match="expected a time zone such as UTC or Europe/Berlin"):
        find_zone(name)


@given(
    parts=st.tuples(*[st.integers(0, 999)] * 5).filter(any),
)
def test_durations_add_up(parts: tuple[int, int, int, int, int]) -> None:
    """A composite length is the sum of its parts."""
    text = "".join(f"{amount}{unit}" for amount, unit in zip(parts, "wdhms", strict=True) if amount)
    weeks, whole_days, hours, minutes, seconds = parts
    expected = timedelta(weeks=weeks, days=whole_days, hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(text) == expected
    assert parse_moment(text, now=NOW) == NOW - expected


def test_a_length_beyond_all_time_is_refused() -> None:
    """A number that overflows is the caller's mistake, not ours."""
    with pytest.raises(UsageError, match="expected a length of time"):
        parse_duration("999999999w")


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0 s"),
        (0.00000004, "0.0 µs"),
        (0.0000012, "1.2 µs"),
        (0.000099949, "99.9 µs"),
        (0.00009996, "100 µs"),
        (0.0001234, "123 µs"),
        (0.0009996, "1.0 ms"),
        (0.0012, "1.2 ms"),
        (0.99949, "999 ms"),
        (0.99996, "1.0 s"),
        (3.4, "3.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m"),
        (60, "1 m"),
        (125, "2 m 5 s"),
        (3599.4, "59 m 59 s"),
        (3599.6, "1 h"),
        (11520, "3 h 12 m"),
        (86399, "1 d"),
        (86400, "1 d"),
        (69857.434, "19 h 24 m"),
        (2707950.482, "31 d 8 h"),
        (-3.4, "-3.4 s"),
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_lengths_are_said_for_people(seconds: float | None, words: str) -> None:
    """A length shows its size at once, and rounding never makes sixty seconds or a thousand milliseconds."""
    assert format_duration(seconds) == words


@given(st.floats(0, 1e9))
def test_lengths_lose_little(seconds: float) -> None:
    """What is said differs from the length by less than a twentieth of it."""
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    words = format_duration(seconds).split()
    said = sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(said - seconds) <= max(0.051e-6, seconds * 0.05)


def test_timestamps_of_pandas_become_plain_moments() -> None:
    """A pandas Timestamp with a zone is read, to the microsecond; one without, or NaT, is refused."""
    pandas = pytest.importorskip("pandas")
    moment = parse_moment(pandas.Timestamp("2026-11-23T10:00:00.000001", tz="Europe/Berlin"))
    assert type(moment) is datetime
    assert moment == utc(2026, 11, 23, 9, 0, 0, 1)
    for value in (pandas.Timestamp("2026-11-23"), pandas.NaT):
        with pytest.raises(UsageError):
            parse_moment(value)


def test_reading_times_needs_no_zone_database() -> None:
    """Recording imports this module, so it loads neither pandas nor the zones."""
    code = (
        "import sys; from auditkit.times import parse_range; parse_range('24h', None);"
        "assert not {'zoneinfo', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0


def test_midnight_is_the_beginning() -> None:
    """Bare dates and midnight are the same instant in UTC."""
    assert parse_moment("2026-11-23") == datetime.combine(date(2026, 11, 23), time(), UTC)
