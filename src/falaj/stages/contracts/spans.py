"""What a contract promises about time: freshness, latency and retention as lengths of time, however their unit is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from falaj.stages.contracts.contract import Contract

KEPT = ("latency", "freshness", "retention")
"""Properties that are a length of time, so that their value and unit must be readable as one."""

_DAYS: Mapping[tuple[str, ...], float] = {
    ("s", "sec", "second", "seconds"): 1 / 86400,
    ("m", "min", "minute", "minutes"): 1 / 1440,
    ("h", "hr", "hour", "hours"): 1 / 24,
    ("d", "day", "days"): 1.0,
    ("w", "week", "weeks"): 7.0,
    ("mo", "month", "months"): 30.0,
    ("y", "yr", "year", "years"): 365.0,
}
UNITS: Mapping[str, float] = {word: days for words, days in _DAYS.items() for word in words}
"""Days of each unit. A month counts 30 and a year 365: a promise about data needs no calendar."""

_TEXT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]{1,7})")


def span(value: Any, unit: str) -> timedelta | None:
    """The length that the value names in that unit; None where it names none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or unit not in UNITS:
        return None
    days = value * UNITS[unit]
    return timedelta(seconds=round(days * 86400, 3)) if 0 < days < 365_000 else None


def promised(contract: Contract, name: str) -> timedelta | None:
    """The length of that SLA property; retention may stand in the labels instead, as in `5y`."""
    entry = contract.sla.get(name)
    if entry is not None:
        return span(entry.get("value"), str(entry.get("unit", "")))
    return labelled(contract.labels.get(name)) if name == "retention" else None


def labelled(text: Any) -> timedelta | None:
    """The length that a label such as `5y` or `30 days` names."""
    found = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
    return span(float(found[1]), found[2]) if found else None
