"""Whether a person's data may be used for a purpose: erased, restricted, withdrawn, allowed; known by token alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger, Transaction
from falaj.stages.action import Act, Kernel, action
from falaj.stages.privacy import approvals
from falaj.stages.privacy.periods import TRIGGERS

PURPOSE = re.compile(r"[a-z][a-z0-9_\-]{0,63}")
TOKEN = re.compile(r"[0-9a-f]{64}")
MILESTONES = ("relationship_end", "last_procedure", "life_of_processing")
"""What may happen to a person from when on a period runs."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known about the use of one person's data. `consents`: purpose → its record."""

    is_erased: bool = False
    is_restricted: bool = False
    consents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def permitted(token: str, standing: Standing, purpose: str, *, needs_consent: bool, version: str = "") -> Decision:
    """Whether the data of the person may be used for the purpose. Allow only where nothing speaks against it.

    `needs_consent`: the lawful basis is consent, so that having said nothing is a no; `version`: of that wording or none.
    A withdrawn consent is a no on any basis: who goes on without it has to say so with another purpose.
    """
    given = standing.consents.get(purpose)
    state = str(given["state"]) if given else "never asked"
    checks = [
        Check("not erased", "no", "yes" if standing.is_erased else "no", not standing.is_erased),
        Check("not restricted", "no", "yes" if standing.is_restricted else "no", not standing.is_restricted),
        Check("not withdrawn", f"consent to {purpose} not withdrawn", state, state != "withdrawn"),
    ]
    if needs_consent:
        seen = f"{state} ({given['version']})" if given else state
        is_right = state == "given" and given is not None and (not version or given["version"] == version)
        checks.append(Check("consent", f"given to {purpose}{f' ({version})' if version else ''}", seen, is_right))
    verdict = judge(checks)
    broken = next((check for check in checks if not check.passed), None)
    reason = f"{broken.name}: {broken.seen}" if broken else f"{purpose} is permitted"
    return Decision(Ref("subject", token), "use", verdict, tuple(checks), reason=reason)


def standing_of(reader: Ledger | Transaction, token: str) -> Standing:
    """As the ledger has it now."""
    consents = {str(body["purpose"]): body for _, body in reader.find("consent", prefix=f"{token}|")}
    is_erased = reader.get("erased", token) is not None
    return Standing(is_erased, reader.get("restricted", token) is not None, consents)


def excluded(reader: Ledger | Transaction, purpose: str) -> frozenset[str]:
    """The tokens whose rows do not go into the next snapshot or training set for that purpose."""
    found = {key for kind in ("erased", "restricted") for key, _ in reader.find(kind)}
    found |= {
        str(body["token"]) for _, body in reader.find("consent") if body["purpose"] == purpose and body["state"] == "withdrawn"
    }
    return frozenset(found)


def milestones_of(reader: Ledger | Transaction, token: str) -> dict[str, datetime]:
    return {str(body["event"]): moment(body["at"]) for _, body in reader.find("milestone", prefix=f"{token}|")}


class Consent:
    """The consent ledger, and what else bounds the use of one person's data."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    @action("subject.consent")
    def consent(self, act: Act, subject: Ref, *, purpose: str, version: str, evidence: str = "") -> None:
        """The person consented to the purpose, in that version of its wording. `evidence`: where the proof of it is kept."""
        self._set(act, subject, purpose, {"state": "given", "version": _version(version), "evidence": _short(evidence)})

    @action("subject.withdraw")
    def withdraw(self, act: Act, subject: Ref, *, purpose: str) -> None:
        """The person does not consent to the purpose any more: from the next question on, and in the next training set."""
        known = self.kernel.ledger.get("consent", f"{_token(subject)}|{purpose}") or {}
        self._set(act, subject, purpose, {"state": "withdrawn", "version": known.get("version", ""), "evidence": ""})

    @action("subject.restrict")
    def restrict(self, act: Act, subject: Ref, *, reason: str) -> None:
        """The data stays and is not used, for whatever purpose."""
        with act.change() as draft:
            body = {"token": _token(subject), "at": act.now, "by": str(act.actor), "reason": approvals.words(reason)}
            draft.put("restricted", subject.name, body)
            draft.note(reason=reason)

    @action("subject.unrestrict")
    def unrestrict(self, act: Act, subject: Ref, *, reason: str) -> None:
        """The data may be used again. Raises NotFound where it was not restricted, InvalidInput where it waits for erasure."""
        with act.change() as draft:
            body = draft.get("restricted", _token(subject))
            if body is None:
                raise NotFound("That person's data is not restricted.", "falaj request list")
            if body.get("erasure"):
                raise InvalidInput(
                    f"That person's data waits to be erased by {body['erasure']}.", "it stays restricted until then."
                )
            draft.remove("restricted", subject.name)
            draft.note(reason=approvals.words(reason))

    @action("subject.mark")
    def mark(self, act: Act, subject: Ref, *, event: str, at: datetime) -> None:
        """Something happened to the person from when on a period runs: the relationship ended, the last procedure was done."""
        if event not in MILESTONES:
            raise NotFound.named("event", event, [name for name in TRIGGERS if name in MILESTONES])
        if at > act.now:
            raise InvalidInput(f"{iso(at)} is not past yet.", "record it once it has happened.")
        with act.change() as draft:
            draft.put("milestone", f"{_token(subject)}|{event}", {"token": subject.name, "event": event, "at": at})
            draft.note(event=event, on=at)

    def may_use(self, token: str, purpose: str, *, needs_consent: bool = True, version: str = "") -> Decision:
        """Whether the person's data may be used for it now. Reads; leaves no event."""
        _purpose(purpose)
        return permitted(token, standing_of(self.kernel.ledger, token), purpose, needs_consent=needs_consent, version=version)

    def excluded(self, purpose: str) -> frozenset[str]:
        """The tokens whose rows stay out of the next snapshot or training set for the purpose."""
        return excluded(self.kernel.ledger, _purpose(purpose))

    def _set(self, act: Act, subject: Ref, purpose: str, about: Mapping[str, Any]) -> None:
        key = f"{_token(subject)}|{_purpose(purpose)}"
        with act.change() as draft:
            body = {"token": subject.name, "purpose": purpose, "at": act.now, "by": str(act.actor), **about}
            draft.put("consent", key, body)
            draft.note(purpose=purpose, version=about["version"], state=about["state"])


def _token(subject: Ref) -> str:
    if subject.kind != "subject" or not TOKEN.fullmatch(subject.name):
        raise InvalidInput("A person is known here by a token of 64 hexadecimal digits.", "give the person in the body.")
    return subject.name


def _purpose(text: Any) -> str:
    if not isinstance(text, str) or not PURPOSE.fullmatch(text):
        raise InvalidInput(f"{str(text)[:80]!r} is no name for a purpose.", "use lower-case letters, digits, '_' and '-'.")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,39}", text):
        raise InvalidInput("The version of a wording is a short word.", "as in 2026-11 or v3.")
    return text


def _short(text: str) -> str:
    return approvals.words(text, "evidence") if text else ""
