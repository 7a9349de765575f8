"""Verifying: files against the speed of SHA-256, every event against other verifiers, and how much memory it takes.

The others are set up as their own documentation recommends for a chain that is signed with HMAC, in files on the same
disk: waxseal's AuditLog with a FileAttestor (`verify` and `verify_attestations`, as only both together check chain and
seals), and auditchain's SyncAuditLog on a JsonlBackend with a seal key. All hold the same events: type, actor, lead,
workflow and three details.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from unittest import mock

import auditkit
from auditkit.trail import AuditTrail
from benchmarks.measuring import Figure, compare, median, run_python
from benchmarks.peers import DETAILS, SECRET
from benchmarks.storing import record, seal

EVENTS = 1_000_000
PEER_EVENTS = 20_000
SEGMENT_EVENTS = 300_000
FAST_TURNS = 15
TURNS = 5

KEY = hashlib.sha256(SECRET.encode()).digest()

_PEAK = """
import resource, sys
import auditkit
trail = auditkit.open(sys.argv[1], secret_key="a secret for benchmarks only")
assert trail.verify(pin=False).ok
own, helper = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own + helper)
"""


def _verify(trail: AuditTrail, *, deep: bool) -> None:
    verification = trail.verify(deep=deep, pin=False)
    assert verification.ok, str(verification)


def _make_waxseal(folder: Path) -> Callable[[], None]:
    from waxseal import AuditLog
    from waxseal.adapters.attest import FileAttestor

    path = folder / "waxseal.jsonl"
    log = AuditLog.open(path, attestor=FileAttestor(path, initial_key=KEY))
    payload = {"type": "lead.ingested", "actor": "ana", "lead_id": "L-12345", "workflow": "intake", "details": DETAILS}
    # It syncs a key file at every event, which would take a minute here and says nothing of verifying.
    with mock.patch("os.fsync"):
        for _ in range(PEER_EVENTS):
            log.append(payload=payload, payload_type="application/vnd.auditkit.event+json")

    def run() -> None:
        log = AuditLog.open(path, attestor=FileAttestor(path, initial_key=KEY))
        chain, seals = log.verify(), log.verify_attestations(initial_key=KEY)
        assert chain.ok, chain
        assert seals.ok, seals
        assert chain.checked == seals.checked == PEER_EVENTS

    return run


def _make_auditchain(folder: Path) -> Callable[[], None]:
    from auditchain import JsonlBackend, SyncAuditLog

    path = folder / "auditchain.jsonl"
    event = ("ana", "lead.ingested", "L-12345", {"workflow": "intake", "details": DETAILS})
    log = SyncAuditLog(JsonlBackend(path), seal_key=KEY)
    log.append_many([event] * PEER_EVENTS)
    log.close()

    def run() -> None:
        log = SyncAuditLog(JsonlBackend(path), seal_key=KEY)
        report = log.verify()
        log.close()
        assert report.ok, report
        assert report.records_checked == PEER_EVENTS

    return run


def _time(loops: dict[str, Callable[[], None]], turns: int) -> dict[str, list[float]]:
    """Time loops in turns, each turn every one once; gives the seconds of every turn."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for run in loops.values():
        run()
    for _ in range(turns):
        for name, run in loops.items():
            start = perf_counter()
            run()
            times[name].append(perf_counter() - start)
    return times


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _hash_files(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def measure_verifying(folder: Path) -> list[Figure]:
    """Measure both modes on a store of a million events."""
    path = folder / "million"
    record(path, EVENTS, 1)
    seal(path)
    trail = auditkit.open(path, secret_key=SECRET)
    files = sorted((path / "events").rglob("*.parquet"))
    size = sum(file.stat().st_size for file in files)
    fast = _time({"SHA-256": lambda: _hash_files(files), "fast": lambda: _verify(trail, deep=False)}, FAST_TURNS)
    deep = _time(
        {
            "deep": lambda: _verify(trail, deep=True),
            "waxseal": _make_waxseal(folder),
            "auditchain": _make_auditchain(folder),
        },
        TURNS,
    )
    for name in ("waxseal", "auditchain"):
        # A verifier that goes through all events takes as long for each of them, however many there are.
        deep[name] = [seconds * EVENTS / PEER_EVENTS for seconds in deep[name]]
    rates = {name: EVENTS / median(times) for name, times in deep.items()}
    told = ", ".join(f"{name} {version(name)}: {rates[name]:,.0f} events/s" for name in ("waxseal", "auditchain"))
    speed = f"{size / 1e6:.0f} MB in {median(fast['fast']) * 1e3:.0f} ms"
    cores = _count_cores()
    return [
        Figure("verifying files and ledger, against SHA-256 alone", 100 * compare(fast, "SHA-256", "fast"), "%", 80,
               note=speed),
        Figure("verifying every event", rates["deep"], "events/s", 400_000, note=f"{cores} cores"),
        Figure("verifying every event, against waxseal", compare(deep, "waxseal", "deep"), "×", 4, note=told),
        Figure("verifying every event, against auditchain", compare(deep, "auditchain", "deep"), "×", 8),
    ]  # fmt: skip


def measure_memory(folder: Path) -> list[Figure]:
    """Measure how much more memory five segments take than one of the same size; the helper's is added."""
    peaks = {}
    for days in (1, 5):
        path = folder / f"days-{days}"
        record(path, days * SEGMENT_EVENTS, days)
        seal(path)
        assert len(list((path / "events").rglob("*.parquet"))) == days
        peaks[days] = min(int(run_python(_PEAK, str(path))) for _ in range(2)) / 1024
    note = f"{peaks[1]:.0f} MB for one of {SEGMENT_EVENTS:,} events, {peaks[5]:.0f} MB for five, both processes"
    return [Figure("memory of verifying five segments, against one", peaks[5] / peaks[1], "×", at_most=1.2, note=note)]
