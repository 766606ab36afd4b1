"""How long a caller waits: what nobody waits for any more is not computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.inference.errors import Late

HEADER = b"x-request-timeout-ms"
"""`X-Request-Timeout-Ms: 50`: milliseconds from the moment at which the server had the request's head."""
LONGEST_S = 3600.0


def deadline_of(headers: Mapping[bytes, bytes], parameters: Mapping[str, Any] | None, started: float, default_s: float) -> float:
    """The time, as `started` is counted (time.perf_counter), after which nobody waits for the answer; 0.0 for none.

    The header counts milliseconds; the Open Inference Protocol's parameter `timeout` microseconds, as Triton has it, where 0
    is none. The shorter of the two holds; `default_s` (0: none) where the caller says nothing. Raises InvalidInput.
    """
    waits = []
    header = headers.get(HEADER)
    if header is not None:
        if not header.isdigit() or len(header) > 9 or not int(header):
            raise InvalidInput(
                f"The header X-Request-Timeout-Ms says {header[:20].decode('latin-1')!r}.",
                "write whole milliseconds, at least 1.",
            )
        waits.append(int(header) / 1e3)
    given = parameters.get("timeout") if parameters else None
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise InvalidInput(f"The parameter 'timeout' says {str(given)[:20]!r}.", "write whole microseconds; 0 is none.")
        if given:
            waits.append(given / 1e6)
    wait = min(waits) if waits else default_s
    return started + min(wait, LONGEST_S) if wait else 0.0


def deadline_in(remaining_s: float | None, parameters: Mapping[str, Any] | None, started: float, default_s: float) -> float:
    """The same for gRPC, which says itself how many seconds are left (`context.time_remaining()`; None: no deadline)."""
    own = deadline_of({}, parameters, started, 0.0 if remaining_s is not None else default_s)
    if remaining_s is None:
        return own
    left = started + min(max(remaining_s, 1e-9), LONGEST_S)
    return min(own, left) if own else left


def demand_time(deadline: float, started: float, now: float | None = None) -> None:
    """Raises Late where the deadline has passed. For before the model runs, not after: what was computed is answered."""
    if deadline and (now if now is not None else time.perf_counter()) >= deadline:
        raise Late(
            f"The answer was wanted within {(deadline - started) * 1e3:.3g} ms and could not be begun in that time.",
            "the model was not run: ask again, with more time or when less is going on.",
            waited_ms=round(((now if now is not None else time.perf_counter()) - started) * 1e3, 3),
        )
