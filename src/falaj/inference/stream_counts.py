"""What `/metrics` shows of an endpoint's streams."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from falaj.core.errors import FalajError
from falaj.inference.exposition import Family

_SAY_AGAIN_S = 60.0

COUNTERS = (
    Family("falaj_stream_consumed_total", "counter", "Messages taken from the stream of requests, also those that came twice."),
    Family("falaj_stream_produced_total", "counter", "Answers put on the stream of answers."),
    Family("falaj_stream_dead_total", "counter", "Messages put on the stream of dead letters."),
    Family("falaj_stream_duplicates_total", "counter", "Messages that had been answered before."),
    Family("falaj_stream_recovered_total", "counter", "Answers that were logged before a crash and sent after it."),
    Family("falaj_stream_waits_total", "counter", "Times that the broker, the disk or a model was waited for."),
)
GAUGES = (
    Family("falaj_stream_lag", "gauge", "Messages that are not acknowledged yet.", ("worker",)),
    Family("falaj_stream_age_seconds", "gauge", "How long the oldest message of the last batch had waited.", ("worker",)),
    Family("falaj_stream_in_hand", "gauge", "Messages that were taken and are not acknowledged yet.", ("worker",)),
)
FAMILIES = (*COUNTERS, *GAUGES)
_START, _END = "falaj_stream_", "_total"


@dataclass(slots=True)
class StreamCounts:
    """A field for each family: `consumed` for `falaj_stream_consumed_total`."""

    consumed: int = 0
    produced: int = 0
    dead: int = 0
    duplicates: int = 0
    recovered: int = 0
    waits: int = 0
    lag: int = 0
    age_seconds: float = 0.0
    in_hand: int = 0
    _said: dict[str, float] = field(default_factory=dict)

    def readers(self, families: tuple[Family, ...]) -> dict[str, Callable[[], float]]:
        """By the family's name without `falaj_`: what reads its value now."""
        found: dict[str, Callable[[], float]] = {}
        for family in families:
            name = family.name.removeprefix(_START).removesuffix(_END)
            found[family.name.removeprefix("falaj_")] = lambda name=name: getattr(self, name)  # type: ignore[misc]
        return found

    def problem(self, error: FalajError, tell: Callable[[FalajError], None]) -> None:
        """Tells it once a minute, however often it comes."""
        now = time.monotonic()
        if now - self._said.get(error.message, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            if len(self._said) > 100:
                self._said.clear()
            self._said[error.message] = now
            tell(error)
