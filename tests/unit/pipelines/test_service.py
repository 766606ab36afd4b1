"""A run is recorded before it starts, and however it ends."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from falaj.adapters.local.policy import RolePolicy
from falaj.adapters.memory.ledger import MemoryLedger
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, NotFound
from falaj.core.ref import Ref
from falaj.ports.runner import RunState
from falaj.stages.action import Kernel
from falaj.stages.pipelines.service import Pipelines

ENGINEER = Actor("e", "person", ("ml_engineer",))
WORKER = Actor("worker", "service", ("service",))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Slow:
    """A runner whose runs end when the test says so."""

    def __init__(self) -> None:
        self.runs: dict[str, tuple[RunState, str]] = {}

    def submit(self, run_id: str, step: str, params: Mapping[str, Any]) -> None:
        self.runs[run_id] = ("running", "")

    def look(self, run_id: str) -> tuple[RunState, str]:
        if run_id not in self.runs:
            raise NotFound(f"no run {run_id}")
        return self.runs[run_id]

    def cancel(self, run_id: str) -> None:
        self.runs[run_id] = ("failed", "cancelled")


def build() -> tuple[Pipelines, Slow]:
    runner = Slow()
    return Pipelines(Kernel(MemoryLedger(), RolePolicy(), lambda: NOW), runner, ("release",)), runner


def test_a_started_run_is_recorded_and_submitted() -> None:
    pipelines, runner = build()
    pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={"a": 1})
    assert runner.runs == {"r1": ("running", "")}
    assert pipelines.get("r1").state == "running"
    assert [event.verb for event in pipelines.kernel.ledger.events()] == ["run.start"]


def test_the_same_id_twice_is_a_conflict() -> None:
    pipelines, _ = build()
    pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={})
    with pytest.raises(Conflict):
        pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={})


def test_an_unknown_step_is_named() -> None:
    pipelines, _ = build()
    with pytest.raises(NotFound, match="relaese") as caught:
        pipelines.start(ENGINEER, Ref("run", "r1"), step="relaese", params={})
    assert "'release'" in caught.value.hint


@pytest.mark.parametrize(
    ("why", "kept"),
    [
        ("MemoryError", "MemoryError"),
        ("exit 1: Traceback\nValueError: 'Mariam'", "exit 1"),
        ("exit -9: Mariam", "exit -9"),
        ("exit unknown: its log is gone.", "exit unknown"),
        ("ValueError: 'Mariam' is no number", "ValueError"),
        ("Mariam: was last", "it died"),
        ("", "it died"),
    ],
)
def test_a_run_that_died_is_found_and_marked_without_its_last_words(why: str, kept: str) -> None:
    """They may hold what stood in a row, and no leaf is ever taken back."""
    pipelines, runner = build()
    pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={})
    assert pipelines.watch(WORKER) == []
    runner.runs["r1"] = ("failed", why)
    assert [run.state for run in pipelines.watch(WORKER)] == ["failed"]
    assert pipelines.get("r1").failure == f"{kept}: the run's own log says why"
    assert pipelines.live() == []


def test_a_run_that_was_recorded_but_never_reached_the_runner_is_submitted_again() -> None:
    pipelines, runner = build()
    pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={})
    runner.runs.clear()
    pipelines.watch(WORKER)
    assert runner.runs == {"r1": ("running", "")}


def test_a_run_ends_once() -> None:
    pipelines, _ = build()
    pipelines.start(ENGINEER, Ref("run", "r1"), step="release", params={})
    out = (Ref("model", "delay", "1"),)
    pipelines.finish(WORKER, Ref("run", "r1"), state="succeeded", outputs=out)
    assert pipelines.finish(WORKER, Ref("run", "r1"), state="succeeded").outputs == out
    with pytest.raises(Conflict, match="succeeded"):
        pipelines.finish(WORKER, Ref("run", "r1"), state="failed")


def test_fresh_ids_do_not_repeat() -> None:
    pipelines, _ = build()
    first = pipelines.fresh_id("release", {"a": 1})
    pipelines.start(ENGINEER, Ref("run", first), step="release", params={"a": 1})
    assert pipelines.fresh_id("release", {"a": 1}) != first
