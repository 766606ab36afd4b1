"""Follows what is wanted: each new revision is loaded beside the old one and replaces it only when it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from falaj.core.codec import decode, encode
from falaj.core.errors import Bug, FalajError, InvalidInput
from falaj.core.moments import iso
from falaj.inference.log import PredictionLog, replace_file
from falaj.inference.metrics import Metrics
from falaj.inference.models import Models, Serving
from falaj.inference.predict import Predictor
from falaj.inference.report import stamp, write_json
from falaj.ports.host import Wanted

LOOK_EVERY_S, BEAT_EVERY_S = 0.1, 1.0


@dataclass(slots=True)
class Watch:
    """`wanted.json` is the wish, `good.json` the last wish that could be met, `workers/<slot>.json` what is the case."""

    folder: Path
    models: Models
    predictor: Predictor
    place: Path
    """Where this worker reports."""
    about: Mapping[str, Any]
    """What the report says besides: slot, pid, when it started, the settings' generation."""
    on_problem: Callable[[FalajError], None] = lambda _error: None
    _is_open: bool = field(default=False, init=False)
    """Whether anybody can ask: a model that is loaded behind a door that is shut is not ready."""
    _is_leaving: bool = field(default=False, init=False)
    _is_unsaid: bool = field(default=False, init=False)
    _said: tuple[int, FalajError | None] = field(default=(-1, None), init=False)
    _seen: tuple[int, int, int] | None = field(default=None, init=False)
    _heeded: tuple[int, int, int] | None = field(default=None, init=False)

    def heed(self) -> None:
        """Whether anything may be answered at all. Apart from `look`, which may be busy with a large model, and before it: an
        endpoint that was taken out of use predicts nothing, whether or not its models can be loaded."""
        path = self.folder / "wanted.json"
        seen = stamp(path)
        if seen == self._heeded:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # of what cannot be read, `look` complains
            killed = orjson.loads(path.read_bytes()).get("killed") or {}
            self.predictor.repository.obey(dict(killed))
            self._heeded = seen

    def look(self) -> None:
        """Loads a new wish, if there is one. What cannot be served is reported, and the last good arms go on."""
        self.heed()
        self.predictor.excluded.look()
        path = self.folder / "wanted.json"
        try:
            stat = path.stat()
        except OSError:
            return
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        revision = -1
        try:
            wanted = _read(path)
            revision = wanted.revision
            self._take(self.models.open(wanted))
        except FalajError as exc:
            self.on_problem(exc)
            self._fall_back()
            self._said = revision, exc
            self.report()

    def report(self) -> None:
        """Says how it is; what could not be said is said again with the next sign of life."""
        serving, (tried, problem) = self.predictor.serving, self._said
        body = {
            **self.about,
            "ready": serving is not None and self._is_open,
            "revision": serving.wanted.revision if serving else -1,
            "tried": tried,
            "at": iso(datetime.now(UTC)),
            "problem": problem.to_dict() if problem else None,
            "leaving": self._is_leaving,
        }
        try:
            write_json(self.place, body)
            self._is_unsaid = False
        except OSError as exc:
            # A full disk must not stop an endpoint that answers.
            if not self._is_unsaid:
                self.on_problem(InvalidInput(f"{self.place} could not be written: {exc}."))
            self._is_unsaid = True

    def beat(self) -> None:
        """A sign of life, which needs no room on the disk. It has to follow from the loop that answers: then it shows a hang."""
        if self._is_unsaid:
            self.report()
        with contextlib.suppress(OSError):
            os.utime(self.place)

    def enter(self) -> None:
        """From now on it answers."""
        self._is_open = True
        self.report()

    def leave(self) -> None:
        """From now on it only answers what it has taken on."""
        self._is_open, self._is_leaving = False, True
        self.report()

    def _take(self, serving: Serving) -> None:
        self.predictor.serving = serving
        try:
            replace_file(self.folder / "good.json", orjson.dumps(encode(serving.wanted)))
        except OSError as exc:
            self.on_problem(InvalidInput(f"good.json could not be written: {exc}."))
        self._said = serving.wanted.revision, None
        self.report()

    def _fall_back(self) -> None:
        """After a restart the last good arms are on disk only."""
        if self.predictor.serving is not None or not (self.folder / "good.json").exists():
            return
        try:
            good = _read(self.folder / "good.json")
            self.predictor.serving = self.models.open(good)
            if self._heeded is None:
                self.predictor.repository.obey(good.killed)
        except FalajError as exc:
            self.on_problem(exc)


class Upkeep:
    """Brings the log to the disk, once a second, and knows how far it is behind."""

    def __init__(self, log: PredictionLog, metrics: Metrics, on_problem: Callable[[FalajError], None]) -> None:
        self._log, self._metrics, self._on_problem = log, metrics, on_problem
        self._synced, self._last = log.bytes, time.monotonic()

    def settle(self) -> None:
        written, started = self._log.bytes, time.monotonic()
        try:
            self._log.sync()
            ended = time.monotonic()
            if written != self._synced:
                self._metrics.synced(ended - started)
            self._synced, self._last = written, started
        except FalajError as exc:
            self._on_problem(exc)

    def lag(self) -> float:
        """Seconds that the oldest record may have waited for the disk; 0 where none waits."""
        return time.monotonic() - self._last if self._log.bytes != self._synced else 0.0


async def keep_looking(watch: Watch, upkeep: Upkeep) -> None:
    """Until it is cancelled, off the event loop: looks ten times a second whether it may answer at all and about whom, and at the
    wish; settles the log, gives a sign of life and writes the metrics down once a second. None of them waits for another: a large
    model or a busy disk is no hang, and does not keep an endpoint in use."""
    loop = asyncio.get_running_loop()

    async def every(seconds: float, call: Callable[[], None]) -> None:
        while True:
            await loop.run_in_executor(None, call)
            await asyncio.sleep(seconds)

    calls = (upkeep.settle, watch.beat, watch.predictor.metrics.save)
    looks = (watch.heed, watch.predictor.excluded.look, watch.look)
    await asyncio.gather(*(every(LOOK_EVERY_S, call) for call in looks), *(every(BEAT_EVERY_S, call) for call in calls))


class GroupSync:
    """`sync = "always"`: whoever waits meanwhile shares the next fdatasync. Raises Unavailable where the disk refuses."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            problem: FalajError | None = None
            try:
                await loop.run_in_executor(None, self._settle)
            except FalajError as exc:
                problem = exc
            except Exception as exc:
                problem = Bug(f"The log could not be settled: {exc!r}")
            for future in group:
                if future.done():
                    continue
                if problem is None:
                    future.set_result(None)
                else:
                    future.set_exception(problem)


def _read(path: Path) -> Wanted:
    try:
        return decode(Wanted, orjson.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InvalidInput(f"{path} cannot be read: {exc}.", "the host writes it again with the next promotion.") from exc
