"""What comes in: good calls are read, bad ones are refused with the field that is wrong."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, FalajError, InvalidInput
from falaj.core.segment import PredictionId
from falaj.inference.calls import Caller, TensorCall
from falaj.inference.entities import read_entities
from falaj.inference.errors import Malformed
from falaj.inference.feedback import read_labels
from falaj.inference.tensors import read_infer as read_call

KEY = b"k" * 32
NOW = datetime(2013, 5, 2, tzinfo=UTC)
ID = PredictionId(0, 0, 1367400600000).issue(KEY)
LABEL = {"id": ID, "label": 1, "at": "2013-05-01T12:00:00Z"}


def read_infer(body: bytes) -> TensorCall:
    return read_call(body, name="delay", version=None, caller=Caller(Actor("app", "service"), "", "", 0.0))


def tensor(**changes: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "X", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, None, 4], **changes}]}
    ).encode()


def long(**changes: Any) -> bytes:
    return tensor(shape=[400, 2], data=[1, 2, 3, 4] * 200, **changes)


def test_flat_and_nested_data_are_the_same_matrix() -> None:
    flat, nested = read_infer(tensor()), read_infer(tensor(data=[[1, 2.5], [None, 4]]))
    np.testing.assert_array_equal(flat.matrix, nested.matrix)
    assert np.isnan(flat.matrix[1, 0])


def test_numbers_are_logged_as_the_text_they_came_in() -> None:
    data = [1, 2.5, 3e1, -4] * 100
    assert read_infer(tensor(shape=[200, 2], data=data)).raw == json.dumps(data).encode()
    assert read_infer(tensor(data=data[:4])).raw == b"[1.0,2.5,30.0,-4.0]"


@pytest.mark.parametrize(
    "body",
    [
        tensor(),
        tensor(data=[[1, 2], [3, 4]]),
        long().replace(b", 4]", b",\n4]"),
        long().replace(b'"inputs"', b'"data": [9], "inputs"'),
        long().replace(b'"data"', b'"dat\\u0061"'),
        long(name="data"),
    ],
    ids=["a gap", "row by row", "a line break", "another data", "an escaped name", "a name like it"],
)
def test_where_the_text_is_not_certain_it_is_written_anew(body: bytes) -> None:
    assert read_infer(body).raw is None


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 3]},
        {"shape": [4]},
        {"shape": [0, 2]},
        {"shape": [-1, 2]},
        {"shape": [True, 4]},
        {"shape": "2,2"},
        {"shape": [5000, 1]},
        {"shape": None},
        {"datatype": "BYTES"},
        {"datatype": "INT64"},
        {"datatype": 7},
        {"datatype": ["FP32"]},
        {"data": []},
        {"data": None},
        {"data": "1234"},
        {"data": {"a": 1}},
        {"data": ["1", 2, 3, 4]},
        {"data": [True, 2, 3, 4]},
        {"data": [[1, 2], 3, 4]},
        {"data": [1, [2], 3, 4]},
        {"data": [[1, 2], [3]]},
        {"data": [1e300, 2, 3, 4]},
        {"data": [[[1], 2], [3, 4]]},
        {"name": 5},
    ],
)
def test_a_wrong_tensor_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_infer(tensor(**changes))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"inputs": 1}', b'{"inputs":[{"data":[NaN]}]}', b"\xff", b"[" * 5000]
)
def test_what_is_no_inference_request_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_infer(body)


def test_one_object_or_a_list_of_them() -> None:
    assert read_entities(b'{"a": 1}') == ([{"a": 1}], True, "")
    assert read_entities(b'{"requests": [{"a": 1}], "id": "x"}') == ([{"a": 1}], False, "x")


@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b'{"requests": []}', b'{"requests": 1}', b'{"requests": [1]}', json.dumps({"requests": [{}] * 257}).encode()],
)
def test_wrong_requests_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_entities(body)


def labels(*rows: Any) -> bytes:
    return json.dumps({"labels": rows}).encode()


def test_a_label_is_read() -> None:
    [found] = read_labels(labels({**LABEL, "facts": {"delay": 20}}), KEY, NOW)
    assert (found.id, found.value, found.facts) == (ID, 1, {"delay": 20})


def test_a_label_from_before_its_prediction_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="label before its prediction") as caught:
        read_labels(labels(LABEL, {**LABEL, "at": "2013-05-01T09:29:59Z"}), KEY, NOW)
    assert caught.value.facts["index"] == 1


def test_a_label_at_the_very_time_of_its_prediction_is_taken() -> None:
    assert read_labels(labels({**LABEL, "at": "2013-05-01T09:30:00Z"}), KEY, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ID[:-1] + ("0" if ID[-1] != "0" else "1")},
        {"id": PredictionId(0, 0, 1).issue(b"x" * 32)},
        {"id": 5},
        {"id": "nonsense"},
        {"id": None},
        {"label": "1"},
        {"label": True},
        {"label": []},
        {"at": "yesterday"},
        {"at": "2013-05-01T12:00:00"},
        {"at": 5},
        {"facts": 1},
        {"extra": 1},
        {"at": "2013-05-03T00:00:00Z"},
    ],
)
def test_a_wrong_label_refuses_the_batch_and_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"labels\[1\]"):
        read_labels(labels(LABEL, {**LABEL, **changes}), KEY, NOW)


def test_replay_takes_labels_from_any_time_after_the_prediction() -> None:
    assert read_labels(labels({**LABEL, "at": "2213-05-03T00:00:00Z"}), KEY, None)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "labels", "requests", "shape", "data", "name", "datatype", "id", "at", "label"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_anything_is_either_read_or_refused(body: Any) -> None:
    data = json.dumps(body).encode()
    for read in (read_infer, read_entities, lambda raw: read_labels(raw, KEY, NOW)):
        try:
            read(data)
        except FalajError as exc:
            found = exc.http_status
            assert found in (400, 409, 422)
