"""What else a contract may say: relationships, measures, enums, severities, promises; and where it is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from falaj.core.errors import InvalidInput
from falaj.stages.contracts import odcs, spans
from falaj.stages.contracts.contract import Contract, Quality
from tests.fuzz.contracts import RICH

from .conftest import CONTRACT


def changed(old: str, new: str, text: str = CONTRACT) -> Contract:
    assert old in text
    return odcs.read(text.replace(old, new, 1).encode(), "trips.odcs.yaml")


def measured(text: str, severity: str = "error") -> Quality:
    return changed('"known_at >= at"', f"'{text}', severity: {severity}").checks[-1]


def test_everything_at_once_is_read() -> None:
    contract = odcs.read(RICH.encode())
    assert (contract.id, contract.status, contract.description, contract.owner) == ("7c2e", "active", "to be broken", "anna")
    assert {c.name: c.references for c in contract.columns if c.references} == {
        "miles": ("roads", "miles"),
        "zone": ("zones", "name"),
    }
    assert contract.sla["freshness"] == {"value": 2, "unit": "h", "element": "rich.at"}
    assert spans.promised(contract, "retention") == timedelta(days=3 * 365)
    naive = contract.column("naive")
    assert naive is not None
    assert naive.naive_is_utc
    assert [(check.name, check.metric, check.severity) for check in contract.checks] == [
        ("zone is one of its enum", "invalidValues", "error"),
        ("m", "mean", "warning"),
        ("d", "drift", "stop"),
        ("g", "growth", "error"),
        ("e", "expression", "error"),
        ("duplicateValues at, zone", "duplicateValues", "error"),
        ("rowCount", "rowCount", "error"),
    ]
    assert contract.checks[0].values == ("east", "west")
    assert contract.checks[0].of_rows


@pytest.mark.parametrize(
    ("text", "metric", "columns", "op", "bound"),
    [
        ("drift(miles) <= 0.1", "drift", ("miles",), "<=", 0.1),
        ("growth() between 0.5 and 2", "growth", (), "between", (0.5, 2)),
        ("growth() not between 0 and 1e-3", "growth", (), "not between", (0, 0.001)),
        ("mean( miles )between -1 and +50", "mean", ("miles",), "between", (-1, 50)),
        ("minimum(seats) >= 0", "minimum", ("seats",), ">=", 0),
        ("maximum(miles) < .5", "maximum", ("miles",), "<", 0.5),
        ("sum(miles) != 0", "sum", ("miles",), "!=", 0),
        ("distinct(zone) == 2", "distinct", ("zone",), "==", 2),
        ("distinct(at) > 5", "distinct", ("at",), ">", 5),
    ],
)
def test_measures_are_read(text: str, metric: str, columns: tuple[str, ...], op: str, bound: Any) -> None:
    found = measured(text)
    assert (found.metric, found.columns, found.op, found.bound, found.of_rows) == (metric, columns, op, bound, False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mean(miles)", "cannot be read"),
        ("mean(miles) <= many", "cannot be read"),
        ("mean(miles) <= 1 or 1 == 1", "cannot be read"),
        ("mean(miles) between 5 and 1", "smaller one"),
        ("mean(zone) <= 5", "cannot be of a string"),
        ("drift(at) <= 0.1", "cannot be of a timestamp"),
        ("mean() <= 5", "no column"),
        ("mean(miles, seats) <= 5", "no column"),
        ("growth(miles) <= 5", "takes no column"),
        ("sum(miles) <= 1e300", "too large"),
        ("sum(miles) <= 99999999999999999999", "too large"),
        ("median(miles) <= 5", "calls something"),
    ],
)
def test_a_measure_that_means_nothing_is_refused_at_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        measured(text)
    assert "schema[0].quality[0].implementation" in refused.value.message


@pytest.mark.parametrize(
    ("written", "severity"),
    [
        ("stop", "stop"), ("critical", "stop"), ("quarantine", "error"), ("error", "error"), ("warn", "warning"),
        ("info", "info"),
    ],
)  # fmt: skip
def test_severities_have_more_than_one_word(written: str, severity: str) -> None:
    assert measured("mean(miles) <= 5", written).severity == severity


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("planes", "one column, as in planes.tailnum"),
        ("planes.a.b", "one column"),
        ("schema/planes/properties/tailnum", "one column"),
        ("[planes.a, planes.b]", "one column"),
        ("7", "one column"),
        ("Planes.a", "a column of a dataset"),
        ("trips.id", "a column of another dataset"),
        ("planes.a, type: other", "type must be one of foreignKey"),
        ("planes.a, from: trips.id", "'from', which falaj does not enforce"),
    ],
)
def test_a_relationship_that_cannot_be_looked_up_is_refused(to: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        changed("name: miles, ", f"name: miles, relationships: [{{to: {to}}}], ")
    assert "schema[0].properties[3].relationships[0]" in refused.value.message


@pytest.mark.parametrize(
    ("relation", "says"),
    [
        ("{from: trips.nothing, to: planes.a}", "a column of trips"),
        ("{from: planes.a, to: trips.id}", "a column of trips"),
        ("{to: planes.a}", "one column"),
        ("{from: trips.id, to: planes.a}, {from: trips.id, to: planes.b}", "the only relationship of 'id'"),
    ],
)
def test_a_tables_relationship_names_one_of_its_columns(relation: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        changed("- name: trips", f"- name: trips\n    relationships: [{relation}]")
    found = changed("- name: trips", "- name: trips\n    relationships: [{from: trips.id, to: [planes.a], type: foreignKey}]")
    assert found.columns[0].references == ("planes", "a")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value: 2, unit: h", "value: 2", "a length of time"),
        ("value: 2, unit: h", "value: -2, unit: h", "a length of time"),
        ("value: 2, unit: h", "value: soon, unit: h", "value must be a number"),
        ("value: 2, unit: h", "value: true, unit: h", "value must be a number"),
        ("value: 2, unit: h", "value: 2, unit: h, schedule: daily", "'schedule', which falaj does not enforce"),
        ("element: trips.known_at", "element: trips.miles", "a timestamp of trips"),
        ("element: trips.known_at", "element: planes.known_at", "a timestamp of trips"),
        ("slaProperties:", "slaProperties:\n  - {property: latency, value: 3, unit: h}", "stands once"),
        ("[planning]}", "[planning]}\n  - {property: retention, value: 5y}", ""),
    ],
)
def test_promises_are_lengths_of_time(old: str, new: str, says: str) -> None:
    if not says:
        text = CONTRACT.replace(old, new)
        assert spans.promised(odcs.read(text.encode()), "retention") == timedelta(days=5 * 365)
        with pytest.raises(InvalidInput, match="say it once"):
            changed("slaProperties:", "slaProperties:\n  - {property: retention, value: 4, unit: y}", text)
        return
    with pytest.raises(InvalidInput, match=says):
        changed(old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[{value: east}, {value: west, label: the other one}]", "[]", "at least one value"),
        ("[{value: east}, {value: west, label: the other one}]", "[{value: 3}]", r"enum\[0\].value must be a string"),
        ("[{value: east}, {value: west, label: the other one}]", "[east]", "must be an object"),
        ("minLength: 1", "pattern: '(?=a)'", "look-around"),
        ("minLength: 1", "pattern: 'a{1000}{1000}'", "regular expression"),
        (
            "metric: rowCount, mustBeGreaterThan: 0",
            "metric: rowCount, unit: percent, mustBeGreaterThan: 0",
            "unit must be one of rows",
        ),
    ],
)
def test_what_would_fail_only_when_data_come_is_refused_now(old: str, new: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        changed(old, new, RICH)


def test_a_thousand_rules_are_enough() -> None:
    rules = "".join(f"      - {{name: r{n}, metric: rowCount, mustBeGreaterThan: {n}}}\n" for n in range(1001))
    with pytest.raises(InvalidInput, match="1,000 are allowed"):
        odcs.read((CONTRACT + rules).encode())
