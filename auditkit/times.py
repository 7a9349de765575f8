r"""One small parser for the moments, ranges and days that people write.

The API, the command line and the widgets all read times here, so that ``since="7d"`` means the same
everywhere.

```
moment     now · today · yesterday
           2026-11-23                            a day
           2026-11-23T10:00[:00[.000000]][Z|±hh:mm]   an instant; a space may stand for the T
           90s  30m  24h  7d  1w  1d12h          so long before now; 1d is 24 hours, 1w is 168
           an aware datetime, a date
```

A day (and ``today``, ``yesterday``, a ``date``) isn't an instant, so its meaning depends on its place: as
``since`` it is the day's beginning, as ``until`` its end. A range is half open, ``since <= time < until``,
and the end of a day is the beginning of the next: ``since="2026-11-23", until="2026-11-23"`` is that whole
day, and nothing of the next.

Days and times without an offset are those of ``tz``, UTC by default. Days are right across changes of the
clocks: they may have 23 or 25 hours, and begin at 01:00 where the clocks skip midnight. A time without an
offset that the clocks skip or show twice is refused, never guessed, and so is a ``datetime`` without a zone.

>>> noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
>>> print(parse_range("24h", None, now=noon))
from 2026-11-23 12:00 UTC on
>>> print(parse_range("2026-11-20", "yesterday", now=noon))
from 2026-11-20 00:00 UTC to before 2026-11-24 00:00 UTC
>>> print(parse_range("2026-10-25", "2026-10-25", tz="Europe/Berlin"))
from 2026-10-24 22:00 UTC to before 2026-10-25 23:00 UTC

Events carry their time as an integer, microseconds since 1970 in UTC; ``to_us`` and ``from_us`` convert
exactly.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from auditkit.errors import UsageError

__all__ = [
    "MAX_US",
    "MIN_US",
    "TimeRange",
    "find_zone",
    "format_duration",
    "from_us",
    "parse_duration",
    "parse_moment",
    "parse_range",
    "resolve_day",
    "to_us",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)

MIN_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""First microsecond of the year 1, counted from 1970 in UTC."""

MAX_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Last microsecond of the year 9999, counted from 1970 in UTC."""

_DURATION = re.compile(
    r"(?:(?P<weeks>[0-9]{1,9})w)?(?:(?P<days>[0-9]{1,9})d)?(?:(?P<hours>[0-9]{1,9})h)?"
    r"(?:(?P<minutes>[0-9]{1,9})m)?(?:(?P<seconds>[0-9]{1,9})s)?"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)

_DAY_FORMS = "today, yesterday, 2026-11-23 or a date"
_DURATION_FORMS = "90s, 30m, 24h, 7d, 1w or 1d12h"
_MOMENT_FORMS = (
    "now, today, yesterday, 2026-11-23, 2026-11-23T10:00:00Z (or with an offset such as +01:00), "
    "a time before now such as 90s, 30m, 24h, 7d, 1w or 1d12h, an aware datetime or a date"
)


@dataclass(frozen=True)
class TimeRange:
    """A half-open range of time: ``since <= time < until``.

    Attributes:
        since: First instant in the range, in UTC; None when it has no beginning.
        until: First instant after the range, in UTC; None when it has no end.

    Raises:
        UsageError: If an end has no time zone, or the range ends before it begins.

    Example:
        >>> day = TimeRange(datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC))
        >>> print(day)
        from 2026-11-23 00:00 UTC to before 2026-11-24 00:00 UTC
        >>> day.since_us
        1795392000000000
    """

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse ends without a zone and ends in the wrong order."""
        for name in ("since", "until"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, _to_utc(moment))
        if self.since is not None and self.until is not None and self.since > self.until:
            raise UsageError(
                f"expected since before until, found since {_format_moment(self.since)} and until "
                f"{_format_moment(self.until)}: exchange them"
            )

    @property
    def since_us(self) -> int | None:
        """The beginning in microseconds since 1970, or None."""
        return None if self.since is None else to_us(self.since)

    @property
    def until_us(self) -> int | None:
        """The end in microseconds since 1970, or None."""
        return None if self.until is None else to_us(self.until)

    def __str__(self) -> str:
        """Say the range in words, in UTC."""
        begin = "" if self.since is None else f"from {_format_moment(self.since)}"
        end = "" if self.until is None else f"before {_format_moment(self.until)}"
        if begin and end:
            return f"{begin} to {end}"
        if begin:
            return f"{begin} on"
        return end or "all time"


def parse_moment(
    value: str | date, *, now: datetime | None = None, tz: tzinfo | str = UTC, end: bool = False
) -> datetime:
    """Read a moment in any of the forms at the top of this module.

    Args:
        value: The moment.
        now: What "now" is; the clock's time if None.
        tz: Zone of days and of times without an offset, as an object or an IANA name.
        end: Whether a day means its end (the beginning of the next) instead of its beginning.

    Returns:
        The moment, in UTC.

    Raises:
        UsageError: If the value isn't one of the forms, lies outside the years 1 to 9999, or has no zone.

    Example:
        >>> parse_moment("36h", now=datetime(2026, 11, 24, 12, tzinfo=UTC))
        datetime.datetime(2026, 11, 23, 0, 0, tzinfo=datetime.timezone.utc)
        >>> parse_moment("2026-11-23", end=True, tz="Asia/Tokyo")
        datetime.datetime(2026, 11, 23, 15, 0, tzinfo=datetime.timezone.utc)
        >>> parse_moment("last tuesday")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected a moment, found 'last tuesday'. Accepted: now, today, ...
    """
    zone = find_zone(tz)
    if isinstance(value, datetime):
        return _to_utc(value)
    moment = _read_now(now)
    day = _read_day(value, moment, zone)
    if day is not None:
        return _begin_day(day, zone, after=end)
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "now":
        return moment
    if text and (parts := _DURATION.fullmatch(text)):
        try:
            return moment - _to_duration(parts)
        except OverflowError:
            raise UsageError(f"expected a moment from the year 1 on, found {_quote(value)} before now") from None
    if _INSTANT.fullmatch(text):
        return _read_instant(text, zone)
    raise UsageError(f"expected a moment, found {_quote(value)}. Accepted: {_MOMENT_FORMS}")


def parse_range(
    since: str | date | None,
    until: str | date | None,
    *,
    now: datetime | None = None,
    tz: tzinfo | str = UTC,
) -> TimeRange:
    """Read the two ends of a range; both look at the same "now".

    Args:
        since: The beginning, a moment; a day means its beginning. None leaves the range open.
        until: The end, a moment that is itself not in the range; a day means its end, so it is in the range
            as a whole. None leaves the range open.
        now: What "now" is; the clock's time if None.
        tz: Zone of days and of times without an offset, as an object or an IANA name.

    Returns:
        The range. ``str(range)`` says what was understood.

    Raises:
        UsageError: If an end isn't a moment, or the range ends before it begins.

    Example:
        >>> print(parse_range("2026-11-23", "2026-11-23"))
        from 2026-11-23 00:00 UTC to before 2026-11-24 00:00 UTC
        >>> print(parse_range(None, None))
        all time
    """
    moment = _read_now(now)
    tz = find_zone(tz)  # also where no end needs it: a wrong name is a mistake
    begin = None if since is None else parse_moment(since, now=moment, tz=tz)
    end = None if until is None else parse_moment(until, now=moment, tz=tz, end=True)
    if until is not None and begin is not None and begin == end:
        # One moment may be both ends of an empty range; a day that ends where the range begins is meant by nobody.
        return TimeRange(begin, parse_moment(until, now=moment, tz=tz))
    return TimeRange(begin, end)


def resolve_day(value: str | date | None, *, now: datetime | None = None, tz: tzinfo | str = UTC) -> date:
    """Read a day.

    Args:
        value: A date, ``"today"``, ``"yesterday"``, ``"2026-11-23"``, an aware datetime (its day in ``tz``),
            or None for today.
        now: What "now" is; the clock's time if None.
        tz: Zone whose days are meant, as an object or an IANA name.

    Returns:
        The day.

    Raises:
        UsageError: If the value isn't a day.

    Example:
        >>> noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
        >>> resolve_day("yesterday", now=noon)
        datetime.date(2026, 11, 23)
        >>> resolve_day(None, now=noon, tz="Pacific/Auckland")
        datetime.date(2026, 11, 25)
    """
    zone = find_zone(tz)
    if isinstance(value, datetime):
        return _find_date(_to_utc(value), zone)
    day = _read_day("today" if value is None else value, _read_now(now), zone)
    if day is None:
        raise UsageError(f"expected a day, found {_quote(value)}. Accepted: {_DAY_FORMS}")
    return day


def parse_duration(text: str) -> timedelta:
    """Read a length of time: numbers with units from weeks down to seconds.

    Args:
        text: For instance ``"90s"``, ``"30m"`` (minutes), ``"24h"``, ``"7d"``, ``"1w"``, ``"1d12h"``.

    Returns:
        The length; a day is 24 hours.

    Raises:
        UsageError: If the text is something else.

    Example:
        >>> parse_duration("1d12h")
        datetime.timedelta(days=1, seconds=43200)
        >>> parse_duration("1 day")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected a length of time, found '1 day'. Accepted: 90s, ...
    """
    stripped = text.strip()
    parts = _DURATION.fullmatch(stripped)
    try:
        if stripped and parts:
            return _to_duration(parts)
    except OverflowError:
        pass
    raise UsageError(f"expected a length of time, found {_quote(text)}. Accepted: {_DURATION_FORMS}")


def find_zone(tz: tzinfo | str) -> tzinfo:
    """Find a time zone by its IANA name.

    Args:
        tz: The name, for instance ``"Europe/Berlin"``; a zone object is returned as it is.

    Returns:
        The zone.

    Raises:
        UsageError: If there is no such zone.

    Example:
        >>> find_zone("UTC")
        datetime.timezone.utc
        >>> find_zone("Europe/Atlantis")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected a time zone such as UTC or Europe/Berlin, found 'Europe/Atlantis'
    """
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC
    # Imported late: recording needs no zones, and the module reads its search path when it is loaded.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        raise UsageError(f"expected a time zone such as UTC or Europe/Berlin, found {_quote(tz)}") from None


def to_us(moment: datetime) -> int:
    """Convert a moment to microseconds since 1970 in UTC, exactly.

    Args:
        moment: A datetime with a zone.

    Returns:
        The integer that events carry.

    Raises:
        UsageError: If the datetime has no zone, or isn't in the years 1 to 9999 in UTC.

    Example:
        >>> to_us(datetime(2026, 11, 23, 10, 0, 0, 1, tzinfo=UTC))
        1795428000000001
    """
    # A naive datetime says so by raising in the subtraction; asking first would cost the recording path more.
    try:
        us = (moment - _EPOCH) // _MICROSECOND
    except TypeError:
        raise UsageError(
            f"expected a datetime with a time zone, found {_quote(moment)}: give it one, "
            "for instance tzinfo=UTC or moment.astimezone() for the zone of this computer"
        ) from None
    if not MIN_US <= us <= MAX_US:
        raise UsageError(f"expected a moment in the years 1 to 9999 in UTC, found {_quote(moment)}")
    return int(us)


def from_us(us: int) -> datetime:
    """Convert microseconds since 1970 to a moment, exactly.

    Args:
        us: Microseconds since 1970 in UTC.

    Returns:
        The moment, in UTC.

    Raises:
        UsageError: If it isn't in the years 1 to 9999.

    Example:
        >>> from_us(1795428000000001)
        datetime.datetime(2026, 11, 23, 10, 0, 0, 1, tzinfo=datetime.timezone.utc)
    """
    if not MIN_US <= us <= MAX_US:
        raise UsageError(f"expected microseconds from {MIN_US} to {MAX_US} (years 1 to 9999), found {us}")
    return _EPOCH + timedelta(microseconds=us)


def format_duration(seconds: float | None) -> str:
    """Say a length of time so that a person sees its size at once.

    Args:
        seconds: The length in seconds; None or NaN when there is none.

    Returns:
        Two or three significant digits below 100 seconds' worth of a unit, two units from a minute on,
        ``"-"`` for no length.

    Example:
        >>> [format_duration(s) for s in (0, 0.00000042, 0.0012, 0.25, 3.4, 125, 11520, 200000)]
        ['0 s', '0.4 µs', '1.2 ms', '250 ms', '3.4 s', '2 m 5 s', '3 h 12 m', '2 d 8 h']
        >>> format_duration(float("nan"))
        '-'
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds == 0:
        return "0 s"
    # Each unit is tried with its rounded figure, so that 999.96 ms becomes 1.0 s and never "1000 ms".
    for unit, scale, limit in (("µs", 1_000_000, 1000), ("ms", 1000, 1000), ("s", 1, 60)):
        amount = seconds * scale
        digits = 1 if round(amount, 1) < 100 else 0
        if round(amount, digits) < limit:
            return f"{amount:.{digits}f} {unit}"
    for unit, part_unit, part, ratio, limit in (("m", "s", 1, 60, 60), ("h", "m", 60, 60, 24)):
        whole, rest = divmod(round(seconds / part), ratio)
        if whole < limit:
            return _join_units(whole, unit, rest, part_unit)
    days, hours = divmod(round(seconds / 3600), 24)
    return _join_units(days, "d", hours, "h")


def _join_units(whole: int, unit: str, rest: int, part_unit: str) -> str:
    return f"{whole} {unit} {rest} {part_unit}" if rest else f"{whole} {unit}"


def _read_now(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else _to_utc(now)


def _read_day(value: object, now: datetime, zone: tzinfo) -> date | None:
    if isinstance(value, date):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "today":
        return _find_date(now, zone)
    if text.lower() == "yesterday":
        return _find_date(now, zone) - _DAY
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"expected a day of the calendar, found {_quote(value)}") from None


def _read_instant(text: str, zone: tzinfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"expected a time of the calendar and the clock, found {_quote(text)}") from None
    if moment.tzinfo is not None:
        return _to_utc(moment)
    first = moment.replace(tzinfo=zone)
    gap = _find_offset(first.replace(fold=1)) - _find_offset(first)
    if gap:
        how = "skip" if gap > timedelta(0) else "show twice"
        raise UsageError(
            f"expected one instant, found {_quote(text)}, which the clocks of {zone} {how}: "
            "add an offset, such as +01:00 or Z"
        )
    return _to_utc(first)


def _find_offset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta(0)


def _find_date(moment: datetime, zone: tzinfo) -> date:
    try:
        return moment.astimezone(zone).date()
    except OverflowError:
        raise UsageError(f"expected a day in the years 1 to 9999 in {zone}, found {_quote(moment)}") from None


def _begin_day(day: date, zone: tzinfo, *, after: bool) -> datetime:
    try:
        return _find_first_instant(day + _DAY if after else day, zone)
    except OverflowError:
        which = "end" if after else "beginning"
        raise UsageError(
            f"expected a day whose {which} is in the years 1 to 9999 in UTC, found {day}: leave that end open"
        ) from None


def _find_first_instant(day: date, zone: tzinfo) -> datetime:
    midnight = datetime.combine(day, time(), zone)
    moment = midnight.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return moment
    # The clocks skip midnight: at some second between its readings on the new and on the old offset the date
    # changes. (Toronto went from 23:30 to 00:30 in 1919; Samoa skipped the whole of 2011-12-30, which so
    # begins and ends at once.)
    start = midnight.replace(fold=1).astimezone(UTC)
    seconds = range((moment - start) // timedelta(seconds=1))
    passed = bisect_left(
        seconds, True, key=lambda second: (start + timedelta(seconds=second)).astimezone(zone).date() >= day
    )
    return start + timedelta(seconds=passed)


def _to_utc(moment: datetime) -> datetime:
    # Through the integer: subclasses such as pandas' Timestamp come out as plain datetimes.
    return from_us(to_us(moment))


def _to_duration(parts: re.Match[str]) -> timedelta:
    return timedelta(**{unit: int(amount) for unit, amount in parts.groupdict().items() if amount})


def _format_moment(moment: datetime) -> str:
    timespec = "microseconds" if moment.microsecond else "seconds" if moment.second else "minutes"
    return f"{moment.replace(tzinfo=None).isoformat(' ', timespec)} UTC"


def _quote(value: object) -> str:
    # Values may come from anywhere: pure ASCII without control characters, and never long.
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
