"""One worker of an endpoint: a process that answers, logs what it answered, and says how it is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import online_options
from falaj.adapters.local.signing import checker, load_public
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso
from falaj.inference.auth import Keyring
from falaj.inference.http import uvicorn_server
from falaj.inference.listening import hand_out, lend
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Models
from falaj.inference.predict import Predictor
from falaj.inference.processes import born
from falaj.inference.report import complain, write_json
from falaj.inference.server import Server, wall
from falaj.inference.settings import ServerSettings, load_settings
from falaj.inference.watch import GroupSync, Watch, keep_looking
from falaj.ports.online import Online, Stored

LINGER_S = 1.0
"""How long a connection that is open when a worker leaves may take to ask once more; most ask again within milliseconds."""
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


@dataclass(slots=True)
class Worker:
    """What every worker of an endpoint has, whatever it speaks."""

    folder: Path
    slot: str
    settings: ServerSettings
    keyring: Keyring
    log: PredictionLog
    predictor: Predictor
    watch: Watch

    @property
    def metrics(self) -> Metrics:
        return self.predictor.metrics


@contextlib.contextmanager
def worker(folder: Path, slot: str) -> Iterator[Worker]:
    """A worker that has loaded what is wanted, if it can be, and reports in `workers/<slot>.json`; its log is closed at the end.

    Raises Unavailable where the folder cannot be written, NotFound and InvalidInput for settings and keys; all are reported too.
    """
    settings, generation = load_settings(folder)
    about = {"pid": os.getpid(), "started": born(os.getpid()), "since": iso(wall()), "generation": generation, "slot": slot}
    (folder / "workers").mkdir(mode=0o700, exist_ok=True)
    place = folder / "workers" / f"{slot}.json"
    try:
        with _log(folder, settings) as log, contextlib.closing(LateOnline(settings)) as online:
            pepper = _bytes(Path(settings.pepper))
            verify = checker(load_public(Path(settings.public_key)))
            metrics = Metrics(folder / "metrics", slot)
            predictor = Predictor(log, online, metrics, settings.clock, wall)
            blobs = open_adapter("blobs", "file", folder=Path(settings.blobs))
            watch = Watch(folder, Models(blobs, verify), predictor, place, about, complain)
            with contextlib.suppress(FalajError):
                online.get([])  # opened before the first request, which should not pay for it
            watch.look()
            # What was imported and loaded stays for good: there is no use in walking through it again and again.
            gc.freeze()
            yield Worker(folder, slot, settings, Keyring(folder / "keys.json", pepper), log, predictor, watch)
            metrics.save()
    except FalajError as exc:
        with contextlib.suppress(OSError):
            write_json(place, {**about, "ready": False, "revision": -1, "tried": -1, "problem": exc.to_dict()})
        raise


@contextlib.contextmanager
def _log(folder: Path, settings: ServerSettings) -> Iterator[PredictionLog]:
    place = folder / "segments"
    try:
        log = PredictionLog(place, settings.endpoint, rows=settings.segment_rows, idle_s=settings.segment_idle_s)
    except OSError as exc:
        raise Unavailable(f"{place} cannot be written: {exc.strerror}.", "check who owns it and the disk's space.") from exc
    with contextlib.closing(log):
        yield log


def serve(folder: Path, slot: str, fds: Sequence[int]) -> None:
    """Answers REST on an inherited socket until SIGTERM. Raises as `worker`."""
    with worker(folder, slot) as own:
        listener = socket.socket(fileno=fds[0])
        after = GroupSync(own.log.settle) if own.settings.sync == "always" else None
        app = Closing(Server(own.settings, own.keyring, own.predictor, after))
        server = uvicorn_server(app, own.settings)
        own.metrics.gauges["connections"] = lambda: len(server.server_state.connections)
        own.metrics.gauges["in_flight"] = lambda: len(server.server_state.tasks)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(own, server, app, listener))


async def _serve(own: Worker, server: uvicorn.Server, app: Closing, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    # uvicorn would listen to signals itself, and would close connections at once that are about to ask.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    lender = lend(own.folder / "workers", own.slot)
    loop.add_reader(lender, hand_out, lender, [listener.fileno()])
    own.watch.report()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    looking = asyncio.create_task(keep_looking(own.watch, own.log))
    leaving = asyncio.create_task(over.wait())
    await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(lender)
    lender.close()
    own.watch.leave()
    await app.drain(server)
    await serving
    for task in (looking, leaving):
        task.cancel()
    await asyncio.gather(looking, leaving, return_exceptions=True)


class Closing:
    """An ASGI application whose callers are told, once it is over, to make their next connection elsewhere."""

    def __init__(self, app: Server) -> None:
        self._app = app
        self._is_over = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def close(message: Any) -> None:
            if self._is_over and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, close)

    async def drain(self, server: uvicorn.Server) -> None:
        """Takes no more connections; those that there are have a second to ask once more before uvicorn closes them."""
        self._is_over = True
        for listening in server.servers:
            listening.close()
        until = time.monotonic() + LINGER_S
        while server.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        server.should_exit = True


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(f"There is no {path}.", "falaj init makes it.") from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc
