"""Which models are opened, and which are not."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from falaj.adapters.local.signing import SigningKey, checker
from falaj.core.codec import encode
from falaj.core.errors import Bug, Conflict, InvalidInput, NotFound
from falaj.core.recipe import Column, Recipe
from falaj.inference.models import Models, scorer
from tests.kits.endpoint import RECIPE, Installation, tiny_onnx
from tests.kits.stored import COLUMNS, rows, stored


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def models(place: Installation) -> Models:
    return Models(place.blobs, checker(place.signer.public_key))


def test_a_signed_model_answers(place: Installation) -> None:
    serving = models(place).open(place.wanted())
    model = serving.arms[0].model
    assert serving.arms[0].version == "1"
    assert model.width == len(RECIPE.columns)
    assert model.scores(model.run([[700.0, 1.0, 50.0, 5.0]])) == [pytest.approx(0.680485, abs=1e-5)]


def test_the_same_model_is_not_opened_twice(place: Installation) -> None:
    opened = models(place)
    arm = place.arm()
    first, second = opened.open(place.wanted(arm)), opened.open(place.wanted(replace(arm, share=0.5)))
    assert first.arms[0].model is second.arms[0].model


def test_a_model_signed_by_another_key_is_refused(place: Installation) -> None:
    with pytest.raises(Conflict, match="not signed"):
        Models(place.blobs, checker(SigningKey.generate().public_key)).open(place.wanted())


def test_a_model_without_a_manifest_is_refused(place: Installation) -> None:
    with pytest.raises(Conflict):
        models(place).open(place.wanted(replace(place.arm(), manifest={})))


def test_a_manifest_of_another_model_is_refused(place: Installation) -> None:
    other = place.arm(2)
    with pytest.raises(Conflict, match="another model"):
        models(place).open(place.wanted(replace(place.arm(), manifest=other.manifest)))


def test_tampered_bytes_are_refused(place: Installation) -> None:
    arm = place.arm()
    name = arm.digest.removeprefix("sha256:")
    (place.state / "blobs" / name[:2] / name[2:]).write_bytes(tiny_onnx(0.5))
    with pytest.raises(Conflict):
        models(place).open(place.wanted(arm))


def test_missing_bytes_are_not_found(place: Installation) -> None:
    arm = place.arm()
    name = arm.digest.removeprefix("sha256:")
    (place.state / "blobs" / name[:2] / name[2:]).unlink()
    with pytest.raises(NotFound):
        models(place).open(place.wanted(arm))


def test_a_recipe_of_another_width_is_refused(place: Installation) -> None:
    recipe = encode(replace(RECIPE, columns=RECIPE.columns[:2], views={}, ttl_ms={}))
    with pytest.raises(InvalidInput, match="columns"):
        models(place).open(place.wanted(place.arm(recipe=recipe)))


def test_what_is_no_graph_is_refused(place: Installation) -> None:
    digest = place.blobs.put(b"not a model")
    arm = replace(place.arm(digest=digest), digest=digest)
    with pytest.raises(InvalidInput, match="ONNX"):
        models(place).open(place.wanted(arm))


def test_two_champions_are_refused(place: Installation) -> None:
    with pytest.raises(InvalidInput):
        models(place).open(place.wanted(place.arm(), place.arm(2)))


@pytest.mark.parametrize("form", ["onnx", "lightgbm", "xgboost", "safetensors"])
def test_a_manifest_names_the_format_of_its_model(place: Installation, form: str) -> None:
    columns = tuple(Column(f"x{number}", "number", f"x{number}") for number in range(COLUMNS))
    digest = place.blobs.put(stored(form))
    arm = replace(place.arm(digest=digest, format=form, recipe=encode(Recipe(columns, {}, {})), places={}), digest=digest)
    model = models(place).open(place.wanted(arm)).arms[0].model
    x = rows(100)
    assert model.scores(model.run(x)) == scorer(stored(form), form, COLUMNS)(x).tolist()
    assert (model.datatype, model.dtype, model.width, len(model.outputs)) == ("FP32", np.float32, COLUMNS, 1)


def test_a_format_that_is_none_is_refused(place: Installation) -> None:
    with pytest.raises(InvalidInput, match="no model format 'pickle'"):
        models(place).open(place.wanted(place.arm(format="pickle")))


def test_no_parser_sees_bytes_that_were_not_signed(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither under a wrong signature, nor under a right one with other bytes, nor under a format that was written in later."""
    seen: list[bytes] = []
    monkeypatch.setattr("falaj.inference.models.loading.Model", lambda data, *_rest: seen.append(data))
    arm = place.arm()
    with pytest.raises(Conflict):
        Models(place.blobs, checker(SigningKey.generate().public_key)).open(place.wanted(arm))
    payload = json.loads(base64.b64decode(arm.manifest["payload"])) | {"format": "lightgbm"}
    other = {**arm.manifest, "payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    with pytest.raises(Conflict, match="not signed"):
        models(place).open(place.wanted(replace(arm, manifest=other)))
    name = arm.digest.removeprefix("sha256:")
    (place.state / "blobs" / name[:2] / name[2:]).write_bytes(b"tree\n")
    with pytest.raises(Conflict):
        models(place).open(place.wanted(arm))
    assert not seen


def test_every_output_of_a_graph_is_given_and_the_score_is_the_second_class(place: Installation) -> None:
    model = models(place).open(place.wanted()).arms[0].model
    assert [output.name for output in model.outputs] == ["label", "probabilities"]
    label, probabilities = model.run(np.zeros((3, model.width), np.float32))
    assert label.tolist() == [0, 0, 0]
    assert model.scores([label, probabilities]) == probabilities[:, 1].tolist()


def test_a_score_that_is_no_number_fails_the_run(place: Installation) -> None:
    model = models(place).open(place.wanted()).arms[0].model
    for wrong in (np.nan, np.inf):
        with pytest.raises(Bug, match="no number"):
            model.scores([np.zeros(2), np.array([[0.5, 0.5], [0.1, wrong]])])


def test_a_matrix_that_lies_otherwise_in_memory_gives_the_same(place: Installation) -> None:
    model = models(place).open(place.wanted()).arms[0].model
    x = np.random.default_rng(0).normal(size=(10, model.width)).astype(np.float32)
    expected = model.run(x)[1]
    for other in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, axis=0)[::2]):
        assert np.array_equal(model.run(other)[1], expected)
