"""What failed, how often, since when, whom it touched, and a sample.

A failure is an event with the outcome ``failure``. `FailureSummary.to_frame` has these columns, the most
frequent group first:

===================  ==================  ==================================================================
column               dtype               meaning
===================  ==================  ==================================================================
the group            as in the events    the columns of ``by``; missing where the event has none
n                    int64               failures
leads, actors        int64               different leads and actors they touched
first, last          datetime64[us, tz]  moments of the first and the last failure
message, traceback   str                 of the sample: the newest with a traceback, else the newest
id                   str                 the sample's event
===================  ==================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from auditkit.analysis.groups import (
    check_columns,
    check_same,
    group_rows,
    join_frames,
    mark_failures,
    sort_rows,
)
from auditkit.times import find_zone

SAMPLE: Final = ("message", "traceback", "id")
"""Columns of an event that a sample keeps."""

COLUMNS: Final = ("time", "outcome", "lead_id", "actor", *SAMPLE)
"""Columns of an events frame that `summarise` needs besides those of ``by``."""


@dataclass(frozen=True, eq=False)
class FailureSummary:
    """Failures by group, which add up.

    Attributes:
        by: Grouping columns.
        tz: Time zone of the moments.
        counts: One row for each group seen: ``by``, ``n``, ``first``, ``last`` and its sample with ``time``.
        leads: The different pairs of group and lead.
        actors: The different pairs of group and actor.
    """

    by: tuple[str, ...]
    tz: str
    counts: pd.DataFrame
    leads: pd.DataFrame
    actors: pd.DataFrame

    def __add__(self, other: object) -> FailureSummary:
        if not isinstance(other, FailureSummary):
            return NotImplemented
        check_same(self, other, ("by", "tz"))
        joined = join_frames([self.counts, other.counts])
        groups = group_rows(joined, self.by)
        counts = groups.keys.assign(
            n=groups.total(joined["n"].to_numpy()),
            first=groups.first(joined["first"]),
            last=groups.last(joined["last"]),
            **_choose_samples(joined, groups.codes, len(groups)),
        )
        return FailureSummary(
            self.by,
            self.tz,
            counts,
            join_frames([self.leads, other.leads]).drop_duplicates(ignore_index=True),
            join_frames([self.actors, other.actors]).drop_duplicates(ignore_index=True),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the failures as a tidy frame, see the module for its columns."""
        zone = find_zone(self.tz)
        frame = self.counts.assign(
            leads=_count_pairs(self.counts, self.leads, self.by),
            actors=_count_pairs(self.counts, self.actors, self.by),
            first=self.counts["first"].dt.tz_convert(zone),
            last=self.counts["last"].dt.tz_convert(zone),
        )
        ranked = sort_rows(frame, ["n", *self.by], descending=["n"])
        return ranked[[*self.by, "n", "leads", "actors", "first", "last", *SAMPLE]]


def summarise(
    frame: pd.DataFrame, by: Sequence[str] = ("error_type", "operation", "workflow"), tz: str = "UTC"
) -> FailureSummary:
    """Group the failures of a frame.

    Args:
        frame: Events with the columns of `COLUMNS` and those of ``by``; those that didn't fail are passed
            over.
        by: Columns to group by; ``()`` takes all failures together.
        tz: Time zone of the moments in the result.

    Returns:
        The summary, which can be added to others of the same kind.

    Raises:
        UsageError: If a column is missing or the zone isn't one.

    Example:
        >>> event = {"time": pd.Timestamp("2026-11-23T09:00:00Z"), "outcome": "failure", "lead_id": "L1",
        ...          "actor": "worker-1", "error_type": "TimeoutError", "message": "CRM didn't answer",
        ...          "traceback": None, "id": "w:7"}
        >>> events = pd.DataFrame([event, event | {"lead_id": "L2", "id": "w:9"}])
        >>> failures = summarise(events, by=("error_type",))
        >>> failures.to_frame()[["error_type", "n", "leads", "actors", "id"]].to_dict("records")
        [{'error_type': 'TimeoutError', 'n': 2, 'leads': 2, 'actors': 1, 'id': 'w:9'}]
    """
    by = tuple(by)
    find_zone(tz)
    check_columns(frame, [*COLUMNS, *by])
    failed = frame.loc[mark_failures(frame)].reset_index(drop=True)
    # The sample is kept as text whatever it was before, so that a frame of missing values has the same
    # dtypes.
    failed = failed.assign(
        time=failed["time"].dt.as_unit("us"), **{column: failed[column].astype("str") for column in SAMPLE}
    )
    groups = group_rows(failed, by)
    counts = groups.keys.assign(
        n=groups.count(),
        first=groups.first(failed["time"]),
        last=groups.last(failed["time"]),
        **_choose_samples(failed, groups.codes, len(groups)),
    )
    return FailureSummary(by, tz, counts, _list_pairs(failed, by, "lead_id"), _list_pairs(failed, by, "actor"))


def _choose_samples(rows: pd.DataFrame, codes: np.ndarray, count: int) -> dict[str, pd.Series]:
    """Choose the sample of each group: with a traceback before without, then the newest, then by id.

    The order is total, so that the choice doesn't depend on how the events were split.
    """
    told = rows["traceback"].notna().to_numpy()
    moments = rows["time"].to_numpy(dtype="datetime64[us]").view("int64")
    best_told = np.zeros(count, dtype=bool)
    np.logical_or.at(best_told, codes, told)
    candidates = told == best_told[codes]
    newest = np.full(count, np.iinfo("int64").min)
    np.maximum.at(newest, codes[candidates], moments[candidates])
    candidates &= moments == newest[codes]
    finalists = pd.DataFrame({"code": codes[candidates], "id": rows["id"].to_numpy()[candidates]})
    finalists["row"] = np.flatnonzero(candidates)
    finalists = finalists.sort_values(["code", "id"], kind="stable", na_position="first")
    chosen = finalists.drop_duplicates("code", keep="last")["row"].to_numpy()
    picked = rows.iloc[chosen].reset_index(drop=True)
    return {column: picked[column] for column in ("time", *SAMPLE)}


def _list_pairs(rows: pd.DataFrame, by: tuple[str, ...], column: str) -> pd.DataFrame:
    """Return the different pairs of group and value, the latter as ``_member``."""
    known = rows.loc[rows[column].notna()]
    pairs = known[[*by]].assign(_member=known[column])
    return pairs.drop_duplicates(ignore_index=True)


def _count_pairs(counts: pd.DataFrame, pairs: pd.DataFrame, by: tuple[str, ...]) -> pd.Series:
    """Return for each group the number of its pairs."""
    if not by:
        return pd.Series([len(pairs)] * len(counts), dtype="int64")
    groups = group_rows(pairs, by)
    sizes = groups.keys.assign(_n=groups.count())
    return counts[[*by]].merge(sizes, how="left", on=list(by), sort=False)["_n"].fillna(0).astype("int64")
