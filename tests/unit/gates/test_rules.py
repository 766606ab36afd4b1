"""An interval decides, and a gate errs as rarely as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from falaj.core.decision import Check, judge
from falaj.core.errors import InvalidInput
from falaj.stages.gates import rules
from falaj.stages.gates.spec import Gate
from falaj.stages.training.rules import auc

GATE = Gate("delay", auc_floor=0.6, auc_margin=0.01, calibration_ceiling=0.05, brier_margin=0.005, slice_min=200, slice_drop=0.02)


def world(n: int, seed: int = 0, noise: float = 0.0) -> tuple[Any, Any, Any]:
    """Labels, the true chance as champion's score, and the same with noise as the candidate's."""
    chance = np.random.default_rng(seed)
    logit = chance.normal(-0.5, 1.0, n)
    p = 1 / (1 + np.exp(-logit))
    y = (chance.random(n) < p).astype(float)
    return y, p, 1 / (1 + np.exp(-(logit + noise * chance.normal(size=n))))


def named(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def slow_delong(y: Any, scores: list[Any]) -> Any:
    """The covariance from its definition, pair by pair."""
    ones, zeros = y > 0.5, y <= 0.5
    psi = [(s[ones][:, None] > s[zeros]) + 0.5 * (s[ones][:, None] == s[zeros]) for s in scores]
    v10, v01 = np.array([m.mean(axis=1) for m in psi]), np.array([m.mean(axis=0) for m in psi])
    return np.cov(v10) / ones.sum() + np.cov(v01) / zeros.sum()


def test_delong_by_ranks_is_delong_by_pairs() -> None:
    y, champion, candidate = world(300, noise=0.7)
    scores = [np.round(candidate, 1), np.round(champion, 1)]  # with many ties
    areas, covariance = rules.delong(y, scores)
    assert areas.tolist() == pytest.approx([auc(y, score) for score in scores])
    assert covariance == pytest.approx(slow_delong(y, scores))


def test_the_auc_interval_covers_as_often_as_it_says() -> None:
    truth = float(np.mean([auc(*world(20_000, seed)[:2]) for seed in range(3)]))
    found = [rules.auc_interval(*world(600, seed)[:2], 0.95) for seed in range(300)]
    assert 0.91 <= np.mean([interval.low <= truth <= interval.high for interval in found]) <= 0.99


def test_a_pair_sees_more_than_two_singles() -> None:
    y, champion, candidate = world(3000, noise=0.2)
    paired = rules.auc_difference(y, candidate, champion, 0.95)
    alone = rules.auc_interval(y, candidate, 0.95)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_the_champion_itself_passes_every_gate() -> None:
    y, champion, _ = world(8000)
    assert judge(rules.checks(GATE, y, champion, champion)) == "allow"


def test_a_clear_loss_fails_and_too_few_rows_say_nothing() -> None:
    y, champion, candidate = world(20_000, noise=1.5)
    found = named(rules.checks(GATE, y, candidate, champion))
    assert found["roc_auc_vs_champion"].passed is False
    assert found["brier_vs_champion"].passed is False
    y, champion, candidate = world(120, noise=0.3)
    assert named(rules.checks(GATE, y, candidate, champion))["roc_auc_vs_champion"].passed is None


def test_the_floor_has_three_answers() -> None:
    y, champion, _ = world(5000)
    area = auc(y, champion)
    for floor, answer in ((area - 0.05, True), (area, None), (area + 0.05, False)):
        assert named(rules.checks(replace(GATE, auc_floor=floor), y, champion, None))["roc_auc"].passed is answer


def test_a_score_that_promises_too_much_is_not_calibrated() -> None:
    y, champion, _ = world(8000)
    assert named(rules.checks(GATE, y, np.sqrt(champion), None))["calibration_error"].passed is False


def test_rows_of_one_label_say_nothing() -> None:
    assert judge(rules.checks(GATE, np.zeros(50), np.full(50, 0.2), None)) == "hold"


def sliced(y: Any, scores: tuple[Any, Any], names: Any) -> Check:
    (check,) = rules.slice_checks(GATE, "carrier", names.tolist(), y, scores)
    return check


def test_one_bad_slice_among_many_is_found_and_named() -> None:
    y, champion, candidate = world(12_000)
    names = np.array(["AA", "B6", "DL", "EV", "UA", "WN"])[np.arange(12_000) % 6]
    candidate = np.where(names == "EV", 1 - champion, champion)
    check = sliced(y, (candidate, champion), names)
    assert check.passed is False
    assert "EV" in check.seen


def test_twenty_slices_of_an_equal_model_rarely_fail() -> None:
    """Without Holm's correction, one of twenty would fail in most of these."""
    failed = 0
    for seed in range(60):
        y, champion, candidate = world(8000, seed, noise=0.3)
        names = np.array([f"s{k}" for k in np.random.default_rng(seed).integers(0, 20, 8000)])
        failed += sliced(y, (candidate, champion), names).passed is False
    assert failed <= 6


def test_small_slices_are_not_judged() -> None:
    y, champion, _ = world(300)
    names = np.array([f"s{k}" for k in np.arange(300) % 10])
    assert "none is large enough" in sliced(y, (1 - champion, champion), names).seen


def test_a_first_model_must_not_do_worse_than_guessing_in_any_slice() -> None:
    y, p, _ = world(4000)
    names = np.array(["in", "out"])[np.arange(4000) % 2]
    assert sliced(y, (p, None), names).passed is True
    assert sliced(y, (np.where(names == "out", 1 - p, p), None), names).passed is False


@pytest.mark.parametrize(
    ("seen", "name"),
    [({"parity": 1e-3}, "onnx_parity"), ({"p99_ms": 80.0}, "latency_p99"), ({"size": 10**9}, "size")],
)
def test_a_promise_that_is_broken_is_named(seen: dict[str, Any], name: str) -> None:
    found = rules.promise_checks(GATE, **{"parity": 1e-7, "p99_ms": 0.1, "size": 1000, **seen})
    assert [check.name for check in found if check.passed is False] == [name]


def test_a_gate_with_impossible_bounds_is_refused() -> None:
    with pytest.raises(InvalidInput, match="confidence"):
        Gate("delay", confidence=0.2)
    with pytest.raises(InvalidInput, match="negative"):
        Gate("delay", auc_margin=-0.1)
