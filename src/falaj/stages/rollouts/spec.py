"""What a user declares about an endpoint and about how a new model may take it over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from falaj.core.errors import InvalidInput
from falaj.core.masking import CLASS, masking
from falaj.core.moments import length

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
GUARDS: Mapping[str, str] = {
    "wrong": "the score on the wrong side of the threshold, once the label is known",
    "failure": "a valid request that got no prediction",
    "slow": "slower than 95 of 100 of the champion's predictions before the rollout",
}
"""What counts as bad."""


@dataclass(frozen=True, slots=True)
class Canary:
    """How a challenger grows. It is promoted only when every guard has been shown to be no worse than its margin."""

    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    """The challenger's share of the units at each step."""
    error: float = 0.05
    """How often, at most, a challenger that harms no guard is taken back, however often one looks."""
    margin: Mapping[str, float] = field(default_factory=dict)
    """By guard: how much worse, in the rate of bad units, the challenger must be shown *not* to be (0.05, failure 0.01)."""
    tolerance: Mapping[str, float] = field(default_factory=dict)
    """By guard: how much worse it may be without being taken back (default 0; slow 0.02)."""
    guards: tuple[str, ...] = ("wrong", "failure", "slow")
    maturity: str = "36h"
    """How long after its end a cohort waits for labels. Labels that come later do not count: bad news may travel faster."""
    cohort: str = "1d"
    pulse: str = "1h"
    """The cohort of the guards that need no label."""
    step_units: int = 100
    """Matured units of each arm and guard before the next step."""
    step_time: str = "1d"
    max_time: str = "90d"

    def __post_init__(self) -> None:
        is_growing = list(self.steps) == sorted(set(self.steps))
        if not self.steps or not is_growing or not all(0 < share < 1 for share in self.steps):
            raise InvalidInput(f"The steps {self.steps} must be growing shares below 1.", "write steps=(0.05, 0.25, 0.5).")
        if not 0 < self.error < 1:
            raise InvalidInput(f"The error {self.error} must be between 0 and 1.", "write error=0.05.")
        unknown = (set(self.guards) | set(self.margin) | set(self.tolerance)) - set(GUARDS)
        if unknown or not self.guards:
            raise InvalidInput(f"There is no guard {sorted(unknown)[:1]}.", f"there is: {', '.join(GUARDS)}.")
        for guard in self.guards:
            if not 0 <= self.tolerance_of(guard) < self.margin_of(guard) < 1:
                raise InvalidInput(f"The margin of {guard!r} must be greater than its tolerance, and both from 0 to 1.")
        for text in (self.maturity, self.cohort, self.pulse, self.step_time, self.max_time):
            length(text)

    def margin_of(self, guard: str) -> float:
        return self.margin.get(guard, 0.01 if guard == "failure" else 0.05)

    def tolerance_of(self, guard: str) -> float:
        return self.tolerance.get(guard, 0.02 if guard == "slow" else 0.0)


@dataclass(frozen=True, slots=True)
class StreamIO:
    """Requests that come as messages, and their answers. The names are of streams (topics, subjects) of the broker that the
    setting `stream` chooses."""

    source: str
    """What requests are taken from: JSON as `:predict` or `/infer` take it."""
    sink: str
    """What answers are put on, each under the key of its request."""
    dead: str = ""
    """What is put there cannot be answered; `<source>.dead` unless said otherwise."""
    group: str = "falaj"
    """The name under which the endpoint shares the source with others."""
    batch: int = 128
    """Messages that are in hand at once, at most."""
    tries: int = 5
    """How often a message is tried that the server fails at; what is no request goes to the dead letters at once."""

    def __post_init__(self) -> None:
        if not self.dead:
            object.__setattr__(self, "dead", f"{self.source}.dead")
        for name in (self.source, self.sink, self.dead, self.group):
            if not _NAME.fullmatch(name):
                raise InvalidInput(
                    f"{name!r} is no name of a stream.", "letters, digits, '.', '_' and '-', as in flights.requests."
                )
        if len({self.source, self.sink, self.dead}) < 3:
            raise InvalidInput("Requests, answers and dead letters need a stream each.", "write StreamIO('requests', 'answers').")
        if not 1 <= self.batch <= 4096 or not 1 <= self.tries <= 100:
            raise InvalidInput("A batch has 1 to 4,096 messages, and a message 1 to 100 tries.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is asked. `unit` is the request field whose values are split between models, and counted once each.

    `mask`: what its prediction log may not hold. Classifications, as in ("restricted", "confidential"), are hashed. A mapping
    says it by name: a field of the request, `view.feature` or `class:restricted` → `hash`, `drop` or `keep`. It holds from
    the next release on.
    """

    name: str
    model: str
    unit: str = ""
    threshold: float = 0.5
    rollout: Canary = field(default_factory=Canary)
    mask: tuple[str, ...] | Mapping[str, str] = ()
    stream: StreamIO | None = None
    """Where requests come from as messages, beside those over HTTP."""
    subject: str = ""
    """The request field that says whom a request is about, where the contract of the model's training rows does not: what is
    logged of a request is sealed under that person's key."""
    purpose: str = ""
    """What people's data is used for here, as consent names it; the installation's own purpose unless said otherwise. It does not
    answer about whoever withdrew consent to it, or to `serving`, or is restricted."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InvalidInput(f"The threshold {self.threshold} of endpoint {self.name!r} must be from 0 to 1.")
        if isinstance(cast(Any, self.mask), str):
            raise InvalidInput(f"The mask of endpoint {self.name!r} is one text.", f"write mask=({self.mask!r},).")
        masking(self.masked)

    @property
    def masked(self) -> Mapping[str, str]:
        """The mask by name, as `core.masking` reads it."""
        return self.mask if isinstance(self.mask, Mapping) else {f"{CLASS}{name}": "hash" for name in self.mask}
