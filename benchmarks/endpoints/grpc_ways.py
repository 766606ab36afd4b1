"""The ways in which grpcio can serve from Python, with the same work behind each: `python -m benchmarks.endpoints.grpc_ways`.

The work: read the message, put the rows of whatever came together into one matrix, write an answer of the usual size.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import uvloop

from falaj.inference.grpc.messages import message
from falaj.inference.grpc.port import Port, message_of
from falaj.inference.settings import ServerSettings

_Request, _Response = message("inference.ModelInferRequest"), message("inference.ModelInferResponse")
_ID = b"\x25\0\0\0p0-0-1a2183381f7x2-f33ab1ad196eae92.0"


def work(messages: Sequence[bytes]) -> list[bytes]:
    requests = [_Request.FromString(data) for data in messages]
    matrices = [np.frombuffer(one.raw_input_contents[0], np.float32).reshape(tuple(one.inputs[0].shape)) for one in requests]
    scores = np.concatenate(matrices)[:, :2]
    made, row = [], 0
    for matrix in matrices:
        count = len(matrix)
        outputs = [{"name": "probabilities", "datatype": "FP32", "shape": [count, 2]},
                   {"name": "prediction_id", "datatype": "BYTES", "shape": [count]}]  # fmt: skip
        raw = [scores[row : row + count].tobytes(), _ID * count]
        made.append(
            _Response(model_name="delay", model_version="1", outputs=outputs, raw_output_contents=raw).SerializeToString()
        )
        row += count
    return made


def aio(port: int, *, fast: bool) -> None:
    async def serve() -> None:
        loop, waiting = asyncio.get_running_loop(), list[tuple[bytes, asyncio.Future[bytes]]]()

        def flush() -> None:
            batch = waiting[:]
            waiting.clear()
            for (_, future), answer in zip(batch, work([data for data, _ in batch]), strict=True):
                if not future.done():
                    future.set_result(answer)

        async def infer(data: bytes, _context: Any) -> bytes:
            future: asyncio.Future[bytes] = loop.create_future()
            waiting.append((data, future))
            if len(waiting) == 1:
                loop.call_soon(flush)
            return await future

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_Any(infer),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        print("ready", flush=True)
        await server.wait_for_termination()

    (uvloop.run if fast else asyncio.run)(serve())


def threads(port: int) -> None:
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((_Any(lambda data, _context: work([data])[0]),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def by_hand(port: int) -> None:
    own = Port(ServerSettings("delay", "", "", "", ""), port)
    waiting: list[tuple[Any, bytes]] = []

    def accepted(event: Any) -> None:
        own.accept()
        call = event.call
        own.receive(call, lambda came: waiting.append((call, message_of(came) or b"")))

    own.start(accepted)
    print("ready", flush=True)
    while True:
        event = own.poll(1.0)
        while event is not None:
            event.tag(event)
            event = own.poll(0)
        for (call, _), answer in zip(waiting, work([data for _, data in waiting]) if waiting else (), strict=True):
            own.answer(call, answer, lambda _event: None)
        waiting.clear()


class _Any(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types here
    def __init__(self, behaviour: Any) -> None:
        self._found = grpc.unary_unary_rpc_method_handler(behaviour)

    def service(self, _details: Any) -> Any:
        return self._found


WAYS: Mapping[str, Callable[[int], None]] = {
    "grpc.aio on asyncio": lambda port: aio(port, fast=False),
    "grpc.aio on uvloop": lambda port: aio(port, fast=True),
    "grpc.server with 16 threads": threads,
    "the completion queue by hand": by_hand,
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))
