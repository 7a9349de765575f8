"""Where keys are kept: the key file of a store, and which key a caller or the environment names.

A key file is JSON, mode 0600 in a folder of mode 0700, by default where the platform keeps a user's data, and never in
the store: whoever reads it can forge every event of the store. It may be reached through symbolic links, as Kubernetes
mounts its secrets; what is locked and replaced is the file they lead to.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson

from auditkit.errors import KeyMismatch, KeyMissing, KeyProblem, UsageError
from auditkit.keys import MAX_NUMBER, GivenKey, Keys, identify_key, ratchet_key
from auditkit.store import durable

_MAX_BYTES: Final = 64 << 10

_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""What a full or failing disk or a busy machine answers: it may be otherwise at the next try."""


class KeyWarning(UserWarning):
    """A key file can be read by others than the user it belongs to."""


def _hold_key(path: Path) -> durable.FileLock:
    """Take the lock of a key file, beside the file that all links lead to.

    No generator may stand in between: whoever keeps an exception that came out of one keeps it, and the lock with it.
    """
    real = _resolve(path)
    return durable.hold_lock(real.with_name(real.name + ".lock"))


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _clear(path: Path) -> Path:
    """Remove what killed processes left beside a key file whose lock is held; gives the file behind all links."""
    real = _resolve(path)
    durable.remove_leftovers(real.parent, real.name)
    return real


@contextmanager
def _explain_unwritable(path: Path) -> Iterator[None]:
    """Turn what will be refused again at every event into a problem of the key."""
    try:
        yield
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise KeyProblem(
            f"expected a key file that can be written at {path}, as each writer and each commit draws a number from "
            f"it, found that it can't be ({error.strerror}): make the file's folder writable for this user (mounted, "
            "it must be the folder, not the file alone), or name another place with key_file= or $AUDITKIT_KEY_FILE, "
            "or make a store with secret_key= or $AUDITKIT_KEY, which need no file"
        ) from error


class KeyFile:
    """The keys of a key file.

    Without a ``__dict__``, so that whatever prints an object's variables prints no secret.

    Args:
        path: An existing key file; `KeyFile.create` makes one.

    Raises:
        KeyMissing: If the file isn't there or can't be read.
        KeyMismatch: If it isn't a key file of a version this auditkit knows.
    """

    __slots__ = ("_root", "_sign", "key_id", "path")

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()  # a daemon changes its working directory after it has opened its store
        state = self._load(self.path)
        self._root = bytes.fromhex(state["root"])
        self._sign = bytes.fromhex(state["sign"])
        self.key_id = identify_key(self._root)

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r}, key_id={self.key_id!r})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")

    @classmethod
    def create(cls, path: Path, store: str) -> KeyFile:
        """Make a store's key file with a new random root, or open the one that another process made first.

        Raises:
            KeyProblem: If it can't be made there.
            OSError: If there is no room for it.
        """
        root = secrets.token_bytes(32)
        state = {
            "store": store,
            "root": root.hex(),
            "sign": secrets.token_hex(32),
            "n": 0,
            "current": root.hex(),
        }
        path = path.absolute()
        with _explain_unwritable(path):
            durable.make_folder(path.parent)
            with _hold_key(path):
                durable.create_file(_clear(path), cls._dump(state))
        return cls(path)

    @staticmethod
    def _dump(state: dict[str, object]) -> bytes:
        text = {"auditkit": "key", "v": 1, "mode": "ordinary", **state}
        return orjson.dumps(text, option=orjson.OPT_INDENT_2) + b"\n"

    @staticmethod
    def _load(path: Path) -> dict[str, str]:
        try:
            data = durable.read_regular(path, "an auditkit key file", _MAX_BYTES, KeyMismatch, follow=True)
        except OSError as error:
            raise KeyMissing(
                f"expected a key file at {path}, but it can't be read ({error.strerror}): give key_file=, "
                "secret_key=, $AUDITKIT_KEY_FILE or $AUDITKIT_KEY, or restore the file from its backup"
            ) from error
        try:
            state = orjson.loads(data)
            known = state["auditkit"] == "key" and state["v"] == 1 and state["mode"] == "ordinary"
            sound = known and all(len(bytes.fromhex(state[k])) == 32 for k in ("root", "sign", "current"))
            sound = sound and type(state["n"]) is int and state["n"] >= 0 and type(state["store"]) is str
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            # The content is not shown: it may be a damaged file that still holds the key.
            raise KeyMismatch(
                f"expected an auditkit key file of version 1 at {path}, found something else: "
                "restore it from its backup, or name the right file with key_file= or $AUDITKIT_KEY_FILE"
            )
        return {key: state[key] for key in ("store", "root", "sign", "n", "current")}

    def draw(self) -> tuple[int, bytes]:
        """Take the next ``n`` and K[n] under a lock on the key file.

        Raises:
            KeyMissing: If the file has vanished.
            KeyProblem: If it may not be replaced.
            OSError: If there is no room for another one.
        """
        with _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            state: dict[str, object] = {**self._load(path)}
            n, key = int(str(state["n"])), bytes.fromhex(str(state["current"]))
            state["n"] = n + 1
            state["current"] = ratchet_key(key).hex()
            durable.replace_file(path, self._dump(state))
        return n, key

    def check_drawing(self) -> None:
        """Make sure that numbers can be drawn, so that a process which can't sign doesn't start.

        The file is replaced by itself: nothing less tells of a read-only folder, of a file that is mounted alone, or of
        one that its owner made immutable. A full disk is no reason not to start: events wait until it has room.

        Raises:
            KeyProblem: If the file can't be replaced, or isn't a key file any more.
        """
        with suppress(OSError), _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            durable.replace_file(path, self._dump({**self._load(path)}))

    def find(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Give K[n] for each number that can have been drawn, by ratcheting the root: a microsecond a step."""
        limit = max(int(self._load(self.path)["n"]), MAX_NUMBER)
        wanted = sorted(number for number in set(numbers) if 0 <= number < limit)
        found: dict[int, bytes] = {}
        n, key = 0, self._root
        for number in wanted:
            while n < number:
                key = ratchet_key(key)
                n += 1
            found[number] = key
        return found

    def count_drawn(self, store: str) -> int | None:
        """Say how many keys were drawn, None if the file was made for another store and may serve several."""
        state = self._load(self.path)
        return int(state["n"]) if state["store"] == store else None

    @property
    def signing_seed(self) -> bytes:
        """Seed of the Ed25519 key that signs checkpoints, 32 bytes."""
        return self._sign

    def to_secret(self) -> dict[str, str]:
        """Describe the source to a child process: only the file's path."""
        return {"key_file": str(self.path)}


def read_secret(description: dict[str, str]) -> Keys:
    """Make the keys again that `Keys.to_secret` described."""
    if "secret" in description:
        return GivenKey(bytes.fromhex(description["secret"]))
    return KeyFile(Path(description["key_file"]))


def locate_key_file(store: str) -> Path:
    """Say where a store's key file lies by the platform's convention, outside the store.

    Args:
        store: Id of the store.

    Example:
        >>> locate_key_file("k3f9").name
        'k3f9.key'
    """
    import platformdirs  # 6 ms that a process with a given key needn't pay

    return Path(platformdirs.user_data_dir("auditkit", appauthor=False)) / "keys" / f"{store}.key"


def choose_given(
    secret_key: str | bytes | GivenKey | None, key_file: str | os.PathLike[str] | None
) -> Keys | Path | None:
    """Decide which key the caller or the environment names; arguments go before variables.

    Returns:
        The keys of a given secret, the path of a named key file, or None for the store's own key file.

    Raises:
        UsageError: If a secret and a file are given together.
    """
    if secret_key is not None and key_file is not None:
        raise UsageError("expected secret_key= or key_file=, found both: give one")
    if secret_key is not None:
        return secret_key if isinstance(secret_key, GivenKey) else GivenKey(secret_key)
    if key_file is not None:
        return Path(key_file)
    if secret := os.environ.get("AUDITKIT_KEY"):
        return GivenKey(secret)
    if named := os.environ.get("AUDITKIT_KEY_FILE"):
        return Path(named)
    return None


def refuse_inside(path: Path, root: Path) -> None:
    """Refuse a key file in the store it is the key of: whoever has the store would have its key.

    Args:
        path: The key file, there or not.
        root: The store's folder.

    Raises:
        KeyProblem: Saying where both lie.
    """
    real = Path(os.path.realpath(path))
    if real.is_relative_to(os.path.realpath(root)):
        raise KeyProblem(
            f"expected a key file outside the store at {root}, found it inside, at {real}: whoever copies or reads "
            "the store would have its key and could forge every event. Move it elsewhere, and name its new place "
            "with key_file= or $AUDITKIT_KEY_FILE"
        )


def _warn_exposed(path: Path) -> None:
    """Warn if others can read a key file.

    That its group can is told to the owner only: in a container the group is often how a process gets to read a secret
    that belongs to root, and it can't change that.
    """
    found = path.stat()
    if found.st_mode & stat.S_IROTH:
        readers = "every user"
    elif found.st_mode & stat.S_IRGRP and found.st_uid == os.geteuid():
        readers = "its group"
    else:
        return
    warnings.warn(
        f"expected a key file that only its owner can read at {path}, found that {readers} can "
        f"(mode {stat.S_IMODE(found.st_mode):04o}): whoever reads it can forge every event. Give it mode 0600 "
        "(`chmod 600`; for a Kubernetes secret defaultMode: 0400, or 0440 with fsGroup), and if somebody may have "
        "read it, go on in a new store with a new key",
        KeyWarning,
        stacklevel=5,
    )


def find_keys(
    store: str,
    key_id: str,
    secret_key: str | bytes | GivenKey | None = None,
    key_file: str | os.PathLike[str] | None = None,
    *,
    root: Path,
) -> Keys:
    """Find the keys of an existing store.

    Args:
        store: Id of the store.
        key_id: Name of its key, from ``store.json``.
        secret_key: Secret of the application, else ``$AUDITKIT_KEY``.
        key_file: Path of a key file, else ``$AUDITKIT_KEY_FILE``, else the platform's place.
        root: The store's folder, where no key may lie.

    Raises:
        KeyMissing: If no key is found.
        KeyMismatch: If the key that is found isn't the store's.
        KeyProblem: If the key file lies in the store.
    """
    given = choose_given(secret_key, key_file)
    if given is None:
        given = locate_key_file(store)
    if isinstance(given, Path):
        refuse_inside(given, root)
        keys: Keys = KeyFile(given)
        _warn_exposed(given)
    else:
        keys = given
    if keys.key_id != key_id:
        raise KeyMismatch(
            f"expected the key {key_id} of store {store}, found the key {keys.key_id} ({keys!r}): "
            "give the key this store was made with (secret_key=, key_file=, $AUDITKIT_KEY or $AUDITKIT_KEY_FILE)"
        )
    return keys
