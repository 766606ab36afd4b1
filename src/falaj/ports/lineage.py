"""Lineage: hands OpenLineage events to whoever collects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Lineage(Protocol):
    def emit(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Hands over RunEvents (JSON values) in order. The same event may come twice, under the same `runId`, type and time.

        Raises Unavailable where they could not all be handed over; then all of them come again later.
        """
        ...
