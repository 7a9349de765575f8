"""Groups of rows, and the refusals that all analyses share."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.analysis import activity, failures, latency
from auditkit.errors import UsageError
from tests.analysis.strategies import split_frames
from tests.frames import make_frame

SUMMARIES = [
    (activity.summarise, {}),
    (activity.summarise, {"by": ()}),
    (activity.summarise, {"by": ("type", "workflow"), "distinct": ("lead_id", "actor")}),
    (activity.summarise, {"by": ("lead_id",), "distinct": ("lead_id",)}),
    (activity.summarise, {"freq": "1h", "tz": "Europe/Berlin", "distinct": ("lead_id",)}),
    (activity.summarise, {"by": (), "freq": "1D", "tz": "America/New_York"}),
    (latency.summarise, {}),
    (latency.summarise, {"by": ()}),
    (latency.summarise, {"by": ("operation", "workflow"), "freq": "6h", "tz": "Europe/Berlin"}),
    (failures.summarise, {}),
    (failures.summarise, {"by": ()}),
    (failures.summarise, {"by": ("actor",), "tz": "Asia/Kathmandu"}),
]


@pytest.mark.parametrize("summarise, question", SUMMARIES)
@settings(max_examples=40)
@given(split=split_frames(), grouping=st.integers(0, 2))
def test_any_split_of_a_frame_sums_to_the_whole(
    summarise: Any, question: dict[str, Any], split: tuple[pd.DataFrame, list[pd.DataFrame]], grouping: int
) -> None:
    """Whatever the pieces, their order and the order of additions, the sum is the summary of the whole."""
    frame, pieces = split
    a, b, c, d = (summarise(piece, **question) for piece in pieces)
    total = (reduce(add, [a, b, c, d]), a + (b + (c + d)), (d + c) + (b + a))[grouping]
    whole = summarise(frame, **question).to_frame()
    pd.testing.assert_frame_equal(total.to_frame(), whole, check_exact=True)


@pytest.mark.parametrize("summarise, question", SUMMARIES)
def test_columns_and_dtypes_never_depend_on_the_events(summarise: Any, question: dict[str, Any]) -> None:
    """An empty frame, one event, nulls everywhere and a sum of empties have the same columns and dtypes."""
    full = make_frame(
        [
            {
                "type": "operation",
                "actor": "x",
                "lead_id": "L1",
                "workflow": "w",
                "outcome": "failure",
                "operation": "o",
                "duration_us": 5,
                "error_type": "E",
                "message": "m",
                "traceback": "t",
            }
        ]
    )
    nulls = make_frame([{"type": None, "outcome": None}] * 3)
    one_failure = make_frame([{"outcome": "failure", "type": None, "duration_us": 0}])
    expected = summarise(full, **question).to_frame().dtypes
    for frame in (full.iloc[:0], nulls, one_failure):
        summary = summarise(frame, **question)
        pd.testing.assert_series_equal(summary.to_frame().dtypes, expected)
        pd.testing.assert_series_equal((summary + summary).to_frame().dtypes, expected)


def test_a_frame_without_a_column_is_refused_by_name() -> None:
    """The message says which column is missing and which are there."""
    frame = make_frame([{}]).drop(columns="outcome")
    with pytest.raises(UsageError, match="outcome not found among id, time, type"):
        activity.summarise(frame)


def test_summaries_of_different_questions_dont_add_up() -> None:
    """Adding hours to days is refused with what differs; adding a number is no addition at all."""
    frame = make_frame([{}])
    hours, days = activity.summarise(frame, freq="1h"), activity.summarise(frame, freq="1D")
    with pytest.raises(UsageError, match="freq is '1h' here, '1D' there"):
        hours + days
    for summary in (hours, latency.summarise(frame), failures.summarise(frame)):
        with pytest.raises(TypeError):
            summary + 1
