"""A table or query of any database with a SQLAlchemy driver as a source, streamed row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from falaj.adapters.tabular.address import Secret, resolved
from falaj.adapters.tabular.batches import as_pieces, promised
from falaj.adapters.tabular.columns import PIECE_ROWS, TIME, check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.adapters.tabular.period import check_time
from falaj.core.errors import Denied, FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.ports.source import Origin

_LIMITS: Mapping[str, str] = {
    # driver: what it calls the seconds that connecting may take
    "mysqldb": "connect_timeout", "oracledb": "tcp_connect_timeout", "pg8000": "timeout", "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout", "pymssql": "login_timeout", "pymysql": "connect_timeout", "pyodbc": "timeout",
    "pysqlite": "timeout",
}  # fmt: skip
_TYPES: Mapping[str, Callable[[], sa.types.TypeEngine[Any]]] = {
    # of a query's columns, whose types no driver tells
    "string": sa.Text, "integer": sa.BigInteger, "number": sa.Float, "boolean": sa.Boolean, "date": sa.Date,
    "timestamp": lambda: sa.DateTime(timezone=True),
}  # fmt: skip
_ANSWER_S: Mapping[str, int] = {"pg8000": 300}
"""Drivers whose limit holds for every answer and not for connecting alone, which a long query must be let have."""
_STREAMS = frozenset({"mysqldb", "oracledb", "psycopg", "psycopg2", "pymysql", "pyodbc", "pysqlite"})
"""Drivers that hand rows out as they come; another one may hold all of them first, so that such a source is not `bounded`."""
_DENIED = ("denied", "authentication", "password", "permission", "not authorized", "28000", "28p01")


class DatabaseSource:
    """`url` is a reference to a SQLAlchemy address, such as `mysql+pymysql://user:password@host/shop`. Either `table` (with
    its `schema`), whose types are asked of the database, or `query`, whose columns and types `types` names, all of them.

    Rows come in order of `known` and then of `order`, without which of the table's primary key.
    """

    def __init__(
        self, *, url: str, secret: Secret, folder: Path | None = None, table: str = "", schema: str = "", query: str = "",
        known: str = "", order: tuple[str, ...] = (), columns: tuple[str, ...] = (), types: dict[str, str] | None = None,
        times: dict[str, tuple[str, str]] | None = None, connect_s: int = 10,
    ) -> None:  # fmt: skip
        if bool(table) == bool(query) or (schema and query):
            raise InvalidInput("A database source reads a table (of a schema) or a query.", "give one of the two.")
        if query and (not types or times):
            raise InvalidInput(
                "A query names the type of each of its columns.", 'write types={"id": "integer", "at": "timestamp"}.'
            )
        self._url = _url(resolved(url, secret))
        self._table, self._schema, self._query, self._known = table, schema, query.rstrip().rstrip(";"), known
        self._order, self._columns = texts("order", order), texts("columns", columns)
        self._types, self._declared = dict(types or {}), declare(types, times)
        self._connect_s = connect_s
        shown = ".".join(part for part in (schema, table) if part) or f"query-{hashlib.sha256(query.encode()).hexdigest()[:12]}"
        host, database = self._url.host, self._url.database or ""
        place = f"{host}:{self._url.port}" if host and self._url.port else host or ""
        name = f"{database}.{shown}" if host else shown
        self.origin = Origin(f"{self._url.get_backend_name()}://{place or database}", name)
        self._where = f"{self.origin.namespace}/{name}"
        self.capabilities = frozenset(
            [*(["known"] if known else []), *(["bounded"] if self._url.get_driver_name() in _STREAMS else [])]
        )

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        with _border(self._where), self._connected() as connection:
            table = self._reflected(connection)
            check_names(list(table.c.keys()), self._where)
            check_there((*self._columns, *self._order), table.c.keys(), self._where)
            held = {name: _dtype(table.c[name].type, name, self._where) for name in self._columns or table.c.keys()}
            query = sa.select(*(table.c[name] for name in held)).select_from(table)
            if self._known:
                check_time(held.get(self._known), self._known, self._where)
                known = table.c[self._known]
                query = query.where(known <= _bound(until, known))
                if since is not None:
                    query = query.where(known > _bound(since, known))
            order = self._order or ([column.name for column in table.primary_key] if isinstance(table, sa.Table) else [])
            names = dict.fromkeys(name for name in (self._known, *order) if name)
            query = query.order_by(*(table.c[name] for name in names))
            schema = promised(held, self._declared, self._where)
            rows = connection.execute(query).partitions(PIECE_ROWS)
            yield from as_pieces((_frame(part, held, self._where) for part in rows), schema, self._declared, self._where)

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        name = self._url.get_driver_name()
        limits: dict[str, Any] = {_LIMITS[name]: max(self._connect_s, _ANSWER_S.get(name, 0))} if name in _LIMITS else {}
        if self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file():
            # It would be made.
            raise NotFound(f"There is no database {self._url.database}.", "check the path at the end of the url.")
        engine = sa.create_engine(self._url, poolclass=sa.NullPool, connect_args=limits, hide_parameters=True)
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                yield connection.execution_options(stream_results=True, yield_per=PIECE_ROWS)
        finally:
            engine.dispose()

    def _reflected(self, connection: sa.Connection) -> Any:
        if self._query:
            columns = [sa.column(name, _TYPES[kind]()) for name, kind in self._types.items()]
            return sa.text(self._query).columns(*columns).subquery("asked")
        try:
            return sa.Table(
                self._table, sa.MetaData(), schema=self._schema or None, autoload_with=connection, resolve_fks=False,
                quote=True, quote_schema=True,
            )  # fmt: skip
        except sa.exc.NoSuchTableError as exc:
            raise NotFound(f"There is no table {self._where}.", "check the table and its schema.") from exc


def _url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
        url.get_dialect()
    except sa.exc.NoSuchModuleError as exc:
        raise MissingDependency(
            "No SQLAlchemy dialect for the url of a database source is installed.", "install the driver that your database names."
        ) from exc
    except (sa.exc.ArgumentError, ValueError) as exc:
        # Nothing of the text is shown: it holds the password.
        raise InvalidInput("The url of a database source is no address.", "write driver://user:password@host/database.") from exc
    return url


def _bound(at: datetime, column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    """A bound value; a time without a zone is meant in UTC."""
    utc = at.astimezone(UTC)
    return sa.literal(utc if getattr(column.type, "timezone", False) else utc.replace(tzinfo=None), column.type)


def _dtype(kind: Any, name: str, where: str) -> pl.DataType:
    if isinstance(kind, sa.DateTime):
        return TIME if kind.timezone else pl.Datetime("us")
    if isinstance(kind, sa.Float) or (isinstance(kind, sa.Numeric) and not kind.asdecimal):
        return pl.Float64()
    if isinstance(kind, sa.Numeric):
        return pl.Decimal(min(kind.precision or 38, 38), kind.scale) if kind.scale is not None else pl.String()
    table: tuple[tuple[Any, pl.DataType], ...] = (
        (sa.Boolean, pl.Boolean()), (sa.Integer, pl.Int64()), (sa.Date, pl.Date()), (sa.Time, pl.Time()),
        (sa.LargeBinary, pl.Binary()), (sa.String, pl.String()), (sa.Uuid, pl.String()),
    )  # fmt: skip
    found = next((dtype for class_, dtype in table if isinstance(kind, class_)), None)
    if found is None:
        raise InvalidInput(
            f"{where}: the column {name!r} is of the type {kind!r}, which is not read.",
            "leave it out with `columns`, or cast it in a `query`.",
        )
    return found


def _frame(rows: Sequence[Any], held: Mapping[str, pl.DataType], where: str) -> pl.DataFrame:
    columns = []
    for (name, dtype), values in zip(held.items(), zip(*rows, strict=True), strict=True):
        ready: Sequence[Any] = values
        if dtype == pl.String:
            ready = [None if value is None else str(value) for value in values]
        elif dtype == TIME:
            ready = [None if value is None else _in_utc(value) for value in values]
        elif dtype == pl.Float64:
            ready = [None if value is None else float(value) for value in values]
        try:
            columns.append(pl.Series(name, ready, dtype=dtype, strict=True))
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as exc:
            raise InvalidInput(
                f"{where}: the column {name!r} holds a value that is no {dtype}.",
                "mend the row, or cast the column in a `query`.",
            ) from exc
    return pl.DataFrame(columns)


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


@contextmanager
def _border(where: str) -> Iterator[None]:
    """The driver's texts stay inside: they may hold the address or a row."""
    try:
        yield
    except FalajError:
        raise
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f"{where} needs the package {exc.name!r}, which is not installed.", f"pip install {exc.name}"
        ) from exc
    except sa.exc.DBAPIError as exc:
        said = str(exc.orig).lower()
        if exc.connection_invalidated or isinstance(exc, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)):
            if any(word in said for word in _DENIED):
                raise Denied(f"{where} refuses this user and password.", "check what the reference of `url` refers to.") from exc
            if "no such" not in said and "syntax" not in said:
                raise Unavailable(f"{where} does not answer.", "check its host and port, and try again.") from exc
        if any(word in said for word in _DENIED):
            raise Denied(f"{where} may not be read by this user.", "grant it SELECT on the table.") from exc
        raise InvalidInput(
            f"{where} refuses the query ({type(exc.orig).__name__}).", "mend the query or the names of its columns."
        ) from exc
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as exc:
        raise InvalidInput(
            f"{where} holds what its column's type cannot be.", "mend the row, or cast the column in a `query`."
        ) from exc
    except OSError as exc:
        raise Unavailable(f"{where} does not answer.", "check its host and port, and try again.") from exc
