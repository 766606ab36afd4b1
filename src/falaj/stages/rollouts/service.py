"""Carries rollouts out: what was decided, what is to be served and which model is the champion change together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from falaj.core.codec import decode, encode
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, NotFound
from falaj.core.moments import iso, length, moment
from falaj.core.ref import Ref
from falaj.ports.host import Wanted
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.registry.service import refuse_withheld
from falaj.stages.rollouts.arms import champion_of, crowned, shared
from falaj.stages.rollouts.endpoints import (
    Endpoints,
    Held,
    crown,
    finish,
    keep,
    key_of,
    new_arm,
    next_version,
    read,
    release,
    served,
    undo_of,
)
from falaj.stages.rollouts.experiments import Experiments
from falaj.stages.rollouts.rules import Block, Status, advance, begin, log10
from falaj.stages.rollouts.shadows import Shadows
from falaj.stages.rollouts.spec import Canary, Endpoint
from falaj.stages.rollouts.switches import Switches

POINTS = 120
"""How many points of the curves a rollout's record keeps; the events have them all."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    place: Endpoints
    _ahead: dict[str, tuple[Mapping[str, Any], Status]] = field(default_factory=dict)
    """Rollout → its record, and the status that has counted blocks since. It only saves counting: a restart loses nothing."""

    @property
    def kernel(self) -> Kernel:
        return self.place.kernel

    @property
    def switches(self) -> Switches:
        """Blue and green: one model answers, another stands by."""
        return Switches(self.place)

    @property
    def experiments(self) -> Experiments:
        return Experiments(self.place)

    @property
    def shadows(self) -> Shadows:
        return Shadows(self.place)

    @action("endpoint.deploy")
    def deploy(self, act: Act, subject: Ref, *, model: Ref, reason: str) -> Ref:
        """Serves a model to everybody at once, on a person's responsibility. Returns the release.

        Raises Conflict while a rollout or an experiment is under way, or where no gate let the model pass or it cannot be loaded,
        and then nothing has changed.
        """
        endpoint = self.place.one(subject)
        with act.change() as draft:
            digest = self.place.agreed(draft, model, act.actor.name)
            held = read(draft, endpoint.name) or _first(endpoint)
            held.refuse_if_busy()
            made = release(draft, act, endpoint, model, reason)
            arms = crowned(held.wanted.arms, new_arm("champion", model, digest, 1.0, made))
            held = held.serving(arms, salt=_salt(endpoint, 0, 0))
            wanted = _as_declared(held.wanted, endpoint)
            keep(draft, replace(held, wanted=wanted))
            crown(draft, act, endpoint, model, f"{made}|deploy")
            undo = undo_of(draft)
            draft.note(model=str(model), release=str(made), reason=reason)
        self.place.attempt(act, wanted, undo)
        return made

    @action("rollout.start")
    def start(self, act: Act, subject: Ref, *, challenger: Ref, seed: int = 0, slow_ms: float | None = None) -> Ref:
        """Begins to give the challenger its first share. Returns the rollout.

        `slow_ms`: the champion's 95th percentile before now; without it the guard `slow` cannot see and is left out.
        Raises Conflict where nothing is served yet, a rollout or an experiment is under way, no gate let the challenger pass, or
        it cannot be loaded, and then nothing has changed.
        """
        endpoint = self.place.one(subject)
        plan = _seeing(endpoint.rollout, slow_ms)
        version = next_version(self.kernel.ledger, "rollout", endpoint.name)
        rollout = Ref("rollout", endpoint.name, str(version))
        with act.change(rollout) as draft:
            digest = self.place.agreed(draft, challenger, act.actor.name)
            held = served(draft, endpoint.name)
            held.refuse_if_busy()
            if draft.get("rollout", key_of(rollout)) is not None:
                raise Conflict(f"{rollout} was started by somebody else meanwhile.", "look again.")
            champion = champion_of(held.wanted.arms)
            if champion.model == str(challenger):
                raise Conflict(f"{challenger} is the champion of {subject} already.")
            made = release(draft, act, endpoint, challenger, str(rollout))
            status = begin(plan, act.now)
            arms = (*held.wanted.arms, new_arm("challenger", challenger, digest, status.share, made))
            held = held.serving(shared(arms, status.share), salt=_salt(endpoint, version, seed))
            wanted = _as_declared(held.wanted, endpoint)
            keep(draft, replace(held, wanted=wanted, rollout=str(rollout)))
            draft.put("rollout", key_of(rollout), {
                "ref": rollout, "endpoint": subject, "champion": champion.model, "challenger": challenger, "release": made,
                "status": status, "plan": plan, "slow_ms": slow_ms, "seed": seed, "threshold": endpoint.threshold,
                "started_at": act.now, "ended_at": None, "recorded_at": act.now, "history": [],
            })  # fmt: skip
            undo = undo_of(draft)
            draft.note(challenger=str(challenger), champion=champion.model, share=status.share)
        self.place.attempt(act, wanted, undo)
        return rollout

    @action("rollout.look")
    def look(self, act: Act, subject: Ref, *, blocks: Sequence[Block], now: datetime) -> Decision:
        """Weighs the blocks that it has not counted yet and does what follows.

        Figures alone are recorded once a cohort; until then the same blocks are to be given again. Raises Conflict where
        the rollout is over.
        """
        return self._weigh(act, subject, blocks, now, "")

    @action("rollout.abort")
    def abort(self, act: Act, subject: Ref, *, reason: str) -> Decision:
        """Gives everything back to the champion, on a person's word."""
        return self._weigh(act, subject, (), act.now, reason)

    def reconcile(self) -> list[str]:
        """Makes every host serve what the ledger says; returns the endpoints that did not. For the start, and for every tick."""
        return self.place.reconcile()

    def live(self, endpoint: str) -> Ref | None:
        """The rollout under way there."""
        record = self.kernel.ledger.get("endpoint", endpoint)
        return Ref.parse(record["rollout"]) if record and record["rollout"] else None

    def busy(self, endpoint: str) -> Ref | None:
        """The rollout or the experiment under way there."""
        record = self.kernel.ledger.get("endpoint", endpoint) or {}
        under_way = record.get("rollout") or record.get("experiment")
        return Ref.parse(under_way) if under_way else None

    def show(self, subject: Ref) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("rollout", key_of(subject))
        if record is None:
            known = [f"rollout/{key}" for key, _ in self.kernel.ledger.find("rollout")]
            raise NotFound.named("rollout", str(subject), known)
        return record

    def _weigh(self, act: Act, subject: Ref, blocks: Iterable[Block], now: datetime, abort: str) -> Decision:
        record = self.show(subject)
        plan, status = decode(Canary, record["plan"]), decode(Status, record["status"])
        if not status.is_live:
            raise Conflict(f"{subject} is over: {status.state}.", f"falaj rollout show {subject}")
        known = self._ahead.get(str(subject))
        start = known[1] if known and known[0] == record else status
        following, found = advance(plan, start, blocks, now, subject=subject, order="abort" if abort else "")
        decision = replace(found, actor=act.actor, reason=abort or found.reason)
        has_moved = (following.state, following.step) != (status.state, status.step)
        is_due = now - moment(record["recorded_at"]) >= length(plan.cohort) and following != status
        if not has_moved and not is_due:
            self._ahead[str(subject)] = (record, following)
            return decision
        self._ahead.pop(str(subject), None)
        wanted = None
        with act.change() as draft:
            if draft.get("rollout", key_of(subject)) != record:
                raise Conflict(f"{subject} was changed by somebody else meanwhile.", "look again.")
            draft.put("rollout", key_of(subject), _recorded(record, status, following, now))
            draft.decide(decision)
            draft.note(state=following.state, step=following.step, share=following.share, reason=decision.reason)
            if following.share != status.share:
                wanted = self._shift(draft, act, record, following, decision)
        if wanted is not None:
            self.place.serve(wanted)
        return decision

    def _shift(self, draft: Draft, act: Act, record: Mapping[str, Any], status: Status, decision: Decision) -> Wanted:
        """What is to be served now, drafted into the same change as its reason."""
        endpoint = self.place.one(Ref.parse(record["endpoint"]))
        held = read(draft, endpoint.name)
        if held is None or held.rollout != record["ref"]:
            raise Conflict(f"{record['ref']} is not what {endpoint.name} is rolling out.")
        if status.is_live and status.share > decode(Status, record["status"]).share:
            refuse_withheld(draft.tx, Ref.parse(record["challenger"]))  # it ends by a recall, and gets no more callers until then
        held = held.serving(shared(held.wanted.arms, status.share))
        keep(draft, replace(held, rollout=record["ref"] if status.is_live else None))
        if not status.is_live:
            finish(draft, act, Ref.parse(record["release"]), status.state, f"{decision.subject}|rollout")
        if status.state == "promoted":
            crown(draft, act, endpoint, Ref.parse(record["challenger"]), f"{decision.subject}|rollout")
        return held.wanted


def _recorded(record: Mapping[str, Any], before: Status, status: Status, now: datetime) -> dict[str, Any]:
    old = {guard.name: guard.fed_ms for guard in before.guards}
    points = [
        {
            "at": iso(now), "guard": guard.name, "log10_e_harm": log10(guard.harm.log_e),
            "log10_e_inferior": log10(guard.inferior.log_e), "n": list(guard.units), "x": list(guard.bad),
        }
        for guard in status.guards if guard.fed_ms > old[guard.name]
    ]  # fmt: skip
    ended = None if status.is_live else iso(now)
    history = [*record["history"], *points]
    return {**record, "status": encode(status), "history": _thinned(history), "recorded_at": iso(now), "ended_at": ended}


def _thinned(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most POINTS: of the older half every second look is dropped, so that the curve keeps its beginning."""
    if len(history) <= POINTS:
        return history
    looks = sorted({point["at"] for point in history[: len(history) // 2]})
    dropped = set(looks[1::2])
    return [point for point in history if point["at"] not in dropped][-POINTS:]


def _seeing(plan: Canary, slow_ms: float | None) -> Canary:
    guards = tuple(guard for guard in plan.guards if guard != "slow" or slow_ms is not None)
    return replace(plan, guards=guards) if guards else plan


def _first(endpoint: Endpoint) -> Held:
    """An endpoint that has served nothing yet."""
    return Held(Wanted(endpoint.name, 0, (), "", endpoint.threshold, endpoint.unit))


def _as_declared(wanted: Wanted, endpoint: Endpoint) -> Wanted:
    """What the project says of the endpoint now; it holds from this release on."""
    stream = asdict(endpoint.stream) if endpoint.stream is not None else {}
    return replace(
        wanted, threshold=endpoint.threshold, unit=endpoint.unit, mask=dict(endpoint.masked), stream=stream,
        subject=endpoint.subject,
    )  # fmt: skip


def _salt(endpoint: Endpoint, version: int, seed: int) -> str:
    """Fresh for each rollout: whoever met the last challenger is not bound to meet this one."""
    return f"{endpoint.name}.{version}.{seed}"
