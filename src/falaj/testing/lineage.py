"""What every sink of lineage must do. Subclass `LineageSuite`, give it a `collected` fixture, and run it with pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from falaj.ports.lineage import Lineage

Collected = tuple[Lineage, Callable[[], list[Mapping[str, Any]]]]

EVENT = {
    "eventType": "COMPLETE",
    "eventTime": "2013-05-01T09:30:00.000Z",
    "run": {"runId": "6f0f4f1a-2e77-5d0b-9c41-a1d2b7c63a8e"},
    "job": {"namespace": "falaj://shop", "name": "ingest.flights", "facets": {"note": "気温\nand more"}},
}


class LineageSuite:
    """The contract of `ports.lineage`."""

    @pytest.fixture
    def collected(self) -> Collected:
        """An adapter, and a function that reads what has arrived."""
        raise NotImplementedError("give the suite a `collected` fixture")

    def test_an_event_arrives_whole(self, collected: Collected) -> None:
        sink, arrived = collected
        sink.emit([EVENT])
        assert arrived() == [EVENT]

    def test_events_arrive_in_order(self, collected: Collected) -> None:
        sink, arrived = collected
        numbered = [{**EVENT, "number": number} for number in range(5)]
        sink.emit(numbered[:3])
        sink.emit(numbered[3:])
        assert arrived() == numbered

    def test_the_same_event_may_come_again(self, collected: Collected) -> None:
        sink, arrived = collected
        sink.emit([EVENT])
        sink.emit([EVENT])
        assert arrived() == [EVENT, EVENT]

    def test_nothing_to_tell_is_no_error(self, collected: Collected) -> None:
        sink, _ = collected
        sink.emit([])
