"""Taking an endpoint out of use at once, back into use by somebody else, and drilling that, so that it is known to work.

CBUAE's guidance on AI asks for an ability to cease use immediately. How long it may be from the call to the last
prediction that was answered, and how often a drill measures it, the packs in force say (`registry.demands`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from falaj.core.actor import Actor
from falaj.core.codec import decode
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import Conflict, FalajError, InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.core.segment import records_of
from falaj.ports.host import Wanted
from falaj.ports.predictions import Predictions
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.demands import BUILT_IN, Ceiling
from falaj.stages.registry.service import standing_of
from falaj.stages.rollouts.endpoints import Endpoints, Held, keep, served

SLO, DRILL = BUILT_IN.slo, BUILT_IN.drill
"""What holds where the packs in force say nothing else."""
REHEARSED = "a drill"
"""The reason of a kill that is over by itself."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a kill came to. Milliseconds count from the call."""

    confirmed_ms: int | None
    """Until every worker had said that it refuses; None where one did not say so in time."""
    last_answer_ms: int
    """Until the last prediction that was still answered; 0 where none was."""
    refused: int = 0
    """Of a drill: calls that were refused afterwards."""
    answered: int = 0
    """Of a drill: calls that were answered before, so that something was there to be stopped."""
    problem: str = ""

    @property
    def ms(self) -> int | None:
        return None if self.confirmed_ms is None else max(self.confirmed_ms, self.last_answer_ms)


def may_revive(subject: Ref, killed: Mapping[str, str], actor: Actor, now: datetime, reason: str) -> Decision:
    """Whoever took an endpoint out of use is not the one who says that it is safe again; nor is a program."""
    is_other = actor.name != killed.get("by")
    checks = (
        Check("another person", f"somebody other than {killed.get('by')}", actor.name, is_other),
        Check("a person", "a person", actor.kind, actor.kind == "person"),
    )
    verdict = judge(checks)
    why = reason if verdict == "allow" else "it takes another person than the one who took it out of use"
    return Decision(subject, "revive", verdict, checks, actor, now, why)


def judge_drill(subject: Ref, seen: Measured, by: tuple[Actor, datetime], *, live: bool, slo: Ceiling = SLO) -> Decision:
    """Whether a drill showed that the kill switch works, within its time. `by`: who drilled, and when."""
    told = "not confirmed" if seen.ms is None else f"{seen.ms} ms"
    checks = [
        Check("time", f"at most {_ms(slo.span)} ms ({slo.told})", told, seen.ms is not None and seen.ms <= _ms(slo.span)),
    ]
    if not live:
        checks.append(Check("answered before", "at least one call", str(seen.answered), seen.answered > 0))
        checks.append(Check("refused after", "at least one call, and none answered", str(seen.refused), seen.refused > 0))
    reason = f"{'the endpoint itself' if live else 'a copy'} stopped answering after {told}"
    return Decision(subject, "drill", judge(checks), tuple(checks), *by, seen.problem or reason)


def drill_due(last: Mapping[str, Any] | None, now: datetime, every: timedelta = DRILL.span) -> bool:
    """Whether the last good drill is too long ago, or there was none."""
    return last is None or last["verdict"] != "allow" or now - moment(last["at"]) > every


def owes_drill(endpoint: Ref, last: Mapping[str, Any] | None, now: datetime, *, every: Ceiling = DRILL) -> Decision:
    """What the keepers of the house are told of an endpoint's kill switch: deny while a drill is due."""
    seen = "never" if last is None else f"the last was {last['verdict']} at {last['at']}"
    days, is_due = every.span.days, drill_due(last, now, every.span)
    check = Check("drill", f"a good one every {days} days ({every.told})", seen, not is_due)
    reason = f"the kill switch of {endpoint} was not shown to work for {days} days: falaj endpoint drill {endpoint.name}"
    return Decision(endpoint, "kill-switch", judge([check]), (check,), None, now, reason if is_due else "drilled in time")


@dataclass(frozen=True, slots=True)
class Kills:
    """`predictions_of(endpoint)`: its log. `wall`: real time, also where the kernel replays. `rehearse(wanted)`: serves a
    throwaway copy, asks it, kills it and measures."""

    place: Endpoints
    predictions_of: Callable[[str], Predictions]
    wall: Callable[[], datetime]
    rehearse: Callable[[Wanted], Measured]

    @property
    def kernel(self) -> Kernel:
        return self.place.kernel

    @action("endpoint.kill")
    def kill(self, act: Act, subject: Ref, *, reason: str) -> Measured:
        """No prediction is answered from now on, by no worker and over no protocol, until it is revived.

        The ledger and the host's wish say so, so it holds after a restart of anything, and the worker brings it about where the
        host is away. Whatever rollout is under way stays as it is, without traffic. Doing it again measures again and keeps who
        was first. Raises Conflict where nothing is served.
        """
        begun = self.wall()
        held = self._out_of_use(act, subject, {"by": act.actor.name, "at": iso(begun), "reason": reason})
        seen = self._measured(held.wanted, begun)
        with act.change() as draft:
            draft.note(reason=reason, **_figures(seen))
            draft.put("kill", held.wanted.endpoint, {
                "endpoint": subject, **held.wanted.killed, "decided_at": act.now, **_figures(seen),
            })  # fmt: skip
        return seen

    @action("endpoint.revive")
    def revive(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """Back into use, as the ledger has it now. Denied for whoever took it out of use, for programs, and while a version that
        it would serve is in quarantine.

        Raises Conflict where it is in use.
        """
        with act.change() as draft:
            held = served(draft, self.place.one(subject).name)
            killed = held.wanted.killed
            if not killed:
                raise Conflict(f"{subject} is in use.", f"falaj endpoint show {subject.name}")
            decision = may_revive(subject, killed, act.actor, act.now, reason)
            decision = _with(decision, self._answering(held, draft))
            draft.decide(decision)
            draft.note(verdict=decision.verdict, killed_by=killed["by"], reason=decision.reason)
            if decision.allowed:
                held = replace(held, wanted=replace(held.serving(held.wanted.arms).wanted, killed={}))
                keep(draft, held)
        if decision.allowed:
            self.place.serve(held.wanted)
        return decision

    @action("endpoint.drill")
    def drill(self, act: Act, subject: Ref, *, confirm: str = "") -> Decision:
        """Measures the kill switch and leaves a record of it: on a throwaway copy that serves the same models and that nobody
        but the drill asks; or, where `confirm` is the endpoint's own name, on the endpoint itself, which is back in use at once.

        Raises Conflict where nothing is served or it is out of use, InvalidInput where `confirm` is another name.
        """
        name = self.place.one(subject).name
        if confirm not in ("", name):
            raise InvalidInput(f"{confirm!r} is not {name!r}.", f"--confirm {name} kills the endpoint itself, for a moment.")
        body = self.kernel.ledger.get("endpoint", name)
        if body is None or body["wanted"].get("killed"):
            raise Conflict(f"{subject} answers nobody as it is.", f"falaj endpoint show {name}")
        slo = self.place.demands.slo
        seen = self._live(act, subject) if confirm else self.rehearse(self.place.whole(decode(Wanted, body["wanted"])))
        decision = judge_drill(subject, seen, (act.actor, act.now), live=bool(confirm), slo=slo)
        with act.change() as draft:
            draft.decide(decision)
            draft.note(verdict=decision.verdict, live=bool(confirm), **_figures(seen))
            draft.put("drill", name, {
                "endpoint": subject, "at": act.now, "by": str(act.actor), "verdict": decision.verdict, "live": bool(confirm),
                "slo_ms": _ms(slo.span), "slo_status": slo.status, "revision": body["wanted"]["revision"], **_figures(seen),
            })  # fmt: skip
        return decision

    def _live(self, act: Act, subject: Ref) -> Measured:
        """A crash in between leaves it out of use, which is the safe side."""
        begun = self.wall()
        own = {"by": act.actor.name, "at": iso(begun), "reason": REHEARSED}
        held = self._out_of_use(act, subject, own)
        seen = self._measured(held.wanted, begun)
        with act.change() as draft:
            now = served(draft, subject.name)
            is_ours = held.wanted.killed == own and now.wanted.revision == held.wanted.revision
            if is_ours:  # somebody may have killed it in earnest meanwhile, or a moment before
                held = replace(now, wanted=replace(now.serving(now.wanted.arms).wanted, killed={}))
                keep(draft, held)
            draft.note(drill="over")
        self.place.serve(held.wanted)
        return seen

    def _answering(self, held: Held, draft: Draft) -> tuple[Check, ...]:
        """What stands against the versions that would answer again."""
        found = {arm.model: standing_of(draft.tx, Ref.parse(arm.model)) for arm in held.wanted.arms}
        return tuple(replace(check, name=f"standing of {model}") for model, check in found.items() if not check.passed)

    def _out_of_use(self, act: Act, subject: Ref, killed: Mapping[str, str]) -> Held:
        with act.change() as draft:
            held = served(draft, subject.name)  # whatever the project declares by now: what is served can be stopped
            if held.wanted.killed and held.wanted.killed["reason"] != REHEARSED:  # a drill is over by itself, and nobody's word
                killed = held.wanted.killed
            held = replace(held, wanted=replace(held.serving(held.wanted.arms).wanted, killed=killed))
            keep(draft, held)
            draft.note(reason=killed["reason"], models=[arm.model for arm in held.wanted.arms])
        return held

    def _measured(self, wanted: Wanted, begun: datetime) -> Measured:
        problem, confirmed = "", None
        try:
            self.place.serve(wanted)
            confirmed = _ms(self.wall() - begun)
        except FalajError as exc:
            problem = f"not every server has confirmed it: {exc.message[:300]}"
        return Measured(confirmed, last_answer_ms(self.predictions_of(wanted.endpoint), begun), problem=problem)


def _with(decision: Decision, against: tuple[Check, ...]) -> Decision:
    """The decision with these as well, each of which speaks against it."""
    if not against:
        return decision
    reason = "; ".join(f"{check.name}: {check.seen}" for check in against)
    return replace(decision, verdict="deny", checks=(*decision.checks, *against), reason=reason)


def last_answer_ms(log: Predictions, begun: datetime) -> int:
    """Milliseconds from then to the last prediction that the log has; 0 where the last is older."""
    seals = log.seals()
    number, found = max(seals[-1].segment if seals else 0, 0), 0
    while True:
        try:
            lines = log.lines(number)
        except NotFound:
            return found
        for line in reversed(lines):
            wrote = _wrote(line)
            if wrote is not None:
                found = max(found, _ms(wrote - begun))
                break
        number += 1


def _wrote(line: bytes) -> datetime | None:
    with contextlib.suppress(ValueError, KeyError, TypeError, FalajError):
        for record in records_of(json.loads(line)):
            if record["kind"] == "prediction":
                return moment(record["wrote"])
    return None


def _ms(span: timedelta) -> int:
    return max(int(span / timedelta(milliseconds=1)), 0)


def _figures(seen: Measured) -> dict[str, Any]:
    told = {"confirmed_ms": seen.confirmed_ms, "last_answer_ms": seen.last_answer_ms, "refused": seen.refused}
    return {**told, "answered": seen.answered, **({"problem": seen.problem} if seen.problem else {})}
