"""Where keys are kept: the key file of a store, and which key a caller or the environment names.

A key file is JSON, mode 0600 in a folder of mode 0700, by default where the platform keeps a user's data, and never in
the store: whoever reads it can forge every event of the store. It may be reached through symbolic links, as Kubernetes
mounts its secrets; what is locked and replaced is the file they lead to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson

from auditkit.errors import KeyMismatch, KeyMissing, KeyProblem, UsageError
from auditkit.keys import MAX_NUMBER, GivenKey, Keys, identify_key, ratchet_key
from auditkit.store import durable

_MAX_BYTES: Final = 1 << 20
"""Longest key file that is read or written: some ten thousand roots."""

_MAX_DRAWN: Final = 1 << 32
"""Most numbers that a key file can have counted: one a second for a century."""

_KEY_ID: Final = re.compile("[0-9a-f]{16}")

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
    """Remove what killed processes left beside a key file whose lock is held; gives the file behind all links.

    An offline one has no lock of its own: that of the machine's key file keeps others from it.
    """
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


ORDINARY: Final = "ordinary"
FORWARD_SECURE: Final = "forward-secure"
OFFLINE: Final = "offline"
"""What a key file keeps: the root and the current key, the current key alone, or the roots alone."""

_PRESENT_KEYS: Final = {
    ORDINARY: ("root", "sign", "n", "current"),
    FORWARD_SECURE: ("key_id", "sign", "n", "current", "skipped"),
    OFFLINE: ("roots",),
}
_OPTIONAL_KEYS: Final = {
    ORDINARY: ("renewed", "skipped", "retiring"),
    FORWARD_SECURE: ("retiring",),
    OFFLINE: (),
}

KeepRoot = Callable[[int, bytes, Sequence[int]], None]
"""Takes ``n``, K[n] and the numbers of the roots before it, and puts K[n] where the machine can't read it later."""


class KeyFile:
    """The keys of a key file.

    There are three kinds. An *ordinary* one holds the root, from which every key follows. A *forward-secure* one holds
    only the key to be drawn next: whoever steals it can't forge what was recorded before. Its root is in an *offline*
    one, which verifies everything and records nothing.

    Without a ``__dict__``, so that whatever prints an object's variables prints no secret.

    Args:
        path: An existing key file; `KeyFile.create` makes one.

    Raises:
        KeyMissing: If the file isn't there or can't be read.
        KeyMismatch: If it isn't a key file of a version this auditkit knows.
    """

    __slots__ = ("key_id", "mode", "path", "store")

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()  # a daemon changes its working directory after it has opened its store
        state = self._load(self.path)
        self.mode: str = state["mode"]
        self.store: str = state["store"]
        roots = _list_roots(state)
        self.key_id: str = identify_key(roots[0][1]) if roots else state["key_id"]

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r}, key_id={self.key_id!r})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled")

    @classmethod
    def create(cls, path: Path, store: str, *, keep_root: KeepRoot | None = None) -> KeyFile:
        """Make a store's key file with a new random root, or open the one that another process made first.

        Args:
            path: Where it goes.
            store: Id of the store.
            keep_root: For a forward-secure one: what puts the root away, before the file is there.

        Raises:
            KeyProblem: If it can't be made there.
            OSError: If there is no room for it.
        """
        root = secrets.token_bytes(32)
        state: dict[str, Any] = {"mode": ORDINARY, "store": store, "root": root.hex(), "sign": secrets.token_hex(32)}
        state |= {"n": 0, "current": root.hex()}
        path = path.absolute()
        with _explain_unwritable(path):
            durable.make_folder(path.parent)
            with _hold_key(path):
                real = _clear(path)
                if keep_root is not None and not real.exists():
                    keep_root(0, root, ())
                    if real.exists():
                        raise KeyProblem(f"expected a place for the root away from the key file {path}, found the same")
                    state = {"mode": FORWARD_SECURE, "store": store, "key_id": identify_key(root)} | {
                        "sign": state["sign"],
                        "n": 1,
                        "current": ratchet_key(root).hex(),
                        "skipped": [0],
                    }
                durable.create_file(real, _dump(state))
        return cls(path)

    @staticmethod
    def _load(path: Path) -> dict[str, Any]:
        try:
            data = durable.read_regular(path, "an auditkit key file", _MAX_BYTES, KeyMismatch, follow=True)
        except OSError as error:
            raise KeyMissing(
                f"expected a key file at {path}, but it can't be read ({error.strerror}): give key_file=, "
                "secret_key=, $AUDITKIT_KEY_FILE or $AUDITKIT_KEY, or restore the file from its backup"
            ) from error
        state = _parse(data)
        if state is None:
            # Neither the content nor the error of its parser is told: both may hold the key.
            raise KeyMismatch(
                f"expected an auditkit key file (v 1, mode {ORDINARY}, {FORWARD_SECURE} or {OFFLINE}) at {path}, "
                "found something else: restore it from its backup, or name the right file with key_file= or "
                "$AUDITKIT_KEY_FILE"
            )
        return state

    def _load_writable(self, path: Path) -> dict[str, Any]:
        """Read the file as one that numbers are drawn from.

        Raises:
            KeyProblem: If it is an offline one.
        """
        state = self._load(path)
        if state["mode"] == OFFLINE:
            raise self._refuse_offline()
        return state

    def _refuse_offline(self) -> KeyProblem:
        return KeyProblem(
            f"expected the key file that the store's machine records and seals with, found its offline root at "
            f"{self.path}, which only verifies: keep it away from that machine"
        )

    def draw(self) -> tuple[int, bytes]:
        """Take the next ``n`` and K[n] under a lock on the key file.

        Raises:
            KeyMissing: If the file has vanished.
            KeyProblem: If it may not be replaced.
            OSError: If there is no room for another one.
        """
        with _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            state = self._load_writable(path)
            n, key = int(state["n"]), bytes.fromhex(state["current"])
            state["n"] = n + 1
            state["current"] = ratchet_key(key).hex()
            durable.replace_file(path, _dump(state))
        return n, key

    def check_drawing(self) -> None:
        """Make sure that numbers can be drawn, so that a process which can't sign doesn't start.

        The file is replaced by itself: nothing less tells of a read-only folder, of a file that is mounted alone, or of
        one that its owner made immutable. A full disk is no reason not to start: events wait until it has room.

        Raises:
            KeyProblem: If the file can't be replaced, or isn't a key file that numbers are drawn from any more.
        """
        if self.mode == OFFLINE:
            raise self._refuse_offline()  # at once: it may lie where no lock can be made
        with suppress(OSError), _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            durable.replace_file(path, _dump(self._load_writable(path)))

    def renew(self, keep_root: KeepRoot | None = None, *, root: bool = True, sign: bool = True) -> None:
        """Put a new random root, a new signing key or both in the place of the old ones.

        The old signing key stays until `retire` is called: the ledger has to say first that it was replaced.

        Args:
            keep_root: For a forward-secure file: what puts the new root away, before the old key is gone.
            root: Whether the root is renewed: the next number to be drawn is the first under the new one.
            sign: Whether the signing key is renewed.

        Raises:
            KeyProblem: If it is an offline file, an earlier renewal isn't in the ledger yet, or it can't be written.
            UsageError: If nothing takes the new root of a forward-secure file, or something that of an ordinary one.
        """
        with _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            state = self._load_writable(path)
            if "retiring" in state:
                raise KeyProblem(
                    f"expected a key file whose last renewal stands in the ledger at {self.path}, found one that was "
                    "interrupted: seal the store first (auditkit seal), which finishes it"
                )
            if root and state["mode"] == ORDINARY:
                if keep_root is not None:
                    raise UsageError(
                        "expected no offline key file (--root-file), as an ordinary key file holds its roots itself, "
                        "found one"
                    )
                _renew_ordinary(state)
            elif root:
                if keep_root is None:
                    raise UsageError(
                        "expected the offline key file, to which the new root of a forward-secure store is added "
                        "(--root-file), found none"
                    )
                # A root that was put away and then isn't used would accuse what is signed meanwhile.
                durable.replace_file(path, _dump(state))
                _renew_forward_secure(state, keep_root)
            if sign:
                state["retiring"], state["sign"] = state["sign"], secrets.token_hex(32)
            durable.replace_file(path, _dump(state))

    def retire(self) -> None:
        """Forget the signing key that was replaced, as the ledger now says so."""
        with _explain_unwritable(self.path), _hold_key(self.path):
            path = _clear(self.path)
            state = self._load_writable(path)
            if state.pop("retiring", None) is not None:
                durable.replace_file(path, _dump(state))

    def find(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Give K[n] for each number that can have been drawn, by ratcheting its root: a microsecond a step."""
        state = self._load(self.path)
        found: dict[int, bytes] = {}
        roots = _list_roots(state)
        limit = max(int(state.get("n", 0)), MAX_NUMBER + (roots[-1][0] if roots else 0))
        wanted = sorted(number for number in set(numbers) if 0 <= number < limit)
        n, key = -1, b""
        for number in wanted:
            while roots and roots[0][0] <= number:
                n, key = roots.pop(0)
            if n < 0:
                continue
            while n < number:
                key = ratchet_key(key)
                n += 1
            found[number] = key
        return found

    def count_drawn(self, store: str) -> int | None:
        """Say how many keys were drawn, None if the file doesn't count them, or not for this store alone."""
        state = self._load(self.path)
        return int(state["n"]) if state["store"] == store and "n" in state else None

    def list_roots(self) -> list[tuple[int, bytes]]:
        """List the roots as ``(n, K[n])``; none of a forward-secure file."""
        return _list_roots(self._load(self.path))

    def list_skipped(self) -> list[int]:
        """List the numbers that nobody signs with: those of the roots that lie offline."""
        state = self._load(self.path)
        return [n for n, _ in _list_roots(state)] if state["mode"] == OFFLINE else list(state.get("skipped", ()))

    @property
    def signing_seed(self) -> bytes:
        """Seed of the Ed25519 key that signs checkpoints, 32 bytes.

        Raises:
            KeyProblem: If it is an offline file, which has none.
        """
        return bytes.fromhex(self._load_writable(self.path)["sign"])

    @property
    def retiring_seed(self) -> bytes | None:
        """Seed of the key that signed them before, while the ledger doesn't say yet that it was replaced."""
        retiring = self._load(self.path).get("retiring")
        return None if retiring is None else bytes.fromhex(retiring)

    def to_secret(self) -> dict[str, str]:
        """Describe the source to a child process: only the file's path."""
        return {"key_file": str(self.path)}


def _renew_ordinary(state: dict[str, Any]) -> None:
    fresh, n = secrets.token_bytes(32).hex(), int(state["n"])
    if n == 0:
        # The store is named by its first root, under which nothing was signed yet.
        n, state["skipped"] = 1, [0]
    # The root of a renewal that was interrupted, and under which nothing was drawn, makes way for this one.
    state["renewed"] = [*(each for each in state.get("renewed", ()) if each[0] < n), [n, fresh]]
    state |= {"n": n, "current": fresh}


def _renew_forward_secure(state: dict[str, Any], keep_root: KeepRoot) -> None:
    fresh, n = secrets.token_bytes(32), int(state["n"])
    keep_root(n, fresh, state["skipped"])
    state |= {"n": n + 1, "current": ratchet_key(fresh).hex(), "skipped": [*state["skipped"], n]}


def format_offline(store: str, roots: Sequence[tuple[int, bytes]]) -> bytes:
    """Print an offline key file: what a forward-secure store is verified with, and its machine doesn't keep."""
    return _dump({"mode": OFFLINE, "store": store, "roots": [[n, root.hex()] for n, root in roots]})


def keep_offline(path: Path, store: str) -> KeepRoot:
    """Make what puts roots into an offline key file: a new one for a first root, the store's own for a later one.

    Args:
        path: Where the file lies or is to lie, on a medium that is taken away afterwards.
        store: Id of the store.

    Returns:
        What `KeyFile.create` and `KeyFile.renew` take. It raises `KeyProblem` if another file is there, and
        `KeyMismatch` if it is no offline file of this store, or one that lacks a root.
    """
    path = path.absolute()

    def keep(n: int, root: bytes, earlier: Sequence[int]) -> None:
        with _explain_unkept(path):
            if not earlier:
                _create_offline(path, format_offline(store, [(n, root)]))
                return
            held = KeyFile(path)
            if held.mode != OFFLINE or held.store != store:
                raise KeyMismatch(
                    f"expected the offline key file of store {store} at {path}, to which the new root is added, found "
                    f"a {held.mode} one of store {held.store!a:.100}: name the file that `auditkit keys init` wrote"
                )
            # One that was put away by a renewal that was interrupted, and never used, isn't the store's.
            roots = [each for each in held.list_roots() if each[0] in earlier]
            if [start for start, _ in roots] != sorted(earlier):
                raise KeyMismatch(
                    f"expected an offline key file with the {len(earlier)} roots of store {store} at {path}, found "
                    f"{len(roots)} of them: an older copy, so name the newest one"
                )
            durable.replace_file(_clear(path), format_offline(store, [*roots, (n, root)]))

    return keep


def _create_offline(path: Path, data: bytes) -> None:
    """Make an offline file with nothing but names and renames: the file systems of USB sticks know no link(2)."""
    try:
        os.close(os.open(path, durable.CREATE_FLAGS, 0o600))
    except FileExistsError:
        raise KeyProblem(f"expected no file at {path} yet, found one: name another for the root") from None
    try:
        durable.replace_file(path, data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _explain_unkept(path: Path) -> Iterator[None]:
    """Say which file it is that doesn't take a root: a key file may lie on another disk."""
    try:
        yield
    except OSError as error:
        if error.errno in _PASSING:
            error.filename = str(path)
            raise
        raise KeyProblem(
            f"expected an offline key file that can be written at {path}, as the new root goes there, found that it "
            f"can't be ({error.strerror}): name one in a folder that is there, on a medium that is mounted and "
            "writable. No key was changed"
        ) from error


def _dump(state: dict[str, Any]) -> bytes:
    data = orjson.dumps({"auditkit": "key", "v": 1, **state}, option=orjson.OPT_INDENT_2) + b"\n"
    if len(data) > _MAX_BYTES:
        raise KeyProblem(
            f"expected a key file of at most {_MAX_BYTES:,} bytes, found that it would be {len(data):,} with all its "
            "roots: begin a new store, and keep this one to verify"
        )
    return data


def _parse(data: bytes) -> dict[str, Any] | None:
    """Read what a key file holds, without ``auditkit`` and ``v``; None if it isn't one."""
    try:
        fields = orjson.loads(data)
        if fields.pop("auditkit") != "key" or fields.pop("v") != 1 or type(fields["store"]) is not str:
            return None
        present = {"mode", "store", *_PRESENT_KEYS[fields["mode"]]}
        if not present <= set(fields):
            return None
        known = present.union(_OPTIONAL_KEYS[fields["mode"]])
        state: dict[str, Any] = {key: fields[key] for key in fields if key in known}
        roots = [n for n, _ in _list_roots(state)]
        numbers = [*roots, *state.get("skipped", ()), *([state["n"]] if "n" in state else [])]
        sound = all(type(n) is int and 0 <= n <= _MAX_DRAWN for n in numbers) and roots == sorted(set(roots))
        seeds = [state[key] for key in ("sign", "current", "retiring") if key in state]
        sound = sound and all(len(bytes.fromhex(seed)) == 32 for seed in seeds)
        sound = sound and all(len(root) == 32 for _, root in _list_roots(state))
        sound = sound and (bool(roots) or _KEY_ID.fullmatch(state["key_id"]) is not None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return state if sound else None


def _list_roots(state: dict[str, Any]) -> list[tuple[int, bytes]]:
    listed = state.get("roots", [])
    if state["mode"] == ORDINARY:
        listed = [[0, state["root"]], *state.get("renewed", ())]
    return [(n, bytes.fromhex(root)) for n, root in listed]


def read_secret(description: dict[str, str]) -> Keys:
    """Make the keys again that `Keys.to_secret` described."""
    if "secret" in description:
        return GivenKey(bytes.fromhex(description["secret"]))
    return KeyFile(Path(description["key_file"]))


def locate_key_file(store: str) -> Path:
    """Say where a store's key file lies by the platform's convention, outside the store.

    Args:
        store: Id of the store.

    Raises:
        KeyMissing: If this user has no home folder, and nothing else names a data folder.

    Example:
        >>> locate_key_file("k3f9").name
        'k3f9.key'
    """
    import platformdirs  # 6 ms that a process with a given key needn't pay

    try:
        folder = Path(platformdirs.user_data_dir("auditkit", appauthor=False))
    except RuntimeError:  # as Path.home() does
        raise KeyMissing(
            f"expected the key file of store {store} in this user's home folder, found no such folder: set $HOME or "
            "$XDG_DATA_HOME, or give key_file=, secret_key=, $AUDITKIT_KEY_FILE or $AUDITKIT_KEY"
        ) from None
    return folder / "keys" / f"{store}.key"


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
