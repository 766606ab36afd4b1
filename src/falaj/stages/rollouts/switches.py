"""Blue and green: the next model is loaded and warm before it answers anybody, and the one before stays warm behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.decision import Check
from falaj.core.errors import Conflict
from falaj.core.ref import Ref
from falaj.ports.host import Wanted
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.service import standing_of
from falaj.stages.rollouts.arms import Arms, arm_of, champion_of, crowned, switched, with_side, without
from falaj.stages.rollouts.endpoints import (
    Endpoints,
    crown,
    decided,
    finish,
    gate,
    keep,
    new_arm,
    passed,
    point,
    release,
    served,
    undo_of,
)
from falaj.stages.rollouts.spec import Endpoint


@dataclass(frozen=True, slots=True)
class Switches:
    place: Endpoints

    @property
    def kernel(self) -> Kernel:
        return self.place.kernel

    @action("endpoint.prepare")
    def prepare(self, act: Act, subject: Ref, *, model: Ref, reason: str) -> Ref:
        """Loads a model as the standby in every worker and returns its release once all of them have it, warm.

        It answers nobody who does not ask for it by name, so it may be prepared while a rollout is under way. A standby that
        was there is let go. Raises Conflict where no gate let the model pass, where it is the champion already, or where it
        cannot be loaded, and then nothing has changed; Unavailable where the host does not get it ready in time: it goes on
        trying, and `switch` refuses until it is.
        """
        endpoint = self.place.one(subject)
        with act.change() as draft:
            digest = self.place.agreed(draft, model, act.actor.name)
            held = served(draft, endpoint.name)
            if champion_of(held.wanted.arms).model == str(model):
                raise Conflict(f"{model} is the champion of {subject} already.")
            key = decided(draft, act, "prepare", reason, (gate(str(model)),))
            made = release(draft, act, endpoint, model, reason)
            _let_go(draft, act, held.wanted, key)
            held = held.serving(with_side(held.wanted.arms, new_arm("standby", model, digest, 0.0, made)))
            keep(draft, held)
            undo = undo_of(draft)
            draft.note(model=str(model), release=str(made), reason=reason)
        self.place.attempt(act, held.wanted, undo)
        return made

    @action("endpoint.switch")
    def switch(self, act: Act, subject: Ref, *, model: Ref, reason: str) -> Ref:
        """The standby answers everybody from now on, and the champion of before stays warm as the standby. Returns the model.

        `model`: the standby that is meant; so whoever asks twice does not switch back, nor to what somebody else prepared.
        Raises Conflict while a rollout or an experiment is under way, where that model does not stand by, and until every worker
        has it.
        """
        endpoint = self.place.one(subject)
        with act.change() as draft:
            held = served(draft, endpoint.name)
            held.refuse_if_busy()
            left, arms = champion_of(held.wanted.arms), switched(held.wanted.arms)
            new = champion_of(arms)
            if new.model != str(model):
                raise Conflict(f"{new.model} stands by, not {model}.", f"falaj endpoint show {endpoint.name}")
            if not self.place.is_loaded(held.wanted):
                raise Conflict(
                    f"The standby {new.model} is not loaded in every worker yet.",
                    f"falaj endpoint show {endpoint.name} says why.",
                )
            key = decided(draft, act, "switch", reason, (gate(new.model), _warm(True)))
            held = held.serving(arms)
            keep(draft, held)
            crown(draft, act, endpoint, Ref.parse(new.model), key)
            draft.note(model=new.model, left=left.model, reason=reason)
        self.place.serve(held.wanted)
        return Ref.parse(new.model)

    @action("endpoint.rollback")
    def rollback(self, act: Act, subject: Ref, *, reason: str, leaving: Ref | None = None) -> Ref:
        """The champion of before answers everybody again, at once where it is the warm standby, else as soon as it is loaded.

        What is left is forgotten as a champion: going back again leads one further back, never there. After a switch it stays
        loaded, as the standby. Versions in quarantine, and those whose bytes were removed, are passed over. Returns the model
        that answers now.

        `leaving`: go back only if that model answers now; so two who ask at once go back once. Raises Conflict where another one
        does, while a rollout or an experiment is under way, or where there is nothing to go back to.
        """
        endpoint = self.place.one(subject)
        with act.change() as draft:
            held = served(draft, endpoint.name)
            held.refuse_if_busy()
            left = champion_of(held.wanted.arms)
            if leaving is not None and left.model != str(leaving):
                raise Conflict(f"{left.model} answers on {subject}, not {leaving}.", f"falaj endpoint show {endpoint.name}")
            earlier, before = self._earlier(draft.get("alias", f"{endpoint.model}@champion"), left.model, endpoint)
            standby = arm_of(held.wanted.arms, "standby")
            is_warm = standby is not None and standby.model == str(earlier)
            key = decided(draft, act, "rollback", reason, (_warm(is_warm),))
            if is_warm:
                arms = switched(held.wanted.arms)
            else:
                arms = self._loaded(draft, act, endpoint, (held.wanted.arms, earlier, reason))
            held = held.serving(arms)
            keep(draft, held)
            point(draft, act, endpoint, (earlier, before), key)
            undo = undo_of(draft)
            draft.note(model=str(earlier), left=left.model, warm=is_warm, reason=reason)
        self.place.attempt(act, held.wanted, undo)
        return earlier

    @action("endpoint.drop")
    def drop(self, act: Act, subject: Ref, *, reason: str) -> Ref:
        """Lets the standby go, and its memory. Returns its model. Raises Conflict where there is none."""
        endpoint = self.place.one(subject)
        with act.change() as draft:
            held = served(draft, endpoint.name)
            standby = arm_of(held.wanted.arms, "standby")
            if standby is None:
                raise Conflict(f"{subject} has no standby.", f"falaj endpoint show {endpoint.name}")
            _let_go(draft, act, held.wanted, decided(draft, act, "drop", reason))
            held = held.serving(without(held.wanted.arms, "standby"))
            keep(draft, held)
            draft.note(model=standby.model, reason=reason)
        self.place.serve(held.wanted)
        return Ref.parse(standby.model)

    def _loaded(self, draft: Draft, act: Act, endpoint: Endpoint, what: tuple[Arms, Ref, str]) -> Arms:
        """`what`: the arms, the model that is to be loaded as their champion, and why."""
        arms, model, reason = what
        digest = passed(draft.tx, model)
        made = release(draft, act, endpoint, model, reason)
        return crowned(arms, new_arm("champion", model, digest, 1.0, made))

    def _earlier(self, alias: Mapping[str, Any] | None, served_now: str, endpoint: Endpoint) -> tuple[Ref, list[str]]:
        """The last champion before the one that is served that may answer, and those before it. A model that was promoted but is
        not served is passed over: going back must not lead ahead."""
        line = [*alias.get("before", ()), alias["model"]] if alias else []
        place = len(line) - 1 - line[::-1].index(served_now) if served_now in line else 0
        for at in range(place - 1, -1, -1):
            found = Ref.parse(str(line[at]))
            if standing_of(self.kernel.ledger, found).passed:
                return found, [str(ref) for ref in line[:at]]
        raise Conflict(f"endpoint/{endpoint.name} has no champion to go back to.", f"falaj model list --name {endpoint.model}")


def _let_go(draft: Draft, act: Act, wanted: Wanted, decision: str) -> None:
    standby = arm_of(wanted.arms, "standby")
    if standby is not None:
        finish(draft, act, Ref.parse(standby.release), "dropped", decision)


def _warm(is_warm: bool) -> Check:
    return Check("standby", "loaded in every worker", "it is" if is_warm else "no; loaded now", is_warm or None)
