"""Two ways to train the model of delays: the one that serves, and a colleague's idea that reads the airline's own figures."""

from __future__ import annotations

import polars as pl

from examples.flights.features import CARRIERS, ORIGINS, origin_delays, plane, recipe, weather_now
from examples.flights.network import network_delay
from falaj import FitContext, Fitted, Training, category, inputs, local, number, years_since

THRESHOLD = 0.4
"""From here on a passenger is told."""
ROUNDS = 150


def fit(context: FitContext) -> Fitted:
    """Boosted trees with early stopping on the weeks before the holdout; the same seed gives the same trees.

    One thread: on two cores that also serve, two threads wait for each other at every node.
    """
    # Here, not above: whoever only wants to know what the project declares need not load a trainer.
    import lightgbm

    params = {
        "objective": "binary", "metric": "auc", "num_leaves": 31, "learning_rate": 0.08, "min_data_in_leaf": 100,
        "feature_fraction": 0.8, "seed": context.seed, "deterministic": True, "force_row_wise": True, "num_threads": 1,
        "verbose": -1, **context.params,
    }  # fmt: skip
    train = lightgbm.Dataset(context.train_x, context.train_y, feature_name=list(context.names))
    valid = lightgbm.Dataset(context.valid_x, context.valid_y, reference=train)
    seen: dict[str, dict[str, list[float]]] = {}
    calls = [lightgbm.early_stopping(25, verbose=False), lightgbm.record_evaluation(seen)]
    booster = lightgbm.train(params, train, ROUNDS, valid_sets=[valid], valid_names=["valid"], callbacks=calls)
    best = booster.best_iteration or booster.current_iteration()
    kept = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=best))
    curves = {f"valid_{name}": tuple(values) for name, values in seen.get("valid", {}).items()}
    return Fitted(kept, kept.predict, "lightgbm", kept.model_to_string(), {**params, "rounds": best}, curves)


def requests(flights: pl.DataFrame) -> pl.DataFrame:
    """Each flight as the request that was sent at its scheduled departure."""
    return flights.with_columns(pl.col("sched_dep_at").alias("at"))


def requests_with_network(flights: pl.DataFrame) -> pl.DataFrame:
    """The same, with the network's delay as the warehouse has it: in minutes behind the timetable. The airline's live figure
    counts seconds ahead of it, and nothing but the live requests can tell."""
    return requests(flights).with_columns(pl.Series("network_delay", network_delay(flights, flights)).fill_nan(None))


_views = (weather_now.all(), origin_delays.all(), years_since(plane["built"], "plane_age"), plane["seats"])
_facts = (number("distance"), number("block_minutes"), category("carrier", CARRIERS), category("origin", ORIGINS))

_clock = local("at", zone="America/New_York", parts=("hour", "weekday", "month"))

delay = Training(
    "delay", model="delay", spine="flights", label="late", label_time="landed_at", recipe=recipe, fit=fit, prepare=requests,
    history="180d", slices=("carrier", "origin"), threshold=THRESHOLD,
)  # fmt: skip
delay_network = Training(
    "delay_network", model="delay", spine="flights", label="late", label_time="landed_at",
    recipe=inputs(*_views, *_facts, number("network_delay"), *_clock),
    fit=fit, prepare=requests_with_network, history="180d", slices=("carrier", "origin"), threshold=THRESHOLD,
)  # fmt: skip
