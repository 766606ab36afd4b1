"""Kills a load of many parts with -9 at random moments, resumes it, and compares what is kept with an undisturbed run.

python -m tests.crash.ingest_kill --rounds 50
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from falaj.adapters.local.blobs import FileBlobs
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.policy import RolePolicy
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.ports.source import Origin
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset, From

DAY = datetime(2013, 1, 1, tzinfo=UTC)
ROWS, PART, LOADS = 60_000, 4_000, 3
LOADER = Actor("loader", "service", ("service",))
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: 5b1c
version: 1.0.0
status: active
schema:
  - name: trips
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: at, logicalType: timestamp, required: true}
      - {name: known_at, logicalType: timestamp, required: true}
      - {name: miles, logicalType: number, logicalTypeOptions: {minimum: 0}}
      - {name: zone, logicalType: string}
"""


class Trips:
    """Rows of which one in a hundred is broken, and one in a thousand has a key again."""

    capabilities = frozenset({"known", "bounded"})
    origin = Origin("test://here", "trips")

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        first = 0 if since is None else (since - DAY).days * ROWS
        for start in range(first, (until - DAY).days * ROWS, 3_001):
            number = pl.int_range(start, min(start + 3_001, (until - DAY).days * ROWS), eager=True)
            at = (number // ROWS).cast(pl.Int64) * 86_400_000 + (number % ROWS) * 1_000 + 1
            yield pl.DataFrame({"id": number, "at": at}).select(
                pl.when(number % 1000 == 999).then(number - 900).otherwise(number).alias("id"),
                (pl.lit(DAY).cast(pl.Datetime("ms", "UTC")) + pl.duration(milliseconds="at")).alias("at"),
                (pl.lit(DAY).cast(pl.Datetime("ms", "UTC")) + pl.duration(milliseconds="at")).alias("known_at"),
                pl.when(number % 100 == 7).then(-1.0).otherwise((number * 7919 % 1013).cast(pl.Float64)).alias("miles"),
                (pl.lit("zone ") + (number % 17).cast(pl.String)).alias("zone"),
            )


def contracts_in(folder: Path) -> Contracts:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trips.odcs.yaml").write_text(CONTRACT)
    ledger = SqliteLedger(folder / "ledger.db", folder / "ledger.ed25519", "falaj/kill")
    kernel = Kernel(ledger, RolePolicy(), lambda: DAY)
    dataset = Dataset("trips", "trips.odcs.yaml", From("trips"), time="at", known="known_at")
    return Contracts(
        kernel, FileBlobs(folder / "blobs"), {"trips": dataset}, folder,
        open_source=lambda _spec: Trips(), drafts=folder / "drafts", part_rows=PART,
    )  # fmt: skip


def load(folder: Path) -> None:
    """Takes in every period, one after the other, from wherever it was left."""
    contracts = contracts_in(folder)
    print("ready", flush=True)  # noqa: T201
    for number in range(LOADS):
        contracts.ingest(LOADER, Ref("dataset", "trips"), until=DAY + timedelta(days=number + 1))


def kept(folder: Path) -> list[tuple[Any, ...]]:
    """What anybody can see: each snapshot with its digests, and the rows that were kept out."""
    contracts = contracts_in(folder)
    try:
        found: list[tuple[Any, ...]] = [
            (str(a.ref), a.digest, a.labels["rows"], a.labels["parts"], a.labels["profile"], a.labels["report"])
            for a in contracts.assets("trips")
        ]
        rows = contracts.scan("trips").select(pl.len(), pl.col("id").n_unique()).collect().row(0)
        return [*found, rows, int(contracts.quarantine("trips").hash_rows(1).sum())]
    finally:
        contracts.kernel.ledger.close()


@dataclass
class Seen:
    kills: int = 0
    runs: int = 0
    half_visible: int = 0
    """Snapshots that could be seen and were not those of the undisturbed run."""
    differing: int = 0
    """Runs whose end was not that of the undisturbed run."""
    left: int = 0
    """Drafts that were there after a run had ended."""


def play(rounds: int, folder: Path, seed: int = 1) -> Seen:
    """Kills loads `rounds` times in all; each run is resumed until it ends, then the next begins."""
    seen, chance = Seen(), random.Random(seed)
    started = time.monotonic()
    load(folder / "calm")
    calm, usual = kept(folder / "calm"), time.monotonic() - started
    while seen.kills < rounds:
        place = folder / f"run-{seen.runs}"
        while True:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.ingest_kill", "--load", str(place)], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            child.stdout.readline()
            try:
                if seen.kills < rounds:
                    child.wait(timeout=chance.uniform(0, usual))
                code = child.wait() if seen.kills >= rounds else child.poll()
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                code = child.wait()
                seen.kills += 1
            child.stdout.close()
            if code == 0:
                break
            visible = kept(place)[:-2]
            seen.half_visible += visible != calm[: len(visible)]
        seen.runs += 1
        seen.differing += kept(place) != calm
        seen.left += len(list((place / "drafts").iterdir()))
        shutil.rmtree(place)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(datetime.now(UTC).timestamp()))
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        load(given.load)
        return
    folder = Path(tempfile.mkdtemp(prefix="falaj-kill-"))
    try:
        seen = play(given.rounds, folder, given.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(  # noqa: T201
        f"killed {seen.kills} times in {seen.runs} runs; half-written snapshots seen: {seen.half_visible}; "
        f"runs that ended otherwise than the undisturbed one: {seen.differing}; drafts left: {seen.left}"
    )


if __name__ == "__main__":
    main()
