"""What the contracts say about whom a model's inputs concern: the classification of every field and feature it may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from falaj.core.errors import FalajError
from falaj.core.recipe import Recipe


class Classified(Protocol):
    """What is needed of a contract."""

    @property
    def labels(self) -> Mapping[str, Any]: ...

    def column(self, name: str) -> Any: ...

    @property
    def columns(self) -> Any: ...


def classes_of(
    recipe: Recipe, spine: str, views: Mapping[str, Any], contract_of: Callable[[str], Classified]
) -> dict[str, dict[str, str]]:
    """`request`: column of the spine → classification; `views`: `view.feature` → that of the column which it is made of.

    A column without one has its dataset's. What cannot be read, or was made on the way by `prepare`, is not in it: whoever
    masks assumes the strictest. A figure that needs no column, such as a count of rows, has its dataset's classification.

    Where requests are about people: `subjects`, `request` → the field that names the person; `keys`, view → which part of its
    entity's key does, as in `0/1`.
    """
    found: dict[str, dict[str, str]] = {"request": {}, "views": {}}
    contracts: dict[str, Classified | None] = {}

    def contract(name: str) -> Classified | None:
        if name not in contracts:
            try:
                contracts[name] = contract_of(name)
            except FalajError:  # whatever keeps it from being read: nothing is known of its columns
                contracts[name] = None
        return contracts[name]

    held = contract(spine)
    if held is not None:
        found["request"] = {column.name: _class(held, column.name) for column in held.columns}
    people = _people(recipe, views, contract)
    if subject := subject_of(recipe, held, people):
        found["subjects"] = {"request": subject}
    if people:
        found["keys"] = {view: f"{at}/{parts}" for view, (at, parts) in people.items()}
    for column in recipe.columns:
        for operand in column.operands:
            view = views.get(operand.name.partition(".")[0]) if operand.kind == "view" else None
            behind = contract(view.dataset) if view is not None else None
            if view is not None and behind is not None:
                found["views"][operand.name] = _class(behind, _source(view, operand.name.partition(".")[2]))
    return found


def subject_of(recipe: Recipe, spine: Classified | None, people: Mapping[str, tuple[int, int]]) -> str:
    """The field that says whom a request is about: the subject of the training's rows, or by what a view of people is looked
    up; empty where requests are about nobody."""
    own = str(getattr(spine, "subject", ""))
    if own or not people:
        return own
    view, (at, _) = next(iter(people.items()))
    fields = recipe.views[view]
    return fields if isinstance(fields, str) else fields[at]


def _people(recipe: Recipe, views: Mapping[str, Any], contract: Callable[[str], Classified | None]) -> dict[str, tuple[int, int]]:
    """The views whose entity names a person: which part of its key does, of how many."""
    found = {}
    for name in recipe.views:
        view = views.get(name)
        behind = contract(view.dataset) if view is not None else None
        subject = str(getattr(behind, "subject", ""))
        keys = tuple(getattr(view.entity, "keys", None) or (view.entity,)) if view is not None else ()
        if subject and subject in keys:
            found[name] = (keys.index(subject), len(keys))
    return found


def _source(view: Any, feature: str) -> str:
    """The dataset's column behind a feature; empty where there is none."""
    for aggregate in getattr(view, "aggregates", ()):
        if any(feature == f"{aggregate.name}_{window}" for window in view.windows):
            return aggregate.column or ""
    return feature


def _class(contract: Classified, name: str) -> str:
    whole = str(contract.labels.get("classification") or "")
    if not name:
        return whole
    column = contract.column(name)
    return "" if column is None else str(column.classification or whole)
