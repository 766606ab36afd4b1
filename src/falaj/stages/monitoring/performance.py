"""Whether a model still does as well as it did on its holdout, once labels are in, with a stated time between false alarms.

e-detector (Shin, Ramdas, Rinaldo, arXiv:2203.03532, of Shiryaev–Roberts form): with Y the mean loss of a day, from 0 to 1, and
p₀ the promise plus an allowance, `e = 1 + λ(Y − p₀)` has E[e] ≤ 1 while the day's expected loss is at most p₀, whatever
depends on whatever within the day (Waudby-Smith, Ramdas, arXiv:2010.09686). For each λ of a fixed grid R ← e·(R + 1); the alarm
is when the mean of the R reaches c, and then the average number of days to a false alarm is at least c. Days that lean on one
another, such as a season, are outside of this promise: they are what the allowance is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.decision import Check

Floats = NDArray[np.floating[Any]]
BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""λ as parts of 1/p₀, the greatest for which e cannot be negative."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the holdout said at release."""

    wrong: float
    brier: float
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Detector:
    """How much speaks for decay of one loss; begun anew at each release."""

    name: str
    promise: float
    logs: tuple[float, ...] = ()
    """log(1 + R) of each λ."""
    days: int = 0
    units: int = 0
    total: float = 0.0
    log_r: float = -1e9

    @property
    def mean(self) -> float:
        return self.total / self.units if self.units else math.nan


def detectors(promise: Promise, allowance: float) -> tuple[Detector, ...]:
    """One for the rate of wrong decisions and one for the Brier score."""
    zero = (0.0,) * len(BETS)
    limits = (("wrong", promise.wrong), ("brier", promise.brier))
    return tuple(Detector(name, min(max(loss + allowance, 1e-3), 1.0), zero) for name, loss in limits)


def observe(detector: Detector, losses: Floats) -> Detector:
    """The detector after a closed cohort with these losses. An empty one changes nothing."""
    if not len(losses):
        return detector
    day, p0 = float(np.mean(losses)), detector.promise
    logs = []
    for log_next, part in zip(detector.logs, BETS, strict=True):
        log_r = math.log1p(part / p0 * (day - p0)) + log_next
        logs.append(float(np.logaddexp(0.0, log_r)))
    log_r = float(np.logaddexp.reduce([_log_of_r(value) for value in logs])) - math.log(len(logs))
    units, total = detector.units + len(losses), detector.total + float(np.sum(losses))
    return Detector(detector.name, p0, tuple(round(v, 9) for v in logs), detector.days + 1, units, total, round(log_r, 9))


def decay_verdict(found: Sequence[Detector], *, run_length: float) -> tuple[Check, ...]:
    """Failed is decay. `run_length`: days to a false alarm, at least, on average over all detectors together."""
    limit = run_length * len(found)  # The first of several to cry wolf: each may do so only that many times more rarely.
    checks = []
    for detector in found:
        seen = f"{detector.mean:.4f} over {detector.units} units, R = {math.exp(min(detector.log_r, 300)):.3g}"
        passed = None if not detector.days else detector.log_r < math.log(limit)
        checks.append(Check(detector.name, f"<= {detector.promise:.4f} (R < {limit:.0f})", seen, passed))
    return tuple(checks)


def auc(scores: Floats, labels: Floats) -> tuple[float, float, float] | None:
    """The area under the ROC curve with its 95 % interval (Hanley, McNeil 1982), for showing; None below 5 of a kind."""
    positive = labels > 0.5
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if min(n1, n0) < 5:
        return None
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    _, first, sizes = np.unique(ordered, return_index=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + (sizes + 1) / 2, sizes)
    area = (float(ranks[positive].sum()) - n1 * (n1 + 1) / 2) / (n1 * n0)
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (n1 - 1) * (q1 - area * area) + (n0 - 1) * (q2 - area * area)) / (n1 * n0)
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return area, max(0.0, area - half), min(1.0, area + half)


def _log_of_r(log_next: float) -> float:
    """log R from log(1 + R)."""
    return math.log(math.expm1(log_next)) if 0 < log_next < 30 else (log_next if log_next >= 30 else -1e9)
