from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.stages.privacy.periods import NEVER, Bound, Period, bound, period

PERIODS = st.builds(Period, st.integers(0, 1200), st.integers(0, 40_000))
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("25y", Period(300)),
        ("6m", Period(6)),
        ("2mo", Period(2)),
        ("90d", Period(0, 90)),
        ("5y90d", Period(60, 90)),
        ("1y6m", Period(18)),
        ("forever", Period(is_forever=True)),
    ],
)
def test_a_period_is_of_the_calendar(text: str, wanted: Period) -> None:
    assert period(text) == wanted


@pytest.mark.parametrize(
    "text", ["", " ", "5", "y", "-5y", "5h", "5y 3x", "1e3d", "٥y", "99999y", "5d5y", None, 5, ["5y"], "forever!"]
)
def test_anything_else_is_none(text: Any) -> None:
    with pytest.raises(InvalidInput):
        period(text)


@given(PERIODS)
def test_a_period_is_read_back_as_it_is_written(given_one: Period) -> None:
    assert period(str(given_one)) == given_one


def test_a_bound_says_from_when_it_runs() -> None:
    assert bound("life_of_model + 5y") == Bound(Period(60), "life_of_model")
    assert bound("5y", "relationship_end") == Bound(Period(60), "relationship_end")
    for text in ("tomorrow + 5y", "life_of_model + ", "+ 5y", "created + 5y + 5y"):
        with pytest.raises(InvalidInput):
            bound(text)


def test_where_a_month_is_too_short_both_ends_are_read_strictly() -> None:
    assert Period(12).after(at("2024-02-29"), is_floor=True) == at("2025-03-01")
    assert Period(12).after(at("2024-02-29"), is_floor=False) == at("2025-02-28")
    assert Period(1).after(at("2026-01-31"), is_floor=True) == at("2026-03-01")
    assert Period(1).after(at("2026-01-31"), is_floor=False) == at("2026-02-28")
    assert Period(300).after(at("2026-01-15"), is_floor=True) == at("2051-01-15")


@given(PERIODS, TIMES)
def test_a_floor_never_ends_before_a_ceiling_of_the_same_length(length: Period, start: datetime) -> None:
    floor, ceiling = (length.after(start, is_floor=is_floor) for is_floor in (True, False))
    assert start <= ceiling <= floor <= ceiling + timedelta(days=1)


@given(PERIODS, TIMES, TIMES)
def test_a_later_start_never_ends_earlier(length: Period, one: datetime, other: datetime) -> None:
    first, last = sorted((one, other))
    for is_floor in (True, False):
        assert length.after(first, is_floor=is_floor) <= length.after(last, is_floor=is_floor) + timedelta(days=1)


def test_what_ends_beyond_the_calendar_never_ends() -> None:
    for length in (Period(is_forever=True), Period(99_999), Period(0, 999_999), Period(12 * 7990)):
        assert length.after(at("2026-01-15"), is_floor=True) == NEVER or length == Period(0, 999_999)
    assert Period(0, 999_999).after(at("9000-01-15"), is_floor=True) == NEVER
