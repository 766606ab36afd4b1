"""Tensors as bytes: little-endian values row by row, as the Open Inference Protocol sends them over gRPC and beside JSON.

Sizes, shapes and datatypes are checked before anything is read. NaN stands where a number is missing; infinity is refused, as
it is in JSON. Format: the protocol's "Tensor Data" and its binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from falaj.core.errors import InvalidInput
from falaj.inference.calls import Matrix
from falaj.inference.errors import Malformed
from falaj.inference.tensors import FP32_MAX, MAX_ROWS

Buffer = bytes | memoryview

_SHOWN = 80

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""datatype → how its values lie in memory. BYTES has a length before each value instead; BF16 is not taken."""
_EXACT_IN_FP32 = frozenset({"BOOL", "UINT8", "UINT16", "INT8", "INT16", "FP16", "FP32"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of an answer. `values`: an array of numbers, or the texts of a BYTES tensor in their order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | Sequence[str]


def split_body(body: bytes, header_length: int) -> tuple[bytes, memoryview]:
    """(JSON, the tensors behind it) of a request with `Inference-Header-Content-Length`. Raises Malformed."""
    if not 0 < header_length <= len(body):
        raise Malformed(
            f"The JSON is said to be {header_length} bytes of a body of {len(body)}.",
            "Inference-Header-Content-Length is the length of the JSON alone.",
        )
    return body[:header_length], memoryview(body)[header_length:]


def split_binary(binary: memoryview, sizes: Sequence[Any]) -> list[memoryview | None]:
    """The part of each tensor, by the `binary_data_size` that its parameters give; None for a tensor that gives none.

    Raises InvalidInput for a size that is none, or where the sizes are not those of the bytes that came.
    """
    parts: list[memoryview | None] = []
    at = 0
    for size in sizes:
        if size is None:
            parts.append(None)
            continue
        if type(size) is not int or size < 0:
            raise InvalidInput(f"`binary_data_size` must be a number of bytes, got {str(size)[:_SHOWN]!r}.")
        parts.append(binary[at : at + size])
        at += size
    if at != len(binary):
        raise InvalidInput(
            f"{len(binary)} bytes follow the JSON, but the sizes of its tensors are {at}.",
            "each binary tensor gives its own `binary_data_size`, in the order of `inputs`.",
        )
    return parts


def read_tensor(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Matrix:
    """A tensor of numbers as (rows, columns); a shape `[rows]` is one column. FP32 is not copied.

    float32 where that holds every value of the datatype, else float64. Raises InvalidInput.
    """
    rows, columns = rows_and_columns(name, shape)
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidInput(f"The datatype {str(datatype)[:_SHOWN]!r} is not taken.", f"there is: {', '.join(DTYPES)}.")
    if len(data) != rows * columns * dtype.itemsize:
        raise InvalidInput(
            f"The data of {name!r} is {len(data)} bytes, its shape {list(shape)} of {datatype} asks for "
            f"{rows * columns * dtype.itemsize}.",
            "send the values of the whole tensor, row by row and little-endian.",
        )
    if datatype == "BOOL" and max(bytes(data)) > 1:
        raise InvalidInput(f"The data of {name!r} is not BOOL: it holds {max(bytes(data))}.", "send one byte a value, 0 or 1.")
    return numbers(name, datatype, np.frombuffer(data, dtype).reshape(rows, columns))


def numbers(name: str, datatype: str, values: NDArray[Any]) -> Matrix:
    """The values as the model takes them. Raises InvalidInput for a number that FP32 cannot carry."""
    if datatype == "FP16":
        values = values.astype(np.float32)
    # Compared before they are narrowed: what FP32 cannot carry would become infinite in silence.
    if datatype.startswith("FP") and (np.abs(values) > FP32_MAX).any():
        raise InvalidInput(
            f"The data of {name!r} holds a number beyond what FP32 can carry.", "NaN stands where a number is missing."
        )
    return values.astype(np.float32, copy=False) if datatype in _EXACT_IN_FP32 else values.astype(np.float64, copy=False)


def rows_and_columns(name: str, shape: Sequence[Any]) -> tuple[int, int]:
    """Raises InvalidInput for a shape that is none, that is empty, or that has more rows than a call may have."""
    if len(shape) not in (1, 2) or any(type(size) is not int or not 0 < size < 1 << 31 for size in shape):
        raise InvalidInput(
            f"The shape of {name!r} must be [rows, columns], got {str(list(shape))[:_SHOWN]}.", "both are greater than zero."
        )
    if shape[0] > MAX_ROWS:
        raise InvalidInput(f"One call takes at most {MAX_ROWS} rows, got {shape[0]}.", "send the rest in another call.")
    return shape[0], shape[1] if len(shape) == 2 else 1


def join_columns(names: Sequence[str], tensors: Sequence[tuple[str, Matrix]]) -> Matrix:
    """One matrix from a tensor for each of the model's columns, which may come in any order.

    Raises InvalidInput for a column that is missing, unknown, there twice, or longer or shorter than the others.
    """
    by_name = dict(tensors)
    unknown = [name for name in by_name if name not in names]
    missing = [name for name in names if name not in by_name]
    if unknown or missing or len(tensors) != len(names):
        twice = next((name for index, (name, _) in enumerate(tensors) if name in dict(tensors[:index])), "")
        what = f"knows no {unknown[0][:_SHOWN]!r}" if unknown else f"has no {missing[0]!r}" if missing else f"has {twice!r} twice"
        raise InvalidInput(f"The request {what}.", f"send one matrix, or one tensor for each of: {', '.join(names)}.")
    rows = len(tensors[0][1])
    for name, column in tensors:
        if column.shape != (rows, 1):
            raise InvalidInput(
                f"The tensor {name!r} has the shape {list(column.shape)}, the first one has {rows} rows.",
                "every column has the shape [rows] or [rows, 1].",
            )
    return np.concatenate([by_name[name] for name in names], axis=1)


def read_texts(name: str, data: Buffer, count: int) -> list[bytes]:
    """The values of a BYTES tensor: each has its length before it, four bytes little-endian. Raises InvalidInput."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise InvalidInput(f"The data of {name!r} ends in the middle of its value {len(found)}.")
        found.append(bytes(data[at + 4 : end]))
        at = end
        if len(found) > count:
            break
    if len(found) != count:
        raise InvalidInput(f"The data of {name!r} does not hold {count} values.", "its shape says how many there are.")
    return found


def write_values(tensor: Tensor) -> bytes:
    """The bytes of one tensor."""
    if isinstance(tensor.values, np.ndarray):
        return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    return write_texts(tensor.values)


def write_texts(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(part for text in encoded for part in (len(text).to_bytes(4, "little"), text))


def write_outputs(about: Mapping[str, Any], tensors: Sequence[Tensor], binary: Collection[str]) -> tuple[bytes, list[bytes]]:
    """(JSON, the bytes that follow it) of an answer; `binary` names the tensors that are wanted as bytes.

    Where it names any, the answer needs the header `Inference-Header-Content-Length` with the length of the JSON.
    """
    outputs: list[dict[str, Any]] = []
    parts = []
    for tensor in tensors:
        head: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if tensor.name in binary:
            parts.append(write_values(tensor))
            head["parameters"] = {"binary_data_size": len(parts[-1])}
        elif isinstance(tensor.values, np.ndarray):
            head["data"] = tensor.values.ravel().tolist()
        else:
            head["data"] = list(tensor.values)
        outputs.append(head)
    return orjson.dumps({**about, "outputs": outputs}), parts
