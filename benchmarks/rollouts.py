"""What a rollout's statistics cost and what they promise: `python -m benchmarks.rollouts [--table]`.

Without arguments: microseconds for each update. With `--table`: by simulation, how often an equal challenger is taken back,
and how many challenger units it takes to find a worse one.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.stages.monitoring.cohorts import Joiner
from falaj.stages.rollouts import eprocess
from falaj.stages.rollouts.rules import Block, advance, begin, feed, threshold_of_harm
from falaj.stages.rollouts.spec import Canary

T0 = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ROLLOUT = Ref("rollout", "delay", "1")
PLAN = Canary(steps=(0.05, 0.25, 0.5), step_units=100)
ALONE = replace(PLAN, guards=("wrong",))


def microseconds(work: Callable[[], object], repeats: int) -> float:
    work()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return round((time.perf_counter() - started) / repeats * 1e6, 1)


def costs() -> dict[str, float]:
    """Microseconds of one update, by kind."""
    n, x = (600, 200), (120, 44)
    harm = eprocess.update(eprocess.begin(3), n, x, side="harm", delta=0.0)
    margin = eprocess.update(eprocess.begin(), n, x, side="inferior", delta=0.05)
    band = eprocess.widen(eprocess.Band(), n, x)
    split = eprocess.assign(eprocess.Split(), n, 0.25)
    first, second = (
        [Block(g, 0, millis(T0 + day * DAY), millis(T0 + (day + 1) * DAY), n, x, n) for g in PLAN.guards] for day in (0, 1)
    )
    status = feed(PLAN, begin(PLAN, T0), first)
    joiner = Joiner(cohort=DAY, maturity=DAY)
    record = {
        "kind": "prediction",
        "id": "p0-1-13e5d9a6680-0000000000000000",
        "arm": "champion",
        "model": "model/delay@1",
        "share": 0.75,
        "unit": "2013-01-01-UA-1545-EWR",
        "request_id": "r1",
        "features": [1.0] * 30,
        "score": 0.2,
        "ms": 1.0,
        "forced": False,
    }
    return {
        "harm, no tolerance": microseconds(lambda: eprocess.update(harm, n, x, side="harm", delta=0.0, started=3), 2000),
        "inferiority, margin": microseconds(lambda: eprocess.update(margin, n, x, side="inferior", delta=0.05), 1000),
        "confidence sequence": microseconds(lambda: eprocess.widen(band, n, x), 300),
        "split": microseconds(lambda: eprocess.assign(split, n, 0.25), 5000),
        "decision on three guards": microseconds(lambda: advance(PLAN, status, second, T0 + 2 * DAY, subject=ROLLOUT), 200),
        "one prediction of 30 features into its cohort": microseconds(lambda: joiner.add(record), 5000),
    }


def live(rng: np.random.Generator, rate: Callable[[int], float], extra: float, per_day: int) -> tuple[str, int, int]:
    """(how it ended, days, challenger units) of one rollout on `wrong` alone, with labels at the end of each day."""
    status, seen = begin(ALONE, T0), 0
    for day in range(90):
        n_b = int(rng.binomial(per_day, status.share))
        n = (per_day - n_b, n_b)
        base = min(max(rate(day), 0.0), 1.0)
        x = (int(rng.binomial(n[0], base)), int(rng.binomial(n_b, min(base + extra, 1.0))))
        block = Block("wrong", status.step, millis(T0 + day * DAY), millis(T0 + (day + 1) * DAY), n, x, n)
        seen += n_b
        status, _ = advance(ALONE, status, [block], T0 + (day + 1) * DAY, subject=ROLLOUT)
        if not status.is_live:
            return status.state, day + 1, seen
    return "inconclusive", 90, seen


def table(runs: int, per_day: int, seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    bases: dict[str, Callable[[int], float]] = {
        "steady 20 %": lambda _day: 0.2,
        "10 to 35 % and back": lambda day: 0.1 + 0.25 * abs(math.sin(day / 6)),
        "20 %, swinging by 8 points a day": lambda _day: 0.2 + float(rng.normal(0, 0.08)),
    }
    rows: list[dict[str, object]] = []
    for base, rate in bases.items():
        for extra in (0.0, 0.02, 0.05, 0.1):
            lives = [live(rng, rate, extra, per_day) for _ in range(runs)]
            row: dict[str, object] = {"base": base, "extra": extra, "runs": runs}
            for state in ("rolled_back", "promoted", "inconclusive"):
                some = [run for run in lives if run[0] == state]
                row[state] = round(len(some) / runs, 3)
                if some:
                    row[f"{state}: median days, challenger units"] = [int(np.median([run[i] for run in some])) for i in (1, 2)]
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="simulate false alarms and detection")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--per-day", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not asked.table:
        found = costs()
        print(json.dumps(found) if asked.json else "\n".join(f"{value:9.1f} µs  {name}" for name, value in found.items()))
        return
    rows = table(asked.runs, asked.per_day, asked.seed)
    if asked.json:
        print(json.dumps(rows))
        return
    needed = math.exp(threshold_of_harm(ALONE))
    print(f"{asked.per_day} units a day, steps {ALONE.steps}, the guard `wrong` alone, taken back at E >= {needed:.0f}")
    for row in rows:
        print("; ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
