"""What a user declares about watching a model: how far back to look, how often, and how many false alarms are too many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from falaj.core.errors import InvalidInput
from falaj.core.moments import length

_BUDGET = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)\s+per\s+(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Monitor:
    """One endpoint, watched. Unlike gates, monitors never stop anything: they raise alerts and may ask for retraining."""

    endpoint: str
    window: str = "7d"
    look: str = "1d"
    false_alarms: str = "1 per 30d"
    """How many alarms there may be, on average, while nothing has changed; half for drift, half for performance."""
    labels_after: str = "36h"
    """How long after its day a prediction waits for its label."""
    retrain_on: tuple[str, ...] = ("drift", "decay")
    cooldown: str = "21d"
    """At least this long between one retraining and the next."""
    ignore: tuple[str, ...] = ()
    """Features that move by nature, such as the month."""
    allowance: float = 0.02
    """How much above the promise the wrong rate and the Brier score may lie before it is decay."""
    min_rows: int = 200
    """Fewer rows in a window, or tenths of it in a day, are not judged."""

    def __post_init__(self) -> None:
        for text in (self.window, self.look, self.labels_after, self.cooldown):
            length(text)
        alarms_per(self.false_alarms)
        if length(self.look) > length(self.window):
            raise InvalidInput(f"The monitor of {self.endpoint!r} looks every {self.look}, but only {self.window} far.")
        unknown = set(self.retrain_on) - {"drift", "decay"}
        if unknown:
            raise InvalidInput(f"A monitor cannot retrain on {sorted(unknown)[0]!r}.", "it knows drift and decay.")


def alarms_per(budget: str) -> tuple[float, timedelta]:
    """The parts of `1 per 30d`. Raises InvalidInput for anything else."""
    match = _BUDGET.fullmatch(budget)
    if match is None or float(match[1]) <= 0:
        raise InvalidInput(f"{budget!r} is not a number of false alarms.", "write it as '1 per 30d'.")
    return float(match[1]), length(match[2])


def alpha_of(monitor: Monitor, part: float = 0.5) -> float:
    """The chance of a false alarm that one look may have, so that looks together keep `part` of the budget.

    Expected numbers add up whether or not looks overlap, so no independence is needed.
    """
    alarms, span = alarms_per(monitor.false_alarms)
    return min(0.5, part * alarms * (length(monitor.look) / span))
