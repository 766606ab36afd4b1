"""Edit: one change between two contracts, and whom it breaks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    place: str
    what: str
    was: str
    now: str
    breaks: tuple[str, ...]
    """`consumers`, who rely on what was promised; `producers`, whose data must keep it."""
    reason: str
    words_only: bool = False


def nobody(place: str, what: str, was: object, now: object, reason: str) -> Edit:
    return Edit(place, what, str(was), str(now), (), reason)


def wording(place: str, what: str, was: object, now: object, reason: str) -> Edit:
    """It reads otherwise and means the same."""
    return Edit(place, what, str(was), str(now), (), reason, words_only=True)


def consumers(place: str, what: str, was: object, now: object, reason: str) -> Edit:
    return Edit(place, what, str(was), str(now), ("consumers",), reason)


def producers(place: str, what: str, was: object, now: object, reason: str) -> Edit:
    return Edit(place, what, str(was), str(now), ("producers",), reason)


def both(place: str, what: str, was: object, now: object, reason: str) -> Edit:
    return Edit(place, what, str(was), str(now), ("consumers", "producers"), reason)


def sided(place: str, was: object, now: object, *, tightened: bool, loosened: bool) -> Edit:
    """A limit that moved: inwards it asks more of producers, outwards it promises less to consumers."""
    if tightened and loosened:
        return both(place, "limit moved", was, now, "it lets other values in and leaves others out")
    if tightened:
        return producers(place, "limit tightened", was, now, "values that were good are kept out")
    if loosened:
        return consumers(place, "limit loosened", was, now, "values come in that nobody had to expect")
    return wording(place, "limit reworded", was, now, "it means the same")
