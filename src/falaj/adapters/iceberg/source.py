"""An Apache Iceberg table as a source, found through its catalog; as it is now or as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    RESTError,
    UnauthorizedError,
)
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThan, LessThanOrEqual
from pyiceberg.table import Table
from pyiceberg.types import TimestampType, TimestamptzType

from falaj.adapters.tabular.address import Secret, resolved
from falaj.adapters.tabular.batches import as_pieces, promised
from falaj.adapters.tabular.columns import check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.core.errors import Denied, FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.core.moments import millis, moment
from falaj.ports.source import Origin

_AFTER: Any = GreaterThan
_UPTO: Any = LessThanOrEqual
"""Their own signatures hide that they take a name and a value."""


class IcebergSource:
    """`table` is `namespace.name`. `catalog` holds the catalog's own properties, such as `type` (`sql`, `rest`), `uri` and
    `warehouse`; `{folder}` in one stands for the project's folder. `secrets` holds properties by reference, such as
    `credential`. `snapshot` (its id) or `at` (RFC 3339) reads the table as it was.
    """

    def __init__(
        self, *, table: str, catalog: Mapping[str, str], folder: Path, secret: Secret | None = None,
        secrets: Mapping[str, str] | None = None, snapshot: int | None = None, at: str = "", known: str = "",
        columns: tuple[str, ...] = (), types: dict[str, str] | None = None, times: dict[str, tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        if snapshot is not None and at:
            raise InvalidInput("`snapshot` and `at` both say which state of the table is read.", "give one of the two.")
        if "." not in table.strip("."):
            raise InvalidInput(f"{table!r} is no table of a catalog.", 'write table="namespace.name".')
        self._table, self._snapshot, self._at = table, snapshot, moment(at) if at else None
        self._known, self._columns = known, texts("columns", columns)
        self._declared = declare(types, times)
        plain = {name: str(value).replace("{folder}", str(Path(folder).resolve())) for name, value in catalog.items()}
        self._properties = plain | {name: resolved(reference, secret) for name, reference in (secrets or {}).items()}
        # A catalog's address may hold a user and a password before its host.
        scheme, mark, rest = plain.get("uri", "iceberg").partition("://")
        self.origin = Origin(f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}", table)
        self.capabilities = frozenset({"bounded", "known"} if known else {"bounded"})

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        where = self._table
        with _border(where):
            table = load_catalog("falaj", **self._properties).load_table(where)
            snapshot = self._snapshot_of(table)
            names = [field.name for field in (table.schema() if snapshot is None else self._schema_at(table, snapshot)).fields]
            check_names(names, where)
            check_there(self._columns, names, where)
            scan = table.scan(
                row_filter=self._rows(table, since, until), snapshot_id=snapshot, selected_fields=self._columns or ("*",)
            )
            reader = scan.to_arrow_batch_reader()
            schema = _frame(reader.schema.empty_table()).schema
            frames = (_frame(batch) for batch in reader)
            yield from as_pieces(frames, promised(schema, self._declared, where), self._declared, where)

    def _snapshot_of(self, table: Table) -> int | None:
        if self._at is not None:
            found = table.snapshot_as_of_timestamp(millis(self._at))
            if found is None:
                raise NotFound(f"{self._table} did not exist at {self._at}.", "name a later time.")
            return int(found.snapshot_id)
        if self._snapshot is not None and table.snapshot_by_id(self._snapshot) is None:
            raise NotFound(f"{self._table} has no snapshot {self._snapshot}.", "it was never written, or has expired.")
        return self._snapshot

    def _schema_at(self, table: Table, snapshot: int) -> Any:
        held = table.snapshot_by_id(snapshot)
        return table.schemas().get(held.schema_id, table.schema()) if held and held.schema_id is not None else table.schema()

    def _rows(self, table: Table, since: datetime | None, until: datetime) -> BooleanExpression:
        if not self._known:
            return AlwaysTrue()
        kinds = {field.name: field.field_type for field in table.schema().fields}
        kind = kinds.get(self._known)
        if not isinstance(kind, (TimestampType, TimestamptzType)):
            seen = "not there" if kind is None else f"of type {kind}"
            raise InvalidInput(
                f"{self._table}: the column {self._known!r} says when a row became known, and is {seen}.",
                "name a column of times.",
            )
        inside: BooleanExpression = _UPTO(self._known, _text(until, kind))
        return inside if since is None else And(_AFTER(self._known, _text(since, kind)), inside)


def _text(at: datetime, kind: TimestampType | TimestamptzType) -> str:
    text = at.astimezone(UTC).isoformat(timespec="microseconds")
    return text if isinstance(kind, TimestamptzType) else text.removesuffix("+00:00")


def _frame(data: Any) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _border(where: str) -> Iterator[None]:
    """The catalog's own texts stay inside: they may hold its address with what is secret in it."""
    try:
        yield
    except FalajError:
        raise
    except (NoSuchTableError, NoSuchNamespaceError) as exc:
        raise NotFound(f"There is no Iceberg table {where} in its catalog.", "check the namespace and the name.") from exc
    except (UnauthorizedError, ForbiddenError) as exc:
        raise Denied(f"The catalog refuses {where}.", "check the catalog's `secrets`.") from exc
    except (NotInstalledError, ModuleNotFoundError) as exc:
        raise MissingDependency(
            f"The catalog of {where} needs a package that is not installed.", "see pyiceberg's extras."
        ) from exc
    except FileNotFoundError as exc:
        raise NotFound(f"A file of the Iceberg table {where} is gone.", "load again, or restore it.") from exc
    except (RESTError, OSError) as exc:
        raise Unavailable(f"The catalog or the store of {where} does not answer.", "check its address, and try again.") from exc
    except Exception as exc:  # a catalog is any library: SQLAlchemy, requests, pyarrow each fail in their own words
        raise InvalidInput(f"The Iceberg table {where} cannot be read.", "check the catalog's properties.") from exc
