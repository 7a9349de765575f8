"""The sample store that the tests of integrity share; each test tampers with a copy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrity.stores import Sample, Site, make_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def site(sample: Sample, tmp_path: Path) -> Site:
    """Give a copy of the sample store."""
    return sample.copy(tmp_path / "site")
