"""The worker of an endpoint that speaks gRPC: one thread serves, the other looks after models, keys, metrics and signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from falaj import doors
from falaj.core.errors import Bug
from falaj.endpoint import Worker, worker
from falaj.inference.grpc.port import Port
from falaj.inference.grpc.server import GrpcServer
from falaj.inference.grpc.service import Service
from falaj.inference.report import complain

_LAST_S = 2.0
"""For the serving thread to end after the calls that were still open were cancelled."""


def serve(folder: Path, slot: str, _fds: Sequence[int]) -> None:
    """Answers gRPC on the port of the settings until SIGTERM. Raises as `worker`, and Conflict where the port is taken."""
    with worker(folder, slot) as own, asyncio.Runner() as runner:
        runner.run(run_grpc(own))


async def run_grpc(own: Worker) -> None:
    """Serves with that worker's keys and predictor, encrypted where the settings name a certificate."""
    settings = own.settings
    shown = doors.certificates(settings)
    credentials: Any = None
    if shown is not None:
        from falaj.inference.tls import grpc_credentials

        credentials = grpc_credentials(shown)
    server = GrpcServer(
        settings,
        own.keyring,
        Service(own.predictor),
        Port(settings, settings.grpc_port, credentials),
        own.log.sync if settings.sync == "always" else None,
    )
    own.metrics.gauges["in_flight"] = lambda: server.open
    server.start()
    thread = threading.Thread(target=_answer, args=(server,), name="grpc")
    thread.start()

    async def drain() -> None:
        server.stop()
        await asyncio.to_thread(thread.join)

    keeping = asyncio.create_task(doors.keep_fresh(shown, complain))
    watching = asyncio.create_task(_watch(server, settings.hang_s))
    await own.run([], drain)
    keeping.cancel()
    watching.cancel()
    thread.join(_LAST_S)


async def _watch(server: GrpcServer, hang_s: float) -> None:
    """This loop's signs of life say nothing of the other thread: where that one hangs, the process ends."""
    while time.monotonic() - server.turned < hang_s:
        await asyncio.sleep(1.0)
    complain(Bug(f"The gRPC worker gave no answer for {hang_s:g} s.", "report it with server.log."))
    os._exit(Bug.exit_code)


def _answer(server: GrpcServer) -> None:
    try:
        server.run()
    except Exception as exc:
        # The supervisor starts another worker; one that only looks alive would be worse.
        complain(Bug(f"The gRPC worker failed: {type(exc).__name__}: {exc}", "report it with server.log."))
        os.kill(os.getpid(), signal.SIGTERM)
