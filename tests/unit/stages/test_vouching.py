"""Whoever makes keys makes nobody an approver, auditor or data protection officer, once there is one; stated without a ledger."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.stages.vouching import (
    CONFIRMED,
    FIRST,
    PENDING,
    PLAIN,
    WATCHING,
    Vouchers,
    counts,
    is_held,
    is_last,
    may_confirm,
    opens,
    standing_after,
    standing_of,
    vouchers,
)

HUDA = Actor("huda", "person", ("approver",))
MADE_BY_AMAL = {
    "name": "omar",
    "kind": "person",
    "roles": ["approver"],
    "revoked_at": None,
    "made_by": "amal",
    "standing": PENDING,
}


def key(name: str = "huda", *roles: str, standing: str = CONFIRMED, **other: Any) -> dict[str, Any]:
    given_ = {"id": name, "name": name, "kind": "person", "roles": list(roles or ("approver",)), "revoked_at": None}
    return given_ | {"made_by": "amal", "standing": standing} | other


def test_only_while_nobody_is_there_the_makers_word_is_enough() -> None:
    assert standing_of(["ml_engineer", "operator"], [], is_provided=True) == PLAIN
    assert standing_of(["operator", "dpo"], [], is_provided=False) == FIRST
    assert standing_of(["dpo"], [key()], is_provided=False) == PENDING
    assert standing_of(["dpo"], [], is_provided=True) == PENDING


@pytest.mark.parametrize(
    "nobody",
    [key(standing=PENDING), key(kind="service"), key(revoked_at="2026-05-01"), key("lina", "operator", standing=PLAIN)],
    ids=["waits", "is a program", "is revoked", "judges nobody"],
)
def test_who_counts_as_being_there(nobody: dict[str, Any]) -> None:
    assert not is_held(nobody)
    assert standing_of(["auditor"], [nobody], is_provided=False) == FIRST


def test_a_key_from_before_this_rule_opens_as_it_did() -> None:
    old = {name: value for name, value in key().items() if name not in ("standing", "made_by")}
    assert (opens(old), is_held(old)) == (True, True)


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        (Actor("amal", "person", ("operator", "approver")), "amal, who made it"),
        (Actor("lina", "person", ("operator", "ml_engineer")), "person:lina with ml_engineer, operator"),
        (Actor("bot", "service", ("approver",)), "service:bot with approver"),
        (Actor("huda", "person", ("approver",), grant="access/1"), "somebody acting under access/1"),
    ],
)
def test_who_may_not_confirm(who: Actor, seen: str) -> None:
    check = may_confirm(who, MADE_BY_AMAL)
    assert (check.passed, check.seen) == (False, seen)


def test_what_nobody_says_who_made_nobody_confirms() -> None:
    assert not may_confirm(HUDA, {**MADE_BY_AMAL, "made_by": None}).passed


def test_a_person_confirms_a_further_key_of_their_own_but_no_role_more_and_not_their_first() -> None:
    assert may_confirm(HUDA, key(standing=PENDING)).passed
    assert not may_confirm(HUDA, key("huda", "approver", "dpo", standing=PENDING)).passed
    assert not may_confirm(HUDA, key(standing=FIRST)).passed
    assert not may_confirm(HUDA, key(standing=PENDING, kind="service")).passed
    assert may_confirm(HUDA, key("omar", standing=FIRST)).passed
    assert standing_after(HUDA, key("omar", standing=PENDING), [key(standing=FIRST)]) == CONFIRMED
    assert standing_after(HUDA, key(standing=PENDING), [key(standing=FIRST)]) == FIRST, "the same person vouches for it as before"
    assert standing_after(HUDA, key(standing=PENDING), [key()]) == CONFIRMED


def test_the_last_one_is_told() -> None:
    assert is_last(key(), [key(), key("lina", "operator", standing=PLAIN), key("omar", standing=PENDING)])
    assert not is_last(key(), [key(), key("omar", "auditor")])
    assert not is_last(key("omar", standing=PENDING), [key("omar", standing=PENDING)])


def test_an_approval_by_a_key_that_an_author_made_counts_for_nothing_and_a_first_one_not_for_its_maker() -> None:
    assert vouchers("huda", [key(standing=FIRST), key("omar", made_by="x")]) == Vouchers(("amal",), ("amal",))
    assert vouchers("huda", [key(), key("huda", "ml_engineer", standing=PLAIN, made_by="eve")]) == Vouchers(("amal",), ())
    assert vouchers("huda", [key(standing=PENDING, made_by="eve"), key("huda", "auditor", made_by="eve")]) == Vouchers()
    said = {"made_by": ["amal"], "alone": ["amal"]}
    assert not counts(said, ["lina", "amal"])
    assert not counts(said, ["lina"], "amal")
    assert counts(said, ["lina"], "noura")
    assert counts({**said, "alone": []}, ["lina"], "amal")
    assert counts({}, ["lina"], "amal"), "whoever comes by a provider was made by nobody here"


NAMES = st.sampled_from(["amal", "bob", "huda", "omar", "noura"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "confirm", "revoke"]), NAMES, NAMES,
        st.sets(st.sampled_from(["operator", *sorted(WATCHING)]), min_size=1), st.integers(0, 9),
    ),
    max_size=30,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_whoever_only_makes_and_revokes_keys_never_opens_one_that_judges_others_once_there_is_a_judge(steps: list[Any]) -> None:
    """Operators (amal, bob) against one person, huda, who confirms nothing: whatever they do, no other key opens."""
    keys: list[dict[str, Any]] = [key("huda", "approver", id="k0", made_by="setup")]
    for what, who, name, roles, place in steps:
        by = Actor("amal" if who == "huda" else who, "person", ("operator",))
        if what == "create":
            standing = standing_of(roles, keys, is_provided=False)
            keys.append(key(name, *sorted(roles), standing=standing, id=f"k{len(keys)}", made_by=by.name))
        elif what == "revoke" and not is_last(keys[place % len(keys)], keys):
            keys[place % len(keys)]["revoked_at"] = "2026-05-01"
        elif what == "confirm":
            found = keys[place % len(keys)]
            # Whoever holds a key that opens may try, with the roles that it has, the operators' own puppets as well.
            holder = keys[len(roles) % len(keys)]
            asking = Actor(holder["name"], "person", tuple(holder["roles"]) if opens(holder) else ("operator",))
            if holder["id"] != "k0" and found["standing"] in (PENDING, FIRST) and may_confirm(asking, found).passed:
                found["standing"] = standing_after(asking, found, keys)
    assert [one["id"] for one in keys if is_held(one)] == ["k0"]
