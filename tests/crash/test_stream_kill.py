"""kill -9 of a stream worker loses no message and doubles no prediction and no answer, whatever the broker."""

from pathlib import Path

import pytest

from tests.crash.stream_kill import rounds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("broker", "count"), [("file", 6), ("redis", 4), ("nats", 4), ("kafka", 2)])
def test_every_message_has_one_prediction_and_one_answer(broker: str, count: int, tmp_path: Path) -> None:
    found = rounds(broker, tmp_path, count, seed=3)
    assert found.is_right, found
    assert found.midway or broker == "kafka", found
