"""The text in which metrics are shown: Prometheus' format 0.0.4."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Snapshot = dict[str, dict[str, Any]]
"""Family → values of its labels as a JSON list → a number, or for a histogram [sum, count in the first bucket, …]."""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without the last, which has none."""


def add(into: Snapshot, other: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds numbers to numbers and buckets to buckets. Buckets that were cut otherwise, by an older version, are left out."""
    for name, values in other.items():
        known = into.setdefault(name, {})
        for key, value in values.items():
            held = known.get(key, 0)
            if key not in known:
                known[key] = value
            elif isinstance(held, list) and isinstance(value, list):
                known[key] = [a + b for a, b in zip(held, value, strict=True)] if len(held) == len(value) else held
            else:
                known[key] = held + value


def render(families: Sequence[Family], found: Snapshot) -> str:
    """Every family that has a value, with its help and type before it."""
    lines: list[str] = []
    for family in families:
        values = found.get(family.name)
        if not values:
            continue
        lines += [f"# HELP {family.name} {_help(family.help)}", f"# TYPE {family.name} {family.kind}"]
        for key, value in sorted(values.items()):
            labels = [f'{label}="{_escape(text)}"' for label, text in zip(family.labels, json.loads(key), strict=False)]
            lines += _histogram(family, labels, value) if family.kind == "histogram" else [_line(family.name, labels, value)]
    return "\n".join((*lines, ""))


def _histogram(family: Family, labels: list[str], value: Any) -> Iterator[str]:
    seconds, *buckets = value
    if len(buckets) != len(family.bounds) + 1:
        return
    total = 0
    for bound, count in zip((*family.bounds, None), buckets, strict=True):
        total += count
        yield _line(f"{family.name}_bucket", [*labels, f'le="{"+Inf" if bound is None else _number(float(bound))}"'], total)
    yield _line(f"{family.name}_sum", labels, seconds)
    yield _line(f"{family.name}_count", labels, total)


def _line(name: str, labels: list[str], value: float) -> str:
    return f"{name}{{{','.join(labels)}}} {_number(value)}" if labels else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return repr(round(value, 6))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
