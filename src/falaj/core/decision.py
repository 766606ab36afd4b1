"""Decision: who or what let something pass, and on which evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from falaj.core.actor import Actor
from falaj.core.ref import Ref

Verdict = Literal["allow", "deny", "hold"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question that was asked: what was wanted, what was seen. `passed` is None where it could not be seen."""

    name: str
    wanted: str
    seen: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class Decision:
    subject: Ref
    rule: str
    """Which rule decided: `gate`, `contract`, `policy`, `rollout`, `drift`, `parity`, `approval` …"""
    verdict: Verdict
    checks: tuple[Check, ...] = ()
    actor: Actor | None = None
    at: datetime | None = None
    reason: str = ""
    policies: tuple[str, ...] = ()
    """Where policies decided: the ids of those that did, the pack's and the tenant's, in order."""
    policy_set: str = ""
    """`sha256:` and the digest of the whole set that was asked, so that the same question can be asked again."""

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)


def judge(checks: Iterable[Check]) -> Verdict:
    """Deny if any check failed, hold if any could not be seen, else allow. No checks at all is a hold.

    Missing is not failing: a gate that cannot see must wait, not guess.
    """
    seen = [check.passed for check in checks]
    if any(passed is False for passed in seen):
        return "deny"
    return "hold" if not seen or any(passed is None for passed in seen) else "allow"
