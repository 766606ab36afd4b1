"""A Delta Lake table as a source, in the project's folder or in a store; as it is now or as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from falaj.adapters.tabular.address import STORE_OPTIONS, Secret, bucket, inside
from falaj.adapters.tabular.batches import as_pieces, promised
from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.adapters.tabular.period import check_time, ticks
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import millis, moment
from falaj.ports.source import Origin

_STORE = ("error sending request", "Generic S3 error", "HTTP error", "timed out", "retries")


class DeltaSource:
    """`path` is relative to the project's folder, or `s3://bucket/prefix` with the options of a store. `version` or `at`
    (RFC 3339) reads the table as it was; with neither it is read as it is when a read begins.
    """

    def __init__(
        self, *, path: str, folder: Path, secret: Secret | None = None, version: int | None = None, at: str = "", known: str = "",
        columns: tuple[str, ...] = (), types: dict[str, str] | None = None, times: dict[str, tuple[str, str]] | None = None,
        outside: bool = False, timeout_s: float = 60.0, **store: Any,
    ) -> None:  # fmt: skip
        if version is not None and at:
            raise InvalidInput("`version` and `at` both say which state of the table is read.", "give one of the two.")
        if version is not None and (type(version) is not int or version < 0):
            raise InvalidInput(f"{version!r} is no version of a Delta table.", "versions are counted from 0.")
        self._version, self._at = version, moment(at) if at else None
        self._known, self._columns = known, texts("columns", columns)
        self._declared = declare(types, times)
        self._where = path
        self._options: dict[str, str] | None = None
        if path.startswith("s3://"):
            held = bucket(path, secret, store)
            self._address, self._options = held.shown, held.as_aws(timeout_s)
            self.origin = Origin(f"s3://{held.name}", held.prefix)
        else:
            if store:
                raise InvalidInput(
                    f"A Delta source has no option {sorted(store)[0]!r} here.",
                    f"of a store there is: {', '.join(STORE_OPTIONS)}.",
                )
            self._address = str(inside(Path(folder).resolve(), path, outside=outside))
            self.origin = Origin("file", self._address)
        self.capabilities = frozenset({"bounded", "known"} if known else {"bounded"})

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        with _border(self._where):
            table = self._table()
            data = table.to_pyarrow_dataset()
            check_names(data.schema.names, self._where)
            check_there(self._columns, data.schema.names, self._where)
            names = list(self._columns or data.schema.names)
            schema = _frame(pa.schema([data.schema.field(name) for name in names]).empty_table()).schema
            rows = None
            if self._known:
                check_time(schema.get(self._known), self._known, self._where)
                kind, known = data.schema.field(self._known).type, pa.dataset.field(self._known)
                rows = known <= _bound(until, kind)
                rows = rows if since is None else rows & (known > _bound(since, kind))
            # One file after the other: what is read ahead is held in memory.
            scanner = data.scanner(columns=names, filter=rows, batch_size=PIECE_ROWS, batch_readahead=2, fragment_readahead=1)
            frames = (_frame(batch) for batch in scanner.to_batches() if batch.validate(full=True) is None)
            yield from as_pieces(frames, promised(schema, self._declared, self._where), self._declared, self._where)

    def _table(self) -> DeltaTable:
        try:
            table = DeltaTable(self._address, version=self._version, storage_options=self._options)
        except DeltaError as exc:
            if self._version is not None and "version" in str(exc).lower():
                raise NotFound(
                    f"{self._where} has no version {self._version}.", "it was never written, or was vacuumed."
                ) from exc
            raise
        if self._at is not None:
            table.load_as_version(self._at)
            # A time before the first version gives the first version: what was not there yet is not what was asked for.
            if int(table.history(1)[0]["timestamp"]) > millis(self._at):
                raise NotFound(f"{self._where} did not exist at {self._at}.", "name a later time.")
        return table


def _bound(at: datetime, kind: Any) -> Any:
    """A literal of the column's own type; a time without a zone is meant in UTC."""
    return pa.scalar(ticks(at, kind.unit), pa.timestamp(kind.unit, kind.tz))


def _frame(data: Any) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _border(where: str) -> Iterator[None]:
    try:
        yield
    except FalajError:
        raise
    except (TableNotFoundError, FileNotFoundError) as exc:
        raise NotFound(f"There is no Delta table at {where}, or not all of its files.", "check the path, or load again.") from exc
    except (DeltaError, pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError) as exc:
        if (isinstance(exc, OSError) and exc.errno is not None) or any(word in str(exc) for word in _STORE):
            raise Unavailable(f"The Delta table at {where} does not answer.", "check its place, and try again.") from exc
        raise InvalidInput(
            f"The Delta table at {where} cannot be read.",
            "its log or a file is damaged, or it uses what only newer readers know.",
        ) from exc
