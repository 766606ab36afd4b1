"""Sources by name: where a dataset comes from, written as one call that is checked where it is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack
from zoneinfo import ZoneInfo

from falaj.core.errors import InvalidInput, NotFound
from falaj.stages.contracts.spec import From, one_of

KINDS = ("string", "integer", "number", "boolean", "date", "timestamp")
_FORMAT = re.compile(r"%(?:[-_0]?[YCymdejUWuwVGgHkIlMSs]|[qbBhaADxFvPpfRTXrzZctn+%]|\.[369]?f|[369]f|:{1,3}z|#z)")
"""What a format of times may hold: the specifiers of chrono, which reads them."""


class Meaning(TypedDict, total=False):
    """What every source may be told about its columns."""

    known: str
    """The column of times that says when a row became known: only rows of the period are read."""
    columns: Sequence[str]
    """The columns that are read, in this order; all of them where nothing is said."""
    types: Mapping[str, str]
    """Column of texts → `integer`, `number`, `boolean`, `date` (2026-01-31), `timestamp` (RFC 3339) or `string`."""
    times: Mapping[str, tuple[str, str]]
    """Column of texts → (format, zone), such as `("%d/%m/%Y %H:%M", "Asia/Dubai")`."""


class Layout(Meaning, total=False):
    """How files are read."""

    format: Literal["csv", "jsonl", "parquet"]
    """Without it, the file's ending says so."""
    arrived: str
    """A column of this name is added with the time at which a file arrived: was written or renamed, or put into the store; only
    files that arrived in the period are read."""
    nulls: Sequence[str]
    """Texts of a CSV file that mean that nothing is there; `("",)` unless said."""
    separator: str
    encoding: Literal["utf-8", "latin-1", "iso-8859-1", "windows-1252"]
    header: Sequence[str]
    """The columns' names, of CSV files that have no header."""


class Store(TypedDict, total=False):
    """An S3-compatible store. Keys are references, `env:NAME` or `file:PATH`; without them the machine's identity is used."""

    endpoint: str
    region: str
    key: str
    key_secret: str
    token: str
    allow_http: bool
    """Lets a store that is not on this machine go without TLS."""
    timeout_s: float
    """Seconds that one request may take."""


class Files(Layout, total=False):
    outside: bool
    """Lets the path lead out of the project's folder."""


class S3(Layout, Store, total=False):
    pass


class Delta(Meaning, Store, total=False):
    version: int
    at: str
    """RFC 3339: the table as it was at that time."""
    outside: bool


class Iceberg(Meaning, total=False):
    secrets: Mapping[str, str]
    """Properties of the catalog, by reference."""
    snapshot: int
    at: str
    """RFC 3339: the table as it was at that time."""


class Asked(Meaning, total=False):
    """A table (of a schema) or a query of a database."""

    table: str
    schema: str
    query: str
    order: Sequence[str]
    """What rows are ordered by behind `known`; without it the table's primary key."""
    connect_s: int
    """Seconds that connecting may take."""


class Warehouse(Meaning, total=False):
    table: str
    schema: str
    catalog: str
    query: str
    order: Sequence[str]


def files(path: str, **options: Unpack[Files]) -> From:
    """CSV, JSON lines or Parquet in the project's folder: a file, a folder or a pattern such as `2026/*.csv.gz`.

    With neither `known` nor `arrived` all rows come each time, for a dataset that `brings="all"`.
    """
    return _from("files", Files, {"path": path}, options)


def s3(path: str, **options: Unpack[S3]) -> From:
    """The same in an S3-compatible store: an object, what lies below a prefix, or a pattern, of `s3://bucket/…`."""
    return _from("s3", S3, {"path": path}, options)


def delta(path: str, **options: Unpack[Delta]) -> From:
    """A Delta Lake table in the project's folder, or at `s3://bucket/prefix`."""
    return _from("delta", Delta, {"path": path}, options)


def iceberg(table: str, catalog: Mapping[str, str], **options: Unpack[Iceberg]) -> From:
    """An Apache Iceberg table, `namespace.name`, of a catalog with these properties (`type`, `uri`, `warehouse`); `{folder}` in
    one stands for the project's folder."""
    return _from("iceberg", Iceberg, {"table": table, "catalog": dict(catalog)}, options)


def postgres(url: str, **options: Unpack[Asked]) -> From:
    """A table or a query of PostgreSQL. `url` is a reference to `postgresql://user:password@host/database`."""
    return _from("postgres", Asked, {"url": url}, options)


def database(url: str, **options: Unpack[Asked]) -> From:
    """A table or a query of any database with a SQLAlchemy driver. `url` is a reference to its SQLAlchemy address.

    A query names the type of each of its columns in `types`.
    """
    return _from("database", Asked, {"url": url}, options)


def warehouse(url: str, **options: Unpack[Warehouse]) -> From:
    """A table or a query of a warehouse that Ibis speaks to. `url` is a reference to its Ibis address."""
    return _from("warehouse", Warehouse, {"url": url}, options)


def stream(path: str, types: Mapping[str, str], *, known: str = "", **options: Any) -> From:
    """The JSON records of a stream: of a prediction log in a folder of the project, or with `stream="messages"` of an embedded
    stream there; with `stream="kafka"`, `"nats"` or `"redis"` and `url="env:NAME"`, of the broker's stream `path`.

    `types` names the fields that become columns, `inputs.miles` for one within another; of messages also `_key`, `_id`,
    `_position` and `_at`. Raises InvalidInput for a `url` that is no reference."""
    if not str(options.get("url", "env:")).startswith(("env:", "file:")):
        raise InvalidInput("The url of a stream is no reference.", "write env:NAME or file:PATH and keep the address there.")
    _check_meaning({"types": types, **options})
    return From("stream", {"path": path, "types": dict(types), **({"known": known} if known else {}), **options})


def _from(scheme: str, allowed: type, placed: Mapping[str, Any], options: Mapping[str, Any]) -> From:
    """Raises NotFound for an option that the source does not have, InvalidInput for an address that is no reference, and
    for a type, a time's format or a zone that does not exist."""
    names = allowed.__annotations__
    for name in options:
        if name not in names:
            raise NotFound.named(f"option of {scheme}", name, names)
    url = str(placed.get("url", "env:"))
    if not url.startswith(("env:", "file:")):
        raise InvalidInput(f"The url of {scheme} is no reference.", "write env:NAME or file:PATH and keep the address there.")
    _check_meaning(options)
    return From(scheme, {**placed, **options})


def _check_meaning(options: Mapping[str, Any]) -> None:
    kinds: Mapping[str, Any] = options.get("types") or {}
    for column, kind in kinds.items():
        one_of(f"The type of {column!r}", kind, KINDS)
    times: Mapping[str, Any] = options.get("times") or {}
    for column, pair in times.items():
        _check_time(column, pair, kinds.get(column, "timestamp"))


def _check_time(column: str, pair: Any, kind: str) -> None:
    if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise InvalidInput(
            f"The time format of {column!r} is not a pair.", 'write times={"at": ("%d/%m/%Y %H:%M", "Asia/Dubai")}.'
        )
    if kind not in ("date", "timestamp"):
        raise InvalidInput(f"{column!r} is declared as {kind} and has a time format.", "leave it out of `types` or of `times`.")
    text, zone = pair
    # Without the specifiers that there are, no percent sign is left over.
    if text and ("%" not in text or "%" in _FORMAT.sub("", text)):
        raise InvalidInput(f"{text[:80]!r} is no format of times (column {column!r}).", 'write one such as "%d/%m/%Y %H:%M".')
    if kind == "timestamp" and text and not zone and not any(sign in text for sign in ("%z", "%:z", "%+")):
        raise InvalidInput(f"The times of {column!r} have no zone.", 'name one, such as "UTC", or read it with %z.')
    try:
        _ = zone and ZoneInfo(zone)
    except (ValueError, OSError, KeyError) as exc:
        raise InvalidInput(f"There is no time zone {zone[:80]!r} (column {column!r}).", 'write "UTC" or "Asia/Dubai".') from exc
