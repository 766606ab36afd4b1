"""A candidate is what it says: trained on what was known, exact, sealed off from its holdout, and mirrored."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import decode, digest, digest_of, encode
from falaj.core.errors import Denied, InvalidInput, NotFound, Unavailable
from falaj.core.ref import Ref
from falaj.ports.mirror import Tracked
from falaj.stages.training import onnx
from falaj.stages.training.service import Trainer
from falaj.stages.training.spec import FitContext, Fitted
from tests.kits.life import AT, BLIND, MODEL, RECIPE, SERVICE, TRAINING, Life, fit, life

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return life(tmp_path_factory.mktemp("life"), Trainer)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return life(tmp_path_factory.mktemp("life"))


@pytest.fixture(scope="module")
def asset(world: Life) -> Asset:
    return body_of(world, world.candidate("r1"))


def body_of(world: Life, candidate: Ref) -> Asset:
    body = world.kernel.ledger.get("asset", str(candidate))
    assert body is not None
    return decode(Asset, body)


def table(world: Life, digest_text: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(world.blobs.get(digest_text)))


def watched(world: Life, **changes: Any) -> tuple[list[FitContext], Life]:
    """The same world with a training that shows what its fit function is given."""
    seen: list[FitContext] = []

    def spy(context: FitContext) -> Fitted:
        seen.append(context)
        return fit(context)

    world.trainer.trainings = {**world.trainer.trainings, "spy": replace(TRAINING, name="spy", fit=spy, **changes)}
    return seen, world


def test_the_candidate_names_its_file_its_inputs_and_its_run(world: Life, asset: Asset) -> None:
    assert asset.ref == Ref("candidate", "delay", "r1")
    assert asset.run == "r1"
    assert digest(world.blobs.get(asset.digest)) == asset.digest == asset.location
    assert {ref.name for ref in asset.inputs} == {"trips", "sky"}
    assert all(world.kernel.ledger.get("asset", str(ref)) for ref in asset.inputs)
    assert asset.labels["code"] == "sha256:code"
    assert str(asset.labels["environment"]).startswith("sha256:")
    assert asset.labels["recipe"] == digest_of(encode(RECIPE))
    (event,) = [e for e in world.kernel.ledger.events(verb="model.train", subject=asset.ref) if e.subject.version == "r1"]
    assert event.facts["digest"] == asset.digest


def test_nothing_that_became_known_later_is_an_input(world: Life, asset: Asset) -> None:
    """The second snapshots of both datasets hold only what came after the training's moment."""
    assert {str(ref) for ref in asset.inputs} == {"dataset/trips@1", "dataset/sky@1"}


def test_the_metrics_are_those_of_the_file_on_the_sealed_rows(world: Life, asset: Asset) -> None:
    sealed = table(world, str(asset.labels["holdout"]))
    x, _ = world.features.training_frame(RECIPE, sealed)
    scores = onnx.score(onnx.session(world.blobs.get(asset.digest)), x)
    assert np.abs(scores - sealed["_score"].to_numpy()).max() < 1e-9
    metrics = asset.labels["metrics"]
    assert metrics["rows"] == sealed.height
    assert metrics["roc_auc"] > 0.75
    assert metrics["parity"] < 1e-6


def test_the_holdout_is_never_fitted_on(world: Life, asset: Asset) -> None:
    seen, _ = watched(world)
    world.candidate("r-spy", "spy")
    sealed = table(world, str(asset.labels["holdout"]))
    miles = {float(value) for part in (seen[0].train_x, seen[0].valid_x) for value in part[:, 1]}
    assert len(miles) > 1000, "each trip has its own"
    assert not miles & {float(np.float32(value)) for value in sealed["miles"]}
    assert sealed["at"].min() > AT - 14 * DAY
    assert (
        len(seen[0].train_x) + len(seen[0].valid_x) + sealed.height <= world.contracts.frame("trips", until=AT, by="known").height
    )


def test_a_label_that_came_later_is_not_used(world: Life) -> None:
    seen, _ = watched(world)
    early, late = AT - 30 * DAY, AT
    world.candidate("r-early", "spy", early)
    world.candidate("r-late", "spy", late)
    assert len(seen[0].train_x) < len(seen[1].train_x)
    assert (table(world, str(body_of(world, Ref("candidate", "delay", "r-early")).labels["holdout"]))["known_at"] <= early).all()


def test_history_cuts_off_what_is_older(world: Life) -> None:
    seen, _ = watched(world, history="14d")
    world.candidate("r-short", "spy")
    assert 0 < len(seen[0].train_x) < 1300


def test_the_same_training_again_gives_the_same_model(world: Life, asset: Asset) -> None:
    assert body_of(world, world.candidate("r1-again")).digest == asset.digest


@pytest.mark.slow
def test_the_mirror_is_told_with_pictures_and_curves(drawn: Life) -> None:
    asset = body_of(drawn, drawn.candidate("r1"))
    tracked = drawn.mirror.runs["r1"]
    assert {"roc.png", "reliability.png", "scores.png", "importance.png"} <= set(tracked.artifacts)
    assert all(picture.startswith(b"\x89PNG") for picture in tracked.artifacts.values())
    assert len(tracked.curves["binary_logloss"]) == 25
    assert asset.labels["mirror"] == "r1"


def test_a_mirror_that_is_down_fails_no_run_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = life(tmp_path)

    def down(tracked: Tracked) -> str:
        raise Unavailable("MLflow is asleep.")

    monkeypatch.setattr(world.mirror, "record_run", down)
    assert body_of(world, world.candidate("r1")).labels["mirror"] == "not mirrored: MLflow is asleep."


@pytest.mark.parametrize(
    ("ask", "error", "why"),
    [
        (lambda world: world.candidate("r", "dealy"), NotFound, "dealy"),
        (lambda world: world.candidate("r", "delay", AT - 50 * DAY), InvalidInput, "labelled rows"),
        (
            lambda world: world.trainer.train(SERVICE, Ref("model", "other"), training="delay", at=AT, run_id="r"),
            InvalidInput,
            "other",
        ),
        (
            lambda world: world.trainer.train(Actor("x", roles=("caller",)), MODEL, training="delay", at=AT, run_id="r"),
            Denied,
            "caller",
        ),
    ],
)
def test_what_cannot_be_trained_says_why(world: Life, ask: Callable[[Life], Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        ask(world)


def test_a_training_with_another_recipe_keeps_rows_that_any_recipe_can_read(world: Life) -> None:
    sealed = table(world, str(body_of(world, world.candidate("r-blind", "blind")).labels["holdout"]))
    assert set(RECIPE.request_fields) <= set(sealed.columns)
    assert set(BLIND.recipe.request_fields) <= set(sealed.columns)
