"""Scores whole tables with a registered model, and records what was read, by which model, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import digest_of, encode
from falaj.core.errors import Conflict
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.ports.blobs import Blobs
from falaj.stages.action import Act, Kernel, action
from falaj.stages.registry.service import refuse_withheld
from falaj.stages.scoring import rules
from falaj.stages.scoring.parts import Parts
from falaj.stages.scoring.rules import Named, Vectors

CHUNK = 131_072
"""Rows of a part: so many are in memory at once, with their features."""


class Looked(Protocol):
    """How rows of requests become vectors: `look(recipe, rows) -> (vectors, of each row why there is none)`."""

    def __call__(self, recipe: Recipe, rows: pl.DataFrame) -> tuple[Vectors, Sequence[str | None]]: ...


@dataclass(frozen=True, slots=True)
class Table:
    """What is scored. `digest`: of its content; `assets`: what it is, to be recorded where the ledger does not have it."""

    pieces: Callable[[], Iterator[pl.DataFrame]]
    digest: str
    inputs: tuple[Ref, ...]
    assets: tuple[Asset, ...] = ()
    unchanged: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model made ready. `digest`: of its bytes."""

    recipe: Recipe
    run: rules.Run
    digest: str
    named: Named


@dataclass(frozen=True, slots=True)
class Job:
    """One scoring. `state`: what the features are read from, so that other features are another scoring."""

    table: Table
    scorer: Scorer
    look: Looked
    folder: Path
    features: str = "as_of"
    """`as_of`: of each row's own time, from snapshots. `online`: as the online store has them now."""
    carry: tuple[str, ...] = ()
    state: tuple[Ref, ...] = ()
    at: str = ""
    """When, where the features are those of now."""
    params: dict[str, Any] = field(default_factory=dict)
    endpoint: str = ""
    """In whose place it is scored; taken out of use, it scores nothing more."""

    @property
    def uses(self) -> tuple[Ref, ...]:
        """What policy is asked about beside the model: each dataset once, as it stands now, and the files."""
        read = (ref.bare if ref.kind == "dataset" else ref for ref in (*self.table.inputs, *self.state))
        return tuple(dict.fromkeys(read))

    @property
    def plan(self) -> str:
        """The digest of all that the output depends on."""
        scorer = self.scorer
        return digest_of(encode({
            "table": self.table.digest, "model": scorer.digest, "recipe": scorer.recipe, "named": scorer.named,
            "features": self.features, "carry": self.carry, "state": sorted(map(str, self.state)), "at": self.at, "chunk": CHUNK,
        }))  # fmt: skip


class Scoring:
    def __init__(self, kernel: Kernel, blobs: Blobs) -> None:
        self.kernel = kernel
        self.blobs = blobs

    @action("model.score")
    def score(self, act: Act, model: Ref, *, job: Job, run_id: str) -> Ref:
        """Scores every row of the table into Parquet files, and returns the asset that they are.

        The same table, model and features again change nothing; what was cut short goes on where it stopped. Raises
        Conflict where no gate let the model pass, where the folder holds something else or the input changed meanwhile, and as
        soon as the model is in quarantine or the endpoint is taken out of use.
        """
        record = self.kernel.ledger.get("model", f"{model.name}@{model.version}") or {}
        if record.get("gate") != "allow":
            raise Conflict(f"No gate let {model} pass (it says {record.get('gate')!r}).", f"falaj model show {model}")
        self._refuse_stopped(model, job)
        plan = job.plan
        scores = Ref("scores", model.name, plan.removeprefix("sha256:")[:16])
        parts = Parts(job.folder, plan)
        try:
            if not parts.is_whole or self.kernel.ledger.get("asset", str(scores)) is None:
                self._score(model, job, parts)
                self._record(act, job, parts, (model, scores, run_id))
        finally:
            parts.close()
        return scores

    def _record(self, act: Act, job: Job, parts: Parts, names: tuple[Ref, Ref, str]) -> None:
        """`names`: the model, the scores and the run."""
        model, scores, run_id = names
        if not job.table.unchanged():
            raise Conflict("The input was changed while it was scored.", "score again when it is whole, into another folder.")
        inputs = (model, *job.table.inputs, *job.state)
        about = {"model": str(model), "digest": job.scorer.digest, "input": job.table.digest, "features": job.features}
        receipt = parts.finish(about)
        digest = self.blobs.put(receipt)
        rows, problems = (sum(int(part[name]) for part in parts.done) for name in ("rows", "problems"))
        labels = {"rows": rows, "problems": problems, "parts": len(parts.done), "plan": parts.plan, **job.params}
        asset = Asset(scores, digest, digest, labels=labels, inputs=inputs, run=run_id, created_at=act.now)
        with act.change() as draft:
            for held in (asset, *job.table.assets):
                if draft.get("asset", str(held.ref)) is None:
                    draft.put("asset", str(held.ref), held)
            if draft.get("run", run_id) is None:
                ended = Run(run_id, "score", job.params, "succeeded", 1, inputs, (scores,), act.now, self.kernel.now())
                draft.put("run", run_id, ended)
            draft.note(scores=str(scores), digest=digest, rows=rows, problems=problems, run=run_id, inputs=len(inputs))

    def _refuse_stopped(self, model: Ref, job: Job) -> None:
        refuse_withheld(self.kernel.ledger, model)
        served = self.kernel.ledger.get("endpoint", job.endpoint) if job.endpoint else None
        if served is not None and served["wanted"].get("killed"):
            raise Conflict(f"endpoint/{job.endpoint} was taken out of use.", f"falaj endpoint show {job.endpoint}")

    def _score(self, model: Ref, job: Job, parts: Parts) -> None:
        """Every part that is not there yet. At most a chunk of rows is held at once."""
        first = 0
        for number, chunk in enumerate(rules.in_chunks(job.table.pieces(), CHUNK)):
            if number >= len(parts.done):
                self._refuse_stopped(model, job)
                numbers = pl.Series(rules.ROW, range(first, first + chunk.height), dtype=pl.Int64)
                made = _scored(job, chunk.with_columns(numbers))
                parts.add(made, int(made[rules.PROBLEM].is_not_null().sum()))
            first += chunk.height


def _scored(job: Job, chunk: pl.DataFrame) -> pl.DataFrame:
    recipe = job.scorer.recipe
    form = rules.form_of(chunk.columns, recipe)
    keep = rules.carried(chunk.columns, recipe, job.carry)
    problems = rules.problems_of(chunk, recipe, form)
    good = np.array([problem is None for problem in problems], bool)
    rows = chunk.filter(pl.Series(good))
    told: Sequence[str | None] = [None] * rows.height
    if form == "vectors":
        matrix = rules.matrix_of(rows, recipe)
    elif rows.height:
        with np.errstate(over="ignore"):  # what a product comes to is the model's to judge, as it is at an endpoint
            matrix, told = job.look(recipe, rows)
    else:
        matrix = np.empty((0, len(recipe.columns)), np.float32)
    scores = np.full(chunk.height, np.nan)
    is_made = np.array([problem is None for problem in told], bool)
    places = np.flatnonzero(good)
    scores[places[is_made]] = rules.run_all(job.scorer.run, np.ascontiguousarray(matrix[is_made]))
    for place, problem in zip(places.tolist(), told, strict=True):
        problems[place] = problem
    return rules.scored(chunk, keep=keep, scores=scores, problems=problems, named=job.scorer.named)
