"""The prediction log of an endpoint about people, opened as it is read: with the person's key a record is whole again."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from falaj.core.errors import Conflict, InvalidInput
from falaj.core.segment import PredictionId, Seal
from falaj.ports.predictions import Cursor, Predictions
from falaj.ports.vault import Vault

ERASED = "erased"
"""What a record says of itself whose person's key is gone; everything that was sealed is masked in it."""


class SealedPredictions:
    """Records that are not sealed go through as they are, and the vault is not opened for them."""

    def __init__(self, inner: Predictions, endpoint: str, vaults: Callable[[], Vault]) -> None:
        self.inner = inner
        self._about = b"predictions|" + endpoint.encode()
        self._vaults = vaults
        self._last: tuple[str, Mapping[str, Any] | None, int] = ("", None, -1)
        """Of a line with several rows: its sealed part, what was in it, and the vault's generation then."""

    def follow(self, after: Cursor = Cursor()) -> Iterator[tuple[Cursor, Mapping[str, Any]]]:  # noqa: B008  # frozen
        for cursor, record in self.inner.follow(after):
            yield cursor, self.opened(record) if "subject" in record else record

    def line(self, segment: int, row: int) -> bytes:
        return self.inner.line(segment, row)

    def lines(self, segment: int) -> list[bytes]:
        return self.inner.lines(segment)

    def records(self, line: bytes) -> list[Mapping[str, Any]]:
        return [self.opened(record) for record in self.inner.records(line)]

    def drop(self, segment: int) -> bool:
        return self.inner.drop(segment)

    def seals(self) -> list[Seal]:
        return self.inner.seals()

    def opened(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises Conflict where the sealed part was changed."""
        if "subject" not in record:
            return record
        rest = {name: value for name, value in record.items() if name != "sealed"}
        body = self._body(str(record["subject"]), str(record.get("sealed") or ""))
        if body is None:
            return rest | {ERASED: True}
        part = self._part(record)
        features, request_id = body["features"], body["request_id"]
        if part is not None:
            width = len(features) // part.rows
            features = features[part.part * width : (part.part + 1) * width]
            request_id = f"{request_id}-{part.part}"
        rest.pop("masked", None)
        masked = {"masked": body["masked"]} if "masked" in body else {}
        return rest | {"request": body["request"], "features": features, "request_id": request_id} | masked

    def _body(self, token: str, sealed: str) -> Mapping[str, Any] | None:
        if not sealed:
            return None
        vault = self._vaults()
        generation = vault.generation()
        if self._last[0] == sealed and self._last[2] == generation:
            return self._last[1]
        try:
            (plain,) = vault.open([token], [b64decode(sealed, validate=True)], self._about)
            found: Mapping[str, Any] | None = None if plain is None else json.loads(plain)
        except ValueError as exc:
            raise Conflict("A sealed part of the prediction log was changed.", "falaj audit verify") from exc
        self._last = (sealed, found, generation)
        return found

    def _part(self, record: Mapping[str, Any]) -> PredictionId | None:
        """Which row of a line of several it is."""
        try:
            found = PredictionId.read(record.get("id"))
        except InvalidInput:
            return None
        return found if found.rows > 1 else None
