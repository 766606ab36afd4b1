"""Mutates valid files and reads them: rows or a FalajError come out, nothing else, and the process lives.

    python -m tests.fuzz.readers --rounds 20000 --seed 1

Each round reads one mutated CSV, JSON lines, packed or Parquet file. Rounds run in child processes of a few hundred, because a
reader that takes the whole process down (a fault, memory, an endless loop) has to be seen too; a child's last file is kept.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from falaj.adapters.files.source import FilesSource
from falaj.core.errors import FalajError
from falaj.testing.source import rows

UNTIL = datetime(2030, 1, 1, tzinfo=UTC)
TYPES = {"id": "integer", "known": "timestamp", "miles": "number", "late": "boolean", "day": "date"}
MEMORY, CHILD_S, CHILD_ROUNDS = 4 << 30, 300, 250


def _csv() -> bytes:
    return rows().write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ").encode()


def _jsonl() -> bytes:
    return rows().with_columns(pl.col("known").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_ndjson().encode()


def _parquet(**options: object) -> bytes:
    data = io.BytesIO()
    pl.concat([rows()] * 20).write_parquet(data, **options)  # type: ignore[arg-type]
    return data.getvalue()


VALID: Mapping[str, Callable[[], bytes]] = {
    "a.csv": _csv,
    "a.csv.gz": lambda: gzip.compress(_csv(), mtime=0),
    "a.jsonl": _jsonl,
    "a.jsonl.gz": lambda: gzip.compress(_jsonl(), mtime=0),
    "a.parquet": lambda: _parquet(row_group_size=40),
    "b.parquet": lambda: _parquet(compression="uncompressed", data_page_size=256),
    "c.parquet": lambda: _parquet(compression="snappy", statistics="full"),
}
PIECES = (
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"{",
    b"[",
    b"}",
    b":",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"PAR1",
    b"\x80" * 9,
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few small harms: a byte changed, a piece put in, cut out, doubled or moved, the end cut off."""
    held = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not held:
            return bytes(held)
        at = chance.randrange(len(held))
        end = min(len(held), at + chance.choice((1, 2, 4, 16, 64, 1024)))
        harm = chance.randrange(7)
        if harm == 0:
            held[at] = chance.randrange(256)
        elif harm == 1:
            held[at] ^= 1 << chance.randrange(8)
        elif harm == 2:
            held[at:at] = chance.choice(PIECES)
        elif harm == 3:
            del held[at:end]
        elif harm == 4:
            held[at:at] = held[at:end]
        elif harm == 5:
            held[at:end] = chance.randbytes(end - at)
        elif chance.random() < 0.3:
            del held[at:]
    return bytes(held)


def read(folder: Path, name: str, data: bytes, *, typed: bool, known: bool) -> str:
    """`rows`, or the name of the error that said what is wrong."""
    (folder / name).write_bytes(data)
    options: dict[str, object] = {"types": TYPES} if typed and not name.endswith("parquet") else {}
    source = FilesSource(folder=folder, path=name, known="known" if known else "", **options)
    try:
        pieces = list(source.read(datetime(2026, 1, 1, 1, tzinfo=UTC), UNTIL))
    except FalajError as exc:
        return type(exc).__name__
    assert len({tuple(piece.schema.items()) for piece in pieces}) == 1
    return "rows"


def some_rounds(seed: int, count: int, folder: Path, only: str = "") -> Counter[str]:
    chance = random.Random(seed)
    made = {name: write() for name, write in VALID.items() if name.endswith(only)}
    seen: Counter[str] = Counter()
    for _ in range(count):
        name = chance.choice(list(made))
        typed = chance.random() < 0.5
        known = chance.random() < 0.5 and (typed or name.endswith("parquet"))
        seen[f"{name.partition('.')[2]} {read(folder, name, mutated(made[name], chance), typed=typed, known=known)}"] += 1
    return seen


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=2000)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", default="", help="files with this ending, such as parquet")
    asked.add_argument("--child", action="store_true")
    given = asked.parse_args()
    if given.child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with tempfile.TemporaryDirectory() as folder:
            for what, count in some_rounds(given.seed, given.rounds, Path(folder), given.only).items():
                sys.stdout.write(f"{count}\t{what}\n")
        return 0
    total: Counter[str] = Counter()
    began = time.monotonic()
    broken = 0
    for first in range(0, given.rounds, CHILD_ROUNDS):
        seed = given.seed * 1_000_003 + first
        count = min(CHILD_ROUNDS, given.rounds - first)
        argv = [
            sys.executable,
            "-m",
            "tests.fuzz.readers",
            "--child",
            "--seed",
            str(seed),
            "--rounds",
            str(count),
            "--only",
            given.only,
        ]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=CHILD_S, check=False)
            code, said, wrong = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, said, wrong = 124, "", "it did not end"
        if code:
            broken += 1
            sys.stdout.write(f"seed {seed}: exit {code}\n{wrong[-3000:]}\n")
        for line in said.splitlines():
            number, _, what = line.partition("\t")
            total[what] += int(number)
    for what, number in sorted(total.items()):
        sys.stdout.write(f"{number:>8}  {what}\n")
    sys.stdout.write(f"{sum(total.values())} rounds in {time.monotonic() - began:.0f} s, {broken} children broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
