"""What a user declares about a model's gates."""

from __future__ import annotations

from dataclasses import dataclass

from falaj.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Gate:
    """The bounds of one model. Comparisons with the champion are paired, on the same sealed rows, with an interval.

    A comparison passes where the interval excludes a loss beyond the margin, fails where it excludes anything better,
    and else there is not enough data: then the gate holds.
    """

    model: str
    auc_floor: float = 0.5
    auc_margin: float = 0.01
    """How much area under the ROC curve may be lost against the champion."""
    calibration_ceiling: float = 0.05
    """Expected calibration error."""
    brier_margin: float = 0.005
    """How much the Brier score may rise against the champion."""
    slices: tuple[str, ...] = ()
    slice_min: int = 300
    """Slices with fewer rows are not judged."""
    slice_drop: float = 0.05
    """How much Brier score a slice may lose against the champion, beyond doubt, over all slices together."""
    parity: float = 1e-5
    """The greatest difference between the native model and the one that is served."""
    latency_ms: float = 5.0
    """99th percentile of a single row, on the machine that judges."""
    size_mb: float = 20.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise InvalidInput(f"The confidence {self.confidence} of the gate of {self.model!r} must be from 0.5 to below 1.")
        if min(self.auc_margin, self.brier_margin, self.slice_drop, self.parity, self.latency_ms, self.size_mb) < 0:
            raise InvalidInput(f"A bound of the gate of {self.model!r} is negative.", "bounds are sizes: write 0.01.")
