"""Keys, certificates and tokens with a role that judges others: what opens nothing, and whose word opens it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.policy import ROLES, RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound, Unauthenticated
from falaj.core.ref import Ref
from falaj.inference.auth import Keyring
from falaj.ports.identity import Credential
from falaj.stages.action import Kernel
from falaj.stages.governance.certificates import Certificates
from falaj.stages.governance.identity import ByCertificate
from falaj.stages.governance.keys import Keys
from falaj.stages.governance.tokens import Tokens

NOW = datetime(2026, 5, 1, tzinfo=UTC)
AMAL = Actor("amal", "person", ("operator",))
HUDA = Actor("huda", "person", ("approver",))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(MemoryLedger(), RolePolicy(), lambda: NOW)


@pytest.fixture
def keys(kernel: Kernel) -> Keys:
    return Keys(kernel, b"p" * 32, roles=ROLES)


@pytest.fixture
def certificates(kernel: Kernel) -> Certificates:
    return Certificates(kernel, lambda name: f"spiffe://x/{name}", lambda *_: b"pem", lambda: NOW, ROLES)


def made(keys: Keys, name: str, *roles: str) -> tuple[str, Ref]:
    text = keys.create(AMAL, Ref("key", name), roles=roles)
    return text, Ref("key", text.split("_")[1])


def last(kernel: Kernel, verb: str) -> Any:
    return list(kernel.ledger.events(verb=verb))[-1]


def test_the_first_one_opens_on_the_operators_word_and_the_event_says_so(keys: Keys, kernel: Kernel) -> None:
    text, _ = made(keys, "huda", "approver")
    assert keys.authenticate(text) == HUDA
    facts = last(kernel, "key.create").facts
    assert (facts["standing"], facts["why"]) == ("first", "on the maker's word alone: nobody could confirm it")


@pytest.mark.parametrize("role", ["approver", "auditor", "dpo"])
def test_the_next_one_opens_nothing_anywhere_until_the_first_person_confirms_it(keys: Keys, kernel: Kernel, role: str) -> None:
    made(keys, "huda", "approver")
    text, ref = made(keys, "omar", "operator", role)
    with pytest.raises(Unauthenticated, match="waits for somebody"):
        keys.authenticate(text)
    with pytest.raises(Unauthenticated, match="waits for somebody"):
        keys.authenticate(text, from_events=True)
    assert [who["name"] for who in keys.allowed().values()] == ["huda"]
    assert last(kernel, "key.create").facts["standing"] == "pending"
    with pytest.raises(Denied, match=r"none of the roles operator may key\.confirm"):
        keys.confirm(AMAL, ref, reason="it is me")
    with pytest.raises(Denied, match="amal, who made it"):
        keys.confirm(Actor("amal", "person", ("operator", "approver")), ref, reason="it is me")
    assert keys.confirm(HUDA, ref, reason="I know him") == "confirmed"
    assert keys.authenticate(text).roles == ("operator", role)
    assert {who["name"] for who in keys.allowed().values()} == {"huda", "omar"}
    [told] = [one for one in keys.listing() if one["name"] == "omar"]
    assert (told["made_by"], told["confirmed_by"], told["standing"]) == ("amal", "huda", "confirmed")


def test_an_endpoint_reads_of_a_pending_key_nothing_and_of_a_confirmed_one_its_holder(keys: Keys, tmp_path: Path) -> None:
    made(keys, "huda", "approver")
    text, ref = made(keys, "omar", "approver", "operator")

    def holder() -> Actor:
        (tmp_path / "keys.json").write_text(json.dumps(keys.allowed()))
        ring = Keyring(tmp_path / "keys.json", keys.pepper)
        ring.look()
        return ring.actor(text.encode())

    with pytest.raises(Unauthenticated):
        holder()
    keys.confirm(HUDA, ref, reason="I know him")
    assert holder() == Actor("omar", "person", ("approver", "operator"))


def test_of_two_first_ones_at_once_one_is_the_first(keys: Keys) -> None:
    barrier, made_ = threading.Barrier(8), []

    def create(number: int) -> None:
        barrier.wait()
        made_.append(keys.standing(made(keys, f"person-{number}", "approver")[0]))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made_) == ["first", *["pending"] * 7]


def test_who_brings_a_pending_key_is_not_told_that_before_the_key_itself_is_right(keys: Keys) -> None:
    made(keys, "huda", "approver")
    text, _ = made(keys, "omar", "approver")
    with pytest.raises(Unauthenticated, match="not valid"):
        keys.authenticate(text[:-3] + ("AAA" if not text.endswith("AAA") else "BBB"))


def test_there_is_nothing_to_confirm_twice_or_in_a_plain_or_revoked_key(keys: Keys) -> None:
    made(keys, "huda", "approver")
    _, plain = made(keys, "lina", "ml_engineer")
    _, twice = made(keys, "omar", "approver")
    _, gone = made(keys, "sara", "dpo")
    keys.revoke(AMAL, gone)
    keys.confirm(HUDA, twice, reason="I know him")
    for ref, why in ((plain, "needs nobody's word"), (twice, "was confirmed by huda"), (gone, "was revoked")):
        with pytest.raises(Conflict, match=why):
            keys.confirm(HUDA, ref, reason="again")
    with pytest.raises(NotFound):
        keys.confirm(HUDA, Ref("key", "none"), reason="who")
    for reason in ("", " ", "x" * 2001):
        with pytest.raises(InvalidInput):
            keys.confirm(HUDA, twice, reason=reason)


def test_nobody_makes_themselves_the_first_again_by_revoking_whoever_is_there(keys: Keys) -> None:
    text, first = made(keys, "huda", "approver")
    with pytest.raises(Denied, match="the last one"):
        keys.revoke(AMAL, first)
    with pytest.raises(Denied, match="the last one"):
        keys.revoke(Actor("huda", "person", ("operator",)), first)  # a second key under her name
    assert keys.authenticate(text) == HUDA
    _, second = made(keys, "omar", "auditor")
    with pytest.raises(Denied, match="the last one"):
        keys.revoke(AMAL, first)  # the other one is not there yet
    keys.confirm(HUDA, second, reason="I know him")
    keys.revoke(AMAL, first)
    with pytest.raises(Denied, match="the last one"):
        keys.revoke(AMAL, second)


def test_where_a_provider_says_who_judges_no_key_is_ever_the_first(kernel: Kernel) -> None:
    keys = Keys(kernel, b"p" * 32, roles=ROLES, is_provided=lambda: True)
    text, ref = made(keys, "omar", "approver")
    with pytest.raises(Unauthenticated):
        keys.authenticate(text)
    keys.confirm(HUDA, ref, reason="he has no account yet")
    keys.revoke(AMAL, ref)


def test_a_certificate_waits_as_a_key_does_and_again_when_it_is_allowed_anew(
    keys: Keys, certificates: Certificates, kernel: Kernel
) -> None:
    made(keys, "huda", "approver")
    billing, shown = Ref("certificate", "billing"), Credential(certificate="spiffe://x/billing")
    certificates.allow(AMAL, billing, roles=["auditor"])
    assert certificates.allowed() == {}
    with pytest.raises(Unauthenticated):
        ByCertificate(kernel.ledger).authenticate(shown)
    with pytest.raises(Conflict, match="waits for somebody"):
        certificates.sign(AMAL, billing, request="csr")
    with pytest.raises(Denied):
        certificates.confirm(AMAL, billing, roles=["auditor"], reason="mine")
    with pytest.raises(Conflict, match="has the roles auditor"):
        certificates.confirm(HUDA, billing, roles=["auditor", "caller"], reason="as I was told")
    certificates.confirm(HUDA, billing, roles=["auditor"], reason="as I was told")
    actor = ByCertificate(kernel.ledger).authenticate(shown)
    assert actor is not None
    assert (actor.roles, list(certificates.allowed())) == (("auditor",), ["certificate:spiffe://x/billing"])
    assert certificates.sign(AMAL, billing, request="csr") == "pem"
    certificates.allow(AMAL, billing, roles=["auditor", "dpo"])
    assert certificates.allowed() == {}


def test_a_program_is_nobody_who_could_have_confirmed(keys: Keys, certificates: Certificates) -> None:
    certificates.allow(AMAL, Ref("certificate", "billing"), roles=["auditor"])
    assert list(certificates.allowed())
    assert keys.standing(made(keys, "huda", "approver")[0]) == "first"


def test_a_token_has_no_role_that_judges_others_and_is_not_its_makers(kernel: Kernel) -> None:
    tokens = Tokens(kernel, lambda _claims: "t", "falaj/x", b"p" * 32, lambda: NOW, ROLES)
    for role in ("approver", "auditor", "dpo"):
        with pytest.raises(Denied, match=f"has not the role {role}"):
            tokens.create(AMAL, Ref("token", "job"), roles=[role, "caller"], ttl=timedelta(minutes=5))
    both = Actor("amal", "person", ("operator", "auditor"))
    assert tokens.create(both, Ref("token", "job"), roles=["auditor"], ttl=timedelta(minutes=5))["token"] == "t"
