"""Predictions about people: nothing of a request is in the log in clear, and all of it is there under its person's key."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from falaj.core.errors import Denied
from falaj.core.masking import Classes, masking
from falaj.core.recipe import Recipe
from falaj.inference.mask import Mask
from falaj.ports.vault import Vault

_ALL = masking({"class:public": "drop"})
"""Public and whatever is stricter, and whatever nobody classified: everything."""


@dataclass(frozen=True, slots=True)
class Whose:
    """`subject`: the request field that says whom a request is about."""

    vault: Vault
    endpoint: str
    subject: str

    @property
    def about(self) -> bytes:
        return b"predictions|" + self.endpoint.encode()

    def person(self, request: Mapping[str, Any]) -> str:
        """Whom the request is about, as it says; empty where it does not say so as a text or a whole number."""
        return _text(request.get(self.subject))


class PersonalMask(Mask):
    """Masks everything but the time, and hands out what it masked as `sealed`: the token of the person, and the sealed part.

    `inner`: what the endpoint's own mask leaves of it; what the log may not hold is not in the sealed part either. Of an erased
    person nothing is kept but the token: their request is answered all the same.
    """

    __slots__ = ("_inner", "_unit_name", "_whose")

    def __init__(
        self, inner: Mask, key: bytes, arms: Sequence[tuple[Recipe, Classes]], *, arm: int, unit: str, whose: Whose
    ) -> None:  # fmt: skip
        super().__init__(_ALL, key, arms, arm=arm, unit=unit)
        self._inner, self._unit_name, self._whose = inner, unit, whose

    def sealed(
        self, names: tuple[str, str], request: Mapping[str, Any] | None, features: Sequence[float | None]
    ) -> Mapping[str, str]:
        inner, (unit, request_id) = self._inner, self._inner.names(*names)
        body: dict[str, Any] = {"unit": unit, "request_id": request_id, "features": features}
        body["request"] = None if request is None else inner.request(request)
        if inner.is_on:
            body["masked"] = inner.marker
        vault, token = self._whose.vault, self._token(names, request)
        try:
            (data,) = vault.seal([token], [orjson.dumps(body)], self._whose.about)
        except Denied:
            return {"subject": token}
        return {"subject": token, "sealed": b64encode(data).decode()}

    @property
    def whose(self) -> Whose:
        return self._whose

    def inner_features(self, features: Sequence[float], width: int) -> list[float | None]:
        """Of one or several rows behind one another what the endpoint's own mask leaves."""
        rows = (features[start : start + width] for start in range(0, len(features), width))
        return [value for row in rows for value in self._inner.features(row)]

    def _token(self, names: tuple[str, str], request: Mapping[str, Any] | None) -> str:
        """A vector is about its unit, where units are people. Requests about nobody share a key of the endpoint."""
        whose, (unit, request_id) = self._whose, names
        told = (request or {}).get(whose.subject)
        if request is None and self._unit_name == whose.subject and unit != request_id:
            told = unit
        return whose.vault.token(_text(told) or f"\0nobody|{whose.about.decode()}")


def _text(told: Any) -> str:
    return str(told).strip() if isinstance(told, (str, int)) and not isinstance(told, bool) else ""
