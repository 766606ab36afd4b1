"""Complaints: each says what to do, and what the published schema lets pass is told."""

from __future__ import annotations

import pytest

from falaj.core.errors import InvalidInput
from falaj.core.wording import a, count
from falaj.stages.contracts import odcs
from falaj.stages.contracts.complaints import QUOTES
from falaj.stages.contracts.finding import Finding
from falaj.stages.contracts.lint import lint

from .conftest import CONTRACT

PATTERN = '{pattern: "^t[0-9]+$"}'
RULE = 'type: custom, engine: falaj, implementation: "known_at >= at"'


def first(old: str, new: str) -> Finding:
    assert old in CONTRACT
    return lint(CONTRACT.replace(old, new, 1).encode()).findings[0]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("maximum: 500", "maximun: 500", "did you mean 'maximum'?"),
        ("status: active", "statsu: active", "did you mean 'status'?"),
        ("logicalType: number", "logicalType: nombre", "did you mean 'number'?"),
        (
            PATTERN,
            "{maximum: 5, minimum: 1}",
            "maximum and minimum belong to columns of type integer, number, timestamp, date; this one is a string.",
        ),
        ("minimum: 0, maximum: 500", "minLength: 3", "minLength belongs to columns of type string; this one is a number."),
        (RULE, "type: sql, query: select 1, mustBe: 1", "rules in SQL are not run: docs/guides/data.md lists the forms"),
        (RULE, "type: sql", "rules in SQL are not run: docs/guides/data.md lists the forms"),
        ("{name: at,", "{name: at, description: When it began, by the clock.,", QUOTES),
    ],
)
def test_an_error_says_what_was_meant(old: str, new: str, hint: str) -> None:
    found = [f for f in lint(CONTRACT.replace(old, new, 1).encode()).findings if f.severity == "error"]
    assert old in CONTRACT
    assert any(finding.hint.startswith(hint) for finding in found), found


def test_the_refusal_of_a_load_says_what_was_meant_too() -> None:
    with pytest.raises(InvalidInput) as caught:
        odcs.read(CONTRACT.replace("maximum: 500", "maximun: 500").encode())
    assert caught.value.hint.startswith("did you mean 'maximum'?")


def test_half_a_sentence_is_told() -> None:
    found = first("status: active", "status: active\ndescription: {purpose: Every finished trip, to plan the fleet.}")
    assert (found.place, found.severity, found.hint) == ("description", "warning", QUOTES)
    assert found.message == "'to plan the fleet.' is no part of a description"
    found = first("{name: taxis}", "{name: taxis, the yellow ones: }")
    assert found.message in ("'the yellow ones' looks like the rest of a sentence", "'the yellow ones' was unexpected")
    assert found.hint == QUOTES
    quoted = CONTRACT.replace("status: active", "status: active\ndescription: {purpose: 'Every trip, to plan the fleet.'}")
    assert not [finding for finding in lint(quoted.encode()).findings if finding.place == "description"]


def test_a_description_has_only_what_the_standard_gives_it() -> None:
    found = first("status: active", "status: active\ndescription: {purpose: Trips, limits: None known.}")
    assert (found.severity, found.hint) == ("warning", "did you mean 'limitations'?")


def test_a_version_has_three_numbers() -> None:
    found = first("version: 1.0.0", "version: one")
    assert (found.place, found.severity, found.message) == ("version", "error", "'one' is no semantic version")
    assert lint(CONTRACT.replace("version: 1.0.0", "version: 1.2.0-rc.1").encode()).errors == 0


def test_nouns_take_their_article_and_one_is_no_plural() -> None:
    assert [a("integer"), a("object"), a("number")] == ["an integer", "an object", "a number"]
    assert [count(0), count(1), count(2000), count(1, "load")] == ["0 rows", "1 row", "2,000 rows", "1 load"]
