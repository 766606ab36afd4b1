"""A PostgreSQL table or query as a source, streamed as Arrow batches in one read-only transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import polars as pl
import pyarrow as pa

from falaj.adapters.tabular.address import Secret, resolved
from falaj.adapters.tabular.batches import as_pieces, promised
from falaj.adapters.tabular.columns import Schema, check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.adapters.tabular.period import check_time
from falaj.core.errors import Denied, FalajError, InvalidInput, NotFound, Unavailable
from falaj.ports.source import Origin

_BATCH = "adbc.postgresql.batch_size_hint_bytes"
_AS_TEXT = (pa.types.is_interval, lambda kind: isinstance(kind, pa.BaseExtensionType))
_KEY = """SELECT a.attname FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indisprimary AND i.indrelid = to_regclass({}) ORDER BY k.place"""


class PostgresSource:
    """`url` is a reference to `postgresql://user:password@host/database`. Either `table` (with its `schema`) or `query`.

    Rows come in order of `known` and then of `order`, without which of the table's primary key. Types that Arrow lacks
    (numeric, uuid, json, interval, enumerations) come as PostgreSQL's text of them, exactly; `types` reads them as numbers.
    """

    def __init__(
        self, *, url: str, secret: Secret, folder: Path | None = None, table: str = "", schema: str = "", query: str = "",
        known: str = "", order: tuple[str, ...] = (), columns: tuple[str, ...] = (), types: dict[str, str] | None = None,
        times: dict[str, tuple[str, str]] | None = None, connect_s: int = 10,
    ) -> None:  # fmt: skip
        if bool(table) == bool(query) or (schema and query):
            raise InvalidInput("A database source reads a table (of a schema) or a query.", "give one of the two.")
        self._address, parts = _address(resolved(url, secret), max(2, connect_s))
        self._table, self._known = ".".join(_quoted(part) for part in (schema, table) if part), known
        self._order, self._columns = texts("order", order), texts("columns", columns)
        self._declared = declare(types, times)
        self._from = self._table or f"({query.rstrip().rstrip(';')}\n) AS asked"
        shown = f"{schema or 'public'}.{table}" if table else f"query-{hashlib.sha256(query.encode()).hexdigest()[:12]}"
        self.origin = Origin(f"postgres://{parts.hostname or 'local'}:{parts.port or 5432}", f"{parts.path.strip('/')}.{shown}")
        self._where = f"{self.origin.namespace}/{self.origin.name}"
        self.capabilities = frozenset({"bounded", "known"} if known else {"bounded"})

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        with _border(self._where), _connected(self._address, self._where) as cursor:
            cursor.execute(f"SELECT * FROM {self._from} LIMIT 0")  # noqa: S608  # quoted by `_quoted`, or the user's own query
            held = {field.name: field.type for field in cursor.fetch_record_batch().schema}
            check_names(list(held), self._where)
            check_there((*self._columns, *self._order), held, self._where)
            casts = {name: any(asks(held[name]) for asks in _AS_TEXT) for name in self._columns or held}
            chosen = ", ".join(
                f"CAST({_quoted(name)} AS text) AS {_quoted(name)}" if cast else _quoted(name) for name, cast in casts.items()
            )
            seen = {name: pa.string() if casts[name] else held[name] for name in casts}
            schema = _frame(pa.schema(list(seen.items())).empty_table()).schema
            text = f"SELECT {chosen} FROM {self._from}{self._rows(schema, since, until)}{self._sorted(cursor)}"  # noqa: S608
            cursor.adbc_statement.set_options(**{_BATCH: str(4 << 20)})
            cursor.execute(text)
            frames = (_frame(batch) for batch in cursor.fetch_record_batch())
            yield from as_pieces(frames, promised(schema, self._declared, self._where), self._declared, self._where)

    def _rows(self, schema: Schema, since: datetime | None, until: datetime) -> str:
        """The driver streams what takes no parameters; so the bounds are literals with their type, made of nothing but times."""
        if not self._known:
            return ""
        kind = check_time(schema.get(self._known), self._known, self._where)
        name, word = _quoted(self._known), "TIMESTAMPTZ" if kind.time_zone else "TIMESTAMP"
        bounds = [f"{name} <= {word} '{_text(until, kind)}'"]
        if since is not None:
            bounds.insert(0, f"{name} > {word} '{_text(since, kind)}'")
        return f" WHERE {' AND '.join(bounds)}"

    def _sorted(self, cursor: Any) -> str:
        order = list(self._order)
        if not order and self._table:
            cursor.execute(_KEY.format(_literal(self._table)))
            order = [row[0] for row in cursor.fetchall()]
        names = dict.fromkeys(name for name in (self._known, *order) if name)
        return f" ORDER BY {', '.join(map(_quoted, names))}" if names else ""


def _address(url: str, connect_s: int) -> tuple[str, SplitResult]:
    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query))
        usable = parts.scheme in ("postgresql", "postgres") and parts.port is not False and bool(parts.path.strip("/"))
    except ValueError:
        usable = False
    if not usable:
        # Nothing of the text is shown: it holds the password.
        raise InvalidInput(
            "The url of a PostgreSQL source is no address.", "write postgresql://user:password@host:5432/database."
        )
    limits = {
        "connect_timeout": str(connect_s), "application_name": "falaj", "keepalives_idle": "30", "keepalives_interval": "10",
        "keepalives_count": "3", "tcp_user_timeout": "60000",
    }  # fmt: skip
    return parts._replace(query=urlencode(limits | given)).geturl(), parts


@contextmanager
def _connected(address: str, where: str) -> Iterator[Any]:
    """A cursor in a transaction that cannot write and sees one state of the database."""
    try:
        connection = adbc_driver_postgresql.dbapi.connect(address, autocommit=True)
    except adbc_driver_manager.Error as exc:
        said = str(exc)
        if "authentication failed" in said or "no password supplied" in said or ("role " in said and "does not exist" in said):
            raise Denied(f"{where} refuses this user and password.", "check what the reference of `url` refers to.") from exc
        if "database " in said and "does not exist" in said:
            raise NotFound(f"There is no database for {where}.", "check the name at the end of the url.") from exc
        raise Unavailable(f"{where} does not answer.", "check its host and port, and try again.") from exc
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield cursor
    finally:
        with suppress(adbc_driver_manager.Error):
            connection.close()


@contextmanager
def _border(where: str) -> Iterator[None]:
    """The server's texts stay inside where they may quote a row."""
    try:
        yield
    except FalajError:
        raise
    except adbc_driver_manager.Error as exc:
        state = exc.sqlstate or ""
        if state in ("42P01", "3F000"):
            raise NotFound(
                f"There is no table {where}, or none that its query names.", "check the table and its schema."
            ) from exc
        if state in ("42501", "28000", "28P01"):
            raise Denied(f"{where} may not be read by this user.", "grant it SELECT on the table.") from exc
        if state == "25006":
            raise InvalidInput(f"The query of {where} would change the database.", "a source only reads.") from exc
        if state.startswith("42"):
            said = next((line for line in str(exc).splitlines() if "ERROR:" in line), "").rpartition("ERROR:")[2].strip()
            raise InvalidInput(
                f"{where} refuses the query: {said[:200]}.", "mend the query or the names of its columns."
            ) from exc
        if state.startswith(("22", "0A")):
            raise InvalidInput(f"{where} cannot compute a row of the query (SQLSTATE {state}).", "mend the query.") from exc
        raise Unavailable(f"{where} stopped answering (SQLSTATE {state or 'unknown'}).", "try again; nothing was kept.") from exc
    except (pa.ArrowException, OSError) as exc:
        # An error of the server behind the first row comes without its class.
        said = str(exc)
        if "ERROR:" in said and "FATAL:" not in said and "canceling statement" not in said:
            raise InvalidInput(f"{where} cannot compute a row of the query.", "mend the query.") from exc
        raise Unavailable(f"{where} stopped half-way.", "try again; nothing was kept.") from exc


def _frame(data: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _quoted(name: str) -> str:
    if "\0" in name:
        raise InvalidInput("A name of the database holds a zero byte.", "check the names in the options.")
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(at: datetime, kind: pl.Datetime) -> str:
    text = at.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
    return text if kind.time_zone else text.removesuffix("+00:00")
