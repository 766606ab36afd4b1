"""Shadows: a model gets copies of what an endpoint is asked, and answers nobody; what it would have said is logged."""

from __future__ import annotations

from dataclasses import dataclass

from falaj.core.errors import Conflict, InvalidInput
from falaj.core.ref import Ref
from falaj.ports.host import BUCKETS
from falaj.stages.action import Act, Kernel, action
from falaj.stages.rollouts.arms import arm_of, with_side, without
from falaj.stages.rollouts.endpoints import Endpoints, decided, finish, gate, keep, new_arm, passed, release, served, undo_of


@dataclass(frozen=True, slots=True)
class Shadows:
    place: Endpoints

    @property
    def kernel(self) -> Kernel:
        return self.place.kernel

    @action("endpoint.shadow")
    def shadow(self, act: Act, subject: Ref, *, model: Ref, share: float, reason: str) -> Ref:
        """Copies the requests of a share of the units to a model. Returns its release. May go on beside anything else.

        The same model again changes its share, and whoever was copied at a smaller share is at a greater one; another model
        takes the place of the one before. Raises InvalidInput for a share that is none, Conflict where no gate let the model
        pass or it cannot be loaded, and then nothing has changed.
        """
        if not 1 / BUCKETS <= share <= 1:
            raise InvalidInput(f"The share {share} must be from 0.0001 to 1.", f"falaj endpoint unshadow {subject.name} ends it.")
        endpoint = self.place.one(subject)
        with act.change() as draft:
            digest = passed(draft.tx, model)
            held = served(draft, endpoint.name)
            before = arm_of(held.wanted.arms, "shadow")
            key = decided(draft, act, "shadow", reason, (gate(str(model)),))
            if before is not None and before.model == str(model):
                made = Ref.parse(before.release)
            else:
                made = release(draft, act, endpoint, model, reason)
                if before is not None:
                    finish(draft, act, Ref.parse(before.release), "ended", key)
            held = held.serving(with_side(held.wanted.arms, new_arm("shadow", model, digest, share, made)))
            keep(draft, held)
            undo = undo_of(draft)
            draft.note(model=str(model), release=str(made), share=share, reason=reason)
        self.place.attempt(act, held.wanted, undo)
        return made

    @action("endpoint.unshadow")
    def unshadow(self, act: Act, subject: Ref, *, reason: str) -> Ref:
        """Lets the shadow go. Returns its model. What it said stays in the log. Raises Conflict where there is none."""
        endpoint = self.place.one(subject)
        with act.change() as draft:
            held = served(draft, endpoint.name)
            shadow = arm_of(held.wanted.arms, "shadow")
            if shadow is None:
                raise Conflict(f"{subject} has no shadow.", f"falaj endpoint show {endpoint.name}")
            finish(draft, act, Ref.parse(shadow.release), "ended", decided(draft, act, "unshadow", reason))
            held = held.serving(without(held.wanted.arms, "shadow"))
            keep(draft, held)
            draft.note(model=shadow.model, reason=reason)
        self.place.serve(held.wanted)
        return Ref.parse(shadow.model)
