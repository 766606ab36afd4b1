"""Finds, hands out and erases one person's data in every store that has any, and proves it; the person is known by token."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.actor import Actor
from falaj.core.codec import digest, encode
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.ports.subjects import Finding, SubjectStore
from falaj.ports.vault import Vault
from falaj.stages.action import Act, Kernel, action
from falaj.stages.privacy import approvals, erasures
from falaj.stages.privacy.affected import Affected, learned_from
from falaj.stages.privacy.consent import milestones_of
from falaj.stages.privacy.erasures import DONE, FORGET, MODELS, SHRED, Plan
from falaj.stages.privacy.holds import holding
from falaj.stages.privacy.outcome import Outcome, names_of, place_of, resolve, tally
from falaj.stages.privacy.receipts import Notary, issue
from falaj.stages.privacy.requests import identity_check
from falaj.stages.privacy.shelves import classes_behind
from falaj.stages.privacy.stores import about
from falaj.stages.privacy.terms import Term
from falaj.stages.privacy.waivers import granted

MOST_RECORDS, MOST_BYTES = 100_000, 64 << 20
"""Of an export: more has to be asked for store by store."""
MOST_PERSON = 1024
"""Bytes of a person's identifier."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the work is done with. `stores` are opened when the work begins."""

    vault: Vault
    blobs: Blobs
    stores: Callable[[], Sequence[SubjectStore]]
    notary: Notary


class Subjects:
    """`terms`: the law's floors; `approvals_needed`: how many people an erasure takes, 1 or 2."""

    def __init__(
        self, kernel: Kernel, means: Means, affected: Affected, *, terms: tuple[Term, ...], approvals_needed: int = 1
    ) -> None:
        self.kernel = kernel
        self.means = means
        self.affected = affected
        self.terms = terms
        self.approvals_needed = approvals_needed

    def subject(self, person: Any) -> Ref:
        """`subject/<token>`. Raises InvalidInput for what is nobody's identifier; the message never shows it."""
        if not isinstance(person, str) or not person.strip() or len(person.encode()) > MOST_PERSON:
            raise InvalidInput(
                "The person was not given, or not as a text of at most 1,024 bytes.", "give it as `person`: never in an address."
            )
        return Ref("subject", self.means.vault.token(person))

    @action("subject.find")
    def find(self, act: Act, subject: Ref, *, person: str) -> list[Finding]:
        """Where there is anything about the person, readable or not."""
        self._same(subject, person)
        found = [finding for store in self.means.stores() for finding in store.find(person)]
        with act.change() as draft:
            draft.note(found=tally(found))
        return found

    @action("subject.export")
    def export(self, act: Act, subject: Ref, *, person: str) -> Mapping[str, Any]:
        """Everything readable about the person, and a copy of it that is sealed with the person's own key and kept for a while.

        Raises Conflict where it is more than can be handed out at once, Denied where the person was erased.
        """
        self._same(subject, person)
        records, size = [], 0
        for store in self.means.stores():
            for record in store.export(person):
                records.append(dict(record))
                size += len(json.dumps(encode(record), default=str))
                if len(records) > MOST_RECORDS or size > MOST_BYTES:
                    raise Conflict(f"There are more than {MOST_RECORDS} records.", "ask the stores one by one.")
        plain = "\n".join(json.dumps(encode(record), default=str, sort_keys=True) for record in records).encode()
        ref = Ref("export", f"{subject.name[:16]}-{digest(plain + iso(act.now).encode())[7:19]}")
        [sealed] = self.means.vault.seal([subject.name], [plain], about(ref.name))
        body = {"ref": str(ref), "token": subject.name, "digest": self.means.blobs.put(sealed), "records": len(records),
                "at": act.now, "by": str(act.actor)}  # fmt: skip
        with act.change() as draft:
            draft.put("export", ref.name, body)
            draft.note(export=str(ref), records=len(records))
        return {"export": str(ref), "records": records}

    def plan(self, person: str) -> Plan:
        """What an erasure would do now. Reads; changes nothing."""
        token, ledger = self.subject(person).name, self.kernel.ledger
        found = [finding for store in self.means.stores() for finding in store.find(person)]
        kept: dict[str, set[str]] = {}
        for finding in found:
            kept.setdefault(finding.store, set()).update(self._classes(finding))
        classes = frozenset().union(*kept.values()) if kept else frozenset[str]()
        places = [ref for ref in map(place_of, found) if ref is not None]
        snapshots = [ref for ref in places if ref.kind == "dataset"]
        models = learned_from(ledger, snapshots, [ref for ref in places if ref.kind == "model"])
        outcome = self._outcome(token, classes, (*places, *map(Ref.parse, models)))
        binding = {name for name, of in kept.items() if of and outcome.kind == "restrict"}
        keeps = frozenset(kept) if outcome.holds else frozenset(binding)
        return Plan(token, tuple(found), classes, outcome, tuple(models), keeps)

    @action("subject.erase")
    def erase(self, act: Act, subject: Ref, *, person: str, request: str, identity: str) -> Decision:
        """Begins the erasure: from this event on the person is erased, or restricted until what keeps the data ends.

        `identity`: the name of the check that told who asks. The same request again changes nothing, so that what was cut short
        can be taken up. `carry_out` does the steps. Hold: nothing was done yet, another person has to approve the request.
        """
        self._same(subject, person)
        identity = identity_check(identity, person)
        before = self.kernel.ledger.get("erasure", request)
        if before is not None:
            if before["token"] != subject.name:
                raise Conflict(f"request/{request} is about somebody else.", "name another --request.")
            return erasures.verdict_of(before)
        self._refuse_other(subject, request)
        decision = self._agreed(act, request)
        if not decision.allowed:
            with act.change() as draft:
                draft.decide(decision)
                draft.note(request=request, verdict=decision.verdict)
            return decision
        body = erasures.record_of(self.plan(person), request, act.now, str(act.actor), identity)
        body["sealed"] = self._remember(request, person)
        with act.change() as draft:
            self._refuse_stale(body)
            draft.put("erasure", request, body)
            self._bound(draft, body, act.now)
            shown = ("outcome", "until", "conflicts", "found", "models", "identity")
            draft.note(request=request, **{name: body[name] for name in shown})
        return erasures.verdict_of(body)

    def carry_out(self, actor: Actor, request: str) -> Decision:
        """Does whatever is left of an erasure, and issues a receipt. Every step may be done again after a crash."""
        body = self.get(request)
        is_held = body["state"] == "restricted" and bool(self._now_of(body).holds)
        if body["state"] == "restricted":
            body = self._reconsidered(actor, body)
        stores = {store.name: store for store in self.means.stores()}
        for step in () if is_held else erasures.left(body, list(stores)):
            if step == MODELS:
                for model in body["models"]:
                    self.affected.mark(actor, Ref.parse(model), request=request)
            body = self.advance(actor, Ref("subject", body["token"]), request=request, step=step)
            if body["steps"][step].get("readable"):
                return erasures.verdict_of(body)
        if not _has_receipt(body):
            body = self.issue(actor, Ref("receipt", request))
        return erasures.verdict_of(body)

    @action("subject.advance")
    def advance(self, act: Act, subject: Ref, *, request: str, step: str) -> Mapping[str, Any]:
        """Does one step of an erasure and records it; the record is returned as it then reads."""
        told = self._do(self.get(request), step)
        with act.change() as draft:
            body = draft.get("erasure", request)
            assert body is not None  # an erasure is never removed
            body = {**body, "steps": {**body["steps"], step: {"at": iso(act.now), **told}}}
            if step == "due" and self._now_of(body).kind == "restrict":
                raise Conflict(f"Something keeps what request/{request} is about by now.", "falaj hold list")
            if step == "due":
                body = {**body, "state": "erasing", "outcome": "erase", "until": None}
                self._bound(draft, body, act.now)
            if step == DONE:
                body = {**body, "state": "done", "told": "erased", "sealed": ""}
                draft.remove("restricted", subject.name)
            draft.put("erasure", request, body)
            draft.note(request=request, step=step, **told)
        return body

    @action("receipt.issue")
    def issue(self, act: Act, subject: Ref) -> Mapping[str, Any]:
        """Signs what was done. The receipt proves the last event about the person that belongs to the request."""
        body = self.get(subject.name)
        data = issue(self.means.notary, body, self._event(body), iso(act.now))
        kept = {"at": iso(act.now), "state": body["state"], "digest": self.means.blobs.put(data)}
        with act.change() as draft:
            body = {**(draft.get("erasure", subject.name) or body)}
            body["receipts"] = [*body["receipts"], kept]
            draft.put("erasure", subject.name, body)
            draft.note(digest=kept["digest"], state=kept["state"])
        return body

    def unfinished(self) -> list[str]:
        """The requests whose steps or whose receipt are not done yet, and those whose date has come."""
        return [
            str(body["id"])
            for _, body in self.kernel.ledger.find("erasure")
            if body["state"] == "erasing" or not _has_receipt(body)
            or (body["state"] == "restricted" and self._now_of(body).kind == "erase")
        ]  # fmt: skip

    def get(self, request: str) -> Mapping[str, Any]:
        body = self.kernel.ledger.get("erasure", request)
        if body is None:
            raise NotFound.named("erasure", request, [key for key, _ in self.kernel.ledger.find("erasure")])
        return body

    # --- one step ---

    def _do(self, body: Mapping[str, Any], step: str) -> dict[str, Any]:
        verb, _, name = step.partition(" ")
        if step == SHRED:
            return {"keys": self.means.vault.shred([body["token"]])}
        if step == FORGET:
            self.means.vault.shred([self._alias(body["id"])])
            return {"removed": int(bool(body["sealed"]) and self.means.blobs.delete(body["sealed"]))}
        if verb in ("erase", "probe"):
            store = next(store for store in self.means.stores() if store.name == name)
            person = self._person(body)
            if verb == "probe":
                found = [finding for finding in store.probe(person) if finding.readable]
                return {"readable": sum(finding.count for finding in found)}
            early = {"early": True} if body["state"] == "restricted" else {}
            return {"removed": sum(finding.count for finding in store.erase(person)), **early}
        return {"models": len(body["models"])} if step == MODELS else {}

    def _agreed(self, act: Act, request: str) -> Decision:
        subject = Ref("request", request)
        decision = approvals.by_person(act, subject, "erases")
        if not decision.allowed or self.approvals_needed < 2:
            return decision
        said = approvals.approvers(self.kernel.ledger.find("approval", prefix=f"{subject}|"))
        said[act.actor.name] = act.actor.roles
        return approvals.enough(subject, "erasure-approval", said, needed=self.approvals_needed)

    def _refuse_other(self, subject: Ref, request: str) -> None:
        """An approval is of one person's erasure; a request about somebody else, or for something else, carries none."""
        asked = self.kernel.ledger.get("request", request)
        if asked is None:
            return
        if asked["token"] != subject.name:
            raise Conflict(f"request/{request} is about somebody else.", "name another --request.")
        if asked["kind"] != "erasure" or asked["state"] != "open":
            raise Conflict(
                f"request/{request} is {asked['state']}, for {asked['kind']}.", "open one for erasure: falaj request open"
            )

    def _refuse_stale(self, body: Mapping[str, Any]) -> None:
        """Under the write lock: the stores may have been searched for long, and a hold have come meanwhile."""
        outcome = self._now_of(body)
        if outcome.kind == "restrict" and list(outcome.conflicts) != body["conflicts"]:
            self.means.blobs.delete(body["sealed"])
            raise Conflict("Something came that keeps the person's data while it was looked for.", "ask again.")

    def _bound(self, draft: Any, body: Mapping[str, Any], now: datetime) -> None:
        """From the event on, whoever asks is told: erased, or not to be used."""
        token = body["token"]
        if body["outcome"] == "erase":
            draft.put("erased", token, {"token": token, "request": body["id"], "at": now})
        else:
            reason = f"erasure {body['id']}: {body['told']}"
            draft.put("restricted", token, {"token": token, "at": now, "by": body["by"], "reason": reason, "erasure": body["id"]})

    def _reconsidered(self, actor: Actor, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._now_of(body).kind == "restrict":
            return body
        return self.advance(actor, Ref("subject", body["token"]), request=body["id"], step="due")

    def _now_of(self, body: Mapping[str, Any]) -> Outcome:
        return self._outcome(body["token"], body["classes"], [Ref.parse(text) for text in (*body["refs"], *body["models"])])

    def _outcome(self, token: str, classes: Sequence[str] | frozenset[str], places: Sequence[Ref]) -> Outcome:
        """`places`: where the person's data is, and the models that learned from it: a hold on those holds what they rest on."""
        ledger, now = self.kernel.ledger, self.kernel.now()
        placed = ledger.find("hold")
        holds = holding(placed, names_of(token, places, [str(body["scope"]) for _, body in placed]), now)
        facts = (granted(ledger.find("waiver")), now)
        return resolve(frozenset(classes), self.terms, milestones_of(ledger, token), holds=holds, facts=facts)

    def _classes(self, finding: Finding) -> set[str]:
        ref = place_of(finding)
        asset = self.kernel.ledger.get("asset", str(ref)) if ref is not None and ref.version else None
        return classes_behind(self.kernel.ledger, asset) if asset else set()

    def _event(self, body: Mapping[str, Any]) -> int:
        about = Ref("subject", body["token"])
        found = [
            event.seq
            for event in self.kernel.ledger.events(verb="subject.", subject=about)
            if event.facts.get("request") == body["id"]
        ]
        return found[-1]

    def _alias(self, request: str) -> str:
        """Whose key the identifier is sealed with while the erasure is under way: the request's own, destroyed at its end."""
        return self.means.vault.token(f"request/{request} of falaj")

    def _remember(self, request: str, person: str) -> str:
        [sealed] = self.means.vault.seal([self._alias(request)], [person.encode()], f"erasure|{request}".encode())
        return self.means.blobs.put(sealed)

    def _person(self, body: Mapping[str, Any]) -> str:
        sealed = self.means.blobs.get(body["sealed"])
        [plain] = self.means.vault.open([self._alias(body["id"])], [sealed], f"erasure|{body['id']}".encode())
        if plain is None:
            raise Conflict(f"Nobody knows any more whom request/{body['id']} is about.", "open another request for the person.")
        return plain.decode()

    def _same(self, subject: Ref, person: str) -> None:
        if self.subject(person) != subject:
            raise InvalidInput("The person and the token are not the same.", "give the person alone.")


def _has_receipt(body: Mapping[str, Any]) -> bool:
    return bool(body["receipts"]) and body["receipts"][-1]["state"] == body["state"]
