"""What `falaj feature list` and `falaj feature get` say of the online store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.operations import OPERATIONS
from falaj.ports.online import Stored
from falaj.stages.features.mark import Mark, definition, written

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
ME = Actor("amal", roles=("operator",))
PROJECT = """
from falaj import Dataset
from falaj.stages.features.spec import View
weather = Dataset("weather", contract="weather.odcs.yaml", source=lambda since, until: None, time="at", known="at")
now = View("weather_now", "weather", entity="origin", features=("temp", "sky"), time="at", ttl="3h")
views = (now,)
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    settings = {"modules": module, "clock": "replay", "host": "memory", "online": "memory", "mirror": "none", "name": "p"}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        app.clock.tell(NOW)
        yield app


def do(app: App, verb: str, subject: str | None = None, **given: Any) -> Any:
    operation = next(o for o in OPERATIONS if o.name == f"feature.{verb}")
    return operation.do(app, ME, subject, given)


def test_a_view_that_was_never_filled_says_so(app: App) -> None:
    (view,) = do(app, "list")
    assert (view["entities"], view["newest"], view["age_s"], view["fresh"], view["until"], view["lag_s"]) == (0, *[None] * 5)


def test_a_view_knows_its_age_against_its_ttl_and_its_lag_behind_the_snapshots(app: App) -> None:
    until = NOW - 2 * HOUR
    with app.ledger.transaction() as tx:
        change = Change("head", "dataset/weather", {"version": 1, "watermark": iso(NOW - HOUR), "known_rows": 1})
        tx.append(Event("dataset.ingest", Ref("dataset", "weather"), ME, NOW, {}, (change,)))
    mark = written(Mark(definition(app.features.view("weather_now")), until, until))
    app.online.put("weather_now", {"JFK": Stored(millis(NOW - 4 * HOUR), (1.0, "clear"))}, mark)
    (view,) = do(app, "list")
    assert (view["age_s"], view["ttl_s"], view["fresh"]) == (4 * 3600, 3 * 3600, False)
    assert (view["until"], view["lag_s"]) == (until, 3600)
    app.online.put("weather_now", {"EWR": Stored(millis(NOW - HOUR), (1.0, "clear"))})
    (view,) = do(app, "list")
    assert (view["entities"], view["newest"], view["fresh"]) == (2, NOW - HOUR, True)


def test_rows_are_read_as_an_inference_server_reads_them(app: App) -> None:
    app.online.put("weather_now", {"JFK": Stored(millis(NOW - HOUR), (float("inf"), "غائم")), "EWR": Stored(5, (None, None))})
    jfk, ewr, none = do(app, "get", "weather_now", entity="JFK,EWR,LGA")
    assert jfk == {"entity": "JFK", "at": NOW - HOUR, "age_s": 3600, "fresh": True, "values": {"temp": "inf", "sky": "غائم"}}
    assert (ewr["fresh"], ewr["values"]) == (False, {"temp": None, "sky": None})
    assert none == {"entity": "LGA", "at": None, "age_s": None, "fresh": None, "values": None}


def test_asking_for_nothing_or_for_too_much_is_refused(app: App) -> None:
    with pytest.raises(NotFound, match="weather_now"):
        do(app, "get", "weather", entity="x")
    with pytest.raises(InvalidInput, match="1 to 1,000"):
        do(app, "get", "weather_now", entity=["x"] * 1_001)
    app.online.put("weather_now", {"JFK": Stored(1, (1.0,))})
    with pytest.raises(NotFound, match="another definition"):
        do(app, "get", "weather_now", entity="JFK")
