"""Erasure: sealing and opening rows of people, and destroying a person's key with 10, 10,000 and 1,000,000 rows behind it.

What a key takes to destroy may not depend on how much was sealed with it: the figure is the ratio of the largest to the
smallest, each the best of several people. Rows have three personal columns; the vault is the one in a file, each commit of
which waits for the disk.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.figure import Figure, show
from falaj.adapters.local.vault import SqliteVault
from falaj.stages.contracts.sealed import Sealing, seal, unseal
from falaj.stages.contracts.snapshots import parquet

ROWS, PEOPLE = 200_000, 5_000
SIZES = (10, 10_000, 1_000_000)
EACH = 3
BY = Sealing("who", frozenset({"ward"}), "dataset|visits")


def main() -> int:
    return show(figures())


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        vault = SqliteVault(Path(folder) / "vault" / "subjects.db", Path(folder) / "keys" / "vault.kek", os.urandom(32))
        yield from _rows(vault)
        yield from _single(vault)
        yield from _shreds(vault)
        vault.close()


def _rows(vault: SqliteVault) -> Iterator[Figure]:
    frame = pl.DataFrame({
        "who": [f"784-1990-{n % PEOPLE:07d}-1" for n in range(ROWS)], "age": [n % 90 for n in range(ROWS)],
        "finding": [f"J45.{n % 10}" for n in range(ROWS)], "ward": ["heart"] * ROWS,
    })  # fmt: skip
    start = time.perf_counter()
    parquet(frame)
    plain = time.perf_counter() - start
    started = time.perf_counter()
    sealed = seal(vault, frame, BY)
    first = time.perf_counter() - started
    again = min(_timed(lambda: seal(vault, frame, BY)) for _ in range(3))
    opened = min(_timed(lambda: unseal(lambda: vault, sealed, BY.about)) for _ in range(3))
    yield Figure("seal, every person new", ROWS / first, "rows/s", note=f"{PEOPLE:,} keys made")
    yield Figure("seal", ROWS / again, "rows/s", note=f"writing the same rows as Parquet in clear: {ROWS / plain:,.0f}")
    yield Figure("open", ROWS / opened, "rows/s")


def _single(vault: SqliteVault) -> Iterator[Figure]:
    """What a prediction about a person costs more: one token, one text sealed; and one row of features opened."""
    text, about = b"x" * 400, b"predictions|noshow"
    token = vault.token("784-1990-0000001-1")
    (sealed,) = vault.seal([token], [text], about)
    count = 5_000
    put = _timed(lambda: [vault.seal([vault.token("784-1990-0000001-1")], [text], about) for _ in range(count)])
    got = _timed(lambda: [vault.open([token], [sealed], about) for _ in range(count)])
    yield Figure("one text sealed, with its token", put / count * 1e6, "µs")
    yield Figure("one text opened", got / count * 1e6, "µs")


def _shreds(vault: SqliteVault) -> Iterator[Figure]:
    best = {}
    for size in SIZES:
        tokens = [vault.token(f"{size} {number}") for number in range(EACH)]
        for token in tokens:
            for start in range(0, size, 100_000):
                part = min(100_000, size - start)
                vault.seal([token] * part, [b"x" * 60] * part, b"a")
        best[size] = min(_timed(lambda token=token: vault.shred([token])) for token in tokens)  # type: ignore[misc]
    for size in SIZES:
        ratio = best[size] / best[SIZES[0]]
        yield Figure(f"erase a person with {size:,} rows", best[size] * 1e3, "ms", f"one with {SIZES[0]} rows", ratio)


def _timed(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
