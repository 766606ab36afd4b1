from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.moments import from_millis, in_words, iso, length, millis, moment, short

whole = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))


@given(whole)
def test_a_moment_is_read_back_from_its_text_and_its_milliseconds(at: datetime) -> None:
    assert moment(iso(at)) == at
    assert from_millis(millis(at)) == at


@given(st.datetimes(timezones=st.just(UTC)))
def test_the_text_and_the_milliseconds_are_cut_off_alike(at: datetime) -> None:
    assert from_millis(millis(at)) == moment(iso(at)) <= at


def test_the_text_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert iso(datetime(2013, 5, 1, 13, 30, tzinfo=timezone(timedelta(hours=4)))) == "2013-05-01T09:30:00.000Z"
    assert iso(datetime(7, 5, 1, microsecond=999_999, tzinfo=UTC)) == "0007-05-01T00:00:00.999Z"


def test_later_texts_sort_later() -> None:
    assert iso(datetime(999, 12, 31, tzinfo=UTC)) < iso(datetime(1000, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("text", ["2013-05-01T09:30:00Z", "2013-05-01T13:30:00+04:00", "2013-05-01 09:30:00.000Z"])
def test_offsets_are_understood(text: str) -> None:
    assert moment(text) == datetime(2013, 5, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "noon", "2013-05-01", "2013-05-01T09:30:00", "2013-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 7, None]
)
def test_what_is_no_moment_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        moment(text)


def test_a_time_without_a_zone_is_two_times_and_is_not_written() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        iso(datetime(2013, 5, 1))
    with pytest.raises(InvalidInput, match="no time zone"):
        moment(datetime(2013, 5, 1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("30min", 1800),
        ("3h", 10800),
        ("7d", 604800),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("90s", 90),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (" 3 h ", 10800),
    ],
)
def test_lengths(text: str, seconds: float) -> None:
    assert length(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "3", "h", "3y", "-3h", "3h x", "x3h", "3h-1m", "999999999w", 3, None])
def test_what_is_no_length_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        length(text)


@given(st.integers(0, 10**9))
def test_the_short_text_of_a_length_is_read_back(ms: int) -> None:
    span = timedelta(milliseconds=ms)
    assert length(short(span)) == span


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (530712775, "6142d 12h"), (60 * 86400, "60d"), (86405, "1d 5s"), (5400, "1h 30m"), (12, "12s"), (0.25, "250ms"),
        (0, "0s"), (14 * 86400, "14d"),
    ],
)  # fmt: skip
def test_a_reader_is_told_days_not_millions_of_seconds(seconds: float, told: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == told
