"""The archive that the attacks share; each attack is made on a copy of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.archive import Archive, make_archive, seal_archive
from tests.integrity.stores import Site


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Give the untouched archive: six commits, and journals that aren't sealed."""
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def sealed(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Give the same archive with everything sealed: seven commits, and no journal."""
    return seal_archive(archive, tmp_path_factory.mktemp("sealed") / "site")


@pytest.fixture
def site(archive: Archive, tmp_path: Path) -> Site:
    """Give a copy of the archive."""
    return archive.site.copy(tmp_path / "site")


@pytest.fixture
def sealed_site(sealed: Archive, tmp_path: Path) -> Site:
    """Give a copy of the archive of which everything is sealed."""
    return sealed.site.copy(tmp_path / "sealed")
