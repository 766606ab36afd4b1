"""A server's settings and its clock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import iso
from falaj.inference.settings import ServerSettings, event_time, read_settings, settings_from

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIVEN = {"endpoint": "delay", "blobs": "/b", "online": "/o", "public_key": "/k", "pepper": "/p"}


def test_the_rest_has_defaults() -> None:
    assert settings_from(GIVEN) == ServerSettings("delay", "/b", "/o", "/k", "/p")


@pytest.mark.parametrize(
    "changes", [{"sync": "never"}, {"clock": "sun"}, {"port": "x"}, {"port": True}, {"colour": 1}, {"endpoint": 3}]
)
def test_a_wrong_setting_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        settings_from({**GIVEN, **changes})


def test_missing_settings_say_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_settings(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InvalidInput):
        read_settings(tmp_path)


def test_the_wall_clock_is_the_servers_own() -> None:
    assert event_time("wall", None, NOW) == NOW
    assert event_time("wall", iso(NOW - timedelta(seconds=5)), NOW) == NOW


@pytest.mark.parametrize("seconds", [-6, 6, 86400])
def test_a_caller_whose_clock_is_off_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidInput, match="it is 2026"):
        event_time("wall", iso(NOW + timedelta(seconds=seconds)), NOW)


def test_replay_believes_the_request_and_needs_its_time() -> None:
    assert event_time("replay", "2013-05-01T09:30:00Z", NOW) == datetime(2013, 5, 1, 9, 30, tzinfo=UTC)
    for given in (None, 5, "noon", "2013-05-01T09:30:00"):
        with pytest.raises(InvalidInput):
            event_time("replay", given, NOW)
