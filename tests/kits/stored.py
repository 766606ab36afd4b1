"""Small fitted models and the bytes that they are stored as, one of each format."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import lightgbm
import numpy as np
import safetensors.numpy
import xgboost

from falaj.stages.training.onnx import to_onnx
from falaj.stages.training.spec import Fitted

COLUMNS = 6
WEIGHTS = {"0.weight": (8, COLUMNS), "0.bias": (8,), "2.weight": (1, 8), "2.bias": (1,)}
LAYERS = [
    {"op": "fill", "values": "values"},
    {"op": "linear", "weight": "0.weight", "bias": "0.bias"},
    {"op": "relu"},
    {"op": "linear", "weight": "2.weight", "bias": "2.bias"},
    {"op": "sigmoid"},
]


def rows(count: int = 2000, seed: int = 0, missing: float = 0.1) -> Any:
    """float32 [count, 6], some of them missing."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(count, COLUMNS)).astype(np.float32)
    x[chance.random(x.shape) < missing] = np.nan
    return x


def target(x: Any) -> Any:
    chance = np.random.default_rng(1)
    return (np.nan_to_num(x[:, 0]) + 0.5 * np.nan_to_num(x[:, 1]) ** 2 + chance.normal(size=len(x)) > 0.5).astype(np.float32)


@cache
def lightgbm_booster(trees: int = 20, **params: Any) -> Any:
    x = rows()
    given = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, "seed": 1, "verbose": -1, **params}
    y = target(x) + (np.nan_to_num(x[:, 2]) > 0) if "num_class" in given else target(x)
    return lightgbm.train(given, lightgbm.Dataset(x, y), trees)


@cache
def xgboost_booster(trees: int = 20, **params: Any) -> Any:
    x = rows()
    given = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 1, "verbosity": 0, **params}
    y = target(x) + (np.nan_to_num(x[:, 2]) > 0) if "num_class" in given else target(x)
    return xgboost.train(given, xgboost.DMatrix(x, y), trees)


def network(layers: Any = None, **tensors: Any) -> bytes:
    """A safetensors file: these layers, with small weights that chance made; `tensors` come in their place or beside them."""
    chance = np.random.default_rng(2)
    made = {name: chance.normal(size=shape).astype(np.float32) for name, shape in WEIGHTS.items()} if layers is None else {}
    if layers is None:
        made["values"] = np.zeros(COLUMNS, np.float32)
    told = json.dumps({"layers": LAYERS if layers is None else layers})
    return bytes(safetensors.numpy.save({**made, **tensors}, metadata={"network": told}))


def stored(form: str) -> bytes:
    """A model's bytes in this format; `xgboost.json` is XGBoost's other one."""
    if form == "onnx":
        booster = lightgbm_booster()
        return to_onnx(Fitted(booster, booster.predict, "lightgbm"), COLUMNS)
    if form == "lightgbm":
        return str(lightgbm_booster().model_to_string()).encode()
    if form == "safetensors":
        return network()
    return bytes(xgboost_booster().save_raw("json" if form == "xgboost.json" else "ubj"))
