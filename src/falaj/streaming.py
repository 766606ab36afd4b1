"""An endpoint's streams: opened as its settings name them, and answered by one worker."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from falaj.adapters import open_own
from falaj.adapters.local.reference import stream_options
from falaj.core.errors import Conflict, FalajError
from falaj.endpoint import Worker, worker
from falaj.inference.consume import Streams, StreamWorker
from falaj.inference.effects import Effects, newest_segment
from falaj.inference.predict import Predictor
from falaj.inference.report import complain
from falaj.inference.settings import ServerSettings
from falaj.inference.stream_counts import COUNTERS, GAUGES
from falaj.ports.predictions import Predictions
from falaj.ports.stream import Stream

TURN_EVERY_S = 0.1


class Taken(Conflict):
    """Another process answers this endpoint's messages."""


def open_streams(settings: ServerSettings) -> Streams:
    """Raises InvalidInput for an address that is none, MissingDependency. Whether the broker is there shows later."""
    return Streams(*(_open(settings, name) for name in (settings.stream_source, settings.stream_sink, settings.stream_dead)))


@contextlib.contextmanager
def stream_worker(
    folder: Path, settings: ServerSettings, predictor: Predictor, on_problem: Callable[[FalajError], None]
) -> Iterator[StreamWorker]:
    """The one worker of a serving folder that answers messages; its streams are closed at the end.

    Raises Conflict where another one runs there or the log was damaged, InvalidInput, MissingDependency, Unavailable.
    """
    with _alone(folder), contextlib.closing(open_streams(settings)) as streams:
        log: Predictions = open_own("predictions", "file", folder=predictor.log.folder)
        effects = Effects(folder / "stream.json", log, lambda: newest_segment(predictor.log.folder))
        yield StreamWorker(settings, predictor, streams, effects, on_problem=on_problem)


class Consuming:
    """Runs the stream worker of a process in a thread. While its predecessor finishes, it waits for its turn."""

    def __init__(self, own: Worker) -> None:
        self._own = own
        self._is_over = threading.Event()
        self._worker: StreamWorker | None = None

    def run(self) -> None:
        """Until `leave`. Raises as `stream_worker`, but for the Conflict of a predecessor."""
        own = self._own
        while not self._is_over.is_set():
            try:
                with stream_worker(own.folder, own.settings, own.predictor, complain) as worker:
                    self._worker = worker
                    own.metrics.counters |= worker.counts.readers(COUNTERS)
                    own.metrics.gauges |= worker.counts.readers(GAUGES)
                    if not self._is_over.is_set():
                        worker.run()
            except Taken:
                self._is_over.wait(TURN_EVERY_S)

    def leave(self) -> None:
        self._is_over.set()
        if self._worker is not None:
            self._worker.leave()


def serve(folder: Path, slot: str, _fds: Sequence[int]) -> None:
    """Answers messages until SIGTERM. Raises as `endpoint.worker` and `stream_worker`."""
    with worker(folder, slot) as own, asyncio.Runner() as runner:
        runner.run(_serve(own))


async def _serve(own: Worker) -> None:
    consuming = Consuming(own)
    task = asyncio.create_task(asyncio.to_thread(consuming.run))
    # A thread that failed takes the process with it, so that its supervisor starts another.
    task.add_done_callback(lambda _task: os.kill(os.getpid(), signal.SIGTERM))

    async def drain() -> None:
        consuming.leave()
        await asyncio.wait((task,))

    await own.run([], drain)
    if task.done():
        task.result()


def _open(settings: ServerSettings, name: str) -> Stream:
    scheme = settings.stream_scheme
    options = stream_options(scheme, folder=Path(settings.stream_folder), url=settings.stream_url, name=name)
    stream: Stream = open_own("stream", scheme, **options, visible_s=settings.stream_visible_s)
    return stream


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two workers would each answer what the other has in hand."""
    fd = os.open(folder / "stream.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise Taken(f"Another worker answers the messages of {folder.name}.", "falaj status shows it.") from exc
    try:
        yield
    finally:
        os.close(fd)
