"""In an emergency a person takes a role for some hours; every event says so, and somebody else has to look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.local.policy import ROLES, RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, Denied, InvalidInput, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.action import Kernel
from falaj.stages.governance.elevation import LONGEST, REVIEWED_WITHIN, Elevations, elevated, is_live, state_of
from falaj.stages.governance.keys import Keys

T0 = datetime(2026, 5, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALL = Ref("access", "all")
ANNA = Actor("anna", "person", ("ml_engineer",))
AUDITOR = Actor("omar", "person", ("auditor",))


@dataclass
class World:
    now: datetime = T0
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def __post_init__(self) -> None:
        self.kernel = Kernel(self.ledger, RolePolicy(), lambda: self.now)
        self.found = Elevations(self.kernel, lambda: self.now, frozenset({"operator", "ml_engineer"}))

    def take(self, who: Actor = ANNA, **given: Any) -> Ref:
        given = {"roles": ["operator"], "reason": "INC-7: the endpoint is down", "span": HOUR, **given}
        return Ref("access", self.found.elevate(who, ALL, **given)["id"])


@pytest.fixture
def world() -> World:
    return World()


def test_the_role_is_there_from_the_next_call_on_and_gone_at_its_end(world: World) -> None:
    assert world.found.actor(ANNA) == ANNA
    access = world.take()
    acting = world.found.actor(ANNA)
    assert (acting.roles, acting.grant) == (("ml_engineer", "operator"), str(access))
    world.now = T0 + HOUR
    assert world.found.actor(ANNA) == ANNA


def test_every_event_under_it_carries_its_id_and_the_taking_says_why(world: World) -> None:
    access = world.take()
    taken = next(iter(world.ledger.events(verb="access.elevate")))
    assert (taken.subject, taken.actor.grant, taken.facts["reason"]) == (access, "", "INC-7: the endpoint is down")
    Keys(world.kernel, b"p" * 32).create(world.found.actor(ANNA), Ref("key", "bot"), roles=["caller"])
    assert [event.actor.grant for event in world.ledger.events(verb="key.create")] == [str(access)]


def test_it_ends_at_once_by_whoever_took_it_or_whoever_watches_and_by_nobody_else(world: World) -> None:
    access = world.take()
    with pytest.raises(Denied, match="not sara's to end"):
        world.found.revoke(Actor("sara", "person", ("ml_engineer",)), access)
    world.found.revoke(AUDITOR, access, reason="not needed")
    assert world.found.actor(ANNA) == ANNA
    before = len(list(world.ledger.events()))
    world.found.revoke(ANNA, access)
    assert len(list(world.ledger.events())) == before


def test_another_person_reviews_it_in_their_ordinary_role(world: World) -> None:
    access = world.take(Actor("noura", "person", ("approver",)))
    wanted = {"verdict": "justified", "reason": "the log of INC-7 shows it"}
    for wrong in (
        Actor("noura", "person", ("approver",)),
        Actor("bot", "service", ("auditor",)),
        Actor("omar", "person", ("auditor",), grant="access/x"),
    ):
        with pytest.raises(Denied):
            world.found.review(wrong, access, **wanted)
    with pytest.raises(InvalidInput):
        world.found.review(AUDITOR, access, verdict="fine", reason="x")
    with pytest.raises(InvalidInput):
        world.found.review(AUDITOR, access, verdict="justified", reason=" ")
    assert world.found.state(access).verdict == "deny"
    world.found.review(AUDITOR, access, **wanted)
    assert world.found.state(access).verdict == "allow"
    assert world.found.owed() == []
    assert world.found.actor(Actor("noura", "person", ("approver",))).grant == str(access)  # justified: it goes on to its end
    with pytest.raises(Conflict, match="reviewed by omar"):
        world.found.review(AUDITOR, access, **wanted)
    with pytest.raises(NotFound):
        world.found.review(AUDITOR, Ref("access", "nothing"), **wanted)


def test_one_that_was_not_justified_ends_there(world: World) -> None:
    access = world.take()
    world.found.review(AUDITOR, access, verdict="unjustified", reason="there was no incident")
    assert world.found.actor(ANNA) == ANNA


def test_one_that_nobody_reviews_in_time_is_told_and_keeps_its_holder_from_another(world: World) -> None:
    access = world.take()
    with pytest.raises(Conflict, match="under way"):
        world.take()
    world.now = T0 + 2 * HOUR
    second = world.take()
    world.now = T0 + REVIEWED_WITHIN + 3 * HOUR
    (first, other) = world.found.owed()
    assert (first.subject, first.checks[0].seen, other.subject) == (access, "overdue", second)
    assert "nobody has reviewed it within 72 h" in first.reason
    with pytest.raises(Conflict, match="never reviewed"):
        world.take()
    for owed in (access, second):
        world.found.review(AUDITOR, owed, verdict="justified", reason="late")
    assert world.take()


@pytest.mark.parametrize(
    "given",
    [
        {"roles": []},
        {"roles": "operator"},
        {"roles": ["approver"]},
        {"roles": ["operator", "auditor"]},
        {"roles": ["service"]},
        {"span": LONGEST + timedelta(seconds=1)},
        {"span": timedelta(0)},
        {"span": timedelta(hours=-1)},
        {"reason": " "},
        {"reason": "x" * 2001},
    ],
)
def test_what_cannot_be_taken_is_refused_and_leaves_nothing(world: World, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        world.take(**given)
    assert list(world.ledger.events()) == []


def test_a_program_takes_nothing_and_is_given_nothing(world: World) -> None:
    with pytest.raises(Denied, match="no person"):
        world.take(Actor("ci", "service", ("operator",)))
    world.take()
    bot = Actor("anna", "service", ("service",))
    assert world.found.actor(bot) == bot


def test_even_where_a_setting_says_so_nobody_takes_a_role_that_reviews(world: World) -> None:
    wide = Elevations(world.kernel, lambda: world.now, frozenset(ROLES))
    for role in ("approver", "auditor", "dpo"):
        with pytest.raises(InvalidInput):
            wide.elevate(ANNA, ALL, roles=[role], reason="x", span=HOUR)


@given(
    st.integers(-400, 400), st.one_of(st.none(), st.integers(0, 300)), st.sampled_from(["anna", "omar"]),
    st.sampled_from(["person", "service", "system"]),
)  # fmt: skip
def test_nothing_is_given_before_after_or_to_anybody_else(minutes: int, ended: int | None, name: str, kind: str) -> None:
    now = T0 + timedelta(minutes=minutes)
    record = {
        "id": "a", "name": "anna", "roles": ["operator"], "reason": "x", "since": iso(T0), "until": iso(T0 + 4 * HOUR),
        "review_by": iso(T0 + 72 * HOUR), "review": None,
        "ended_at": None if ended is None else iso(T0 + timedelta(minutes=ended)),
    }  # fmt: skip
    actor = Actor(name, kind, ("ml_engineer",))
    found = elevated(actor, record, now)
    if (name, kind) == ("anna", "person") and ended is None and 0 <= minutes < 240:
        assert (found.roles, found.grant) == (("ml_engineer", "operator"), "access/a")
        assert is_live(record, now)
    else:
        assert found == actor
    assert state_of(record, now).verdict == "deny"
