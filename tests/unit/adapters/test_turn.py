"""Processes take turns at a ledger, whoever asks more often."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from falaj.adapters.local.turn import Turn
from falaj.core.errors import Unavailable


def test_who_gives_the_turn_back_does_not_get_it_before_who_waits(tmp_path: Path) -> None:
    """Two openings of the same file are to the kernel what two processes are."""
    greedy, patient = Turn(tmp_path / "ledger.db", 20), Turn(tmp_path / "ledger.db", 20)
    order: list[str] = []
    greedy.take()
    trying = threading.Event()

    def wait() -> None:
        trying.set()
        patient.take()
        order.append("patient")
        patient.give()

    thread = threading.Thread(target=wait)
    thread.start()
    assert trying.wait(20)
    until = time.monotonic() + 20
    while _is_next_free(tmp_path) and time.monotonic() < until:  # until the other one is next
        time.sleep(0.001)
    greedy.give()
    greedy.take()
    order.append("greedy")
    greedy.give()
    thread.join(20)
    assert order == ["patient", "greedy"]
    greedy.close()
    patient.close()


def _is_next_free(folder: Path) -> bool:
    import fcntl
    import os

    file = os.open(folder / "ledger.db-next", os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)


def test_who_waits_too_long_is_told_so_and_leaves_the_place_to_the_next(tmp_path: Path) -> None:
    one, two, three = (Turn(tmp_path / "ledger.db", 0.05) for _ in range(3))
    one.take()
    for turn in (two, three):
        with pytest.raises(Unavailable, match="another process"):
            turn.take()
    one.give()
    three.take()
    for turn in (one, two, three):
        turn.close()
    one.take()  # closing gives back, and what was closed can be used again
    one.close()


def test_only_the_owner_may_use_its_files(tmp_path: Path) -> None:
    turn = Turn(tmp_path / "ledger.db", 1)
    turn.take()
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    turn.close()
