"""When it happened: a source's time in a stated format and zone becomes an instant in UTC, never by a guess.

================  ========================================================================================
``iso8601``       ISO 8601 with a time of day, as ``datetime.fromisoformat`` reads it
``date``          ISO 8601 without a time of day: the first moment of that day in ``tz``
``epoch_s``       number (or its text) of seconds since 1970-01-01T00:00:00Z; also ``_ms``, ``_us``, ``_ns``
``%d.%m.%Y …``    anything with a ``%``: as ``datetime.strptime`` reads it
================  ========================================================================================

An offset in the value counts first. A value without one is local time in ``tz``, and where no ``tz`` was
given it is refused. Local times that the clocks showed twice, or never, are refused unless ``fold`` says
which of the two readings is meant (0 the earlier, 1 the later; PEP 495).

An event's time is in microseconds. What an instant can't hold (an offset, digits beyond the microsecond) is
reported as not *exact*, so that the caller keeps the original beside it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final

from auditkit.errors import UsageError
from auditkit.importing.problems import Unusable, ZoneMissing, name_argument, show_value
from auditkit.times import find_zone

MomentParser = Callable[[object], tuple[dt.datetime, bool]]
"""Takes a source's value; returns the instant in UTC, and whether it says everything that the value said."""

UNITS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds in one unit of time; ``ns`` is the one that is smaller."""

EPOCHS: Final = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)")
_DATE_LENGTH: Final = len("2026-11-23")
_NAIVE_LENGTH: Final = len("2026-11-23T10:00:00.000000")
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
_MAX_DIGITS: Final = 64
_EXACT: Final = 1 << 52  # doubles below it have a bit for the half
# The one object that fromisoformat puts into its results for Z and for +00:00, so that ``is`` tells it.
_UTC: Final = dt.UTC


def compile_format(time_format: str, tz: str | None = None, fold: int | None = None) -> MomentParser:
    """Make the parser of one stated format.

    Args:
        time_format: ``iso8601``, ``date``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``epoch_ns``, or a
            format of ``strptime``.
        tz: Zone of values that carry no offset: an IANA name (``Europe/Berlin``) or an offset (``+02:00``).
        fold: Which of two readings of a local time is meant, where the clocks were changed.

    Raises:
        UsageError: If the format or the zone doesn't exist, or if the format needs a zone and has none.

    Example:
        >>> parse = compile_format("%d.%m.%Y %H:%M", tz="Europe/Berlin")
        >>> str(parse("23.11.2026 10:00")[0])
        '2026-11-23 09:00:00+00:00'
        >>> parse("25.10.2026 02:30")
        Traceback (most recent call last):
        ...
        auditkit.importing.problems.Unusable: ('ambiguous time', ...)
    """
    zone = None if tz is None else choose_zone(tz)
    if fold not in (None, 0, 1):
        raise UsageError(f"fold says which of two readings of a local time is meant: 0 or 1, not {fold!r}")
    if time_format == "iso8601":
        return _compile_iso(zone, fold)
    if time_format == "date":
        return _compile_date(_require_zone(zone, time_format))
    if time_format in EPOCHS:
        return _compile_epoch(time_format.removeprefix("epoch_"))
    if "%" in time_format:
        return _compile_strptime(time_format, zone, fold)
    raise UsageError(
        f"no time format {time_format!r}: expected iso8601, date, {', '.join(EPOCHS)} or a strptime format "
        "such as '%d.%m.%Y %H:%M:%S'"
    )


def choose_zone(tz: str) -> dt.tzinfo:
    """Give the zone of an IANA name, or of an offset such as ``+02:00``.

    Raises:
        UsageError: If there is no such zone.

    Example:
        >>> choose_zone("UTC") is choose_zone("+00:00"), choose_zone("-03:00").utcoffset(None)
        (True, datetime.timedelta(days=-1, seconds=75600))
    """
    if match := _OFFSET.fullmatch(tz):
        sign, hours, minutes = match.groups()
        offset = dt.timedelta(hours=int(hours), minutes=int(minutes))
        if offset < dt.timedelta(hours=24):
            return dt.timezone(-offset if sign == "-" else offset)
    return find_zone(tz)


def parse_duration(value: object, unit: str) -> tuple[int, bool]:
    """Read a duration in a stated unit.

    Args:
        value: Number, text of a number, or a ``timedelta``.
        unit: ``s``, ``ms``, ``us`` or ``ns``; of no meaning for a ``timedelta``.

    Returns:
        Microseconds, rounded, and whether the rounding lost nothing.

    Raises:
        Unusable: If it is no number, not finite, or negative.

    Example:
        >>> parse_duration("0.25", "s"), parse_duration(1500, "ns")
        ((250000, True), (2, False))
    """
    if isinstance(value, dt.timedelta):
        microseconds, exact = value // dt.timedelta(microseconds=1), True
    else:
        try:
            microseconds, exact = _scale(value, unit)
        except (TypeError, ValueError, OverflowError, InvalidOperation):
            raise Unusable("duration", f"expected a number of {unit}, found {show_value(value)}") from None
    if not 0 <= microseconds < 1 << 53:
        raise Unusable("duration", f"expected 0 to 285 years, found {show_value(value)} {unit}")
    return microseconds, exact


def _scale(value: object, unit: str) -> tuple[int, bool]:
    """Scale a number of a unit to whole microseconds: the result, and whether it is exactly the number."""
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int):
        if unit == "ns":
            # Half up, in integers: a float can't tell the nanoseconds of today apart.
            return (value + 500) // 1000, value % 1000 == 0
        return value * UNITS[unit], True
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS or not _NUMBER.fullmatch(value):
            raise ValueError
        value = Decimal(value.strip())
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        if unit != "ns" and abs(value) < _EXACT / UNITS[unit]:
            # The quick way: the same double again means the same number as the source wrote.
            whole = round(value * UNITS[unit])
            return whole, whole / UNITS[unit] == value
        # A float is printed with as many digits as tell it apart, which is the number its source wrote.
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if not value.is_finite() or value.adjusted() > _MAX_DIGITS:
            raise ValueError
        scaled = value / 1000 if unit == "ns" else value * UNITS[unit]
        whole = int(scaled.to_integral_value())
        return whole, whole == scaled
    raise TypeError


def _compile_epoch(unit: str) -> MomentParser:
    def parse(value: object) -> tuple[dt.datetime, bool]:
        try:
            microseconds, exact = _scale(value, unit)
            return _EPOCH + dt.timedelta(microseconds=microseconds), exact
        except (TypeError, ValueError, InvalidOperation):
            detail = f"expected a number of {unit} since 1970, found {show_value(value)}"
            raise Unusable("time", detail) from None
        except OverflowError:
            detail = f"{show_value(value)} {unit} since 1970 isn't in the years 1 to 9999"
            raise Unusable("time", detail) from None

    return parse


def _compile_iso(zone: dt.tzinfo | None, fold: int | None) -> MomentParser:
    read = dt.datetime.fromisoformat

    def parse(value: object) -> tuple[dt.datetime, bool]:
        if value.__class__ is str:
            try:
                moment = read(value)
            except ValueError:
                raise _refuse_iso(value) from None
            if "\0" in value:
                raise _refuse_iso(value)  # the parser stops there, and wouldn't see what follows
            length = len(value)
            if moment.tzinfo is _UTC:
                # Digits beyond the microsecond are cut without a word, and show in the length only.
                return moment, length <= _NAIVE_LENGTH + 1 or (length <= _NAIVE_LENGTH + 6 and value.endswith("+00:00"))
            if length <= _DATE_LENGTH:
                raise _refuse_iso(value)
            return _settle(moment, zone, fold, exact=length <= _NAIVE_LENGTH)
        if isinstance(value, dt.datetime):
            return _settle(value, zone, fold, exact=True)
        raise _refuse_iso(value)

    return parse


def _refuse_iso(value: object) -> Unusable:
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = "for a number give time_format epoch_s, epoch_ms, epoch_us or epoch_ns"
    elif isinstance(value, dt.date) or (isinstance(value, str) and _is_date(value)):
        hint = "for dates without a time of day give time_format date"
    else:
        hint = "another form needs its time_format"
    return Unusable("time", f"expected ISO 8601 with a time of day, found {show_value(value)}; {hint}")


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _compile_date(zone: dt.tzinfo) -> MomentParser:
    def parse(value: object) -> tuple[dt.datetime, bool]:
        day: dt.date | None = None
        if isinstance(value, str) and "\0" not in value:
            try:
                day = dt.date.fromisoformat(value)
            except ValueError:
                day = None
        elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            day = value
        if day is None:
            raise Unusable("time", f"expected a date such as 2026-11-23, found {show_value(value)}")
        # Where the clocks jump over midnight, fold 0 reads 00:00 by the offset before the jump: that is the
        # jump itself, the day's first moment. Where midnight came twice, fold 0 is the first one.
        return _settle(dt.datetime(day.year, day.month, day.day), zone, 0, exact=True)  # noqa: DTZ001

    return parse


def _compile_strptime(time_format: str, zone: dt.tzinfo | None, fold: int | None) -> MomentParser:
    directives = set(re.findall(r"%(.)", time_format.replace("%%", "")))
    if not directives & set("YyGcx"):
        raise UsageError(f"time format {time_format!r} reads no year (%Y), so the day would be a guess")
    if "z" not in directives:
        _require_zone(zone, time_format)
    try:
        # A pattern shows its faults only in use; a value that doesn't match says nothing about the pattern.
        dt.datetime.strptime("", time_format)  # noqa: DTZ007
    except ValueError as error:
        if "does not match format" not in str(error):
            raise UsageError(f"time format {time_format!r}: {error}") from error
    except re.error as error:
        raise UsageError(f"time format {time_format!r} names a directive twice") from error

    def parse(value: object) -> tuple[dt.datetime, bool]:
        if not isinstance(value, str):
            raise Unusable("time", f"expected text in the form {time_format}, found {show_value(value)}")
        try:
            moment = dt.datetime.strptime(value, time_format)  # noqa: DTZ007 - the zone follows in _settle
        except (ValueError, OverflowError):
            raise Unusable("time", f"expected the form {time_format}, found {show_value(value)}") from None
        if moment.tzinfo is not None and moment.utcoffset() == dt.timedelta(0):
            return moment.astimezone(_UTC), True
        return _settle(moment, zone, fold, exact=True)

    return parse


def _require_zone(zone: dt.tzinfo | None, time_format: str) -> dt.tzinfo:
    if zone is None:
        raise UsageError(
            f"times in the form {time_format!r} carry no offset: give their zone, for instance "
            f"{name_argument('tz', 'UTC')} or {name_argument('tz', 'Europe/Berlin')}"
        )
    return zone


def _settle(moment: dt.datetime, zone: dt.tzinfo | None, fold: int | None, *, exact: bool) -> tuple[dt.datetime, bool]:
    """Give a moment its zone and move it to UTC."""
    try:
        if moment.tzinfo is not None:
            # The offset is something that the source said and an instant can't hold.
            return moment.astimezone(_UTC), exact and not moment.utcoffset()
        if zone is None:
            detail = f"{moment.isoformat()} carries no offset, and no tz was given"
            raise ZoneMissing("time without a zone", detail)
        if isinstance(zone, dt.timezone):
            return moment.replace(tzinfo=zone).astimezone(_UTC), exact
        earlier = moment.replace(tzinfo=zone, fold=0)
        later = moment.replace(tzinfo=zone, fold=1)
        before, after = earlier.utcoffset(), later.utcoffset()
        if before == after or fold == 0:
            return earlier.astimezone(_UTC), exact
        if fold == 1:
            return later.astimezone(_UTC), exact
    except OverflowError:
        raise Unusable("time", f"{moment.isoformat()} isn't in the years 1 to 9999 in UTC") from None
    assert before is not None
    assert after is not None
    if before > after:
        kind, why = "ambiguous time", "came twice, as the clocks were set back"
    else:
        kind, why = "nonexistent time", "never came, as the clocks were set forward"
    raise Unusable(kind, f"{moment.isoformat()} {why} in {zone}; fold=0 or fold=1 says how it is meant")
