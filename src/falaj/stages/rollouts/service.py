"""Carries rollouts out: what was decided, what is to be served and which model is the champion change together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from falaj.core.codec import decode, encode
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, NotFound
from falaj.core.moments import iso, length, moment
from falaj.core.ref import Ref
from falaj.ports.host import Arm, Host, Wanted
from falaj.ports.ledger import Ledger, Transaction
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.rollouts.rules import Block, Status, advance, begin, log10
from falaj.stages.rollouts.spec import Canary, Endpoint

Keys = Callable[[], Mapping[str, Mapping[str, Any]]]
KEPT = 20
"""So many champions an alias can be rolled back through."""
POINTS = 120
"""How many points of the curves a rollout's record keeps; the events have them all."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """`keys`: the keys that an endpoint accepts now, HMAC → actor."""

    kernel: Kernel
    host: Host
    endpoints: Mapping[str, Endpoint]
    keys: Keys
    _ahead: dict[str, tuple[Mapping[str, Any], Status]] = field(default_factory=dict)
    """Rollout → its record, and the status that has counted blocks since. It only saves counting: a restart loses nothing."""

    @action("endpoint.deploy")
    def deploy(self, act: Act, subject: Ref, *, model: Ref, reason: str) -> Ref:
        """Serves a model to everybody at once, on a person's responsibility. Returns the release.

        Raises Conflict while a rollout is under way or where no gate let the model pass.
        """
        endpoint = self._endpoint(subject)
        digest = self._passed(model)
        with act.change() as draft:
            record = draft.get("endpoint", endpoint.name)
            _refuse_if_live(record)
            release = _release(draft, act, endpoint, model, reason)
            arm = Arm("champion", str(model), digest, 1.0, str(release))
            wanted = _wanted(endpoint, record, (arm,), _salt(endpoint, 0, 0))
            draft.put("endpoint", endpoint.name, {"wanted": wanted, "rollout": None})
            _crown(draft, act, endpoint, model, f"{release}|deploy")
            draft.note(model=str(model), release=str(release), reason=reason)
        self._serve(wanted)
        return release

    @action("rollout.start")
    def start(self, act: Act, subject: Ref, *, challenger: Ref, seed: int = 0, slow_ms: float | None = None) -> Ref:
        """Begins to give the challenger its first share. Returns the rollout.

        `slow_ms`: the champion's 95th percentile before now; without it the guard `slow` cannot see and is left out.
        Raises Conflict where nothing is served yet, a rollout is under way or no gate let the challenger pass.
        """
        endpoint = self._endpoint(subject)
        digest = self._passed(challenger)
        plan = _seeing(endpoint.rollout, slow_ms)
        version = _next(self.kernel.ledger, "rollout", endpoint.name)
        rollout = Ref("rollout", endpoint.name, str(version))
        with act.change(rollout) as draft:
            record = draft.get("endpoint", endpoint.name)
            if record is None:
                raise Conflict(f"Nothing is served on {subject} yet.", f"falaj endpoint deploy {subject} --model {challenger}")
            _refuse_if_live(record)
            if draft.get("rollout", _key(rollout)) is not None:
                raise Conflict(f"{rollout} was started by somebody else meanwhile.", "look again.")
            champion = decode(Wanted, record["wanted"]).arms[0]
            if champion.model == str(challenger):
                raise Conflict(f"{challenger} is the champion of {subject} already.")
            release = _release(draft, act, endpoint, challenger, str(rollout))
            status = begin(plan, act.now)
            arms = (champion, Arm("challenger", str(challenger), digest, status.share, str(release)))
            wanted = _wanted(endpoint, record, _shared(arms, status.share), _salt(endpoint, version, seed))
            draft.put("endpoint", endpoint.name, {"wanted": wanted, "rollout": str(rollout)})
            draft.put("rollout", _key(rollout), {
                "ref": rollout, "endpoint": subject, "champion": champion.model, "challenger": challenger, "release": release,
                "status": status, "plan": plan, "slow_ms": slow_ms, "seed": seed, "threshold": endpoint.threshold,
                "started_at": act.now, "ended_at": None, "recorded_at": act.now, "history": [],
            })  # fmt: skip
            draft.note(challenger=str(challenger), champion=champion.model, share=status.share)
        self._serve(wanted)
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
        mended = []
        for name, record in self.kernel.ledger.find("endpoint"):
            wanted = decode(Wanted, record["wanted"])
            try:
                seen = self.host.look(name)
                is_right = seen.ready and seen.revision == wanted.revision
            except NotFound:
                is_right = False
            if not is_right:
                self._serve(wanted)
                mended.append(name)
        return mended

    def live(self, endpoint: str) -> Ref | None:
        """The rollout under way there."""
        record = self.kernel.ledger.get("endpoint", endpoint)
        return Ref.parse(record["rollout"]) if record and record["rollout"] else None

    def show(self, subject: Ref) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("rollout", _key(subject))
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
            if draft.get("rollout", _key(subject)) != record:
                raise Conflict(f"{subject} was changed by somebody else meanwhile.", "look again.")
            draft.put("rollout", _key(subject), _recorded(record, status, following, now))
            draft.decide(decision)
            draft.note(state=following.state, step=following.step, share=following.share, reason=decision.reason)
            if following.share != status.share:
                wanted = self._shift(draft, act, record, following, decision)
        if wanted is not None:
            self._serve(wanted)
        return decision

    def _shift(self, draft: Draft, act: Act, record: Mapping[str, Any], status: Status, decision: Decision) -> Wanted:
        """What is to be served now, drafted into the same change as its reason."""
        endpoint = self._endpoint(Ref.parse(record["endpoint"]))
        held = draft.get("endpoint", endpoint.name)
        if held is None or held["rollout"] != record["ref"]:
            raise Conflict(f"{record['ref']} is not what {endpoint.name} is rolling out.")
        before = decode(Wanted, held["wanted"])
        wanted = replace(before, revision=before.revision + 1, arms=_shared(before.arms, status.share))
        draft.put("endpoint", endpoint.name, {"wanted": wanted, "rollout": record["ref"] if status.is_live else None})
        release = Ref.parse(record["release"])
        if not status.is_live:
            body = dict(draft.get("release", _key(release)) or {})
            body |= {"outcome": status.state, "outcome_at": act.now, "decision": f"{decision.subject}|rollout"}
            draft.put("release", _key(release), body)
        if status.state == "promoted":
            _crown(draft, act, endpoint, Ref.parse(record["challenger"]), f"{decision.subject}|rollout")
        return wanted

    def _serve(self, wanted: Wanted) -> None:
        arms = tuple(replace(arm, manifest=self._model(Ref.parse(arm.model))["manifest"]) for arm in wanted.arms)
        self.host.serve(replace(wanted, arms=arms), self.keys())

    def _endpoint(self, subject: Ref) -> Endpoint:
        if subject.name not in self.endpoints:
            raise NotFound.named("endpoint", subject.name, self.endpoints)
        return self.endpoints[subject.name]

    def _model(self, model: Ref) -> Mapping[str, Any]:
        body = self.kernel.ledger.get("model", _key(model))
        if body is None:
            raise NotFound.named("model", str(model), [f"model/{key}" for key, _ in self.kernel.ledger.find("model")])
        return body

    def _passed(self, model: Ref) -> str:
        body = self._model(model)
        if body.get("gate") != "allow":
            raise Conflict(f"No gate let {model} pass (it says {body.get('gate')!r}).", f"falaj model show {model}")
        return str(body["asset"]["digest"])


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


def _shared(arms: Sequence[Arm], share: float) -> tuple[Arm, ...]:
    """The arms with the challenger at that share; alone at the ends."""
    champion, challenger = arms[0], arms[-1]
    if share >= 1:
        return (replace(challenger, role="champion", share=1.0),)
    if share <= 0 or champion is challenger:
        return (replace(champion, share=1.0),)
    return replace(champion, share=round(1 - share, 6)), replace(challenger, share=share)


def _release(draft: Draft, act: Act, endpoint: Endpoint, model: Ref, reason: str) -> Ref:
    release = Ref("release", endpoint.name, str(_next(draft.tx, "release", endpoint.name)))
    where = Ref("endpoint", endpoint.name)
    body = {"ref": release, "model": model, "endpoint": where, "at": act.now, "by": str(act.actor), "reason": reason}
    draft.put("release", _key(release), body)
    return release


def _crown(draft: Draft, act: Act, endpoint: Endpoint, model: Ref, decision: str) -> None:
    """Points the champion at the model; what it pointed at before stays known, so that it can be rolled back."""
    key = f"{endpoint.model}@champion"
    now = draft.get("alias", key) or {}
    before = [ref for ref in (*now.get("before", ()), now.get("model")) if ref and ref != str(model)][-KEPT:]
    draft.put("alias", key, {"model": str(model), "since": act.now, "by": str(act.actor), "decision": decision, "before": before})


def _next(reader: Ledger | Transaction, kind: str, name: str) -> int:
    versions = [int(key.rpartition("@")[2]) for key, _ in reader.find(kind, prefix=f"{name}@")]
    return max(versions, default=0) + 1


def _refuse_if_live(record: Mapping[str, Any] | None) -> None:
    if record and record["rollout"]:
        raise Conflict(f"{record['rollout']} is under way.", f"falaj rollout abort {record['rollout']}")


def _wanted(endpoint: Endpoint, record: Mapping[str, Any] | None, arms: tuple[Arm, ...], salt: str) -> Wanted:
    """Without the signed manifests: they are in the models' records, and would be in every event."""
    revision = int(record["wanted"]["revision"]) + 1 if record else 1
    stream = asdict(endpoint.stream) if endpoint.stream is not None else {}
    return Wanted(endpoint.name, revision, arms, salt, endpoint.threshold, endpoint.unit, stream)


def _salt(endpoint: Endpoint, version: int, seed: int) -> str:
    """Fresh for each rollout: whoever met the last challenger is not bound to meet this one."""
    return f"{endpoint.name}.{version}.{seed}"


def _key(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"
