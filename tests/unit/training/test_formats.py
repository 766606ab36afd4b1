"""A training may store LightGBM's, XGBoost's and safetensors' own formats; gates and registry treat them as they treat ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.inference.models import scorer
from falaj.stages.gates.service import Gates
from falaj.stages.training import formats
from falaj.stages.training.spec import FitContext, Fitted
from tests.kits.life import APPROVER, GATE, SERVICE, TRAINING, Life, fit, life
from tests.kits.stored import lightgbm_booster, xgboost_booster


def as_text(context: FitContext) -> Fitted:
    return replace(fit(context), format="lightgbm")


def with_xgboost(context: FitContext) -> Fitted:
    import xgboost

    params = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": context.seed, "verbosity": 0}
    booster = xgboost.train(params, xgboost.DMatrix(context.train_x, context.train_y), 25)
    return Fitted(booster, booster.inplace_predict, "xgboost", params=params)


def logistic(context: FitContext) -> Fitted:
    """Gradient descent on the mean log loss, and the weights that it leads to as a file."""
    fill = np.nanmean(context.train_x, axis=0).astype(np.float32)
    x = np.where(np.isnan(context.train_x), fill, context.train_x).astype(np.float32)
    mean, std = x.mean(axis=0), x.std(axis=0) + np.float32(1e-3)
    scaled, weight, bias = (x - mean) / std, np.zeros(x.shape[1], np.float32), np.float32(0)
    for _ in range(200):
        error = 1 / (1 + np.exp(-(scaled @ weight + bias))) - context.train_y
        weight -= 0.5 * (error @ scaled / len(x)).astype(np.float32)
        bias -= np.float32(0.5 * error.mean())
    tensors = {"fill": fill, "mean": mean, "std": std, "weight": weight[None, :], "bias": np.array([bias], np.float32)}
    layers = [
        {"op": "fill", "values": "fill"},
        {"op": "scale", "mean": "mean", "std": "std"},
        {"op": "linear", "weight": "weight", "bias": "bias"},
        {"op": "sigmoid"},
    ]
    data = safetensors.numpy.save(tensors, metadata={"network": json.dumps({"layers": layers})})

    def predict(asked: Any) -> Any:
        return 1 / (1 + np.exp(-((np.where(np.isnan(asked), fill, asked) - mean) / std @ weight + bias)))

    return Fitted(data, predict, "safetensors")


FITS: dict[str, Callable[[FitContext], Fitted]] = {"lightgbm": as_text, "xgboost": with_xgboost, "safetensors": logistic}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A champion in ONNX, and trainings of the same model in every other format."""
    world = life(tmp_path_factory.mktemp("life"))
    world.trainer.opened = world.gates.opened = scorer
    world.trainer.trainings = {
        **world.trainer.trainings, **{form: replace(TRAINING, name=form, fit=fitting) for form, fitting in FITS.items()}
    }  # fmt: skip
    world.registry.promote(APPROVER, world.registered("r1"), reason="first")
    return world


def asset_of(world: Life, candidate: Ref) -> Asset:
    return decode(Asset, world.kernel.ledger.get("asset", str(candidate)))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FITS)
def test_a_training_in_any_format_passes_its_gates_and_is_registered(world: Life, form: str) -> None:
    candidate = world.candidate(f"r-{form}", form)
    asset = asset_of(world, candidate)
    assert (asset.labels["format"], asset.labels["metrics"]["parity"] < 1e-5) == (form, True)
    decision = world.judged(candidate, replace(GATE, auc_margin=0.2, brier_margin=0.2, calibration_ceiling=0.3, slice_drop=0.3))
    parity = next(check for check in decision.checks if check.name == f"{form}_parity")
    assert parity.passed, parity
    assert "roc_auc_vs_champion" in {check.name for check in decision.checks}
    assert decision.allowed, decision.reason
    version = world.registry.register(SERVICE, Ref("model", "delay"), candidate=candidate, decision=decision)
    assert world.registry.manifest(version)["format"] == form


@pytest.mark.parametrize("form", FITS)
def test_the_same_training_gives_the_same_bytes_in_any_format(world: Life, form: str) -> None:
    first, second = (asset_of(world, world.candidate(f"r-{form}-{number}", form)).digest for number in (1, 2))
    assert first == second


def test_a_gate_without_the_readers_refuses_clearly(world: Life) -> None:
    candidate = world.candidate("r-unread", "lightgbm")
    gates = Gates(world.kernel, world.blobs, world.features, world.gates.gates)
    with pytest.raises(InvalidInput, match="'lightgbm' is not opened here"):
        gates.evaluate(SERVICE, candidate, gate=GATE)


def test_a_network_that_answers_otherwise_than_its_training_said_is_denied(world: Life) -> None:
    """Its predict function is off by a hundredth: what the file gives is not what was fitted."""

    def lying(context: FitContext) -> Fitted:
        fitted = logistic(context)
        return replace(fitted, predict=lambda x: fitted.predict(x) + 0.01)

    world.trainer.trainings = {**world.trainer.trainings, "lying": replace(TRAINING, name="lying", fit=lying)}
    decision = world.judged(world.candidate("r-lying", "lying"))
    assert "safetensors_parity" in {check.name for check in decision.failed}


@pytest.mark.parametrize(
    ("fitted", "why"),
    [
        (Fitted(None, lambda x: x[:, 0], "pickle"), "'pickle' model cannot be stored"),
        (Fitted(None, lambda x: x[:, 0], "lightgbm", format="pickle"), "not stored as 'pickle'"),
        (Fitted(None, lambda x: x[:, 0], "xgboost", format="onnx"), "not stored as 'onnx'"),
        (Fitted(object(), lambda x: x[:, 0], "safetensors"), "bytes of its file"),
    ],
)
def test_a_format_that_the_kind_does_not_have_is_refused(fitted: Fitted, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        formats.stored(fitted, 3)


def test_the_first_choice_for_lightgbm_is_onnx() -> None:
    assert formats.format_of(Fitted(None, lambda x: x[:, 0], "lightgbm")) == "onnx"


def test_the_gain_of_each_column_is_told_where_a_booster_knows_it() -> None:
    for kind, booster in (("lightgbm", lightgbm_booster()), ("xgboost", xgboost_booster())):
        gains = formats.gains(Fitted(booster, booster.predict, kind), 6)
        assert gains is not None
        assert int(gains.argmax()) in (0, 1)
    assert formats.gains(Fitted(b"", lambda x: x[:, 0], "safetensors"), 6) is None


def test_what_is_kept_to_compare_with_is_the_native_form(tmp_path: Path) -> None:
    booster = xgboost_booster()
    model = formats.stored(Fitted(booster, booster.predict, "xgboost"), 6)
    x = np.zeros((2, 6), np.float32)
    assert np.allclose(formats.native_scores("xgboost", model, x), booster.inplace_predict(x))
