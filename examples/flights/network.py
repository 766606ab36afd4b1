"""How late an airline's network is running: every airline knows, and each of its systems counts it in a unit of its own."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

WINDOW = timedelta(hours=2)


def network_delay(asked: pl.DataFrame, landed: pl.DataFrame) -> NDArray[np.float64]:
    """For each row of `asked` (carrier, sched_dep_at): the mean arrival delay, in minutes, of its carrier's flights that landed
    in the two hours up to its scheduled departure. NaN where none did. `landed`: carrier, landed_at, arr_delay."""
    known = landed.filter(pl.col("landed_at").is_not_null() & pl.col("arr_delay").is_not_null()).sort("landed_at")
    carriers = asked["carrier"].to_numpy()
    times = asked["sched_dep_at"].dt.epoch("ms").to_numpy()
    found = np.full(asked.height, np.nan)
    for (carrier,), own in known.group_by("carrier"):
        rows = np.flatnonzero(carriers == carrier)
        at = own["landed_at"].dt.epoch("ms").to_numpy()
        total = np.concatenate([[0.0], np.cumsum(own["arr_delay"].to_numpy())])
        high = np.searchsorted(at, times[rows], side="right")
        low = np.searchsorted(at, times[rows] - WINDOW // timedelta(milliseconds=1), side="right")
        count = high - low
        with np.errstate(invalid="ignore", divide="ignore"):
            found[rows] = np.where(count > 0, (total[high] - total[low]) / count, np.nan)
    return found
