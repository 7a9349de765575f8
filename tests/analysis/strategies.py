"""Hypothesis strategies for events frames: few values, so that groups meet, with nulls and equal times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from tests.frames import make_frame

# Around the night in which clocks in Berlin go back, so that buckets cross the hour that comes twice.
MOMENTS = st.integers(0, 40 * 3600).map(lambda s: datetime(2026, 10, 24, 12, tzinfo=UTC) + timedelta(seconds=s))


def values(*choices: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([*choices, None])


ROWS = st.fixed_dictionaries(
    {
        "time": MOMENTS | st.just(datetime(2026, 10, 25, 1, tzinfo=UTC)),
        "type": values("a", "b", ""),
        "actor": values("x", "y"),
        "lead_id": values("L1", "L2", "L3"),
        "workflow": values("w"),
        "outcome": values("success", "failure", "failure"),
        "operation": values("o", "p"),
        "duration_us": st.none() | st.integers(0, 2**53 - 1) | st.integers(0, 3),
        "error_type": values("E", "F"),
        "message": values("m1", "m2"),
        "traceback": values("t1", "t2"),
    }
)

FRAMES = st.lists(ROWS, max_size=25).map(make_frame)


@st.composite
def split_frames(draw: st.DrawFn) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Return a frame, and the same rows as pieces in any order; some pieces may be empty."""
    frame = draw(FRAMES)
    homes = np.array(draw(st.lists(st.integers(0, 3), min_size=len(frame), max_size=len(frame))), dtype="int64")
    pieces = [frame[homes == piece].reset_index(drop=True) for piece in range(4)]
    return frame, draw(st.permutations(pieces))
