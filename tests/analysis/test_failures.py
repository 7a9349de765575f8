"""Failures: counted, and with a sample that is worth reading."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
from hypothesis import given

from auditkit.analysis import failures
from tests.analysis.strategies import FRAMES
from tests.frames import make_frame


@given(frame=FRAMES)
def test_counts_equal_plain_pandas(frame: pd.DataFrame) -> None:
    """Failures, leads, actors and moments are what a groupby over the failed events says."""
    result = failures.summarise(frame, by=("error_type",)).to_frame().set_index("error_type").sort_index()
    grouped = frame[frame["outcome"] == "failure"].groupby("error_type", dropna=False)
    expected = pd.DataFrame(
        {
            "n": grouped.size(),
            "leads": grouped["lead_id"].nunique(),
            "actors": grouped["actor"].nunique(),
            "first": grouped["time"].min(),
            "last": grouped["time"].max(),
        }
    ).sort_index()
    pd.testing.assert_frame_equal(result[list(expected.columns)], expected, check_dtype=False)


def test_the_sample_is_the_newest_that_has_a_traceback() -> None:
    """A newer failure without a traceback doesn't push out one that shows where it happened."""
    frame = make_frame(
        [
            {"error_type": "E", "outcome": "failure", "message": "old", "traceback": "t", "time": _at(1)},
            {"error_type": "E", "outcome": "failure", "message": "new", "traceback": "t", "time": _at(2)},
            {"error_type": "E", "outcome": "failure", "message": "bare", "traceback": None, "time": _at(3)},
        ]
    )
    row = failures.summarise(frame, by=("error_type",)).to_frame().iloc[0]
    assert (row["n"], row["message"], row["traceback"], row["id"]) == (3, "new", "t", "20261123-test:1")


def test_a_failure_without_a_type_is_a_group_of_its_own() -> None:
    """Nothing that failed is left out for want of a name."""
    frame = failures.summarise(make_frame([{"outcome": "failure"}, {}])).to_frame()
    assert frame["n"].tolist() == [1]
    assert frame["error_type"].isna().all()


def _at(hour: int) -> datetime:
    return datetime(2026, 11, 23, hour, tzinfo=UTC)
