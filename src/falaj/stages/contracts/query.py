"""The query of a derived dataset: one SELECT over its declared inputs alone, whose answer is the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from falaj.core.errors import InvalidInput, MissingDependency, NotFound
from falaj.stages.contracts.spec import Derived

LONGEST = 200_000
"""Characters of a query."""
DIALECTS = ("bigquery", "duckdb", "postgres", "snowflake", "spark", "trino")
"""Where a query can be rendered for."""

_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
"""All others read files, settings or the catalogue, or run a text as a query."""
_FORGETFUL = frozenset({
    "age", "getvariable", "in_search_path", "localtime", "localtimestamp", "now", "reservoir_quantile", "session_user",
    "today", "transaction_timestamp", "txid_current", "user", "version",
})  # fmt: skip
"""Functions that answer by the moment, by chance or by the machine, beside those that DuckDB itself calls volatile."""
_PREFIXES = ("current_", "get_current_")


def check(dataset: str, plan: Derived) -> None:
    """Raises InvalidInput unless the query is one SELECT that reads each declared input, and nothing else, and is repeatable.

    DuckDB's own parser reads it (`json_serialize_sql` takes nothing but SELECT), so what is checked is what is run.
    """
    try:
        import duckdb
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("A dataset derived by SQL", "duckdb", "sql") from exc
    where = f"The query of the derived dataset {dataset!r}"
    if len(plan.sql) > LONGEST:
        raise InvalidInput(f"{where} has {len(plan.sql):,} characters, {LONGEST:,} are allowed.", "split it into steps.")
    with duckdb.connect(":memory:", config={"enable_external_access": "false", "threads": "1"}) as connection:
        try:
            (text,) = connection.execute("select json_serialize_sql(?)", [plan.sql]).fetchone() or ("{}",)
            tree = json.loads(text)
        except (duckdb.Error, ValueError, RecursionError) as exc:
            raise InvalidInput(f"{where} cannot be read: {str(exc).splitlines()[0][:300]}", "mend it in the project.") from exc
        volatile = connection.execute("select distinct function_name from duckdb_functions() where stability = 'VOLATILE'")
        refused = {str(name) for (name,) in volatile.fetchall()} | _FORGETFUL
    if tree.get("error"):
        raise InvalidInput(f"{where} cannot be used: {_first(tree)}", "write one SELECT (WITH … is allowed).")
    if len(tree.get("statements", ())) != 1:
        raise InvalidInput(f"{where} holds {len(tree.get('statements', ()))} statements.", "write one SELECT.")
    _check_tree(where, plan, tree, refused)


def _check_tree(where: str, plan: Derived, tree: Mapping[str, Any], refused: set[str]) -> None:
    inputs = {name.lower() for name in plan.inputs}
    nodes = list(_nodes(tree))
    named = {str(entry["key"]).lower() for node in nodes for entry in _entries(node)}
    read: set[str] = set()
    for node in nodes:
        kind = node.get("type")
        if kind == "BASE_TABLE":
            table = str(node.get("table_name", "")).lower()
            is_ours = node.get("catalog_name") in ("", None, "memory") and node.get("schema_name") in ("", None, "main")
            if not is_ours or table not in inputs | named:
                raise InvalidInput(f"{where} reads {table!r}, which is no input of it.", f"its inputs: {', '.join(plan.inputs)}.")
            read.add(table)
        if kind == "SHOW_REF":
            raise InvalidInput(f"{where} describes a table and selects nothing from it.", "write one SELECT.")
        if node.get("sample"):
            raise InvalidInput(f"{where} takes a sample, which is another one each time.", "filter by a hash of the key.")
        if kind == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in _TABLE_FUNCTIONS:
                raise InvalidInput(
                    f"{where} calls {name}(), which reads from outside its inputs.", "name what it needs as an input."
                )
        name = _called(node)
        if name in refused or name.startswith(_PREFIXES):
            raise InvalidInput(
                f"{where} asks {name}(), which answers differently each time.", "use the rows' own times; a rerun must agree."
            )
        if node.get("class") == "PARAMETER":
            raise InvalidInput(f"{where} has a parameter, and nobody gives it a value.", "write the value.")
    if unread := sorted(inputs - read):
        raise InvalidInput(f"{where} never reads its input {unread[0]!r}.", "take it out of `inputs`, or read it.")


def bare(sql: str) -> str:
    """The query without the semicolon at its end, on lines of its own so that a comment at its end swallows nothing."""
    return f"\n{sql.strip().rstrip(';')}\n"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def render(plan: Derived, dialect: str) -> str:
    """The same query for another engine. Only SQL travels: a Python step runs in one process, on polars.

    Raises InvalidInput for a step in Python, NotFound for an unknown dialect, and InvalidInput where the query uses what that
    dialect does not have.
    """
    try:
        import sqlglot
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("A query for another engine", "sqlglot", "sql") from exc
    if dialect not in DIALECTS:
        raise NotFound.named("dialect", dialect, DIALECTS)
    if not plan.sql:
        raise InvalidInput("A step in Python runs on polars only, in one process.", "write it in SQL to run it elsewhere.")
    try:
        for node in sqlglot.parse_one(plan.sql, read="duckdb").walk() if dialect != "duckdb" else ():
            if foreign := _foreign(node, dialect):
                raise InvalidInput(
                    f"The query uses {foreign}, for which {dialect} has no word.", "write that part in another way."
                )
        (text,) = sqlglot.transpile(
            plan.sql, read="duckdb", write=dialect, unsupported_level=sqlglot.ErrorLevel.RAISE, pretty=True
        )
    except (sqlglot.errors.SqlglotError, ValueError, RecursionError) as exc:
        first = (str(exc).splitlines() or [""])[0][:300]
        raise InvalidInput(f"The query cannot be written for {dialect}: {first}", "write that part in another way.") from exc
    return text


def _foreign(node: Any, dialect: str) -> str:
    """What sqlglot would copy as it stands, since it knows no translation."""
    from sqlglot import exp

    if isinstance(node, exp.Join) and node.args.get("method") and dialect != "snowflake":
        return f"{node.args['method']} JOIN"
    return f"{node.name}()" if isinstance(node, exp.Anonymous) else ""


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of the parse tree. By hand, since a deep query would be too deep for a recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _entries(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The common table expressions that a node defines."""
    defined = node.get("cte_map")
    return list(defined.get("map", ())) if isinstance(defined, Mapping) else []


def _called(node: Mapping[str, Any]) -> str:
    """The function of a node; `current_date` and its like stand in the tree as columns without a table."""
    if node.get("function_name"):
        return str(node["function_name"]).lower()
    names = node.get("column_names")
    if node.get("class") == "COLUMN_REF" and isinstance(names, list) and len(names) == 1:
        name = str(names[0]).lower()
        return name if name in _AS_COLUMNS else ""
    return ""


def _first(tree: Mapping[str, Any]) -> str:
    return (str(tree.get("error_message", "")).splitlines() or ["it is no SELECT"])[0][:300]


_AS_COLUMNS = frozenset({
    "current_date", "current_time", "current_timestamp", "current_user", "current_role", "current_catalog",
    "current_schema", "localtime", "localtimestamp", "session_user", "user",
})  # fmt: skip
