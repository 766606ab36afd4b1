from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from falaj.core import errors
from falaj.core.errors import FalajError, NotFound, error_from_dict

KINDS = FalajError.__subclasses__()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_from_its_json(kind: type[FalajError]) -> None:
    error = kind("It broke.", "mend it.", n=1, ref="model/delay", parts=(1, 2))
    error.facts["message"] = "also a fact"
    back = error_from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is kind
    assert (back.message, back.hint) == ("It broke.", "mend it.")
    assert back.facts == {"n": 1, "ref": "model/delay", "parts": [1, 2], "message": "also a fact"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind: type[FalajError]) -> None:
    back = pickle.loads(pickle.dumps(kind("It broke.", "mend it.", n=1)))
    assert (type(back), back.message, back.hint, back.facts) == (kind, "It broke.", "mend it.", {"n": 1})


def test_every_kind_has_its_own_code_and_exit_code() -> None:
    assert len({kind.code for kind in KINDS}) == len({kind.exit_code for kind in KINDS}) == len(KINDS)
    assert all(kind.exit_code not in (0, 1) for kind in KINDS)


def test_the_table_in_the_docstring_is_the_truth() -> None:
    for kind in KINDS:
        (line,) = (line for line in (errors.__doc__ or "").splitlines() if f"── {kind.__name__} " in line)
        assert line.split()[-3:] == [str(kind.exit_code), str(kind.http_status), "yes" if kind.retryable else "no"]


def test_the_text_of_an_error_ends_with_its_hint() -> None:
    assert str(NotFound("There is no model.", "make one.")) == "There is no model.  Hint: make one."
    assert str(NotFound("There is no model.")) == "There is no model."


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["delay", "arrival"], "did you mean 'delay'?"),
        (["x", "y"], "there is: x, y."),
        ([], "there is no model yet."),
        ([str(n) for n in range(9)], "there is: 0, 1, 2, 3, 4, 5, 6, 7, …."),
    ],
)
def test_an_unknown_name_offers_the_nearest(known: list[str], hint: str) -> None:
    assert NotFound.named("model", "dalay", known).hint == hint


@pytest.mark.parametrize("body", [{}, [], "gateway timeout", None, {"error": "text"}, {"error": {"code": "teapot", "facts": 7}}])
def test_a_body_of_another_form_becomes_a_plain_error(body: Any) -> None:
    assert type(error_from_dict(body)) is FalajError
