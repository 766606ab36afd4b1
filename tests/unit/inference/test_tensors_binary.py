"""Tensors as bytes: what goes out comes back, and what does not fit its shape is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from falaj.core.errors import InvalidInput
from falaj.inference.errors import Malformed
from falaj.inference.tensors_binary import (
    DTYPES,
    Tensor,
    join_columns,
    read_tensor,
    read_texts,
    split_binary,
    split_body,
    write_outputs,
    write_texts,
    write_values,
)

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))
WHOLE = sorted(kind for kind in DTYPES if not kind.startswith("FP"))


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers_come_through_as_they_are(kind: str) -> None:
    @given(SIZES.flatmap(lambda size: arrays(DTYPES[kind], size)))
    def check(values: np.ndarray) -> None:
        found = read_tensor("x", kind, values.shape, write_values(Tensor("x", kind, values.shape, values)))
        assert found.dtype in (np.float32, np.float64)
        assert (found == values.astype(np.float64)).all()

    check()


@given(SIZES.flatmap(lambda size: arrays(np.float32, size, elements=st.floats(width=32, allow_infinity=False))))
def test_fp32_is_read_without_a_copy_and_a_nan_stays_missing(values: np.ndarray) -> None:
    data = values.tobytes()
    found = read_tensor("x", "FP32", values.shape, data)
    assert np.array_equal(found, values, equal_nan=True)
    assert not found.flags.owndata


@pytest.mark.parametrize("kind", ["FP16", "FP32", "FP64"])
def test_infinity_is_refused_also_beside_a_missing_number(kind: str) -> None:
    values = np.array([[np.nan, np.inf]], DTYPES[kind])
    with pytest.raises(InvalidInput, match="beyond what FP32"):
        read_tensor("x", kind, (1, 2), values.tobytes())


def test_a_double_that_fp32_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidInput, match="beyond what FP32"):
        read_tensor("x", "FP64", (1, 1), np.array([1e39]).tobytes())


def test_half_precision_keeps_its_values() -> None:
    values = np.array([[0.5, -65504.0]], np.float16)
    assert read_tensor("x", "FP16", (1, 2), values.tobytes()).tolist() == [[0.5, -65504.0]]


@given(st.binary(max_size=64), SIZES)
def test_data_of_another_size_than_its_shape_is_refused(data: bytes, shape: tuple[int, int]) -> None:
    if len(data) != shape[0] * shape[1] * 4:
        with pytest.raises(InvalidInput, match="asks for"):
            read_tensor("x", "FP32", shape, data)


@pytest.mark.parametrize("shape", [(), (0, 4), (-1, 4), (1, 2, 2), (1 << 40, 1 << 40), (True, 4), (1, 1 << 31), (2.0, 2)])
def test_a_shape_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="shape of 'x' must be"):
        read_tensor("x", "FP32", shape, b"\0" * 16)


def test_more_rows_than_a_call_may_have_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 1024 rows"):
        read_tensor("x", "FP32", (1025, 1), b"\0" * 4100)


@pytest.mark.parametrize("kind", ["BYTES", "BF16", "float", ""])
def test_a_datatype_that_holds_no_numbers_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput, match="is not taken"):
        read_tensor("x", kind, (1, 1), b"\0" * 4)


def test_a_bool_is_zero_or_one() -> None:
    with pytest.raises(InvalidInput, match="it holds 2"):
        read_tensor("x", "BOOL", (1, 3), b"\0\1\2")


@given(st.lists(st.text(max_size=20), max_size=10))
def test_texts_come_through_as_they_are(texts: list[str]) -> None:
    assert [text.decode() for text in read_texts("x", write_texts(texts), len(texts))] == texts


@given(st.binary(max_size=40), st.integers(0, 5))
def test_texts_of_any_bytes_are_read_or_refused(data: bytes, count: int) -> None:
    try:
        found = read_texts("x", data, count)
    except InvalidInput:
        return
    assert len(found) == count
    assert b"".join(len(one).to_bytes(4, "little") + one for one in found) == data


def test_columns_are_put_together_in_the_models_order() -> None:
    a, b = np.array([[1], [2]], np.float32), np.array([[3.5], [4.5]], np.float64)
    assert join_columns(("a", "b"), [("b", b), ("a", a)]).tolist() == [[1, 3.5], [2, 4.5]]


@pytest.mark.parametrize(
    ("given_names", "words"),
    [(("a",), "has no 'b'"), (("a", "b", "c"), "knows no 'c'"), (("a", "b", "a"), "has 'a' twice")],
)
def test_a_column_that_is_missing_unknown_or_there_twice_is_named(given_names: tuple[str, ...], words: str) -> None:
    column = np.zeros((1, 1), np.float32)
    with pytest.raises(InvalidInput, match=words):
        join_columns(("a", "b"), [(name, column) for name in given_names])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the first one has 1 rows"):
        join_columns(("a", "b"), [("a", np.zeros((1, 1), np.float32)), ("b", np.zeros((2, 1), np.float32))])


def test_a_body_is_split_where_its_json_ends() -> None:
    head, rest = split_body(b"{}abc", 2)
    assert (head, bytes(rest)) == (b"{}", b"abc")
    for length in (0, 6, -1):
        with pytest.raises(Malformed):
            split_body(b"{}abc", length)


def test_the_bytes_are_shared_out_by_the_sizes_that_the_tensors_give() -> None:
    first, none, second = split_binary(memoryview(b"abcde"), [2, None, 3])
    assert (bytes(first or b""), none, bytes(second or b"")) == (b"ab", None, b"cde")
    for sizes in ([2, 2], [6], [True], ["5"], [-5, 10]):
        with pytest.raises(InvalidInput):
            split_binary(memoryview(b"abcde"), sizes)


def test_outputs_are_written_as_bytes_only_where_that_was_asked_for() -> None:
    tensors = [
        Tensor("p", "FP32", (1, 2), np.array([[0.25, 0.75]], np.float32)),
        Tensor("n", "INT64", (1,), np.array([7])),
        Tensor("id", "BYTES", (1,), ["é"]),
    ]
    head, parts = write_outputs({"model_name": "m"}, tensors, {"p", "id"})
    assert head.decode() == (
        '{"model_name":"m","outputs":[{"name":"p","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},'
        '{"name":"n","datatype":"INT64","shape":[1],"data":[7]},'
        '{"name":"id","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}'
    )
    assert parts == [np.array([0.25, 0.75], np.float32).tobytes(), b"\2\0\0\0\xc3\xa9"]
