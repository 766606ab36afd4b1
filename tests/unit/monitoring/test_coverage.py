"""How far labels have come, whatever order they came in."""

from __future__ import annotations

from datetime import timedelta

from falaj.core.moments import iso
from falaj.stages.monitoring.coverage import coverage
from tests.unit.monitoring.test_outcomes import DAY, HOUR, MATURITY, T0, label, prediction


def test_predictions_labels_in_time_and_late_ones_are_counted_by_cohort() -> None:
    made = [prediction(row, T0 + (row + 1) * HOUR, f"f-{row}") for row in range(4)]
    said = [
        label(made[0], T0 + 6 * HOUR, 1),
        label("f-1", T0 + 6 * HOUR, 1),
        label(made[2], T0 + DAY + MATURITY + HOUR, 1),
        label(made[0], T0 + 7 * HOUR, None),
        label("nobody", T0 + 6 * HOUR, 1),
    ]
    found = coverage([*said, *made], since=T0, until=T0 + DAY, cohort=DAY, maturity=MATURITY)
    assert found == {
        "cohorts": [{"from": iso(T0), "predictions": 4, "labelled": 2, "in_time": 1}],
        "late": 1,
        "unmatched": 1,
        "withdrawals": 1,
    }


def test_what_lies_outside_the_period_is_left_out() -> None:
    made = [prediction(row, T0 + row * DAY + HOUR, f"f-{row}") for row in range(3)]
    found = coverage([*made, label(made[0], T0 + 2 * HOUR, 1)], since=T0 + DAY, until=T0 + 2 * DAY, cohort=DAY, maturity=MATURITY)
    assert [row["from"] for row in found["cohorts"]] == [iso(T0 + timedelta(days=1))]
