"""Questions to the policies that falaj ships, in pairs: one that a forbid lets pass, and one that it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from falaj.adapters.cedar.policies import Source
from falaj.adapters.cedar.policy import CedarPolicy
from falaj.adapters.cedar.question import Question
from falaj.adapters.local.policy import GROUPS, ROLES
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.packs import known, load

PURPOSE = "delay-prediction"
NOTHING: Mapping[str, Any] = {"classes": [], "held": False, "tier": "none"}
MODEL, DATASET = Ref("model", "delay", "7"), Ref("dataset", "trips", "3")


EVERYBODY = {**ROLES, "operator": ROLES["operator"] | GROUPS["erasure"] | GROUPS["approval"]}
"""The role table, in which also those verbs belong to somebody that rules speak of and no role has yet."""


@cache
def policy(packs: str = "ae-baseline", zone: str = "uae-onshore", purpose: str = PURPOSE, own: str = "") -> CedarPolicy:
    sources = [Source(pack.id, pack.policies) for pack in load(packs)]
    given = [*sources, Source("own.cedar", own, own=True)] if own else sources
    return CedarPolicy(roles=EVERYBODY, groups=GROUPS, sources=given, place=(zone, purpose))


@dataclass(frozen=True)
class Asking:
    """A question in falaj's terms."""

    verb: str
    subject: Ref = DATASET
    labels: Mapping[str, Any] = field(default_factory=dict)
    actor: Actor = Actor("amal", "person", ("operator",), "uae-onshore")  # noqa: RUF009  # frozen
    zone: str = "uae-onshore"
    purpose: str = PURPOSE

    @property
    def told(self) -> dict[str, Any]:
        return {**NOTHING, **self.labels}

    def but(self, **changes: Any) -> Asking:
        """The same with other labels."""
        return replace(self, labels={**self.labels, **changes})


def without(asked: Question) -> Iterator[tuple[str, Question]]:
    """The question with each of its attributes left out in turn."""
    for part in ("principal", "resource", "context"):
        attributes = getattr(asked, part)
        for name in attributes:
            rest = {other: value for other, value in attributes.items() if other != name}
            yield f"{part}.{name}", replace(asked, **{part: rest})


_PERSONAL = {"classes": ["personal"], "zone": "uae-onshore", "purposes": [PURPOSE, "planning"]}
_TIERED = {"zone": "uae-onshore", "authors": ["lina"], "approvals": ["omar", "sara"]}
_READ = Asking("dataset.read", labels=_PERSONAL)
_PROMOTE = Asking("model.promote", MODEL, {**_TIERED, "tier": "tier1"})
_UNKNOWN = replace(_READ, actor=replace(_READ.actor, zone="unknown"))
_HEALTH = Asking("dataset.read", labels={**_PERSONAL, "classes": ["health"]})
_BANK = Asking("dataset.read", labels={**_PERSONAL, "classes": ["bank-confidential"]})


def _placed(zone: str, asked: Asking) -> Asking:
    return replace(asked, zone=zone, actor=replace(asked.actor, zone=zone), labels={**asked.labels, "zone": zone})


_SERVICE = Actor("worker", "service", ("operator",), "uae-onshore")
PAIRS: Mapping[str, tuple[str, Asking, Asking]] = {
    # forbid: its pack, a question that it lets pass, one that it refuses
    "R-CALLER": (
        "ae-baseline",
        Asking("endpoint.predict", Ref("endpoint", "delay"), actor=Actor("app", "service", ("caller",), "uae-onshore")),
        Asking("dataset.read", actor=Actor("app", "service", ("caller", "operator"), "uae-onshore")),
    ),
    "R-UNKNOWN": ("ae-baseline", _UNKNOWN.but(classes=["public", "internal"]), _UNKNOWN.but(classes=["confidential"])),
    "R-CLASS": ("ae-baseline", _READ, _READ.but(classes=["personal", "top-secret"])),
    "R-ZONE": ("ae-baseline", _READ, _placed("us-east-1", _READ)),
    "R-INSTALLATION": ("ae-baseline", _READ, replace(_READ, zone="difc")),
    "R-ACCESS": ("ae-baseline", _READ, replace(_READ, actor=replace(_READ.actor, zone="difc"))),
    "R-PURPOSE": ("ae-baseline", _READ, replace(_READ, purpose="marketing")),
    "R-TIER": ("ae-baseline", _PROMOTE, _PROMOTE.but(tier="tier9")),
    "R-SOD": ("ae-baseline", _PROMOTE, _PROMOTE.but(authors=["lina", "amal"])),
    "R-TWO-PERSONS": ("ae-baseline", _PROMOTE, _PROMOTE.but(approvals=["omar", "lina"])),
    "R-PERSON": (
        "ae-baseline",
        replace(_PROMOTE.but(tier="tier2", approvals=["omar"]), actor=_SERVICE),
        replace(_PROMOTE.but(tier="tier2", approvals=[]), actor=_SERVICE),
    ),
    "R-HOLD": ("ae-baseline", Asking("dataset.expire"), Asking("dataset.expire", labels={"held": True})),
    "CBUAE-RESIDENCY": ("cbuae-bank", _BANK, _placed("difc", _BANK)),
    "CBUAE-TIER": ("cbuae-bank", _PROMOTE, _PROMOTE.but(tier="none")),
    "CBUAE-APPROVAL": ("cbuae-bank", _PROMOTE.but(tier="tier2", approvals=["omar"]), _PROMOTE.but(tier="tier2", approvals=[])),
    "CBUAE-ARCHIVE": ("cbuae-bank", Asking("dataset.expire"), Asking("model.expire", MODEL)),
    "HEALTH-RESIDENCY": ("health-ae", _placed("dhcc", _HEALTH), _placed("eu-west-1", _HEALTH)),
    "HEALTH-KEEP": (
        "health-ae",
        Asking("dataset.expire", labels={"classes": ["personal"]}),
        Asking("dataset.expire", labels={"classes": ["health"]}),
    ),
    "DIFC-RESIDENCY": ("difc", _placed("difc", _READ), _placed("difc", _READ).but(zone="uae-onshore")),
    "DIFC-ACCESS": ("difc", _placed("difc", _READ), replace(_placed("difc", _READ), actor=_READ.actor)),
    "ADGM-RESIDENCY": ("adgm", _placed("adgm", _READ), _placed("adgm", _READ).but(zone="uae-onshore")),
    "ADGM-ACCESS": ("adgm", _placed("adgm", _READ), replace(_placed("adgm", _READ), actor=_READ.actor)),
}


def forbids() -> dict[str, str]:
    """Every forbid that falaj ships, with its pack."""
    found = {}
    for pack in known():
        for name, one in policy(pack).set.statements.items():
            if one.effect == "forbid":
                found.setdefault(name, pack)
    return found
