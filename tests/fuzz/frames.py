"""The gRPC door: calls whose bytes are no message, and connections whose bytes are no HTTP/2."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from tests.fuzz.bodies import AT, ODD

SERVICE = "/inference.GRPCInferenceService/"
METHODS = (
    "ModelInfer",
    "ModelMetadata",
    "ServerReady",
    "ServerLive",
    "ServerMetadata",
    "ModelReady",
    "RepositoryIndex",
    "Nothing",
)
_MISTAKES = (
    "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED",
    "FAILED_PRECONDITION", "OUT_OF_RANGE", "ALREADY_EXISTS",
)  # fmt: skip
RIGHT = {grpc.StatusCode[name] for name in _MISTAKES}
"""What a caller's own mistake may be answered with. INTERNAL and UNKNOWN say that the server is wrong."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT_S = 20.0


def good() -> bytes:
    return bytes(message().SerializeToString())


def message(unit: str = "f-1") -> Any:
    made = service_pb2.ModelInferRequest(model_name="delay", id="g-1")
    tensor = made.inputs.add(name="X", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend((700.0, 1.0, 50.0, 5.0))
    made.parameters["unit"].string_param = unit
    made.parameters["at"].string_param = AT
    return made


# --- calls ---


def _odd_message(chance: random.Random) -> bytes:
    """A message by its own definition, with values of any kind in it."""
    made = message()
    tensor = made.inputs[0]
    for _ in range(chance.choice((1, 1, 2, 3))):
        match chance.randrange(10):
            case 0:
                made.model_name = chance.choice(("", "other", "x" * 9000, "é\u2028", "\0"))
            case 1:
                made.model_version = chance.choice(("9", "x" * 300, "\0", "-1"))
            case 2:
                tensor.datatype = chance.choice(("FP64", "INT64", "BYTES", "", "fp32", "BOOL", "FP16", "UINT8"))
            case 3:
                tensor.shape[:] = chance.choice(
                    ([], [4], [0, 4], [-1, 4], [1, 3], [2**62, 4], [2**31, 2**33], [1, 4, 1], [1025, 4])
                )
            case 4:
                tensor.name = chance.choice(("", "Y", "x" * 300))
            case 5:
                tensor.contents.fp32_contents.extend(
                    [chance.choice((float("nan"), float("inf"), 3.4e38, -0.0, 1.0))] * chance.randrange(9)
                )
            case 6:
                made.raw_input_contents.append(chance.randbytes(chance.choice((0, 1, 15, 16, 17, 4096))))
            case 7:
                tensor.contents.bytes_contents.append(chance.randbytes(9))
                tensor.contents.int64_contents.append(2**63 - 1)
            case 8:
                made.inputs.add().CopyFrom(tensor)
            case _:
                odd = chance.choice([one for one in ODD if isinstance(one, (bool, int, str)) and not _is_too_large(one)])
                _put(made.parameters[chance.choice(("unit", "at", "x", "timeout", "sequence_id"))], odd)
    if chance.random() < 0.3:
        made.outputs.add(name=chance.choice(("label", "probabilities", "lable", "", "x" * 300)))
    return bytes(made.SerializeToString())


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _put(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    else:
        parameter.string_param = value


def _odd_bytes(chance: random.Random) -> bytes:
    held = bytearray(chance.choice((good(), _odd_message(chance))))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(held) + 1)
        match chance.randrange(5):
            case 0:
                held[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                held[at:at] = chance.choice(
                    (b"\xff" * 10, b"\x80" * 11, b"\x0a\xff\xff\xff\xff\x0f", b"\0", b"\x0b", b"\x0c", b"\x0a" * 300)
                )
            case 2:
                del held[at : at + chance.choice((1, 2, 8))]
            case 3:
                del held[at:]
            case _:
                held[at:at] = held[at : at + 16]
    return bytes(held)


class Channel:
    """One connection that any bytes may be sent over as the message of a call."""

    def __init__(self, address: str) -> None:
        limits = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(address, options=limits)

    def call(self, method: str, data: bytes, metadata: Sequence[tuple[str, str]], timeout: float = WAIT_S) -> tuple[Any, bytes]:
        """(status, answer). The status is OK where there is an answer."""
        do = self._channel.unary_unary(SERVICE + method)
        try:
            return grpc.StatusCode.OK, do(data, metadata=metadata, timeout=timeout)
        except grpc.RpcError as exc:
            return exc.code(), str(exc.details()).encode()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._channel.close()


def odd_call(channel: Channel, key: str, chance: random.Random) -> str:
    """Raises AssertionError for a status that is not the caller's mistake."""
    method = chance.choice(METHODS) if chance.random() < 0.3 else "ModelInfer"
    data = chance.choice(
        (_odd_message, _odd_message, _odd_bytes, _odd_bytes, lambda one: one.randbytes(one.choice((0, 1, 40, 5000))))
    )(chance)
    if chance.random() < 0.005:
        data = b"\x0a\x05delay" + b"x" * (3 << 20)
    keyed = [("authorization", f"Bearer {key}")]
    odd: list[list[tuple[str, str]]] = [
        [],
        [("authorization", "Bearer wrong")],
        [*keyed, ("x-falaj-arm", "best")],
        [("x-falaj-key", "")],
    ]
    metadata = chance.choice(odd) if chance.random() < 0.1 else keyed
    status, answer = channel.call(method, data, metadata)
    assert status is grpc.StatusCode.OK or status in RIGHT, f"{method}: {status}: {answer[:300]!r} to {data[:300]!r}"
    if metadata is not keyed and ("x-falaj-arm", "best") not in metadata and method == "ModelInfer":
        assert status is not grpc.StatusCode.OK, "a call without a key was answered"
    assert len(answer) < 8192 or status is grpc.StatusCode.OK, f"too much is said: {answer[:300]!r}"
    assert b"Traceback" not in answer
    assert key.encode() not in answer
    return f"{method} {status.name}"


# --- frames ---


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    length: int | None = None
    """What it says of itself, where that is a lie."""

    def __bytes__(self) -> bytes:
        size = len(self.payload) if self.length is None else self.length
        return (
            struct.pack(">I", size & 0xFFFFFF)[1:]
            + bytes((self.kind, self.flags))
            + struct.pack(">I", self.stream)
            + self.payload
        )


DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4


def header(name: str, value: str) -> bytes:
    """HPACK: literal, not indexed, no Huffman code; texts below 127 bytes."""
    texts = name.encode(), value.encode()
    return b"\0" + b"".join(bytes((len(text),)) + text for text in texts)


@cache
def call_headers(key: str) -> bytes:
    named = {
        ":method": "POST", ":scheme": "http", ":path": f"{SERVICE}ModelInfer", ":authority": "x", "te": "trailers",
        "content-type": "application/grpc", "authorization": f"Bearer {key}",
    }  # fmt: skip
    return b"".join(header(name, value) for name, value in named.items())


def a_call(key: str, stream: int = 1) -> list[Frame]:
    """A good call, frame by frame."""
    data = good()
    prefixed = b"\0" + struct.pack(">I", len(data)) + data
    return [
        Frame(SETTINGS, 0, 0, b""),
        Frame(HEADERS, END_HEADERS, stream, call_headers(key)),
        Frame(DATA, END_STREAM, stream, prefixed),
    ]


def _harmed(key: str, chance: random.Random) -> bytes:
    """A good call with frames that lie, come twice, are missing, or stand where none may stand."""
    frames = a_call(key, chance.choice((1, 1, 1, 2, 3, 2**31 - 1)))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(frames))
        one = frames[at]
        match chance.randrange(9):
            case 0:
                lie = chance.choice((0, 1, len(one.payload) + 1, 2**24 - 1))
                frames[at] = Frame(one.kind, one.flags, one.stream, one.payload, lie)
            case 1:
                frames[at] = Frame(chance.randrange(256), one.flags, one.stream, one.payload)
            case 2:
                frames[at] = Frame(one.kind, chance.randrange(256), one.stream, one.payload)
            case 3:
                frames[at] = Frame(one.kind, one.flags, chance.choice((0, 2, 7, 2**32 - 1)), one.payload)
            case 4:
                held = bytearray(one.payload or b"\0")
                held[chance.randrange(len(held))] = chance.randrange(256)
                frames[at] = Frame(one.kind, one.flags, one.stream, bytes(held))
            case 5:
                del frames[at]
            case 6:
                frames.insert(at, one)
            case 7:
                frames.insert(
                    at,
                    Frame(
                        chance.randrange(10),
                        chance.randrange(256),
                        chance.choice((0, 1)),
                        chance.randbytes(chance.choice((0, 4, 8, 40))),
                    ),
                )
            case _:
                frames[at] = Frame(one.kind, one.flags, one.stream, one.payload[: len(one.payload) // 2])
        if not frames:
            break
    return PREFACE + b"".join(map(bytes, frames))


def _floods(key: str, chance: random.Random) -> bytes:
    first, head, data = a_call(key)
    many: dict[str, Callable[[], Iterator[Frame]]] = {
        "pings": lambda: (Frame(PING, 0, 0, bytes(8)) for _ in range(2000)),
        "settings": lambda: (Frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) for n in range(2000)),
        "resets": lambda: (
            one for n in range(1, 1000, 2) for one in (Frame(HEADERS, 4, n, head.payload), Frame(RST, 0, n, bytes(4)))
        ),
        "continuations": lambda: (Frame(CONTINUATION if n else HEADERS, 0, 1, b"\0\1a\1b" * 100) for n in range(500)),
        "empty data": lambda: (head if not n else Frame(DATA, 0, 1, b"") for n in range(2000)),
        "windows": lambda: (Frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)) for _ in range(3)),
        "priorities": lambda: (Frame(PRIORITY, 0, 1, b"\0\0\0\1\1") for _ in range(2000)),
        "calls": lambda: (
            one for n in range(1, 600, 2) for one in (Frame(HEADERS, 4, n, head.payload), Frame(DATA, 1, n, data.payload))
        ),
    }
    return PREFACE + bytes(first) + b"".join(map(bytes, many[chance.choice(sorted(many))]()))


def _other(key: str, chance: random.Random) -> bytes:
    whole = PREFACE + b"".join(map(bytes, a_call(key)))
    return chance.choice(
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            PREFACE,
            PREFACE[:10],
            PREFACE * 3,
            whole[: chance.randrange(len(whole))],
            chance.randbytes(chance.choice((1, 30, 3000))),
            PREFACE + chance.randbytes(500),
            PREFACE + bytes(Frame(SETTINGS, 0, 0, b"")) + chance.randbytes(300),
        )
    )


def odd_frames(address: str, key: str, chance: random.Random) -> str:
    """Whatever they are, the server says its last word and closes once the caller has closed. Raises AssertionError."""
    way = chance.choices((_harmed, _floods, _other), (6, 1, 3))[0]
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(way(key, chance))
        if chance.random() < 0.2:
            return f"{way.__name__.strip('_')}, gone"
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
        try:
            while raw.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError as exc:
            raise AssertionError("the server does not close a connection that its caller has closed") from exc
    return way.__name__.strip("_")
