"""The pictures of a training run, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from falaj.core.errors import MissingDependency
from falaj.stages.training.rules import Floats, auc, reliability

_INK, _BLUE, _ORANGE = "#333333", "#0072b2", "#d55e00"


def draw(
    y: Floats, score: Floats, names: Sequence[str], importance: Floats | None, curves: Mapping[str, Sequence[float]]
) -> dict[str, bytes]:
    """File name → PNG: ROC curve, reliability, score histogram, importance of the columns, and the learning curves."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependency.of("Drawing plots", "matplotlib", "train") from exc

    def picture(paint: Callable[[Any], None], height: float = 4.0) -> bytes:
        figure = Figure(figsize=(5.2, height), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()

    pictures = {
        "roc.png": picture(lambda axes: _roc(axes, y, score)),
        "reliability.png": picture(lambda axes: _reliability(axes, y, score)),
        "scores.png": picture(lambda axes: _scores(axes, y, score)),
    }
    if importance is not None:
        pictures["importance.png"] = picture(lambda axes: _importance(axes, names, importance), 1.2 + 0.2 * min(len(names), 20))
    if curves:
        pictures["learning.png"] = picture(lambda axes: _curves(axes, curves))
    return pictures


def _roc(axes: Any, y: Floats, score: Floats) -> None:
    order = np.argsort(-score, kind="stable")
    hits = y[order] > 0.5
    axes.plot(np.cumsum(~hits) / max((~hits).sum(), 1), np.cumsum(hits) / max(hits.sum(), 1), color=_BLUE)
    axes.plot([0, 1], [0, 1], color=_INK, lw=0.7, ls=":")
    axes.set(
        title=f"ROC on the sealed holdout, area {auc(y, score):.3f}", xlabel="false positive rate", ylabel="true positive rate"
    )


def _reliability(axes: Any, y: Floats, score: Floats) -> None:
    points = reliability(y, score)
    axes.plot([0, 1], [0, 1], color=_INK, lw=0.7, ls=":")
    axes.plot([p for p, _, _ in points], [q for _, q, _ in points], "o-", color=_BLUE)
    axes.set(title="Reliability, ten bins of equal size", xlabel="mean score", ylabel="share of ones")


def _scores(axes: Any, y: Floats, score: Floats) -> None:
    edges = np.linspace(0, 1, 41)
    axes.hist([score[y <= 0.5], score[y > 0.5]], bins=edges, stacked=True, color=[_BLUE, _ORANGE], label=["label 0", "label 1"])
    axes.legend(frameon=False)
    axes.set(title="Scores on the sealed holdout", xlabel="score", ylabel="rows")


def _importance(axes: Any, names: Sequence[str], importance: Floats) -> None:
    order = np.argsort(importance)[-20:]
    axes.barh([names[i] for i in order], [importance[i] for i in order], color=_BLUE)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title="Importance (total gain)", xlabel="gain")


def _curves(axes: Any, curves: Mapping[str, Sequence[float]]) -> None:
    for colour, (name, values) in zip((_BLUE, _ORANGE, _INK), sorted(curves.items()), strict=False):
        axes.plot(range(1, len(values) + 1), values, color=colour, label=name)
    axes.legend(frameon=False)
    axes.set(title="Learning curves", xlabel="round")
