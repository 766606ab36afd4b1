"""Scoring a Parquet file, beside the model alone: rows a second from file to files, and the memory that a longer file takes.

The same model and rows for both, in one process and on one thread: `session.run` in batches of 8,192 rows that are in memory
already, and a whole scoring, from reading the file to the receipt. Processor time, since the machine is shared. The model is
that of `benchmarks.serving`: 200 trees of 31 leaves, 20 columns.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.figure import Figure, show
from benchmarks.serving import COLUMNS, RECIPE, _onnx
from falaj.adapters.files.source import FilesSource
from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.inference.models import Model
from falaj.stages.action import Kernel
from falaj.stages.features.rules import vectors
from falaj.stages.scoring.rules import BATCH, Named
from falaj.stages.scoring.service import Job, Scorer, Scoring, Table

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROWS = 262_144
ME = Actor("bench", "service", ("service",))
MODEL = Ref("model", "bench", "1")


def main() -> int:
    if sys.argv[1:2] == ["memory"]:
        with tempfile.TemporaryDirectory() as folder:
            _score(Path(folder), _onnx(), int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return 0
    return show(figures())


def figures() -> Iterator[Figure]:
    data = _onnx()
    alone = _alone(data)
    yield Figure("the model alone", ROWS / alone / 1000, "krows", note=f"{alone / ROWS * 1e6:.1f} µs a row, batches of {BATCH:,}")
    for name, rows in (("requests", _requests), ("vectors", _vectors)):
        with tempfile.TemporaryDirectory() as folder:
            seconds = _score(Path(folder), data, ROWS, rows)
        yield Figure(
            f"a file of {name}, scored", ROWS / seconds / 1000, "krows", "the model's time", seconds / alone,
            note="from Parquet to Parquet, a second of one processor",
        )  # fmt: skip
    small, large = (_memory(rows) for rows in (ROWS, 6 * ROWS))
    yield Figure("memory for a file of 6 times the rows", large, "MiB", "that for one", large / small, budget=1.3 * small)


def _requests(rows: int, seed: int) -> pl.DataFrame:
    return _vectors(rows, seed).with_columns(at=pl.lit(NOW).cast(pl.Datetime("ms", "UTC")), id=pl.int_range(rows))


def _vectors(rows: int, seed: int) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    return pl.DataFrame({f"x{n}": chance.normal(size=rows).astype(np.float32) for n in range(COLUMNS)})


def _alone(data: bytes) -> float:
    """Processor seconds of the model for all rows."""
    session = Model(data, RECIPE, {})._session
    matrix = _vectors(ROWS, 1).to_numpy()
    started = time.process_time()
    for start in range(0, ROWS, BATCH):
        session.run(None, {"input": np.ascontiguousarray(matrix[start : start + BATCH])})
    return time.process_time() - started


def _score(folder: Path, data: bytes, rows: int, make: Callable[[int, int], pl.DataFrame] = _requests) -> float:
    """Processor seconds of a whole scoring."""
    (folder / "in").mkdir()
    for number in range(rows // ROWS):
        make(ROWS, number + 1).write_parquet(folder / "in" / f"{number}.parquet", row_group_size=50_000)
    ledger, blobs = MemoryLedger(), MemoryBlobs()
    with ledger.transaction() as tx:
        tx.append(Event("model.register", MODEL, ME, NOW, {}, (Change("model", "bench@1", {"gate": "allow"}),)))
    held = Model(data, RECIPE, {})
    source = FilesSource(folder=folder, path="in", format="parquet")
    table = Table(lambda: source.read(None, NOW), f"sha256:{rows}", ())
    scorer = Scorer(RECIPE, lambda x: np.array(held.scores(held.run(x))), "sha256:model", Named("model/bench", "1", 0.5))
    job = Job(table, scorer, lambda recipe, spine: (vectors(recipe, spine, {}, {})[0], [None] * spine.height), folder / "out")
    started = time.process_time()
    Scoring(Kernel(ledger, RolePolicy(), lambda: NOW), blobs).score(ME, MODEL, job=job, run_id="bench")
    return time.process_time() - started


def _memory(rows: int) -> int:
    """MiB that a process needs at most which scores so many rows."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.score", "memory", str(rows)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
