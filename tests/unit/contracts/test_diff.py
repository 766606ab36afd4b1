"""Diff: whom each change breaks, and which version it needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from falaj.stages.contracts import odcs
from falaj.stages.contracts.contract import Contract
from falaj.stages.contracts.diff import Compared, bump, diff

from .conftest import CONTRACT
from .made import contracts


def compared(old: str, new: str) -> Compared:
    assert old in CONTRACT
    return diff(odcs.read(CONTRACT.encode()), odcs.read(CONTRACT.replace(old, new, 1).encode()))


C, P = ("consumers",), ("producers",)


@pytest.mark.parametrize(
    ("old", "new", "what", "breaks"),
    [
        ("      - {name: seats, logicalType: integer, logicalTypeOptions: {format: i8}}\n", "", "column removed", C),
        ("- {name: seats", "- {name: extra, logicalType: string}\n      - {name: seats", "column added", P),
        ("logicalType: integer, logicalTypeOptions: {format: i8}", "logicalType: number", "type widened", C),
        ("logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 500}", "logicalType: integer", "type narrowed", P),
        ("logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 500}", "logicalType: string", "type changed", C + P),
        ("format: i8", "format: i16", "type widened", C),
        ("format: i8", "format: u8", "width changed", C + P),
        ("maximum: 500", "maximum: 400", "limit tightened", P),
        ("maximum: 500", "maximum: 600", "limit loosened", C),
        ("maximum: 500", "exclusiveMaximum: 500", "limit tightened", P),
        ("minimum: 0, maximum: 500", "minimum: 10, maximum: 600", "limit moved", C + P),
        ("name: miles, ", "name: miles, required: true, ", "required added", P),
        ("known_at, logicalType: timestamp, required: true", "known_at, logicalType: timestamp", "required removed", C),
        ("name: miles, ", "name: miles, unique: true, ", "unique added", P),
        ("primaryKey: true, ", "required: true, ", "key removed", C),
        ("at, logicalType: timestamp, required: true", "at, logicalType: timestamp, primaryKey: true", "key changed", C + P),
        ('"^t[0-9]+$"', '"^u[0-9]+$"', "pattern changed", C + P),
        (', logicalTypeOptions: {pattern: "^t[0-9]+$"}', "", "pattern removed", C),
        ("name: miles, ", "name: miles, classification: confidential, ", "classification raised", C),
        ("value: internal", "value: restricted", "classification raised", C),
        ("value: internal", "value: public", "classification lowered", ()),
        ("[planning]", "[pricing]", "purposes changed", C),
        ("[planning]", "[planning, pricing]", "purposes changed", ()),
        ("value: 2, unit: h", "value: 3, unit: h", "promise weakened", C),
        ("value: 2, unit: h", "value: 30, unit: min", "promise strengthened", P),
        ("value: 2, unit: h", "value: 120, unit: min", "promise reworded", ()),
        ("property: latency", "property: freshness", "promise removed", C),
        ("[east, west]", "[east, west, north]", "limit loosened", C),
        ("[east, west]", "[east]", "limit tightened", P),
        ("mustBeLessThan: 50", "mustBeLessThan: 60", "limit loosened", C),
        ("mustBeLessThan: 50", "mustBeLessOrEqualTo: 40", "limit tightened", P),
        ("name: a known zone", "name: one of two zones", "rule renamed", ()),
        ("mustBe: 0, severity: warning", "mustBe: 0, severity: stop", "severity raised", P),
        ("known_at >= at", "known_at  >=  at", "", ()),
        ("known_at >= at", "known_at > at", "rule changed", C + P),
        ("known_at >= at", "growth() < 2", "rule changed", C + P),
        ("team: {name: taxis}", "team: {name: buses}", "owner changed", ()),
        ("name: miles, ", "name: miles, relationships: [{to: roads.miles}], ", "reference added", P),
    ],
)  # fmt: skip
def test_each_change_says_whom_it_breaks(old: str, new: str, what: str, breaks: tuple[str, ...]) -> None:
    found = compared(old, new)
    if not what:
        assert (found.changes, found.needs, found.verdict) == ((), "none", "allow")
        return
    change = next(change for change in found.changes if change.what == what)
    assert change.breaks == breaks
    assert found.breaking == any(edit.breaks for edit in found.changes)
    assert (found.verdict == "deny") == (found.needs != "none")  # the version stayed


def test_another_name_is_another_table() -> None:
    found = diff(odcs.read(CONTRACT.encode()), odcs.read(CONTRACT.replace("trips", "rides").encode()))
    assert ("renamed", C + P) in [(change.what, change.breaks) for change in found.changes]


def test_retention_may_stand_in_either_place() -> None:
    old = odcs.read(CONTRACT.replace("[planning]}", "[planning]}\n  - {property: retention, value: 5y}").encode())
    same = odcs.read(
        CONTRACT.replace("slaProperties:", "slaProperties:\n  - {property: retention, value: 5, unit: years}").encode()
    )
    less = odcs.read(CONTRACT.replace("slaProperties:", "slaProperties:\n  - {property: retention, value: 4, unit: y}").encode())
    assert diff(old, same).changes == ()
    assert [change.what for change in diff(old, less).changes] == ["retention shortened"]
    assert [(change.what, change.breaks) for change in diff(less, old).changes] == [("retention lengthened", ())]


@pytest.mark.parametrize(
    ("old", "new", "made"),
    [
        ("1.2.3", "1.2.3", "none"),
        ("1.2.3", "1.2.4", "patch"),
        ("1.2.3", "1.3.0", "minor"),
        ("1.2.3", "2.0.0", "major"),
        ("0.2.3", "0.3.0", "major"),
        ("0.2.3", "0.2.4", "minor"),
        ("1.2.3", "1.2.2", None),
        ("v1.2.3", "2.0.0", "major"),
        ("first", "first", "none"),
        ("first", "second", None),
    ],
)
def test_the_step_between_two_versions(old: str, new: str, made: str | None) -> None:
    assert bump(old, new) == made


@pytest.mark.parametrize(("version", "verdict"), [("1.0.0", "deny"), ("1.1.0", "deny"), ("2.0.0", "allow"), ("soon", "deny")])
def test_a_breaking_change_needs_a_major_version(version: str, verdict: str) -> None:
    new = CONTRACT.replace("maximum: 500", "maximum: 400").replace("version: 1.0.0", f"version: {version}")
    assert diff(odcs.read(CONTRACT.encode()), odcs.read(new.encode())).verdict == verdict


@pytest.mark.slow
@given(contracts(), contracts())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_differs_from_itself_and_any_two_can_be_compared(one: Contract, other: Contract) -> None:
    assert diff(one, replace(one, digest="sha256:0")).changes == ()
    there, back = diff(one, other), diff(other, one)
    assert bool(there.changes) == bool(back.changes)


def test_versions_that_are_none_cannot_be_compared() -> None:
    old = odcs.read(CONTRACT.encode())
    found = diff(old, replace(old, version="one"))
    assert found.verdict == "deny"
    assert found.reason == "'1.0.0' and 'one' cannot be compared: 'one' is no semantic version, as 1.0.0 is"
    assert diff(replace(old, version="one"), replace(old, version="one")).verdict == "allow"
