"""An erasure that is killed at any step is finished by the next round, without the person being named again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters.local.signing import checker, verifier
from falaj.stages.privacy.receipts import read, verify
from tests.crash.erasure_kill import OTHER, PERSON, REQUEST, Fuse, house, prepare

pytestmark = pytest.mark.slow


def run(folder: Path, what: str, steps: int) -> int:
    argv = [sys.executable, "-m", "tests.crash.erasure_kill", str(folder), what, str(steps)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def look(folder: Path) -> Any:
    return house(folder, Fuse(-1))


def test_an_erasure_that_is_killed_at_any_step_is_finished_by_the_next_round(tmp_path: Path) -> None:
    start = tmp_path / "start"
    prepare(start)
    killed = finished = 0
    for steps in range(0, 400, 3):
        folder = tmp_path / f"at-{steps}"
        shutil.copytree(start, folder)
        code = run(folder, "begin", steps)
        if look(folder).ledger.get("erasure", REQUEST) is None:
            assert code == -9
            run(folder, "begin", -1)  # nothing was said yet: whoever asked asks again
        elif code == -9:
            finished += 1
            again = run(folder, "resume", 2)  # killed once more on the way
            assert run(folder, "resume", -1) == 0 or again == 0
        killed += code == -9
        _is_erased(folder)
        shutil.rmtree(folder)
        if code == 0:
            break
    else:
        pytest.fail("it was never let go through")
    assert killed > 10
    assert finished > 8


def _is_erased(folder: Path) -> None:
    made = look(folder)
    assert made.register.probe(PERSON) == []
    assert len(made.register.probe(OTHER)) == 2
    assert made.subjects.unfinished() == []
    body = made.subjects.get(REQUEST)
    assert body["state"] == "done"
    assert body["sealed"] == ""
    assert made.affected.of("delay@1")["people"] == 1
    receipt = read(made.blobs.get(body["receipts"][-1]["digest"]))
    ledger = verifier(made.ledger.vkey)
    assert verify(receipt, checker(made.key.public_key), ledger).allowed
    assert PERSON.encode() not in made.everything()
    everything = b"".join(path.read_bytes() for path in (folder / "blobs").rglob("*") if path.is_file())
    assert PERSON.encode() not in everything
