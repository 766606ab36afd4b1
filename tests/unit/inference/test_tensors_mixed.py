"""REST calls by tensor beyond one JSON matrix: columns, bytes beside JSON, and what cannot be read."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import FalajError, InvalidInput
from falaj.inference.calls import Answered, Caller, TensorCall
from falaj.inference.errors import Malformed
from falaj.inference.tensors_mixed import Address, Wish, is_common, read_mixed, write_mixed

WHO = Caller(Actor("me", "service"), "", "", 0.0)


def serving(*columns: tuple[str, ...]) -> Any:
    """Arms with these columns each, whose models take the matrix `X`."""
    arms = [SimpleNamespace(model=SimpleNamespace(input="X", recipe=SimpleNamespace(names=names))) for names in columns]
    return SimpleNamespace(arms=tuple(arms))


AB = serving(("a", "b"))


def read(head: Any, binary: bytes = b"", header: bool = True, where: Any = AB) -> tuple[TensorCall, Wish]:
    text = json.dumps(head).encode()
    return read_mixed(text + binary, Address("m", None, WHO, str(len(text)).encode() if header else None), where)


def tensor(name: str, shape: list[Any], data: Any = None, kind: str = "FP32", size: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "shape": shape, "datatype": kind}
    if data is not None:
        found["data"] = data
    if size is not None:
        found["parameters"] = {"binary_data_size": size}
    return found


def test_json_and_bytes_stand_side_by_side() -> None:
    binary = np.array([3, 4], np.float32).tobytes()
    call, wish = read({"id": "1", "inputs": [tensor("b", [2], size=8), tensor("a", [2, 1], [[1], [None]])]}, binary)
    assert (call.input, call.id, call.via) == ("X", "1", "v2")
    np.testing.assert_equal(call.matrix, [[1, 3], [np.nan, 4]])
    assert not wish.holds("anything")


def test_parameters_and_wanted_outputs_are_read() -> None:
    head = {
        "inputs": [tensor("X", [1, 2], [1, 2])],
        "parameters": {"unit": 7, "at": "2013-05-01T09:30:00Z", "binary_data_output": True},
        "outputs": [{"name": "p"}, {"name": "q", "parameters": {"binary_data": False}}],
    }
    call, wish = read(head, header=False)
    assert (call.unit, call.at, call.wanted) == ("7", "2013-05-01T09:30:00Z", ("p", "q"))
    assert (wish.holds("p"), wish.holds("q")) == (True, False)


def test_arms_that_take_different_columns_refuse_a_call_by_column() -> None:
    with pytest.raises(InvalidInput, match="different columns"):
        read({"inputs": [tensor("a", [1], [1]), tensor("b", [1], [2])]}, where=serving(("a", "b"), ("b", "a")))


ONE = tensor("X", [1, 2], [1, 2])
WRONG: list[tuple[Any, bytes, str]] = [
    ({"inputs": []}, b"", "no inputs"),
    ({"inputs": [tensor("X", [1, 2])]}, b"", "has no data"),
    ({"inputs": [tensor("X", [1, 2], [1, 2], size=8)]}, b"\0" * 8, "came twice"),
    ({"inputs": [tensor("X", [1, 2], size=8)]}, b"\0" * 7, "7 bytes follow the JSON"),
    ({"inputs": [tensor("X", [1, 2], size=8)]}, b"\0" * 9, "9 bytes follow the JSON"),
    ({"inputs": [tensor("X", [1, 2], size=-8)]}, b"", "must be a number of bytes"),
    ({"inputs": [tensor("X", [1, 2], [1, 2])]}, b"x", "1 bytes follow the JSON"),
    ({"inputs": [tensor("X", [1, 2], [1])]}, b"", "holds 1 values"),
    ({"inputs": [tensor("X", [2, 1], [[1], [2, 3]])]}, b"", "is not 2 rows of 1"),
    ({"inputs": [tensor("X", [1, 2], [1, "2"])]}, b"", "it holds '2'"),
    ({"inputs": [tensor("X", [1, 2], [1, True])]}, b"", "it holds 'True'"),
    ({"inputs": [tensor("X", [1, 2], [1, None], "INT32")]}, b"", "is not INT32"),
    ({"inputs": [tensor("X", [1, 2], [1, 300], "UINT8")]}, b"", "too large for it"),
    ({"inputs": [tensor("X", [1, 2], [1, 2], "BYTES")]}, b"", "is not taken"),
    ({"inputs": [tensor("X", [1, 2], {"a": 1})]}, b"", "is not a list"),
    ({"inputs": [tensor("X", [1, 2], [1, 4e38])]}, b"", "beyond what FP32"),
    ({"inputs": [tensor("a", [1], [1])]}, b"", "has no 'b'"),
    ({"inputs": [ONE], "parameters": {"binary_data_output": 1}}, b"", "must be true or false"),
    ({"inputs": [ONE], "outputs": [{"name": "p", "parameters": {"classification": 2}}]}, b"", "classif"),
]


@pytest.mark.parametrize(("head", "binary", "words"), WRONG)
def test_what_does_not_fit_is_named(head: Any, binary: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read(head, binary)


@pytest.mark.parametrize("length", [b"0", b"-1", b"x", b"1e3", b"99999999999999", b"1000"])
def test_a_header_that_gives_no_length_is_malformed(length: bytes) -> None:
    with pytest.raises(Malformed):
        read_mixed(b'{"inputs":[]}', Address("m", None, WHO, length), AB)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 220).map(lambda n: str(n).encode())))
def test_any_bytes_are_read_or_refused(body: bytes, header: bytes | None) -> None:
    with pytest.raises(FalajError):
        read_mixed(body, Address("m", None, WHO, header), AB)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)


@given(st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_any_data_is_read_or_refused(data: Any) -> None:
    try:
        call, _ = read({"inputs": [tensor("X", [1, 2], data if data is not None else [])]})
    except FalajError:
        return
    assert call.matrix.shape == (1, 2)


def test_one_json_matrix_is_left_to_the_faster_reader() -> None:
    plain = json.dumps({"inputs": [tensor("X", [1, 2], [1, 2])]}).encode()
    assert is_common(plain, None)
    assert not is_common(plain, b"10")
    assert not is_common(json.dumps({"inputs": [tensor("a", [1], [1]), tensor("b", [1], [1])]}).encode(), None)
    assert not is_common(plain[:-1] + b',"parameters":{"binary_data_output":true}}', None)


def test_an_answer_is_json_with_the_bytes_behind_it() -> None:
    call, _ = read({"id": "7", "inputs": [tensor("X", [1, 2], [1, 2])]})
    spec = SimpleNamespace(name="p", datatype="FP32")
    live: Any = SimpleNamespace(
        model=SimpleNamespace(outputs=(spec,)), version="1", arm=SimpleNamespace(role="champion", release="release/m@1")
    )
    answered = Answered(live, ["p0-1"], [0.5], [np.array([[0.5, 0.25]], np.float32)], [])
    body, lines = write_mixed(answered, call, Wish(named={"p": True}))
    length = int(lines.decode().partition("inference-header-content-length: ")[2])
    head = json.loads(body[:length])
    assert head["outputs"][0] == {"name": "p", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    assert head["outputs"][1]["data"] == ["p0-1"]
    assert (head["id"], head["model_version"], head["parameters"]["arm"]) == ("7", "1", "champion")
    assert np.frombuffer(body[length:], np.float32).tolist() == [0.5, 0.25]
    assert write_mixed(answered, call, Wish())[1] == b"content-type: application/json\r\n"
