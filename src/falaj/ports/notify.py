"""Notify: tells people what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Notify(Protocol):
    def send(self, message: Mapping[str, Any]) -> None:
        """Delivers one message. The same `id` may arrive twice. Raises Unavailable where it could not be delivered."""
        ...
