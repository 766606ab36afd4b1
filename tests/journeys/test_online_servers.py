"""An inference server that reads its features from Redis or PostgreSQL, found through a reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falaj.adapters import open_adapter
from falaj.core.errors import Conflict, Unavailable
from falaj.core.moments import millis
from falaj.ports.online import Stored
from tests.kits.endpoint import AT, REQUEST, Installation

pytestmark = pytest.mark.slow


@pytest.fixture(params=["redis", "postgres"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Installation, Any]]:
    url = request.getfixturevalue("redis_url" if request.param == "redis" else "postgresql_url")
    (tmp_path / "online-url").write_text(url)
    told = {"online_scheme": request.param, "online_url": f"file:{tmp_path}/online-url", "project": "journey"}
    place = Installation(tmp_path / "state", {"clock": "replay", **told})
    store = open_adapter("online", request.param, url=url, project="journey")
    store.clear("weather_now")
    try:
        yield place, store
    finally:
        place.close()
        store.close()


def test_what_is_put_there_is_what_the_model_reads(served: tuple[Installation, Any]) -> None:
    place, store = served
    key = place.key("app", "caller")
    place.host.serve(place.wanted(), place.keys)
    assert "online-url" in (place.folder / "settings.json").read_text()
    with place.client(key) as client:
        first = client.post("/v1/models/delay:predict", json={"requests": [REQUEST]}).json()
        store.put("weather_now", {"EWR": Stored(millis(AT), (900.0,))})
        second = client.post("/v1/models/delay:predict", json={"requests": [REQUEST]}).json()
    before, after = first["predictions"][0], second["predictions"][0]
    assert (before["missing_views"], after["missing_views"]) == (["weather_now"], [])
    assert after["score"] > before["score"]


def test_a_server_whose_reference_leads_nowhere_does_not_start_and_says_why(tmp_path: Path) -> None:
    told = {"online_scheme": "redis", "online_url": "env:NOT_SET_ANYWHERE", "project": "journey"}
    place = Installation(tmp_path / "state", told)
    try:
        with pytest.raises((Conflict, Unavailable), match="leads nowhere"):
            place.host.serve(place.wanted(), place.keys)
    finally:
        place.close()
