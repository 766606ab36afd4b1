"""REST calls by tensor in every form that the protocol has: several inputs, JSON and bytes side by side, outputs as bytes.

What nearly all callers send, one JSON matrix, is read and written faster by falaj.inference.tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from falaj.core.errors import InvalidInput
from falaj.inference.calls import Answered, Caller, Matrix, TensorCall
from falaj.inference.errors import Malformed
from falaj.inference.models import Serving
from falaj.inference.tensors import HINT
from falaj.inference.tensors_binary import (
    DTYPES,
    Tensor,
    join_columns,
    numbers,
    read_tensor,
    rows_and_columns,
    split_binary,
    split_body,
    write_outputs,
)
from falaj.inference.text import MAX_TEXT, text_of, unit_of

IDS = "prediction_id"
_SIZE, _WISH, _WISH_ALL = "binary_data_size", "binary_data", "binary_data_output"


class _Input(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Any] | None = None


class _Output(Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_request = msgspec.json.Decoder(_Request)
_values = msgspec.json.Decoder(list[Any])


@dataclass(slots=True)
class Wish:
    """Which outputs are wanted as bytes: those that are named, and for the others what holds for all."""

    all: bool = False
    named: dict[str, bool] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        return self.named.get(name, self.all)


@dataclass(slots=True)
class Address:
    """What the path and the headers of a request say."""

    name: str
    version: str | None
    caller: Caller
    header_length: bytes | None = None
    """The header Inference-Header-Content-Length, if there is one."""


def is_common(body: bytes, header_length: bytes | None) -> bool:
    """Whether falaj.inference.tensors reads it: at most one tensor, and not a word of bytes. A doubtful case is not."""
    if header_length is not None or b"binary_data" in body:
        return False
    first = body.find(b'"datatype"')
    return body.find(b'"datatype"', first + 1) < 0


def read_mixed(body: bytes, request: Address, serving: Serving | None) -> tuple[TensorCall, Wish]:
    """The call, and which outputs are wanted as bytes. Raises Malformed or InvalidInput."""
    header_length = request.header_length
    head, binary = body, memoryview(b"")
    if header_length is not None:
        if not header_length.isdigit() or len(header_length) > 12:
            raise Malformed("Inference-Header-Content-Length is no number.", "it is the length of the JSON in bytes.")
        head, binary = split_body(body, int(header_length))
    try:
        found = _request.decode(head)
    except msgspec.ValidationError as exc:
        raise Malformed(f"The body is not an inference request: {exc}.", HINT) from exc
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"The body is not JSON: {exc}.", "null stands where a number is missing; JSON has no NaN.") from exc
    if not found.inputs:
        raise InvalidInput("The request has no inputs.", HINT)
    parts = split_binary(binary, [(tensor.parameters or {}).get(_SIZE) for tensor in found.inputs])
    tensors = [(tensor.name[:MAX_TEXT], _matrix(tensor, part)) for tensor, part in zip(found.inputs, parts, strict=True)]
    name, matrix = as_one(tensors, serving)
    parameters = found.parameters or {}
    call = TensorCall(
        request.name,
        request.version,
        name,
        matrix,
        unit_of(parameters.get("unit"), "parameters.unit"),
        parameters.get("at"),
        tuple(output.name for output in found.outputs) if found.outputs else None,
        text_of(found.id, "id"),
        "v2",
        request.caller,
        None,
        parameters or None,
    )
    return call, _wish(parameters, found.outputs or [])


def write_mixed(answered: Answered, call: TensorCall, wish: Wish) -> tuple[bytes, bytes]:
    """(body, header lines) of the answer."""
    live = answered.live
    tensors = [
        Tensor(spec.name, spec.datatype, value.shape, value)
        for spec, value in zip(live.model.outputs, answered.outputs, strict=True)
    ]
    tensors.append(Tensor(IDS, "BYTES", (len(answered.ids),), answered.ids))
    if call.wanted is not None:
        by_name = {tensor.name: tensor for tensor in tensors}
        tensors = [by_name[one] for one in call.wanted]
    about: dict[str, Any] = {"model_name": call.name, "model_version": live.version}
    if call.id:
        about["id"] = call.id
    about["parameters"] = {"arm": live.arm.role, "release": live.arm.release}
    binary = {tensor.name for tensor in tensors if wish.holds(tensor.name)}
    head, parts = write_outputs(about, tensors, binary)
    if not binary:
        return head, b"content-type: application/json\r\n"
    lines = f"content-type: application/octet-stream\r\ninference-header-content-length: {len(head)}\r\n"
    return b"".join((head, *parts)), lines.encode()


def as_one(tensors: Sequence[tuple[str, Matrix]], serving: Serving | None) -> tuple[str, Matrix]:
    """(input, matrix) of a call: its only tensor, or its columns put together in the model's order.

    Raises InvalidInput where they are not the model's columns, or where the models that answer here take different ones.
    """
    if serving is None or not serving.arms:
        return tensors[0]
    model = serving.arms[0].model
    names = model.recipe.names
    if len(tensors) == 1 and (tensors[0][0] == model.input or tensors[0][0] not in names):
        return tensors[0]
    if any(live.model.recipe.names != names for live in serving.arms):
        raise InvalidInput("The models that answer here take different columns.", "send requests by entity, to /v1/models.")
    return model.input, join_columns(names, tensors)


def check_wish(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises InvalidInput for what an output cannot be given as."""
    odd = next((key for key in parameters if key != _WISH), None)
    if odd is not None:
        raise InvalidInput(
            f"The output {name[:MAX_TEXT]!r} cannot be given with {odd[:MAX_TEXT]!r}.",
            "outputs are given as values: JSON or bytes.",
        )


def _wish(parameters: Mapping[str, Any], outputs: Sequence[_Output]) -> Wish:
    wish = Wish(_flag(parameters, _WISH_ALL) or False)
    for output in outputs:
        check_wish(output.name, output.parameters or {})
        wanted = _flag(output.parameters or {}, _WISH)
        if wanted is not None:
            wish.named[output.name] = wanted
    return wish


def _flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"The parameter {name!r} must be true or false, got {str(value)[:MAX_TEXT]!r}.")
    return value


def _matrix(tensor: _Input, part: memoryview | None) -> Matrix:
    name = tensor.name[:MAX_TEXT]
    if part is None:
        if isinstance(tensor.data, UnsetType):
            raise InvalidInput(f"The tensor {name!r} has no data.", f"send `data`, or bytes and their {_SIZE}.")
        return _from_json(tensor, tensor.data)
    if not isinstance(tensor.data, UnsetType):
        raise InvalidInput(f"The data of {name!r} came twice.", f"send `data` or bytes and their {_SIZE}, not both.")
    return read_tensor(name, tensor.datatype, tensor.shape, part)


_KINDS: Mapping[str, tuple[type, ...]] = {"b": (bool,), "u": (int,), "i": (int,), "f": (float, int, type(None))}
"""The kind of a datatype in memory → the JSON types that its values may have; null stands where a number is missing."""


def _from_json(tensor: _Input, data: Raw) -> Matrix:
    name, kind = tensor.name[:MAX_TEXT], tensor.datatype
    rows, columns = rows_and_columns(name, tensor.shape)
    if kind not in DTYPES:
        raise InvalidInput(f"The datatype {kind[:MAX_TEXT]!r} is not taken.", f"there is: {', '.join(DTYPES)}.")
    try:
        flat = _values.decode(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"The data of {name!r} is not a list: {exc}.", "send numbers, flat or row by row.") from exc
    if flat and isinstance(flat[0], list):
        if len(flat) != rows or any(not isinstance(row, list) or len(row) != columns for row in flat):
            raise InvalidInput(f"The data of {name!r} is not {rows} rows of {columns}.", "the lengths must be those of `shape`.")
        flat = list(chain.from_iterable(flat))
    if len(flat) != rows * columns:
        raise InvalidInput(f"The data of {name!r} holds {len(flat)} values, its shape asks for {rows * columns}.")
    dtype = DTYPES[kind]
    odd = next((value for value in flat if type(value) not in _KINDS[dtype.kind]), None)
    if odd is not None or (None in flat and dtype.kind != "f"):
        raise InvalidInput(
            f"The data of {name!r} is not {kind}: it holds {str(odd)[:80]!r}.", "send numbers, flat or row by row."
        )
    try:
        values = np.array(flat, np.float64 if dtype.kind == "f" else dtype)
    except OverflowError as exc:
        raise InvalidInput(
            f"The data of {name!r} is not {kind}: a number is too large for it.", "choose a wider datatype."
        ) from exc
    return numbers(name, kind, values.reshape(rows, columns))
