"""OpenLineage events kept in a list, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from falaj.core.errors import Unavailable


class MemoryLineage:
    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.is_down = False

    def emit(self, events: Sequence[Mapping[str, Any]]) -> None:
        if self.is_down:
            raise Unavailable("Nobody collects lineage at the moment.", "it is sent again.")
        self.events.extend(events)
