"""Rules about a whole load: averages, extremes, distinct values, growth, drift; and references to other datasets."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falaj.core.errors import NotFound
from falaj.stages.contracts.contract import Column, Contract, Quality
from falaj.stages.contracts.profile import divergence, profile
from falaj.stages.contracts.rules import Around, Judge, check
from falaj.stages.contracts.spec import Dataset

from .conftest import ANNA, CONTRACT, DAY, TRIPS, World, reading, trips

COLUMNS = (Column("x", "number"), Column("y", "string"))


def seen(values: list[Any], around: Around | None = None, parts: int = 1, **rule: Any) -> tuple[str, bool | None]:
    quality = Quality("q", columns=("x",), severity="warning", **rule)
    frame = pl.DataFrame({"x": values, "y": [str(value) for value in values]}, schema={"x": pl.Float64, "y": pl.String})
    judge = Judge(Contract("c", "1", "", COLUMNS, (quality,)), frame.schema, around=around)
    for part in range(parts):
        judge.look(frame.slice(part * math.ceil(len(values) / parts), math.ceil(len(values) / parts)))
    item = judge.checks()[-1]
    assert item.name == "warning: q"
    return item.seen, item.passed


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(("metric", "value"), [("mean", "2.5"), ("minimum", "1"), ("maximum", "4"), ("sum", "10")])
def test_figures_are_over_finite_values_of_all_parts(metric: str, value: str, parts: int) -> None:
    values = [1.0, None, 2.0, math.nan, 3.0, math.inf, 4.0]
    assert seen(values, parts=parts, metric=metric, op="between", bound=(float(value), float(value) + 0.1)) == (value, True)
    assert seen(values, parts=parts, metric=metric, op=">", bound=float(value))[1] is False


def test_distinct_values_are_counted_without_null() -> None:
    assert seen([1.0, 1.0, None, 2.0, None], metric="distinct", bound=2) == ("2", True)


def test_what_cannot_be_seen_is_neither_passed_nor_failed() -> None:
    assert seen([None, None], metric="mean", op=">", bound=0) == ("no value", None)
    assert seen([], metric="maximum", op=">", bound=0) == ("no value", None)
    assert seen([1.0], metric="growth", op="<", bound=2) == ("no load before this one", None)
    assert seen([1.0], metric="drift", op="<", bound=0.1) == ("no good snapshot before this one", None)


def test_growth_is_this_load_over_the_last() -> None:
    assert seen([1.0, 2.0, 3.0], Around(rows=2), metric="growth", op="<=", bound=1.2) == ("1.5: 3 rows after 2", False)


@given(st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=1, max_size=40), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_drift_is_what_two_profiles_in_the_same_bins_differ_by(values: list[float | None], parts: int) -> None:
    before = profile(pl.DataFrame({"x": [float(n % 10) for n in range(50)]}))
    text, _ = seen(values, Around(profile=before), parts=parts, metric="drift", op="<", bound=0.1)
    here = profile(pl.DataFrame({"x": values}, schema={"x": pl.Float64}), before)["columns"]["x"]
    there = before["columns"]["x"]
    wanted = divergence([*here["counts"], here["missing"]], [*there["counts"], there["missing"]])
    assert wanted is not None
    assert float(text) == pytest.approx(wanted, abs=5e-5)


def test_divergence_is_0_for_the_same_shares_and_1_for_nothing_in_common() -> None:
    assert divergence([1, 2, 0], [10, 20, 0]) == pytest.approx(0.0, abs=1e-12)
    assert divergence([5, 0], [0, 7]) == 1.0
    assert divergence([0, 0], [1, 1]) is None
    # p = (1, 0), q = (1/2, 1/2): 1/2 log2(1 / 0.75) + 1/4 log2(0.5 / 0.75) + 1/4 log2(0.5 / 0.25)
    assert divergence([2, 0], [1, 1]) == pytest.approx(0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25)


def test_categories_drift_with_new_values_in_a_bin_of_their_own() -> None:
    before = profile(pl.DataFrame({"y": ["a", "b"] * 50}))
    contract = Contract("c", "1", "", (Column("y", "string"),), (Quality("q", "drift", ("y",), "<", 0.1),))
    found = check(pl.DataFrame({"y": ["c"] * 30 + ["a"] * 30}), contract, around=Around(profile=before))
    assert "load: q: wanted < 0.1" in found.stopped
    same = check(pl.DataFrame({"y": ["b", "a"] * 10}), contract, around=Around(profile=before))
    assert not same.stopped


@pytest.mark.parametrize(("severity", "stopped", "kept"), [("error", "", 2), ("stop", "load: y is there", 0), ("warning", "", 3)])
def test_severity_says_what_becomes_of_a_broken_row(severity: str, stopped: str, kept: int) -> None:
    contract = Contract("c", "1", "", COLUMNS, (Quality("y is there", "nullValues", ("y",), severity=severity),))
    found = check(pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["a", None, "b"]}), contract)
    assert found.stopped.startswith(stopped)
    assert bool(found.stopped) is bool(stopped)
    assert found.good.height == kept
    assert [finding.rows for finding in found.findings] == [(1,)]
    alone = check(pl.DataFrame({"x": [1.0], "y": [None]}, schema={"x": pl.Float64, "y": pl.String}), contract, whole=False)
    assert (alone.stopped, alone.good.height) == ("", int(severity == "warning")), "row by row, stop keeps the row out"


def test_findings_name_the_first_ten_rows_with_the_key_and_what_the_rule_looks_at() -> None:
    contract = Contract("c", "1", "", (replace(COLUMNS[0], limits=((">=", 0),)), COLUMNS[1]), key=("y",))
    rows = pl.DataFrame({"x": [-1.0 if n % 2 else 1.0 for n in range(50)], "y": [f"k{n}" for n in range(50)]})
    (found,) = check(rows, contract).findings
    assert (found.rule, found.count, found.rows) == ("x >= 0", 25, tuple(range(1, 20, 2)))
    assert found.sample[0] == {"y": "k1", "x": -1.0}


def test_every_value_must_be_known_in_the_other_dataset_and_null_refers_to_nothing(world: World, tmp_path: Path) -> None:
    zones = pl.DataFrame(
        {"zone": ["east", "west", "north"], "at": [DAY] * 3, "known_at": [DAY, DAY, DAY + timedelta(days=5)]},
        schema_overrides={"at": pl.Datetime("ms", "UTC"), "known_at": pl.Datetime("ms", "UTC")},
    )
    text = CONTRACT[: CONTRACT.index("      - {name: id")].replace("trips", "zones")
    columns = "".join(f"      - {{name: {n}, logicalType: timestamp, required: true}}\n" for n in ("at", "known_at"))
    (world.folder / "zones.odcs.yaml").write_text(text + "      - {name: zone, logicalType: string}\n" + columns)

    def source(since: Any, until: Any) -> pl.DataFrame:
        late = pl.col("known_at") > (since or DAY - timedelta(days=1))
        return zones.filter((pl.col("known_at") <= until) & late)

    world.others["zones"] = Dataset("zones", "zones.odcs.yaml", source, time="at", known="known_at")
    world.rows = trips(100, zone=pl.Series(["east", "north", None, "west"] * 25))
    contracts = world.contracts()
    contracts.ingest(ANNA, TRIPS.__class__("dataset", "zones"), until=DAY + timedelta(days=1))
    contract = contracts.contract("trips")
    columns_of = tuple(replace(c, references=("zones", "zone")) if c.name == "zone" else c for c in contract.columns)
    reading(contracts, columns=columns_of, checks=())
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9))
    assert ("zone is in zones", "25 of 100 rows") in [(item.name, item.seen) for item in decision.failed]
    assert contracts.quarantine("trips")["zone"].unique().to_list() == ["north"], "not known then"
    reading(contracts, columns=tuple(replace(c, references=("zone", "zone")) if c.name == "zone" else c for c in columns_of))
    with pytest.raises(NotFound, match="zone"):
        contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=19))


def test_a_reference_that_nobody_can_look_up_is_told_as_not_seen() -> None:
    contract = Contract("c", "1", "", (replace(COLUMNS[0], references=("zones", "zone")), COLUMNS[1]))
    found = check(pl.DataFrame({"x": [1.0], "y": ["a"]}), contract)
    assert [(item.name, item.passed) for item in found.checks][-1] == ("x is in zones", None)
    assert found.good.height == 1


def test_a_load_without_rows_is_not_judged_by_its_growth(world: World) -> None:
    checks = (Quality("grows", "growth", (), ">=", 0.5),)
    contracts = reading(world.contracts(), checks=checks)
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=1))
    world.rows = pl.concat([trips(24), trips(20, start=96)])
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=3))
    assert (decision.verdict, decision.reason) == ("allow", "no new rows")
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(days=9)).reason == "20 rows taken in"


def test_growth_and_drift_are_against_the_last_load(world: World) -> None:
    checks = (Quality("grows", "growth", (), "between", (0.5, 2.0)), Quality("alike", "drift", ("miles",), "<", 0.2))
    contracts = reading(world.contracts(), checks=checks)
    contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=50))
    assert contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=52)).verdict == "deny"
    world.rows = trips(100, miles=pl.lit(499.0))
    contracts = reading(world.contracts(), checks=checks)
    decision = contracts.ingest(ANNA, TRIPS, until=DAY + timedelta(hours=100))
    assert "load: alike" in decision.reason
    world.rows = trips(100)
    assert reading(world.contracts(), checks=checks).ingest(ANNA, TRIPS, until=DAY + timedelta(hours=100)).allowed
