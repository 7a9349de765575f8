"""Root seals the store of somebody else, as `sudo auditkit seal` or a cron job of root's does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import auditkit
from tests.integrity.stores import CHECKOUT

NOBODY = 65534

AS_NOBODY = """
import os, sys, tempfile
from pathlib import Path
import auditkit

def work(home):
    store, key = home / "audit", home / "key"
    with auditkit.AuditLogger(store, key_file=key, enable_rotation=False, on_failure="raise") as audit:
        audit.log_event("order.paid")
    trail = auditkit.open(store, key_file=key)
    trail.seal()
    assert trail.verify().ok, trail.verify()
    return len(trail.events())

# Once as root, so that everything is imported: the interpreter's own files may be closed to nobody.
with tempfile.TemporaryDirectory() as folder:
    work(Path(folder))
os.setgroups([])
os.setegid(65534)
os.seteuid(65534)
print(work(Path(sys.argv[1])))
"""


def work_as_nobody(home: Path) -> str:
    """Record an event, seal and verify as the user nobody; how many events there are then."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(home)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the user nobody's; pytest's own temporary folders are closed to other users."""
    if os.geteuid() != 0:
        pytest.skip("only root can do something in another user's name")
    folder = Path(tempfile.mkdtemp(prefix="auditkit-owner-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def test_root_s_sealing_doesn_t_lock_the_store_s_owner_out(home: Path) -> None:
    """After root has recorded and sealed, everything is the owner's still, who records, seals and verifies."""
    store, key = home / "audit", home / "key"
    assert work_as_nobody(home) == "1"
    with auditkit.AuditLogger(store, key_file=key, enable_rotation=False) as audit:
        audit.log_event("order.sent")
    assert auditkit.open(store, key_file=key).seal().events
    found = {path: path.lstat() for path in home.rglob("*")}
    assert {(status.st_uid, status.st_gid) for status in found.values()} == {(NOBODY, NOBODY)}
    assert {stat.S_IMODE(status.st_mode) for path, status in found.items() if path.is_file()} == {0o600}
    assert work_as_nobody(home) == "3"
