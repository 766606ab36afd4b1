"""What a user declares about alerts: when they close by themselves and how delivery is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from falaj.core.errors import InvalidInput
from falaj.core.moments import length

SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Alerting:
    clear_looks: int = 3
    """After so many looks in a row that found nothing, an alert closes by itself."""
    retry: str = "30s"
    """The wait after the first delivery that failed; it doubles each time."""
    retry_max: str = "1h"

    def __post_init__(self) -> None:
        if self.clear_looks < 1:
            raise InvalidInput(f"clear_looks must be at least 1, got {self.clear_looks}.")
        for text in (self.retry, self.retry_max):
            length(text)
