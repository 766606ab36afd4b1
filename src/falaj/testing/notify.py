"""What every notifier must do. Subclass `NotifySuite`, give it a `delivered` fixture, and run it with pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from falaj.ports.notify import Notify

Delivered = tuple[Notify, Callable[[], list[Mapping[str, Any]]]]

MESSAGE = {
    "id": "alert/drift-monitor-delay@1.opened",
    "kind": "opened",
    "severity": "warning",
    "title": "drift of monitor/delay: temp, 気温\nand more",
    "facts": {"checks": [{"name": "temp", "wanted": "p > 0.01", "seen": "p = 2e-05"}]},
}


class NotifySuite:
    """The contract of `ports.notify`."""

    @pytest.fixture
    def delivered(self) -> Delivered:
        """An adapter, and a function that reads what has arrived."""
        raise NotImplementedError("give the suite a `delivered` fixture")

    def test_a_message_arrives_whole(self, delivered: Delivered) -> None:
        notify, arrived = delivered
        notify.send(MESSAGE)
        assert arrived() == [MESSAGE]

    def test_the_same_message_may_be_sent_again_under_the_same_id(self, delivered: Delivered) -> None:
        notify, arrived = delivered
        notify.send(MESSAGE)
        notify.send(MESSAGE)
        assert {message["id"] for message in arrived()} == {MESSAGE["id"]}

    def test_messages_arrive_in_order(self, delivered: Delivered) -> None:
        notify, arrived = delivered
        for number in range(3):
            notify.send({**MESSAGE, "id": f"m{number}"})
        assert [message["id"] for message in arrived()] == ["m0", "m1", "m2"]
