"""A program that uses all of auditkit where one library can't be imported, and prints what came of each use as JSON.

``python without.py LIBRARY STORE SECRET``, in a folder of its own; ``-`` as the library refuses none.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class Without(MetaPathFinder):
    """Finds what another finder finds, except for one library, as in an environment that hasn't got it."""

    def __init__(self, finder: Any, library: str) -> None:
        self._finder = finder
        self._library = library

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] == self._library:
            return None
        found: ModuleSpec | None = self._finder.find_spec(fullname, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        # Versions of installed distributions are asked of finders too.
        return getattr(self._finder, name)


def list_modules() -> list[str]:
    """Every module of the package, whether it can be imported or not; those of the command line have ``main``."""
    import auditkit

    root = Path(auditkit.__path__[0])
    names = (file.relative_to(root.parent).with_suffix("").parts for file in sorted(root.rglob("*.py")))
    modules = [".".join(parts).removesuffix(".__init__") for parts in names]
    return [name for name in modules if not name.startswith(("auditkit.cli.", "auditkit.__main__"))]


def list_calls(store: Path, secret: str) -> dict[str, Callable[[], Any]]:
    """One use of each public method of the faces, and of what else users call."""
    import auditkit

    def trail() -> Any:
        return auditkit.open(store, secret_key=secret)

    def export(name: str) -> Any:
        from auditkit.exporting import export_events

        return export_events(trail(), Path(name))

    audit = auditkit.AuditLogger("other", secret_key=secret, enable_rotation=False)
    return {
        "AuditLogger.close": lambda: auditkit.AuditLogger("closed", secret_key=secret).close(),
        "AuditLogger.context": lambda: audit.context(actor="ana"),
        "AuditLogger.flush": audit.flush,
        "AuditLogger.get_lead_history": lambda: audit.get_lead_history("L-1"),
        "AuditLogger.get_performance_stats": lambda: audit.get_performance_stats("op"),
        "AuditLogger.get_statistics": audit.get_statistics,
        "AuditLogger.log_crm_create": lambda: audit.log_crm_create("L-1", "C-1"),
        "AuditLogger.log_crm_update": lambda: audit.log_crm_update("L-1", "C-1"),
        "AuditLogger.log_email_cancelled": lambda: audit.log_email_cancelled("L-1", "jo@example.com"),
        "AuditLogger.log_email_scheduled": lambda: audit.log_email_scheduled("L-1", "jo@example.com"),
        "AuditLogger.log_email_sent": lambda: audit.log_email_sent("L-1", "jo@example.com"),
        "AuditLogger.log_error": lambda: audit.log_error("KeyError", "no such lead"),
        "AuditLogger.log_event": lambda: audit.log_event("invoice.paid"),
        "AuditLogger.log_internal": lambda: audit.log_internal("auditkit.example"),
        "AuditLogger.log_lead_ingested": lambda: audit.log_lead_ingested("L-1"),
        "AuditLogger.log_lead_qualified": lambda: audit.log_lead_qualified("L-1", qualified=True),
        "AuditLogger.log_lead_routed": lambda: audit.log_lead_routed("L-1", "sales"),
        "AuditLogger.log_workflow_started": lambda: audit.log_workflow_started("intake"),
        "AuditLogger.log_workflow_stopped": lambda: audit.log_workflow_stopped("intake"),
        "AuditLogger.query_events": audit.query_events,
        "AuditLogger.rotate": audit.rotate,
        "AuditLogger.track": lambda: audit.track("op"),
        "AuditLogger.track_performance": lambda: audit.track_performance("op", 0.1),
        "AuditTrail._repr_html_": lambda: trail()._repr_html_(),
        "AuditTrail.anchor": lambda: trail().anchor(file="checkpoints.txt"),
        "AuditTrail.checkpoint": lambda: trail().checkpoint(),
        "AuditTrail.find_keys": lambda: trail().find_keys(),
        "AuditTrail.prove": lambda: trail().prove(trail().checkpoint()),
        "AuditTrail.receipt": lambda: trail().receipt(name_sealed(store)),
        "AuditTrail.rotate_keys": lambda: rotate("rotated"),
        "AuditTrail.verify_timestamps": lambda: trail().verify_timestamps(b""),
        "AuditTrail.count": lambda: trail().count(),
        "AuditTrail.count_statistics": lambda: trail().count_statistics(),
        "AuditTrail.days": lambda: trail().days(),
        "AuditTrail.errors": lambda: trail().errors(),
        "AuditTrail.events": lambda: trail().events(),
        "AuditTrail.lead": lambda: trail().lead("L-1"),
        "AuditTrail.performance": lambda: trail().performance(),
        "AuditTrail.seal": lambda: trail().seal(),
        "AuditTrail.statistics": lambda: trail().statistics(),
        "AuditTrail.stream": lambda: list(trail().stream()),
        "AuditTrail.verify": lambda: trail().verify(),
        "Verification.to_dict": lambda: trail().verify().to_dict(),
        "Verification.to_frame": lambda: trail().verify().to_frame(),
        "Verification.to_html": lambda: trail().verify().to_html(),
        "Verification.to_json": lambda: trail().verify().to_json(),
        "View._repr_html_": lambda: trail().statistics()._repr_html_(),
        "View._repr_mimebundle_": lambda: trail().statistics()._repr_mimebundle_(),
        "View.code": lambda: trail().statistics().code(),
        "View.figure": lambda: trail().statistics().figure(),
        "View.to_html": lambda: trail().statistics().to_html(),
        "report.daily": lambda: auditkit.report.daily(store=store, secret_key=secret)._repr_html_(),
        "export to csv": lambda: export("events.csv"),
        "export to parquet": lambda: export("events.parquet"),
        "import of json lines": lambda: import_rows(audit, "rows.jsonl"),
        "import of parquet": lambda: import_rows(audit, "rows.parquet"),
        "import of zstd": lambda: import_rows(audit, "rows.jsonl.zst"),
    }


def name_sealed(store: Path) -> str:
    """The id of an event that is sealed: the first of some writer."""
    from auditkit.store.layout import Layout
    from auditkit.store.ledger import read_commit

    return f"{read_commit(Layout(store), 1).add[0].runs[0].writer}:0"


def rotate(name: str) -> str:
    """Rotate the keys of a store with a key file, which whoever rotates them has."""
    import auditkit

    auditkit.AuditLogger(name, key_file=f"{name}.key", enable_rotation=False).close()
    return auditkit.open(name, key_file=f"{name}.key").rotate_keys()


def import_rows(audit: Any, name: str) -> Any:
    """Import a file that the test made."""
    from auditkit.importing import Mapping, import_file

    return import_file(name, audit, Mapping(name="rows", time="time", type="type"))


def list_lines(store: Path) -> dict[str, list[str]]:
    """One line for each command of the command line that says something of its own."""
    shared = ["--store", str(store)]
    return {
        "auditkit query": ["query", *shared],
        "auditkit stats": ["stats", *shared],
        "auditkit errors": ["errors", *shared],
        "auditkit performance": ["performance", *shared],
        "auditkit integrity": ["integrity", *shared],
        "auditkit anchor": ["anchor", *shared, "--file", "shell.txt"],
        "auditkit keys show": ["keys", "show", *shared],
        "auditkit receipt": ["receipt", name_sealed(store), *shared, "--output", "shell.tlog-proof"],
        "auditkit seal": ["seal", *shared],
        "auditkit report daily": ["report", "daily", *shared],
        "auditkit export": ["export", *shared, "--output", "shell.csv"],
    }


def describe(error: BaseException) -> dict[str, str]:
    return {"error": f"{type(error).__module__}.{type(error).__name__}", "says": str(error)}


def main(library: str, store: Path, secret: str) -> dict[str, dict[str, str] | None]:
    """Use everything; None is a use that went well."""
    sys.meta_path[:] = [Without(finder, library) for finder in sys.meta_path]
    found: dict[str, dict[str, str] | None] = {}
    uses: dict[str, Callable[[], Any]] = dict(list_calls(store, secret))
    for name in list_modules():
        uses[f"import {name}"] = partial(importlib.import_module, name)
    for name, use in uses.items():
        try:
            use()
        except Exception as error:  # noqa: BLE001 - whatever comes is what the test wants to see
            found[name] = describe(error)
        else:
            found[name] = None
    from auditkit.cli import main as run

    for name, words in list_lines(store).items():
        sys.argv = ["auditkit", *words]
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                run()
        except SystemExit as end:
            found[name] = {"error": f"exit {end.code}", "says": said.getvalue()} if end.code else None
        except Exception as error:  # noqa: BLE001 - as above
            found[name] = describe(error)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
