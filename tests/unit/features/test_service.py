"""Features at work: online follows offline, survives a restart, leaks nothing, and tells when both differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from falaj.adapters.memory.ledger import MemoryLedger
from falaj.adapters.memory.online import MemoryOnline
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.decision import Decision
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.moments import iso, millis
from falaj.core.ref import Ref
from falaj.ports.online import Stored
from falaj.stages.action import Kernel
from falaj.stages.features.explain import Cell, cell
from falaj.stages.features.large import Room
from falaj.stages.features.rules import reader
from falaj.stages.features.service import Features
from falaj.stages.features.spec import View, WindowView, category, count, inputs, local, mean, number, share, years_since

START = datetime(2013, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ME = Actor("amal", roles=("engineer",))

WEATHER = View("weather_now", "weather", entity="origin", features=("temp", "precip"), time="observed_at", ttl="3h")
PLANE = View("plane", "planes", entity="tailnum", features=("built",), time="known_at")
DELAYS = WindowView(
    "delays",
    "flights",
    entity="carrier",
    time="landed_at",
    windows=("1h", "6h"),
    every="30m",
    aggregates=(mean("arr_delay", "delay"), share("late"), count("landed")),
    ttl="1h",
)
VIEWS = {view.name: view for view in (WEATHER, PLANE, DELAYS)}
RECIPE = inputs(
    WEATHER.all(),
    DELAYS.all(),
    years_since(PLANE["built"], "age"),
    number("distance"),
    category("carrier", ("AA", "UA")),
    local(zone="Asia/Dubai", parts=("hour",)),
)


class Allow:
    def decide(self, actor: Actor, verb: str, subject: Ref, labels: Mapping[str, Any]) -> Decision:
        return Decision(subject, "policy", "allow")


class Tables:
    """Snapshots that hold everything: rows are cut by the moment at which they became known."""

    known: Mapping[str, str] = {"weather": "observed_at", "planes": "known_at", "flights": "landed_at"}

    def __init__(self, tables: Mapping[str, pl.DataFrame]) -> None:
        self.tables = dict(tables)
        self.reads = 0

    def frame(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: str = "time") -> pl.DataFrame:
        assert by == "known"
        return self.recent(name, since, until or START + 999 * HOUR)

    def recent(self, name: str, since: datetime | None, until: datetime) -> pl.DataFrame:
        self.reads += 1
        column = pl.col(self.known[name])
        return self.tables[name].filter((column <= until) & (True if since is None else column > since))

    def placed(self, name: str, since: datetime | None, until: datetime, where: pl.Expr) -> pl.DataFrame:
        whole = self.tables[name].with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
        column = pl.col(self.known[name])
        own = whole.filter((column <= until) & (True if since is None else column > since) & where)
        return own.with_columns(_snapshot=pl.lit(f"dataset/{name}@1"), _digest=pl.lit("sha256:" + "0" * 64))

    def assets(self, name: str, since: datetime | None = None, until: datetime | None = None, *, by: str = "time") -> list[Asset]:
        return [Asset(Ref("dataset", name, "1"), "sha256:" + "0" * 64, "x")]


class ScannedTables(Tables):
    """The same, read part by part."""

    def scan(self, name: str, *, since: datetime | None = None, until: datetime | None = None, by: str = "time") -> pl.LazyFrame:
        return self.frame(name, since=since, until=until, by=by).lazy()


def tables(seed: int = 3, hours: int = 40) -> Tables:
    random = np.random.default_rng(seed)
    observed = [START + n * HOUR + timedelta(minutes=51) for n in range(hours) if n not in (9, 10, 11, 12)]
    landed = [START + timedelta(minutes=float(minute)) for minute in np.sort(random.integers(0, hours * 60, 300))]
    carriers = ["UA" if START + 12 * HOUR < at < START + 25 * HOUR else str(random.choice(["AA", "UA"])) for at in landed]
    utc = pl.Datetime("ms", "UTC")
    return Tables(
        {
            "weather": pl.DataFrame(
                {
                    "origin": "JFK",
                    "observed_at": observed,
                    "temp": random.normal(60, 9, len(observed)),
                    "precip": [None, 0.1] * (len(observed) // 2),
                },
                schema_overrides={"observed_at": utc},
            ),
            "planes": pl.DataFrame({"tailnum": ["N1", "N2"], "known_at": [START - 99 * HOUR] * 2, "built": [1999.0, None]}),
            "flights": pl.DataFrame(
                {
                    "carrier": carriers,
                    "landed_at": landed,
                    "arr_delay": random.normal(5, 30, 300),
                    "late": random.integers(0, 2, 300),
                },
                schema_overrides={"landed_at": utc},
            ),
        }
    )


def features(held: Tables | None = None, online: MemoryOnline | None = None) -> Features:
    ledger = MemoryLedger()
    for name in ("weather", "planes", "flights"):
        with ledger.transaction() as tx:
            change = {"version": 1, "watermark": iso(START + 40 * HOUR), "known_rows": 1}
            tx.append(Event("dataset.ingest", Ref("dataset", name), ME, START, {}, (Change("head", f"dataset/{name}", change),)))
    kernel = Kernel(ledger, Allow(), lambda: START + 40 * HOUR)
    return Features(kernel, held or tables(), online if online is not None else MemoryOnline(), VIEWS)


def request(minutes: float, carrier: str = "UA", tailnum: str | None = "N1") -> dict[str, Any]:
    return {"at": START + timedelta(minutes=minutes), "carrier": carrier, "origin": "JFK", "tailnum": tailnum, "distance": 733.5}


def served(made: Features, asked: dict[str, Any]) -> list[float]:
    """What an inference server does: keys, one read, ttl, one vector."""
    follow = reader(RECIPE, VIEWS)
    at, keys = follow.time_of(asked), follow.keys_of(asked)
    rows = dict(zip(keys, made.online.get(list(keys.items())), strict=True))
    fresh: dict[str, Any] = {}
    for view, row in rows.items():
        limit = RECIPE.ttl_ms[view]
        fresh[view] = (
            row.values if row and row.at_ms <= millis(at) and (limit is None or millis(at) - row.at_ms <= limit) else None
        )
    return follow.vector(asked, at, fresh)


def test_what_is_served_is_bit_by_bit_what_a_model_is_trained_on() -> None:
    made = features()
    asked = [
        request(minutes, carrier, tail)
        for minutes in range(20, 2_300, 41)
        for carrier, tail in (("UA", "N1"), ("AA", None), ("ZZ", "N2"))
    ]
    online: list[list[float]] = []
    grid = START
    for one in asked:
        while grid <= one["at"]:
            made.refresh(grid)
            grid += timedelta(minutes=30)
        made.refresh(one["at"])
        online.append(served(made, one))
    offline, stored_at = made.training_frame(RECIPE, pl.DataFrame(asked))
    assert offline.dtype == np.float32
    assert np.array_equal(np.array(online).astype(np.float32), offline, equal_nan=True)
    gone = np.isnan(offline[:, RECIPE.names.index("delays.landed_6h")]).sum()
    assert 0 < gone < len(asked)  # carriers without flights for hours are part of it
    assert str(stored_at["plane"][0]) == "2013-04-26T21:00:00.000"
    assert np.isnat(stored_at["plane"][1])


@pytest.mark.slow
@pytest.mark.parametrize("gap", [1, 3, 20])
def test_a_process_that_starts_again_serves_the_same_as_one_that_never_stopped(gap: int) -> None:
    held, kept = tables(), MemoryOnline()
    steady, broken = features(held), features(held, kept)
    for half_hour in range(76):
        now = START + half_hour * timedelta(minutes=30)
        steady.refresh(now)
        if half_hour % 25 < 25 - gap:
            broken.refresh(now)
        else:
            broken = features(held, kept)
    broken.refresh(now)
    keys = [("weather_now", "JFK"), ("delays", "AA"), ("delays", "UA"), ("plane", "N1"), ("plane", "N2")]
    assert kept.get(keys) == steady.online.get(keys)
    lost = features(held)
    lost.refresh(now)
    fresh = [(view, entity) for view, entity in keys if view != "delays" or entity == "UA"]
    assert lost.online.get(fresh) == steady.online.get(fresh)


def test_refreshing_again_or_between_two_grid_points_does_next_to_nothing() -> None:
    made = features()
    first = made.refresh(START + 20 * HOUR)
    assert first["delays"] > 0
    assert first["plane"] == 2
    held = made.contracts
    assert isinstance(held, Tables)
    reads = held.reads
    assert set(made.refresh(START + 20 * HOUR).values()) == {0}
    assert set(made.refresh(START + 19 * HOUR).values()) == {0}
    assert held.reads == reads


def test_a_stored_row_whose_time_lies_ahead_waits_for_it() -> None:
    held = tables()
    forecast = held.tables["weather"].clear().select("origin", "observed_at", "temp", "precip")
    known = START + 2 * HOUR
    rows = pl.DataFrame(
        {"origin": ["JFK"] * 2, "observed_at": [START + 2 * HOUR, START + 5 * HOUR], "temp": [1.0, 2.0], "precip": [None, 0.0]}
    )
    held.tables["weather"] = pl.concat([forecast, rows.cast(forecast.schema)]).with_columns(known_at=pl.lit(known))
    held.known = {**Tables.known, "weather": "known_at"}
    made = features(held)
    for hour, wanted in ((2, 1.0), (4, 1.0), (5, 2.0)):
        made.refresh(START + hour * HOUR)
        (row,) = made.online.get([("weather_now", "JFK")])
        assert row is not None
        assert row.values[0] == wanted


def test_offline_rows_are_cut_at_both_ends() -> None:
    made = features()
    rows = made.offline("delays", START + 3 * HOUR, START + 4 * HOUR)
    assert sorted(set(rows["at"].to_list())) == [START + timedelta(hours=3, minutes=30), START + 4 * HOUR]
    assert rows.columns == ["carrier", "at", *DELAYS.places]
    first = START + timedelta(minutes=51)
    assert made.offline("weather_now", first, first + HOUR)["at"].to_list() == [first + HOUR]
    with pytest.raises(NotFound, match="weather_now"):
        made.offline("weather", START, START)


def test_materialising_leaves_one_event_with_a_sum_over_what_was_put() -> None:
    made, twin = features(), features()
    put = sum(twin.refresh(START + hours * HOUR)["delays"] for hours in (1, 2, 3))
    made.refresh(START + HOUR)
    made.refresh(START + 2 * HOUR)
    decision = made.materialise(ME, Ref("view", "delays"), until=START + 3 * HOUR)
    assert decision.verdict == "allow"
    again = made.materialise(ME, Ref("view", "delays"), until=START + 3 * HOUR)
    assert again.verdict == "allow"
    one, two = list(made.kernel.ledger.events(verb="feature.materialise"))
    assert one.facts["rows"] == put > 3
    assert two.facts["rows"] == 0
    assert one.facts["sha256"].startswith("sha256:")
    assert one.facts["sha256"] != two.facts["sha256"]
    assert one.facts["until"] == iso(START + 3 * HOUR)
    late = made.materialise(ME, Ref("view", "weather_now"), until=START + 99 * HOUR)
    assert (late.verdict, late.checks[0].passed) == ("deny", False)


def test_a_view_without_rows_is_held() -> None:
    held = tables()
    held.tables["weather"] = held.tables["weather"].clear()
    assert features(held).materialise(ME, Ref("view", "weather_now"), until=START + HOUR).verdict == "hold"


def logged(made: Features, minutes: float, place: int) -> dict[str, Any]:
    asked = request(minutes)
    made.refresh(asked["at"])
    values = [None if math.isnan(value) else value for value in served(made, asked)]
    sent = {**asked, "at": iso(asked["at"])}
    return {"kind": "prediction", "id": f"p0-{place}", "at": iso(asked["at"]), "request": sent, "features": values}


def test_predictions_that_were_served_from_the_truth_pass_the_parity_check() -> None:
    made = features()
    records: list[dict[str, Any]] = [logged(made, minutes, place) for place, minutes in enumerate(range(30, 900, 30))]
    decision = made.verify(ME, Ref("endpoint", "delay"), records=[*records, {"kind": "label", "id": "p0-0"}], recipe=RECIPE)
    assert decision.verdict == "allow", decision.checks
    assert decision.checks[0].seen == f"0 of {len(records) * len(RECIPE.names)} values of {len(records)} predictions differ"


def test_a_feature_that_was_served_wrong_is_named_with_both_values() -> None:
    made = features()
    records = [logged(made, minutes, place) for place, minutes in enumerate((60, 90, 120))]
    made.online.put("delays", {"UA": Stored(millis(START + 2 * HOUR), (99.0,) * 6)})
    wrong = logged(made, 121, 7)
    decision = made.verify(ME, Ref("endpoint", "delay"), records=[*records, wrong], recipe=RECIPE)
    assert decision.verdict == "deny"
    assert "p0-7.delays.delay_1h" in {check.name for check in decision.failed}
    assert next(check for check in decision.failed if check.name == "p0-7.delays.delay_1h").seen == "online 99.0"
    (event,) = made.kernel.ledger.events(verb="feature.verify")
    assert event.facts["mismatches"] == 6


def test_what_the_log_was_not_to_hold_is_no_difference() -> None:
    made = features()
    record = logged(made, 60, 0)
    name = RECIPE.names[0]
    without = {**record, "features": [None, *record["features"][1:]], "masked": {"request": [], "features": [name]}}
    assert made.verify(ME, Ref("endpoint", "delay"), records=[without], recipe=RECIPE).verdict == "allow"
    hidden = {**record, "masked": {"request": [RECIPE.request_fields[-1]], "features": []}}
    decision = made.verify(ME, Ref("endpoint", "delay"), records=[hidden], recipe=RECIPE)
    assert (decision.verdict, decision.checks[0].seen) == ("hold", "masked requests: 1")


def test_predictions_that_no_snapshot_covers_yet_are_not_judged() -> None:
    made = features()
    record = logged(made, 41 * 60, 0)
    decision = made.verify(ME, Ref("endpoint", "delay"), records=[record], recipe=RECIPE)
    assert decision.verdict == "hold"
    assert made.kernel.ledger.get("decision", "endpoint/delay|parity") is not None


def test_a_value_is_explained_by_the_rows_behind_it() -> None:
    made = features()
    at = START + timedelta(hours=5, minutes=10)
    told = made.explain("delays", "UA", at)
    assert told.at == START + 5 * HOUR
    inside = told.rows.filter(pl.col("landed_at") > START + 4 * HOUR)
    assert told.values["landed_1h"] == inside.height
    assert told.values["delay_6h"] == pytest.approx(told.rows["arr_delay"].mean())
    assert told.assets[0].ref == Ref("dataset", "flights", "1")
    weather = made.explain("weather_now", "JFK", at)
    assert weather.at == START + timedelta(hours=4, minutes=51)
    assert weather.rows["temp"].to_list() == [weather.values["temp"]]
    nothing = made.explain("weather_now", "LGA", at)
    assert (nothing.at, nothing.values, nothing.rows.height, nothing.assets) == (None, {"temp": None, "precip": None}, 0, ())
    assert made.explain("weather_now", "JFK", START + timedelta(hours=12, minutes=30)).at is None


def test_a_spine_without_a_field_or_a_time_is_refused() -> None:
    made = features()
    with pytest.raises(InvalidInput, match="'distance'"):
        made.training_frame(RECIPE, pl.DataFrame([request(5)]).drop("distance"))
    with pytest.raises(InvalidInput, match="no column 'at'"):
        made.training_frame(RECIPE, pl.DataFrame([request(5)]).drop("at"))
    with pytest.raises(InvalidInput, match="without a time"):
        made.training_frame(RECIPE, pl.DataFrame([request(5), {**request(6), "at": None}]))


AT = START + timedelta(hours=5, minutes=10)


def cell_of(made: Features, view: str, feature: str, *, entity: str, at: datetime) -> Cell:
    return cell(made.contracts, made.view(view), feature, entity=entity, at=at)


def test_one_stored_value_is_explained_by_its_row_and_where_that_stands() -> None:
    told = cell_of(features(), "weather_now", "temp", entity="JFK", at=AT)
    assert (told.value, told.rows["_row"].to_list()) == (told.rows["temp"][0], [4])
    assert told.rows["_digest"][0] == "sha256:" + "0" * 64
    assert told.why == (
        f"weather_now.temp of JFK at 2013-05-01T05:10:00.000Z is {told.value}: it stands in row 4 of dataset/weather@1, "
        "true from 2013-05-01T04:51:00.000Z."
    )
    nothing = cell_of(features(), "weather_now", "temp", entity="LGA", at=AT)
    assert (nothing.value, nothing.rows.height) == (None, 0)
    assert nothing.why.endswith("there is no row of LGA that was known by then, or none at most 3h old.")
    with pytest.raises(NotFound, match="temp"):
        cell_of(features(), "weather_now", "tmp", entity="JFK", at=AT)


@pytest.mark.parametrize("feature", DELAYS.places)
def test_one_window_value_is_explained_by_its_events_and_its_arithmetic(feature: str) -> None:
    told = cell_of(features(), "delays", feature, entity="UA", at=AT)
    window = timedelta(hours=6 if feature.endswith("6h") else 1)
    assert told.rows["landed_at"].min() > START + 5 * HOUR - window  # type: ignore[operator]
    assert told.rows["landed_at"].max() <= START + 5 * HOUR  # type: ignore[operator]
    figures = dict(told.arithmetic)
    assert figures["count"] == told.rows.height > 0
    if feature.startswith("delay"):
        assert told.value == figures["sum"] / told.rows.height  # type: ignore[operator]
    elif feature.startswith("late"):
        assert told.value == figures["true"] / told.rows.height  # type: ignore[operator]
    else:
        assert told.value == told.rows.height
    assert f"over the last {'6 hours' if feature.endswith('6h') else '1 hour'} before 2013-05-01T05:00:00.000Z" in told.why


def test_a_value_is_explained_by_what_was_known_at_that_moment() -> None:
    held = tables()
    held.tables["planes"] = pl.DataFrame(
        {
            "tailnum": ["N1", "N1"],
            "known_at": [START, START + HOUR],
            "built": [1999.0, 2001.0],
            "told_at": [START, START + 4 * HOUR],
        },
        schema_overrides={"known_at": pl.Datetime("ms", "UTC"), "told_at": pl.Datetime("ms", "UTC")},
    )
    made = features(held)
    made.views["plane"] = View("plane", "planes", "tailnum", ("built",), "known_at", created="told_at")
    early = cell_of(made, "plane", "built", entity="N1", at=START + 3 * HOUR)
    late = cell_of(made, "plane", "built", entity="N1", at=START + 4 * HOUR)
    assert (early.value, early.created) == (1999.0, START)
    assert (late.value, late.created, late.rows["_row"].to_list()) == (2001.0, START + 4 * HOUR, [1])
    assert "known since 2013-05-01T04:00:00.000Z" in late.why


def test_a_column_of_a_models_input_is_explained_by_its_operation_and_what_it_reads() -> None:
    made, asked = features(), request(310)
    age = made.explain_column(RECIPE, "age", asked, AT)
    assert (age.op, age.value, age.why) == ("years_since", 14.0, "age is 14.0: years_since of plane.built = 1999.0.")
    distance = made.explain_column(RECIPE, "distance", asked, AT)
    assert (distance.request, distance.cells) == ({"distance": 733.5}, ())
    carrier = made.explain_column(RECIPE, "carrier", asked, AT)
    assert carrier.why == "carrier is 1.0: category of carrier = UA with values ('AA', 'UA')."
    assert made.explain_column(RECIPE, "age", {**asked, "tailnum": None}, AT).cells == ()
    with pytest.raises(NotFound, match="distance"):
        made.explain_column(RECIPE, "distanse", asked, AT)
    with pytest.raises(InvalidInput, match="has no field"):
        made.explain_column(RECIPE, "age", {}, AT)


@pytest.mark.slow
def test_a_training_frame_is_the_same_however_little_memory_there_is(tmp_path: Path) -> None:
    whole = features()
    spine = pl.DataFrame([request(minutes, tailnum=tail) for minutes in range(0, 2400, 7) for tail in ("N1", "N2", None)])
    small = Features(whole.kernel, ScannedTables(tables().tables), MemoryOnline(), VIEWS, Room(50, tmp_path))
    wanted, wanted_at = whole.training_frame(RECIPE, spine)
    found, found_at = small.training_frame(RECIPE, spine)
    assert np.array_equal(found, wanted, equal_nan=True)
    assert all(np.array_equal(found_at[name], at, equal_nan=True) for name, at in wanted_at.items())
    assert [*tmp_path.iterdir()] == []
