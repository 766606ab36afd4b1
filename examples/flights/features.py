"""The features of a flight: the weather at its airport, how its airline and its airport have been doing, its aircraft."""

from __future__ import annotations

from falaj import View, WindowView, category, count, inputs, local, mean, number, share, years_since

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
_LANDINGS = (mean("arr_delay", "delay"), share("late", "late"), count("landed"))

weather_now = View(
    "weather_now",
    dataset="weather",
    entity="origin",
    features=("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"),
    time="observed_at",
    ttl="3h",
)
plane = View("plane", dataset="planes", entity="tailnum", features=("built", "seats"), time="known_at")
carrier_delays = WindowView(
    "carrier_delays",
    dataset="flights",
    entity="carrier",
    time="landed_at",
    windows=("3h", "24h", "7d"),
    every="1h",
    aggregates=_LANDINGS,
    ttl="2h",
)
origin_delays = WindowView(
    "origin_delays",
    dataset="flights",
    entity="origin",
    time="landed_at",
    windows=("3h", "24h"),
    every="1h",
    aggregates=_LANDINGS,
    ttl="2h",
)

recipe = inputs(
    weather_now.all(),
    carrier_delays.all(),
    origin_delays.all(),
    years_since(plane["built"], "plane_age"),
    plane["seats"],
    number("distance"),
    number("block_minutes"),
    category("carrier", CARRIERS),
    category("origin", ORIGINS),
    local("at", zone="America/New_York", parts=("hour", "weekday", "month")),
)
