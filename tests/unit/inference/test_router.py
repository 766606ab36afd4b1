"""The split between arms: sticky, nested, exact, the same everywhere, and who may ask for an arm by name."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from falaj.core.actor import Actor
from falaj.core.errors import Denied, InvalidInput, NotFound
from falaj.inference.router import BUCKETS, bucket, insisted, read_arm, shadowed, split_of
from falaj.ports.host import Arm, Runs

UNITS = [f"entity-{n}" for n in range(100_000)]
KNOWN = {
    # unit: its bucket under the salt "salt". They must never change: a unit would change its arm with a new version of falaj.
    "": 5029,
    "f-1": 6588,
    "UA-1545": 8667,
    "فلج": 6674,
}


@dataclass(frozen=True)
class One:
    arm: Arm
    version: str


def arm(role: str, share: float = 0.0, version: int = 1, buckets: Runs = ()) -> Arm:
    return Arm(role, f"model/delay@{version}", "sha256:0", share, f"release/delay@{version}", {}, buckets)


def sides(share: float) -> list[Arm]:
    return [arm("champion", 1 - share), arm("challenger", share, 2)]


def buckets_of(arms: list[Arm]) -> list[int]:
    """Of every bucket the place of its arm."""
    split = split_of(arms, "s")
    owners: list[int] = []
    for end, place in zip((*split.ends, BUCKETS), split.arms, strict=True):
        owners += [place] * (end - len(owners))
    return owners


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40)
def test_a_unit_that_is_in_a_small_share_is_in_every_greater_one(unit: str, one: float, other: float) -> None:
    small, great = sorted((one, other))
    if split_of(sides(small), "s").of(unit) == 1:
        assert split_of(sides(great), "s").of(unit) == 1


@given(st.text(), st.text())
def test_a_unit_keeps_its_bucket(salt: str, unit: str) -> None:
    assert bucket(salt, unit) == bucket(salt, unit)
    assert 0 <= bucket(salt, unit) < BUCKETS


def test_the_bucket_is_the_one_that_is_written_down() -> None:
    for unit, known in KNOWN.items():
        assert bucket("salt", unit) == known
        assert bucket("salt", unit) == int(hashlib.sha256(f"salt{unit}".encode()).hexdigest()[:16], 16) % 10_000


def test_another_process_gives_everybody_the_same_arm() -> None:
    code = """
from falaj.inference.router import split_of
from falaj.ports.host import Arm
arms = [Arm(role, "model/m@1", "", share, "r") for role, share in (("champion", 0.5), ("variant-a", 0.3), ("variant-b", 0.2))]
split = split_of(arms, "a salt")
print("".join(str(split.of(f"entity-{n}")) for n in range(2000)))
"""
    found = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    split = split_of([arm("champion", 0.5), arm("variant-a", 0.3), arm("variant-b", 0.2)], "a salt")
    assert found[0] == found[1]
    assert found[0].strip() == "".join(str(split.of(unit)) for unit in UNITS[:2000])


@pytest.mark.parametrize(
    "shares", [(0.05,), (0.25,), (0.5,), (0.001,), (0.3, 0.2), (0.2, 0.2, 0.2, 0.2), (0.3333, 0.3333, 0.3333)]
)
def test_every_arm_gets_its_share_of_a_hundred_thousand_entities(shares: tuple[float, ...]) -> None:
    """Within five standard deviations of the binomial: one false alarm in two million counts."""
    arms = [arm("champion"), *(arm(f"variant-v{n}", share) for n, share in enumerate(shares))]
    split = split_of(arms, "rollout 1")
    counts = Counter(map(split.of, UNITS))
    for place, share in enumerate((1 - math.fsum(shares), *shares)):
        assert abs(counts[place] - len(UNITS) * share) <= 5 * math.sqrt(len(UNITS) * share * (1 - share)) + 5


def test_two_salts_split_independently() -> None:
    """Pearson's χ² of the table 3 × 3 with 4 degrees of freedom: beyond 23.5 once in ten thousand salts."""
    arms = [arm("champion"), arm("variant-a", 0.2), arm("variant-b", 0.3)]
    one, other = split_of(arms, "rollout 1"), split_of(arms, "rollout 2")
    seen = np.zeros((3, 3))
    for unit in UNITS:
        seen[one.of(unit), other.of(unit)] += 1
    wanted = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / seen.sum()
    assert float(((seen - wanted) ** 2 / wanted).sum()) < 23.5


def test_every_bucket_is_as_likely_as_any_other() -> None:
    """χ² of 100 cells with 99 degrees of freedom: beyond 162 once in ten thousand salts."""
    counts = np.bincount([bucket("a salt", unit) // 100 for unit in UNITS], minlength=100)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 162


@given(st.lists(st.floats(0, 1), max_size=5))
def test_the_shares_are_met_to_half_a_bucket_and_come_to_one(shares: list[float]) -> None:
    assume(not 1 < sum(shares) < 1 + 1e-8)  # so close it may be either
    if sum(shares) > 1:
        with pytest.raises(InvalidInput, match="1 or less"):
            split_of([arm("champion"), *(arm(f"variant-v{n}", share) for n, share in enumerate(shares))], "s")
        return
    counts = Counter(buckets_of([arm("champion"), *(arm(f"variant-v{n}", share) for n, share in enumerate(shares))]))
    assert sum(counts.values()) == BUCKETS
    for place, share in enumerate(shares, start=1):
        assert -len(shares) <= counts[place] - share * BUCKETS <= 0.5


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000))
@settings(max_examples=30)
def test_an_arm_with_buckets_of_its_own_keeps_them_while_another_grows(small: int, more: int, own: int) -> None:
    kept = arm("variant-a", own / BUCKETS, buckets=((100, 100 + own),) if own else ())
    if not own:
        return
    before = buckets_of([arm("champion"), kept, arm("variant-b", small / BUCKETS)])
    after = buckets_of([arm("champion"), kept, arm("variant-b", min(small + more, BUCKETS - own) / BUCKETS)])
    assert {(b, a) for b, a in zip(before, after, strict=True) if b != a} <= {(0, 2)}


def test_standby_and_shadow_answer_nobody() -> None:
    arms = [arm("champion", 1.0), arm("standby", 0.0, 2), arm("shadow", 1.0, 3)]
    assert {split_of(arms, "s").of(unit) for unit in UNITS[:1000]} == {0}


def test_one_arm_takes_all() -> None:
    assert split_of([arm("champion", 1.0)], "s").arms == (0,)
    assert split_of(sides(0.0), "s").arms == (0,)
    assert split_of(sides(1.0), "s").arms == (1,)


@pytest.mark.parametrize(
    "arms",
    [
        [arm("challenger", 1.0)],
        [arm("champion"), arm("champion")],
        [arm("champion"), arm("variant-a", 0.5, buckets=((0, 5),)), arm("variant-b", 0.5, buckets=((4, 9),))],
    ],
)
def test_arms_that_make_no_split_are_refused(arms: list[Arm]) -> None:
    with pytest.raises(InvalidInput):
        split_of(arms, "s")


@pytest.mark.parametrize("role", ["", "champ", "variant-", "variant-A", "variant-a b", "Champion", "variant-" + "x" * 40])
def test_a_role_that_does_not_exist_is_refused(role: str) -> None:
    with pytest.raises(InvalidInput, match="role"):
        arm(role)


def test_a_share_or_a_bucket_outside_of_what_there_is_is_refused() -> None:
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidInput, match="share"):
            arm("challenger", share)
    for runs in (((0, 10_001),), ((5, 5),), ((-1, 3),)):
        with pytest.raises(InvalidInput, match="buckets"):
            arm("variant-a", 0.5, buckets=runs)


def test_a_shadow_gets_copies_of_its_share_whatever_the_arms_do() -> None:
    shadow = arm("shadow", 0.1, 9)
    mine = [shadowed(shadow, unit) for unit in UNITS]
    assert 9_500 < sum(mine) < 10_500
    split = split_of(sides(0.5), "s")
    in_challenger = sum(split.of(unit) for unit, copied in zip(UNITS, mine, strict=True) if copied)
    assert abs(in_challenger / sum(mine) - 0.5) < 0.03
    assert all(shadowed(arm("shadow", 1.0), unit) for unit in UNITS[:100])


ARMS = [One(arm("champion", 0.5, 7), "7"), One(arm("variant-b", 0.5, 8), "8"), One(arm("standby", 0, 8), "8")]
OPS, APP = Actor("ops", "service", ("operator",)), Actor("app", "service", ("caller",))


@pytest.mark.parametrize(
    ("asked", "role"),
    [("standby", "standby"), ("variant-b", "variant-b"), ("7", "champion"), ("8", "variant-b"), ("model/delay@7", "champion")],
)
def test_an_arm_is_asked_for_by_role_version_or_name(asked: str, role: str) -> None:
    assert insisted(ARMS, OPS, read_arm(f" {asked} ")).arm.role == role


def test_who_may_not_force_an_arm_and_an_arm_that_is_not_there_are_refused() -> None:
    with pytest.raises(Denied, match="force"):
        insisted(ARMS, APP, "champion")
    with pytest.raises(NotFound, match="shadow"):
        insisted(ARMS, OPS, "shadow")


@pytest.mark.parametrize("text", ["x" * 201, "a\x00b", "chämpion", "a\nb"])
def test_a_header_that_can_name_no_arm_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="X-Falaj-Arm"):
        read_arm(text)
