"""Twenty checks of a contract over ten million rows, against one bare polars query and against Great Expectations.

Each is measured in a process of its own that has read the same file before the clock starts; its peak memory holds the table.
CPU time, best of five; Great Expectations once, naming the rows that break each check, as falaj does, and once answering yes
or no, which is the least that it can be asked for. The table's key is in order, as the keys of loads mostly are, and is
judged by its neighbours, in the bare query too; a key in disorder costs both as much again.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.figure import Figure, show
from benchmarks.peers import ask
from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.expression import read as expression
from falaj.stages.contracts.rules import Judge, check, rules_of

ROWS = int(os.environ.get("FALAJ_BENCH_ROWS", "10000000"))
GX_ROWS = int(os.environ.get("FALAJ_BENCH_GX_ROWS", str(ROWS)))
ROUNDS = 5
ZONES, PAYMENTS = tuple(f"zone {n:02d}" for n in range(40)), ("card", "cash", "free")
KINDS = {
    "id": "integer", "at": "timestamp", "known_at": "timestamp", "zone": "string", "payment": "string", "plate": "string",
    "miles": "number", "fare": "number", "tip": "number", "seats": "integer",
}  # fmt: skip


def contract() -> Contract:
    """Presence 4, uniqueness 1, limits 6, sets 2, pattern 1, length 1, columns compared 2, mean, maximum and row count."""
    limits = {"miles": ((">=", 0), ("<=", 500)), "seats": ((">=", 0), ("<=", 9)), "fare": ((">=", 0), ("<=", 1000))}
    columns = tuple(
        Column(
            name,
            kind,
            required=name in ("id", "at", "zone", "miles"),
            unique=name == "id",
            limits=limits.get(name, ()),
            pattern="^[A-Z]{2}[0-9]{4}$" if name == "plate" else "",
            lengths=(None, 6) if name == "plate" else (None, None),
        )
        for name, kind in KINDS.items()
    )
    checks = (
        Quality("a known zone", "invalidValues", ("zone",), values=ZONES),
        Quality("a known payment", "invalidValues", ("payment",), values=PAYMENTS),
        Quality("known after it happened", "expression", expression=expression("known_at >= at", KINDS)),
        Quality("a tip below the fare", "expression", expression=expression("tip <= fare", KINDS)),
        Quality("usual miles", "mean", ("miles",), "between", (1, 100)),
        Quality("usual fares", "maximum", ("fare",), "<=", 5000),
        Quality("rows", "rowCount", (), ">=", 1),
    )
    return Contract("trips", "1", "", columns, checks)


def table(rows: int) -> pl.DataFrame:
    """Trips, of which one in a thousand breaks a rule, each another one."""
    n = pl.int_range(rows, dtype=pl.Int64)
    wild = (n * 2_654_435_761) % 2_147_483_647
    at = pl.lit(datetime(2013, 1, 1, tzinfo=UTC)).cast(pl.Datetime("ms", "UTC")) + pl.duration(milliseconds=n * 1000)
    return pl.select(
        id=pl.when(n % 9000 == 8999).then(n - 1).otherwise(n),
        at=pl.when(n % 9000 == 1).then(None).otherwise(at),
        known_at=pl.when(n % 9000 == 2).then(at - pl.duration(hours=1)).otherwise(at + pl.duration(minutes=30)),
        zone=pl.when(n % 9000 == 3)
        .then(pl.lit("nowhere"))
        .otherwise(pl.format("zone {}", (wild % 40).cast(pl.String).str.zfill(2))),
        payment=pl.when(wild % 3 == 0).then(pl.lit("card")).when(wild % 3 == 1).then(pl.lit("cash")).otherwise(pl.lit("free")),
        plate=pl.when(n % 9000 == 4).then(pl.lit("?")).otherwise(pl.format("AB{}", (wild % 10_000).cast(pl.String).str.zfill(4))),
        miles=pl.when(n % 9000 == 5).then(-1.0).otherwise((wild % 1000) / 25.0),
        fare=pl.when(n % 9000 == 6).then(2000.0).otherwise(3 + (wild % 9973) / 100.0),
        tip=pl.when(n % 9000 == 7).then(3000.0).otherwise((wild % 300) / 100.0),
        seats=pl.when(n % 9000 == 8).then(11).otherwise(wild % 5),
    )


def bare(rows: pl.DataFrame, made: Contract) -> Callable[[], object]:
    """What somebody would write by hand who knows the rules: one query that counts what breaks each, without casts or split."""
    numbers = [column.name for column in made.columns if column.kind == "number"]
    finite = [(~pl.col(name).is_finite()).sum().alias(f"finite {name}") for name in numbers]
    rules = [rule for rule in rules_of(made, rows.schema) if " is a finite " not in rule.name]
    wanted = [rule.broken.sum().alias(rule.name) for rule in rules]
    figures = [pl.col("miles").mean().alias("usual miles"), pl.col("fare").max().alias("usual fares"), pl.len().alias("rows")]
    return lambda: rows.lazy().select(*finite, *wanted, *figures).collect()


def judged(rows: pl.DataFrame, made: Contract) -> list[Any]:
    """Every check, and of each that failed how many rows, which, and a sample."""
    judge = Judge(made, rows.schema)
    judge.look(rows)
    return [judge.checks(), judge.findings()]


def measure(which: str, file: str) -> dict[str, Any]:
    rows, made = pl.read_parquet(file), contract()
    work: Mapping[str, Callable[[], Any]] = {
        "bare": bare(rows, made), "checks": lambda: judged(rows, made), "split": lambda: check(rows, made),
    }  # fmt: skip
    times = []
    for _ in range(ROUNDS):
        started, cpu = time.perf_counter(), time.process_time()
        found = work[which]()
        times.append((time.perf_counter() - started, time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"checks": len(found[0])} if which == "checks" else {"kept_out": found.quarantined} if which == "split" else {}
    return {"seconds": min(times)[0], "cpu": min(each[1] for each in times), "peak_mb": peak, **told}


def apart(which: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.contracts", which, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file, small = Path(folder) / "trips.parquet", Path(folder) / "fewer.parquet"
        table(ROWS).write_parquet(file, compression="lz4")
        # They alternate, and the better of two counts: so that all see the same machine.
        runs = [{which: apart(which, file) for which in ("bare", "checks", "split")} for _ in range(2)]
        least, ours, split = (min((run[n] for run in runs), key=lambda r: r["cpu"]) for n in ("bare", "checks", "split"))
        if GX_ROWS != ROWS:
            table(GX_ROWS).write_parquet(small, compression="lz4")
        peer = ask("great_expectations", "gx_checks", str(small if GX_ROWS != ROWS else file), timeout=3600)
    times = ROWS / peer["rows"]
    how = "" if times == 1 else f", measured at {peer['rows']:,} rows and scaled"
    rows_named, yes_or_no = peer["complete"] * times, peer["boolean"] * times
    mine, twice = ours["cpu"] * 1000, split["cpu"] * 1000
    clock = f"{ours['seconds'] * 1000:,.0f} ms on the clock, bare {least['seconds'] * 1000:,.0f}"
    named = f"it took {rows_named * 1000:,.0f} ms{how}: {rows_named / ours['cpu']:.1f} times as much"
    told = f"it took {yes_or_no * 1000:,.0f} ms{how}: {yes_or_no / ours['cpu']:.1f} times as much"
    over, over_split = ours["cpu"] / least["cpu"], split["cpu"] / least["cpu"]
    gx = f"{peer['checks']} of Great Expectations {peer['version']}"
    return show(
        [
            Figure(f"{ours['checks']} checks of {ROWS:,} rows", mine, "ms", "one bare query", over, 1500 * least["cpu"], clock),
            Figure(f"beside {gx}", mine, "ms", "it, naming rows", ours["cpu"] / rows_named, 100 * rows_named, named),
            Figure("beside the same, yes or no only", mine, "ms", "it", ours["cpu"] / yes_or_no, None, told),
            Figure("with the split", twice, "ms", "one bare query", over_split, None, f"{split['kept_out']:,} rows kept out"),
            Figure(
                "peak memory of the checks, table included", ours["peak_mb"], "MB", "bare", ours["peak_mb"] / least["peak_mb"]
            ),
            Figure("peak memory with the split", split["peak_mb"], "MB", "bare", split["peak_mb"] / least["peak_mb"]),
            Figure("peak memory of Great Expectations", peer["peak_mb"], "MB", note=f"{peer['rows']:,} rows"),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
    else:
        sys.exit(main())
