"""What is missing is named with the extra that brings it, whatever is used without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditkit import AuditLogger, AuditTrail
from auditkit.integrity import Verification
from auditkit.view import View

ROOT = Path(__file__).parents[1]
SECRET = "a secret that only these tests know"

BRINGS = {
    "click": {"cli"},
    "cryptography": {"seal"},
    "duckdb": {"seal"},
    "ipywidgets": {"notebook"},
    "jinja2": {"report"},
    "pandas": {"analysis", "report"},
    "plotly": {"report"},
    "pyarrow": {"seal", "analysis"},
    "rich": {"cli"},
}
"""The extras that may be named for a library: each of them installs it."""

READING = {
    "AuditLogger.get_lead_history",
    "AuditLogger.query_events",
    "AuditTrail._repr_html_",
    "AuditTrail.errors",
    "AuditTrail.events",
    "AuditTrail.lead",
    "AuditTrail.performance",
    "AuditTrail.statistics",
    "AuditTrail.stream",
    "Verification.to_frame",
    "View.code",
    "View.figure",
    "View.to_html",
    "auditkit errors",
    "auditkit query",
    "auditkit stats",
    "export to csv",
    "import auditkit.analysis",
    "import auditkit.analysis.activity",
    "import auditkit.charts.activity",
    "import auditkit.charts.latency",
    "import auditkit.report",
    "import auditkit.view",
    "import of json lines",
    "report.daily",
}

REFUSED = {
    "click": {"auditkit query", "auditkit seal"},
    "cryptography": {"AuditTrail.seal", "auditkit seal"},
    "duckdb": {"AuditTrail.count", "AuditTrail.events", "AuditTrail.seal", "AuditTrail.verify", "auditkit query"},
    "ipywidgets": set[str](),
    "jinja2": {"report.daily", "auditkit report daily"},
    "pandas": READING,
    "plotly": {"View.figure", "View.to_html", "View._repr_mimebundle_", "report.daily", "auditkit report daily"},
    "pyarrow": {"AuditTrail.count", "AuditTrail.events", "AuditTrail.seal", "import of parquet", "import of zstd"},
    "rich": {"auditkit stats"},
}
"""Uses that can't be had without the library, so that "everything went well" isn't taken for an answer."""


ENOUGH_WITHOUT_PANDAS = {
    "AuditLogger.get_statistics",
    "AuditLogger.rotate",
    "AuditTrail.count",
    "AuditTrail.days",
    "AuditTrail.seal",
    "AuditTrail.verify",
    "auditkit integrity",
    "auditkit seal",
}
"""Uses for which the extra ``seal`` is enough, with ``cli`` on the command line."""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds sealed events and newer ones, and with files to import."""
    folder = tmp_path_factory.mktemp("extras")
    with AuditLogger(folder / "audit", secret_key=SECRET) as audit:
        audit.log_event("invoice.paid", lead_id="L-1")
        audit.track_performance("op", 0.1)
        audit.rotate()
        audit.log_error("KeyError", "no such lead", lead_id="L-1")
    rows = {"time": ["2026-11-23T09:00:00Z"], "type": ["order.placed"]}
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    line = json.dumps({name: values[0] for name, values in rows.items()}) + "\n"
    (folder / "rows.jsonl").write_text(line.replace("placed", "sent"))
    with pa.CompressedOutputStream(str(folder / "rows.jsonl.zst"), "zstd") as packed:
        packed.write(line.replace("placed", "paid").encode())
    return folder


def use_without(library: str, sealed: Path, tmp_path: Path) -> dict[str, dict[str, str] | None]:
    """Use everything in a process that can't import the library; what came of each use."""
    shutil.copytree(sealed, tmp_path / "here")
    finished = subprocess.run(
        [sys.executable, ROOT / "tests" / "without.py", library, "audit", SECRET],
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "AUDITKIT_KEY": SECRET},
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, dict[str, str] | None] = json.loads(finished.stdout)
    return found


def test_with_everything_installed_every_use_goes_well(sealed: Path, tmp_path: Path) -> None:
    """The uses are real ones, and there is one of each public method of the faces."""
    found = use_without("-", sealed, tmp_path)
    assert {name: came for name, came in found.items() if came} == {}
    for face in (AuditLogger, AuditTrail, View, Verification):
        methods = {
            f"{face.__name__}.{name}" for name, value in vars(face).items() if callable(value) and name[0] != "_"
        }
        assert methods - set(found) == set()


@pytest.mark.parametrize("library", BRINGS)
def test_what_is_missing_is_named_with_its_extra(library: str, sealed: Path, tmp_path: Path) -> None:
    """Each use goes well, or says which library is missing and which extra brings it; nothing else comes out."""
    found = use_without(library, sealed, tmp_path)
    refused = {name: came for name, came in found.items() if came}
    assert REFUSED[library] - set(refused) == set()
    assert library != "pandas" or not ENOUGH_WITHOUT_PANDAS & set(refused)
    for name, came in refused.items():
        said = re.search(r'(\w+)\S* is not installed: pip install "auditkit-trail\[(\w+)\]" brings it', came["says"])
        assert said, (name, came)
        assert said[1] == library, (name, came)
        assert said[2] in BRINGS[library], (name, came)
        assert came["error"] == ("exit 2" if name.startswith("auditkit ") else "auditkit.errors.ExtraMissing")


def test_the_extras_bring_what_they_are_named_for() -> None:
    """An extra that a message names installs the library, itself or through the extras it includes."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def list_libraries(extra: str) -> set[str]:
        libraries: set[str] = set()
        for requirement in extras[extra]:
            included = re.fullmatch(r"auditkit-trail\[(.*)\]", requirement)
            if included:
                libraries |= set[str]().union(*map(list_libraries, included[1].split(",")))
            else:
                libraries.add(re.split(r"[><=]", requirement)[0])
        return libraries

    for library, names in BRINGS.items():
        assert [name for name in names if library not in list_libraries(name)] == []
