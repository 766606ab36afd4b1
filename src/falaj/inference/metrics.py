"""What an endpoint counts: each worker for itself and cheaply, and any of them shows the sum of all."""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.inference.exposition import Family, Snapshot, add, render
from falaj.inference.processes import memory
from falaj.inference.report import write_whole

if TYPE_CHECKING:
    from falaj.inference.shadow import Counts

_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
BOUNDS = (
    *(round(step * ten, 7) for ten in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) for step in _STEPS if step * ten > 4.9e-5),
    1.0,
    2.5,
    10.0,
)
"""Upper bounds of times, seconds, from 50 µs: the fastest answers take some 100 µs. Six a decade, so that a quantile read from
them is at most half as much again as the true one, and mostly within a tenth."""
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Upper bounds of the rows that are answered together."""
FRESH_S = 5.0
"""A worker that wrote nothing for so long is gone: what it counted still counts, its memory no longer does."""

Labels = tuple[str, str, str]
"""(model, version, arm)"""

_ARM = ("model", "version", "arm")
_MODEL = _ARM[:2]
FAMILIES = (
    Family("falaj_requests_total", "counter", "Requests that reached a model.", _ARM),
    Family("falaj_predictions_total", "counter", "Rows that were predicted.", _ARM),
    Family("falaj_errors_total", "counter", "Valid requests that a model or its features failed.", _ARM),
    Family("falaj_latency_seconds", "histogram", "Time from a request's first byte to its record in the log.", _ARM, BOUNDS),
    Family("falaj_batch_rows", "histogram", "Rows that were answered together.", (), SIZES),
    Family("falaj_waiting_seconds", "histogram", "Time that the first of those waited for its turn.", (), BOUNDS),
    Family("falaj_refused_total", "counter", "Requests that were refused, by error code.", ("code",)),
    Family("falaj_shadow_rows_total", "counter", "Rows whose answer was compared with what a shadow would have said.", _MODEL),
    Family("falaj_shadow_changed_total", "counter", "Of these, decisions that would have been the other one.", _MODEL),
    Family("falaj_shadow_difference_total", "counter", "Sum of the sizes of the differences; over the rows, their mean.", _MODEL),
    Family("falaj_shadow_failed_total", "counter", "Rows that a shadow or its features failed.", _MODEL),
    Family("falaj_shadow_unfit_total", "counter", "Rows of tensors whose columns are not the shadow's.", _MODEL),
    Family("falaj_shadow_dropped_total", "counter", "Copies that were dropped: the worker had no time for them.", _MODEL),
    Family("falaj_labels_total", "counter", "Labels that were taken."),
    Family("falaj_log_bytes_total", "counter", "Bytes appended to the prediction log."),
    Family("falaj_log_sync_seconds", "histogram", "Time that bringing the prediction log to the disk took.", (), BOUNDS),
    Family("falaj_worker_restarts_total", "counter", "Workers that ended by themselves and were started again.", ("kind",)),
    Family("falaj_ready", "gauge", "1 where a worker has a model that answers.", ("worker",)),
    Family("falaj_revision", "gauge", "The revision that a worker serves.", ("worker",)),
    Family("falaj_in_flight", "gauge", "Requests that were read and are not answered.", ("worker",)),
    Family("falaj_connections", "gauge", "Open connections.", ("worker",)),
    Family("falaj_log_lag_seconds", "gauge", "Age of the oldest record that is not on the disk.", ("worker",)),
    Family("falaj_gpu_memory_used_bytes", "gauge", "Memory of a GPU in use, by anybody.", ("gpu",)),
    Family("falaj_gpu_memory_total_bytes", "gauge", "Memory of a GPU.", ("gpu",)),
    Family("falaj_gpu_utilization_ratio", "gauge", "Share of the time in which a GPU was busy, 0 to 1.", ("gpu",)),
    Family("process_cpu_seconds_total", "counter", "Processor time that a worker has used.", ("worker",)),
    Family("process_resident_memory_bytes", "gauge", "Memory that a worker holds.", ("worker",)),
    Family("process_start_time_seconds", "gauge", "When a worker was started, in seconds since 1970.", ("worker",)),
    Family("process_open_fds", "gauge", "Open files and sockets of a worker.", ("worker",)),
    Family("process_max_fds", "gauge", "Files and sockets that a worker may open.", ("worker",)),
)


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class _Histogram:
    __slots__ = ("buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.buckets, self.total = [0] * (len(bounds) + 1), 0.0


class Metrics:
    """One worker's numbers. With a folder it writes them to `<slot>.json`, goes on from there, and shows everybody's sum.

    `gauges`: more of what is the case now, by name without `falaj_`, as `connections`; asked when the numbers are written.
    """

    def __init__(self, folder: Path | None = None, slot: str = "") -> None:
        self.folder, self.slot = folder, slot
        self.labels_taken = 0
        self.gauges: dict[str, Callable[[], float]] = {}
        self.devices: Callable[[], Iterable[tuple[str, int, int, float]]] = tuple
        """GPUs: name, bytes used, bytes in all, share of the time busy."""
        self.log_bytes: Callable[[], int] = int
        self.shadows: Mapping[tuple[str, str], Counts] = {}
        """By model and version."""
        self._tallies: dict[Labels, _Tally] = {}
        self._refused: Counter[str] = Counter()
        self._batches, self._waits, self._syncs = _Histogram(SIZES), _Histogram(BOUNDS), _Histogram(BOUNDS)
        self._started = time.time()
        self._before = _counted(_read(folder / f"{slot}.json")) if folder is not None else {}

    # --- while requests are answered: each of these is a microsecond or less ---

    def answered(self, labels: Labels, seconds: float, rows: int = 1) -> None:
        tally = self._of(labels)
        tally.requests += 1
        tally.rows += rows
        tally.seconds += seconds
        tally.buckets[bisect_left(BOUNDS, seconds)] += 1

    def answered_many(self, labels: Labels, seconds: Sequence[float], rows: int) -> None:
        """A whole batch: one time for each request, `rows` in all of them together."""
        tally = self._of(labels)
        tally.requests += len(seconds)
        tally.rows += rows
        tally.seconds += sum(seconds)
        buckets = tally.buckets
        for value in seconds:
            buckets[bisect_left(BOUNDS, value)] += 1

    def failed(self, labels: Labels) -> None:
        tally = self._of(labels)
        tally.requests += 1
        tally.errors += 1

    def refused(self, code: str) -> None:
        self._refused[code] += 1

    def batched(self, rows: int, waited: float) -> None:
        """Calls that are answered together now: their rows, and the seconds since the first of them was read."""
        batches, waits = self._batches, self._waits
        batches.buckets[bisect_left(SIZES, rows)] += 1
        batches.total += rows
        waits.buckets[bisect_left(BOUNDS, waited)] += 1
        waits.total += waited

    def synced(self, seconds: float) -> None:
        """The log was brought to the disk."""
        self._syncs.buckets[bisect_left(BOUNDS, seconds)] += 1
        self._syncs.total += seconds

    def _of(self, labels: Labels) -> _Tally:
        found = self._tallies.get(labels)
        if found is None:
            found = self._tallies[labels] = _Tally()
        return found

    # --- when they are shown ---

    def text(self) -> str:
        """The sum of all workers, in the Prometheus text format 0.0.4.

        What is shown is written down first: whoever goes on from there never shows less.
        """
        own = self._snapshot()
        self._save(own)
        return render(FAMILIES, self._everybody(own))

    def save(self) -> None:
        """For once a second. A full disk is no reason to stop: the numbers go on in memory."""
        self._save(self._snapshot())

    def _save(self, own: Snapshot) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(self.folder / f"{self.slot}.json", json.dumps({"at": time.time(), "families": own}).encode())
        except OSError:
            return

    def _everybody(self, own: Snapshot) -> Snapshot:
        found = {name: dict(values) for name, values in own.items()}
        if self.folder is None:
            return found
        now = time.time()
        for path in sorted(self.folder.glob("[!.]*.json")):
            if path.stem == self.slot:
                continue
            body = _read(path)
            is_alive = now - float(body.get("at", 0.0)) <= FRESH_S
            add(found, body.get("families", {}) if is_alive else _counted(body))
        return found

    def _snapshot(self) -> Snapshot:
        """Family → values of its labels, as JSON → a number, or the sum and the buckets of a histogram."""
        mine = _key(self.slot)
        found: Snapshot = {family.name: {} for family in FAMILIES}
        for labels, tally in self._tallies.items():
            key = _key(*labels)
            found["falaj_requests_total"][key] = tally.requests
            found["falaj_predictions_total"][key] = tally.rows
            found["falaj_errors_total"][key] = tally.errors
            found["falaj_latency_seconds"][key] = [tally.seconds, *tally.buckets]
        for name, histogram in (
            ("batch_rows", self._batches),
            ("waiting_seconds", self._waits),
            ("log_sync_seconds", self._syncs),
        ):
            found[f"falaj_{name}"][_key()] = [histogram.total, *histogram.buckets]
        found["falaj_refused_total"] = {_key(code): times for code, times in self._refused.items()}
        for model, counts in list(self.shadows.items()):
            for name, value in counts.to_dict().items():
                found[f"falaj_shadow_{name}_total"][_key(*model)] = value
        found["falaj_labels_total"][_key()] = self.labels_taken
        found["falaj_log_bytes_total"][_key()] = self.log_bytes()
        for name, ask in self.gauges.items():
            found[f"falaj_{name}"][mine] = ask()
        for gpu, used, total, busy in self.devices():
            for name, value in (("memory_used_bytes", used), ("memory_total_bytes", total), ("utilization_ratio", busy)):
                found[f"falaj_gpu_{name}"][_key(gpu)] = value
        times = os.times()
        found["process_cpu_seconds_total"][mine] = round(times.user + times.system, 3)
        found["process_resident_memory_bytes"][mine] = memory(os.getpid())
        found["process_start_time_seconds"][mine] = round(self._started, 3)
        if (fds := _fds()) is not None:
            found["process_open_fds"][mine], found["process_max_fds"][mine] = fds
        add(found, self._before)
        return found


def _counted(body: dict[str, Any]) -> Snapshot:
    """What is added up over a slot's whole life: everything but the state and the cost of one process."""
    families = body.get("families", {})
    kept = {family.name for family in FAMILIES if family.kind != "gauge" and "worker" not in family.labels}
    return {name: values for name, values in families.items() if name in kept}


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _key(*values: str) -> str:
    return json.dumps(values)


def _fds() -> tuple[int, int] | None:
    import resource

    try:
        return len(os.listdir("/proc/self/fd")) - 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # noqa: PTH208
    except OSError:
        return None
