"""Arms to arms: no step moves more units than it must."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import Conflict, InvalidInput
from falaj.inference.router import split_of
from falaj.ports.host import BUCKETS, Arm
from falaj.stages.rollouts.arms import Arms, champion_of, crowned, shared, switched, weighed

NAMES = ("a", "b", "c")


def arm(role: str, version: int, share: float = 0.0) -> Arm:
    return Arm(role, f"model/delay@{version}", "sha256:0", share, f"release/delay@{version}")


START: Arms = (arm("champion", 1, 1.0), *(arm(f"variant-{name}", n) for n, name in enumerate(NAMES, 2)), arm("shadow", 9, 0.5))


def owners(arms: Arms) -> list[str]:
    """Of every bucket the role that has it, as the inference server splits."""
    split = split_of(arms, "s")
    found: list[str] = []
    for end, place in zip((*split.ends, BUCKETS), split.arms, strict=True):
        found += [arms[place].role] * (end - len(found))
    return found


weights = st.lists(st.integers(1, 3333), min_size=3, max_size=3).map(
    lambda counts: {name: n / BUCKETS for name, n in zip(NAMES, counts, strict=True)}
)


@given(st.lists(weights, min_size=2, max_size=4))
@settings(max_examples=40)
def test_weights_are_met_exactly_and_nobody_moves_between_two_variants(changes: list[dict[str, float]]) -> None:
    arms, before = weighed(START, changes[0]), None
    for wanted in changes:
        arms = weighed(arms, wanted)
        seen = owners(arms)
        for name, weight in wanted.items():
            assert seen.count(f"variant-{name}") == round(weight * BUCKETS)
        assert [one.share for one in arms if one.role == f"variant-{name}"] == [weight]
        assert champion_of(arms).share == pytest.approx(1 - sum(wanted.values()), abs=1e-9)
        if before is not None:
            moved = [(b, a) for b, a in zip(before[0], seen, strict=True) if b != a]
            change = [round((wanted[name] - before[1][name]) * BUCKETS) for name in NAMES]
            assert len(moved) <= sum(map(abs, change))
            if sum(n for n in change if n > 0) <= before[0].count("champion"):
                assert all("champion" in pair for pair in moved)
                assert len(moved) == sum(map(abs, change))
        before = (seen, wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"a": 0.1, "b": 0.1},
        {"a": 0.1, "b": 0.1, "d": 0.1},
        {"a": 0.1, "b": 0.1, "c": 0.0},
        {"a": 0.1, "b": 0.1, "c": -1},
        {"a": 0.1, "b": 0.1, "c": float("nan")},
        {"a": 0.1, "b": 0.1, "c": 0.00015},
        {"a": 0.5, "b": 0.5, "c": 0.1},
    ],
)
def test_weights_that_cannot_be_met_are_refused(wanted: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        weighed(START, wanted)


def test_all_units_may_go_to_the_variants() -> None:
    arms = weighed(START, {"a": 0.3, "b": 0.3, "c": 0.4})
    assert champion_of(arms).share == 0
    assert "champion" not in owners(arms)


def test_a_step_of_a_rollout_keeps_standby_and_shadow() -> None:
    arms = (arm("champion", 1, 1.0), arm("standby", 7), arm("challenger", 2), arm("shadow", 9, 0.5))
    assert [(one.role, one.share) for one in shared(arms, 0.25)] == [
        ("champion", 0.75),
        ("challenger", 0.25),
        ("standby", 0.0),
        ("shadow", 0.5),
    ]
    assert [one.model[-1] for one in shared(arms, 1.0)] == ["2", "7", "9"]
    assert [one.model[-1] for one in shared(arms, 0.0)] == ["1", "7", "9"]
    assert shared(arms, 1.0)[0].role == "champion"


def test_to_switch_twice_is_to_change_nothing() -> None:
    arms = (arm("champion", 1, 1.0), arm("shadow", 9, 0.5), arm("standby", 2))
    assert [one.model[-1] for one in switched(arms)] == ["2", "9", "1"]
    assert switched(switched(arms)) == arms
    with pytest.raises(Conflict, match="no standby"):
        switched(arms[:2])


def test_a_model_that_is_the_champion_now_needs_no_shadow_of_itself() -> None:
    assert crowned((arm("champion", 1, 1.0), arm("shadow", 2, 1.0)), arm("variant-b", 2)) == (arm("champion", 2, 1.0),)
