"""Parity of stored rows: what is read now is compared once the snapshots have come to that time."""

from __future__ import annotations

import random
from datetime import timedelta

import polars as pl
import pytest

from falaj.core.errors import Conflict
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.ports.online import Stored
from falaj.stages.features.service import Features
from falaj.stages.features.spec import Entity, View
from tests.unit.features.test_service import HOUR, ME, START, Tables, features, tables

pick = random.Random(1).sample


def snapshots_reach(made: Features, hours: float) -> None:
    with made.kernel.ledger.transaction() as tx:
        for name in ("weather", "planes", "flights"):
            change = {"version": 1, "watermark": iso(START + hours * HOUR), "known_rows": 1}
            tx.append(Event("dataset.ingest", Ref("dataset", name), ME, START, {}, (Change("head", f"dataset/{name}", change),)))


@pytest.mark.slow
@pytest.mark.parametrize("view", ["weather_now", "plane", "delays"])
def test_every_stored_row_is_as_the_snapshots_say(view: str) -> None:
    made = features()
    compared = 0
    for step in range(3, 70):
        now = START + step * timedelta(minutes=31)
        snapshots_reach(made, step * 31 / 60)
        made.refresh(now)
        tally = made.sample(view, now, pick)
        compared = tally.rows
        assert tally.is_clear, tally.differences
    assert compared > 60
    assert made.compare(ME, Ref("view", view)).verdict == "allow"
    assert made.compare(ME, Ref("view", view)).verdict == "hold"


def test_a_read_waits_until_the_snapshots_have_come_to_its_time() -> None:
    made = features()
    snapshots_reach(made, 5)
    for hour in (6, 7, 8):
        made.refresh(START + hour * HOUR)
        assert made.sample("delays", START + hour * HOUR, pick).rows == 0
    decision = made.compare(ME, Ref("view", "delays"))
    assert decision.verdict == "hold"
    assert "wait" in decision.checks[0].seen
    snapshots_reach(made, 7)
    tally = made.sample("delays", START + 8 * HOUR, pick)
    assert tally.rows == 4  # both carriers, at six and at seven
    assert tally.is_clear


def test_a_value_that_was_changed_in_the_store_is_found_and_named_without_its_value() -> None:
    made = features()
    now = START + 10 * HOUR
    made.refresh(now)
    made.online.put("delays", {"UA": Stored(millis(now), (1.0, 2.0, 3.0, 4.0, 5.0, 666.25))})
    tally = made.sample("delays", now, pick)
    assert {(one.entity, one.feature) for one in tally.differences if one.online == 666.25} == {("UA", "landed_6h")}
    decision = made.compare(ME, Ref("view", "delays"))
    assert decision.verdict == "deny"
    assert "landed_6h" in {check.name for check in decision.failed}
    assert "666.25" not in str(decision)
    assert "UA" not in str(decision)
    (event,) = made.kernel.ledger.events(verb="feature.compare")
    assert event.facts["differences"] == 6
    assert "666.25" not in str(event)


def test_a_row_that_is_missing_or_of_another_time_is_found() -> None:
    made = features()
    now = START + 10 * HOUR
    made.refresh(now)
    made.sample("delays", now, pick)
    made.online.clear("delays")
    made.online.put("delays", {"AA": Stored(millis(now - HOUR), (0.0,) * 6)})
    found = {one.entity: (one.feature, one.online, one.offline) for one in made.sample("delays", now, pick).differences}
    assert found == {"UA": ("at", None, iso(now)), "AA": ("at", iso(now - HOUR), iso(now))}


def test_a_row_that_is_too_old_to_be_served_is_not_missed() -> None:
    made = features()
    made.refresh(START + 9 * HOUR)
    made.sample("weather_now", START + 9 * HOUR, pick)
    made.refresh(START + 13 * HOUR)  # four hours without weather, and a ttl of three
    assert made.online.get([("weather_now", "JFK")])[0] is not None
    assert made.sample("weather_now", START + 12.5 * HOUR, pick).is_clear


def test_entities_of_several_columns_are_compared_too() -> None:
    held = tables()
    held.tables["weather"] = held.tables["weather"].with_columns(station=pl.lit("a|b"))
    made = features(held)
    view = View("sky", "weather", Entity("place", keys=("origin", "station")), ("temp",), "observed_at", ttl="3h")
    made.views["sky"] = view
    made.refresh(START + 5 * HOUR)
    assert made.online.get([("sky", "JFK|a\\|b")])[0] is not None
    tally = made.sample("sky", START + 5 * HOUR, pick)
    assert (tally.rows, tally.is_clear) == (1, True)


def test_a_dataset_without_snapshots_is_not_compared() -> None:
    made = features()
    with made.kernel.ledger.transaction() as tx:
        change = {"version": 0, "watermark": None, "known_rows": 0}
        tx.append(Event("dataset.ingest", Ref("dataset", "weather"), ME, START, {}, (Change("head", "dataset/weather", change),)))
    assert made.sample("weather_now", START + HOUR, pick).rows == 0
    empty = tables()
    empty.tables["planes"] = empty.tables["planes"].clear()
    assert features(empty).sample("plane", START + HOUR, pick).rows == 0


def test_two_definitions_under_one_version_are_refused_and_the_other_views_go_on() -> None:
    made = features()
    made.materialise(ME, Ref("view", "weather_now"), until=START + HOUR)
    now = View("weather_now", "weather", "origin", ("temp",), "observed_at", ttl="2h")
    held = Tables(tables().tables)
    later = Features(made.kernel, held, made.online, {**made.views, "weather_now": now})
    with pytest.raises(Conflict, match="features, ttl_ms differ") as caught:
        later.materialise(ME, Ref("view", "weather_now"), until=START + 2 * HOUR)
    assert "version=2" in caught.value.hint
    with pytest.raises(Conflict, match="'weather_now'"):
        later.refresh(START + 2 * HOUR)
    assert later.online.freshness("delays") == millis(START + 2 * HOUR)
    raised = View("weather_now", "weather", "origin", ("temp",), "observed_at", ttl="2h", version=2, description="the weather")
    third = Features(made.kernel, held, made.online, {"weather_now": raised})
    third.materialise(ME, Ref("view", "weather_now"), until=START + 2 * HOUR)
    assert sorted(key for key, _ in made.kernel.ledger.find("view")) == ["weather_now@1", "weather_now@2"]
    assert [event.facts["version"] for event in made.kernel.ledger.events(verb="feature.materialise")] == [1, 2]


def test_what_only_describes_a_view_may_change_under_its_version() -> None:
    made = features()
    made.materialise(ME, Ref("view", "plane"), until=START)
    told = View("plane", "planes", "tailnum", ("built",), "known_at", description="aircraft", owner="amal", tags=("fleet",))
    Features(made.kernel, tables(), made.online, {"plane": told}).materialise(ME, Ref("view", "plane"), until=START)
