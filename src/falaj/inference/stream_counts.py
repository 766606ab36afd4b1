"""What `/metrics` shows of an endpoint's streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from falaj.core.errors import FalajError

_SAY_AGAIN_S = 60.0

SERIES: Mapping[str, tuple[str, str]] = {
    # field: (counter or gauge, what it counts)
    "consumed": ("counter", "Messages taken from the stream of requests, also those that came twice."),
    "produced": ("counter", "Answers put on the stream of answers."),
    "dead": ("counter", "Messages put on the stream of dead letters."),
    "duplicates": ("counter", "Messages that had been answered before."),
    "recovered": ("counter", "Answers that were logged before a crash and sent after it."),
    "waits": ("counter", "Times that the broker, the disk or a model was waited for."),
    "lag": ("gauge", "Messages that are not acknowledged yet."),
    "age_s": ("gauge", "Seconds that the oldest message of the last batch had waited."),
    "in_flight": ("gauge", "Messages in hand."),
}


@dataclass(slots=True)
class StreamCounts:
    consumed: int = 0
    produced: int = 0
    dead: int = 0
    duplicates: int = 0
    recovered: int = 0
    waits: int = 0
    lag: int = 0
    age_s: float = 0.0
    in_flight: int = 0
    _said: dict[str, float] = field(default_factory=dict)

    def problem(self, error: FalajError, tell: Callable[[FalajError], None]) -> None:
        """Tells it once a minute, however often it comes."""
        now = time.monotonic()
        if now - self._said.get(error.message, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            if len(self._said) > 100:
                self._said.clear()
            self._said[error.message] = now
            tell(error)

    def text(self) -> str:
        """In the Prometheus text format."""
        lines: list[str] = []
        for name, (kind, about) in SERIES.items():
            full = name_of(name)
            lines += [f"# HELP {full} {about}", f"# TYPE {full} {kind}", f"{full} {getattr(self, name):g}"]
        return "\n".join(lines) + "\n"


def name_of(series: str) -> str:
    ending = "_total" if SERIES[series][0] == "counter" else ""
    return f"falaj_stream_{'age_seconds' if series == 'age_s' else series}{ending}"
