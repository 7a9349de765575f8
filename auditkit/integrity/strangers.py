"""What lies in the store and is none of its files: nobody reads it, so nobody would ever hear of it."""

from __future__ import annotations

import os
import stat
from typing import Final

from auditkit.integrity.inspection import Inspection
from auditkit.store import durable
from auditkit.store.layout import FOLDERS, is_known_name

_NAMED: Final = 5


def tell_strangers(check: Inspection) -> None:
    """Note the names that the format doesn't know, and report what stands in a folder's place.

    Files among the segments are another matter: tools that read Parquet take them for events (`check_unlisted`).
    """
    for folder, mode in _list_entries(check, "").items():
        if folder in FOLDERS and not stat.S_ISDIR(mode):
            link = stat.S_ISLNK(mode)
            check.report(
                "unverifiable" if link else "tampered",
                "note" if link else "finding",
                folder,
                "a folder",
                "a symbolic link" if link else "something else, so that nothing of it could be read",
                advice="replace it by the folder itself: a store whose folders lead elsewhere isn't sealed",
            )
    for folder in ("", *FOLDERS):
        strange = sorted(name for name, mode in _list_entries(check, folder).items() if _is_strange(folder, name, mode))
        if strange:
            more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
            check.report(
                "unverifiable",
                "note",
                folder or ".",
                "only what auditkit writes there",
                f"{len(strange)} of another name: {', '.join(f'{name!a:.100}' for name in strange[:_NAMED])}{more}",
                advice="nobody reads or checks them: move them out of the store, or look where their names come from",
            )


def _list_entries(check: Inspection, folder: str) -> dict[str, int]:
    """List what a folder holds, with its kind; nothing if it isn't there or isn't a folder."""
    try:
        with os.scandir(check.layout.root / folder) as entries:
            return {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in entries}
    except OSError:
        return {}  # whoever reads it says why it can't be read


def _is_strange(folder: str, name: str, mode: int) -> bool:
    if folder == "events" and not stat.S_ISDIR(mode):
        return False
    # What a process is writing, or was killed at, bears the name of the file that it is to be.
    return not is_known_name(folder, durable.read_leftover_name(name) or name)
