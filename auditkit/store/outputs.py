"""Where exports, reports and rejects may be written: never into a store, never over a key."""

from __future__ import annotations

import os
import re
from pathlib import Path

from auditkit.errors import UsageError
from auditkit.store.layout import Layout

_KEY_FILE = re.compile(rb'\s*\{\s*"auditkit"\s*:\s*"key"')


def choose_output(output: str | os.PathLike[str], what: str, root: Path | None = None) -> Path:
    """Give the file that something is written to, behind all links: what a link leads to is what's replaced.

    Args:
        output: The file as it was named; it needn't be there.
        what: What is written, for the error.
        root: The folder of the store that is read, in case it doesn't look like one any more.

    Raises:
        UsageError: If it lies in a store, whose readers would take it for a part of it, or is a key file.
    """
    path = Path(os.path.realpath(output))
    own = None if root is None else Path(os.path.realpath(root))
    for folder in path.parents:
        if folder == own or _is_store(folder):
            raise UsageError(
                f"expected {what} outside the store, found {path}: readers of the store would take it for a part of it"
            )
    if _is_key_file(path):
        raise UsageError(
            f"expected {what} in a file of its own, found the key file {path}: without it nobody can verify its store "
            "or go on recording there"
        )
    return path


def _is_store(folder: Path) -> bool:
    layout = Layout(folder)
    return layout.description.is_file() and layout.journal.is_dir()


def _is_key_file(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _KEY_FILE.match(file.read(256)) is not None
    except PermissionError:
        return False  # nor can it be written
