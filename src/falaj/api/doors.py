"""The control plane's own TLS: handshakes with limits, certificates that may change meanwhile, and who stands behind each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from falaj.api.routes import PEER
from falaj.core.errors import FalajError
from falaj.inference.tls import Certificates, Door, peer_of

log = logging.getLogger("falaj.api")
LOOK_EVERY_S = 20.0
"""How often files that changed are taken over, and a certificate of the project's own authority renewed if it is time."""


class TlsServer(uvicorn.Server):
    """uvicorn behind falaj's own door: as many handshakes at once, and for as long, as an endpoint allows."""

    def __init__(self, config: uvicorn.Config, certificates: Certificates, names: str, renew: Callable[[], object]) -> None:
        super().__init__(config)
        self._certificates, self._names, self._renew = certificates, names, renew
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._listening = list(sockets or ())
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        factory = functools.partial(
            _knowing(self.config.http_protocol_class, self._names), config=self.config, server_state=self.server_state,
            app_state=self.lifespan.state,
        )  # fmt: skip
        for listener in self._listening:
            listener.setblocking(False)
            self._tasks.append(loop.create_task(Door(listener, self._certificates).serve(factory)))
        self._tasks.append(loop.create_task(self._keep_fresh()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listening:
            listener.close()
        await super().shutdown(sockets=[])

    async def _keep_fresh(self) -> None:
        told: FalajError | None = None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(OSError, FalajError):
                await asyncio.to_thread(self._renew)
            self._certificates.look()
            if self._certificates.problem is not None and self._certificates.problem is not told:
                log.warning("%s", self._certificates.problem)
            told = self._certificates.problem


def _knowing(protocol: Any, names: str) -> Any:
    """The protocol class that also tells each request whom its connection's certificate names."""

    class Knowing(protocol):  # type: ignore[misc]  # which one it is, uvicorn chooses by what is installed
        app_state: dict[str, Any]

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            peer = peer_of(transport.get_extra_info("peercert"), names)
            if peer is not None:
                self.app_state = {**self.app_state, PEER: peer}

    return Knowing
