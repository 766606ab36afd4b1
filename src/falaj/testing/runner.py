"""What every runner must keep. Subclass it, give it `submit_ok`, `submit_failing` and `runner`, and run it with pytest."""

from __future__ import annotations

import time

import pytest

from falaj.core.errors import NotFound
from falaj.ports.runner import Runner, RunState


class RunnerContract:
    """`runner()` returns a runner whose step `good` ends well, `bad` fails saying "no luck", and `slow` takes ten seconds."""

    __test__ = False

    def runner(self) -> Runner:
        raise NotImplementedError

    def test_a_run_that_ends_well_is_seen_to_have_succeeded(self) -> None:
        runner = self.runner()
        runner.submit("r1", "good", {"a": 1})
        assert settled(runner, "r1") == ("succeeded", "")

    def test_a_run_that_fails_says_why(self) -> None:
        runner = self.runner()
        runner.submit("r1", "bad", {})
        state, why = settled(runner, "r1")
        assert state == "failed"
        assert "no luck" in why

    def test_a_run_that_was_never_submitted_is_not_found(self) -> None:
        with pytest.raises(NotFound):
            self.runner().look("r9")

    def test_a_failed_run_can_be_submitted_again(self) -> None:
        runner = self.runner()
        runner.submit("r1", "bad", {})
        settled(runner, "r1")
        runner.submit("r1", "good", {})
        assert settled(runner, "r1") == ("succeeded", "")


def settled(runner: Runner, run_id: str, seconds: float = 20.0) -> tuple[RunState, str]:
    """What became of the run, once it is no longer running."""
    until = time.monotonic() + seconds
    while True:
        state, why = runner.look(run_id)
        if state != "running" or time.monotonic() > until:
            return state, why
        time.sleep(0.02)
