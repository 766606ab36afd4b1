"""A stream worker on a real model, a real log and memory streams, which can be cut off at any step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.online import MemoryOnline
from falaj.adapters.memory.stream import Channel, MemoryStream
from falaj.core.errors import Bug, FalajError
from falaj.core.message import Delivery, Message
from falaj.core.moments import millis
from falaj.inference.consume import Streams, StreamWorker
from falaj.inference.effects import Effects, newest_segment
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Model, Serving
from falaj.inference.predict import Predictor
from falaj.inference.settings import ServerSettings
from falaj.ports.host import Arm, Wanted
from falaj.ports.online import Stored
from tests.kits.endpoint import AT, PLACES, RECIPE, REQUEST, tiny_onnx

NOW = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)


class Killed(BaseException):
    """What no code catches, as nothing catches kill -9."""


class Cut(MemoryStream):
    """Dies before or after one of its calls: `at` is as in "produce" or "after produce"."""

    at = ""

    def produce(self, messages: Sequence[Message]) -> int:
        return self._around("produce", lambda: super(Cut, self).produce(messages))

    def acknowledge(self, group: str, deliveries: Sequence[Delivery]) -> None:
        self._around("acknowledge", lambda: super(Cut, self).acknowledge(group, deliveries))

    def consume(self, group: str, limit: int, wait_s: float) -> list[Delivery]:
        return self._around("consume", lambda: super(Cut, self).consume(group, limit, wait_s))

    def _around(self, name: str, call: Callable[[], Any]) -> Any:
        if self.at == name:
            raise Killed
        found = call()
        if self.at == f"after {name}":
            raise Killed
        return found


class Poisoned(Model):
    """Fails at 666, and kills its process at 667."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        whole = self.run

        def run(rows: Any) -> Any:
            first = np.asarray(rows)[:, 0]
            if (first == 667).any():
                raise Killed
            if (first == 666).any():
                raise Bug("The model failed: it was asked to.")
            return whole(rows)

        self.run = run


class Desk:
    """Everything that outlives a worker; `worker()` is the next one."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.source, self.sink, self.dead = Channel(), Channel(), Channel()
        self.settings = ServerSettings(**{
            "endpoint": "delay", "blobs": "", "online": "", "public_key": "", "pepper": "", "clock": "replay",
            "stream_source": "requests", "stream_sink": "answers", "stream_dead": "answers.dead", "stream_group": "falaj",
            "stream_visible_s": 0.05, "stream_tries": 3, **settings,
        })  # fmt: skip
        self.model = Poisoned(tiny_onnx(), RECIPE, PLACES)
        self.arm = Arm("champion", "model/delay@1", "sha256:" + "a" * 64, 1.0, "release/delay@1")
        self.online = MemoryOnline()
        self.online.put("weather_now", {"EWR": Stored(millis(AT), (50.0,))})
        self.problems: list[FalajError] = []
        self.log: PredictionLog | None = None

    def worker(self, *, serves: bool = True, **cuts: str) -> StreamWorker:
        """`source="after consume"` cuts it off there."""
        if self.log is not None:
            self.log.close()
        self.log = PredictionLog(self.folder / "segments")
        predictor = Predictor(self.log, self.online, Metrics(), self.settings.clock, lambda: NOW)
        if serves:
            predictor.serving = self.serving()
        effects = Effects(
            self.folder / "stream.json", SegmentPredictions(self.log.folder), lambda: newest_segment(self.folder / "segments")
        )
        streams = []
        for name in ("source", "sink", "dead"):
            stream = Cut(getattr(self, name), visible_s=self.settings.stream_visible_s)
            stream.at = cuts.get(name, "")
            streams.append(stream)
        return StreamWorker(self.settings, predictor, Streams(*streams), effects, on_problem=self.problems.append)

    def serving(self) -> Serving:
        live = Live(self.arm, self.model, "1")
        return Serving(Wanted("delay", 1, (self.arm,), "salt", 0.5, "flight_id"), "delay", (live,))

    def ask(self, *messages: Message) -> None:
        MemoryStream(self.source).produce(messages)

    def expire(self) -> None:
        """The visibility time is over of whatever a worker that died had in hand."""
        for lease in self.source.groups["falaj"].held.values():
            lease.until_ms = 0

    @property
    def answers(self) -> list[Message]:
        return [one.message for one in MemoryStream(self.sink).replay()]

    @property
    def letters(self) -> list[Message]:
        return [one.message for one in MemoryStream(self.dead).replay()]

    @property
    def lag(self) -> int:
        return MemoryStream(self.source).lag("falaj")

    @property
    def logged(self) -> list[Mapping[str, Any]]:
        found = SegmentPredictions(self.folder / "segments").follow()
        return [record for _, record in found if record["kind"] == "prediction"]

    def close(self) -> None:
        if self.log is not None:
            self.log.close()


def entity(flight: str = "f-1", **changes: Any) -> bytes:
    return json.dumps({**REQUEST, "flight_id": flight, **changes}).encode()


def tensor(*rows: Sequence[float | None], at: str | None = "2013-05-01T09:30:00Z", **changes: Any) -> bytes:
    data = [value for row in rows for value in row]
    call = {"inputs": [{"name": "X", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}], **changes}
    return json.dumps(call | ({"parameters": {"at": at, "unit": "u"}} if at else {})).encode()


def with_settings(desk: Desk, **changes: Any) -> Desk:
    desk.settings = replace(desk.settings, **changes)
    return desk
