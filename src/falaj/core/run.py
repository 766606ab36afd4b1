"""Run: one execution of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from falaj.core.errors import Conflict
from falaj.core.ref import Ref

MOVES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "queued"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    step: str
    """ingest, materialise, train, evaluate, score."""
    params: Mapping[str, Any] = field(default_factory=dict)
    state: str = "queued"
    attempt: int = 1
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Ref, ...] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: str | None = None

    def move(self, state: str, **changes: Any) -> Run:
        """The same run in its next state. Raises Conflict for a move that no run makes."""
        if state not in MOVES.get(self.state, frozenset()):
            raise Conflict(f"Run {self.id} is {self.state}; it cannot become {state}.", f"falaj run show {self.id}")
        return replace(self, state=state, **changes)
