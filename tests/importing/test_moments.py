"""Times of a source become instants: exactly, in the stated zone, or not at all."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.importing.moments import compile_format, parse_duration
from auditkit.importing.problems import Unusable, ZoneMissing

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST = 62_000_000_000_000_000
INSTANTS = st.integers(-MOST, 4 * MOST).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds))


@given(INSTANTS)
def test_an_iso_time_in_utc_is_read_exactly(moment: datetime) -> None:
    """Z and +00:00 mean the same instant, and the instant says all that the text said."""
    parse = compile_format("iso8601")
    assert parse(moment.isoformat()) == (moment, True)
    assert parse(moment.isoformat().replace("+00:00", "Z")) == (moment, True)


@given(INSTANTS, st.integers(-14 * 60, 14 * 60).filter(bool))
def test_an_offset_is_taken_into_account_and_reported_as_lost(moment: datetime, minutes: int) -> None:
    """10:00+02:00 is 08:00 UTC, and that it was said in +02:00 can't be told from the instant."""
    sign = "+" if minutes > 0 else "-"
    local = (moment + timedelta(minutes=minutes)).replace(tzinfo=None).isoformat()
    text = f"{local}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    assert compile_format("iso8601", tz="UTC")(text) == (moment, False)


@pytest.mark.parametrize(
    "text, exact",
    [
        ("2026-11-23T10:00:00.123456Z", True),
        ("2026-11-23T10:00:00.1234567Z", False),
        ("2026-11-23T10:00:00.123456+00:00", True),
        ("2026-11-23T10:00:00.123456789+00:00", False),
        ("20261123T100000Z", True),
    ],
)
def test_digits_beyond_the_microsecond_are_noticed(text: str, exact: bool) -> None:
    """A text with nanoseconds is read, but the caller is told that digits are missing."""
    assert compile_format("iso8601")(text)[1] is exact


@pytest.mark.parametrize("text", ["2026-11-23T10:00:00", "2026-11-23 10:00"])
def test_a_time_without_a_zone_is_never_guessed(text: str) -> None:
    """Without a zone the time is refused; with one it is that zone's."""
    with pytest.raises(ZoneMissing, match="no tz was given"):
        compile_format("iso8601")(text)
    moment, exact = compile_format("iso8601", tz="Europe/Berlin")(text)
    assert (moment, exact) == (datetime(2026, 11, 23, 9, tzinfo=UTC), True)
    assert compile_format("iso8601", tz="-03:30")(text)[0] == datetime(2026, 11, 23, 13, 30, tzinfo=UTC)


def test_a_time_that_came_twice_needs_a_fold() -> None:
    """02:30 on the night when Berlin's clocks go back is two instants, an hour apart."""
    text = "2026-10-25 02:30:00"
    with pytest.raises(Unusable, match="came twice") as refused:
        compile_format("iso8601", tz="Europe/Berlin")(text)
    assert refused.value.kind == "ambiguous time"
    first = compile_format("iso8601", tz="Europe/Berlin", fold=0)(text)[0]
    second = compile_format("iso8601", tz="Europe/Berlin", fold=1)(text)[0]
    assert (first.hour, second.hour) == (0, 1)


def test_a_time_that_never_came_needs_a_fold() -> None:
    """02:30 on the night when Berlin's clocks go forward is no instant at all."""
    text = "2026-03-29 02:30:00"
    with pytest.raises(Unusable, match="never came") as refused:
        compile_format("iso8601", tz="Europe/Berlin")(text)
    assert refused.value.kind == "nonexistent time"
    assert compile_format("iso8601", tz="Europe/Berlin", fold=0)(text)[0].hour == 1


@pytest.mark.parametrize("value", ["2026-11-23", "20261123", "2026-W48-1", date(2026, 11, 23)])
def test_a_date_is_no_time_unless_somebody_says_so(value: object) -> None:
    """A date alone isn't taken for midnight; the format `date` says that it is the day's beginning."""
    with pytest.raises(Unusable, match="give time_format date"):
        compile_format("iso8601", tz="UTC")(value)
    assert compile_format("date", tz="UTC")(value) == (datetime(2026, 11, 23, tzinfo=UTC), True)
    with pytest.raises(UsageError, match="give their zone"):
        compile_format("date")


@pytest.mark.parametrize(
    "day, zone, first",
    [
        ("2018-11-04", "America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # it began at 01:00
        ("2018-02-18", "America/Sao_Paulo", datetime(2018, 2, 18, 3, tzinfo=UTC)),  # a day of 25 hours ended
        ("2026-11-01", "America/Havana", datetime(2026, 11, 1, 4, tzinfo=UTC)),  # midnight came twice
    ],
)
def test_a_day_begins_with_its_first_moment(day: str, zone: str, first: datetime) -> None:
    """Where clocks change at midnight, the day begins at its first moment, whatever the clock then showed."""
    assert compile_format("date", tz=zone)(day) == (first, True)


@given(st.integers(-62_000_000_000_000_000, 253_000_000_000_000_000))
def test_epochs_are_read_exactly_in_every_unit(microseconds: int) -> None:
    """Integers and their texts mean the same instant in s, ms, us and ns, as far as they hold it."""
    moment = EPOCH + timedelta(microseconds=microseconds)
    assert compile_format("epoch_us")(microseconds) == (moment, True)
    assert compile_format("epoch_ns")(microseconds * 1000) == (moment, True)
    assert compile_format("epoch_us")(str(microseconds)) == (moment, True)
    assert compile_format("epoch_s")(str(Decimal(microseconds) / 1_000_000)) == (moment, True)
    whole = EPOCH + timedelta(milliseconds=microseconds // 1000)
    assert compile_format("epoch_ms")(microseconds // 1000) == (whole, True)


@given(st.integers(0, 4_000_000_000_000_000))
def test_an_epoch_as_a_float_keeps_its_microseconds(microseconds: int) -> None:
    """Python's and JavaScript's clocks print seconds with a fraction; a double has room for today's."""
    value = microseconds / 1_000_000
    assert compile_format("epoch_s")(value) == (EPOCH + timedelta(microseconds=microseconds), True)


@pytest.mark.parametrize(
    "time_format, value",
    [
        ("iso8601", "yesterday"),
        ("iso8601", "2026-02-30T10:00:00Z"),
        ("iso8601", "2026-11-23T23:59:60Z"),
        ("iso8601", "0001-01-01T00:00:00+14:00"),
        ("iso8601", 1_700_000_000),
        ("iso8601", True),
        ("iso8601", ["2026-11-23T10:00:00Z"]),
        ("iso8601", "2026-11-23T10:00:00Z\x00"),
        ("iso8601", ""),
        ("epoch_s", "1e400"),
        ("epoch_s", "9" * 5000),
        ("epoch_s", float("nan")),
        ("epoch_s", float("inf")),
        ("epoch_s", 10**30),
        ("epoch_ms", "1_000"),
        ("epoch_ms", "٣"),
        ("epoch_ms", False),
        ("epoch_ns", -(10**30)),
        ("%d.%m.%Y %z", "23.11.2026"),
        ("%d.%m.%Y %z", 23112026),
        ("date", "2026-11-23T10:00:00Z"),
        ("date", datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_what_is_no_time_is_refused_with_a_printable_reason(time_format: str, value: object) -> None:
    """Whatever stands in the field, the reason says what was expected and can be shown on a terminal."""
    with pytest.raises(Unusable) as refused:
        compile_format(time_format, tz="UTC")(value)
    assert refused.value.kind == "time"
    assert refused.value.reason.isprintable()
    assert len(refused.value.reason) < 300


@pytest.mark.parametrize(
    "time_format, tz, message",
    [
        ("rfc3339", None, "no time format"),
        ("%H:%M:%S", "UTC", "reads no year"),
        ("%Y-%m-%d %H:%M", None, "give their zone"),
        ("%Y-%m-%d %Q", "UTC", "%Y-%m-%d %Q"),
        ("%Y-%Y", "UTC", "twice"),
        ("iso8601", "Europe/Atlantis", "time zone"),
        ("iso8601", "../../etc/passwd", "time zone"),
        ("iso8601", "+25:00", "time zone"),
    ],
)
def test_a_format_or_zone_that_cannot_be_meant_is_refused_at_once(
    time_format: str, tz: str | None, message: str
) -> None:
    """The fault shows when the mapping is made, not at the first row."""
    with pytest.raises(UsageError, match=re.escape(message)):
        compile_format(time_format, tz)
    with pytest.raises(UsageError, match="0 or 1"):
        compile_format("iso8601", fold=2)


def test_strptime_formats_are_read_in_their_zone() -> None:
    """A log's own format is read as stated, with an offset where it has one."""
    apache = compile_format("%d/%b/%Y:%H:%M:%S %z")
    assert apache("23/Nov/2026:10:00:00 +0100") == (datetime(2026, 11, 23, 9, tzinfo=UTC), False)
    assert apache("23/Nov/2026:10:00:00 +0000") == (datetime(2026, 11, 23, 10, tzinfo=UTC), True)
    local = compile_format("%d.%m.%Y %H:%M:%S.%f", tz="Europe/Berlin")
    assert local("23.11.2026 10:00:00.25") == (datetime(2026, 11, 23, 9, 0, 0, 250_000, tzinfo=UTC), True)


@given(st.integers(0, 10**15))
def test_durations_are_scaled_exactly(microseconds: int) -> None:
    """Every unit and every form of a number gives the same microseconds, and says when it had to round."""
    assert parse_duration(microseconds, "us") == (microseconds, True)
    assert parse_duration(microseconds * 1000, "ns") == (microseconds, True)
    assert parse_duration(str(Decimal(microseconds) / 1000), "ms") == (microseconds, True)
    assert parse_duration(timedelta(microseconds=microseconds), "s") == (microseconds, True)
    if microseconds < 1 << 51:
        assert parse_duration(microseconds / 1_000_000, "s")[0] == microseconds
    assert parse_duration(microseconds * 1000 + 1, "ns") == (microseconds, False)


def test_a_duration_that_is_rounded_says_so() -> None:
    """A tenth of a microsecond doesn't fit, whether it came as text or as a number."""
    assert parse_duration("4.1321371", "s") == (4_132_137, False)
    assert parse_duration(4.1321371, "s") == (4_132_137, False)
    assert parse_duration(0.1, "s") == (100_000, True)


@pytest.mark.parametrize(
    "value", [-1, "-0.5", "fast", "", None, True, float("nan"), float("inf"), "1e40", [1], 10**40, "0x10"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """Negative, endless or no number at all."""
    with pytest.raises(Unusable) as refused:
        parse_duration(value, "s")
    assert refused.value.kind == "duration"
