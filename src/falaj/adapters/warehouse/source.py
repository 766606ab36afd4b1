"""A table or query of a warehouse as a source, through Ibis: DuckDB, Snowflake, BigQuery, Trino and what else it speaks to."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import ibis
import polars as pl
import pyarrow as pa

from falaj.adapters.tabular.address import Secret, resolved
from falaj.adapters.tabular.batches import as_pieces, in_utc, promised
from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.core.errors import Denied, FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.ports.source import Origin

# Ibis asks for a mend of pyarrow before 14.0.1; there is nothing to mend in the versions that falaj allows.
sys.modules.setdefault("pyarrow_hotfix", ModuleType("pyarrow_hotfix"))

_AS_TEXT = ("is_uuid", "is_json", "is_interval", "is_inet", "is_macaddr", "is_geospatial")
_DENIED = ("denied", "authentication", "incorrect username", "password", "unauthorized", "permission", "forbidden", "403", "401")
_MISSING = ("not found", "does not exist", "no such", "notfound")


class WarehouseSource:
    """`url` is a reference to an Ibis address, such as `snowflake://user:password@account/database/schema?warehouse=w`. Either
    `table` (with its `schema`, and its `catalog` above that) or `query`. Rows come in order of `known` and then of `order`;
    give an `order`, since a warehouse keeps none.
    """

    def __init__(
        self, *, url: str, secret: Secret, folder: Path | None = None, table: str = "", schema: str = "",
        catalog: str = "", query: str = "", known: str = "", order: tuple[str, ...] = (), columns: tuple[str, ...] = (),
        types: dict[str, str] | None = None, times: dict[str, tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        if bool(table) == bool(query) or (schema and query) or (catalog and not schema):
            raise InvalidInput("A warehouse source reads a table (of a schema, of a catalog) or a query.", "give one of the two.")
        self._url = _url(resolved(url, secret))
        self._table, self._query, self._known = table, query.rstrip().rstrip(";"), known
        self._place: tuple[str, str] | str | None = (catalog, schema) if catalog else schema or None
        self._order, self._columns = texts("order", order), texts("columns", columns)
        self._declared = declare(types, times)
        parts = urlsplit(self._url)
        shown = (
            ".".join(part for part in (catalog, schema, table) if part)
            or f"query-{hashlib.sha256(query.encode()).hexdigest()[:12]}"
        )
        host = parts.hostname or ""
        name = ".".join(part for part in (*([] if catalog or not host else parts.path.strip("/").split("/")), shown) if part)
        self.origin = Origin(f"{parts.scheme}://{host or parts.path}{f':{parts.port}' if parts.port else ''}", name)
        self._where = f"{self.origin.namespace}/{name}"
        self.capabilities = frozenset({"bounded", "known"} if known else {"bounded"})

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        with _border(self._where), _connected(self._url) as backend:
            table = backend.sql(self._query) if self._query else backend.table(self._table, database=self._place)
            asked = self.asked(table, since, until)
            schema = _frame(asked.schema().to_pyarrow().empty_table()).schema
            batches = _BATCHES.get(backend.name, _any_batches)(backend, asked)
            wanted = promised(schema, self._declared, self._where)
            frames = (_in_utc(_frame(batch)) for batch in batches)
            yield from as_pieces(frames, wanted, self._declared, self._where)

    def asked(self, table: Any, since: datetime | None, until: datetime) -> Any:
        """The expression that is sent: the columns, the period, the order; each dialect's own SQL is made of it by Ibis.

        Raises InvalidInput where a column is not there or the one that says when a row became known is no time.
        """
        held = dict(table.schema().items())
        check_names(list(held), self._where)
        check_there((*self._columns, *self._order), held, self._where)
        rows = table
        if self._known:
            kind = held.get(self._known)
            if kind is None or not kind.is_timestamp():
                raise InvalidInput(
                    f"{self._where}: the column {self._known!r} says when a row became known, and is {kind or 'not there'}.",
                    "name a column of times.",
                )
            known = table[self._known]
            rows = rows.filter(known <= _bound(until, kind))
            if since is not None:
                rows = rows.filter(known > _bound(since, kind))
        names = dict.fromkeys(name for name in (self._known, *self._order) if name)
        if names:
            rows = rows.order_by([rows[name] for name in names])
        chosen = []
        for name in self._columns or held:
            is_text = any(getattr(held[name], asks)() for asks in _AS_TEXT)
            chosen.append(rows[name].cast("string").name(name) if is_text else rows[name])
        return rows.select(chosen)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = bool(parts.scheme)
    except ValueError:
        usable = False
    if not usable:
        # Nothing of the text is shown: it may hold a password.
        raise InvalidInput(
            "The url of a warehouse source is no address.", "write snowflake://user:password@account/database/schema."
        )
    if parts.scheme == "duckdb":
        return f"duckdb://{parts.netloc}{parts.path}?{urlencode(dict(parse_qsl(parts.query)) | {'read_only': 'True'})}"
    return text


def _bound(at: datetime, kind: Any) -> Any:
    """A literal of the column's own type; a time without a zone is meant in UTC."""
    utc = at.astimezone(UTC)
    return (
        ibis.literal(utc, type="timestamp('UTC')") if kind.timezone else ibis.literal(utc.replace(tzinfo=None), type="timestamp")
    )


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    backend = ibis.connect(url)
    try:
        yield backend
    finally:
        with suppress(Exception):  # what is closed half-way has nothing more to say
            backend.disconnect()


def _any_batches(backend: Any, asked: Any) -> Iterator[pa.RecordBatch]:
    yield from backend.to_pyarrow_batches(asked, chunk_size=PIECE_ROWS)


def _duckdb_batches(backend: Any, asked: Any) -> Iterator[pa.RecordBatch]:
    """Ibis calls a method that DuckDB 2 no longer has."""
    yield from backend.con.sql(ibis.to_sql(asked, dialect="duckdb")).to_arrow_reader(PIECE_ROWS)


_BATCHES: Mapping[str, Callable[[Any, Any], Iterator[pa.RecordBatch]]] = {"duckdb": _duckdb_batches}


def _frame(data: Any) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """A warehouse hands times out in the zone of its session."""
    return frame.cast({name: wanted for name, dtype in frame.schema.items() if (wanted := in_utc(dtype)) != dtype})


@contextmanager
def _border(where: str) -> Iterator[None]:
    """Each warehouse fails in its own driver's words, which stay inside: they may hold the address or a row."""
    try:
        yield
    except FalajError:
        raise
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            f"{where} needs the package {exc.name!r}, which is not installed.", f"pip install {exc.name}"
        ) from exc
    except Exception as exc:
        said = str(exc).lower()
        if any(word in said for word in _DENIED):
            raise Denied(f"{where} refuses this user.", "check what the reference of `url` refers to, and its rights.") from exc
        if isinstance(exc, ibis.common.exceptions.TableNotFound) or any(word in said for word in _MISSING):
            raise NotFound(f"There is no {where}.", "check the table, its schema and the url.") from exc
        if (
            isinstance(exc, (OSError, ConnectionError, TimeoutError))
            or "connect" in said
            or "timed out" in said
            or "timeout" in said
        ):
            raise Unavailable(f"{where} does not answer.", "check its address, and try again.") from exc
        raise InvalidInput(
            f"{where} refuses the query ({type(exc).__name__}).", "mend the query or the names of its columns."
        ) from exc
