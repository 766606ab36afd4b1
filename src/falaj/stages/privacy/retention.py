"""Retention at work: what is past its time, what may not go yet and why, and the removing of what is due, each with a receipt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.actor import Actor
from falaj.core.codec import canonical
from falaj.core.decision import Decision
from falaj.core.errors import Conflict, Denied, NotFound
from falaj.core.ref import Ref
from falaj.ports.blobs import Blobs
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.privacy.holds import holding
from falaj.stages.privacy.lives import Lives
from falaj.stages.privacy.names import Names
from falaj.stages.privacy.rules import Item, Ruling, Waiver, disputes, effective, limits_of, rule
from falaj.stages.privacy.shelves import Shelf
from falaj.stages.privacy.terms import Term
from falaj.stages.privacy.waivers import granted

MOST_NAMED = 200
"""So many digests stand in an event; of more it holds the digest of a list of them."""
ALL = Ref("retention", "all")


@dataclass(frozen=True, slots=True)
class Applied:
    """What a round removed. `refused`: what was due and may not go, with why."""

    removed: tuple[str, ...]
    left_over: int
    """Files that an earlier round, cut short, had left."""
    refused: Mapping[str, str]


class Remover:
    """Removes one thing: the event first, the bytes after it. What a crash left between the two the next round finishes."""

    def __init__(self, kernel: Kernel, blobs: Blobs, shelf: Shelf, terms: tuple[Term, ...]) -> None:
        self.kernel = kernel
        self.blobs = blobs
        self.shelf = shelf
        self.terms = terms

    def remove(self, act: Act, subject: Ref, names: Names) -> Decision:
        """Judged again under the write lock: a hold, a promotion or a training that came meanwhile counts."""
        digests: Sequence[str] = ()
        with act.change() as draft:
            item = self.shelf.one(subject)
            if item is None:
                raise NotFound(f"There is no {subject} any more.", "falaj retention plan")
            decision = self.judge(item, act, draft)
            if decision.allowed:
                kept = names.among(item.blobs, str(subject))
                digests = [digest for digest in item.blobs if digest not in kept]
                self._record(act, draft, item, digests)
                draft.note(rows=item.rows, removes=len(digests), kept_for_others=len(kept))
            draft.decide(decision)
            draft.note(verdict=decision.verdict, reason=decision.reason[:500])
        if decision.allowed:
            self.shelf.clear(subject, digests)
        return decision

    def judge(self, item: Item, act: Act, draft: Draft) -> Decision:
        waivers = granted(draft.tx.find("waiver"))
        holds = holding(draft.tx.find("hold"), item.refs, act.now, has_people=item.has_people)
        decision = rule(item, limits_of(item, self.terms, waivers, act.now), holds, act.now).decision
        return Decision(decision.subject, decision.rule, decision.verdict, decision.checks, act.actor, act.now, decision.reason)

    def _record(self, act: Act, draft: Draft, item: Item, digests: Sequence[str]) -> None:
        named: dict[str, Any] = {"digests": list(digests)}
        if len(digests) > MOST_NAMED:
            named = {"list": self.blobs.put(canonical(list(digests)))}
        body = {"ref": str(item.ref), "at": act.now, "by": str(act.actor), "rows": item.rows, "state": "removing", **named}
        draft.put("expired", str(item.ref), body)
        draft.note(**named)
        if item.ref.kind == "model":
            draft.put("standing", f"{item.ref.name}@{item.ref.version}", {"state": "expired", "at": act.now})


class DatasetRemover(Remover):
    @action("dataset.expire")
    def expire(self, act: Act, subject: Ref, *, names: Names) -> Decision:
        """Removes a snapshot's or a quarantine's rows; its record, its digest and its place in the lineage stay."""
        return self.remove(act, subject, names)


class ModelRemover(Remover):
    @action("model.expire")
    def expire(self, act: Act, subject: Ref, *, names: Names) -> Decision:
        """Removes a candidate or a version that never served. Denied for one that ever did."""
        return self.remove(act, subject, names)


class PredictionRemover(Remover):
    @action("predictions.expire")
    def expire(self, act: Act, subject: Ref, *, names: Names) -> Decision:
        """Removes a segment of the prediction log; its seal stays in the ledger."""
        return self.remove(act, subject, names)


class ExportRemover(Remover):
    @action("export.expire")
    def expire(self, act: Act, subject: Ref, *, names: Names) -> Decision:
        """Removes a copy that was made for a person."""
        return self.remove(act, subject, names)


AnyRemover = DatasetRemover | ModelRemover | PredictionRemover | ExportRemover


class Retention:
    def __init__(self, kernel: Kernel, blobs: Blobs, removers: Sequence[AnyRemover], terms: tuple[Term, ...]) -> None:
        self.kernel = kernel
        self.blobs = blobs
        self.removers = tuple(removers)
        self.terms = terms

    def show(self) -> dict[str, Any]:
        """Every term with its status and its instrument, which of them count, and where they contradict each other."""
        now = self.kernel.now()
        return {"terms": effective(self.terms, now), "conflicts": disputes(self.terms, now)}

    def plan(self) -> list[Ruling]:
        """What a round would say of each thing now. Reads; changes nothing."""
        return list(self._rulings(granted(self.kernel.ledger.find("waiver"))))

    def _rulings(self, waivers: Sequence[Waiver]) -> Iterator[Ruling]:
        now, holds = self.kernel.now(), self.kernel.ledger.find("hold")
        for remover in self.removers:
            for item in remover.shelf.items():
                held = holding(holds, item.refs, now, has_people=item.has_people)
                yield rule(item, limits_of(item, self.terms, waivers, now), held, now)

    def carry_out(self, actor: Actor, *, most: int = 10_000) -> Applied:
        """Removes what is due, at most so many things, and finishes what an earlier round began."""
        names = Names(self.kernel.ledger, self.blobs)
        removed: list[str] = []
        refused: dict[str, str] = {}
        for ruling in self.plan():
            if len(removed) >= most:
                break
            if ruling.decision.verdict == "deny":
                refused[str(ruling.item.ref)] = ruling.decision.reason
            elif ruling.decision.allowed:
                try:
                    decision = self._remover(ruling.item.ref).expire(actor, ruling.item.ref, names=names)
                except Denied as exc:  # by policy, which knows of this thing alone: the others are due all the same
                    refused[str(ruling.item.ref)] = exc.message
                    continue
                if decision.allowed:
                    removed.append(str(ruling.item.ref))
                else:
                    refused[str(ruling.item.ref)] = decision.reason
        left_over, open_ones = 0, self.unfinished()
        for start in range(0, len(open_ones), MOST_NAMED):
            left_over += self.apply(actor, ALL, unfinished=open_ones[start : start + MOST_NAMED], refused=len(refused))
        return Applied(tuple(removed), left_over, refused)

    def unfinished(self) -> list[Mapping[str, Any]]:
        """What was said to be removed and may still be there, as far as a crash can tell."""
        return [body for _, body in self.kernel.ledger.find("expired") if body["state"] != "removed"]

    @action("retention.apply")
    def apply(self, act: Act, subject: Ref, *, unfinished: Sequence[Mapping[str, Any]], refused: int = 0) -> int:
        """Removes whatever of it is still there, and records that nothing of it is left. How many files there were yet.

        What is under a hold by now stays as it lies, and is looked at again when the hold is over.
        """
        names, files = Names(self.kernel.ledger, self.blobs), 0
        holds, lives = self.kernel.ledger.find("hold"), Lives(self.kernel.ledger)
        unfinished = [body for body in unfinished if not _is_held(Ref.parse(body["ref"]), holds, act.now, lives)]
        for body in unfinished:
            ref = Ref.parse(body["ref"])
            digests = body["digests"] if "digests" in body else json.loads(self.blobs.get(body["list"]))
            kept = names.among(digests, body["ref"])  # somebody may have put the same bytes again meanwhile
            files += self._remover(ref).shelf.clear(ref, [digest for digest in digests if digest not in kept])
        with act.change() as draft:
            for body in unfinished:
                draft.put(
                    "expired", body["ref"], {name: body[name] for name in ("ref", "at", "by", "rows")} | {"state": "removed"}
                )
            draft.note(removed=len(unfinished), refused=refused)
        return files

    def _remover(self, ref: Ref) -> AnyRemover:
        for remover in self.removers:
            if ref.kind in remover.shelf.kinds:
                return remover
        raise Conflict(f"Nothing here removes a {ref.kind}.", "falaj retention plan")


def _is_held(ref: Ref, holds: list[tuple[str, Mapping[str, Any]]], now: datetime, lives: Lives) -> bool:
    """By the names under which its shelf had it before it was said to be removed."""
    names = [ref]
    if ref.kind in ("dataset", "quarantine"):
        names += [Ref("dataset", ref.name, ref.version), *lives.learned_from(ref)]
    elif ref.kind == "predictions":
        names.append(Ref("endpoint", ref.name))
    elif ref.kind == "candidate":
        names.append(Ref("model", ref.name))
    return bool(holding(holds, names, now, has_people=ref.kind != "export"))
