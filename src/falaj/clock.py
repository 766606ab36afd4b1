"""The time that a project lives in: the world's, or that of past data which is lived through again."""

from __future__ import annotations

from datetime import UTC, datetime

from falaj.core.errors import Conflict


class Clock:
    """The wall clock, or under `replay` the latest time that a caller told; it never runs backwards."""

    def __init__(self, kind: str, start: datetime) -> None:
        self.kind = kind
        self._told = start

    def __call__(self) -> datetime:
        return datetime.now(UTC) if self.kind == "wall" else self._told

    def tell(self, now: datetime) -> None:
        """Raises Conflict under the wall clock, or where the time lies before one that was told."""
        if self.kind == "wall":
            raise Conflict("The time cannot be told under the wall clock.", 'set clock = "replay" to live through past data.')
        if now < self._told:
            raise Conflict(f"The time {now} lies before {self._told}, which was told already.", "time only moves forward.")
        self._told = now
