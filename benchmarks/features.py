"""What window figures cost: a year of events at every hour, and the same figures from a stream.

CPU seconds, best of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from falaj.stages.features.spec import Aggregate, WindowView, count, distinct, last, least, mean, spread
from falaj.stages.features.stream import WindowStream
from falaj.stages.features.windows import grid_points, window_rows

_START = datetime(2013, 1, 1, tzinfo=UTC)
_YEAR = timedelta(days=365)


def main() -> None:
    events = _events(300_000)
    for line in (*windows(events), *stream(events)):
        print(line)


def windows(events: pl.DataFrame) -> Iterator[str]:
    """Each figure alone over 3 hours, a day and a week."""
    grid = grid_points(_view(count("x")), _START, _START + _YEAR)
    for made in (
        count("x"),
        mean("delay", "x"),
        least("delay", "x"),
        last("delay", "x"),
        spread("delay", "x"),
        distinct("tail", "x"),
    ):
        view = _view(made)
        rows = window_rows(events, view, grid).height
        took = _cpu(lambda view=view: window_rows(events, view, grid))  # type: ignore[misc]
        yield f"{made.op}: {rows:,} rows x 3 windows of {events.height:,} events: {took:.2f} s CPU"


def stream(events: pl.DataFrame) -> Iterator[str]:
    """A thousand events at a time, each with an id, and the rows of every hour."""

    def follow() -> WindowStream:
        made = WindowStream(_view(mean("delay", "x"), count("n"), distinct("tail", "t")), lateness="1h", event_id="id")
        for piece in events.iter_slices(1_000):
            made.take(piece)
            made.advance()
        return made

    took = _cpu(follow)
    yield f"stream: {events.height / took:,.0f} events/s, checkpoint {len(follow().checkpoint()):,} bytes"


def _view(*aggregates: Aggregate) -> WindowView:
    return WindowView("v", "flights", "carrier", "landed_at", ("3h", "24h", "7d"), "1h", aggregates)


def _events(size: int) -> pl.DataFrame:
    draw = np.random.default_rng(1)
    landed = pl.Series(np.sort(draw.integers(0, 365 * 86_400, size)) * 1_000 + int(_START.timestamp()) * 1_000)
    return pl.DataFrame(
        {
            "id": np.arange(size),
            "carrier": draw.choice([f"C{n}" for n in range(16)], size),
            "landed_at": landed.cast(pl.Datetime("ms", "UTC")),
            "delay": draw.normal(5, 30, size),
            "tail": draw.choice([f"N{n}" for n in range(3_000)], size),
        }
    )


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds, best of three."""
    took = []
    for _ in range(3):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took)


if __name__ == "__main__":
    main()
