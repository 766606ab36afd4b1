"""What a person can ask about features: what there is, what fits some words, and why a value is what it is."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from falaj.app import App, init_project, open_app
from falaj.core.actor import Actor
from falaj.core.codec import encode
from falaj.core.errors import NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.core.segment import PredictionId
from falaj.operations import OPERATIONS
from falaj.ports.online import Stored
from falaj.stages.features.spec import inputs, number, ratio

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
AMAL = Actor("amal", roles=("operator",))
BY_NAME = {operation.name: operation for operation in OPERATIONS}
PROJECT = '''
"""The weather, hour by hour, and how often it was seen."""

from datetime import UTC, datetime, timedelta

import polars as pl

from falaj import Dataset, Entity, View, WindowView, count, mean

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = [(origin, START + timedelta(hours=hour), float(hour)) for hour in range(90) for origin in ("A", "B")]
ROWS = pl.DataFrame(HOURS, schema={"origin": pl.String, "seen_at": pl.Datetime("ms", "UTC"), "temp": pl.Float64}, orient="row")


def read(since, until):
    return ROWS.filter((pl.col("seen_at") <= until) & (True if since is None else pl.col("seen_at") > since))


airport = Entity("airport", "origin", description="where a flight leaves", owner="network")
weather = Dataset("weather", "weather.odcs.yaml", read, "seen_at", "seen_at", every="1h")
now = View(
    "weather_now", "weather", airport, ("temp",), "seen_at", ttl="3h",
    description="the latest report", owner="amal", descriptions={"temp": "temperature in degrees"},
)
day = WindowView(
    "weather_day", "weather", airport, "seen_at", ("24h",), "1h", (mean("temp", "warmth"), count("reports")), ttl="2h"
)
'''
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: weather
version: 1.0.0
status: active
schema:
  - name: weather
    properties:
      - {name: origin, logicalType: string}
      - {name: seen_at, logicalType: timestamp, required: true}
      - {name: temp, logicalType: number}
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    module = f"project_{uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(PROJECT)
    (tmp_path / "weather.odcs.yaml").write_text(CONTRACT)
    settings = {"modules": module, "clock": "replay", "runner": "memory", "host": "memory", "online": "memory", "mirror": "none"}
    init_project(tmp_path, settings)
    with open_app(tmp_path, settings) as app:
        assert app.worker.tick(NOW).problems == []
        yield app


def ask(app: App, name: str, subject: str | None = None, **given: Any) -> Any:
    return BY_NAME[name].do(app, AMAL, subject, given)


def with_a_model(app: App) -> None:
    """A registered model, as the ledger has it."""
    recipe = inputs(
        app.project.views["weather_now"].all(), number("miles"), ratio("miles", app.project.views["weather_now"]["temp"], "r")
    )
    manifest = {"payload": b64encode(json.dumps({"recipe": encode(recipe)}).encode()).decode()}
    model = {"ref": "model/delay@1", "asset": {"labels": {"recipe": "sha256:r"}}, "manifest": manifest}
    changes = (
        Change("recipe", "sha256:r", encode(recipe)),
        Change("model", "delay@1", model),
        Change("endpoint", "delay", {"wanted": {"arms": []}}),
    )
    with app.ledger.transaction() as tx:
        tx.append(Event("model.register", Ref("model", "delay", "1"), AMAL, NOW, {}, changes))


def test_a_view_is_shown_with_its_entity_its_features_and_the_models_that_read_them(app: App) -> None:
    with_a_model(app)
    shown = ask(app, "feature.show", "weather_now")
    assert shown["entity"] == {
        "name": "airport", "keys": ("origin",), "kind": "string", "description": "where a flight leaves"
    }  # fmt: skip
    assert shown["recorded"] is True
    assert (shown["version"], shown["owner"], shown["ttl"], shown["newest"], shown["models"]) == (
        1, "amal", "3h", NOW, ("model/delay@1",)
    )  # fmt: skip
    (temp,) = shown["features"]
    assert (temp["type"], temp["models"], temp["description"]) == ("number", ("model/delay@1",), "temperature in degrees")
    with pytest.raises(NotFound, match="weather_now"):
        ask(app, "feature.show", "weather_nov")
    assert {row["view"]: row["entities"] for row in ask(app, "feature.list")} == {"weather_now": 2, "weather_day": 2}


def test_features_are_found_by_words(app: App) -> None:
    found = ask(app, "feature.search", **{"for": "temperatur last day"})
    assert {row["name"] for row in found[:3]} >= {"weather_now.temp", "weather_day.warmth_24h"}
    assert len(ask(app, "feature.search", **{"for": "weather", "limit": 2})) == 2


def test_a_value_is_explained_after_a_restart_from_the_snapshots_alone(app: App) -> None:
    folder, settings = app.settings.folder, {name: value.value for name, value in app.settings.values.items()}
    app.close()
    with open_app(folder, settings) as later:
        told = ask(later, "feature.explain", "weather_now", entity="A", feature="temp", at=iso(NOW))
        assert told["value"] == 36.0
        assert told["rows"][0]["_snapshot"] == "dataset/weather@1"
        day = ask(later, "feature.explain", "weather_day", entity="A", feature="warmth_24h", at=iso(NOW))
        assert day["arithmetic"] == {"sum": sum(range(13, 37)), "count": 24.0}
        whole = ask(later, "feature.explain", "weather_day", entity="A", at=iso(NOW))
        assert (whole["values"]["reports_24h"], len(whole["rows"])) == (24.0, 24)


def test_a_column_of_a_prediction_is_explained_by_its_id(app: App) -> None:
    with_a_model(app)
    at = NOW - timedelta(minutes=30)
    issued = PredictionId(0, 0, 7).issue(b"k" * 32)
    record = {
        "kind": "prediction", "id": issued, "at": iso(at), "model": "model/delay@1",
        "request": {"at": iso(at), "origin": "B", "miles": 70}, "features": [35.0, 70.0, 2.0],
    }  # fmt: skip
    folder = app.state / "serving" / "delay" / "segments"
    folder.mkdir(parents=True)
    (folder / "000000.jsonl").write_text(json.dumps(record) + "\n")
    told = ask(app, "prediction.explain", issued, column="r")
    assert (told["value"], told["logged"], told["request"]) == (2.0, 2.0, {"miles": 70})
    assert told["why"] == "r is 2.0: ratio of miles = 70, weather_now.temp = 35.0."
    assert told["cells"][0]["at"] == NOW - timedelta(hours=1)
    with pytest.raises(NotFound, match="No prediction log"):
        ask(app, "prediction.explain", PredictionId(3, 0, 7).issue(b"k" * 32), column="r")


def test_the_row_that_is_stored_is_explained_and_held_against_the_snapshots(app: App) -> None:
    app.clock.tell(NOW + timedelta(minutes=40))
    told = ask(app, "feature.explain", "weather_now", entity="A", feature="temp")
    assert (told["at"], told["value"], told["agrees"]) == (NOW, 36.0, True)
    assert told["note"] == f"It is the row of {iso(NOW)} that the store holds."
    app.online.put("weather_now", {"A": Stored(millis(NOW), (99.0,))})
    told = ask(app, "feature.explain", "weather_now", entity="A", feature="temp")
    assert (told["value"], told["stored_at"], told["stored"], told["agrees"]) == (36.0, NOW, 99.0, False)
    assert told["note"] == f"It differs from the row of {iso(NOW)} that the store holds: temp."
    whole = ask(app, "feature.explain", "weather_now", entity="A")
    assert (whole["stored"], whole["agrees"]) == ({"temp": 99.0}, False)
    nobody = ask(app, "feature.explain", "weather_now", entity="Z")
    assert (nobody["stored"], nobody["agrees"]) == (None, None)
    assert nobody["note"] == "The store holds no row of Z: this is what the snapshots say of now."


def test_an_explanation_says_what_the_snapshots_lack(app: App) -> None:
    later = NOW + timedelta(hours=3)
    app.clock.tell(later)
    app.features.refresh(later)  # straight from the source: the snapshots still end at noon
    told = ask(app, "feature.explain", "weather_day", entity="A", feature="reports_24h")
    assert (told["stored_at"], told["covered"], told["later_events"], told["agrees"]) == (later, NOW, 3, False)
    assert told["note"].startswith(f"Snapshots reach until {iso(NOW)}: 3 later events are not in them")
    then = ask(app, "feature.explain", "weather_day", entity="A", feature="reports_24h", at=iso(NOW))
    assert (then["later_events"], then["stored"]) == (0, None)
    assert then["note"].startswith(f"It is what the snapshots say of {iso(NOW)}")


def test_a_command_compares_at_once_what_snapshots_cover_and_says_what_to_do_about_the_rest(app: App) -> None:
    """Each command is a process of its own: nothing can wait in it."""
    app.clock.tell(NOW + timedelta(minutes=40))
    assert ask(app, "feature.compare", "weather_now").verdict == "allow"
    app.online.put("weather_now", {"A": Stored(millis(NOW), (99.0,))})
    assert ask(app, "feature.compare", "weather_now").verdict == "deny"
    later = NOW + timedelta(hours=3)
    app.clock.tell(later)
    app.features.refresh(later)
    decision = ask(app, "feature.compare", "weather_day")
    assert decision.verdict == "hold"
    assert decision.reason == "the snapshots have not come to what is stored: falaj dataset ingest weather, then again"
    ask(app, "dataset.ingest", "weather", until=iso(later))
    assert ask(app, "feature.compare", "weather_day").verdict == "allow"


def test_rows_are_compared_on_demand(app: App) -> None:
    assert ask(app, "feature.compare", "weather_now").verdict == "allow"
    app.online.clear("weather_now")
    assert ask(app, "feature.compare", "weather_now").verdict == "deny"
