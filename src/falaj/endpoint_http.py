"""The worker of an endpoint that speaks REST, on a socket that it inherits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from falaj import doors
from falaj.endpoint import Worker, worker
from falaj.inference.http import SWEEP_S, Edge
from falaj.inference.report import complain
from falaj.inference.server import Server

if TYPE_CHECKING:
    from falaj.inference.tls import Certificates

LINGER_S = 1.0
"""How long a connection that is open when a worker leaves may take to ask once more; most ask again within milliseconds."""


def serve(folder: Path, slot: str, fds: Sequence[int]) -> None:
    """Answers REST on an inherited socket until SIGTERM. Raises as `worker`."""
    with worker(folder, slot) as own, doors.traces(own.settings, complain) as traces:
        shown = doors.certificates(own.settings)
        if own.settings.trace_url:
            own.metrics.gauges["spans_dropped"] = traces.dropped
        server = Server(own.settings, own.keyring, own.predictor, own.batcher(), traces)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(own, server, socket.socket(fileno=fds[0]), shown))


async def _serve(own: Worker, server: Server, listener: socket.socket, shown: Certificates | None) -> None:
    edge = Edge(server, own.settings)
    own.metrics.gauges["connections"] = lambda: len(edge.connections)
    over = contextlib.AsyncExitStack()
    refused = await over.enter_async_context(doors.accepting(listener, edge.connection, own.settings, shown))
    if shown is not None:
        own.metrics.gauges |= {"handshakes_refused": refused, "certificate_expires_seconds": lambda: shown.until}
    beside = [asyncio.create_task(_sweep(edge)), asyncio.create_task(doors.keep_fresh(shown, complain))]

    async def drain() -> None:
        await over.aclose()
        listener.close()
        edge.is_draining = True  # each caller is told with the next answer to come back on another connection
        linger = time.monotonic() + LINGER_S
        while edge.connections and time.monotonic() < linger:
            await asyncio.sleep(0.01)
        edge.drain()
        while edge.connections:
            await asyncio.sleep(0.01)

    await own.run([listener.fileno()], drain)
    for task in beside:
        task.cancel()


async def _sweep(edge: Edge) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        edge.sweep()
