"""Online features: reading 100 entities, 20 features in three views, and filling a store, beside Feast's SDK on the same stores.

The same entities, features and stores for both, the servers started here. A read is timed from the call to plain Python
values; p50 and p99 of a round, the best of ten rounds, for both: whoever else uses the machine disturbs some rounds, not all.
Where the store is embedded, all of a read is this thread's CPU time, whose p99 says the same on a machine that is never quiet.
Feast is measured in a process of its own (benchmarks/peers/feast_online.py), right before.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import lmdb
import numpy as np
import polars as pl
import pytest

from benchmarks.figure import Figure, show
from benchmarks.peers import ask
from falaj.adapters.local.online import LmdbOnline
from falaj.adapters.postgres.online import PostgresOnline
from falaj.adapters.redis.online import RedisOnline
from falaj.core.asset import Asset
from falaj.core.stored import pack
from falaj.ports.online import Online, Stored
from falaj.stages.features.refresh import Refresh
from falaj.stages.features.spec import View
from tests.kits.servers import postgresql_server, redis_server

VIEWS = {"one": 7, "two": 7, "three": 6}
ENTITIES, ASKED = 10_000, 100
ROUNDS = 10
READS = {"lmdb": 6_000, "redis": 2_000, "postgres": 600}
FEAST_READS = 600
MILLION = 1_000_000
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LEAST = {"lmdb": 25.0, "redis": 10.0, "postgres": None}
"""How many times faster than Feast a read has to be, at p50 and at p99."""
FEAST_ON = {"lmdb": "sqlite", "redis": "redis", "postgres": "postgres"}
Servers = Callable[[Path], Any]
SERVERS: Mapping[str, Servers] = {"redis": redis_server, "postgres": postgresql_server}


class Frame:
    """A dataset that is one frame in memory."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        return self.table

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Literal["time", "known"] = "time"
    ) -> pl.DataFrame:
        return self.table

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Literal["time", "known"] = "time"
    ) -> Sequence[Asset]:
        return []


def main(wanted: Sequence[str]) -> int:
    def figures() -> Iterator[Figure]:
        rates = {}
        for kind in wanted or READS:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                try:
                    url = stack.enter_context(SERVERS[kind](folder)) if kind in SERVERS else ""
                except pytest.skip.Exception as exc:
                    print(f"  {kind} is left out: {exc}", flush=True)
                    continue
                feast = _feast(kind, url)
                rates[kind] = feast["rows_per_s"]
                yield from _reads(kind, _opened(kind, folder, url), feast)
        if "lmdb" in rates:
            yield from _million(rates["lmdb"])

    return show(figures())


def _opened(kind: str, folder: Path, url: str) -> Online:
    if kind == "lmdb":
        return LmdbOnline(folder / "online.lmdb")
    return RedisOnline(url, "bench") if kind == "redis" else PostgresOnline(url, "bench")


def _feast(kind: str, url: str) -> dict[str, Any]:
    plan = json.dumps({"entities": ENTITIES, "views": VIEWS, "reads": FEAST_READS, "rounds": ROUNDS, "asked": ASKED})
    with tempfile.TemporaryDirectory() as folder:
        return ask("feast", "feast_online", folder, FEAST_ON[kind], url, plan)


def _reads(kind: str, online: Online, feast: Mapping[str, Any]) -> Iterator[Figure]:
    """300 rows in one call; keys in the order in which an inference server asks, entity by entity."""
    draw = random.Random(1)  # noqa: S311  # figures to read, no secrets
    start = time.perf_counter()
    for view, width in VIEWS.items():
        rows = {f"entity-{n}": Stored(n, tuple(draw.random() for _ in range(width))) for n in range(ENTITIES)}
        online.put(view, rows)
    wrote = ENTITIES * len(VIEWS) / (time.perf_counter() - start)
    asked = [
        [(view, entity) for entity in (f"entity-{draw.randrange(ENTITIES)}" for _ in range(ASKED)) for view in VIEWS]
        for _ in range(READS[kind])
    ]
    assert all(online.get(asked[0]))
    gc.collect()
    gc.freeze()  # as the inference server does, once everything is loaded
    _timed(online.get, asked[: len(asked) // 10])  # the first ones warm up, Feast's too
    wall, cpu = (np.percentile(kind, [50, 99], axis=1).min(axis=1) * 1e6 for kind in _timed(online.get, asked))
    online.close()
    against = f"Feast on {FEAST_ON[kind]}"
    found = {"p50": wall[0], "p99": wall[1], **({"cpu_p99": cpu[1]} if kind == "lmdb" else {})}
    for name, value in found.items():
        theirs = feast[f"{name}_us"]
        yield Figure(
            f"read 100 entities x 20 features x 3 views, {kind}, {name}", value, "us", f"less than {against}",
            theirs / value, least=LEAST[kind], note=f"Feast {theirs:,.0f} us",
        )  # fmt: skip
    rate = feast["rows_per_s"]
    yield Figure(f"put rows of 7 features, {kind}", wrote, "rows/s", against, wrote / rate, note=f"Feast {rate:,.0f} rows/s")


def _timed(get: Callable[[Sequence[tuple[str, str]]], object], asked: Sequence[Sequence[tuple[str, str]]]) -> Any:
    """Seconds of each read, [wall or CPU, round, read]."""
    times = []
    for one in asked:
        start, used = time.perf_counter(), time.thread_time()
        get(one)
        times.append((time.perf_counter() - start, time.thread_time() - used))
    return np.array(times).T.reshape(2, ROUNDS, -1)


def _million(feast: float) -> Iterator[Figure]:
    """A million entities x 20 features, from a frame in memory through the newest row of each to the store's last byte."""
    names = [f"f{place}" for place in range(20)]
    draw = np.random.default_rng(1)
    columns = {name: draw.random(MILLION) for name in names}
    at = NOW - timedelta(hours=1)
    table = pl.DataFrame({"entity": [f"entity-{n}" for n in draw.permutation(MILLION)], "at": [at] * MILLION, **columns})
    table = table.with_columns(pl.col("at").dt.cast_time_unit("ms"))
    view = View("wide", "rows", entity="entity", features=tuple(names), time="at")
    with tempfile.TemporaryDirectory() as folder:
        online = LmdbOnline(Path(folder) / "ours")
        start = time.perf_counter()
        kept = Refresh(Frame(table), online).advance(view, NOW, {})
        rate = kept / (time.perf_counter() - start)
        assert kept == online.count("wide") == MILLION
        online.close()
        bare = _bare(Path(folder) / "bare", table, names)
    yield Figure(
        "materialise 1M entities x 20 features, lmdb", rate, "rows/s", "Feast on sqlite", rate / feast,
        floor=None if rate >= 30 * feast else 100_000,
        note=f"Feast {feast:,.0f} rows/s; LMDB alone with ready bytes {bare:,.0f}",
    )  # fmt: skip


def _bare(folder: Path, table: pl.DataFrame, names: Sequence[str]) -> float:
    """LMDB alone: bytes that are ready, sorted, in one transaction."""
    part = table.head(200_000)
    values = part.select(names).rows()
    packed = sorted(
        (b"wide\0" + name.encode(), pack(Stored(1, row))) for name, row in zip(part["entity"].to_list(), values, strict=True)
    )
    env = lmdb.open(str(folder), map_size=1 << 30, sync=False, metasync=False)
    start = time.perf_counter()
    with env.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(packed)
    taken = time.perf_counter() - start
    env.close()
    return len(packed) / taken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
