"""Which workers an endpoint has and which it should have: every next step follows from the table alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

LONGEST_PAUSE_S = 30.0
LONGEST_TURN_S = 2.0
"""A kind of worker waits no longer than that for the start of another."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. Times are seconds of any steady clock."""

    slot: str
    """Its kind and a number, `http-0`: no two processes that live have the same."""
    generation: str
    """The digest of the settings that it runs with."""
    ready: bool
    since: float
    """When it was started, or found."""
    beat: float
    """Its last sign of life."""
    leaving: float | None = None
    """Since when it has been told to go."""

    @property
    def kind(self) -> str:
        return kind_of(self.slot)


@dataclass(frozen=True, slots=True)
class Falls:
    """Starts in a row that never got ready, and when the last one ended."""

    count: int = 0
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    hang_s: float = 15.0
    """Without a sign of life for so long, a worker that was ready is taken to hang: signs come each second, and neither a new
    model that is loaded (on another thread) nor a busy disk keeps them away so long. Whoever called has given up by then."""
    start_s: float = 60.0
    """The same for one that is not ready yet: the first model is loaded before the first sign."""
    drain_s: float = 10.0
    cores: int = 1
    """How many can start at once without taking the processor from each other."""


@dataclass(frozen=True, slots=True)
class Table:
    wanted: Mapping[str, int]
    """How many workers of each kind."""
    generation: str
    workers: Sequence[Worker]
    falls: Mapping[str, Falls] = field(default_factory=dict)
    """By kind."""


@dataclass(frozen=True, slots=True)
class Start:
    kind: str


@dataclass(frozen=True, slots=True)
class Drain:
    slot: str


@dataclass(frozen=True, slots=True)
class Kill:
    slot: str
    why: str


Step = Start | Drain | Kill


def steps(table: Table, now: float, limits: Limits) -> list[Step]:
    """What brings the workers that there are to those that are wanted. Called again and again, it comes to nothing to do.

    Workers of an old generation go only once all that are wanted of the new one are ready: an endpoint whose new settings
    do not work keeps the old ones. Where cores are short, a kind waits until those that are wanted before it have started: one
    that answers early is worth more than two that answer late.
    """
    found: list[Step] = [kill for worker in table.workers if (kill := _overdue(worker, now, limits))]
    under_way = 0
    for kind in dict.fromkeys([*table.wanted, *sorted(worker.kind for worker in table.workers)]):
        wanted = [step for step in _of_kind(kind, table, now) if under_way < limits.cores or not isinstance(step, Start)]
        under_way += sum(isinstance(step, Start) for step in wanted)
        under_way += sum(worker.kind == kind and _starts(worker, now) for worker in table.workers)
        found += wanted
    return found


def pause(falls: Falls) -> float:
    """Seconds before the next start: none after a worker that had been ready, nor after the first that never was;
    then 1, 2, 4 … up to 30."""
    return 0.0 if falls.count < 2 else min(2.0 ** (falls.count - 2), LONGEST_PAUSE_S)


def is_ready(table: Table) -> bool:
    """Whether as many workers as are wanted can answer, of whichever generation."""
    return bool(table.wanted) and all(
        sum(worker.ready and worker.leaving is None for worker in table.workers if worker.kind == kind) >= count
        for kind, count in table.wanted.items()
    )


def is_settled(table: Table) -> bool:
    """Whether those that are wanted are ready with the settings that are wanted, and nobody else is there."""
    return len(table.workers) == sum(table.wanted.values()) and all(
        worker.ready and worker.leaving is None and worker.generation == table.generation for worker in table.workers
    )


def kind_of(slot: str) -> str:
    return slot.rpartition("-")[0]


def number_of(slot: str) -> int:
    return int(slot.rpartition("-")[2])


def _starts(worker: Worker, now: float) -> bool:
    """Whether it is at work to come up: it has not reported yet, and may still do so soon."""
    return not worker.generation and worker.leaving is None and now - worker.since < LONGEST_TURN_S


def _overdue(worker: Worker, now: float, limits: Limits) -> Kill | None:
    if worker.leaving is not None:
        return Kill(worker.slot, "it did not end in time") if now - worker.leaving > limits.drain_s else None
    limit = limits.hang_s if worker.ready else limits.start_s
    return Kill(worker.slot, f"it gave no sign of life for {limit:g} s") if now - worker.beat > limit else None


def _of_kind(kind: str, table: Table, now: float) -> Iterator[Step]:
    wanted = table.wanted.get(kind, 0)
    staying = sorted(
        (worker for worker in table.workers if worker.kind == kind and worker.leaving is None),
        key=lambda worker: (not worker.ready, number_of(worker.slot)),
    )
    # One that has not reported yet was started with the settings of the moment, or will be seen to be old in a moment.
    current = [worker for worker in staying if worker.generation in (table.generation, "")]
    falls = table.falls.get(kind, Falls())
    if len(current) < wanted and now - falls.last >= pause(falls):
        yield from [Start(kind)] * (wanted - len(current))
    yield from (Drain(worker.slot) for worker in current[wanted:])
    if sum(worker.ready for worker in current) >= wanted:
        yield from (Drain(worker.slot) for worker in staying if worker not in current)
