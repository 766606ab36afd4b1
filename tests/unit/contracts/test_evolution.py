"""New columns by rule, promises about a dataset, what differs between snapshots, and what models need."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.event import Change, Event
from falaj.core.ref import Ref
from falaj.stages.contracts.head import Head
from falaj.stages.contracts.sla import kept
from falaj.stages.contracts.spec import Dataset

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, reading, trips

DAY_1, DAY_2 = DAY + timedelta(days=1), DAY + timedelta(days=2)


def wider(count: int) -> pl.DataFrame:
    return trips(count).with_columns(tip=pl.lit(2.5), _row=pl.lit(1), driver=pl.lit("d1"))


@pytest.mark.parametrize(("rule", "verdict"), [("drop", "allow"), ("allow", "allow"), ("hold", "hold"), ("deny", "deny")])
def test_new_columns_come_in_stay_out_or_make_the_load_wait(world: World, rule: str, verdict: str) -> None:
    world.rows = wider(100)
    contracts = world.contracts(new_columns=rule)
    decision = contracts.ingest(ANNA, TRIPS, until=DAY_1)
    assert decision.verdict == verdict
    columns = contracts.frame("trips").columns
    assert ("tip" in columns, "_row" in columns) == (rule == "allow", False)
    if verdict == "allow":
        assert ("dropped" if rule == "drop" else "taken in") in decision.checks[0].seen
    else:
        assert "driver, tip" in decision.reason
        assert "name them in the contract" in decision.reason
        assert contracts.look("trips")["watermark"] is None
        assert contracts.ingest(ANNA, TRIPS, until=DAY_1) == decision
        assert len(list(world.ledger.events())) == 1, "the same hold is told once"


def test_a_held_load_comes_in_whole_once_the_contract_names_its_columns(world: World) -> None:
    world.rows = wider(100)
    world.contracts(new_columns="hold").ingest(ANNA, TRIPS, until=DAY_1)
    rules = "    quality:\n      - {name: known"
    more = "      - {name: tip, logicalType: number}\n      - {name: driver, logicalType: string}\n"
    world.write(CONTRACT.replace(rules, more + rules))
    contracts = world.contracts(new_columns="hold")
    assert contracts.ingest(ANNA, TRIPS, until=DAY_1).reason == "24 rows taken in"
    assert contracts.frame("trips")["tip"].to_list() == [2.5] * 24
    assert contracts.look("trips")["decision"]["verdict"] == "allow"


def test_a_column_that_came_later_is_null_before(world: World) -> None:
    contracts = world.contracts(new_columns="allow")
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    world.rows = wider(100)
    contracts.ingest(ANNA, TRIPS, until=DAY_2)
    for rows in (contracts.frame("trips"), contracts.scan("trips").collect()):
        assert rows["tip"].null_count() == 24
        assert rows.height == 48


def test_more_columns_than_the_ledger_lists_are_refused(world: World) -> None:
    world.rows = trips(5).with_columns(**{f"c{n}": pl.lit(1) for n in range(300)})
    decision = world.contracts(new_columns="allow").ingest(ANNA, TRIPS, until=DAY_1)
    assert (decision.verdict, decision.reason.split(",")[0]) == ("deny", "300 new columns")


def test_ten_thousand_columns_are_dropped_and_the_event_fits(world: World) -> None:
    world.rows = pl.concat([trips(5), pl.DataFrame({f"c{n}": [1] * 5 for n in range(10_000)})], how="horizontal")
    assert world.contracts().ingest(ANNA, TRIPS, until=DAY_1).allowed
    assert max(map(len, world.ledger.leaves())) < 65_535


DATASET = Dataset("trips", "trips.odcs.yaml", lambda _since, _until: trips(0), time="at", known="known_at", every="1h")


@pytest.mark.parametrize(
    ("promise", "value", "age", "verdict"),
    [
        ("latency", {"value": 2, "unit": "h", "element": ""}, 2, "allow"),
        ("latency", {"value": 2, "unit": "h", "element": ""}, 4, "deny"),
        ("freshness", {"value": 90, "unit": "min", "element": "trips.at"}, 3, "deny"),
        ("freshness", {"value": 1, "unit": "d", "element": ""}, 3, "allow"),
        ("volume", {"value": 50, "unit": "rows", "element": ""}, 0, "deny"),
        ("volume", {"value": 5, "unit": "rows", "element": ""}, 0, "allow"),
    ],
)
def test_promises_are_judged_by_where_the_dataset_stands(
    world: World, promise: str, value: object, age: int, verdict: str
) -> None:
    contract = reading(world.contracts(), sla={promise: value, "frequency": {"value": 1}}).contract("trips")
    head = Head(1, DAY, 10, 1, 10, newest_time=DAY, newest_known=DAY)
    decision = kept(DATASET, contract, head, DAY + timedelta(hours=age))
    assert decision is not None
    assert decision.verdict == verdict
    before = kept(DATASET, contract, Head(), DAY)
    assert before is not None
    assert before.verdict == "hold", "nothing can be seen before the first load"


def test_a_contract_without_measured_promises_makes_none_and_a_broken_one_says_so(world: World) -> None:
    contract = reading(world.contracts(), sla={"frequency": {"value": 1, "unit": "d"}}).contract("trips")
    assert kept(DATASET, contract, Head(), DAY) is None
    for value in ({"value": "soon"}, {"value": 2, "unit": "moons"}, {"value": True}):
        broken = reading(world.contracts(), sla={"latency": value}).contract("trips")
        with pytest.raises(InvalidInput):
            kept(DATASET, broken, Head(), DAY)


def test_a_broken_promise_is_recorded_once_and_a_load_mends_it(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    assert contracts.look("trips")["promises"]["verdict"] == "deny", "the clock of this test is a year ahead"
    assert contracts.watch(ANNA, TRIPS, now=DAY_1 + timedelta(hours=1)).verdict == "allow"  # type: ignore[union-attr]
    count = len(list(world.ledger.events()))
    for hours, verdict in ((30, "deny"), (31, "deny"), (32, "deny")):
        decision = contracts.watch(ANNA, TRIPS, now=DAY_1 + timedelta(hours=hours))
        assert decision is not None
        assert decision.verdict == verdict
    assert len(list(world.ledger.events())) == count + 1
    assert "latency: wanted <= 2h and the dataset's every 1d, got 1d 8h" in decision.reason
    assert contracts.frame("trips").height == 24, "a promise never drops rows"


def test_a_diff_tells_columns_rows_and_drift(world: World) -> None:
    world.rows = trips(48, miles=pl.when(pl.int_range(pl.len()) < 24).then(10.0).otherwise(400.0))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    world.rows = world.rows.with_columns(tip=pl.lit(1.0))
    contracts = world.contracts(new_columns="allow")
    contracts.ingest(ANNA, TRIPS, until=DAY_2)
    found = contracts.diff(TRIPS.at(1), TRIPS.at(2))
    assert found["columns"] == {"added": {"tip": "Float64"}, "removed": {}, "changed": {}}
    assert found["rows"] == {"before": 24, "after": 24, "added": 24, "removed": 24, "changed": 0, "same": 0}
    assert found["drift"]["miles"] == 1.0
    state = contracts.diff(TRIPS.at(1), TRIPS.at(2), state=True)
    assert state["rows"] == {"before": 24, "after": 48, "added": 24, "removed": 0, "changed": 0, "same": 24}
    with pytest.raises(NotFound):
        contracts.diff(TRIPS.at(1), TRIPS.at(9))


_ROWS = st.dictionaries(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 2)), max_size=8)


@given(_ROWS, _ROWS)
@settings(max_examples=25, deadline=None)
def test_a_diff_counts_rows_as_plain_python_does(
    tmp_path_factory: pytest.TempPathFactory, one: dict[int, int | None], two: dict[int, int | None]
) -> None:
    world = World(tmp_path_factory.mktemp("w"), trips(10))
    world.write(CONTRACT)
    frames = []
    for number, table in enumerate((one, two)):
        rows = (
            trips(10).filter(pl.col("id").is_in([f"t{n}" for n in table])).with_columns(known_at=DAY_1 + timedelta(days=number))
        )
        miles = pl.Series([table[int(name[1:])] for name in rows["id"]], dtype=pl.Float64)
        frames.append(rows.with_columns(miles=miles).cast(dict(trips(1).schema)))
    contracts = world.contracts(source=lambda since, _until: frames[0] if since is None else frames[1])
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    contracts.ingest(ANNA, TRIPS, until=DAY_2)
    if not one or not two:
        return
    found = contracts.diff(TRIPS.at(1), TRIPS.at(2))["rows"]
    both = set(one) & set(two)
    assert (found["added"], found["removed"]) == (len(set(two) - both), len(set(one) - both))
    assert (found["changed"], found["same"]) == (sum(one[n] != two[n] for n in both), sum(one[n] == two[n] for n in both))


def test_a_snapshot_is_pinned_by_every_model_that_was_made_from_it(world: World) -> None:
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS, until=DAY_1)
    made = {
        "dataset/clean@1": ("dataset/trips@1",), "candidate/delay@r1": ("dataset/clean@1",),
        "model/delay@1": ("candidate/delay@r1",),
        "candidate/other@r2": ("dataset/planes@1",),
    }  # fmt: skip
    with world.ledger.transaction() as tx:
        changes = tuple(
            Change("asset", ref, {"ref": ref, "digest": "sha256:00", "location": "", "inputs": list(inputs)})
            for ref, inputs in made.items()
        )
        tx.append(Event("model.train", Ref("model", "delay"), ANNA, DAY_1, {}, changes))
    assert [str(ref) for ref in contracts.pinned(TRIPS.at(1))] == ["candidate/delay@r1", "model/delay@1"]
    assert contracts.pinned(TRIPS.at(2)) == []
