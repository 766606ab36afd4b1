"""How a fitted model is stored, and how its native library answers, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from falaj.core.errors import InvalidInput, MissingDependency
from falaj.stages.training import onnx
from falaj.stages.training.rules import Floats
from falaj.stages.training.spec import Fitted

Score = Callable[[Any], Any]
"""Rows float32 [n, k] → the probability of 1, [n]."""
Opener = Callable[[bytes, str, int], Score]
"""(stored bytes, their format, number of columns) → how they score."""
FORMATS: Mapping[str, tuple[str, ...]] = {
    "lightgbm": ("onnx", "lightgbm"),
    "xgboost": ("xgboost",),
    "safetensors": ("safetensors",),
}
"""kind of a fitted model → the formats that it may be stored in, the first choice first."""


def format_of(fitted: Fitted) -> str:
    """The format that the model is stored in. Raises InvalidInput for a kind or format that is none."""
    if fitted.kind not in FORMATS:
        raise InvalidInput(f"A {fitted.kind!r} model cannot be stored here.", f"fit one of {', '.join(FORMATS)}.")
    choices = FORMATS[fitted.kind]
    if fitted.format and fitted.format not in choices:
        raise InvalidInput(f"A {fitted.kind} model is not stored as {fitted.format!r}.", f"choose from {', '.join(choices)}.")
    return fitted.format or choices[0]


def stored(fitted: Fitted, columns: int) -> bytes:
    """The bytes that are served. The same model always gives the same. Raises InvalidInput."""
    form = format_of(fitted)
    if form == "onnx":
        return onnx.to_onnx(fitted, columns)
    if form == "lightgbm":
        return str(fitted.native.model_to_string()).encode()
    if form == "xgboost":
        return bytes(fitted.native.save_raw("ubj"))
    if not isinstance(fitted.native, bytes):
        raise InvalidInput("A safetensors model must be given as the bytes of its file.", "native=safetensors.torch.save(…).")
    return fitted.native


def native_of(fitted: Fitted, model: bytes) -> bytes | None:
    """What the native library opens again; None where there is none that could."""
    if fitted.kind == "xgboost":
        return model
    return fitted.text.encode() if fitted.kind == "lightgbm" and fitted.text else None


def native_scores(kind: str, native: bytes, x: Any) -> Floats:
    """What the native library itself says of the rows, [n]. Raises MissingDependency."""
    try:
        if kind == "xgboost":
            import xgboost

            opened = xgboost.Booster({"nthread": 1})
            opened.load_model(bytearray(native))
            return np.asarray(opened.inplace_predict(x), dtype=np.float64)
        import lightgbm
    except ImportError as exc:
        raise MissingDependency.of("Comparing a model with its native form", exc.name or kind, kind) from exc
    return np.asarray(lightgbm.Booster(model_str=native.decode()).predict(x), dtype=np.float64)


def gains(fitted: Fitted, columns: int) -> Floats | None:
    """How much each column brought, [columns]; None for a model that does not say."""
    if fitted.kind == "lightgbm":
        return np.asarray(fitted.native.feature_importance("gain"), dtype=np.float64)
    if fitted.kind != "xgboost":
        return None
    told = fitted.native.get_score(importance_type="total_gain")
    names = fitted.native.feature_names or [f"f{column}" for column in range(columns)]
    return np.array([told.get(name, 0.0) for name in names], dtype=np.float64)


def opened(model: bytes, form: str, _columns: int) -> Score:
    """Opens ONNX alone; a project opens every format, the way its servers do. Raises InvalidInput for any other."""
    if form != "onnx":
        raise InvalidInput(f"A model in the format {form!r} is not opened here.", "open the project: it brings its readers.")
    session = onnx.session(model)
    return lambda x: onnx.score(session, x)
