"""Judges candidates: on their sealed rows, against the champion, and as files."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from falaj.core.asset import Asset
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import NotFound
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.stages.action import Act, Kernel, action
from falaj.stages.gates import rules
from falaj.stages.gates.spec import Gate
from falaj.stages.training import formats
from falaj.stages.training.formats import Opener, Score
from falaj.stages.training.people import People
from falaj.stages.training.service import Vectors

WARM, TIMED = 50, 500
"""Single-row runs before and while the latency is measured."""


class Gates:
    """`gates` by the model's name; `opened` reads what a training stored."""

    people: People | None = None
    """What opens sealed rows, where trainings are about people."""

    def __init__(
        self, kernel: Kernel, blobs: Blobs, features: Vectors, gates: Mapping[str, Gate], *, opened: Opener = formats.opened
    ) -> None:
        self.kernel = kernel
        self.blobs = blobs
        self.features = features
        self.gates = gates
        self.opened = opened

    @action("model.evaluate")
    def evaluate(self, act: Act, candidate: Ref, *, gate: Gate) -> Decision:
        """Whether the candidate may be registered: deny where a check failed, hold where one could not see enough.

        Figures are measured here, from the model's file on the rows that were sealed; what a trainer claims is not believed.
        """
        asset = self.asset(candidate)
        model = self.blobs.get(asset.digest)
        sealed = self._holdout(asset, candidate.name)
        y = sealed["_y"].to_numpy()
        recipe = self._recipe(asset)
        x, _ = self.features.training_frame(recipe, sealed)
        score = self._score(asset, model, x.shape[1])
        scores = np.asarray(score(x), dtype=np.float64)
        champion = self._champion_scores(gate.model, sealed)
        found = rules.data_checks(self._contracts(asset))
        found += rules.checks(gate, y, scores, champion)
        for column in gate.slices:
            found += rules.slice_checks(gate, column, sealed[column].to_list(), y, (scores, champion))
        parity = self._parity(asset, x, sealed, scores)
        form = str(asset.labels.get("format", "onnx"))
        found += rules.promise_checks(gate, parity=parity, p99_ms=latency_p99(score, x), size=len(model), form=form)
        decision = Decision(candidate, "gate", judge(found), tuple(found), act.actor, act.now, _reason(found))
        with act.change() as draft:
            draft.decide(decision)
            draft.note(verdict=decision.verdict, model=asset.digest, holdout=asset.labels["holdout"], rows=len(y))
        return decision

    def decision(self, candidate: Ref) -> Decision:
        """The latest decision about a candidate. Raises NotFound where it was never judged."""
        body = self.kernel.ledger.get("decision", f"{candidate}|gate")
        if body is None:
            raise NotFound(f"No gate has judged {candidate} yet.", f"falaj model evaluate {candidate}")
        return decode(Decision, body)

    def asset(self, candidate: Ref) -> Asset:
        body = self.kernel.ledger.get("asset", str(candidate))
        if body is None:
            known = [key for key, _ in self.kernel.ledger.find("asset", prefix="candidate/")]
            raise NotFound.named("candidate", str(candidate), known)
        return decode(Asset, body)

    def _holdout(self, asset: Asset, model: str) -> pl.DataFrame:
        data = self.blobs.get(str(asset.labels["holdout"]))
        return pl.read_parquet(io.BytesIO(data)) if self.people is None else self.people.opened(data, model)

    def _recipe(self, asset: Asset) -> Recipe:
        body = self.kernel.ledger.get("recipe", str(asset.labels["recipe"]))
        if body is None:
            raise NotFound(f"The recipe of {asset.ref} is not in the ledger.", "train it again.")
        return decode(Recipe, body)

    def _champion_scores(self, model: str, sealed: pl.DataFrame) -> Any:
        """What the champion would have said about the same rows, with its own recipe; None where there is no champion."""
        alias = self.kernel.ledger.get("alias", f"{model}@champion")
        if alias is None:
            return None
        record = self.kernel.ledger.get("model", str(alias["model"]).removeprefix("model/"))
        if record is None:
            raise NotFound(f"The champion {alias['model']} is not in the registry.", "falaj audit verify")
        asset = decode(Asset, record["asset"])
        x, _ = self.features.training_frame(self._recipe(asset), sealed)
        return np.asarray(self._score(asset, self.blobs.get(asset.digest), x.shape[1])(x), dtype=np.float64)

    def _score(self, asset: Asset, model: bytes, columns: int) -> Score:
        return self.opened(model, str(asset.labels.get("format", "onnx")), columns)

    def _contracts(self, asset: Asset) -> dict[str, str]:
        """What the contract said of the snapshots behind the candidate; of each dataset the first that was not allowed."""
        verdicts: dict[str, str] = {}
        for ref in asset.inputs:
            if ref.kind == "dataset":
                body = self.kernel.ledger.get("decision", f"{ref}|contract")
                verdict = str(body["verdict"]) if body else f"no decision about {ref}"
                if verdicts.get(ref.name, "allow") == "allow":
                    verdicts[ref.name] = verdict
        return verdicts

    def _parity(self, asset: Asset, x: Any, sealed: pl.DataFrame, scores: Any) -> float:
        """The greatest difference from the native model, opened again from its own form; infinite where that is missing.

        No library opens a network without the code that made it: what it said of the sealed rows when it was fitted counts.
        """
        kind, native = str(asset.labels.get("kind", "lightgbm")), asset.labels.get("native")
        if native:
            return float(np.abs(formats.native_scores(kind, self.blobs.get(str(native)), x) - scores).max())
        if kind == "safetensors" and "_native" in sealed.columns:
            return float(np.abs(sealed["_native"].to_numpy() - scores).max())
        return float("inf")


def latency_p99(score: Score, x: Any) -> float:
    """Milliseconds that a single row takes at the 99th percentile of warm runs."""
    taken = []
    for number in range(WARM + TIMED):
        row = x[number % len(x)][None, :]
        started = time.perf_counter()
        score(row)
        if number >= WARM:
            taken.append(time.perf_counter() - started)
    return float(np.percentile(taken, 99) * 1e3)


def _reason(found: list[Check]) -> str:
    bad = [check.name for check in found if check.passed is False] or [check.name for check in found if check.passed is None]
    return f"not passed: {', '.join(bad)}" if bad else "every check passed"
