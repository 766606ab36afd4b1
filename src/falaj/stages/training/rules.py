"""Splits by time, and the figures that say how good a probability is; all pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of a spine that is sorted by time: train, then valid, then the sealed holdout."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp]
    holdout: NDArray[np.intp]


def split(times: pl.Series, known: pl.Series, at: datetime, *, valid: timedelta, holdout: timedelta, minimum: int = 200) -> Split:
    """By time, never by shuffle. A row counts only where its label was known at `at`; rows without one must be dropped before.

    The holdout are the rows with a time in (at - holdout, at], valid those of the time before it. So that nothing leaks over a
    border, a row whose label became known only after the border is left out of the part before it.
    Raises InvalidInput where a part has fewer than `minimum` rows.
    """
    border, inner = at - holdout, at - holdout - valid
    usable = (times <= at) & (known <= at)
    parts = (
        usable & (times <= inner) & (known <= inner),
        usable & (times > inner) & (times <= border) & (known <= border),
        usable & (times > border),
    )
    rows = tuple(np.flatnonzero(part.fill_null(False).to_numpy()) for part in parts)
    for name, found in zip(("train", "valid", "holdout"), rows, strict=True):
        if len(found) < minimum:
            raise InvalidInput(
                f"The {name} part has {len(found)} labelled rows, at least {minimum} are needed.",
                "take in more data, or declare a shorter holdout.",
            )
    return Split(*rows)


def auc(y: Floats, score: Floats) -> float:
    """The chance that a random 1 scores higher than a random 0, ties counting half (Mann-Whitney). NaN without both classes."""
    ones = y > 0.5
    positives, negatives = int(ones.sum()), int((~ones).sum())
    if not positives or not negatives:
        return float("nan")
    return float((midranks(score)[ones].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def midranks(values: Floats) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def brier(y: Floats, score: Floats) -> float:
    """Mean squared error of the probability (Brier 1950), 0 is perfect."""
    return float(np.mean((score - y) ** 2))


def log_loss(y: Floats, score: Floats) -> float:
    clipped = np.clip(score, 1e-12, 1 - 1e-12)
    return float(-np.mean(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)))


def reliability(y: Floats, score: Floats, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean score, share of ones, rows) of bins with equal counts, by score."""
    order = np.argsort(score, kind="stable")
    return [(float(score[part].mean()), float(y[part].mean()), len(part)) for part in np.array_split(order, bins) if len(part)]


def calibration_error(y: Floats, score: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins with equal counts (Nixon et al., 2019, the adaptive form)."""
    return float(sum(n * abs(p - q) for p, q, n in reliability(y, score, bins)) / max(len(y), 1))


def wrong_rate(y: Floats, score: Floats, threshold: float) -> float:
    """The share of rows on the wrong side of the threshold."""
    return float(np.mean((score >= threshold) != (y > 0.5)))


def figures(y: Floats, score: Floats, threshold: float) -> dict[str, float]:
    """Every figure of a holdout, by name."""
    return {
        "roc_auc": auc(y, score),
        "brier": brier(y, score),
        "log_loss": log_loss(y, score),
        "calibration_error": calibration_error(y, score),
        "wrong_rate": wrong_rate(y, score, threshold),
        "mean_score": float(score.mean()),
        "base_rate": float(y.mean()),
        "rows": float(len(y)),
    }
