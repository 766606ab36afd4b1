"""What no Python server can undercut here: requests parsed, both models run on what came together, the scores sent back.

Nobody is asked for a key, nothing is logged, counted or checked, and an answer is its score alone. It stands beside the endpoint
to show how much of a request is the socket and the model, on the same machine in the same run.

python -m benchmarks.endpoints.floor <port> <model.onnx> <model.onnx>
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import onnxruntime
import orjson
import uvloop

Runner = Any
"""An onnxruntime session."""
_READY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Floor:
    """Requests that came together; every other one is for the second model."""

    def __init__(self, models: Sequence[bytes]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._models = [onnxruntime.InferenceSession(one, options, providers=["CPUExecutionProvider"]) for one in models]
        self._input = self._models[0].get_inputs()[0].name
        self._waiting: list[tuple[Any, bytes]] = []
        self._turn = 0

    def take(self, transport: Any, body: bytes) -> None:
        if not body:
            transport.write(_READY)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append((transport, body))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._turn += len(waiting)
        for place, model in enumerate(self._models):
            mine = waiting[(place + self._turn) % len(self._models) :: len(self._models)]
            if not mine:
                continue
            tensors = [orjson.loads(body)["inputs"][0] for _, body in mine]
            matrices = [np.array(tensor["data"], np.float32).reshape(tensor["shape"]) for tensor in tensors]
            scores = model.run(None, {self._input: np.concatenate(matrices)})[0].tolist()
            start = 0
            for (transport, _), matrix in zip(mine, matrices, strict=True):
                text = orjson.dumps(scores[start : start + len(matrix)])
                start += len(matrix)
                transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))


class Line(asyncio.Protocol):
    def __init__(self, floor: Floor) -> None:
        self._floor, self._body = floor, b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._floor.take(self._transport, body)


async def main(port: int, models: Sequence[bytes]) -> None:
    floor = Floor(models)
    server = await asyncio.get_running_loop().create_server(lambda: Line(floor), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), [Path(name).read_bytes() for name in sys.argv[2:]]))
