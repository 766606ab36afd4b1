"""Reading contracts: what is enforced, what is refused, and that no bytes at all get past FalajError."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from falaj.core.errors import FalajError, InvalidInput
from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.document import LARGEST

from .conftest import CONTRACT

EXAMPLES = sorted((Path(__file__).parents[3] / "examples/flights/contracts").glob("*.odcs.yaml"))


def test_a_contract_is_read_whole() -> None:
    contract = odcs.read(CONTRACT.encode())
    assert (contract.name, contract.version, contract.owner, contract.key) == ("trips", "1.0.0", "taxis", ("id",))
    assert contract.labels == {"classification": "internal", "purposes": ["planning"]}
    assert contract.sla["latency"] == {"value": 2, "unit": "h", "element": "trips.known_at"}
    miles = contract.column("miles")
    assert miles is not None
    assert miles.limits == ((">=", 0), ("<=", 500))
    assert [check.name for check in contract.checks if check.of_rows and check.severity == "error"] == [
        "a known zone",
        "known after it happened",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_contracts_are_read(path: Path) -> None:
    contract = odcs.read(path.read_bytes(), path.name)
    assert contract.owner == "flight-operations"
    assert contract.labels["classification"] == "public"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("required: true", "required: 'yes'", r"schema\[0\].properties\[1\].required must be true or false, got 'yes'"),
        ("logicalType: number", "logicalType: object", r"properties\[3\].logicalType must be one of"),
        ("kind: DataContract", "kind: Contract", "kind must be one of DataContract"),
        ("apiVersion: v3.1.0", "apiVersion: v2.2.0", "apiVersion must be one of"),
        ("maximum: 500", "maximun: 500", "'maximun', which falaj does not enforce"),
        ("maximum: 500", "maximum: far", "maximum must be a number"),
        ("maximum: 500", "maximum: .nan", "maximum must be a number"),
        ("maximum: 500", "multipleOf: 0", "above 0"),
        ("format: i8", "format: i128", "format must be one of"),
        ("metric: invalidValues", "metric: freshness", "metric must be one of"),
        ("validValues: [east, west]", "validValues: [east, 1]", r"validValues\[1\] must be a string"),
        ("mustBe: 0}", "mustBe: 0, mustNotBe: 3}", "must hold one of"),
        ("mustBeLessThan: 50", "mustBeBetween: [5, 1]", "the smaller first"),
        ("engine: falaj", "engine: soda", "custom with engine falaj"),
        ("type: custom, engine: falaj, implementation", "type: sql, mustBe: 0, query", "custom with engine falaj"),
        ("known_at >= at", "known_at >= whenever", "'whenever', which is no column"),
        ("known_at >= at", "known_at >= miles", "compares a timestamp with a number"),
        ("known_at >= at", "__import__('os').system('true') == 0", "calls something"),
        ("known_at >= at", "miles + 1", "compares nothing"),
        ("name: miles", "name: zone", "a name that no other property has"),
        ("name: miles", "name: _reasons", "does not start with '_'"),
        ("id: 5b1c", "id: 5b1c\nid: 5b1d", "the key 'id' stands twice"),
        ("status: active", "status: &s active\ndomain: *s", "alias"),
        ("- name: trips", "- name: other\n  - name: trips", "one table, got 2"),
        ("name: all zones are there", "name: a known zone", "Two quality rules are named"),
        ("status: active", "status: active\nsecret: 1", "'secret', which falaj does not enforce"),
        (
            "- {property: classification, value: internal}",
            "- {property: notes, value: [" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, " * 150 + "b]}",
            "4096 bytes",
        ),
    ],
)
def test_each_fault_is_refused_and_its_place_is_named(old: str, new: str, says: str) -> None:
    assert old in CONTRACT
    with pytest.raises(InvalidInput, match=says):
        odcs.read(CONTRACT.replace(old, new, 1).encode(), "trips.odcs.yaml")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"\x00",
        b"[" * 5000,
        b"a: !!python/object/apply:os.system ['true']",
        b"a: 2013-99-99",
        b"- " * 3000,
        b"a: " + b"9" * 5000,
        b"---\na: 1\n---\nb: 2",
        b"? [a, b]\n: 1",
        b"1: 2",
        b"#" * (LARGEST + 1),
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        odcs.read(data)


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_nothing_but_falajs_errors(data: bytes) -> None:
    _read_or_refuse(data)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=4))
@settings(max_examples=120, deadline=None)
def test_scrambled_text_raises_nothing_but_falajs_errors(seed: int, cuts: int) -> None:
    chance = random.Random(seed)  # a scramble by hypothesis' own choices shrinks no better and is slower
    text = CONTRACT
    for _ in range(cuts):
        start = chance.randrange(len(text))
        text = (
            text[:start]
            + chance.choice(["", ":", "\n", "- ", "{", "'", "null", "9" * 20, "\t", "é", "&a ", "!!set "])
            + text[start + chance.randrange(6) :]
        )
    _read_or_refuse(text.encode())


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@pytest.mark.slow
@given(st.data())
@settings(max_examples=150, deadline=None)
@example(None)
def test_documents_with_any_value_in_any_place_raise_nothing_but_falajs_errors(data: st.DataObject | None) -> None:
    document = yaml.safe_load(CONTRACT)
    if data is not None:
        holder = document
        while True:
            key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
            if not isinstance(holder[key], (dict, list)) or not holder[key] or data.draw(st.booleans()):
                break
            holder = holder[key]
        holder[key] = data.draw(_VALUES)
    _read_or_refuse(yaml.safe_dump(document).encode())


@pytest.mark.slow
@given(st.text(max_size=60) | st.text("abcmiles <>=+-*/()%.'andornotisnull 0123456789", max_size=60))
@settings(max_examples=250, deadline=None)
@example("(" * 290)
@example("-" * 290 + "miles > 0")
@example("miles > 1e999")
@example("miles is not null is null")
@example("miles == miles == miles")
def test_expressions_are_read_or_refused(text: str) -> None:
    quoted = yaml.safe_dump(text, default_style='"', width=10_000).strip()
    _read_or_refuse(CONTRACT.replace('"known_at >= at"', quoted).encode())


def _read_or_refuse(data: bytes) -> None:
    try:
        found = odcs.read(data)
    except FalajError:
        return
    assert isinstance(found, Contract)
