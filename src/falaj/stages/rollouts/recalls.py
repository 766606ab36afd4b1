"""Takes what may not answer any more out of the endpoints that it answers on: back to a version that may, or out of use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from falaj.core.actor import Actor
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision
from falaj.core.errors import FalajError
from falaj.core.ref import Ref
from falaj.ports.host import Arm, is_variant
from falaj.stages.action import Kernel
from falaj.stages.registry.service import standing_of
from falaj.stages.rollouts.endpoints import Held
from falaj.stages.rollouts.kills import Kills
from falaj.stages.rollouts.service import Rollouts

MOST_STEPS = 8
"""On one endpoint: a rollout, an experiment, a shadow and a standby may have to go before the champion does."""


def next_step(held: Held, bad: frozenset[str]) -> tuple[str, str] | None:
    """What has to be done next where these models may not answer, and because of which; None where they are gone.

    What decides between models ends first, then whoever only waits or looks on is let go, and last the champion is left.
    """
    if held.wanted.killed:
        return None
    roles = {"variant" if is_variant(arm.role) else arm.role: arm.model for arm in held.wanted.arms if arm.model in bad}
    if not roles:
        return None
    if held.rollout and (cause := roles.get("challenger") or roles.get("champion")):
        return "abort", cause
    if held.experiment and (cause := roles.get("variant") or roles.get("champion")):
        return "unsplit", cause
    for role, step in (("shadow", "unshadow"), ("standby", "drop"), ("champion", "rollback")):
        if role in roles:
            return step, roles[role]
    return "kill", next(iter(roles.values()))


@dataclass(frozen=True, slots=True)
class Recalls:
    rollouts: Rollouts
    kills: Kills

    @property
    def kernel(self) -> Kernel:
        return self.rollouts.kernel

    def carry_out(self, actor: Actor) -> list[Decision]:
        """Goes through what every endpoint is to serve. A denial for each endpoint where a version in quarantine, or one that was
        removed, had an arm: what was done, or what kept it from being done. The same again does nothing."""
        return [made for name, _ in self.kernel.ledger.find("endpoint") for made in self._of(actor, Ref("endpoint", name))]

    def _of(self, actor: Actor, endpoint: Ref) -> Iterator[Decision]:
        done: list[str] = []
        checks: dict[str, Check] = {}
        for _ in range(MOST_STEPS):
            held = decode(Held, self.kernel.ledger.get("endpoint", endpoint.name) or {})
            found = self._standing(held.wanted.arms)
            step = next_step(held, frozenset(found))
            if step is None:
                break
            checks |= found
            try:
                done.append(self._do(actor, endpoint, step, held))
            except FalajError as exc:
                done.append(f"it could not be stopped: {exc.message[:300]}")
                break
        if done:
            reason = f"{', '.join(f'{model} is {check.seen}' for model, check in checks.items())}: {'; '.join(done)}"
            now = self.kernel.now()
            yield Decision(endpoint, "quarantine", "deny", tuple(checks.values()), actor, now, reason)

    def _standing(self, arms: tuple[Arm, ...]) -> dict[str, Check]:
        checks = {arm.model: standing_of(self.kernel.ledger, Ref.parse(arm.model)) for arm in arms}
        return {model: check for model, check in checks.items() if not check.passed}

    def _do(self, actor: Actor, endpoint: Ref, step: tuple[str, str], held: Held) -> str:
        """Whatever keeps a step from being done: the endpoint goes out of use instead, for what may not answer must not."""
        what, model = step
        reason = f"{model} is in quarantine, or was removed"
        try:
            return self._try(actor, endpoint, (what, reason), held)
        except FalajError as exc:
            seen = self.kills.kill(actor, endpoint, reason=f"{reason}, and there is no other way: {exc.message[:200]}")
            return f"taken out of use{f' ({seen.problem})' if seen.problem else ''}, since {exc.message[:200]}"

    def _try(self, actor: Actor, endpoint: Ref, step: tuple[str, str], held: Held) -> str:
        what, reason = step
        if what == "abort" and held.rollout:
            self.rollouts.abort(actor, Ref.parse(held.rollout), reason=reason)
            return f"{held.rollout} was ended"
        if what == "unsplit":
            self.rollouts.experiments.unsplit(actor, endpoint, winner="champion", reason=reason)
            return f"{held.experiment} was ended"
        if what == "unshadow":
            return f"the shadow {self.rollouts.shadows.unshadow(actor, endpoint, reason=reason)} was let go"
        if what == "drop":
            return f"the standby {self.rollouts.switches.drop(actor, endpoint, reason=reason)} was let go"
        if what == "rollback":
            return f"taken back to {self.rollouts.switches.rollback(actor, endpoint, reason=reason)}"
        self.kills.kill(actor, endpoint, reason=reason)
        return "taken out of use"
