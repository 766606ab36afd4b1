"""Any bytes at all as a ModelInfer message: read or refused, and an answer is what the protocol's own library reads."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import FalajError
from falaj.inference.calls import Answered, Caller
from falaj.inference.grpc.infer import Answers, id_of, read_infer, stream_answer, stream_error
from falaj.inference.grpc.messages import message

Request, Response, StreamResponse = (
    message(f"inference.{name}") for name in ("ModelInferRequest", "ModelInferResponse", "ModelStreamInferResponse")
)
MODEL = SimpleNamespace(
    input="X", recipe=SimpleNamespace(names=("a", "b")), outputs=(SimpleNamespace(name="p", datatype="FP32"),)
)
SERVING: Any = SimpleNamespace(arms=(SimpleNamespace(model=MODEL),))
GOOD = Request(
    model_name="m",
    id="1",
    inputs=[{"name": "X", "datatype": "FP32", "shape": [1, 2]}],
    raw_input_contents=[np.array([1, 2], np.float32).tobytes()],
    parameters={"unit": {"string_param": "u"}},
).SerializeToString()


def caller() -> Caller:
    return Caller(Actor("me", "service"), "", "", 0.0)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(FalajError):
        read_infer(data, caller(), SERVING)
    assert isinstance(id_of(data), str)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, len(GOOD)))
def test_a_damaged_message_is_read_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    for text in (bytes(data), bytes(data[:cut])):
        try:
            found = read_infer(text, caller(), SERVING)
        except FalajError:
            continue
        assert found.call.matrix.ndim == 2
        assert not np.isinf(found.call.matrix).any()


def test_the_usual_call_is_read_without_a_copy() -> None:
    found = read_infer(GOOD, caller(), SERVING)
    assert (found.call.name, found.call.id, found.call.unit, found.call.via, found.is_raw) == ("m", "1", "u", "grpc", True)
    assert found.call.matrix.tolist() == [[1, 2]]


@given(st.integers(1, 200), st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=200), st.booleans())
def test_an_answer_of_any_size_is_what_the_library_reads(rows: int, call_id: str, names_outputs: bool) -> None:
    asked = read_infer(GOOD, caller(), SERVING)
    asked.call.id = call_id
    asked.call.wanted = ("prediction_id", "p") if names_outputs else None
    live: Any = SimpleNamespace(
        model=MODEL, version="3", arm=SimpleNamespace(role="champion", release="release/m@1"), role="champion"
    )
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    answered = Answered(live, [f"p0-{row}" for row in range(rows)], [0.0] * rows, [values], [])
    answers = Answers()
    for _ in range(2):  # the second one from what was kept of the first
        data = answers.write(asked, answered)
        found = Response.FromString(data)
        raw = dict(zip((output.name for output in found.outputs), found.raw_output_contents, strict=True))
        assert (found.model_name, found.model_version, found.id) == ("m", "3", call_id)
        assert raw["p"] == values.tobytes()
        assert [list(output.shape) for output in found.outputs if output.name == "prediction_id"] == [[rows]]
    assert StreamResponse.FromString(stream_answer(data)).infer_response == found


def test_an_error_on_a_stream_says_whose_it_is() -> None:
    found = StreamResponse.FromString(stream_error("no", id_of(GOOD)))
    assert (found.error_message, found.infer_response.id) == ("no", "1")
