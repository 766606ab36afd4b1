"""The inference process of one endpoint: `python -m falaj.serve <serving folder>`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import uvloop

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import online_options
from falaj.adapters.local.signing import checker, load_public
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso
from falaj.inference.auth import Keyring
from falaj.inference.batch import Batcher
from falaj.inference.http import SWEEP_S, Edge, listen
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Models
from falaj.inference.predict import Predictor
from falaj.inference.seals import Sealer
from falaj.inference.server import Server, wall
from falaj.inference.settings import ServerSettings, read_settings
from falaj.inference.watch import GroupSync, Watch, keep_looking
from falaj.ports.online import Online, Stored

_WAITS_S = 1.0
"""For a store on another machine, and before it is asked again: one that hangs must not hold up every request."""


class LateOnline:
    """The online store, opened when it is first needed and there: until something was materialised, every feature is missing."""

    capabilities: frozenset[str] = frozenset()

    def __init__(self, settings: ServerSettings) -> None:
        """Raises InvalidInput where the settings name no address that a store could have."""
        self._scheme = settings.online_scheme
        self._options = online_options(
            self._scheme, folder=Path(settings.online), url=settings.online_url, project=settings.project
        )
        if settings.online_url:
            self._options["timeout_s"] = _WAITS_S
        self._store: Online | None = None
        self._away: tuple[float, Unavailable] | None = None

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        """Raises Unavailable at once while a store that did not answer a moment ago is given time to come back."""
        if self._store is None:
            with contextlib.suppress(NotFound):
                self._store = open_adapter("online", self._scheme, readonly=True, **self._options)
        if self._store is None:
            return [None] * len(keys)
        if self._away is not None and time.monotonic() < self._away[0]:
            raise Unavailable(self._away[1].message, self._away[1].hint)
        try:
            found = self._store.get(keys)
        except Unavailable as exc:
            self._away = time.monotonic() + _WAITS_S, exc
            raise
        self._away = None
        return found

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def serve(folder: Path) -> None:
    """Serves until SIGTERM. Raises Conflict where the port or the folder is taken, Unavailable where it cannot be written."""
    settings = read_settings(folder)
    if not os.access(folder, os.W_OK):
        raise Unavailable(f"{folder} cannot be written.", "check who owns it.")
    pepper = _bytes(Path(settings.pepper))
    verify = checker(load_public(Path(settings.public_key)))
    try:
        log = PredictionLog(folder / "segments", rows=settings.segment_rows)
        sealer = Sealer(folder / "segments", settings.endpoint, idle_s=settings.segment_idle_s)
    except OSError as exc:
        raise Unavailable(
            f"{folder / 'segments'} cannot be written: {exc.strerror}.", "check who owns it and the disk's space."
        ) from exc
    try:
        listener = listen(settings)
        port = int(listener.getsockname()[1])
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        about = {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "since": iso(wall()),
            "port": port,
            "url": f"http://{host}:{port}",
        }
        online: Any = LateOnline(settings)
        predictor = Predictor(log, online, Metrics(), settings.clock, wall)
        blobs = open_adapter("blobs", "file", folder=Path(settings.blobs))
        watch = Watch(folder, Models(blobs, verify), predictor, about, _complain)
        batcher = Batcher(
            predictor, rows=settings.batch_rows, waiting=settings.max_waiting,
            after=GroupSync(log.sync) if settings.sync == "always" else None,
        )  # fmt: skip
        server = Server(settings, Keyring(folder / "keys.json", pepper), predictor, batcher)
        with contextlib.suppress(FalajError):
            online.get([])  # opened before the first request, which should not pay for it
        watch.report()
        watch.look()
        # What was imported and loaded stays for good: there is no use in walking through it again and again.
        gc.freeze()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(server, settings, listener, watch, sealer))
        online.close()
    finally:
        log.close()
        sealer.close()


async def _run(server: Server, settings: ServerSettings, listener: Any, watch: Watch, sealer: Sealer) -> None:
    """Serves until SIGTERM or SIGINT, then answers what it has taken on."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    edge = Edge(server, settings)
    listening = await loop.create_server(edge.connection, sock=listener)
    looking = asyncio.create_task(keep_looking(watch, server.predictor.log, sealer, over.is_set))
    sweeping = asyncio.create_task(_sweep(edge))
    await over.wait()
    listening.close()
    edge.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_s):
            while edge.connections:
                await asyncio.sleep(0.01)
    sweeping.cancel()
    await looking


async def _sweep(edge: Edge) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        edge.sweep()


def _complain(error: FalajError) -> None:
    print(f"{iso(wall())} {error.code}: {error}", file=sys.stderr, flush=True)  # noqa: T201


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(f"There is no {path}.", "falaj init makes it.") from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        print("usage: python -m falaj.serve <serving folder>", file=sys.stderr)  # noqa: T201
        return 2
    os.umask(0o077)
    try:
        serve(Path(given[0]).absolute())
    except FalajError as exc:
        _complain(exc)
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
