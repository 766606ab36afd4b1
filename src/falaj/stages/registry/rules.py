"""Who made a model, and who else has to agree before it answers anybody: separation of duties, by tier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from falaj.core.decision import Check
from falaj.core.event import Event
from falaj.stages.vouching import Vouchers, counts

TIERS: Mapping[str, int] = {"tier1": 2, "tier2": 1}
"""How many people beside its authors must have approved a version (CBUAE Model Management Standards 4.4: at least two tiers)."""
MAKING = frozenset({"run.start", "model.train", "model.evaluate", "model.register"})
"""Whoever did one of these is an author: also who judged it, as nobody's word about a model may be his own second opinion."""
APPROVERS = ("approver", "dpo")
"""Roles that may approve, in the order in which one is named as the ground."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a version's people. `tier`: empty where the model has none; `authors`: None where nobody recorded them."""

    tier: str = ""
    authors: tuple[str, ...] | None = None
    approvals: tuple[str, ...] = ()
    """Names of those who approved and did not take it back, as far as their word is another's: see `falaj.stages.vouching`."""
    objections: tuple[str, ...] = ()
    """Names of those whose objection is open, to the version or to the model as a whole."""


def authors_of(events: Iterable[Event]) -> tuple[str, ...]:
    """Names of all who started a run, trained, evaluated or registered, in the order in which they first did."""
    return tuple(dict.fromkeys(event.actor.name for event in events if event.verb in MAKING))


def standing_of(
    tier: Mapping[str, Any] | None,
    authors: Sequence[str] | None,
    approvals: Iterable[Mapping[str, Any]],
    objections: Iterable[Mapping[str, Any]],
    asking: str = "",
) -> Standing:
    """From records as the ledger has them. `asking`: who wants the version to answer; empty where nobody in particular does."""
    return Standing(
        str(tier["tier"]) if tier else "",
        tuple(map(str, authors)) if authors is not None else None,
        tuple(dict.fromkeys(str(body["name"]) for body in approvals if counts(body, authors or (), asking))),
        tuple(dict.fromkeys(str(body["name"]) for body in objections)),
    )


def separation(standing: Standing) -> tuple[Check, ...]:
    """Whether the version may answer anybody, as far as people are concerned.

    An open objection speaks against every model (MMS 4.2.2). A model with a tier needs approvals by as many people as the tier
    says, none of them an author; who they are is the evidence. An unknown tier, and authors that nobody recorded, are a no.
    """
    open_now = standing.objections
    checks = [Check("objections", "none open", f"open: {', '.join(open_now)}" if open_now else "none open", not open_now)]
    if not standing.tier:
        return tuple(checks)
    needed = TIERS.get(standing.tier)
    if needed is None or standing.authors is None:
        seen = f"{standing.tier!r} is no tier" if needed is None else "nobody recorded who made it"
        return (*checks, Check("approvals", "by people who did not make it", seen, False))
    others = [name for name in standing.approvals if name not in standing.authors]
    wanted = f"{needed} by people who did not make it ({standing.tier})"
    return (*checks, Check("approvals", wanted, ", ".join(others) or "none", len(others) >= needed))


def own_approval(name: str, kind: str, grant: str, authors: Sequence[str] | None) -> Check:
    """Whether this approval counts: a person's own, in ordinary times, and not an author's."""
    wanted = "a person who did not make it"
    if kind != "person":
        return Check("approver", wanted, f"a {kind}", False)
    if grant:
        return Check("approver", wanted, f"somebody acting under {grant}", False)
    if authors is None:
        return Check("approver", wanted, "nobody recorded who made it", False)
    return Check("approver", wanted, f"{name} is one of its authors" if name in authors else name, name not in authors)


def own_key(vouched: Vouchers, authors: Sequence[str] | None) -> Check:
    """Whether whoever approves has a key of which no author of the model is the maker: one person may have two names."""
    makers = [name for name in vouched.makers if name in (authors or ())]
    return Check("approver's key", "made by none of its authors", f"made by {', '.join(makers)}" if makers else "so", not makers)
