"""The statistics of a rollout keep their word: by enumeration where that is possible, by simulation where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.stages.rollouts import eprocess
from falaj.stages.rollouts.eprocess import Side

ALPHA = 0.05


def binomial(n: int, rate: float) -> np.ndarray:
    return np.array([math.comb(n, x) * rate**x * (1 - rate) ** (n - x) for x in range(n + 1)])


def expectation(
    guess: tuple[float, float], sizes: tuple[int, int], truth: tuple[float, float], *, side: Side, delta: float
) -> float:
    """E[e] of one block, over every outcome that it can have."""
    (p, q), (n_a, n_b) = guess, sizes
    weights = np.outer(binomial(n_a, truth[0]), binomial(n_b, truth[1]))
    factors = [
        [math.exp(eprocess.log_factor(p, q, sizes, (x_a, x_b), side=side, delta=delta)) for x_b in range(n_b + 1)]
        for x_a in range(n_a + 1)
    ]
    return float((weights * np.array(factors)).sum())


rates = st.floats(0.001, 0.999)


@settings(max_examples=250, deadline=None)
@given(
    guess=st.tuples(rates, rates),
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    base=rates,
    gap=st.floats(0, 1),
    delta=st.sampled_from([0.0, 0.0, 0.01, 0.05, 0.2, -0.03]),
    side=st.sampled_from(["harm", "inferior"]),
)
def test_no_null_expects_more_than_one(
    guess: tuple[float, float], sizes: tuple[int, int], base: float, *, gap: float, delta: float, side: Side
) -> None:
    border = min(max(base + delta, 0.0), 1.0)
    if side == "harm":
        other = border * (1 - gap) if base + delta <= 1 else base * (1 - gap)
        other = min(other, base + delta)
    else:
        other = border + gap * (1 - border)
    if not 0 <= other <= 1 or (other > base + delta if side == "harm" else other < base + delta):
        return
    assert expectation(guess, sizes, (base, other), side=side, delta=delta) <= 1 + 1e-9


def test_the_mixture_expects_at_most_one_after_any_past() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        side: Side = "harm" if rng.random() < 0.5 else "inferior"
        delta = float(rng.choice([0.0, 0.03]))
        past = eprocess.begin()
        for _ in range(3):
            n = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
            past = eprocess.update(
                past, n, (int(rng.integers(0, n[0] + 1)), int(rng.integers(0, n[1] + 1))), side=side, delta=delta
            )
        base = float(rng.uniform(0.02, 0.9))
        sizes = (4, 6)
        weights = np.outer(binomial(4, base), binomial(6, base + delta))
        after = [
            [eprocess.update(past, sizes, (a, b), side=side, delta=delta).log_e - past.log_e for b in range(7)] for a in range(5)
        ]
        assert float((weights * np.exp(np.array(after))).sum()) <= 1 + 1e-9


def test_the_projection_is_the_minimum() -> None:
    def cost(t: float, p: float, q: float, sizes: tuple[int, int], delta: float) -> float:
        def kl(u: float, v: float) -> float:
            return u * math.log(u / v) + (1 - u) * math.log((1 - u) / (1 - v))

        return sizes[0] * kl(p, t) + sizes[1] * kl(q, t + delta)

    rng = np.random.default_rng(2)
    for _ in range(200):
        p, q, delta = (float(v) for v in (rng.uniform(0.001, 0.999), rng.uniform(0.001, 0.999), rng.uniform(-0.4, 0.4)))
        sizes = (int(rng.integers(1, 1000)), int(rng.integers(1, 1000)))
        t = eprocess.project(p, q, sizes, delta)
        low, high = max(0.0, -delta), min(1.0, 1 - delta)
        least = min(cost(low + (high - low) * i / 2000, p, q, sizes, delta) for i in range(1, 2000))
        assert cost(t, p, q, sizes, delta) <= least + 1e-9


def test_an_empty_arm_and_the_first_block_say_nothing() -> None:
    first = eprocess.update(eprocess.begin(), (50, 50), (1, 40), side="harm", delta=0.0)
    assert first.log_e == 0
    assert eprocess.update(first, (50, 0), (25, 0), side="harm", delta=0.0).log_e == first.log_e


def test_a_process_that_has_not_begun_counts_as_one() -> None:
    evidence = eprocess.begin(3)
    for _ in range(30):
        evidence = eprocess.update(evidence, (100, 100), (10, 2), side="harm", delta=0.0, started=1)
    # Of the first process only the part that follows the data, and bets nothing, is left; the two that wait are whole.
    assert evidence.log_e == pytest.approx(math.log(2 / 3 + 1 / 18), abs=0.01)


def simulate(rng: np.random.Generator, base: np.ndarray, shares: np.ndarray, extra: float, per_block: int) -> float:
    """The greatest log E against harm."""
    evidence = eprocess.begin()
    for rate, share in zip(base, shares, strict=True):
        n_b = int(rng.binomial(per_block, share))
        n = (per_block - n_b, n_b)
        x = (int(rng.binomial(n[0], rate)), int(rng.binomial(n_b, min(rate + extra, 1))))
        evidence = eprocess.update(evidence, n, x, side="harm", delta=0.0)
    return evidence.peak


STEADY = np.full(40, 0.2)
DRIFTING = np.concatenate([np.linspace(0.1, 0.35, 20), np.linspace(0.35, 0.1, 20)])
RAMP = np.repeat([0.05, 0.25, 0.5], [14, 13, 13])


@pytest.mark.parametrize(("base", "shares"), [(STEADY, np.full(40, 0.5)), (DRIFTING, RAMP), (STEADY, RAMP)])
def test_an_equal_challenger_is_rarely_taken_back_however_often_one_looks(base: np.ndarray, shares: np.ndarray) -> None:
    rng, runs = np.random.default_rng(3), 400
    false = sum(simulate(rng, base, shares, 0.0, 200) >= math.log(1 / ALPHA) for _ in range(runs))
    assert false / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_ten_points_more_are_found_within_eight_hundred_units_each() -> None:
    rng = np.random.default_rng(4)
    found = [simulate(rng, np.full(17, 0.2), np.full(17, 0.5), 0.1, 100) >= math.log(3 / ALPHA) for _ in range(60)]
    assert np.mean(found) >= 0.8


def test_the_interval_holds_the_truth_at_every_look_and_narrows() -> None:
    rng, missed, widths = np.random.default_rng(5), 0, []
    for _ in range(40):
        band, ever = eprocess.Band(), False
        for rate in DRIFTING[:25]:
            n = (200, 200)
            band = eprocess.widen(band, n, (int(rng.binomial(200, rate)), int(rng.binomial(200, rate + 0.03))))
            low, high = eprocess.interval(band, ALPHA)
            ever |= not low <= 0.03 <= high
        missed += ever
        widths.append(high - low)
    assert missed / 40 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 40)
    assert np.mean(widths) < 0.12


def test_the_split_test_finds_a_fault_and_leaves_a_fair_split_alone() -> None:
    rng = np.random.default_rng(6)

    def peak(true_share: float) -> float:
        split = eprocess.Split()
        for share in (0.05, 0.25, 0.5):
            for _ in range(20):
                n = int(rng.binomial(300, share * true_share))
                split = eprocess.assign(split, (300 - n, n), share)
        return split.peak

    assert sum(peak(1.0) >= math.log(eprocess.SPLIT_LIMIT) for _ in range(100)) <= 1
    assert sum(peak(0.85) >= math.log(eprocess.SPLIT_LIMIT) for _ in range(20)) >= 18


def test_the_split_test_expects_one() -> None:
    share, n = 0.3, 9
    values = [math.exp(eprocess.assign(eprocess.Split(), (n - x, x), share).log_e) for x in range(n + 1)]
    assert float((binomial(n, share) * np.array(values)).sum()) == pytest.approx(1.0, abs=1e-9)
