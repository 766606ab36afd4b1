"""The catalogue says what is known of each feature, and finds it by words, slips of the pen included."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from falaj.core.moments import millis
from falaj.stages.features.catalogue import Known, describe, entries, search
from falaj.stages.features.spec import Entity, View, WindowView, count, difference, distinct, inputs, mean, share, years_since

AIRPORT = Entity("airport", "origin", description="where a flight leaves", owner="network team")
WEATHER = View(
    "weather_now",
    "weather",
    AIRPORT,
    ("temp", "wind_speed"),
    "observed_at",
    ttl="3h",
    description="The latest weather report of an airport.",
    owner="amal",
    tags=("meteo",),
    descriptions={"temp": "air temperature in degrees Fahrenheit"},
)
DELAYS = WindowView(
    "carrier_delays",
    "flights",
    "carrier",
    "landed_at",
    ("3h", "7d"),
    "1h",
    (
        mean("arr_delay", "delay"),
        share("late"),
        count("landed"),
        count("long", "arr_delay", where=(">", 60)),
        distinct("tail", "n"),
    ),
    version=2,
    descriptions={"delay": "how late an airline has been", "late_7d": "the week's share of late arrivals"},
)
PLANE = View("plane", "planes", "tailnum", ("built", "seats"), "known_at")
RECIPE = inputs(WEATHER["temp"], years_since(PLANE["built"], "age"), difference(DELAYS["delay_3h"], "minutes", "more"))
NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
KNOWN = Known(
    {"weather": {"temp": "number", "wind_speed": "number"}, "planes": {"seats": "integer"}},
    {"weather_now": millis(NOON), "plane": None},
    [("model/delay@3", RECIPE), ("model/other@1", inputs(WEATHER.all()))],
)
ALL = entries((WEATHER, DELAYS, PLANE), KNOWN)
BY_NAME = {(entry.kind, entry.name): entry for entry in ALL}


def test_a_feature_is_shown_with_all_that_is_known_of_it() -> None:
    temp = BY_NAME["feature", "weather_now.temp"]
    assert (temp.description, temp.owner, temp.type) == ("air temperature in degrees Fahrenheit", "amal", "number")
    assert (temp.dataset, temp.columns, temp.entity, temp.ttl, temp.newest) == ("weather", ("temp",), "origin", "3h", NOON)
    assert temp.models == ("model/delay@3", "model/other@1")
    assert BY_NAME["feature", "plane.built"].models == ("model/delay@3",)
    assert BY_NAME["feature", "carrier_delays.delay_3h"].models == ("model/delay@3",)
    assert BY_NAME["feature", "plane.seats"].models == ()
    assert BY_NAME["view", "carrier_delays"].version == 2


def test_a_window_feature_says_in_words_what_it_counts() -> None:
    assert BY_NAME["feature", "carrier_delays.delay_3h"].description == (
        "how late an airline has been; mean of arr_delay over the last 3 hours"
    )
    late = BY_NAME["feature", "carrier_delays.late_7d"]
    assert late.description.startswith("the week's share of late arrivals; share of events with late over the last 7 days")
    assert describe(count("n", "arr_delay", where=(">", 60)), "1d") == "number of events with arr_delay > 60 over the last 1 day"
    assert describe(count("n"), "90s") == "number of events over the last 90 seconds"


def test_entities_are_listed_once_with_their_keys() -> None:
    assert [entry.name for entry in ALL if entry.kind == "entity"] == ["airport", "carrier", "tailnum"]
    assert BY_NAME["entity", "airport"].columns == ("origin",)


def found(words: str) -> list[str]:
    return [entry.name for _, entry in search(ALL, words)]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("delay last hours", "carrier_delays.delay_3h"),
        ("temperature", "weather_now.temp"),
        ("temprature of the air", "weather_now.temp"),
        ("wether", "weather_now"),
        ("late week", "carrier_delays.late_7d"),
        ("seats", "plane.seats"),
        ("different tail 7 days", "carrier_delays.n_7d"),
        ("meteo report", "weather_now"),
        ("airports", "airport"),
    ],
)
def test_what_is_meant_comes_first(words: str, first: str) -> None:
    assert found(words)[0] == first


def test_what_has_none_of_the_words_is_not_found_and_the_order_never_changes() -> None:
    assert found("quarterly revenue") == []
    assert found("") == []
    assert search([], "delay") == []
    assert found("delay") == found("delay")
    scores = [score for score, _ in search(ALL, "delay hours")]
    assert scores == sorted(scores, reverse=True)
    assert len(search(ALL, "delay", most=2)) == 2
