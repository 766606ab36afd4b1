"""Whom no endpoint may be asked about: the same as the records say, however it was come to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.privacy.consent import excluded
from falaj.stages.privacy.excluding import Excluding
from tests.kits.rollouts import T0

DPO = Actor("dana", "person", ("dpo",))
TOKENS, PURPOSES = ["a" * 64, "b" * 64, "c" * 64], ["serving", "care"]
step = st.tuples(
    st.sampled_from(["given", "withdrawn", "restricted", "free", "look", "sign"]), st.integers(0, 2), st.integers(0, 1)
)


def write(ledger: MemoryLedger, verb: str, token: str, change: Change) -> None:
    with ledger.transaction() as tx:
        tx.append(Event(verb, Ref("subject", token), DPO, T0, {}, (change,)))


@given(st.lists(step, max_size=25))
def test_it_follows_the_records_from_wherever_it_began(steps: list[tuple[str, int, int]]) -> None:
    ledger = MemoryLedger()
    early = Excluding(ledger)
    for what, who, why in steps:
        token, purpose = TOKENS[who], PURPOSES[why]
        body: Any = {"token": token, "purpose": purpose, "state": what}
        if what in ("given", "withdrawn"):
            write(ledger, "subject.consent", token, Change("consent", f"{token}|{purpose}", body))
        elif what in ("restricted", "free"):
            write(ledger, "subject.restrict", token, Change("restricted", token, body if what == "restricted" else None))
        elif what == "sign":
            ledger.checkpoint()
        else:
            early.of(PURPOSES)
    for purposes in (["serving"], ["care"], PURPOSES, []):
        restricted = {key for key, _ in ledger.find("restricted")}
        wanted = restricted.union(*(excluded(ledger, purpose) for purpose in purposes))
        assert early.of(purposes) == Excluding(ledger).of(purposes) == wanted


def test_whoever_was_erased_is_not_in_it() -> None:
    ledger = MemoryLedger()
    write(ledger, "subject.erase", TOKENS[0], Change("erased", TOKENS[0], {"token": TOKENS[0]}))
    assert Excluding(ledger).of(PURPOSES) == frozenset()
