from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from falaj.adapters.local.policy import ROLES, RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Denied, InvalidInput, NotFound, Unauthenticated
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.governance.keys import Keys, key_hmac

PEPPER = b"p" * 32
OPERATOR = Actor("amal", roles=("operator",))
LINA = Ref("key", "lina")


@pytest.fixture
def keys() -> Keys:
    return Keys(Kernel(MemoryLedger(), RolePolicy(), lambda: datetime(2013, 5, 1, tzinfo=UTC)), PEPPER)


def id_of(text: str) -> Ref:
    return Ref("key", text.split("_")[1])


def test_who_shows_a_key_is_who_it_was_made_for(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["data_scientist", "caller"], kind="service")
    assert keys.authenticate(text) == Actor("lina", "service", ("data_scientist", "caller"))


def test_a_role_that_policy_does_not_know_makes_no_key(keys: Keys) -> None:
    knowing = replace(keys, roles=ROLES)
    with pytest.raises(NotFound, match="no role named 'auditors'") as caught:
        knowing.create(OPERATOR, LINA, roles=["caller", "auditors"])
    assert caught.value.hint == "did you mean 'auditor'?"
    assert keys.listing() == []
    assert knowing.create(OPERATOR, LINA, roles=["auditor"])


def test_a_key_has_256_random_bits_and_a_form_that_scanners_find(keys: Keys) -> None:
    first, second = (keys.create(OPERATOR, LINA, roles=["caller"]) for _ in range(2))
    prefix, key_id, secret = first.split("_", 2)
    assert (prefix, len(key_id), len(secret)) == ("falaj", 12, 43)
    assert first.split("_", 2)[1:] != second.split("_", 2)[1:]


def test_the_key_itself_is_kept_nowhere(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["caller"])
    everything = b"".join(keys.kernel.ledger.leaves()).decode() + json.dumps(keys.listing()) + repr(keys)
    assert text.split("_", 2)[2] not in everything
    assert PEPPER.decode() not in everything
    assert key_hmac(PEPPER, text) not in json.dumps(keys.listing())


def test_a_revoked_key_opens_nothing_and_is_still_listed(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["caller"])
    keys.revoke(OPERATOR, id_of(text))
    with pytest.raises(Unauthenticated):
        keys.authenticate(text)
    assert keys.allowed() == {}
    assert keys.listing()[0]["revoked_at"] == "2013-05-01T00:00:00.000Z"
    keys.revoke(OPERATOR, id_of(text))
    assert [e.verb for e in keys.kernel.ledger.events()] == ["key.create", "key.revoke"]


def test_hosts_are_told_the_hmac_of_every_key_that_is_good(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["caller"])
    other = keys.create(OPERATOR, Ref("key", "omar"), roles=["caller"])
    keys.revoke(OPERATOR, id_of(other))
    assert keys.allowed() == {
        key_hmac(PEPPER, text): {"id": id_of(text).name, "name": "lina", "kind": "person", "roles": ["caller"]}
    }


def test_every_way_of_being_wrong_reads_the_same(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["caller"])
    gone = keys.create(OPERATOR, LINA, roles=["caller"])
    keys.revoke(OPERATOR, id_of(gone))
    _, key_id, secret = text.split("_", 2)
    said = set()
    for wrong in (f"falaj_{key_id}_{'A' * 43}", f"falaj_{'0' * 12}_{secret}", gone):
        with pytest.raises(Unauthenticated) as caught:
            keys.authenticate(wrong)
        said.add(str(caught.value))
    assert len(said) == 1
    assert "falaj key create" in said.pop()


@pytest.mark.parametrize(
    "text", ["", "falaj", "Bearer x", "falaj__", "falaj_0123456789ab_é" + "A" * 42, "\ud800", None, 7, "x" * 10**6]
)
def test_what_is_no_key_is_refused(keys: Keys, text: Any) -> None:
    with pytest.raises(Unauthenticated):
        keys.authenticate(text)


def test_another_pepper_opens_nothing(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["caller"])
    with pytest.raises(Unauthenticated):
        Keys(keys.kernel, b"q" * 32).authenticate(text)


@pytest.mark.parametrize(
    ("roles", "kind"), [([], "person"), ("operator", "person"), (["Wizard!"], "person"), ([""], "person"), (["caller"], "system")]
)
def test_a_key_without_a_good_role_and_kind_is_not_made(keys: Keys, roles: Any, kind: str) -> None:
    with pytest.raises(InvalidInput):
        keys.create(OPERATOR, LINA, roles=roles, kind=kind)
    assert keys.listing() == []


def test_only_an_operator_makes_and_revokes_keys(keys: Keys) -> None:
    text = keys.create(OPERATOR, LINA, roles=["data_scientist"])
    with pytest.raises(Denied):
        keys.create(keys.authenticate(text), LINA, roles=["operator"])
    with pytest.raises(Denied):
        keys.revoke(keys.authenticate(text), id_of(text))


def test_a_key_that_never_was_cannot_be_revoked(keys: Keys) -> None:
    with pytest.raises(NotFound):
        keys.revoke(OPERATOR, Ref("key", "0123456789ab"))
