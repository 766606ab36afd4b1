"""The point-in-time join as one query of standard SQL, for tables that stay in a warehouse or on a cluster."""

# ruff: noqa: S608  # the query is put together here, and every name in it is quoted by `_name`
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from falaj.core.errors import InvalidInput, MissingDependency, NotFound
from falaj.stages.features.spec import View, key_columns, ttl_ms

if TYPE_CHECKING:
    from sqlglot import exp

_EARLIER, _WITHOUT_NAN = "falaj_earlier", "falaj_without_nan"
DIALECTS: Mapping[str, Mapping[str, str]] = {
    # What no translation knows: a time less so many milliseconds, and a number that is null where it is NaN.
    "duckdb": {
        _EARLIER: "make_timestamptz(epoch_us({0}) - {1}000)",
        _WITHOUT_NAN: "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    },
    "postgres": {
        _EARLIER: "{0} - {1} * INTERVAL '1 millisecond'",
        _WITHOUT_NAN: "NULLIF({0}, CAST('NaN' AS DOUBLE PRECISION))",
    },
    "spark": {
        _EARLIER: "timestampadd(MILLISECOND, -{1}, {0})",
        _WITHOUT_NAN: "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    },
    "snowflake": {
        _EARLIER: "dateadd(millisecond, -{1}, {0})",
        _WITHOUT_NAN: "NULLIF({0}, CAST('NaN' AS DOUBLE))",
    },
    "bigquery": {
        _EARLIER: "TIMESTAMP_MICROS(UNIX_MICROS({0}) - {1}000)",
        _WITHOUT_NAN: "CASE WHEN is_nan({0}) THEN NULL ELSE {0} END",
    },
    "trino": {
        _EARLIER: "date_add('millisecond', -{1}, {0})",
        _WITHOUT_NAN: "CASE WHEN is_nan({0}) THEN NULL ELSE {0} END",
    },
}


@dataclass(frozen=True, slots=True)
class Asking:
    """The spine's table. `row` is a whole number that is another one in each row; `time` has a time zone.

    `keys`: view name → the column with its entity, where that is not named like the entity.
    """

    table: str
    row: str
    time: str
    keys: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The table of a view's dataset. A table has no order of its own: `place` is the column that numbers its rows.

    Without it, rows of one entity that tie in time (and created) are put in order by their features, so that the same query gives
    the same answer each time.
    """

    view: View
    table: str
    place: str | None = None


def join_sql(asking: Asking, held: Sequence[Held], *, dialect: str) -> str:
    """One SELECT, by the rules of `as_of`: the spine's columns, and `<view>__at` and `<view>__<feature>` of each view.

    Every row of the spine once, in the order of its row numbers. Tables may be named `schema.table`. Names are quoted: they are
    written as the engine holds them. Needs window functions and nothing else that is new.

    Raises InvalidInput for something that is no `View` (write the rows of a window view to a table first), NotFound for an
    unknown dialect, MissingDependency without sqlglot.
    """
    try:
        import sqlglot
    except ImportError as exc:
        raise MissingDependency.of("A join in SQL", "sqlglot", "sql") from exc
    if dialect not in DIALECTS:
        raise NotFound.named("dialect", dialect, DIALECTS)
    for one in held:
        if not isinstance(one.view, View):
            raise InvalidInput(
                f"The view {one.view.name!r} counts over windows, which this query does not.",
                "write its rows to a table with `Features.offline`, and declare a View of that table.",
            )
        if len(key_columns(one.view.entity)) > 1:
            raise InvalidInput(
                f"The entity of the view {one.view.name!r} has several key columns, which this query does not join by.",
                "make one column of them in a derived dataset, and declare the entity by that.",
            )
    whole = sqlglot.parse_one(_text(asking, held), read="duckdb").transform(_translated, dialect)
    # Where nulls stand in an order is told only where there can be nulls.
    return whole.sql(dialect=dialect, pretty=True, unsupported_level=sqlglot.ErrorLevel.IGNORE)


def _text(asking: Asking, held: Sequence[Held]) -> str:
    """The query in DuckDB's words, in which two functions of `DIALECTS` stand for what each dialect says otherwise."""
    tables = [part for number, one in enumerate(held) for part in _tables(asking, one, number)]
    chosen, joins = ["s.*"], []
    for number, one in enumerate(held):
        chosen += [f"r{number}.{_name(c)} AS {_name(f'{one.view.name}__{c}')}" for c in ("at", *one.view.features)]
        fresh = ttl_ms(one.view)
        limit = "" if fresh is None else f' AND r{number}."at" >= {_EARLIER}(s.{_name(asking.time)}, {fresh})'
        joins.append(
            f"LEFT JOIN best_{number} AS b{number} ON b{number}.asked_by = s.{_name(asking.row)} "
            f"LEFT JOIN rows_{number} AS r{number} ON r{number}.entity_key = b{number}.entity_key "
            f"AND r{number}.row_rank = b{number}.row_rank{limit}"
        )
    head = f"WITH {', '.join(tables)} " if tables else ""
    source = f"{_table(asking.table)} AS s {' '.join(joins)}"
    return f"{head}SELECT {', '.join(chosen)} FROM {source} ORDER BY s.{_name(asking.row)}"


def _tables(asking: Asking, one: Held, number: int) -> list[str]:
    """A view's rows numbered from worse to better; them and who asks, by moment; and the best that each of these had seen."""
    view = one.view
    entity, time = _name(view.entity), _name(view.time)
    known = _name(view.created) if view.created else time
    order = [time, *([known] if view.created else []), *([_name(one.place)] if one.place else map(_name, view.features))]
    key = _name((asking.keys or {}).get(view.name, view.entity))
    t, row = _name(asking.time), _name(asking.row)
    features = ", ".join(f"{_WITHOUT_NAN}(CAST({_name(c)} AS DOUBLE)) AS {_name(c)}" for c in view.features)
    by = ", ".join(f"{c} NULLS FIRST" for c in order)
    rows = (
        f'SELECT CAST({entity} AS TEXT) AS entity_key, {time} AS "at", GREATEST({time}, {known}) AS seen_at, {features}, '
        f"ROW_NUMBER() OVER (PARTITION BY CAST({entity} AS TEXT) ORDER BY {by}) AS row_rank "
        f"FROM {_table(one.table)} WHERE {entity} IS NOT NULL AND {time} IS NOT NULL AND {known} IS NOT NULL"
    )
    both = (
        f"SELECT entity_key, seen_at, 0 AS asks, row_rank, CAST(NULL AS BIGINT) AS asked_by FROM rows_{number} "
        f"UNION ALL SELECT CAST({key} AS TEXT), {t}, 1, 0, CAST({row} AS BIGINT) FROM {_table(asking.table)} "
        f"WHERE {key} IS NOT NULL AND {t} IS NOT NULL"
    )
    best = (
        "SELECT entity_key, asked_by, MAX(row_rank) OVER (PARTITION BY entity_key ORDER BY seen_at, asks "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS row_rank FROM both_{number}"
    )
    return [f"rows_{number} AS ({rows})", f"both_{number} AS ({both})", f"best_{number} AS ({best})"]


def _translated(node: exp.Expr, dialect: str) -> exp.Expr:
    from sqlglot import exp, parse_one

    if isinstance(node, exp.Anonymous) and str(node.this).lower() in DIALECTS[dialect]:
        own = [part.sql(dialect=dialect) for part in node.expressions]
        return parse_one(DIALECTS[dialect][str(node.this).lower()].format(*own), read=dialect)
    return node


def _name(name: str) -> str:
    from sqlglot import exp

    return exp.to_identifier(name, quoted=True).sql(dialect="duckdb")


def _table(name: str) -> str:
    return ".".join(map(_name, name.split(".")))
