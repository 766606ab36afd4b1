"""Declaring views and recipes: names follow from what was written, and mistakes are named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.recipe import Column
from falaj.stages.features.spec import (
    Aggregate,
    View,
    WindowView,
    category,
    count,
    inputs,
    local,
    mean,
    number,
    share,
    years_since,
)

WEATHER = View("weather_now", dataset="weather", entity="origin", features=("temp", "wind_speed"), time="observed_at", ttl="3h")
PLANE = View("plane", dataset="planes", entity="tailnum", features=("built", "seats"), time="known_at")
DELAYS = WindowView(
    "carrier_delays",
    dataset="flights",
    entity="carrier",
    time="landed_at",
    windows=("3h", "24h"),
    every="30m",
    aggregates=(mean("arr_delay", "delay"), share("late", "late"), count("landed")),
    ttl="1h",
)


def test_window_features_are_named_by_aggregate_and_window() -> None:
    assert DELAYS.places == ("delay_3h", "late_3h", "landed_3h", "delay_24h", "late_24h", "landed_24h")


def test_a_recipe_follows_from_what_is_put_in() -> None:
    recipe = inputs(
        WEATHER.all(),
        DELAYS["delay_3h"],
        years_since(PLANE["built"], "plane_age"),
        number("distance"),
        category("carrier", ("AA", "UA")),
        local("at", zone="America/New_York", parts=("hour", "month")),
    )
    assert recipe.names[:3] == ("weather_now.temp", "weather_now.wind_speed", "carrier_delays.delay_3h")
    assert recipe.names[3:] == ("plane_age", "distance", "carrier", "at_hour", "at_month")
    assert recipe.views == {"weather_now": "origin", "carrier_delays": "carrier", "plane": "tailnum"}
    assert recipe.ttl_ms == {"weather_now": 10_800_000, "carrier_delays": 3_600_000, "plane": None}
    assert recipe.columns[3] == Column("plane_age", "years_since", "plane.built")
    assert recipe.request_fields == ("at", "origin", "carrier", "tailnum", "distance")


def test_the_entity_may_come_from_a_request_field_of_another_name() -> None:
    assert inputs(WEATHER.all(), keys={"weather_now": "dest"}).views == {"weather_now": "dest"}


def test_mistakes_are_named_with_what_there_is() -> None:
    with pytest.raises(NotFound, match="wind_speed"):
        WEATHER["windspeed"]
    with pytest.raises(NotFound, match="weather_now"):
        inputs(WEATHER.all(), keys={"weather": "dest"})
    with pytest.raises(InvalidInput, match="named 'distance'"):
        inputs(number("distance"), number("distance"))
    with pytest.raises(InvalidInput, match="time field is 'at'"):
        inputs(local("when", zone="UTC", parts=("hour",)))
    with pytest.raises(NotFound, match="weekday"):
        local(zone="UTC", parts=("week",))
    with pytest.raises(InvalidInput, match="twice"):
        category("carrier", ("AA", "AA"))
    with pytest.raises(InvalidInput, match="median"):
        Aggregate("delay", "median", "arr_delay")
    with pytest.raises(InvalidInput, match="needs a column"):
        Aggregate("delay", "mean")
    with pytest.raises(InvalidInput, match="each named once"):
        View("v", "d", "e", (), "t")
    with pytest.raises(InvalidInput, match="entity or a time"):
        View("v", "d", "e", ("e",), "t")
    with pytest.raises(InvalidInput, match="not allowed"):
        View("V w", "d", "e", ("f",), "t")
    with pytest.raises(InvalidInput, match="ttl"):
        View("v", "d", "e", ("f",), "t", ttl="0s")
    with pytest.raises(InvalidInput, match="whole number of seconds"):
        WindowView("v", "d", "e", "t", ("3h",), "1ms", (count("n"),))


def test_two_views_of_one_name_are_refused() -> None:
    other = View("weather_now", dataset="weather", entity="origin", features=("temp", "dewp"), time="observed_at")
    with pytest.raises(InvalidInput, match="Two views"):
        inputs(WEATHER["temp"], other["dewp"])


def test_declaring_imports_no_heavy_library() -> None:
    seen = "import sys, falaj.stages.features.spec; print(sorted({'polars', 'numpy', 'lmdb'} & set(sys.modules)))"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {seen}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
