"""A story in one sentence and five figures, for the report and for the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from falaj.console.charts import day, number, percent
from falaj.console.panels import OUTCOMES, outcome, short
from falaj.console.story import Episode, Story

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure. `kind`: good, bad, warn or nothing."""

    name: str
    value: str
    more: str
    kind: str = ""


def headline(story: Story) -> str:
    """Who serves now, how many models were tried and taken back, and whether the books are right."""
    parts = []
    for watched in story.endpoints:
        if watched.champion is None:
            parts.append(f"Nothing serves {watched.name} yet.")
            continue
        ended = Counter(episode.state for episode in watched.episodes)
        said = [f"{ended[state]} {word}" for state, (_, word) in OUTCOMES.items() if ended[state]]
        if said:
            parts.append(f"{_many(len(watched.episodes), 'new model')} tried on {watched.name}: {', '.join(said)}.")
        parts.append(f"{short(watched.champion.model)} serves now.")
    is_open = sum(alarm.is_open for alarm in story.alarms)
    if story.endpoints:
        parts.append(f"{_many(is_open, 'alert')} open." if is_open else "No alert is open.")
    else:
        parts.append("Nothing is served yet.")
    if story.books.verdict == "deny":
        parts.append("The ledger was CHANGED.")
    return " ".join(parts)


def tiles(story: Story) -> list[Tile]:
    found = []
    for watched in story.endpoints[:1]:
        if watched.champion:
            found.append(Tile("Serving now", short(watched.champion.model), f"since {day(watched.champion.since)}"))
            found.append(_promise(watched.name, story))
    is_open = sum(alarm.is_open for alarm in story.alarms)
    found.append(
        Tile("Alerts", str(len(story.alarms)), f"{is_open} open" if is_open else "all resolved", "bad" if is_open else "")
    )
    rows, kept_out = sum(i.rows for i in story.intakes), sum(i.quarantined for i in story.intakes)
    found.append(Tile("Rows taken in", number(rows), f"{number(kept_out)} in quarantine"))
    said, kind = {"allow": ("whole", "good"), "deny": ("changed", "bad"), "hold": ("not all seen", "warn")}.get(
        story.books.verdict, ("not verified", "warn")
    )
    found.append(Tile("Ledger", said, f"{number(story.books.events)} events", kind))
    return found


def _promise(name: str, story: Story) -> Tile:
    """The champion's newest wrong rate against what it promised."""
    watched = next(w for w in story.endpoints if w.name == name)
    look = next((look for look in reversed(watched.looks) if look.wrong is not None), None)
    if look is None or look.wrong is None:
        return Tile("Wrong rate", "–", "no labels yet")
    promise = next((p for p in reversed(watched.promises) if p.model == look.model), None)
    more = f"promised {percent(round(promise.wrong, 4))}" if promise else "nothing was promised"
    return Tile("Wrong rate, last week", percent(round(look.wrong, 4)), more, "bad" if look.decay == "deny" else "")


def outcome_line(episode: Episode) -> str:
    """How a rollout ended, in a sentence."""
    took = (episode.ended or episode.steps[-1].until) - episode.started
    days = f"{took / _DAY:.0f} days" if took >= 1.5 * _DAY else f"{took / timedelta(hours=1):.0f} hours"
    share = episode.steps[-1].share
    said = outcome(episode)[1]
    return f"{said[0].upper()}{said[1:]} after {days}, at {share:.0%} of the traffic: {episode.reason}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
