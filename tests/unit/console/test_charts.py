"""Charts are well-formed, stay inside their frames, and label what can be labelled."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.console import charts
from falaj.console.charts import Times, Values, apart, around, nice, percent, power
from falaj.console.panels import heat_step, weekly, wilson
from falaj.console.story import Look

START = datetime(2013, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@given(days=st.floats(0.1, 4000), width=st.floats(60, 1200))
def test_ticks_of_time_lie_inside_in_order_and_do_not_crowd(days: float, width: float) -> None:
    times = Times(START, START + days * DAY, 40, 40 + width)
    ticks = [at for at, _ in times.ticks()]
    assert ticks == sorted(set(ticks))
    assert all(START <= at <= times.until for at in ticks)
    assert len(ticks) <= max(int(width / 64), 2) + 2


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6), about=st.integers(1, 8))
def test_ticks_of_values_lie_inside_and_are_not_too_many(low: float, span: float, about: int) -> None:
    values = Values(low, low + span, 100, 0)
    ticks = values.ticks(about)
    assert all(low - 1e-6 * (abs(low) + span) <= tick <= low + span + 1e-6 * (abs(low) + span) for tick in ticks)
    assert len(ticks) <= about + 2


@given(st.floats(1e-12, 1e12))
def test_a_nice_step_is_not_smaller_and_at_most_ten_times_as_large(step: float) -> None:
    assert step * (1 - 1e-6) <= nice(step) <= 10 * step


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_move_apart_and_stay_inside(wanted: list[float]) -> None:
    placed = sorted(apart(wanted, 13, 0, 100))
    assert all(b - a >= 13 - 1e-9 for a, b in pairwise(placed))
    assert placed[-1] <= 100 + 1e-9


def test_values_outside_are_drawn_at_the_edge() -> None:
    values = Values(0, 1, 100, 20)
    assert (values(-5), values(0.5), values(9)) == (100, 60, 20)


def test_the_range_of_no_values_is_a_range() -> None:
    assert around([]) != around([3.0])
    low, high = around([3.0])
    assert low < 3.0 < high
    assert around([5.0, 7.0], zero=True)[0] == 0.0


def test_whatever_is_written_is_escaped() -> None:
    drawn = charts.svg(
        (10, 10), "<b>", 'a "quote" & more', [charts.text(0, 0, "<script>"), charts.box(0, 0, 1, 1, kind="k", said="<i>")]
    )
    root = ET.fromstring(drawn)
    assert [element.text for element in root.iter() if element.text] == ["<b>", 'a "quote" & more', "<script>", "<i>"]


@pytest.mark.parametrize(("value", "said"), [(0.2, "20 %"), (0.1234, "12.3 %"), (0.00118, "0.118 %"), (0, "0 %")])
def test_rates_are_percentages(value: float, said: str) -> None:
    assert percent(value) == said


@pytest.mark.parametrize(("exponent", "said"), [(-1, "0.1"), (0, "1"), (3, "1000"), (4, "10⁴"), (12, "10¹²"), (-5, "10⁻⁵")])
def test_large_powers_are_written_as_powers(exponent: float, said: str) -> None:
    assert power(exponent) == said


@given(units=st.integers(0, 10_000), part=st.floats(0, 1))
def test_an_interval_holds_its_rate(units: int, part: float) -> None:
    low, rate, high = wilson(round(units * part), units)
    assert 0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1


def test_colours_step_at_the_borders() -> None:
    assert [heat_step(distance) for distance in (0.0, 0.0019, 0.002, 0.03, 9.0)] == [0, 0, 1, 4, 5]


def test_one_point_a_week_and_model_is_shown_and_none_that_overlaps() -> None:
    def look(day: int, model: str) -> Look:
        nothing: dict[str, float | None] = {}
        return Look(START + day * DAY, model, 1, "allow", "allow", None, nothing, 0, None, None, None, None, None, None, ())

    looks = [look(day, "a") for day in range(1, 22)] + [look(day, "b") for day in range(22, 40)]
    shown = weekly(looks)
    assert [(seen.model, (seen.at - START).days) for seen in shown] == [
        ("a", 5),
        ("a", 12),
        ("a", 21),
        ("b", 26),
        ("b", 33),
        ("b", 39),
    ]
