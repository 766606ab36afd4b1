"""One erasure as a record: what was found, what is to be done step by step, and what is done; any step may be done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falaj.core.decision import Check, Decision, Verdict
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.ports.subjects import Finding
from falaj.stages.privacy.outcome import MOST_REFS, Outcome, place_of, tally, told

SHRED, MODELS, FORGET, DONE = "shred", "models", "forget", "done"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure would do now. `keeps`: the stores whose data a floor or a hold keeps."""

    token: str
    findings: tuple[Finding, ...]
    classes: frozenset[str]
    """Classes of things to be kept that the person's data belongs to."""
    outcome: Outcome
    models: tuple[str, ...]
    keeps: frozenset[str]

    def shown(self) -> dict[str, Any]:
        """For whoever is to decide: counts and names of places, nobody's data."""
        return {
            "subject": self.token,
            "outcome": told(self.outcome),
            "found": tally(self.findings),
            "conflicts": list(self.outcome.conflicts),
            "yields": list(self.outcome.yields),
            "models": list(self.models),
            "kept_in": sorted(self.keeps),
        }


def record_of(plan: Plan, request: str, at: datetime, by: str, identity: str) -> dict[str, Any]:
    """The record of an erasure that begins now."""
    outcome = plan.outcome
    places = {ref for finding in plan.findings if (ref := place_of(finding)) is not None}
    refs = sorted(map(str, places if len(places) <= MOST_REFS else {ref.bare for ref in places}))
    return {
        "id": request, "token": plan.token, "identity": identity, "by": by, "at": iso(at), "outcome": outcome.kind,
        "told": told(outcome), "until": iso(outcome.until) if outcome.until else None, "conflicts": list(outcome.conflicts),
        "yields": list(outcome.yields), "classes": sorted(plan.classes), "models": list(plan.models), "keeps": sorted(plan.keeps),
        "found": tally(plan.findings), "refs": refs[:MOST_REFS], "steps": {}, "sealed": "", "receipts": [],
        "state": "erasing" if outcome.kind == "erase" else "restricted",
    }  # fmt: skip


def steps_of(erasure: Mapping[str, Any], stores: Sequence[str]) -> list[str]:
    """All that there is to do, in order: the key first, since with it everything that was sealed is gone at once."""
    if erasure["state"] == "restricted":
        if any(conflict.startswith("erasure against hold/") for conflict in erasure["conflicts"]):
            return []
        return [f"erase {name}" for name in stores if name not in erasure["keeps"]]
    return [SHRED, *(f"erase {name}" for name in stores), *(f"probe {name}" for name in stores), MODELS, FORGET, DONE]


def left(erasure: Mapping[str, Any], stores: Sequence[str]) -> list[str]:
    """The steps that are still to be done; a probe that could read something was not the last one."""
    done = {name for name, told in erasure["steps"].items() if not told.get("readable")}
    if erasure["state"] == "erasing":  # copies that were removed while the rest had to stay may have been made again since
        done -= {name for name, told in erasure["steps"].items() if told.get("early")}
    return [step for step in steps_of(erasure, stores) if step not in done]


def verdict_of(erasure: Mapping[str, Any]) -> Decision:
    """How it stands: allow where it is done, deny where a probe could still read something, else hold."""
    readable = {name: told["readable"] for name, told in erasure["steps"].items() if told.get("readable")}
    verdict: Verdict = "allow" if erasure["state"] == "done" else "deny" if readable else "hold"
    checks = [
        Check("outcome", "erased", erasure["told"], True if erasure["state"] == "done" else None),
        *(Check(name, "nothing readable", f"{count} readable", False) for name, count in readable.items()),
        *(Check("info: conflict", "none", text, None) for text in erasure["conflicts"]),
    ]
    reason = erasure["told"] if erasure["state"] == "done" or not readable else "something can still be read"
    return Decision(Ref("request", erasure["id"]), "erasure", verdict, tuple(checks), reason=reason)
