"""The description says of every route what the route does."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from falaj.inference import openapi
from falaj.inference.models import Live, Model, Serving
from falaj.inference.openapi import OPERATIONS, POLICY, document, page
from falaj.inference.server import ROUTES
from falaj.inference.settings import ServerSettings
from falaj.ports.host import Arm, Wanted
from tests.kits.endpoint import PLACES, RECIPE, REQUEST, tiny_onnx

SETTINGS = ServerSettings("delay", "b", "o", "k", "p")


@pytest.fixture(scope="module")
def serving() -> Serving:
    arm = Arm("champion", "model/delay@7", "sha256:0", 1.0, "release/delay@1")
    model = Model(tiny_onnx(), RECIPE, PLACES)
    return Serving(Wanted("delay", 1, (arm,), "salt", 0.5, "flight_id"), "delay", (Live(arm, model, "7"),))


def validator(made: dict[str, Any], name: str) -> Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": made["components"]})


def test_every_route_is_described_and_nothing_else_is() -> None:
    made = document(ROUTES, SETTINGS)
    assert {(route.method.lower(), route.pattern) for route in ROUTES} == {
        (v, p) for p, verbs in made["paths"].items() for v in verbs
    }
    assert {route.call for route in ROUTES} <= set(OPERATIONS)
    ids = [about["operationId"] for verbs in made["paths"].values() for about in verbs.values()]
    assert len(ids) == len(set(ids))


def test_only_what_is_open_needs_no_key() -> None:
    for route in ROUTES:
        about = document([route], SETTINGS)["paths"][route.pattern][route.method.lower()]
        assert bool(about["security"]) == (route.permission != "open")
        assert ("401" in about["responses"]) == (route.permission != "open")


def test_every_schema_that_is_named_exists(serving: Serving) -> None:
    for given in (None, serving):
        made = document(ROUTES, SETTINGS, given)
        named = set(re.findall(r"#/components/schemas/(\w+)", str(made)))
        assert named <= set(made["components"]["schemas"])
        for schema in made["components"]["schemas"].values():
            Draft202012Validator.check_schema(schema)


def test_a_request_for_the_model_that_is_served_is_described_field_by_field(serving: Serving) -> None:
    made = document(ROUTES, SETTINGS, serving)
    right = validator(made, "PredictRequest")
    assert right.is_valid(REQUEST)
    assert right.is_valid({"requests": [REQUEST, REQUEST], "id": "r"})
    assert right.is_valid({**REQUEST, "distance": None, "origin": 7})
    for wrong in ({"distance": "far"}, {"carrier": []}, {"flight_id": True}, {"origin": 1.5}):
        assert not right.is_valid({**REQUEST, **wrong}), wrong
    assert not right.is_valid({name: value for name, value in REQUEST.items() if name != "carrier"})


def test_under_the_replay_clock_a_request_has_to_say_when_it_happens(serving: Serving) -> None:
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, None, 4]}
    timeless = {name: value for name, value in REQUEST.items() if name != "at"}
    for clock, may in (("wall", True), ("replay", False)):
        made = document(ROUTES, replace(SETTINGS, clock=clock), serving)
        assert validator(made, "PredictRequest").is_valid(timeless) is may
        assert validator(made, "InferRequest").is_valid({"inputs": [tensor]}) is may
        assert validator(made, "InferRequest").is_valid({"inputs": [tensor], "parameters": {"at": REQUEST["at"]}})


def test_a_tensor_has_the_models_name_and_width(serving: Serving) -> None:
    right = validator(document(ROUTES, SETTINGS, serving), "InferRequest")
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, None, 4]}
    assert right.is_valid({"inputs": [tensor]})
    for wrong in ({"name": "Y"}, {"shape": [1, 3]}, {"shape": [2000, 4]}, {"datatype": "BYTES"}, {"data": ["a"]}, {"data": []}):
        assert not right.is_valid({"inputs": [{**tensor, **wrong}]}), wrong


def test_the_examples_are_right_by_their_own_schemas(serving: Serving) -> None:
    for given, clock in itertools.product((None, serving), ("wall", "replay")):
        made = document(ROUTES, replace(SETTINGS, clock=clock), given)
        for verbs in made["paths"].values():
            for about in verbs.values():
                for content in about.get("requestBody", {"content": {}})["content"].values():
                    if "example" in content:
                        name = content["schema"]["$ref"].rpartition("/")[2]
                        validator(made, name).validate(content["example"])


def test_the_limits_are_those_of_the_server() -> None:
    said = document(ROUTES, ServerSettings("delay", "b", "o", "k", "p", max_body_bytes=12_345))
    assert "12,345" in said["info"]["description"]
    assert "12,345" in str(said["paths"]["/v1/feedback"]["post"]["responses"]["413"])


def test_the_page_loads_nothing_from_anywhere_and_may_run_only_its_own_script() -> None:
    text = page().decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "src=" not in text
    assert "innerHTML" not in text
    assert text.count("<script>") == text.count("<style>") == 1
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert Path(openapi.__file__).with_name("docs.html").read_bytes() == page()
