"""Bodies that a careless or hostile caller may send: grown from good ones, in their tree, their text and their bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.kits.endpoint import REQUEST

PREDICT, INFER, FEEDBACK = "/v1/models/delay:predict", "/v2/models/delay/infer", "/v1/feedback"
AT = "2013-05-01T09:30:00Z"
TENSOR = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [700.0, 1.0, 50.0, 5.0]}
CALL = {"inputs": [TENSOR], "parameters": {"at": AT, "unit": "f-1"}}
LABEL = {"id": "p0-0-13e5f6d51c0-f5f1f5009848d887", "label": 1, "at": "2013-05-01T12:00:00Z"}
GOOD = (
    (PREDICT, REQUEST),
    (PREDICT, {"requests": [REQUEST, REQUEST], "id": "r-1"}),
    (INFER, CALL),
    (INFER, {**CALL, "id": "t-1", "outputs": [{"name": "probabilities"}]}),
    (INFER, {**CALL, "inputs": [{**TENSOR, "shape": [2, 4], "data": [[1, 2, 3, 4], [5, None, 7, 8]]}]}),
    (FEEDBACK, {"labels": [LABEL]}),
    (FEEDBACK, {"labels": [{"unit": "f-1", "label": 0, "at": AT, "since": AT, "facts": {"minutes": 3}}]}),
)
BINARY = {
    "inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
    "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    "parameters": {"at": AT, "unit": "f-1"},
}
"""By the binary tensor extension: the numbers come as bytes behind the JSON."""
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1.5,
    1e308,
    -1e308,
    3.5e38,
    1e-320,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    -0.0,
    "",
    "x" * 300,
    "x" * 20_000,
    "\0",
    "é\u2028",
    "\x7f\x1b[2J",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "2013-05-01T09:30:00Z",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00Z",
    "2013-02-30T00:00:00Z",
    "2013-05-01T09:30:00+99:99",
    "2013-05-01",
    "NaN",
    [],
    {},
    [[]],
    [[[]]],
    [None] * 5,
    {"a": []},
    {"": ""},
    ["FP32"],
)
KINDS = ("FP16", "FP32", "FP64", "INT8", "INT64", "UINT64", "BOOL", "BYTES", "fp32", "")
SHAPES: tuple[Any, ...] = (
    [],
    [4],
    [0, 4],
    [1, 0],
    [-1, 4],
    [1, 4, 1],
    [4, 1],
    [1, 2**62],
    [2**31, 2**33],
    [1.0, 4],
    [True, 4],
    [1025, 4],
)
_PIECES = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"0x10", b"01", b"1.", b".5", b"+1", b"9" * 400, b"1" * 5000,
    b"1e-999",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b"\x00", b"//", b"/**/", b"'a'",
    b",", b":", b"}", b"]", b"{", b"[", b'"', b"\\", b"\xef\xbb\xbf", b"undefined", b"null", b"[" * 200, b'{"a":' * 200,
)  # fmt: skip


def tree(body: Any, chance: random.Random) -> Any:
    """The same body with values of any kind in any place, with fields gone, added and doubled."""
    if chance.random() < 0.12:
        return chance.choice(ODD)
    if isinstance(body, dict):
        kept = {name: tree(value, chance) for name, value in body.items() if chance.random() > 0.05}
        if "datatype" in kept and chance.random() < 0.3:
            kept["datatype"] = chance.choice(KINDS)
        if "shape" in kept and chance.random() < 0.3:
            kept["shape"] = chance.choice(SHAPES)
        if chance.random() < 0.2:
            kept[
                chance.choice(("at", "x", "id", "parameters", "outputs", "inputs", "requests", "labels", "binary_data_size"))
            ] = chance.choice(ODD)
        return kept
    if isinstance(body, list):
        return [tree(value, chance) for value in body] * chance.choice((1, 1, 1, 1, 2, 40))
    return body


def text(body: Any, chance: random.Random) -> bytes:
    """Its JSON, with a piece put in that no JSON should hold, or the end cut off, or a field twice."""
    held = bytearray(json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass"))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(held) + 1)
        match chance.randrange(5):
            case 0:
                held[at:at] = chance.choice(_PIECES)
            case 1:
                held[at : at + chance.choice((1, 2, 8))] = chance.choice(_PIECES)
            case 2:
                del held[at : at + chance.choice((1, 2, 8, 64))]
            case 3:
                del held[at:]
            case _:
                held[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(held)


def _whole(body: Any, chance: random.Random) -> bytes:
    return json.dumps(body).encode()


def _twice(body: Any, chance: random.Random) -> bytes:
    inner = json.dumps(body).encode()
    return inner[:-1] + b"," + inner[1:] if isinstance(body, dict) and body else inner


def _deep(body: Any, chance: random.Random) -> bytes:
    depth = chance.choice((100, 1000, 10_000, 100_000))
    opened, closed = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"inputs":[', b"]}")))
    return opened * depth + b"1" + (closed * depth if chance.random() < 0.7 else b"")


def _other(body: Any, chance: random.Random) -> bytes:
    """Another encoding, or nothing that could be JSON."""
    inner = json.dumps(body)
    return chance.choice(
        (
            b"",
            b" ",
            b"\0" * 9,
            inner.encode("utf-16"),
            inner.encode("utf-32-le"),
            b"\xef\xbb\xbf" + inner.encode(),
            chance.randbytes(chance.choice((1, 16, 300))),
            b"null",
            b'"text"',
            b"7",
            b"inputs=1&x=2",
            b"<a/>",
            b"\x0a\x05delay\x28\x01",
        )
    )


_WAYS: tuple[tuple[int, Callable[[Any, random.Random], bytes]], ...] = (
    (6, text),
    (1, _twice),
    (1, _deep),
    (2, _other),
    (6, _whole),
)


def mutated(chance: random.Random) -> tuple[str, bytes]:
    """(path, body)."""
    path, body = chance.choice(GOOD)
    if chance.random() < 0.8:
        body = tree(body, chance)
    way = chance.choices([way for _, way in _WAYS], [weight for weight, _ in _WAYS])[0]
    return path, way(body, chance)


def binary(chance: random.Random) -> tuple[bytes, list[bytes]]:
    """(body, header lines) of a call by the binary tensor extension; what the header says of the body may be a lie."""
    body = tree(BINARY, chance) if chance.random() < 0.5 else BINARY
    head = text(body, chance) if chance.random() < 0.2 else json.dumps(body).encode()
    size = 16 if chance.random() < 0.6 else chance.choice((0, 1, 15, 17, 32, 5000))
    data = chance.randbytes(size) if chance.random() < 0.5 else (b"\0\0\x80\x3f" * size)[:size]
    says = b"%d" % len(head)
    if chance.random() < 0.25:
        odd = (
            b"0",
            b"-1",
            b"abc",
            b"",
            b"1e2",
            b"9" * 30,
            b"%d" % (len(head) + 1),
            b"%d" % (len(head) - 1),
            b"%d" % (len(head) + len(data)),
        )
        says = chance.choice(odd)
    lines = [b"Inference-Header-Content-Length: " + says]
    if chance.random() < 0.02:
        lines *= 2
    if chance.random() < 0.05:
        lines = []
    return head + data, lines
