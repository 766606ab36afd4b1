"""Clock: whether the times in a ledger agree with its order, told from the events alone.

The order of a ledger is its numbers, whatever the machine's clock does; a time is written down as the clock said it, and never
mended, since the records of the same change carry it too. An event may come into the ledger long after its time, where the
work took long; how long stands in its facts as `took_ms`. Time and that length together may never be before what they were
for an earlier event by more than clocks of several machines differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from falaj.core.decision import Check
from falaj.core.moments import in_words, iso, moment, short

TOLERANCE = timedelta(minutes=1)
"""By how much the clocks of machines that write one ledger may differ."""


@dataclass(slots=True)
class Clock:
    """The latest time that was seen, and where it went back."""

    latest: str = ""
    """As `iso` writes it, in which the order of texts is the order of times."""
    steps: int = 0
    first: int = -1
    """The first event after a step back."""
    furthest: timedelta = timedelta(0)
    last_at: str = ""
    """The latest time before the last step back."""

    def tick(self, seq: int, at: str, took_ms: int = 0) -> None:
        """The next event: its time, and how much later it came into the ledger."""
        if took_ms:
            at = iso(moment(at) + timedelta(milliseconds=took_ms))
        if at >= self.latest:
            self.latest = at
            return
        back = moment(self.latest) - moment(at)
        if back <= TOLERANCE:
            return
        self.steps += 1
        self.first = seq if self.first < 0 else self.first
        self.furthest = max(self.furthest, back)
        self.last_at = self.latest
        self.latest = at  # what follows is measured by the clock as it goes now, or every later event would be a step

    def check(self, now: datetime, held: timedelta) -> Check:
        """Unseen (hold) while a step is younger than `held`, or the newest event is yet to come; told for ever."""
        wanted = f"no event more than {short(TOLERANCE)} before an earlier one, none in the future"
        if self.latest and moment(self.latest) - now > TOLERANCE:
            ahead = in_words(moment(self.latest) - now)
            return Check("clock", wanted, f"the newest event is {ahead} in the future: this clock or that one is wrong", None)
        if not self.steps:
            return Check("clock", wanted, "times in the order of the events", True)
        times = "once" if self.steps == 1 else f"{self.steps} times"
        seen = f"the clock went back {times}, by {in_words(self.furthest)} at most, first at event {self.first}"
        return Check("clock", wanted, seen, True if now - moment(self.last_at) > held else None)
