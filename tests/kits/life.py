"""A small world with data, features, trainings and gates, from which real models come within a second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.signing import SigningKey, sign_envelope
from falaj.adapters.memory.blobs import MemoryBlobs
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.adapters.memory.mirror import MemoryMirror
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.actor import Actor
from falaj.core.decision import Decision
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.contracts.service import Contracts
from falaj.stages.contracts.spec import Dataset
from falaj.stages.features.service import Features
from falaj.stages.features.spec import View, category, inputs, local, number
from falaj.stages.gates.service import Gates
from falaj.stages.gates.spec import Gate
from falaj.stages.registry.service import Registry
from falaj.stages.training.service import Source, Trainer
from falaj.stages.training.spec import FitContext, Fitted, Training

START = datetime(2013, 1, 1, tzinfo=UTC)
AT = START + timedelta(days=60)
"""The moment of the trainings."""
SERVICE = Actor("worker", "service", ("service",))
APPROVER = Actor("noura", "person", ("approver",))
MODEL = Ref("model", "delay")
TRIPS, HOURS = 6000, 24 * 80
_TIMES = pl.Datetime("ms", "UTC")

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: {name}
version: 1.0.0
status: active
schema:
  - name: {name}
    properties:
{columns}
"""
_TRIP_COLUMNS = {
    "id": "string, primaryKey: true",
    "at": "timestamp, required: true",
    "known_at": "timestamp, required: true",
    "zone": "string",
    "miles": "number",
    "late": "integer",
}
_SKY_COLUMNS = {"zone": "string", "seen_at": "timestamp, required: true", "temp": "number"}


def trips() -> pl.DataFrame:
    """6,000 trips over 80 days, late where it is cold and far; the last label comes an hour after the trip."""
    chance = np.random.default_rng(7)
    at = [START + timedelta(seconds=round(second)) for second in sorted(chance.uniform(0, HOURS * 3600, TRIPS))]
    zone = chance.choice(["east", "west"], TRIPS)
    miles = chance.uniform(1, 50, TRIPS)
    cold = np.array([_temp(moment, name) for moment, name in zip(at, zone, strict=True)]) < 5
    chances = 1 / (1 + np.exp(-(miles / 10 + 2 * cold - 4)))
    late = (chance.random(TRIPS) < chances).astype(int)
    return pl.DataFrame(
        {
            "id": [f"t{n}" for n in range(TRIPS)],
            "at": at,
            "known_at": [moment + timedelta(hours=1) for moment in at],
            "zone": zone.tolist(),
            "miles": miles,
            "late": late,
        },
        schema_overrides={"at": _TIMES, "known_at": _TIMES},
    )


def sky() -> pl.DataFrame:
    rows = [(zone, START + timedelta(hours=hour)) for hour in range(HOURS) for zone in ("east", "west")]
    frame = pl.DataFrame(
        {"zone": [zone for zone, _ in rows], "seen_at": [at for _, at in rows]}, schema_overrides={"seen_at": _TIMES}
    )
    return frame.with_columns(temp=pl.Series([_temp(at, zone) for zone, at in rows]))


def _temp(at: datetime, zone: str) -> float:
    return 10 * np.sin(at.timetuple().tm_yday) + (2.0 if zone == "east" else -2.0)


def fit(context: FitContext) -> Fitted:
    import lightgbm

    params = {
        "objective": "binary", "num_leaves": 7, "min_data_in_leaf": 20, "seed": context.seed, "deterministic": True,
        "force_row_wise": True, "num_threads": 1, "verbose": -1, **context.params,
    }  # fmt: skip
    seen: dict[str, Any] = {}
    train = lightgbm.Dataset(context.train_x, context.train_y)
    valid = lightgbm.Dataset(context.valid_x, context.valid_y, reference=train)
    booster = lightgbm.train(params, train, 25, valid_sets=[valid], callbacks=[lightgbm.record_evaluation(seen)])
    curves = {name: tuple(values) for name, values in seen["valid_0"].items()}
    return Fitted(booster, booster.predict, "lightgbm", booster.model_to_string(), params, curves)


SKY = View("sky_now", "sky", entity="zone", features=("temp",), time="seen_at", ttl="3h")
RECIPE = inputs(SKY.all(), number("miles"), category("zone", ("east", "west")), local(zone="Asia/Dubai", parts=("hour",)))
TRAINING = Training(
    "delay", "delay", "trips", "late", "known_at", RECIPE, fit, valid="7d", holdout="14d", slices=("zone",), threshold=0.4
)
BLIND = replace(
    TRAINING,
    name="blind",
    recipe=inputs(number("hour_only"), time="at"),
    prepare=lambda rows: rows.with_columns(hour_only=pl.lit(1.0)),
)
"""Sees nothing of what matters."""
GATE = Gate("delay", auc_floor=0.6, auc_margin=0.02, calibration_ceiling=0.1, slices=("zone",), latency_ms=500.0)


@dataclass
class Life:
    kernel: Kernel
    blobs: MemoryBlobs
    contracts: Contracts
    features: Features
    mirror: MemoryMirror
    trainer: Trainer
    gates: Gates
    registry: Registry
    key: SigningKey
    now: datetime = AT

    def candidate(self, run_id: str, training: str = "delay", at: datetime = AT) -> Ref:
        return self.trainer.train(SERVICE, MODEL, training=training, at=at, run_id=run_id)

    def judged(self, candidate: Ref, gate: Gate = GATE) -> Decision:
        return self.gates.evaluate(SERVICE, candidate, gate=gate)

    def registered(self, run_id: str, training: str = "delay") -> Ref:
        candidate = self.candidate(run_id, training)
        return self.registry.register(SERVICE, MODEL, candidate=candidate, decision=self.judged(candidate))


class Undrawn(Trainer):
    """Drawing is most of the time that a small training takes."""

    def _pictures(self, *_: Any) -> dict[str, bytes]:
        return {}


def life(folder: Path, trainer: type[Trainer] = Undrawn, ledger: Any = None) -> Life:
    """A world whose data is known until the last day, and that stands at `AT`. `ledger`: in memory unless another is given."""
    tables = {"trips": trips(), "sky": sky()}
    known = {"trips": "known_at", "sky": "seen_at"}
    for name, columns in (("trips", _TRIP_COLUMNS), ("sky", _SKY_COLUMNS)):
        lines = "\n".join(f"      - {{name: {column}, logicalType: {kind}}}" for column, kind in columns.items())
        (folder / f"{name}.odcs.yaml").write_text(CONTRACT.format(name=name, columns=lines))

    def rows_of(name: str) -> Any:
        column = pl.col(known[name])
        return lambda since, until: tables[name].filter((column <= until) & (True if since is None else column > since))

    datasets = {
        "trips": Dataset("trips", "trips.odcs.yaml", rows_of("trips"), "at", "known_at"),
        "sky": Dataset("sky", "sky.odcs.yaml", rows_of("sky"), "seen_at", "seen_at"),
    }
    blobs, mirror, key = MemoryBlobs(), MemoryMirror(), SigningKey.generate()
    kernel = Kernel(ledger or MemoryLedger(), RolePolicy(), lambda: AT)
    contracts = Contracts(kernel, blobs, datasets, folder)
    for name in datasets:
        contracts.ingest(SERVICE, Ref("dataset", name), until=AT)
        contracts.ingest(SERVICE, Ref("dataset", name), until=START + timedelta(hours=HOURS))
    features = Features(kernel, contracts, MemoryOnline(), {"sky_now": SKY})
    source = Source(contracts, features, "sha256:code")
    trains = trainer(kernel, blobs, source, trainings={"delay": TRAINING, "blind": BLIND}, mirror=mirror)
    registry = Registry(
        kernel, blobs, sign=lambda payload, kind: sign_envelope(payload, kind, key),
        places=lambda recipe: {name: list(features.view(name).places) for name in recipe.views}, mirror=mirror,
    )  # fmt: skip
    return Life(
        kernel, blobs, contracts, features, mirror, trains, Gates(kernel, blobs, features, {"delay": GATE}), registry, key
    )
