"""Who may become somebody that others are checked by: another such person confirms it, and a maker vouches for nobody's model.

Approvers, auditors and the data protection officer judge what others do. Whoever runs the place makes keys, and could make
one for such a person out of nobody. So what opens with one of these roles opens nothing until somebody else who has one confirms
it. Only while nobody has one the maker's word is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from falaj.core.actor import Actor
from falaj.core.decision import Check

WATCHING = frozenset({"approver", "auditor", "dpo"})
"""Roles that judge what others do."""
APPROVING = frozenset({"approver", "dpo"})
"""Those of them whose holders approve models."""
PLAIN, FIRST, PENDING, CONFIRMED = "plain", "first", "pending", "confirmed"
"""How a key or certificate stands. `first`: on its maker's word alone, as nobody was there who could have confirmed it."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Vouchers:
    """Who stands behind somebody's keys. `makers`: of all of them; `alone`: of those that nobody else confirmed."""

    makers: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


def watching(roles: Iterable[str]) -> frozenset[str]:
    """Those of the roles that judge what others do."""
    return WATCHING & set(roles)


def opens(record: Record) -> bool:
    """Whether a key or certificate lets anybody in. One from before this rule has no standing, and does."""
    return record.get("revoked_at") is None and record.get("standing", PLAIN) != PENDING


def is_held(record: Record) -> bool:
    """Whether a person holds a watching role by it. A program's certificate or key watches nobody's steps."""
    return opens(record) and record.get("kind") == "person" and bool(watching(record.get("roles", ())))


def standing_of(roles: Iterable[str], keys: Iterable[Record], *, is_provided: bool) -> str:
    """How what is made now stands. `keys`: those there are; `is_provided`: whether people with such roles come by a provider."""
    if not watching(roles):
        return PLAIN
    return PENDING if is_provided or any(is_held(record) for record in keys) else FIRST


def may_confirm(actor: Actor, record: Record) -> Check:
    """Whether this is the person to confirm it: in a watching role, in ordinary times, another one than whoever made it.

    Nobody confirms the first key of their own. A further one of their own they may: it says that it is theirs, and can hold no
    watching role that they do not have.
    """
    wanted = "another person with one of these roles"
    own = watching(actor.roles)
    if actor.kind != "person" or not own:
        return Check("confirmed by", wanted, f"{actor} with {', '.join(sorted(actor.roles)) or 'no role'}", False)
    if actor.grant:
        return Check("confirmed by", wanted, f"somebody acting under {actor.grant}", False)
    if not record.get("made_by") or actor.name == record["made_by"]:
        return Check(
            "confirmed by", wanted, f"{actor.name}, who made it" if record.get("made_by") else "nobody says who made it", False
        )
    if actor.name == record["name"]:
        more = watching(record["roles"]) - own
        is_own = record["standing"] == PENDING and record.get("kind") == "person" and not more
        return Check("confirmed by", wanted, f"{actor.name}, whose own it is", is_own)
    return Check("confirmed by", wanted, actor.name, True)


def standing_after(actor: Actor, record: Record, keys: Iterable[Record]) -> str:
    """How it stands once that person confirmed it: a further key is no better vouched for than the one that its holder has."""
    own = [key for key in keys if key.get("name") == actor.name and is_held(key)]
    is_same = actor.name == record["name"] and any(key.get("standing") == FIRST for key in own)
    return FIRST if is_same else CONFIRMED


def is_last(record: Record, keys: Iterable[Record]) -> bool:
    """Whether nobody but its holder would be left with a watching role. With the last one gone a maker's word is enough again."""
    return is_held(record) and not any(is_held(other) and other.get("id") != record.get("id") for other in keys)


def vouchers(name: str, keys: Iterable[Record]) -> Vouchers:
    """Who made that person's keys, as far as one can approve by them; of whoever comes by a provider nobody did."""
    found = [
        key for key in keys if key.get("name") == name and is_held(key) and APPROVING & set(key["roles"]) and key.get("made_by")
    ]
    makers = sorted({str(key["made_by"]) for key in found})
    return Vouchers(tuple(makers), tuple(sorted({str(key["made_by"]) for key in found if key.get("standing") == FIRST})))


def counts(approval: Record, authors: Collection[str], asking: str = "") -> bool:
    """Whether an approval is somebody else's word, as far as keys can tell: not by a key that an author of the model made, nor,
    while nobody else had confirmed it, by one that whoever asks for the promotion made."""
    makers, alone = approval.get("made_by") or (), approval.get("alone") or ()
    return not set(makers) & set(authors) and (not asking or asking not in alone)
