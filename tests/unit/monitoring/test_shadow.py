"""What a shadow's log says about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import NotFound
from falaj.stages.monitoring.shadow import report_of, wilson


def said(answered: float, score: float, **fields: Any) -> dict[str, Any]:
    body = {
        "kind": "shadow", "of": "p0-0-0-0", "at": "2013-05-01T09:30:00.000Z", "arm": "champion", "against": "model/delay@1",
        "model": "model/delay@2", "answered": answered, "score": score, "diff": score - answered, "ms": 0.2, "usual_ms": None,
    }  # fmt: skip
    return body | fields


def test_a_report_counts_differences_and_changed_decisions() -> None:
    rows = [said(0.4, 0.6, usual_ms=0.1), said(0.6, 0.4, usual_ms=0.1), said(0.7, 0.8), said(0.1, 0.2)]
    found = report_of([{"kind": "prediction"}, *rows], threshold=0.5)
    assert (found["model"], found["rows"], found["against"]) == ("model/delay@2", 4, {"model/delay@1": 4})
    assert (found["decisions"]["changed"], found["decisions"]["to_yes"], found["decisions"]["to_no"]) == (2, 1, 1)
    assert found["difference"]["mean"] == pytest.approx(0.05)
    assert found["difference"]["mean_size"] == pytest.approx(0.15)
    assert found["latency"] == {"ms": 0.2, "usual_ms": 0.1, "compared": 2, "ratio": 2.0}


def test_only_the_champions_answers_are_compared_and_failures_are_counted() -> None:
    rows = [said(0.4, 0.6), said(0.4, 0.6, arm="challenger"), said(0, 0, code="bug")]
    found = report_of(rows, threshold=0.5)
    assert (found["rows"], found["beside"], found["failed"]) == (1, 1, 1)


def test_the_last_shadow_is_meant_unless_another_is_named() -> None:
    rows = [said(0.1, 0.2), said(0.1, 0.4, model="model/delay@3")]
    assert report_of(rows, threshold=0.5)["model"] == "model/delay@3"
    assert report_of(rows, threshold=0.5, model="model/delay@2")["difference"]["mean"] == 0.1
    with pytest.raises(NotFound, match="delay@9"):
        report_of(rows, threshold=0.5, model="model/delay@9")
    with pytest.raises(NotFound):
        report_of([], threshold=0.5)


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857–872, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for count, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_rate_and_narrows_with_more_rows(count: int, of: int) -> None:
    count = min(count, of)
    low, high = wilson(count, of)
    more = wilson(count * 10, of * 10)
    assert low <= count / of + 1e-12
    assert count / of - 1e-12 <= high
    assert more[1] - more[0] < high - low


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    for rate in (0.01, 0.2):
        found = [wilson(int(k), 1000) for k in rng.binomial(1000, rate, 2000)]
        assert 0.93 < np.mean([low <= rate <= high for low, high in found]) < 0.985
