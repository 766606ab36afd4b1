"""kill -9 loses nothing that was acknowledged."""

from pathlib import Path

import pytest

from tests.crash.inference_kill import VICTIMS, kill_and_count


@pytest.mark.slow
def test_an_endpoint_whose_processes_are_killed_ten_times_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    found = kill_and_count(tmp_path, 10)
    assert found.is_good, found
    assert found.predictions > 200
    assert found.labels > 20
    assert set(found.kills) == set(VICTIMS)
