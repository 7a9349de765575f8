"""What holds for every test and every doctest: nothing leaves or enters through the user's own folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SETTINGS_OF_CI = {"AUDITKIT_REQUIRE_CHROMIUM", "AUDITKIT_REQUIRE_OPENSSL"}
"""Variables of ours that steer the tests and not the toolkit."""


@pytest.fixture(autouse=True)
def isolated_user(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Give each test a home folder of its own, so that no key or store of the user is read or written.

    A doctest also gets a working directory of its own, as its examples may make a store where they stand.

    Returns:
        The home folder. It isn't in ``tmp_path``, so that a test which lists it finds its own files only.
    """
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for variable, folder in {
        "XDG_DATA_HOME": ".local/share",
        "XDG_STATE_HOME": ".local/state",
        "XDG_CONFIG_HOME": ".config",
        "XDG_CACHE_HOME": ".cache",
    }.items():
        monkeypatch.setenv(variable, str(home / folder))
    for variable in os.environ:
        if variable.startswith("AUDITKIT_") and variable not in SETTINGS_OF_CI:
            monkeypatch.delenv(variable)
    # The look of a terminal is a matter of the test, not of the machine it runs on.
    for variable in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
        monkeypatch.delenv(variable, raising=False)
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path_factory.mktemp("doctest"))
    return home
