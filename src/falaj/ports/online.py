"""Online: the latest features of each entity, read at prediction time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from falaj.core.stored import Row, Stored, Value

__all__ = ["LONGEST_MARK", "Online", "Row", "Stored", "Value"]

LONGEST_MARK = 4_096
"""Characters."""


class Online(Protocol):
    """capabilities: `shared` (another process reads what this one writes), `lasting` (it is there when that process has ended).

    Every method raises Unavailable where the store does not answer, Denied where it refuses, Conflict where what it holds
    cannot be read; the next call may succeed without opening it anew.
    """

    capabilities: frozenset[str]

    def put(self, view: str, rows: Mapping[str, Row], mark: str | None = None) -> int:
        """Keeps each row unless a later one (by at_ms) is there already; all or none. Returns how many were kept. Idempotent.

        `mark`, where it is given, replaces the view's mark in the same step: whoever reads it finds the rows too.
        Raises InvalidInput for a value that is no feature.
        """
        ...

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        """The rows of (view, entity) pairs, in the same order, in one round trip. Every value is of the type that was put."""
        ...

    def freshness(self, view: str) -> int | None:
        """The greatest at_ms in the view, or None where it is empty."""
        ...

    def mark(self, view: str) -> str | None:
        """What the writer noted with the rows that it put last; None where it noted nothing since the view was cleared."""
        ...

    def count(self, view: str) -> int: ...

    def clear(self, view: str) -> None:
        """Removes the view's rows and its mark."""
        ...

    def close(self) -> None: ...
