"""Kills a process again and again while it fills an online store, and compares what comes of it with an undisturbed run.

By hand: python -m tests.crash.materialise_kill --rounds 50 [--redis redis://127.0.0.1:6379/0]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from falaj.adapters import open_adapter
from falaj.core.asset import Asset
from falaj.ports.online import Online, Stored
from falaj.stages.features import packing
from falaj.stages.features.refresh import Refresh
from falaj.stages.features.spec import View, WindowView, count, mean

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=30)
STEPS = 24
ENTITIES, EVENTS = 3_000, 12_000
LATEST = View("latest", "rows", entity="entity", features=("a", "b"), time="at")
RECENT = WindowView(
    "recent", "rows", entity="entity", time="at", windows=("1h", "6h"), every="30m", aggregates=(mean("a"), count("n")), ttl="12h"
)
VIEWS = (LATEST, RECENT)


class Rows:
    """The same rows for every process: drawn from a seed, known at their time."""

    def __init__(self) -> None:
        draw = np.random.default_rng(11)
        at = [START + timedelta(seconds=s) for s in np.sort(draw.integers(0, STEPS * 1_800, EVENTS)).tolist()]
        who = draw.integers(0, ENTITIES, EVENTS)
        self.table = pl.DataFrame(
            {
                "entity": [f"e{n}" for n in who],
                "at": at,
                "a": draw.normal(size=EVENTS),
                "b": draw.integers(0, 1 << 60, EVENTS),
            },
            schema_overrides={"at": pl.Datetime("ms", "UTC")},
        )

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        return self.table.filter((pl.col("at") <= until) & (True if since is None else pl.col("at") > since))

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.DataFrame:
        return self.recent(name, since, until or START + STEPS * STEP)

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Literal["time", "known"] = "time"
    ) -> list[Asset]:
        return []


def materialise(online: Online) -> None:
    """Goes on from where the store is, step by step, to the last one."""
    packing.BATCH = 500  # several steps for each refresh, so that a kill falls between them too
    refresh = Refresh(Rows(), online)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    done = [refresh.until(view.name) for view in VIEWS]
    first = 1 if None in done else max(1, min((at - START) // STEP for at in done if at is not None))
    for step in range(first, STEPS + 1):
        read: dict[Any, Any] = {}
        for view in VIEWS:
            refresh.advance(view, START + step * STEP, read)


def contents(online: Online) -> dict[str, Any]:
    """Everything in the store: rows, counts, newest times and marks."""
    names = [f"e{n}" for n in range(ENTITIES)]
    found: dict[str, Any] = {}
    for view in VIEWS:
        rows: list[Stored | None] = online.get([(view.name, name) for name in names])
        found[view.name] = rows, online.count(view.name), online.freshness(view.name), online.mark(view.name)
    return found


@dataclass(frozen=True)
class Outcome:
    kills: int
    met_midway: int
    """Kills before the process had come to its end."""
    differing: list[int]

    def __str__(self) -> str:
        differing = f"{len(self.differing)} stores differ from an undisturbed one"
        return f"{self.kills} kills, {self.met_midway} before the end, {differing}"


def kill_and_compare(folder: Path, rounds: int, *, redis_url: str = "", seed: int = 1, every: int = 10) -> Outcome:
    """`rounds` kills at random moments; after each `every` of them the store is finished, compared and begun anew."""
    wanted_store = _open(folder / "undisturbed", redis_url)
    start = time.monotonic()
    materialise(wanted_store)
    length, wanted = time.monotonic() - start, contents(wanted_store)
    wanted_store.close()
    chance, midway, differing, done = random.Random(seed), 0, [], 0
    while done < rounds:
        place = folder / f"killed-{done}"
        for _ in range(min(every, rounds - done)):
            command = [sys.executable, "-m", "tests.crash.materialise_kill", "--child", str(place), "--redis", redis_url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "started\n"
                time.sleep(chance.uniform(0, length / every * 2))
                midway += child.poll() is None
                child.kill()
            done += 1
        store = _open(place, redis_url)
        materialise(store)
        if contents(store) != wanted:
            differing.append(done)
        store.close()
    return Outcome(done, midway, differing)


def _open(place: Path, redis_url: str) -> Online:
    if redis_url:
        return open_adapter("online", "redis", url=redis_url, project=str(place))  # type: ignore[no-any-return]
    return open_adapter("online", "lmdb", folder=place)  # type: ignore[no-any-return]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", default="")
    parser.add_argument("--child", type=Path)
    asked = parser.parse_args()
    if asked.child:
        materialise(_open(asked.child, asked.redis))
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcome = kill_and_compare(Path(folder), asked.rounds, redis_url=asked.redis, seed=asked.seed)
            print(outcome)  # noqa: T201
            sys.exit(bool(outcome.differing))
