"""What `/metrics` shows, in the Prometheus text format."""

from __future__ import annotations

import os
import resource
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from falaj.inference.shadow import Counts

BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the latency histogram, seconds."""

Labels = tuple[str, str, str]
"""(model, version, arm)"""
_SHADOW: Sequence[tuple[str, str, Callable[[Counts], float]]] = (
    ("shadow_rows_total", "Rows whose answer was compared with what a shadow would have said.", lambda c: c.compared),
    ("shadow_changed_total", "Of these, decisions that would have been the other one.", lambda c: c.changed),
    (
        "shadow_difference_total",
        "The sum of the sizes of the differences; over the rows it is their mean.",
        lambda c: round(c.size, 9),
    ),
    ("shadow_failed_total", "Rows that a shadow or its features failed.", lambda c: c.failed),
    ("shadow_unfit_total", "Rows of tensors whose columns are not the shadow's.", lambda c: c.unfit),
    ("shadow_dropped_total", "Copies that were dropped because the worker had no time for them.", lambda c: c.dropped),
)


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class Metrics:
    def __init__(self) -> None:
        self._tallies: dict[Labels, _Tally] = {}
        self._refused: Counter[str] = Counter()
        self.labels_taken = 0
        self.shadows: Mapping[tuple[str, str], Counts] = {}
        """By model and version."""

    def answered(self, labels: Labels, seconds: float, rows: int = 1) -> None:
        tally = self._of(labels)
        tally.requests += 1
        tally.rows += rows
        tally.seconds += seconds
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1

    def failed(self, labels: Labels) -> None:
        tally = self._of(labels)
        tally.requests += 1
        tally.errors += 1

    def refused(self, code: str) -> None:
        self._refused[code] += 1

    def _of(self, labels: Labels) -> _Tally:
        found = self._tallies.get(labels)
        if found is None:
            found = self._tallies[labels] = _Tally()
        return found

    def text(self, *, log_bytes: int, ready: bool, revision: int) -> str:
        lines: list[str] = []
        per_arm = {_labels(key): tally for key, tally in sorted(self._tallies.items())}
        _add(lines, "requests_total", "counter", "Requests that reached a model.", {k: t.requests for k, t in per_arm.items()})
        _add(lines, "predictions_total", "counter", "Rows that were predicted.", {k: t.rows for k, t in per_arm.items()})
        _add(
            lines,
            "errors_total",
            "counter",
            "Valid requests that a model or its features failed.",
            {k: t.errors for k, t in per_arm.items()},
        )
        lines += [
            "# HELP falaj_latency_seconds Time from a request's last byte to its answer.",
            "# TYPE falaj_latency_seconds histogram",
        ]
        for labels, tally in per_arm.items():
            lines += _histogram(labels, tally)
        _add(
            lines,
            "refused_total",
            "counter",
            "Requests that were refused, by error code.",
            {f'code="{c}"': n for c, n in sorted(self._refused.items())},
        )
        for name, text, of in _SHADOW if self.shadows else ():
            values = {
                _labels((model, version, "shadow")): of(counts) for (model, version), counts in sorted(self.shadows.items())
            }
            _add(lines, name, "counter", text, values)
        _add(lines, "labels_total", "counter", "Labels that were taken.", {"": self.labels_taken})
        _add(lines, "log_bytes_total", "counter", "Bytes appended to the prediction log.", {"": log_bytes})
        _add(lines, "ready", "gauge", "1 where a model answers.", {"": int(ready)})
        _add(lines, "revision", "gauge", "The revision that is served.", {"": revision})
        _add(lines, "resident_memory_bytes", "gauge", "Memory that the process holds.", {"": resident_bytes()})
        times = os.times()
        _add(
            lines,
            "cpu_seconds_total",
            "counter",
            "Processor time that the process has used.",
            {"": round(times.user + times.system, 3)},
        )
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _add(lines: list[str], name: str, kind: str, text: str, values: dict[str, int] | dict[str, float]) -> None:
    lines += [f"# HELP falaj_{name} {text}", f"# TYPE falaj_{name} {kind}"]
    lines += [f"falaj_{name}{{{labels}}} {value}" if labels else f"falaj_{name} {value}" for labels, value in values.items()]


def _histogram(labels: str, tally: _Tally) -> list[str]:
    lines, total = [], 0
    for bound, count in zip((*BOUNDS, "+Inf"), tally.buckets, strict=True):
        total += count
        lines.append(f'falaj_latency_seconds_bucket{{{labels},le="{bound}"}} {total}')
    return [
        *lines,
        f"falaj_latency_seconds_sum{{{labels}}} {tally.seconds:.6f}",
        f"falaj_latency_seconds_count{{{labels}}} {total}",
    ]


def _labels(key: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(("model", "version", "arm"), key, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
