"""The point-in-time join against bare Polars and DuckDB, and against Feast, on the same files.

`python -m benchmarks.joins [--scale small|full]`. Every engine has a process of its own, reads the Parquet files and holds
the answer in memory; CPU seconds and the peak of its memory are its own, taken before the answer is written
down to be compared. full: a spine of 1M rows, three views of 3.3M rows with 7 features, 100k entities; one view with late
rows. The ten-fold is against a tenth of the rows. For the run under a limit, which the kernel or a watchdog keeps, there is
three times as much of everything; the unlimited answer is compared with it column by column.
"""

# ruff: noqa: S608  # queries over files that this benchmark has made
from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import polars.selectors as cs

from benchmarks.figure import Figure, show
from benchmarks.limit import Ended, run_limited
from benchmarks.peers import python_of
from falaj.stages.features.join import Side, join_views
from falaj.stages.features.large import Room, join_large

SCALES = {"small": (20_000, 66_666, 5_000), "full": (1_000_000, 3_333_333, 100_000)}
TTLS = (timedelta(days=7), None, timedelta(days=3))
FEATURES = tuple(tuple(f"v{view}_f{n}" for n in range(7)) for view in range(3))
US = pl.Datetime("us", "UTC")
MB = 1_000_000
DAY = 86_400_000_000
YEAR = 365 * DAY
PATIENCE_S = 900
FEAST_MEMORY, LITTLE = 12_000 * MB, 400 * MB


def make(folder: Path, spine_rows: int, view_rows: int, entities: int) -> None:
    """A year of askers in no order, 2 in 100 of them twice and 1 in 100 without an entity; rows in the order of time."""
    draw = np.random.default_rng(7)
    folder.mkdir()
    key, t = draw.integers(0, int(entities * 1.02), spine_rows), draw.integers(0, YEAR // 1000, spine_rows) * 1000
    again = draw.integers(0, spine_rows, spine_rows // 50)
    key[: len(again)], t[: len(again)] = key[again], t[again]
    spine = pl.DataFrame({"row": np.arange(spine_rows), "entity": key, "t": t}).cast({"t": US})
    spine = spine.with_columns(entity=pl.when(pl.col("row") % 100 != 7).then("entity"))
    spine.write_parquet(folder / "spine.parquet")
    for view in range(3):
        at = np.sort(draw.integers(-30 * DAY // MB, YEAR // MB, view_rows)) * MB
        late = np.where(draw.random(view_rows) < 0.1, draw.integers(0, 30 * DAY // MB, view_rows) * MB, 0)
        columns: dict[str, Any] = {"entity": draw.integers(0, entities, view_rows), f"at{view}": at}
        if view == 2:
            columns["created"] = at + late
        columns.update({name: draw.normal(size=view_rows).round(4) for name in FEATURES[view]})
        kinds = dict.fromkeys([name for name in columns if name in (f"at{view}", "created")], US)
        pl.DataFrame(columns).cast(kinds).write_parquet(folder / f"view{view}.parquet")  # type: ignore[arg-type]


def _sides(folder: Path) -> list[Side]:
    scans = [pl.scan_parquet(folder / f"view{view}.parquet") for view in range(3)]
    return [Side(scans[v], "entity", f"at{v}", TTLS[v], "created" if v == 2 else None) for v in range(3)]


def falaj(folder: Path) -> pl.DataFrame:
    return join_views(pl.read_parquet(folder / "spine.parquet"), "t", _sides(folder))


def polars(folder: Path, engine: Any = "in-memory") -> pl.DataFrame:
    """The rule for late rows: each moment at which a row is seen brings the best row that is seen by then."""
    found = pl.scan_parquet(folder / "spine.parquet").sort("t")
    for view in range(2):
        rows = pl.scan_parquet(folder / f"view{view}.parquet").with_columns(pl.col(f"at{view}").alias("seen")).sort("seen")
        found = found.join_asof(
            rows, left_on="t", right_on="seen", by="entity", tolerance=TTLS[view], check_sortedness=False, coalesce=True
        ).drop("seen")
    rows = pl.scan_parquet(folder / "view2.parquet").sort("at2", "created", maintain_order=True).with_row_index("rank")
    rows = rows.with_columns(seen=pl.max_horizontal("at2", "created"))
    best = rows.select("entity", "seen", "rank").sort("seen", "rank").with_columns(pl.col("rank").cum_max().over("entity"))
    found = found.join_asof(best, left_on="t", right_on="seen", by="entity", check_sortedness=False, coalesce=True).drop("seen")
    found = found.join(rows.drop("entity", "seen"), on="rank", how="left").drop("rank")
    fresh = pl.col("t") - pl.col("at2") <= TTLS[2]
    kept = [pl.when(fresh).then(name).alias(name) for name in ("at2", "created", *FEATURES[2])]
    return found.with_columns(kept).sort("row").collect(engine=engine)


def polars_streaming(folder: Path) -> pl.DataFrame:
    return polars(folder, "streaming")


def duckdb_asof(folder: Path) -> pl.DataFrame:
    """DuckDB's ASOF JOIN takes any of rows that tie, so the last one is chosen before; late rows as above."""
    chosen, joins, tables = ["s.*"], [], []
    for view in range(2):
        last = f"QUALIFY row_number() OVER (PARTITION BY entity, at{view} ORDER BY file_row_number DESC) = 1"
        table = f"read_parquet('{folder}/view{view}.parquet', file_row_number=true)"
        tables.append(f"r{view} AS (SELECT * FROM {table} {last})")
        limit = TTLS[view]
        fresh = f"epoch_us(s.t) - epoch_us(r{view}.at{view}) <= {limit // timedelta(microseconds=1)}" if limit else "true"
        chosen += [f"CASE WHEN {fresh} THEN r{view}.{name} END AS {name}" for name in (f"at{view}", *FEATURES[view])]
        joins.append(f"ASOF LEFT JOIN r{view} ON s.entity = r{view}.entity AND s.t >= r{view}.at{view}")
    order = "at2, created, file_row_number"
    table = f"read_parquet('{folder}/view2.parquet', file_row_number=true)"
    tables += [
        f"ranked AS (SELECT *, row_number() OVER (ORDER BY {order}) AS rank FROM {table})",
        "best AS (SELECT entity, greatest(at2, created) AS seen, max(rank) OVER (PARTITION BY entity "
        "ORDER BY greatest(at2, created), rank ROWS UNBOUNDED PRECEDING) AS rank FROM ranked)",
        "newest AS (SELECT entity, seen, max(rank) AS rank FROM best GROUP BY entity, seen)",
        "r2 AS (SELECT n.entity, n.seen, r.* EXCLUDE (entity, rank) FROM newest n JOIN ranked r USING (rank))",
    ]
    fresh = f"epoch_us(s.t) - epoch_us(r2.at2) <= {(TTLS[2] or timedelta()) // timedelta(microseconds=1)}"
    chosen += [f"CASE WHEN {fresh} THEN r2.{name} END AS {name}" for name in ("at2", "created", *FEATURES[2])]
    joins.append("ASOF LEFT JOIN r2 ON s.entity = r2.entity AND s.t >= r2.seen")
    source = f"'{folder}/spine.parquet' AS s {' '.join(joins)}"
    query = f"WITH {', '.join(tables)} SELECT {', '.join(chosen)} FROM {source} ORDER BY s.row"
    with duckdb.connect(config={"temp_directory": str(folder / "spill")}) as connection:
        return pl.DataFrame(connection.sql(query).to_arrow_table())


ENGINES: dict[str, Callable[[Path], pl.DataFrame]] = {
    "falaj": falaj,
    "polars": polars,
    "polars_streaming": polars_streaming,
    "duckdb_asof": duckdb_asof,
}


def one(engine: str, folder: Path, memory: int) -> None:
    """What a process of its own does: it answers, says what that took, and writes the answer down."""
    if engine == "large":
        join_large(pl.scan_parquet(folder / "spine.parquet"), "t", _sides(folder), to=folder / "large", room=Room(memory, folder))
        answer = None
    else:
        answer = ENGINES[engine](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    if answer is not None:
        answer.write_parquet(folder / f"{engine}.parquet")
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": _peak() / MB}))


def _peak() -> int:
    """The most memory this program had, in bytes. getrusage would count what its parent had when it was started."""
    (line,) = (text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(engine: str, folder: Path, memory: int = 0) -> dict[str, float]:
    done = subprocess.run(_command(engine, folder, memory), capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        raise RuntimeError(f"{engine} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _command(engine: str, folder: Path, memory: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.joins", "--engine", engine, "--folder", str(folder), "--memory", str(memory)]


def best(engine: str, folder: Path, times: int = 3) -> dict[str, float]:
    """The least of each over the runs: what others do on the machine only adds."""
    runs = [run(engine, folder) for _ in range(times)]
    return {name: min(one[name] for one in runs) for name in runs[0]}


def differing(folder: Path, engine: str, columns: list[str]) -> int:
    """Rows of the spine that are answered otherwise than falaj does, missing ones among them."""
    ours = pl.scan_parquet(folder / "falaj.parquet").filter(pl.col("entity").is_not_null() if "feast" in engine else True)
    theirs = pl.scan_parquet(folder / f"{engine}.parquet").select("row", *columns).unique("row")
    theirs = theirs.with_columns(cs.datetime().dt.convert_time_zone("UTC"))  # DuckDB gives the same zone another name
    both = ours.select("row", *columns).join(theirs, on="row", how="left", suffix="_theirs")
    other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_theirs")) for name in columns)
    return int(both.filter(other).select(pl.len()).collect().item())


def figures(scale: str, folder: Path, patience: float) -> Iterator[Figure]:
    sizes = SCALES[scale]
    make(folder / "data", *sizes)
    data = folder / "data"
    found = {engine: best(engine, data) for engine in ENGINES}
    yield from _bare(data, found, scale)
    make(folder / "tenth", *(n // 10 for n in sizes))
    yield from _tenfold(folder / "tenth", found)
    yield from _feast(data, found["falaj"], patience)
    shutil.rmtree(data)
    yield from _little_memory(folder, sizes)


def _tenfold(tenth: Path, found: dict[str, dict[str, float]]) -> Iterator[Figure]:
    start = _start()
    for engine, seen in found.items():
        small = best(engine, tenth)["cpu_s"] - start
        large = seen["cpu_s"] - start
        note = f"{small:.2f} → {large:.2f} cpu-s, less the {start:.2f} in which a process starts"
        budget = 12 if engine == "falaj" else None
        yield Figure(f"ten times the rows: {engine}", large / max(small, 0.01), "×", budget=budget, note=note)


def _bare(data: Path, found: dict[str, dict[str, float]], scale: str) -> Iterator[Figure]:
    ours, bare = found["falaj"], {engine: seen for engine, seen in found.items() if engine != "falaj"}
    for engine, seen in found.items():
        columns = [name for view in range(3) for name in (f"at{view}", *FEATURES[view])]
        note = f"{seen['peak_mb']:,.0f} MB at most, {differing(data, engine, columns):,} rows answered otherwise"
        yield Figure(f"join, {scale}: {engine}", seen["cpu_s"], "cpu-s", note=note)
    for name, unit in (("cpu_s", "CPU"), ("peak_mb", "memory")):
        engine, least = min(((one, seen[name]) for one, seen in bare.items()), key=lambda pair: pair[1])
        yield Figure(f"join, {scale}: {unit} of the best bare engine", 100 * ours[name] / least, "%", budget=125, note=engine)


def _feast(data: Path, ours: dict[str, float], patience: float) -> Iterator[Figure]:
    for store, budget in (("duckdb", 40.0), ("dask", 10.0)):
        engine = f"feast_{store}"
        script = Path(__file__).parent / "peers" / "feast_join.py"
        ended = run_limited([str(python_of("feast_join")), str(script), str(data), store], FEAST_MEMORY, patience)
        if ended.code:
            why = f"stopped after {patience:,.0f} s" if ended.is_late else ended.errors.strip()[-120:]
            if ended.was_killed:
                why = f"killed: it wanted more than {FEAST_MEMORY / MB:,.0f} MB"
            yield Figure(f"join: Feast, {store}", ended.cpu_s, "cpu-s", note=f"until then; {why}")
            if ended.is_late or ended.was_killed:
                share = 100 * ours["cpu_s"] / ended.cpu_s
                yield Figure(f"join: CPU of Feast, {store}", share, "%", budget=budget, note="of what it used until then")
            continue
        seen = json.loads(ended.output.splitlines()[-1])
        # Feast's created only decides ties: what became known late it hands out early, which is no fault of its store.
        same = [name for view in range(2) for name in FEATURES[view]]
        rows = pl.scan_parquet(data / f"{engine}.parquet").select(pl.len()).collect().item()
        asked = pl.scan_parquet(data / "spine.parquet").filter(pl.col("entity").is_not_null()).select(pl.len()).collect().item()
        prompt, late = differing(data, engine, same), differing(data, engine, list(FEATURES[2]))
        note = f"{seen['peak_mb']:,.0f} MB, {rows:,} rows for {asked:,}; otherwise: {prompt:,} without late rows, {late:,} with"
        yield Figure(f"join: Feast, {store}", seen["cpu_s"], "cpu-s", note=note)
        yield Figure(f"join: CPU of Feast, {store}", 100 * ours["cpu_s"] / seen["cpu_s"], "%", budget=budget)


def _little_memory(folder: Path, sizes: tuple[int, int, int]) -> Iterator[Figure]:
    data = folder / "thrice"
    make(data, *(3 * n for n in sizes))
    held = sum(
        pl.scan_parquet(path).select(pl.len()).collect().item() * 8 * len(pl.read_parquet_schema(path)) for path in data.iterdir()
    )
    # The interpreter and its libraries take more than a quarter of little data.
    limit, part = (held // 4, "a quarter") if sizes == SCALES["full"] else (LITTLE, f"{LITTLE / MB:,.0f} MB")
    whole = run("falaj", data)
    killed = _limited("falaj", data, limit, 0)
    note = f"{held / MB:,.0f} MB of data; unlimited it takes {whole['peak_mb']:,.0f} MB; limit kept by {killed.by}"
    outcome = "killed" if killed.was_killed else f"ended with {killed.code}"
    yield Figure(f"limit of {part}: the join in memory", limit / MB, "MB", note=f"{outcome}; {note}")
    ended = _limited("large", data, limit, limit // 3)
    if ended.code:
        note = "killed by the limit" if ended.was_killed else ended.errors.strip()[-200:]
        yield Figure(f"limit of {part}: join_large", float("inf"), "MB", budget=limit / MB, note=note)
        return
    seen = json.loads(ended.output.splitlines()[-1])
    same = all(_same(data, name) for name in pl.read_parquet_schema(data / "falaj.parquet"))
    answer = "finished with the same answer" if same else "finished with ANOTHER ANSWER"
    note = f"{answer}; {seen['cpu_s']:.1f} cpu-s, {seen['cpu_s'] / whole['cpu_s']:.1f} × the unlimited join"
    yield Figure(f"limit of {part}: join_large", seen["peak_mb"], "MB", budget=limit / MB if same else 0.0, note=note)


def _limited(engine: str, data: Path, limit: int, memory: int) -> Ended:
    return run_limited(_command(engine, data, memory), limit, PATIENCE_S)


def _same(data: Path, name: str) -> bool:
    return pl.read_parquet(data / "large", columns=[name]).equals(pl.read_parquet(data / "falaj.parquet", columns=[name]))


def _start() -> float:
    """CPU seconds of a process that imports what the join needs."""
    program = "import resource, benchmarks.joins; u = resource.getrusage(0); print(u.ru_utime + u.ru_stime)"
    return min(float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(3))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--engine", choices=[*ENGINES, "large"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds that each of Feast's stores has")
    given = parser.parse_args()
    if given.engine:
        one(given.engine, given.folder, given.memory)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return show(figures(given.scale, Path(folder), given.patience))


if __name__ == "__main__":
    raise SystemExit(main())
