"""kill -9 loses nothing that was acknowledged."""

from pathlib import Path

import pytest

from tests.crash.inference_kill import kill_and_count


@pytest.mark.slow
def test_a_server_that_is_killed_eight_times_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    found = kill_and_count(tmp_path, 8)
    assert found.lost == []
    assert found.errors == []
    assert found.bad_seals == []
    assert found.predictions > 200
    assert found.labels > 20
