"""A stream of JSON records as a source: fields become columns of declared types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from falaj.adapters import open_adapter
from falaj.adapters.tabular.address import Secret, inside
from falaj.adapters.tabular.columns import KINDS, check_names, declare, empty
from falaj.adapters.tabular.jsonl import table
from falaj.adapters.tabular.period import check_time, within
from falaj.core.errors import InvalidInput
from falaj.ports.predictions import Predictions
from falaj.ports.source import Origin


class StreamSource:
    """`stream` names the adapter (`file`: a folder of segments at `path` in the project's folder); `types` the columns, each
    a field of the records, `inputs.dep_delay` for one within another. Where a record lacks a field, the column is null.

    Records are read as fast as the rows are taken, and never more than one piece of them is held.
    """

    def __init__(
        self, *, folder: Path, types: Mapping[str, str], stream: str = "file", path: str = "", known: str = "",
        times: dict[str, tuple[str, str]] | None = None, secret: Secret | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self._declared = declare(types, times)
        check_names(list(self._declared.kinds), "A source of a stream")
        if known and self._declared.kinds.get(known) != "timestamp":
            raise InvalidInput(
                f"The field {known!r} says when a record became known, and is no timestamp.", "declare it in `types`."
            )
        self._known = known
        given = dict(options)
        if stream == "file":
            given["folder"] = inside(Path(folder).resolve(), path)
            self.origin = Origin("file", str(given["folder"]))
        else:
            self.origin = Origin(
                stream, path or ",".join(f"{name}={value}" for name, value in sorted(options.items()) if name == "topic")
            )
        self._stream: Predictions = open_adapter("predictions", stream, **given)
        self.capabilities = frozenset({"bounded", "known"} if known else {"bounded"})

    def read(self, since: datetime | None, until: datetime) -> Iterator[pl.DataFrame]:
        schema = {name: KINDS[kind] for name, kind in self._declared.kinds.items()}
        rows = (
            within(self._known, check_time(schema[self._known], self._known, self.origin.name), since, until)
            if self._known
            else None
        )
        has_none = True
        for piece in table(self._records(schema), schema, self._declared, self.origin.name):
            chosen = piece if rows is None else piece.filter(rows)
            if chosen.height:
                has_none = False
                yield chosen
        if has_none:
            yield empty(schema)

    def _records(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        nested = [name for name in schema if "." in name]
        for cursor, record in self._stream.follow():
            place = f"record {cursor.row - 1} of segment {cursor.segment}"
            if not isinstance(record, Mapping):
                raise InvalidInput(f"{self.origin.name}, {place} is no object.", "every record is one JSON object.")
            yield place, {**record, **{name: _within(record, name) for name in nested if name not in record}}


def _within(record: Any, name: str) -> Any:
    """The field behind a dotted name; None where any part of the way is missing."""
    for part in name.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(part)
    return record
