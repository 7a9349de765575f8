"""Tools that tests share: a browser, and how long hypothesis searches."""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

# A test is never judged by the clock, so no example has a deadline. In CI the examples are the same on every
# run, so that a red run can be repeated; on a developer's machine they differ, so as to find more in time.
hypothesis.settings.register_profile("auditkit", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "auditkit-ci",
    parent=hypothesis.settings.get_profile("auditkit"),
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("auditkit-ci" if os.environ.get("CI") else "auditkit")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium that opens pages headlessly, or skip the test where there is none.

    With ``AUDITKIT_REQUIRE_CHROMIUM=1``, as ``.ci/run`` sets it, a missing browser fails the test.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "no chromium, chromium-browser or google-chrome on the PATH: install the package chromium to run this"
    if os.environ.get("AUDITKIT_REQUIRE_CHROMIUM") == "1":
        pytest.fail(f"AUDITKIT_REQUIRE_CHROMIUM=1, but {reason}")
    pytest.skip(reason)
