"""Mappings: which field of a source becomes which column of an event.

A column's source is text, or a list of texts of which the first that is there counts:

=================  =====================================================================================
``user.email``     a path through nested objects; numbers are places in lists (``resources.0.ARN``). A key
                   that is spelled exactly like the path goes before the path
``=order.placed``  a constant
``http.{method}``  a template: text with paths in braces; it counts if every path leads to a value
=================  =====================================================================================

In Python, a function of the row may stand where a text can. What no column takes goes into the event's
``details``, nested as it was.

A mapping may be a TOML file whose keys are the arguments of `Mapping`::

    name = "shop"
    time = "created_at"
    time_format = "%d.%m.%Y %H:%M:%S"
    tz = "Europe/Berlin"
    type = "order.{kind}"
    actor = ["user.email", "user.id", "=unknown"]
    duration = "took"
    duration_unit = "ms"
    outcome = "status"

    [outcome_values]
    "2*" = "success"
    "*" = "failure"
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Readable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from auditkit.errors import UsageError
from auditkit.importing.moments import UNITS, compile_format

Record = dict[str, Any]
"""One row of a source: column or key, and value."""

Function = Callable[[Record], Any]
"""Computes a column from a row; None means that the row has none."""

Source = str | Function | tuple[str | Function, ...]
"""Where a column comes from: one alternative, or several of which the first that is there counts."""

TEXT_COLUMNS: Final = (
    "actor",
    "lead_id",
    "workflow",
    "outcome",
    "operation",
    "error_type",
    "message",
    "traceback",
)
"""Columns that hold text, but for ``type``, which every event has."""

SOURCES: Final = ("time", "type", *TEXT_COLUMNS, "duration")
"""The arguments of a mapping that say where a column comes from."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Says how rows of one kind become events; the module's beginning says what a source may be.

    Attributes:
        time: Source of the event's time.
        type: Source of the event's type.
        name: Name of the mapping; with a file's SHA-256 it tells whether the file was imported before.
        time_format: ``iso8601``, ``date``, ``epoch_s`` (``_ms``, ``_us``, ``_ns``) or a ``strptime`` format.
        tz: Zone of times without an offset: an IANA name or an offset. None refuses such times.
        fold: Which of two readings of a local time is meant where the clocks were changed (0 the earlier, 1
            the later). None refuses such times.
        actor: Source of who or what did it.
        lead_id: Source of the lead it concerns.
        workflow: Source of the workflow it belongs to.
        outcome: Source of the outcome.
        outcome_values: Outcomes by the source's values; a value may end in ``*`` for any ending. An exact
            value goes before a pattern, an earlier pattern before a later one, and a value that isn't here
            stays as it is. Constants aren't looked up.
        operation: Source of the name of the operation that was measured.
        duration: Source of how long it took.
        duration_unit: Unit of the durations: ``s``, ``ms``, ``us`` or ``ns``.
        error_type: Source of the error's class.
        message: Source of the error's or the log record's message.
        traceback: Source of the traceback.
        description: One line for lists of mappings.

    Raises:
        UsageError: If a source, the format, the zone or the unit can't be meant.

    Example:
        >>> mapping = Mapping(time="created", type="order.{kind}", actor=("user.email", "=unknown"))
        >>> mapping.to_dict()["actor"]
        ['user.email', '=unknown']
        >>> Mapping(time="created", type="=order.placed", time_format="date")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: times in the form 'date' carry no offset: give their zone, ...
    """

    time: Source
    type: Source
    name: str = "custom"
    time_format: str = "iso8601"
    tz: str | None = None
    fold: int | None = None
    actor: Source | None = None
    lead_id: Source | None = None
    workflow: Source | None = None
    outcome: Source | None = None
    outcome_values: Readable[str, str] = field(default_factory=dict)
    operation: Source | None = None
    duration: Source | None = None
    duration_unit: str = "s"
    error_type: Source | None = None
    message: Source | None = None
    traceback: Source | None = None
    description: str = ""

    def __post_init__(self) -> None:
        _require_text(self.name, "name")
        for name in SOURCES:
            source = getattr(self, name)
            if source is not None:
                object.__setattr__(self, name, _check_source(source, name))
        if self.duration_unit not in (*UNITS, "ns"):
            raise UsageError(f"expected the duration_unit s, ms, us or ns, found {self.duration_unit!r}")
        for value, outcome in self.outcome_values.items():
            _require_text(value, "a value of outcome_values")
            _require_text(outcome, f"the outcome of {value!r} in outcome_values")
        compile_format(self.time_format, self.tz, self.fold)

    @classmethod
    def from_dict(cls, arguments: Readable[str, object], *, name: str | None = None) -> Mapping:
        """Make a mapping from its arguments, as a TOML or JSON file holds them.

        Args:
            arguments: Names and values of the arguments of `Mapping`; lists stand for tuples.
            name: Name of the mapping, if the arguments give none.

        Raises:
            UsageError: If an argument is unknown, missing or of another kind.

        Example:
            >>> Mapping.from_dict({"time": "ts", "type": "=order.placed"}, name="orders").name
            'orders'
            >>> Mapping.from_dict({"time": "ts", "typ": "kind"})
            Traceback (most recent call last):
            ...
            auditkit.errors.UsageError: a mapping has no 'typ', did you mean 'type'? It has: time, type, ...
        """
        known = {argument.name for argument in fields(cls)}
        for given in arguments:
            if given not in known:
                close = difflib.get_close_matches(str(given), sorted(known), n=1)
                hint = f", did you mean {close[0]!r}?" if close else "."
                listed = ", ".join(argument.name for argument in fields(cls))
                raise UsageError(f"a mapping has no {given!r}{hint} It has: {listed}")
        for needed in ("time", "type"):
            if needed not in arguments:
                raise UsageError(
                    f"a mapping needs {needed!r}: the path of the field that holds it, such as "
                    f"{needed}=created_at, or a constant, such as {needed}==order.placed"
                )
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
        _check_kinds(values)
        if name is not None:
            values.setdefault("name", name)
        return cls(**values)  # type: ignore[arg-type]  # each was checked just above

    @classmethod
    def from_pairs(cls, pairs: Iterable[str], *, name: str = "custom") -> Mapping:
        """Make a mapping from texts such as a command line gives.

        Args:
            pairs: ``argument=value``: ``time=created``, ``type==order.placed`` (a constant),
                ``actor=user.email|user.id`` (alternatives), ``tz=UTC``, ``outcome_values.5*=failure``.
            name: Name of the mapping, if no pair gives one.

        Raises:
            UsageError: As `from_dict`.

        Example:
            >>> pairs = ["time=ts", "type==order.placed", "actor=user.email|user.id"]
            >>> mapping = Mapping.from_pairs([*pairs, "outcome_values.5*=failure"])
            >>> mapping.actor, mapping.outcome_values
            (('user.email', 'user.id'), {'5*': 'failure'})
        """
        return cls.from_dict(_read_pairs(pairs), name=name)

    def with_pairs(self, pairs: Iterable[str]) -> Mapping:
        """Make a copy in which some arguments are others.

        Args:
            pairs: As in `from_pairs`; an empty value (``actor=``) takes the argument's default.

        Example:
            >>> mapping = Mapping(time="ts", type="kind", tz="America/Sao_Paulo")
            >>> mapping.with_pairs(["tz=UTC", "actor=who"]).tz
            'UTC'
        """
        arguments: dict[str, object] = {each.name: getattr(self, each.name) for each in fields(self)}
        defaults = {argument.name: argument.default for argument in fields(self)}
        for name, value in _read_pairs(pairs).items():
            if name == "outcome_values" and isinstance(value, dict):
                # The given patterns go first, since an earlier one wins.
                old = {key: outcome for key, outcome in self.outcome_values.items() if key not in value}
                arguments[name] = value | old
            elif value == "" and defaults.get(name, MISSING) is not MISSING:
                arguments[name] = defaults[name]
            else:
                arguments[name] = value
        return Mapping.from_dict({name: value for name, value in arguments.items() if value is not None})

    def with_zone(self, tz: str) -> Mapping:
        """Make a copy for times of another zone.

        Example:
            >>> Mapping(time="ts", type="kind", tz="America/Sao_Paulo").with_zone("UTC").tz
            'UTC'
        """
        return replace(self, tz=tz)

    def to_dict(self) -> dict[str, Any]:
        """Give the arguments that aren't at their defaults, in values that JSON can hold.

        A function is named; `from_dict` can't make it again.
        """
        shown: dict[str, Any] = {}
        for argument in fields(self):
            value = getattr(self, argument.name)
            if value in (argument.default, {}) and argument.name != "name":
                continue
            if isinstance(value, tuple):
                shown[argument.name] = [_name_alternative(alternative) for alternative in value]
            elif argument.name in SOURCES:
                shown[argument.name] = _name_alternative(value)
            else:
                shown[argument.name] = dict(value) if isinstance(value, Readable) else value
        return shown


def load_mapping(path: str | os.PathLike[str]) -> Mapping:
    """Load a mapping from a TOML file.

    Args:
        path: The file; without a ``name`` in it, the mapping has the file's.

    Raises:
        UsageError: If it isn't TOML, or not a mapping; the message names the file.
        OSError: If it can't be read.
    """
    file = Path(path)
    try:
        arguments = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} isn't TOML: {error}") from error
    try:
        return Mapping.from_dict(arguments, name=file.stem)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def _read_pairs(pairs: Iterable[str]) -> dict[str, object]:
    arguments: dict[str, object] = {}
    values: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        name = name.strip()
        if not separator or not name:
            raise UsageError(f"expected argument=value such as time=created_at, found {pair!r}")
        if name.startswith("outcome_values."):
            values[name.removeprefix("outcome_values.")] = value
        elif name in SOURCES and "|" in value and not value.startswith("="):
            arguments[name] = tuple(value.split("|"))
        elif name == "fold":
            if value not in ("", "0", "1"):
                raise UsageError(f"expected fold=0 or fold=1, found {pair!r}")
            arguments[name] = int(value) if value else ""
        else:
            arguments[name] = value
    if values:
        arguments["outcome_values"] = values
    return arguments


def _check_kinds(arguments: Readable[str, object]) -> None:
    for name, value in arguments.items():
        if name in SOURCES:
            continue  # _check_source looks closer
        if name == "fold":
            sound = value is None or (isinstance(value, int) and not isinstance(value, bool))
        elif name == "outcome_values":
            sound = isinstance(value, Readable)
        else:
            sound = isinstance(value, str) or (name == "tz" and value is None)
        if not sound:
            raise UsageError(f"a mapping's {name!r} can't be {value!r}")


def _check_source(source: object, name: str) -> Source:
    alternatives = tuple(source) if isinstance(source, list | tuple) else (source,)
    if not alternatives:
        raise UsageError(f"{name!r} has no source: expected a path such as user.email or a constant =text")
    checked: list[str | Function] = []
    for alternative in alternatives:
        if isinstance(alternative, str):
            if not alternative or alternative == "=":
                raise UsageError(f"{name!r} has an empty source: expected a path such as user.email")
            checked.append(alternative)
        elif callable(alternative):
            checked.append(alternative)
        else:
            raise UsageError(f"expected a path, a constant or a list of them for {name!r}, found {alternative!r}")
    return checked[0] if len(checked) == 1 else tuple(checked)


def _require_text(value: object, what: str) -> None:
    if not isinstance(value, str) or not value:
        raise UsageError(f"expected a text as {what}, found {value!r}")


def _name_alternative(alternative: object) -> object:
    if isinstance(alternative, str):
        return alternative
    return f"function {getattr(alternative, '__qualname__', type(alternative).__qualname__)}"
