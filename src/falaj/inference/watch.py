"""Follows what is wanted: each new revision is loaded beside the old one and replaces it only when it runs."""

from __future__ import annotations

import asyncio
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
from falaj.inference.models import Models, Serving
from falaj.inference.predict import Predictor
from falaj.inference.seals import Sealer
from falaj.ports.host import Wanted

LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class Watch:
    """`wanted.json` is the wish, `good.json` the last wish that could be met, `server.json` what is the case."""

    folder: Path
    models: Models
    predictor: Predictor
    about: Mapping[str, Any]
    """What server.json says besides: pid, url, port, when it started."""
    on_problem: Callable[[FalajError], None] = lambda _error: None
    _seen: tuple[int, int, int] | None = field(default=None, init=False)

    def look(self) -> None:
        """Loads a new wish, if there is one. What cannot be served is reported, and the last good arms go on."""
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
            self.report(revision, exc)

    def report(self, tried: int = -1, problem: FalajError | None = None) -> None:
        serving = self.predictor.serving
        body = {
            **self.about,
            "ready": serving is not None,
            "revision": serving.wanted.revision if serving else -1,
            "tried": tried,
            "at": iso(datetime.now(UTC)),
            "problem": problem.to_dict() if problem else None,
        }
        try:
            replace_file(self.folder / "server.json", orjson.dumps(body))
        except OSError as exc:
            # A full disk must not stop an endpoint that answers; the host sees the old report and asks again.
            self.on_problem(InvalidInput(f"server.json could not be written: {exc}."))
            self._seen = None

    def _take(self, serving: Serving) -> None:
        self.predictor.serving = serving
        try:
            replace_file(self.folder / "good.json", orjson.dumps(encode(serving.wanted)))
        except OSError as exc:
            self.on_problem(InvalidInput(f"good.json could not be written: {exc}."))
        self.report(serving.wanted.revision)

    def _fall_back(self) -> None:
        """After a restart the last good arms are on disk only."""
        if self.predictor.serving is not None or not (self.folder / "good.json").exists():
            return
        try:
            self.predictor.serving = self.models.open(_read(self.folder / "good.json"))
        except FalajError as exc:
            self.on_problem(exc)


async def keep_looking(watch: Watch, log: PredictionLog, sealer: Sealer, is_over: Callable[[], bool]) -> None:
    """Looks at the wish ten times a second and settles the log once a second, off the event loop, until it is over."""
    loop = asyncio.get_running_loop()
    settled = time.monotonic()
    while not is_over():
        await loop.run_in_executor(None, watch.look)
        now = time.monotonic()
        if now - settled >= 1.0:
            settled = now
            try:
                await loop.run_in_executor(None, log.sync)
                await loop.run_in_executor(None, sealer.look)
            except FalajError as exc:
                watch.on_problem(exc)
        await asyncio.sleep(LOOK_EVERY_S)


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
