"""Stores with the key files that `auditkit keys init` makes: an ordinary one, or a forward-secure one with its root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import auditkit
from auditkit.integrity import Verification
from auditkit.rotation import RotationResult, rotate_keys
from auditkit.store.description import create_store
from auditkit.store.keyring import FORWARD_SECURE, ORDINARY, KeyFile, keep_offline
from tests.integrity.stores import Site

MODES = (ORDINARY, FORWARD_SECURE)


@dataclass(frozen=True)
class Keyed(Site):
    """A store, its key file, and of a forward-secure one the offline root, side by side in one folder."""

    @property
    def offline(self) -> Path:
        """Where the root of a forward-secure store lies."""
        return self.folder / "root.key"

    @property
    def key(self) -> KeyFile:
        """The machine's key file."""
        return KeyFile(self.key_file)

    @property
    def roots(self) -> KeyFile:
        """The key file that proves everything."""
        return KeyFile(self.offline if self.offline.exists() else self.key_file)

    def copy(self, target: Path) -> Keyed:
        """Copy the store and its keys."""
        return Keyed(super().copy(target).folder)

    def record(self, count: int = 2) -> list[str]:
        """Record some events as an application does, as one writer that ends."""
        with auditkit.AuditLogger(self.path, key_file=self.key_file, enable_rotation=False) as audit:
            return [audit.log_event("invoice.paid", {"n": number}, actor="ana") for number in range(count)]

    def rotate(self, *, root: bool = True, sign: bool = True) -> RotationResult:
        """Rotate the keys as the command line does."""
        keep = keep_offline(self.offline, self.store_id) if root and self.offline.exists() else None
        return rotate_keys(self.layout, self.key, keep, root=root, sign=sign)

    def prove(self, *, deep: bool = True, pin: bool = False) -> Verification:
        """Verify with every key there is."""
        return auditkit.open(self.path, key_file=self.roots.path).verify(deep=deep, pin=pin)

    def read_ids(self) -> set[str]:
        """Give the ids of the application's events."""
        return set(self.open().events(columns=["id"])["id"])


def make_keyed(folder: Path, mode: str = ORDINARY) -> Keyed:
    """Make a store without events."""
    folder.mkdir(parents=True)
    site = Keyed(folder)
    make_keep = (lambda store: keep_offline(site.offline, store)) if mode == FORWARD_SECURE else None
    create_store(site.layout, site.key_file, make_keep)
    return site
