"""The shape of the toolkit: recording is light, public names are a list, files say nothing of a machine."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import auditkit

ROOT = Path(__file__).parents[1]

PUBLIC_NAMES = [
    "AuditError",
    "AuditHandler",
    "AuditLogger",
    "AuditTrail",
    "__version__",
    "get_audit_logger",
    "importing",
    "open",
    "report",
    "verify_receipt",
]
"""Every name of ``auditkit`` that users may rely on: adding one is a promise, removing one breaks code."""

HEAVY = {
    "click",
    "cryptography",
    "duckdb",
    "ipywidgets",
    "jinja2",
    "numpy",
    "pandas",
    "plotly",
    "pyarrow",
    "rich",
}

RECORD = """
import json, sys
import auditkit

logger = auditkit.AuditLogger("audit")
for number in range(1000):
    logger.log_event("lead.ingested", {"number": number}, lead_id=f"lead-{number}", workflow="intake")
logger.flush()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
logger.close()
"""


def modules() -> Iterator[ModuleType]:
    """Every module of the package."""
    for found in pkgutil.walk_packages(auditkit.__path__, "auditkit."):
        if not found.name.endswith("__main__"):  # importing it would run the command line
            yield importlib.import_module(found.name)


def committed_files() -> list[Path]:
    """What git tracks, and what it would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("this isn't a git checkout, so there is no list of committed files")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


def test_a_system_without_posix_locks_is_told_so(tmp_path: Path) -> None:
    """Where Python has no fcntl, as on Windows, importing any part says what is needed."""
    for module in ("auditkit", "auditkit.store.layout"):
        program = f"import sys; sys.modules['fcntl'] = None; import {module}"
        finished = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 1
        assert "ImportError: auditkit needs a POSIX system" in finished.stderr


def test_recording_loads_no_heavy_library(tmp_path: Path) -> None:
    """An application that only records pays for no library of the reading side."""
    finished = subprocess.run([sys.executable, "-c", RECORD], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    loaded = set(ast.literal_eval(finished.stdout))
    assert "auditkit" in loaded
    assert loaded & HEAVY == set()


def test_public_names_are_the_promised_ones() -> None:
    """``auditkit.__all__`` is this list, and each name of it can be had, though the package is lazy."""
    assert sorted(auditkit.__all__) == sorted(PUBLIC_NAMES)
    assert [name for name in PUBLIC_NAMES if not hasattr(auditkit, name)] == []
    assert set(PUBLIC_NAMES) <= set(dir(auditkit))


def test_every_public_thing_has_a_docstring() -> None:
    """``help()`` answers for every module, class, method and function that has no underscore."""
    silent = []
    for module in modules():
        if not (module.__doc__ or "").strip():
            silent.append(module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            parts: dict[str, object] = {name: thing}
            if inspect.isclass(thing):
                parts |= {
                    f"{name}.{part}": value
                    for part, value in vars(thing).items()
                    if not part.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
                }
            silent += [f"{module.__name__}.{part}" for part in parts if not inspect.getdoc(parts[part])]
    assert silent == []


def test_no_public_function_has_the_name_of_its_module() -> None:
    """``auditkit.times.times`` would make two things of one name, and an import of one hide the other."""
    twins = []
    for module in modules():
        twin = getattr(module, module.__name__.rpartition(".")[2], None)
        if inspect.isfunction(twin) and twin.__module__ == module.__name__:
            twins.append(module.__name__)
    assert twins == []


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the matter of each machine's settings, not of this repository."""
    # In pieces, so that this file doesn't find itself.
    hosts = [
        ".".join(parts).encode()
        for parts in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("deb", "debian", "org"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("anaconda", "org"),
        ]
    ]
    options = [b"--" + name for name in (b"index-url", b"extra-index-url", b"find-links")]
    naming = [
        f"{file.relative_to(ROOT)}: {found.decode()}"
        for file in committed_files()
        for found in [*hosts, *(options if file.suffix == ".txt" else [])]
        if found in file.read_bytes()
    ]
    assert naming == []


def test_no_file_names_a_path_of_a_machine() -> None:
    """A path of the machine that something was written on means nothing on any other."""
    folders = b"|".join([b"work", b"root", b"tmp", b"opt/" + b"pypi", b"opt/" + b"wheels"])
    machine_path = re.compile(rb"(?<![\w)}.~/>*-])/(?:" + folders + rb")/[\w.-]+")
    naming = [
        f"{file.relative_to(ROOT)}: {found.decode()}"
        for file in committed_files()
        if file.suffix not in {".parquet", ".png", ".gz"}
        for found in machine_path.findall(file.read_bytes())
    ]
    assert naming == []


def test_requirements_are_pinned_and_hashed() -> None:
    """What ``make`` installs is the same everywhere, today and in a year."""
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        entries = re.split(r"\n(?=\w)", re.sub(r"(?m)^\s*#.*\n?", "", file.read_text()).strip())
        assert entries
        for entry in entries:
            assert re.match(r"[\w.-]+==[\w.]+( ;[^\\]*)? \\\n", entry), f"{file.name}: {entry[:80]}"
            assert entry.count("--hash=sha256:") >= 1, f"{file.name}: {entry[:80]}"


def test_runtime_requirements_are_those_of_development() -> None:
    """The demo runs on the versions that the tests ran on."""
    pins = {
        name: set(re.findall(r"(?m)^([\w.-]+==[\w.]+)", (ROOT / "requirements" / f"{name}.txt").read_text()))
        for name in ("run", "dev")
    }
    assert pins["run"] < pins["dev"]
