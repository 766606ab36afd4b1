"""A rollout's decisions, in their order, and that they do not depend on how blocks arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.codec import canonical, decode, encode
from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput
from falaj.core.moments import millis
from falaj.core.ref import Ref
from falaj.stages.rollouts.rules import Block, Status, advance, begin, feed
from falaj.stages.rollouts.spec import Canary

T0 = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ROLLOUT = Ref("rollout", "delay", "1")
PLAN = Canary(steps=(0.1, 0.5), guards=("wrong", "failure"), step_units=50, step_time="1d", max_time="60d")


def block(guard: str, step: int, day: int, units: tuple[int, int], bad: tuple[int, int]) -> Block:
    return Block(guard, step, millis(T0 + day * DAY), millis(T0 + (day + 1) * DAY), units, bad, units)


def run(
    plan: Canary, rates: tuple[float, float], days: int, *, seed: int = 0, failures: float = 0.0
) -> tuple[Status, list[Decision]]:
    """Lives a rollout day by day, with 1000 units a day."""
    rng = np.random.default_rng(seed)
    status, decisions = begin(plan, T0), []
    for day in range(days):
        share = status.share
        n_b = int(rng.binomial(1000, share))
        n = (1000 - n_b, n_b)
        wrong = (int(rng.binomial(n[0], rates[0])), int(rng.binomial(n_b, rates[1])))
        fails = (0, int(rng.binomial(n_b, failures)))
        blocks = [block("wrong", status.step, day, n, wrong), block("failure", status.step, day, n, fails)]
        status, decision = advance(plan, status, blocks, T0 + (day + 1) * DAY, subject=ROLLOUT)
        decisions.append(decision)
        if not status.is_live:
            break
    return status, decisions


def test_a_good_challenger_climbs_every_step_and_is_promoted() -> None:
    status, decisions = run(PLAN, (0.2, 0.18), 40)
    assert status.state == "promoted"
    assert status.share == 1.0
    assert [epoch.share for epoch in status.epochs] == [0.1, 0.5]
    assert decisions[-1].verdict == "allow"
    assert all(check.passed for check in decisions[-1].checks)


def test_a_bad_challenger_is_taken_back_with_its_figures() -> None:
    status, decisions = run(PLAN, (0.2, 0.35), 40)
    assert status.state == "rolled_back"
    assert status.share == 0.0
    assert decisions[-1].verdict == "deny"
    assert [check.name for check in decisions[-1].failed] == ["wrong: harm"]
    assert "E = " in decisions[-1].failed[0].seen


def test_a_challenger_that_fails_is_taken_back_even_when_retries_bend_the_split() -> None:
    status = begin(PLAN, T0)
    blocks = [block("failure", 0, day, (900, 400), (0, 300)) for day in range(4)]
    status, decision = advance(PLAN, status, blocks, T0 + 4 * DAY, subject=ROLLOUT)
    assert status.state == "rolled_back"
    assert "failure" in decision.reason


def test_a_bent_split_holds() -> None:
    blocks = [block(guard, 0, day, (900, 300), (90, 30)) for day in range(4) for guard in PLAN.guards]
    status, decision = advance(PLAN, begin(PLAN, T0), blocks, T0 + 4 * DAY, subject=ROLLOUT)
    assert (status.state, decision.verdict) == ("held", "hold")
    assert "split" in [check.name for check in decision.failed]


def test_labels_that_come_for_one_arm_only_hold_too() -> None:
    wrong = [replace(block("wrong", 0, day, (900, 30), (90, 3)), assigned=(900, 100)) for day in range(9)]
    plan = replace(PLAN, guards=("wrong",))
    status, decision = advance(plan, begin(plan, T0), wrong, T0 + 9 * DAY, subject=ROLLOUT)
    assert status.state == "held"
    assert [check.name for check in decision.failed] == ["split of labelled"]


def test_without_data_it_waits_and_never_advances() -> None:
    status, decision = advance(PLAN, begin(PLAN, T0), [], T0 + 30 * DAY, subject=ROLLOUT)
    assert (status.state, status.step, decision.verdict) == ("running", 0, "hold")


def test_after_the_time_allowed_a_person_is_asked() -> None:
    status, decision = advance(PLAN, begin(PLAN, T0), [], T0 + 61 * DAY, subject=ROLLOUT)
    assert (status.state, decision.verdict) == ("held", "hold")
    assert "a person decides" in decision.reason


def test_a_persons_order_comes_first() -> None:
    status, decision = advance(PLAN, begin(PLAN, T0), [], T0 + DAY, subject=ROLLOUT, order="abort")
    assert (status.state, status.share, decision.verdict) == ("aborted", 0.0, "deny")
    assert status.epochs[-1].until == T0 + DAY


def test_the_last_step_is_not_left_without_proof() -> None:
    plan = replace(PLAN, margin={"wrong": 0.002})
    status, decisions = run(plan, (0.2, 0.2), 6)
    assert (status.state, status.step) == ("running", 1)
    assert [c.passed for c in decisions[-1].checks if c.name == "wrong: not worse"] == [None]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(8)), repeats=st.integers(1, 3), cut=st.integers(0, 8))
def test_blocks_count_once_whatever_their_order_and_repetition(order: list[int], repeats: int, cut: int) -> None:
    blocks = [block(guard, 0, day, (90, 10 + day), (9, day)) for day in range(4) for guard in PLAN.guards]
    whole = feed(PLAN, begin(PLAN, T0), blocks)
    again = feed(PLAN, begin(PLAN, T0), [blocks[i] for i in order] * repeats)
    assert again == whole
    # Looking in between changes nothing, as long as earlier blocks are not withheld.
    assert feed(PLAN, feed(PLAN, begin(PLAN, T0), blocks[:cut]), blocks) == whole


def test_the_status_survives_the_ledger_and_stays_small() -> None:
    status, _ = run(PLAN, (0.2, 0.2), 4)
    body = encode(status)
    assert decode(Status, body) == status
    assert len(canonical(body)) < 12_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": (0.5, 0.1)},
        {"steps": ()},
        {"steps": (1.0,)},
        {"error": 0},
        {"guards": ("speed",)},
        {"margin": {"wrong": 0.0}},
        {"tolerance": {"wrong": 0.2}},
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        Canary(**wrong)  # type: ignore[arg-type]
