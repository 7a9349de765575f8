"""Recording: one signed, chained event against the loggers people use, alone, in threads and in processes."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.measuring import Figure, compare, median, run_python, time_in_turns
from benchmarks.peers import make_auditkit, make_bare, make_logging, make_structlog

CALLS = 5_000
TURNS = 60


def measure_single(folder: Path) -> list[Figure]:
    loops = {
        "auditkit": make_auditkit(folder),
        "logging": make_logging(folder),
        "structlog": make_structlog(folder),
        "bare loop": make_bare(folder),
    }
    times = time_in_turns(loops, CALLS, TURNS)
    microseconds = {name: median(values) for name, values in times.items()}
    note = ", ".join(f"{name} {value:.2f} µs" for name, value in microseconds.items())
    return [
        Figure("log_event, against logging with a JSON formatter", compare(times, "logging", "auditkit"), "×", 2.5),
        Figure("log_event, against structlog with orjson", compare(times, "structlog", "auditkit"), "×", 1.2),
        Figure("its steps in a bare loop, against structlog", compare(times, "structlog", "bare loop"), "×"),
        Figure("log_event, one core", 1e6 / microseconds["auditkit"], "events/s", 100_000, note=note),
    ]


def _run_threads(run: Callable[[int], None], calls: int) -> float:
    threads = [threading.Thread(target=run, args=(calls,)) for _ in range(4)]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - start


def measure_threads(folder: Path) -> list[Figure]:
    ours, theirs = make_auditkit(folder / "threads"), make_structlog(folder, "threads.jsonl")
    ratios = [_run_threads(theirs, CALLS) / _run_threads(ours, CALLS) for _ in range(15)]
    return [Figure("log_event in four threads, against structlog", statistics.median(ratios), "×", 1.3)]


def _work(kind: str, folder: str, number: int, calls: int, start: object, done: object) -> None:
    path = Path(folder)
    run = make_auditkit(path) if kind == "auditkit" else make_structlog(path, f"process-{number}.jsonl")
    run(100)
    start.wait()  # type: ignore[attr-defined]
    run(calls)
    done.wait()  # type: ignore[attr-defined]


def _run_processes(kind: str, folder: Path, calls: int) -> float:
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(5), context.Barrier(5)
    processes = [
        context.Process(target=_work, args=(kind, str(folder), number, calls, start, done)) for number in range(4)
    ]
    for process in processes:
        process.start()
    start.wait()
    begin = perf_counter()
    done.wait()
    seconds = perf_counter() - begin
    for process in processes:
        process.join()
    return seconds


def measure_processes(folder: Path) -> list[Figure]:
    calls = 200_000
    ratios = []
    for _ in range(5):
        theirs = _run_processes("structlog", folder, calls)
        ratios.append(theirs / _run_processes("auditkit", folder / "processes", calls))
    return [Figure("log_event in four processes on one store, against structlog", statistics.median(ratios), "×", 1.1)]


_STEADY = """
import gc, os, resource, sys, time
from auditkit import AuditLogger
from time import perf_counter_ns
from array import array
audit = AuditLogger(sys.argv[1], secret_key="a secret for benchmarks only", max_file_size_mb=50)
log_event = audit.log_event
details = {"source": "web form", "score": 0.75, "campaign": "autumn"}
took = array("q", bytes(8 * 1_000_000))
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for _ in range(20_000):
    log_event("lead.ingested", details, "ana", "L-12345", "intake")
for i in range(len(took)):
    took[i] = 0
gc.collect()
before = resident()
for i in range(1_000_000):
    start = perf_counter_ns()
    log_event("lead.ingested", details, "ana", "L-12345", "intake")
    took[i] = perf_counter_ns() - start
grown = resident() - before
ordered = sorted(took)
import pathlib
sealed = len(list(pathlib.Path(sys.argv[1], "ledger").glob("*.commit")))
print(grown, ordered[999_000], sealed)
audit.close()
"""


def measure_steady(folder: Path) -> list[Figure]:
    grown, slowest, sealed = map(int, run_python(_STEADY, str(folder / "steady")).split())
    note = f"{sealed} sealings by child processes meanwhile"
    return [
        Figure("memory grown over a million events while sealing goes on", grown / 1e6, "MB", at_most=2, note=note),
        Figure("p99.9 of log_event while sealing goes on", slowest / 1e6, "ms", at_most=0.5),
    ]


def measure_startup(folder: Path) -> list[Figure]:
    code = "import time; start = time.perf_counter(); import auditkit; print(time.perf_counter() - start)"
    # An installed package is compiled; a checkout may not be, if its owner has told Python to write no bytecode.
    compiled = {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    times = [float(run_python(code, **compiled)) * 1e3 for _ in range(16)][1:]
    helps = [_time_help(compiled) for _ in range(16)][1:]
    return [
        Figure("import auditkit, above a bare interpreter", statistics.median(times), "ms", at_most=60),
        Figure("auditkit query --help, the whole process", statistics.median(helps) * 1e3, "ms", at_most=200),
    ]


def _time_help(environment: dict[str, str]) -> float:
    start = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "auditkit", "query", "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    return perf_counter() - start
