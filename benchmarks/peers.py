"""The loggers that recording is compared with, each set up as its own documentation recommends.

- the standard library's `logging`, a FileHandler and python-json-logger's JsonFormatter with time, level and name
- structlog with the processors of its performance guide, orjson, and a bytes logger that flushes every line

All record the same event: type, actor, lead, workflow and a dict of three details. The line has reached the operating
system when the call returns; only auditkit's is signed and chained.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from time import time_ns

import orjson
import structlog
from pythonjsonlogger.json import JsonFormatter

from auditkit import AuditLogger
from auditkit.event import GENESIS, NO_RESULT, make_head
from auditkit.keys import prepare_hmac

DETAILS = {"source": "web form", "score": 0.75, "campaign": "autumn"}
SECRET = "a secret for benchmarks only"


def make_auditkit(folder: Path, *, rotate: bool = False) -> Callable[[int], None]:
    log_event = AuditLogger(folder / "audit", secret_key=SECRET, enable_rotation=rotate).log_event

    def run(calls: int) -> None:
        for _ in range(calls):
            log_event("lead.ingested", DETAILS, "ana", "L-12345", "intake")

    return run


def make_bare(folder: Path) -> Callable[[int], None]:
    """Make a loop of the steps that the format demands and nothing else: what no API around them could undercut."""
    descriptor = os.open(folder / "bare.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    inner_state, outer_state = prepare_hmac(bytes(32))
    head = make_head("s" * 26, "20261123-" + "a" * 16)
    copy_inner, copy_outer, copy_leaf = inner_state.copy, outer_state.copy, hashlib.sha256(b"\0").copy

    def run(calls: int) -> None:
        prev = GENESIS
        for seq in range(calls):
            fields = {
                "v": head,
                "seq": seq,
                "epoch": 0,
                "time": time_ns() // 1000,
                "type": "lead.ingested",
                "actor": "ana",
                "lead_id": "L-12345",
                "workflow": "intake",
                "outcome": NO_RESULT,
                "details": orjson.dumps(DETAILS).decode(),
            }
            body = orjson.dumps(fields)
            inner, outer, leaf = copy_inner(), copy_outer(), copy_leaf()
            inner.update(prev + body)
            outer.update(inner.digest())
            line = b'%b,"mac":"%b"}\n' % (body[:-1], outer.hexdigest().encode())
            os.write(descriptor, line)
            leaf.update(line[:-1])
            prev = leaf.digest()

    return run


def make_logging(folder: Path) -> Callable[[int], None]:
    logger = logging.getLogger("auditkit.benchmarks")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "logging.jsonl")
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    info = logger.info

    def run(calls: int) -> None:
        for _ in range(calls):
            info(
                "lead.ingested",
                extra={"actor": "ana", "lead_id": "L-12345", "workflow": "intake", "details": DETAILS},
            )

    return run


def make_structlog(folder: Path, name: str = "structlog.jsonl") -> Callable[[int], None]:
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(file=(folder / name).open("ab")),
    )
    info = structlog.get_logger().info

    def run(calls: int) -> None:
        for _ in range(calls):
            info("lead.ingested", actor="ana", lead_id="L-12345", workflow="intake", details=DETAILS)

    return run
