"""Rejects: rows that couldn't become events, counted, shown, and kept in a file; none is lost silently.

The file is JSON Lines, one reject a line, in ASCII (a hostile row can't reach a terminal raw)::

    {"source": "leads.csv", "row": 12, "line": 13, "reason": "no time: found no value for 'created'",
     "raw": "L-12,,web\\r\\n"}

``raw`` is the row as it stood in the file; ``raw_base64`` stands in its place where that isn't text. A row of
a Parquet file is an object. ``line`` is missing where a format has no lines.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditkit.conversion import encode_details
from auditkit.errors import UsageError
from auditkit.importing.documents import Raw, encode_again
from auditkit.importing.problems import Unusable, make_printable
from auditkit.store import durable

SAMPLES: Final = 10
"""How many rejects a result shows."""

_SHOWN: Final = 160


class RejectsUnwritable(UsageError):
    """A reject can't be kept, so the import must not go on."""


@dataclass(frozen=True)
class Reject:
    """One row that couldn't become an event.

    Attributes:
        row: Number of the row in its file; the first is 1, names of columns not counted.
        line: Number of the line it begins on; None where lines don't count.
        reason: Why, in printable characters.
        raw: The beginning of the row, in printable characters.
    """

    row: int
    line: int | None
    reason: str
    raw: str

    def __str__(self) -> str:
        place = f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"
        return f"{place}: {self.reason}" + (f" | {self.raw}" if self.raw else "")


class Rejects:
    """Counts the rejects of one source and writes them to a file, which is made with the first.

    Args:
        source: Name of the source.
        path: The file, which is added to if it is there; None makes ``<source>.rejects.jsonl`` in the current
            folder, or ``<source>.rejects-2.jsonl`` and so on if that is taken.
        encoding: The source's encoding, to give back bytes that were no text in it.

    Attributes:
        path: The file; None as long as there are no rejects.
        count: How many there are.
        reasons: How many there are of each kind.
        samples: The first few.
    """

    def __init__(self, source: str, path: Path | None, encoding: str = "utf-8") -> None:
        self._source = source
        self._given = path
        self._encoding = encoding
        self._descriptor: int | None = None
        self.path: Path | None = None
        self.count = 0
        self.reasons: dict[str, int] = {}
        self.samples: list[Reject] = []

    def add(self, row: int, line: int | None, problem: Unusable, raw: Raw) -> None:
        """Add a reject.

        Raises:
            RejectsUnwritable: If the file can't be written: rejects that can't be kept stop the import.
        """
        described = _describe_raw(raw, self._encoding)
        entry: dict[str, Any] = {"source": self._source, "row": row}
        if line is not None:
            entry["line"] = line
        entry["reason"] = problem.reason
        entry |= described
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            # At once, so that a full disk is noticed with the row that doesn't fit any more.
            durable.write_all(self._descriptor, json.dumps(entry).encode() + b"\n")
        except OSError as error:
            raise RejectsUnwritable(
                f"row {row} of {self._source} can't be an event ({problem.reason}), and the file for such "
                f"rows, {self.path or self._given or Path.cwd()}, can't be written ({error.strerror}): name "
                "another (rejects)"
            ) from error
        self.count += 1
        self.reasons[problem.kind] = self.reasons.get(problem.kind, 0) + 1
        if len(self.samples) < SAMPLES:
            text = described.get("raw", "")
            shown = text if isinstance(text, str) else json.dumps(text)
            self.samples.append(Reject(row, line, problem.reason, make_printable(shown.strip(), _SHOWN)))

    def _open(self) -> int:
        # The rows may hold what only the owner of the trail may see.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        if self._given is not None:
            self.path = self._given
            return os.open(self._given, flags, 0o600)
        number = 1
        while True:
            suffix = "" if number == 1 else f"-{number}"
            path = Path(f"{self._source}.rejects{suffix}.jsonl")
            try:
                descriptor = os.open(path, flags | os.O_EXCL, 0o600)
            except FileExistsError:
                number += 1
                continue
            self.path = path
            return descriptor

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _describe_raw(raw: Raw, encoding: str) -> dict[str, Any]:
    if raw is None:
        return {}
    if isinstance(raw, bytes):
        try:
            return {"raw": raw.decode()}
        except UnicodeDecodeError:
            return {"raw_base64": base64.b64encode(raw).decode()}
    if isinstance(raw, list):
        text = "".join(raw)
        try:
            text.encode()
        except UnicodeEncodeError:
            return {"raw_base64": base64.b64encode(encode_again(text, encoding)).decode()}
        return {"raw": text}
    batch, at = raw
    return {"raw": json.loads(encode_details(batch.slice(at, 1).to_pylist()[0]))}
