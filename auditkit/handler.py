"""A `logging.Handler` that records ordinary log records as signed events."""

from __future__ import annotations

import logging
from copy import copy
from typing import Any, Final

from auditkit.conversion import OWN_ERRORS, encode_details, is_interruption, make_text
from auditkit.logger import FAILURE, AuditLogger, describe_exception

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIELDS: Final = ("actor", "lead_id", "workflow", "outcome", "operation")


class AuditHandler(logging.Handler):
    """Records log records as events of type ``log``.

    The level, the logger's name and the place in the code go into the details, with everything passed as ``extra=``;
    ``extra={"lead_id": …}`` (or ``actor``, ``workflow``, ``outcome``, ``operation``) fills that column. From ERROR on
    the outcome is ``failure``. The traceback is the exception's, else the stack that ``stack_info=True`` asks for.

    A record whose message can't be formatted (``log.info("%d leads", "many")``) is recorded too: its message is the
    template, and the details have, as ``unformatted``, the template, the arguments and why. As every handler does,
    this one shows the mistake on stderr unless ``logging.raiseExceptions`` is off.

    Args:
        audit: The logger that records.
        level: Lowest level that is recorded.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> audit = AuditLogger(f"{folder.name}/audit", secret_key="an example's secret")
        >>> log = logging.getLogger("example")
        >>> log.addHandler(AuditHandler(audit))
        >>> log.warning("disk at %d %%", 91, extra={"actor": "monitor"})
        >>> log.handlers.clear(); audit.close(); folder.cleanup()
    """

    def __init__(self, audit: AuditLogger, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._audit = audit

    def emit(self, record: logging.LogRecord) -> None:
        """Record one log record; what fails is handled as every handler does, by ``handleError``."""
        try:
            extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
            fields = {name: extra.pop(name, None) for name in _FIELDS}
            if fields["outcome"] is None and record.levelno >= logging.ERROR:
                fields["outcome"] = FAILURE
            error_type, trace = None, record.stack_info
            if record.exc_info and record.exc_info[1] is not None:
                error_type, _, trace = describe_exception(record.exc_info[1])
            message, unformatted = self._format_message(record)
            self._audit.log_event(
                "log",
                {
                    "level": record.levelname,
                    "logger": record.name,
                    "file": record.pathname,
                    "line": record.lineno,
                    "function": record.funcName,
                    **({"extra": extra} if extra else {}),
                    **({"unformatted": unformatted} if unformatted else {}),
                },
                fields["actor"],
                fields["lead_id"],
                fields["workflow"],
                outcome=fields["outcome"],
                operation=fields["operation"],
                error_type=error_type,
                message=message,
                traceback=trace,
            )
        except Exception:  # noqa: BLE001 - the contract of logging.Handler.emit
            self.handleError(record)

    def _format_message(self, record: logging.LogRecord) -> tuple[str, dict[str, Any] | None]:
        """Give a record's message; where it can't be formatted its template, and what is known of it."""
        try:
            return record.getMessage(), None
        except OWN_ERRORS as error:  # an argument's own code runs here, and must not cost the record
            if is_interruption(error):
                raise
            kind, problem, _ = describe_exception(error)
            template = make_text(record.msg)
            # A copy that can be shown: handleError prints message and arguments, and that runs their code again.
            shown = copy(record)
            shown.msg, shown.args = template, (encode_details(record.args),)
            self.handleError(shown)
        return template, {"template": record.msg, "args": record.args, "error": f"{kind}: {problem}"}
