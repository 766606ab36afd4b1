"""Which input columns stand behind which output column: tricky queries by hand, and random ones against DuckDB itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.contracts.columns import ColumnLineage, column_lineage, read_lineage
from falaj.stages.contracts.spec import Derived

INPUTS = {"flights": ["id", "Carrier", "delay", "origin", "dep"], "weather": ["origin", "hour", "temp"]}


def shown(query: str) -> tuple[dict[str, dict[str, str]], set[str]]:
    found = read_lineage(query, INPUTS)
    direct = {name: {f"{d[0]}.{c}": kind for (d, c), kind in behind.items()} for name, behind in found.direct.items()}
    return direct, {f"{d[0]}.{c}" for d, c in found.indirect}


@pytest.mark.parametrize(
    ("query", "direct", "indirect"),
    [
        ("select id, delay + 1 as d from flights", {"id": {"f.id": "identity"}, "d": {"f.delay": "transformation"}}, set()),
        (
            "select Carrier, avg(delay) as m, count(*) as n from flights where origin = 'JFK' group by 1 having m > 1 order by n",
            {"Carrier": {"f.Carrier": "identity"}, "m": {"f.delay": "aggregation"}, "n": {}},
            {"f.origin", "f.Carrier", "f.delay"},
        ),
        (
            "with c as (select id, delay * 2 as dd, origin from flights) select dd as x, temp from c join weather using (origin)",
            {"x": {"f.delay": "transformation"}, "temp": {"w.temp": "identity"}},
            {"f.origin", "w.origin"},
        ),
        ("select * exclude (dep, origin) from flights",
         {"id": {"f.id": "identity"}, "Carrier": {"f.Carrier": "identity"}, "delay": {"f.delay": "identity"}}, set()),
        ("select * replace (temp * 2 as temp) from weather",
         {"origin": {"w.origin": "identity"}, "hour": {"w.hour": "identity"}, "temp": {"w.temp": "transformation"}}, set()),
        ("from (select id as x from flights)", {"x": {"f.id": "identity"}}, set()),
        ("select id as k from flights union all select origin from weather",
         {"k": {"f.id": "identity", "w.origin": "identity"}}, set()),
        ("select id as k from flights union select origin from weather",
         {"k": {"f.id": "identity", "w.origin": "identity"}}, {"f.id", "w.origin"}),
        ("select id as k from flights except select origin from weather", {"k": {"f.id": "identity"}}, {"f.id", "w.origin"}),
        ("select id, delay from flights union all by name select temp as delay, origin as id from weather",
         {"id": {"f.id": "identity", "w.origin": "identity"}, "delay": {"f.delay": "identity", "w.temp": "identity"}}, set()),
        (
            "select sum(delay) over (partition by Carrier order by dep) as s, lag(delay) over (order by id) as l, "
            "row_number() over (order by id) as r from flights",
            {"s": {"f.delay": "aggregation"}, "l": {"f.delay": "transformation"}, "r": {}},
            {"f.Carrier", "f.dep", "f.id"},
        ),
        ("select id, (select max(temp) from weather w where w.origin = f.origin) as t from flights f",
         {"id": {"f.id": "identity"}, "t": {"w.temp": "aggregation"}}, {"f.origin", "w.origin"}),
        ("select id from flights where origin in (select origin from weather where temp > 3)",
         {"id": {"f.id": "identity"}}, {"f.origin", "w.origin", "w.temp"}),
        ("select exists (select 1 from weather w where w.origin = f.origin) as e from flights f",
         {"e": {}}, {"f.origin", "w.origin"}),
        ("select case when delay > 15 then Carrier else 'on time' end as late from flights",
         {"late": {"f.Carrier": "transformation", "f.delay": "transformation"}}, set()),
        ("select sum(delay) filter (where origin = 'JFK') as s from flights", {"s": {"f.delay": "aggregation"}}, {"f.origin"}),
        ("select a.id, b.id as other from flights a join flights b on a.origin = b.origin",
         {"id": {"f.id": "identity"}, "other": {"f.id": "identity"}}, {"f.origin"}),
        ("select id, u.v from flights, unnest([delay, 1]) u(v)",
         {"id": {"f.id": "identity"}, "v": {"f.delay": "transformation"}}, set()),
        ("select id, w.temp from flights f asof join weather w on f.origin = w.origin and f.dep >= w.hour",
         {"id": {"f.id": "identity"}, "temp": {"w.temp": "identity"}}, {"f.origin", "w.origin", "f.dep", "w.hour"}),
        ("select id from flights qualify row_number() over (partition by origin order by delay) = 1",
         {"id": {"f.id": "identity"}}, {"f.origin", "f.delay"}),
        ("select distinct Carrier as c from flights", {"c": {"f.Carrier": "identity"}}, {"f.Carrier"}),
        ("select Carrier, max(delay) as m from flights group by all",
         {"Carrier": {"f.Carrier": "identity"}, "m": {"f.delay": "aggregation"}}, {"f.Carrier"}),
        (
            "with recursive r as (select id as a, Carrier as b, origin as c from flights union all "
            "select b, c, a from r where b <> '') select a from r",
            {"a": {"f.id": "identity", "f.Carrier": "identity", "f.origin": "identity"}},
            {"f.id", "f.Carrier", "f.origin"},
        ),
        ("with flights as (select origin as id from weather) select id from flights", {"id": {"w.origin": "identity"}}, set()),
        ("with unread as (select temp from weather where hour > 1) select id from flights", {"id": {"f.id": "identity"}}, set()),
        ("select 1 as one from flights", {"one": {}}, set()),
        ("select v.a from (values (1), (2)) v(a), flights", {"a": {}}, set()),
    ],
)  # fmt: skip
def test_what_stands_behind_a_column(query: str, direct: Mapping[str, Mapping[str, str]], indirect: set[str]) -> None:
    assert shown(query) == (direct, indirect)


def test_a_lateral_subquery_is_followed() -> None:
    direct, indirect = shown(
        "select f.id, l.warmest from flights f, lateral (select max(temp) as warmest from weather w where w.origin = f.origin) l"
    )
    assert "w.temp" in direct["warmest"]
    assert {"w.temp", "f.origin", "w.origin"} <= set(direct["warmest"]) | indirect


def test_without_a_contract_what_is_asked_of_a_dataset_that_stands_alone_is_its_column() -> None:
    found = read_lineage("select id, arr - sched as delay from raw where origin <> 'XXX'", {"raw": []})
    assert found.direct["delay"] == {("raw", "arr"): "transformation", ("raw", "sched"): "transformation"}
    assert found.indirect == {("raw", "origin")}
    assert read_lineage("select a.id from raw a join raw b on a.k = b.k", {"raw": []}).indirect == {("raw", "k")}
    for query in ("select * from raw", "select id from raw join flights on k = id"):
        with pytest.raises(InvalidInput, match="cannot be followed"):
            read_lineage(query, {"raw": [], "flights": ["dep"]})


@pytest.mark.parametrize(
    "query", ["select columns('d.*') from flights", "select nothing from flights", "delete from flights", "("]
)
def test_what_cannot_be_followed_says_so(query: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be followed"):
        read_lineage(query, INPUTS)


def test_what_cannot_be_read_may_stand_behind_everything() -> None:
    every = {("flights", column): "opaque" for column in INPUTS["flights"]}
    function = Derived(("flights",), function=lambda flights: flights)
    assert column_lineage(function, INPUTS, ["a", "b"]) == ColumnLineage({"a": every, "b": every})
    assert column_lineage(Derived(("flights",), sql="select columns('d.*') from flights"), INPUTS, ["delay"]).direct == {
        "delay": every
    }


# --- random queries: what is not in the lineage cannot change the answer --------------------------------------------------

TABLES = {"a": ["k", "x", "y", "z"], "b": ["k", "p", "q"]}
ROWS = {"a": [(n % 3, n, n * 7 % 5, n * n % 11) for n in range(12)], "b": [(n % 4, n * 3 % 7, 10 - n) for n in range(8)]}

number = st.sampled_from(
    ["{t}.x", "{t}.y", "{t}.z", "{t}.x + {t}.y", "{t}.x * 2", "coalesce({t}.z, 0)", "case when {t}.y > 2 then {t}.x end"]
)
test = st.sampled_from(
    [
        "{t}.x > 3",
        "{t}.y <> {t}.z",
        "{t}.k in (select k from b where p > 2)",
        "exists (select 1 from b where b.k = {t}.k and q > 5)",
        "true",
    ]
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    first, second, third = (draw(number) for _ in range(3))
    shape = draw(st.integers(0, 6))
    where = draw(test)
    if shape == 0:
        text = f"select {first} as c0, {second} as c1 from a t where {where}"
    elif shape == 1:
        text = f"select sum({first}) as c0, count(*) as c1, max({second}) as c2 from a t where {where} group by {third}"
    elif shape == 2:
        inner = f"select {first} as v, t.k, t.z from a t where {where}"
        text = f"with w as ({inner}) select v as c0, b.p as c1 from w join b on w.k = b.k"
    elif shape == 3:
        text = f"select {first} as c0, sum({second}) over (partition by t.k order by {third}, t.x) as c1 from a t where {where}"
    elif shape == 4:
        text = f"select {first} as c0, {second} as c1 from a t where {where} union all select b.p, b.q from b where b.k > 1"
    elif shape == 5:
        text = f"select distinct {first} as c0, (select max(q) from b where b.k = t.k) as c1 from a t where {where}"
    else:
        text = (
            f"select c0, c0 + c1 as c2 from (select {first} as c0, {second} as c1 from a t where {where}) s where c1 is not null"
        )
    return text.replace("{t}", "t")


def answer(connection: duckdb.DuckDBPyConnection, query: str, rows: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[str]]:
    for table, columns in TABLES.items():
        values = ", ".join(str(row) for row in rows[table])
        connection.execute(f"create or replace table {table} as from (values {values}) _({', '.join(columns)})").fetchall()
    done = connection.execute(query)
    names = [column[0] for column in done.description]
    return {name: sorted(map(str, column)) for name, column in zip(names, zip(*done.fetchall(), strict=True), strict=False)}


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        yield connection


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=queries())
def test_a_column_that_is_not_behind_another_cannot_change_it(engine: duckdb.DuckDBPyConnection, query: str) -> None:
    found = read_lineage(query, TABLES)
    before = answer(engine, query, ROWS)
    for table, columns in TABLES.items():
        for place, column in enumerate(columns):
            changed = [tuple(value * 13 + 5 if at == place else value for at, value in enumerate(row)) for row in ROWS[table]]
            after = answer(engine, query, {**ROWS, table: changed})
            for name, values in before.items():
                if (table, column) not in found.direct[name] and (table, column) not in found.indirect:
                    assert after.get(name) == values, f"{table}.{column} changes {name} in {query}"
