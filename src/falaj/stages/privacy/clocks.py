"""Clocks: until when a person who asked has to be answered, by each regime that applies, and by the house's own promise."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.stages.privacy.periods import Period, period
from falaj.stages.privacy.terms import HOUSE, STATUSES


@dataclass(frozen=True, slots=True)
class Clock:
    """One regime's time to answer. `extension`: what may be claimed on top, before the first time is over."""

    regime: str
    answer: Period
    extension: Period | None
    status: str
    instrument: str


def clocks_of(body: Mapping[str, Any], origin: str) -> tuple[Clock, ...]:
    """The table `clock` of a pack. Raises InvalidInput."""
    found = body.get("clock", {})
    if not isinstance(found, Mapping):
        raise InvalidInput(f"`clock` of {origin} is no table.", "write [clock.<regime>].")
    return tuple(_clock(str(name), each, origin) for name, each in found.items())


def shipped() -> tuple[Clock, ...]:
    return clocks_of(tomllib.loads(HOUSE.read_text("utf-8")), HOUSE.name)


def due(clocks: Iterable[Clock], regimes: Iterable[str], received: datetime, *, extended: bool) -> dict[str, datetime]:
    """regime → when the answer is due. The house's own promise always counts; a regime without a clock has none to show."""
    wanted = {"internal", *regimes}
    found: dict[str, datetime] = {}
    for clock in clocks:
        if clock.regime in wanted:
            at = clock.answer.after(received, is_floor=False)
            found[clock.regime] = clock.extension.after(at, is_floor=False) if extended and clock.extension else at
    return found


def _clock(name: str, body: Any, origin: str) -> Clock:
    if not isinstance(body, Mapping) or not set(body) <= {"answer", "extension", "status", "instrument", "note"}:
        raise InvalidInput(f"[clock.{name[:80]}] in {origin} is not understood.", 'write answer = "2m", extension = "1m".')
    status = body.get("status", "assumed")
    if status not in STATUSES or not isinstance(body.get("answer"), str):
        raise InvalidInput(
            f"[clock.{name[:80]}] in {origin} lacks `answer`, or its status means nothing.", 'as in answer = "21d".'
        )
    extension = period(body["extension"]) if "extension" in body else None
    return Clock(name, period(body["answer"]), extension, status, str(body.get("instrument", "")))
