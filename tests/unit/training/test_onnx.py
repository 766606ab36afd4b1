"""The ONNX form of a model answers as the model itself does, for every float32 input, or is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.training import onnx
from falaj.stages.training.spec import Fitted

lightgbm = pytest.importorskip("lightgbm")
pytest.importorskip("onnxruntime")

ROWS, COLUMNS = 2000, 5
QUIET = {
    "num_leaves": 15,
    "min_data_in_leaf": 5,
    "num_threads": 2,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
    "verbose": -1,
}


def rows(missing: float = 0.0) -> Any:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    x[chance.random(x.shape) < missing] = np.nan
    return x


def target(x: Any) -> Any:
    chance = np.random.default_rng(1)
    return (np.nan_to_num(x[:, 0]) + 0.5 * np.nan_to_num(x[:, 1]) ** 2 + chance.normal(size=len(x)) > 0.5).astype(np.float32)


def fitted(x: Any, y: Any, **params: Any) -> Fitted:
    given = {"objective": "binary", **QUIET, **params}
    categories = given.pop("categorical_feature", "auto")
    booster = lightgbm.train(given, lightgbm.Dataset(x, y, params=given, categorical_feature=categories), 30)
    kept = lightgbm.Booster(model_str=booster.model_to_string())
    return Fitted(kept, kept.predict, "lightgbm", kept.model_to_string())


def furthest(model: Fitted, x: Any) -> float:
    scores = onnx.score(onnx.session(onnx.to_onnx(model, x.shape[1])), x)
    return float(np.abs(scores - model.predict(x)).max())


def edges(model: Fitted, x: Any) -> Any:
    """Rows that lie on the thresholds themselves, as float32 writes them, and on their neighbours."""
    found = x.copy()
    for column in range(COLUMNS):
        cuts = np.array([float(t) for t in thresholds(model, column)], np.float32)
        if len(cuts):
            near = np.concatenate([cuts, np.nextafter(cuts, np.float32(-np.inf)), np.nextafter(cuts, np.float32(np.inf))])
            found[:, column] = np.resize(near, len(x))
    return found


def thresholds(model: Fitted, column: int) -> list[float]:
    waiting, found = [tree["tree_structure"] for tree in model.native.dump_model()["tree_info"]], []
    for node in waiting:
        if "split_feature" in node:
            waiting += [node["left_child"], node["right_child"]]
            found += [node["threshold"]] if node["split_feature"] == column else []
    return found


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("use_missing", [True, False])
def test_every_input_gets_the_answer_of_the_native_model(missing: float, use_missing: bool) -> None:
    x = rows(missing)
    model = fitted(x, target(x), use_missing=use_missing)
    infinite = np.where(x > 1, np.inf, np.where(x < -1, -np.inf, x)).astype(np.float32)
    for asked in (x, rows(0.5), edges(model, x), np.zeros_like(x), infinite):
        assert furthest(model, asked) < 1e-6


def test_an_input_on_the_rounded_side_of_a_threshold_does_not_change_sides() -> None:
    """Neighbouring float32 values: the 64-bit threshold between them has no 32-bit form of its own."""
    steps = [np.float32(1.0)]
    for _ in range(60):
        steps.append(np.nextafter(steps[-1], np.float32(2)))
    x = np.array(steps, np.float32)[np.random.default_rng(2).integers(0, 61, (ROWS, COLUMNS))]
    y = (np.random.default_rng(3).random(ROWS) < 0.2 + 0.6 * (x[:, 0].view(np.int32) % 2)).astype(np.float32)
    model = fitted(x, y, min_data_in_leaf=1)
    cuts = thresholds(model, 0)
    assert any(float(np.float32(cut)) > cut for cut in cuts), "some threshold is rounded up, or this test shows nothing"
    assert furthest(model, x) < 1e-6


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_floor32_keeps_every_comparison(threshold: float, x: float) -> None:
    assert (np.float32(x) <= np.float32(onnx.floor32(threshold))) == (x <= threshold)


def test_numbers_too_small_for_lightgbm_are_zero_in_both() -> None:
    x = rows(0.2)
    model = fitted(x, target(x), use_missing=False)
    assert any(0 < abs(cut) < 1e-30 for column in range(COLUMNS) for cut in thresholds(model, column)), "it cuts beside zero"
    tiny = np.array([1e-35, -1e-35, 1e-40, -1e-40, 0, -0.0, 2e-35, -2e-35], np.float32)
    assert furthest(model, tiny[np.random.default_rng(5).integers(0, len(tiny), (ROWS, COLUMNS))]) < 1e-6


def test_a_threshold_beyond_float32_is_its_greatest_number() -> None:
    assert math.isfinite(onnx.floor32(1e300))
    assert onnx.floor32(-1e300) == -math.inf


def test_the_same_training_gives_the_same_bytes() -> None:
    x = rows(0.1)
    first, second = (onnx.to_onnx(fitted(x, target(x)), COLUMNS) for _ in range(2))
    assert first == second


def test_a_model_that_is_one_constant_is_converted_too() -> None:
    x = rows()
    model = fitted(x, np.zeros(ROWS, np.float32))
    assert furthest(model, x) < 1e-6


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"objective": "regression"}, "objective"),
        ({"sigmoid": 2.0}, "sigmoid:2"),
        ({"zero_as_missing": True}, "takes 0 for a missing value"),
        ({"linear_tree": True}, "linear models in its leaves"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages"),
        ({"categorical_feature": [0]}, "categories"),
    ],
)
def test_what_onnx_would_not_follow_exactly_is_refused(params: dict[str, Any], why: str) -> None:
    x = rows()
    x[:, 0] = np.random.default_rng(4).integers(0, 40, ROWS)
    y = ((x[:, 0] % 7 == 0) ^ (x[:, 1] > 0)).astype(np.float32)
    with pytest.raises(InvalidInput, match=why):
        onnx.to_onnx(fitted(x, y, **params), COLUMNS)


def test_another_number_of_columns_than_the_recipe_s_is_refused() -> None:
    x = rows()
    with pytest.raises(InvalidInput, match="reads 5 columns, the recipe has 4"):
        onnx.to_onnx(fitted(x, target(x)), 4)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'pickle'"):
        onnx.to_onnx(Fitted(None, lambda x: x[:, 0], "pickle"), 3)
