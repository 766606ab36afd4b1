"""Features against the engines underneath: what falaj's rules and format cost.

CPU seconds, best of three; the ratios are what to trust.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from examples.flights import features, source
from falaj.core.moments import length
from falaj.stages.features.join import as_of
from falaj.stages.features.rules import stored_rows
from falaj.stages.features.spec import AT
from falaj.stages.features.windows import grid_points, window_rows

_YEAR = (datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC))
_VIEWS = (features.weather_now, features.plane, features.carrier_delays)


def main() -> None:
    for line in join():
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


def _cpu(work: Callable[[], object]) -> float:
    best = timedelta.max.total_seconds()
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


if __name__ == "__main__":
    main()
