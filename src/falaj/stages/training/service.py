"""Trains candidates: rows as they were known, a recipe, a fit, an exact ONNX model, and what it promises on a sealed holdout."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import distributions
from typing import Any, Protocol

import numpy as np
import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import digest_of, encode
from falaj.core.errors import FalajError, InvalidInput, NotFound
from falaj.core.moments import length
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.mirror import Mirror, Tracked
from falaj.stages.action import Act, Kernel, action
from falaj.stages.training import formats, rules
from falaj.stages.training.formats import Opener, Score
from falaj.stages.training.people import People
from falaj.stages.training.rules import Floats, Split
from falaj.stages.training.spec import SCORE, FitContext, Fitted, Training

REFERENCE_ROWS = 60_000
"""At most so many rows are kept to say what was normal; drift needs no more."""


class Rows(Protocol):
    """What is needed of the contracts stage."""

    def frame(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: Any = "time"
    ) -> pl.DataFrame: ...

    def assets(
        self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: Any = "time"
    ) -> list[Asset]: ...


class Vectors(Protocol):
    """What is needed of the features stage."""

    @property
    def views(self) -> Mapping[str, Any]: ...

    def training_frame(self, recipe: Recipe, spine: pl.DataFrame) -> tuple[Any, Any]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """What a training reads from, and the digest of the code that reads it."""

    contracts: Rows
    features: Vectors
    code: str
    people: People | None = None
    """How rows are sealed that are kept beside a model; None where no training is about people."""


@dataclass(frozen=True, slots=True)
class Table:
    """The labelled rows of a training: the spine as requests, the input [n, k], the target [n]."""

    spine: pl.DataFrame
    x: Any
    y: Floats
    parts: Split


@dataclass(frozen=True, slots=True)
class Made:
    """What a training came to. `scores`: of the holdout, by the stored model; `native`: by the fit function's own."""

    declared: Training
    fitted: Fitted
    table: Table
    metrics: Mapping[str, float]
    scores: Floats
    native: Floats
    digest: str


class Trainer:
    """`trainings` by name; `opened` reads what was stored. The mirror is told of each run; that it fails never fails a run."""

    def __init__(
        self, kernel: Kernel, blobs: Blobs, source: Source, *, trainings: Mapping[str, Training], mirror: Mirror,
        opened: Opener = formats.opened,
    ) -> None:  # fmt: skip
        self.kernel = kernel
        self.blobs = blobs
        self.source = source
        self.trainings = trainings
        self.mirror = mirror
        self.opened = opened

    @action("model.train")
    def train(self, act: Act, subject: Ref, *, training: str, at: datetime, run_id: str) -> Ref:
        """Trains as of `at`, and returns the candidate. Nothing that became known later is used.

        Raises NotFound for an unknown training, InvalidInput where there are too few rows or it makes another model.
        """
        declared = self._declared(training, subject)
        table = self.table(declared, at)
        fitted = declared.fit(_context(declared, table))
        model = formats.stored(fitted, table.x.shape[1])
        score = self.opened(model, formats.format_of(fitted), table.x.shape[1])
        scores = np.asarray(score(table.x[table.parts.holdout]), dtype=np.float64)
        y = table.y[table.parts.holdout]
        native = np.asarray(fitted.predict(table.x[table.parts.holdout]), dtype=np.float64)
        metrics = {**rules.figures(y, scores, declared.threshold), "parity": float(np.abs(scores - native).max())}
        made = Made(declared, fitted, table, metrics, scores, native, self.blobs.put(model))
        labels = self._labels(made, model, score) | {"metrics": metrics, "size": len(model), "at": at}
        candidate = Ref("candidate", declared.model, run_id)
        inputs = self._inputs(declared, table)
        labels["mirror"] = self._track(run_id, made)
        asset = Asset(candidate, made.digest, made.digest, labels=encode(labels), inputs=inputs, run=run_id, created_at=act.now)
        with act.change(candidate) as draft:
            draft.put("asset", str(candidate), asset)
            draft.put("recipe", str(labels["recipe"]), declared.recipe)
            draft.note(training=training, digest=made.digest, metrics=metrics, inputs=len(inputs))
        return candidate

    def table(self, declared: Training, at: datetime) -> Table:
        """The rows of a training as of `at`, by time."""
        spine = self.source.contracts.frame(declared.spine, until=at, by="known")
        for column in (declared.label, declared.label_time):
            if column not in spine.columns:
                raise NotFound.named("column", column, spine.columns)
        spine = spine.filter(pl.col(declared.label).is_not_null() & pl.col(declared.label_time).is_not_null())
        spine = declared.prepare(spine) if declared.prepare else spine
        field = declared.recipe.time_field
        if field not in spine.columns:
            raise InvalidInput(f"The rows of {declared.name!r} have no {field!r}.", "add it in `prepare`.")
        if declared.history:
            spine = spine.filter(
                pl.col(field) > at - length(declared.history) - length(declared.holdout) - length(declared.valid)
            )
        spine = spine.sort(field, maintain_order=True)
        parts = rules.split(
            spine[field], spine[declared.label_time], at, valid=length(declared.valid), holdout=length(declared.holdout)
        )
        x, _ = self.source.features.training_frame(declared.recipe, spine)
        return Table(spine, x, spine[declared.label].cast(pl.Float64).to_numpy(), parts)

    def _declared(self, training: str, subject: Ref) -> Training:
        if training not in self.trainings:
            raise NotFound.named("training", training, self.trainings)
        declared = self.trainings[training]
        if declared.model != subject.name:
            raise InvalidInput(f"The training {training!r} makes model/{declared.model}, not {subject}.")
        return declared

    def _labels(self, made: Made, model: bytes, score: Score) -> dict[str, Any]:
        """What is kept beside the model, by digest."""
        declared, table, fitted = made.declared, made.table, made.fitted
        every = np.asarray(score(table.x), dtype=np.float64)
        native = formats.native_of(fitted, model)
        return {
            "training": declared.name,
            "seed": declared.seed,
            "params": dict(fitted.params or declared.params),
            "recipe": digest_of(encode(declared.recipe)),
            "columns": list(declared.recipe.names),
            "kind": fitted.kind,
            "format": formats.format_of(fitted),
            "native": self.blobs.put(native) if native else None,
            **self._kept(made, every),
            "rows": {name: len(getattr(table.parts, name)) for name in ("train", "valid", "holdout")},
            "code": self.source.code,
            "environment": environment(),
            "threshold": declared.threshold,
        }

    def _kept(self, made: Made, scores: Floats) -> dict[str, str]:
        """The digests of the rows that are kept: those that were sealed off, and what was normal."""
        declared, table, people = made.declared, made.table, self.source.people
        frames = {"holdout": _holdout(made), "reference": _reference(declared.recipe, table, scores)}
        whose = people.whose(declared.recipe, declared.spine, table.spine) if people else None
        if people is not None and whose is not None:
            own = {"holdout": whose[table.parts.holdout.tolist()], "reference": whose[:: _every(table)]}
            frames = {name: people.sealed(frame, own[name], declared.model) for name, frame in frames.items()}
        return {name: self.blobs.put(_parquet(frame)) for name, frame in frames.items()}

    def _inputs(self, declared: Training, table: Table) -> tuple[Ref, ...]:
        """The snapshots that the rows and their features came from."""
        last = table.spine[declared.recipe.time_field].max()
        datasets = {declared.spine} | {self.source.features.views[name].dataset for name in declared.recipe.views}
        assert isinstance(last, datetime)  # the split has refused an empty table
        found = {name: self.source.contracts.assets(name, None, last) for name in sorted(datasets)}
        return tuple(asset.ref for assets in found.values() for asset in assets)

    def _track(self, run_id: str, made: Made) -> str:
        """Shows the run where people look; returns its id over there, or why that did not work."""
        declared, fitted = made.declared, made.fitted
        params = {**fitted.params, "training": declared.name, "seed": declared.seed}
        tags = {"falaj.model": made.digest}
        try:
            tracked = Tracked(run_id, declared.model, params, made.metrics, fitted.curves, self._pictures(made), tags)
            return self.mirror.record_run(tracked)
        except FalajError as exc:
            return f"not mirrored: {exc.message}"

    def _pictures(self, made: Made) -> dict[str, bytes]:
        from falaj.stages.training.plots import draw

        gain = formats.gains(made.fitted, made.table.x.shape[1])
        y = made.table.y[made.table.parts.holdout]
        return draw(y, made.scores, made.declared.recipe.names, gain, made.fitted.curves)


@functools.cache
def environment() -> str:
    """The digest of every installed distribution with its version: the same digest, the same packages."""
    installed = sorted({f"{found.metadata['Name']}=={found.version}" for found in distributions()})
    return "sha256:" + hashlib.sha256(json.dumps(installed).encode()).hexdigest()


def _context(declared: Training, table: Table) -> FitContext:
    train, valid = table.parts.train, table.parts.valid
    return FitContext(
        table.x[train], table.y[train].astype(np.float32), table.x[valid], table.y[valid].astype(np.float32),
        declared.recipe.names, declared.seed, declared.params,
    )  # fmt: skip


def _holdout(made: Made) -> pl.DataFrame:
    """The sealed rows with everything that any recipe of this model could ask of a request."""
    sealed: pl.DataFrame = made.table.spine[made.table.parts.holdout.tolist()]
    y = made.table.y[made.table.parts.holdout]
    return sealed.with_columns(pl.Series("_y", y), pl.Series("_score", made.scores), pl.Series("_native", made.native))


def _reference(recipe: Recipe, table: Table, scores: Floats) -> pl.DataFrame:
    """Every n-th input with its time and its score: what was normal while the model learned."""
    every = _every(table)
    columns = {name: table.x[::every, place] for place, name in enumerate(recipe.names)}
    return pl.DataFrame({"at": table.spine[recipe.time_field][::every].to_list(), **columns, SCORE: scores[::every]})


def _every(table: Table) -> int:
    return max(1, -(-len(table.x) // REFERENCE_ROWS))


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", statistics=False)
    return out.getvalue()
