"""Groups of rows by any columns, and the checks and joins that every summary needs.

A missing value is a group like any other: an event without a workflow is counted under "no workflow" and not
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from auditkit.errors import UsageError

FAILURE = "failure"
"""The outcome that makes an event a failure."""


@dataclass(frozen=True)
class Groups:
    """Rows numbered by group.

    Attributes:
        keys: One row for each group, in order of appearance, with the grouping columns.
        codes: For each row of the frame the number of its group.
    """

    keys: pd.DataFrame
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def count(self) -> np.ndarray:
        """Return the number of rows of each group, as int64."""
        return np.bincount(self.codes, minlength=len(self)).astype("int64")

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of an int64 or boolean array over each group, as int64."""
        sums = np.zeros(len(self), dtype="int64")
        np.add.at(sums, self.codes, values.astype("int64"))
        return sums

    def first(self, values: pd.Series) -> pd.Series:
        """Return the least value of each group."""
        return self._reduce(values, "min")

    def last(self, values: pd.Series) -> pd.Series:
        """Return the greatest value of each group."""
        return self._reduce(values, "max")

    def _reduce(self, values: pd.Series, how: str) -> pd.Series:
        grouped = pd.Series(values.array, name=values.name).groupby(self.codes, sort=True)
        return grouped.agg(how).reset_index(drop=True)


def group_rows(frame: pd.DataFrame, by: Sequence[str]) -> Groups:
    """Number the rows of a frame by the groups they belong to.

    Args:
        frame: Any frame that has the columns.
        by: Columns to group by; none makes one group of all rows.

    Returns:
        The groups, in order of appearance.

    Example:
        >>> groups = group_rows(pd.DataFrame({"type": ["a", "b", "a"]}), ["type"])
        >>> groups.codes.tolist(), groups.count().tolist()
        ([0, 1, 0], [2, 1])
    """
    columns = list(by)
    if not columns or not len(frame):
        codes = np.zeros(len(frame), dtype="int64")
        return Groups(frame.loc[frame.index[:1], columns].reset_index(drop=True), codes)
    grouped = frame.groupby(columns, dropna=False, sort=False, observed=True)
    codes = grouped.ngroup().to_numpy()
    leaders = ~pd.Series(codes).duplicated().to_numpy()
    return Groups(frame.loc[leaders, columns].reset_index(drop=True), codes)


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a frame that lacks a column.

    Args:
        frame: The frame.
        columns: What it must have.

    Raises:
        UsageError: With what is missing and what is there.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise UsageError(
            f"expected an events frame with the columns {', '.join(columns)}; "
            f"{', '.join(missing)} not found among {', '.join(map(str, frame.columns)) or 'no columns'}"
        )


def check_same(left: object, right: object, fields: Sequence[str]) -> None:
    """Refuse to add summaries that answer different questions.

    Args:
        left: A summary.
        right: Another.
        fields: Attributes that must be equal.

    Raises:
        UsageError: With the attribute that differs.
    """
    for field in fields:
        mine, other = getattr(left, field), getattr(right, field)
        if mine != other:
            raise UsageError(f"summaries add up when they ask the same: {field} is {mine!r} here, {other!r} there")


def join_frames(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return frames of the same columns one below the other; empty ones don't change a dtype.

    Args:
        frames: At least one.

    Returns:
        The rows of all, with a RangeIndex.
    """
    filled = [frame for frame in frames if len(frame)] or [frames[0]]
    return filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)


def mark_failures(frame: pd.DataFrame) -> np.ndarray:
    """Return for each event whether it's a failure.

    Args:
        frame: Events with the column ``outcome``.

    Returns:
        A boolean array.
    """
    return frame["outcome"].eq(FAILURE).fillna(value=False).to_numpy(dtype=bool)


def sort_rows(frame: pd.DataFrame, columns: Sequence[str], *, descending: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows in a fixed order, whatever order they were gathered in: missing values last.

    Args:
        frame: The rows.
        columns: Columns to sort by.
        descending: Which of them count down.

    Returns:
        The sorted rows, with a RangeIndex.
    """
    if not columns or len(frame) < 2:
        return frame.reset_index(drop=True)
    ascending = [column not in descending for column in columns]
    return frame.sort_values(list(columns), ascending=ascending, na_position="last", kind="stable", ignore_index=True)
