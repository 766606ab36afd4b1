"""Tokens and certificates as the control plane knows them; what an endpoint makes of them is tested beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.policy import ROLES, RolePolicy
from falaj.adapters.local.signing import SigningKey
from falaj.adapters.local.tokens import mint, publish
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unauthenticated
from falaj.core.ref import Ref
from falaj.inference.auth import Keyring
from falaj.inference.tokens import Issuer, JwtTokens
from falaj.stages.action import Kernel
from falaj.stages.governance.certificates import Certificates
from falaj.stages.governance.tokens import Tokens

PEPPER = b"p" * 32
OPERATOR = Actor("amal", roles=("operator",))
APP = Ref("token", "app")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = SigningKey.generate()
MINUTES = timedelta(minutes=15)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(MemoryLedger(), RolePolicy(), lambda: datetime(2013, 5, 1, tzinfo=UTC))


@pytest.fixture
def tokens(kernel: Kernel, clock: Clock) -> Tokens:
    return Tokens(kernel, lambda claims: mint(claims, KEY), "falaj/flights", PEPPER, clock, ROLES)


@pytest.fixture
def certificates(kernel: Kernel, clock: Clock) -> Certificates:
    def admit(request: bytes, service: str, at: datetime, life: timedelta | None) -> bytes:
        return f"{request.decode()} {service} {at:%H}".encode()

    return Certificates(kernel, lambda name: f"spiffe://flights/service/{name}", admit, clock, ROLES)


def everything(kernel: Kernel) -> str:
    return b"".join(kernel.ledger.leaves()).decode()


def ring(folder: Path, clock: Clock, *tables: Mapping[str, Any]) -> Keyring:
    """The endpoint's own reading of what hosts were given."""
    (folder / "keys.json").write_text(json.dumps({name: who for table in tables for name, who in table.items()}))
    issuer = Issuer("falaj/flights", "falaj/flights", publish(folder / "tokens.jwks", KEY))
    keyring = Keyring(folder / "keys.json", PEPPER, JwtTokens([issuer]), clock.seconds)
    keyring.look()
    return keyring


def test_a_token_opens_an_endpoint_until_it_ends(tokens: Tokens, clock: Clock, tmp_path: Path) -> None:
    text = tokens.create(OPERATOR, APP, roles=["caller"], ttl=MINUTES)["token"].encode()
    keyring = ring(tmp_path, clock, tokens.revoked())
    assert keyring.actor(text) == Actor("app", "service", ("caller",))
    clock.now += timedelta(minutes=16)
    keyring.look()
    with pytest.raises(Unauthenticated, match="over"):
        keyring.actor(text)


def test_the_event_knows_the_tokens_id_and_not_the_token(tokens: Tokens) -> None:
    made = tokens.create(OPERATOR, APP, roles=["caller"], ttl=MINUTES)
    event = list(tokens.kernel.ledger.events())[-1]
    assert (event.verb, str(event.subject), event.facts["id"], event.facts["until"]) == (
        "token.create",
        "token/app",
        made["id"],
        made["until"],
    )
    assert not any(part in everything(tokens.kernel) for part in made["token"].split(".")[1:])


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(hours=24, seconds=1), timedelta(milliseconds=5)])
def test_a_token_is_good_for_a_day_at_most(tokens: Tokens, ttl: timedelta) -> None:
    with pytest.raises(InvalidInput, match="good for"):
        tokens.create(OPERATOR, APP, roles=["caller"], ttl=ttl)


def test_only_whoever_may_make_keys_makes_tokens_and_lets_certificates_in(tokens: Tokens, certificates: Certificates) -> None:
    for actor in (Actor("lina", roles=("ml_engineer",)), Actor("app", "service", ("caller",)), Actor("zoe", roles=("auditor",))):
        with pytest.raises(Denied):
            tokens.create(actor, APP, roles=["caller"], ttl=MINUTES)
        with pytest.raises(Denied):
            tokens.revoke(actor, Ref("token", "all"), name="app")
        with pytest.raises(Denied):
            certificates.allow(actor, Ref("certificate", "app"), roles=["caller"])
    assert certificates.listing() == []


@pytest.mark.parametrize("roles", [[], "caller", ["Caller"]])
def test_a_token_needs_roles(tokens: Tokens, roles: Any) -> None:
    with pytest.raises(InvalidInput, match="at least one role"):
        tokens.create(OPERATOR, APP, roles=roles, ttl=MINUTES)
    with pytest.raises(NotFound, match="no role named 'callers'"):
        tokens.create(OPERATOR, APP, roles=["callers"], ttl=MINUTES)


def test_one_token_or_all_of_a_name_can_be_taken_back(tokens: Tokens, clock: Clock, tmp_path: Path) -> None:
    first, second = (tokens.create(OPERATOR, APP, roles=["caller"], ttl=MINUTES) for _ in range(2))
    tokens.revoke(OPERATOR, Ref("token", "all"), id=first["id"])
    keyring = ring(tmp_path, clock, tokens.revoked())
    with pytest.raises(Unauthenticated, match="revoked"):
        keyring.actor(first["token"].encode())
    assert keyring.actor(second["token"].encode()).name == "app"
    tokens.revoke(OPERATOR, Ref("token", "all"), name="app")
    clock.now += timedelta(seconds=1)
    third = tokens.create(OPERATOR, APP, roles=["caller"], ttl=MINUTES)
    keyring = ring(tmp_path, clock, tokens.revoked())
    with pytest.raises(Unauthenticated, match="revoked"):
        keyring.actor(second["token"].encode())
    assert keyring.actor(third["token"].encode()).name == "app"


def test_a_name_that_was_shut_out_stands_nowhere_in_clear(tokens: Tokens) -> None:
    tokens.revoke(OPERATOR, Ref("token", "all"), name="Amal@example.com")
    assert "example.com" not in everything(tokens.kernel) + json.dumps(tokens.revoked())


@pytest.mark.parametrize("which", [{}, {"id": "a", "name": "b"}, {"id": "x" * 1001}])
def test_what_is_taken_back_has_to_be_said(tokens: Tokens, which: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="which tokens"):
        tokens.revoke(OPERATOR, Ref("token", "all"), **which)


def test_what_was_taken_back_is_forgotten_once_no_token_can_be_good_any_more(tokens: Tokens, clock: Clock) -> None:
    tokens.revoke(OPERATOR, Ref("token", "all"), id="one")
    clock.now += timedelta(hours=24, minutes=50)
    assert len(tokens.revoked()) == 1
    clock.now += timedelta(hours=1)
    assert tokens.revoked() == {}
    tokens.revoke(OPERATOR, Ref("token", "all"), id="two")
    assert len(list(tokens.kernel.ledger.find("revoked"))) == 1


# --- certificates ---


def test_whoever_shows_an_allowed_identity_is_known_until_it_is_revoked(
    certificates: Certificates, clock: Clock, tmp_path: Path
) -> None:
    app = Ref("certificate", "app")
    identity = certificates.allow(OPERATOR, app, roles=["caller"])
    assert ring(tmp_path, clock, certificates.allowed()).holder(identity) == Actor("app", "service", ("caller",))
    certificates.revoke(OPERATOR, app)
    certificates.revoke(OPERATOR, app)
    with pytest.raises(Unauthenticated):
        ring(tmp_path, clock, certificates.allowed()).holder(identity)
    assert [event.verb for event in certificates.kernel.ledger.events()] == ["certificate.allow", "certificate.revoke"]
    assert certificates.listing()[0]["revoked_at"] is not None
    certificates.allow(OPERATOR, app, roles=["caller", "operator"])
    assert ring(tmp_path, clock, certificates.allowed()).holder(identity).roles == ("caller", "operator")


@pytest.mark.parametrize("identity", ["spiffe://corp.example/ns/prod/sa/app", "cn:Billing Service 2"])
def test_another_authoritys_names_can_be_let_in(certificates: Certificates, identity: str) -> None:
    assert certificates.allow(OPERATOR, Ref("certificate", "app"), roles=["caller"], identity=identity) == identity


@pytest.mark.parametrize(
    "identity",
    ["app", "spiffe://", "spiffe://Corp/x", "spiffe://corp", "spiffe://corp/", "spiffe://corp/a b", "cn:", "cn:a\nb", "*"],
)
def test_what_is_no_identity_is_refused(certificates: Certificates, identity: str) -> None:
    with pytest.raises(InvalidInput, match="no identity"):
        certificates.allow(OPERATOR, Ref("certificate", "app"), roles=["caller"], identity=identity)


def test_an_identity_belongs_to_one_program(certificates: Certificates) -> None:
    identity = certificates.allow(OPERATOR, Ref("certificate", "app"), roles=["caller"])
    with pytest.raises(Conflict, match="certificate/app already"):
        certificates.allow(OPERATOR, Ref("certificate", "other"), roles=["operator"], identity=identity)


def test_a_key_is_signed_for_a_name_that_was_let_in(certificates: Certificates) -> None:
    app = Ref("certificate", "app")
    with pytest.raises(NotFound):
        certificates.sign(OPERATOR, app, request="please")
    certificates.allow(OPERATOR, app, roles=["caller"])
    assert certificates.sign(OPERATOR, app, request="please") == "please app 12"
    certificates.allow(OPERATOR, app, roles=["caller"], identity="spiffe://corp/app")
    with pytest.raises(Conflict, match="not one that"):
        certificates.sign(OPERATOR, app, request="please")
    certificates.allow(OPERATOR, app, roles=["caller"])
    certificates.revoke(OPERATOR, app)
    with pytest.raises(Conflict):
        certificates.sign(OPERATOR, app, request="please")
    with pytest.raises(NotFound):
        certificates.revoke(OPERATOR, Ref("certificate", "nobody"))
