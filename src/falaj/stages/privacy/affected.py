"""Models that learned from people who were erased: marked, then retrained, quarantined, or justified by who answers for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from falaj.core.decision import Check, Decision
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.ref import Ref
from falaj.ports.ledger import Ledger
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.privacy import approvals

LONGEST = timedelta(days=90)
"""A model that learned from an erased person is retrained within so long, unless somebody quarantines or justifies it."""
EXCEPTIONS = ("adgm-31-4-c", "difc-22-4-c")
"""The exceptions for training data: ADGM DPR s.31(4)(c), DIFC DPL Art 22(4)(c); each asks for a DPIA and a deletion policy."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_POLICY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/\-]{0,79}")


def learned_from(ledger: Ledger, snapshots: Iterable[Ref], named: Iterable[Ref] = ()) -> list[str]:
    """The registered versions whose training took in one of the snapshots, or that are named themselves."""
    wanted, also = {str(ref) for ref in snapshots}, {str(ref) for ref in named}
    found = {
        str(body["ref"])
        for _, body in ledger.find("model")
        if str(body["ref"]) in also or wanted & {str(ref) for ref in body["asset"].get("inputs", ())}
    }
    return sorted(found)


class Affected:
    """`after`: how long after the first erasure a retraining is asked for; so several erasures share one."""

    def __init__(self, kernel: Kernel, after: timedelta = timedelta(days=30)) -> None:
        if not timedelta(0) <= after <= LONGEST:
            raise InvalidInput(f"A model is retrained within {LONGEST.days} days of an erasure.", "set retrain_after_erasure.")
        self.kernel = kernel
        self.after = after

    @action("model.mark")
    def mark(self, act: Act, subject: Ref, *, request: str) -> None:
        """The model learned from somebody who was erased. Said once for each request, however often it is called."""
        with act.change() as draft:
            body = draft.get("affected", _key(subject)) or {
                "model": str(subject), "since": act.now, "people": 0, "last": "", "state": "open", "due": act.now + LONGEST,
            }  # fmt: skip
            if body["last"] != request:
                again = {"state": "open", "since": act.now, "due": act.now + LONGEST} if body["state"] != "open" else {}
                draft.put("affected", _key(subject), {**body, **again, "people": body["people"] + 1, "last": request})
            draft.note(request=request, people=body["people"] + 1)

    @action("model.quarantine")
    def quarantine(self, act: Act, subject: Ref, *, reason: str) -> None:
        """From now on the version is neither promoted nor newly served. Where it answers already, the worker's next round takes
        it out (`rollouts.recalls`); the command does so at once.

        Raises NotFound where there is no such version.
        """
        with act.change() as draft:
            self._known(draft, subject)
            standing = draft.get("standing", _key(subject))
            if standing is None or standing["state"] == "quarantined":  # what was removed stays so, whatever is justified later
                body = {"state": "quarantined", "at": act.now, "by": str(act.actor), "reason": reason}
                draft.put("standing", _key(subject), body)
            draft.note(reason=approvals.words(reason))

    @action("model.justify")
    def justify(self, act: Act, subject: Ref, *, reason: str, exception: str = "", dpia: str = "", policy: str = "") -> Decision:
        """The version may go on although it learned from erased people, and is in quarantine no more; somebody answers for it.

        `exception`: the law's own, which needs the digest of a DPIA and the id of the deletion policy. Denied without them.
        Raises NotFound where nothing speaks against the version.
        """
        reason = approvals.words(reason)
        checks = list(_exception(exception, dpia, policy)) if exception else []
        decision = approvals.by_person(act, subject, "justifies")
        checks = [*decision.checks, *checks]
        is_right = all(check.passed for check in checks)
        decision = Decision(subject, "justification", "allow" if is_right else "deny", tuple(checks), act.actor, act.now, reason)
        with act.change() as draft:
            mark, standing = draft.get("affected", _key(subject)), draft.get("standing", _key(subject))
            is_quarantined = standing is not None and standing["state"] == "quarantined"
            if mark is None and not is_quarantined:
                raise NotFound(f"Nothing speaks against {subject}.", "falaj privacy record")
            if decision.allowed:
                self._clear(
                    draft,
                    subject,
                    mark,
                    {"by": str(act.actor), "at": act.now, "exception": exception, "dpia": dpia, "policy": policy},
                )
                if is_quarantined:
                    draft.remove("standing", _key(subject))
            draft.decide(decision)
            draft.note(verdict=decision.verdict, exception=exception, dpia=dpia, policy=policy, reason=reason)
        return decision

    def of(self, model: str) -> Mapping[str, Any] | None:
        """The mark of one version, `delay@7`; None where it learned from nobody who was erased."""
        return self.kernel.ledger.get("affected", model.removeprefix("model/"))

    def listing(self) -> list[Mapping[str, Any]]:
        return [body for _, body in self.kernel.ledger.find("affected")]

    def wanted(self, now: datetime) -> list[tuple[str, datetime]]:
        """Marked versions for which a retraining is to be asked now, and since when they are marked."""
        found = [(body["model"], moment(body["since"])) for body in self.listing() if body["state"] == "open"]
        return [(model, since) for model, since in found if since + self.after <= now]

    def late(self, now: datetime) -> list[str]:
        """A line for each version whose time is over and that still serves."""
        alive = {str(body["model"]) for _, body in self.kernel.ledger.find("alias")}
        return [
            f"{body['model']} learned from erased people and was to be retrained by {iso(moment(body['due']))[:10]}"
            for body in self.listing()
            if body["state"] == "open" and moment(body["due"]) < now and body["model"] in alive
        ]

    def _known(self, draft: Draft, subject: Ref) -> None:
        if draft.get("model", _key(subject)) is None:
            raise NotFound.named("model", str(subject), [f"model/{key}" for key, _ in draft.tx.find("model")])

    def _clear(self, draft: Draft, subject: Ref, mark: Mapping[str, Any] | None, why: Mapping[str, Any]) -> None:
        if mark is not None:
            draft.put("affected", _key(subject), {**mark, "state": "justified", "justified": why})


def _exception(exception: str, dpia: str, policy: str) -> tuple[Check, ...]:
    return (
        Check("exception", f"one of {', '.join(EXCEPTIONS)}", exception, exception in EXCEPTIONS),
        Check("DPIA", "the digest of one, sha256:…", dpia or "none", _DIGEST.fullmatch(dpia) is not None),
        Check("deletion policy", "its id", policy or "none", _POLICY.fullmatch(policy) is not None),
    )


def _key(model: Ref) -> str:
    return f"{model.name}@{model.version}"
