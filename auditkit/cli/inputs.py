"""Values that an option takes as they are, or the name of a file that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from auditkit.errors import UsageError
from auditkit.store.durable import read_regular

_MAX_BYTES = 64 << 10


def read_public_key(given: str, store: str | None = None, root: Path | None = None) -> str:
    """Read a public key: the verifier key itself, or a file that holds it.

    Args:
        given: What the option was given.
        store: Id of the store whose key is looked for, None for any store.
        root: The store's folder, if it is at hand: a key that lies there proves nothing.

    Returns:
        The verifier key.

    Raises:
        UsageError: If it is neither, or the file lies in the store.

    Example:
        >>> key = "auditkit/k3f9+ace70478+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
        >>> read_public_key(key, "k3f9", Path("audit")) == key
        True
    """
    if given.startswith("auditkit/") and "+" in given:
        return given.strip()
    wanted = "auditkit/" if store is None else f"auditkit/{store}"
    path = Path(given)
    if root is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UsageError(
            f"expected a public key from outside the store at {root}, found a file in it: whoever forges a store puts "
            "the key there too, so it proves nothing. Use the copy that you were given"
        )
    if path.is_dir():
        raise UsageError(f"expected a file that holds the public key {wanted}+…, found the folder {given!a:.100}")
    try:
        text = read_regular(path, "a public key", _MAX_BYTES, UsageError, follow=True).decode()
    except OSError as error:
        # A mistyped key may be a secret one, so it isn't repeated.
        what = f"{len(given)} other characters" if "+" in given else f"{given!a:.100}"
        raise UsageError(
            f"expected a public key ({wanted}+…) or a file that holds it, found {what} ({error.strerror}): "
            "`auditkit keys export-public` writes one"
        ) from error
    except UnicodeDecodeError:
        text = ""
    found = _read_store_json(text)
    for line in [found] if found else text.splitlines():
        if line.strip().startswith(f"{wanted}+" if store else wanted):
            return line.strip()
    raise UsageError(
        f"expected a line with the public key {wanted}+… in {given!a:.100}, found none: "
        "`auditkit keys export-public` writes one"
    )


def _read_store_json(text: str) -> str | None:
    try:
        fields = orjson.loads(text)
    except ValueError:
        return None
    key = fields.get("public_key") if isinstance(fields, dict) else None
    return key if isinstance(key, str) else None
