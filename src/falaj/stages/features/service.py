"""Features: reads views from snapshots for training, keeps the online store up to date, and proves that both agree."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import NotFound
from falaj.core.moments import from_millis, iso, millis, moment
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.online import Online
from falaj.stages.action import Act, Kernel, action
from falaj.stages.features.data import Contracts
from falaj.stages.features.explain import Explanation, explain
from falaj.stages.features.offline import rows_behind, rows_between
from falaj.stages.features.refresh import Intake, Refresh
from falaj.stages.features.rules import Mismatch, StoredAt, Vectors, mismatches, spine_of, vectors
from falaj.stages.features.spec import AnyView, span_ms

_NAMED = 20
"""How many mismatches a parity decision names one by one; the count covers all."""


class Features:
    """The features of one project."""

    def __init__(self, kernel: Kernel, contracts: Contracts, online: Online, views: Mapping[str, AnyView]) -> None:
        self.kernel = kernel
        self.contracts = contracts
        self.online = online
        self.views = dict(views)
        self._refresh = Refresh(contracts, online, self._intake)
        self._lock = threading.Lock()

    def view(self, name: str) -> AnyView:
        """Raises NotFound with the nearest names."""
        if name not in self.views:
            raise NotFound.named("view", name, self.views)
        return self.views[name]

    def offline(self, view_name: str, since: datetime, until: datetime) -> pl.DataFrame:
        """The view's rows with a time in (since, until], from snapshots: entity, `at`, features."""
        return rows_between(self.contracts, self.view(view_name), since, until)

    def training_frame(self, recipe: Recipe, spine: pl.DataFrame) -> tuple[Vectors, StoredAt]:
        """The model's input for each row of the spine as float32 [n, k], and for each view the time of the row that was read.

        The spine has the recipe's request fields as columns, its time field with a time zone. Nothing that became known
        after a row's time is used for it. Raises NotFound for a view that the project does not declare.
        """
        views = {name: self.view(name) for name in recipe.views}
        times = spine[recipe.time_field] if recipe.time_field in spine.columns else None
        rows = {} if times is None else {name: rows_behind(self.contracts, view, recipe, spine) for name, view in views.items()}
        return vectors(recipe, spine, views, rows)

    def refresh(self, now: datetime) -> dict[str, int]:
        """Brings the online store up to `now` and returns how many rows of each view were put.

        The data plane: it changes no record and leaves no event (`feature.materialise` does). Incremental, also after a
        restart: the store holds a mark of how far it has come, and putting the same row twice changes nothing.
        """
        with self._lock:
            read: dict[tuple[str, datetime | None], pl.DataFrame] = {}
            return {name: self._refresh.advance(view, now, read) for name, view in self.views.items()}

    @action("feature.materialise")
    def materialise(self, act: Act, view: Ref, *, until: datetime) -> Decision:
        """Refreshes one view and records what was put since the last such event: rows, newest time, SHA-256.

        The refreshes between two events leave no event of their own; their rows are in the sum of the next one. The sum
        starts anew when the process does. Denied where the newest row is older than the ttl, held where there is none.
        """
        declared = self.view(view.name)
        with self._lock:
            self._refresh.advance(declared, until, {})
            put = self._refresh.take(view.name)
        newest = self.online.freshness(view.name)
        check = _fresh(declared, newest, until)
        decision = Decision(view.bare, "freshness", judge([check]), (check,), act.actor, act.now)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(
                view=view.name,
                rows=put.rows,
                until=until,
                newest=None if newest is None else from_millis(newest),
                sha256="sha256:" + put.summed.hexdigest(),
            )
        return decision

    @action("feature.verify")
    def verify(
        self, act: Act, subject: Ref, *, records: Iterable[Mapping[str, Any]], recipe: Recipe, tolerance: float = 1e-9
    ) -> Decision:
        """Parity: the features that predictions were logged with, against the truth recomputed from snapshots.

        `records`: records of the prediction log; those without a request by entity are passed over. A prediction later
        than the snapshots of every dataset it reads cannot be judged yet. Denied where any feature differs, each
        difference named (prediction, feature, online, offline); held where nothing could be judged.
        """
        whole = [r for r in records if r.get("kind") == "prediction" and _has_fields(r.get("request"), recipe)]
        covered = self._covered(recipe)
        judged = [r for r in whole if covered is not None and moment(r["at"]) <= covered]
        found: list[Mismatch] = []
        if judged:
            spine = spine_of(recipe, [r["request"] for r in judged], [moment(r["at"]) for r in judged])
            truth, _ = self.training_frame(recipe, spine)
            found = mismatches(recipe.names, {r["id"]: r["features"] for r in judged}, truth, tolerance=tolerance)
        checks = _parity_checks(found, len(judged), len(recipe.columns))
        decision = Decision(subject.bare, "parity", judge(checks), checks, act.actor, act.now)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(
                predictions=len(judged),
                not_yet=len(whole) - len(judged),
                values=len(judged) * len(recipe.columns),
                mismatches=len(found),
            )
        return decision

    def explain(self, view_name: str, entity: str, at: datetime) -> Explanation:
        """The row that a request for the entity at that moment reads, and the dataset's rows behind it, from snapshots."""
        return explain(self.contracts, self.view(view_name), entity, at)

    def _intake(self, dataset: str) -> Intake:
        head = self.kernel.ledger.get("head", f"dataset/{dataset}")
        ruling = self.kernel.ledger.get("decision", f"dataset/{dataset}|contract")
        watermark = moment(head["watermark"]) if head is not None and head["watermark"] else None
        return Intake(watermark, ruling is not None and ruling["verdict"] != "allow")

    def _covered(self, recipe: Recipe) -> datetime | None:
        """Until when the snapshots of every dataset that the recipe reads are complete; None where one has none."""
        marks: list[datetime] = []
        for name in recipe.views:
            head = self.kernel.ledger.get("head", f"dataset/{self.view(name).dataset}")
            if head is None:
                return None
            marks.append(moment(head["watermark"]))
        return min(marks) if marks else self.kernel.now()


def _fresh(view: AnyView, newest: int | None, until: datetime) -> Check:
    limit = None if view.ttl is None else span_ms(view.ttl)
    wanted = "a row" if limit is None else f"newest row at most {view.ttl} old"
    if newest is None:
        return Check("freshness", wanted, "no row", None)
    return Check(
        "freshness", wanted, f"newest row of {iso(from_millis(newest))}", limit is None or millis(until) - newest <= limit
    )


def _has_fields(request: Any, recipe: Recipe) -> bool:
    return isinstance(request, Mapping) and all(name in request for name in recipe.request_fields if name != recipe.time_field)


def _parity_checks(found: Sequence[Mismatch], predictions: int, columns: int) -> tuple[Check, ...]:
    seen = f"{len(found)} of {predictions * columns} values of {predictions} predictions differ"
    total = Check(
        "parity",
        "every value as offline",
        seen if predictions else "no prediction that snapshots cover yet",
        not found if predictions else None,
    )
    named = (Check(f"{m.prediction}.{m.feature}", f"offline {m.offline}", f"online {m.online}", False) for m in found[:_NAMED])
    return (total, *named)
