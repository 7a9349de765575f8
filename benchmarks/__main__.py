"""Run the benchmarks: ``python -m benchmarks [NAME …]``. Ends with 1 if a target was missed."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import recording, storing, verifying
from benchmarks.measuring import Figure

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "single": recording.measure_single,
    "threads": recording.measure_threads,
    "processes": recording.measure_processes,
    "steady": recording.measure_steady,
    "startup": recording.measure_startup,
    "sealing": storing.measure_sealing,
    "verifying": verifying.measure_verifying,
    "verifying-memory": verifying.measure_memory,
    "import": storing.measure_import,
    "lookup": storing.measure_lookup,
    "live": storing.measure_live,
    "storage": storing.measure_storage,
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"expected names out of {', '.join(BENCHMARKS)}, found {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print("| what | figure | target | |\n|---|---|---|---|")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="auditkit-bench-") as folder:
        # Keys of benchmark stores stay out of the user's key folder.
        os.environ["XDG_DATA_HOME"] = f"{folder}/data"
        for name in names or BENCHMARKS:
            place = Path(folder, name)
            place.mkdir()
            for figure in BENCHMARKS[name](place):
                missed += not figure.holds
                print(
                    f"| {figure.name} | {_show(figure.value)} {figure.unit} | {figure.target} | "
                    f"{'' if figure.holds else 'MISSED '}{figure.note} |",
                    flush=True,
                )
    return 1 if missed else 0


def _show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
