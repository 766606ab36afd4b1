"""Reads and writes the few messages of ONNX that the server needs for itself, in the protobuf encoding.

The field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3; the encoding is described at
https://protobuf.dev/programming-guides/encoding. Only graphs that onnxruntime has opened already are read here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, ML_OPSET, IR = 17, 3, 8
FLOAT = 1
"""TensorProto.FLOAT."""
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_FLOAT, _INT, _STRING, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 6, 7, 8
Attribute = bytes | int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | NDArray[Any]


# --- writing ---


def varint(number: int) -> bytes:
    """A whole number, seven bits a byte, the lowest first; negative ones as 64 bits."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL = [varint(number) for number in range(1 << 14)]


def _field(number: int, body: bytes | int | str) -> bytes:
    if isinstance(body, int):
        return varint(number << 3 | _VARINT) + varint(body)
    body = body.encode() if isinstance(body, str) else body
    return varint(number << 3 | _BYTES) + varint(len(body)) + body


def _numbers(values: Sequence[int] | NDArray[Any]) -> bytes:
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return b"".join(_SMALL[v] if 0 <= v < len(_SMALL) else varint(v) for v in plain)


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    if isinstance(value, float):
        return _field(1, name) + varint(2 << 3 | _FOUR) + struct.pack("<f", value) + _field(20, _FLOAT)
    if isinstance(value, str | bytes):
        return _field(1, name) + _field(4, value) + _field(20, _STRING)
    if len(value) and isinstance(value[0], str):
        return _field(1, name) + b"".join(_field(9, str(text)) for text in value) + _field(20, _STRINGS)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _field(1, name) + _field(7, value.astype("<f4").tobytes()) + _field(20, _FLOATS)
    return _field(1, name) + _field(8, _numbers(value)) + _field(20, _INTS)  # type: ignore[arg-type]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Attribute) -> bytes:
    """A NodeProto. Arrays of floats, sequences of whole numbers and of texts become the lists of an attribute."""
    found = [*(_field(1, name) for name in inputs), *(_field(2, name) for name in outputs), _field(4, op)]
    found += [_field(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(found) + (_field(7, domain) if domain else b"")


def tensor(name: str, values: NDArray[np.float32]) -> bytes:
    """A TensorProto of 32-bit floats."""
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, FLOAT) + _field(8, name) + _field(9, values.astype("<f4").tobytes())


def graph(nodes: Sequence[bytes], given: tuple[str, int], found: tuple[str, int], weights: Sequence[bytes] = ()) -> bytes:
    """A ModelProto from float [n, width] to float [n, width]; `given` and `found` are names with their widths."""
    body = [*(_field(1, one) for one in nodes), _field(2, "model"), *(_field(5, one) for one in weights)]
    body += [_field(11, _value(*given)), _field(12, _value(*found))]
    opsets = _field(8, _field(1, "") + _field(2, OPSET)) + _field(8, _field(1, "ai.onnx.ml") + _field(2, ML_OPSET))
    return _field(1, IR) + _field(2, "falaj") + _field(7, b"".join(body)) + opsets


def _value(name: str, width: int) -> bytes:
    shape = _field(1, _field(2, "n")) + _field(1, _field(1, width))
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape)))


# --- reading ---


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Each field of a message as (number, value): a whole number, or the bytes of whatever else. Raises ValueError."""
    place = 0
    while place < len(data):
        number, value, place = _field_at(data, place)
        yield number, value


def _field_at(data: bytes, place: int) -> tuple[int, Any, int]:
    """The field that begins there, as (number, value), and where it ends."""
    key, place = _read(data, place)
    kind = key & 7
    if kind == _VARINT:
        value, place = _read(data, place)
        return key >> 3, value, place
    size = {_FOUR: 4, _EIGHT: 8}.get(kind, -1)
    if kind == _BYTES:
        size, place = _read(data, place)
    if size < 0 or place + size > len(data):
        raise ValueError("a field goes beyond its message")
    return key >> 3, data[place : place + size], place + size


def _read(data: bytes, place: int) -> tuple[int, int]:
    """The whole number that begins there, and where it ends."""
    if place >= len(data):
        raise ValueError("a number is missing")
    byte = data[place]
    if byte < 0x80:
        return byte, place + 1
    number = byte & 0x7F
    for more in range(1, min(10, len(data) - place)):
        byte = data[place + more]
        number |= (byte & 0x7F) << 7 * more
        if byte < 0x80:
            return number, place + more + 1
    raise ValueError("a number has no end")


def attributes(found: bytes) -> Mapping[str, Any]:
    """The attributes of a NodeProto by name: numbers, bytes, or lists of these. What is neither is left out."""
    return dict(_read_attribute(body) for number, body in fields(found) if number == 5)


_RUN = re.compile(rb"(?P<floats>(?:\x3d.{4})++)|(?P<ints>(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])++)|(?P<strings>\x4a)", re.DOTALL)
"""Where a list is written value by value: its floats, its whole numbers, or the first of its texts."""


def _read_attribute(data: bytes) -> tuple[str, Any]:
    """Lists come value by value, each with its field's number, or several together.

    An ensemble has a value a node in each of a dozen lists: a run of them is read at once, which is what loading takes time for.
    """
    place = 0
    found: dict[int, list[Any]] = {}
    while place < len(data):
        run = _RUN.match(data, place)
        if run is None:
            number, value, place = _field_at(data, place)
            values = _varints(value).tolist() if number == 8 and isinstance(value, bytes) else [value]
        elif run.lastgroup == "strings":
            number = 9
            values, place = _texts(data, place)
        elif run.lastgroup == "ints":
            number, values, place = 8, _varints(run.group())[1::2].tolist(), run.end()
        else:
            pairs = np.frombuffer(run.group(), [("key", "u1"), ("number", "<f4")])
            number, values, place = 7, [pairs["number"].tobytes()], run.end()
        found.setdefault(number, []).extend(values)
    name, kind = found.get(1, [b""])[-1].decode(), found.get(20, [0])[-1]
    if kind == _FLOATS:
        return name, np.frombuffer(b"".join(found.get(7, [])), "<f4")
    if kind == _INTS:
        return name, found.get(8, [])
    if kind == _STRINGS:
        return name, found.get(9, [])
    return name, found.get({_FLOAT: 2, _INT: 3, _STRING: 4}.get(kind, 0), [None])[-1]


def _texts(data: bytes, place: int) -> tuple[list[bytes], int]:
    """The texts of a list from there on, and where the last one ends."""
    found = []
    while place < len(data) and data[place] == 9 << 3 | _BYTES:
        size, start = _read(data, place + 1)
        place = start + size
        if place > len(data):
            raise ValueError("a text goes beyond its message")
        found.append(data[start:place])
    return found, place


def _varints(data: bytes) -> NDArray[np.uint64]:
    """Whole numbers that stand one behind the other. Raises ValueError."""
    found = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(found < 0x80)
    starts = np.append(0, ends + 1)
    if starts[-1] != len(found):
        raise ValueError("a number is missing, or has no end")
    sizes = np.diff(starts)
    if sizes.max(initial=0) > 10:
        raise ValueError("a number has no end")
    numbers = np.zeros(len(sizes), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > place)
        numbers[longer] |= (found[starts[longer] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return numbers
