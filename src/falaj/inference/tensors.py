"""The Open Inference Protocol's tensors as JSON: a request's matrix in, the model's outputs and the prediction ids out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import Raw, Struct
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.inference.calls import Answered, Caller, Matrix, TensorCall
from falaj.inference.errors import Malformed
from falaj.inference.text import MAX_TEXT, quoted, text_of, unit_of

MAX_ROWS = 1024
MAX_COLUMNS = 100_000
FP32_MAX = float(np.finfo(np.float32).max)
HINT = 'send {"inputs":[{"name":…,"shape":[n,k],"datatype":"FP32","data":[…]}]}.'
_LONG = 1024
"""Bytes of a body beyond which the text of its numbers is looked for, to be logged as it came."""
_FEW = 64
"""Numbers below which Python compares faster than numpy starts."""


class _Output(Struct):
    name: str


class _Flat(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class _Usual(Struct):
    """What nearly every request is: numbers in one flat list, none of them missing."""

    inputs: list[_Flat]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Raw = Raw()


class _Any(Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_usual = msgspec.json.Decoder(_Usual)
_any = msgspec.json.Decoder(_Any)
_DTYPES: Mapping[str, type[np.float32] | type[np.float64]] = {"FP32": np.float32, "FP64": np.float64, "INT64": np.float64}
_gaps: Mapping[str, msgspec.json.Decoder[Any]] = {
    # null stands where a number is missing; bool and text are refused: a number in quotes is a mistake that would go unseen
    "FP32": msgspec.json.Decoder(list[float | None]),
    "FP64": msgspec.json.Decoder(list[float | None]),
    "INT64": msgspec.json.Decoder(list[int]),
}
_rows: Mapping[str, msgspec.json.Decoder[Any]] = {
    "FP32": msgspec.json.Decoder(list[list[float | None]]),
    "FP64": msgspec.json.Decoder(list[list[float | None]]),
    "INT64": msgspec.json.Decoder(list[list[int]]),
}


def read_infer(body: bytes, *, name: str, version: str | None, caller: Caller) -> TensorCall:
    """Raises Malformed for what is no JSON, InvalidInput for another form or a tensor that does not fit its shape."""
    try:
        found: _Usual | _Any = _usual.decode(body)
        if len(found.inputs) != 1 or found.inputs[0].datatype == "INT64":
            found = _decoded(body)
    except (ValueError, RecursionError):
        found = _decoded(body)
    if len(found.inputs) != 1:
        raise InvalidInput(f"There must be one input, got {len(found.inputs)}.", HINT)
    tensor, parameters = found.inputs[0], found.parameters
    if tensor.datatype not in _DTYPES:
        raise InvalidInput(f"The datatype {tensor.datatype[:80]!r} is not taken.", f"there is: {', '.join(_DTYPES)}.")
    check_shape(tensor.name, tensor.shape)
    if isinstance(tensor, _Flat):
        flat = tensor.data
        # Few numbers are written anew sooner than their text is found.
        raw = _text_of(body) if len(body) > _LONG else orjson.dumps(flat)
    else:
        flat, raw = _uneven(tensor), None
    unit, at = "", None
    if parameters:
        unit, at = unit_of(parameters.get("unit"), "parameters.unit"), parameters.get("at")
    return TensorCall(
        name, version, tensor.name, _matrix(tensor, flat), unit, at,
        tuple([output.name for output in found.outputs]) if found.outputs else None,
        text_of(found.id, "id") if found.id else "", "v2", caller, raw, parameters,
    )  # fmt: skip


def _decoded(body: bytes) -> _Any:
    try:
        return _any.decode(body)
    except msgspec.ValidationError as exc:
        raise Malformed(f"The body is not an inference request: {exc}.", HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"The body is not JSON: {exc}.", "null stands where a number is missing; JSON has no NaN.") from exc


def _text_of(body: bytes) -> bytes | None:
    """The text of the numbers as it came. None where it is not certain which text they are: then they are written anew."""
    key = body.find(b'"data"')
    start, end = body.find(b"[", key), body.find(b"]", key)
    if body.find(b'"data"', key + 1) >= 0 or body[key + 6 : start].strip() != b":":
        return None
    found = body[start : end + 1]
    # A flat list of numbers holds nothing else, and a line of the log no line break.
    return found if found.find(b"[", 1) < 0 and b'"' not in found and b"\n" not in found else None


def _matrix(tensor: _Flat | _Tensor, flat: list[Any]) -> Matrix:
    rows, columns = tensor.shape
    if len(flat) != rows * columns:
        raise InvalidInput(
            f"The data of {tensor.name[:MAX_TEXT]!r} holds {len(flat)} numbers, "
            f"its shape [{rows}, {columns}] asks for {rows * columns}."
        )
    found: Matrix = _array(tensor, flat).reshape(tensor.shape)
    return found


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidInput for anything but a matrix of at least one row and column and at most MAX_ROWS rows."""
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 1 or shape[1] > MAX_COLUMNS:
        seen = [size if abs(size) < 10**9 else "too much" for size in shape[:8]]
        raise InvalidInput(f"The shape of {name[:MAX_TEXT]!r} must be [rows, columns], got {seen}.", HINT)
    if shape[0] > MAX_ROWS:
        raise InvalidInput(f"One call takes at most {MAX_ROWS} rows, got more.", "send the rest in another call.")


def check_range(name: str, matrix: Matrix) -> None:
    """Raises InvalidInput for what FP32 cannot carry. NaN is a number that is missing."""
    if np.maximum.reduce(matrix, axis=None) <= FP32_MAX and np.minimum.reduce(matrix, axis=None) >= -FP32_MAX:
        return
    if (np.abs(matrix) > FP32_MAX).any():  # a NaN fails every comparison above
        raise _beyond(name)


def _array(tensor: _Flat | _Tensor, flat: list[Any]) -> Matrix:
    """One dimension. Compared before it is narrowed: what FP32 cannot carry would become infinite in silence."""
    if isinstance(tensor, _Flat):
        return array_of(tensor.name, flat, _DTYPES[tensor.datatype])
    wide = np.array(flat, dtype=np.float64)
    check_range(tensor.name, wide)
    return wide if _DTYPES[tensor.datatype] is np.float64 else wide.astype(np.float32)


def array_of(name: str, flat: list[float], dtype: Any = np.float32) -> Matrix:
    """Finite numbers as an array of one dimension. Raises InvalidInput for one that FP32 cannot carry."""
    if len(flat) <= _FEW:
        if min(flat) >= -FP32_MAX and max(flat) <= FP32_MAX:
            few: Matrix = np.array(flat, dtype)
            return few
        raise _beyond(name)
    wide = np.fromiter(flat, np.float64, len(flat))
    check_range(name, wide)
    return wide if dtype is np.float64 else wide.astype(np.float32)


def _beyond(name: str) -> InvalidInput:
    return InvalidInput(
        f"The data of {name[:MAX_TEXT]!r} holds a number beyond what FP32 can carry.", "null stands where a number is missing."
    )


def _uneven(tensor: _Tensor) -> list[Any]:
    """Numbers with gaps, whole numbers, or numbers row by row. Raises InvalidInput naming what is no number."""
    name, shape, data = tensor.name[:MAX_TEXT], tensor.shape, bytes(tensor.data)
    try:
        if data.lstrip()[1:].lstrip().startswith(b"["):
            rows = _rows[tensor.datatype].decode(data)
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                raise InvalidInput(
                    f"The data of {name!r} is not {shape[0]} rows of {shape[1]}.", "the lengths must be those of `shape`."
                )
            return list(chain.from_iterable(rows))
        found: list[Any] = _gaps[tensor.datatype].decode(data or b"null")
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"The data of {name!r} is not {tensor.datatype}: {exc}.", "send numbers, flat or row by row.") from exc
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"The data of {name!r} is not JSON: {exc}.", HINT) from exc
    return found


def check_outputs(wanted: Sequence[str] | None, names: Sequence[str]) -> None:
    """Before anything is predicted: raises InvalidInput for an output that does not exist."""
    offered = (*names, "prediction_id")
    for name in wanted or ():
        if name not in offered:
            raise InvalidInput(f"There is no output {name[:MAX_TEXT]!r}.", f"there is: {', '.join(offered)}.")


def write_infer(answered: Answered, call: TensorCall) -> bytes:
    """The answer to a call by tensor: the model's outputs, and the ids of the predictions as a tensor of their own."""
    live, ids = answered.live, answered.ids
    outputs = live.model.outputs
    tensors = [
        f'{tensor_head(spec.name, spec.datatype)}{list(value.shape)},"data":{_numbers(value)}}}'
        for spec, value in zip(outputs, answered.outputs, strict=True)
    ]
    tensors.append(f'{{"name":"prediction_id","datatype":"BYTES","shape":[{len(ids)}],"data":["{_BETWEEN.join(ids)}"]}}')
    if call.wanted is not None:
        names = [*(spec.name for spec in outputs), "prediction_id"]
        tensors = [tensors[names.index(name)] for name in call.wanted]
    tail = f',"id":{quoted(call.id)}' if call.id else ""
    return f"{answer_head(call.name, live.version, live.arm.role, live.arm.release)}{','.join(tensors)}]{tail}}}".encode()


@functools.lru_cache(64)
def answer_head(name: str, version: str, role: str, release: str) -> str:
    """What an answer begins with, up to its first tensor."""
    return (
        f'{{"model_name":{quoted(name)},"model_version":{quoted(version)},'
        f'"parameters":{{"arm":{quoted(role)},"release":{quoted(release)}}},"outputs":['
    )


@functools.lru_cache(64)
def tensor_head(name: str, datatype: str) -> str:
    """What a tensor begins with, up to its shape."""
    return f'{{"name":{quoted(name)},"datatype":"{datatype}","shape":'


_BETWEEN = '","'


def _numbers(value: NDArray[Any]) -> str:
    """FP32 as the double that it is: the same digits as everywhere else that the score is told."""
    return orjson.dumps(value.ravel().tolist()).decode()
