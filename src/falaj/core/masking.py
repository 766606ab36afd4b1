"""Masking: which fields and features of a prediction its log may not hold, by what their contract says of them.

A declaration names classes (`class:restricted`) and fields (`passenger_id`, or a stored feature as `view.feature`), each with
a treatment: `hash` (a keyed hash: what is equal stays equal), `drop` (nothing) or `keep`. A named field goes before a named
class. Of the usual classes one that is stricter than a named one is masked like it. Of whatever nobody classified, or
classified with a word that is neither usual nor named, the strictest is assumed as soon as any class is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.recipe import Column, Recipe

LEVELS = ("public", "open", "internal", "confidential", "restricted", "secret")
"""The usual classes, from the one that everybody may read to the strictest."""
CLASS = "class:"
TREATMENTS = ("hash", "drop", "keep")
Classes = Mapping[str, Mapping[str, str]]
"""`request`: field → class; `views`: `view.feature` → class. What is missing or empty was not classified."""


@dataclass(frozen=True, slots=True)
class Masking:
    """`classes` and `fields`: what is masked and how. Without either nothing is."""

    classes: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_on(self) -> bool:
        return bool(self.classes) or any(treatment != "keep" for treatment in self.fields.values())

    def treatment(self, name: str, classification: str) -> str:
        """`hash`, `drop` or `keep`."""
        if name in self.fields:
            return self.fields[name]
        if not self.classes:
            return "keep"
        found = classification.strip().lower()
        if found in self.classes:
            return self.classes[found]
        if found not in LEVELS:
            return self._strictest()
        named = [level for level in LEVELS[: LEVELS.index(found)] if level in self.classes]
        if named:
            return self.classes[named[-1]]
        return "keep"

    def of_field(self, recipe: Recipe, name: str, classes: Classes) -> str:
        """A field of the request. The time is never masked: every record has it."""
        return "keep" if name == recipe.time_field else self.treatment(name, classes.get("request", {}).get(name, ""))

    def of_column(self, recipe: Recipe, column: Column, classes: Classes) -> bool:
        """Whether a number of the model's input tells of anything that is masked."""
        for operand in column.operands:
            if operand.kind == "request":
                how = self.of_field(recipe, operand.name, classes)
            else:
                how = self.treatment(operand.name, classes.get("views", {}).get(operand.name, ""))
            if how != "keep":
                return True
        return False

    def _strictest(self) -> str:
        return "drop" if "drop" in self.classes.values() else "hash"


def masking(declared: Mapping[str, Any]) -> Masking:
    """From `{"class:restricted": "hash", "passenger_id": "drop"}`. Raises InvalidInput."""
    classes, fields = {}, {}
    for name, treatment in declared.items():
        if not str(name).removeprefix(CLASS).strip():
            raise InvalidInput(f"{name!r} names nothing that could be masked.", "name a field, or a class as class:restricted.")
        if treatment not in TREATMENTS:
            raise InvalidInput(f"{name!r} is to be masked by {treatment!r}.", f"there is: {', '.join(TREATMENTS)}.")
        if name.startswith(CLASS):
            if treatment == "keep":
                raise InvalidInput(f"{name!r} cannot be kept: fields can.", "name the fields that are to be kept.")
            classes[name.removeprefix(CLASS).strip().lower()] = str(treatment)
        else:
            fields[name] = str(treatment)
    return Masking(classes, fields)


def hides_request(record: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether the record lacks a field that its features would have to be recomputed from."""
    return not masked_of(record)[0].isdisjoint(name for name in recipe.request_fields if name != recipe.time_field)


def masked_of(record: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """(fields of the request, names of the features) that a record of the prediction log was written without."""
    told = record.get("masked") or {}
    return frozenset(told.get("request", ())), frozenset(told.get("features", ()))
