"""Features: reads views from snapshots for training, keeps the online store up to date, and proves that both agree."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from math import isnan
from typing import Any

import polars as pl

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.masking import hides_request, masked_of
from falaj.core.moments import from_millis, iso, millis, moment
from falaj.core.recipe import Recipe, entity_of
from falaj.core.ref import Ref
from falaj.ports.online import Online
from falaj.stages.action import Act, Kernel, action
from falaj.stages.features.data import Contracts
from falaj.stages.features.explain import Explanation, Filled, cell, explain, filled
from falaj.stages.features.keyed import keyed_spine, known_after
from falaj.stages.features.large import Room
from falaj.stages.features.offline import rows_between, unread_behind
from falaj.stages.features.parity import Pick, Tally, Watch, has_fields, prediction_checks, row_checks
from falaj.stages.features.refresh import Intake, Refresh
from falaj.stages.features.rules import Mismatch, StoredAt, Vectors, mismatches, spine_of, vectors
from falaj.stages.features.spec import AnyView, definition, definition_digest, span_ms
from falaj.stages.features.standing import Standing, standing


class Features:
    """The features of one project."""

    def __init__(
        self, kernel: Kernel, contracts: Contracts, online: Online, views: Mapping[str, AnyView], room: Room | None = None
    ) -> None:
        """`room`: how much a join may hold in memory; None is as much as it needs."""
        self.kernel = kernel
        self.contracts = contracts
        self.online = online
        self.views = dict(views)
        self.room = room
        self._refresh = Refresh(contracts, online, self._intake)
        self._watch = Watch(contracts, online)
        self._lock = threading.Lock()
        self._watched = threading.Lock()
        self._admitted: set[str] = set()

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
        after a row's time is used for it. The spine and the answer are in memory; a view's rows that do not fit beside them
        are laid aside in files and joined share by share. Raises NotFound for a view that the project does not declare.
        """
        recipe, spine = keyed_spine(recipe, spine)
        views = {name: self.view(name) for name in recipe.views}
        times = spine[recipe.time_field] if recipe.time_field in spine.columns else None
        rows = {} if times is None else {name: unread_behind(self.contracts, view, recipe, spine) for name, view in views.items()}
        return vectors(recipe, spine, views, rows, self.room)

    def refresh(self, now: datetime) -> dict[str, int]:
        """Brings the online store up to `now` and returns how many rows of each view were put.

        The data plane: it changes no record and leaves no event (`feature.materialise` does). Incremental, also after a
        restart: the store holds a mark of how far it has come, and putting the same row twice changes nothing. A view
        whose version stands for another definition is left as it is; Conflict is raised once the others are done.
        """
        with self._lock:
            read: dict[tuple[str, datetime | None], pl.DataFrame] = {}
            refused: list[Conflict] = []
            put = {view.name: self._refresh.advance(view, now, read) for view in self._admissible(refused)}
        if refused:
            raise refused[0]
        return put

    @action("feature.materialise")
    def materialise(self, act: Act, view: Ref, *, until: datetime) -> Decision:
        """Refreshes one view and records what was put since the last such event: rows, newest time, SHA-256.

        The refreshes between two events leave no event of their own; their rows are in the sum of the next one. The sum
        starts anew when the process does. Denied where the newest row is older than the ttl, held where there is none.
        The first time it records the view's definition under its version. Raises Conflict where that version stands for
        another definition.
        """
        declared = self.view(view.name)
        self._check_version(declared)
        with self._lock:
            self._refresh.advance(declared, until, {})
            put = self._refresh.take(view.name)
        newest = self.online.freshness(view.name)
        check = _fresh(declared, newest, until)
        decision = Decision(view.bare, "freshness", judge([check]), (check,), act.actor, act.now)
        key = f"{view.name}@{declared.version}"
        with act.change() as draft:
            if draft.get("view", key) is None:
                draft.put("view", key, {"digest": definition_digest(declared), "definition": definition(declared)})
            draft.decide(decision)
            draft.note(
                view=view.name,
                version=declared.version,
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

        `records`: records of the prediction log; those without a request by entity, or with one that was masked where a
        feature comes from, are passed over, and so is each masked feature. A prediction later than the snapshots of every
        dataset it reads cannot be judged yet. Denied where any feature differs, each
        difference named (prediction, feature, online, offline); held where nothing could be judged.
        """
        known = [r for r in records if r.get("kind") == "prediction" and has_fields(r.get("request"), recipe)]
        whole = [r for r in known if not hides_request(r, recipe)]
        covered = self.covered(recipe.views)
        judged = [r for r in whole if covered is not None and moment(r["at"]) <= covered]
        found: list[Mismatch] = []
        if judged:
            spine = spine_of(recipe, [r["request"] for r in judged], [moment(r["at"]) for r in judged])
            truth, _ = self.training_frame(recipe, spine)
            masked = {r["id"]: masked_of(r)[1] for r in judged}
            logged = {r["id"]: r["features"] for r in judged}
            found = mismatches(recipe.names, logged, truth, tolerance=tolerance, masked=masked)
        is_personal = any("subject" in r for r in judged)
        checks = prediction_checks(found, len(judged), len(recipe.columns), len(known) - len(whole), is_personal=is_personal)
        decision = Decision(subject.bare, "parity", judge(checks), checks, act.actor, act.now)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(
                predictions=len(judged),
                not_yet=len(whole) - len(judged),
                masked=len(known) - len(whole),
                values=len(judged) * len(recipe.columns),
                mismatches=len(found),
            )
        return decision

    def covered(self, views: Iterable[str]) -> datetime | None:
        """Until when the snapshots of every dataset behind these views are complete; None where one has none."""
        marks: list[datetime] = []
        for name in views:
            head = self.kernel.ledger.get("head", f"dataset/{self.view(name).dataset}")
            if head is None or head["watermark"] is None:
                return None
            marks.append(moment(head["watermark"]))
        return min(marks) if marks else self.kernel.now()

    def sample(self, view_name: str, now: datetime, pick: Pick, *, at_once: bool = False) -> Tally:
        """Reads some entities of a view from the online store, and compares those reads that snapshots have come to.

        The data plane: it changes no record and leaves no event (`feature.compare` does). What cannot be compared yet
        waits in this process; `at_once` compares of what it reads whatever need not wait. Returns everything that was
        compared since the last `compare`.
        """
        view = self.view(view_name)
        covered = self.covered([view_name])
        if covered is None:
            return Tally()
        with self._watched:
            if at_once:
                return self._watch.at_once(view, now, covered, pick)
            self._watch.look(view, now, covered, pick)
            return self._watch.compare(view, covered)

    @action("feature.compare")
    def compare(self, act: Act, view: Ref) -> Decision:
        """Parity of a view's stored rows: records what `sample` has compared since the last call.

        Denied where any value differs, each such feature named with how many rows; held where nothing could be compared.
        """
        declared = self.view(view.name)
        with self._watched:
            tally, waiting = self._watch.take(view.name)
        checks, reason = row_checks(declared, tally, waiting)
        decision = Decision(view.bare, "parity", judge(checks), checks, act.actor, act.now, reason)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(rows=tally.rows, waiting=waiting, differences=sum(tally.wrong.values()))
        return decision

    def explain(self, view_name: str, entity: str, at: datetime) -> Explanation:
        """The row that a request for the entity at that moment reads, and the dataset's rows behind it, from snapshots."""
        return explain(self.contracts, self.view(view_name), entity, at)

    def standing(self, view_name: str, entity: str, at: datetime | None = None) -> Standing:
        """What the store holds of the entity, and how many events the snapshots lack to say why; `at`: as of that time."""
        view, now = self.view(view_name), self.kernel.now()
        held = standing(self.online, view, entity, now) if at is None else Standing(view, entity, at, None, None, 0)
        covered = self.covered([view_name])
        later = (known_after(self.contracts, view, covered, held.asked_at) == entity).sum()
        return replace(held, covered=covered, later=int(later))

    def explain_column(self, recipe: Recipe, name: str, request: Mapping[str, Any], at: datetime) -> Filled:
        """Why a column of a model's input has the value that it has for a request at that moment, from snapshots.

        Raises NotFound for a column that the recipe lacks, InvalidInput where the request lacks a field.
        """
        if name not in recipe.names:
            raise NotFound.named("column of this recipe", name, recipe.names)
        missing = [field for field in recipe.request_fields if field not in request and field != recipe.time_field]
        if missing:
            raise InvalidInput(
                f"The request has no field {missing[0]!r}.", "a vector that was sent whole has no stored features."
            )
        place = recipe.names.index(name)
        values, _ = self.training_frame(recipe, spine_of(recipe, [request], [at]))
        value = float(values[0, place])
        cells = []
        for operand in recipe.columns[place].operands:
            view, _, feature = operand.name.partition(".")
            entity = entity_of(request, recipe.views[view]) if operand.kind == "view" else None
            if entity is not None:
                cells.append(cell(self.contracts, self.view(view), feature, entity=entity, at=at))
        return filled(recipe.columns[place], None if isnan(value) else value, request, tuple(cells))

    def _admissible(self, refused: list[Conflict]) -> Iterable[AnyView]:
        """The views that may be refreshed; of the others, why not."""
        for view in self.views.values():
            try:
                if view.name not in self._admitted:
                    self._check_version(view)
                    self._admitted.add(view.name)
            except Conflict as exc:
                refused.append(exc)
            else:
                yield view

    def _check_version(self, view: AnyView) -> None:
        """Raises Conflict where the same version was recorded with another definition."""
        held = self.kernel.ledger.get("view", f"{view.name}@{view.version}")
        if held is None or held["digest"] == definition_digest(view):
            return
        now, before = definition(view), held["definition"]
        changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        raise Conflict(
            f"The view {view.name!r} was materialised as version {view.version} with another definition: "
            f"{', '.join(changed)} differ.",
            f"write version={view.version + 1}, so that nobody takes the new values for the old ones.",
        )

    def _intake(self, dataset: str) -> Intake:
        head = self.kernel.ledger.get("head", f"dataset/{dataset}")
        ruling = self.kernel.ledger.get("decision", f"dataset/{dataset}|contract")
        watermark = moment(head["watermark"]) if head is not None and head["watermark"] else None
        return Intake(watermark, ruling is not None and ruling["verdict"] != "allow")


def _fresh(view: AnyView, newest: int | None, until: datetime) -> Check:
    limit = None if view.ttl is None else span_ms(view.ttl)
    wanted = "a row" if limit is None else f"newest row at most {view.ttl} old"
    if newest is None:
        return Check("freshness", wanted, "no row", None)
    return Check(
        "freshness", wanted, f"newest row of {iso(from_millis(newest))}", limit is None or millis(until) - newest <= limit
    )
