from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from falaj.core.event import Event
from falaj.stages.governance.pulse import check, silences
from falaj.testing.ledger import START, event

MINUTE = timedelta(minutes=1)


def beat(minutes: float, state: str = "on", within_s: object = 300) -> Event:
    facts = {"state": state, "within_s": within_s}
    return replace(event("audit.beat", "ledger/local", **facts), at=START + minutes * MINUTE, seq=int(minutes))


def test_beats_that_keep_their_promise_are_no_silence() -> None:
    assert silences([beat(0, "up"), beat(1), beat(5), beat(10)], START + 12 * MINUTE) == []


def test_a_death_shows_with_the_start_that_ended_it() -> None:
    (found,) = silences([beat(0, "up"), beat(1), beat(60, "up"), beat(61)], START + 62 * MINUTE)
    assert (found.seq, found.until - found.since, found.is_over, found.restarted) == (1, 59 * MINUTE, True, True)
    assert "until it was started again" in str(found)


def test_a_heart_that_stood_still_while_the_system_ran_shows() -> None:
    (found,) = silences([beat(0, "up"), beat(1), beat(20)], START + 21 * MINUTE)
    assert not found.restarted
    assert "while it claimed to run" in str(found)


def test_an_orderly_end_promises_nothing() -> None:
    assert silences([beat(0, "up"), beat(1, "down", 0), beat(9000, "up")], START + 9001 * MINUTE) == []


def test_silence_that_goes_on_shows_too() -> None:
    (found,) = silences([beat(0, "up")], START + 6 * MINUTE)
    assert not found.is_over
    assert check([beat(0, "up")], START + 6 * MINUTE).passed is None


def test_nobody_promised_anything_in_a_ledger_without_beats() -> None:
    assert check([], START).passed is True


def test_a_silence_of_long_ago_is_told_and_no_more() -> None:
    beats = [beat(0, "up"), beat(60, "up"), beat(61, "down", 0)]
    lately, later = check(beats, START + 62 * MINUTE), check(beats, START + timedelta(days=40))
    assert (lately.passed, later.passed) == (None, True)
    assert "1 in all, 0 of them lately" in later.seen


def test_what_is_no_promise_promises_nothing() -> None:
    for odd in (None, "300", True, -5, 1.5, 0):
        assert silences([beat(0, "on", odd)], START + timedelta(days=999)) == []
    assert silences([beat(0, "on", 10**30)], START + timedelta(days=999)) == []
