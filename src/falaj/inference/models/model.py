"""A model as the server uses it: a matrix in, every output and one score a row out, whatever format it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from falaj.core.errors import Bug, FalajError, InvalidInput
from falaj.core.masking import Classes
from falaj.core.recipe import Reader, Recipe
from falaj.inference.models.sessions import HERE, Device

Matrix = NDArray[np.float32] | NDArray[np.float64]
FORMATS = {
    "onnx": "onnx_onnxv1", "lightgbm": "lightgbm_text", "xgboost": "xgboost_model", "safetensors": "safetensors_falaj",
}  # fmt: skip
"""What a signed manifest may give as `format` → the platform that a client is told. The module of that name reads it."""


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a registered model says about its bytes. `columns`: of its recipe; `about`: the signed manifest."""

    format: str = "onnx"
    columns: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    device: Device = HERE


class Program(Protocol):
    """What is loaded from a model's bytes. `run` takes a matrix of `dtype`, gives every output, and raises Bug where it fails."""

    input: str
    datatype: str
    dtype: Any
    outputs: tuple[Output, ...]

    def run(self, rows: Any) -> list[NDArray[Any]]: ...


class Model:
    """A program with its recipe. Raises InvalidInput for bytes that are no model of that format, or take another matrix."""

    def __init__(self, data: bytes, recipe: Recipe, places: Mapping[str, Sequence[str]], stored: Stored | None = None) -> None:
        self.recipe = recipe
        self.classes: Classes = {}
        """What the signed manifest says of whom its fields and features concern."""
        self.places_of_people: Mapping[str, tuple[int, int]] = {}
        """View → which part of its entity's key names a person, of how many."""
        self.reader = Reader(recipe, _zone, places)
        self.width = len(recipe.columns)
        stored = stored or Stored(columns=self.width)
        self.platform = FORMATS.get(stored.format, "")
        self.program = program(data, stored)
        self.input, self.datatype, self.dtype = self.program.input, self.program.datatype, self.program.dtype
        self.outputs = self.program.outputs
        self._run = self.program.run
        self._scored = _scored(self.program)
        self._warm_up()

    def run(self, rows: Any) -> list[NDArray[Any]]:
        """Every output for a matrix of rows; of `dtype` and row by row in memory it is not copied. Raises Bug where it fails."""
        return self._run(rows)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> list[float]:
        """One number a row: the probability of the second class, or the first float output. Raises Bug for a NaN."""
        scores: list[float] = _column(outputs, self._scored).tolist()
        if not all(map(isfinite, scores)):
            raise Bug("The model gave a score that is no number.", "falaj rollback takes the version before.")
        return scores

    def _warm_up(self) -> None:
        """The first run allocates; nobody's request should pay for that. It also shows that the widths fit."""
        try:
            for count in (1, 2, 1):
                self.scores(self.run(np.zeros((count, self.width))))
        except FalajError as exc:
            raise InvalidInput(f"The model does not run on its recipe's {self.width} columns: {exc.message}") from exc


def program(data: bytes, stored: Stored) -> Program:
    """Loads what was stored. Raises InvalidInput for a format that is none, or bytes that are none of it."""
    if stored.format not in FORMATS:
        raise InvalidInput(f"There is no model format {stored.format!r} here.", f"there is: {', '.join(FORMATS)}.")
    loaded: Program = import_module(f"falaj.inference.models.{stored.format}").load(data, stored)
    return loaded


def scorer(data: bytes, form: str, columns: int) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """A stored model as a function from rows [n, columns] to scores [n], read and run as a server would. Raises InvalidInput."""
    loaded = program(data, Stored(form, columns))
    place = _scored(loaded)
    return lambda rows: _column(loaded.run(rows), place)


def _scored(loaded: Program) -> int:
    """Which output the score is taken from; -1 where none can be."""
    return next((place for place, output in enumerate(loaded.outputs) if output.datatype.startswith("FP")), -1)


def _column(outputs: Sequence[NDArray[Any]], place: int) -> NDArray[Any]:
    if place < 0:
        raise Bug("The model has no float output to take a score from.", "export probabilities as a float tensor.")
    output = outputs[place]
    if output.ndim != 2:
        return output.reshape(len(output), -1)[:, 0]
    return output[:, 1 if output.shape[1] == 2 else 0]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidInput(f"There is no time zone {name!r} on this machine.", "pip install tzdata") from exc
