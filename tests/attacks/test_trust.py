"""The threat table of docs/trust.md and the tests that carry it out name each other."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
TRUST = (FOLDER.parents[1] / "docs" / "trust.md").read_text()


def list_tests(*paths: Path) -> set[str]:
    """List the tests of some files by their names."""
    return {name for path in paths for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


def test_every_test_that_the_page_names_exists() -> None:
    """Whoever reads a row of the table finds the test that does it."""
    named = set(re.findall(r"`(test_\w+)`", TRUST))
    assert named, "the page names no test"
    assert named <= list_tests(*FOLDER.glob("test_*.py")), sorted(named - list_tests(*FOLDER.glob("test_*.py")))


def test_every_threat_that_is_tested_stands_in_the_table() -> None:
    """No threat is carried out in secret: each of the tests is a row, and each row has one."""
    rows = [
        line
        for line in TRUST.partition("## The threat table")[2].partition("\n## ")[0].splitlines()
        if "`test_" in line
    ]
    named = [name for row in rows for name in re.findall(r"`(test_\w+)`", row)]
    assert len(named) == len(rows)
    assert sorted(named) == sorted(list_tests(FOLDER / "test_threats.py"))
