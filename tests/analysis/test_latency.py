"""Percentiles: against numpy, and with their n."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from auditkit.analysis import latency
from auditkit.errors import UsageError
from tests.analysis.strategies import FRAMES
from tests.frames import make_day, make_frame


@given(frame=FRAMES)
def test_percentiles_equal_numpys_linear_ones(frame: pd.DataFrame) -> None:
    """For each operation, n, min, mean, max and all percentiles are numpy's."""
    result = latency.summarise(frame).to_frame()
    timed = frame[frame["duration_us"].notna()]
    assert len(result) == timed["operation"].nunique(dropna=False)
    for row in result.to_dict("records"):
        same = timed["operation"].isna() if pd.isna(row["operation"]) else timed["operation"] == row["operation"]
        values = timed.loc[same, "duration_us"].to_numpy(dtype="float64")
        assert row["n"] == len(values)
        assert row["failures"] == (timed.loc[same, "outcome"] == "failure").sum()
        assert row["min_s"] == values.min() / 1e6
        assert row["max_s"] == values.max() / 1e6
        assert row["mean_s"] == pytest.approx(values.mean() / 1e6, rel=1e-12)
        for percentile in latency.PERCENTILES:
            assert row[f"p{percentile}_s"] == pytest.approx(np.percentile(values, percentile) / 1e6, rel=1e-12)


def test_a_day_has_the_same_percentiles_by_the_hour_as_pandas() -> None:
    """Per operation and hour, p95 is pandas' quantile."""
    frame = make_day(3000)
    result = latency.summarise(frame, freq="1h").to_frame().set_index(["operation", "time"])
    timed = frame[frame["duration_us"].notna()]
    expected = timed.groupby(["operation", timed["time"].dt.floor("h")])["duration_us"].quantile(0.95)
    assert result["p95_s"].to_numpy() == pytest.approx(expected.to_numpy(dtype="float64") / 1e6, rel=1e-12)


def test_enormous_durations_dont_overflow_the_mean() -> None:
    """Two thousand calls of the longest duration the format holds still have that mean."""
    frame = make_frame([{"operation": "o", "duration_us": 2**53 - 1}] * 2000)
    assert latency.summarise(frame).to_frame()["mean_s"][0] == pytest.approx((2**53 - 1) / 1e6)


def test_hours_without_calls_have_no_percentile() -> None:
    """A filled bucket has n = 0 and missing percentiles, which a line leaves out; it isn't 0 seconds."""
    day = make_day(400)
    filled = latency.summarise(day, by=(), freq="1h").to_frame(
        fill=True, since=pd.Timestamp("2026-11-23", tz="UTC"), until=pd.Timestamp("2026-11-24", tz="UTC")
    )
    night = filled[filled["time"].dt.hour == 0].iloc[0]
    assert (len(filled), night["n"], pd.isna(night["p95_s"])) == (24, 0, True)


def test_only_buckets_can_be_filled() -> None:
    """Without a width there is nothing to fill."""
    with pytest.raises(UsageError, match="freq"):
        latency.summarise(make_frame([{}])).to_frame(fill=True)
