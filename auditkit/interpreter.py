"""The Python that child processes run: sealers, and those that help to verify."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def find_python() -> str | None:
    """Find the command that runs Python: ``$AUDITKIT_PYTHON``, this interpreter, or ``python3`` on the path.

    In an embedded interpreter ``sys.executable`` is the application itself; running it again would start a second
    application.
    """
    if named := os.environ.get("AUDITKIT_PYTHON"):
        return named
    for candidate in (sys.executable, getattr(sys, "_base_executable", None)):
        if candidate and Path(candidate).name.lower().startswith(("python", "pypy")):
            return candidate
    return None if getattr(sys, "frozen", False) else shutil.which("python3")


def make_environment(python: str) -> dict[str, str]:
    """Make a child's environment: one thread for each library, and modules from where this process has them.

    With ``-m`` alone the working directory would come first, and whoever can write there could have a module of his
    own loaded in a process that holds the key; ``-P`` keeps it out (Python 3.11).

    Args:
        python: The command that runs Python, as `find_python` gave it.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    if python in (sys.executable, getattr(sys, "_base_executable", None)):
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if Path(path).is_absolute())
    return environment
