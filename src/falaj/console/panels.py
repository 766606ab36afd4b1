"""The report's charts: a story's parts, drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from falaj.console import charts
from falaj.console.charts import Drawn, Times, Values, box, dot, percent, rule, text
from falaj.console.story import Episode, Guard, Look, Story, Watched

WEEK = timedelta(days=7)
_TICK = timedelta(microseconds=1)
"""A window that ends on Monday at midnight is of the week before."""
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
OUTCOMES = {
    "promoted": ("good", "promoted"),
    "rolled_back": ("bad", "taken back"),
    "aborted": ("bad", "aborted by a person"),
    "held": ("warn", "held for a person"),
    "running": ("info", "under way"),
}
HEAT = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Borders of the heat map's colours, in nats of Jensen–Shannon divergence; below the first nothing is called drift."""
HEAT_ROWS = 20
_LANE = 30.0
ALARM_ROWS = 3
THIRD = 326.0
"""The width of a chart of which three stand side by side."""
HALF = 496


def short(ref: str) -> str:
    """`model/delay@3` → `delay@3`."""
    return ref.partition("/")[2] or ref


def outcome(episode: Episode) -> tuple[str, str]:
    """(kind, word) of how it stands."""
    return OUTCOMES.get(episode.state, ("info", episode.state))


def week_of(at: datetime) -> datetime:
    return _MONDAY + (at - _MONDAY) // WEEK * WEEK


def weekly(looks: Sequence[Look]) -> list[Look]:
    """One look a week and model, the last: windows that hardly overlap, so that points are news."""
    last = [list(found)[-1] for _, found in groupby(looks, key=lambda look: (week_of(look.at - _TICK), look.model))]
    close = [a.model == b.model and b.at - a.at < WEEK / 2 for a, b in pairwise(last)]
    return [look for look, is_close in zip(last, [*close, False], strict=True) if not is_close]


# --- the timeline -------------------------------------------------------------------------------------------------------


def timeline(story: Story, watched: Watched) -> Drawn:
    """Who served, what was tried, what was noticed, on one axis of time."""
    kinds = [("drift", "drift"), ("decay", "decay"), ("retrain", "retrain")]

    def draw(width: int) -> str:
        left = 96.0 if width > 600 else 62.0
        times = Times(story.since, story.until, left, width - 8)
        lanes = ["serving", "rollouts", *(name for _, name in kinds), "alerts"]
        heights = [_LANE + 6, _LANE + 32, *([22.0] * len(kinds)), 8.0 + 8 * ALARM_ROWS]
        tops = [8 + sum(heights[:i]) for i in range(len(lanes))]
        bottom = tops[-1] + heights[-1] + 4
        parts = [charts.time_axis(times, bottom, 4)]
        for name, top, height in zip(lanes, tops, heights, strict=True):
            parts.append(text(left - 12, top + min(height, _LANE) / 2 + 4, name, "lane", anchor="end"))
        parts += _bands(watched, times, tops[0])
        parts += _episodes(watched, times, tops[1])
        for (kind, _), top in zip(kinds, tops[2:], strict=False):
            parts += [
                dot(times(mark.at), top + 11, f"mark {kind}", f"{charts.minute(mark.at)}: {kind}, {mark.text}", 5)
                for mark in watched.marks
                if mark.kind == kind
            ]
        parts += _alarms(story, times, tops[-1])
        told = (
            f"{len(watched.served)} models served {watched.name}; {len(watched.episodes)} rollouts; {len(story.alarms)} alerts."
        )
        return charts.svg((width, bottom + 26), f"What happened on {watched.name}", told, parts)

    return draw


def _bands(watched: Watched, times: Times, top: float) -> Iterable[str]:
    for place, served in enumerate(watched.served):
        x, end = times(served.since), times(served.until)
        said = f"{short(served.model)} served from {charts.day(served.since)} to {charts.day(served.until)}"
        yield box(x + 0.5, top, end - x - 1, _LANE, kind=f"served tone{place % 2}", said=said, round_=3)
        yield text(x + 8, top + 20, charts.cut(short(served.model), end - x - 12, 7), "onband")


def _episodes(watched: Watched, times: Times, top: float) -> Iterable[str]:
    """Steps as blocks whose height is the challenger's share; below them the outcome, on a second row where it would touch."""
    taken = [-1e9, -1e9]
    for episode in watched.episodes:
        kind, word = outcome(episode)
        for step in episode.steps:
            x, end = times(step.since), times(step.until)
            height = 5 + 20 * step.share
            period = f"{charts.minute(step.since)} to {charts.minute(step.until)}"
            said = f"{short(episode.challenger)}: {step.share:.0%} from {period}"
            yield box(x, top + 25 - height, end - x, height, kind=f"step {kind}", said=said)
        name = f"{short(episode.challenger)} {word}" if times.right - times.left > 600 else word
        wide = 7.2 * len(name)
        start = max(min(times(episode.steps[0].since), times.right - wide), times.left)
        row = 0 if taken[0] < start else 1
        taken[row] = start + wide + 8
        yield text(start, top + 39 + 15 * row, name, f"outcome {kind}")


def _alarms(story: Story, times: Times, top: float) -> Iterable[str]:
    """A bar from opening to resolution, on the first row that is free."""
    taken = [-1e9] * ALARM_ROWS
    for alarm in story.alarms:
        x, end = times(alarm.opened), times(alarm.resolved or story.until)
        row = next((row for row, used in enumerate(taken) if used <= x), ALARM_ROWS - 1)
        taken[row] = max(end, x + 3)
        said = f"{alarm.title}, opened {charts.minute(alarm.opened)}, {alarm.state}"
        yield box(x, top + 6 + 8 * row, max(end - x, 3), 6, kind="alarm open" if alarm.is_open else "alarm", said=said, round_=2)


# --- rollout evidence ---------------------------------------------------------------------------------------------------


def evidence(episode: Episode, guard: Guard) -> str:
    """Both e-values of one guard, with the thresholds that decide, on shaded steps."""
    times, right = Times(episode.started, episode.steps[-1].until, 34, THIRD - 8), THIRD - 8
    tops = [value for points in (guard.harm, guard.proof) for _, value in points]
    values = Values(max(min([-1.0, *tops]), -2.5) - 0.2, max([episode.harm_at, *tops]) + 0.5, 176, 26)
    parts = list(_steps(episode, times, 26, 176))
    parts.append(charts.value_axis(values, 34, right, charts.power, 5))
    parts.append(charts.time_axis(times, 176, 176))
    for level, kind, said in ((episode.harm_at, "bad", "take back"), (episode.proof_at, "good", "no worse")):
        y = values(level)
        where = y - 4 if kind == "bad" else y + 13
        parts.append(rule(34, y, right, y, f"limit {kind}"))
        parts.append(text(40, where, f"{said} at {10**level:.0f}", f"limitname {kind}"))
    last = []
    for name, points, kind in (("no worse", guard.proof, "good"), ("harm", guard.harm, "bad")):
        parts.append(charts.line([(times(at), values(value)) for at, value in points], f"line {kind}"))
        last += [f"{name} {10 ** points[-1][1]:.3g}"] if points else []
    told = f"Evidence of guard {guard.name}, last values: {', '.join(last) or 'none'}."
    return charts.svg((THIRD, 202), f"Evidence about {guard.name}", told, parts)


def _steps(episode: Episode, times: Times, top: float, bottom: float) -> Iterable[str]:
    for place, step in enumerate(episode.steps):
        x, end = times(step.since), times(step.until)
        yield box(x, top, end - x, bottom - top, kind=f"shade shade{place % 3}", said=f"{step.share:.0%} of the traffic")
        if end - x > 24:
            yield text((x + end) / 2, top - 8, f"{step.share:.0%}", "share", anchor="middle")


def rates(guard: Guard) -> str:
    """The rate of bad units of each arm, with 95 % intervals."""
    found = [wilson(bad, units) for bad, units in zip(guard.bad, guard.units, strict=True)]
    low, high = charts.around([end for low, _, high in found for end in (low, high)], least=0.002)
    across = Values(max(low, 0.0), min(high, 1.0), 78.0, THIRD - 118.0)
    parts = []
    for row, name in enumerate(("champion", "challenger")):
        left, middle, right = found[row]
        y = 14.0 + 24 * row
        said = f"{percent(middle)} of {charts.number(guard.units[row])}" if guard.units[row] else "no units"
        parts += [
            text(0, y + 4, name, "lane"),
            rule(across(left), y, across(right), y, f"whisker {name}"),
            dot(across(middle), y, f"dot {name}", f"{guard.bad[row]} of {guard.units[row]}", 4),
            text(THIRD - 4, y + 4, said, "tick", anchor="end"),
        ]
    told = ", ".join(f"{guard.bad[i]} of {guard.units[i]}" for i in (0, 1))
    return charts.svg((THIRD, 50), f"Rates of {guard.name}", f"Champion, challenger: {told}.", parts)


def wilson(bad: int, units: int) -> tuple[float, float, float]:
    """(low, rate, high) of Wilson's 95 % interval; everything is possible without units."""
    if not units:
        return 0.0, 0.0, 1.0
    z, rate = 1.96, bad / units
    middle = (rate + z * z / (2 * units)) / (1 + z * z / units)
    half = z * math.sqrt(rate * (1 - rate) / units + z * z / (4 * units * units)) / (1 + z * z / units)
    return max(middle - half, 0.0), rate, min(middle + half, 1.0)


# --- how models did -----------------------------------------------------------------------------------------------------


def performance(story: Story, watched: Watched) -> Drawn:
    """Wrong rate, area under the ROC curve and Brier score, week by week, with what each release had promised."""
    looks = [look for look in weekly(watched.looks) if look.labelled]
    rows: list[tuple[str, Callable[[Look], float | None], str, Callable[[float], str]]] = [
        ("wrong rate", lambda look: look.wrong, "wrong", percent),
        ("area under ROC", lambda look: look.auc[0] if look.auc else None, "", lambda v: f"{v:.2f}"),
        ("Brier score", lambda look: look.brier, "brier", lambda v: f"{v:.3g}"),
    ]

    def draw(width: int) -> str:
        times, height = Times(story.since, story.until, 52, width - 10), 118.0
        parts, top = [], 30.0
        for place, served in enumerate(watched.served):
            x, end = times(served.since), times(served.until)
            parts.append(box(x, 20, end - x, 3 * (height + 34) - 12, kind=f"release release{place % 2}"))
            parts.append(text(x + 4, 14, charts.cut(short(served.model), end - x - 6, 7), "lane"))
        for name, seen, promise, said in rows:
            parts += _panel(watched, looks, times, (top, height), (name, seen, promise, said))
            top += height + 34
        parts.append(charts.time_axis(times, top - 22, top - 22))
        told = f"{len(looks)} weeks of {watched.name}; the dashed line is what the release promised on its holdout."
        return charts.svg((width, top + 6), "How the models did", told, parts)

    return draw


def _panel(
    watched: Watched, looks: Sequence[Look], times: Times, place: tuple[float, float],
    row: tuple[str, Callable[[Look], float | None], str, Callable[[float], str]],
) -> Iterable[str]:  # fmt: skip
    (top, height), (name, seen, promise, said) = place, row
    known = [(look, value) for look in looks if (value := seen(look)) is not None]
    ranges = [_range(look, promise) for look, _ in known]
    promised = [getattr(p, promise) for p in watched.promises] if promise else []
    ends = [end for found in ranges if found for end in found]
    values = Values(*charts.around([*(value for _, value in known), *promised, *ends], least=0.02), top + height, top + 22)
    yield text(times.left, top + 12, name, "panel")
    yield charts.value_axis(values, times.left, times.right, said, 3)
    for _, found in groupby(zip(known, ranges, strict=True), key=lambda pair: pair[0][0].model):
        points = list(found)
        xs = [times(look.at) for (look, _), _ in points]
        if all(ends for _, ends in points):
            lows, highs = [[(x, values(r[i])) for x, (_, r) in zip(xs, points, strict=True) if r] for i in (0, 1)]
            yield charts.band(lows, highs, "band champion")
        yield charts.line([(x, values(value)) for x, ((_, value), _) in zip(xs, points, strict=True)], "line champion")
        for x, ((look, value), _) in zip(xs, points, strict=True):
            yield dot(x, values(value), "dot champion", f"{short(look.model)}, {charts.day(look.at)}: {said(value)}", 2.5)
    for held in watched.promises if promise else ():
        y = values(getattr(held, promise))
        yield rule(times(held.since), y, times(held.until), y, "promise")


def _range(look: Look, promise: str) -> tuple[float, float] | None:
    if promise == "wrong" and look.wrong is not None:
        low, _, high = wilson(round(look.wrong * look.labelled), look.labelled)
        return low, high
    return (look.auc[1], look.auc[2]) if not promise and look.auc else None


# --- inputs and the machine ---------------------------------------------------------------------------------------------


def heat(watched: Watched) -> Drawn:
    """How far each feature moved from what was normal in training, week by week; the worst first."""
    by_week: dict[datetime, dict[str, tuple[float, bool]]] = {}
    for look in watched.looks:
        cells = by_week.setdefault(week_of(look.at - _TICK), {})
        for item in look.inputs:
            distance, drifted = cells.get(item.name, (0.0, False))
            cells[item.name] = max(distance, item.distance), drifted or item.drifted
    names = {name for cells in by_week.values() for name in cells}

    def worst(name: str) -> tuple[bool, float]:
        found = [cells[name] for cells in by_week.values() if name in cells]
        return any(drifted for _, drifted in found), max(distance for distance, _ in found)

    rows = sorted(names, key=lambda name: (worst(name), name), reverse=True)[:HEAT_ROWS]
    weeks = sorted(by_week)

    def draw(width: int) -> str:
        left, size = (190.0 if width > 600 else 104.0), 19.0
        cell = (width - left - 6) / max(len(weeks), 1)
        bottom = 8 + size * len(rows)
        parts = []
        for row, name in enumerate(rows):
            y = 8 + size * row
            parts.append(text(left - 8, y + 13.5, charts.cut(name, left - 10, 6.4, tail=True), "lane", anchor="end"))
            parts += [_cell(by_week[w], name, w, (left + cell * i, y, cell, size)) for i, w in enumerate(weeks)]
        if weeks:
            times = Times(weeks[0], weeks[-1] + WEEK, left, left + cell * len(weeks))
            parts.append(charts.time_axis(times, bottom + 3, bottom + 3))
        parts.append(_heat_legend(0 if width < 600 else left, bottom + 38, width < 600))
        drifted = [name for name in rows if worst(name)[0]]
        told = f"{len(rows)} features in {len(weeks)} weeks; drifted: {', '.join(drifted) or 'none'}."
        return charts.svg((width, bottom + 58), "Drift of the inputs", told, parts)

    return draw


def _cell(cells: dict[str, tuple[float, bool]], name: str, at: datetime, place: tuple[float, float, float, float]) -> str:
    x, y, width, height = place
    distance, drifted = cells.get(name, (-1.0, False))
    if distance < 0:
        return ""
    said = f"{name}, week of {charts.day(at)}: {distance:.4f}{', drifted' if drifted else ''}"
    drawn = box(x + 0.5, y + 0.5, width - 1, height - 1, kind=f"heat heat{heat_step(distance)}", said=said)
    return drawn + (dot(x + width / 2, y + height / 2, "drifted", radius=min(2.4, width / 3)) if drifted else "")


def heat_step(distance: float) -> int:
    return sum(distance >= border for border in HEAT)


def _heat_legend(x: float, y: float, narrow: bool) -> str:
    parts, step = [], 44 if narrow else 54
    for place in range(len(HEAT) + 1):
        parts.append(box(x + step * place, y, step - 2, 9, kind=f"heat heat{place}"))
        if place:
            parts.append(text(x + step * place, y + 20, f"{HEAT[place - 1]:g}", "tick", anchor="middle"))
    end = x + step * (len(HEAT) + 1)
    said = "drift" if narrow else "called drift: beyond chance as well"
    return "".join([*parts, dot(end + 10, y + 5, "drifted legend", radius=2.6), text(end + 18, y + 9, said, "tick")])


def machine(story: Story, watched: Watched) -> list[tuple[str, str, Drawn]]:
    """(title, unit, chart) of what went through the endpoint and what it took, by week."""
    looks = weekly(watched.looks)
    latency = [(f"p{p}", [(look.at, v) for look in looks if (v := look.latency.get(f"p{p}")) is not None]) for p in (99, 95, 50)]
    memory = [("memory", [(look.at, look.memory / 2**20) for look in looks if look.memory])]
    return [
        ("Predictions", "in the window of each look", _small(story, [("", [(look.at, float(look.rows)) for look in looks])])),
        ("Latency", "milliseconds", _small(story, latency)),
        ("Memory of the server", "MiB", _small(story, memory)),
        ("Processor time", "seconds a week", _small(story, [("", _spent(looks))])),
    ]


def _spent(looks: Sequence[Look]) -> list[tuple[datetime, float]]:
    """From one look to the next; a counter that fell began anew with its process."""
    found = []
    for before, after in pairwise(looks):
        if before.cpu is not None and after.cpu is not None and after.at > before.at:
            spent = after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu
            found.append((after.at, spent / ((after.at - before.at) / WEEK)))
    return found


def _small(story: Story, lines: Sequence[tuple[str, Sequence[tuple[datetime, float]]]]) -> Drawn:
    def draw(width: int) -> str:
        width = charts.NARROW if width < 600 else HALF
        names = any(name for name, _ in lines) and len(lines) > 1
        times = Times(story.since, story.until, 44, width - (40 if names else 8))
        values = Values(*charts.around([v for _, points in lines for _, v in points], zero=True), 128, 10)
        parts = [charts.value_axis(values, 44, times.right, charts.number, 3), charts.time_axis(times, 128, 128)]
        ends = charts.apart([values(points[-1][1]) if points else 0 for _, points in lines], 13, 10, 128)
        for place, ((name, points), y) in enumerate(zip(lines, ends, strict=True)):
            parts.append(charts.line([(times(at), values(value)) for at, value in points], f"line fade{place}"))
            if names and points:
                parts.append(text(times.right + 6, y + 4, name, f"name fade{place}"))
        told = "; ".join(f"{name} {charts.number(points[-1][1])}" for name, points in lines if points)
        return charts.svg((width, 152), "By week", f"Last: {told or 'nothing'}.", parts)

    return draw
