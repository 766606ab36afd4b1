"""Keys: the secrets by which people and programs show who they are; only a keyed hash of each is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unauthenticated
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action
from falaj.stages.vouching import CONFIRMED, FIRST, PENDING, is_last, may_confirm, opens, standing_after, standing_of, watching

KINDS = ("person", "service")
_KEY = re.compile(r"falaj_([0-9a-f]{12})_[A-Za-z0-9_\-]{43}")
_ROLE = re.compile(r"[a-z][a-z_]{0,39}")
_WHOLE = frozenset({"hmac", "name", "kind", "roles", "revoked_at"})
_REASON = 2000
_HINT = "send Authorization: Bearer falaj_…; an operator makes a key with `falaj key create`."


def key_hmac(pepper: bytes, text: str) -> str:
    """What is kept of a key: HMAC-SHA256 of its whole text, in hexadecimal."""
    return hmac.new(pepper, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def refuse_in_emergency(actor: Actor) -> None:
    """Raises Denied under break-glass access: what opens a door must not outlast the emergency in which it was made."""
    if actor.grant:
        raise Denied(
            f"{actor} acts under {actor.grant}, and makes nothing that outlasts it.", "ask an operator in ordinary times."
        )


def nobody_else() -> bool:
    """Where no provider says who approves, audits and protects data."""
    return False


def told(standing: str) -> Mapping[str, str]:
    """What the event says of how something stands: that it waits, or that its maker's word alone was enough."""
    why = {PENDING: "it opens nothing until it is confirmed", FIRST: "on the maker's word alone: nobody could confirm it"}
    return {"standing": standing, "why": why[standing]} if standing in why else {}


def refuse_to_confirm(actor: Actor, subject: Ref, record: Mapping[str, Any], reason: str) -> None:
    """Raises unless this person may confirm this record now: InvalidInput, Conflict, Denied."""
    if not reason.strip() or len(reason) > _REASON:
        raise InvalidInput("A confirmation needs its reason.", '--reason "…", how you know who holds it.')
    if record.get("revoked_at") is not None:
        raise Conflict(f"{subject} was revoked.", f"falaj {subject.kind} list")
    if record.get("standing") not in (PENDING, FIRST):
        seen = f"was confirmed by {record['confirmed_by']}" if record.get("standing") == CONFIRMED else "needs nobody's word"
        raise Conflict(f"{subject} {seen}.", f"falaj {subject.kind} list")
    check = may_confirm(actor, record)
    if not check.passed:
        raise Denied(
            f"{actor} may not confirm {subject}: wanted {check.wanted}, seen {check.seen}.",
            "ask another approver, auditor or dpo.",
        )


@dataclass(frozen=True, slots=True)
class Keys:
    kernel: Kernel
    pepper: bytes = field(repr=False)
    random: Callable[[int], bytes] = secrets.token_bytes
    roles: Collection[str] | None = None
    """The roles that policy knows; None where nobody can say."""
    is_provided: Callable[[], bool] = nobody_else
    """Whether people who approve, audit or protect data come by the company's provider."""

    @action("key.create")
    def create(self, act: Act, subject: Ref, *, roles: Sequence[str], kind: str = "person") -> str:
        """A new key for `key/<name>`: its text, which nobody can see again.

        With a role that judges others it opens nothing until another such person confirms it, as soon as there is one.

        Raises InvalidInput where no role is named, NotFound for one that policy does not know, Denied under break-glass.
        """
        refuse_in_emergency(act.actor)
        granted = tuple(dict.fromkeys(roles)) if not isinstance(roles, str) else ()
        if not granted or not all(_ROLE.fullmatch(role) for role in granted):
            raise InvalidInput("A key needs at least one role.", "name roles such as data_scientist or operator.")
        unknown = [role for role in granted if self.roles is not None and role not in self.roles]
        if unknown:
            raise NotFound.named("role", unknown[0], self.roles or ())
        if kind not in KINDS:
            raise InvalidInput(f"{kind!r} is no kind of key.", f"there is: {', '.join(KINDS)}.")
        key_id = self.random(6).hex()
        text = f"falaj_{key_id}_{urlsafe_b64encode(self.random(32)).decode().rstrip('=')}"
        is_provided = bool(watching(granted)) and self.is_provided()
        with act.change(Ref("key", key_id)) as draft:
            # Under the write lock: of two first ones at once only one is.
            standing = standing_of(granted, (body for _, body in draft.tx.find("key")), is_provided=is_provided)
            draft.put(
                "key",
                key_id,
                {
                    "id": key_id,
                    "hmac": key_hmac(self.pepper, text),
                    "name": subject.name,
                    "kind": kind,
                    "roles": granted,
                    "created_at": iso(act.now),
                    "revoked_at": None,
                    "made_by": act.actor.name,
                    "standing": standing,
                    "confirmed_by": None,
                },
            )
            draft.note(name=subject.name, roles=granted, **told(standing))
        return text

    @action("key.confirm")
    def confirm(self, act: Act, subject: Ref, *, reason: str) -> str:
        """Another person's word that whoever holds `key/<key id>` is to have its roles; how it stands then.

        For a key that waits, and for the first one, which nobody could confirm when it was made. Raises NotFound, Conflict for a
        key that needs no such word, Denied for whoever may not give it, InvalidInput without a reason.
        """
        self._record(subject.name)
        with act.change() as draft:
            record = dict(draft.get("key", subject.name) or {})
            refuse_to_confirm(act.actor, subject, record, reason)
            standing = standing_after(act.actor, record, (body for _, body in draft.tx.find("key")))
            draft.put("key", subject.name, record | {"standing": standing, "confirmed_by": act.actor.name})
            draft.note(name=record["name"], roles=record["roles"], standing=standing, reason=reason)
        return standing

    def standing(self, text: str) -> str:
        """How a key stands that was made just now. Raises NotFound."""
        return str(self._record(text.split("_")[1])["standing"])

    @action("key.revoke")
    def revoke(self, act: Act, subject: Ref) -> None:
        """The key `key/<key id>` opens nothing from now on; for a revoked key that changes nothing.

        Raises NotFound; Denied for the last one by which anybody approves, audits or protects data, unless its holder asks:
        with it gone, a maker's word would be enough again.
        """
        if self._record(subject.name)["revoked_at"] is not None:
            return
        with act.change() as draft:
            record = dict(draft.get("key", subject.name) or {})
            if act.actor.name != record["name"] or not watching(act.actor.roles):
                keys = [body for _, body in draft.tx.find("key")]
                if is_last(record, keys) and not self.is_provided():
                    raise Denied(
                        f"{subject} is the last one by which anybody approves, audits or protects data.",
                        f"have another one confirmed first, or let {record['name']} revoke it.",
                    )
            draft.put("key", subject.name, record | {"revoked_at": iso(act.now)})
            draft.note(name=record.get("name"))

    def authenticate(self, text: Any, *, from_events: bool = False) -> Actor:
        """Whose key that is. Raises Unauthenticated, without saying whether it was unknown, wrong or revoked.

        `from_events`: as the events have it, which takes long; for who has to mend the records and cannot be known by them.
        """
        found = _KEY.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise Unauthenticated("No key was shown, or one of another form.", _HINT)
        record = self._told(found[1]) if from_events else self.kernel.ledger.get("key", found[1])
        # An unknown key is compared as well, so that the time tells nothing.
        if record is not None and not _WHOLE.issubset(record):
            record = None  # somebody has changed it by hand
        known = record is not None and record["revoked_at"] is None
        kept = str(record["hmac"]) if record is not None else "0" * 64
        if not hmac.compare_digest(key_hmac(self.pepper, text), kept) or not known or record is None:
            raise Unauthenticated("The key is not valid.", _HINT)
        if not opens(record):
            raise Unauthenticated("The key waits for somebody to confirm it.", f"falaj key confirm {record['id']} --reason …")
        return Actor(record["name"], record["kind"], tuple(record["roles"]))

    def allowed(self) -> Mapping[str, Mapping[str, Any]]:
        """Every key that opens anything, by its HMAC, as hosts take them."""
        return {
            record["hmac"]: {"id": record["id"], "name": record["name"], "kind": record["kind"], "roles": record["roles"]}
            for _, record in self.kernel.ledger.find("key")
            if opens(record)
        }

    def listing(self) -> list[Mapping[str, Any]]:
        """Every key that was ever made, without its HMAC."""
        return [{name: value for name, value in record.items() if name != "hmac"} for _, record in self.kernel.ledger.find("key")]

    def _told(self, key_id: str) -> Mapping[str, Any] | None:
        told = None
        for event in self.kernel.ledger.events(verb="key."):
            for change in event.changes:
                told = change.body if (change.kind, change.key) == ("key", key_id) else told
        return told

    def _record(self, key_id: str) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("key", key_id)
        if record is None:
            raise NotFound.named("key", key_id, (key for key, _ in self.kernel.ledger.find("key")))
        return record
