"""The demo's folder: marked, so that a new demo replaces what an older one made, and nothing else.

::

    demo-audit/
      demo.json     the mark: which store is the demo's, which reports it rendered
      audit/        the store
      demo.key      its key
      reports/      the daily report
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from auditkit.errors import StoreError, UsageError
from auditkit.store import durable
from auditkit.store.description import read_description
from auditkit.store.layout import Layout

MARK: Final = "demo.json"
_MADE_BY: Final = "auditkit demo"
_REPLACED: Final = ".auditkit-demo-replaced"


@dataclass
class DemoFolder:
    """The folder of one demo.

    Attributes:
        root: The folder.
        store_id: Id of the store in it, once that is known.
        reports: Names of the reports that a demo rendered into it.
    """

    root: Path
    store_id: str | None = None
    reports: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "audit"

    @property
    def key_file(self) -> Path:
        """The store's key, beside it: a demo leaves nothing in the user's key folder."""
        return self.root / "demo.key"

    @property
    def report_folder(self) -> Path:
        """Where the report goes."""
        return self.root / "reports"

    def write_mark(self) -> None:
        """Write down what in the folder is the demo's."""
        mark = {"made_by": _MADE_BY, "store": self.store_id, "reports": self.reports}
        durable.replace_file(self.root / MARK, orjson.dumps(mark, option=orjson.OPT_INDENT_2) + b"\n")

    def remove_older(self) -> None:
        """Remove what the mark says that an older demo made.

        Raises:
            UsageError: If the store isn't the one of the mark.
        """
        if self.store.exists() or self.store.is_symlink():
            found = _read_store_id(self.store)
            if self.store.is_symlink() or found is None or self.store_id != found:
                raise UsageError(
                    f"expected the demo's store {self.store_id} in {self.store}, found "
                    f"{found or 'something else'}: nothing was touched; move it away, or give --output "
                    "another folder"
                )
            # Renamed first: a removal that is interrupted leaves no half of a store under the store's name.
            self.store.rename(self.root / _REPLACED)
        if (self.root / _REPLACED).is_dir():
            shutil.rmtree(self.root / _REPLACED)
        for path in (self.key_file, self.key_file.with_name(self.key_file.name + ".lock")):
            path.unlink(missing_ok=True)
        for name in self.reports:
            if Path(name).name == name:
                (self.report_folder / name).unlink(missing_ok=True)
        self.store_id, self.reports = None, []


@contextmanager
def claim_folder(root: Path) -> Iterator[DemoFolder]:
    """Take a folder for a new demo, and hold it while the demo runs.

    Args:
        root: The folder; made if it isn't there. Other files in it stay as they are.

    Yields:
        The folder, without anything of an older demo.

    Raises:
        UsageError: If it holds a store or key that no demo made, or another demo is running there.
    """
    folder = DemoFolder(root)
    mark = _read_mark(root / MARK)
    if mark is None:
        for path in (root / MARK, folder.store, folder.key_file):
            if path.exists() or path.is_symlink():
                raise UsageError(
                    f"expected a folder without a store or an older demo, found {path}, which no demo made: "
                    "nothing was touched; give --output another folder"
                )
    else:
        folder.store_id, folder.reports = mark["store"], mark["reports"]
    root.mkdir(parents=True, exist_ok=True)
    lock = root / f".{MARK}.lock"
    with durable.hold_lock(lock, wait=False) as held:
        if not held:
            raise UsageError(f"expected to be alone in {root}, found another demo running there: wait for its end")
        try:
            folder.remove_older()
            folder.write_mark()
            yield folder
        finally:
            lock.unlink(missing_ok=True)


def _read_mark(path: Path) -> dict[str, Any] | None:
    try:
        mark = orjson.loads(path.read_bytes())
        sound = mark["made_by"] == _MADE_BY and isinstance(mark["store"], str | None)
        sound = sound and all(isinstance(name, str) for name in mark["reports"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(mark) if sound else None


def _read_store_id(store: Path) -> str | None:
    try:
        return read_description(Layout(store)).store
    except (StoreError, OSError):
        return None
