"""Every runner keeps the port; the process runner also survives its own end."""

import sys
from pathlib import Path

import psutil
import pytest

from falaj.adapters.local.runner import ProcessRunner
from falaj.adapters.memory.runner import MemoryRunner
from falaj.core.errors import InvalidInput
from falaj.ports.runner import Runner
from falaj.testing.runner import RunnerContract, settled

SCRIPT = """
import sys, time
step = sys.argv[1]
if step == "bad":
    raise SystemExit("no luck")
if step == "slow":
    time.sleep(10)
"""


def _inline(step: str, run_id: str) -> None:
    if step == "bad":
        raise ValueError("no luck")


class TestMemoryRunner(RunnerContract):
    __test__ = True

    def runner(self) -> Runner:
        return MemoryRunner(_inline)


class TestProcessRunner(RunnerContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def runner(self) -> ProcessRunner:
        return ProcessRunner(self.folder, (sys.executable, "-c", SCRIPT))

    def test_another_process_sees_the_run_and_can_cancel_it(self) -> None:
        self.runner().submit("r1", "slow", {})
        later = self.runner()
        assert later.look("r1") == ("running", "")
        later.submit("r1", "slow", {})
        later.cancel("r1")
        assert settled(later, "r1")[0] == "failed"
        left = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
        assert not [p for p in left if "time.sleep(10)" in " ".join(p.cmdline())]

    def test_a_run_id_is_never_a_path(self) -> None:
        with pytest.raises(InvalidInput):
            self.runner().submit("../x", "good", {})
