"""Mappings: paths, constants, templates and lookups; from Python, TOML and pairs."""

from __future__ import annotations

import copy
import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import UsageError
from auditkit.importing import Mapping, find_mapping, load_mapping, mapping_names
from auditkit.importing.extraction import Extractor, list_columns
from auditkit.importing.problems import Unusable

NOW = "2026-11-23T10:00:00Z"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


def extract(row: dict[str, Any], **arguments: Any) -> tuple[str, Any, dict[str, Any]]:
    """Extract one row by a mapping whose time and type stand beside it."""
    mapping = Mapping(**({"time": "t", "type": "=x"} | arguments))
    return Extractor(mapping).extract({"t": NOW} | row)


@given(st.dictionaries(st.text(min_size=1), JSON, max_size=6))
def test_what_is_not_mapped_is_in_the_details_unchanged(rest: dict[str, Any]) -> None:
    """Whatever else a row holds, nested as deeply as it likes, is kept as it was."""
    rest.pop("when", None)
    rest.pop("kind", None)
    row = copy.deepcopy(rest) | {"when": NOW, "kind": "order.placed"}
    kind, details, fields = Extractor(Mapping(time="when", type="kind")).extract(row)
    assert kind == "order.placed"
    assert (details or {}) == rest
    assert fields == {"time": datetime(2026, 11, 23, 10, tzinfo=UTC)}


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.sampled_from(["a", "a.b", "b.0", "c.a.b", "a.0.b"]))
def test_a_value_is_in_its_column_or_still_in_the_details(row: dict[str, Any], path: str) -> None:
    """Taking a column out of a nested row loses nothing: the value has moved, or it has stayed."""
    before = copy.deepcopy(row)
    try:
        _, details, fields = extract(row, actor=path)
    except Unusable:
        return  # an object or a list is no actor, and such a row goes to the rejects
    if "actor" not in fields:
        assert (details or {}) == before
        return
    value: Any = before.get(path)
    if value is None:
        value = before
        for step in path.split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
    texts = {True: "true", False: "false"} if isinstance(value, bool) else {value: str(value)}
    assert fields["actor"] == texts[value]
    assert _leaves(before) - _leaves(details or {}) in ({}, {fields["actor"]: 1})


def _leaves(value: Any) -> Any:
    """Count the texts of all leaves of a tree."""
    from collections import Counter

    if isinstance(value, dict):
        return sum((_leaves(child) for child in value.values()), Counter())
    if isinstance(value, list):
        return sum((_leaves(child) for child in value), Counter())
    if isinstance(value, bool):
        return Counter(["true" if value else "false"])
    return Counter() if value is None else Counter([str(value)])


def test_a_moved_value_takes_empty_objects_along() -> None:
    """`user` held nothing but the id, and needn't stay as an empty shell; `list` keeps its places."""
    row = {"user": {"id": "ana"}, "other": {"id": 1, "x": {}}, "list": [{"id": "L-1"}]}
    _, details, fields = extract(row, actor="user.id", workflow="other.id", lead_id="list.0.id")
    assert fields | {"time": None} == {"time": None, "actor": "ana", "workflow": "1", "lead_id": "L-1"}
    assert details == {"other": {"x": {}}, "list": [{}]}


def test_the_first_alternative_that_is_there_counts() -> None:
    """Fallbacks are tried in their order; those that weren't needed stay in the details."""
    actor = ("user.mail", "user.id", "=nobody")
    assert extract({"user": {"mail": "a@x", "id": 7}}, actor=actor)[1:] == (
        {"user": {"id": 7}},
        {"time": datetime(2026, 11, 23, 10, tzinfo=UTC), "actor": "a@x"},
    )
    assert extract({"user": {"mail": None, "id": 7}}, actor=actor)[2]["actor"] == "7"
    assert extract({"user": "ana"}, actor=actor)[2]["actor"] == "nobody"


def test_nan_is_no_value_of_a_column() -> None:
    """So pandas writes a gap among numbers: the next alternative counts, and the details say what stood there."""
    nan = float("nan")
    _, details, fields = extract({"a": nan, "b": "L-1"}, lead_id=("a", "b"), actor="a", workflow="{a}/{b}")
    assert fields == {"time": datetime(2026, 11, 23, 10, tzinfo=UTC), "lead_id": "L-1"}
    assert list(details) == ["a"]
    with pytest.raises(Unusable, match="no type"):
        extract({"a": nan}, type="a")


def test_a_key_spelled_like_the_path_goes_first() -> None:
    """Columns of a CSV often have dots in their names."""
    assert extract({"user.id": "flat", "user": {"id": "deep"}}, actor="user.id")[1:] == (
        {"user": {"id": "deep"}},
        {"time": datetime(2026, 11, 23, 10, tzinfo=UTC), "actor": "flat"},
    )


def test_a_template_needs_all_its_parts_and_leaves_them_in_the_details() -> None:
    """A template that lacks a part counts as not there, and the next alternative is taken."""
    operation = ("{service} {http.method}", "service")
    _, details, fields = extract({"service": "api", "http": {"method": "GET"}}, operation=operation)
    assert (details, fields["operation"]) == ({"service": "api", "http": {"method": "GET"}}, "api GET")
    assert extract({"service": "api"}, operation=operation)[2]["operation"] == "api"


def test_outcomes_are_looked_up_and_the_source_keeps_its_word() -> None:
    """Exact values go before patterns, constants aren't looked up, a changed value stays in the details."""
    arguments: dict[str, Any] = {
        "outcome": ("status", "=unknown"),
        "outcome_values": {"5*": "failure", "503": "busy", "2*": "success", "u*": "never"},
    }
    for status, outcome in [(200, "success"), ("503", "busy"), (500, "failure"), ("teapot", "teapot")]:
        _, details, fields = extract({"status": status}, **arguments)
        assert fields["outcome"] == outcome
        assert details == (None if status == outcome else {"status": status})
    assert extract({}, **arguments)[2]["outcome"] == "unknown"


def test_a_time_or_duration_that_loses_something_stays_in_the_details() -> None:
    """The offset of a time and the digits of a duration are kept where the event can't hold them."""
    mapping = Mapping(time="at", type="=x", duration="took", duration_unit="ms")
    extractor = Extractor(mapping)
    _, details, fields = extractor.extract({"at": "2026-11-23T10:00:00+02:00", "took": 1.5})
    assert (details, fields["duration"]) == ({"at": "2026-11-23T10:00:00+02:00"}, 0.0015)
    _, details, fields = extractor.extract({"at": NOW, "took": "0.0001"})
    assert (details, fields["duration"]) == ({"took": "0.0001"}, 0.0)


@pytest.mark.parametrize(
    "row, kind",
    [
        ({"t": None}, "no time"),
        ({"k": None}, "no type"),
        ({"k": ""}, "no type"),
        ({"k": ["a"]}, "not a text"),
        ({"k": "auditkit.opened"}, "reserved type"),
        ({"who": {"id": 1}}, "not a text"),
        ({"who": "x" * 1_000_001}, "too large"),
        ({"took": "fast"}, "duration"),
    ],
)
def test_a_row_that_cannot_be_an_event_says_why(row: dict[str, Any], kind: str) -> None:
    """Each sort of fault has a name under which it is counted, and a printable reason."""
    extractor = Extractor(Mapping(time="t", type="k", actor="who", duration="took"))
    with pytest.raises(Unusable) as refused:
        extractor.extract({"t": NOW, "k": "order.placed"} | row)
    assert refused.value.kind == kind
    assert refused.value.reason.isprintable()


def test_a_function_of_a_mapping_may_fail_on_a_row() -> None:
    """The row is refused, and the message names the function but not the row's content."""

    def find_secret(row: dict[str, Any]) -> object:
        return row["secret"]["value"]

    assert extract({"secret": {"value": 1}}, actor=find_secret)[2]["actor"] == "1"
    with pytest.raises(Unusable, match="find_secret failed on this row: TypeError"):
        extract({"secret": None}, actor=find_secret)


def test_a_mapping_is_the_same_from_toml_pairs_and_python(tmp_path: Path) -> None:
    """Three ways of writing one mapping give equal mappings."""
    file = tmp_path / "shop.toml"
    file.write_text(
        'time = "created"\ntime_format = "%d.%m.%Y"\ntz = "UTC"\nfold = 0\ntype = "=order"\n'
        'actor = ["user.mail", "user.id"]\n[outcome_values]\n"2*" = "success"\n'
    )
    pairs = ["time=created", "time_format=%d.%m.%Y", "tz=UTC", "fold=0", "type==order"]
    pairs += ["actor=user.mail|user.id", "outcome_values.2*=success"]
    expected = Mapping(
        name="shop",
        time="created",
        time_format="%d.%m.%Y",
        tz="UTC",
        fold=0,
        type="=order",
        actor=("user.mail", "user.id"),
        outcome_values={"2*": "success"},
    )
    assert load_mapping(file) == Mapping.from_pairs(pairs, name="shop") == expected
    assert Mapping.from_dict(expected.to_dict()) == expected


def test_the_mapping_of_the_documentation_can_be_loaded(tmp_path: Path) -> None:
    """Whoever copies the example has a mapping that works, and the page's table names every argument."""
    page = (Path(__file__).parents[2] / "docs" / "importing.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    row = {"created_at": "23.11.2026 10:00:00", "kind": "placed", "took": 5, "status": 404}
    kind, _, fields = Extractor(load_mapping(tmp_path / "example.toml")).extract(row)
    assert (kind, fields["actor"], fields["outcome"]) == ("order.placed", "unknown", "not found")
    assert fields["time"] == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert [each.name for each in dataclasses.fields(Mapping) if f"`{each.name}`" not in page] == []
    assert [name for name in mapping_names() if f"| `{name}` |" not in page] == []


def test_pairs_change_a_mapping() -> None:
    """What is given replaces what was; new patterns go first; an empty value takes a column out."""
    base = Mapping(time="t", type="k", actor="who", tz="UTC", outcome_values={"*": "success"})
    changed = base.with_pairs(["tz=Europe/Berlin", "actor=", "outcome_values.5*=failure"])
    assert (changed.tz, changed.actor, changed.time) == ("Europe/Berlin", None, "t")
    assert list(changed.outcome_values.items()) == [("5*", "failure"), ("*", "success")]
    assert find_mapping("olist-mql").with_pairs(["tz=UTC"]).tz == "UTC"
    assert find_mapping("cloudtrail").with_pairs(["workflow==aws"]).type is find_mapping("cloudtrail").type
    with pytest.raises(UsageError, match="empty source"):
        base.with_pairs(["time="])


@pytest.mark.parametrize(
    "toml, message",
    [
        ('time = "t"', "needs 'type'"),
        ('type = "=x"', "needs 'time'"),
        ('time = "t"\ntype = "=x"\nactr = "u"', "did you mean 'actor'"),
        ('time = "t"\ntype = "=x"\nactor = 5', "found 5"),
        ('time = "t"\ntype = "=x"\nactor = []', "no source"),
        ('time = "t"\ntype = "="', "empty source"),
        ('time = "t"\ntype = "{a"', "paths in braces"),
        ('time = "t"\ntype = "=x"\nduration_unit = "h"', "duration_unit"),
        ('time = "t"\ntype = "=x"\noutcome_values = "x"', "outcome_values"),
        ('time = "t"\ntype = "=x"\n[outcome_values]\na = 1', "in outcome_values"),
        ('time = "t"\ntype = "=x"\nfold = true', "fold"),
        ('time = "t"\ntype = "=x"\ntz = 1', "tz"),
        ("time: t", "isn't TOML"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    """The message names the file and what is wrong with it."""
    file = tmp_path / "shop.toml"
    file.write_text(toml)
    with pytest.raises(UsageError, match=re.escape(message)):
        Extractor(load_mapping(file))


@pytest.mark.parametrize("pair", ["time", "=x", "fold=2"])
def test_a_pair_that_cannot_be_meant_is_refused(pair: str) -> None:
    """A pair is an argument, an equals sign and a value."""
    with pytest.raises(UsageError):
        Mapping.from_pairs(["time=t", "type==x", pair])


def test_ready_made_mappings_are_listed_with_a_line_each() -> None:
    """The list is what the command line shows; an unknown name is answered with it."""
    assert set(mapping_names()) >= {"cloudtrail", "olist-mql", "olist-deals"}
    assert all(mapping_names().values())
    with pytest.raises(UsageError, match="cloudtrail"):
        find_mapping("cloudtrial")


def test_the_columns_a_mapping_needs_can_be_listed() -> None:
    """A constant or a function among the alternatives makes their columns dispensable."""
    mapping = Mapping(time="t", type="{a}.{b}", actor=("u", "=x"), lead_id=lambda row: row["id"], message="m")
    assert list_columns(mapping) == {"time": ("t",), "type": ("a", "b"), "message": ("m",)}
