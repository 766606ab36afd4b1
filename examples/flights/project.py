"""The flights project: at scheduled departure, will this flight arrive more than 15 minutes late?"""

from __future__ import annotations

from examples.flights import source
from examples.flights.features import carrier_delays, origin_delays, plane, weather_now
from examples.flights.models import THRESHOLD, delay, delay_network
from falaj import Canary, Dataset, Endpoint, Gate, Monitor

flights = Dataset("flights", contract="contracts/flights.odcs.yaml", source=source.flights, time="sched_dep_at", known="known_at")
weather = Dataset(
    "weather", contract="contracts/weather.odcs.yaml", source=source.weather, time="observed_at", known="observed_at"
)
planes = Dataset("planes", contract="contracts/planes.odcs.yaml", source=source.planes, time="known_at", known="known_at")

views = (weather_now, plane, carrier_delays, origin_delays)
trainings = (delay, delay_network)

gate = Gate("delay", auc_floor=0.66, calibration_ceiling=0.08, slices=("carrier", "origin"), latency_ms=10.0)
endpoint = Endpoint(
    "delay",
    model="delay",
    unit="flight_id",
    threshold=THRESHOLD,
    rollout=Canary(
        steps=(0.1, 0.3, 0.5),
        error=0.05,
        margin={"wrong": 0.05},
        tolerance={"wrong": 0.01},
        maturity="36h",
        step_units=100,
        max_time="75d",
    ),
)
monitor = Monitor(
    "delay",
    window="7d",
    look="1d",
    false_alarms="1 per 30d",
    labels_after="36h",
    cooldown="35d",
    ignore=("at_month", "at_weekday"),
)
