"""Times that do not agree with the order of the events are told, and hold the verdict while that is news."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.local.signing import verifier
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.decision import Check
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.stages.action import Act, Kernel
from falaj.stages.governance.audit import Audit
from falaj.stages.governance.clock import TOLERANCE, Clock
from falaj.testing.ledger import START, append, event

DAY = timedelta(days=1)
AMAL = Actor("amal", roles=("auditor",))


def looked(*times: datetime, now: datetime | None = None) -> Check:
    clock = Clock()
    for seq, at in enumerate(times):
        clock.tick(seq, iso(at))
    return clock.check(now or max(times, default=START), DAY)


def after(**length: float) -> datetime:
    return START + timedelta(**length)


@pytest.mark.parametrize("times", [(), (START,), (START, START), (START, after(days=400)), (after(minutes=1), START)])
def test_times_in_order_or_nearly_so_pass(times: tuple[datetime, ...]) -> None:
    assert looked(*times).passed is True


def test_a_step_back_holds_the_verdict_for_a_day_and_is_told_for_ever() -> None:
    times = (START, after(hours=2), after(hours=1), after(hours=3))
    fresh, old = looked(*times), looked(*times, now=after(days=30))
    assert (fresh.passed, old.passed) == (None, True)
    assert fresh.seen == old.seen == "the clock went back once, by 1h at most, first at event 2"


def test_what_follows_a_step_is_measured_by_the_clock_as_it_goes_now() -> None:
    times = [after(days=10), *(after(minutes=n) for n in range(50))]
    assert "went back once" in looked(*times).seen
    assert "went back 2 times, by 10d at most, first at event 1" in looked(*times, after(days=10), after(days=5)).seen


def test_an_event_of_the_future_holds_the_verdict() -> None:
    check = looked(START, after(days=2), now=START)
    assert check.passed is None
    assert "2d in the future" in check.seen
    assert looked(START, after(seconds=30), now=START).passed is True


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_the_first_step_and_their_number_are_those_of_the_plain_rule(seconds: list[int]) -> None:
    times = [START + timedelta(seconds=n) for n in seconds]
    steps, latest = [], START
    for seq, at in enumerate(times):
        if latest - at > TOLERANCE:
            steps.append(seq)
            latest = at
        latest = max(latest, at)
    clock = Clock()
    for seq, at in enumerate(times):
        clock.tick(seq, iso(at))
    assert (clock.steps, clock.first) == (len(steps), steps[0] if steps else -1)


class Hands:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def kernel(hands: Hands) -> Kernel:
    return Kernel(MemoryLedger(), RolePolicy(), hands)


def test_work_that_took_long_is_no_step_back(kernel: Kernel, hands: Hands) -> None:
    """It began before the other event, and came into the ledger after it: both times stand in the event."""
    act = Act(kernel, AMAL, "model.train", Ref("model", "delay"), hands())
    hands.at = after(hours=2)
    append(kernel.ledger, replace(event(), at=hands()))
    hands.at = after(hours=3)
    with act.change():
        pass
    trained = list(kernel.ledger.events())[1]
    assert (trained.at, trained.facts) == (START, {"took_ms": 3 * 3600 * 1000})
    assert audited(kernel).verdict == "allow"


def test_work_during_which_the_clock_went_back_says_so(kernel: Kernel, hands: Hands) -> None:
    act = Act(kernel, AMAL, "model.train", Ref("model", "delay"), hands())
    append(kernel.ledger, replace(event(), at=hands()))
    hands.at = after(hours=-1)
    with act.change():
        pass
    assert list(kernel.ledger.events())[1].facts == {"took_ms": -3600 * 1000}
    decision = audited(kernel)
    assert decision.verdict == "hold"
    assert [check.name for check in decision.checks if check.passed is None] == ["clock"]


def test_what_took_no_time_says_nothing_of_it(kernel: Kernel, hands: Hands) -> None:
    act = Act(kernel, AMAL, "model.train", Ref("model", "delay"), hands())
    hands.at = after(milliseconds=999)
    with act.change() as draft:
        draft.note(n=1)
    assert next(kernel.ledger.events()).facts == {"n": 1}


def audited(kernel: Kernel):  # type: ignore[no-untyped-def]
    ledger = kernel.ledger
    assert isinstance(ledger, MemoryLedger)
    return Audit(kernel, verifier(ledger.vkey)).verify()
