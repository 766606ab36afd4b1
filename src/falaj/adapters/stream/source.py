"""A stream of JSON records or messages as a source: fields become columns of declared types."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from falaj.adapters import open_adapter
from falaj.adapters.tabular.address import Secret, inside
from falaj.adapters.tabular.columns import KINDS, check_names, declare, empty
from falaj.adapters.tabular.jsonl import table
from falaj.adapters.tabular.period import check_time, within
from falaj.core.errors import InvalidInput
from falaj.core.moments import from_millis, iso
from falaj.ports.predictions import Predictions
from falaj.ports.source import Origin
from falaj.ports.stream import Stream

BROKERS = ("kafka", "nats", "redis")
Read = Callable[[], Iterator[tuple[str, Any]]]
"""The records, each with its place in words."""


class StreamSource:
    """`stream` says what is read: `file`, the segments of a prediction log in the folder `path` of the project; `messages`, an
    embedded stream in the folder `path`; `kafka`, `nats`, `redis`, the stream `path` of the broker at `url`, a reference.

    `types` are the columns, each a field of the records, `inputs.dep_delay` for one within another; what a record lacks is
    null. Of a message `_key`, `_id`, `_position` and `_at`, when the stream took it, are fields too. Everything that is kept
    is read, up to what was there when reading began, and nobody's place is moved. Records are read as fast as the rows are
    taken, and never more than one piece of them is held.
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
        if stream in BROKERS:
            self._open, self.origin = _of_broker(stream, path, secret, options)
        else:
            self._open, self.origin = _of_folder(stream, inside(Path(folder).resolve(), path), options)
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
        for place, record in self._open():
            if not isinstance(record, Mapping):
                raise InvalidInput(f"{self.origin.name}, {place} is no object.", "every record is one JSON object.")
            yield place, {**record, **{name: _within(record, name) for name in nested if name not in record}}


def _of_broker(scheme: str, path: str, secret: Secret | None, options: Mapping[str, Any]) -> tuple[Read, Origin]:
    reference = str(options.get("url", ""))
    if not reference or not path or secret is None:
        raise InvalidInput(
            f"A source of {scheme} needs an address and a name.", 'write url="env:NAME" and path="flights.requests".'
        )
    url = (secret(reference) or b"").decode("utf-8", "replace")
    rest = {name: value for name, value in options.items() if name != "url"}
    place = f"{scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
    return lambda: _messages(open_adapter("stream", scheme, url=url, name=path, **rest)), Origin(place, path)


def _of_folder(scheme: str, place: Path, options: Mapping[str, Any]) -> tuple[Read, Origin]:
    origin = Origin("file", str(place))
    if scheme == "messages":
        return lambda: _messages(open_adapter("stream", "file", folder=place.parent, name=place.name, **options)), origin
    log: Predictions = open_adapter("predictions", scheme, **options, folder=place)
    return lambda: _logged(log), origin


def _logged(log: Predictions) -> Iterator[tuple[str, Any]]:
    for cursor, record in log.follow():
        yield f"record {cursor.row - 1} of segment {cursor.segment}", record


def _messages(stream: Stream) -> Iterator[tuple[str, Any]]:
    try:
        for one in stream.replay():
            place = f"message {one.position}"
            try:
                body = json.loads(one.message.value)
            except ValueError as exc:
                raise InvalidInput(f"{place} is no JSON: {exc}.", "read a stream whose messages are JSON objects.") from exc
            if isinstance(body, Mapping):
                about = {"_key": one.message.key, "_id": one.message.id, "_position": one.position}
                body = {**body, **about, "_at": iso(from_millis(one.at_ms))}
            yield place, body
    finally:
        stream.close()


def _within(record: Any, name: str) -> Any:
    """The field behind a dotted name; None where any part of the way is missing."""
    for part in name.split("."):
        if not isinstance(record, Mapping):
            return None
        record = record.get(part)
    return record
