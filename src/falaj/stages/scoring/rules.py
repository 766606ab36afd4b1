"""From rows to scored rows: what can be scored is, and of every other row the output says why it was not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from falaj.core.errors import Bug, InvalidInput
from falaj.core.recipe import Recipe

BATCH = 8192
"""Rows of one run of the model."""
ROW, SCORE, DECISION, MODEL, VERSION, PROBLEM = "_row", "score", "decision", "model", "version", "problem"
"""The columns of the output behind those that are carried over; `_row` counts the input's rows from 0."""
ADDED = (ROW, SCORE, DECISION, MODEL, VERSION, PROBLEM)
FP32_MAX = 3.4e38
"""A greater number is refused by an endpoint too; infinity is one."""
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Run = Callable[[Vectors], Floats]
"""Input [n, k] → one number a row. Raises Bug where the model fails or gives none."""


@dataclass(frozen=True, slots=True)
class Named:
    """Who scores: the model, its version, and from where on a score is a yes."""

    model: str
    version: str
    threshold: float


def in_chunks(pieces: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of `rows` each, but for the last: what a part holds does not depend on how its rows came."""
    held: list[pl.DataFrame] = []
    count = 0
    for piece in pieces:
        rest = piece
        while count + rest.height >= rows:
            yield pl.concat([*held, rest[: rows - count]])
            rest, held, count = rest[rows - count :], [], 0
        if rest.height:
            held.append(rest)
            count += rest.height
    if held:
        yield pl.concat(held)


def form_of(columns: Sequence[str], recipe: Recipe) -> str:
    """`requests` where the rows have the fields that a request has, `vectors` where they are the model's input itself.

    Raises InvalidInput where they are neither.
    """
    missing = [name for name in recipe.request_fields if name not in columns]
    if not missing:
        return "requests"
    if all(name in columns for name in recipe.names):
        return "vectors"
    needed = ", ".join(recipe.request_fields)
    raise InvalidInput(f"The rows have no column {missing[0]!r}.", f"a request has {needed}; a vector has the recipe's columns.")


def carried(columns: Sequence[str], recipe: Recipe, asked: Sequence[str]) -> list[str]:
    """The columns that go into the output: those asked for, else the time and all that the model does not read."""
    for name in asked:
        if name not in columns:
            raise InvalidInput(f"There is no column {name!r} to carry over.", f"there is: {', '.join(columns)}.")
        if name in ADDED:
            raise InvalidInput(f"The column {name!r} would hide one of the output's own.", "rename it in the input.")
    read = {*recipe.request_fields, *recipe.names} - {recipe.time_field}
    return list(asked) or [name for name in columns if name not in read and name not in ADDED]


def problems_of(frame: pl.DataFrame, recipe: Recipe, form: str) -> list[str | None]:
    """Of each row why it cannot be scored; what an endpoint refuses in a request is refused here, row by row."""
    found: list[str | None] = [None] * frame.height
    if form == "requests":
        if not isinstance(kind := frame.schema[recipe.time_field], pl.Datetime) or kind.time_zone is None:
            raise InvalidInput(
                f"The column {recipe.time_field!r} holds {kind}, and must hold times with a zone.",
                "write it as a timestamp in UTC.",
            )
        _mark(found, frame[recipe.time_field].is_null(), f"{recipe.time_field} is missing")
    numbers = recipe.request_fields if form == "requests" else recipe.names
    for name in numbers:
        if frame.schema[name].is_float():
            _mark(
                found,
                (frame[name].fill_nan(None).abs() > FP32_MAX).fill_null(value=False),
                f"{name} is beyond what FP32 can carry",
            )
    return found


def matrix_of(frame: pl.DataFrame, recipe: Recipe) -> Vectors:
    """Rows that are the model's input themselves. Raises InvalidInput for a column that holds no numbers."""
    odd = [name for name in recipe.names if not (frame.schema[name].is_numeric() or frame.schema[name] in (pl.Boolean, pl.Null))]
    if odd:
        raise InvalidInput(f"The column {odd[0]!r} holds {frame.schema[odd[0]]}, and must hold numbers.")
    matrix: Vectors = frame.select(pl.col(recipe.names).cast(pl.Float64).fill_null(float("nan")).cast(pl.Float32)).to_numpy()
    return np.ascontiguousarray(matrix)


def run_all(run: Run, matrix: Vectors, batch: int = BATCH) -> Floats:
    """Scores, batch by batch; NaN for a row that the model itself fails on, found by halving its batch."""
    found = np.full(len(matrix), np.nan)
    waiting = [(start, min(start + batch, len(matrix))) for start in range(0, len(matrix), batch)]
    while waiting:
        start, end = waiting.pop()
        try:
            found[start:end] = run(matrix[start:end])
        except Bug:
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(start, middle), (middle, end)]
    return found


def scored(
    frame: pl.DataFrame, *, keep: Sequence[str], scores: Floats, problems: Sequence[str | None], named: Named
) -> pl.DataFrame:
    """The output, of rows that have their number as `_row`: what is carried over, the score (or null) and why there is none."""
    told = zip(problems, np.isnan(scores).tolist(), strict=True)
    why = ["the model gave no number" if problem is None and is_missing else problem for problem, is_missing in told]
    values = pl.Series(SCORE, scores, dtype=pl.Float64).fill_nan(None)
    return frame.with_columns(
        values,
        (values >= named.threshold).alias(DECISION),
        pl.lit(named.model).alias(MODEL),
        pl.lit(named.version).alias(VERSION),
        pl.Series(PROBLEM, why, dtype=pl.String),
    ).select(*keep, *ADDED)


def _mark(found: list[Any], where: pl.Series, why: str) -> None:
    for place in where.arg_true().to_list():
        found[place] = found[place] or why
