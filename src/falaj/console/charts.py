"""Charts as inline SVG, drawn by hand: scales, axes, lines, bands, steps and heat maps; colours come from the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

Drawn = Callable[[int], str]
"""A chart for a given width."""
WIDE, NARROW = 1040, 340
DAY = timedelta(days=1)


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


@dataclass(frozen=True, slots=True)
class Times:
    """A horizontal axis of time, from `left` to `right` pixels."""

    since: datetime
    until: datetime
    left: float
    right: float

    def __call__(self, at: datetime) -> float:
        span = (self.until - self.since).total_seconds() or 1.0
        part = (at - self.since).total_seconds() / span
        return self.left + min(max(part, 0.0), 1.0) * (self.right - self.left)

    def ticks(self) -> list[tuple[datetime, str]]:
        """As many as fit: days, weeks, months, quarters or years."""
        room = max(int((self.right - self.left) / 64), 2)
        days = (self.until - self.since) / DAY
        for step in (1, 2, 7, 14):
            if days / step <= room:
                return [(at, f"{at.day} {at:%b}") for at in _every(self.since, self.until, step)]
        for step in (1, 2, 3, 6, 12):
            if days / 30.4 / step <= room:
                return [(at, _month(at)) for at in _months(self.since, self.until, step)]
        return [(at, str(at.year)) for at in _months(self.since, self.until, 12 * math.ceil(days / 365 / room))]


@dataclass(frozen=True, slots=True)
class Values:
    """A vertical axis of numbers: `low` is drawn at `bottom`, `high` at `top`; what lies outside is drawn at the edge."""

    low: float
    high: float
    bottom: float
    top: float

    def __call__(self, value: float) -> float:
        part = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.bottom + min(max(part, 0.0), 1.0) * (self.top - self.bottom)

    def ticks(self, about: int = 4, *, whole: bool = False) -> list[float]:
        step = nice((self.high - self.low) / max(about, 1))
        step = max(round(step), 1) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def around(values: Iterable[float], *, zero: bool = False, least: float = 0.0) -> tuple[float, float]:
    """Ends of an axis that hold all values with some air; `least`: the smallest span."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (min(0.0, *known) if zero else min(known)), max(known)
    missing = max(least - (high - low), 0.0) / 2
    air = 0.06 * ((high - low) or abs(high) or 1.0)
    return (low if zero and low == 0 else low - air - missing), high + air + missing


def nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if step <= 0 or not math.isfinite(step):
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(part * power for part in (1, 2, 2.5, 5, 10) if part * power >= step * (1 - 1e-9))


# --- pieces -------------------------------------------------------------------------------------------------------------


def svg(size: tuple[float, float], title: str, told: str, parts: Iterable[str]) -> str:
    """A whole chart. `told` says in words what it shows, for those who do not see it."""
    width, height = size
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )


def text(x: float, y: float, said: object, kind: str = "", *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, *, kind: str, said: str = "", round_: float = 0) -> str:
    """A rectangle; `said` shows when a pointer rests on it."""
    tip = f"<title>{escape(said)}</title>" if said else ""
    radius = f' rx="{round_:g}"' if round_ else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}"{radius} class="{kind}">'
        f"{tip}</rect>"
    )


def dot(x: float, y: float, kind: str, said: str = "", radius: float = 3) -> str:
    tip = f"<title>{escape(said)}</title>" if said else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">{tip}</circle>'


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    if len(points) == 1:
        return dot(*points[0], kind.replace("line", "dot"), radius=2)
    return f'<polyline points="{_places(points)}" class="{kind}"/>' if points else ""


def stairs(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line that keeps its height until the next point."""
    steps = [place for (x, y), (nx, _) in pairwise(points) for place in ((x, y), (nx, y))]
    return line([*steps, *points[-1:]], kind)


def band(low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]], kind: str) -> str:
    """The area between two lines."""
    if len(low) < 2:
        return "".join(rule(x, y, hx, hy, kind.replace("band", "whisker")) for (x, y), (hx, hy) in zip(low, high, strict=True))
    return f'<polygon points="{_places([*low, *reversed(high)])}" class="{kind}"/>'


def time_axis(times: Times, bottom: float, top: float) -> str:
    """Ticks under the chart and faint rules through it."""
    parts = [rule(times.left, bottom, times.right, bottom, "axis")]
    for at, said in times.ticks():
        x = times(at)
        anchor = "end" if x > times.right - 12 else "start" if x < times.left + 12 else "middle"
        parts += [rule(x, bottom, x, bottom + 4, "axis"), text(x, bottom + 17, said, "tick", anchor=anchor)]
        if top < bottom:
            parts.append(rule(x, top, x, bottom, "grid"))
    return "".join(parts)


def value_axis(values: Values, left: float, right: float, said: Callable[[float], str], about: int = 4) -> str:
    """Ticks at the left and faint rules across."""
    parts = []
    for value in values.ticks(about, whole=said is power):
        y = values(value)
        parts += [rule(left, y, right, y, "grid"), text(left - 7, y + 4, said(value), "tick", anchor="end")]
    return "".join(parts)


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The wanted heights, moved so that labels there do not touch, in the same order."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    placed = list(wanted)
    last = low - gap
    for place in order:
        placed[place] = last = max(wanted[place], last + gap)
    below = high + gap
    for place in reversed(order):
        placed[place] = below = min(placed[place], below - gap)
    return placed


def figure(draw: Drawn, caption: str = "") -> str:
    """The chart twice, for wide and for narrow pages: text stays readable on both. Only one is ever shown."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>{said}</figure>'


def cut(said: str, width: float, size: float = 6.6, *, tail: bool = False) -> str:
    """As much of a text as fits into so many pixels at about `size` pixels a letter; with `tail` its end."""
    room = int(width / size)
    if len(said) <= room:
        return said
    return "" if room <= 2 else "…" + said[1 - room :] if tail else said[: room - 1] + "…"


# --- numbers as people write them ---------------------------------------------------------------------------------------


def percent(value: float) -> str:
    shown = value * 100
    return f"{shown:.0f} %" if abs(shown - round(shown)) < 0.005 else f"{shown:.3g} %"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def power(exponent: float) -> str:
    """Ten to that power: 0.01, 1000, 10⁴."""
    if -3 <= exponent <= 3:
        return f"{10**exponent:g}"
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def day(at: datetime | None) -> str:
    return f"{at.day} {at:%b %Y}" if at else "–"


def minute(at: datetime | None) -> str:
    return f"{at.day}\u00a0{at:%b}\u00a0{at:%H:%M}" if at else "–"


def _places(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _every(since: datetime, until: datetime, days: int) -> Iterable[datetime]:
    at = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while at <= until:
        if at >= since:
            yield at
        at += days * DAY


def _months(since: datetime, until: datetime, step: int) -> Iterable[datetime]:
    at = since.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while at <= until:
        if at >= since and (at.year * 12 + at.month - 1) % step == 0:
            yield at
        at = at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)


def _month(at: datetime) -> str:
    return f"{at:%b %Y}" if at.month == 1 else f"{at:%b}"
