"""What the demo's automation talks to. Nothing leaves the process, and nothing sleeps; the failures are real.

Each service raises what its like raises in production, from as deep down, so that the tracebacks in the
demo's trail are genuine: caught exceptions of this code.
"""

from __future__ import annotations

import json
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SYNC_DEADLINE = 30.0
"""Seconds after which the CRM's bulk interface gives up."""


class CrmError(Exception):
    """The CRM didn't do what it was asked."""


class CrmUnavailable(CrmError):
    """The CRM can't be reached."""


class CrmRateLimited(CrmError):
    """The CRM wants fewer requests."""


class CrmRejected(CrmError):
    """The CRM refuses a record."""


@dataclass
class CrmClient:
    """A client of a customer-relations system.

    Args:
        trouble: What ails the CRM at the moment: ``"outage"``, ``"rate limit"``, ``"truncated"`` or nothing.
    """

    trouble: str | None = None
    contacts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create_contact(self, lead_id: str, data: Mapping[str, Any]) -> str:
        """Create a contact for a lead.

        Returns:
            The contact's id.

        Raises:
            CrmRejected: If the data isn't a contact's.
            CrmUnavailable: If the CRM can't be reached.
            CrmRateLimited: If it wants fewer requests.
        """
        payload = self._validate(data)
        answer = self._post("/v3/contacts", {"external_id": lead_id, **payload})
        self.contacts[answer["id"]] = payload
        return str(answer["id"])

    def sync(self, seconds: float) -> int:
        """Fetch what changed since the last time.

        Args:
            seconds: How long the CRM takes for it.

        Returns:
            Number of changed records.

        Raises:
            TimeoutError: If it takes longer than the deadline.
        """
        answer = self._post("/v3/changes", {"cursor": "latest"}, seconds=seconds)
        return len(str(answer["id"]))

    def _validate(self, data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"email": _parse_address(data["email"]), "company": data["company"], "name": data["name"]}
        except ValueError as error:
            raise CrmRejected(f"422 Unprocessable Entity: {error}") from error

    def _post(self, path: str, payload: Mapping[str, Any], seconds: float = 0.0) -> dict[str, Any]:
        body = json.dumps(payload, sort_keys=True)
        try:
            raw = self._exchange(path, body, seconds)
        except ConnectionError as error:
            raise CrmUnavailable(f"POST {path} failed: {error}") from error
        answer: dict[str, Any] = json.loads(raw)
        return answer

    def _exchange(self, path: str, body: str, seconds: float) -> str:
        if self.trouble == "outage":
            raise ConnectionResetError(104, "Connection reset by peer")
        if self.trouble == "rate limit":
            raise CrmRateLimited(f"429 Too Many Requests on {path}: retry after 20 s")
        if seconds > SYNC_DEADLINE:
            raise TimeoutError(f"no answer from {path} within {SYNC_DEADLINE:.0f} s")
        answer = json.dumps({"id": f"C-{_checksum(body):06d}", "status": "ok"})
        return answer[: len(answer) // 2] if self.trouble == "truncated" else answer


@dataclass
class MailServer:
    """An SMTP server that knows who has a mailbox."""

    unknown: frozenset[str] = frozenset()
    busy: bool = False

    def send(self, recipient: str, subject: str) -> None:
        """Send a mail.

        Raises:
            smtplib.SMTPRecipientsRefused: If there is no such mailbox.
            smtplib.SMTPServerDisconnected: If the server hangs up.
        """
        self._command(f"MAIL FROM:<sales@{_OUR_DOMAIN}>")
        self._command(f"RCPT TO:<{recipient}>", recipient)
        self._command(f"DATA {subject}")

    def _command(self, line: str, recipient: str = "") -> None:
        if self.busy and line.startswith("DATA"):
            raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")
        if recipient in self.unknown:
            raise smtplib.SMTPRecipientsRefused({recipient: (550, b"5.1.1 No such user here")})


_OUR_DOMAIN = "fjordline.example"


def score_lead(data: Mapping[str, Any]) -> int:
    """Score a lead by the size of its company and its budget.

    Raises:
        KeyError: If the form had no company size.
        ValueError: If the budget isn't a number.

    Example:
        >>> score_lead({"employees": "51-200", "budget": "12000"})
        84
    """
    sizes = {"1-10": 10, "11-50": 35, "51-200": 60, "201-1000": 80, "1000+": 90}
    return min(100, sizes[data["employees"]] + int(data["budget"]) // 500)


def _parse_address(text: str) -> str:
    local, at, domain = text.partition("@")
    if not (local and at and "." in domain) or " " in text:
        raise ValueError(f"email: {text!r} is not an address")
    return text


def _checksum(text: str) -> int:
    return sum(ord(character) * (place % 977 + 1) for place, character in enumerate(text)) % 1_000_000
