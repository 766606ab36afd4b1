"""How long the first word takes: `import falaj` and `falaj --help`, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.figure import Figure, show

ROUNDS = 9
CASES = (
    # name, what runs, budget in milliseconds
    ("import falaj", ["-c", "import falaj"], 150.0),
    ("falaj --help", ["-m", "falaj", "--help"], 300.0),
    ("falaj model promote --help", ["-m", "falaj", "model", "promote", "--help"], 300.0),
    ("import falaj.app", ["-c", "import falaj.app"], None),
    ("import falaj.api.serve", ["-c", "import falaj.api.serve"], None),
)


def figures() -> Iterator[Figure]:
    least = _milliseconds(["-c", "pass"])
    yield Figure("python -c pass", least, "ms")
    for name, argv, budget in CASES:
        took = _milliseconds(argv)
        yield Figure(name, took, "ms", "python -c pass", took / least, budget, f"{_modules(argv)} modules")


def _milliseconds(argv: list[str]) -> float:
    """The median; the first round only fills the caches."""
    taken = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *argv], stdout=subprocess.DEVNULL, check=True)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken[1:])


def _modules(argv: list[str]) -> int:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True, check=True)
    return sum(line.startswith("import time:") for line in done.stderr.splitlines()) - 1


if __name__ == "__main__":
    raise SystemExit(show(figures()))
