"""Whether Spark answers the join as SQL like the loop over rows: `python -m benchmarks.peers.spark_cases [--cases 40]`.

The cases are those of the tests, drawn with a fixed seed. Needs Java 17 or later. Exit code 1 where any answer differs.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.peers import ask
from falaj.stages.features.pushdown import Asking, Held, join_sql
from falaj.stages.features.spec import View
from tests.kits.asof import Case, cases, oracle

SEED = 14
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def drawn(count: int) -> list[Case]:
    """Different cases in which somebody asks and there is something to find."""
    found: list[Case] = []

    @seed(SEED)
    @settings(
        max_examples=20 * count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(cases(units=("us",), kinds=st.sampled_from([pl.String(), pl.Int64()])))
    def draw(case: Case) -> None:
        if len(found) < count and len(case.spine) > 2 and len(case.rows) > 2 and case not in found:
            found.append(case)

    draw()
    return found


def told(case: Case) -> list[list[object]]:
    """What the loop says: the row's number, microseconds, value."""
    rows = oracle(case)
    times = [None if row["at"] is None else (row["at"] - EPOCH) // timedelta(microseconds=1) for row in rows]
    values = [None if row["value"] is None else float(row["value"]) for row in rows]
    return [list(row) for row in zip(range(len(rows)), times, values, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=40)
    chosen = drawn(parser.parse_args().cases)
    with tempfile.TemporaryDirectory() as name:
        for number, case in enumerate(chosen):
            folder = Path(name) / f"{number:04}"
            folder.mkdir()
            case.left().with_row_index("row").cast({"row": pl.Int64}).write_parquet(folder / "spine.parquet")
            case.right().with_row_index("place").cast({"place": pl.Int64}).write_parquet(folder / "rows.parquet")
            view = View("v", "rows", entity="key", features=("value",), time="at", ttl=case.ttl, created=case.created)
            asking = Asking("spine", row="row", time="t", keys={"v": "key"})
            (folder / "query.sql").write_text(join_sql(asking, [Held(view, "rows", place="place")], dialect="spark"))
        seen = ask("spark", "spark_join", name)
    wrong = [number for number, case in enumerate(chosen) if seen["answers"][f"{number:04}"] != told(case)]
    found = sum(value is not None for case in chosen for _, _, value in told(case))
    print(f"Spark {seen['spark']}, local mode: {len(chosen) - len(wrong)} of {len(chosen)} cases as the loop says; ", end="")
    print(f"{sum(len(case.spine) for case in chosen)} rows asked, {found} values found. Seed {SEED}.")
    for number in wrong[:3]:
        print(f"case {number}: {chosen[number]}\n  said {seen['answers'][f'{number:04}']}\n  not {told(chosen[number])}")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
