from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.decision import Check, Decision, judge
from falaj.core.ref import Ref


def check(passed: bool | None) -> Check:
    return Check("c", "x", "y", passed)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ([], "hold"),
        ([True], "allow"),
        ([None], "hold"),
        ([False], "deny"),
        ([True, None], "hold"),
        ([None, False], "deny"),
        ([True, True], "allow"),
    ],
)
def test_the_verdict_follows_from_the_checks(seen: list[bool | None], verdict: str) -> None:
    assert judge(check(passed) for passed in seen) == verdict


@given(st.lists(st.sampled_from([True, False, None])), st.sampled_from([False, None]))
def test_one_more_doubt_never_helps(seen: list[bool | None], doubt: bool | None) -> None:
    order = {"deny": 0, "hold": 1, "allow": 2}
    assert order[judge(map(check, [*seen, doubt]))] <= order[judge(map(check, seen))]


def test_a_decision_shows_what_failed() -> None:
    checks = (check(True), check(False), check(None))
    decision = Decision(Ref("model", "delay"), "gate", judge(checks), checks)
    assert not decision.allowed
    assert decision.failed == (checks[1],)
