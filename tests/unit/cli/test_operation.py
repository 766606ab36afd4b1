from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Operation, Subject, plural, value_of

MODEL = Subject("model", "a version", "needed")


def test_a_subject_is_read_with_and_without_its_kind() -> None:
    assert MODEL.read("delay@7") == MODEL.read("model/delay@7") == Ref("model", "delay", "7")


@pytest.mark.parametrize(
    ("subject", "text"), [(MODEL, "delay"), (MODEL, "endpoint/delay@7"), (Subject("key", ""), "x@1"), (MODEL, "../x@1")]
)
def test_another_kind_or_a_wrong_version_is_refused(subject: Subject, text: str) -> None:
    with pytest.raises(InvalidInput):
        subject.read(text)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("text", "a", "a"),
        ("integer", "7", 7),
        ("integer", 7, 7),
        ("number", "0.5", 0.5),
        ("flag", "true", True),
        ("flag", False, False),
        ("list", "a, b", ("a", "b")),
        ("list", ["a", "b"], ("a", "b")),
        ("object", '{"a": 1}', {"a": 1}),
        ("object", {"a": 1}, {"a": 1}),
        ("time", "2013-05-01T00:00:00Z", datetime(2013, 5, 1, tzinfo=UTC)),
        ("span", "3h", timedelta(hours=3)),
    ],
)
def test_a_value_is_the_same_from_a_terminal_and_from_json(kind: str, given: Any, value: Any) -> None:
    assert value_of(Argument("x", "", kind), given) == value


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("integer", "x"),
        ("integer", True),
        ("number", []),
        ("flag", "yes"),
        ("flag", []),
        ("list", {}),
        ("list", [1]),
        ("object", "[]"),
        ("text", 7),
        ("time", "soon"),
        ("span", "soon"),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: str, given: Any) -> None:
    with pytest.raises(InvalidInput):
        value_of(Argument("x", "", kind), given)


def test_a_missing_argument_is_refused_and_a_default_filled_in() -> None:
    operation = Operation("a", "b", "", str, arguments=(Argument("x", "", default="d"), Argument("y", "", required=True)))
    assert operation.read({"y": "1"}) == {"x": "d", "y": "1"}
    with pytest.raises(InvalidInput, match="'y' is missing"):
        operation.read({})
    with pytest.raises(InvalidInput, match="takes no argument 'z'"):
        operation.read({"y": "1", "z": "2"})


def test_only_some_values() -> None:
    with pytest.raises(InvalidInput, match="one of a, b"):
        value_of(Argument("x", "", one_of=("a", "b")), "c")


@pytest.mark.parametrize(
    ("noun", "many"), [("model", "models"), ("key", "keys"), ("query", "queries"), ("audit", "audit"), ("status", "status")]
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many


def test_reading_asks_for_the_right_to_read_and_changing_for_its_own_name() -> None:
    assert Operation("model", "show", "", str, MODEL, changes=False).needs == ("model.read",)
    assert Operation("model", "promote", "", str, MODEL).needs == ("model.promote",)
    assert Operation("model", "deploy", "", str, MODEL, actions=("a.b", "c.d")).needs == ("a.b", "c.d")
    assert Operation("worker", "tick", "", str, actions=()).needs == ("worker.tick",)
