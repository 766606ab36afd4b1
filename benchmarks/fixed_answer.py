"""uvicorn with a fixed answer: what HTTP in Python costs before anything is done."""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn

ANSWER = json.dumps(
    {"model_name": "delay", "outputs": [{"name": "p", "shape": [1, 2], "data": [0.5, 0.5]}], "pad": "x" * 250}
).encode()
HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    quiet = {"lifespan": "off", "access_log": False, "log_level": "error", "server_header": False, "date_header": False}
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", **quiet)  # type: ignore[arg-type]
