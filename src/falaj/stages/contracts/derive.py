"""Derived datasets: rows made of other datasets' rows, by one SQL query or one Python function, the same each time."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from falaj.core.errors import FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.ports.source import Origin, Source
from falaj.stages.contracts import query
from falaj.stages.contracts.spec import Dataset, Derived

if TYPE_CHECKING:
    import duckdb

PIECE = 122_880
"""Rows a piece: one row group of DuckDB."""
MEMORY = "512MB"
"""What a query may hold; the rest is written to a temporary folder of at most SPILL."""
SPILL = "32GB"

Read = Callable[[str, datetime | None, datetime], "pl.LazyFrame | pl.DataFrame"]
"""(input, since, until) → its rows that became known in (since, until]; for a step over `all`, always with `since` None, the
current version of every row as known by `until`."""

_SETTINGS: Mapping[str, str] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    # With more threads, groups come in another order and sums of floats differ in their last bits from run to run.
    "threads": "1",
    "memory_limit": MEMORY,
    "max_temp_directory_size": SPILL,
}
_KEPT = frozenset({
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE",
    "VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
})  # fmt: skip
_OF_VALUES = frozenset({"ConversionException", "InvalidInputException", "OutOfRangeException"})
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_CAST: Mapping[str, str] = {
    # what a query may give beside these: what it becomes
    "HUGEINT": "BIGINT",
    "UHUGEINT": "BIGINT",
    "BIGNUM": "BIGINT",
    "DECIMAL": "DOUBLE",
    "ENUM": "VARCHAR",
    "UUID": "VARCHAR",
}


def derived(declared: Dataset, read: Read) -> Source:
    """The source of a derived dataset. Give it `read`, which hands out the rows of its inputs.

    Raises InvalidInput, before anything is read, where the query is not one SELECT over its declared inputs alone, asks for
    the time, chance or the machine (its answer would not be the same again), or the function does not take its inputs as
    arguments; MissingDependency where SQL is asked for and DuckDB is not installed.
    """
    plan = declared.source
    if not isinstance(plan, Derived):
        raise InvalidInput(f"The dataset {declared.name!r} is not derived.", "give it source=Derived(inputs=…).")
    if declared.name in plan.inputs:
        raise InvalidInput(f"The dataset {declared.name!r} is derived from itself.", "name another input.")
    can = {"known"} if plan.over == "new" else set[str]()
    if plan.function is None:
        query.check(declared.name, plan)
        return _Sql(declared.name, plan, read, frozenset(can | {"bounded"}))
    return _Python(declared.name, plan, read, _asked(declared.name, plan), frozenset(can))


def in_order(datasets: Mapping[str, Dataset], refers: Callable[[str], Iterable[str]] = lambda name: ()) -> tuple[str, ...]:
    """The names, each after those that it is made of or refers to, else as declared: the order to take them in.

    `refers`: the datasets that a contract's references name. Two that refer to each other come as they are declared.

    Raises NotFound for an input that nobody declares, InvalidInput for datasets that are derived from each other in a circle.
    """
    done: dict[str, None] = {}
    started: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " → ".join((*above[above.index(name) :], name))
            raise InvalidInput(f"Datasets are derived from each other in a circle: {circle}.", "take one of them out.")
        if name in started:
            return
        started.add(name)
        source = datasets[name].source
        for needed in source.inputs if isinstance(source, Derived) else ():
            if needed not in datasets:
                raise NotFound.named(f"dataset for {name!r} to be derived from", needed, datasets)
            visit(needed, (*above, name))
        for other in refers(name):
            if other in datasets:
                visit(other, ())
        done.setdefault(name)

    for name in datasets:
        visit(name, ())
    return tuple(done)


@dataclass(slots=True)
class _Sql:
    name: str
    plan: Derived
    ask: Read
    capabilities: frozenset[str]

    @property
    def origin(self) -> Origin:
        return Origin("falaj", self.name)

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        with TemporaryDirectory(prefix="falaj-") as folder:
            connection = connect(folder)
            try:
                for name in self.plan.inputs:
                    rows = self.ask(name, since if self.plan.over == "new" else None, until)
                    with _told(self.name, f"the input {name!r}"):
                        _fill(connection, name, rows)
                with _told(self.name, "its query"):
                    connection.execute("create schema answer").fetchall()
                    connection.execute(f"create table answer.rows as {query.bare(self.plan.sql)}").fetchall()
                    yield from _pieces(self.name, connection)
            finally:
                connection.close()


@dataclass(slots=True)
class _Python:
    name: str
    plan: Derived
    ask: Read
    arguments: Mapping[str, str]
    """Argument → input, `since` or `until`."""
    capabilities: frozenset[str]

    @property
    def origin(self) -> Origin:
        return Origin("falaj", self.name)

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        assert self.plan.function is not None
        known: dict[str, Any] = {"since": since, "until": until}
        for name in self.plan.inputs:
            known[name] = self.ask(name, since if self.plan.over == "new" else None, until).lazy().collect()
        step = f"its function {getattr(self.plan.function, '__qualname__', 'given')!r}"
        try:
            made: Any = self.plan.function(**{argument: known[what] for argument, what in self.arguments.items()})
            made = made.collect() if isinstance(made, pl.LazyFrame) else made
        except FalajError:
            raise
        except Exception as exc:
            raise _mend(self.name, step, exc) from exc
        if not isinstance(made, pl.DataFrame):
            raise InvalidInput(
                f"The derived dataset {self.name!r} cannot be made: {step} gave a {type(made).__name__}.",
                "return a polars DataFrame or LazyFrame.",
            )
        yield made


def connect(folder: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that sees no file and no network; what does not fit goes to `folder`. Times are in UTC."""
    try:
        import duckdb
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("A dataset derived by SQL", "duckdb", "sql") from exc
    connection = duckdb.connect(":memory:", config={**_SETTINGS, "temp_directory": folder})
    for setting in ("TimeZone = 'UTC'", "lock_configuration = true"):
        connection.execute(f"set {setting}").fetchall()
    return connection


class _Streamed:
    """A frame as an Arrow stream and nothing else: DuckDB would ask pyarrow for a frame that it knows."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def _fill(connection: duckdb.DuckDBPyConnection, name: str, rows: pl.LazyFrame | pl.DataFrame) -> None:
    """The rows as a table, piece by piece."""
    table, is_new = query.quoted(name), True
    pieces = rows.iter_slices(PIECE) if isinstance(rows, pl.DataFrame) else rows.collect_batches(maintain_order=True)
    for piece in pieces:
        connection.register("_piece", _Streamed(piece))
        connection.execute(f"create table {table} as from _piece" if is_new else f"insert into {table} from _piece").fetchall()
        connection.unregister("_piece")
        is_new = False
    if is_new:
        connection.register("_piece", _Streamed(pl.DataFrame(schema=rows.lazy().collect_schema())))
        connection.execute(f"create table {table} as from _piece").fetchall()
        connection.unregister("_piece")


def _pieces(dataset: str, connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
    columns = connection.execute("select column_name, column_type from (describe answer.rows)").fetchall()
    listed = ", ".join(_column(dataset, name, kind) for name, kind in columns)
    ((rows,),) = connection.execute("select count(*) from answer.rows").fetchall()
    for start in range(0, max(rows, 1), PIECE):
        asked = f"select {listed} from answer.rows where rowid >= {start} and rowid < {start + PIECE} order by rowid"  # noqa: S608
        piece = pl.DataFrame(connection.sql(asked))
        yield piece.with_columns(pl.col(pl.Datetime).dt.cast_time_unit("ms"))


def _column(dataset: str, name: str, kind: str) -> str:
    family = kind.partition("(")[0]
    if kind in _KEPT:
        return query.quoted(name)
    if family in _CAST and not kind.endswith("]"):
        return f"cast({query.quoted(name)} as {_CAST[family]}) as {query.quoted(name)}"
    raise InvalidInput(
        f"The column {name!r} of the derived dataset {dataset!r} is a {kind}, which no snapshot keeps.",
        "cast it in the query to a number, a text, a boolean, a date or a timestamp.",
    )


class _told:
    """DuckDB's errors as falaj's: which dataset, which step, and the first line of what DuckDB said."""

    def __init__(self, dataset: str, step: str) -> None:
        self.dataset, self.step = dataset, step

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        import duckdb

        if isinstance(error, duckdb.OutOfMemoryException):
            raise Unavailable(
                f"The derived dataset {self.dataset!r} needs more than {MEMORY} of memory and {SPILL} of disk.",
                "let the query do less at once, or free disk space.",
            ) from error
        if isinstance(error, duckdb.Error):
            raise _mend(self.dataset, self.step, error) from error


def _mend(dataset: str, step: str, error: Exception) -> InvalidInput:
    first = (str(error).splitlines() or [""])[0][:300]
    if type(error).__name__ in _OF_VALUES:
        first = _QUOTED.sub("'…'", first)  # what stood in a row is nobody's business but the row's
    kind = "" if type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb") else f"{type(error).__name__}: "
    return InvalidInput(
        f"The derived dataset {dataset!r} cannot be made: {step} failed. {kind}{first}", "mend it in the project."
    )


def _asked(dataset: str, plan: Derived) -> dict[str, str]:
    """What each argument of the function gets. An input whose name is no Python name is asked for with `_` instead."""
    offered = {name.replace("-", "_").replace(".", "_"): name for name in plan.inputs}
    try:
        given = inspect.signature(plan.function).parameters if plan.function is not None else {}
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"The function of the derived dataset {dataset!r} does not say its arguments.") from exc
    also = {name: name for name in ("since", "until") if name in given and name not in offered}
    optional = {name for name, parameter in given.items() if parameter.default is not inspect.Parameter.empty}
    if set(given) - optional - set(also) != set(offered) - optional:
        wanted = ", ".join(offered)
        raise InvalidInput(
            f"The function of the derived dataset {dataset!r} takes ({', '.join(given)}), its inputs are ({wanted}).",
            f"write def step({wanted}): …; it may also ask for since and until.",
        )
    return {**offered, **also}
