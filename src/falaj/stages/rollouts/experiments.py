"""A/B tests: several models at once, each with a weight, until somebody says which one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.host import VARIANT, is_variant
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.service import refuse_withheld
from falaj.stages.rollouts.arms import Arms, arm_of, champion_of, crowned, weighed
from falaj.stages.rollouts.endpoints import (
    Endpoints,
    Held,
    crown,
    decided,
    finish,
    gate,
    keep,
    key_of,
    new_arm,
    next_version,
    release,
    served,
    undo_of,
)
from falaj.stages.rollouts.spec import Endpoint

CHANGES = 100
"""So many changes of weights the record of an experiment keeps; the events have them all."""
MOST = 8
"""Variants of one experiment: each is a model in the memory of every worker."""


@dataclass(frozen=True, slots=True)
class Experiments:
    place: Endpoints

    @property
    def kernel(self) -> Kernel:
        return self.place.kernel

    @action("endpoint.split")
    def split(
        self, act: Act, subject: Ref, *, variants: Mapping[str, Ref], weights: Mapping[str, float], reason: str, seed: int = 0
    ) -> Ref:
        """Each variant, by its name, answers its weight of the units and the champion the rest. Returns the experiment.

        Raises Conflict while a rollout or another experiment is under way, or where no gate let a variant pass or it cannot be
        loaded, and then nothing has changed; InvalidInput for weights that cannot be met.
        """
        endpoint = self.place.one(subject)
        if not 0 < len(variants) <= MOST:
            raise InvalidInput(f"There are {len(variants)} variants.", f"name 1 to {MOST}, as in b=delay@8.")
        version = next_version(self.kernel.ledger, "experiment", endpoint.name)
        experiment = Ref("experiment", endpoint.name, str(version))
        with act.change(experiment) as draft:
            digests = {name: self.place.agreed(draft, model, act.actor.name) for name, model in variants.items()}
            held = served(draft, endpoint.name)
            held.refuse_if_busy()
            if draft.get("experiment", key_of(experiment)) is not None:
                raise Conflict(f"{experiment} was started by somebody else meanwhile.", "look again.")
            decided(draft, act, "split", reason, [gate(str(model)) for model in variants.values()])
            made = {name: release(draft, act, endpoint, model, str(experiment)) for name, model in variants.items()}
            new = [new_arm(VARIANT + name, variants[name], digests[name], 0.0, made[name]) for name in variants]
            salt = f"{endpoint.name}.split{version}.{seed}"
            held = held.serving(weighed((*held.wanted.arms, *new), weights), salt=salt)
            keep(draft, replace(held, experiment=str(experiment)))
            draft.put("experiment", key_of(experiment), {
                "ref": experiment, "endpoint": subject, "champion": champion_of(held.wanted.arms).model, "salt": salt,
                "seed": seed,
                "variants": {name: {"model": model, "release": made[name]} for name, model in variants.items()},
                "weights": dict(weights), "started_at": act.now, "by": str(act.actor), "reason": reason,
                "ended_at": None, "winner": None, "history": [_point(act, weights, reason)],
            })  # fmt: skip
            undo = undo_of(draft)
            draft.note(variants={name: str(model) for name, model in variants.items()}, weights=dict(weights), reason=reason)
        self.place.attempt(act, held.wanted, undo)
        return experiment

    @action("endpoint.weigh")
    def weigh(self, act: Act, subject: Ref, *, weights: Mapping[str, float], reason: str) -> Mapping[str, Any]:
        """Gives every variant its new weight; no more units change their model than the weights differ by. Returns the record.

        Policy is asked whether each variant that gets more may be given callers. Raises Conflict where no experiment is under
        way, or one that gets more is in quarantine by now, InvalidInput for weights that cannot be met.
        """
        endpoint = self.place.one(subject)
        before = {role.removeprefix(VARIANT): share for role, (_, share) in self._arms(endpoint).items()}
        grows = [name for name, weight in weights.items() if weight > before.get(name, 0.0)]
        self._ask(act, endpoint, grows)
        with act.change() as draft:
            held, record = _under_way(draft, endpoint)
            for name in grows:
                if (arm := arm_of(held.wanted.arms, VARIANT + name)) is not None:
                    refuse_withheld(draft.tx, Ref.parse(arm.model))
            decided(draft, act, "weigh", reason)
            held = held.serving(weighed(held.wanted.arms, weights))
            keep(draft, held)
            history = [*record["history"], _point(act, weights, reason)][-CHANGES:]
            record = {**record, "weights": dict(weights), "history": history}
            draft.put("experiment", _key(record), record)
            draft.note(experiment=record["ref"], weights=dict(weights), reason=reason)
        self.place.serve(held.wanted)
        return record

    @action("endpoint.unsplit")
    def unsplit(self, act: Act, subject: Ref, *, winner: str, reason: str) -> Ref:
        """Ends the experiment: everybody is answered by the winner, a variant's name or `champion`. Returns its model.

        To give everybody back to the champion is everybody's who may end it; of a variant policy is asked as of any release.
        """
        endpoint = self.place.one(subject)
        self._ask(act, endpoint, [winner])
        with act.change() as draft:
            held, record = _under_way(draft, endpoint)
            arms = _won(held.wanted.arms, winner)
            new = champion_of(arms)
            key = decided(draft, act, "unsplit", reason, (gate(new.model),))
            held = replace(held.serving(arms), experiment=None)
            keep(draft, held)
            for name, variant in record["variants"].items():
                finish(draft, act, Ref.parse(variant["release"]), "promoted" if name == winner else "ended", key)
            if winner != "champion":
                crown(draft, act, endpoint, Ref.parse(new.model), key)
            draft.put("experiment", _key(record), {**record, "ended_at": act.now, "winner": winner})
            draft.note(experiment=record["ref"], winner=winner, model=new.model, reason=reason)
        self.place.serve(held.wanted)
        return Ref.parse(new.model)

    def _arms(self, endpoint: Endpoint) -> Mapping[str, tuple[str, float]]:
        """Role → model and share, of what is served now."""
        record = self.kernel.ledger.get("endpoint", endpoint.name) or {}
        arms = (record.get("wanted") or {}).get("arms", ())
        return {str(arm["role"]): (str(arm["model"]), float(arm["share"])) for arm in arms}

    def _ask(self, act: Act, endpoint: Endpoint, names: Sequence[str]) -> None:
        """Raises Denied where policy keeps whoever acts from giving callers to one of these variants. Their models never change
        while the experiment is under way."""
        arms = self._arms(endpoint)
        for name in names:
            if VARIANT + name in arms:
                act.kernel.ask(act.actor, "endpoint.split", Ref.parse(arms[VARIANT + name][0]))

    def show(self, subject: Ref) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("experiment", key_of(subject))
        if record is None:
            known = [f"experiment/{key}" for key, _ in self.kernel.ledger.find("experiment")]
            raise NotFound.named("experiment", str(subject), known)
        return record


def _under_way(draft: Draft, endpoint: Endpoint) -> tuple[Held, Mapping[str, Any]]:
    held = served(draft, endpoint.name)
    record = draft.get("experiment", held.experiment.partition("/")[2]) if held.experiment else None
    if record is None:
        raise Conflict(f"No experiment is under way on endpoint/{endpoint.name}.", "falaj endpoint split begins one.")
    return held, record


def _won(arms: Arms, winner: str) -> Arms:
    found = arm_of(arms, "champion" if winner == "champion" else VARIANT + winner)
    if found is None:
        names = ["champion", *(arm.role.removeprefix(VARIANT) for arm in arms if is_variant(arm.role))]
        raise NotFound.named("variant", winner, names)
    return crowned(arms, found)


def _point(act: Act, weights: Mapping[str, float], reason: str) -> dict[str, Any]:
    return {"at": iso(act.now), "by": str(act.actor), "weights": dict(weights), "reason": reason}


def _key(record: Mapping[str, Any]) -> str:
    return key_of(Ref.parse(record["ref"]))
