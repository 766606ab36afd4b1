"""Zones: keeps what was refused, and what a look at reality found of each destination, signed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from falaj.core.codec import canonical, digest_of, encode
from falaj.core.decision import Check, Decision, judge
from falaj.core.moments import moment
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance.residency.destinations import Destination

DAY = timedelta(days=1)
ALL = Ref("zone", "all")
ATTESTATION = "application/vnd.falaj.residency+json"
GOOD, DRIFT, UNSEEN = "good", "drift", "unknown"
MOST_TOLD = 60
"""Findings that one event names in full; the digest is over all of them."""
Sign = Callable[[bytes, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found: the destination is where it is declared to be (`good`), is not (`drift`), or could not be seen."""

    what: str
    locus: str
    address: str
    zone: str
    state: str
    seen: str


@dataclass(frozen=True, slots=True)
class Zones:
    kernel: Kernel
    sign: Sign

    @action("zone.deny")
    def deny(self, act: Act, subject: Ref, *, destination: Destination, zone: str, reason: str) -> None:
        """Keeps that nothing was let through. The address holds no password and no path."""
        with act.change() as draft:
            draft.note(
                what=destination.what, locus=destination.locus, address=destination.address[:200], zone=zone, reason=reason[:500]
            )

    @action("zone.attest")
    def attest(self, act: Act, subject: Ref, *, findings: Sequence[Finding]) -> Decision:
        """Signs what was found, and shuts out whatever is not where it is declared to be until a look finds it good again."""
        ordered = sorted(findings, key=lambda finding: (finding.state == GOOD, finding.what))
        statement = {"at": encode(act.now), "findings": encode(ordered)}
        signed = self.sign(canonical({"at": statement["at"], "digest": digest_of(statement)}), ATTESTATION)
        decision = attested(findings)
        with act.change() as draft:
            for finding in findings:
                held = draft.get("zone", finding.what) or {}
                if {name: held.get(name) for name in ("address", "zone", "state")} != {
                    "address": finding.address, "zone": finding.zone, "state": finding.state,
                }:  # fmt: skip
                    draft.put("zone", finding.what, {**encode(finding), "since": act.now})
            draft.put("zone-look", "last", {"at": act.now, "digest": digest_of(statement)})
            draft.note(digest=digest_of(statement), envelope=signed, findings=ordered[:MOST_TOLD], count=len(findings))
        return Decision(subject, "residency-probe", decision.verdict, decision.checks, act.actor, act.now, decision.reason)

    def is_news(self, findings: Sequence[Finding], now: datetime) -> bool:
        """Whether they differ from what was attested last, or that was a day ago."""
        last = self.kernel.ledger.get("zone-look", "last")
        if last is None or now - moment(str(last["at"])) >= DAY:
            return True
        held = self.found()
        return any(
            [held.get(f.what, {}).get(name) for name in ("address", "zone", "state")] != [f.address, f.zone, f.state]
            for f in findings
        )

    def shut_out(self, what: str) -> str:
        """Why that destination is not used until a look finds it good again, or an empty text."""
        held = self.kernel.ledger.get("zone", what)
        return str(held.get("seen", "it drifted")) if held is not None and held.get("state") == DRIFT else ""

    def found(self) -> Mapping[str, Mapping[str, Any]]:
        """What the last look found of each destination."""
        return dict(self.kernel.ledger.find("zone"))


def attested(findings: Sequence[Finding]) -> Decision:
    """Deny where something is not where it is declared to be, hold where something could not be seen."""
    state = {GOOD: True, DRIFT: False}
    checks = [Check(f"{f.locus} {f.what}", f"in {f.zone}", f.seen, state.get(f.state)) for f in findings]
    failed = [f"{f.what} ({f.seen})" for f in findings if f.state == DRIFT]
    reason = f"not where it is declared to be: {', '.join(failed[:5])}" if failed else ""
    return Decision(ALL, "residency-probe", judge(checks), tuple(checks), None, None, reason)
