"""How long a caller waits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.inference.deadlines import HEADER, LONGEST_S, deadline_in, deadline_of, demand_time
from falaj.inference.errors import Late, body_of

START = 1000.0


def test_the_header_counts_milliseconds_and_the_parameter_microseconds() -> None:
    assert deadline_of({HEADER: b"50"}, None, START, 0.0) == START + 0.05
    assert deadline_of({}, {"timeout": 50}, START, 0.0) == START + 0.00005
    assert deadline_of({HEADER: b"50"}, {"timeout": 20_000}, START, 9.0) == START + 0.02
    assert deadline_of({HEADER: b"10"}, {"timeout": 20_000}, START, 0.0) == START + 0.01


def test_without_a_word_the_setting_holds_and_zero_is_none() -> None:
    assert deadline_of({}, None, START, 2.0) == START + 2.0
    assert deadline_of({}, {}, START, 0.0) == 0.0
    assert deadline_of({}, {"timeout": 0}, START, 0.0) == 0.0


@pytest.mark.parametrize("header", [b"", b"0", b"-1", b"1.5", b"1e3", b"soon", b"9" * 10, "²".encode(), b" 5"])
def test_a_header_that_is_no_time_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidInput, match="X-Request-Timeout-Ms"):
        deadline_of({HEADER: header}, None, START, 0.0)


@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [], {}])
def test_a_parameter_that_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        deadline_of({}, {"timeout": value}, START, 0.0)


def test_a_grpc_deadline_holds_beside_the_parameter() -> None:
    assert deadline_in(None, None, START, 2.0) == START + 2.0
    assert deadline_in(0.5, None, START, 0.1) == START + 0.5
    assert deadline_in(0.5, {"timeout": 1000}, START, 0.0) == START + 0.001
    assert 0.0 < deadline_in(-1.0, None, START, 0.0) - START < 1e-6
    assert deadline_in(1e300, None, START, 0.0) == START + LONGEST_S


@given(st.integers(1, 999_999_999), st.integers(0, 10**12))
def test_a_deadline_lies_ahead_and_not_too_far(header: int, parameter: int) -> None:
    assert START < deadline_of({HEADER: str(header).encode()}, {"timeout": parameter}, START, 0.0) <= START + LONGEST_S


def test_after_the_deadline_the_caller_is_told_that_nothing_was_run() -> None:
    demand_time(0.0, START, START + 1e9)
    demand_time(START + 0.05, START, START + 0.049)
    with pytest.raises(Late, match="within 50 ms") as caught:
        demand_time(START + 0.05, START, START + 0.051)
    error = body_of(caught.value, "/v2/models/delay/infer")
    assert caught.value.http_status == 504
    assert (error["retryable"], error["facts"]) == (True, {"waited_ms": 51.0})
    assert "not run" in error["hint"]
