"""The store: sealing and finding among millions of events, and what an event costs on disk."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import auditkit
from benchmarks.measuring import Figure, run_python
from benchmarks.peers import SECRET

MILLION = 1_000_000

_RECORD = """
import random, sys
from datetime import datetime, timedelta, UTC
from auditkit import AuditLogger
path, count, days, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), datetime.fromisoformat(sys.argv[4])
audit = AuditLogger(path, secret_key="a secret for benchmarks only", enable_rotation=False)
chance = random.Random(7)
kinds = ("lead.ingested", "lead.qualified", "crm.created", "email.sent", "operation")
per_day = count // days
for day in range(days):
    start = first + timedelta(days=day)
    step = timedelta(days=1) / (per_day + 1)
    for i in range(per_day):
        kind = kinds[i % 5]
        timed = kind == "operation"
        audit.log_event(
            kind, {"source": "web form", "score": round(chance.random(), 3), "campaign": "autumn"}, "ana",
            f"L-{chance.randrange(count // 20)}", "intake", time=start + i * step,
            operation="crm.sync" if timed else None, duration=chance.random() if timed else None,
        )
audit.close()
"""

_SEAL = """
import sys, time
import auditkit
trail = auditkit.open(sys.argv[1], secret_key="a secret for benchmarks only")
start = time.perf_counter()
result = trail.seal()
print(result.events, time.perf_counter() - start)
"""


def record(path: Path, count: int, days: int) -> None:
    first = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    run_python(_RECORD, str(path), str(count), str(days), first.isoformat())


def seal(path: Path) -> tuple[int, float]:
    """Seal a store in a process of its own; gives how many events it sealed, and the seconds it took."""
    events, seconds = run_python(_SEAL, str(path)).split()
    return int(events), float(seconds)


def measure_sealing(folder: Path) -> list[Figure]:
    path = folder / "million"
    record(path, MILLION, 1)
    events, seconds = seal(path)
    assert events >= MILLION
    return [
        Figure("sealing a million events, every row compared with its line", seconds, "s", at_most=6),
    ]


def measure_lookup(folder: Path) -> list[Figure]:
    path = folder / "five-million"
    record(path, 5 * MILLION, 20)
    seal(path)
    trail = auditkit.open(path, secret_key=SECRET)
    segments = len(list((path / "events").glob("*/*.parquet")))
    trail.lead("L-1")
    times, absent = [], []
    for number in range(11):
        start = perf_counter()
        found = trail.lead(f"L-{number * 997 + 2}")
        times.append(perf_counter() - start)
        assert len(found) > 0
        start = perf_counter()
        assert trail.lead(f"M-{number}").empty
        absent.append(perf_counter() - start)
    times.sort()
    absent.sort()
    note = f"{segments} segments; {absent[5] * 1e3:.0f} ms for a lead that isn't there"
    return [Figure("one lead among 5 million events, warm", times[5] * 1e3, "ms", at_most=200, note=note)]


def measure_live(folder: Path) -> list[Figure]:
    path = folder / "live"
    record(path, 150_000, 1)
    trail = auditkit.open(path, secret_key=SECRET)
    times = []
    for number in range(11):
        start = perf_counter()
        found = trail.lead(f"L-{number * 97 + 2}")
        times.append(perf_counter() - start)
        assert len(found) > 0
    again = sorted(times[1:])[5] * 1e3
    size = sum(file.stat().st_size for file in (path / "journal").iterdir())
    note = f"{size / 1e6:.0f} MB; {times[0] * 1e3:,.0f} ms at the first look, which parses them"
    return [Figure("one lead among 150,000 events not sealed yet, again", again, "ms", at_most=300, note=note)]


def measure_import(folder: Path) -> list[Figure]:
    source = folder / "import.jsonl"
    with source.open("w") as file:
        start = datetime(2026, 3, 1, tzinfo=UTC)
        for i in range(MILLION):
            moment = (start + timedelta(milliseconds=80 * i)).isoformat()
            file.write(
                f'{{"at":"{moment}","what":"order.placed","who":"user-{i % 977}","lead":"L-{i % 50_000}",'
                f'"amount":{i % 1000},"channel":"web","country":"PT"}}\n'
            )
    code = """
import sys, time
from auditkit import AuditLogger
from auditkit.importing import Mapping, import_file
mapping = Mapping.from_pairs(["time=at", "type=what", "actor=who", "lead_id=lead"], name="benchmark")
audit = AuditLogger(sys.argv[2], secret_key="a secret for benchmarks only")
start = time.perf_counter()
result = import_file(sys.argv[1], audit, mapping)
print(result.imported, result.rejected, time.perf_counter() - start)
audit.close()
"""
    imported, rejected, seconds = run_python(code, str(source), str(folder / "imported")).split()
    assert (int(imported), int(rejected)) == (MILLION, 0)
    return [Figure("importing a million JSON lines", float(seconds), "s", at_most=30)]


def measure_storage(folder: Path) -> list[Figure]:
    output = folder / "demo"
    command = [sys.executable, "-m", "auditkit", "demo", "--output", str(output), "--events", "100000"]
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = perf_counter() - start
    trail = auditkit.open(output / "audit", key_file=output / "demo.key")
    trail.seal()
    size = sum(path.stat().st_size for path in (output / "audit").rglob("*") if path.is_file())
    events = trail.count(include_internal=True)
    note = f"{events:,} events, signatures and ledger included; recorded and reported in {seconds:.0f} s"
    return [Figure("storage of the demo's data", size / events, "bytes/event", at_most=60, note=note)]
