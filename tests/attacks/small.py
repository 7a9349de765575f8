"""Small stores for the threats: an honest past and what comes after, with each kind of key."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from auditkit import AuditLogger
from auditkit.keys import Keys
from auditkit.store.description import create_store
from auditkit.store.keychange import derive_verifier_key
from auditkit.store.keyring import keep_offline
from auditkit.store.layout import Layout
from tests.attacks.forging import Forger, Row, edit_rows, sign_as_writer
from tests.attacks.recorder import MONDAY, TUESDAY
from tests.integrity.stores import Site, read_segment


@dataclass(frozen=True)
class Vault(Site):
    """A store, the key file of its machine, and the offline key file if it is a forward-secure one."""

    @property
    def root_file(self) -> Path:
        return self.folder / "elsewhere" / "root.key"

    @property
    def public_key(self) -> str:
        return derive_verifier_key(self.store_id, self.keys.signing_seed)

    def copy(self, target: Path) -> Vault:
        shutil.copytree(self.folder, target)
        return Vault(target)


def make_vault(folder: Path, *, forward_secure: bool = False) -> Vault:
    """Make an empty store."""
    vault = Vault(folder)
    vault.root_file.parent.mkdir(parents=True)
    keep = (lambda store: keep_offline(vault.root_file, store)) if forward_secure else None
    create_store(Layout(vault.path), vault.key_file, keep)
    return vault


def record_day(site: Site, day: datetime, what: Sequence[str], *, seal: bool = True) -> list[str]:
    """Record a day's events in a process's life of its own, and seal them or not; gives their ids."""
    with AuditLogger(site.path, key_file=site.key_file, enable_rotation=False) as audit:
        ids = [audit.log_event(each, {"of": each}, actor="ana", time=day) for each in what]
    if seal:
        site.seal()
    return ids


def make_past(folder: Path, *, forward_secure: bool = False) -> tuple[Vault, str]:
    """Make a store with Monday sealed; gives it, and the checkpoint that somebody kept that evening."""
    vault = make_vault(folder, forward_secure=forward_secure)
    record_day(vault, MONDAY, ["paid.100", "paid.200", "paid.300"])
    return vault, vault.open().checkpoint()


def rewrite_past(site: Site, keys: Keys | None, seeds: Sequence[bytes]) -> None:
    """Make the second payment of Monday another one, and all that follows fit as far as these keys allow.

    Args:
        site: The store.
        keys: Keys with the root of the store; None for a thief who has no root.
        seeds: Seeds that the notes are signed with.
    """

    def falsify(rows: list[Row]) -> list[Row]:
        rows[2] = {**rows[2], "type": "paid.999"}
        if keys is None:
            return rows
        return sign_as_writer(rows, site.store_id, 2, keys.find([0, 1])[find_number(rows)])

    path = next(path for path in site.segments() if f"date={MONDAY:%Y-%m-%d}" in path.parent.name)
    edit_rows(path, falsify)
    forger = Forger(seeds=seeds) if keys is None else Forger(lambda number: keys.find([number])[number], seeds)
    assert forger.rewrite(site)[0] == 1


def find_number(rows: list[Row]) -> int:
    """Read the number that a writer drew from its first event."""
    return int(rows[0]["details"].partition('"n":')[2].partition(",")[0])


def list_types(site: Site) -> list[str]:
    """List what the sealed events of the store say, as a reader without auditkit sees it."""
    types = [kind for path in site.segments() for kind in read_segment(path).column("type").to_pylist()]
    return sorted(kind for kind in types if not kind.startswith("auditkit."))


HONEST = ["paid.100", "paid.200", "paid.300"]
FORGED = ["paid.100", "paid.300", "paid.999"]
NEXT_DAY = TUESDAY
