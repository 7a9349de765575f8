"""Whoever follows the README from top to bottom gets what it says."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

ELSEWHERE = ("make demo", "pip install")
"""Commands that other tests run (tests/demo, tests/packaging), as they need the network or a checkout."""


def run_python(code: str, cwd: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, code + finished.stdout + finished.stderr


def run_console(text: str, cwd: Path) -> int:
    """Run the commands of a block in a shell that finds ``auditkit``; how many there were."""
    folder = cwd / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "auditkit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m auditkit "$@"\n')
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ") and not line[2:].startswith(ELSEWHERE)]
    for command in commands:
        finished = subprocess.run(
            ["sh", "-c", command],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, command + finished.stdout + finished.stderr
    return len(commands)


@pytest.mark.slow
def test_the_readme_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of Python, shell and SQL does its work where the blocks before it have done theirs."""
    monkeypatch.chdir(tmp_path)  # for DuckDB, whose query names the files as the README does
    (tmp_path / "cloudtrail").mkdir()
    event = {"eventTime": "2026-11-23T10:00:00Z", "eventSource": "s3.amazonaws.com", "eventName": "GetObject"}
    (tmp_path / "cloudtrail" / "1.json.gz").write_bytes(gzip.compress(json.dumps({"Records": [event]}).encode()))
    earlier = ""
    ran = dict.fromkeys(("python", "console", "sql"), 0)
    for language, text in BLOCKS:
        if language == "python":
            # Reading may be repeated, so each block has its process, which begins with the reading blocks before.
            code = text if "AuditLogger(" in text else earlier + text
            run_python(code.replace("result.ok  # True", "assert result.ok"), tmp_path)
            earlier = "" if "AuditLogger(" in text else code
            ran["python"] += 1
        elif language == "console":
            ran["console"] += run_console(text, tmp_path)
        else:
            counted = dict(duckdb.execute(text).fetchall())
            assert counted["lead.ingested"] == counted["invoice.paid"] == counted["error"] == 1
            ran[language] += 1
    assert ran == {"python": 4, "console": 12, "sql": 1}
    assert len(list((tmp_path / "reports").glob("daily-*.html"))) == 2
    assert (tmp_path / "events.csv").read_text().count("invoice.paid") == 1


def test_the_extras_in_the_readme_are_those_of_the_package() -> None:
    """Each extra has its row in the table, but for the one that is all of them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    section = README.partition("\n## Install\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [name for name in extras if name != "all"]
    assert "auditkit-trail[all]" in section
