"""What every endpoint is to serve, as the ledger has it, and the host that makes it so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from falaj.core.codec import decode
from falaj.core.decision import Check, Decision
from falaj.core.errors import Conflict, FalajError, NotFound
from falaj.core.ref import Ref
from falaj.ports.host import Arm, Host, Wanted
from falaj.ports.ledger import Ledger, Transaction
from falaj.stages.action import Act, Draft, Kernel
from falaj.stages.registry.approvals import record_of, refuse_unseparated
from falaj.stages.registry.demands import BUILT_IN, Demands
from falaj.stages.registry.impact import refuse_unready
from falaj.stages.registry.service import refuse_withheld
from falaj.stages.rollouts.arms import Arms
from falaj.stages.rollouts.spec import Endpoint

Keys = Callable[[], Mapping[str, Mapping[str, Any]]]
Undo = tuple[tuple[str, str, Mapping[str, Any] | None], ...]
"""Records as they were before a change: kind, key, body."""
KEPT = 20
"""So many champions an alias can be rolled back through."""
_UNDONE = frozenset({"endpoint", "alias", "rollout", "experiment"})


@dataclass(frozen=True, slots=True)
class Held:
    """The record of an endpoint: what it is to serve, and the rollout or the experiment that is under way there."""

    wanted: Wanted
    rollout: str | None = None
    experiment: str | None = None

    def refuse_if_busy(self) -> None:
        """Raises Conflict while a rollout or an experiment decides who is answered by which model."""
        if self.rollout:
            raise Conflict(f"{self.rollout} is under way.", f"falaj rollout abort {self.rollout}")
        if self.experiment:
            raise Conflict(f"{self.experiment} is under way.", f"falaj endpoint unsplit {self.wanted.endpoint}")

    def serving(self, arms: Arms, *, salt: str | None = None) -> Held:
        """The same endpoint with these arms, as the next revision."""
        wanted = replace(self.wanted, revision=self.wanted.revision + 1, arms=arms, salt=salt or self.wanted.salt)
        return replace(self, wanted=wanted)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """`declared`: the project's endpoints by name. `keys`: the keys that an endpoint accepts now, HMAC → actor. `demands`:
    what the packs in force ask of models that are to answer, and of the kill switch. `excluded(name)`: the tokens of
    whom that endpoint may not be asked about."""

    kernel: Kernel
    host: Host
    declared: Mapping[str, Endpoint]
    keys: Keys
    demands: Demands = BUILT_IN
    excluded: Callable[[str], frozenset[str]] = lambda _name: frozenset()

    def one(self, subject: Ref) -> Endpoint:
        if subject.name not in self.declared:
            raise NotFound.named("endpoint", subject.name, self.declared)
        return self.declared[subject.name]

    def agreed(self, draft: Draft, model: Ref, asking: str) -> str:
        """As `passed`, for a model that is to answer people: where it has a tier they have approved it and it has shown its tests
        and its assessment, and nobody objects. `asking`: the name of whoever wants that.

        Asked inside the change that serves it: an approval that is withdrawn meanwhile does not count.
        """
        digest = passed(draft.tx, model)
        refuse_unseparated(draft.tx, model, asking)
        refuse_unready(draft.tx.get, model, self.kernel.now(), demands=self.demands)
        return digest

    def is_agreed(self, model: Ref) -> bool:
        """Whether nothing but the gates' word is left to ask; until then no rollout of it starts by itself."""
        try:
            refuse_unseparated(self.kernel.ledger, model)
            refuse_unready(self.kernel.ledger.get, model, self.kernel.now(), demands=self.demands)
        except Conflict:
            return False
        return True

    def serve(self, wanted: Wanted) -> None:
        """Tells the host; returns when every worker has it. Raises what keeps it from being served."""
        if not wanted.killed:  # nothing is to come before a kill
            self.host.exclude(wanted.endpoint, self.excluded(wanted.endpoint))
        self.host.serve(self.whole(wanted), self.keys())

    def exclude(self) -> None:
        """Tells the host of every endpoint whom it may not be asked about, as of now."""
        for name, _ in self.kernel.ledger.find("endpoint"):
            self.host.exclude(name, self.excluded(name))

    def whole(self, wanted: Wanted) -> Wanted:
        """With the signed manifests, as a host needs them."""
        return replace(
            wanted,
            arms=tuple(
                replace(arm, manifest=record_of(self.kernel.ledger, Ref.parse(arm.model))["manifest"]) for arm in wanted.arms
            ),
        )

    def attempt(self, act: Act, wanted: Wanted, undo: Undo) -> None:
        """Serves it, or leaves everything as it was where a model cannot be loaded.

        A host that is away is another thing: the wish stands, and the next round of the worker brings it about.
        """
        try:
            self.serve(wanted)
        except FalajError as exc:
            if not exc.retryable:
                self._take_back(act, wanted, undo, exc)
            raise

    def is_loaded(self, wanted: Wanted) -> bool:
        """Whether every worker has this revision, all of its models loaded and warm."""
        try:
            seen = self.host.look(wanted.endpoint)
        except NotFound:
            return False
        return seen.ready and seen.revision >= wanted.revision

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
                self.serve(wanted)
                mended.append(name)
        return mended

    def _take_back(self, act: Act, wanted: Wanted, undo: Undo, error: FalajError) -> None:
        with act.change() as draft:
            draft.note(taken_back=True, reason=f"it could not be served: {error.message[:300]}")
            held = read(draft, wanted.endpoint)
            if held is None or held.wanted.revision != wanted.revision:
                draft.note(taken_back=False)  # somebody else changed it meanwhile, and it is theirs now
                return
            for kind, key, body in undo:
                if kind == "endpoint" and body is not None:
                    before = decode(Held, body)
                    keep(draft, replace(before, wanted=replace(before.wanted, revision=wanted.revision + 1)))
                elif body is None:
                    draft.remove(kind, key)
                else:
                    draft.put(kind, key, body)
        with contextlib.suppress(FalajError):  # the worker's next round does it, and the caller hears of the first error
            found = self.kernel.ledger.get("endpoint", wanted.endpoint)
            if found is not None:
                self.serve(decode(Wanted, found["wanted"]))


# --- What is drafted into one change --------------------------------------------------------------------------------------


def passed(reader: Ledger | Transaction, model: Ref) -> str:
    """The digest of a model that its gates let pass. Raises Conflict for any other, and for one that is withheld."""
    body = record_of(reader, model)
    if body.get("gate") != "allow":
        raise Conflict(f"No gate let {model} pass (it says {body.get('gate')!r}).", f"falaj model show {model}")
    refuse_withheld(reader, model)
    return str(body["asset"]["digest"])


def read(draft: Draft, name: str) -> Held | None:
    body = draft.get("endpoint", name)
    return decode(Held, body) if body is not None else None


def served(draft: Draft, name: str) -> Held:
    """Raises Conflict where nothing is served yet."""
    held = read(draft, name)
    if held is None:
        raise Conflict(
            f"Nothing is served on endpoint/{name} yet.", f"falaj endpoint deploy {name} --model <model> --reason <why>"
        )
    return held


def keep(draft: Draft, held: Held) -> None:
    """Without the signed manifests: they are in the models' records, and would be in every event."""
    draft.put("endpoint", held.wanted.endpoint, held)


def undo_of(draft: Draft) -> Undo:
    """How the records were that this draft changes; a draft reads what was there before it."""
    return tuple((c.kind, c.key, draft.get(c.kind, c.key)) for c in draft.changes if c.kind in _UNDONE)


def release(draft: Draft, act: Act, endpoint: Endpoint, model: Ref, reason: str) -> Ref:
    """A new release of the model on the endpoint; more than one of a draft get numbers behind one another."""
    drafted = sum(
        change.kind == "release" and change.body is not None and "outcome" not in change.body for change in draft.changes
    )
    made = Ref("release", endpoint.name, str(next_version(draft.tx, "release", endpoint.name) + drafted))
    where = Ref("endpoint", endpoint.name)
    body = {"ref": made, "model": model, "endpoint": where, "at": act.now, "by": str(act.actor), "reason": reason}
    draft.put("release", key_of(made), body)
    return made


def finish(draft: Draft, act: Act, ref: Ref, outcome: str, decision: str) -> None:
    """How a release ended, unless that is known already: a champion that was promoted is not less so for being let go."""
    body = dict(draft.get("release", key_of(ref)) or {})
    if "outcome" in body:
        return
    draft.put("release", key_of(ref), body | {"outcome": outcome, "outcome_at": act.now, "decision": decision})


def crown(draft: Draft, act: Act, endpoint: Endpoint, model: Ref, decision: str) -> None:
    """Points the champion at the model; what it pointed at before stays known, so that it can be rolled back.

    Raises Conflict where somebody objects by now, approvals that its tier asks for were withdrawn, or it is in quarantine.
    """
    refuse_unseparated(draft.tx, model, act.actor.name)
    refuse_withheld(draft.tx, model)
    now = draft.get("alias", f"{endpoint.model}@champion") or {}
    before = [ref for ref in (*now.get("before", ()), now.get("model")) if ref and ref != str(model)]
    point(draft, act, endpoint, (model, before), decision)


def point(draft: Draft, act: Act, endpoint: Endpoint, where: tuple[Ref, Sequence[str]], decision: str) -> None:
    """`where`: the model, and those to go back to from there, oldest first."""
    model, before = where
    body = {"model": str(model), "since": act.now, "by": str(act.actor), "decision": decision, "before": list(before)[-KEPT:]}
    draft.put("alias", f"{endpoint.model}@champion", body)


def decided(draft: Draft, act: Act, rule: str, reason: str, checks: Sequence[Check] = ()) -> str:
    """Keeps the decision of whoever acts; returns its key."""
    draft.decide(Decision(act.subject, rule, "allow", tuple(checks), act.actor, act.now, reason))
    return f"{act.subject}|{rule}"


def gate(model: str) -> Check:
    return Check("gate", "allow", f"allow for {model}", True)


def next_version(reader: Ledger | Transaction, kind: str, name: str) -> int:
    versions = [int(key.rpartition("@")[2]) for key, _ in reader.find(kind, prefix=f"{name}@")]
    return max(versions, default=0) + 1


def key_of(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"


def new_arm(role: str, model: Ref, digest: str, share: float, made: Ref) -> Arm:
    return Arm(role, str(model), digest, share, str(made))
