"""Every error auditkit raises on purpose.

```
AuditError
├── UsageError          a call or an argument that can't be meant (also a ValueError)
├── StoreError          the store on disk
│   ├── StoreMissing    there is no store where one was expected
│   ├── StoreDamaged    a file of the store can't be believed
│   │   ├── StoreIncomplete  a whole partition isn't there, perhaps because it isn't mounted
│   │   └── WitnessConflict  a witness knows another history of the store (auditkit.anchoring.witness)
│   └── FormatUnknown   the store was written by a newer auditkit
├── KeyProblem          the keys, which live outside the store
│   ├── KeyMissing      the store exists, its key wasn't found
│   └── KeyMismatch     a key was found, but it isn't this store's
├── AnchorFailed        a checkpoint couldn't be published somewhere (auditkit.anchoring.failures)
├── ExtraMissing        an optional dependency isn't installed (also an ImportError)
├── ImportRefused       an import that would lose or double rows
└── ClosedError         the logger was closed before the call
```

A message says what was expected, what was found, where, and what to do. No message carries key material.
"""

from __future__ import annotations

import importlib
from types import ModuleType

DISTRIBUTION = "auditkit-trail"
"""Name under which auditkit is installed; the import name is ``auditkit``."""


class AuditError(Exception):
    """Base of every error that auditkit raises on purpose."""


class UsageError(AuditError, ValueError):
    """A call or an argument that can't be meant."""


class StoreError(AuditError):
    """Something is wrong with the store on disk."""


class StoreMissing(StoreError):
    """There is no store where one was expected."""


class StoreDamaged(StoreError):
    """A file of the store can't be believed."""


class StoreIncomplete(StoreDamaged):
    """A whole partition isn't there; perhaps it is only not mounted, so nobody is accused."""


class FormatUnknown(StoreError):
    """The store was written in a format this version doesn't know."""


class KeyProblem(AuditError):
    """The keys of a store are missing or wrong."""


class KeyMissing(KeyProblem):
    """The store exists, but its key wasn't found."""


class KeyMismatch(KeyProblem):
    """A key was found, but it isn't the one of this store."""


class ExtraMissing(AuditError, ImportError):
    """An optional dependency isn't installed."""


class ImportRefused(AuditError):
    """An import would lose or double rows, so nothing was imported."""


class ClosedError(AuditError):
    """The logger was closed before the call."""


def require(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings, or say which extra that is.

    Args:
        module: Dotted name of the module, for instance ``"pyarrow.parquet"``.
        extra: The extra of the distribution that installs it.

    Returns:
        The imported module.

    Raises:
        ExtraMissing: If the module isn't installed.

    Example:
        >>> require("json", "seal").dumps([1])
        '[1]'
        >>> require("no_such_module", "seal")
        Traceback (most recent call last):
        ...
        auditkit.errors.ExtraMissing: no_such_module is not installed: pip install "auditkit-trail[seal]" brings it
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or module).partition(".")[0] != module.partition(".")[0]:
            raise
        raise explain_missing(error, extra) from error


def explain_missing(error: ModuleNotFoundError, extra: str) -> ExtraMissing:
    """Say which extra brings the module that an import statement didn't find.

    Args:
        error: What the import statement raised.
        extra: The extra of the distribution that installs the module.

    Returns:
        The error to raise instead.

    Example:
        >>> explain_missing(ModuleNotFoundError(name="duckdb"), "seal")
        ExtraMissing('duckdb is not installed: pip install "auditkit-trail[seal]" brings it')
    """
    message = f'{error.name} is not installed: pip install "{DISTRIBUTION}[{extra}]" brings it'
    return ExtraMissing(message, name=error.name)
