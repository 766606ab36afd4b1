"""The Open Inference Protocol's tensors as JSON: a request's matrix in, the model's outputs and the prediction ids out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import Raw, Struct

from falaj.core.errors import InvalidInput
from falaj.inference.calls import Answered, Matrix
from falaj.inference.errors import Malformed
from falaj.inference.text import MAX_TEXT, text_of, unit_of

MAX_ROWS = 1024
FP32_MAX = float(np.finfo(np.float32).max)
HINT = 'send {"inputs":[{"name":…,"shape":[n,k],"datatype":"FP32","data":[…]}]}.'
_FEW = 64
"""Numbers below which Python compares faster than numpy starts."""


class _Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Raw


class _Output(Struct):
    name: str


class _Request(Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_request = msgspec.json.Decoder(_Request)
_DTYPES: Mapping[str, type[np.float32] | type[np.float64]] = {"FP32": np.float32, "FP64": np.float64, "INT64": np.float64}
_numbers: Mapping[str, msgspec.json.Decoder[Any]] = {
    # bool and text are refused: a number in quotes is a mistake of the caller's that would go unseen
    "FP32": msgspec.json.Decoder(list[float]),
    "FP64": msgspec.json.Decoder(list[float]),
    "INT64": msgspec.json.Decoder(list[int]),
}
_gaps: Mapping[str, msgspec.json.Decoder[Any]] = {
    # null stands where a number is missing
    "FP32": msgspec.json.Decoder(list[float | None]),
    "FP64": msgspec.json.Decoder(list[float | None]),
    "INT64": msgspec.json.Decoder(list[int]),
}
_rows: Mapping[str, msgspec.json.Decoder[Any]] = {
    "FP32": msgspec.json.Decoder(list[list[float | None]]),
    "FP64": msgspec.json.Decoder(list[list[float | None]]),
    "INT64": msgspec.json.Decoder(list[list[int]]),
}


@dataclass(slots=True)
class Infer:
    """The body of a call by tensor."""

    id: str
    input: str
    matrix: Matrix
    raw: bytes | None
    unit: str
    at: Any
    wanted: tuple[str, ...] | None
    parameters: Mapping[str, Any]


def read_infer(body: bytes) -> Infer:
    """Raises Malformed for what is no JSON, InvalidInput for another form or a tensor that does not fit its shape."""
    try:
        found = _request.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"The body is not an inference request: {exc}.", HINT) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(f"The body is not JSON: {exc}.", "null stands where a number is missing; JSON has no NaN.") from exc
    if len(found.inputs) != 1:
        raise InvalidInput(f"There must be one input, got {len(found.inputs)}.", HINT)
    tensor, parameters = found.inputs[0], found.parameters or {}
    matrix, raw = _matrix(tensor)
    return Infer(
        text_of(found.id, "id"),
        tensor.name[:MAX_TEXT],
        matrix,
        raw,
        unit_of(parameters.get("unit"), "parameters.unit") if parameters else "",
        parameters.get("at"),
        tuple(output.name for output in found.outputs) if found.outputs else None,
        parameters,
    )


def _matrix(tensor: _Tensor) -> tuple[Matrix, bytes | None]:
    """The matrix, and its text where that can be logged as it is."""
    shape, name, kind = tensor.shape, tensor.name[:MAX_TEXT], tensor.datatype
    if kind not in _DTYPES:
        raise InvalidInput(f"The datatype {kind[:80]!r} is not taken.", f"there is: {', '.join(_DTYPES)}.")
    check_shape(name, shape)
    raw: bytes | None = bytes(tensor.data)
    try:
        flat = _numbers[kind].decode(tensor.data)
    except msgspec.ValidationError:
        flat, raw = _uneven(name, kind, tensor.data, shape), None
    except msgspec.DecodeError as exc:
        raise Malformed(f"The data of {name!r} is not JSON: {exc}.", HINT) from exc
    if len(flat) != shape[0] * shape[1]:
        raise InvalidInput(f"The data of {name!r} holds {len(flat)} numbers, its shape {shape} asks for {shape[0] * shape[1]}.")
    matrix = _array(name, kind, flat).reshape(shape)
    if raw is not None and b"\n" in raw:
        raw = None
    return matrix, raw


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidInput for anything but a matrix of at least one row and column and at most MAX_ROWS rows."""
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 1:
        raise InvalidInput(f"The shape of {name!r} must be [rows, columns], got {str(list(shape))[:80]}.", HINT)
    if shape[0] > MAX_ROWS:
        raise InvalidInput(f"One call takes at most {MAX_ROWS} rows, got {shape[0]}.", "send the rest in another call.")


def check_range(name: str, matrix: Matrix) -> None:
    """Raises InvalidInput for what FP32 cannot carry. NaN is a number that is missing."""
    if (np.abs(matrix) > FP32_MAX).any():
        raise _beyond(name)


def _array(name: str, kind: str, flat: list[Any]) -> Matrix:
    """One dimension. Compared before it is narrowed: what FP32 cannot carry would become infinite in silence."""
    if len(flat) <= _FEW and None not in flat:
        if min(flat) >= -FP32_MAX and max(flat) <= FP32_MAX:
            narrow: Matrix = np.array(flat, dtype=_DTYPES[kind])  # type: ignore[assignment]
            return narrow
        raise _beyond(name)
    wide = np.array(flat, dtype=np.float64)
    check_range(name, wide)
    return wide if _DTYPES[kind] is np.float64 else wide.astype(np.float32)


def _beyond(name: str) -> InvalidInput:
    return InvalidInput(
        f"The data of {name!r} holds a number beyond what FP32 can carry.", "null stands where a number is missing."
    )


def _uneven(name: str, kind: str, data: Raw, shape: Sequence[int]) -> list[Any]:
    """Numbers with gaps, or row by row. Raises InvalidInput naming what is no number."""
    try:
        if bytes(data).lstrip()[1:].lstrip().startswith(b"["):
            rows = _rows[kind].decode(data)
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                raise InvalidInput(
                    f"The data of {name!r} is not {shape[0]} rows of {shape[1]}.", "the lengths must be those of `shape`."
                )
            return list(chain.from_iterable(rows))
        found: list[Any] = _gaps[kind].decode(data)
    except msgspec.ValidationError as exc:
        raise InvalidInput(f"The data of {name!r} is not {kind}: {exc}.", "send numbers, flat or row by row.") from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Malformed(f"The data of {name!r} is not JSON: {exc}.", HINT) from exc
    return found


def check_outputs(wanted: Sequence[str] | None, names: Sequence[str]) -> None:
    """Before anything is predicted: raises InvalidInput for an output that does not exist."""
    offered = (*names, "prediction_id")
    for name in wanted or ():
        if name not in offered:
            raise InvalidInput(f"There is no output {name[:MAX_TEXT]!r}.", f"there is: {', '.join(offered)}.")


def write_infer(answered: Answered, *, name: str, id: str, wanted: Sequence[str] | None) -> bytes:  # noqa: A002
    """The answer to a call by tensor: the model's outputs, and the ids of the predictions as a tensor of their own."""
    live = answered.live
    tensors: list[dict[str, Any]] = [
        {"name": spec.name, "datatype": spec.datatype, "shape": value.shape, "data": value.ravel().tolist()}
        for spec, value in zip(live.model.outputs, answered.outputs, strict=True)
    ]
    ids = answered.ids
    tensors.append({"name": "prediction_id", "datatype": "BYTES", "shape": (len(ids),), "data": ids})
    if wanted is not None:
        by_name = {tensor["name"]: tensor for tensor in tensors}
        tensors = [by_name[one] for one in wanted]
    body = {
        "model_name": name,
        "model_version": live.version,
        "parameters": {"arm": live.arm.role, "release": live.arm.release},
        "outputs": tensors,
    }
    if id:
        body["id"] = id
    return orjson.dumps(body)
