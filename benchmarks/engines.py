"""What runs a model fastest: onnxruntime, the tables of falaj, LightGBM and XGBoost themselves, on the same 200 trees.

CPU time of one thread for one batch, the best of several rounds, on rows that are never the same twice in a row: a processor
learns the way of rows that come again and again, and then shows less than half of the time. Then the memory of a process that
holds the model. Figures of one machine; the ratios are what to trust.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import xgboost

from benchmarks.figure import Figure, show
from falaj.inference.models.forest import to_onnx
from falaj.inference.models.lightgbm import read as read_lightgbm
from falaj.inference.models.model import Program, Stored, program
from falaj.inference.models.onnx import Graph, Trees
from falaj.inference.models.sessions import open_session
from falaj.inference.models.xgboost import read as read_xgboost

COLUMNS, TREES, LEAVES = 20, 200, 31
SIZES = (1, 8, 16, 64, 256)
LARGEST_MB = 120

Run = Callable[[Any], Any]


def main() -> int:
    if sys.argv[1:2] == ["memory"]:
        print(_memory(sys.argv[2], sys.argv[3]))
        return 0
    return show(figures())


def figures() -> Iterator[Figure]:
    x, y = _data()
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), TREES
    )
    text = booster.model_to_string().encode()
    yield from _compared("lightgbm", _of_lightgbm(booster, text), x)
    other = xgboost.train(
        {"objective": "binary:logistic", "max_leaves": LEAVES, "max_depth": 0, "grow_policy": "lossguide", "nthread": 1},
        xgboost.DMatrix(x, y),
        TREES,
    )
    model = bytes(other.save_raw("ubj"))
    yield from _compared("xgboost", {**_ours(model, "xgboost"), "its own library": other.inplace_predict}, x)
    yield from _kept(to_onnx(read_lightgbm(text)))


def _data() -> tuple[Any, Any]:
    chance = np.random.default_rng(1)
    x = chance.normal(size=(20_000, COLUMNS)).astype(np.float32)
    return x, (x[:, :5].sum(axis=1) + chance.normal(size=len(x)) > 0).astype(int)


def _ours(data: bytes, form: str) -> dict[str, Run]:
    """onnxruntime's public call, the graph and the tables alone, and what a server does."""
    loaded: Program = program(data, Stored(form, COLUMNS))
    forest = (read_lightgbm if form == "lightgbm" else read_xgboost)(data)
    session, graph = open_session(to_onnx(forest)), Graph(to_onnx(forest))
    found: dict[str, Run] = {"onnxruntime": lambda rows: session.run(None, {"input": rows}), "the graph": graph.run}
    if isinstance(loaded, Trees):
        found["the tables"] = Trees(graph, forest, loaded._looked, 1).run
    return {**found, f"a server, tables from {getattr(loaded, 'least', 'no')}": loaded.run}


def _of_lightgbm(booster: Any, text: bytes) -> dict[str, Run]:
    return {
        **_ours(text, "lightgbm"),
        "its own library": lambda rows: booster.predict(rows, num_threads=1),
        "its C interface": _C(booster).run,
    }


class _C:
    """LightGBM by ctypes, with everything prepared that can be: one row by its fast call, more by the one for matrices."""

    def __init__(self, booster: Any) -> None:
        from lightgbm.basic import _LIB

        self._held = booster
        self._single, self._many = _LIB.LGBM_BoosterPredictForMatSingleRowFast, _LIB.LGBM_BoosterPredictForMat
        self._handle, self._config = booster._handle, ctypes.c_void_p()
        given = (self._handle, 0, 0, -1, 0, COLUMNS, b"num_threads=1", ctypes.byref(self._config))
        assert _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(*given) == 0
        self._found = np.zeros(4096)
        self._length = ctypes.byref(ctypes.c_int64())
        self._to = ctypes.c_void_p(self._found.ctypes.data)

    def run(self, rows: Any) -> Any:
        place, count = ctypes.c_void_p(rows.ctypes.data), len(rows)
        if count == 1:
            self._single(self._config, place, self._length, self._to)
        else:
            self._many(self._handle, place, 0, count, COLUMNS, 1, 0, 0, -1, b"num_threads=1", self._length, self._to)
        return self._found[:count]


def _compared(name: str, runs: dict[str, Run], x: Any) -> Iterator[Figure]:
    for size in SIZES:
        batches = [np.ascontiguousarray(x[start : start + size]) for start in range(0, min(len(x), 60 * size), size)]
        taken = {who: _micros(run, batches) for who, run in runs.items()}
        usual = taken["onnxruntime"]
        for who, micros in taken.items():
            yield Figure(f"{name}, {size}: {who}", micros, "µs", "onnxruntime", micros / usual)


def _micros(run: Run, batches: list[Any]) -> float:
    """CPU time of one batch."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for rows in batches:
            run(rows)
        best = min(best, (time.process_time() - started) / len(batches))
    return best * 1e6


def _kept(data: bytes) -> Iterator[Figure]:
    """Memory of a process of its own after batches of all sizes: onnxruntime with the model, and what falaj adds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.write_bytes(data)
        bare, ours = (
            float(
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.engines", "memory", how, str(path)], capture_output=True, check=True
                ).stdout
            )
            for how in ("bare", "ours")
        )
    yield Figure("memory: numpy, onnxruntime and the model", bare, "MB")
    yield Figure("memory: falaj.inference.models and the model", ours, "MB", "bare", ours / bare, LARGEST_MB)


def _memory(how: str, path: str) -> float:
    """MB resident, as a child of this module, which has imported more than it needs: so a process of its own is started."""
    bare = (
        "import onnxruntime as o\ns = o.SessionOptions()\ns.intra_op_num_threads = s.inter_op_num_threads = 1\n"
        "m = o.InferenceSession(open(sys.argv[1], 'rb').read(), s)\nrun = lambda x: m.run(None, {'input': x})\n"
    )
    ours = (
        "from falaj.inference.models import Stored\nfrom falaj.inference.models.model import program\n"
        f"run = program(open(sys.argv[1], 'rb').read(), Stored('onnx', {COLUMNS})).run\n"
    )
    code = (
        "import sys\nimport numpy as np\n" + (bare if how == "bare" else ours) +
        f"for n in (1, 64, 1024, 7, 4096, 33, 1): run(np.zeros((n, {COLUMNS}), np.float32))\n"
        "print([int(l.split()[1]) / 1e3 for l in open('/proc/self/status') if l.startswith('VmRSS')][0])\n"
    )  # fmt: skip
    return float(subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
