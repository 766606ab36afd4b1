"""The summary on the terminal: the same story as the report's, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from falaj.console.charts import day, minute, number
from falaj.console.headline import headline, outcome_line, tiles
from falaj.console.panels import outcome, short
from falaj.console.story import Story, story_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_COLOURS = {"good": "green", "bad": "red", "warn": "yellow", "info": "cyan", "": "default"}


def summary(app: Any) -> RenderableType:
    """The summary of an open app, as rich shows it."""
    return summary_of(story_of(app))


def summary_of(story: Story) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble((f"{story.project}", "bold"), (f"  {day(story.since)} to {day(story.until)}\n", "dim"), headline(story))
    parts: list[RenderableType] = [head, Text(""), _figures(story)]
    for watched in story.endpoints:
        parts += [Text(f"\n{watched.name}", style="bold"), _happened(story, watched.name)]
    if story.alarms:
        parts += [Text("\nalerts", style="bold"), _alarms(story)]
    parts += [Text("\ndata", style="bold"), _data(story)]
    return Group(*parts)


def _plain() -> Table:
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))


def _figures(story: Story) -> RenderableType:
    from rich.text import Text

    table = _plain()
    found = tiles(story)
    table.add_row(*(Text(tile.name, style="dim") for tile in found))
    table.add_row(*(Text(tile.value, style=f"bold {_COLOURS[tile.kind]}") for tile in found))
    table.add_row(*(Text(tile.more, style="dim") for tile in found))
    return table


def _happened(story: Story, name: str) -> RenderableType:
    """Releases, rollouts, drift, decay and retrains, in the order of time."""
    from rich.text import Text

    watched = next(w for w in story.endpoints if w.name == name)
    lines = [(s.since, f"{short(s.model)} serves", "bold") for s in watched.served]
    for episode in watched.episodes:
        at = episode.ended or episode.started
        lines.append((at, f"{short(episode.challenger)}: {outcome_line(episode)}", _COLOURS[outcome(episode)[0]]))
    lines += [(mark.at, f"{mark.kind}: {mark.text}", "default") for mark in watched.marks]
    table = _plain()
    for at, said, style in sorted(lines, key=lambda found: found[0]):
        table.add_row(Text(minute(at), style="dim"), Text(said, style=style))
    return table


def _alarms(story: Story) -> RenderableType:
    from rich.text import Text

    table = _plain()
    for alarm in story.alarms:
        style = "red" if alarm.is_open else "dim"
        table.add_row(
            Text(minute(alarm.opened), style="dim"), Text(alarm.state, style=style), Text(alarm.title), Text(f"{alarm.count}×")
        )
    return table


def _data(story: Story) -> RenderableType:
    from rich.text import Text

    table = _plain()
    for intake in story.intakes:
        kept_out = f"{number(intake.quarantined)} in quarantine" if intake.quarantined else ""
        why = ", ".join(f"{reason} ({count})" for reason, count in intake.reasons[:3])
        told = (Text(why, style="dim"), Text(intake.refused, style="red"))
        table.add_row(intake.dataset, f"{number(intake.rows)} rows", kept_out, *told)
    return table
