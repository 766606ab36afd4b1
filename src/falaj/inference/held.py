"""What is served at the moment, with all that is worked out of it once and not for each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from falaj.core.errors import NotFound
from falaj.inference.auth import demand
from falaj.inference.calls import Caller
from falaj.inference.lines import about
from falaj.inference.models import Live, Serving
from falaj.inference.personal import Whose
from falaj.inference.router import Split, insisted, split_of


@dataclass(frozen=True, slots=True)
class Held:
    """One revision. It is replaced as a whole: a call sees the same arms, split and threshold from start to end."""

    serving: Serving
    about: Mapping[int, str]
    """By the identity of an arm: what all its log lines have in common."""
    split: Split
    shadow: Live | None
    whose: Whose | None = None
    """Whom the endpoint is about; None where it is about nobody, and nobody has to be looked for."""

    def arm(self, unit: str, caller: Caller, version: str | None) -> tuple[Live, bool]:
        """The unit's arm, and whether it was forced: somebody who may do so insists on another. Forced answers count in no
        statistics. Raises Denied or NotFound."""
        arms = self.serving.arms
        if caller.arm:
            return insisted(arms, caller.actor, caller.arm), True
        live = arms[self.split.of(unit)]
        if version is None or version == live.version:
            return live, False
        for other in arms:
            if other.version == version:
                demand(caller.actor, "force")
                return other, True
        raise NotFound.named("version", version, [other.version for other in arms])


def held_of(serving: Serving) -> Held:
    """Raises InvalidInput for arms that make no split."""
    facts = {id(live): about(serving.name, live) for live in serving.arms}
    split = split_of([live.arm for live in serving.arms], serving.wanted.salt)
    shadow = next((live for live in serving.arms if live.role == "shadow"), None)
    return Held(serving, facts, split, shadow, serving.mask.whose)
