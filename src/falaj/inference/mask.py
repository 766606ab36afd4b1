"""What the prediction log may not hold, taken out of a record before it is written; nothing to do costs nothing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from falaj.core.masking import Classes, Masking
from falaj.core.recipe import Recipe

HASHED = "h:"
"""How a hashed value begins: keyed BLAKE2b (RFC 7693), 128 bits, over the field's name and the value."""


def mask_key(pepper: bytes) -> bytes:
    """The project's key for hashed values, of its pepper: whoever has the log alone can neither read nor guess values."""
    return hmac.digest(pepper, b"falaj prediction log mask 1", "sha256")


class Mask:
    """What is masked for one arm. Without anything to mask `request`, `features`, … hand back what they are given.

    `request(mapping) -> mapping`: hashed fields as `h:…`, dropped ones as None; None stays None, and what is neither text
    nor whole number is dropped. Where any class is named, fields that nobody knows of are left out, with their names.
    `features(row) -> row`: None for each number that tells of a masked value; likewise `flat` for a matrix, row by row.
    `unit(text)`, `request_id(text)`: hashed where the endpoint's unit is masked, and where anything is: a caller's own texts
    were never classified. `message(text)`: of an error, nothing, for it may quote a value.
    """

    __slots__ = ("_columns", "_fields", "_hashes_unit", "_key", "_other", "_unit_field", "is_on", "marker")

    def __init__(
        self, masking: Masking, key: bytes, arms: Sequence[tuple[Recipe, Classes]], *, arm: int = 0, unit: str = ""
    ) -> None:
        """`arms`: everything that the endpoint serves; a field is masked as soon as one of them says so, `arm` is this one."""
        self._key, self._unit_field = key, unit
        self.is_on = masking.is_on
        recipe, classes = arms[arm]
        self._fields = _fields(masking, arms) if self.is_on else {}
        self._other = masking.treatment("", "") if self.is_on else "keep"
        self._columns = tuple(
            place for place, column in enumerate(recipe.columns) if self.is_on and masking.of_column(recipe, column, classes)
        )
        self._hashes_unit = self.is_on and self._how(unit) != "keep" if unit else self.is_on
        names = [recipe.columns[place].name for place in self._columns]
        self.marker: Mapping[str, Any] | None = {"request": sorted(self._masked()), "features": names} if self.is_on else None
        """What every record of the arm says of itself, as `masked`; None where nothing is masked."""

    def request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.is_on:
            return request
        known = request if self._other == "keep" else self._fields.keys() & request.keys()
        return {name: self._masked_value(name, value) for name, value in request.items() if name in known}

    def features(self, row: Sequence[float]) -> Sequence[float | None]:
        if not self._columns:
            return row
        kept: list[float | None] = list(row)
        for place in self._columns:
            kept[place] = None
        return kept

    def matrix(self, matrix: np.ndarray) -> np.ndarray:
        """A copy in which masked columns are NaN, which JSON writes as null; the matrix itself where there are none."""
        if not self._columns:
            return matrix
        kept = matrix.copy()
        kept[:, self._columns] = np.nan
        return kept

    def unit(self, text: str) -> str:
        return self._hashed(self._unit_field, text) if self._hashes_unit and text else text

    def request_id(self, text: str) -> str:
        return self._hashed("request_id", text) if self.is_on and text else text

    def names(self, unit: str, request_id: str) -> tuple[str, str]:
        """Of a record. A request without a unit has its id as one, which then is no less a caller's own text."""
        if not self.is_on:
            return unit, request_id
        hashed = self.request_id(request_id)
        return hashed if unit == request_id and not self._hashes_unit else self.unit(unit), hashed

    def tensor(self, call: Any) -> Any:
        """The call as it may be logged: the same one, or one without the masked columns and their text."""
        return replace(call, matrix=self.matrix(call.matrix), raw=None) if self._columns else call

    def sealed(
        self, names: tuple[str, str], request: Mapping[str, Any] | None, features: Sequence[float | None]
    ) -> Mapping[str, str]:
        """What a record says beside what is masked in it: nothing, where the log is not about people."""
        return {}

    @property
    def whose(self) -> Any:
        """Whom the endpoint is about, where it is about people (`personal.Whose`); else None."""
        return None

    def inner_features(self, features: Sequence[float], width: int) -> list[float | None]:
        """The features of one or several rows, of `width` each, as a sealed part may hold them."""
        return []

    def message(self, text: str) -> str:
        return "" if self.is_on else text

    def _how(self, name: str) -> str:
        return self._fields.get(name, self._other)

    def _masked(self) -> list[str]:
        return [name for name, how in self._fields.items() if how != "keep"]

    def _masked_value(self, name: str, value: Any) -> Any:
        how = self._how(name)
        if how == "keep":
            return value
        return self._hashed(name, str(value)) if how == "hash" and type(value) in (str, int) else None

    def _hashed(self, name: str, text: str) -> str:
        data = b"%s\0%s" % (name.encode(), text.encode("utf-8", "surrogatepass"))
        return HASHED + hashlib.blake2b(data, key=self._key, digest_size=16).hexdigest()


NOTHING = Mask(Masking(), b"", [(Recipe((), {}, {}), {})])
"""Masks nothing."""


def _fields(masking: Masking, arms: Sequence[tuple[Recipe, Classes]]) -> dict[str, str]:
    """Field → treatment: the strictest that any arm asks for."""
    found: dict[str, str] = {}
    for recipe, classes in arms:
        stored = {operand.name for column in recipe.columns for operand in column.operands if operand.kind == "view"}
        for name in {*classes.get("request", {}), *recipe.request_fields, *masking.fields} - stored:
            how = masking.of_field(recipe, name, classes)
            found[name] = max(found.get(name, "keep"), how, key=_STRICT.index)
    return found


_STRICT = ("keep", "hash", "drop")
