"""A ModelInfer message as a call by tensor, and the answer as bytes: what came raw leaves raw, what came typed leaves typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from falaj.core.errors import InvalidInput
from falaj.inference.calls import Answered, Caller, Matrix, TensorCall
from falaj.inference.deadlines import deadline_of
from falaj.inference.errors import Malformed
from falaj.inference.grpc.messages import message
from falaj.inference.models import Live, Serving
from falaj.inference.tensors import MAX_ROWS
from falaj.inference.tensors_binary import DTYPES, numbers, read_tensor, rows_and_columns, write_texts
from falaj.inference.tensors_mixed import IDS, as_one, check_wish
from falaj.inference.text import MAX_TEXT, text_of, unit_of

_Request = message("inference.ModelInferRequest")
_Response = message("inference.ModelInferResponse")
_StreamResponse = message("inference.ModelStreamInferResponse")

_HINT = "send inputs with name, datatype FP32, shape [rows, columns], and their bytes in raw_input_contents."
_LISTS: Mapping[str, str] = {
    # datatype: the list of InferTensorContents that holds its values; the protocol has none for FP16
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
_READ = ("unit", "at", "timeout")
_RAW = 6 << 3 | 2
"""The key of `ModelInferResponse.raw_output_contents`: field 6, length-delimited."""


@dataclass(slots=True)
class Asked:
    """A call, and whether its answer is to be raw."""

    call: TensorCall
    is_raw: bool


def read_infer(data: bytes, caller: Caller, serving: Serving | None) -> Asked:
    """Raises Malformed for bytes that are no such message, InvalidInput for tensors that do not fit their shape or the model."""
    try:
        request = _Request.FromString(data)
    except DecodeError as exc:
        raise Malformed("The message is no ModelInferRequest.", _HINT) from exc
    name, matrix, is_raw = _common(request, serving) or _any(request, serving)
    unit, at = "", None
    if request.parameters:
        given = {key: _parameter(value) for key, value in request.parameters.items() if key in _READ}
        unit, at = unit_of(given.get("unit"), "parameters.unit"), given.get("at")
        until = deadline_of({}, given, caller.started, 0.0)
        if until and (not caller.deadline or until < caller.deadline):
            caller.deadline = until
    wanted = _wanted(request.outputs) if request.outputs else None
    call_id = request.id
    if call_id:
        text_of(call_id, "id")
    version = request.model_version or None
    return Asked(TensorCall(request.model_name, version, name, matrix, unit, at, wanted, call_id, "grpc", caller), is_raw)


def _common(request: Any, serving: Serving | None) -> tuple[str, Matrix, bool] | None:
    """The matrix of what nearly all calls are, one raw FP32 tensor with two sizes; None for all others and whatever is wrong."""
    inputs, raw = request.inputs, request.raw_input_contents
    if len(inputs) != 1 or len(raw) != 1 or serving is None:
        return None
    tensor, data = inputs[0], raw[0]
    shape = tensor.shape
    if tensor.datatype != "FP32" or len(shape) != 2 or tensor.name != serving.arms[0].model.input or tensor.HasField("contents"):
        return None
    rows, columns = shape
    if not 0 < rows <= MAX_ROWS or columns < 1 or rows * columns * 4 != len(data):
        return None
    flat = np.frombuffer(data, np.float32)
    # A NaN fails both: what is missing takes the other way too.
    if not (flat.max() < _INFINITE and flat.min() > -_INFINITE):
        return None
    return tensor.name, flat.reshape(rows, columns), True


_INFINITE = float("inf")


def _any(request: Any, serving: Serving | None) -> tuple[str, Matrix, bool]:
    inputs, raw = request.inputs, request.raw_input_contents
    if not inputs:
        raise InvalidInput("The request has no inputs.", _HINT)
    if raw and len(raw) != len(inputs):
        raise InvalidInput(f"{len(raw)} raw contents came for {len(inputs)} inputs.", "send one for each input, in their order.")
    tensors = [(tensor.name[:MAX_TEXT], _values(tensor, raw[index] if raw else None)) for index, tensor in enumerate(inputs)]
    return *as_one(tensors, serving), bool(raw)


def _wanted(outputs: Any) -> tuple[str, ...]:
    for output in outputs:
        check_wish(output.name, output.parameters)
    return tuple(output.name for output in outputs)


def id_of(data: bytes) -> str:
    """The id of a message that may be wrong in everything else: an error on a stream has to say whose it is."""
    try:
        found: str = _Request.FromString(data).id
        return text_of(found, "id")
    except (DecodeError, InvalidInput):
        return ""


def _values(tensor: Any, raw: bytes | None) -> Matrix:
    if raw is None:
        return _typed(tensor)
    if tensor.HasField("contents"):
        raise InvalidInput(f"The data of {tensor.name[:MAX_TEXT]!r} came twice.", "send raw contents or typed ones, not both.")
    return read_tensor(tensor.name[:MAX_TEXT], tensor.datatype, tensor.shape, raw)


def _typed(tensor: Any) -> Matrix:
    """The values of `contents`, which must lie in the list of their datatype and in no other."""
    name, kind = tensor.name[:MAX_TEXT], tensor.datatype
    rows, columns = rows_and_columns(name, tensor.shape)
    where = _LISTS.get(kind)
    if where is None:
        raise InvalidInput(f"The datatype {kind[:MAX_TEXT]!r} is not taken as contents.", f"there is: {', '.join(_LISTS)}.")
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != where]
    values = getattr(tensor.contents, where)
    if others or len(values) != rows * columns:
        seen = f"holds {others[0]}" if others else f"holds {len(values)} values, its shape asks for {rows * columns}"
        raise InvalidInput(f"The data of {name!r} {seen}.", f"{kind} values lie in {where}, all of them and no others.")
    wide = np.array(values)
    dtype = DTYPES[kind]
    if dtype.kind in "iu" and (wide.min() < np.iinfo(dtype).min or wide.max() > np.iinfo(dtype).max):
        raise InvalidInput(f"The data of {name!r} is not {kind}: a number is too large for it.", "choose a wider datatype.")
    return numbers(name, kind, wide.astype(dtype).reshape(rows, columns))


def _parameter(value: Any) -> Any:
    chosen = value.WhichOneof("parameter_choice")
    return None if chosen is None else getattr(value, chosen)


class Answers:
    """Writes answers. What is the same in all answers of an arm is made once and followed by what is not: the wire format lets
    parts of a message stand one after the other (Protocol Buffers, "Last One Wins")."""

    def __init__(self) -> None:
        self._heads: dict[tuple[Any, ...], tuple[Live, bytes]] = {}

    def write(self, asked: Asked, answered: Answered) -> bytes:
        """A ModelInferResponse."""
        if not asked.is_raw:
            return _typed_answer(asked.call, answered)
        call, live = asked.call, answered.live
        outputs = answered.outputs
        key = (id(live), call.name, call.wanted, len(answered.ids), *[output.shape for output in outputs])
        head = self._heads.get(key)
        if head is None or head[0] is not live:
            head = self._heads[key] = live, _head(call, answered).SerializeToString()
            if len(self._heads) > 256:
                self._heads.clear()
        parts = [head[1]]
        for values in _ordered(call, answered):
            data = values.tobytes() if isinstance(values, np.ndarray) else write_texts(values)
            parts += (_key(_RAW, len(data)), data)
        if call.id:
            encoded = call.id.encode()
            parts += (_key(3 << 3 | 2, len(encoded)), encoded)
        return b"".join(parts)


def stream_answer(answer: bytes) -> bytes:
    """The ModelStreamInferResponse around an answer: its field 2."""
    return _key(2 << 3 | 2, len(answer)) + answer


def stream_error(text: str, call_id: str) -> bytes:
    """The ModelStreamInferResponse of a call that was refused. The stream goes on."""
    data: bytes = _StreamResponse(error_message=text, infer_response=_Response(id=call_id)).SerializeToString()
    return data


def _head(call: TensorCall, answered: Answered) -> Any:
    """The answer without its id and values."""
    live = answered.live
    response = _Response(model_name=call.name, model_version=live.version)
    response.parameters["arm"].string_param = live.arm.role
    response.parameters["release"].string_param = live.arm.release
    specs = {spec.name: (spec.datatype, values.shape) for spec, values in zip(live.model.outputs, answered.outputs, strict=True)}
    specs[IDS] = "BYTES", (len(answered.ids),)
    for name in specs if call.wanted is None else call.wanted:
        datatype, shape = specs[name]
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    return response


def _ordered(call: TensorCall, answered: Answered) -> list[Any]:
    """The values of the outputs that were asked for."""
    if call.wanted is None:
        return [*answered.outputs, answered.ids]
    by_name: dict[str, Any] = dict(zip((spec.name for spec in answered.live.model.outputs), answered.outputs, strict=True))
    by_name[IDS] = answered.ids
    return [by_name[name] for name in call.wanted]


def _typed_answer(call: TensorCall, answered: Answered) -> bytes:
    response = _head(call, answered)
    response.id = call.id
    for output, values in zip(response.outputs, _ordered(call, answered), strict=True):
        if isinstance(values, np.ndarray):
            getattr(output.contents, _LISTS[output.datatype]).extend(values.ravel().tolist())
        else:
            output.contents.bytes_contents.extend(text.encode() for text in values)
    data: bytes = response.SerializeToString()
    return data


def _key(field: int, size: int) -> bytes:
    """A field's key and length (Protocol Buffers, "Base 128 Varints")."""
    if size < 128:
        return bytes((field, size))
    key = bytearray((field,))
    while size > 127:
        key.append(size & 127 | 128)
        size >>= 7
    key.append(size)
    return bytes(key)
