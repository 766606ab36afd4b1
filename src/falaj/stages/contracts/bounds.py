"""Bounds as intervals: which of two is tighter, and whether one can fail at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from falaj.stages.contracts.contract import Column, Quality

RANGES: Mapping[str, tuple[int, int]] = {
    **{f"i{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
"""What each width of integers can hold."""

Edge = tuple[float, bool]
"""A number, and whether it belongs to the interval itself."""


def edges(limits: tuple[tuple[str, Any], ...]) -> tuple[Edge, Edge]:
    """The lower and the upper edge of what the limits leave; infinite where nothing bounds that side."""
    low: Edge = (-math.inf, True)
    high: Edge = (math.inf, True)
    for op, limit in limits:
        at = (_number(limit), "=" in op)
        if op[0] == ">":
            low = max(low, at, key=lambda edge: (edge[0], not edge[1]))
        else:
            high = min(high, at, key=lambda edge: (edge[0], edge[1]))
    return low, high


def compared(old: tuple[Edge, Edge], new: tuple[Edge, Edge]) -> tuple[bool, bool]:
    """(tightened, loosened): whether the new interval leaves out something of the old one, and lets something more in."""
    (old_low, old_high), (new_low, new_high) = old, new
    tightened = _above(new_low, old_low) or _below(new_high, old_high)
    loosened = _above(old_low, new_low) or _below(old_high, new_high)
    return tightened, loosened


def allowed(check: Quality) -> tuple[Edge, Edge] | None:
    """What a rule's bound lets its measure be, where that is one interval."""
    if isinstance(check.bound, tuple):
        return ((check.bound[0], True), (check.bound[1], True)) if check.op == "between" else None
    if check.op == "==":
        return (check.bound, True), (check.bound, True)
    return None if check.op == "!=" else edges(((check.op, check.bound),))


def holds_always(check: Quality, least: float | None, most: float | None) -> bool:
    """Whether a measure that lies in [least, most] (None: no end) keeps the rule whatever it is."""
    low, high = (-math.inf if least is None else least), (math.inf if most is None else most)
    if isinstance(check.bound, tuple):
        first, last = check.bound
        return first <= low and high <= last if check.op == "between" else last < low or high < first
    bound = check.bound
    return {
        "<": high < bound,
        "<=": high <= bound,
        ">": low > bound,
        ">=": low >= bound,
        "!=": not low <= bound <= high,
    }.get(check.op, False)


def holds_never(column: Column) -> bool:
    """Whether no value at all can keep the column's own limits."""
    low, high = edges(column.limits)
    shortest, longest = column.lengths
    empty = low[0] > high[0] or (low[0] == high[0] and not (low[1] and high[1]))
    return empty or (shortest is not None and longest is not None and shortest > longest)


def _above(one: Edge, other: Edge) -> bool:
    return one[0] > other[0] or (one[0] == other[0] and other[1] and not one[1])


def _below(one: Edge, other: Edge) -> bool:
    return one[0] < other[0] or (one[0] == other[0] and other[1] and not one[1])


def _number(limit: Any) -> float:
    """Times in seconds and dates in days, so that all limits compare as numbers."""
    if isinstance(limit, datetime):
        return limit.timestamp() if limit.tzinfo else limit.toordinal() * 86400.0
    return float(limit.toordinal()) if isinstance(limit, date) else float(limit)
