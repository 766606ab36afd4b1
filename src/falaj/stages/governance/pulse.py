"""Pulse: beats that a running system leaves in its ledger, each with a promise of the next, so that silence shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from falaj.core.decision import Check
from falaj.core.event import Event
from falaj.core.moments import in_words, iso

BEAT = "audit.beat"
STATES = ("up", "on", "down")
"""What a beat says: the system starts, runs, or is stopped by somebody's will and promises nothing."""
TOLD_FOR = timedelta(days=30)
"""A silence is held against the ledger for so long; later it is told, and no more."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Between two beats, or since the last, more time than was promised. `seq`: the beat before it."""

    seq: int
    since: datetime
    until: datetime
    is_over: bool
    restarted: bool
    """Whether it ended with a start: the system had died. Else it ran on, and something kept it from beating."""

    def __str__(self) -> str:
        span = f"{in_words(self.until - self.since)} from {iso(self.since)} (event {self.seq})"
        if not self.is_over:
            return f"none since: {span}"
        return f"{span}, until it was started again" if self.restarted else f"{span}, while it claimed to run"


def silences(beats: Iterable[Event], now: datetime) -> list[Silence]:
    """Every silence longer than the beat before it promised. `beats`: the events `audit.beat`, in order."""
    found = list[Silence]()
    last: Event | None = None
    for beat in beats:
        if last is not None and beat.at - last.at > _promise(last):
            found.append(Silence(last.seq, last.at, beat.at, True, beat.facts.get("state") == "up"))
        last = beat
    if last is not None and now - last.at > _promise(last):
        found.append(Silence(last.seq, last.at, now, False, False))
    return found


def check(beats: Iterable[Event], now: datetime) -> Check:
    """Whether the ledger was silent for longer than promised. That has not failed, as machines lose their power; it is held."""
    found = silences(beats, now)
    fresh = [silence for silence in found if now - silence.until < TOLD_FOR]
    wanted = "no silence longer than the beat before it promised"
    if not found:
        return Check("silence", wanted, "none", True)
    longest = max(fresh or found, key=lambda silence: silence.until - silence.since)
    seen = f"{len(found)} in all, {len(fresh)} of them lately; the longest of {'those' if fresh else 'all'}: {longest}"
    return Check("silence", wanted, seen, None if fresh else True)


def _promise(beat: Event) -> timedelta:
    """How long after this beat the next one was promised; where it promises nothing, for ever."""
    within = beat.facts.get("within_s")
    if beat.facts.get("state") == "down" or not isinstance(within, int) or isinstance(within, bool) or within <= 0:
        return timedelta.max
    return timedelta(seconds=min(within, 10**9))
