"""How gates decide: figures in, Checks out. An interval decides, never a bare difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.decision import Check
from falaj.stages.gates.spec import Gate
from falaj.stages.training.rules import calibration_error, midranks

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def delong(y: Floats, scores: Sequence[Floats]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas under the ROC curves of several scores on the same rows, and their covariance.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by ranks as in Sun and Xu, IEEE Signal Processing Letters 21 (2014).
    Needs at least two ones and two zeros.
    """
    ones = y > 0.5
    positives, negatives = int(ones.sum()), int((~ones).sum())
    areas, of_ones, of_zeros = [], [], []
    for score in scores:
        overall = midranks(score)
        within_ones, within_zeros = midranks(score[ones]), midranks(score[~ones])
        of_ones.append((overall[ones] - within_ones) / negatives)
        of_zeros.append(1 - (overall[~ones] - within_zeros) / positives)
        areas.append(float(of_ones[-1].mean()))
    covariance = np.atleast_2d(np.cov(np.array(of_ones))) / positives + np.atleast_2d(np.cov(np.array(of_zeros))) / negatives
    return np.array(areas), covariance


def auc_interval(y: Floats, score: Floats, confidence: float) -> Interval:
    areas, covariance = delong(y, [score])
    return _around(float(areas[0]), math.sqrt(max(float(covariance[0, 0]), 0.0)), confidence)


def auc_difference(y: Floats, candidate: Floats, champion: Floats, confidence: float) -> Interval:
    """Candidate less champion, paired."""
    areas, covariance = delong(y, [candidate, champion])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return _around(float(areas[0] - areas[1]), math.sqrt(max(variance, 0.0)), confidence)


def brier_difference(y: Floats, candidate: Floats, champion: Floats, confidence: float) -> Interval:
    """Candidate less champion, paired row by row: a mean of differences, with its normal interval."""
    difference = (candidate - y) ** 2 - (champion - y) ** 2
    return _around(float(difference.mean()), float(difference.std(ddof=1)) / math.sqrt(len(y)), confidence)


def checks(gate: Gate, y: Floats, candidate: Floats, champion: Floats | None) -> list[Check]:
    """What the sealed rows say. `champion`: its scores on the same rows, or None where there is none yet."""
    if min((y > 0.5).sum(), (y <= 0.5).sum()) < 2:
        return [Check("holdout", "both labels, twice at least", f"{len(y)} rows of one label", None)]
    area = auc_interval(y, candidate, gate.confidence)
    error = calibration_error(y, candidate)
    found = [
        Check("roc_auc", f">= {gate.auc_floor}", str(area), _above(area, gate.auc_floor)),
        Check("calibration_error", f"<= {gate.calibration_ceiling}", f"{error:.4f}", error <= gate.calibration_ceiling),
    ]
    if champion is None:
        return found
    gained = auc_difference(y, candidate, champion, gate.confidence)
    lost = brier_difference(y, candidate, champion, gate.confidence)
    return [
        *found,
        Check("roc_auc_vs_champion", f">= -{gate.auc_margin}", str(gained), _above(gained, -gate.auc_margin)),
        Check("brier_vs_champion", f"<= +{gate.brier_margin}", str(lost), _below(lost, gate.brier_margin)),
        Check(
            "calibration_vs_champion",
            f"no worse than {calibration_error(y, champion):.4f} by more than {gate.calibration_ceiling / 2:g}",
            f"{error:.4f}",
            error <= calibration_error(y, champion) + gate.calibration_ceiling / 2,
        ),
    ]


def slice_checks(gate: Gate, column: str, values: Sequence[Any], y: Floats, scores: tuple[Floats, Floats | None]) -> list[Check]:
    """One Check for each slicing column: the worst slice, judged with Holm's correction over its slices.

    Against the champion: no slice may be worse by `slice_drop` beyond doubt. Without one: no slice's Brier score may be worse
    than guessing its own base rate, beyond doubt.
    """
    candidate, champion = scores
    names = np.array([str(value) for value in values])
    found: list[tuple[float, str, Interval]] = []
    for name in np.unique(names):
        rows = names == name
        if rows.sum() < gate.slice_min:
            continue
        other = champion[rows] if champion is not None else np.full(int(rows.sum()), y[rows].mean())
        drop = gate.slice_drop if champion is not None else 0.0
        lost = brier_difference(y[rows], candidate[rows], other, gate.confidence)
        found.append((_p_above(lost, drop, gate.confidence), str(name), lost))
    if not found:
        return [Check(f"slices:{column}", f"slices of at least {gate.slice_min} rows", "none is large enough", True)]
    found.sort()
    alpha = 1 - gate.confidence
    # Holm: the smallest p is compared with alpha / m, and nothing else can be rejected unless it is.
    p, worst, lost = found[0]
    bound = f"+{gate.slice_drop} of the champion" if champion is not None else "guessing its base rate"
    seen = f"worst is {worst}: Brier {lost.value:+.4f} [{lost.low:+.4f}, {lost.high:+.4f}], p={p:.3g} over {len(found)} slices"
    return [Check(f"slices:{column}", f"no slice worse than {bound}, beyond doubt", seen, p >= alpha / len(found))]


def promise_checks(gate: Gate, *, parity: float, p99_ms: float, size: int, form: str = "onnx") -> list[Check]:
    """What the model file itself shows. `size` in bytes, `form` the format that it is stored in."""
    return [
        Check(f"{form}_parity", f"<= {gate.parity:g}", f"{parity:.3g}", parity <= gate.parity),
        Check("latency_p99", f"<= {gate.latency_ms} ms", f"{p99_ms:.3f} ms", p99_ms <= gate.latency_ms),
        Check("size", f"<= {gate.size_mb} MB", f"{size / 1e6:.3f} MB", size <= gate.size_mb * 1e6),
    ]


def data_checks(verdicts: Mapping[str, str]) -> list[Check]:
    """`verdicts`: dataset → what its contract said last."""
    return [Check(f"contract:{name}", "allow", verdict, verdict == "allow") for name, verdict in sorted(verdicts.items())]


def _around(value: float, error: float, confidence: float) -> Interval:
    reach = _quantile(0.5 + confidence / 2) * error
    return Interval(value, value - reach, value + reach)


def _above(found: Interval, bound: float) -> bool | None:
    """True where all of the interval is at the bound or above, False where all of it is below, None between."""
    return True if found.low >= bound else False if found.high < bound else None


def _below(found: Interval, bound: float) -> bool | None:
    return True if found.high <= bound else False if found.low > bound else None


def _p_above(found: Interval, bound: float, confidence: float) -> float:
    """One-sided p-value of "not above the bound"."""
    error = (found.high - found.value) / _quantile(0.5 + confidence / 2)
    if error <= 0:
        return 1.0 if found.value <= bound else 0.0
    return 0.5 * math.erfc((found.value - bound) / error / math.sqrt(2))


def _quantile(p: float) -> float:
    """Of the standard normal distribution, by the standard library."""
    return NormalDist().inv_cdf(p)
