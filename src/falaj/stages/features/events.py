"""The values of one column of events, kept in one order, and figures over slices of them that depend on the slice alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

SHIFT = 43
BIAS = 1 << (SHIFT - 1)
MOST_ENTITIES = 1 << (63 - SHIFT)
"""An event's key is one 64-bit number, its entity's place and its time in milliseconds: sorting and searching need no loop."""
_EXACT = float(1 << 53)
_AT_ONCE = 1 << 20
"""How many values of overlapping slices are laid out at once: 8 MB, however long the history is."""


class Wanted(NamedTuple):
    """One column as a figure reads it. `form`: rows, value, truth (0 or 1), label (texts as numbers), match (`where`)."""

    column: str | None
    form: str
    where: tuple[str, float] | None = None


ROWS = Wanted(None, "rows")
PASSES: Mapping[str, Callable[[Floats, float], NDArray[np.bool_]]] = {
    ">": lambda values, limit: values > limit,
    ">=": lambda values, limit: values >= limit,
    "<": lambda values, limit: values < limit,
    "<=": lambda values, limit: values <= limit,
    "==": lambda values, limit: values == limit,
    "!=": lambda values, limit: values != limit,
}


@dataclass(frozen=True)
class Events:
    """The values of one column, sorted by entity, time and value: the order in which they arrived leaves no trace."""

    keys: Ints
    values: Floats

    @cached_property
    def whole(self) -> bool:
        return bool(np.all(self.values == np.rint(self.values)) and np.abs(self.values).sum() < _EXACT)

    @cached_property
    def _prefix(self) -> Floats:
        return np.concatenate([np.zeros(1), np.cumsum(self.values)])

    @cached_property
    def _padded(self) -> Floats:
        return np.append(self.values, 0.0)

    @cached_property
    def _before(self) -> Ints:
        """Of each event, where the one before it with the same entity and value is; -1 for the first."""
        order = np.lexsort((self.values, self.codes))  # stable: of the same value the earlier event comes first
        same = (self.codes[order][1:] == self.codes[order][:-1]) & (self.values[order][1:] == self.values[order][:-1])
        before = np.full(len(order), -1, np.int64)
        before[order[1:][same]] = order[:-1][same]
        return before

    def sums(self, low: Ints, high: Ints) -> Floats:
        """The sum of each slice. It depends on the slice alone: the same window gives the same bits wherever history begins.

        Prefix sums promise that for whole numbers only, because those are added without rounding; other values are
        added slice by slice.
        """
        if self.whole:
            return self._prefix[high] - self._prefix[low]
        return np.where(high > low, self._reduced(np.add, low, high), 0.0)

    def least(self, low: Ints, high: Ints) -> Floats:
        return np.where(high > low, self._reduced(np.minimum, low, high), np.nan)

    def greatest(self, low: Ints, high: Ints) -> Floats:
        return np.where(high > low, self._reduced(np.maximum, low, high), np.nan)

    def last(self, low: Ints, high: Ints) -> Floats:
        return np.where(high > low, self._padded[np.maximum(high, 1) - 1], np.nan)

    def spread(self, low: Ints, high: Ints) -> Floats:
        """The standard deviation of a sample, in two passes, NaN for fewer than two values.

        The second pass corrects for what the mean was rounded by (Chan, Golub and LeVeque, 1983, equation 1.7), so values
        far from zero lose nothing.
        """
        size = high - low
        found = np.full(len(low), np.nan)
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite value has no spread
            mean = self.sums(low, high) / np.maximum(size, 1)
            for part, places, starts in _laid_out(low, high):
                off = self.values[places] - np.repeat(mean[part], size[part])
                squares, rest = np.add.reduceat(off * off, starts), np.add.reduceat(off, starts)
                n = size[part]
                found[part] = np.sqrt(np.maximum(squares - rest * rest / n, 0.0) / np.maximum(n - 1, 1))
        return np.where((size > 1) & np.isfinite(found), found, np.nan)

    def distinct(self, low: Ints, high: Ints) -> Floats:
        """How many different values each slice has: those whose like before them lies before the slice."""
        found = np.zeros(len(low))
        for part, places, starts in _laid_out(low, high):
            first = self._before[places] < np.repeat(low[part], (high - low)[part])
            found[part] = np.add.reduceat(first.astype(np.int64), starts)
        return found

    def merged(self, other: Events) -> Events:
        if not len(other.keys):
            return self
        places = np.searchsorted(self.keys, other.keys, "right")
        if np.array_equal(places, np.searchsorted(self.keys, other.keys, "left")):
            return Events(np.insert(self.keys, places, other.keys), np.insert(self.values, places, other.values))
        return ordered(np.concatenate([self.keys, other.keys]), np.concatenate([self.values, other.values]))

    def kept(self, keep: NDArray[np.bool_]) -> Events:
        return Events(self.keys[keep], self.values[keep])

    @property
    def codes(self) -> Ints:
        return self.keys >> SHIFT

    @property
    def times(self) -> Ints:
        return (self.keys & ((1 << SHIFT) - 1)) - BIAS

    def _reduced(self, ufunc: np.ufunc, low: Ints, high: Ints) -> Floats:
        bounds = np.stack([low, high], axis=1).ravel()
        return ufunc.reduceat(self._padded, bounds)[::2] if len(bounds) else np.empty(0)


def ordered(keys: Ints, values: Floats) -> Events:
    order = np.lexsort((values, keys))
    return Events(keys[order], values[order])


def none() -> Events:
    return Events(np.empty(0, np.int64), np.empty(0))


def bounds(events: Events, codes: Ints, after: Ints, until: Ints) -> tuple[Ints, Ints]:
    """The slice of each entity's events with a time in (after, until]."""
    start = (codes << SHIFT) + BIAS
    low = np.searchsorted(events.keys, start + np.maximum(after, -BIAS), "right")
    high = np.searchsorted(events.keys, start + np.clip(until, -BIAS, BIAS - 1), "right")
    return low.astype(np.int64), np.maximum(high, low).astype(np.int64)


def _laid_out(low: Ints, high: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The slices that hold anything, some at a time: which they are, the places of their values one slice after another,
    and where in these each slice starts.
    """
    held = np.flatnonzero(high > low)
    ends = np.cumsum((high - low)[held])
    done = 0
    while done < len(held):
        before = ends[done - 1] if done else 0
        upto = max(int(np.searchsorted(ends, before + _AT_ONCE, "right")), done + 1)
        part = held[done:upto]
        size = (high - low)[part]
        starts = np.cumsum(size) - size
        yield part, np.arange(size.sum()) + np.repeat(low[part] - starts, size), starts
        done = upto
