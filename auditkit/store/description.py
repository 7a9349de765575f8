"""``store.json``: which store this is. Written once; sealers complete it with the public key, and when that changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from auditkit.errors import FormatUnknown, KeyMissing, KeyProblem, StoreDamaged, StoreError, StoreMissing, UsageError
from auditkit.event import FORMAT
from auditkit.keys import Keys
from auditkit.store import durable
from auditkit.store.keyring import (
    FORWARD_SECURE,
    KeepRoot,
    KeyFile,
    choose_given,
    find_keys,
    locate_key_file,
    refuse_inside,
)
from auditkit.store.layout import Layout, is_store_name, name_store

DEFAULT_STORE: Final = "audit"
"""Folder of the store when neither an argument nor ``$AUDITKIT_STORE`` names one."""

_MAX_BYTES = 64 << 10


@dataclass(frozen=True)
class StoreDescription:
    """What ``store.json`` says.

    Attributes:
        store: Id of the store.
        key_id: Public name of its root key.
        created_us: When it was made, microseconds since 1970.
        public_key: The Ed25519 key of its checkpoints as a verifier key (C2SP signed note), None until the first
            sealing. It is a convenience for people who have it from elsewhere: a key that lies beside the data it
            vouches for proves nothing.
    """

    store: str
    key_id: str
    created_us: int
    public_key: str | None = None

    def to_bytes(self) -> bytes:
        """Print the file's content."""
        fields = {
            "auditkit": "store",
            "format": FORMAT,
            "store": self.store,
            "key_id": self.key_id,
            "created": self.created_us,
            "public_key": self.public_key,
        }
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n"


def choose_path(path: str | os.PathLike[str] | None) -> Path:
    """Decide where the store lies: the argument, else ``$AUDITKIT_STORE``, else ``./audit``.

    Raises:
        UsageError: If the argument isn't a path, or an empty one.

    Example:
        >>> choose_path("somewhere").name
        'somewhere'
    """
    if path is not None:
        given: object = path
        if not isinstance(given, str | os.PathLike) or not str(given) or "\0" in str(given):
            raise UsageError(f"expected the path of a store's folder, found {path!a:.200}")
        return Path(path)
    return Path(os.environ.get("AUDITKIT_STORE") or DEFAULT_STORE)


def read_description(layout: Layout) -> StoreDescription:
    """Read ``store.json``.

    Raises:
        StoreMissing: If there is no store at the path.
        FormatUnknown: If a newer auditkit wrote it.
        StoreDamaged: If it isn't a regular file, or can't be read as what it should be.
    """
    path = layout.description
    try:
        data = durable.read_regular(path, "a store's description", _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreMissing(
            f"expected an audit store at {layout.root}, found no store.json there: "
            "name the right folder (--store, $AUDITKIT_STORE or the path argument), or record a first event"
        ) from error
    try:
        fields = orjson.loads(data)
        if fields["auditkit"] != "store" or type(fields["format"]) is not int:
            raise KeyError("auditkit")
        if fields["format"] != FORMAT:
            raise FormatUnknown(
                f"expected format {FORMAT} in {path}, found format {fields['format']}: use a newer auditkit"
            )
        description = StoreDescription(
            store=fields["store"],
            key_id=fields["key_id"],
            created_us=fields["created"],
            public_key=fields["public_key"],
        )
        if not is_store_name(description.store) or type(description.key_id) is not str:
            raise KeyError("store")
        if description.public_key is not None and type(description.public_key) is not str:
            raise KeyError("public_key")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(
            f"expected a store's description in {path}, found something else ({error}): "
            "restore store.json from a backup; the events beside it are untouched"
        ) from error
    return description


def create_store(
    layout: Layout, key_file: str | os.PathLike[str] | None = None, make_keep: Callable[[str], KeepRoot] | None = None
) -> tuple[StoreDescription, Keys]:
    """Make a new store with a key file of its own.

    Args:
        layout: The store's paths.
        key_file: Where the key file goes, if not in the platform's place.
        make_keep: For a forward-secure one: makes, of the store's id, what puts the root away.

    Raises:
        UsageError: If ``$AUDITKIT_KEY`` gives a secret, which takes the place of a key file.
        StoreError: If there is a store already, or can't be a folder.
        KeyProblem: If the key file is there already, lies in the store, or can't be written.
    """
    if layout.description.exists():
        raise StoreError(f"expected no store at {layout.root} yet, found one: name another folder")
    given = choose_given(None, key_file)
    if given is not None and not isinstance(given, Path):
        raise UsageError(
            "expected a store with a key file of its own, found a secret in $AUDITKIT_KEY: unset it, or just record, "
            "which makes a store with that secret"
        )
    if given is not None and os.path.lexists(given):
        raise KeyProblem(f"expected no file at {given} yet, found one: a store has a key file of its own")
    description, keys = open_or_create(layout, key_file=given, make_keep=make_keep)
    if isinstance(keys, KeyFile) and (keys.mode == FORWARD_SECURE) != (make_keep is not None):
        raise StoreError(f"expected to make the store at {layout.root}, found that another process just did")
    return description, keys


def open_or_create(
    layout: Layout,
    secret_key: str | bytes | None = None,
    key_file: str | os.PathLike[str] | None = None,
    make_keep: Callable[[str], KeepRoot] | None = None,
) -> tuple[StoreDescription, Keys]:
    """Open a store with its keys, or make both.

    The key comes first: a store is never there without its key, however many processes start at once. They take turns,
    so that one of them makes both and the others find them. Whoever opens a store so is going to record: its keys must
    be there, and numbers must be drawn from them.

    Raises:
        KeyMissing: If the store is there but its key isn't.
        KeyMismatch: If the key that is given isn't the store's.
        KeyProblem: If the key file lies in the store, or can't be written.
        StoreError: If there can't be a folder at the path, for instance as a file lies there.
        StoreDamaged: If the folder holds events but no ``store.json``.
    """
    if not layout.description.exists():
        store = name_store()
        given = choose_given(secret_key, key_file) or locate_key_file(store)
        if isinstance(given, Path):
            refuse_inside(given, layout.root)
        try:
            durable.make_folder(layout.root)
            lock = durable.hold_lock(layout.seal_lock)
        except OSError as error:
            found = "a file" if layout.root.is_file() else f'"{error.strerror}" at {error.filename}'
            raise StoreError(
                f"expected a folder at {layout.root} in which a store can be made, found {found}: name another "
                "folder (the path argument or $AUDITKIT_STORE), or make room for one there"
            ) from error
        with lock:
            if not layout.description.exists():
                _create(layout, store, given, None if make_keep is None else make_keep(store))
    description = read_description(layout)
    try:
        keys = find_keys(description.store, description.key_id, secret_key, key_file, root=layout.root)
    except KeyMissing as error:
        raise KeyMissing(f"the store at {layout.root} exists, but not its key. {error}") from error
    if isinstance(keys, KeyFile):
        keys.check_drawing()
    return description, keys


def _create(layout: Layout, store: str, given: Keys | Path, keep_root: KeepRoot | None) -> None:
    for folder in (layout.journal, layout.ledger, layout.events):
        if folder.is_dir() and any(folder.iterdir()):
            raise StoreDamaged(
                f"expected an empty or new folder for a store at {layout.root}, found {folder.name}/ with files but "
                "no store.json: restore store.json from a backup, or name another folder"
            )
    if isinstance(given, Path):
        keys: Keys = KeyFile(given) if given.exists() else KeyFile.create(given, store, keep_root=keep_root)
    else:
        keys = given
    for folder in (layout.journal, layout.ledger, layout.events):
        durable.make_folder(folder)
    description = StoreDescription(store, keys.key_id, time.time_ns() // 1000)
    durable.create_file(layout.description, description.to_bytes())


def set_public_key(layout: Layout, description: StoreDescription, verifier_key: str) -> StoreDescription:
    """Complete ``store.json`` with the public key; called under the seal lock, once for each key."""
    completed = StoreDescription(description.store, description.key_id, description.created_us, verifier_key)
    durable.replace_file(layout.description, completed.to_bytes())
    return completed
