"""A predictor over two real models, a log and a store in memory, as a worker has it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from falaj.adapters.local.predictions import SegmentPredictions
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.actor import Actor
from falaj.core.errors import Bug
from falaj.core.moments import millis
from falaj.core.recipe import Recipe
from falaj.inference.log import PredictionLog
from falaj.inference.metrics import Metrics
from falaj.inference.models import Live, Model, Serving
from falaj.inference.predict import Predictor
from falaj.ports.host import Arm, Wanted
from falaj.ports.online import Stored
from tests.kits.endpoint import AT, PLACES, RECIPE, tiny_onnx

NOW = datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
APP = Actor("app", "service", ("caller",))


class Counted(Model):
    """The real model, which also counts its runs and fails on demand."""

    def __init__(self, data: bytes, recipe: Recipe, places: Any) -> None:
        super().__init__(data, recipe, places)
        self.runs: list[int] = []
        whole = self.run

        def run(rows: Any) -> Any:
            self.runs.append(len(rows))
            if (np.asarray(rows)[:, 0] == 666).any():
                raise Bug("The model failed: it was asked to.")
            return whole(rows)

        self.run = run


class Place:
    def __init__(self, folder: Path, *, share: float = 0.5, clock: str = "wall") -> None:
        self.online = MemoryOnline()
        self.online.put("weather_now", {"EWR": Stored(millis(AT), (50.0,))})
        self.log, self.folder = PredictionLog(folder), folder
        self.predictor = Predictor(self.log, self.online, Metrics(), clock, lambda: NOW)
        self.models = [Counted(tiny_onnx(0.001 * n), RECIPE, PLACES) for n in (1, 2)]
        arms = (
            Arm("champion", "model/delay@1", "sha256:" + "a" * 64, 1 - share, "release/delay@1"),
            Arm("challenger", "model/delay@2", "sha256:" + "b" * 64, share, "release/delay@2"),
        )
        lives = tuple(Live(arm, model, arm.model[-1]) for arm, model in zip(arms, self.models, strict=True))
        self.predictor.serving = Serving(Wanted("delay", 1, arms, "salt", 0.5, "flight_id"), "delay", lives)

    def records(self) -> list[Any]:
        return [record for _, record in SegmentPredictions(self.folder).follow()]
