"""Lint: each thing that can be said about a contract, where it stands, and what it weighs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from falaj.core.errors import MissingDependency
from falaj.stages.contracts import odcs, personal
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.lint import Linted, lint

from .conftest import CONTRACT
from .made import contracts

EXAMPLES = sorted((Path(__file__).parents[3] / "examples/flights/contracts").glob("*.odcs.yaml"))


def linted(old: str = "", new: str = "") -> Linted:
    assert old in CONTRACT
    return lint(CONTRACT.replace(old, new, 1).encode(), "trips.odcs.yaml")


def said(found: Linted) -> list[tuple[str, str]]:
    return [(finding.place, finding.severity) for finding in found.findings]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_have_no_errors_and_no_warnings(path: Path) -> None:
    found = lint(path.read_bytes(), path.name)
    assert (found.verdict, found.errors, found.warnings) == ("allow", 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "place", "severity", "message"),
    [
        ("kind: DataContract", "kind: Something", "kind", "error", "no data contract"),
        ("id: 5b1c", "id: 5", "id", "error", "not of type 'string'"),
        ("status: active", "status: active\nsecret: 1", "", "error", "'secret'"),
        ("logicalType: number", "logicalType: nombre", "schema[0].properties[3].logicalType", "error", "not one of"),
        ("maximum: 500", "maximun: 500", "schema[0].properties[3].logicalTypeOptions", "error", "maximun"),
        ("known_at >= at", "known_at >= whenever", "schema[0].quality[0]", "error", "no column"),
        ("team: {name: taxis}", "domain: taxis", "team", "warning", "nobody owns it"),
        ("primaryKey: true", "unique: true", "schema[0].properties", "warning", "no key"),
        ("property: latency", "property: availability", "slaProperties", "warning", "no freshness"),
        ("property: classification", "property: audience", "customProperties", "warning", "no classification"),
        ("property: purposes", "property: reasons", "customProperties", "advice", "no purposes"),
        ("maximum: 500", "maximum: -1", "schema[0].properties[3].logicalTypeOptions", "error", "no value of miles"),
        ("{format: i8}", "{format: u8, minimum: 0}", "schema[0].properties[4].logicalTypeOptions", "warning", "can never fail"),
        (
            "{format: i8}",
            "{minimum: 0, exclusiveMinimum: 1}",
            "schema[0].properties[4].logicalTypeOptions",
            "warning",
            "one side",
        ),
        ('"^t[0-9]+$"', '".*"', "schema[0].properties[0].logicalTypeOptions.pattern", "warning", "nearly everything"),
        ("mustBeLessThan: 50", "mustBeLessThan: 101", "schema[0].properties[5].quality[1]", "warning", "never fail"),
        ("mustBeLessThan: 50", "mustBeGreaterThan: 100", "schema[0].properties[5].quality[1]", "error", "never pass"),
        ("known_at >= at", "at >= at", "schema[0].quality[0]", "warning", "never fail"),
        ("known_at >= at", "drift(miles) <= 1", "schema[0].quality[0]", "warning", "never fail"),
        ("known_at >= at", "distinct(zone) < 0", "schema[0].quality[0]", "error", "never pass"),
        (
            "- name: zone\n        logicalType: string",
            "- name: zone\n        required: true\n        logicalType: string",
            "schema[0].properties[5].quality[2]",
            "advice",
            "says already",
        ),
        ("primaryKey: true,", "primaryKey: true, unique: true,", "schema[0].properties[0].unique", "advice", "the key"),
        (
            "quality:\n      - {name: known",
            "quality:\n      - {name: again, type: custom, engine: falaj, implementation: 'known_at>=at'}\n      - {name: known",
            "schema[0].quality[1]",
            "warning",
            "asks the same",
        ),
    ],
)
def test_each_thing_is_said_at_its_place(old: str, new: str, place: str, severity: str, message: str) -> None:
    found = linted(old, new)
    assert any(f.place == place and f.severity == severity and message in f.message for f in found.findings), found.findings
    assert (found.verdict == "deny") == (severity == "error")


def test_personal_data_without_a_classification_is_told() -> None:
    found = linted("internal}", "public}")
    assert not [finding for finding in found.findings if "personal" in finding.message]
    renamed = CONTRACT.replace("name: zone", "name: customerEmail").replace("internal}", "public}")
    found = lint(renamed.encode())
    assert ("schema[0].properties[5].classification", "warning") in said(found)


@pytest.mark.parametrize(
    ("name", "is_personal"),
    [
        ("email", True), ("customer_email", True), ("dateOfBirth", True), ("emirates_id", True), ("first_name", True),
        ("ip", True),
        ("trip_id", False), ("shipment", False), ("carrier_name", False), ("percentage", False), ("file_name", False),
    ],
)  # fmt: skip
def test_personal_data_is_known_by_the_words_of_a_name(name: str, is_personal: bool) -> None:
    assert bool(personal.spoken_of(name)) == is_personal


def test_what_is_no_yaml_is_a_finding_too() -> None:
    for data in (b"\xff", b"a: [", b"- 1", b"", b"a: &x 1\nb: *x"):
        assert lint(data).verdict == "deny"


def test_a_contract_too_large_for_the_schema_is_told_so() -> None:
    columns = "".join(f"      - {{name: c{n}, logicalType: string}}\n" for n in range(4000))
    found = lint((CONTRACT.split("schema:")[0] + f"schema:\n  - name: t\n    properties:\n{columns}").encode())
    assert [(finding.severity, finding.message.split(";")[0]) for finding in found.findings] == [
        ("error", "schema[0].properties must hold 1 to 200 columns, got 4,000."),
        ("warning", "it holds 12,026 values"),
    ]


def test_a_dataset_needs_its_times_and_what_it_refers_to() -> None:
    text = CONTRACT.replace("{name: seats,", "{name: seats, relationships: [{to: planes.seats}],")
    contract = odcs.read(text.encode())
    found = lint(text.encode(), times=("at", "zone", "whenever"), others={"trips": contract})
    assert [f.message for f in found.findings if f.severity == "error"] == [
        "the dataset names the timestamp 'zone'; it is a string",
        "the dataset names the timestamp 'whenever'; there is none",
        "seats refers to the dataset 'planes', which the project does not have",
    ]
    found = lint(
        text.encode(),
        others={"planes": odcs.read(CONTRACT.replace("integer, logicalTypeOptions: {format: i8}", "number").encode())},
    )
    assert [f.message for f in found.findings if f.severity == "error"] == ["seats is of kind integer; planes.seats: number"]


def test_without_the_published_schema_lint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingDependency) as missing:
        lint(CONTRACT.encode())
    assert missing.value.hint == "pip install 'falaj[contracts]'"


@pytest.mark.slow
@given(contracts())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_can_be_written_can_be_linted(contract: Contract) -> None:
    found = lint(odcs.write(contract))
    assert all(finding.message for finding in found.findings)
    known = ("no value", "never pass", "no semantic version")
    assert not [f for f in found.findings if f.severity == "error" and not any(text in f.message for text in known)]
