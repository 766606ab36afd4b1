"""What every worker of an endpoint is, whatever it speaks: it answers, logs what it answered, and says how it is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falaj import doors
from falaj.adapters import open_own
from falaj.adapters.local.reference import online_options
from falaj.adapters.local.signing import checker, load_public
from falaj.adapters.sealing.online import SealedOnline
from falaj.core.errors import FalajError, InvalidInput, NotFound, Unavailable
from falaj.core.moments import iso
from falaj.inference import nvml
from falaj.inference.auth import Keyring
from falaj.inference.batch import Batcher
from falaj.inference.listening import hand_out, lend
from falaj.inference.log import PredictionLog
from falaj.inference.mask import mask_key
from falaj.inference.metrics import Metrics
from falaj.inference.models import Device, Models, check_device
from falaj.inference.predict import Predictor
from falaj.inference.processes import born
from falaj.inference.report import complain, write_json
from falaj.inference.settings import ServerSettings, load_settings
from falaj.inference.shadow import Shadows
from falaj.inference.watch import GroupSync, Upkeep, Watch, keep_looking
from falaj.ports.online import Online, Stored
from falaj.ports.vault import Vault

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
        self._opening = threading.Lock()
        self._store: Online | None = None
        self._away: tuple[float, Unavailable] | None = None

    def get(self, keys: Sequence[tuple[str, str]]) -> list[Stored | None]:
        """Raises Unavailable at once while a store that did not answer a moment ago is given time to come back."""
        if self._store is None:
            self._open()
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

    def _open(self) -> None:
        """Once, whichever thread comes first."""
        with self._opening, contextlib.suppress(NotFound):
            if self._store is None:
                self._store = open_own("online", self._scheme, readonly=True, **self._options)


class Vaults:
    """The project's vault, opened when the first model is served that is about people."""

    def __init__(self, pepper_path: Path, pepper: bytes) -> None:
        self._keys, self._pepper = pepper_path.parent, pepper
        self._vault: Vault | None = None
        self._opening = threading.Lock()

    def __call__(self) -> Vault:
        with self._opening:
            if self._vault is None:
                path = self._keys.parent / "vault" / "subjects.db"
                self._vault = open_own("vault", "sqlite", path=path, key_path=self._keys / "vault.kek", pepper=self._pepper)
            return self._vault

    def sealed(self, store: Online, predictor: Predictor) -> Online:
        """The store with its rows about people opened, as what is served at the moment says which these are."""

        def whose(view: str) -> tuple[int, int] | None:
            return predictor.places.get(view)  # another mapping each time

        return SealedOnline(store, whose, self, without=predictor.excluded.has)

    def close(self) -> None:
        if self._vault is not None:
            self._vault.close()


@dataclass(slots=True)
class Worker:
    """What every worker of an endpoint has, whatever it speaks."""

    folder: Path
    slot: str
    settings: ServerSettings
    keyring: Keyring
    predictor: Predictor
    watch: Watch
    upkeep: Upkeep

    @property
    def log(self) -> PredictionLog:
        return self.predictor.log

    @property
    def metrics(self) -> Metrics:
        return self.predictor.metrics

    def batcher(self) -> Batcher:
        """For the loop on which it answers."""
        after = GroupSync(self.log.sync) if self.settings.sync == "always" else None
        batcher = Batcher(self.predictor, rows=self.settings.batch_rows, waiting=self.settings.max_waiting, after=after)
        self.metrics.gauges["in_flight"] = lambda: batcher.open
        return batcher

    @contextlib.contextmanager
    def shadows(self, loop: asyncio.AbstractEventLoop) -> Iterator[Shadows]:
        """What shows copies to a shadow, while there is one; what it says is logged on this loop."""
        # An embedded store is opened once a process; any other is read over a connection of its own.
        own = None if self.settings.online_scheme == "lmdb" else LateOnline(self.settings)
        beside: Any = own or self.predictor.plain
        if self.predictor.opening is not None:
            beside = self.predictor.opening(beside)

        def hand_over(lines: list[bytes]) -> None:
            loop.call_soon_threadsafe(self.predictor.note, lines)

        made = self.predictor.shadows = Shadows(self.settings.endpoint.rpartition("/")[2], beside, hand_over, _wall)
        self.metrics.shadows = made.counts
        try:
            yield made
        finally:
            self.predictor.shadows = None
            made.close()
            if own is not None:
                own.close()

    async def run(self, listeners: Sequence[int], drain: Callable[[], Awaitable[None]]) -> None:
        """Says that it is there, looks after everything until SIGTERM, says that it leaves, and awaits `drain`.

        `listeners`: sockets that the next supervisor may borrow.
        """
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, over.set)
        with self.shadows(loop), lend(self.folder / "workers", self.slot) as lender:
            loop.add_reader(lender, hand_out, lender, listeners)
            self.watch.enter()
            looking = asyncio.create_task(keep_looking(self.watch, self.upkeep))
            await over.wait()
            loop.remove_reader(lender)
        self.watch.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await drain()
        looking.cancel()
        await asyncio.wait((looking,))


@contextlib.contextmanager
def worker(folder: Path, slot: str) -> Iterator[Worker]:
    """A worker that has loaded what is wanted, if it can be, and reports in `workers/<slot>.json`; its log is closed at the end.

    Raises Unavailable where the folder cannot be written, NotFound and InvalidInput for settings and keys; all are reported too.
    """
    settings, generation = load_settings(folder)
    about = {"slot": slot, "pid": os.getpid(), "started": born(os.getpid()), "since": iso(_wall()), "generation": generation}
    (folder / "workers").mkdir(mode=0o700, exist_ok=True)
    place = folder / "workers" / f"{slot}.json"
    try:
        with _log(folder, settings) as log, contextlib.closing(LateOnline(settings)) as opened, contextlib.ExitStack() as rest:
            online: Any = opened
            device = Device(settings.provider, settings.device, settings.device_memory_mb)
            check_device(device)
            pepper = _bytes(Path(settings.pepper))
            verify = checker(load_public(Path(settings.public_key)))
            metrics = Metrics(folder / "metrics", slot)
            predictor = Predictor(log, online, metrics, settings.clock, _wall)
            blobs = open_own("blobs", "file", folder=Path(settings.blobs))
            vaults = rest.enter_context(contextlib.closing(Vaults(Path(settings.pepper), pepper)))
            predictor.opening = lambda store: vaults.sealed(store, predictor)
            models = Models(blobs, verify, mask_key(pepper), device, vaults=vaults)
            watch = Watch(folder, models, predictor, place, about, complain)
            upkeep = Upkeep(log, metrics, complain)
            _measure(metrics, predictor, upkeep)
            with contextlib.suppress(FalajError):
                online.get([])  # opened before the first request, which should not pay for it
            watch.look()
            # What was imported and loaded stays for good: there is no use in walking through it again and again. Little of what
            # a request leaves behind is in circles, but what was refused is.
            gc.freeze()
            gc.set_threshold(10_000, 10, 10)
            gc.enable()
            yield Worker(folder, slot, settings, doors.keyring(folder, pepper, settings), predictor, watch, upkeep)
            metrics.save()
    except FalajError as exc:
        with contextlib.suppress(OSError):
            write_json(place, {**about, "ready": False, "revision": -1, "tried": -1, "problem": exc.to_dict()})
        raise


def _measure(metrics: Metrics, predictor: Predictor, upkeep: Upkeep) -> None:
    metrics.log_bytes = lambda: predictor.log.bytes
    metrics.devices = nvml.devices() or list
    metrics.gauges |= {
        "ready": lambda: int(predictor.serving is not None),
        "revision": lambda: predictor.serving.wanted.revision if predictor.serving is not None else -1,
        "log_lag_seconds": upkeep.lag,
    }


@contextlib.contextmanager
def _log(folder: Path, settings: ServerSettings) -> Iterator[PredictionLog]:
    place = folder / "segments"
    try:
        log = PredictionLog(place, rows=settings.segment_rows)
    except OSError as exc:
        raise Unavailable(f"{place} cannot be written: {exc.strerror}.", "check who owns it and the disk's space.") from exc
    with contextlib.closing(log):
        yield log


def _wall() -> datetime:
    return datetime.now(UTC)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(f"There is no {path}.", "falaj init makes it.") from exc
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}.", "check who owns it.") from exc
