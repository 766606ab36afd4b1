"""Logging in at the provider: authorisation code with PKCE (RFC 7636), state and nonce, back to this very machine (RFC 8252)."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from falaj.adapters.oidc.claims import holder_of, logged_in
from falaj.adapters.oidc.identity import opened
from falaj.adapters.oidc.provider import Provider
from falaj.core.errors import Unauthenticated, Unavailable

_ERROR = re.compile(r"[a-z_]{1,64}")
_AGAIN = "falaj login"


@dataclass(frozen=True, slots=True)
class Begun:
    """A login under way. Nothing of it leaves this process but what stands in `address`."""

    address: str
    """Where the person goes."""
    redirect: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gave. `until`: when the access token ends, in seconds since 1970."""

    issuer: str
    client: str
    name: str
    until: float
    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    display: str = ""
    """What the provider calls the person, for their own eyes; it goes into no record."""


@dataclass(frozen=True, slots=True)
class Login:
    provider: Provider
    random: Callable[[int], str] = secrets.token_urlsafe

    def begin(self, redirect: str) -> Begun:
        """A new login that comes back to `redirect`, an address of this machine (RFC 8252). Raises Unavailable."""
        pinned, metadata = self.provider.pinned, self.provider.metadata()
        state, nonce, verifier = (self.random(32) for _ in range(3))
        address = prepare_grant_uri(
            str(metadata["authorization_endpoint"]), pinned.client, "code", redirect, pinned.scope, state, nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256", **self._resource(),
            **({"prompt": "consent"} if "offline_access" in pinned.scope.split() else {}),
        )  # fmt: skip
        return Begun(str(address), redirect, state, nonce, verifier)

    def finish(self, begun: Begun, answer: Mapping[str, str]) -> Session:
        """The session, from what the provider sent back to the redirect.

        Raises Unauthenticated where it answers another login, is another provider's, or refuses; Unavailable.
        """
        pinned, metadata = self.provider.pinned, self.provider.metadata()
        if not hmac.compare_digest(answer.get("state", "").encode("utf-8", "replace"), begun.state.encode()):
            raise Unauthenticated("What came back answers another login (state).", _AGAIN)
        told = answer.get("iss")
        if told != pinned.issuer and (told is not None or metadata.get("authorization_response_iss_parameter_supported") is True):
            raise Unauthenticated("What came back is another provider's (iss, RFC 9207).", _AGAIN)
        if "error" in answer or not answer.get("code"):
            raise Unauthenticated(f"The provider let nobody in: {_said(answer)}.", _AGAIN)
        body = self._ask(
            prepare_token_request(
                "authorization_code", redirect_uri=begun.redirect, code=answer["code"], code_verifier=begun.verifier,
                **self._resource(),
            )
        )  # fmt: skip
        return self._session(body, begun.nonce, "")

    def renew(self, session: Session) -> Session:
        """A new access token for the same person. Raises Unauthenticated where the provider's patience is over, Unavailable."""
        if not session.refresh:
            raise Unauthenticated("The login is over.", _AGAIN)
        body = self._ask(prepare_token_request("refresh_token", refresh_token=session.refresh, **self._resource()))
        found = self._session({"refresh_token": session.refresh, **body}, "", session.display)
        if found.name != session.name:
            raise Unauthenticated("The provider renewed somebody else's login.", _AGAIN)
        return found

    def end(self, session: Session) -> bool:
        """Takes the session back at the provider (RFC 7009), where it offers that; whether it did."""
        where = self.provider.metadata().get("revocation_endpoint")
        if not where:
            return False
        for kind, token in (("refresh_token", session.refresh), ("access_token", session.access)):
            if token:
                status, _ = self._post(str(where), urlencode({"token": token, "token_type_hint": kind}))
                if status == 200:
                    return True
        return False

    def _session(self, body: Mapping[str, Any], nonce: str, display: str) -> Session:
        pinned, access = self.provider.pinned, body.get("access_token")
        if not isinstance(access, str) or str(body.get("token_type", "")).lower() != "bearer":
            raise Unauthenticated("The provider gave no bearer token.", "look at how the client is set up there.")
        head, claims = opened(access, self.provider)
        holder = holder_of(head, claims, pinned, self.provider.now())
        if nonce:
            shown = body.get("id_token")
            head, claims = opened(shown if isinstance(shown, str) else "", self.provider)
            if logged_in(head, claims, (pinned, nonce, access), self.provider.now()) != holder.actor.name:
                raise Unauthenticated("The ID token and the access token are about two people.", _AGAIN)
            display = next((str(claims[name])[:200] for name in ("name", "email") if isinstance(claims.get(name), str)), "")
        refresh = body.get("refresh_token", "")
        return Session(
            pinned.issuer, pinned.client, holder.actor.name, holder.until, access,
            refresh if isinstance(refresh, str) else "", display,
        )  # fmt: skip

    def _ask(self, form: str) -> Mapping[str, Any]:
        status, body = self._post(str(self.provider.metadata()["token_endpoint"]), form)
        if status == 200:
            return body
        if status >= 500 or status == 429:
            raise Unavailable(f"The provider answered {status}.", "try later.")
        raise Unauthenticated(f"The provider refused: {_said(body)}.", _AGAIN)

    def _post(self, where: str, form: str) -> tuple[int, Mapping[str, Any]]:
        pinned = self.provider.pinned
        how = ClientAuth(pinned.client, "", "none")
        if pinned.secret is not None:  # written as in a form before it is put together (RFC 6749 section 2.3.1)
            how = ClientAuth(quote_plus(pinned.client), quote_plus(pinned.secret.decode("utf-8", "replace")))
        headers = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
        uri, headers, form = how.prepare("POST", where, headers, form)
        return self.provider.fetch.post(uri, headers, form)

    def _resource(self) -> dict[str, str]:
        """Whom the access token is to be for (RFC 8707), where the audience is an address or a name that providers take so."""
        audience = self.provider.pinned.audience
        return {"resource": audience} if audience.startswith(("https://", "urn:")) else {}


def _said(body: Mapping[str, Any]) -> str:
    """The provider's error code; its prose is left out, as it may hold anything."""
    found = body.get("error")
    return found if isinstance(found, str) and _ERROR.fullmatch(found) else "it does not say why"
