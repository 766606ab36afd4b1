"""Killed with -9 under load, whatever it was: what was acknowledged is there."""

from pathlib import Path

import pytest

pytest.importorskip("lightgbm")

from tests.crash.replay_kill import play


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    seen = play(6, tmp_path / "demo")
    assert sum(seen.kills.values()) >= 6
    assert min(seen.acknowledged.values()) > 0
    assert seen.lost == {"prediction": 0, "label": 0, "key": 0}
    assert seen.ledger == "allow"
