"""A Delta Lake table as a source, in the project's folder or in a store; as it is now or as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from falaj.adapters.tabular.address import STORE_OPTIONS, Secret, bucket, inside
from falaj.adapters.tabular.batches import as_pieces, promised
from falaj.adapters.tabular.columns import PIECE_ROWS, check_names, check_there, declare
from falaj.adapters.tabular.layout import texts
from falaj.adapters.tabular.period import check_time, within
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import millis, moment
from falaj.ports.source import Origin

_STORE = ("error sending request", "Generic S3 error", "HTTP error", "timed out", "after", "retries")


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
            frame = pl.scan_delta(table)
            schema = frame.collect_schema()
            check_names(list(schema), self._where)
            check_there(self._columns, schema, self._where)
            wanted = {name: schema[name] for name in self._columns or schema}
            rows = None
            if self._known:
                rows = within(self._known, check_time(wanted.get(self._known), self._known, self._where), since, until)
            chosen = frame.select(list(wanted)) if rows is None else frame.select(list(wanted)).filter(rows)
            batches = chosen.collect_batches(chunk_size=PIECE_ROWS, maintain_order=True, engine="streaming")
            yield from as_pieces(batches, promised(wanted, self._declared, self._where), self._declared, self._where)

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


@contextmanager
def _border(where: str) -> Iterator[None]:
    try:
        yield
    except FalajError:
        raise
    except (TableNotFoundError, FileNotFoundError) as exc:
        raise NotFound(f"There is no Delta table at {where}, or not all of its files.", "check the path, or load again.") from exc
    except (DeltaError, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError) as exc:
        if isinstance(exc, OSError) or any(word in str(exc) for word in _STORE):
            raise Unavailable(f"The Delta table at {where} does not answer.", "check its place, and try again.") from exc
        raise InvalidInput(f"The Delta table at {where} cannot be read.", "its log or one of its files is damaged.") from exc
