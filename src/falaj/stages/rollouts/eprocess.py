"""The statistics of a rollout: evidence that may be looked at after every block of traffic without spoiling it.

Notation: a is the champion, b the challenger; a block is a period that was not chosen by looking at outcomes; n units and
x bad ones of each arm. Everything is kept as natural logarithms, and every state is small and JSON-able.

Two-sample e-process (exact for 0/1 outcomes). H0 is `θ_b ≤ θ_a + δ` (harm, δ = tolerance) or `θ_b ≥ θ_a + δ` (inferior,
δ = margin). Before each block, guesses (p, q) for (θ_a, θ_b) are made from EARLIER blocks only. With t the minimiser of
`n_a·KL(p‖t) + n_b·KL(q‖t+δ)` the block's factor is

    e = (p/t)^x_a · ((1−p)/(1−t))^(n_a−x_a) · (q/(t+δ))^x_b · ((1−q)/(1−t−δ))^(n_b−x_b)

and E[e] ≤ 1 under H0, whatever the base rate of that block: the base rate and the share may change between blocks. The
product E over blocks, and any average of such products fixed beforehand, is an e-process, so P(E ever ≥ 1/α) ≤ α.
Sources: Turner, Ly, Grünwald, Journal of Statistical Planning and Inference 230 (2024), arXiv:2106.02693; shifted and
convex hypotheses: Turner, Grünwald, arXiv:2203.09785; the last step: Ville 1939.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["harm", "inferior"]
Counts = tuple[int, int]
"""(champion, challenger)"""

EFFECTS = (1.25, 1.5, 2.0, 3.0, 6.0)
"""Odds ratios, counted from the border of H0, over which the mixture averages; one more component follows the data."""
MEMORY = 2000.0
"""Guesses remember about this many units of an arm, so that they follow a base rate that drifts."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Evidence:
    """Against one hypothesis. `logs[r][k]`: component k, started at step r; `units`, `bad`: what the guesses remember."""

    logs: tuple[tuple[float, ...], ...]
    units: tuple[float, ...] = (0.0, 0.0)
    bad: tuple[float, ...] = (0.0, 0.0)
    log_e: float = 0.0
    peak: float = 0.0
    """The greatest log_e after any block: Ville's inequality is about it, so a threshold once crossed stays crossed."""


def begin(starts: int = 1) -> Evidence:
    """No evidence yet. With `starts` > 1 the process is the average of that many, one begun at each step of the rollout,
    which finds a regression that begins late; those not begun yet count as 1."""
    return Evidence(((0.0,) * (len(EFFECTS) + 1),) * starts)


def update(evidence: Evidence, units: Counts, bad: Counts, *, side: Side, delta: float, started: int = 1) -> Evidence:
    """The evidence after one more block. `started`: how many of the processes have begun. The first block of all only teaches."""
    logs = evidence.logs
    if evidence.units[0] > 0:
        factors = [log_factor(p, q, units, bad, side=side, delta=delta) for p, q in guesses(evidence, side, delta)]
        logs = tuple(
            tuple(old + new for old, new in zip(row, factors, strict=True)) if start < started else row
            for start, row in enumerate(logs)
        )
    log_e = _log_mean([value for row in logs for value in row])
    pairs = [_remember(evidence.units[i], evidence.bad[i], units[i], bad[i]) for i in (0, 1)]
    return Evidence(logs, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), log_e, max(evidence.peak, log_e))


def guesses(evidence: Evidence, side: Side, delta: float) -> list[tuple[float, float]]:
    """The guessed rates of both arms, one pair a component, from what earlier blocks taught."""
    p, own = (_clip((evidence.bad[i] + 0.5) / (evidence.units[i] + 1)) for i in (0, 1))
    border = _clip(p + delta)
    odds = border / (1 - border)
    pairs = []
    for effect in EFFECTS:
        moved = odds * effect if side == "harm" else odds / effect
        pairs.append((p, _clip(moved / (1 + moved))))
    return [*pairs, (p, own if evidence.units[1] > 0 else border)]


def log_factor(p: float, q: float, units: Counts, bad: Counts, *, side: Side, delta: float) -> float:
    """log e of one block for one pair of guesses; 0 where the guess lies in H0 or an arm is empty: it then bets nothing."""
    if not units[0] or not units[1] or (q <= p + delta if side == "harm" else q >= p + delta):
        return 0.0
    t = project(p, q, units, delta)
    s = t + delta
    return (
        bad[0] * math.log(p / t)
        + (units[0] - bad[0]) * math.log((1 - p) / (1 - t))
        + bad[1] * math.log(q / s)
        + (units[1] - bad[1]) * math.log((1 - q) / (1 - s))
    )


def project(p: float, q: float, units: Counts, delta: float) -> float:
    """The t that minimises n_a·KL(p‖t) + n_b·KL(q‖t+δ).

    The objective is convex and each of its two terms is least at p and at q − δ, so t lies between them: bisection on
    the sign of the derivative, with its positive denominators multiplied away.
    """
    if delta == 0:
        return (units[0] * p + units[1] * q) / (units[0] + units[1])
    least, most = max(0.0, -delta), min(1.0, 1.0 - delta)
    low, high = max(least, min(p, q - delta)), min(most, max(p, q - delta))
    for _ in range(60):
        t = (low + high) / 2
        s = t + delta
        if units[0] * (t - p) * s * (1 - s) + units[1] * (s - q) * t * (1 - t) > 0:
            high = t
        else:
            low = t
    return min(max((low + high) / 2, least + 1e-15), most - 1e-15)


# --- The confidence sequence, for people to look at ---------------------------------------------------------------------

_HALF = (0.001, 0.002, 0.003, 0.005, 0.0075, *(i / 100 for i in range(1, 21)), 0.225, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 0.9)
GRID = (*(-d for d in reversed(_HALF)), 0.0, *_HALF)
"""Differences θ_b − θ_a that are tried."""


@dataclass(frozen=True, slots=True)
class Band:
    """One e-process for each difference of the grid, H0: θ_b − θ_a = δ; what is not refuted is the interval."""

    logs: tuple[float, ...] = (0.0,) * len(GRID)
    peaks: tuple[float, ...] = (0.0,) * len(GRID)
    units: tuple[float, ...] = (0.0, 0.0)
    bad: tuple[float, ...] = (0.0, 0.0)


def widen(band: Band, units: Counts, bad: Counts) -> Band:
    """The band after one more block; guesses are the running means of both arms. Turner, Grünwald, arXiv:2203.09785."""
    remembered = tuple(band.units[i] + units[i] for i in (0, 1))
    wrong = tuple(band.bad[i] + bad[i] for i in (0, 1))
    if not all(band.units) or not all(units):
        return replace(band, units=remembered, bad=wrong)
    p, q = (_clip((band.bad[i] + 0.5) / (band.units[i] + 1)) for i in (0, 1))
    delta = np.asarray(GRID)
    t = _project_grid(p, q, units, delta)
    s = t + delta
    step = bad[0] * np.log(p / t) + (units[0] - bad[0]) * np.log((1 - p) / (1 - t))
    step += bad[1] * np.log(q / s) + (units[1] - bad[1]) * np.log((1 - q) / (1 - s))
    # Four decimals of a logarithm are far below what can be seen, and keep the record small.
    logs = np.round(np.asarray(band.logs) + step, 4)
    peaks = np.maximum(np.asarray(band.peaks), logs)
    return Band(tuple(logs.tolist()), tuple(peaks.tolist()), remembered, wrong)


def interval(band: Band, alpha: float) -> tuple[float, float]:
    """The differences that were never refuted at 1/α, rounded outwards to the grid: true at all times together with P ≥ 1 − α."""
    alive = [i for i, peak in enumerate(band.peaks) if peak < math.log(1 / alpha)]
    if not alive:
        return (0.0, 0.0)
    return GRID[max(alive[0] - 1, 0)], GRID[min(alive[-1] + 1, len(GRID) - 1)]


def _project_grid(p: float, q: float, units: Counts, delta: NDArray[np.float64]) -> NDArray[np.float64]:
    least, most = np.maximum(0.0, -delta), np.minimum(1.0, 1.0 - delta)
    low = np.maximum(least, np.minimum(p, q - delta))
    high = np.minimum(most, np.maximum(p, q - delta))
    for _ in range(32):  # Fewer than above: at the minimum an error in t hardly shows, and this is only looked at.
        t = (low + high) / 2
        s = t + delta
        above = units[0] * (t - p) * s * (1 - s) + units[1] * (s - q) * t * (1 - t) > 0
        low, high = np.where(above, low, t), np.where(above, t, high)
    return np.clip((low + high) / 2, least + 1e-15, most - 1e-15)


# --- Whether the split is what was asked for ----------------------------------------------------------------------------

STRENGTH = 100.0
"""How narrowly the prior of the split test sits on the split that was wanted."""
SPLIT_LIMIT = 1000.0


@dataclass(frozen=True, slots=True)
class Split:
    """Sample-ratio test: log E = log B(kπ+c) − log B(kπ) − Σ c·log π, k = 100, begun anew and multiplied at each share.
    Lindon, Malek 2022, arXiv:2011.03567. Units that were assigned, never requests: one busy user would look like a fault."""

    share: float = 0.0
    counts: Counts = (0, 0)
    done: float = 0.0
    log_e: float = 0.0
    peak: float = 0.0


def assign(split: Split, counts: Counts, share: float) -> Split:
    """The test after a block in which the challenger was to get `share` of the units."""
    if share != split.share:
        split = replace(split, share=share, counts=(0, 0), done=split.log_e)
    c = (split.counts[0] + counts[0], split.counts[1] + counts[1])
    weights = (1 - share, share)
    prior = (STRENGTH * weights[0], STRENGTH * weights[1])
    wanted = sum(n * math.log(weight) for n, weight in zip(c, weights, strict=True))
    log_e = split.done + _log_beta(prior[0] + c[0], prior[1] + c[1]) - _log_beta(*prior) - wanted
    return Split(share, c, split.done, log_e, max(split.peak, log_e))


def forecast(evidence: Evidence, threshold: float, units: int) -> int | None:
    """About how many more challenger units until the evidence reaches the threshold, if it goes on growing as it has so far.

    Rough: early evidence is slow to grow, and the rate differs by share. None where it does not grow.
    """
    if evidence.log_e >= threshold:
        return 0
    if units <= 0 or evidence.log_e <= 0:
        return None
    return math.ceil((threshold - evidence.log_e) * units / evidence.log_e)


def _remember(units: float, bad: float, more: int, more_bad: int) -> tuple[float, float]:
    total, wrong = units + more, bad + more_bad
    fade = min(1.0, MEMORY / total) if total else 1.0
    return round(total * fade, 6), round(wrong * fade, 6)


def _clip(rate: float) -> float:
    return min(max(rate, _TINY), 1 - _TINY)


def _log_mean(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))


def _log_beta(x: float, y: float) -> float:
    return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)
