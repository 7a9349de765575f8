"""auditkit: a Jupyter-first toolkit for audit trails.

Record signed events with `AuditLogger`, read them as DataFrames with `open`, and prove with `AuditTrail.verify` that
nobody changed them. Importing auditkit is cheap: what reads, draws or renders is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

try:
    importlib.import_module("fcntl")
except ModuleNotFoundError as error:
    raise ImportError(
        f"auditkit needs a POSIX system such as Linux: its files are locked with fcntl, which Python on {sys.platform} "
        "hasn't got; on Windows it runs in the Windows Subsystem for Linux (WSL)"
    ) from error

from auditkit.errors import AuditError
from auditkit.handler import AuditHandler
from auditkit.logger import AuditLogger, get_audit_logger

if TYPE_CHECKING:
    from auditkit import importing, report
    from auditkit.receipts import verify_receipt
    from auditkit.trail import AuditTrail, open  # noqa: A004 - auditkit.open, as gzip.open

__version__ = "0.1.0"

__all__ = [
    "AuditError",
    "AuditHandler",
    "AuditLogger",
    "AuditTrail",
    "__version__",
    "get_audit_logger",
    "importing",
    "open",
    "report",
    "verify_receipt",
]

_LAZY = {"AuditTrail": "auditkit.trail", "open": "auditkit.trail", "verify_receipt": "auditkit.receipts"}
_LAZY_MODULES = ("importing", "report")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return importlib.import_module(f"auditkit.{name}")
    raise AttributeError(f"module 'auditkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(__all__) | {name for name in globals() if not name.startswith("_")})
