"""An endpoint's streams: opened as its settings name them, and answered by one worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import stream_options
from falaj.core.errors import Conflict, FalajError
from falaj.inference.consume import Streams, StreamWorker
from falaj.inference.effects import Effects, newest_segment
from falaj.inference.predict import Predictor
from falaj.inference.settings import ServerSettings
from falaj.ports.predictions import Predictions
from falaj.ports.stream import Stream


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
        log: Predictions = open_adapter("predictions", "file", folder=predictor.log.folder)
        effects = Effects(folder / "stream.json", log, lambda: newest_segment(predictor.log.folder))
        yield StreamWorker(settings, predictor, streams, effects, on_problem=on_problem)


def _open(settings: ServerSettings, name: str) -> Stream:
    scheme = settings.stream_scheme
    options = stream_options(scheme, folder=Path(settings.stream_folder), url=settings.stream_url, name=name)
    stream: Stream = open_adapter("stream", scheme, **options, visible_s=settings.stream_visible_s)
    return stream


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two workers would each answer what the other has in hand."""
    import fcntl

    fd = os.open(folder / "stream.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise Conflict(f"Another worker answers the messages of {folder.name}.", "falaj status shows it.") from exc
    try:
        yield
    finally:
        os.close(fd)
