"""Online: the latest features of each entity, read at prediction time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """The features of one entity in one view. `values` in the order of the view's features; None is missing."""

    at_ms: int
    """Event time, milliseconds since 1970-01-01T00:00Z."""
    values: tuple[float | None, ...]


class Online(Protocol):
    """capabilities: `shared` (another process reads what this one writes)."""

    capabilities: frozenset[str]

    def put(self, view: str, rows: Mapping[str, Stored]) -> int:
        """Keeps each row unless a later one (by at_ms) is there already; all or none. Returns how many were kept. Idempotent."""
        ...

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        """The rows of (view, entity) pairs, in the same order, in one round trip."""
        ...

    def freshness(self, view: str) -> int | None:
        """The greatest at_ms in the view, or None where it is empty."""
        ...

    def count(self, view: str) -> int: ...

    def clear(self, view: str) -> None: ...

    def close(self) -> None: ...
