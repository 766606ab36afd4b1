"""Every format answers as the library that made it, is refused where it could not, and never ends the process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import FalajError, InvalidInput
from falaj.inference.models import FORMATS, Stored, scorer
from falaj.inference.models.forest import beside, grown, to_onnx
from falaj.inference.models.lightgbm import read as read_lightgbm
from falaj.inference.models.model import program
from falaj.inference.models.onnx import Graph
from falaj.inference.models.ubjson import read as read_ubjson
from falaj.inference.models.xgboost import read as read_xgboost
from falaj.stages.training import onnx as training_onnx
from falaj.stages.training.spec import Fitted
from tests.fuzz.models import FORMS, in_a_child, opened
from tests.fuzz.readers import mutated
from tests.kits.stored import COLUMNS, lightgbm_booster, network, rows, stored, xgboost_booster

CLOSE = 1e-6


def run(data: bytes, form: str, x: Any) -> Any:
    return program(data, Stored(form, COLUMNS)).run(x)[0]


def asked(booster_cuts: Any) -> Any:
    """Usual rows, rows on the cuts themselves and beside them, and infinite ones."""
    x = rows(seed=5)
    cuts = np.asarray(booster_cuts, np.float32)
    near = np.concatenate([cuts, beside(cuts, np.inf), beside(cuts, -np.inf)])
    on = np.random.default_rng(3).choice(near, x.shape).astype(np.float32)
    far = np.where(x > 1, np.inf, np.where(x < -1, -np.inf, x)).astype(np.float32)
    return np.concatenate([x, on, far, np.zeros_like(x[:5])])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"boosting": "dart"},
        {"use_missing": False},
        {"objective": "regression"},
        {"objective": "multiclass", "num_class": 3},
        {"objective": "cross_entropy"},
        {"num_leaves": 2},
    ],
    ids=str,
)
def test_lightgbm_text_answers_as_lightgbm(params: dict[str, Any]) -> None:
    booster = lightgbm_booster(20, **params)
    data = booster.model_to_string().encode()
    forest = read_lightgbm(data)
    x = asked(forest.cut[~forest.is_leaf])
    assert np.abs(run(data, "lightgbm", x) - booster.predict(x).reshape(len(x), -1)).max() < CLOSE


@pytest.mark.parametrize("form", ["json", "ubj"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"booster": "dart", "rate_drop": 0.3},
        {"objective": "reg:squarederror"},
        {"objective": "multi:softprob", "num_class": 3},
        {"gamma": 3.0, "tree_method": "exact"},
        {"grow_policy": "lossguide", "max_leaves": 9, "max_depth": 0},
        {"base_score": 0.2},
    ],
    ids=str,
)
def test_xgboost_files_answer_as_xgboost(params: dict[str, Any], form: str) -> None:
    booster = xgboost_booster(20, **params)
    data = bytes(booster.save_raw(form))
    forest = read_xgboost(data)
    x = asked(forest.cut[~forest.is_leaf])
    # XGBoost takes no infinite numbers.
    x = np.where(np.isinf(x), np.nan, x).astype(np.float32)
    assert np.abs(run(data, "xgboost", x) - booster.inplace_predict(x).reshape(len(x), -1)).max() < CLOSE


def test_the_same_trees_answer_the_same_in_onnx_and_in_text() -> None:
    booster = lightgbm_booster(40)
    data = training_onnx.to_onnx(Fitted(booster, booster.predict, "lightgbm"), COLUMNS)
    text = booster.model_to_string().encode()
    x = asked(read_lightgbm(text).cut)
    assert np.array_equal(run(data, "onnx", x), run(text, "lightgbm", x))


def test_what_is_written_as_onnx_is_valid_for_others() -> None:
    import onnx

    for booster in (lightgbm_booster(5), lightgbm_booster(5, objective="multiclass", num_class=3)):
        onnx.checker.check_model(
            onnx.load_from_string(to_onnx(read_lightgbm(booster.model_to_string().encode()))), full_check=True
        )
    from falaj.inference.models.safetensors import to_onnx as draw

    onnx.checker.check_model(onnx.load_from_string(draw(network(), COLUMNS)), full_check=True)


def test_a_score_is_taken_from_any_format() -> None:
    for form in FORMATS:
        scores = scorer(stored(form), form, COLUMNS)(rows(3))
        assert scores.shape == (3,)
        assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"objective": "poisson"}, "objective"),
        ({"sigmoid": 2.0}, "sigmoid:2"),
        ({"linear_tree": True}, "linear models"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages"),
        ({"zero_as_missing": True}, "0 for a missing value"),
        ({"min_data_per_group": 1, "cat_smooth": 1}, "categories"),
    ],
    ids=str,
)
def test_a_booster_that_would_not_be_followed_exactly_is_refused(params: dict[str, Any], why: str) -> None:
    import lightgbm

    x = np.abs(np.nan_to_num(rows(missing=0.0)))
    x[:, 0] = np.random.default_rng(4).integers(0, 40, len(x))
    y = ((x[:, 0] % 7 == 0) ^ (x[:, 1] > 1)).astype(np.float32)
    params = {"objective": "binary", "num_threads": 1, "verbose": -1, **params}
    columns = [0] if why == "categories" else "auto"
    booster = lightgbm.train(params, lightgbm.Dataset(x, y, params=params, categorical_feature=columns), 5)
    with pytest.raises(InvalidInput, match=why):
        read_lightgbm(booster.model_to_string().encode())


def test_an_xgboost_booster_of_another_kind_is_refused() -> None:
    for params, why in (({"booster": "gblinear"}, "gblinear"), ({"objective": "count:poisson"}, "objective")):
        with pytest.raises(InvalidInput, match=why):
            read_xgboost(bytes(xgboost_booster(2, **params).save_raw("ubj")))


def test_a_booster_of_another_width_is_refused() -> None:
    for form in ("lightgbm", "xgboost"):
        with pytest.raises(InvalidInput, match="reads 6 columns, the recipe has 5"):
            program(stored(form), Stored(form, 5))


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="no model format 'pickle'"):
        program(b"", Stored("pickle", 3))
    with pytest.raises(InvalidInput, match="no model format 'loading'"):
        program(b"", Stored("loading", 3))


def test_trees_that_meet_or_lead_nowhere_are_refused() -> None:
    from dataclasses import replace

    forest = read_lightgbm(stored("lightgbm"))
    inner = np.flatnonzero(~forest.is_leaf)
    for child in (inner[0], forest.no[inner[0]], len(forest.yes), -1, forest.roots[3]):
        wrong = replace(forest, yes=forest.yes.copy())
        wrong.yes[inner[0]] = child
        with pytest.raises(InvalidInput):
            grown(wrong)


def test_one_row_and_many_run_through_the_same_graph_when_there_are_no_tables() -> None:
    loaded = program(
        lightgbm_booster(3, objective="multiclass", num_class=3).model_to_string().encode(), Stored("lightgbm", COLUMNS)
    )
    assert isinstance(loaded, Graph)
    assert loaded.outputs[0].shape == (-1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_file_with_harm_runs_or_says_what_is_wrong(form: str, seed: int) -> None:
    assert opened(form, mutated(stored(form), random.Random(seed))) in ("runs", "InvalidInput", "Bug")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_at_all_are_refused(form: str, data: bytes) -> None:
    with pytest.raises(FalajError):
        program(data, Stored(form.partition(".")[0], COLUMNS))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_ubjson_comes_back_as_it_was(value: Any) -> None:
    assert read_ubjson(_ubjson(value)) == value


def _ubjson(value: Any) -> bytes:
    import struct

    def text(given: str) -> bytes:
        return b"L" + struct.pack(">q", len(given.encode())) + given.encode()

    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + text(value)
    if isinstance(value, list):
        return b"[" + b"".join(map(_ubjson, value)) + b"]"
    return b"{" + b"".join(text(name) + _ubjson(one) for name, one in value.items()) + b"}"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_harmed_file_ends_the_process(form: str) -> None:
    code, said, wrong = in_a_child(form, 11, 150)
    assert (code, wrong) == (0, ""), said
