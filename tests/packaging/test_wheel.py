"""What is shipped works where there is no checkout: installed into a clean environment and used."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = "auditkit/report/templates/"

# One process builds and the tests share what it built.
pytestmark = pytest.mark.xdist_group("packaging")

RECORD = """
import pathlib, sys
import auditkit

assert pathlib.Path(auditkit.__file__).is_relative_to(sys.prefix), auditkit.__file__
with auditkit.AuditLogger("audit") as logger:
    for number in range(200):
        logger.log_lead_ingested(f"lead-{number}", "web", {"number": number}, "intake")
    try:
        with logger.track("score"):
            raise ValueError("no such model")
    except ValueError:
        pass
print("recorded")
"""

REPORT = """
import pathlib, sys
import auditkit, auditkit.report

assert pathlib.Path(auditkit.__file__).is_relative_to(sys.prefix), auditkit.__file__
trail = auditkit.open("audit")
trail.seal()
assert trail.count() == 201, trail.count()
verification = trail.verify()
assert verification.ok, verification.findings
print(auditkit.report.daily(store="audit").path)
"""

USE_WITHOUT_EXTRAS = """
import importlib
import auditkit, auditkit.errors

for use in (
    lambda: auditkit.open("audit").events(),
    lambda: auditkit.report.daily(store="audit"),
    lambda: importlib.import_module("auditkit.analysis"),
):
    try:
        use()
    except auditkit.errors.ExtraMissing as error:
        print(error)
"""


@dataclass(frozen=True)
class Distributions:
    """The files that a release consists of, and a wheel built straight from the checkout to compare with."""

    sdist: Path
    wheel: Path
    wheel_of_checkout: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment that knows nothing of the checkout."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def run(self, *arguments: str, cwd: Path) -> str:
        """Run the environment's interpreter or one of its scripts, and return what it printed."""
        program, *rest = arguments
        # No import path of the test run may leak in: what isn't installed must be missing.
        clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        finished = subprocess.run(
            [self.folder / "bin" / program, *rest],
            cwd=cwd,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout


def build(output: Path, *arguments: str) -> None:
    """Build with the pinned backend of this environment, without the network."""
    finished = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, *arguments, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def make_environment(folder: Path, wheel: Path) -> Environment:
    """Make an environment that holds the wheel and nothing else."""
    venv.create(folder, symlinks=True, with_pip=False)
    environment = Environment(folder)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", wheel],
        env={
            **os.environ,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "PIP_QUIET": "1",
        },
        check=True,
    )
    return environment


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """An sdist, a wheel built from that sdist, and a wheel built from the checkout."""
    release, direct = tmp_path_factory.mktemp("release"), tmp_path_factory.mktemp("direct")
    build(release)  # without a choice, build makes the sdist and then the wheel out of it
    build(direct, "--wheel")
    [sdist], [wheel], [of_checkout] = release.glob("*.tar.gz"), release.glob("*.whl"), direct.glob("*.whl")
    return Distributions(sdist, wheel, of_checkout)


@pytest.fixture(scope="module")
def full(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with every dependency.

    The dependencies are those of this environment, made visible by a path file. Path files in that folder
    aren't followed from there, so its editable install of the checkout stays out of sight.
    """
    environment = make_environment(tmp_path_factory.mktemp("full") / "venv", distributions.wheel)
    folders = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (environment.site_packages / "dependencies.pth").write_text("\n".join(folders) + "\n")
    return environment


@pytest.fixture(scope="module")
def core(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with what its core requires and no extra."""
    environment = make_environment(tmp_path_factory.mktemp("core") / "venv", distributions.wheel)
    for folder in top_level_folders("orjson", "platformdirs"):
        (environment.site_packages / folder.name).symlink_to(folder)
    return environment


def top_level_folders(*names: str) -> Iterator[Path]:
    """The folders in site-packages that the named distributions own."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if len(file.parts) > 1} - {".."}:
            yield Path(str(distribution.locate_file(top)))


def read_wheel(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_carries_the_templates(distributions: Distributions) -> None:
    """Every template of reports/templates is in the wheel, inside the package, byte for byte."""
    shipped = {name: content for name, content in read_wheel(distributions.wheel).items() if name.startswith(TEMPLATES)}
    sources = {path for path in (ROOT / "reports" / "templates").rglob("*") if path.is_file()}
    assert any(name.endswith(".html.j2") for name in shipped)
    assert shipped == {
        TEMPLATES + path.relative_to(ROOT / "reports" / "templates").as_posix(): path.read_bytes() for path in sources
    }


def test_wheels_of_sdist_and_checkout_are_the_same(distributions: Distributions) -> None:
    """Whoever builds from the sdist gets what we ship."""
    assert read_wheel(distributions.wheel) == read_wheel(distributions.wheel_of_checkout)


def test_wheel_holds_the_package_and_its_metadata_only(distributions: Distributions) -> None:
    """Neither tests nor notebooks nor a stray file of the checkout land in site-packages."""
    files = read_wheel(distributions.wheel)
    metadata = f"auditkit_trail-{importlib.metadata.version('auditkit-trail')}.dist-info"
    assert {name.partition("/")[0] for name in files} == {"auditkit", metadata}
    assert "auditkit/py.typed" in files
    assert f"{metadata}/licenses/LICENSE" in files
    assert not [name for name in files if name.endswith((".pyc", ".ipynb", ".html"))]


def test_sdist_has_what_a_build_needs(distributions: Distributions) -> None:
    """The source distribution holds the package, the templates and the papers, and nothing else."""
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "auditkit/__init__.py"} <= names
    assert any(name.startswith("reports/templates/") for name in names)
    assert not [name for name in names if name.startswith((".venv", "tests", "audit/", "reports/daily"))]


def test_installed_wheel_renders_a_report(full: Environment, tmp_path: Path) -> None:
    """In an empty folder the installed wheel records, seals, verifies and renders a day."""
    assert full.run("python", "-c", RECORD, cwd=tmp_path) == "recorded\n"
    printed = full.run("python", "-c", REPORT, cwd=tmp_path).strip()
    report = tmp_path / printed
    assert report.is_relative_to(tmp_path / "reports")
    page = report.read_text(encoding="utf-8")
    assert "<h1" in page
    assert "lead.ingested" in page
    assert str(ROOT) not in page


def test_installed_console_script_runs(full: Environment, tmp_path: Path) -> None:
    """The wheel puts a working ``auditkit`` beside the interpreter."""
    assert "integrity" in full.run("auditkit", "--help", cwd=tmp_path)
    full.run("python", "-c", RECORD, cwd=tmp_path)
    assert "lead-7" in full.run("auditkit", "query", "--store", "audit", "--lead", "lead-7", cwd=tmp_path)


def test_core_records_without_any_extra(core: Environment, full: Environment, tmp_path: Path) -> None:
    """A process without extras records; another one that has them seals, verifies and reports."""
    assert core.run("python", "-c", RECORD, cwd=tmp_path) == "recorded\n"
    assert (tmp_path / full.run("python", "-c", REPORT, cwd=tmp_path).strip()).is_file()


def test_core_names_the_extra_that_is_missing(core: Environment, tmp_path: Path) -> None:
    """Reading, analysing and reporting without the extra for it say which one to install."""
    core.run("python", "-c", RECORD, cwd=tmp_path)
    printed = core.run("python", "-c", USE_WITHOUT_EXTRAS, cwd=tmp_path).splitlines()
    assert [line.partition(" is not installed: pip install ")[2] for line in printed] == [
        '"auditkit-trail[seal]" brings it',
        '"auditkit-trail[report]" brings it',
        '"auditkit-trail[analysis]" brings it',
    ]
