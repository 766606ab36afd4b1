"""The split between champion and challenger."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from falaj.inference.router import BUCKETS, bucket, choose


@dataclass(frozen=True)
class Side:
    role: str
    share: float


def sides(share: float) -> list[Side]:
    return [Side("champion", 1 - share), Side("challenger", share)]


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_unit_that_is_in_a_small_share_is_in_every_greater_one(unit: str, one: float, other: float) -> None:
    small, great = sorted((one, other))
    if choose(sides(small), "s", unit).role == "challenger":
        assert choose(sides(great), "s", unit).role == "challenger"


@given(st.text(), st.text())
def test_a_unit_keeps_its_bucket(salt: str, unit: str) -> None:
    assert bucket(salt, unit) == bucket(salt, unit)
    assert 0 <= bucket(salt, unit) < BUCKETS


def test_the_bucket_is_the_one_that_is_written_down() -> None:
    import hashlib

    assert bucket("salt", "f-1") == int(hashlib.sha256(b"saltf-1").hexdigest()[:16], 16) % 10_000


def test_the_share_is_met() -> None:
    found = sum(choose(sides(0.25), "s", f"unit-{n}").role == "challenger" for n in range(20_000))
    assert 4_700 < found < 5_300


def test_another_salt_splits_anew() -> None:
    both = sum(bucket("a", f"{n}") < 1000 and bucket("b", f"{n}") < 1000 for n in range(20_000))
    assert 130 < both < 270


def test_one_arm_takes_all() -> None:
    assert choose([Side("champion", 1.0)], "s", "u").role == "champion"
    assert all(choose(sides(0.0), "s", f"{n}").role == "champion" for n in range(1000))
    assert all(choose(sides(1.0), "s", f"{n}").role == "challenger" for n in range(1000))
