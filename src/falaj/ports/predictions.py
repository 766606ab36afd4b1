"""Predictions: the predictions and labels that an inference server has acknowledged, in order, to be followed and proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from falaj.core.segment import Seal


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the log: everything before line `row` of `segment` has been read, and of that line the first `part` records."""

    segment: int = 0
    row: int = 0
    part: int = 0


class Predictions(Protocol):
    def follow(self, after: Cursor = Cursor()) -> Iterator[tuple[Cursor, Mapping[str, Any]]]:
        """Records from `after` on, oldest first, each with the cursor behind it; ends at the last whole line.

        A line of several predictions comes as one record each."""
        ...

    def line(self, segment: int, row: int) -> bytes:
        """The bytes of one line. Raises NotFound."""
        ...

    def records(self, line: bytes) -> list[Mapping[str, Any]]:
        """The records of one line, as `follow` hands them out. Raises Conflict for bytes that are no line."""
        ...

    def lines(self, segment: int) -> list[bytes]:
        """All whole lines of a segment, as they are now. Raises NotFound."""
        ...

    def drop(self, segment: int) -> bool:
        """Removes the lines of a closed segment for good; its seal stays. Durable on return. Whether there were any.

        Idempotent. Raises Conflict for a segment that has no seal: it may still be written to.
        """
        ...

    def seals(self) -> list[Seal]:
        """The seals of all closed segments, in order."""
        ...
