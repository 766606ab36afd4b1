"""The figures of one window: what came in, what was answered, how well, how fast and with what memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.stages.monitoring.cohorts import Cohort, Part
from falaj.stages.monitoring.drift import DriftReference, Moved, count
from falaj.stages.monitoring.performance import auc
from falaj.stages.training.spec import SCORE

Floats = NDArray[np.floating[Any]]


def parts_of(cohorts: Sequence[Cohort], model: str) -> list[Part]:
    """What that model answered, whichever arm it was."""
    return [part for cohort in cohorts for part in cohort.parts if part.model == model]


def counts_of(reference: DriftReference, parts: Sequence[Part]) -> list[NDArray[np.int64]]:
    """The window's counts in the reference's bins. Predictions whose arm was forced are left out."""
    counts = [np.zeros(len(bins.counts), np.int64) for bins in reference.features]
    for part in parts:
        usual = ~part.forced
        for place, bins in enumerate(reference.features):
            values = part.scores if bins.name == SCORE else part.features[:, place]
            counts[place] += count(bins, values[usual])
    return counts


def without(
    reference: DriftReference, counts: Sequence[NDArray[np.int64]], ignored: Sequence[str]
) -> tuple[DriftReference, list[NDArray[np.int64]]]:
    """The same without the features that are to be ignored."""
    kept = [(bins, seen) for bins, seen in zip(reference.features, counts, strict=True) if bins.name not in ignored]
    return DriftReference(reference.rows, reference.blocks, tuple(bins for bins, _ in kept)), [seen for _, seen in kept]


def losses_of(parts: Sequence[Part], threshold: float) -> Mapping[str, Floats]:
    """The losses of labelled predictions: `wrong` (0 or 1) and `brier` (0 to 1)."""
    scores, labels = _labelled(parts)
    wrong = ((scores >= threshold) != (labels > 0.5)).astype(float)
    return {"wrong": wrong, "brier": np.square(np.clip(scores, 0, 1) - labels)}


def window_of(recent: Sequence[Part], matured: Sequence[Part], moved: Sequence[Moved], threshold: float) -> dict[str, Any]:
    """A window as plain JSON, a few kilobytes. `recent`: the inputs' window; `matured`: the same length, but with labels."""
    usual = [~part.forced for part in recent]
    scores = _joined([part.scores[m] for part, m in zip(recent, usual, strict=True)])
    latency = _joined([part.latency_ms[m] for part, m in zip(recent, usual, strict=True)])
    yes = float(np.mean(scores >= threshold)) if len(scores) else None
    inputs = [
        {
            "name": m.name,
            "p": _short(m.p),
            "js": round(m.distance, 5),
            "missing": round(m.missing, 4),
            "unseen": round(m.unseen, 4),
            "drifted": m.drifted,
        }
        for m in moved[:25]
    ]
    return {
        "rows": len(scores),
        "predictions": {"mean": _short(scores.mean()) if len(scores) else None, "yes": yes, **_quantiles(scores, (10, 50, 90))},
        "latency_ms": _quantiles(latency, (50, 95, 99)),
        "performance": _performance(matured, threshold),
        "inputs": inputs,
    }


def _performance(parts: Sequence[Part], threshold: float) -> dict[str, Any]:
    scores, labels = _labelled(parts)
    total = sum(int((~part.forced).sum()) for part in parts)
    if not len(scores):
        return {"rows": total, "labelled": 0}
    losses = losses_of(parts, threshold)
    area = auc(scores, labels)
    figures: dict[str, Any] = {name: _short(values.mean()) for name, values in losses.items()}
    figures |= {"rows": total, "labelled": len(scores), "base_rate": _short(labels.mean())}
    return figures | {"auc": [round(value, 4) for value in area] if area else None}


def _labelled(parts: Sequence[Part]) -> tuple[Floats, Floats]:
    known = [~part.forced & ~np.isnan(part.labels) for part in parts]
    scores = _joined([part.scores[k] for part, k in zip(parts, known, strict=True)])
    return scores, _joined([part.labels[k] for part, k in zip(parts, known, strict=True)])


def _joined(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays) if arrays else np.empty(0)


def _quantiles(values: Floats, percents: Sequence[int]) -> dict[str, float | None]:
    found = np.percentile(values, percents).tolist() if len(values) else [None] * len(percents)
    return {f"p{percent}": None if v is None else _short(v) for percent, v in zip(percents, found, strict=True)}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
