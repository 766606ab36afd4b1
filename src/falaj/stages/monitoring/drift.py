"""Whether what a model sees now differs from what it was trained on, by more than such data differ from week to week anyway.

Each feature is counted in fixed bins made from the reference (at most ten quantile bins, or one for each of at most
twenty values), with bins of their own for missing and for unseen values. The statistic is the G-test of the window's
counts against the reference's; its yardstick is how large that same statistic was for the blocks of the reference period
itself, each against the rest, since real streams are autocorrelated and no χ² table knows by how much.

With m and v the mean and variance over B blocks, the statistic over m is compared with F(d, d·B), where d = 2m²/v is held
between 1 and the number of bins less one (Satterthwaite) and then divided by 1 + (4 + 16r)/B, r = m over its value for
independent rows less one, from 0 to 1: a variance from few restless blocks is too small more often than not. The 4 and the
16 were set by simulation (independent rows, and levels with an autocorrelation up to 0.9 an hour, 5 to 16 weekly blocks).
While there are few blocks that is a cautious, t-like threshold; with a quarter of a year it finds smaller shifts. Holm's
method is used across features, and a drift must also have a Jensen–Shannon divergence of at least FLOOR: with a million rows
trifles are significant. Drifts in the relation of two features are not seen, nor a change of what inputs mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.decision import Check
from falaj.core.errors import InvalidInput
from falaj.stages.monitoring.tails import f_tail

Floats = NDArray[np.floating[Any]]
BINS = 10
VALUES = 20
FLOOR = 0.005
"""In nats; a normal shifted by 0.2 standard deviations, or a rate of 30 % that becomes 35 %."""
MIN_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Bins:
    """How one feature is counted. `edges`: inner borders of quantile bins, or the values themselves where `exact`."""

    name: str
    exact: bool
    edges: tuple[float, ...]
    low: float
    high: float
    """Outside of these a value is unseen: half the reference's range beyond its ends."""
    counts: tuple[int, ...]
    """Of the reference: the bins, then unseen, then missing."""
    scale: float = 1.0
    """The mean of the statistic over the reference's blocks."""
    freedom: float = 1.0
    """The degrees of freedom that its spread over the blocks speaks for."""


@dataclass(frozen=True, slots=True)
class DriftReference:
    """What was normal. JSON-able through `core.codec`; about 250 bytes a feature."""

    rows: int
    blocks: int
    features: tuple[Bins, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """One feature in a window."""

    name: str
    p: float
    distance: float
    """Jensen–Shannon divergence, in nats."""
    missing: float
    unseen: float
    drifted: bool


def calibrate(names: Sequence[str], rows: Floats, times_ms: NDArray[np.int64], *, window: timedelta) -> DriftReference:
    """What is normal, from reference rows with their times. Blocks are as long as the windows that will be looked at.

    Raises InvalidInput where there are fewer than three blocks: then nobody knows how much such data vary by themselves.
    """
    rows = np.asarray(rows, float)
    if rows.ndim != 2 or rows.shape[1] != len(names) or len(rows) != len(times_ms):
        raise InvalidInput(f"The reference has the shape {rows.shape} for {len(names)} features and {len(times_ms)} times.")
    times = np.asarray(times_ms, np.int64)
    size = max(1, round(window / timedelta(milliseconds=1)))
    block = (times - times.min()) // size if len(times) else times
    # The last block may be cut short and would look livelier than it is.
    used = [b for b, n in zip(*np.unique(block, return_counts=True), strict=True) if n >= 0.5 * len(rows) / (block.max() + 1)]
    if len(used) < MIN_BLOCKS:
        raise InvalidInput(
            f"The reference spans {len(used)} windows of {window}; it needs at least {MIN_BLOCKS}.", "take more rows."
        )
    masks = [block == b for b in used]
    features = tuple(_calibrated(name, rows[:, i], masks) for i, name in enumerate(names))
    return DriftReference(len(rows), len(used), features)


def count(bins: Bins, values: Floats) -> NDArray[np.int64]:
    """How many of the values fall in each bin; counts of several periods can be added up."""
    missing = np.isnan(values)
    known = values[~missing]
    if bins.exact:
        allowed = np.asarray(bins.edges)
        place = np.minimum(np.searchsorted(allowed, known), max(len(allowed) - 1, 0))
        unseen = allowed[place] != known if len(allowed) else np.ones(len(known), bool)
        width = len(allowed)
    else:
        place = np.searchsorted(np.asarray(bins.edges), known, side="right")
        unseen = (known < bins.low) | (known > bins.high)
        width = len(bins.edges) + 1
    inner = np.bincount(place[~unseen], minlength=width)
    return np.concatenate([inner, [int(unseen.sum()), int(missing.sum())]]).astype(np.int64)


def compare(reference: DriftReference, counts: Sequence[NDArray[np.int64]], *, alpha: float) -> list[Moved]:
    """Each feature of a window against the reference, likeliest drift first; at most `alpha` that any is a false alarm."""
    found = []
    for bins, seen in zip(reference.features, counts, strict=True):
        normal = np.asarray(bins.counts)
        statistic, _ = g_statistic(seen, normal)
        p = f_tail(statistic / bins.scale, bins.freedom, bins.freedom * reference.blocks)
        total = max(int(seen.sum()), 1)
        found.append((p, bins.name, divergence(seen, normal), float(seen[-1] / total), float(seen[-2] / total)))
    found.sort()
    moved, open_ = [], True
    for rank, (p, name, distance, missing, unseen) in enumerate(found):
        open_ = open_ and p <= alpha / (len(found) - rank)  # Holm: the first that does not pass stops all behind it.
        moved.append(Moved(name, p, distance, missing, unseen, open_ and distance >= FLOOR))
    return moved


def drift_verdict(
    reference: DriftReference, counts: Sequence[NDArray[np.int64]], *, alpha: float, min_rows: int
) -> tuple[Check, ...]:
    """Checks of a window: failed is drift, None is too few rows to tell. Every drift and the ten next likeliest."""
    rows = int(counts[0].sum()) if counts else 0
    if rows < min_rows:
        return (Check("rows", f">= {min_rows}", str(rows), None),)
    checks = [Check("rows", f">= {min_rows}", str(rows), True)]
    moved = compare(reference, counts, alpha=alpha)
    shown = [m for m in moved if m.drifted] + [m for m in moved if not m.drifted][:10]
    for m in shown[:40]:
        seen = f"p = {m.p:.2g}, JS = {m.distance:.4f}, missing {m.missing:.1%}, unseen {m.unseen:.1%}"
        checks.append(Check(m.name, f"p > {alpha:.2g} (Holm over {len(moved)}) or JS < {FLOOR}", seen, not m.drifted))
    return tuple(checks)


def g_statistic(left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[float, int]:
    """The two-sample G and its degrees of freedom; bins that are empty in both are no bins."""
    used = (left + right) > 0
    a, b = left[used].astype(float), right[used].astype(float)
    n_a, n_b = a.sum(), b.sum()
    if not n_a or not n_b or len(a) < 2:
        return 0.0, max(len(a) - 1, 0)
    both = (a + b) / (n_a + n_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(a > 0, a * np.log(a / (n_a * both)), 0.0) + np.where(b > 0, b * np.log(b / (n_b * both)), 0.0)
    return max(0.0, 2 * float(terms.sum())), len(a) - 1


def divergence(left: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    """The Jensen–Shannon divergence of the shares, from 0 to ln 2."""
    if not left.sum() or not right.sum():
        return 0.0
    a, b = left / left.sum(), right / right.sum()
    middle = (a + b) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.where(a > 0, a * np.log(a / middle), 0.0).sum() + np.where(b > 0, b * np.log(b / middle), 0.0).sum()
    return max(0.0, float(total) / 2)


def _calibrated(name: str, values: Floats, masks: Sequence[NDArray[np.bool_]]) -> Bins:
    bins = _binned(name, values)
    whole = count(bins, values)
    statistics = []
    for mask in masks:
        block = count(bins, values[mask])
        statistics.append(g_statistic(block, whole - block)[0])
    freedom = max(1, int((whole > 0).sum()) - 1)
    mean = float(np.mean(statistics))
    spread = float(np.var(statistics, ddof=1))
    held = min(float(freedom), max(1.0, 2 * mean * mean / spread)) if spread > 0 else float(freedom)
    restless = min(1.0, max(0.0, mean / freedom - 1))
    held = max(1.0, held / (1 + (4 + 16 * restless) / len(masks)))
    # Never less than what independent rows would give: a lucky, quiet reference is no reason to be nervous.
    scale = max(mean, float(freedom))
    return Bins(name, bins.exact, bins.edges, bins.low, bins.high, tuple(whole.tolist()), scale, held)


def _binned(name: str, values: Floats) -> Bins:
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) <= VALUES:
        return Bins(name, True, tuple(distinct.tolist()), 0.0, 0.0, ())
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    reach = 0.5 * float(distinct[-1] - distinct[0])
    return Bins(name, False, tuple(edges.tolist()), float(distinct[0]) - reach, float(distinct[-1]) + reach, ())


def worst(checks: Sequence[Check]) -> str:
    """In words: what drifted, for an alert's title."""
    failed = [check.name for check in checks if check.passed is False]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return ", ".join(failed[:3]) + more
