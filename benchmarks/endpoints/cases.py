"""The model that every server under test serves, and the requests that each of them gets, byte for byte the same."""

from __future__ import annotations

import time

import lightgbm
import numpy as np
import onnxruntime
import orjson

from falaj.core.recipe import Column, Recipe
from falaj.stages.training.onnx import to_onnx
from falaj.stages.training.spec import Fitted

COLUMNS, TREES, LEAVES = 20, 200, 31
"""The size of the flights model, and of the model with which other servers were compared."""
RECIPE = Recipe(tuple(Column(f"x{n}", "number", f"x{n}") for n in range(COLUMNS)), {}, {})
PATH = "/v2/models/delay/infer"
DISTINCT = 256
"""Different requests that are sent in turn, each of a unit of its own, so that both arms answer."""


def trained(seed: int) -> bytes:
    """A gradient boosted classifier of this size as ONNX."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(20_000, COLUMNS)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + chance.normal(size=len(x)) > 0).astype(int)
    params = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1, "seed": seed}
    booster = lightgbm.train(params, lightgbm.Dataset(x, y), TREES)
    return to_onnx(Fitted(booster, booster.predict, "lightgbm"), COLUMNS)


def bodies(rows: int, count: int = DISTINCT) -> list[bytes]:
    """Calls by tensor with `rows` rows, four decimals a number."""
    chance = np.random.default_rng(rows)
    made = []
    for number in range(count):
        data = [round(value, 4) for value in chance.normal(size=rows * COLUMNS).tolist()]
        tensor = {"name": "input", "shape": [rows, COLUMNS], "datatype": "FP32", "data": data}
        made.append(orjson.dumps({"inputs": [tensor], "parameters": {"unit": f"unit-{number}"}}))
    return made


def alone_us(data: bytes, rows: int, distinct: int = DISTINCT, seconds: float = 0.6) -> float:
    """Processor microseconds of one bare `session.run` with so many rows: the least that serving it can cost.

    It runs over the rows of the requests in turn. Over one and the same row it would take two thirds, and over the same 64 rows
    a third of the time, for the processor learns by heart which way each tree goes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    matrices = [np.array(orjson.loads(body)["inputs"][0]["data"], np.float32) for body in bodies(rows, distinct)]
    given = [{name: matrix.reshape(rows, COLUMNS)} for matrix in matrices]
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.process_time()
        for one in given:
            session.run(None, one)
        best = min(best, (time.process_time() - started) / len(given))
    return best * 1e6
