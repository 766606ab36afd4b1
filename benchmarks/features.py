"""Features against the engines underneath: what falaj's rules and format cost.

CPU seconds, best of three; the ratios are what to trust.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import lmdb

from falaj.adapters.local.online import LmdbOnline, pack
from falaj.ports.online import Stored


def main() -> None:
    for line in online():
        print(line)


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
