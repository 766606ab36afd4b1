"""Who may do what, decided by Cedar policies; whatever they cannot decide is denied."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from falaj.adapters.cedar.policies import Policies, Source, build
from falaj.adapters.cedar.question import HERE, Question, against, question
from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.ref import Ref

ROLE = "role."
MOST_KNOWN = 2048
"""Questions whose answers are kept; each is some 2 KB."""


class CedarPolicy:
    """Deny comes first: one forbid is enough, whatever permits.

    Cedar leaves a policy out that meets an error, and a forbid that is left out forbids nothing. So the schema comes with every
    question, and any error at all, or no decision, is a deny. Raises InvalidInput with file and line where a policy is broken.
    """

    def __init__(
        self,
        *,
        roles: Mapping[str, Collection[str]],
        groups: Mapping[str, Collection[str]],
        sources: Sequence[Source] = (),
        place: tuple[str, str] = (HERE, ""),
    ) -> None:
        """`roles`: the role table. `place`: this installation's zone, and the purpose that holds where a call names none."""
        self.roles, self.groups, self.place = roles, groups, place
        self.verbs = frozenset().union(*roles.values())
        self.set: Policies = build(roles, groups, sources)
        self._known: dict[str, Any] = {}
        """Question, as Cedar is given it → what it said."""

    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        try:
            reason = against(actor, subject, labels, self.roles)
            if not reason and verb not in self.verbs:
                reason = f"{verb!r} is no verb that the policy knows"
            if not reason:
                return self.answer(question(actor, verb, subject, labels, self.place), actor, subject)
        except Exception as exc:
            reason = f"the policy could not be evaluated ({type(exc).__name__})"
        return self._denied(actor, subject, reason, (Check("policy", "a question that can be answered", reason, False),))

    def answer(self, asked: Question, actor: Actor, subject: Ref) -> Decision:
        """What the policies say to a question that was put in Cedar's terms."""
        import cedarpy

        seen = self._said(asked)
        errors, ids = seen.diagnostics.errors, tuple(sorted(seen.diagnostics.reasons))
        if errors or seen.decision not in (cedarpy.Decision.Allow, cedarpy.Decision.Deny):
            why = _short(errors[0]) if errors else "there was no decision"
            reason = f"the policy could not be evaluated: {why}"
            return self._denied(actor, subject, reason, (Check("policy", "no error", why, False),), ids)
        if seen.decision is cedarpy.Decision.Deny:
            return self._refused(asked, actor, subject, ids)
        granting = [name.removeprefix(ROLE) for name in ids if name.startswith(ROLE)]
        reason = f"the role {granting[0]} may {asked.verb}" if granting else f"{ids[0]} permits {asked.verb}"
        check = Check("policy", f"a role that may {asked.verb}", reason, True)
        return Decision(subject, "policy", "allow", (check,), actor, None, reason, ids, self.set.digest)

    def _said(self, asked: Question) -> Any:
        """Cedar's answer. It rests on the question and these policies alone, neither on the time nor on what was asked before; so
        a question that was answered is not put again, whole and to the letter as it is."""
        import cedarpy

        request, entities = asked.request, asked.entities
        text = json.dumps([request, entities])
        known = self._known.get(text)
        if known is None:
            known = cedarpy.is_authorized(request, self.set.handle, entities, self.set.schema)
            if known.diagnostics.errors:
                return known
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[text] = known
        return known

    def changed(self, sources: Sequence[Source]) -> CedarPolicy:
        """The same installation with other packs or policies. Raises InvalidInput as the constructor does."""
        return CedarPolicy(roles=self.roles, groups=self.groups, sources=sources, place=self.place)

    def reads(self, name: str) -> frozenset[str]:
        """The attributes that a policy reads, such as `resource.zone`; nothing for an unknown id."""
        found = self.set.statements.get(name)
        return frozenset() if found is None else found.reads

    def listing(self) -> list[Mapping[str, str]]:
        """Every policy: id, effect, file and line, and what its annotations say."""
        return [
            {"policy": name, "effect": one.effect, "place": one.place, "reason": one.reason, "instrument": one.note("instrument")}
            for name, one in sorted(self.set.statements.items())
        ]

    def _refused(self, asked: Question, actor: Actor, subject: Ref, ids: tuple[str, ...]) -> Decision:
        if not ids:
            reason = f"none of the roles {', '.join(sorted(asked.roles))} may {asked.verb}"
            check = Check("policy", f"a role that may {asked.verb}", reason, False)
            return self._denied(actor, subject, reason, (check,))
        reasons = [self.set.statements[name].reason or "it is forbidden" for name in ids]
        checks = tuple(Check(name, "not forbidden", why, False) for name, why in zip(ids, reasons, strict=True))
        return self._denied(
            actor, subject, "; ".join(f"{why} ({name})" for name, why in zip(ids, reasons, strict=True)), checks, ids
        )

    def _denied(self, actor: Actor, subject: Ref, reason: str, checks: tuple[Check, ...], ids: tuple[str, ...] = ()) -> Decision:
        return Decision(subject, "policy", "deny", checks, actor, None, reason, ids, self.set.digest)


def _short(error: str) -> str:
    """Cedar shows all entities first; what is wrong with them stands at the end."""
    return error.rpartition("]: ")[2].replace("\n", " ")[:300]
