"""Whoever guesses has to wait, whoever is known does not, and what is remembered has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.api.attempts import BURST, EVERY_S, GOOD, PEERS, Attempts, TooManyAttempts, peer_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def attempts() -> tuple[Attempts, Clock]:
    clock = Clock()
    return Attempts(clock, b"s" * 32), clock


def guess(found: Attempts, peer: str, times: int, start: int = 0) -> int:
    """How many of these guesses were looked at."""
    seen = 0
    for n in range(start, start + times):
        try:
            found.admit(peer, f"guess-{n}")
        except TooManyAttempts:
            continue
        seen += 1
        found.failed(peer, f"guess-{n}")
    return seen


def test_after_a_burst_one_guess_is_looked_at_in_a_while() -> None:
    found, clock = attempts()
    assert guess(found, "10.0.0.1", 1000) == BURST
    clock.now += EVERY_S
    assert guess(found, "10.0.0.1", 1000) == 1
    clock.now += 1e9
    assert guess(found, "10.0.0.1", 1000) == BURST


def test_another_address_and_whoever_was_known_before_need_not_wait() -> None:
    found, _ = attempts()
    found.succeeded("good")
    guess(found, "10.0.0.1", 100)
    found.admit("10.0.0.1", "good")
    found.admit("10.0.0.2", "guess")
    with pytest.raises(TooManyAttempts) as caught:
        found.admit("10.0.0.1", "good2")
    assert (caught.value.http_status, caught.value.retryable) == (429, True)


def test_what_was_good_and_was_taken_back_waits_like_any_other() -> None:
    found, _ = attempts()
    found.succeeded("good")
    guess(found, "p", 100)
    found.admit("p", "good")
    found.failed("p", "good")
    with pytest.raises(TooManyAttempts):
        found.admit("p", "good")


def test_memory_has_a_bound_and_holds_no_credential() -> None:
    found, _ = attempts()
    for n in range(PEERS + 500):
        found.failed(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "x")
        found.succeeded(f"secret-{n}")
    assert (len(found._peers), len(found._good)) == (PEERS, GOOD)
    assert "secret" not in repr(found) + repr(list(found._good))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_one_network_of_version_6_is_one_peer(one: str, other: str) -> None:
    assert peer_of(one) == peer_of(other)
    assert peer_of("2001:db8:1:2::1") != peer_of("2001:db8:1:3::1")


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 30)), max_size=20))
def test_over_any_time_no_more_are_looked_at_than_the_rate_allows(waits: list[tuple[float, int]]) -> None:
    found, clock = attempts()
    seen = total = 0
    for wait, times in waits:
        clock.now += wait
        seen += guess(found, "p", times, total)
        total += times
    assert seen <= BURST + clock.now / EVERY_S + 1e-6
