"""kill -9 while features are materialised changes nothing of what the store holds in the end."""

from pathlib import Path

import pytest

from tests.crash.materialise_kill import kill_and_compare

pytestmark = pytest.mark.slow


def test_an_embedded_store_is_the_same_after_twelve_kills(tmp_path: Path) -> None:
    found = kill_and_compare(tmp_path, 12, every=6)
    assert found.differing == []
    assert found.met_midway > 3


def test_redis_holds_the_same_after_six_kills(tmp_path: Path, redis_url: str) -> None:
    found = kill_and_compare(tmp_path, 6, every=6, redis_url=redis_url)
    assert found.differing == []
    assert found.met_midway > 1
