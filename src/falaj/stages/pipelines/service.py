"""Starts runs, hands them to a runner, and records how they ended; a run that died is found and marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from falaj.core.actor import Actor
from falaj.core.codec import decode, digest_of, encode
from falaj.core.errors import Conflict, NotFound
from falaj.core.moments import iso
from falaj.core.ref import Ref
from falaj.core.run import Run
from falaj.ports.runner import Runner
from falaj.stages.action import Act, Kernel, action

LIVE = ("queued", "running")
_ENDING = re.compile(r"exit (?:-?[0-9]{1,5}|unknown)(?=:|$)|[A-Z][A-Za-z]{0,60}(?:Error|Exception|Exit|Interrupt)(?=:|$)")


class Pipelines:
    """`steps` are the names of what can be run; the runner executes `falaj step <step> <run id>` or the like."""

    def __init__(self, kernel: Kernel, runner: Runner, steps: tuple[str, ...]) -> None:
        self.kernel = kernel
        self.runner = runner
        self.steps = steps

    def fresh_id(self, step: str, params: Mapping[str, Any]) -> str:
        """An id that nobody has yet, the same for the same step, parameters, time and history."""
        wanted = {"step": step, "params": encode(params), "at": iso(self.kernel.now())}
        count = 0
        while self.kernel.ledger.get("run", run_id := f"{step}-{digest_of({**wanted, 'n': count})[7:17]}") is not None:
            count += 1
        return run_id

    @action("run.start")
    def start(self, act: Act, run: Ref, *, step: str, params: Mapping[str, Any]) -> Run:
        """Records the run and submits it; returns at once. Raises NotFound for an unknown step, Conflict for a used id."""
        if step not in self.steps:
            raise NotFound.named("step", step, self.steps)
        started = Run(run.name, step, dict(params), "running", started_at=act.now)
        with act.change() as draft:
            if draft.get("run", run.name) is not None:
                raise Conflict(f"There is a run named {run.name!r} already.", f"falaj run show {run.name}")
            draft.put("run", run.name, started)
            draft.note(step=step, params=params)
        self.runner.submit(run.name, step, params)
        return started

    @action("run.finish")
    def finish(self, act: Act, run: Ref, *, state: str, outputs: tuple[Ref, ...] = (), failure: str | None = None) -> Run:
        """Records how a run ended. The same end twice changes nothing."""
        with act.change() as draft:
            known = self._read(draft.get("run", run.name), run.name)
            ended = known if known.state == state else known.move(state, ended_at=act.now, failure=failure)
            ended = replace(ended, outputs=tuple(dict.fromkeys((*known.outputs, *outputs))))
            draft.put("run", run.name, ended)
            draft.note(state=state, outputs=list(outputs), **({"failure": failure[-2000:]} if failure else {}))
        return ended

    def get(self, run_id: str) -> Run:
        return self._read(self.kernel.ledger.get("run", run_id), run_id)

    def live(self) -> list[Run]:
        """Runs that have not ended, oldest first."""
        runs = [decode(Run, body) for _, body in self.kernel.ledger.find("run")]
        return sorted(
            (run for run in runs if run.state in LIVE), key=lambda run: (run.started_at is None, run.started_at, run.id)
        )

    def listing(self) -> list[Run]:
        return [decode(Run, body) for _, body in self.kernel.ledger.find("run")]

    def watch(self, actor: Actor) -> list[Run]:
        """Looks after live runs: resubmits one that never reached the runner, marks one that ended without saying so."""
        ended = []
        for run in self.live():
            try:
                state, why = self.runner.look(run.id)
            except NotFound:
                self.runner.submit(run.id, run.step, run.params)
                continue
            if state != "running" and self.get(run.id).state in LIVE:
                failure = None if state == "succeeded" else _ending(why)
                ended.append(self.finish(actor, Ref("run", run.id), state=state, failure=failure))
        return ended

    def _read(self, body: Mapping[str, Any] | None, run_id: str) -> Run:
        if body is None:
            raise NotFound.named("run", run_id, [key for key, _ in self.kernel.ledger.find("run")])
        return decode(Run, body)


def _ending(why: str) -> str:
    """How a run ended, as in `exit -9`, without its last words: they may hold what stood in a row, and no leaf is taken back."""
    found = _ENDING.match(why)
    return f"{found[0] if found else 'it died'}: the run's own log says why"
