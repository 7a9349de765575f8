"""A checkpoint in the body of a webhook: to a chat, a ticket system, or a service of one's own.

The body is one JSON object, which ``auditkit.anchoring.copies`` reads again wherever somebody kept it:

```
{"auditkit": "checkpoint", "store": "3f9a1c", "size": 3, "root": "<base64>", "checkpoint": "<the whole signed note>"}
```

``size`` and ``root`` are there for people and filters; only the note is signed. Delivery is at least once: an answer
that got lost is asked for again, and whoever receives a checkpoint twice has the same one twice.

The rules of the network are in ``auditkit.anchoring.transport``. Source: RFC 9110 (section 10.2.3, Retry-After).
"""

from __future__ import annotations

import base64
import json
import time
from typing import Final

from auditkit import note
from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.transport import Answer, Endpoint, parse_endpoint, post_body

__all__ = ["post_checkpoint"]

MAX_WAIT_S: Final = 5
"""Longest time between two tries, in seconds, however long the server asks to wait."""

_WAITS_S: Final = (0.5, 1.0)


def post_checkpoint(url: str, signed_note: str, *, store: str, timeout_s: float = 10.0) -> None:
    """Send a checkpoint to a webhook.

    A failed connection, a lost answer, and the statuses 429 and 5xx are tried again twice, after half a second and a
    second, or after what the server asks for (at most five seconds). No other status is.

    Args:
        url: The webhook's URL, whose path or query is usually a secret: no message shows more than its host.
        signed_note: The whole note, as the ledger has it.
        store: Id of the store.
        timeout_s: Longest time for each try, in seconds.

    Raises:
        AnchorFailed: If it didn't arrive.
        StoreDamaged: If the note isn't a signed checkpoint.
        UsageError: If the URL isn't one of https (or of http to this machine), or the timeout isn't above 0.
    """
    checkpoint = note.parse_checkpoint(note.parse_note(signed_note).text)
    endpoint = parse_endpoint(url, "webhook")
    document = {
        "auditkit": "checkpoint",
        "store": store,
        "size": checkpoint.size,
        "root": base64.b64encode(checkpoint.root).decode("ascii"),
        "checkpoint": signed_note,
    }
    body = json.dumps(document, ensure_ascii=False).encode()
    for wait_s in (*_WAITS_S, None):
        try:
            answer = post_body(endpoint, body, "application/json", "webhook", timeout_s=timeout_s, limit=0)
        except AnchorFailed as failure:
            if wait_s is None or not failure.transient:
                raise
        else:
            if 200 <= answer.status < 300:
                return
            if wait_s is None or not _is_transient(answer):
                raise _explain_refusal(endpoint, answer)
            if answer.retry_after_s is not None:
                wait_s = min(answer.retry_after_s, MAX_WAIT_S)
        time.sleep(wait_s)


def _is_transient(answer: Answer) -> bool:
    return answer.status == 429 or answer.status >= 500


def _explain_refusal(endpoint: Endpoint, answer: Answer) -> AnchorFailed:
    if 300 <= answer.status < 400:
        advice = "redirects aren't followed: give the URL that it leads to"
    elif _is_transient(answer):
        advice = "it can't answer now: try again later"
    elif answer.status in (401, 403, 404, 410):
        advice = "see whether the URL is still the webhook's, with its path and its secret"
    else:
        advice = "see whether it takes a POST with a JSON object"
    return AnchorFailed(
        f"webhook: expected a status from 200 to 299 of {endpoint}, found {answer.status}: {advice}",
        transient=_is_transient(answer),
    )
