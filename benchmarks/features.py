"""Features against the engines underneath: what falaj's rules and format cost.

CPU seconds, best of three; the ratios are what to trust.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lmdb

from examples.flights import features, source
from falaj.adapters.local.online import LmdbOnline, pack
from falaj.core.moments import length
from falaj.ports.online import Stored
from falaj.stages.features.join import as_of
from falaj.stages.features.rules import stored_rows
from falaj.stages.features.spec import AT
from falaj.stages.features.windows import grid_points, window_rows

_YEAR = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC))
_VIEWS = (features.weather_now, features.plane, features.carrier_delays)


def main() -> None:
    for line in (*join(), *online()):
        print(line)


def join() -> Iterator[str]:
    """337k flights with three views: falaj's rules against polars' join_asof, which knows none of them."""
    flights = source.flights(None, _YEAR[1])
    spine = flights.select("origin", "tailnum", "carrier", t="sched_dep_at")
    grid = grid_points(features.carrier_delays, *_YEAR)
    tables = {
        "weather_now": stored_rows(source.weather(None, _YEAR[1]), features.weather_now),
        "plane": stored_rows(source.planes(None, _YEAR[1]), features.plane),
        "carrier_delays": window_rows(flights, features.carrier_delays, grid),
    }
    ttls = {view.name: length(view.ttl) if view.ttl else None for view in _VIEWS}

    def ours() -> None:
        for view in _VIEWS:
            left = spine.select(view.entity, "t")
            as_of(left, tables[view.name], entity=view.entity, spine_time="t", row_time=AT, ttl=ttls[view.name])

    def bare() -> None:
        for view in _VIEWS:
            left = spine.select(view.entity, "t").sort("t")
            right = tables[view.name].sort(AT)
            left.join_asof(right, left_on="t", right_on=AT, by=view.entity, tolerance=ttls[view.name], check_sortedness=False)

    mine, theirs = _cpu(ours), _cpu(bare)
    yield f"join of {spine.height:,} flights x 3 views: {mine:.2f} s, polars {theirs:.2f} s, ratio {mine / theirs:.2f}"
    took = _cpu(lambda: window_rows(flights, features.carrier_delays, grid))
    yield f"window rows of a year, {tables['carrier_delays'].height:,} rows x 9 figures: {took:.2f} s CPU"


def online(entities: int = 20_000) -> Iterator[str]:
    """100 entities x 20 features a read, and puts, against LMDB holding the same bytes."""
    draw = random.Random(1)  # noqa: S311  # figures to read, no secrets
    rows = {f"entity-{n}": Stored(1_367_400_000_000 + n, tuple(draw.random() for _ in range(20))) for n in range(entities)}
    asked = [[("view", f"entity-{draw.randrange(entities)}") for _ in range(100)] for _ in range(300)]
    keys = [[f"view\0{entity}".encode() for _, entity in one] for one in asked]
    with tempfile.TemporaryDirectory() as folder:
        store = LmdbOnline(Path(folder) / "ours")
        env = lmdb.open(f"{folder}/bare", map_size=1 << 30, sync=False, metasync=False)
        packed = [(f"view\0{entity}".encode(), pack(row)) for entity, row in rows.items()]

        def bare_put() -> None:
            with env.begin(write=True) as txn:
                for key, value in packed:
                    txn.put(key, value)

        def bare_get() -> None:
            for one in keys:
                with env.begin() as txn:
                    for key in one:
                        txn.get(key)

        mine, theirs = _cpu(lambda: store.put("view", rows)), _cpu(bare_put)
        yield f"online put: {entities / mine:,.0f} rows/s, LMDB ready bytes {entities / theirs:,.0f}, ratio {mine / theirs:.1f}"
        mine, theirs = _cpu(lambda: [store.get(one) for one in asked]), _cpu(bare_get)
        micro = 1e6 / len(asked)
        yield f"online read, 100 entities x 20: {mine * micro:.0f} us, LMDB {theirs * micro:.0f}, ratio {mine / theirs:.1f}"
        store.close()
        env.close()


def _cpu(work: Callable[[], object]) -> float:
    best = timedelta.max.total_seconds()
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


if __name__ == "__main__":
    main()
