"""What a user declares about a training: from which rows, with which recipe, fitted by which function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from falaj.core.errors import InvalidInput
from falaj.core.moments import length
from falaj.core.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


SCORE = "(score)"
"""The column of the model's own answers in what is kept as normal, and the last feature that drift looks at."""


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a fit function is given: inputs float32 [rows, columns] in the recipe's order, targets 0 or 1; valid after train."""

    train_x: Floats
    train_y: Floats
    valid_x: Floats
    valid_y: Floats
    names: tuple[str, ...]
    seed: int
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit function gives back. `predict` maps float32 [n, k] to the probability of 1, [n]."""

    native: Any
    predict: Callable[[Floats], NDArray[np.floating[Any]]]
    kind: str
    """What `native` is: `lightgbm` or `xgboost` (a Booster), or `safetensors` (the bytes of such a file, with its layers)."""
    text: str = ""
    """The model in its own text format, kept beside the ONNX file."""
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    format: str = ""
    """How it is stored and served. Empty: the first choice of its kind, which for LightGBM is ONNX, for others their own."""


@dataclass(frozen=True, slots=True)
class Training:
    """`spine`: the dataset with one row for each request that could have been. `prepare` turns its rows into requests.

    Rows are used up to the moment of the training, and a label only if it was known by then. The newest `holdout` is sealed:
    it is never fitted on. Before it lies `valid`, for early stopping; before that at most `history`.
    """

    name: str
    model: str
    spine: str
    label: str
    label_time: str
    recipe: Recipe
    fit: Callable[[FitContext], Fitted]
    prepare: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    history: str | None = None
    valid: str = "14d"
    holdout: str = "28d"
    seed: int = 7
    params: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    """Columns of the spine that are kept with the holdout, so that gates can look at its parts."""
    threshold: float = 0.5
    """Where a probability becomes a yes; for the wrong rate that is shown."""

    def __post_init__(self) -> None:
        for text in (self.valid, self.holdout, *filter(None, [self.history])):
            length(text)
        if not callable(self.fit):
            raise InvalidInput(f"The fit of the training {self.name!r} is not a function.", "write fit=my_function.")
