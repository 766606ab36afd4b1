"""Which models are opened, and which are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from falaj.adapters.local.signing import SigningKey, checker
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.inference.models import Models
from tests.kits.endpoint import RECIPE, Installation, tiny_onnx


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
    from falaj.core.codec import encode

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
