"""A file is imported once: the trail remembers it, signed, and a second time must be asked for."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import auditkit
from auditkit.errors import ImportRefused
from auditkit.importing import Mapping, import_file, import_files
from auditkit.importing.history import check_repetition, find_marks
from auditkit.logger import AuditLogger
from tests.importing.conftest import Memory

MAPPING = Mapping(name="orders", time="at", type="=order.placed")
SECRET = "a secret for this test"


def write_rows(path: Path, count: int, start: int = 0) -> Path:
    lines = [f'{{"at": "2026-11-23T12:00:00Z", "n": {n}}}\n' for n in range(start, start + count)]
    path.write_text("".join(lines))
    return path


def make_logger(store: Path) -> AuditLogger:
    return AuditLogger(store, secret_key=SECRET, enable_rotation=False)


def test_a_file_is_refused_the_second_time(tmp_path: Path) -> None:
    """Also under another name, by another process, and from sealed segments; but not if it is asked for."""
    file = write_rows(tmp_path / "rows.jsonl", 20)
    with make_logger(tmp_path / "audit") as logger:
        import_file(file, logger, MAPPING)
        with pytest.raises(ImportRefused, match=r"was imported on .*\(20 events, 0 rows.* again=True"):
            import_file(file, logger, MAPPING)
        logger.rotate()
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    with make_logger(tmp_path / "audit") as logger:
        with pytest.raises(ImportRefused, match=r"copy\.jsonl"):
            import_file(copy, logger, MAPPING)
        assert import_file(copy, logger, MAPPING, again=True).imported == 20
    trail = auditkit.open(tmp_path / "audit", secret_key=SECRET)
    assert trail.count(type="order.placed") == 40
    assert trail.verify().ok


def test_the_mark_tells_what_was_imported_and_how(tmp_path: Path) -> None:
    """Years later the trail itself says which file the events came from, and by which mapping."""
    file = write_rows(tmp_path / "rows.jsonl", 3)
    with file.open("a") as text:
        text.write("rubbish\n")
    with make_logger(tmp_path / "audit") as logger:
        result = import_file(file, logger, MAPPING.with_pairs(["tz=UTC"]))
        started, imported = find_marks(logger)
    assert started["state"] == "started"
    assert started["import"] == imported["import"]
    expected = {
        "state": "imported",
        "source": "rows.jsonl",
        "sha256": result.sha256,
        "bytes": file.stat().st_size,
        "mapping": "orders",
        "rows": 4,
        "imported": 3,
        "rejected": 1,
        "through": 4,
        "complete": True,
        "first": "2026-11-23T12:00:00+00:00",
        "mapping_fields": {"time": "at", "type": "=order.placed", "name": "orders", "tz": "UTC"},
    }
    assert {key: imported[key] for key in expected} == expected
    trail = auditkit.open(tmp_path / "audit", secret_key=SECRET)
    assert trail.count() == 3  # marks are the toolkit's own events, and stay out unless asked for
    assert trail.count(type=["auditkit.import_started", "auditkit.imported"]) == 2


def test_a_killed_import_is_recognised(tmp_path: Path) -> None:
    """A start without an end: the message says what may have happened and what to do."""
    file = write_rows(tmp_path / "rows.jsonl", 50_000)
    script = f"""
import os, signal
from auditkit.importing import Mapping, import_file
from auditkit.logger import AuditLogger
logger = AuditLogger({str(tmp_path / "audit")!r}, secret_key={SECRET!r}, enable_rotation=False)
kill = lambda done, total, rows: rows > 25_000 and os.kill(os.getpid(), signal.SIGKILL)
import_file({str(file)!r}, logger, Mapping(name="orders", time="at", type="=order.placed"), progress=kill)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(auditkit.__file__).parents[1], check=False)
    assert killed.returncode == -signal.SIGKILL
    with make_logger(tmp_path / "audit") as logger:
        with pytest.raises(ImportRefused, match="hasn't ended: it was killed"):
            import_file(file, logger, MAPPING)
        with pytest.raises(ImportRefused, match="hasn't ended"):
            import_file(file, logger, MAPPING, skip=20_000)
        assert import_file(file, logger, MAPPING, again=True).imported == 50_000


def test_an_import_that_recorded_nothing_may_be_repeated(tmp_path: Path, memory: Memory) -> None:
    """With a mistaken mapping every row is a reject; the corrected one may have the same name."""
    file = write_rows(tmp_path / "rows.jsonl", 5)
    wrong = Mapping(name="orders", time="when", type="=x")
    assert import_file(file, memory, wrong, find_imports=lambda: memory.marks).rejected == 5
    assert import_file(file, memory, MAPPING, find_imports=lambda: memory.marks).imported == 5


def test_another_mapping_may_read_the_same_file(tmp_path: Path, memory: Memory) -> None:
    """That is no repetition, but it is noted."""
    file = write_rows(tmp_path / "rows.jsonl", 5)
    import_file(file, memory, MAPPING)
    other = Mapping(name="other", time="at", type="=y")
    result = import_file(file, memory, other, find_imports=lambda: memory.marks)
    assert result.notes == ("this file was imported before, with the mapping orders",)


def test_a_part_can_be_completed_but_not_repeated(tmp_path: Path, memory: Memory) -> None:
    """After the first 10 rows, skip=10 goes on; anything less would record rows twice."""
    file = write_rows(tmp_path / "rows.jsonl", 25)

    def import_rows(**options: Any) -> int:
        return import_file(file, memory, MAPPING, find_imports=lambda: memory.marks, **options).imported

    assert import_rows(limit=10) == 10
    for options in ({}, {"skip": 9}, {"limit": 20}):
        with pytest.raises(ImportRefused, match=r"up to row 10 .*give skip=10 to go on"):
            import_rows(**options)
    assert import_rows(skip=10, limit=10) == 10
    assert import_rows(skip=20) == 5
    with pytest.raises(ImportRefused, match="was imported on"):
        import_rows(skip=25)
    assert len(memory.events) == 25


def test_several_files_are_imported_all_or_none(tmp_path: Path, memory: Memory) -> None:
    """One known file among new ones: nothing is recorded, unless known files are to be left out."""
    old = write_rows(tmp_path / "old.jsonl", 3)
    new = write_rows(tmp_path / "new.jsonl", 4, start=100)
    twin = write_rows(tmp_path / "twin.jsonl", 4, start=100)

    def import_all(*files: Path, **options: Any) -> list[tuple[str, int, bool]]:
        results = import_files(files, memory, MAPPING, find_imports=lambda: memory.marks, **options)
        return [(result.source, result.imported, result.skipped) for result in results]

    assert import_all(old) == [("old.jsonl", 3, False)]
    with pytest.raises(ImportRefused, match=r"old\.jsonl.*Nothing was recorded"):
        import_all(new, old)
    with pytest.raises(ImportRefused, match=r"twin\.jsonl has the same content as new\.jsonl"):
        import_all(new, twin)
    assert len(memory.events) == 3
    assert import_all(old, new, twin, skip_known=True) == [
        ("old.jsonl", 0, True),
        ("new.jsonl", 4, False),
        ("twin.jsonl", 0, True),
    ]
    assert import_all(old, twin, again=True) == [("old.jsonl", 3, False), ("twin.jsonl", 4, False)]


def test_marks_of_another_make_do_not_matter() -> None:
    """A mark without the usual keys, or of another file, refuses nothing."""
    nothing = {"sha256": "a", "mapping": "m", "state": "imported", "imported": 0}
    cases: list[list[dict[str, Any]]] = [[], [{}], [nothing]]
    for marks in cases:
        assert check_repetition(marks, "x", "a", "m", 0) is None
    with pytest.raises(ImportRefused, match=re.escape("give again=True")):
        check_repetition(
            [{"sha256": "a", "mapping": "m", "state": "imported", "imported": 1, "rejected": 0}],
            "x",
            "a",
            "m",
            0,
        )


def test_the_rejects_file_of_a_killed_import_holds_whole_lines(tmp_path: Path, memory: Memory) -> None:
    """Rejects reach the disk at the end of an import, each on a line of its own."""
    file = tmp_path / "rows.jsonl"
    file.write_text("x\n" * 100)
    result = import_file(file, memory, MAPPING)
    assert result.rejects is not None
    assert [json.loads(line)["row"] for line in result.rejects.read_text().splitlines()] == list(range(1, 101))
    assert result.rejects.samefile(Path.cwd() / "rows.jsonl.rejects.jsonl")
