"""Writing contracts: what is written is read back the same, and is what the standard's own schema asks for."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft201909Validator

from falaj.core.errors import InvalidInput
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Column, Contract, Quality

from .conftest import CONTRACT
from .made import contracts

EXAMPLES = sorted((Path(__file__).parents[3] / "examples/flights/contracts").glob("*.odcs.yaml"))
SCHEMA = json.loads(importlib.resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8"))
VALIDATOR = Draft201909Validator(SCHEMA)


def valid(data: bytes) -> None:
    errors = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in VALIDATOR.iter_errors(_json(data))]
    assert not errors


def _json(data: bytes) -> Any:
    return json.loads(json.dumps(yaml.safe_load(data), default=lambda value: value.isoformat()))


@pytest.mark.slow
@given(contracts())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back_the_same_and_is_valid(contract: Contract) -> None:
    data = odcs.write(contract)
    assert replace(odcs.read(data), digest="") == contract
    valid(data)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid_and_written_back(path: Path) -> None:
    contract = odcs.read(path.read_bytes())
    valid(path.read_bytes())
    data = odcs.write(contract)
    valid(data)
    assert replace(odcs.read(data), digest=contract.digest) == contract


def test_comments_stand_above_what_they_are_about() -> None:
    text = odcs.write(odcs.read(CONTRACT.encode()), {"miles": ("look at the range",), "": ("made from data",)}).decode()
    assert text.startswith("# made from data\napiVersion: ")
    assert "  # look at the range\n  - " in text


def test_a_contract_without_an_id_gets_one_that_stays() -> None:
    made = Contract("t", "1", "", (Column("x", "timestamp", limits=((">=", datetime(2013, 1, 1, tzinfo=UTC)),)),))
    assert odcs.write(made) == odcs.write(made) == odcs.write(odcs.read(odcs.write(made)))


def test_a_name_that_only_yaml_would_take_for_something_else_stays_a_text() -> None:
    contract = Contract("t", "1.0", "no", (Column("null", "string"), Column("1e3", "string")), id="2013-05-01", status="on")
    assert replace(odcs.read(odcs.write(contract)), digest="") == contract


@pytest.mark.parametrize(
    "contract",
    [
        Contract("t", "1", "", (Column("_x", "string"),)),
        Contract("t", "1", "", (Column("x", "number"),), key=("x",)),
        Contract("t", "1", "", (Column("x", "number", limits=(("<=", 1), (">=", 0))),)),
        Contract("t", "1", "", (Column("x", "number"),), (Quality("q", "expression"),)),
        Contract("t", "1", "", ()),
    ],
)
def test_what_no_file_can_say_is_refused(contract: Contract) -> None:
    with pytest.raises(InvalidInput):
        odcs.write(contract)
