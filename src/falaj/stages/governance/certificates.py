"""Certificates: which programs are known by one, with which roles; nothing but the identity in it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from falaj.core.errors import Conflict, InvalidInput, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel, action
from falaj.stages.governance.keys import nobody_else, refuse_in_emergency, refuse_to_confirm, told
from falaj.stages.vouching import CONFIRMED, opens, standing_of, watching

_ROLE = re.compile(r"[a-z][a-z_]{0,39}")
_IDENTITY = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+|cn:[!-~][ -~]{0,62}")
"""A SPIFFE ID (of a workload: with a path), or the common name of a certificate that has none."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """`certificate/<name>`: a program that shows a certificate. An authority vouches for its identity, this for its roles."""

    kernel: Kernel
    identity: Callable[[str], str]
    """What the project's own authority calls a service."""
    admit: Callable[[bytes, str, datetime, timedelta | None], bytes]
    """Signs a signing request for a service, by the project's own authority, at a time and for a span (None: its usual one)."""
    wall: Callable[[], datetime]
    """The machine's clock, by which certificates end."""
    roles: Collection[str] | None = None
    is_provided: Callable[[], bool] = nobody_else
    """Whether people who approve, audit or protect data come by the company's provider."""

    @action("certificate.allow")
    def allow(self, act: Act, subject: Ref, *, roles: Sequence[str], identity: str = "") -> str:
        """Whoever shows a certificate of that identity is `certificate/<name>` and has these roles; returns the identity.

        With a role that judges others it opens nothing until such a person confirms it, as soon as there is one.

        `identity`: a SPIFFE ID or `cn:<common name>`; without it, the one that the project's own authority gives the name.
        Raises InvalidInput, NotFound for an unknown role, Conflict for somebody else's identity, Denied under break-glass.
        """
        refuse_in_emergency(act.actor)
        granted = tuple(dict.fromkeys(roles)) if not isinstance(roles, str) else ()
        if not granted or not all(_ROLE.fullmatch(role) for role in granted):
            raise InvalidInput("A certificate needs at least one role.", "name roles such as caller.")
        unknown = [role for role in granted if self.roles is not None and role not in self.roles]
        if unknown:
            raise NotFound.named("role", unknown[0], self.roles or ())
        identity = identity or self.identity(subject.name)
        if not _IDENTITY.fullmatch(identity):
            raise InvalidInput(f"{identity[:200]!r} is no identity.", "write spiffe://<domain>/<path>, or cn:<common name>.")
        other = next((name for name, body in self._valid() if body["identity"] == identity and name != subject.name), None)
        if other is not None:
            raise Conflict(f"{identity} is certificate/{other} already.", f"falaj certificate revoke {other}")
        is_provided = bool(watching(granted)) and self.is_provided()
        with act.change() as draft:
            standing = standing_of(granted, (body for _, body in draft.tx.find("key")), is_provided=is_provided)
            body = {
                "name": subject.name, "identity": identity, "roles": granted, "allowed_at": iso(act.now), "revoked_at": None,
                "made_by": act.actor.name, "standing": standing, "confirmed_by": None,
            }  # fmt: skip
            draft.put("certificate", subject.name, body)
            draft.note(identity=identity, roles=granted, **told(standing))
        return identity

    @action("certificate.confirm")
    def confirm(self, act: Act, subject: Ref, *, roles: Sequence[str], reason: str) -> None:
        """Another person's word that the program `certificate/<name>` is to have these roles, which must be all that it has.

        Raises NotFound, Conflict for one that needs no such word or has other roles, Denied for whoever may not give it,
        InvalidInput without a reason.
        """
        self._record(subject.name)
        with act.change() as draft:
            record = dict(draft.get("certificate", subject.name) or {})
            refuse_to_confirm(act.actor, subject, record, reason)
            if set(roles) != set(record["roles"]):
                raise Conflict(f"{subject} has the roles {', '.join(record['roles'])}.", "look again: it was allowed anew.")
            draft.put("certificate", subject.name, record | {"standing": CONFIRMED, "confirmed_by": act.actor.name})
            draft.note(identity=record["identity"], roles=record["roles"], reason=reason)

    def standing(self, subject: Ref) -> str:
        """How it stands. Raises NotFound."""
        return str(self._record(subject.name)["standing"])

    @action("certificate.revoke")
    def revoke(self, act: Act, subject: Ref) -> None:
        """`certificate/<name>` opens nothing from the next call on, also on connections that stand. Raises NotFound."""
        if self._record(subject.name)["revoked_at"] is not None:
            return
        with act.change() as draft:
            record = dict(draft.get("certificate", subject.name) or {})
            draft.put("certificate", subject.name, record | {"revoked_at": iso(act.now)})
            draft.note(identity=record.get("identity"))

    @action("certificate.sign")
    def sign(self, act: Act, subject: Ref, *, request: str, ttl: timedelta | None = None) -> str:
        """A short-lived certificate for `certificate/<name>` from the project's own authority, for a signing request's key (PEM).

        The private key never leaves whoever made it. Raises NotFound for a name that is not allowed, Conflict for one that
        another authority vouches for, InvalidInput for what is no request.
        """
        record = self._record(subject.name)
        if record["revoked_at"] is not None or record["identity"] != self.identity(subject.name):
            raise Conflict(
                f"certificate/{subject.name} is not one that the project's own authority vouches for.",
                f"falaj certificate allow {subject.name} --roles caller",
            )
        if not opens(record):
            raise Conflict(
                f"certificate/{subject.name} waits for somebody to confirm it.", f"falaj certificate confirm {subject.name}"
            )
        pem = self.admit(request.encode(), subject.name, self.wall(), ttl)
        with act.change() as draft:
            draft.note(identity=record["identity"])
        return pem.decode()

    def allowed(self) -> Mapping[str, Mapping[str, Any]]:
        """Every identity that is let in, as hosts take it."""
        return {
            f"certificate:{body['identity']}": {"name": name, "kind": "service", "roles": body["roles"]}
            for name, body in self._valid()
            if opens(body)
        }

    def listing(self) -> list[Mapping[str, Any]]:
        """Every program that was ever let in."""
        return [body for _, body in self.kernel.ledger.find("certificate")]

    def _valid(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(name, body) for name, body in self.kernel.ledger.find("certificate") if body["revoked_at"] is None]

    def _record(self, name: str) -> Mapping[str, Any]:
        record = self.kernel.ledger.get("certificate", name)
        if record is None:
            raise NotFound.named("certificate", name, (name for name, _ in self.kernel.ledger.find("certificate")))
        return record
