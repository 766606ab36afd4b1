"""The join as SQL gives what the oracle says, on engines that are really asked."""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.features.pushdown import DIALECTS, Asking, Held, join_sql
from falaj.stages.features.spec import View, WindowView, count
from tests.kits.asof import START, Case, cases, oracle

KINDS = st.sampled_from([pl.String(), pl.Int64()])
ASKING = Asking("spine", row="row", time="t", keys={"v": "key", "again": "key"})
Tables = dict[str, pl.DataFrame]


def held(case: Case, name: str = "v", table: str = "rows") -> Held:
    view = View(name, "rows", entity="key", features=("value",), time="at", ttl=case.ttl, created=case.created)
    return Held(view, table, place="place")


def tables(case: Case, *, rows: str = "rows") -> Tables:
    numbered = case.right().with_row_index("place").cast({"place": pl.Int64})
    return {"spine": case.left().with_row_index("row").cast({"row": pl.Int64}), rows: numbered}


def told(case: Case) -> list[tuple[Any, Any]]:
    return [(row["at"], None if row["value"] is None else float(row["value"])) for row in oracle(case)]


def seen(answer: pl.DataFrame, view: str = "v") -> list[tuple[Any, Any]]:
    times = answer[f"{view}__at"].cast(pl.Datetime("us", "UTC"))
    return list(zip(times.to_list(), answer[f"{view}__value"].to_list(), strict=True))


def on_duckdb(query: str, given: Tables) -> pl.DataFrame:
    with duckdb.connect() as connection:
        for name, table in given.items():
            connection.register(name, table.to_arrow())
        return pl.DataFrame(connection.sql(query).to_arrow_table())


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cases(units=("us",), kinds=KINDS))
def test_duckdb_answers_as_the_oracle(case: Case) -> None:
    answer = on_duckdb(join_sql(ASKING, [held(case)], dialect="duckdb"), tables(case))
    assert answer["row"].to_list() == [*range(len(case.spine))]
    assert seen(answer) == told(case)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(cases(units=("us",), kinds=KINDS), cases(units=("us",), kinds=KINDS))
def test_several_views_are_one_query(case: Case, other: Case) -> None:
    query = join_sql(ASKING, [held(case), held(other, "again", "main.others")], dialect="duckdb")
    answer = on_duckdb(query, {**tables(case), "others": tables(other)["rows"]})
    assert seen(answer) == told(case)
    assert seen(answer, "again") == told(Case(case.spine, other.rows, other.ttl, other.by_created))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(units=("us",), kinds=KINDS))
def test_postgresql_answers_as_the_oracle(case: Case, postgresql_url: str) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgresql_url) as connection, connection.cursor() as cursor:
        for name, table in tables(case).items():
            cursor.adbc_ingest(name, table.to_arrow(), mode="replace")
        cursor.execute(join_sql(ASKING, [held(case)], dialect="postgres"))
        answer = pl.DataFrame(cursor.fetch_arrow_table())
    assert seen(answer) == told(case)


@pytest.mark.xfail(raises=AttributeError, strict=True, reason="Ibis 12.0 calls a method that DuckDB 2.0 has not got any more")
def test_ibis_takes_the_query_as_a_table() -> None:
    import ibis

    case = Case([{"key": "1", "t": START}], [{"key": "1", "at": START, "created": START, "value": 7}], None, True)
    connection = ibis.duckdb.connect()
    for name, table in tables(case).items():
        connection.con.register(name, table.to_arrow())
    assert seen(connection.sql(join_sql(ASKING, [held(case)], dialect="duckdb")).order_by("row").to_polars()) == told(case)


VIEW = View("weather_now", "weather", entity="origin", features=("temp",), time="at", ttl="90s", created="known_at")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_reads_its_own_query(dialect: str) -> None:
    query = join_sql(Asking("spine", "row", "t"), [Held(VIEW, "lake.weather", "n")], dialect=dialect)
    read = sqlglot.parse_one(query, read=dialect)
    assert "falaj" not in query.lower()
    assert "90000" in query
    assert {table.name for table in read.find_all(sqlglot.exp.Table)} >= {"spine", "weather"}


def test_names_are_quoted_whatever_they_hold() -> None:
    rows = pl.DataFrame(
        {'a"; DROP TABLE spine; --': ["x"], "at": [None], "temp": [1.0]}, schema_overrides={"at": pl.Datetime("us", "UTC")}
    )
    spine = pl.DataFrame({"row": [1], "t": [None], "select": ["x"]}, schema_overrides={"t": pl.Datetime("us", "UTC")})
    view = View("v", "rows", entity='a"; DROP TABLE spine; --', features=("temp",), time="at")
    query = join_sql(Asking("spine", "row", "t", {"v": "select"}), [Held(view, "rows")], dialect="duckdb")
    assert on_duckdb(query, {"spine": spine, "rows": rows})["v__temp"].to_list() == [None]


def test_a_number_that_is_none_is_null_and_ties_without_a_place_go_by_value() -> None:
    at = pl.Series([0, 0], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"origin": ["JFK", "LGA"], "at": at, "known_at": at, "temp": [float("nan"), 2.0]})
    spine = pl.DataFrame({"row": [1, 2], "t": at, "origin": ["JFK", "LGA"]})
    query = join_sql(Asking("spine", "row", "t"), [Held(VIEW, "rows")], dialect="duckdb")
    assert on_duckdb(query, {"spine": spine, "rows": rows})["weather_now__temp"].to_list() == [None, 2.0]


def test_what_cannot_be_asked_of_an_engine_is_refused() -> None:
    windows = WindowView("w", "rows", entity="key", time="at", windows=("1h",), every="1h", aggregates=(count("n"),))
    with pytest.raises(InvalidInput, match="windows"):
        join_sql(ASKING, [Held(windows, "rows")], dialect="duckdb")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="dialect"):
        join_sql(ASKING, [Held(VIEW, "rows")], dialect="postgresql")
