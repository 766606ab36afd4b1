"""The ledger's records as they were at any event, for questions that are asked again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from falaj.core.event import Event
from falaj.core.ref import Ref

KINDS = frozenset({"approval", "asset", "endpoint", "expired", "head", "hold", "model", "standing", "tier"})
"""Records that labels are read from."""
MAKERS = frozenset({"model.train", "run.start"})
"""Events that say who made something."""


class Past:
    """Records after each event that was taken in, in order; only what labels need is kept."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Mapping[str, Any]]] = {kind: {} for kind in KINDS}
        self._made: dict[tuple[str, Ref], list[Event]] = {}

    def take(self, event: Event) -> None:
        for change in event.changes:
            if change.kind not in KINDS:
                continue
            if change.body is None:
                self._records[change.kind].pop(change.key, None)
            else:
                self._records[change.kind][change.key] = change.body
        if event.verb in MAKERS:
            self._made.setdefault((event.verb, event.subject), []).append(event)

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        return self._records[kind].get(key)

    def find(self, kind: str, *, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
        return sorted((key, body) for key, body in self._records[kind].items() if key.startswith(prefix))

    def events(self, *, verb: str = "", subject: Ref | None = None) -> Iterable[Event]:
        return () if subject is None else self._made.get((verb, subject), ())


def before_each(events: Iterable[Event]) -> Iterator[tuple[Event, Past]]:
    """Each event with the records as they were when it was decided. The records change with the next step: do not keep them."""
    past = Past()
    for event in events:
        yield event, past
        past.take(event)
