"""The version is written once, in pyproject.toml, and told the same everywhere."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import auditkit

ROOT = Path(__file__).parents[2]


def declared_version() -> str:
    """The version in pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert isinstance(version, str)
    return version


def test_changelog_opens_with_the_version() -> None:
    """The newest heading of the changelog is the version that is about to be shipped."""
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == declared_version()


def test_installed_metadata_has_the_version() -> None:
    """The environment that runs the tests holds this version, not an older install."""
    assert importlib.metadata.version("auditkit-trail") == declared_version()


def test_package_tells_the_version() -> None:
    """``auditkit.__version__`` can be asked without looking into the metadata, which costs an import."""
    assert auditkit.__version__ == declared_version()


def test_dependencies_of_the_core_stay_few() -> None:
    """An application that only records installs orjson and platformdirs and nothing else."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[^\w-]", requirement)[0] for requirement in declared} == {"orjson", "platformdirs"}
