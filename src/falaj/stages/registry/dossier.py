"""What is said of a model beside what made it: its purpose and its people, its tests, its assessment, and models of others.

The CBUAE Model Management Standards (4.4) ask for an inventory with a responsible person of the house for each step; the AI
guidance for name, purpose and risk rating. What is said here is what `falaj model inventory` shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from falaj.core.codec import digest_of, encode
from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action
from falaj.stages.registry.approvals import record_of

RISKS = ("low", "medium", "high")
OVERSIGHT = ("in_the_loop", "on_the_loop", "out_of_the_loop")
STEPS = ("development", "validation", "approval", "deployment", "monitoring", "retirement")
"""The steps of a model's life for each of which somebody of the house answers."""
TESTS = ("bias", "validation", "robustness", "membership")
MAKING = frozenset({"run.start", "model.train", "model.evaluate", "model.register"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Description:
    """What a model is for, and who answers for it. `responsible`: step → an employee's name, never a consultant's."""

    purpose: str
    risk: str
    owner: str
    oversight: str = "in_the_loop"
    responsible: Mapping[str, str] = field(default_factory=dict)
    lawful_basis: str = ""
    purposes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput for a word that is none of its list."""
        _one_of("risk", self.risk, RISKS)
        _one_of("oversight", self.oversight, OVERSIGHT)
        for step in self.responsible:
            _one_of("step", step, STEPS)
        _short(purpose=self.purpose, owner=self.owner)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model that somebody else made and that this house uses. `where`: where it runs, as a zone or an address of it."""

    vendor: str
    version: str
    purpose: str
    where: str
    risk: str
    owner: str

    def __post_init__(self) -> None:
        """Raises InvalidInput for an unknown risk, or nothing said."""
        _one_of("risk", self.risk, RISKS)
        _short(vendor=self.vendor, version=self.version, purpose=self.purpose, where=self.where, owner=self.owner)


@dataclass(frozen=True, slots=True)
class Dossier:
    """Records: `description` by `model/<name>`, `declared` by `<name>@<n>`, `test` by `<name>@<version>|<kind>`, `dpia` by
    `<name>@<version>`. No action removes one."""

    kernel: Kernel

    @action("model.describe")
    def describe(self, act: Act, subject: Ref, *, said: Description) -> Decision:
        """Says what a model is for. Denied where nobody looks on although its risk is not low: `out_of_the_loop` is for low risk
        alone (CBUAE AI/ML Guidance Note 7(a))."""
        fits = said.oversight != "out_of_the_loop" or said.risk == "low"
        check = Check("oversight", "out_of_the_loop for low risk alone", f"{said.oversight}, risk {said.risk}", fits)
        decision = Decision(subject, "description", judge([check]), (check,), act.actor, act.now, said.purpose)
        with act.change() as draft:
            draft.decide(decision)
            if decision.allowed:
                draft.put("description", str(subject), {**encode(said), "at": act.now, "by": str(act.actor)})
            draft.note(verdict=decision.verdict, risk=said.risk, owner=said.owner)
        return decision

    @action("model.declare")
    def declare(self, act: Act, subject: Ref, *, said: Foreign) -> Ref:
        """Enters a third party's model into the inventory; the same again changes nothing. Returns its version.

        Raises Conflict where a model of that name was made here.
        """
        if self.kernel.ledger.find("model", prefix=f"{subject.name}@"):
            raise Conflict(f"{subject} was made here.", "give the third party's model a name of its own.")
        identity = digest_of(encode(said))
        known = self.kernel.ledger.find("declared", prefix=f"{subject.name}@")
        for _, body in known:
            if body["id"] == identity:
                return Ref.parse(body["ref"])
        made = Ref("model", subject.name, str(len(known) + 1))
        with act.change(made) as draft:
            if draft.get("declared", _key(made)) is not None:
                raise Conflict(f"{made} was declared by somebody else meanwhile.", "look again: falaj model inventory")
            draft.put("declared", _key(made), {"ref": made, "id": identity, **encode(said), "at": act.now, "by": str(act.actor)})
            draft.note(id=identity, vendor=said.vendor)
        return made

    @action("model.test")
    def test(self, act: Act, subject: Ref, *, kind: str, report: str, passed: bool, reason: str) -> Decision:
        """Keeps the outcome of a test of one version, with the digest of its report.

        A validation by one of its makers is denied: it has to be independent. Raises InvalidInput for an unknown kind or what is
        no digest, NotFound for a version that does not exist.
        """
        _one_of("kind", kind, TESTS)
        _digest(report)
        record = record_of(self.kernel.ledger, subject)
        makers = self._makers(record)
        checks = [Check("passed", "the test was passed", "it was" if passed else "it was not", passed)]
        if kind == "validation":
            is_other = act.actor.name not in makers
            checks.append(Check("independent", f"by none of its makers: {', '.join(makers)}", act.actor.name, is_other))
        decision = Decision(subject, kind, judge(checks), tuple(checks), act.actor, act.now, reason)
        with act.change() as draft:
            draft.decide(decision)
            draft.put("test", f"{_key(subject)}|{kind}", {
                "model": subject, "kind": kind, "verdict": decision.verdict, "report": report, "at": act.now,
                "by": str(act.actor), "weights": record["asset"]["digest"],
            })  # fmt: skip
            draft.note(kind=kind, verdict=decision.verdict, report=report)
        return decision

    @action("model.dpia")
    def dpia(self, act: Act, subject: Ref, *, digest: str, reason: str = "") -> None:
        """Binds a data protection impact assessment, by its digest, to one version's weights; whoever says it has signed it.

        Raises InvalidInput for what is no digest, NotFound for a version that does not exist.
        """
        _digest(digest)
        record = record_of(self.kernel.ledger, subject)
        with act.change() as draft:
            body = {"model": subject, "digest": digest, "weights": record["asset"]["digest"], "at": act.now, "by": str(act.actor)}
            draft.put("dpia", _key(subject), {**body, "reason": reason})
            draft.note(dpia=digest, weights=record["asset"]["digest"])

    def _makers(self, record: Mapping[str, Any]) -> list[str]:
        """Who started its run, trained, evaluated or registered it, by the events."""
        about = [Ref.parse(str(record["candidate"])), *([Ref("run", record["run"])] if record.get("run") else [])]
        found = {event.actor.name for ref in about for event in self.kernel.ledger.events(subject=ref) if event.verb in MAKING}
        return sorted(found | {str(record["by"]).partition(":")[2]})


def _key(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"


def _one_of(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InvalidInput(f"{given[:80]!r} is no {what}.", f"there is: {', '.join(known)}.")


def _digest(text: str) -> None:
    if not _DIGEST.fullmatch(text):
        raise InvalidInput(f"{text[:80]!r} is no digest.", "sha256sum the file, and write sha256:<64 hexadecimal digits>.")


def _short(**texts: str) -> None:
    for name, text in texts.items():
        if not text.strip() or len(text) > _LONGEST:
            raise InvalidInput(f"{name!r} must have 1 to {_LONGEST} characters.", f"--{name} …")
