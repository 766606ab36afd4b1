"""The report: one HTML page that needs nothing but itself, from the ledger of an open app."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from falaj.console import panels
from falaj.console.charts import day, escape, figure, minute, number
from falaj.console.headline import headline, outcome_line, tiles
from falaj.console.panels import short
from falaj.console.story import Alarm, Episode, Guard, Judged, Story, Watched, story_of
from falaj.console.style import STYLE
from falaj.core.decision import Check

_MARKS = {True: ("good", "✓"), None: ("warn", "○"), False: ("bad", "✗")}
_GUARDS = {
    "wrong": "wrong: on the wrong side of the threshold",
    "failure": "failure: a valid request without a prediction",
    "slow": "slow: slower than the champion used to be",
}


def write_report(app: Any, path: Path) -> Path:
    """Writes the report of an open app and returns where; a file that is there is replaced as a whole."""
    page = page_of(story_of(app))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def page_of(story: Story) -> str:
    """The whole page. Everything from the ledger is escaped, and the page may load nothing from anywhere."""
    hashed = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    body = "".join([_head(story), *(_endpoint(story, watched) for watched in story.endpoints), *_tables(story)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(story.project)}: what happened</title><style>{STYLE}</style></head><body><main>{body}"
        f"<footer>Told from {number(story.books.events)} events of the ledger {escape(_origin(story))}. "
        "Every figure is in a record there; <code>falaj prediction trace</code> goes back from one prediction.</footer>"
        "</main></body></html>\n"
    )


def _head(story: Story) -> str:
    period = f"{day(story.since)} to {day(story.until)}"
    drawn = "".join(
        f'<div class="tile"><span>{escape(tile.name)}</span><b class="{tile.kind}">{escape(tile.value)}</b>'
        f"<span>{escape(tile.more)}</span></div>"
        for tile in tiles(story)
    )
    said = escape(headline(story))
    return (
        f'<header><h1>{escape(story.project)} · {period}</h1><p class="lead">{said}</p><div class="tiles">{drawn}</div></header>'
    )


def _endpoint(story: Story, watched: Watched) -> str:
    parts = [_section(f"What happened on {watched.name}", "", figure(panels.timeline(story, watched)))]
    if watched.episodes:
        note = (
            "Evidence is an e-value: it may be looked at after every block of traffic. Red is evidence of harm, blue that "
            "the challenger is no worse than its margin. Shades are the steps, with the challenger's share of the units."
        )
        parts.append(_section("Rollouts, by their evidence", note, "".join(_episode(episode) for episode in watched.episodes)))
    if any(look.labelled for look in watched.looks):
        key = (
            '<p class="key"><span class="info"><i></i>measured each week, with 95 % interval</span>'
            '<span><i class="dash"></i>promised by the holdout at release</span></p>'
        )
        parts.append(_section("How the models did, once labels were in", "", figure(panels.performance(story, watched)) + key))
    if any(look.inputs for look in watched.looks):
        note = (
            "Jensen–Shannon divergence of each feature against what was normal in training, the largest of each week. "
            "A dot is a drift beyond chance, at the stated budget of false alarms."
        )
        parts.append(_section("How far the inputs moved", note, figure(panels.heat(watched))))
    if watched.looks:
        small = "".join(
            f'<div><h4>{escape(title)}<span class="unit">{escape(unit)}</span></h4>{figure(draw)}</div>'
            for title, unit, draw in panels.machine(story, watched)
        )
        parts.append(_section("Traffic and the machine", "", f'<div class="grid2">{small}</div>'))
    return "".join(parts)


def _episode(episode: Episode) -> str:
    kind, _ = panels.outcome(episode)
    guards = "".join(_guard(episode, guard) for guard in episode.guards)
    checks = _checks(episode.checks)
    more = f"<details><summary>All {len(episode.checks)} checks of the last look</summary>{checks}</details>" if checks else ""
    return (
        f"<h3>{escape(short(episode.challenger))} against {escape(short(episode.champion))}</h3>"
        f'<p><span class="tag {kind}">{escape(outcome_line(episode))}</span></p><div class="grid3">{guards}</div>{more}'
    )


def _guard(episode: Episode, guard: Guard) -> str:
    title = _GUARDS.get(guard.name, guard.name)
    name, _, rest = title.partition(":")
    drawn = panels.evidence(episode, guard) + panels.rates(guard)
    return f'<div class="guard"><h4>{escape(name)}<span class="unit">{escape(rest)}</span></h4>{drawn}</div>'


def _tables(story: Story) -> Iterable[str]:
    alarms = _table(("alert", "", "opened", "acknowledged", "resolved", "seen n"), map(_alarm, story.alarms))
    yield _section("Alerts and their lives", "" if story.alarms else "None was opened.", alarms if story.alarms else "")
    if story.gates:
        yield _section("What the gates said", "Measured on rows that no training has seen.", _gates(story.gates))
    if story.intakes:
        yield _section("Data that came in", "Rows that break their contract go to quarantine, with the reason.", _intakes(story))
    yield _section(
        "The ledger", _ledger_note(story), _checks(story.books.checks) + f"<pre>{escape(story.books.checkpoint)}</pre>"
    )


def _alarm(alarm: Alarm) -> list[str]:
    state = f'<span class="tag {"bad" if alarm.is_open else ""}">{escape(alarm.state)}</span>'
    closed = f"{escape(alarm.resolved_by)}: {escape(alarm.reason)}" if alarm.resolved else ""
    return [
        f"{escape(alarm.title)}<small>{escape(alarm.ref)}, {escape(alarm.severity)}</small>",
        state,
        minute(alarm.opened),
        f"{minute(alarm.acknowledged)}<small>{escape(alarm.acknowledged_by)}</small>",
        f"{minute(alarm.resolved)}<small>{closed}</small>",
        number(alarm.count),
    ]


def _gates(gates: Sequence[Judged]) -> str:
    """Models across, checks down. Slices that everybody passed are folded away."""
    heads = [
        f"{escape(short(judged.model) if judged.model else 'not registered')}"
        f"<small>{escape(judged.training)}, {day(judged.at)}</small>"
        for judged in gates
    ]
    shown: list[list[str]] = [["verdict", *(_verdict(judged) for judged in gates)]]
    folded: list[list[str]] = []
    for name in dict.fromkeys(check.name for judged in gates for check in judged.checks):
        found = [next((check for check in judged.checks if check.name == name), None) for judged in gates]
        wanted = next(check.wanted for check in found if check)
        row = [f"{escape(name)}<small>{escape(wanted)}</small>", *(_cell(check) if check else "–" for check in found)]
        is_dull = name.startswith("slice") and all(check is None or check.passed for check in found)
        (folded if is_dull else shown).append(row)
    more = f"<summary>{len(folded)} slices that every model passed</summary>{_table(('slice', *heads), folded, raw=True)}"
    return _table(("check", *heads), shown, raw=True) + (f"<details>{more}</details>" if folded else "")


def _verdict(judged: Judged) -> str:
    kind = {"allow": "good", "deny": "bad"}.get(judged.verdict, "warn")
    return f'<span class="tag {kind}">{escape(judged.verdict)}</span>'


def _cell(check: Check) -> str:
    kind, mark = _MARKS[check.passed]
    return f'<span class="m {kind}">{mark}</span>{escape(check.seen)}'


def _checks(checks: Sequence[Check]) -> str:
    rows = [[escape(check.name), escape(check.wanted), _cell(check)] for check in checks]
    return _table(("check", "wanted", "seen"), rows) if rows else ""


def _intakes(story: Story) -> str:
    rows = []
    for intake in story.intakes:
        reasons = "".join(f"<small>{escape(reason)}: {number(count)}</small>" for reason, count in intake.reasons)
        refused = f'<small class="bad">refused: {escape(intake.refused)}</small>' if intake.refused else ""
        figures = [number(count) for count in (intake.snapshots, intake.rows, intake.quarantined)]
        rows.append([f"{escape(intake.dataset)}{refused}", *figures, reasons or "–", day(intake.until)])
    return _table(("dataset", "snapshots n", "rows n", "quarantined n", "why", "known until"), rows)


def _ledger_note(story: Story) -> str:
    books = story.books
    said = {
        "allow": "Verified: it is whole.",
        "hold": "Verified as far as can be seen: some of it is under no checkpoint yet.",
        "deny": "NOT whole: something was changed.",
    }.get(books.verdict, "Not verified here.")
    return (
        f"{said} {number(books.events)} events, {number(books.checkpoints)} signed checkpoints, "
        f"{number(books.sealed_rows)} lines of prediction logs under seal. Keep the newest checkpoint somewhere else:"
    )


def _section(title: str, note: str, inner: str) -> str:
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{inner}</section>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, raw: bool = False) -> str:
    """`rows` and, with `raw`, `heads` are HTML already. A head that ends in ` n` has numbers below it."""
    numbers = [head.endswith(" n") for head in heads]
    write: Callable[[object], str] = str if raw else escape
    names = [write(head.removesuffix(" n")) for head in heads]
    top = "".join(f'<th scope="col"{_right(right)}>{name}</th>' for name, right in zip(names, numbers, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(is_number)}>{cell}</td>" for cell, is_number in zip(row, numbers, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _right(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _origin(story: Story) -> str:
    return story.books.checkpoint.partition("\n")[0] or story.project
