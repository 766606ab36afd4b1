"""Lives of models: which ever served, which may still serve, and when the life of one was over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger


class Lives:
    """As the ledger tells them at one moment; make another one for the next look."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @cached_property
    def alive(self) -> frozenset[str]:
        """Versions that a name points at or that an endpoint is to serve."""
        found = {str(body["model"]) for _, body in self.ledger.find("alias")}
        for _, body in self.ledger.find("endpoint"):
            found |= {str(arm["model"]) for arm in body["wanted"]["arms"]}
        return frozenset(found)

    @cached_property
    def served(self) -> frozenset[str]:
        """Versions that were ever in production: released at an endpoint, or pointed at by a name."""
        found = set(self.alive) | {str(body["model"]) for _, body in self.ledger.find("release")}
        for event in self.ledger.events(verb="model.promote"):
            found |= {str(change.body["model"]) for change in event.changes if change.kind == "alias" and change.body}
        return frozenset(found)

    @cached_property
    def _models(self) -> dict[str, Mapping[str, Any]]:
        return {str(body["ref"]): body for _, body in self.ledger.find("model")}

    @cached_property
    def _learned(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for ref, body in self._models.items():
            for snapshot in body["asset"].get("inputs", ()):
                found.setdefault(str(snapshot), set()).add(ref)
        return found

    @cached_property
    def _gone(self) -> frozenset[str]:
        return frozenset(key for key, _ in self.ledger.find("expired", prefix="model/"))

    @cached_property
    def _left(self) -> dict[str, list[datetime]]:
        """model → the ends of its releases, and when the name of the champion went on to another. Read once: a round asks about
        every snapshot that each of them learned from."""
        found: dict[str, list[datetime]] = {}
        for _, body in self.ledger.find("release"):
            found.setdefault(str(body["model"]), []).append(moment(body.get("outcome_at") or body["at"]))
        for event in self.ledger.events(verb="model."):
            if event.facts.get("left"):
                found.setdefault(str(event.facts["left"]), []).append(moment(event.at))
        return found

    def learned_from(self, snapshot: Ref) -> tuple[Ref, ...]:
        """The registered versions, kept or not, that were trained on that snapshot."""
        return tuple(Ref.parse(text) for text in sorted(self._learned.get(str(snapshot), ())))

    def end(self, models: Collection[Ref]) -> datetime | None:
        """When the last of them was over; None while one may still serve. One that never served lives until it is removed."""
        ends = [self._end(str(model)) for model in models]
        return max((at for at in ends if at is not None), default=None) if None not in ends else None

    def _end(self, model: str) -> datetime | None:
        if model in self._gone:
            record = self.ledger.get("expired", model)
            return moment(record["at"]) if record else None
        if model in self.alive or model not in self.served:
            return None
        since = [body["created_at"] for body in (self._models.get(model),) if body]
        return max([*self._left.get(model, ()), *(moment(text) for text in since)], default=None)
