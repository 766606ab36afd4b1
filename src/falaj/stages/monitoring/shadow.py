"""How a shadow's scores differ from the answers that were given, read from the prediction log.

Only answers of the champion are compared; those of another arm are counted beside them. The interval of the share of changed
decisions is Wilson's (Journal of the American Statistical Association 22, 1927, 209–212), which Brown, Cai and DasGupta
(Statistical Science 16, 2001, 101–133) recommend also for rates near 0; that of the mean difference is the normal one. Both are
95 % for one look at rows that do not lean on each other: many requests of one unit, or looking until one likes it, make them
too narrow. A rollout is what decides; a shadow only tells.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import NotFound

Z = 1.959963984540054
"""The normal quantile of 0.975."""
PERCENTS = (1, 5, 50, 95, 99)


@dataclass(slots=True)
class Tally:
    """What one model said in the shadow: one number a field and row, no object a record."""

    answered: array[float] = field(default_factory=lambda: array("d"))
    diffs: array[float] = field(default_factory=lambda: array("d"))
    ms: array[float] = field(default_factory=lambda: array("d"))
    usual_ms: array[float] = field(default_factory=lambda: array("d"))
    """Both of the same rows in the same thread, model alone: these are the ones that can be compared."""
    usual_of: array[float] = field(default_factory=lambda: array("d"))
    against: dict[str, int] = field(default_factory=dict)
    beside: int = 0
    failed: int = 0
    first_at: str = ""
    last_at: str = ""

    def add(self, record: Mapping[str, Any]) -> None:
        at = str(record["at"])
        self.first_at = min(self.first_at or at, at)
        self.last_at = max(self.last_at, at)
        if record.get("arm") != "champion":
            self.beside += 1
        elif "code" in record:
            self.failed += 1
        else:
            self.answered.append(float(record["answered"]))
            self.diffs.append(float(record["diff"]))
            self.ms.append(float(record["ms"]))
            if record.get("usual_ms") is not None:
                self.usual_ms.append(float(record["usual_ms"]))
                self.usual_of.append(float(record["ms"]))
            against = str(record["against"])
            self.against[against] = self.against.get(against, 0) + 1


def report_of(records: Iterable[Mapping[str, Any]], *, threshold: float, model: str = "") -> dict[str, Any]:
    """Of one model, or of the last that was a shadow. Raises NotFound where it never was one.

    Differences are shadow minus answer; times are milliseconds a row, of the model alone.
    """
    tallies: dict[str, Tally] = {}
    last = ""
    for record in records:
        if record.get("kind") == "shadow":
            last = str(record["model"])
            tallies.setdefault(last, Tally()).add(record)
    wanted = model or last
    if wanted not in tallies:
        raise NotFound(
            f"No shadow {wanted} has said anything yet." if wanted else "No shadow has said anything yet.",
            "falaj endpoint shadow starts one; it speaks when somebody asks the endpoint.",
        )
    tally = tallies[wanted]
    return {
        "model": wanted, "against": tally.against, "from": tally.first_at, "to": tally.last_at, "rows": len(tally.diffs),
        "failed": tally.failed, "beside": tally.beside, "difference": _difference(np.array(tally.diffs)),
        "decisions": _decisions(np.array(tally.answered), np.array(tally.diffs), threshold), "latency": _latency(tally),
    }  # fmt: skip


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a rate: centre (p + z²/2n) / (1 + z²/n), half width z·√(p(1−p)/n + z²/4n²) / (1 + z²/n)."""
    if not of:
        return 0.0, 1.0
    p, square = count / of, Z * Z / of
    centre, half = (p + square / 2) / (1 + square), Z * math.sqrt(p * (1 - p) / of + square / (4 * of)) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def _difference(diffs: NDArray[np.float64]) -> dict[str, Any]:
    if not len(diffs):
        return {}
    mean = float(diffs.mean())
    half = Z * float(diffs.std(ddof=1)) / math.sqrt(len(diffs)) if len(diffs) > 1 else None
    quantiles = {f"p{percent}": _short(v) for percent, v in zip(PERCENTS, np.percentile(diffs, PERCENTS), strict=True)}
    interval = [_short(mean - half), _short(mean + half)] if half is not None else None
    absolute = np.abs(diffs)
    return {
        "mean": _short(mean), "interval": interval, **quantiles,
        "mean_size": _short(absolute.mean()), "largest": _short(absolute.max()),
    }  # fmt: skip


def _decisions(answered: NDArray[np.float64], diffs: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """How many decisions would have been others at the endpoint's threshold."""
    was, would = answered >= threshold, answered + diffs >= threshold
    changed = int((was != would).sum())
    low, high = wilson(changed, len(diffs))
    return {
        "threshold": threshold, "changed": changed, "rate": _short(changed / len(diffs)) if len(diffs) else None,
        "interval": [_short(low), _short(high)], "to_yes": int((would & ~was).sum()), "to_no": int((was & ~would).sum()),
    }  # fmt: skip


def _latency(tally: Tally) -> dict[str, Any]:
    usual = float(np.sum(tally.usual_ms))
    return {
        "ms": _short(float(np.median(tally.ms))) if tally.ms else None,
        "usual_ms": _short(float(np.median(tally.usual_ms))) if tally.usual_ms else None,
        "compared": len(tally.usual_ms),
        "ratio": _short(float(np.sum(tally.usual_of)) / usual) if usual > 0 else None,
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")
