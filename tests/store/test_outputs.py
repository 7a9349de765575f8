"""Exports, reports and rejects: nothing that auditkit writes for people lands in a store or over a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import auditkit
from auditkit import AuditLogger, report
from auditkit.errors import UsageError
from auditkit.exporting import export_events
from auditkit.importing import Mapping, import_file
from auditkit.store.outputs import choose_output


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a sealed store, its key file, and a link to each."""
    with AuditLogger(tmp_path / "audit", key_file=tmp_path / "home" / "a.key") as audit:
        audit.log_event("x")
    auditkit.open(tmp_path / "audit", key_file=tmp_path / "home" / "a.key").seal()
    (tmp_path / "way in").symlink_to(tmp_path / "audit" / "store.json")
    (tmp_path / "way to the key").symlink_to(tmp_path / "home" / "a.key")
    return tmp_path


def write_export(place: Path, output: Path) -> None:
    export_events(auditkit.open(place / "audit", key_file=place / "home" / "a.key"), output, "csv")


def write_report(place: Path, output: Path) -> None:
    report.daily(store=place / "audit", key_file=place / "home" / "a.key", output=output)


def write_rejects(place: Path, output: Path) -> None:
    (place / "rows.jsonl").write_text('{"at": "never"}\n')
    with AuditLogger(place / "other", secret_key="a secret of its own") as audit:
        import_file(place / "rows.jsonl", audit, Mapping(time="at", type="=x"), rejects=output, find_imports=list)


@pytest.mark.parametrize("write", [write_export, write_report, write_rejects])
@pytest.mark.parametrize(
    "name",
    [
        "audit/store.json",
        "audit/ledger/00000001.commit",
        "audit/events/date=2026-11-23/x.parquet",
        "audit/journal/x.jsonl",
        "way in",
        "home/a.key",
        "way to the key",
    ],
)
def test_nothing_is_written_into_a_store_or_over_a_key(
    place: Path, name: str, write: Callable[[Path, Path], None]
) -> None:
    """Whoever names such a file is told so, whichever way leads there, and nothing there has changed."""
    before = fingerprint(place / "audit") | fingerprint(place / "home")
    with pytest.raises(UsageError, match=r"outside the store|the key file"):
        write(place, place / name)
    assert fingerprint(place / "audit") | fingerprint(place / "home") == before


@pytest.mark.parametrize("write", [write_export, write_report, write_rejects])
def test_other_files_are_written(place: Path, write: Callable[[Path, Path], None]) -> None:
    """A file beside the store, or in a folder that happens to hold a store.json of somebody else."""
    (place / "shop").mkdir()
    (place / "shop" / "store.json").write_text('{"name": "corner shop"}')
    for output in (place / "beside", place / "shop" / "out"):
        write(place, output)
        assert output.stat().st_size


def test_a_store_that_has_lost_its_description_is_still_one(place: Path) -> None:
    """What is read is known to be a store, whatever it looks like."""
    (place / "audit" / "store.json").unlink()
    with pytest.raises(UsageError, match="outside the store"):
        choose_output(place / "audit" / "x", "an export", place / "audit")


def test_rejects_are_not_written_to_what_is_imported(place: Path) -> None:
    """Each reject would be read and rejected again, until the disk is full; also through a link."""
    rows = place / "rows.jsonl"
    rows.write_text(json.dumps({"at": "never"}) + "\n")
    (place / "link").symlink_to(rows)
    before = rows.read_bytes()
    with AuditLogger(place / "other", secret_key="a secret of its own") as audit:
        for rejects in (rows, place / "link"):
            with pytest.raises(UsageError, match="other than the one that is imported"):
                import_file(rows, audit, Mapping(time="at", type="=x"), rejects=rejects, find_imports=list)
    assert rows.read_bytes() == before
