"""Features of people: which views are about one person each, and what the online store holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.core.moments import from_millis, iso
from falaj.ports.online import Stored
from falaj.ports.subjects import Finding
from falaj.stages.features.keyed import with_entity
from falaj.stages.features.spec import AnyView, View, key_columns


class Contract(Protocol):
    """What is needed of a dataset's contract."""

    @property
    def subject(self) -> str: ...

    @property
    def personal(self) -> Sequence[str]: ...


class Sealed(Protocol):
    """What is needed of an online store whose rows about people are sealed."""

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]: ...

    def held(self, view: str, entity: str) -> tuple[Stored | None, bool]: ...

    def remove(self, view: str, entities: Sequence[str]) -> int: ...

    def clear(self, view: str) -> None: ...


def place_of(view: AnyView, contract: Contract) -> tuple[int, int] | None:
    """Which part of the entity's key names the person, of how many; None where the view is about nobody.

    Figures over windows of another entity's events are of many people. A view of single rows is not: raises InvalidInput
    where its features are personal and its entity does not say whose they are, for nobody could erase them.
    """
    keys = key_columns(view.entity)
    if not contract.subject:
        return None
    if contract.subject in keys:
        return keys.index(contract.subject), len(keys)
    own = [name for name in view.features if name in contract.personal] if isinstance(view, View) else []
    if own:
        raise InvalidInput(
            f"The view {view.name!r} holds {own[0]!r} of single people, and its entity does not say whose it is.",
            f"make {contract.subject!r} part of its entity, or leave out what is personal.",
        )
    return None


class OnlineSubjects:
    """The rows of the online store. `rows_of(dataset, subject)`: what snapshots hold of a person, while it can be read; by them
    the keys of entities with several parts are found, which no token gives away."""

    name = "online"

    def __init__(
        self, online: Sealed, views: Mapping[str, AnyView], contract_of: Callable[[str], Contract],
        rows_of: Callable[[str, str], Any],
    ) -> None:  # fmt: skip
        self.online = online
        self.views = views
        self.contract_of = contract_of
        self.rows_of = rows_of

    def find(self, subject: str) -> list[Finding]:
        found = []
        for view, entities in self._entities(subject):
            rows = [self.online.held(view.name, entity) for entity in entities]
            count = sum(row is not None for row, _ in rows)
            if count:
                readable = any(is_clear for row, is_clear in rows if row is not None) or bool(self._readable(view, entities))
                found.append(Finding(self.name, f"view/{view.name}", count, readable=readable))
        return found

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        for view, entities in self._entities(subject):
            for row in self._readable(view, entities):
                values = dict(zip(view.places, row.values, strict=False))
                yield {"store": self.name, "place": f"view/{view.name}", "at": iso(from_millis(row.at_ms)), **values}

    def erase(self, subject: str) -> list[Finding]:
        """Sealed rows are emptied. A view that was filled in clear, before its dataset named a subject, is cleared as a whole:
        it is filled anew from the snapshots."""
        found = []
        for view, entities in self._entities(subject):
            if any(row is not None and is_clear for row, is_clear in (self.online.held(view.name, one) for one in entities)):
                self.online.clear(view.name)
                found.append(Finding(self.name, f"view/{view.name} (in clear, cleared)", 1, readable=False))
            elif count := self.online.remove(view.name, entities):
                found.append(Finding(self.name, f"view/{view.name}", count, readable=False))
        return found

    def probe(self, subject: str) -> list[Finding]:
        """Asks as an endpoint does, and once more for a row in clear."""
        found = []
        for view, entities in self._entities(subject):
            clear = [row for row, is_clear in (self.online.held(view.name, one) for one in entities) if row and is_clear]
            count = len(self._readable(view, entities)) + len(clear)
            if count:
                found.append(Finding(self.name, f"view/{view.name}", count, readable=True))
        return found

    def _readable(self, view: AnyView, entities: Sequence[str]) -> list[Stored]:
        return [row for row in self.online.get([(view.name, entity) for entity in entities]) if row is not None]

    def _entities(self, subject: str) -> Iterator[tuple[AnyView, list[str]]]:
        for view in self.views.values():
            try:
                place = place_of(view, self.contract_of(view.dataset))
            except FalajError:  # nothing of such a view is ever put
                continue
            if place is None:
                continue
            if place[1] == 1:
                yield view, [subject.strip()]
                continue
            rows = with_entity(self.rows_of(view.dataset, subject), view)
            yield view, sorted({str(entity) for entity in rows[view.entity].drop_nulls().to_list()})


def whose(views: Mapping[str, AnyView], contract_of: Callable[[str], Contract], name: str) -> tuple[int, int] | None:
    """`place_of` by the view's name. None for a view, or the dataset of one, that is declared no more."""
    view = views.get(name)
    if view is None:
        return None
    try:
        contract = contract_of(view.dataset)
    except NotFound:
        return None
    return place_of(view, contract)
