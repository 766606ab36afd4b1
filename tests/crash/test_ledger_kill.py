"""What the ledger has acknowledged is there, whenever its process is killed and however many processes write."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import falaj
from falaj.adapters.local.ledger import SqliteLedger
from falaj.adapters.local.signing import verifier
from falaj.stages.governance.rules import verify

pytestmark = pytest.mark.slow

WRITER = Path(__file__).with_name("ledger_writer.py")


def write(folder: Path, name: str, count: int) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(falaj.__file__).parents[1])}
    command = [sys.executable, str(WRITER), str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def look(folder: Path) -> tuple[list[int], int]:
    """The seqs and the counter of a ledger that has to be whole."""
    ledger = SqliteLedger(folder / "ledger.db", folder / "key")
    with ledger.evidence() as evidence:
        decision = verify(evidence, verifier(ledger.vkey), now=datetime.now(UTC))
    assert decision.verdict == "allow", decision.failed
    found = [event.seq for event in ledger.events()], int((ledger.get("counter", "all") or {"n": 0})["n"])
    ledger.close()
    return found


def test_what_was_acknowledged_survives_the_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: list[int] = []
    for _ in range(10):
        process = write(tmp_path, "killed", 1_000_000)
        assert process.stdout is not None
        said = [process.stdout.readline()]
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        said += process.stdout.read().splitlines(keepends=True)
        process.wait(10)
        process.stdout.close()
        # The last line may be cut off by the kill; what stands before a newline was said.
        acknowledged += [int(line) for line in said if line.endswith("\n")]
        seqs, counter = look(tmp_path)
        assert seqs == list(range(len(seqs)))
        assert counter == len(seqs)
        assert set(acknowledged) <= set(seqs)
    assert len(acknowledged) == len(set(acknowledged)) > 10


def test_two_processes_that_write_at_once_leave_no_gap_and_lose_no_count(tmp_path: Path) -> None:
    processes = [write(tmp_path, name, 60) for name in ("one", "two")]
    said: list[int] = []
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        said += map(int, out.split())
    seqs, counter = look(tmp_path)
    assert sorted(said) == seqs == list(range(120))
    assert counter == 120


def test_a_writer_that_is_killed_inside_its_transaction_does_not_hold_the_lock(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from falaj.adapters.local.ledger import SqliteLedger
from falaj.testing.ledger import event
folder = Path(sys.argv[1])
with SqliteLedger(folder / 'ledger.db', folder / 'key').transaction() as tx:
    tx.append(event())
    print('inside', flush=True)
    time.sleep(600)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(falaj.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert look(tmp_path) == ([], 0)
    later = write(tmp_path, "later", 1)
    assert later.communicate(timeout=30)[0] == "0\n"


def test_processes_with_many_threads_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The short form of `python -m tests.crash.ledger_kill --rounds 1000`."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(falaj.__file__).parents[1]), str(root)])}
    command = [sys.executable, "-m", "tests.crash.ledger_kill", "--rounds", "12", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost: 12 rounds, 36 kills" in done.stdout
    assert "36 kills, 0 events" not in done.stdout
