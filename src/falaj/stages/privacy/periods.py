"""Periods of the calendar, as laws have them: `25y`, `6m`, `90d`, `forever`; from when they run is said in front of them."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from falaj.core.errors import InvalidInput

NEVER = datetime.max.replace(tzinfo=UTC)
"""Later than anything: a floor that is never reached."""
ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Earlier than anything: no floor at all."""
TRIGGERS = ("created", "relationship_end", "last_procedure", "life_of_model", "life_of_processing", "ended")
"""What a period may run from. `created`: of the thing itself; `life_of_…`: of the last of what was made of it."""
_PERIOD = re.compile(r"(?:(\d{1,4})y)?\s*(?:(\d{1,5})mo?)?\s*(?:(\d{1,6})d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """So many months and days, or for ever."""

    months: int = 0
    days: int = 0
    is_forever: bool = False

    def after(self, start: datetime, *, is_floor: bool) -> datetime:
        """When it is over. Where a month has no such day, a floor ends on the first of the next month, a ceiling on the last
        of this one: of two readings the stricter. Beyond the year 9999 it never ends."""
        if self.is_forever:
            return NEVER
        years, month = divmod(start.year * 12 + start.month - 1 + self.months, 12)
        if years > 9998:
            return NEVER
        last = calendar.monthrange(years, month + 1)[1]
        at = start.replace(year=years, month=month + 1, day=min(start.day, last))
        try:
            return at + timedelta(days=self.days + (1 if is_floor and start.day > last else 0))
        except OverflowError:
            return NEVER

    def __str__(self) -> str:
        if self.is_forever:
            return "forever"
        years, months = divmod(self.months, 12)
        parts = [f"{count}{unit}" for count, unit in ((years, "y"), (months, "m"), (self.days, "d")) if count]
        return "".join(parts) or "0d"


@dataclass(frozen=True, slots=True)
class Bound:
    """A period and what it runs from."""

    period: Period
    since: str = "created"

    def __str__(self) -> str:
        return str(self.period) if self.since == "created" else f"{self.since} + {self.period}"


def period(text: Any) -> Period:
    """Reads `5y`, `6m` or `6mo` (months), `90d`, `1y6m`, `forever`. Raises InvalidInput for anything else."""
    if isinstance(text, str):
        if text.strip() == "forever":
            return Period(is_forever=True)
        found = _PERIOD.fullmatch(text.strip())
        if found and text.strip():
            years, months, days = (int(part or 0) for part in found.groups())
            return Period(years * 12 + months, days)
    raise InvalidInput(f"{str(text)[:80]!r} is not a period of the calendar.", "write it as 5y, 6m, 90d, 1y6m or forever.")


def bound(text: Any, since: str = "created") -> Bound:
    """Reads a period, or `<trigger> + <period>`, which says itself from when it runs. Raises InvalidInput."""
    if isinstance(text, str) and "+" in text:
        since, _, text = (part.strip() for part in text.partition("+"))
    if since not in TRIGGERS:
        raise InvalidInput(f"{str(since)[:80]!r} is nothing that a period can run from.", f"there is: {', '.join(TRIGGERS)}.")
    return Bound(period(text), since)
