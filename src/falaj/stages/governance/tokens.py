"""Tokens: short-lived words of this project that open its endpoints, and the list of those that were taken back."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.core.moments import from_millis, iso, moment
from falaj.core.ref import Ref
from falaj.stages.action import Act, Draft, Kernel, action
from falaj.stages.governance.keys import key_hmac, refuse_in_emergency
from falaj.stages.vouching import watching

LONGEST = timedelta(hours=24)
"""No endpoint takes a token that is good for longer; see falaj.inference.tokens."""
_ROLE = re.compile(r"[a-z][a-z_]{0,39}")
_KEPT = LONGEST + timedelta(hours=1)
"""What was taken back is over by then, whoever issued it."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Endpoints check a token by the project's public key; nothing about it has to be kept anywhere."""

    kernel: Kernel
    mint: Callable[[Mapping[str, Any]], str] = field(repr=False)
    """Signs claims with the project's own key."""
    issuer: str
    """What the endpoints know the project by; also whom its tokens are for."""
    pepper: bytes = field(repr=False)
    wall: Callable[[], datetime]
    """The machine's clock: a token ends in real time, also where the past is lived through."""
    roles: Collection[str] | None = None
    random: Callable[[int], bytes] = secrets.token_bytes

    @action("token.create")
    def create(self, act: Act, subject: Ref, *, roles: Sequence[str], ttl: timedelta) -> dict[str, Any]:
        """A token for the program `token/<name>`: its text, which nobody can see again, its id and its end.

        Raises InvalidInput for no role and for a `ttl` over a day, NotFound for a role that policy does not know, Denied under
        break-glass, and for a role that judges others and that the maker has not: nobody could confirm a token in time.
        """
        refuse_in_emergency(act.actor)
        granted = tuple(dict.fromkeys(roles)) if not isinstance(roles, str) else ()
        if not granted or not all(_ROLE.fullmatch(role) for role in granted):
            raise InvalidInput("A token needs at least one role.", "name roles such as caller.")
        unknown = [role for role in granted if self.roles is not None and role not in self.roles]
        if unknown:
            raise NotFound.named("role", unknown[0], self.roles or ())
        if more := watching(granted) - set(act.actor.roles):
            raise Denied(
                f"{act.actor} has not the role {', '.join(sorted(more))}, and gives it to no token.",
                "ask somebody who has it; a key or certificate with it waits for such a person.",
            )
        if not timedelta(seconds=1) <= ttl <= LONGEST:
            raise InvalidInput(f"A token cannot be good for {ttl}.", "write a ttl from 1s to 24h; for longer, falaj key create.")
        now = int(self.wall().timestamp())
        until = iso(from_millis((now + int(ttl.total_seconds())) * 1000))
        token_id = self.random(9).hex()
        text = self.mint(
            {
                "iss": self.issuer,
                "aud": self.issuer,
                "sub": subject.name,
                "roles": list(granted),
                "jti": token_id,
                "iat": now,
                "nbf": now,
                "exp": now + int(ttl.total_seconds()),
            }
        )
        with act.change() as draft:
            draft.note(id=token_id, roles=granted, until=until)
        return {"id": token_id, "until": until, "token": text}

    @action("token.revoke")
    def revoke(self, act: Act, subject: Ref, *, id: str = "", name: str = "") -> None:  # noqa: A002  # the claim is called so
        """Shuts out one token by its id (`jti`), or every token of a name (`sub`) that was made until now.

        Whoever issued it. Names are kept as keyed hashes: another issuer's may be people's. Raises InvalidInput.
        """
        if bool(id) == bool(name) or len(id or name) > 1000:
            raise InvalidInput("Say which tokens: one by its id, or all of a name.", "falaj token revoke --id … or --name …")
        marked = key_hmac(self.pepper, f"jti:{id}" if id else f"sub:{name}")
        with act.change() as draft:
            self._shut_out(draft, marked)
            draft.note(by="id" if id else "name", hmac=marked)

    @action("identity.logout")
    def logout(self, act: Act, subject: Ref) -> None:
        """Every token of the caller's own that was made until now opens nothing any more, here and at the endpoints."""
        marked = key_hmac(self.pepper, f"sub:{act.actor.name}")
        with act.change() as draft:
            self._shut_out(draft, marked)
            draft.note(hmac=marked)

    def is_revoked(self, id: str, name: str, issued: float) -> bool:  # noqa: A002  # the claim is called so
        """Whether a token was taken back: by its id, or all of its name that were issued (seconds since 1970) until then."""
        ledger = self.kernel.ledger
        if id and ledger.get("revoked", key_hmac(self.pepper, f"jti:{id}")) is not None:
            return True
        body = ledger.get("revoked", key_hmac(self.pepper, f"sub:{name}"))
        return body is not None and issued <= moment(body["at"]).timestamp()

    def _shut_out(self, draft: Draft, marked: str) -> None:
        now = self.wall()
        draft.put("revoked", marked, {"at": iso(now)})
        for old, body in self.kernel.ledger.find("revoked"):
            if old != marked and moment(body["at"]) + _KEPT < now:
                draft.remove("revoked", old)

    def revoked(self) -> Mapping[str, Mapping[str, Any]]:
        """What was taken back and might still be good, as hosts take it."""
        now = self.wall()
        return {
            f"revoked:{marked}": {"at": moment(body["at"]).timestamp()}
            for marked, body in self.kernel.ledger.find("revoked")
            if moment(body["at"]) + _KEPT >= now
        }
