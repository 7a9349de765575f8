"""What tests of anchoring share: the command-line tool that answers for a time stamp authority."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def openssl() -> str:
    """Return the path of an openssl that stamps times, or skip the test where there is none.

    With ``AUDITKIT_REQUIRE_OPENSSL=1`` a missing one fails the test.
    """
    path = shutil.which("openssl")
    if path and subprocess.run([path, "ts", "-help"], capture_output=True, check=False).returncode == 0:
        return path
    reason = "no openssl with the command ts on the PATH: install the package openssl to run this"
    if os.environ.get("AUDITKIT_REQUIRE_OPENSSL") == "1":
        pytest.fail(f"AUDITKIT_REQUIRE_OPENSSL=1, but {reason}")
    pytest.skip(reason)
