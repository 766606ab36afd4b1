"""Datasets made of other datasets: by SQL, by Python, the same each time, and by nothing but their inputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.contracts.derive import PIECE, Read, connect, derived, in_order
from falaj.stages.contracts.query import render
from falaj.stages.contracts.snapshots import parquet
from falaj.stages.contracts.spec import Dataset, Derived

from .conftest import ANNA, DAY, TRIPS, World

UNTIL = DAY + timedelta(days=9)
TIMES = pl.Datetime("ms", "UTC")


def dataset(source: Any, name: str = "clean") -> Dataset:
    return Dataset(name, "clean.odcs.yaml", source, time="at", known="known_at")


def sql(query: str, *inputs: str, **options: Any) -> Derived:
    return Derived(inputs or ("trips",), sql=query, **options)


def of_frame(**frames: pl.DataFrame) -> Read:
    return lambda name, since, until: frames[name]


def made(source: Derived, read: Read, since: datetime | None = None) -> pl.DataFrame:
    return pl.concat(derived(dataset(source), read).read(since, UNTIL))


def reading(world: World, over: str = "new") -> Read:
    """What the ingest side hands in: rows by when they became known, or the current version of each row."""
    contracts = world.contracts()

    def read(name: str, since: datetime | None, until: datetime) -> pl.LazyFrame:
        rows = contracts.frame(name, since=since, until=until, by="known").lazy()
        return (
            rows.sort("known_at", maintain_order=True).unique("id", keep="last", maintain_order=True) if over == "all" else rows
        )

    return read


@pytest.fixture
def loaded(world: World) -> World:
    contracts = world.contracts()
    for day in (1, 2, 9):
        contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=day))
    return world


def test_a_query_makes_rows_of_what_its_inputs_hold(loaded: World) -> None:
    rows = made(sql("select id, \"at\", known_at, miles * 1.609 as km from trips where zone = 'east'"), reading(loaded))
    kept = loaded.rows.filter(pl.col("zone") == "east")
    assert rows["id"].to_list() == kept["id"].to_list()
    assert rows["km"].to_list() == pytest.approx((kept["miles"] * 1.609).to_list())
    assert rows.schema == {"id": pl.String, "at": TIMES, "known_at": TIMES, "km": pl.Float64}


def test_over_new_works_on_what_became_known_since_the_last_load(loaded: World) -> None:
    source = sql("select id from trips")
    assert derived(dataset(source), reading(loaded)).capabilities == {"known", "bounded"}
    first, second = DAY + timedelta(days=1), DAY + timedelta(days=2)
    assert made(source, reading(loaded), since=first).height == 100 - 24
    assert next(derived(dataset(source), reading(loaded)).read(first, second)).height == 24


def test_over_all_works_on_every_row_as_known_by_then(loaded: World) -> None:
    source = sql("select zone, count(*) as trips, sum(miles) as miles from trips group by zone order by zone", over="all")
    assert derived(dataset(source), reading(loaded)).capabilities == {"bounded"}
    rows = made(source, reading(loaded, "all"), since=DAY + timedelta(days=2))
    assert rows["trips"].sum() == 100
    assert rows["trips"].dtype == pl.Int64


def test_a_function_gets_its_inputs_by_name(loaded: World) -> None:
    def clean(trips: pl.DataFrame, until: datetime) -> pl.LazyFrame:
        return trips.lazy().filter(pl.col("miles") > 10).with_columns(seen=pl.lit(until))

    rows = made(Derived(("trips",), function=clean), reading(loaded))
    assert rows.height == loaded.rows.filter(pl.col("miles") > 10).height
    assert rows["seen"][0] == UNTIL


def test_an_input_whose_name_is_no_python_name_is_asked_for_with_an_underscore() -> None:
    rows = pl.DataFrame({"a": [1]})
    source = Derived(("raw-trips.v2",), function=lambda raw_trips_v2: raw_trips_v2)
    assert made(source, of_frame(**{"raw-trips.v2": rows})).equals(rows)
    assert made(sql('select * from "raw-trips.v2"', "raw-trips.v2"), of_frame(**{"raw-trips.v2": rows})).equals(rows)


@pytest.mark.parametrize("function", [lambda: None, lambda other: None, lambda trips, more: None], ids=["none", "other", "more"])
def test_a_function_that_takes_something_else_is_told_what_to_take(function: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInput, match="its inputs are \\(trips\\)"):
        derived(dataset(Derived(("trips",), function=function)), of_frame())


def test_a_function_that_fails_is_named_with_its_dataset(loaded: World) -> None:
    def breaks(trips: pl.DataFrame) -> pl.DataFrame:
        return trips.select("nothing")

    with pytest.raises(InvalidInput, match=r"'clean' cannot be made: its function '.*breaks' failed. ColumnNotFoundError"):
        made(Derived(("trips",), function=breaks), reading(loaded))
    with pytest.raises(InvalidInput, match="gave a NoneType"):
        made(Derived(("trips",), function=lambda trips: None), reading(loaded))


def test_the_answer_comes_in_pieces_and_in_order() -> None:
    rows = pl.DataFrame({"n": range(3 * PIECE + 5)})
    pieces = list(derived(dataset(sql("select n, n % 7 as m from trips")), of_frame(trips=rows)).read(None, UNTIL))
    assert [piece.height for piece in pieces] == [PIECE, PIECE, PIECE, 5]
    assert pl.concat(pieces)["n"].equals(rows["n"])
    assert len({tuple(piece.schema.items()) for piece in pieces}) == 1


def test_no_rows_still_say_their_columns() -> None:
    rows = pl.DataFrame(schema={"n": pl.Int32, "t": TIMES})
    assert made(sql("select n, t, n * 2.5 as x from trips"), of_frame(trips=rows)).schema == {
        "n": pl.Int32,
        "t": TIMES,
        "x": pl.Float64,
    }
    assert made(sql("select n from trips"), lambda *_: rows.lazy()).schema == {"n": pl.Int32}


@pytest.mark.slow
def test_the_same_rows_give_the_same_bytes(loaded: World) -> None:
    query = (
        "select zone, seats, avg(miles / 3) as m, list_aggregate(list(miles), 'sum') as s, count(*) as n from trips group by all"
    )
    digests = {parquet(made(sql(query, over="all"), reading(loaded))) for _ in range(3)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("sum(n)", pl.Int64), ("1.5::decimal(9, 2)", pl.Float64), ("'a'::enum('a', 'b')", pl.String), ("n::float", pl.Float32),
        ("timestamp '2020-01-01 00:00:00'", pl.Datetime("ms")), ("date '2020-01-01'", pl.Date), ("n > 1", pl.Boolean),
    ],
)  # fmt: skip
def test_what_duckdb_gives_becomes_what_a_snapshot_keeps(given: str, becomes: Any) -> None:
    rows = pl.DataFrame({"n": [1, 2, 3]})
    group = "" if given.startswith("sum") else " group by all"
    assert made(sql(f"select {given} as x from trips{group}"), of_frame(trips=rows)).schema["x"] == becomes


@pytest.mark.parametrize("given", ["[n]", "interval 1 day", "{'a': n}", "n::varchar::blob", "null"])
def test_what_no_snapshot_keeps_is_refused_by_name(given: str) -> None:
    with pytest.raises(InvalidInput, match=r"The column 'x'.* no snapshot keeps"):
        made(sql(f"select {given} as x from trips"), of_frame(trips=pl.DataFrame({"n": [1]})))


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('/etc/passwd'), trips", "select * from '/etc/passwd', trips", "copy trips to '/tmp/stolen.csv'",
        "attach '/tmp/other.db'", "install httpfs", "load httpfs", "pragma database_list", "set threads = 9",
        "call pragma_version()", "select * from glob('/etc/*'), trips", "select * from query('select 1'), trips",
        "select * from duckdb_settings(), trips",
        "select * from information_schema.tables, trips", "select * from answer.rows, trips", "select * from other, trips",
        "select read_text('/etc/passwd') from trips", "delete from trips", "create table x as select 1", "describe trips",
        "select 1; select 2", "select $1 from trips", "select 1", "", "select", "select 'half", "show tables",
        "select (select max(n) from (select * from read_parquet('x'))) from trips",
    ],
)  # fmt: skip
def test_a_query_sees_nothing_but_its_inputs(query: str) -> None:
    with pytest.raises(InvalidInput):
        made(sql(query or " ; "), of_frame(trips=pl.DataFrame({"n": [1]})))


@pytest.mark.parametrize(
    "statement",
    ["from read_csv('/etc/passwd')", "copy (select 1) to '/tmp/x'", "attach '/tmp/x.db'", "install httpfs", "load httpfs",
     "set threads = 9", "set enable_external_access = true", "select * from glob('/etc/*')", "import database '/tmp'"],
)  # fmt: skip
def test_the_engine_itself_is_shut_off_too(statement: str, tmp_path: Path) -> None:
    connection = connect(str(tmp_path))
    with pytest.raises(Exception, match=r"Permission|locked"):
        connection.execute(statement).fetchall()
    connection.close()


@pytest.mark.parametrize(
    "value",
    ["now()", "NOW()", "current_date", "current_timestamp", "current_time", "localtimestamp", "today()", "random()", "uuid()",
     "gen_random_uuid()", "get_current_timestamp()", "transaction_timestamp()", "age(t)", "current_setting('threads')",
     "nextval('x')", "current_user", "list_transform([1], lambda q: q + random())", "version()", "current_query()"],
)  # fmt: skip
def test_what_answers_differently_each_time_is_refused_before_anything_is_read(value: str) -> None:
    with pytest.raises(InvalidInput, match="differently each time"):
        derived(dataset(sql(f"select n, {value} as x from trips")), of_frame())


def test_a_sample_is_refused() -> None:
    for query in ("select * from trips tablesample 10 percent", "select * from trips using sample 3"):
        with pytest.raises(InvalidInput, match="sample"):
            derived(dataset(sql(query)), of_frame())


def test_duckdb_is_quoted_without_what_stood_in_the_row() -> None:
    rows = pl.DataFrame({"name": ["Amna Al Falasi"]})
    with pytest.raises(InvalidInput, match=r"'clean' cannot be made: its query failed\. Conversion Error") as told:
        made(sql("select name::int as n from trips"), of_frame(trips=rows))
    assert "Amna" not in str(told.value)
    with pytest.raises(InvalidInput, match='Referenced column "nothing" not found'):
        made(sql("select nothing from trips"), of_frame(trips=rows))


def test_an_input_that_is_declared_and_never_read_is_told() -> None:
    with pytest.raises(InvalidInput, match="never reads its input 'sky'"):
        derived(dataset(sql("select * from trips", "trips", "sky")), of_frame())


def test_what_is_not_derived_or_derived_from_itself_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is not derived"):
        derived(dataset(lambda since, until: pl.DataFrame()), of_frame())
    with pytest.raises(InvalidInput, match="from itself"):
        derived(dataset(sql("select 1 from clean", "clean")), of_frame())


def test_what_is_derived_comes_after_what_it_is_derived_from() -> None:
    plain = dataset(lambda since, until: pl.DataFrame(), "raw")
    late = dataset(sql("select * from middle", "middle"), "late")
    middle = dataset(sql("select * from raw", "raw"), "middle")
    assert in_order({"late": late, "raw": plain, "middle": middle}) == ("raw", "middle", "late")
    with pytest.raises(NotFound, match="'middle'"):
        in_order({"late": late})
    with pytest.raises(InvalidInput, match="a → b → a"):
        in_order({"a": dataset(sql("select * from b", "b"), "a"), "b": dataset(sql("select * from a", "a"), "b")})


def test_what_a_contract_refers_to_comes_first_where_it_can() -> None:
    plain = dataset(lambda since, until: pl.DataFrame(), "raw")
    late = dataset(sql("select * from raw", "raw"), "late")
    refers = {"raw": ("zones", "gone"), "zones": ("late",), "late": ("raw",)}
    found = in_order({"raw": plain, "late": late, "zones": plain}, lambda name: refers[name])
    assert sorted(found) == ["late", "raw", "zones"]
    assert found.index("zones") < found.index("raw")
    assert in_order({"a": plain, "b": plain}, lambda name: {"a": ("b",), "b": ("a",)}[name]) == ("b", "a")


def test_a_connection_is_closed_when_the_reader_stops_early() -> None:
    pieces = derived(dataset(sql("select n from trips")), of_frame(trips=pl.DataFrame({"n": range(2 * PIECE)}))).read(None, UNTIL)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.slow
def test_neither_way_needs_pyarrow() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import polars as pl, datetime as dt\n"
        "from falaj.stages.contracts.derive import derived\n"
        "from falaj.stages.contracts.spec import Dataset, Derived\n"
        "rows = pl.DataFrame({'n': [1, 2]})\n"
        "one = Dataset('d', 'c', Derived(('t',), sql='select n + 1 as n from t'), time='a', known='k')\n"
        "for read in (lambda *_: rows, lambda *_: rows.lazy()):\n"
        "    pieces = list(derived(one, read).read(None, dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)))\n"
        "    assert pieces[0]['n'].to_list() == [2, 3]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


CANON = """
select f.carrier, count(*) as flights, sum(case when f.delay > 15 then 1 else 0 end) as late, max(w.temp) as warmest,
       coalesce(min(f.delay), 0) as least, cast(avg(f.delay) as decimal(9, 3)) as mean_delay
from flights f left join weather w on w.origin = f.origin and w.hour = date_trunc('hour', f.sched)
where f.sched >= timestamp '2013-01-01 00:00:00' and f.carrier <> 'XX'
group by f.carrier having count(*) > 1 order by f.carrier
"""


@pytest.mark.slow
def test_the_same_query_says_the_same_on_postgresql(postgresql_url: str) -> None:
    import adbc_driver_postgresql.dbapi as postgresql

    sched = [datetime(2013, 1, 1, 5, 15) + timedelta(minutes=17 * n) for n in range(200)]
    flights = pl.DataFrame({
        "carrier": [("UA", "AA", "XX", "DL")[n % 4] for n in range(200)], "origin": [("JFK", "LGA")[n % 2] for n in range(200)],
        "delay": [None if n % 11 == 0 else float(n % 40 - 5) for n in range(200)], "sched": sched,
    })  # fmt: skip
    hours = sorted({at.replace(minute=0) for at in sched})
    weather = pl.DataFrame({
        "origin": ["JFK", "LGA"] * len(hours), "hour": [hour for hour in hours for _ in range(2)],
        "temp": [float(n) / 4 for n in range(2 * len(hours))],
    })  # fmt: skip
    plan = sql(CANON, "flights", "weather", over="all")
    here = made(plan, of_frame(flights=flights, weather=weather))
    with postgresql.connect(postgresql_url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("flights", flights.to_arrow(), mode="replace", temporary=True)
        cursor.adbc_ingest("weather", weather.to_arrow(), mode="replace", temporary=True)
        cursor.execute(render(plan, "postgres"))
        there = cursor.fetchall()
    assert here.height == 3
    assert [tuple(map(_plain, row)) for row in there] == [tuple(map(_plain, row)) for row in here.rows()]


def _plain(value: Any) -> Any:
    try:
        return round(float(value), 3)
    except (TypeError, ValueError):
        return value


@pytest.mark.parametrize("dialect", ["snowflake", "bigquery", "trino", "spark", "postgres", "duckdb"])
def test_a_query_can_be_written_for_other_engines(dialect: str) -> None:
    import sqlglot

    assert sqlglot.parse_one(render(sql(CANON, "flights", "weather"), dialect), read=dialect)


def test_what_cannot_be_written_for_another_engine_is_refused() -> None:
    with pytest.raises(NotFound, match="'oracle'"):
        render(sql("select 1 from trips"), "oracle")
    with pytest.raises(InvalidInput, match="runs on polars only"):
        render(Derived(("trips",), function=lambda trips: trips), "spark")
    with pytest.raises(InvalidInput, match="ASOF JOIN"):
        render(sql("select * from trips f asof join trips g on f.id = g.id and f.t >= g.t"), "postgres")
    with pytest.raises(InvalidInput, match="jaccard"):
        render(sql("select jaccard(id, 'x') as l from trips"), "trino")
